"""Outputs of decoders: the activation that turns pre-activations into frames, and the loss.

The loss of a frame is the SUM over its D pixels or features; the figure of a data set is the MEAN
over frames and sequences, in nats per frame for the cross entropy and in squared units per frame
for the squared loss.

`OUTPUTS` lists all outputs. To add one, write a class here and add it to that table;
`--config.model.output=NAME` then trains, evaluates and exports with it.
"""

import math
from collections.abc import Mapping

import numpy as np
from keras import ops

# What `Output.floors` returns -> its label in tables.
FLOORS = {
    "mean_frame": "always the mean frame",
    "copy_last": "the last input frame repeated",
    "entropy": "the targets' entropy: no model gets below",
}


class Output:
    """The output of a decoder: its activation and its loss. This class has no activation and the
    squared loss; a subclass overrides what differs.

    Attributes:
        metric: name of the loss in tables and files.
        unit: unit of the loss; "" if it has none of its own.
        limits: (low, high), the range of values that the targets may have.
    """

    metric = "squared_loss"
    unit = ""
    limits = (-math.inf, math.inf)

    @property
    def frame_unit(self) -> str:
        """The unit of the loss per frame, as tables show it."""
        return f"{self.unit or self.metric.replace('_', ' ')}/frame"

    def activate(self, x):
        """Turns pre-activations (..., D) into frames (..., D), in `keras.ops`."""
        return x

    @property
    def is_homogeneous(self) -> bool:
        """True if activate(a x) = a activate(x) for every a > 0, which `frame_scaling` needs."""
        x = np.linspace(-2, 2, 9, dtype=np.float32)
        scaled, frames = (ops.convert_to_numpy(self.activate(a * x)) for a in (3, 1))
        return np.allclose(scaled, 3 * frames, atol=1e-5)

    def value_losses(self, targets, frames):
        """Returns the loss of every value (..., D) of targets and frames, in `keras.ops`."""
        return 0.5 * ops.square(frames - targets)

    def frame_losses(self, targets, x):
        """Returns the loss per frame (...) of targets and pre-activations (..., D)."""
        return ops.sum(self.value_losses(targets, self.activate(x)), axis=-1)

    def frame_scores(self, targets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """Returns the loss per frame, in float64, of frames after the activation."""
        losses = self.value_losses(np.float64(targets), np.float64(frames))
        return ops.convert_to_numpy(losses).sum(-1)

    def bias(self, frame: np.ndarray) -> np.ndarray:
        """Returns the output bias (D,) with which a decoder predicts this frame (D,)."""
        return frame

    def hedge(self, frames: np.ndarray) -> np.ndarray:
        """Moves the frames of a certain guess away from values that the loss punishes too hard."""
        return frames

    def floors(self, past: np.ndarray, targets: np.ndarray, mean_frame: np.ndarray) -> dict:
        """Returns the mean losses per frame of predictions that need no model.

        Args:
            past: (N, T, D), the input. targets: (N, S, D). mean_frame: (D,), of the training data.

        Returns:
            "mean_frame": the loss of always predicting the mean frame. "copy_last": the loss of
            repeating the last input frame, after `hedge`. "entropy": the loss of the targets
            themselves, for the cross entropy their entropy, else 0; no model can get below it.
        """

        def mean(guesses):  # clip by clip, to avoid a float64 copy of the data set
            pairs = zip(targets, guesses, strict=True)
            return float(np.mean([self.frame_scores(clip, guess).mean() for clip, guess in pairs]))

        return {
            "mean_frame": mean([mean_frame] * len(targets)),
            "copy_last": mean(self.hedge(past[:, -1:])),
            "entropy": mean(targets),
        }


class Logistic(Output):
    """Probabilities in [0, 1]: the sigmoid, and the cross entropy in nats.

    `frame_scores` clips frames to [1e-7, 1 - 1e-7], so that every logarithm is finite. `hedge`
    clips to [0.01, 0.99], since the loss of a certain and wrong pixel has no bound.
    """

    metric = "cross_entropy"
    unit = "nats"
    limits = (0.0, 1.0)

    def activate(self, x):
        return ops.sigmoid(x)

    def frame_losses(self, targets, x):
        # -y log s(x) - (1 - y) log(1 - s(x)) = max(x, 0) - x y + log(1 + exp(-|x|)), which cannot
        # overflow. The maximum is written as (x + |x|) / 2, so that automatic differentiation gives
        # s(0) - y at x = 0; with a maximum it would give 1 - y.
        size = ops.abs(x)
        each = 0.5 * size + x * (0.5 - targets) + ops.log1p(ops.exp(-size))
        return ops.sum(each, axis=-1)

    def frame_scores(self, targets, frames):
        targets, p = np.float64(targets), np.clip(np.float64(frames), 1e-7, 1 - 1e-7)
        return -(targets * np.log(p) + (1 - targets) * np.log1p(-p)).sum(-1)

    def bias(self, frame):
        p = np.clip(frame, 1e-3, 1 - 1e-3)
        return np.log(p / (1 - p))

    def hedge(self, frames):
        return np.clip(frames, 0.01, 0.99)


class ReLU(Output):
    """Values of at least 0: the ReLU, and the squared loss."""

    limits = (0.0, math.inf)

    def activate(self, x):
        return ops.relu(x)


OUTPUTS: dict[str, Output] = {"logistic": Logistic(), "linear": Output(), "relu": ReLU()}


def get(name: str) -> Output:
    """Returns the output with this name. Raises ValueError, listing all, if there is none."""
    if name not in OUTPUTS:
        raise ValueError(f"unknown output {name!r}: one of {', '.join(OUTPUTS)}")
    return OUTPUTS[name]


def metrics() -> tuple[str, ...]:
    """Returns the names of all losses in tables and files."""
    return tuple(dict.fromkeys(output.metric for output in OUTPUTS.values()))


def frame_units(outputs: Mapping[str, Output]) -> str:
    """Returns the unit of the losses of several decoders, as tables show it.

    Args:
        outputs: name of the decoder -> its output.
    """
    units = {name: output.frame_unit for name, output in outputs.items()}
    if len(set(units.values())) == 1:
        return next(iter(units.values()))
    return ", ".join(f"{unit} ({name})" for name, unit in units.items())
