"""Decodes clips with a trained model and computes the loss of every frame."""

import functools

import numpy as np
import tensorflow as tf

from unsup_video.training.tasks import pretraining
from unsup_video.training.trained import TrainedModel

Predicted = dict[str, tuple[np.ndarray, np.ndarray]]


def predict(trained: TrainedModel, clips: np.ndarray, batch_size: int = 100) -> Predicted:
    """Reads the first frames of clips and decodes, free-running, as many as in training.

    Args:
        clips: (N, T, D), T at least frames_in + frames_out.

    Returns:
        part -> (losses (N, S) float64, frames (N, S, D) float32) for each decoder. The
        reconstruction is in REVERSED order, the last frame read first.
    """
    data = trained.config.data
    return ahead(trained, *pretraining.split(clips, data.frames_in, data.frames_out), batch_size)


def ahead(
    trained: TrainedModel, past: np.ndarray, future: np.ndarray, batch_size: int = 100
) -> Predicted:
    """Does the same for `past`, (N, T, D), and a future of any length, (N, S, D)."""
    return _in_batches(_free_running(trained.model), past, future, batch_size)


def teacher_forced(trained: TrainedModel, clips: np.ndarray, batch_size: int = 100) -> Predicted:
    """Does the same for conditional decoders that read the true frames; {} without any.

    Its losses do not compare with those of `predict`: the true frame gives the next one away.
    """
    if not trained.model.conditional:
        return {}
    data = trained.config.data
    parts = pretraining.split(clips, data.frames_in, data.frames_out)
    return _in_batches(_teacher_forced(trained.model), *parts, batch_size)


def _in_batches(decode, past, future, batch_size):
    batches = []
    for start in range(0, len(past), batch_size):
        here = slice(start, start + batch_size)
        batches.append(decode(tf.constant(past[here]), tf.constant(future[here])))
    return {
        part: (
            np.concatenate([np.float64(batch[part][0]) for batch in batches]),
            np.concatenate([batch[part][1].numpy() for batch in batches]),
        )
        for part in batches[0]
    }


@functools.lru_cache(maxsize=1)
def _free_running(model):
    return _decoder(
        model, lambda past, future: model.free_running({"past": past, "clock": future[:, :, 0]})
    )


@functools.lru_cache(maxsize=1)
def _teacher_forced(model):
    def run(past, future):
        x = model.teacher_forced({"past": past, "future": future})
        return {part: x[part] for part in model.conditional}

    return _decoder(model, run)


def _decoder(model, run):
    @tf.function(reduce_retracing=True, autograph=False)
    def decode(past, future):
        x = run(past, future)
        losses = model.frame_losses(pretraining.decoder_targets(past, future), x)
        return {part: (losses[part], model.decoder_layers[part].activate(x[part])) for part in x}

    return decode
