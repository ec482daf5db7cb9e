"""Runs the study of `eval.few_labels` with models of full size, under Keras' JAX backend.

    export KERAS_BACKEND=jax
    python -m benchmarks.keras_jax_few_labels --percepts=percepts.npz --split=1 --out=OUT

percepts.npz is an input of `data_prep.convert`: uint8, videos of one length, all with a label. The
protocol and the files in OUT are those of `unsup_video.evaluation.few_labels`; this module trains
the classifiers, with all percepts on the device. For each number of `--pretrain_steps`, a composite
that was pretrained on the training split is a contender.

The scale of percepts is the standard deviation of the first 16 frames of up to 500 training videos,
while `finetuning.standard_deviation` uses windows with random starts.
"""

import argparse
import dataclasses
import functools
import hashlib
import json
import math
import time
from types import SimpleNamespace

import keras
import numpy as np

from benchmarks import _common, _jax
from unsup_video.configs import finetune_few_labels, table3_composite
from unsup_video.data import convert, splits
from unsup_video.data.orders import Order
from unsup_video.evaluation import few_labels
from unsup_video.models import classification, classifiers, video_models
from unsup_video.training import fields
from unsup_video.utils import files

if keras.backend.backend() == "jax":
    import jax
    from jax import numpy as jnp


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    integers = _common.values_of(int)
    parser.add_argument("--percepts", type=_common.path, required=True, help=".npz of percepts")
    parser.add_argument("--out", type=_common.path, required=True, help="folder of the study")
    parser.add_argument("--split", type=int, default=1, help="official split, from 1")
    parser.add_argument("--subsets", type=int, default=10, help="random subsets of each size")
    parser.add_argument(
        "--per_class",
        type=integers,
        default=[1, 2, 4, 10],
        help="numbers of labelled videos per class, 0 for all",
    )
    parser.add_argument(
        "--pretrain_steps", type=integers, default=[120, 500], help="steps of each composite"
    )
    parser.add_argument(
        "--precision",
        default="bfloat16",
        choices=_jax.PRECISIONS,
        help="precision of matrix products",
    )
    parser.add_argument("--units", type=int, default=2048, help="units per layer")
    args = parser.parse_args()
    data = load(args.percepts, args.split)
    check(data, args.per_class)
    _jax.require("jax")
    with _jax.matmul_precision(args.precision):
        study(args, data)


def study(args, data):
    """Pretrains the encoders, unless OUT has them, and runs or resumes the study."""
    lab = Lab(data, args.precision)
    pretraining, finetuning = table3_composite.get_config(), finetune_few_labels.get_config()
    pretraining.data.frames_out = data.x.shape[1] - pretraining.data.frames_in
    for config in (pretraining, finetuning):
        config.model.units, config.data.split = args.units, args.split
        config.precision = args.precision
    args.out.mkdir(parents=True, exist_ok=True)
    made_of = [pretraining.to_dict(), finetuning.to_dict(), files.sha256(args.percepts)]
    digest = hashlib.sha256(json.dumps(made_of, sort_keys=True).encode()).hexdigest()[:8]
    pretrained = {}
    for steps in args.pretrain_steps:
        path = args.out / f"composite_{steps}_split{args.split}_{digest}.npz"
        if not path.exists():
            encoder = lab.pretrain(pretraining, finetuning, steps)
            with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
                np.savez(file, **encoder)
        pretrained[f"composite {steps}"] = {
            "path": str(path),
            "sha256": files.sha256(path),
            "kind": "composite",
            "conditional_reconstruction": False,
            "conditional_future": False,
        }
    settings = few_labels.Settings(
        finetuning.to_dict(),
        pretrained,
        files.sha256(args.percepts),
        tuple(args.per_class),
        args.subsets,
    )
    summaries = few_labels.run(
        settings, args.out, log=print, classes=len(data.classes), fits=functools.partial(Fits, lab)
    )
    print(f"{_jax.device()}; split {args.split}\n{few_labels.markdown(summaries)}")


# ---------------------------------------------------------------------- data


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled percepts.

    Attributes:
        x: (N, T, D) uint8. scale: the value of a stored 1. labels: (N,), from 0.
        classes: names. parts: "train", "validation" and "test" -> indices, ascending.
    """

    x: np.ndarray
    scale: float
    labels: np.ndarray
    classes: tuple[str, ...]
    parts: dict[str, np.ndarray]

    @property
    def labelled(self) -> np.ndarray:
        """Indices of the training and validation splits."""
        return np.sort(np.concatenate([self.parts["train"], self.parts["validation"]]))


def load(path, split):
    """Loads labelled percepts. Raises ValueError if a video has no label."""
    with np.load(path) as arrays:
        x, scale, labels = arrays["X"], float(arrays["scale"]), arrays["label"]
        entries = [
            SimpleNamespace(name=name, label=label, group=convert.group(name), splits=own)
            for name, label, own in zip(
                arrays["name"].astype(str).tolist(),
                labels.tolist(),
                arrays["split"].tolist(),
                strict=True,
            )
        ]
    if (labels < 0).any():
        raise ValueError(f"{path}: {entries[int(np.argmin(labels))].name} has no label")
    known, labels = np.unique(labels, return_inverse=True)
    parts = {part: np.flatnonzero(splits.choose(entries, part, split)) for part in splits.SPLITS}
    return Data(x, scale, labels, tuple(map(str, known)), parts)


def check(data, per_class):
    """Raises ValueError if a class has fewer training videos than `per_class` asks for."""
    smallest = int(np.bincount(data.labels[data.parts["train"]], minlength=len(data.classes)).min())
    if not 0 <= min(per_class) <= max(per_class) <= smallest:
        raise ValueError(
            f"--per_class: from 1 to {smallest}, the smallest class of the training split, or 0"
        )


def windows(data, videos, steps, batch, length, seed):
    """Returns the windows of `LabelledVideos.training`: videos, starts, labels, (steps, batch)."""
    order = Order(np.full(len(videos), data.x.shape[1]), length, seed)
    epochs = -(-steps * batch // order.size)
    numbers = np.concatenate([order.epoch(epoch) for epoch in range(epochs)])[: steps * batch]
    sequences, firsts = order.place(numbers)
    chosen = videos[sequences]
    return [
        values.reshape(steps, batch).astype(np.int32)
        for values in (chosen, firsts, data.labels[chosen])
    ]


# ---------------------------------------------------------------------- training


class Lab:
    """Holds the percepts on the device, and the compiled training and scoring of classifiers."""

    def __init__(self, data, precision):
        self.data, self.precision = data, precision
        self.x, self.scale = jnp.asarray(data.x), jnp.float32(data.scale)
        chosen = np.random.default_rng(0).permutation(data.parts["train"])[:500]
        length = finetune_few_labels.get_config().data.frames
        self.spread = float((data.x[chosen, :length] * np.float32(data.scale)).std())
        self._compiled = {}

    def frames(self, x):
        return x.astype(jnp.float32) * self.scale

    def pretrain(self, config, finetuning, steps):
        """Pretrains an encoder and returns {path: array}, including its scale."""
        train, frames_in = self.data.parts["train"], config.data.frames_in
        mean = self.frames(self.x[train[:500]]).mean((0, 1))
        model = _jax.build(config, self.x.shape[-1:], 0, self.precision, mean, self.spread)
        training = _jax.Training(model.network, config.recipe, _jax.video_loss(model))
        run = jax.jit(training.steps(lambda x, rows: _jax.sides(self.frames(x[rows]), frames_in)))
        rng, count = np.random.default_rng(0), steps * config.recipe.batch_size
        order = np.concatenate([rng.permutation(train) for _ in range(-(-count // len(train)))])
        rows = order[:count].reshape(steps, -1)
        state, figures = run(training.start(), self.x, (rows, _jax.rates(config.recipe, steps)))
        judged = _jax.free_running(model, frames_in, self.frames)(
            *state[:2], self.x[self.data.parts["validation"]]
        )
        means = {name: float(losses[-20:].mean()) for name, losses in figures.items()}
        print(f"pretrained for {steps} steps: training {means}, validation {judged}", flush=True)
        if not all(map(math.isfinite, means.values())):
            raise FloatingPointError("the loss is not finite")
        for variable, value in zip(model.network.trainable_variables, state[0], strict=True):
            variable.assign(value)
        classifier = self.classifier(finetuning, 0)
        names = classifiers.copy_encoder(model, classifier)
        values = {v.path: np.asarray(v.value) for v in classifier.network.variables}
        return {name: values[name] for name in names}

    def classifier(self, config, seed):
        """Builds a classifier with random weights."""
        keras.utils.set_random_seed(seed)
        classifier = classifiers.build(
            self.data.classes,
            self.x.shape[-1],
            **fields.architecture(config.model),
            initialization=video_models.Initialization(**config.recipe.init),
            gemm_dtype=_jax.PRECISIONS[self.precision][0],
        )
        classifier.frame_scale.scale.assign(self.spread)
        return classifier

    def compiled(self, config):
        """Returns (training, scoring, optimiser variables) for classifiers of a config."""
        key = config.model.kind, config.model.dropout, config.recipe.encoder_factor
        if key not in self._compiled:
            self._compiled[key] = self._compile(config)
        return self._compiled[key]

    def _compile(self, config):
        classifier, length = self.classifier(config, 0), config.data.frames
        starts = np.arange(0, self.x.shape[1] - length + 1, config.data.stride)

        def loss(outputs, labels):
            mean = classifiers.step_cross_entropy(labels, outputs)
            return mean, mean

        def read(x, videos, firsts):
            return self.frames(x[videos[:, None], firsts[:, None] + jnp.arange(length)])

        def batch(x, row):
            videos, firsts, labels = row
            return read(x, videos, firsts), labels

        training = _jax.Training(classifier.network, config.recipe, loss)

        @jax.jit
        def judge(weights, others, x, videos):
            logits = [
                classifier.network.stateless_call(
                    weights, others, read(x, videos, jnp.full(len(videos), first)), training=False
                )[0]
                for first in starts
            ]
            return jnp.stack([jax.nn.softmax(values).mean(1) for values in logits], axis=1)

        return jax.jit(training.steps(batch)), judge, training.start()[2]


class Fits:
    """Trains one contender, like `few_labels_fits.Fits` under TensorFlow."""

    def __init__(self, lab, settings, contender, per_class):
        self.lab, self.settings, self.per_class = lab, settings, per_class
        self.config = few_labels.contender_config(settings, contender)
        self.encoder = {}
        if init := settings.pretrained.get(settings.classifier(contender)[1]):
            with np.load(init["path"]) as arrays:
                self.encoder = dict(arrays)

    def search(self, rate, dropout, subset):
        parts = self.lab.data.parts
        return self._fit(rate, dropout, subset, parts["train"], parts["validation"])

    def test(self, rate, dropout, subset):
        data = self.lab.data
        return self._fit(rate, dropout, subset, data.labelled, data.parts["test"])

    def _fit(self, rate, dropout, subset, pool, judged):
        began, lab, data, seed = time.perf_counter(), self.lab, self.lab.data, self.settings.seed
        videos = pool
        if self.per_class:
            videos = pool[splits.few(data.labels[pool], self.per_class, seed + subset)]
        config = few_labels.fit_config(
            self.settings, self.config, len(videos), rate, dropout, subset
        )
        steps, batch = config.train.steps, config.recipe.batch_size
        # The same seed gives every contender the same initial softmax and the same windows.
        network = lab.classifier(config, config.seed).network
        weights, others = (
            [jnp.asarray(self.encoder.get(v.path, v.value)) for v in variables]
            for variables in (network.trainable_variables, network.non_trainable_variables)
        )
        train, judge, slots = lab.compiled(config)
        xs = windows(data, videos, steps, batch, config.data.frames, config.seed)
        (weights, others, _), losses_ = train(
            (weights, others, slots), lab.x, (xs, _jax.rates(config.recipe, steps))
        )
        blocks = np.asarray(judge(weights, others, lab.x, judged))  # (videos, blocks, K)
        if not np.isfinite(blocks).all():
            return {"diverged": True, "why": "the probabilities are not finite"}
        owners = np.repeat(np.arange(len(judged)), blocks.shape[1])
        blocks = blocks.reshape(-1, len(data.classes)).astype(np.float64)
        means = classification.video_means(blocks, owners, len(judged))
        figures = classification.Predictions(means, blocks, owners, None, None).figures(
            data.labels[judged]
        )
        return {
            "accuracy": figures["video_accuracy"],
            "cross_entropy": figures["video_cross_entropy"],
            "window_accuracy": figures["window_accuracy"],
            "videos": len(videos),
            "steps": steps,
            "loss": float(losses_.mean()),
            "seconds": round(time.perf_counter() - began, 3),
        }


if __name__ == "__main__":
    main()
