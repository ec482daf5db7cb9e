"""What the signatures of exported models share: how they are made, and checks of their input."""

import contextlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from unsup_video.models.cells import RecurrentLayer, portable, state_sizes

MAX_FRAMES = 100_000  # that one request may hold, of all its clips together

# Layers -> the context in which they are called.
Scope = Callable[[list[keras.Layer]], contextlib.AbstractContextManager]


def build(
    functions: dict[str, tuple], frame_shape: tuple[int, ...]
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Signatures that any machine can run; of frames that are pictures also for pixels, NAME_uint8.

    Args:
        functions: name -> (function, the TensorSpecs of its inputs, that of frames first).
    """
    with portable():
        signatures = {name: _concrete(*function) for name, function in functions.items()}
        if len(frame_shape) > 1:
            signatures |= {
                f"{name}_uint8": _of_pixels(signatures[name], frame_shape, *inputs)
                for name, (_, *inputs) in functions.items()
            }
    return signatures


def inputs(
    frame_shape: tuple[int, ...], cells: list[RecurrentLayer]
) -> tuple[tf.TensorSpec, tf.TensorSpec, list[tf.TensorSpec]]:
    """Of the inputs `frames` (B, T, *shape), `frame` (B, *shape), and the states, all float32."""
    return (
        tf.TensorSpec((None, None, *frame_shape), tf.float32, "frames"),
        tf.TensorSpec((None, *frame_shape), tf.float32, "frame"),
        [
            tf.TensorSpec((None, size), tf.float32, name)
            for name, size in state_sizes(cells).items()
        ],
    )


def _concrete(function, *inputs):
    return tf.function(function, input_signature=inputs, autograph=False).get_concrete_function()


def _of_pixels(function, frame_shape, frames, *others):
    """`function` with pixels 0..255 as its first input."""

    def from_pixels(pixels, *others):
        few = _few(pixels, frame_shape, frames.name)  # before they take 4 times the memory
        few.set_shape(frames.shape)  # as promised; the checks of `function` hold it to that
        return function(tf.cast(few, tf.float32) / 255, *tf.nest.flatten(others))

    return _concrete(from_pixels, tf.TensorSpec(frames.shape, tf.uint8, frames.name), *others)


# ---------------------------------------------------------------------- inputs


def _require(x, condition, message, *values):
    """x, where the condition holds."""
    check = tf.raw_ops.Assert(condition=condition, data=[message, *values], summarize=10)
    with tf.control_dependencies([check]):
        return tf.identity(x)


def _unknown(x):
    """x of a shape that is not known before it arrives.

    A server does not hold an input to the signature's shape. Were the shape known, the checks would
    be decided, and left out, when the graph is made.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=x, shape=tf.TensorShape(None))


def _sized(x, wanted, message):
    """x, where its shape is `wanted`; None stands for any size from 1 on."""
    x = _unknown(x)
    x = _require(x, tf.equal(tf.rank(x), len(wanted)), message, tf.shape(x))
    shape = tf.shape(x)
    fits = [
        shape[i] >= 1 if size is None else tf.equal(shape[i], size) for i, size in enumerate(wanted)
    ]
    return _require(x, tf.reduce_all(tf.stack(fits)), message, shape)


def _few(frames, frame_shape, name):
    """x, where it is no more than a machine can work on. A request of a hundred bytes can claim any
    number of frames, and TensorFlow fills them in."""
    x = _unknown(frames)
    return _require(
        x,
        tf.size(x, tf.int64) <= MAX_FRAMES * int(np.prod(frame_shape)),
        f"{name} must be at most {MAX_FRAMES} frames, of all clips together; the shape is",
        tf.shape(x),
    )


def _finite(x, name):
    return _require(
        x, tf.reduce_all(tf.math.is_finite(x)), f"{name} must be finite, but holds NaN or infinity"
    )


def limits(frame_shape, others=(-np.inf, np.inf)) -> tuple[float, float]:
    """(low, high) of the values of frames: 0 and 1 of pixels; `others` of frames that are none."""
    return (0, 1) if len(frame_shape) > 1 else others


def read_frames(frames, axes, frame_shape, limits, name):
    """Raw frames -> (.., D) float32, behind `axes` axes; checked to lie in `limits`."""
    batch = ("clips", "frames")[:axes]
    message = (
        f"{name} must have the shape ({', '.join((*batch, *map(str, frame_shape)))}), with at "
        f"least one of {' and '.join(batch)}; its shape is"
    )
    x = _few(frames, frame_shape, name)
    x = _sized(x, (None,) * axes + tuple(frame_shape), message)
    shape = [*tf.unstack(tf.shape(x)[:axes], axes), int(np.prod(frame_shape))]
    x = _finite(tf.reshape(x, shape), name)
    if not np.isfinite(limits).any():
        return x
    low, high = limits
    smallest, largest = tf.reduce_min(x), tf.reduce_max(x)
    hint = "; for pixels 0..255 use the signature with _uint8" if len(frame_shape) > 1 else ""
    return _require(
        x,
        tf.logical_and(smallest >= low, largest <= high),
        f"{name} must lie in {low:g}..{high:g}{hint}; the smallest and the largest value are",
        smallest,
        largest,
    )


def read_steps(steps, batch, most):
    """steps (B,) int32, one for each of `batch` clips; checked to lie in 1..`most`."""
    steps = _sized(steps, (batch,), "steps must hold one number for each clip; its shape is")
    steps = _require(
        steps,
        tf.reduce_all(tf.logical_and(steps >= 1, steps <= most)),
        f"steps must lie in 1..{most}; they are",
        steps,
    )
    return answerable(steps, batch, tf.reduce_max(steps))


def answerable(x, clips, frames):
    """x, where an answer of so many frames of so many clips is not too much to ask for."""
    return _require(
        x,
        clips * frames <= MAX_FRAMES,
        f"an answer has at most {MAX_FRAMES} frames, of all clips together; asked for are",
        clips,
        frames,
    )


def read_states(states, x, cells):
    """The states of a stack, (B, units) each, of as many clips as x (B, D); checked."""
    return [
        _read_state(state, tf.shape(x)[0], size, name)
        for state, (name, size) in zip(states, state_sizes(cells).items(), strict=True)
    ]


def _read_state(state, batch, units, name):
    message = f"{name} must have the shape (clips, {units}), as many clips as frame; its shape is"
    return _finite(tf.ensure_shape(_sized(state, (batch, units), message), (None, units)), name)
