"""Compares the models under Keras' JAX backend with TensorFlow, and trains at full size on a GPU.

    python -m benchmarks.keras_jax reference --out=FOLDER        # under TensorFlow, for `check`
    export KERAS_BACKEND=jax                                     # from here on: JAX, no TensorFlow
    python -m benchmarks.keras_jax check --reference=FOLDER/reference.npz --out=OUT
    python -m benchmarks.keras_jax train --digits=digits.npz --steps=3000 --out=OUT

`check` compares predictions, and weights after five steps of both optimisers, with TensorFlow's.
`train` trains a Moving MNIST config on clips that are generated on the device; digits.npz holds
MNIST's 60,000 training digits as `train` and the 10,000 others as `test`, (N, 28, 28) uint8.
Evaluations during training use clips of the last 5,000 training digits, which are held out; the
test digits are read once, with the final weights.

Precisions of the matrix products: "float32" is full float32, "tf32" the default of GPUs for
float32, "bfloat16" the models' `gemm_dtype`.
"""

import argparse
import importlib
import json
import math
import time

import keras
import numpy as np
from keras import ops

from benchmarks import _common, _jax, _moving_mnist
from unsup_video import configs
from unsup_video.configs import base, recipes
from unsup_video.pictures import visualize
from unsup_video.training import optimizers
from unsup_video.utils import files

if keras.backend.backend() == "jax":
    import jax
    from jax import numpy as jnp


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    modes = parser.add_subparsers(required=True)
    parsers = {}
    for mode in (reference, check, train):
        subparser = parsers[mode] = modes.add_parser(
            mode.__name__, help=mode.__doc__, allow_abbrev=False
        )
        subparser.set_defaults(mode=mode)
        subparser.add_argument(
            "--out", type=_common.path, required=True, help="folder for the results"
        )
    for mode in (check, train):
        parsers[mode].add_argument(
            "--precisions",
            type=_common.values_of(str),
            default=[*_jax.PRECISIONS],
            help="precisions of matrix products, separated by commas",
        )
    parsers[check].add_argument(
        "--reference", type=_common.path, required=True, help="reference.npz of `reference`"
    )
    subparser = parsers[train]
    subparser.add_argument("--digits", type=_common.path, required=True, help=".npz of MNIST")
    subparser.add_argument("--config", default="moving_mnist_1layer", help="config to train")
    subparser.add_argument("--steps", type=int, required=True, help="training steps")
    subparser.add_argument(
        "--seeds", type=_common.values_of(int), default=[0], help="one run per seed"
    )
    subparser.add_argument("--units", type=int, help="units per layer; default: the config's")
    subparser.add_argument("--batch", type=int, help="clips per batch; default: the recipe's")
    subparser.add_argument("--clips", type=int, default=1000, help="clips per evaluation")
    args = parser.parse_args()
    if args.mode is train and args.steps % EVALUATIONS:
        parser.error(f"--steps must be a multiple of {EVALUATIONS}")
    if unknown := set(vars(args).get("precisions", ())) - set(_jax.PRECISIONS):
        parser.error(f"unknown precision {min(unknown)}: one of {', '.join(_jax.PRECISIONS)}")
    _jax.require("tensorflow" if args.mode is reference else "jax")
    args.out.mkdir(parents=True, exist_ok=True)
    args.mode(args)


# ---------------------------------------------------------------------- check

CASES = {
    "composite": {},
    "conditional": dict(layers=2, conditional_reconstruction=True, conditional_future=True),
    "squared": dict(output="linear", frame_scaling=True),
}
_UNITS, _FRAME_DIM, _FRAMES, _BATCH, _STEPS = 64, 144, 5, 6, 5  # sizes of the compared models
_RATE = 1e-4
# Maximum difference, relative to the largest prediction, or to the largest change of a variable.
_TOLERANCE = {"training": 1e-5, "free_running": 1e-5, "modern": 1e-2, "toronto": 1e-2}


def reference(args):
    """Writes TensorFlow's results to OUT/reference.npz."""
    with files.atomic_write(args.out / "reference.npz") as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **_computed("float32"))


def check(args):
    """Compares JAX's predictions and trained weights with TensorFlow's."""
    expected, worst = dict(np.load(args.reference)), {}
    for precision in args.precisions:
        with _jax.matmul_precision(precision):
            for name, value in _computed(precision).items():
                case, what, variable = name.split("/", 2)
                if what == "start":  # NumPy draws the same random numbers
                    np.testing.assert_array_equal(value, expected[name])
                    continue
                scale = expected[name]
                if what in recipes.RECIPES:
                    scale = scale - expected[f"{case}/start/{variable}"]
                difference = np.abs(value - expected[name]).max()
                difference = float(difference) if np.isfinite(difference) else math.inf
                share = difference / (float(np.abs(scale).max()) or 1.0)
                key = case, what, precision
                worst[key] = max(worst.get(key, (0.0,)), (share, difference, variable))
    rows, failed = [], []
    for (case, what, precision), (share, difference, variable) in worst.items():
        verdict = ""
        if precision == "float32":
            verdict = "ok" if share <= _TOLERANCE[what] else "TOO FAR"
        if verdict == "TOO FAR":
            failed.append(f"{case}, {what}")
        rows.append([case, what, precision, f"{share:.1e}", f"{difference:.2e}", variable, verdict])
    _common.report(
        "JAX against TensorFlow",
        [
            _jax.device(),
            "`training`, `free_running`: predictions from the same weights, before the "
            "non-linearity; differences are relative to the largest one. `modern` (Adam), "
            "`toronto` (clipped momentum): weights after five steps; differences are relative to "
            "the largest change of that variable.",
            _common.table(
                ["model", "what", "products", "largest share", "difference", "of", ""], rows
            ),
        ],
        args.out / "check.md",
    )
    if failed:
        raise SystemExit(f"error: too far from TensorFlow: {'; '.join(failed)}")


def _computed(precision):
    """Returns {CASE/WHAT/NAME: array}: predictions, initial and, in float32, trained weights."""
    arrays = {}
    for case in CASES:
        for recipe in ("modern", "toronto") if precision == "float32" else ("modern",):
            config = base.get_config(recipe)
            config.model.update(units=_UNITS, **CASES[case])
            model = _jax.build(config, (_FRAME_DIM,), 0, precision, spread=0.5)
            network, rng = model.network, np.random.default_rng(0)
            for v in sorted(network.trainable_variables, key=lambda v: v.path):
                v.assign(rng.uniform(-0.1, 0.1, v.shape))  # peepholes and biases are not 0
                arrays[f"{case}/start/{v.path}"] = ops.convert_to_numpy(v.value)
            clips = rng.random((_STEPS, _BATCH, 2 * _FRAMES, _FRAME_DIM), np.float32) < 0.3
            clips = clips.astype(np.float32)
            inputs, _ = _jax.sides(clips[0], _FRAMES)
            for what, outputs in {
                "training": model.training(inputs),
                "free_running": model.free_running(_jax.with_clock(inputs)),
            }.items():
                for name, x in outputs.items():
                    arrays[f"{case}/{what}/{name}"] = ops.convert_to_numpy(x)
            if precision != "float32":
                continue
            train = _with_jax if keras.backend.backend() == "jax" else _with_tensorflow
            for v, value in zip(
                network.trainable_variables, train(config, model, clips), strict=True
            ):
                arrays[f"{case}/{recipe}/{v.path}"] = np.asarray(value)
    return arrays


def _with_tensorflow(config, model, clips):
    """Returns the weights after one step per batch of clips."""
    import tensorflow as tf

    variables, loss = model.network.trainable_variables, _jax.video_loss(model)
    optimizer = optimizers.optimizer(config.recipe, _RATE)
    for batch in clips:
        inputs, targets = _jax.sides(tf.constant(batch), _FRAMES)
        with tf.GradientTape() as tape:
            total, _ = loss(model.network(inputs, training=True), targets)
        optimizer.apply(tape.gradient(total, [v.value for v in variables]), variables)
    return [v.numpy() for v in variables]


def _with_jax(config, model, clips):
    training = _jax.Training(model.network, config.recipe, _jax.video_loss(model))
    run = jax.jit(training.steps(lambda data, k: _jax.sides(data[k], _FRAMES)))
    xs = np.arange(len(clips)), np.full(len(clips), _RATE, np.float32)
    (weights, _, _), _ = run(training.start(), clips, xs)
    return weights


# ---------------------------------------------------------------------- train

EVALUATIONS = 10  # per run
_VALIDATION_DIGITS = 5_000  # the last training digits, as in `data.digits`


def train(args):
    """Trains at full size on Moving MNIST."""
    with np.load(args.digits) as arrays:
        digits = {
            "train": arrays["train"][:-_VALIDATION_DIGITS],
            "validation": arrays["train"][-_VALIDATION_DIGITS:],
            "test": arrays["test"],
        }
    if not len(digits["train"]):
        raise SystemExit(
            f"error: {args.digits} has too few digits: {_VALIDATION_DIGITS:,} of "
            "`train` are for validation"
        )
    digits = {name: jnp.asarray(images) for name, images in digits.items()}
    results = []
    for precision in args.precisions:
        with _jax.matmul_precision(precision):
            runs = _Runs(args, precision, digits)
            for seed in args.seeds:
                results.append(runs.run(seed))
                outcome = {
                    "device": _jax.device(),
                    "config": runs.config.to_dict(),
                    "runs": results,
                }
                files.write_text(args.out / "results.json", json.dumps(outcome, indent=1) + "\n")


class _Runs:
    """Trains one config in one precision, with one compiled function for all seeds."""

    def __init__(self, args, precision, digits):
        self.args, self.precision, self.digits = args, precision, digits["train"]
        name = configs.ALIASES.get(args.config, args.config)
        config = importlib.import_module(f"unsup_video.configs.{name}").get_config()
        config.model.units = args.units or config.model.units
        config.recipe.batch_size = args.batch or config.recipe.batch_size
        self.config, data = config, config.data

        def draw(key, images, count):
            return _moving_mnist.clips(key, images, data, count)

        def batch(drawn_from, step):
            key, images = drawn_from
            clips = draw(jax.random.fold_in(key, step), images, config.recipe.batch_size)
            return _jax.sides(_to_unit(clips), data.frames_in)

        drawn, count = jax.jit(draw, static_argnums=2), args.clips
        self.validation = drawn(jax.random.key(1), digits["validation"], count)
        self.test = drawn(jax.random.key(2), digits["test"], count)
        self.mean_frame = _to_unit(drawn(jax.random.key(0), self.digits, count)).mean((0, 1))
        self.model = self._built(0)
        loss = _jax.video_loss(self.model)
        self.training = _jax.Training(self.model.network, config.recipe, loss)
        self.evaluate = _jax.free_running(self.model, data.frames_in, _to_unit)
        self.steps = args.steps // EVALUATIONS  # per call
        xs = jnp.zeros(self.steps, jnp.int32), jnp.zeros(self.steps)
        self.train = (
            jax.jit(self.training.steps(batch), donate_argnums=0)
            .lower(self.training.start(), (jax.random.key(0), self.digits), xs)
            .compile()
        )

    def _built(self, seed):
        shape = (self.config.data.frame_size,) * 2
        return _jax.build(self.config, shape, seed, self.precision, self.mean_frame)

    def run(self, seed):
        args = self.args
        state = (*_jax.start_values(self._built(seed).network), self.training.start()[2])
        data = jax.random.fold_in(jax.random.key(100), seed), self.digits
        numbers = np.arange(args.steps, dtype=np.int32)
        rates, seconds = _jax.rates(self.config.recipe, args.steps), 0.0
        for first in range(0, args.steps, self.steps):
            chunk = slice(first, first + self.steps)
            began = time.perf_counter()
            state, figures = jax.block_until_ready(
                self.train(state, data, (numbers[chunk], rates[chunk]))
            )
            seconds += time.perf_counter() - began  # without evaluations
            record = {
                "config": args.config,
                "precision": self.precision,
                "seed": seed,
                "step": chunk.stop,
                "step_seconds": seconds / chunk.stop,
                **{f"train/{k}": float(v[-50:].mean()) for k, v in figures.items()},
                **self._evaluated(state, "validation", self.validation),
            }
            if not all(math.isfinite(record[f"train/{k}"]) for k in figures):
                raise FloatingPointError(f"the loss is not finite by step {chunk.stop}")
            print(line := json.dumps(record), flush=True)
            with open(args.out / "metrics.jsonl", "a", encoding="utf-8") as file:
                file.write(line + "\n")
        self._draw(state, args.out / f"sample_{self.precision}_{seed}.png")
        return record | self._evaluated(state, "test", self.test)

    def _evaluated(self, state, part, clips):
        figures = self.evaluate(*state[:2], clips)
        return {f"{part}/{name}": value for name, value in figures.items()}

    def _draw(self, state, path):
        """Draws the first test clip."""
        inputs, _ = _jax.sides(_to_unit(self.test[:1]), self.config.data.frames_in)
        outputs = _jax.call(
            self.model.inference, self.model.network, *state[:2], _jax.with_clock(inputs)
        )
        side = self.config.data.frame_size
        visualize.sample_figure(
            *(
                x if x is None else np.asarray(x).reshape(-1, side, side)
                for x in (*inputs.values(), outputs.get("reconstruction"), outputs.get("future"))
            ),
            path,
        )


def _to_unit(clips):
    return clips.astype(jnp.float32) / 255


if __name__ == "__main__":
    main()
