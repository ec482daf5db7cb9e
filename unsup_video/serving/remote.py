"""A model on a TensorFlow Serving server, over gRPC or REST.

    model = remote.Grpc("localhost:8500", "quickstart")
    future = model.predict("predict_future_uint8", {"frames": clips, "steps": steps})["future"]

Errors are the same for both: ConnectionError where nobody answers, TimeoutError where the answer
does not come, ValueError with the server's own words for what it refuses; all in one line.
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

LARGEST = (1 << 31) - 1  # bytes of a message, for gRPC and protobuf


@dataclasses.dataclass(frozen=True)
class Tensor:
    """An input or output.

    Attributes:
        dtype: such as "float32" or "string". shape: None for a free size.
    """

    dtype: str
    shape: tuple[int | None, ...]


@dataclasses.dataclass(frozen=True)
class Signature:
    """Name -> `Tensor`."""

    inputs: dict[str, Tensor]
    outputs: dict[str, Tensor]


@dataclasses.dataclass(frozen=True)
class Version:
    """A version of the model on the server.

    Attributes:
        number: of the version. state: START, LOADING, AVAILABLE, UNLOADING or END. error: why it is
            not available, "" where nothing went wrong.
    """

    number: int
    state: str
    error: str


class Outputs(dict):
    """Name -> array, (clips, ..); strings are bytes, in an array of objects.

    Attributes:
        version: the number of the version that gave this answer; None where the server does not
            say, which is over REST, where no version was asked for.
    """

    def __init__(self, arrays: dict[str, np.ndarray], version: int | None):
        super().__init__(arrays)
        self.version = version


class _Model:
    """What both have in common; see `Grpc` and `Rest` for the arguments."""

    def __init__(self, server: str, name: str, version: int | None, timeout: float):
        host, _, port = server.rpartition(":")
        if not host or "/" in host or not port.isdecimal():
            raise ValueError(f"a server is HOST:PORT, as localhost:{self.port}; got {server!r}")
        self.server, self.name, self.version, self.timeout = server, name, version, timeout
        # A proxy, which the environment may name, would look for it on its own machine.
        self._use_proxy = not _is_this_machine(host)

    def __str__(self):
        version = "" if self.version is None else f" version {self.version}"
        return f"{self.name}{version} at {self.server}"

    @functools.cached_property
    def signatures(self) -> dict[str, Signature]:
        """All signatures, by name. Of `answering`, and asked for once."""
        return self._metadata[1]

    @functools.cached_property
    def answering(self) -> int:
        """The version of `signatures`: `version`, or else what was the newest at first contact.
        Each answer has its own, see `Outputs`."""
        return self._metadata[0]

    def pinned(self) -> "Grpc | Rest":
        """The same model, on the same connection, that asks for the version `answering` in every
        request: for requests that belong together, also where a newer one is loaded meanwhile."""
        found = copy.copy(self)
        found.version = self.answering
        return found

    def signature(self, name: str) -> Signature:
        """Raises ValueError, with what there is, where there is none of that name."""
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
    """A model, over gRPC. Needs tensorflow-serving-api.

    Args:
        server: HOST:PORT. name: of the model. version: None for the newest. timeout: seconds that
            an answer may take.

    Raises ModuleNotFoundError where tensorflow-serving-api is missing.
    """

    protocol, port = "gRPC", 8500

    def __init__(self, server: str, name: str, version: int | None = None, timeout: float = 60.0):
        super().__init__(server, name, version, timeout)
        import grpc
        from tensorflow_serving.apis import model_service_pb2_grpc, prediction_service_pb2_grpc

        # gRPC's own limit of 4 MiB is less than 26 clips of 10 predicted frames of 64x64.
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
        """All versions that the server knows of, or the one that was asked for."""
        from tensorflow_serving.apis import get_model_status_pb2 as status

        request = status.GetModelStatusRequest()
        self._specify(request.model_spec)
        found = self._call(self._service.GetModelStatus, request).model_version_status
        return [
            Version(
                v.version,
                status.ModelVersionStatus.State.Name(v.state),
                _line(v.status.error_message),
            )
            for v in found
        ]

    @functools.cached_property
    def _metadata(self):
        from tensorflow_serving.apis import get_model_metadata_pb2 as metadata

        request = metadata.GetModelMetadataRequest(metadata_field=["signature_def"])
        self._specify(request.model_spec)
        response = self._call(self._prediction.GetModelMetadata, request)
        found = metadata.SignatureDefMap()
        response.metadata["signature_def"].Unpack(found)
        return response.model_spec.version.value, _signatures(found.signature_def)

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> Outputs:
        """The outputs of a signature, by name."""
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
        # Also what a server says of itself whose queue of batches is full.
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
    """A model, over REST: JSON, which needs no package, and several times the bytes of gRPC.

    Arguments as of `Grpc`.
    """

    protocol, port = "REST", 8501

    def __init__(self, server: str, name: str, version: int | None = None, timeout: float = 60.0):
        super().__init__(server, name, version, timeout)
        proxies = None if self._use_proxy else {}  # None: those of the environment
        self._opener = urllib.request.build_opener(urllib.request.ProxyHandler(proxies))

    @property
    def _url(self):
        url = f"http://{self.server}/v1/models/{urllib.parse.quote(self.name, safe='')}"
        return url if self.version is None else f"{url}/versions/{self.version}"

    def close(self) -> None:
        """Nothing is held open."""

    def versions(self) -> list[Version]:
        """All versions that the server knows of, or the one that was asked for."""
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
            found = answer["metadata"]["signature_def"]["signature_def"]
            definitions = {
                name: json_format.ParseDict(value, meta_graph_pb2.SignatureDef(), True)
                for name, value in found.items()
            }
            return int(answer["model_spec"]["version"]), _signatures(definitions)
        except (KeyError, TypeError, ValueError, AttributeError, json_format.ParseError):
            raise self._strange() from None

    def predict(self, signature: str, inputs: dict[str, np.ndarray]) -> Outputs:
        """The outputs of a signature, by name."""
        expected = self.signature(signature).outputs
        given = {name: value.tolist() for name, value in inputs.items()}
        answer = self._call(":predict", {"signature_name": signature, "inputs": given})
        try:
            found = answer["outputs"]
            if len(expected) == 1:  # the name is left out
                found = dict.fromkeys(expected, found)
            arrays = {name: _array(value, expected[name].dtype) for name, value in found.items()}
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
    """Whether a name or address, one of IPv6 with or without brackets, is of this machine alone."""
    host = host.strip("[]").rstrip(".").lower()
    try:
        address = ipaddress.ip_address(host)
    except ValueError:
        return host == "localhost" or host.endswith(".localhost")
    address = getattr(address, "ipv4_mapped", None) or address
    return address.is_loopback or address.is_unspecified  # who connects to 0.0.0.0 stays here


def _line(text):
    """The first line: TensorFlow goes on with names of nodes."""
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

    # TensorFlow's own, such as __saved_model_init_op, are not for requests.
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
