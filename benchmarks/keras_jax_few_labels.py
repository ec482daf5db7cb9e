"""The study of `eval.few_labels` with models of full size, under Keras' JAX backend.

    export KERAS_BACKEND=jax
    python -m benchmarks.keras_jax_few_labels --percepts=percepts.npz --split=1 --out=OUT

percepts.npz is what `data_prep.convert` takes: uint8, videos of one length, all with a label. On
the same random subsets it trains an LSTM from random weights, the same one from a composite that
was pretrained on the training part, and regression on single frames. Learning rates are chosen on
the validation part; so is ONE number of pretraining steps, by the mean over all numbers of videos:
the pretrained contender has that much more choice than the others. The test part is read by what
was chosen without it.

Not here: regression on the mean frame, all labels (`--per_class` is at least 1), a search over
dropout, and going on with a study. The scale of percepts is the standard deviation of the first 16
frames of up to 500 training videos, where `finetuning.spread` takes windows at random places.
"""

import argparse
import dataclasses
import functools
import math
import time
from types import SimpleNamespace

import keras
import numpy as np

from benchmarks import _common, _jax
from unsup_video.configs import finetune_few_labels, percepts
from unsup_video.data import convert, splits
from unsup_video.evaluation import few_labels
from unsup_video.models import classification, classifiers, video_models
from unsup_video.utils import files

if keras.backend.backend() == "jax":
    import jax
    from jax import numpy as jnp

LEARNING_RATES = (3e-4, 1e-3, 3e-3)  # these and what follows are the defaults of `eval.few_labels`
SEARCH_SUBSETS = 2
EPOCHS = 12


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
        allow_abbrev=False,
    )
    integers = _jax.values_of(int)
    parser.add_argument("--percepts", type=_common.path, required=True)
    parser.add_argument("--out", type=_common.path, required=True, help="folder of what is written")
    parser.add_argument("--split", type=int, default=1, help="official split, from 1")
    parser.add_argument("--subsets", type=int, default=10, help="random subsets of each number")
    parser.add_argument("--per_class", type=integers, default=[1, 2, 4, 10])
    parser.add_argument("--pretrain_steps", type=integers, default=[120, 500], help="tried")
    parser.add_argument("--precision", default="bfloat16", choices=_jax.PRECISIONS)
    parser.add_argument("--units", type=int, default=2048)
    args = parser.parse_args()
    data = load(args.percepts, args.split)
    check(data, args.per_class)
    _jax.run(lambda: Study(args, data).run(), args.out)


# ---------------------------------------------------------------------- data


@dataclasses.dataclass(frozen=True)
class Data:
    """Labelled percepts.

    Attributes:
        x: (N, T, D) uint8. scale: what a stored 1 stands for. labels: (N,), from 0.
        classes: names. parts: "train", "validation" and "test" -> indices, ascending.
    """

    x: np.ndarray
    scale: float
    labels: np.ndarray
    classes: tuple[str, ...]
    parts: dict[str, np.ndarray]

    def pool(self, why):
        """Where labelled videos are drawn from, for the "search" or the "test"."""
        if why == "search":
            return self.parts["train"]
        return np.sort(np.concatenate([self.parts["train"], self.parts["validation"]]))


def load(path, split):
    """Raises ValueError where a video has no label."""
    with np.load(path) as arrays:
        x, scale, labels = arrays["X"], float(arrays["scale"]), arrays["label"]
        entries = [
            SimpleNamespace(name=name, label=label, group=convert.group(name), splits=of)
            for name, label, of in zip(
                arrays["name"].astype(str).tolist(),
                labels.tolist(),
                arrays["split"].tolist(),
                strict=True,
            )
        ]
    if (labels < 0).any():
        raise ValueError(f"{path}: {entries[int(np.argmin(labels))].name} has no label")
    known, labels = np.unique(labels, return_inverse=True)
    parts = {part: np.flatnonzero(splits.choose(entries, part, split)) for part in splits.PARTS}
    return Data(x, scale, labels, tuple(map(str, known)), parts)


def check(data, per_class):
    """Raises ValueError for numbers of labelled videos that there are not."""
    most = int(np.bincount(data.labels[data.parts["train"]], minlength=len(data.classes)).min())
    if not 1 <= min(per_class) <= max(per_class) <= most:
        raise ValueError(f"--per_class: from 1 to {most}, all that a class has for training")


def windows(labels, videos, steps, batch, length, frames, seed):
    """Those of `Videos.training`: videos, first frames and labels, each (steps, batch).

    Args:
        labels: of all videos. videos: indices of some, which have `frames` frames each.
    """
    fitting = frames - length + 1
    epochs = -(-steps * batch // (len(videos) * fitting))
    order = np.concatenate(
        [
            np.random.default_rng((seed, epoch)).permutation(len(videos) * fitting)
            for epoch in range(epochs)
        ]
    )
    order, firsts = np.divmod(order[: steps * batch], fitting)
    chosen = videos[order]
    return [of.reshape(steps, batch).astype(np.int32) for of in (chosen, firsts, labels[chosen])]


# ---------------------------------------------------------------------- the study


class Study:
    """The protocol of `few_labels` and `few_labels_fits`, with all percepts on the device."""

    def __init__(self, args, data):
        self.args, self.data = args, data
        self.x, self.scale = jnp.asarray(data.x), jnp.float32(data.scale)
        self.config, self.pretraining = finetune_few_labels.get_config(), percepts.get_config()
        self.pretraining.data.frames_out = data.x.shape[1] - self.pretraining.data.frames_in
        for config in (self.config, self.pretraining):
            config.model.units = args.units
        chosen = np.random.default_rng(0).permutation(data.parts["train"])[:500]
        values = data.x[chosen, : self.config.data.frames] * np.float32(data.scale)
        self.spread = float(values.std())

    def run(self):
        with _jax.matmul_precision(self.args.precision):
            self._run(self.args)

    def _run(self, args):
        starts = {"single frame": {}, few_labels.BASELINE: {}}
        for steps in args.pretrain_steps:
            with _jax.goes_on(f"pretraining for {steps} steps"):
                starts[f"composite {steps}"] = self.pretrain(steps)
        found = {
            (name, k): self.search(name, encoder, k)
            for name, encoder in starts.items()
            for k in args.per_class
        }
        means = {
            name: float(np.mean([found[name, k][1] for k in args.per_class]))
            for name in starts
            if starts[name]
        }
        best = max(means, key=means.get, default=None)
        names = ["single frame", few_labels.BASELINE, *([best] if best else [])]
        summaries = []
        for k in args.per_class:
            values = {name: self.test(name, starts[name], k, found[name, k][0]) for name in names}
            for name in names:
                dropout = 0.0 if name in few_labels.LINEAR else self.config.model.dropout
                summaries.append(few_labels.summary(name, k, found[name, k][0], dropout, values))
            self._write(found, means, best, summaries)  # what there is so far

    def _write(self, found, means, best, summaries):
        args = self.args
        files.write_text(
            args.out / "results.json",
            _jax.to_json(
                {
                    "device": _jax.device(),
                    "split": args.split,
                    "spread": self.spread,
                    "precision": args.precision,
                    "config": self.config.to_dict(),
                    "pretraining": self.pretraining.to_dict(),
                    "chosen": best,
                    "validation": {f"{name}, {k} a class": of for (name, k), of in found.items()},
                    "summaries": [dataclasses.asdict(of) for of in summaries],
                },
                1,
            ),
        )
        _common.report(
            "Few labels, models of full size",
            [
                f"{_jax.device()}; split {args.split}, {self.config.model.layers} x {args.units} "
                f"units, products in {args.precision}; mean accuracy on the validation part: "
                + ", ".join(f"{name} {value:.1f}" for name, value in means.items()),
                few_labels.markdown(summaries),
            ],
            args.out / "few_labels.md",
        )
        few_labels.draw(summaries, args.out / "few_labels.png")

    # ---- pretraining

    def pretrain(self, steps):
        """path -> array of a pretrained encoder, its scale included."""
        config, train = self.pretraining, self.data.parts["train"]
        began, frames_in = time.perf_counter(), config.data.frames_in

        def frames(x):
            return x.astype(jnp.float32) * self.scale

        mean = frames(self.x[train[:500]]).mean((0, 1))
        model = _jax.build(config, self.x.shape[-1:], 0, self.args.precision, mean, self.spread)
        training = _jax.Training(model.network, config.recipe, _jax.video_loss(model))
        run = jax.jit(training.steps(lambda x, rows: _jax.sides(frames(x[rows]), frames_in)))
        rng, count = np.random.default_rng(0), steps * config.recipe.batch_size
        order = np.concatenate([rng.permutation(train) for _ in range(-(-count // len(train)))])
        state, figures = run(
            training.start(),
            self.x,
            (order[:count].reshape(steps, -1), _jax.rates(config.recipe, steps)),
        )
        found = {f"train/{name}": float(of[-20:].mean()) for name, of in figures.items()}
        judged = _jax.free_running(model, frames_in, frames)(
            *state[:2], self.x[self.data.parts["validation"]]
        )
        _jax.append(
            self.args.out / "metrics.jsonl",
            {
                "pretrain_steps": steps,
                **found,
                **{f"validation/{name}": value for name, value in judged.items()},
                "seconds": round(time.perf_counter() - began, 2),
            },
        )
        if not all(map(math.isfinite, found.values())):
            raise FloatingPointError("the loss is not finite")
        for variable, value in zip(model.network.trainable_variables, state[0], strict=True):
            variable.assign(value)
        classifier = self._classifier("lstm", 0)
        names = classifiers.copy_encoder(model, classifier)
        values = {v.path: jnp.array(v.value) for v in classifier.network.variables}
        return {name: values[name] for name in names}

    # ---- classifiers

    def search(self, name, encoder, k):
        """(learning rate, mean validation accuracy with it): the best one.

        A rate with which training diverges gets nothing right.
        """
        found = {}
        for rate in LEARNING_RATES:
            rate *= few_labels.LINEAR_FACTOR if name in few_labels.LINEAR else 1.0
            figures = [
                self.fit("search", name, encoder, k, rate, subset)
                for subset in range(SEARCH_SUBSETS)
            ]
            figures = [(0.0, -1e9) if math.isnan(of[0]) else of for of in figures]
            found[rate] = tuple(np.mean(figures, axis=0).tolist())
        rate = max(sorted(found), key=found.get)
        return rate, found[rate][0]

    def test(self, name, encoder, k, rate):
        """(subsets,) accuracies; nan of one that failed or diverged."""
        found = np.full(self.args.subsets, math.nan)
        for subset in range(self.args.subsets):
            what = f"{name}, {k} a class, subset {subset}"
            with _jax.goes_on(what):
                found[subset], _ = self.fit("test", name, encoder, k, rate, subset)
                if math.isnan(found[subset]):
                    raise FloatingPointError("training diverged")
        return found

    def fit(self, why, name, encoder, k, rate, subset):
        """(video accuracy in %, minus cross entropy) of one classifier; nan if it diverged."""
        began, config, data = time.perf_counter(), self.config, self.data
        part = "validation" if why == "search" else "test"
        kind, pool = few_labels.LINEAR.get(name, "lstm"), data.pool(why)
        videos = pool[splits.few(data.labels[pool], k, subset)]
        batch = min(config.recipe.batch_size, len(videos))
        steps = max(config.train.steps, math.ceil(EPOCHS * len(videos) / batch))
        recipe = config.recipe.copy_and_resolve_references()
        recipe.learning_rate = rate
        xs = windows(data.labels, videos, steps, batch, config.data.frames, self.x.shape[1], subset)
        run, judge, slots = self._compiled(kind)
        weights, others, loss = run(
            *self._start(kind, subset, encoder), slots, self.x, (xs, _jax.rates(recipe, steps))
        )
        of = data.parts[part]
        blocks = np.asarray(judge(weights, others, self.x, of))  # (videos, blocks, K)
        block_videos = np.repeat(np.arange(len(of)), blocks.shape[1])
        blocks = blocks.reshape(-1, len(data.classes)).astype(np.float64)
        figures = classification.Classified(
            classification.video_means(blocks, block_videos, len(of)),
            blocks,
            block_videos,
            None,
            None,
        ).figures(data.labels[of])
        if not np.isfinite(blocks).all():
            figures = dict.fromkeys(figures, math.nan)
        _jax.append(
            self.args.out / "fits.jsonl",
            {
                "why": why,
                "part": part,
                "contender": name,
                "per_class": k,
                "learning_rate": rate,
                "subset": subset,
                **figures,
                "videos": videos.tolist(),
                "steps": steps,
                "loss": float(loss),
                "seconds": round(time.perf_counter() - began, 3),
            },
        )
        return figures["video_accuracy"], -figures["video_cross_entropy"]

    def _classifier(self, kind, subset):
        keras.utils.set_random_seed(subset)
        fields = {k: v for k, v in self.config.model.items() if k not in ("init", "kind")}
        if kind != "lstm":
            fields["dropout"] = 0.0
        classifier = classifiers.build(
            self.data.classes,
            self.x.shape[-1],
            kind,
            **fields,
            initialization=video_models.Initialization(**self.config.recipe.init),
            gemm_dtype=_jax.PRECISIONS[self.args.precision][0],
        )
        classifier.frame_scale.scale.assign(self.spread)
        return classifier

    @functools.cache
    def _fresh(self, kind, subset):
        network = self._classifier(kind, subset).network
        paths = [
            [v.path for v in of]
            for of in (network.trainable_variables, network.non_trainable_variables)
        ]
        return paths, _jax.start_values(network)

    def _start(self, kind, subset, encoder):
        """Starting values; the softmax's are the same for every contender."""
        return [
            [encoder.get(path, value) for path, value in zip(*of, strict=True)]
            for of in zip(*self._fresh(kind, subset), strict=True)
        ]

    @functools.cache
    def _compiled(self, kind):
        """(training, judging, the optimiser's variables) of a kind of classifier; each compiles
        once for every shape."""
        classifier, length = self._classifier(kind, 0), self.config.data.frames
        places = np.arange(0, self.x.shape[1] - length + 1, self.config.data.stride)

        def loss(outputs, labels):
            mean = classifiers.step_cross_entropy(labels, outputs)
            return mean, mean

        def read(x, videos, firsts):
            return x[videos[:, None], firsts[:, None] + jnp.arange(length)] * self.scale

        def batch(x, row):
            videos, firsts, labels = row
            return read(x, videos, firsts), labels

        training = _jax.Training(classifier.network, self.config.recipe, loss)
        steps = training.steps(batch)

        @jax.jit
        def run(weights, others, slots, x, xs):
            (weights, others, _), figures = steps((weights, others, slots), x, xs)
            return weights, others, figures.mean()

        @jax.jit
        def judge(weights, others, x, videos):
            logits = [
                classifier.network.stateless_call(
                    weights, others, read(x, videos, jnp.full(len(videos), first)), training=False
                )[0]
                for first in places
            ]
            return jnp.stack([jax.nn.softmax(of).mean(1) for of in logits], axis=1)

        return run, judge, training.start()[2]


if __name__ == "__main__":
    main()
