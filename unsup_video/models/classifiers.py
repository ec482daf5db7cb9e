"""Action classifiers (the paper's section 3.3): the layers of an encoder and a softmax per step."""

import dataclasses

import keras
from keras import ops

from unsup_video.models.cells import RecurrentLayer
from unsup_video.models.layers import Dropout, FrameScale
from unsup_video.models.video_models import Initialization, VideoModel, recurrent_stack

# "lstm" is the recurrent classifier, of any cell. The others are its baselines: regression on each
# single frame (the paper's baseline), on the mean of the frames, and on the state of an encoder
# that is not trained further, which is all states of all layers after the last frame.
KINDS = ("lstm", "single_frame", "mean_frame", "state")
RECURRENT = ("lstm", "state")


@dataclasses.dataclass(frozen=True, eq=False)  # compared, and hashed, by identity
class Classifier:
    """A classifier of videos.

    Attributes:
        kind: one of `KINDS`. classes: the names of the K classes.
        network: frames (B, T, D) -> logits (B, T, K), one softmax per step; the prediction for the
            frames is the mean over the steps. T can be any number.
        cells: the recurrent layers, bottom first; [] in a baseline without any.
        head: the layer that computes the logits.
        frame_scale: the layer that divides frames by their scale, or None; see `VideoModel`.
    """

    kind: str
    classes: tuple[str, ...]
    network: keras.Model
    cells: list[RecurrentLayer]
    head: keras.layers.Layer
    frame_scale: FrameScale | None

    def read(self, frames):
        """Returns frames divided by the scale, as the recurrent layers read them."""
        return self.frame_scale(frames) if self.frame_scale else frames

    def encode(self, frames) -> list:
        """Returns the states of all recurrent layers after the last frame, (B, units) each.

        Args:
            frames: (B, T, D).
        """
        x, states = self.read(frames), []
        for cell in self.cells:
            x, *state = cell(x)
            states += state
        return states


def build(
    classes: tuple[str, ...],
    frame_dim: int,
    kind: str = "lstm",
    units: int = 2048,
    layers: int = 2,
    dropout: float = 0.5,
    input_dropout: float = 0.0,
    freeze: bool = False,
    cell: str = "lstm",
    use_peepholes: bool = True,
    frame_scaling: bool = True,
    initialization: Initialization = Initialization(),
    gemm_dtype: str | None = None,
) -> Classifier:
    """Builds a classifier.

    Args:
        classes: at least two names. frame_dim: D. kind: one of `KINDS`.
        units, layers, cell, use_peepholes: sizes and kind of the recurrent layers, as in
            `models.build`; the layers have the names of an encoder's.
        dropout: dropout rate between the layers and before the softmax, for kind "lstm". The mask
            is drawn anew for every step and unit; the recurrent connections have no dropout.
        input_dropout: dropout rate for the frames, in the same way.
        freeze: trains only the softmax.
        frame_scaling, initialization, gemm_dtype: as in `models.build`.

    Raises:
        ValueError: an unknown kind or cell, fewer than two classes, a size below 1, a rate outside
            of [0, 1).
    """
    if kind not in KINDS:
        raise ValueError(f"unknown kind of classifier {kind!r}: one of {', '.join(KINDS)}")
    if len(classes) < 2:
        raise ValueError(f"a classifier needs at least 2 classes, got {', '.join(classes) or 0}")
    for name, size in {"units": units, "layers": layers}.items():
        if size < 1:
            raise ValueError(f"model.{name} must be at least 1, got {size}")
    for name, rate in {"dropout": dropout, "input_dropout": input_dropout}.items():
        if not 0 <= rate < 1:
            raise ValueError(f"model.{name} must be in [0, 1), got {rate}")
    if freeze and kind != "lstm":
        raise ValueError(f"model.freeze: a {kind} classifier has nothing but its softmax")

    def dropped(x, rate, name):
        return Dropout(rate, name=name)(x) if rate else x

    scale = FrameScale(name="frame_scale") if frame_scaling else None
    frames = keras.Input((None, frame_dim), name="frames")
    x = scale(frames) if scale else frames
    x = dropped(x, input_dropout, "input_dropout")
    cells, states = [], []
    if kind in RECURRENT:
        cells = recurrent_stack(
            "encoder", layers, units, initialization, cell, use_peepholes, gemm_dtype
        )
        for k, layer in enumerate(cells):
            layer.trainable = kind == "lstm" and not freeze
            x, *state = layer(x)
            states += state
            if kind == "lstm":
                x = dropped(x, dropout, f"dropout_{k + 1}")
    if kind in ("mean_frame", "state"):
        # Repeated at every step, so that all kinds have the same output shape.
        read = ops.mean(x, axis=1) if kind == "mean_frame" else ops.concatenate(states, axis=-1)
        x = read[:, None] + ops.zeros_like(x[..., :1])
    head = keras.layers.Dense(
        len(classes), kernel_initializer=initialization.kernel_initializer(), name="softmax"
    )
    network = keras.Model(frames, head(x), name="classifier")
    return Classifier(kind, tuple(classes), network, cells, head, scale)


def step_cross_entropy(labels, logits):
    """Returns the mean cross entropy of the softmax over steps and clips, a scalar in nats.

    Args:
        labels: (B,) int, one per clip, which holds for all its steps. logits: (B, T, K).
    """
    every = ops.broadcast_to(labels[:, None], ops.shape(logits)[:2])
    return ops.mean(ops.sparse_categorical_crossentropy(every, logits, from_logits=True))


def copy_encoder(model: VideoModel, classifier: Classifier) -> list[str]:
    """Copies the recurrent layers and the scale of a pretrained encoder into a classifier.

    Returns:
        The names of the arrays that were copied.

    Raises:
        ValueError: the two do not have the same arrays; the message names all that differ.
    """
    here = _arrays(classifier)
    there = _arrays(model)
    problems = [
        f"{name}: {_shape(there.get(name))} in the encoder, {_shape(here.get(name))} here"
        for name in sorted(here.keys() | there.keys())
        if _shape(here.get(name)) != _shape(there.get(name))
    ]
    if problems:
        raise ValueError("the encoder does not fit this classifier:\n  " + "\n  ".join(problems))
    for name, variable in here.items():
        variable.assign(there[name])
    return sorted(here)


def _arrays(model):
    layers = [*model.cells, *([model.frame_scale] if model.frame_scale else [])]
    return {variable.path: variable for layer in layers for variable in layer.weights}


def _shape(variable):
    return "missing" if variable is None else tuple(variable.shape)
