"""Measures every signature of exported models, for one clip and for many:
`python -m benchmarks.serving [--out=FILE.md]`.

TensorFlow loads the SavedModels in this process. The models are the composite on Moving MNIST and a
classifier of percepts; their weights are random, which does not change the time. `python -m
unsup_video.client --requests=100` measures gRPC and REST.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")
if __name__ == "__main__":
    os.environ["CUDA_VISIBLE_DEVICES"] = "-1"

import json
import statistics
import tempfile
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from benchmarks import _common
from unsup_video.configs import finetune, moving_mnist_1layer
from unsup_video.serving import export
from unsup_video.training import experiment
from unsup_video.training.trained import TrainedModel

CLASSES = tuple(f"class {k}" for k in range(101))  # like UCF-101


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
        calls, kept = {}, []
        for make, frames in ((composite, 10), (classifier, 16)):
            kept.append(signatures(make(args.units, args.frame_size, Path(folder, make.__name__))))
            for name, function in kept[-1].items():
                for batch in args.batches:
                    inputs = request(function, frames, batch)
                    function(**inputs)  # compiles
                    calls[batch, make.__name__, name] = lambda function=function, inputs=inputs: (
                        _common.timed(lambda: function(**inputs))
                    )
        figures = _common.interleave(calls, args.rounds)
    rows = [
        [
            model,
            f"`{name}`",
            batch,
            _common.spread([1e3 * x for x in seconds], ",.1f"),
            f"{1e3 * np.percentile(seconds, 90):,.1f}",
            f"{batch / statistics.median(seconds):,.1f}",
        ]
        for (batch, model, name), seconds in sorted(figures.items(), key=lambda pair: pair[0][0])
    ]
    columns = ["model", "signature", "clips", "ms: median (range)", "p90", "clips/s"]
    _common.report(
        "Serving",
        [
            f"{args.units} units, {args.frame_size} x {args.frame_size} pixels or percepts; "
            f"{args.rounds} interleaved rounds.",
            _common.table(columns, rows),
        ],
        args.out,
    )


if __name__ == "__main__":
    main()
