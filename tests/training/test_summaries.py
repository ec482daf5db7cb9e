import io

import numpy as np
import tensorflow as tf
from PIL import Image
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from unsup_video.pictures import visualize
from unsup_video.training.summaries import TensorBoard


def test_scalars_and_animations_are_read_by_tensorboard(tmp_path):
    gif = visualize.gif({"a": list(np.eye(16)[None].repeat(3, 0))}, ["1", "2", "3"], past=1)
    board = TensorBoard(tmp_path)
    board.scalars(5, {"train/free_running/future": 400.5, "train/gradient_norm": 2.0})
    board.animation(5, "samples/0", gif)
    board.close()

    events = EventAccumulator(str(tmp_path), size_guidance={"tensors": 0}).Reload()
    (event,) = events.Tensors("train/free_running/future")
    assert event.step == 5 and tf.make_ndarray(event.tensor_proto) == 400.5
    (event,) = events.Tensors("samples/0")
    assert events.SummaryMetadata("samples/0").plugin_data.plugin_name == "images"
    width, height, data = tf.make_ndarray(event.tensor_proto)
    assert data == gif
    picture = Image.open(io.BytesIO(data))
    assert picture.size == (int(width), int(height)) and picture.n_frames == 3
