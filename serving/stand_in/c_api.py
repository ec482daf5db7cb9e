"""A SavedModel run by TensorFlow's C API: what a server written in any language does.

The library is the one in the wheel. Nothing here imports the project.
"""

import ctypes
from ctypes import POINTER, c_char_p, c_int, c_int64, c_size_t, c_void_p
from pathlib import Path

import numpy as np
import tensorflow as tf
from tensorflow.core.protobuf import meta_graph_pb2


class _Output(ctypes.Structure):
    _fields_ = [("operation", c_void_p), ("index", c_int)]


class _Buffer(ctypes.Structure):
    _fields_ = [("data", c_void_p), ("length", c_size_t), ("free", c_void_p)]


_SIGNATURES = {
    "TF_NewStatus": (c_void_p,),
    "TF_DeleteStatus": (None, c_void_p),
    "TF_GetCode": (c_int, c_void_p),
    "TF_Message": (c_char_p, c_void_p),
    "TF_NewBuffer": (POINTER(_Buffer),),
    "TF_NewBufferFromString": (POINTER(_Buffer), c_char_p, c_size_t),
    "TF_DeleteBuffer": (None, POINTER(_Buffer)),
    "TF_NewGraph": (c_void_p,),
    "TF_DeleteGraph": (None, c_void_p),
    "TF_GraphOperationByName": (c_void_p, c_void_p, c_char_p),
    "TF_NewSessionOptions": (c_void_p,),
    "TF_DeleteSessionOptions": (None, c_void_p),
    "TF_LoadSessionFromSavedModel": (
        c_void_p,
        c_void_p,
        c_void_p,
        c_char_p,
        POINTER(c_char_p),
        c_int,
        c_void_p,
        POINTER(_Buffer),
        c_void_p,
    ),
    "TF_SessionRun": (
        None,
        c_void_p,
        c_void_p,
        POINTER(_Output),
        POINTER(c_void_p),
        c_int,
        POINTER(_Output),
        POINTER(c_void_p),
        c_int,
        c_void_p,
        c_int,
        c_void_p,
        c_void_p,
    ),
    "TF_CloseSession": (None, c_void_p, c_void_p),
    "TF_DeleteSession": (None, c_void_p, c_void_p),
    "TF_AllocateTensor": (c_void_p, c_int, POINTER(c_int64), c_int, c_size_t),
    "TF_TensorFromProto": (None, POINTER(_Buffer), c_void_p, c_void_p),
    "TF_DeleteTensor": (None, c_void_p),
    "TF_TensorType": (c_int, c_void_p),
    "TF_NumDims": (c_int, c_void_p),
    "TF_Dim": (c_int64, c_void_p, c_int),
    "TF_TensorByteSize": (c_size_t, c_void_p),
    "TF_TensorData": (c_void_p, c_void_p),
    "TF_StringGetDataPointer": (c_void_p, c_void_p),
    "TF_StringGetSize": (c_size_t, c_void_p),
}
_STRING_SIZE = 24  # bytes of a TF_TString


def _library():
    library = ctypes.CDLL(str(Path(tf.__file__).parent / "libtensorflow_cc.so.2"))
    for name, (result, *arguments) in _SIGNATURES.items():
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    return library


C = _library()


class Error(Exception):
    """What TF_Status says. Attributes: code, that of gRPC; message."""

    def __init__(self, code: int, message: str):
        super().__init__(code, message)
        self.code, self.message = code, message


class _Status:
    """A TF_Status for one call; raises `Error` at the end of the block."""

    def __enter__(self):
        self._status = C.TF_NewStatus()
        return self._status

    def __exit__(self, *_):
        code, message = C.TF_GetCode(self._status), C.TF_Message(self._status)
        C.TF_DeleteStatus(self._status)
        if code:
            raise Error(code, message.decode(errors="replace"))


class Session:
    """The version of a SavedModel in `folder`. `run` may be called from many threads.

    Attributes:
        definitions: name -> tensorflow.SignatureDef.
    """

    def __init__(self, folder):
        options, graph_def = C.TF_NewSessionOptions(), C.TF_NewBuffer()
        self._graph = C.TF_NewGraph()
        try:
            with _Status() as status:
                self._session = C.TF_LoadSessionFromSavedModel(
                    options,
                    None,
                    str(folder).encode(),
                    (c_char_p * 1)(b"serve"),
                    1,
                    self._graph,
                    graph_def,
                    status,
                )
            found = ctypes.string_at(graph_def.contents.data, graph_def.contents.length)
        finally:
            C.TF_DeleteSessionOptions(options)
            C.TF_DeleteBuffer(graph_def)
        self.definitions = dict(meta_graph_pb2.MetaGraphDef.FromString(found).signature_def)

    def close(self):
        with _Status() as status:
            C.TF_CloseSession(self._session, status)
        with _Status() as status:
            C.TF_DeleteSession(self._session, status)
        C.TF_DeleteGraph(self._graph)

    def run(self, signature, inputs):
        """The outputs of a signature, name -> array.

        Args:
            inputs: name -> TensorProto, of all inputs that the signature has.

        Raises Error: the model refuses, or a proto is inconsistent.
        """
        definition = self.definitions[signature]
        names = list(definition.outputs)
        values, results = [], (c_void_p * len(names))()
        try:
            for proto in inputs.values():
                values.append(_tensor(proto))
            given, asked = (
                self._places(definition.inputs, inputs),
                self._places(definition.outputs, names),
            )
            tensors = (c_void_p * len(values))(*values)
            with _Status() as status:
                C.TF_SessionRun(
                    self._session,
                    None,
                    given,
                    tensors,
                    len(values),
                    asked,
                    results,
                    len(names),
                    None,
                    0,
                    None,
                    status,
                )
            return {name: _array(value) for name, value in zip(names, results, strict=True)}
        finally:
            for tensor in [*values, *filter(None, results)]:
                C.TF_DeleteTensor(tensor)

    def _places(self, infos, names):
        places = []
        for name in names:
            operation, _, index = infos[name].name.partition(":")
            found = C.TF_GraphOperationByName(self._graph, operation.encode())
            places.append(_Output(found, int(index)))
        return (_Output * len(places))(*places)


def _tensor(proto):
    """A TF_Tensor of a TensorProto, read by TensorFlow's own code."""
    data = proto.SerializeToString()
    tensor = C.TF_AllocateTensor(tf.float32.as_datatype_enum, None, 0, 4)
    buffer = C.TF_NewBufferFromString(data, len(data))
    try:
        with _Status() as status:
            C.TF_TensorFromProto(buffer, tensor, status)
    except Error:
        C.TF_DeleteTensor(tensor)
        raise
    finally:
        C.TF_DeleteBuffer(buffer)
    return tensor


def _array(tensor):
    shape = [C.TF_Dim(tensor, axis) for axis in range(C.TF_NumDims(tensor))]
    dtype, data = tf.dtypes.as_dtype(C.TF_TensorType(tensor)), C.TF_TensorData(tensor)
    if dtype == tf.string:
        found = np.empty(int(np.prod(shape)), object)
        for k in range(found.size):
            string = data + k * _STRING_SIZE
            size = C.TF_StringGetSize(string)
            found[k] = ctypes.string_at(C.TF_StringGetDataPointer(string), size)
        return found.reshape(shape)
    found = ctypes.string_at(data, C.TF_TensorByteSize(tensor))
    return np.frombuffer(found, dtype.as_numpy_dtype).reshape(shape)
