"""The models under Keras' JAX backend: do they compute the same, how fast are they on a GPU, and
what does full-size training reach?

    python -m benchmarks.keras_jax reference --out=FOLDER        # under TensorFlow, for `check`
    export KERAS_BACKEND=jax                                     # from here on: JAX, no TensorFlow
    python -m benchmarks.keras_jax check --reference=FOLDER/reference.npz --out=OUT
    python -m benchmarks.keras_jax bench --out=OUT
    python -m benchmarks.keras_jax train --digits=digits.npz --steps=3000 --out=OUT

`check` compares predictions, and weights after five steps of both optimisers, with TensorFlow's.
`bench` times whole training steps against a floor, stock layers and, where installed, PyTorch.
`train` trains a Moving MNIST config on clips that are drawn on the device; digits.npz holds MNIST's
60,000 training digits as `train` and the 10,000 others as `test`, (N, 28, 28) uint8. Evaluations on
the way are of clips of the last 5,000 training digits, which are not trained on; the test digits
are read once, by the last weights.

Precisions of the matrix products: "float32" is float32 indeed, "tf32" what GPUs do with float32 by
default, "bfloat16" the models' `gemm_dtype`. A part that fails is reported, the others go on, and
the exit status is 1.
"""

import argparse
import contextlib
import importlib
import importlib.util
import math
import re
import statistics
import time

import keras
import numpy as np
from keras import ops

from benchmarks import _common, _jax, _moving_mnist, contenders
from benchmarks._workers import Worker
from unsup_video.configs import base, recipes
from unsup_video.models.outputs import OUTPUTS
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
    for mode in (reference, check, bench, train):
        of = parsers[mode] = modes.add_parser(mode.__name__, help=mode.__doc__, allow_abbrev=False)
        of.set_defaults(mode=mode)
        of.add_argument("--out", type=_common.path, required=True, help="folder of what is written")
    for mode in (check, bench, train):
        parsers[mode].add_argument(
            "--precisions", type=_jax.values_of(str), default=[*_jax.PRECISIONS]
        )
    parsers[check].add_argument("--reference", type=_common.path, required=True)
    of = parsers[bench]
    of.add_argument("--units", type=int, default=2048)
    of.add_argument("--batches", type=_jax.values_of(int), default=[64, 256])
    of.add_argument("--rounds", type=int, default=7, help="each measures every contender once")
    of = parsers[train]
    of.add_argument("--digits", type=_common.path, required=True, help=".npz of MNIST")
    of.add_argument("--config", default="moving_mnist_1layer")
    of.add_argument("--steps", type=int, required=True)
    of.add_argument("--seeds", type=_jax.values_of(int), default=[0], help="a run each")
    of.add_argument("--units", type=int, help="instead of the config's")
    of.add_argument("--batch", type=int, help="instead of the recipe's")
    of.add_argument("--clips", type=int, default=1000, help="of an evaluation")
    args = parser.parse_args()
    if args.mode is train and args.steps % EVALUATIONS:
        parser.error(f"--steps must be a multiple of {EVALUATIONS}")
    if unknown := set(vars(args).get("precisions", ())) - set(_jax.PRECISIONS):
        parser.error(f"unknown precision {min(unknown)}: one of {', '.join(_jax.PRECISIONS)}")
    backend = "tensorflow" if args.mode is reference else "jax"
    _jax.run(lambda: args.mode(args), args.out, backend)


# ---------------------------------------------------------------------- check

CASES = {
    "composite": {},
    "conditional": dict(layers=2, conditional_reconstruction=True, conditional_future=True),
    "squared": dict(output="linear", frame_scaling=True),
}
_UNITS, _FRAME_DIM, _FRAMES, _BATCH, _STEPS = 64, 144, 5, 6, 5  # of the models that are compared
_RATE = 1e-4
# Share of the largest prediction, and of how far a variable moved, that a difference may have.
_TOLERANCE = {"training": 1e-5, "free_running": 1e-5, "modern": 1e-2, "toronto": 1e-2}


def reference(args):
    """Writes what TensorFlow computes to OUT/reference.npz."""
    np.savez_compressed(args.out / "reference.npz", **_computed("float32"))


def check(args):
    """How far JAX's predictions and trained weights are from TensorFlow's."""
    expected, worst = dict(np.load(args.reference)), {}
    for precision in args.precisions:
        with _jax.goes_on(f"check of {precision}"), _jax.matmul_precision(precision):
            for name, value in _computed(precision).items():
                case, what, variable = name.split("/", 2)
                if what == "start":  # of random numbers that NumPy gives here too
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
    rows = []
    for (case, what, precision), (share, difference, variable) in worst.items():
        verdict = ""
        if precision == "float32":
            verdict = "ok" if share <= _TOLERANCE[what] else "TOO FAR"
        if verdict == "TOO FAR":
            _jax.failures.append(f"{case}, {what}: too far")
        rows.append([case, what, precision, f"{share:.1e}", f"{difference:.2e}", variable, verdict])
    _common.report(
        "JAX against TensorFlow",
        [
            _jax.device(),
            "`training`, `free_running`: predictions from the same weights, before the non-linearity; "
            "a difference over the largest prediction. `modern` (Adam), `toronto` (clipped momentum): "
            "weights after five steps; a difference over how far that variable moved.",
            _common.table(
                ["model", "what", "products", "largest share", "difference", "of", ""], rows
            ),
        ],
        args.out / "check.md",
    )


def _computed(precision):
    """CASE/WHAT/NAME -> array: predictions, the weights before training and, in float32, after."""
    found = {}
    for case in CASES:
        for recipe in ("modern", "toronto") if precision == "float32" else ("modern",):
            config = base.get_config(recipe)
            config.model.update(units=_UNITS, **CASES[case])
            model = _jax.build(config, (_FRAME_DIM,), 0, precision, spread=0.5)
            network, rng = model.network, np.random.default_rng(0)
            for v in sorted(network.trainable_variables, key=lambda v: v.path):
                v.assign(rng.uniform(-0.1, 0.1, v.shape))  # peepholes and biases are no zeros
                found[f"{case}/start/{v.path}"] = ops.convert_to_numpy(v.value)
            clips = rng.random((_STEPS, _BATCH, 2 * _FRAMES, _FRAME_DIM), np.float32) < 0.3
            clips = clips.astype(np.float32)
            inputs, _ = _jax.sides(clips[0], _FRAMES)
            for what, outputs in {
                "training": model.training(inputs),
                "free_running": model.free_running(_jax.with_clock(inputs)),
            }.items():
                for name, x in outputs.items():
                    found[f"{case}/{what}/{name}"] = ops.convert_to_numpy(x)
            if precision != "float32":
                continue
            train = _with_jax if keras.backend.backend() == "jax" else _with_tensorflow
            for v, value in zip(
                network.trainable_variables, train(config, model, clips), strict=True
            ):
                found[f"{case}/{recipe}/{v.path}"] = np.asarray(value)
    return found


def _with_tensorflow(config, model, clips):
    """The weights after a step for each batch of clips."""
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


# ---------------------------------------------------------------------- bench

STEPS = 20  # in one measurement
_WEIGHT_BYTES = {"float32": 4, "tf32": 4, "bfloat16": 2}
_ADAM_BYTES = 8 * 4  # a parameter: w, m, v are read and written; its gradient is written and read


def bench(args):
    """The time of a training step of the composite, with Adam."""
    rates = {precision: _gemm_rate(precision) for precision in args.precisions}
    bandwidth = _bandwidth()
    kinds = ["ours", "stock"] + (["torch"] if importlib.util.find_spec("torch") else [])
    found = {"device": _jax.device(), "gemm_flop_s": rates, "bandwidth": bandwidth, "steps": []}
    for batch in args.batches:
        size = _common.Size(args.units, batch=batch)
        with contextlib.ExitStack() as stack:
            measures, infos = {}, {}
            for kind in kinds:
                for precision in args.precisions:
                    with _jax.goes_on(f"{kind}, {precision}, batch {batch}"):
                        key = kind, precision
                        measures[key], infos[key] = _contender(kind, precision, size, stack)
            seconds = _common.interleave(measures, args.rounds)
        found["steps"] += [
            {
                "contender": kind,
                "precision": precision,
                "batch": batch,
                "units": args.units,
                "seconds": of,
                "parameters": infos[kind, precision]["parameters"],
                "ran": infos[kind, precision]["ran"],
            }
            for (kind, precision), of in seconds.items()
        ]
        files.write_text(args.out / "bench.json", _jax.to_json(found, 1))
    _common.report(
        "The training step on a GPU", [_jax.device(), *step_tables(found)], args.out / "bench.md"
    )


def step_tables(found):
    """The parts of the report, of what bench.json holds."""
    parts = [
        "Products of large matrices: "
        + ", ".join(
            f"{name} {rate / 1e12:.0f} TFLOP/s" for name, rate in found["gemm_flop_s"].items()
        )
        + f". Device memory, read and written: {found['bandwidth'] / 1e9:,.0f} GB/s."
    ]
    for batch in dict.fromkeys(step["batch"] for step in found["steps"]):
        rows = []
        for step in found["steps"]:
            if step["batch"] != batch:
                continue
            size, precision = _common.Size(step["units"], batch=batch), step["precision"]
            floor = (
                size.floor(
                    found["gemm_flop_s"][precision], found["bandwidth"], _WEIGHT_BYTES[precision]
                )
                + _ADAM_BYTES * step["parameters"] / found["bandwidth"]
            )
            median = statistics.median(step["seconds"])
            rows.append(
                [
                    f"{step['contender']}, {precision}",
                    _common.spread([1e3 * s for s in step["seconds"]], ".2f"),
                    f"{batch / median:,.0f}",
                    f"{1e3 * floor:.2f}",
                    f"{median / floor:.1f}",
                    step["ran"],
                ]
            )
        parts += [
            f"Batch {batch}: 1 x {size.units} units, 10 + 10 frames of {size.frame_dim} pixels, "
            f"{size.flop / 1e9:.4g} GFLOP a step.",
            _common.table(
                [
                    "contender",
                    "ms/step: median (range)",
                    "clips/s",
                    "floor, ms",
                    "times the floor",
                    "what ran",
                ],
                rows,
            ),
        ]
    return parts


def _gemm_rate(precision, n=8192):
    dtype = jnp.bfloat16 if precision == "bfloat16" else jnp.float32
    a, b = (jax.random.normal(jax.random.key(k), (n, n), dtype) for k in range(2))
    with _jax.matmul_precision(precision):
        product = jax.jit(jnp.matmul).lower(a, b).compile()
    return 2 * n**3 / _common.best_seconds(lambda: product(a, b).block_until_ready())


def _bandwidth(n=1 << 28):
    x, run = jnp.ones(n), jax.jit(lambda x: x + 1)
    return 2 * x.nbytes / _common.best_seconds(lambda: run(x).block_until_ready())


def _contender(kind, precision, size, stack):
    """(a function that gives the seconds of a step, {"parameters", "ran"})."""
    if kind == "torch":
        worker = stack.enter_context(Worker("contenders_torch", f"gpu_{precision}", size, gpu=True))
        return worker.step, worker.info
    if kind == "ours":
        network = contenders._our_model(size, _jax.PRECISIONS[precision][0])
    else:
        policy = "mixed_bfloat16" if precision == "bfloat16" else "float32"
        keras.config.set_dtype_policy(policy)
        try:
            network = contenders._stock_model(size)
        finally:
            keras.config.set_dtype_policy("float32")

    def loss(outputs, targets):
        total = (
            sum(
                OUTPUTS["logistic"].frame_losses(targets[k], x.astype(jnp.float32)).sum()
                for k, x in outputs.items()
            )
            / size.batch
        )
        return total, total

    training = _jax.Training(network, recipes.modern(), loss)
    shape = (4, size.batch, 2 * size.frames, size.frame_dim)
    clips = jax.random.bernoulli(jax.random.key(0), 0.1, shape).astype(jnp.float32)
    xs = jnp.arange(STEPS) % len(clips), jnp.full(STEPS, 1e-5)
    state = [training.start()]
    run = jax.jit(
        training.steps(lambda data, k: _jax.sides(data[k], size.frames)), donate_argnums=0
    )
    with _jax.matmul_precision(precision):
        compiled = run.lower(state[0], clips, xs).compile()

    def burst():
        state[0], figures = compiled(state[0], clips, xs)
        figures.block_until_ready()

    burst()
    # Keras takes cuDNN's LSTM where it can, and else scans.
    cudnn = re.search(r'custom_call_target="[^"]*rnn', compiled.as_text())
    return lambda: _common.timed(burst) / STEPS, {
        "parameters": network.count_params(),
        "ran": "cuDNN's LSTM" if cudnn else "a scan, compiled by XLA",
    }


# ---------------------------------------------------------------------- train

EVALUATIONS = 10  # in a run
_VALIDATION_DIGITS = 5_000  # the last ones of training, as in `data.digits`


def train(args):
    """Full-size training on Moving MNIST."""
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
    digits = {name: jnp.asarray(of) for name, of in digits.items()}
    results = []
    for precision in args.precisions:
        with _jax.goes_on(f"all runs in {precision}"), _jax.matmul_precision(precision):
            runs = _Runs(args, precision, digits)
            for seed in args.seeds:
                with _jax.goes_on(f"{precision}, seed {seed}"):
                    results.append(runs.run(seed))
                    files.write_text(
                        args.out / "results.json",
                        _jax.to_json(
                            {
                                "device": _jax.device(),
                                "config": runs.config.to_dict(),
                                "runs": results,
                            },
                            1,
                        ),
                    )


class _Runs:
    """Trainings of one config in one precision, over one compiled function."""

    def __init__(self, args, precision, digits):
        self.args, self.precision, self.digits = args, precision, digits["train"]
        config = importlib.import_module(f"unsup_video.configs.{args.config}").get_config()
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
        self.steps = args.steps // EVALUATIONS  # in one call
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
            of = slice(first, first + self.steps)
            began = time.perf_counter()
            state, figures = jax.block_until_ready(
                self.train(state, data, (numbers[of], rates[of]))
            )
            seconds += time.perf_counter() - began  # of training alone
            found = {
                "config": args.config,
                "precision": self.precision,
                "seed": seed,
                "step": of.stop,
                "step_seconds": seconds / of.stop,
                **{f"train/{k}": float(v[-50:].mean()) for k, v in figures.items()},
                **self._evaluated(state, "validation", self.validation),
            }
            _jax.append(args.out / "metrics.jsonl", found)
            if not all(math.isfinite(found[f"train/{k}"]) for k in figures):
                raise FloatingPointError("the loss is not finite")
        found |= self._evaluated(state, "test", self.test)
        with _jax.goes_on("sample"):
            self._draw(state, args.out / f"sample_{self.precision}_{seed}.png")
        return found

    def _evaluated(self, state, part, clips):
        found = self.evaluate(*state[:2], clips)
        return {f"{part}/{name}": value for name, value in found.items()}

    def _draw(self, state, path):
        """A picture of the first test clip."""
        inputs, _ = _jax.sides(_to_unit(self.test[:1]), self.config.data.frames_in)
        outputs = _jax.call(
            self.model.inference, self.model.network, *state[:2], _jax.with_clock(inputs)
        )
        side = self.config.data.frame_size
        visualize.sample_figure(
            *(
                of if of is None else np.asarray(of).reshape(-1, side, side)
                for of in (*inputs.values(), outputs.get("reconstruction"), outputs.get("future"))
            ),
            path,
        )


def _to_unit(clips):
    return clips.astype(jnp.float32) / 255


if __name__ == "__main__":
    main()
