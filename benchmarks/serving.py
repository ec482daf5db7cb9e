"""Exported models: every signature against what the machine allows, and what a hop over gRPC, and
over REST, adds: `python -m benchmarks.serving [--out=FILE.md]`.

The models, of random weights, are exported to a temporary folder: the composite on Moving MNIST and
a classifier of percepts. The signatures are called as TensorFlow loads them from the SavedModel.
The hop is that of the project's client (`unsup_video.serving.remote`) to the stand-in for TensorFlow
Serving (serving/stand_in), over loopback; it needs tensorflow-serving-api.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"  # also of the stand-in; the floor is the CPU's

import collections
import contextlib
import dataclasses
import functools
import json
import re
import statistics
import tempfile
import time
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from tensorflow_serving.apis import predict_pb2

from benchmarks import _common
from serving import stand_in
from unsup_video.configs import finetune, moving_mnist_1layer
from unsup_video.models.classifiers import Classifier
from unsup_video.models.video_models import VideoModel
from unsup_video.serving import export, remote
from unsup_video.training import experiment
from unsup_video.training.trained import Trained

CLASSES = tuple(f"class {k}" for k in range(101))  # as many as UCF-101 has
# Of the hop: what is asked of which model; the first one also in other ways.
HOPS = {
    "composite": ("predict_future_uint8", "predict_future", "encode_uint8"),
    "classifier": ("classify",),
}
PARTS = ("serialise", "wire", "tensors", "run", "parse")  # of a request, see `Client.parts`
PARALLEL = 4  # requests at a time
FLOAT = 4  # bytes

# ---------------------------------------------------------------------- the floor


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix of weights, and what a signature does with it for each clip.

    Attributes:
        weights: how many it has. steps: of time at which it is used. loop: whether each step waits
            for the one before, so that the matrix is read for each; else one product does all.
    """

    weights: int
    steps: int
    loop: bool = False


def _stack(cells, steps, from_zeros=False):
    """Products of LSTMs; the first one with a state of zeros is none, as in `_common.Size.flop`."""
    inputs = [_size(cell.kernel) for cell in cells if cell.kernel is not None]
    return [Product(size, steps) for size in inputs] + [
        Product(_size(cell.recurrent_kernel), steps - from_zeros, loop=True) for cell in cells
    ]


def _size(variable):
    return int(np.prod(variable.shape))


def work(
    model: VideoModel | Classifier, frames_in: int, frames_out: int
) -> dict[str, list[Product]]:
    """Signature -> its products, for clips of `frames_in` frames, `frames_out` of them predicted.

    Raises ValueError: a conditional decoder, which multiplies by all of its matrices in turn.
    """
    encode, step = _stack(model.cells, frames_in, from_zeros=True), _stack(model.cells, 1)
    if isinstance(model, Classifier):
        head = _size(model.head.kernel)
        classify = [*encode, Product(head, frames_in)]
        return {
            "serving_default": classify,
            "classify": classify,
            "encode": encode,
            "step": [*step, Product(head, 1)],
        }
    if model.conditional:
        raise ValueError("the floor of conditional decoders is not known here")

    def decode(name, steps):
        decoder = model.decoder_layers[name]
        return [*_stack(decoder.cells, steps), Product(_size(decoder.kernel), steps)]

    steps = {"reconstruction": frames_in, "future": frames_out}
    found = {
        "serving_default": sum((decode(name, steps[name]) for name in model.outputs), encode),
        "encode": encode,
    }
    if "reconstruction" in model.outputs:
        found["reconstruct"] = encode + decode("reconstruction", frames_in)
    if "future" in model.outputs:
        found["predict_future"] = encode + decode("future", frames_out)
        found["step"] = step + decode("future", 1)
    return found


def flop(products: Sequence[Product], batch: int) -> int:
    """Floating-point operations: 2 for each weight, clip and step."""
    return 2 * batch * sum(product.weights * product.steps for product in products)


@dataclasses.dataclass(frozen=True)
class Read:
    """A matrix is read, and multiplied by.

    Attributes:
        size: its bytes. among: bytes that are read over and over, this matrix one of them or all.
        flop: operations with it, for a clip. times: how often all that happens.
    """

    size: int
    among: int
    flop: int
    times: int = 1


def reads(products: Sequence[Product]) -> list[Read]:
    """What a request has to do, one after the other.

    All matrices are read once for each request, so over and over are all of them; and a recurrent
    one, that alone, for each further step.
    """
    used = [product for product in products if product.steps]
    whole = FLOAT * sum(product.weights for product in used)
    found = []
    for product in used:
        size, flop_a_step = FLOAT * product.weights, 2 * product.weights
        if product.loop:
            found += [
                Read(size, whole, flop_a_step),
                Read(size, size, flop_a_step, product.steps - 1),
            ]
        else:
            found.append(Read(size, whole, flop_a_step * product.steps))
    return [read for read in found if read.times]


@dataclasses.dataclass(frozen=True)
class Rates:
    """What the machine reaches. Attributes: gemm, FLOP/s; bandwidth, bytes that are read over and
    over -> bytes/s."""

    gemm: float
    bandwidth: dict[int, float]

    def floor(self, products: Sequence[Product], batch: int) -> float:
        """Seconds: of each product the longer of reading its weights and of computing it."""
        return sum(
            read.times * max(read.size / self.bandwidth[read.among], batch * read.flop / self.gemm)
            for read in reads(products)
        )


# ---------------------------------------------------------------------- the models


@dataclasses.dataclass(frozen=True)
class Exported:
    """An exported model.

    Attributes:
        path: of its version. about: it, in words. work: what `work` gives. signatures: loaded by
            TensorFlow. frames_in, frames_out: of a clip that is sent, and predicted.
    """

    path: Path
    about: str
    work: dict[str, list[Product]]
    signatures: dict
    frames_in: int
    frames_out: int

    def request(self, signature: str, batch: int) -> dict[str, np.ndarray]:
        """Random inputs of a signature, by name."""
        specs = self.signatures[signature].structured_input_signature[1]
        return {name: self._random(spec, batch) for name, spec in specs.items()}

    def _random(self, spec, batch):
        random, sizes = np.random.default_rng(0), (batch, self.frames_in)
        shape = [sizes[axis] if size is None else size for axis, size in enumerate(spec.shape)]
        if spec.dtype == tf.int32:
            return np.full(shape, self.frames_out, np.int32)
        if spec.dtype == tf.uint8:
            return random.integers(0, 256, shape, np.uint8)
        return random.random(shape, np.float32)


def composite(units: int, frame_size: int, folder: Path) -> Exported:
    """The paper's model of Moving MNIST, exported to `folder`/composite."""
    config = moving_mnist_1layer.get_config()
    config.model.units, config.data.frame_size = units, frame_size
    shape, data = (frame_size, frame_size), config.data
    model = experiment.build_model(config, shape, np.full(frame_size**2, 0.05, np.float32))
    about = (
        f"composite (`moving_mnist_1layer`): 1 x {units} units, frames of {frame_size} x "
        f"{frame_size}, {data.frames_in} read, {data.frames_out} predicted"
    )
    return _exported(
        Trained(folder / "origin", config, model, 0, "", shape, None),
        folder / "composite",
        about,
        data.frames_in,
        data.frames_out,
    )


def classifier(units: int, frame_dim: int, folder: Path) -> Exported:
    """A classifier of percepts of two layers, exported to `folder`/classifier."""
    config = finetune.get_config()
    config.model.update({"units": units, "init": "none"})
    model = experiment.build_classifier(config, CLASSES, (frame_dim,))
    about = (
        f"classifier: {config.model.layers} x {units} units, percepts of {frame_dim} values, "
        f"{config.data.frames} read, {len(CLASSES)} classes"
    )
    return _exported(
        Trained(folder / "origin", config, model, 0, "", (frame_dim,), None),
        folder / "classifier",
        about,
        config.data.frames,
        0,
    )


def _exported(trained, out, about, frames_in, frames_out):
    trained.path.mkdir(exist_ok=True)  # what the model card says of a run
    run = {"data": {"kind": "none", "source": "random weights, for a measurement"}}
    (trained.path / "run.json").write_text(json.dumps(run))
    version = export.write(trained, out)
    signatures = tf.saved_model.load(version).signatures
    products = work(trained.model, frames_in, frames_out)
    return Exported(version, about, products, signatures, frames_in, frames_out)


# ---------------------------------------------------------------------- measuring


def burst(call: Callable[[], _common.T], count: int) -> list[_common.T]:
    """What `count` calls give, one after the other. Of several the first, which finds the caches
    full of what ran before, is not counted."""
    first = 1 if count > 1 else 0
    return [call() for _ in range(first + count)][first:]


def from_tensors(function: Callable, inputs: dict[str, np.ndarray]) -> Callable[[], float]:
    """A function that gives the seconds of a signature's call, from tensors to tensors."""
    tensors = {name: tf.constant(value) for name, value in inputs.items()}
    function(**tensors)  # compiles
    return lambda: _common.timed(lambda: function(**tensors))


def from_arrays(function: Callable, inputs: dict[str, np.ndarray]) -> Callable[[], float]:
    """The same from arrays to arrays, as the client has them."""

    def call():
        outputs = function(**{name: tf.constant(value) for name, value in inputs.items()})
        return [value.numpy() for value in outputs.values()]

    call()  # compiles
    return lambda: _common.timed(call)


class Client(remote.Grpc):
    """The project's client, which also says where the time of a request goes."""

    def __init__(self, server: str, name: str):
        super().__init__(server, name)
        self._noted = collections.Counter()
        predict = self._channel.unary_unary(  # as the stub makes it
            "/tensorflow.serving.PredictionService/Predict",
            self._noting("serialise", predict_pb2.PredictRequest.SerializeToString),
            self._noting("parse", predict_pb2.PredictResponse.FromString),
        )

        def noting_the_server(request, timeout):
            response, call = predict.with_call(request, timeout=timeout)
            timing = dict(call.trailing_metadata())["server-timing"]
            for part, milliseconds in re.findall(r"(\w+);dur=([\d.]+)", timing):
                self._noted[part] += float(milliseconds) / 1e3
            return response

        self._prediction.Predict = noting_the_server
        self._request = self._noting("serialise", self._request)
        self._outputs = self._noting("parse", self._outputs)

    def _noting(self, part, function):
        def noted(*arguments):
            start = time.perf_counter()
            result = function(*arguments)
            self._noted[part] += time.perf_counter() - start
            return result

        return noted

    def parts(self, signature: str, inputs: dict[str, np.ndarray]) -> dict[str, float]:
        """Seconds of a request by `PARTS`, which are all of it.

        serialise: from arrays to bytes, by the client. wire: gRPC on both sides, loopback, and the
        server's bytes. tensors: from the request's message to TensorFlow's tensors, and from those
        to the answer's. run: of the graph. parse: from bytes to arrays, by the client.
        """
        self._noted.clear()
        seconds = _common.timed(self.predict, signature, inputs)
        noted = self._noted
        return {
            "serialise": noted["serialise"],
            "wire": seconds - noted["serialise"] - noted["total"] - noted["parse"],
            "tensors": noted["total"] - noted["run"],
            "run": noted["run"],
            "parse": noted["parse"],
        }

    def sizes(self, signature: str, inputs: dict[str, np.ndarray]) -> tuple[int, int]:
        """Bytes of the message that is sent, and of the answer."""
        request = self._request(signature, inputs)
        answer = self._call(self._prediction.Predict, request)
        return request.ByteSize(), answer.ByteSize()


def connected(
    stack: contextlib.ExitStack, name: str, model: Exported
) -> tuple[Client, remote.Rest]:
    """Clients of a stand-in that serves the model; all end with the stack."""
    server = stack.enter_context(stand_in.Process(name, model.path.parent))
    client = Client(f"127.0.0.1:{server.grpc}", name)
    stack.callback(client.close)
    return client, remote.Rest(f"127.0.0.1:{server.rest}", name)


def rates_measured(models: dict[str, Exported], gemm: tuple[int, int, int]) -> dict:
    """("gemm",) and ("bandwidth", bytes) -> a function that gives the rate."""
    sizes = {
        read.among
        for model in models.values()
        for products in model.work.values()
        for read in reads(products)
    }
    megabytes = {size: max(1, round(size / 2**20)) for size in sorted(sizes)}
    return {("gemm",): functools.partial(_common.gemm_rate, *gemm)} | {
        ("bandwidth", size): functools.partial(_common.read_bandwidth, count)
        for size, count in megabytes.items()
    }


def alone(models: dict[str, Exported], batch: int, count: int) -> dict:
    """("alone", batch, model, signature) -> a function that gives the seconds of `count` calls."""
    return {
        ("alone", batch, name, signature): functools.partial(
            burst, from_tensors(model.signatures[signature], model.request(signature, batch)), count
        )
        for name, model in models.items()
        for signature in model.work
    }


def hops(
    models: dict[str, Exported], clients: dict[str, Client], batch: int, count: int
) -> tuple[dict, dict]:
    """({("direct" or "hop", model, signature, batch): a function that gives the seconds of `count`
    requests, of a hop by parts}, {(model, signature, batch): `Client.sizes`})."""
    found, sizes = {}, {}
    for name, model in models.items():
        for signature in HOPS[name]:
            inputs, case = model.request(signature, batch), (name, signature, batch)
            direct = from_arrays(model.signatures[signature], inputs)
            sizes[case] = clients[name].sizes(signature, inputs)  # the server compiles
            hop = functools.partial(clients[name].parts, signature, inputs)
            found["direct", *case] = functools.partial(burst, direct, count)
            found["hop", *case] = functools.partial(burst, hop, count)
    return found, sizes


def a_request(predict: Callable, count: int, parallel: int) -> float:
    """Seconds for each of `count` calls, so many of them at a time."""
    with ThreadPoolExecutor(parallel) as pool:
        return _common.timed(lambda: list(pool.map(lambda _: predict(), range(count)))) / count


def ways(
    models: dict[str, Exported],
    clients: dict[str, Client],
    rests: dict[str, remote.Rest],
    count: int,
) -> dict:
    """("way", model, signature, how) -> a function that gives `a_request` of one clip each."""
    found = {}
    for name, model in models.items():
        signature = HOPS[name][0]
        inputs = model.request(signature, 1)
        for how, client, parallel in [
            ("gRPC", clients[name], 1),
            (f"gRPC, {PARALLEL} at a time", clients[name], PARALLEL),
            ("REST", rests[name], 1),
        ]:
            predict = functools.partial(client.predict, signature, inputs)
            predict()  # connects, and asks for the signatures
            found["way", name, signature, how] = functools.partial(
                a_request, predict, max(count, 2 * parallel), parallel
            )
    return found


# ---------------------------------------------------------------------- the report


def latency_table(models, rates, bursts) -> str:
    """Of one clip. Args: bursts: (model, signature) -> rounds of seconds."""
    rows = []
    for (name, signature), rounds in bursts.items():
        products = models[name].work[signature]
        floor = rates.floor(products, 1)
        medians = [statistics.median(seconds) for seconds in rounds]
        p50, p90 = np.percentile(np.concatenate(rounds), [50, 90])
        rows.append(
            [
                name,
                f"`{signature}`",
                _ms(medians),
                f"{1e3 * p50:,.1f}",
                f"{1e3 * p90:,.1f}",
                f"{1 / p50:,.1f}",
                f"{sum(read.times * read.size for read in reads(products)) / 1e6:,.0f}",
                f"{1e3 * floor:,.1f}",
                f"{statistics.median(medians) / floor:,.2f}",
            ]
        )
    return _common.table(
        [
            "model",
            "signature",
            "ms: median of rounds (range)",
            "p50",
            "p90",
            "requests/s",
            "MB read",
            "floor, ms",
            "times the floor",
        ],
        rows,
    )


def throughput_table(models, rates, bursts, batch) -> str:
    """Of many clips. Args: bursts: (model, signature) -> rounds of seconds."""
    rows = []
    for (name, signature), rounds in bursts.items():
        products = models[name].work[signature]
        floor = rates.floor(products, batch)
        seconds = [statistics.median(found) for found in rounds]
        median = statistics.median(seconds)
        rows.append(
            [
                name,
                f"`{signature}`",
                _ms(seconds),
                f"{batch / median:,.1f}",
                f"{flop(products, batch) / 1e9:,.1f}",
                f"{1e3 * floor:,.1f}",
                f"{median / floor:,.2f}",
            ]
        )
    return _common.table(
        [
            "model",
            "signature",
            "ms: median (range)",
            "clips/s",
            "GFLOP",
            "floor, ms",
            "times the floor",
        ],
        rows,
    )


def hop_table(direct, hops, sizes) -> str:
    """Args: direct, hops: (model, signature, batch) -> rounds of seconds, and of `Client.parts`.
    sizes: the same -> (sent, answered), bytes."""
    rows = []
    for (name, signature, batch), rounds in hops.items():
        parts = [part for found in rounds for part in found]
        medians = {part: statistics.median(found[part] for found in parts) for part in PARTS}
        added = [
            statistics.median(sum(part.values()) - part["run"] for part in found)
            for found in rounds
        ]
        whole = [statistics.median(sum(part.values()) for part in found) for found in rounds]
        alone = [statistics.median(seconds) for seconds in direct[name, signature, batch]]
        sent, answered = sizes[name, signature, batch]
        rows.append(
            [
                f"{name}, `{signature}`",
                batch,
                f"{sent / 1e6:.2g}",
                f"{answered / 1e6:.2g}",
                _ms(alone),
                _ms(whole),
                _ms(added, ",.2f"),
                *(f"{1e3 * medians[part]:,.2f}" for part in PARTS),
            ]
        )
    return _common.table(
        [
            "request",
            "clips",
            "MB sent",
            "MB answered",
            "in process, ms: median (range)",
            "over gRPC, ms",
            "the hop, ms",
            *PARTS,
        ],
        rows,
    )


def ways_table(rounds) -> str:
    """Args: rounds: (model, signature, how) -> `a_request` of each round."""
    rows = [
        [f"{name}, `{signature}`", how, _ms(found), f"{1 / statistics.median(found):,.1f}"]
        for (name, signature, how), found in rounds.items()
    ]
    return _common.table(["request", "how", "ms a request: median (range)", "requests/s"], rows)


def _ms(seconds, form=",.1f"):
    return _common.spread([1e3 * x for x in seconds], form)


def about_the_floor(rates: Rates, gemm: tuple[int, int, int]) -> list[str]:
    """What is assumed, and the rates."""
    bandwidth = [
        [f"{size / 1e6:,.1f}", f"{rate / 1e9:.1f}"]
        for size, rate in sorted(rates.bandwidth.items())
    ]
    return [
        f"""## The floor

The products of a signature one after the other; each takes the longer of reading its weights and of
computing it, at the best rates of all rounds. Frames, states and gates are not counted.

- Read are, in float32, all matrices of a signature once for each request, and a recurrent one again
  for each further step of time. Whether a cache keeps them is measured, not assumed: a request's
  matrices are read at the rate of reading as many bytes over and over, a recurrent one at that of
  reading it alone over and over (below; at least 1 MB). The last-level cache has
  {_common.last_level_cache()}, says the operating system; a virtual machine has an unknown share of
  it.
- Computed are 2 operations for each weight, clip and step, at the rate of one product of
  {" x ".join(map(str, gemm))}: {rates.gemm / 1e9:.1f} GFLOP/s. A first recurrent product, of a
  state of zeros, is none.""",
        _common.table(["MB that are read over and over", "GB/s"], bandwidth),
    ]


ABOUT = """The command writes this page anew; nothing else should run on the machine meanwhile. It
needs `tensorflow-serving-api`, no data and no training: the models have random weights, which take
as long as others. GPUs are hidden from it."""

ABOUT_THE_HOP = """The hop is all but the run of the graph; its parts are medians over all requests.

- `serialise`: the client, from arrays to bytes; `parse`: back.
- `wire`: gRPC on both sides, loopback, and the server's bytes.
- `tensors`: the server, between messages and tensors; `run`: the graph.

The server is the tests' stand-in, in Python over TensorFlow's C API, in a process of its own.
TensorFlow Serving is C++, should need less for `wire` and `tensors`, and was not measured."""


def main():
    parser = _common.flags(__doc__)
    parser.set_defaults(rounds=5)
    parser.add_argument("--models", nargs="+", choices=list(HOPS), default=list(HOPS))
    parser.add_argument(
        "--frame_size",
        type=int,
        default=64,
        help="of a side, pixels; percepts have as many values as a frame",
    )
    parser.add_argument("--batch", type=int, default=64, help="clips, for the throughput")
    parser.add_argument("--requests", type=int, default=20, help="of one clip, in each round")
    args = parser.parse_args()
    if args.batch < 2:
        parser.error("--batch: at least 2; one clip is measured in any case")
    keras.utils.set_random_seed(0)

    with contextlib.ExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory()))
        make = {
            "composite": lambda: composite(args.units, args.frame_size, folder),
            "classifier": lambda: classifier(args.units, args.frame_size**2, folder),
        }
        models = {name: make[name]() for name in args.models}
        clients, rests = {}, {}
        for name, model in models.items():
            clients[name], rests[name] = connected(stack, name, model)
        gemm = 4 * args.units, args.frame_size**2, 1000  # a large product of such a model
        few = -(-args.requests // 4)
        hops_of_one, sizes_of_one = hops(models, clients, 1, few)
        hops_of_many, sizes_of_many = hops(models, clients, args.batch, 1)
        figures = _common.interleave(
            {
                **rates_measured(models, gemm),
                **alone(models, 1, args.requests),
                **alone(models, args.batch, 1),
                **hops_of_one,
                **hops_of_many,
                **ways(models, clients, rests, few),
            },
            args.rounds,
        )

    def of(*kind):
        return {
            key[len(kind) :]: found for key, found in figures.items() if key[: len(kind)] == kind
        }

    bandwidth = {size: max(found) for (size,), found in of("bandwidth").items()}
    rates = Rates(max(figures["gemm",]), bandwidth)
    count = args.requests * args.rounds
    _common.report(
        "Serving",
        [
            ABOUT,
            "\n".join(f"- {model.about}" for model in models.values()),
            f"""## One clip

Every signature in process, as TensorFlow loads it from the SavedModel: {count} requests in
{args.rounds} interleaved rounds. p50 and p90 are of all requests: half, and 90%, took at most as
long.""",
            latency_table(models, rates, of("alone", 1)),
            f"""## {args.batch} clips

The same with {args.batch} clips in a request, {args.rounds} rounds.""",
            throughput_table(models, rates, of("alone", args.batch), args.batch),
            *about_the_floor(rates, gemm),
            """## The hop over gRPC

The same request in process, and by the project's client (`unsup_video.serving.remote`) over loopback.""",
            hop_table(of("direct"), of("hop"), sizes_of_one | sizes_of_many),
            ABOUT_THE_HOP,
            f"""## Other ways to ask

Requests of one clip to the same server: one after the other, {PARALLEL} at a time, and by REST. The
time of all, divided by their number.""",
            ways_table(of("way")),
        ],
        args.out,
    )


if __name__ == "__main__":
    main()
