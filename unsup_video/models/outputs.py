"""What a decoder writes: how its pre-activations become frames, and what a frame costs.

A frame's loss is SUMMED over its D pixels or features; a data set's figure is the MEAN over
frames and sequences: nats per frame for the cross entropy, squared units per frame for the
squared loss.

`OUTPUTS` is the one place that knows which outputs there are. Another one is a class here and a
line in that table; `--config.model.output=NAME` then trains, evaluates and exports with it.
"""

import math
from collections.abc import Mapping

import numpy as np
from keras import ops


class Output:
    """The output of a decoder: its activation and its loss. This one has no activation and the
    squared loss; a subclass states what differs.

    Attributes:
        metric: name of the loss in tables and files.
        unit: of the loss; "" where it has none of its own.
        limits: (low, high), the values that the targets may have.
    """

    metric = "squared_loss"
    unit = ""
    limits = (-math.inf, math.inf)

    @property
    def frame_unit(self) -> str:
        """Unit of the loss of a frame, for people."""
        return f"{self.unit or self.metric.replace('_', ' ')}/frame"

    def activate(self, x):
        """Pre-activations (..., D) -> frames (..., D), in `keras.ops`."""
        return x

    def value_losses(self, targets, frames):
        """Loss of every single value: targets and frames (..., D) -> (..., D), in `keras.ops`."""
        return 0.5 * ops.square(frames - targets)

    def frame_losses(self, targets, x):
        """Loss of every frame: targets and pre-activations (..., D) -> (...), in `keras.ops`."""
        return ops.sum(self.value_losses(targets, self.activate(x)), axis=-1)

    def frame_scores(self, targets: np.ndarray, frames: np.ndarray) -> np.ndarray:
        """`frame_losses` of finished frames (after the activation), computed in float64."""
        losses = self.value_losses(np.float64(targets), np.float64(frames))
        return ops.convert_to_numpy(losses).sum(-1)

    def bias(self, frame: np.ndarray) -> np.ndarray:
        """The pre-activations (D,) of a frame (D,): the output bias that predicts this frame."""
        return frame

    def hedge(self, frames: np.ndarray) -> np.ndarray:
        """Frames of a guess that is certain of every value, as the loss should be given them."""
        return frames

    def floors(self, past: np.ndarray, targets: np.ndarray, mean_frame: np.ndarray) -> dict:
        """What needs no learning, as mean loss of a frame.

        Args:
            past: (N, T, D), the input. targets: (N, S, D). mean_frame: (D,), of the training data.

        Returns:
            "targets": the loss of the truth itself, for the cross entropy the targets' entropy: no
            model can go below. "copy_last": the last input frame repeated, hedged. "mean_frame":
            the same frame always.
        """

        def mean(guesses):  # clip by clip, to need no float64 copy of the data set
            pairs = zip(targets, guesses, strict=True)
            return float(np.mean([self.frame_scores(clip, guess).mean() for clip, guess in pairs]))

        return {
            "targets": mean(targets),
            "copy_last": mean(self.hedge(past[:, -1:])),
            "mean_frame": mean([mean_frame] * len(targets)),
        }


class Logistic(Output):
    """Values in [0, 1], read as probabilities: the sigmoid and the cross entropy, in nats.

    `frame_scores` clips frames to [1e-7, 1 - 1e-7], so that every logarithm is finite. `hedge`
    clips to [0.01, 0.99], since a sharp wrong pixel costs an unbounded amount.
    """

    metric = "cross_entropy"
    unit = "nats"
    limits = (0.0, 1.0)

    def activate(self, x):
        return ops.sigmoid(x)

    def frame_losses(self, targets, x):
        # -y log s(x) - (1 - y) log(1 - s(x)) = max(x, 0) - x y + log(1 + exp(-|x|)), which cannot
        # overflow, with (x + |x|) / 2 for the maximum: where x is 0, automatic differentiation then
        # gives s(0) - y, and not the 1 - y that it makes of a maximum.
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
    """Values that are never negative, with the squared loss."""

    def activate(self, x):
        return ops.relu(x)


OUTPUTS: dict[str, Output] = {"logistic": Logistic(), "linear": Output(), "relu": ReLU()}


def get(name: str) -> Output:
    """The output of that name. Raises ValueError, with the names that there are."""
    if name not in OUTPUTS:
        raise ValueError(f"unknown output {name!r}: one of {', '.join(OUTPUTS)}")
    return OUTPUTS[name]


def metrics() -> tuple[str, ...]:
    """The names that a loss can have in tables and files."""
    return tuple(dict.fromkeys(output.metric for output in OUTPUTS.values()))


def frame_units(outputs: Mapping[str, Output]) -> str:
    """Unit of the losses of several decoders, by their names, for people."""
    units = {name: output.frame_unit for name, output in outputs.items()}
    if len(set(units.values())) == 1:
        return next(iter(units.values()))
    return ", ".join(f"{unit} ({name})" for name, unit in units.items())
