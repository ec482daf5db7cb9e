"""Losses in the paper's units, and the floors a model is compared with.

A frame's loss is SUMMED over its D pixels or features; a data set's figure is the MEAN over
frames and sequences: nats per frame for the cross entropy, squared units per frame for the
squared loss.
"""

import numpy as np
from keras import ops

_EPSILON = 1e-7  # keeps the logarithm of a predicted 0 or 1 finite


def unit(output: str) -> str:
    """Of a loss, for people."""
    return "nats/frame" if output == "logistic" else "squared loss/frame"


def frame_losses(output: str, targets, predictions):
    """Loss of every frame, from pre-activations.

    Args:
        output: "logistic": cross entropy of sigmoid(predictions), in nats. "linear": 0.5 * sum of
            squared differences; "relu": the same after a ReLU.
        targets: (..., D), in [0, 1] for "logistic". predictions: (..., D).

    Returns:
        (...), the sum over D.
    """
    if output == "logistic":
        # -y log s(x) - (1 - y) log(1 - s(x)) = max(x, 0) - x y + log(1 + exp(-|x|)), which cannot
        # overflow, with (x + |x|) / 2 for the maximum: where x is 0, automatic differentiation then
        # gives s(0) - y, and not the 1 - y that it makes of a maximum.
        x = predictions
        size = ops.abs(x)
        each = 0.5 * size + x * (0.5 - targets) + ops.log1p(ops.exp(-size))
        return ops.sum(each, axis=-1)
    if output == "relu":
        predictions = ops.relu(predictions)
    return 0.5 * ops.sum(ops.square(predictions - targets), axis=-1)


def step_cross_entropy(labels, logits):
    """Cross entropy of the softmax of every step, a scalar: the mean over steps and clips, in nats.

    Args:
        labels: (B,) int, of the clip and so of all its steps. logits: (B, T, K).
    """
    every = ops.broadcast_to(labels[:, None], ops.shape(logits)[:2])
    return ops.mean(ops.sparse_categorical_crossentropy(every, logits, from_logits=True))


def frame_scores(output: str, targets: np.ndarray, frames: np.ndarray) -> np.ndarray:
    """`frame_losses` of finished frames (after the non-linearity), in float64 numpy.

    For the cross entropy `frames` is clipped to [1e-7, 1 - 1e-7].
    """
    targets, frames = np.float64(targets), np.float64(frames)
    if output == "logistic":
        p = np.clip(frames, _EPSILON, 1 - _EPSILON)
        return -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum(-1)
    return 0.5 * np.square(frames - targets).sum(-1)


def floors(output: str, past: np.ndarray, targets: np.ndarray, mean_frame: np.ndarray) -> dict:
    """What needs no learning, as mean loss of a frame.

    Args:
        past: (N, T, D), the input. targets: (N, S, D). mean_frame: (D,), of the training data.

    Returns:
        "targets": the loss of the truth itself, for the cross entropy the targets' entropy: no
        model can go below. "copy_last": the last input frame repeated, clipped to [0.01, 0.99]
        for the cross entropy, where a sharp wrong pixel costs an unbounded amount. "mean_frame":
        the same frame always.
    """
    last = past[:, -1:]
    if output == "logistic":
        last = np.clip(last, 0.01, 0.99)

    def mean(guesses):  # clip by clip, to need no float64 copy of the data set
        return float(
            np.mean(
                [
                    frame_scores(output, clip, guess).mean()
                    for clip, guess in zip(targets, guesses, strict=True)
                ]
            )
        )

    return {
        "targets": mean(targets),
        "copy_last": mean(last),
        "mean_frame": mean([mean_frame] * len(targets)),
    }
