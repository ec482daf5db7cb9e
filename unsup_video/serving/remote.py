"""A model on a TensorFlow Serving server, over gRPC or REST.

    model = remote.Grpc("localhost:8500", "quickstart")
    future = model.predict("predict_future_uint8", {"frames": clips, "steps": steps})["future"]

Both raise the same errors, with messages of one line: ConnectionError if there is no server,
TimeoutError if the answer takes too long, and ValueError with the server's own message if it
refuses the request.
"""

import copy
import dataclasses
import functools
import http.client
import ipaddress
import json
import urllib.error
import urllib.parse
import urllib.request

import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow.core.protobuf import meta_graph_pb2

LARGEST = (1 << 31) - 1  # bytes of the largest message of gRPC and protobuf


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output of a signature.

    Attributes:
        dtype: the dtype, such as "float32" or "string". shape: its sizes; None for any size.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """The inputs and outputs of a signature, by name."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of the model on the server.

    Attributes:
        number: the number of the version. state: START, LOADING, AVAILABLE, UNLOADING or END.
        error: the reason why it is not available, "" if there is none.
    """

    number: int
    state: str
    error: str


class Outputs(dict):
    """The outputs of a request: name -> array (clips, ..); strings are arrays of bytes objects.

    Attributes:
        version: the number of the version that answered; None over REST without a version in the
            request, since the server does not tell.
    """

    def __init__(self, arrays: dict[str, np.ndarray], version: int | None):
        super().__init__(arrays)
        self.version = version


class _Model:
    """The base class of `Grpc` and `Rest`, which describe the arguments."""

    def __init__(self, server: str, name: str, version: int | None, timeout: float):
        host, _, port = server.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise ValueError(f"a server is HOST:PORT, as localhost:{self.port}; got {server!r}")
        self.server, self.name, self.version, self.timeout = server, name, version, timeout
        # A proxy that the environment names would look for localhost on its own machine.
        self._use_proxy = not _is_this_machine(host)

    def __str__(self):
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.name}{version} at {self.server}"

    @functools.cached_property
    def signatures(self) -> dict[str, Signature]:
        """All signatures of the version `answering`, by name; asked for only once."""
        return self._metadata[1]

    @functools.cached_property
    def answering(self) -> int:
        """The version of `signatures`: `version`, or the newest at first contact. Each answer names
        its own version, see `Outputs`."""
        return self._metadata[0]

    def pinned(self) -> "Grpc | Rest":
        """Returns this model, on the same connection, fixed to the version `answering`.

        Use it for requests that belong together, since the server may load a newer version.
        """
        pinned = copy.copy(self)
        pinned.version = self.answering
        return pinned

    def signature(self, name: str) -> Signature:
        """Returns a signature. Raises ValueError, listing all, if there is none with this name."""
        if name not in self.signatures:
            raise ValueError(
                f"{self} has no signature {name!r}; it has {', '.join(sorted(self.signatures))}"
            )
        return self.signatures[name]

    def _not_reachable(self, reason):
        return ConnectionError(
            f"{self.server} is not reachable by {self.protocol} ({reason}). Is a server running "
            f"there, and is that its port for {self.protocol}? The usual one is {self.port}"
        )

    def _late(self):
        return TimeoutError(f"{self}: no answer in {self.timeout:g} s; allow more with --timeout")

    def _not_found(self, reason):
        return ValueError(f"{self}: no such model or version ({reason})")

    def _too_large(self, reason):
        return ValueError(
            f"{self}: message too large ({reason}). Send fewer clips or ask for fewer steps. The "
            "limit is grpc.max_receive_message_length of the side that receives: for the server "
            "--grpc_channel_arguments=grpc.max_receive_message_length=BYTES"
        )

    def _refused(self, reason):
        return ValueError(f"{self} refuses: {_line(reason)}")


class Grpc(_Model):
    """A model over gRPC, which needs tensorflow-serving-api.

    Args:
        server: HOST:PORT. name: the name of the model. version: its version; None for the newest.
        timeout: seconds to wait for an answer.

    Raises ModuleNotFoundError if tensorflow-serving-api is missing.
    """

    protocol, port = "gRPC", 8500

    def __init__(self, server: str, name: str, version: int | None = None, timeout: float = 60.0):
        super().__init__(server, name, version, timeout)
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        # gRPC's default limit of 4 MiB is less than 26 clips of 10 predicted frames of 64x64.
        options = [
            ("grpc.max_send_message_length", -1),
            ("grpc.max_receive_message_length", -1),
            ("grpc.enable_http_proxy", int(self._use_proxy)),
        ]
        self._channel = grpc.insecure_channel(server, options)
        self._prediction = prediction_service_pb2_grpc.PredictionServiceStub(self._channel)
        self._service = model_service_pb2_grpc.ModelServiceStub(self._channel)

    def close(self) -> None:
        self._channel.close()

    def versions(self) -> list[Version]:
        """Returns all versions that the server has, or the one that `version` names."""
        from tensorflow_serving.apis import get_model_status_pb2 as status

        request = status.GetModelStatusRequest()
        self._specify(request.model_spec)
        statuses = self._call(self._service.GetModelStatus, request).model_version_status
        return [
            Version(
                v.version,
                status.ModelVersionStatus.State.Name(v.state),
                _line(v.status.error_message),
            )
            for v in statuses
        ]

    @functools.cached_property
    def _metadata(self):
        from tensorflow_serving.apis import get_model_metadata_pb2 as metadata

        request = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(request.model_spec)
        response = self._call(self._prediction.GetModelMetadata, request)
        definitions = metadata.SignatureDefMap()
        response.metadata["signature_def"].Unpack(definitions)
        return response.model_spec.version.value, _signatures(definitions.signature_def)

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> Outputs:
        """Calls a signature; returns its outputs by name."""
        return self._outputs(self._call(self._prediction.Predict, self._request(signature, inputs)))

    def _request(self, signature, inputs):
        from tensorflow_serving.apis import predict_pb2

        size = sum(value.nbytes for value in inputs.values())
        if size > LARGEST - (1 << 16):
            raise ValueError(
                f"{size:,} bytes are more than the {LARGEST:,} of a message: send fewer clips"
            )
        request = predict_pb2.PredictRequest()
        self._specify(request.model_spec)
        request.model_spec.signature_name = signature
        for name, value in inputs.items():
            request.inputs[name].CopyFrom(tf.make_tensor_proto(value))
        return request

    def _outputs(self, response):
        arrays = {name: tf.make_ndarray(value) for name, value in response.outputs.items()}
        return Outputs(arrays, response.model_spec.version.value)

    def _specify(self, spec):
        spec.name = self.name
        if self.version is not None:
            spec.version.value = self.version

    def _call(self, method, request):
        import grpc

        try:
            return method(request, timeout=self.timeout)
        except grpc.RpcError as error:
            code, reason = error.code(), _line(error.details())
        # A server whose queue of batches is full also answers UNAVAILABLE.
        if code == grpc.StatusCode.UNAVAILABLE and "queue" not in reason:
            raise self._not_reachable(reason)
        if code == grpc.StatusCode.DEADLINE_EXCEEDED:
            raise self._late()
        if code == grpc.StatusCode.NOT_FOUND:
            raise self._not_found(reason)
        if code == grpc.StatusCode.RESOURCE_EXHAUSTED and "larger than max" in reason:
            raise self._too_large(reason)
        raise self._refused(f"{reason} [{code.name}]")


class Rest(_Model):
    """A model over REST, which needs no package, but several times the bytes of gRPC, as JSON.

    It takes the arguments of `Grpc`.
    """

    protocol, port = "REST", 8501

    def __init__(self, server: str, name: str, version: int | None = None, timeout: float = 60.0):
        super().__init__(server, name, version, timeout)
        proxies = None if self._use_proxy else {}  # None means those of the environment
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))

    @property
    def _url(self):
        url = f"http://{self.server}/v1/models/{urllib.parse.quote(self.name, safe='')}"
        return url if self.version is None else f"{url}/versions/{self.version}"

    def close(self) -> None:
        """Does nothing, since no connection stays open."""

    def versions(self) -> list[Version]:
        """Returns all versions that the server has, or the one that `version` names."""
        answer = self._call("")
        try:
            return [
                Version(
                    int(v["version"]), v["state"], _line(v.get("status", {}).get("error_message"))
                )
                for v in answer["model_version_status"]
            ]
        except (KeyError, TypeError, ValueError, AttributeError):
            raise self._strange() from None

    @functools.cached_property
    def _metadata(self):
        answer = self._call("/metadata")
        try:
            stored = answer["metadata"]["signature_def"]["signature_def"]
            definitions = {
                name: json_format.ParseDict(value, meta_graph_pb2.SignatureDef(), True)
                for name, value in stored.items()
            }
            return int(answer["model_spec"]["version"]), _signatures(definitions)
        except (KeyError, TypeError, ValueError, AttributeError, json_format.ParseError):
            raise self._strange() from None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> Outputs:
        """Calls a signature; returns its outputs by name."""
        expected = self.signature(signature).outputs
        given = {name: value.tolist() for name, value in inputs.items()}
        answer = self._call(":predict", {"signature_name": signature, "inputs": given})
        try:
            outputs = answer["outputs"]
            if len(expected) == 1:  # REST leaves out the name of a single output
                outputs = dict.fromkeys(expected, outputs)
            arrays = {name: _array(value, expected[name].dtype) for name, value in outputs.items()}
            return Outputs(arrays, self.version)
        except (KeyError, TypeError, AttributeError):
            raise self._strange() from None

    def _call(self, path, body=None):
        data = None if body is None else json.dumps(body, separators=(",", ":")).encode()
        try:
            with self._opener.open(self._url + path, data, self.timeout) as response:
                return json.load(response)
        except urllib.error.HTTPError as error:
            raise self._http(error) from None
        except TimeoutError:
            raise self._late() from None
        except urllib.error.URLError as error:
            if isinstance(error.reason, TimeoutError):
                raise self._late() from None
            raise self._not_reachable(_line(error.reason)) from None
        except OSError as error:  # the connection broke
            raise self._not_reachable(_line(error)) from None
        except (ValueError, http.client.HTTPException):
            raise self._strange() from None

    def _strange(self):
        return self._not_reachable("what answers there is no TensorFlow Serving")

    def _http(self, error):
        try:
            reason = json.load(error)["error"]
        except (OSError, ValueError, KeyError, TypeError, http.client.HTTPException):
            reason = error.reason
        if error.code == 404:
            return self._not_found(_line(reason))
        if error.code == 504:
            return self._late()
        return self._refused(f"{reason} [HTTP {error.code}]")


def _is_this_machine(host):
    """Returns True for names and addresses of this machine, IPv6 with or without brackets."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return (
        address.is_loopback or address.is_unspecified
    )  # connecting to 0.0.0.0 reaches this machine


def _line(text):
    """Returns the first line, since TensorFlow adds lines with names of nodes."""
    return str(text or "").strip().split("\n")[0].strip()


def _signatures(definitions):
    def tensors(infos):
        return {
            name: Tensor(
                tf.dtypes.as_dtype(info.dtype).name,
                tuple(None if dim.size < 0 else dim.size for dim in info.tensor_shape.dim),
            )
            for name, info in infos.items()
        }

    # TensorFlow's own signatures, such as __saved_model_init_op, are not for requests.
    return {
        name: Signature(tensors(definition.inputs), tensors(definition.outputs))
        for name, definition in definitions.items()
        if not name.startswith("__")
    }


def _array(value, dtype):
    if dtype != "string":
        return np.asarray(value, dtype)
    strings = np.asarray(value, object)
    strings.flat[:] = [text.encode() for text in strings.flat]
    return strings
