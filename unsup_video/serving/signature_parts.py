"""The parts that the signatures of all exported models share: tracing, and checks of the input."""

import contextlib
from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

from unsup_video.models.cells import RecurrentLayer, portable, state_sizes
from unsup_video.pictures import visualize

MAX_FRAMES = 100_000  # the most frames in one request, in all its clips together

# Layers -> the context in which they are called.
Scope = Callable[[list[keras.Layer]], contextlib.AbstractContextManager]


def build(
    functions: dict[str, tuple], frame_shape: tuple[int, ...]
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Traces signatures that any machine can run.

    If frames are pictures, every signature NAME also gets a form for pixels, NAME_uint8.

    Args:
        functions: name -> (function, the TensorSpecs of its inputs, frames first).
    """
    with portable():
        signatures = {name: _concrete(*function) for name, function in functions.items()}
        if visualize.drawable(frame_shape):
            signatures |= {
                f"{name}_uint8": _of_pixels(signatures[name], frame_shape, *inputs)
                for name, (_, *inputs) in functions.items()
            }
    return signatures


def inputs(
    frame_shape: tuple[int, ...], cells: list[RecurrentLayer]
) -> tuple[tf.TensorSpec, tf.TensorSpec, list[tf.TensorSpec]]:
    """Returns the specs of `frames` (B, T, *shape), `frame` (B, *shape) and the states, float32."""
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
    """Traces `function` with pixels 0..255 as its first input."""

    def from_pixels(pixels, *others):
        few = _few(
            pixels, frame_shape, frames.name
        )  # before the cast, which takes 4 times the memory
        few.set_shape(frames.shape)  # `function` checks it
        return function(tf.cast(few, tf.float32) / 255, *tf.nest.flatten(others))

    return _concrete(from_pixels, tf.TensorSpec(frames.shape, tf.uint8, frames.name), *others)


# ---------------------------------------------------------------------- inputs


def _require(x, condition, message, *values):
    """Returns x, with a check of the condition in the graph."""
    check = tf.raw_ops.Assert(condition=condition, data=[message, *values], summarize=10)
    with tf.control_dependencies([check]):
        return tf.identity(x)


def _unknown(x):
    """Returns x without a static shape.

    A server does not check an input against the signature's shape. With a static shape the checks
    would be decided, and left out, while the graph is traced.
    """
    return tf.raw_ops.PlaceholderWithDefault(input=x, shape=tf.TensorShape(None))


def _sized(x, wanted, message):
    """Returns x, checked to have the shape `wanted`; None means any size of at least 1."""
    x = _unknown(x)
    x = _require(x, tf.equal(tf.rank(x), len(wanted)), message, tf.shape(x))
    shape = tf.shape(x)
    fits = [
        shape[i] >= 1 if size is None else tf.equal(shape[i], size) for i, size in enumerate(wanted)
    ]
    return _require(x, tf.reduce_all(tf.stack(fits)), message, shape)


def _few(frames, frame_shape, name):
    """Returns the frames, checked to be at most `MAX_FRAMES`.

    A request of a hundred bytes can claim any number of frames, and TensorFlow fills them in.
    """
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


def read_frames(frames, axes, frame_shape, limits, name):
    """Flattens raw frames, after `axes` axes, to (.., D) float32; checks them against `limits`."""
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
    of_pixels = visualize.drawable(frame_shape)
    hint = "; for pixels 0..255 use the signature with _uint8" if of_pixels else ""
    return _require(
        x,
        tf.logical_and(smallest >= low, largest <= high),
        f"{name} must lie in {low:g}..{high:g}{hint}; the smallest and the largest value are",
        smallest,
        largest,
    )


def read_steps(steps, batch, largest):
    """Returns steps (B,) int32, one for each of `batch` clips, checked to be in 1..`largest`."""
    steps = _sized(steps, (batch,), "steps must hold one number for each clip; its shape is")
    steps = _require(
        steps,
        tf.reduce_all(tf.logical_and(steps >= 1, steps <= largest)),
        f"steps must lie in 1..{largest}; they are",
        steps,
    )
    return answerable(steps, batch, tf.reduce_max(steps))


def answerable(x, clips, frames):
    """Returns x, with a check that the answer has at most `MAX_FRAMES` frames in all."""
    return _require(
        x,
        clips * frames <= MAX_FRAMES,
        f"an answer has at most {MAX_FRAMES} frames, of all clips together; asked for are",
        clips,
        frames,
    )


def read_states(states, x, cells):
    """Returns the states of a stack, checked to be (B, units) for the B clips of x (B, D)."""
    return [
        _read_state(state, tf.shape(x)[0], size, name)
        for state, (name, size) in zip(states, state_sizes(cells).items(), strict=True)
    ]


def _read_state(state, batch, units, name):
    message = f"{name} must have the shape (clips, {units}), as many clips as frame; its shape is"
    return _finite(tf.ensure_shape(_sized(state, (batch, units), message), (None, units)), name)
