"""Measures every signature of exported models, for one clip and for many:
`python -m benchmarks.serving [--out=FILE.md]`.

TensorFlow loads the SavedModels in this process. The models are the composite on Moving MNIST and a
classifier of percepts; their weights are random, which does not change the time. The floor is the
time of the matrix products of a signature alone: of each the longer of reading its weights and of
computing it, at the rates that this machine reaches in the same rounds. `python -m
unsup_video.client --requests=100` measures gRPC and REST.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import dataclasses
import functools
import json
import statistics
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks import _common
from unsup_video.configs import finetune, moving_mnist_1layer
from unsup_video.models.classifiers import Classifier
from unsup_video.serving import export
from unsup_video.training import experiment
from unsup_video.training.trained import TrainedModel

CLASSES = tuple(f"class {k}" for k in range(101))  # like UCF-101


@dataclasses.dataclass(frozen=True)
class Product:
    """A matrix product of a request.

    Attributes:
        weights: number of weights. steps: time steps that one product covers. times: number of
            products, each of which waits for the one before and reads the weights again.
    """

    weights: int
    steps: int = 1
    times: int = 1

    def floor(self, batch: int, bandwidth: float, rate: float) -> float:
        """Returns the seconds for so many clips, at a rate in bytes/s and one in FLOP/s."""
        read, compute = 4 * self.weights, 2 * self.weights * self.steps * batch
        return self.times * max(read / bandwidth, compute / rate)


def products(model, frames_in: int, frames_out: int) -> dict[str, list[Product]]:
    """Returns signature -> its products, for a model whose decoders are not conditional.

    Signatures of pixels have those of their float32 forms. A first recurrent product, of a state
    of zeros, is none.
    """

    def size(variable):
        return int(np.prod(variable.shape))

    def stack(cells, steps, from_zeros=False):
        inputs = [Product(size(cell.kernel), steps) for cell in cells if cell.kernel is not None]
        return inputs + [
            Product(size(cell.recurrent_kernel), times=steps - from_zeros) for cell in cells
        ]

    encode, step = stack(model.cells, frames_in, from_zeros=True), stack(model.cells, 1)
    if isinstance(model, Classifier):
        head = size(model.head.kernel)
        classify = [*encode, Product(head, frames_in)]
        step = [*step, Product(head)]
        return {"serving_default": classify, "classify": classify, "encode": encode, "step": step}

    def decode(name, steps):
        layer = model.decoder_layers[name]
        return [*stack(layer.cells, steps), Product(size(layer.kernel), steps)]

    reconstruct, predict = decode("reconstruction", frames_in), decode("future", frames_out)
    return {
        "serving_default": encode + reconstruct + predict,
        "encode": encode,
        "reconstruct": encode + reconstruct,
        "predict_future": encode + predict,
        "step": step + decode("future", 1),
    }


def composite(units: int, frame_size: int, folder: Path) -> TrainedModel:
    """Builds the paper's model of Moving MNIST."""
    config, shape = moving_mnist_1layer.get_config(), (frame_size, frame_size)
    config.model.units, config.data.frame_size = units, frame_size
    model = experiment.build_model(config, shape, np.full(frame_size**2, 0.05, np.float32))
    return TrainedModel(folder, config, model, 0, "", shape, None)


def classifier(units: int, frame_size: int, folder: Path) -> TrainedModel:
    """Builds a classifier of percepts that have as many values as a frame has pixels."""
    config, shape = finetune.get_config(), (frame_size**2,)
    config.model.update({"units": units, "init": "none"})
    return TrainedModel(
        folder, config, experiment.build_classifier(config, CLASSES, shape), 0, "", shape, None
    )


def signatures(trained: TrainedModel) -> dict:
    """Exports and loads a model, and returns its signatures."""
    trained.path.mkdir()  # for run.json, which the model card needs
    run = {"data": {"kind": "none", "source": "random weights, for a measurement"}}
    (trained.path / "run.json").write_text(json.dumps(run))
    version = export.write(trained, trained.path.with_name(f"{trained.path.name}_exported"))
    return tf.saved_model.load(version).signatures


def request(function, frames: int, batch: int) -> dict[str, tf.Tensor]:
    """Returns random inputs of a signature."""
    random, inputs = np.random.default_rng(0), {}
    for name, spec in function.structured_input_signature[1].items():
        shape = [(batch, frames)[axis] if n is None else n for axis, n in enumerate(spec.shape)]
        values = np.full(shape, 10) if spec.dtype == tf.int32 else 255 * random.random(shape)
        scale = 1 if spec.dtype.is_integer else 255
        inputs[name] = tf.cast(values / scale, spec.dtype)
    return inputs


def main():
    parser = _common.flags(__doc__)
    parser.set_defaults(rounds=25)
    parser.add_argument("--frame_size", type=int, default=64, help="side of a frame in pixels")
    parser.add_argument("--batches", type=int, nargs="+", default=[1, 64], help="clips per request")
    args = parser.parse_args()
    keras.utils.set_random_seed(0)
    with tempfile.TemporaryDirectory() as folder:
        calls, kept, work = {}, [], {}
        for make, frames in ((composite, 10), (classifier, 16)):
            trained = make(args.units, args.frame_size, Path(folder, make.__name__))
            work[make.__name__] = products(trained.model, frames, 10)
            kept.append(signatures(trained))
            for name, function in kept[-1].items():
                for batch in args.batches:
                    inputs = request(function, frames, batch)
                    function(**inputs)  # compiles
                    calls[batch, make.__name__, name] = lambda function=function, inputs=inputs: (
                        _common.timed(lambda: function(**inputs))
                    )
        recurrent = round(16 * args.units**2 / 2**20) or 1  # MiB of a recurrent kernel
        calls["bandwidth"] = functools.partial(_common.read_bandwidth, recurrent)
        calls["rate"] = functools.partial(_common.gemm_rate, 4 * args.units, 4096, 1000)
        figures = _common.interleave(calls, args.rounds)
    bandwidth, rate = (statistics.median(figures.pop(name)) for name in ("bandwidth", "rate"))

    def floor(batch, model, name):
        needed = work[model][name.removesuffix("_uint8")]
        return sum(product.floor(batch, bandwidth, rate) for product in needed)

    rows = [
        [
            model,
            f"`{name}`",
            batch,
            _common.spread([1e3 * x for x in seconds], ",.1f"),
            f"{1e3 * np.percentile(seconds, 90):,.1f}",
            f"{batch / statistics.median(seconds):,.1f}",
            f"{1e3 * floor(batch, model, name):,.1f}",
            f"{statistics.median(seconds) / floor(batch, model, name):.2f}",
        ]
        for (batch, model, name), seconds in sorted(figures.items(), key=lambda pair: pair[0][0])
    ]
    columns = ["model", "signature", "clips", "ms: median (range)", "p90", "clips/s"]
    columns += ["floor, ms", "times the floor"]
    _common.report(
        "Serving",
        [
            f"{args.units} units, {args.frame_size} x {args.frame_size} pixels or percepts; "
            f"{args.rounds} interleaved rounds.",
            _common.table(columns, rows),
            f"Floor: a matrix of {recurrent} MiB is read at {bandwidth / 1e9:.1f} GB/s, and the "
            f"product of {4 * args.units} x 4096 x 1000 runs at {rate / 1e9:.0f} GFLOP/s, both "
            "medians of the rounds.",
        ],
        args.out,
    )


if __name__ == "__main__":
    main()
