"""The paper: LSTM layers, encoder and decoders, their outputs, classifiers.

from unsup_video.models import PeepholeLSTM, VideoModel, build
"""

from unsup_video.models.layers import Decoder, PeepholeLSTM
from unsup_video.models.video_models import Initialization, VideoModel, build

__all__ = ["Decoder", "Initialization", "PeepholeLSTM", "VideoModel", "build"]
