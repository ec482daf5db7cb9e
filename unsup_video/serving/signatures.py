"""The signatures of an exported model: functions of raw frames that check their input in the graph.

The first axis of every input is the batch, also for the number of frames to predict, so that a
server can join requests. The signature `NAME` takes float32 pixels in [0, 1], and `NAME_uint8`
takes pixels 0..255. For frames that are no pictures (shape (D,), such as percepts) there is only
the float32 form.
"""

import contextlib

import numpy as np
import tensorflow as tf

from unsup_video.models.cells import advance, state_sizes
from unsup_video.models.video_models import VideoModel
from unsup_video.serving import signature_parts as parts
from unsup_video.training.trained import value_limits

MAX_STEPS = 1000  # the most frames that one request can ask for


def build(
    model: VideoModel,
    frame_shape: tuple[int, ...],
    frames_out: int,
    scope: parts.Scope = contextlib.nullcontext,
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Builds the signatures of a model, without those that need a decoder it does not have.

    B is the number of clips, T the number of frames read, and `shape` the shape of a frame. The
    states are those of every layer of the encoder, h_1, c_1, h_2, .. for LSTMs, (B, units) each.
    All outputs are float32.

        encode: frames (B, T, *shape) -> the states after the last frame.
        reconstruct: frames -> reconstruction (B, T, *shape), in REVERSED order.
        predict_future: frames, steps (B,) int32 -> future (B, max(steps), *shape). The first
            steps[i] frames of row i are those that a separate request would return.
        serving_default: frames -> reconstruction, and future of `frames_out` frames.
        step: frame (B, *shape), states -> the states after that frame, and next_frame (B, *shape),
            which is the first frame of `predict_future`. A stream starts from states of zeros.

    Args:
        scope: the context for calls of layers, such as `quantization.StoredWeights.scope`.

    The signatures raise InvalidArgumentError for a wrong rank or size; for values that are not
    finite, outside of [0, 1] for pixels, or outside of the range of the model's losses; and for
    steps outside of 1..`MAX_STEPS`.
    """
    names = list(state_sizes(model.cells))
    frames, frame, states = parts.inputs(frame_shape, model.cells)
    limits = value_limits(frame_shape, model)
    dim = int(np.prod(frame_shape))

    # Each is traced once, for all signatures.
    @tf.function(input_signature=[tf.TensorSpec((None, None, dim))])
    def encode(frames):
        with scope([model.encoder]):
            return model.encode(frames)

    def decoder(name):
        @tf.function(
            input_signature=[
                [tf.TensorSpec(state.shape) for state in states],
                tf.TensorSpec((), tf.int32),
            ]
        )
        def decode(states, steps):
            clock = tf.zeros((tf.shape(states[0])[0], steps))
            with scope([model.decoders[name]]):
                return model.decoders[name]({"states": states, "clock": clock})

        return decode

    decoders = {name: decoder(name) for name in model.outputs}

    def read(frames, axes, name):
        return parts.read_frames(frames, axes, frame_shape, limits, name)

    def show(frames):
        """Reshapes (.., D) to (.., *shape)."""
        shape = tf.concat([tf.shape(frames)[:-1], frame_shape], 0)
        return tf.ensure_shape(tf.reshape(frames, shape), (*frames.shape[:-1], *frame_shape))

    def encode_clips(frames):
        return dict(zip(names, encode(read(frames, 2, "frames")), strict=True))

    def reconstruct(frames):
        x = read(frames, 2, "frames")
        return {"reconstruction": show(decoders["reconstruction"](encode(x), tf.shape(x)[1]))}

    def predict_future(frames, steps):
        x = read(frames, 2, "frames")
        steps = parts.read_steps(steps, tf.shape(x)[0], MAX_STEPS)
        return {"future": show(decoders["future"](encode(x), tf.reduce_max(steps)))}

    def default(frames):
        x = read(frames, 2, "frames")
        x = parts.answerable(x, tf.shape(x)[0], tf.constant(frames_out))
        states = encode(x)
        steps = {"reconstruction": tf.shape(x)[1], "future": tf.constant(frames_out)}
        return {name: show(decode(states, steps[name])) for name, decode in decoders.items()}

    def step(frame, states):
        x = model.read(read(frame, 1, "frame"))
        states = parts.read_states(states, x, model.cells)
        with scope(model.cells):
            _, after = advance(model.cells, x, states)
        next_frame = decoders["future"](after, tf.constant(1))[:, 0]
        return {"next_frame": show(next_frame), **dict(zip(names, after, strict=True))}

    steps = tf.TensorSpec((None,), tf.int32, "steps")
    functions = {"serving_default": (default, frames), "encode": (encode_clips, frames)}
    if "reconstruction" in decoders:
        functions["reconstruct"] = (reconstruct, frames)
    if "future" in decoders:
        functions["predict_future"] = (predict_future, frames, steps)
        functions["step"] = (step, frame, states)
    return parts.build(functions, frame_shape)
