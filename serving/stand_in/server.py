"""A stand-in for tensorflow_model_server, of which the registries have no binary.

    python -I serving/stand_in/server.py --name=quickstart --base_path=saved_models/quickstart

It is built on tensorflow-serving-api's own PredictionService and ModelService, runs the models by
TensorFlow's C API, and cannot import the project. It answers and refuses as the real server does,
gRPC and REST, without batching and without looking for new versions. It is for
tests; being Python, it costs a few ms more.
"""

import argparse
import json
import os
import re
import sys
import urllib.parse
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread

sys.path.append(str(Path(__file__).parent))  # python -I leaves it out
sys.modules.update(dict.fromkeys(["unsup_video", "train", "eval", "data_prep"]))

import c_api
import grpc
import numpy as np
import tensorflow as tf
from google.protobuf import json_format
from tensorflow_serving.apis import get_model_metadata_pb2 as metadata_pb2
from tensorflow_serving.apis import get_model_status_pb2 as status_pb2
from tensorflow_serving.apis import model_service_pb2_grpc, predict_pb2, prediction_service_pb2_grpc

CODES = {code.value[0]: code for code in grpc.StatusCode}
INVALID_ARGUMENT, NOT_FOUND, FAILED_PRECONDITION = 3, 5, 9
HTTP = {INVALID_ARGUMENT: 400, NOT_FOUND: 404, FAILED_PRECONDITION: 400}  # as http_server.cc


class Models:
    """What both protocols answer: from requests to responses; raises c_api.Error."""

    def __init__(self, name, base_path):
        self.name = name
        folders = [p.parent for p in Path(base_path).glob("*/saved_model.pb")]
        self.versions = {int(p.name): c_api.Session(p) for p in folders}

    def session(self, spec):
        asked = spec.version.value if spec.HasField("version") else max(self.versions)
        if spec.name != self.name or asked not in self.versions:
            which = (
                f"Specific({spec.name}, {asked})"
                if spec.HasField("version")
                else (f"Latest({spec.name})")
            )
            raise c_api.Error(NOT_FOUND, f"Servable not found for request: {which}")
        return asked, self.versions[asked]

    def status(self, request):
        spec, response = request.model_spec, status_pb2.GetModelStatusResponse()
        found = [
            v
            for v in sorted(self.versions, reverse=True)
            if not spec.HasField("version") or v == spec.version.value
        ]
        if spec.name != self.name or not found:
            raise c_api.Error(NOT_FOUND, f"Could not find any versions of model {spec.name}")
        for version in found:
            status = response.model_version_status.add(version=version, state="AVAILABLE")
            status.status.error_code = 0
        return response

    def metadata(self, request):
        version, session = self.session(request.model_spec)
        response = metadata_pb2.GetModelMetadataResponse()
        response.model_spec.name = self.name
        response.model_spec.version.value = version
        found = metadata_pb2.SignatureDefMap(signature_def=session.definitions)
        response.metadata["signature_def"].Pack(found)
        return response

    def predict(self, request):
        version, session = self.session(request.model_spec)
        signature = request.model_spec.signature_name or "serving_default"
        if signature not in session.definitions:
            raise c_api.Error(
                FAILED_PRECONDITION, f'Serving signature key "{signature}" not found.'
            )
        expected = session.definitions[signature].inputs.keys()
        if request.inputs.keys() != expected:
            raise c_api.Error(
                INVALID_ARGUMENT,
                f"input size does not match signature: {sorted(request.inputs)} "
                f"!= {sorted(expected)}",
            )
        response = predict_pb2.PredictResponse()
        response.model_spec.name, response.model_spec.signature_name = self.name, signature
        response.model_spec.version.value = version
        for name, value in session.run(signature, request.inputs).items():
            response.outputs[name].CopyFrom(tf.make_tensor_proto(value))
        return response


def _answering(method):
    def answer(self, request, context):
        try:
            return method(request, context)
        except c_api.Error as error:
            context.abort(CODES[error.code], error.message)

    return answer


def serve_grpc(models, port, max_message):
    services = {
        prediction_service_pb2_grpc: ("PredictionService", ["Predict", "GetModelMetadata"]),
        model_service_pb2_grpc: ("ModelService", ["GetModelStatus"]),
    }

    methods = {
        "Predict": lambda request, _: models.predict(request),
        "GetModelMetadata": lambda request, _: models.metadata(request),
        "GetModelStatus": lambda request, _: models.status(request),
    }
    limits = [("grpc.max_receive_message_length", max_message), ("grpc.so_reuseport", 0)]
    server = grpc.server(ThreadPoolExecutor(16), options=limits)
    for module, (service, names) in services.items():
        base = getattr(module, f"{service}Servicer")
        own = type(service, (base,), {name: _answering(methods[name]) for name in names})
        getattr(module, f"add_{service}Servicer_to_server")(own(), server)
    port = server.add_insecure_port(f"127.0.0.1:{port}")
    server.start()
    return server, port


# ---------------------------------------------------------------------- REST


class Rest(BaseHTTPRequestHandler):
    """As api_rest.md describes it: status, metadata, and predict in columnar format."""

    models = None

    def do_GET(self):
        self.answer(self.get)

    def do_POST(self):
        self.answer(self.post)

    def answer(self, method):
        try:
            path = re.fullmatch(
                r"/v1/models/([^/:]+)(?:/versions/(\d+))?(/metadata|:predict|)", self.path
            )
            if not path:
                raise c_api.Error(INVALID_ARGUMENT, f"Malformed request: {self.path}")
            name, *others = path.groups()
            code, found = 200, method(urllib.parse.unquote(name), *others)
        except c_api.Error as error:
            code, found = HTTP.get(error.code, 500), {"error": error.message}
        data = json.dumps(found).encode()
        self.send_response(code)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def spec(self, request, name, version):
        request.model_spec.name = name
        if version:
            request.model_spec.version.value = int(version)
        return request

    def get(self, name, version, what):
        if what == "/metadata":
            request = self.spec(metadata_pb2.GetModelMetadataRequest(), name, version)
            response = self.models.metadata(request)
            found = metadata_pb2.SignatureDefMap()
            response.metadata["signature_def"].Unpack(found)
            spec = {
                "name": name,
                "signature_name": "",
                "version": str(response.model_spec.version.value),
            }
            return {"model_spec": spec, "metadata": {"signature_def": _json(found)}}
        return _json(
            self.models.status(self.spec(status_pb2.GetModelStatusRequest(), name, version))
        )

    def post(self, name, version, what):
        try:
            body = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
            request = self.spec(predict_pb2.PredictRequest(), name, version)
            request.model_spec.signature_name = body.get("signature_name", "serving_default")
            _, session = self.models.session(request.model_spec)
            infos = session.definitions[request.model_spec.signature_name].inputs
            for key, value in body["inputs"].items():
                dtype = tf.dtypes.as_dtype(infos[key].dtype).as_numpy_dtype
                request.inputs[key].CopyFrom(tf.make_tensor_proto(np.array(value, dtype)))
        except (
            ValueError,
            LookupError,
            TypeError,
            AttributeError,
            ArithmeticError,
            RecursionError,
        ) as error:
            raise c_api.Error(INVALID_ARGUMENT, f"JSON: {error!r}") from None
        outputs = {
            key: _values(tf.make_ndarray(value))
            for key, value in self.models.predict(request).outputs.items()
        }
        return {"outputs": outputs if len(outputs) > 1 else next(iter(outputs.values()))}

    def log_message(self, *_):
        pass


def _json(message):
    return json_format.MessageToDict(
        message, always_print_fields_with_no_presence=True, preserving_proto_field_name=True
    )


def _values(array):
    if array.dtype != object:
        return array.tolist()
    # As the real server, which takes strings for UTF-8.
    return np.vectorize(lambda text: text.decode(), otypes=[object])(array).tolist()


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--name", required=True)
    parser.add_argument("--base_path", required=True, type=os.path.expanduser)
    parser.add_argument("--port", type=int, default=8500)
    parser.add_argument("--rest_api_port", type=int, default=8501)
    parser.add_argument("--max_message", type=int, default=64 << 20, help="bytes of a request")
    options = parser.parse_args()
    Rest.models = Models(options.name, options.base_path)
    rest = ThreadingHTTPServer(("127.0.0.1", options.rest_api_port), Rest)
    server, port = serve_grpc(Rest.models, options.port, options.max_message)
    Thread(target=rest.serve_forever, daemon=True).start()
    print(f"gRPC {port} REST {rest.server_port}", flush=True)
    sys.stdin.read()  # until who started it is gone
    server.stop(None)


if __name__ == "__main__":
    main()
