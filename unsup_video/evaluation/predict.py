"""What a trained model makes of clips, free-running, with the loss of every frame."""

import functools

import numpy as np
import tensorflow as tf

from unsup_video import losses
from unsup_video.evaluation.trained import Trained
from unsup_video.layers import ACTIVATIONS
from unsup_video.training import loop


def predict(
    trained: Trained, clips: np.ndarray, batch_size: int = 100
) -> dict[str, tuple[np.ndarray, np.ndarray]]:
    """Reads the first frames of clips and decodes, as many frames as the model was trained for.

    Args:
        clips: (N, T, D), T at least frames_in + frames_out.

    Returns:
        part -> (losses (N, S) float64, frames (N, S, D) float32) of what the model decodes. The
        reconstruction is in REVERSED order, the last frame read first.
    """
    data = trained.config.data
    decode = _decoder(trained)
    batches = []
    for start in range(0, len(clips), batch_size):
        past, future = loop.split(
            clips[start : start + batch_size], data.frames_in, data.frames_out
        )
        batches.append(decode(tf.constant(past), tf.constant(future)))
    return {
        part: (
            np.concatenate([np.float64(batch[part][0]) for batch in batches]),
            np.concatenate([batch[part][1].numpy() for batch in batches]),
        )
        for part in batches[0]
    }


@functools.lru_cache(maxsize=1)
def _decoder(trained):
    model = trained.model

    @tf.function(reduce_retracing=True)
    def decode(past, future):
        targets = loop.decoder_targets(past, future)
        x = model.free_running({"past": past, "clock": future[:, :, 0]})
        return {
            part: (
                losses.frame_losses(model.output, targets[part], x[part]),
                ACTIVATIONS[model.output](x[part]),
            )
            for part in x
        }

    return decode
