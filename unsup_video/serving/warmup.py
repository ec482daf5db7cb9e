"""Warm-up requests, which TensorFlow Serving answers before it reports a model as ready.

They save the first real request the time that TensorFlow spends once, on the first run of a graph.
A request that fails would prevent the server from serving the model, so these are valid ones.
"""

import os
from collections.abc import Mapping

import tensorflow as tf

NAME = "tf_serving_warmup_requests"  # the file that the server looks for in assets.extra
_LENGTH = 10  # number of frames to read and to predict; any number uses the same graphs


def write(
    path: str | os.PathLike, functions: Mapping[str, tf.types.experimental.ConcreteFunction]
) -> None:
    """Writes a request for each signature, a clip of zeros: a TFRecord of PredictionLog messages.

    Args:
        functions: the signatures of `signatures.build` or `classifier_signatures.build`. One clip
            of 10 frames fills the axes of their inputs that have no fixed size.

    Raises tf.errors.OpError if the file cannot be written.
    """
    with tf.io.TFRecordWriter(os.fspath(path)) as writer:
        for name, function in functions.items():
            specs = tf.nest.flatten(function.structured_input_signature)
            inputs = {spec.name: _tensor(spec) for spec in specs}
            writer.write(prediction_log(name, inputs))


def _tensor(spec):
    shape = [(1, _LENGTH)[axis] if size is None else size for axis, size in enumerate(spec.shape)]
    # One value stands for all of them, so the file stays small.
    return tf.make_tensor_proto(_LENGTH if spec.name == "steps" else 0, spec.dtype, shape)


# ---------------------------------------------------------------------- the message
#
# Its classes are in tensorflow-serving-api, which an export should not need. All fields above the
# tensors are strings or messages, which protobuf encodes in the same way. The field numbers are
# those in prediction_log.proto, predict.proto and model.proto.


def prediction_log(signature: str, inputs: Mapping[str, object]) -> bytes:
    """Serialises a PredictionLog of a PredictRequest.

    Args:
        inputs: name -> TensorProto.
    """
    request = _field(1, _field(3, signature.encode()))  # model_spec { signature_name }
    for name, tensor in inputs.items():  # a map's entry is a message of key and value
        request += _field(2, _field(1, name.encode()) + _field(2, tensor.SerializeToString()))
    return _field(6, _field(1, request))  # predict_log { request }


def _field(number, payload):
    """Encodes a field with a string or a message: key, size, bytes."""
    size, rest = [], len(payload)
    while rest > 127:
        size.append(rest & 127 | 128)
        rest >>= 7
    return bytes([number << 3 | 2, *size, rest]) + payload
