"""The models of the paper: recurrent layers, encoder and decoders, their outputs, classifiers.

from unsup_video.models import PeepholeLSTM, VideoModel, build
"""

from unsup_video.models.cells import GRU, PeepholeLSTM
from unsup_video.models.layers import Decoder
from unsup_video.models.video_models import Initialization, VideoModel, build

__all__ = ["GRU", "Decoder", "Initialization", "PeepholeLSTM", "VideoModel", "build"]
