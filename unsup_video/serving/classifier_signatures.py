"""The signatures of an exported classifier: checked functions of raw frames, see `signatures`."""

import contextlib

import numpy as np
import tensorflow as tf

from unsup_video.models.cells import advance, state_sizes
from unsup_video.models.classifiers import Classifier
from unsup_video.serving import signature_parts as parts
from unsup_video.training.trained import value_limits


def build(
    classifier: Classifier,
    frame_shape: tuple[int, ...],
    scope: parts.Scope = contextlib.nullcontext,
) -> dict[str, tf.types.experimental.ConcreteFunction]:
    """Builds the signatures of a classifier of K classes.

    Classifiers with recurrent layers have `encode`; those of kind "lstm", whose layers give
    probabilities at every step, also have `step`.

    B is the number of clips, T their number of frames, which can be any, and `shape` the shape of a
    frame. The states are those of every layer, h_1, c_1, h_2, .. for LSTMs, (B, units) float32
    each.

        classify, serving_default: frames (B, T, *shape) float32 -> probabilities (B, K) float32,
            the mean over the steps; classes (B, K) string, their names; label (B,) string, the most
            probable one; step_probabilities (B, T, K) float32.
        encode: frames -> the states after the last frame.
        step: frame (B, *shape), states -> the states after that frame, and its probabilities
            (B, K). A stream starts from states of zeros; `classify` returns the mean over steps.

    Args:
        scope: the context for calls of layers, such as `quantization.StoredWeights.scope`.

    The signatures raise InvalidArgumentError for a wrong rank or size, for values that are not
    finite, and for pixels outside of [0, 1].
    """
    cells, names = classifier.cells, np.array(classifier.classes)
    limits = value_limits(frame_shape, classifier)
    frames, frame, states = parts.inputs(frame_shape, cells)
    dim = int(np.prod(frame_shape))

    @tf.function(input_signature=[tf.TensorSpec((None, None, dim))])  # traced once
    def softmax(frames):
        with scope([classifier.network]):
            return tf.nn.softmax(classifier.network(frames, training=False))

    def read(frames, axes, name):
        return parts.read_frames(frames, axes, frame_shape, limits, name)

    def classify(frames):
        steps = softmax(read(frames, 2, "frames"))
        probabilities = tf.reduce_mean(steps, axis=1)
        classes = tf.constant(names)
        return {
            "probabilities": probabilities,
            "classes": tf.broadcast_to(classes, tf.shape(probabilities)),
            "label": tf.gather(classes, tf.argmax(probabilities, axis=1)),
            "step_probabilities": steps,
        }

    def encode(frames):
        x = read(frames, 2, "frames")
        with scope(cells):
            return dict(zip(state_sizes(cells), classifier.encode(x), strict=True))

    def step(frame, states):
        x = classifier.read(read(frame, 1, "frame"))
        states = parts.read_states(states, x, cells)
        with scope([*cells, classifier.head]):
            h, after = advance(cells, x, states)
            logits = classifier.head(h)
        return {
            "probabilities": tf.nn.softmax(logits),
            **dict(zip(state_sizes(cells), after, strict=True)),
        }

    functions = {"serving_default": (classify, frames), "classify": (classify, frames)}
    if cells:
        functions["encode"] = encode, frames
    if classifier.kind == "lstm":
        functions["step"] = step, frame, states
    return parts.build(functions, frame_shape)
