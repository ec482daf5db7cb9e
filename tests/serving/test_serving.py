"""The serving kit: what a server does with an export, and the client, over loopback.

No registry has the binary of TensorFlow Serving. In its place are TensorFlow's C API, TensorFlow's
own batch op, and a stand-in that is built on tensorflow-serving-api. Where $TF_SERVING_BIN names a
tensorflow_model_server, the same tests run against it too.
"""

import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import cv2
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory, text_format
from PIL import Image
from tensorflow.core.framework import tensor_pb2

import command_flags
import commands
from serving import stand_in
from unsup_video.pictures import visualize
from unsup_video.serving import client, export, remote, warmup
from unsup_video.video import inputs as own_inputs

ROOT = Path(__file__).parents[2]
KIT = ROOT / "serving"
REAL = os.environ.get("TF_SERVING_BIN")
NAME = "tiny"
DEADLINE = 60.0  # seconds, of every answer: a server that hangs fails a test, and no more
RNG = np.random.default_rng(0)
PIXELS = RNG.integers(0, 256, (3, 4, 32, 32), np.uint8)
FRAMES = np.float32(PIXELS / 255)
STEPS = np.array([2, 5, 1], np.int32)
STATES = {name: np.full((3, 8), 0.25, np.float32) for name in ("h_1", "c_1")}
REQUESTS = {
    "serving_default": {"frames": FRAMES},
    "encode": {"frames": FRAMES},
    "reconstruct": {"frames": FRAMES},
    "predict_future": {"frames": FRAMES, "steps": STEPS},
    "step": {"frame": FRAMES[:, 0], **STATES},
}
REQUESTS |= {
    f"{name}_uint8": {
        key: PIXELS if key == "frames" else PIXELS[:, 0] if key == "frame" else value
        for key, value in inputs.items()
    }
    for name, inputs in REQUESTS.items()
}


@pytest.fixture
def client_command():
    with command_flags.command("unsup_video.client") as module:
        yield module


@pytest.fixture(scope="module")
def base_path(model, tmp_path_factory):
    """The folder of two versions: 1 is the export, 2 a classifier written by hand.

    The classifier says which eighths of the brightness a clip has, so what it gives is known.
    """
    folder = tmp_path_factory.mktemp("models") / NAME
    export.write(model, folder)

    @tf.function(input_signature=[tf.TensorSpec((None, None, 32, 32), tf.float32, "frames")])
    def classify(frames):
        near = -40 * tf.abs(tf.reduce_mean(frames, (1, 2, 3))[:, None] - np.float32(NAMED))
        names = tf.tile(tf.constant(list(CLASSES))[None], [tf.shape(frames)[0], 1])
        return {"probabilities": tf.nn.softmax(near), "classes": names}

    tf.saved_model.save(tf.Module(), folder / "2", {"classify": classify})
    return folder


CLASSES = {
    "dark": 0.0,
    "dämmrig": 0.25,
    "中ぐらい": 0.5,
    "light": 0.75,
    "bright": 1.0,
    "glaring": 2.0,
}
NAMED = list(CLASSES.values())


@pytest.fixture(scope="module")
def functions(base_path):
    """Signature -> a function of arrays, run by TensorFlow in this process."""
    loaded = tf.saved_model.load(base_path / "1")

    def function(name):
        return lambda **inputs: {
            key: value.numpy()
            for key, value in loaded.signatures[name](
                **{key: tf.constant(value) for key, value in inputs.items()}
            ).items()
        }

    return {name: function(name) for name in loaded.signatures}


@pytest.fixture(scope="module")
def expected(functions):
    assert functions.keys() == REQUESTS.keys()
    return {name: functions[name](**inputs) for name, inputs in REQUESTS.items()}


def assert_same(found, expected):
    assert found.keys() == expected.keys()
    for name, value in expected.items():
        np.testing.assert_allclose(found[name], value, rtol=0, atol=1e-5)


# ---------------------------------------------------------------------- servers


class Server:
    """A server process that serves `base_path` as NAME. Attributes: process, grpc, rest (ports)."""

    def __init__(self, process, grpc, rest):
        self.process, self.grpc, self.rest = process, grpc, rest

    def connect(self, protocol="gRPC", version=1, name=NAME, timeout=DEADLINE):
        kind, port = (remote.Grpc, self.grpc) if protocol == "gRPC" else (remote.Rest, self.rest)
        return kind(f"127.0.0.1:{port}", name, version, timeout)


def free_port():
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        return found.getsockname()[1]


def start_stand_in(base_path, log):
    found = stand_in.Process(NAME, base_path, log, max_message=1 << 20)
    return Server(found.process, found.grpc, found.rest)


def start_real(base_path, log):
    ports = free_port(), free_port()
    config = base_path.parent / "models.config"
    config.write_text(
        (KIT / "models.config")
        .read_text()
        .replace('"moving_mnist"', f'"{NAME}"')
        .replace('"/models/moving_mnist"', f'"{base_path}"')
        .replace('"/models/', f'"{ROOT / "saved_models"}/')
    )
    process = subprocess.Popen(
        [
            REAL,
            f"--port={ports[0]}",
            f"--rest_api_port={ports[1]}",
            f"--model_config_file={config}",
            f"--grpc_channel_arguments=grpc.max_receive_message_length={1 << 20}",
        ],
        stdin=subprocess.PIPE,
        stdout=log,
        stderr=log,
    )
    server = Server(process, *ports)
    deadline = time.monotonic() + 120
    while process.poll() is None and time.monotonic() < deadline:
        try:
            if all(v.state == "AVAILABLE" for v in server.connect(version=None).versions()):
                return server
        except (OSError, ValueError):
            pass
        time.sleep(0.2)
    stand_in.end(process)
    raise AssertionError(Path(log.name).read_text())


def test_there_is_a_real_server():
    if not REAL:
        pytest.skip("TF_SERVING_BIN does not name a tensorflow_model_server: only the stand-in")
    assert os.access(REAL, os.X_OK)


@pytest.fixture(scope="module", params=[start_stand_in, *([start_real] if REAL else [])])
def server(request, base_path, tmp_path_factory):
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    with open(tmp_path_factory.mktemp("logs") / "log", "w") as log:
        found = request.param(base_path, log)
        yield found
        assert found.process.poll() is None, Path(log.name).read_text()
        stand_in.end(found.process)


@pytest.fixture(params=["gRPC", "REST"])
def protocol(request):
    return request.param


def test_every_signature_over_both_protocols(server, protocol, expected):
    model = server.connect(protocol)
    assert model.answering == 1
    assert model.signatures.keys() == expected.keys()
    frames = model.signature("predict_future_uint8").inputs
    assert frames["frames"] == remote.Tensor("uint8", (None, None, 32, 32))
    assert frames["steps"] == remote.Tensor("int32", (None,))
    for name, inputs in REQUESTS.items():
        found = model.predict(name, inputs)
        assert_same(found, expected[name])
        assert all(value.dtype == np.float32 for value in found.values())


def test_versions(server, protocol):
    states = {v.number: (v.state, v.error) for v in server.connect(protocol, None).versions()}
    assert states == {1: ("AVAILABLE", ""), 2: ("AVAILABLE", "")}
    assert [v.number for v in server.connect(protocol, 1).versions()] == [1]
    newest = server.connect(protocol, None)
    assert newest.answering == 2 and newest.signatures.keys() == {"classify"}


def test_an_answer_says_its_version(server, protocol, client_command):
    assert server.connect(protocol, 1).predict("encode", REQUESTS["encode"]).version == 1
    newest = server.connect(protocol, None)
    assert newest.signatures.keys() == {"classify"}
    newest.answering = 1  # as where version 2 came after first contact
    outputs = newest.predict("classify", {"frames": FRAMES})
    said = {"gRPC": 2, "REST": None}[protocol]  # over REST nothing tells
    assert outputs.version == said
    assert str(client_command._version(newest, outputs)) == (
        "2" if said else "1 at first contact (REST does not say which answered)"
    )


def test_many_at_once(server, expected):
    model = server.connect()
    names = list(REQUESTS) * 20
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda name: model.predict(name, REQUESTS[name]), names))
    for name, outputs in zip(names, found, strict=True):
        assert_same(outputs, expected[name])


# ---------------------------------------------------------------------- hostile requests


def claim(dtype, shape, **content):
    """A TensorProto whose content need not be what its shape claims."""
    proto = tensor_pb2.TensorProto(dtype=dtype, **content)
    for size in shape:
        proto.tensor_shape.dim.add(size=size)
    return proto


FLOAT, UINT8 = tf.float32.as_datatype_enum, tf.uint8.as_datatype_enum
GIGABYTE = 1 << 30
PART = FRAMES[:1, :1].tobytes()
HOSTILE = {
    "rank": ("encode", {"frames": FRAMES[0]}, r"shape \(clips, frames, 32, 32\)"),
    "frame size": ("encode", {"frames": FRAMES[..., :31]}, r"shape \(clips, frames, 32, 32\)"),
    "no clip": ("encode", {"frames": FRAMES[:0]}, "at least one of clips and frames"),
    "a scalar": ("encode", {"frames": np.float32(1)}, r"shape \(clips, frames, 32, 32\)"),
    "NaN": ("reconstruct", {"frames": FRAMES * np.nan}, "frames must be finite"),
    "infinity": ("step", {"frame": FRAMES[:, 0] + np.inf, **STATES}, "frame must be finite"),
    "horizon": ("predict_future", {"frames": FRAMES, "steps": STEPS + (2**31 - 6)}, r"1\.\.1000"),
    "negative horizon": ("predict_future", {"frames": FRAMES, "steps": -STEPS}, r"1\.\.1000"),
    "a huge answer": (
        "predict_future",
        {"frames": np.zeros((101, 1, 32, 32), np.float32), "steps": np.full(101, 1000, np.int32)},
        "an answer has at most 100000 frames",
    ),
    "other dtype": ("encode", {"frames": PIXELS}, "uint8"),
    "strings": ("encode", {"frames": np.array([[b"x" * 99]])}, "string"),
    "no input": ("encode", {}, "does not match signature"),
    "an input too many": ("encode", {"frames": FRAMES, "x": FRAMES}, "does not match signature"),
    "no such signature": ("nothing", {"frames": FRAMES}, "nothing"),
    "TensorFlow's own signature": ("__saved_model_init_op", {"frames": FRAMES}, None),
    "1 GB claimed, 4 kB sent": (
        "encode",
        {"frames": claim(FLOAT, (1, GIGABYTE >> 12, 32, 32), tensor_content=PART)},
        None,
    ),
    "1 GB claimed, nothing sent": (
        "encode_uint8",
        {"frames": claim(UINT8, (1, GIGABYTE >> 10, 32, 32), tensor_content=b"")},
        "at most 100000 frames",
    ),
    "1 GB of one value": (
        "encode",
        {"frames": claim(FLOAT, (GIGABYTE >> 2,), float_val=[0.5])},
        "frames must",
    ),
    "more bytes than there are": (
        "encode",
        {"frames": claim(FLOAT, (1 << 40, 1 << 40), float_val=[0.5])},
        None,
    ),
    "a negative size": ("encode", {"frames": claim(FLOAT, (1, -1, 32, 32), float_val=[0.5])}, None),
    "no dtype": ("encode", {"frames": claim(0, (1, 1, 32, 32))}, None),
    "a dtype that does not exist": ("encode", {"frames": claim(999, (1, 1, 32, 32))}, None),
}


@pytest.mark.parametrize("case", HOSTILE)
def test_a_hostile_request_is_refused_and_the_next_one_answered(server, expected, case):
    from tensorflow_serving.apis import predict_pb2

    signature, inputs, message = HOSTILE[case]
    model = server.connect()
    request = predict_pb2.PredictRequest()
    request.model_spec.name, request.model_spec.version.value = NAME, 1
    request.model_spec.signature_name = signature
    for name, value in inputs.items():
        value = value if hasattr(value, "tensor_shape") else tf.make_tensor_proto(value)
        request.inputs[name].CopyFrom(value)
    with pytest.raises(ValueError, match=message or "refuses") as refused:
        model._call(model._prediction.Predict, request)
    assert "\n" not in str(refused.value)
    assert_same(model.predict("encode", REQUESTS["encode"]), expected["encode"])


def test_hostile_requests_beside_good_ones(server, expected):
    model = server.connect()

    def send(k):
        bad = {"frames": FRAMES * np.nan} if k % 3 == 0 else {"frames": FRAMES[:, :, :9]}
        if k % 2:
            with pytest.raises(ValueError, match="frames must"):
                model.predict("encode", bad)
        else:
            assert_same(model.predict("encode", {"frames": FRAMES}), expected["encode"])

    with ThreadPoolExecutor(8) as pool:
        list(pool.map(send, range(80)))


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"\xff\xfe",
        b'{"inputs": 1}',
        b'{"inputs": {"frames": [[1], 2]}}',
        b"[" * 500,
        b'{"signature_name": "encode", "inputs": {"frames": NaN}}',
    ],
)
def test_malformed_json_is_refused(server, expected, body):
    import urllib.error
    import urllib.request

    url = f"http://127.0.0.1:{server.rest}/v1/models/{NAME}/versions/1:predict"
    with pytest.raises(urllib.error.HTTPError) as refused:
        urllib.request.urlopen(url, body, timeout=DEADLINE)
    assert 400 <= refused.value.code < 500 and json.load(refused.value)["error"]
    assert_same(server.connect("REST").predict("encode", REQUESTS["encode"]), expected["encode"])


def test_what_is_no_request_at_all(server, expected):
    for port in (server.grpc, server.rest):
        with socket.create_connection(("127.0.0.1", port), timeout=DEADLINE) as connection:
            connection.sendall(b"\x00\xff" * 5000)
    assert_same(server.connect().predict("encode", REQUESTS["encode"]), expected["encode"])


# ---------------------------------------------------------------------- the client's errors


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"name": "other"}, r"other version 1 at .*: no such model or version"),
        ({"version": 7}, r"tiny version 7 at .*: no such model or version"),
    ],
)
def test_what_is_not_there(server, protocol, change, message):
    model = server.connect(protocol, **change)
    for ask in (model.versions, lambda: model.signatures):
        with pytest.raises(ValueError, match=message):
            ask()


def test_the_answer_is_in_one_line(server, protocol):
    model = server.connect(protocol)
    with pytest.raises(ValueError, match=r"refuses: .*frames must lie in 0\.\.1") as refused:
        model.predict("encode", {"frames": FRAMES * 255})
    assert "\n" not in str(refused.value)
    with pytest.raises(ValueError, match=r"no signature 'x'; it has encode, encode_uint8, .*"):
        model.signature("x")


def test_a_message_that_is_too_large(server, monkeypatch):
    """The limit of the server is 1 MiB here, as the kit's compose file sets one."""
    model = server.connect()
    with pytest.raises(ValueError, match="grpc.max_receive_message_length.*grpc_channel_arguments"):
        model.predict("encode", {"frames": np.zeros((1, 300, 32, 32), np.float32)})
    # gRPC's usual 4 MiB of the receiving side is no limit for answers.
    steps = np.full(2, 900, np.int32)
    future = model.predict("predict_future", {"frames": FRAMES[:2], "steps": steps})["future"]
    assert future.nbytes > 7 << 20
    monkeypatch.setattr(remote, "LARGEST", 70_000)
    with pytest.raises(ValueError, match="49,152 bytes are more than the 70,000 of a message"):
        model.predict("encode", {"frames": FRAMES})


def test_nobody_answers(protocol):
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    silent = socket.create_server(("127.0.0.1", 0))  # takes connections, and says nothing
    closed = free_port()
    kind = remote.Grpc if protocol == "gRPC" else remote.Rest
    with silent:
        with pytest.raises(ConnectionError, match=f"not reachable by {protocol} .*{kind.port}"):
            kind(f"127.0.0.1:{closed}", NAME).versions()
        with pytest.raises((TimeoutError, ConnectionError), match="0.5 s|not reachable"):
            kind(f"127.0.0.1:{silent.getsockname()[1]}", NAME, timeout=0.5).versions()
    with pytest.raises(ValueError, match="a server is HOST:PORT"):
        kind("http://localhost:8501", NAME)


@pytest.fixture
def proxy(monkeypatch):
    """The paths that were asked of a proxy, which the environment names and which never answers."""
    from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

    asked = []

    class Proxy(BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append(self.path)
            self.send_error(503)

        do_POST = do_CONNECT = do_GET

        def log_message(self, *_):
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Proxy)
    threading.Thread(target=server.serve_forever, daemon=True).start()
    for name in ("no_proxy", "NO_PROXY", "no_grpc_proxy"):
        monkeypatch.delenv(name, raising=False)
    for name in ("http_proxy", "https_proxy", "grpc_proxy"):
        monkeypatch.setenv(name, f"http://127.0.0.1:{server.server_port}")
    yield asked
    server.shutdown()
    server.server_close()


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost"])
def test_a_proxy_is_not_asked_for_this_machine(server, protocol, proxy, host):
    model = server.connect(protocol)
    model = type(model)(f"{host}:{model.server.rpartition(':')[2]}", NAME, 1, DEADLINE)
    assert [v.number for v in model.versions()] == [1]
    assert proxy == []


def test_a_proxy_is_asked_for_other_machines(protocol, proxy):
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    kind = remote.Grpc if protocol == "gRPC" else remote.Rest
    with pytest.raises((ValueError, OSError)):
        kind("models.example:8501", NAME, timeout=5).versions()
    assert proxy and "models.example:8501" in proxy[0]


@pytest.mark.parametrize(
    "host, own",
    [
        ("localhost", True),
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("[::1]", True),
        ("a.localhost", True),
        ("localhost.example", False),
        ("10.0.0.1", False),
        ("[fe80::1]", False),
        ("localhost.", True),
        ("LOCALHOST", True),
        ("A.Localhost.", True),
        ("0.0.0.0", True),
        ("[::]", True),
        ("[::ffff:127.0.0.1]", True),
        ("[::ffff:10.0.0.1]", False),
    ],
)
def test_which_addresses_are_of_this_machine(host, own):
    assert remote.Rest(f"{host}:8501", NAME)._use_proxy != own


@pytest.mark.slow
def test_a_server_that_hangs_costs_its_deadline(base_path, tmp_path):
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    with open(tmp_path / "log", "w") as log:
        server = start_stand_in(base_path, log)  # its own: it is not used again
    try:
        models = [server.connect(protocol) for protocol in ("gRPC", "REST")]
        assert all(model.signatures for model in models)  # connected
        server.process.send_signal(signal.SIGSTOP)
        for model in models:
            model.timeout = 0.5
            with pytest.raises(TimeoutError, match="no answer in 0.5 s"):
                model.predict("encode", REQUESTS["encode"])
    finally:
        server.process.kill()  # the only signal that ends a stopped process
        stand_in.end(server.process)


@pytest.mark.parametrize("program", ["import time; time.sleep(600)", ""], ids=["hangs", "ends"])
def test_a_stand_in_that_does_not_start_is_an_error(tmp_path, monkeypatch, program):
    server, started, popen = tmp_path / "server.py", [], subprocess.Popen
    server.write_text(program)
    monkeypatch.setattr(stand_in, "SERVER", server)
    monkeypatch.setattr(
        subprocess, "Popen", lambda *a, **k: started.append(popen(*a, **k)) or started[-1]
    )
    timeout = 1 if program else 60
    with pytest.raises(RuntimeError, match=f"ended, or did not start in {timeout} s"):
        stand_in.Process(NAME, tmp_path, timeout=timeout)
    assert started[0].returncode is not None


def test_a_process_that_does_not_end_is_killed():
    deaf = (
        "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); "
        "print(1, flush=True); time.sleep(600)"
    )
    process = subprocess.Popen([sys.executable, "-c", deaf], stdout=subprocess.PIPE)
    process.stdout.readline()
    stand_in.end(process, timeout=0.2)
    assert process.returncode == -signal.SIGKILL


def test_rest_where_something_else_answers(tmp_path):
    from http.server import SimpleHTTPRequestHandler, ThreadingHTTPServer

    class Page(SimpleHTTPRequestHandler):
        def do_GET(self):
            self.send_response(200)
            self.end_headers()
            self.wfile.write(b"<html>")

        def log_message(self, *_):
            pass

    page = ThreadingHTTPServer(("127.0.0.1", 0), Page)
    threading.Thread(target=page.serve_forever, daemon=True).start()
    try:
        with pytest.raises(ConnectionError, match="no TensorFlow Serving"):
            remote.Rest(f"127.0.0.1:{page.server_port}", NAME).versions()
    finally:
        page.shutdown()
        page.server_close()


# ---------------------------------------------------------------------- what the client sends


def video(path, count=12, size=(48, 64)):
    """A square that moves to the right, on black."""
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"FFV1"), 25.0, size[::-1]
    )
    for t in range(count):
        frame = np.zeros((*size, 3), np.uint8)
        frame[16:32, 8 + 2 * t : 24 + 2 * t] = (0, 128, 255)  # BGR
        writer.write(frame)
    writer.release()
    return path


def read(path, shape, *arguments, **options):
    return client.stacked(own_inputs.clips(path, shape, *arguments, **options))


def test_a_video_becomes_the_frames_of_the_model(tmp_path):
    path = video(tmp_path / "v.avi")
    clips = read(path, (24, 24), 5)
    assert clips.shape == (1, 5, 24, 24) and clips.dtype == np.uint8
    # The middle 48x48 of 48x64 at half the size: the square is 8 wide and moves by 1.
    for t, frame in enumerate(clips[0]):
        lit = np.argwhere(frame > 60)
        np.testing.assert_array_equal(lit.min(0), [8, t])
        np.testing.assert_array_equal(lit.max(0), [15, 7 + t])
        assert 145 <= frame[12, t + 4] <= 155  # luma: 0.299 * 255 + 0.587 * 128 = 151
    assert read(path, (12, 24, 3), 2)[0, 0, 6, 7].tolist() == pytest.approx([255, 128, 0], abs=6)
    assert read(path, (24, 24, 1)).shape == (1, 12, 24, 24, 1)
    later = read(path, (24, 24), 2, start=0.2)
    np.testing.assert_array_equal(later[0, 0], read(path, (24, 24), 6)[0, 5])
    assert read(path, (30, 10), 2).shape == (1, 2, 30, 10)


def test_clips_of_several_lengths_and_kinds_are_one_request(tmp_path):
    np.save(tmp_path / "a.npy", PIXELS[0])
    np.save(tmp_path / "b.npy", FRAMES[0, :2])
    clips = read(tmp_path, (32, 32))
    assert clips.dtype == np.float32
    np.testing.assert_allclose(clips, [PIXELS[0, :2] / 255, FRAMES[0, :2]], atol=1e-6)
    (tmp_path / "b.npy").unlink()
    np.testing.assert_array_equal(read(tmp_path, (32, 32)), PIXELS[:1])


class Recorded:
    """A model that keeps what it is sent. Outputs are as those of a server that joined requests."""

    def __init__(self, signatures):
        self.signatures, self.sent = signatures, []

    signature = remote._Model.signature

    def predict(self, signature, inputs):
        self.sent.append((signature, inputs))
        return {"future": np.zeros((len(inputs["frames"]), 9, 32, 32), np.float32)}


def test_pixels_go_to_the_signature_of_pixels():
    frames = remote.Tensor("float32", (None, None, 32, 32))
    pixels = remote.Tensor("uint8", (None, None, 32, 32))
    steps, other = remote.Tensor("int32", (None,)), remote.Tensor("string", (None,))
    model = Recorded(
        {
            "predict_future": remote.Signature({"frames": frames, "steps": steps}, {}),
            "predict_future_uint8": remote.Signature({"frames": pixels, "steps": steps}, {}),
            "classify": remote.Signature({"frames": frames}, {}),
            "odd": remote.Signature({"frames": frames, "text": other}, {}),
        }
    )
    outputs = client.request(model, "predict_future", PIXELS, 5).send(model)
    assert outputs["future"].shape == (3, 5, 32, 32)  # of 9: others asked for more
    client.request(model, "predict_future", FRAMES, 5).send(model)
    client.request(model, "classify", PIXELS, 5).send(model)
    (first, inputs), (second, _), (third, floats) = model.sent
    assert (first, second, third) == ("predict_future_uint8", "predict_future", "classify")
    assert inputs["frames"].dtype == np.uint8 and inputs["steps"].tolist() == [5, 5, 5]
    # A signature without a form of pixels takes numbers in 0..1.
    np.testing.assert_array_equal(floats["frames"], FRAMES)
    with pytest.raises(ValueError, match="takes uint8, not float32"):
        client.request(model, "predict_future_uint8", FRAMES, 5)
    with pytest.raises(ValueError, match="more than this client can send"):
        client.request(model, "odd", FRAMES, 5)


# ---------------------------------------------------------------------- what the client keeps


def test_predictions_are_kept_as_frames_and_arrays(server, functions, tmp_path):
    model = server.connect()
    clips = read(video(tmp_path / "v.avi"), (32, 32), 4 + 6)
    asked = client.request(model, "predict_future", clips[:, :4], 6)
    outputs = asked.send(model)
    steps = np.full(1, 6, np.int32)
    assert_same(outputs, functions["predict_future_uint8"](frames=clips[:, :4], steps=steps))
    client.write(tmp_path / "all.npz", outputs, clips[:, :4], clips[:, 4:])
    client.write(tmp_path / "future.gif", outputs, clips[:, :4], clips[:, 4:])
    np.testing.assert_array_equal(np.load(tmp_path / "all.npz")["future"], outputs["future"])
    shown = Image.open(tmp_path / "future.gif")
    assert shown.n_frames == 10
    # The truth of the future is on the left, where it is known, and the model's on the right.
    shown.seek(9)
    left = np.asarray(shown.convert("L"))[30 : 30 + 128, 12 : 12 + 128]
    np.testing.assert_allclose(left[2::4, 2::4], clips[0, 9], atol=12)
    assert shown.info["duration"] == 200


def test_a_reconstruction_is_shown_in_the_order_of_time(tmp_path, monkeypatch):
    seen = {}
    monkeypatch.setattr(visualize, "gif", lambda panels, *_, **__: seen.update(panels) or b"")
    backwards = FRAMES[:1, ::-1]
    client.write(tmp_path / "a.gif", {"reconstruction": backwards}, FRAMES[:1], FRAMES[:1, :0])
    np.testing.assert_array_equal(np.stack(seen["model"]), FRAMES[0])
    with pytest.raises(ValueError, match="h_1 of frames of shape .* make no pictures"):
        client.write(tmp_path / "b.gif", {"h_1": STATES["h_1"]}, FRAMES, FRAMES)
    assert not (tmp_path / "b.gif").exists()


def test_step_streams_a_clip(server, expected):
    model = server.connect()
    outputs = client.request(model, "step", PIXELS, 1).send(model)
    assert_same({name: outputs[name] for name in STATES}, expected["encode"])


def test_a_stream_is_of_one_version(server, protocol, expected):
    model = server.connect(protocol, None)  # no version asked for: the newest, 2, would answer
    model._metadata = server.connect(protocol, 1)._metadata  # as where 2 came after first contact
    outputs = client.request(model, "step", PIXELS, 1).send(model)
    assert_same({name: outputs[name] for name in STATES}, expected["encode"])
    assert outputs.version == 1
    assert model.version is None  # other requests still go to the newest
    model.answering = 7  # as where the server has unloaded it
    with pytest.raises(ValueError, match="tiny version 7 at .*: no such model or version"):
        client.request(model, "step", PIXELS, 1).send(model)


def test_classes_are_named(server, protocol, tmp_path):
    model = server.connect(protocol, 2)
    clips = np.stack([np.full((4, 32, 32), value, np.uint8) for value in (250, 60)])
    outputs = client.request(model, "classify", clips, 1).send(model)
    lines = client.describe(outputs)
    assert "clip 1: bright 1.000, light 0.000" in lines[-2] and "clip 2: dämmrig 1.000" in lines[-1]
    assert lines[-1].count(",") == 4  # the best five
    client.write(tmp_path / "c.npz", outputs, clips, clips)
    kept = np.load(tmp_path / "c.npz")
    assert kept["classes"].tolist() == [[name.encode() for name in CLASSES]] * 2
    np.testing.assert_allclose(kept["probabilities"].sum(1), 1, atol=1e-6)


def test_status_says_what_can_be_asked(server, protocol, client_command, capsys):
    client_command.print_status(server.connect(protocol, None))
    printed = capsys.readouterr().out
    assert "tiny version 2: AVAILABLE\ntiny version 1: AVAILABLE\n" in printed
    assert "version 2 answers; signatures: classify" in printed


def run_command(*arguments):
    return commands.run("unsup_video.client", f"--model={NAME}", *arguments)


def test_the_command(server, tmp_path):
    np.save(tmp_path / "clips.npy", PIXELS)
    done = run_command(
        f"--server=127.0.0.1:{server.grpc}",
        "--version=1",
        f"--input={tmp_path / 'clips.npy'}",
        "--steps=3",
        f"--out={tmp_path / 'a.gif'}",
        f"--out={tmp_path / 'a.npz'}",
        "--requests=8",
        "--parallel=2",
    )
    assert done.returncode == 0, done.stderr
    assert "predict_future_uint8 of tiny, version 1: 4 frames of 3 clips sent" in done.stdout
    assert re.search(r"future float32 \(3, 3, 32, 32\): from 0\.\d+ to 0\.\d+", done.stdout)
    assert re.search(r"8 requests, 2 at a time: median [\d.]+ ms, 95% within", done.stdout)
    assert np.load(tmp_path / "a.npz")["future"].shape == (3, 3, 32, 32)
    assert Image.open(tmp_path / "a.gif").n_frames == 7
    assert "clips.npy" not in done.stdout  # nothing had to be converted


@pytest.fixture
def command(client_command):
    """Runs the command in this process, with errors as exceptions."""
    return lambda *arguments: client_command.main(
        flags.FLAGS(["client", f"--model={NAME}", *arguments])
    )


@pytest.mark.parametrize(("signature", "version"), [("encode", 1), ("classify", 2)])
def test_steps_go_with_signatures_that_ask_for_them(server, command, signature, version):
    with pytest.raises(
        ValueError,
        match=(
            f"--steps does not go with --signature={signature}, which does not ask how many frames"
        ),
    ):
        command(
            f"--server=127.0.0.1:{server.grpc}",
            f"--version={version}",
            f"--signature={signature}",
            "--input=clips.npy",
            "--steps=3",
        )


@pytest.mark.parametrize(
    "out, message",
    [
        ("a.txt", "a.txt: .gif or .npz expected"),
        ("no/a.npz", "the folder .*no does not exist"),
        ("folder.npz", "folder.npz is a folder"),
        ("closed/a.gif", "the folder .*closed cannot be wri"),
    ],
)
def test_where_the_answer_goes_is_checked_before_a_server_is_asked(
    tmp_path, command, monkeypatch, out, message
):
    (tmp_path / "folder.npz").mkdir()
    (tmp_path / "closed").mkdir()
    access = os.access  # root may write everywhere
    monkeypatch.setattr(
        os, "access", lambda path, mode: "closed" not in str(path) and access(path, mode)
    )
    with pytest.raises((ValueError, OSError), match=message):
        command(
            f"--server=127.0.0.1:{free_port()}",
            "--rest",
            "--input=a.npy",
            f"--out={tmp_path / out}",
        )


def test_a_picture_of_what_is_none_is_refused_before_the_input_is_read(server, command, tmp_path):
    with pytest.raises(ValueError, match="c_1, h_1 of frames of shape .* make no pictures"):
        command(
            f"--server=127.0.0.1:{server.grpc}",
            "--version=1",
            "--signature=encode",
            "--input=no_such_file.npy",
            f"--out={tmp_path / 'a.gif'}",
        )


# ---------------------------------------------------------------------- TensorFlow's C API


@pytest.mark.slow
def test_the_c_api_runs_every_signature(base_path, expected):
    from serving.stand_in import c_api

    session = c_api.Session(base_path / "1")
    try:
        for name, inputs in REQUESTS.items():
            protos = {key: tf.make_tensor_proto(value) for key, value in inputs.items()}
            assert_same(session.run(name, protos), expected[name])
        with pytest.raises(c_api.Error, match="frames must be finite"):
            session.run("encode", {"frames": tf.make_tensor_proto(FRAMES * np.nan)})
    finally:
        session.close()


# ---------------------------------------------------------------------- joined requests


@pytest.fixture(scope="module")
def joined(base_path):
    """A function of requests (signature, list of inputs) -> their results, joined to one batch.

    The requests have 3 clips together: TensorFlow gives all batch ops of a process one queue, with
    the sizes of the first.

    By TensorFlow's own op, on the scheduler that TensorFlow Serving's batching is made of. Its
    time-out is a minute: it waits until all are there, and they are sure to be joined.
    """
    loaded = tf.saved_model.load(base_path / "1")

    def call(signature, requests):
        function, names = loaded.signatures[signature], list(requests[0])
        outputs = sorted(function.structured_outputs)
        size = len(requests)
        assert sum(len(request[names[0]]) for request in requests) == 3
        sizes = tf.Variable(0)

        @tf.nondifferentiable_batch_function(1, 3, 60_000_000, max_enqueued_batches=size)
        def batched(*tensors):
            sizes.assign(tf.shape(tensors[0])[0])
            found = function(**dict(zip(names, tensors, strict=True)))
            return [found[name] for name in outputs]

        @tf.function
        def run(*tensors):
            return batched(*tensors)

        specs = [tf.TensorSpec((None,) * np.ndim(x), x.dtype) for x in requests[0].values()]
        concrete = run.get_concrete_function(*specs)

        def one(request):
            try:
                found = concrete(*(tf.constant(request[name]) for name in names))
            except tf.errors.OpError as error:
                return error
            return dict(zip(outputs, (x.numpy() for x in found), strict=True))

        with ThreadPoolExecutor(size) as pool:
            results = list(pool.map(one, requests))
        return results, int(sizes.numpy())

    return call


@pytest.mark.slow
@pytest.mark.parametrize("signature", REQUESTS)
def test_joined_requests_get_what_they_get_alone(joined, functions, signature):
    inputs = REQUESTS[signature]
    requests = [{name: x[rows] for name, x in inputs.items()} for rows in (slice(1), slice(1, 3))]
    results, size = joined(signature, requests)
    assert size == 3
    for request, result in zip(requests, results, strict=True):
        alone = functions[signature](**request)
        if "steps" in request:  # a batch is as long as the longest of it
            assert result["future"].shape[1] == 5
            for row, steps in enumerate(request["steps"]):
                np.testing.assert_allclose(
                    result["future"][row, :steps], alone["future"][row, :steps], atol=1e-5
                )
        else:
            assert_same(result, alone)


def test_joined_requests_fail_together(joined):
    """Why the kit leaves batching off unless it is asked for."""
    good = {"frames": FRAMES[:2]}
    for bad, message in [
        ({"frames": FRAMES[:1] * np.nan}, "frames must be finite"),
        ({"frames": FRAMES[:1, :2]}, "Dimensions of inputs should match"),
    ]:
        results, _ = joined("encode", [good, bad])
        assert all(isinstance(result, tf.errors.InvalidArgumentError) for result in results)
        assert all(message in result.message for result in results), results


# ---------------------------------------------------------------------- warm-up


def test_an_export_warms_up_every_signature(base_path, functions):
    log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="needs tensorflow-serving-api"
    )
    path = base_path / "1" / "assets.extra" / "tf_serving_warmup_requests"
    found = {}
    for record in tf.data.TFRecordDataset(str(path)):
        log = log_pb2.PredictionLog.FromString(record.numpy())
        request = log.predict_log.request
        expected = log_pb2.PredictionLog()
        expected.predict_log.request.model_spec.signature_name = request.model_spec.signature_name
        for name, value in request.inputs.items():
            expected.predict_log.request.inputs[name].CopyFrom(value)
        assert log == expected  # and nothing else in it
        found[request.model_spec.signature_name] = {
            name: tf.make_ndarray(value) for name, value in request.inputs.items()
        }
    assert found.keys() == REQUESTS.keys()
    assert path.stat().st_size < 2000
    for name, inputs in found.items():
        assert all(np.isfinite(x).all() for x in functions[name](**inputs).values())
    assert found["predict_future"]["frames"].shape == (1, 10, 32, 32)
    assert found["predict_future_uint8"]["frames"].dtype == np.uint8
    assert found["predict_future"]["steps"].tolist() == [10]
    assert found["step"]["h_1"].shape == (1, 8)


@pytest.mark.parametrize("size", [0, 1, 127, 128, 16383, 16384, 3_000_000])
def test_sizes_of_fields(size):
    log_pb2 = pytest.importorskip(
        "tensorflow_serving.apis.prediction_log_pb2", reason="needs tensorflow-serving-api"
    )
    value = np.arange(size, dtype=np.uint8)
    log = log_pb2.PredictionLog.FromString(
        warmup.prediction_log("s", {"x": tf.make_tensor_proto(value)})
    )
    np.testing.assert_array_equal(tf.make_ndarray(log.predict_log.request.inputs["x"]), value)


# ---------------------------------------------------------------------- the kit's files


def compose():
    yaml = pytest.importorskip("yaml", reason="needs pyyaml")
    return yaml.safe_load((KIT / "docker-compose.yml").read_text())["services"]["serving"]


def test_models_config():
    server_config = pytest.importorskip(
        "tensorflow_serving.config.model_server_config_pb2", reason="needs tensorflow-serving-api"
    )
    config = text_format.Parse(
        (KIT / "models.config").read_text(), server_config.ModelServerConfig()
    )
    mounts = dict(reversed(entry.split(":")[:2]) for entry in compose()["volumes"])
    names = set()
    for model in config.model_config_list.config:
        assert model.model_platform == "tensorflow"
        *_, mount, name = Path(model.base_path).parts
        assert name == model.name
        folder = (KIT / mounts[f"/{mount}"] / name).resolve()
        assert folder == ROOT / "saved_models" / name
        assert (folder / "1" / "saved_model.pb").exists()
        names.add(name)
    assert names == {"moving_mnist", "moving_mnist_conditional"}  # the models of the repository


def batching_parameters():
    """The message of TensorFlow Serving's session_bundle_config.proto, which no package has."""
    file = descriptor_pb2.FileDescriptorProto(name="batching.proto", syntax="proto3")
    value = file.message_type.add(name="Int64Value")
    value.field.add(name="value", number=1, type=3, label=1)
    message = file.message_type.add(name="BatchingParameters")
    for number, name in enumerate(
        ["max_batch_size", "batch_timeout_micros", "max_enqueued_batches", "num_batch_threads"], 1
    ):
        message.field.add(name=name, number=number, type=11, label=1, type_name=".Int64Value")
    message.field.add(name="pad_variable_length_inputs", number=7, type=8, label=1)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("BatchingParameters"))()


def test_batching_parameters():
    found = text_format.Parse((KIT / "batching_parameters.txt").read_text(), batching_parameters())
    assert found.max_batch_size.value == 32 and not found.pad_variable_length_inputs


def test_compose_mounts_what_it_names():
    service = compose()
    mounts = dict(reversed(entry.split(":")[:2]) for entry in service["volumes"])
    paths = re.findall(r"=(/config/\S+?)[\s}]", service["command"])
    assert len(paths) == 2
    assert all((KIT / mounts[path]).is_file() for path in paths)
    assert all(entry.startswith("127.0.0.1:") for entry in service["ports"])


def test_the_health_check(server):
    """The compose file's own command, with this server's port."""
    _, *check = compose()["healthcheck"]["test"]
    assert check[:2] == ["bash", "-c"]

    def status(name, port):
        text = check[2].replace("/8501", f"/{port}")
        text = text.replace("models/moving_mnist", f"models/{name}")
        return subprocess.run(
            ["bash", "-c", text], capture_output=True, check=False, timeout=DEADLINE
        ).returncode

    assert status(NAME, server.rest) == 0
    assert status("other", server.rest) != 0
    assert status(NAME, free_port()) != 0
