"""What an exported model computes: functions of raw frames, which check their input in the graph.

Every input has the batch as its first axis, also the number of frames to predict: so a server can
join requests. `NAME_uint8` is the signature `NAME` of pixels 0..255, float32 ones are in [0, 1].
Frames that are no pictures (shape (D,), such as percepts) only have the float32 form.
"""

import numpy as np
import tensorflow as tf

from unsup_video.layers import portable
from unsup_video.models import VideoModel

MAX_STEPS = 1000  # frames that one request may ask for


def build(
    model: VideoModel, frame_shape: tuple[int, ...], frames_out: int
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """The signatures of a model; those that need a decoder it does not have are left out.

    B clips, T frames each, S frames predicted, `shape` that of a frame. States are h_1, c_1, h_2,
    .. of every layer of the encoder, (B, units) float32 each; so are all outputs float32.

        encode: frames (B, T, *shape) -> the states after the last frame.
        reconstruct: frames -> reconstruction (B, T, *shape), in REVERSED order.
        predict_future: frames, steps (B,) int32 -> future (B, max(steps), *shape). Row i is that
            of a request of its own in its first steps[i] frames, and goes on after them.
        serving_default: frames -> reconstruction, and `frames_out` frames of future.
        step: frame (B, *shape), states -> the states after that frame, and next_frame (B, *shape),
            what `predict_future` gives for one step. A stream starts from states of zeros.

    They raise InvalidArgumentError for a wrong rank or size; values that are not finite or, of
    pixels and for a logistic output, not in [0, 1]; steps outside of 1..`MAX_STEPS`.
    """
    layers, units = len(model.encoder.outputs) // 2, model.encoder.outputs[0].shape[-1]
    lstms = [model.encoder.get_layer(f"encoder_lstm_{k + 1}") for k in range(layers)]
    names = [f"{state}_{k + 1}" for k in range(layers) for state in "hc"]
    picture = len(frame_shape) > 1
    unit_range = picture or model.output == "logistic"
    dim = int(np.prod(frame_shape))

    # Traced once each, for all signatures.
    @tf.function(input_signature=[tf.TensorSpec((None, None, dim))])
    def encode(frames):
        return model.encoder(frames)

    def decoder(name):
        @tf.function(input_signature=[
            [tf.TensorSpec((None, units)) for _ in names], tf.TensorSpec((), tf.int32)
        ])
        def decode(states, steps):
            clock = tf.zeros((tf.shape(states[0])[0], steps))
            return model.decoders[name]({"states": states, "clock": clock})

        return decode

    decoders = {name: decoder(name) for name in model.outputs}

    def read(frames, axes, name):
        return _read(frames, axes, frame_shape, unit_range, name)

    def show(frames):
        """(.., D) -> (.., *shape)."""
        shape = tf.concat([tf.shape(frames)[:-1], frame_shape], 0)
        return tf.ensure_shape(tf.reshape(frames, shape), (*frames.shape[:-1], *frame_shape))

    def encode_clips(frames):
        return dict(zip(names, encode(read(frames, 2, "frames")), strict=True))

    def reconstruct(frames):
        x = read(frames, 2, "frames")
        return {"reconstruction": show(decoders["reconstruction"](encode(x), tf.shape(x)[1]))}

    def predict_future(frames, steps):
        x = read(frames, 2, "frames")
        steps = _read_steps(steps, tf.shape(x)[0])
        return {"future": show(decoders["future"](encode(x), tf.reduce_max(steps)))}

    def default(frames):
        x = read(frames, 2, "frames")
        states = encode(x)
        steps = {"reconstruction": tf.shape(x)[1], "future": tf.constant(frames_out)}
        return {name: show(decode(states, steps[name])) for name, decode in decoders.items()}

    def step(frame, states):
        x = read(frame, 1, "frame")
        batch, after = tf.shape(x)[0], []
        states = [_read_state(state, batch, units, name)
                  for state, name in zip(states, names, strict=True)]
        for k, lstm in enumerate(lstms):
            x, c = lstm.step(x, states[2 * k : 2 * k + 2])
            after += [x, c]
        next_frame = decoders["future"](after, tf.constant(1))[:, 0]
        return {"next_frame": show(next_frame), **dict(zip(names, after, strict=True))}

    frames = tf.TensorSpec((None, None, *frame_shape), tf.float32, "frames")
    frame = tf.TensorSpec((None, *frame_shape), tf.float32, "frame")
    steps = tf.TensorSpec((None,), tf.int32, "steps")
    states = [tf.TensorSpec((None, units), tf.float32, name) for name in names]
    functions = {"serving_default": (default, frames), "encode": (encode_clips, frames)}
    if "reconstruction" in decoders:
        functions["reconstruct"] = (reconstruct, frames)
    if "future" in decoders:
        functions["predict_future"] = (predict_future, frames, steps)
        functions["step"] = (step, frame, states)
    with portable():
        signatures = {name: _concrete(*function) for name, function in functions.items()}
        if picture:
            signatures |= {f"{name}_uint8": _of_pixels(signatures[name], *inputs)
                           for name, (_, *inputs) in functions.items()}
    return signatures


def _concrete(function, *inputs):
    return tf.function(function, input_signature=inputs, autograph=False).get_concrete_function()


def _of_pixels(function, frames, *others):
    """`function` with pixels 0..255 as its first input."""

    def of_pixels(pixels, *others):
        return function(tf.cast(pixels, tf.float32) / 255, *tf.nest.flatten(others))

    return _concrete(of_pixels, tf.TensorSpec(frames.shape, tf.uint8, frames.name), *others)


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
    fits = [shape[i] >= 1 if size is None else tf.equal(shape[i], size)
            for i, size in enumerate(wanted)]
    return _require(x, tf.reduce_all(tf.stack(fits)), message, shape)


def _finite(x, name):
    return _require(
        x, tf.reduce_all(tf.math.is_finite(x)), f"{name} must be finite, but holds NaN or infinity"
    )


def _read(frames, axes, frame_shape, unit_range, name):
    """Raw frames -> (.., D) float32, behind `axes` axes; checked."""
    batch = ("clips", "frames")[:axes]
    message = (
        f"{name} must have the shape ({', '.join((*batch, *map(str, frame_shape)))}), with at "
        f"least one of {' and '.join(batch)}; its shape is"
    )
    x = _sized(frames, (None,) * axes + tuple(frame_shape), message)
    shape = [*tf.unstack(tf.shape(x)[:axes], axes), int(np.prod(frame_shape))]
    x = _finite(tf.reshape(x, shape), name)
    if not unit_range:
        return x
    low, high = tf.reduce_min(x), tf.reduce_max(x)
    hint = "; for pixels 0..255 use the signature with _uint8" if len(frame_shape) > 1 else ""
    return _require(
        x, tf.logical_and(low >= 0, high <= 1),
        f"{name} must lie in 0..1{hint}; the smallest and the largest value are", low, high,
    )


def _read_steps(steps, batch):
    steps = _sized(steps, (batch,), "steps must hold one number for each clip; its shape is")
    return _require(
        steps, tf.reduce_all(tf.logical_and(steps >= 1, steps <= MAX_STEPS)),
        f"steps must lie in 1..{MAX_STEPS}; they are", steps,
    )


def _read_state(state, batch, units, name):
    message = f"{name} must have the shape (clips, {units}), as many clips as frame; its shape is"
    return _finite(tf.ensure_shape(_sized(state, (batch, units), message), (None, units)), name)
