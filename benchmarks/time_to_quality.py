"""Measures the time to a given error, with this package, stock Keras and PyTorch:
`python -m benchmarks.time_to_quality --out=FILE.md`.

The error is the free-running loss of the future of validation clips of Moving MNIST, in nats per
frame, and the model the unconditional composite. The command has three phases, which `--phases`
selects; starting it again resumes it:

- `runs`: for stock Keras and PyTorch a search over `--rates` and `--schedules`, with runs of
  `--search_steps` steps and the first seed; the lowest loss at the end wins. Then, with that
  setting, a run of `--steps` steps for every seed. The package has its recipe and no search.
  Runs that are in `--workdir` are not made again.
- `rounds`: the seconds per step, all contenders in turn, stock Keras with and without XLA, of which
  the faster one counts; best on a quiet machine. They replace those of an earlier call.
- `report`: tables, and all results as JSON beside `--out`.

A run is evaluated every `--eval_every` steps and counts as good enough at the first evaluation at
or below a target. Nothing is interpolated.
"""

import contextlib
import dataclasses
import json
import math
import statistics
import sys
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import _common, _quality
from benchmarks._common import Size
from benchmarks._quality import Result, Run
from benchmarks._workers import Worker
from benchmarks.train_step import missing_torch
from unsup_video.utils import files

NAMES = {
    "package_bfloat16": "**unsup_video**, recipe `modern`, bfloat16 products",
    "package": "**unsup_video**, recipe `modern`, float32",
    "keras_bfloat16": "`keras.layers.LSTM`, `fit`, Adam, `mixed_bfloat16`",
    "keras": "`keras.layers.LSTM`, `fit`, Adam, float32",
    "torch": "PyTorch `nn.LSTM`, Adam, float32",
}
# The ways to execute a contender's step. All do the same steps, and the fastest one counts.
EXECUTIONS = {
    **{name: (name,) for name in NAMES},
    **{name: (name, f"{name} without XLA") for name in ("keras", "keras_bfloat16")},
}
EXECUTION_NAMES = {
    execution: NAMES[name] + execution.removeprefix(name).replace(" without", ", without")
    for name, executions in EXECUTIONS.items()
    for execution in executions
}
OWN = ("package_bfloat16", "package")  # which have their recipe and no search
PHASES = ("runs", "rounds", "report")
CONTENDERS = """\
- unsup_video: the quickstart's model and the recipe `modern`, whose schedule (warm-up, then
  linearly to zero) is fitted to the run. The recipe was chosen by losses on these digits, see
  [what was tried](../recipes.md#what-was-tried-for-modern); that search is not counted here.
- Keras: the same composite of `keras.layers.LSTM` and `Dense`, Adam, `fit`, which compiles the
  whole step with XLA by default; the step was also measured with `jit_compile=False`, and the
  faster one counts. The model has no peepholes, Keras' initial weights, and a Dense bias of zero.
  Its decoders are unconditional, too: a stock layer needs an input, and reads zeros of width 1. The
  loss is ours, summed over a clip.
- PyTorch: the same of `nn.LSTM` and `nn.Linear`, with PyTorch's initial weights, executed eagerly.
  It runs in float32 only: in bfloat16 its step was wrong on a GPU ([gpu.md](gpu.md)), and was not
  tried here.
- bfloat16: in unsup_video the matrix products alone. Under Keras' policy `mixed_bfloat16` states,
  gates and predictions are in bfloat16, too; weights and the loss are in float32.

All train on the same clips in the same order. `tf.data` makes them beside the step for unsup_video
and Keras; PyTorch gets them ready-made, and their making is not counted.

The others choose among the learning rates and schedules in the table of all runs: a schedule is
constant, or falls linearly to zero over the run, both of the frameworks themselves. A run of the
search has the first seed and a schedule fitted to its own length; the lowest loss at the end is
chosen."""


@dataclasses.dataclass(frozen=True)
class Plan:
    """The runs of this benchmark.

    Attributes:
        steps: of the runs that count. search_steps: of the runs of the search.
        rates, schedules: what the search tries. seeds: the first one is the search's.
    """

    steps: int
    search_steps: int
    rates: tuple[float, ...]
    schedules: tuple[str, ...]
    seeds: tuple[int, ...]

    def search(self, contender: str) -> list[Run]:
        """Returns the runs of a contender's search; none for the package."""
        if contender in OWN:
            return []
        return [
            Run(contender, rate, schedule, self.search_steps, self.seeds[0])
            for schedule in self.schedules
            for rate in self.rates
        ]

    def final(self, contender: str, searched: Sequence[Result]) -> list[Run]:
        """Returns the runs that count, one for each seed, from the results of the search."""
        rate, schedule = 0.0, "recipe"
        if contender not in OWN:
            chosen = _quality.best(searched).run
            rate, schedule = chosen.rate, chosen.schedule
        return [Run(contender, rate, schedule, self.steps, seed) for seed in self.seeds]


class Store:
    """The folder of this benchmark: the results of runs, the clips, and the rounds.

    Raises:
        ValueError: the folder has results of another setting.
    """

    def __init__(self, folder: Path, setting: dict):
        self.folder = folder
        folder.mkdir(parents=True, exist_ok=True)
        path = folder / "setting.json"
        if path.exists() and (stored := json.loads(path.read_text(encoding="utf-8"))) != setting:
            different = [name for name in setting if stored.get(name) != setting[name]]
            raise ValueError(
                f"{folder} has results with other values of {', '.join(different)}; give another "
                "--workdir"
            )
        files.write_text(path, json.dumps(setting, indent=1) + "\n")

    @property
    def clips(self) -> Path:
        return self.folder / "validation.npy"

    @property
    def rounds(self) -> Path:
        return self.folder / "rounds.json"

    def stream(self, run: Run) -> Path:
        return self.folder / f"stream-{run.steps}-{run.seed}.npz"

    def path(self, run: Run) -> Path:
        return self.folder / f"{run.name}.json"

    def results(self, runs: Iterable[Run]) -> list[Result]:
        """Returns the results of those runs that are there."""
        return [Result.read(self.path(run)) for run in runs if self.path(run).exists()]


# ---------------------------------------------------------------------- phases


def make_runs(store: Store, plan: Plan, contenders: Sequence[str], size: Size, args) -> None:
    """Makes the runs that are missing, one after another."""
    from benchmarks import quality_contenders  # imports TensorFlow

    digits = str(args.digits_dir or "")
    if not store.clips.exists():
        quality_contenders.write_clips(store.clips, size, args.clips, digits)

    def make(run):
        if store.path(run).exists():
            return
        data, python = digits, sys.executable
        if run.contender == "torch":
            data, python = str(store.stream(run).resolve()), args.torch_python
            if not store.stream(run).exists():
                quality_contenders.write_stream(store.stream(run), size, run, digits)
        minutes = args.max_minutes or math.inf
        _quality.start(
            run, size, store.path(run), store.clips, data, args.eval_every, minutes, python
        )

    for contender in contenders:
        searched = plan.search(contender)
        for run in searched:
            make(run)
        for run in plan.final(contender, store.results(searched)):
            make(run)


def measure_rounds(store: Store, contenders: Sequence[str], size: Size, args) -> None:
    """Measures the seconds per step of all contenders in turn."""
    with contextlib.ExitStack() as stack:
        workers = {
            execution: stack.enter_context(
                Worker(
                    _quality.MODULES[name],
                    execution,
                    size,
                    args.torch_python if name == "torch" else sys.executable,
                )
            )
            for name in contenders
            for execution in EXECUTIONS[name]
        }
        seconds = _common.interleave({k: w.step for k, w in workers.items()}, args.rounds)
    files.write_text(store.rounds, json.dumps(seconds, indent=1) + "\n")


# ---------------------------------------------------------------------- report


def cost(size: Size, steps: float, seconds: float) -> dict:
    """Returns the minutes and TFLOP of a number of steps that take `seconds` each."""
    return {"steps": steps, "minutes": steps * seconds / 60, "tflop": steps * size.flop / 1e12}


def summary(
    store: Store, plan: Plan, contenders: Sequence[str], thresholds: Sequence[float], size: Size
) -> dict:
    """Returns everything that the report shows, as JSON values.

    Raises:
        ValueError: the search of a contender is not finished, or its seconds per step have not been
            measured.
    """
    rounds = json.loads(store.rounds.read_text("utf-8")) if store.rounds.exists() else {}
    executions = [execution for name in contenders for execution in EXECUTIONS[name]]
    if missing := set(executions) - set(rounds):
        raise ValueError(
            f"{store.rounds}: no rounds of {', '.join(sorted(missing))}; --phases=rounds makes them"
        )
    targets, searches, runs = [], [], []
    for name in contenders:
        search = plan.search(name)
        searched = store.results(search)
        if len(searched) < len(search):
            raise ValueError(
                f"{store.folder}: the search of {name} is not finished; --phases=runs goes on"
            )
        finals = store.results(plan.final(name, searched))
        seconds = min(statistics.median(rounds[execution]) for execution in EXECUTIONS[name])
        # A search as long as the final runs has one of them.
        runs += searched + [result for result in finals if result.run not in search]
        if searched:
            spent = sum(result.curve[-1]["step"] if result.curve else 0 for result in searched)
            searches.append({"contender": name, **cost(size, spent, seconds)})
        for threshold in thresholds:
            reached = [point["step"] for r in finals if (point := r.first_at(threshold))]
            row = {
                "target": threshold,
                "contender": name,
                "runs": len(finals),
                "reached": reached,
                "seconds_per_step": seconds,
                "all_steps": cost(size, plan.steps, seconds),
                "lowest": [min(p["future"] for p in r.curve) for r in finals if r.curve],
            }
            if finals and len(reached) == len(finals):
                row |= cost(size, statistics.median(reached), seconds)
            targets.append(row)
    return {
        "size": dataclasses.asdict(size),
        "gflop_per_step": size.flop / 1e9,
        "rounds": {execution: rounds[execution] for execution in executions},
        "targets": targets,
        "searches": searches,
        "runs": [dataclasses.asdict(result) for result in runs],
    }


def target_rows(figures: dict) -> list[list[str]]:
    """Returns the rows of the table of targets."""
    rows = []
    for row in figures["targets"]:
        reached, runs = row["reached"], row["runs"]
        steps, minutes, tflop = "not run", "", ""
        if "minutes" in row:
            steps = f"{row['steps']:,.0f}"
            if len(reached) > 1:
                steps += f" ({min(reached):,}-{max(reached):,})"
            minutes, tflop = f"{row['minutes']:.1f}", f"{row['tflop']:.1f}"
        elif runs:
            lowest = ", ".join(f"{loss:.1f}" for loss in row["lowest"])
            steps = f"reached by {len(reached)} of {runs} runs; lowest {lowest}"
            whole = row["all_steps"]
            minutes, tflop = f"> {whole['minutes']:.1f}", f"> {whole['tflop']:.1f}"
        rows.append(
            [
                f"{row['target']:g}",
                NAMES[row["contender"]],
                steps,
                f"{row['seconds_per_step']:.3f}",
                minutes,
                tflop,
            ]
        )
    return rows


def run_rows(results: Iterable[Result], thresholds: Sequence[float]) -> list[list[str]]:
    """Returns a row for every run: its setting, its last loss, and when it met each target."""
    rows = []
    for result in results:
        run, points = result.run, [result.first_at(threshold) for threshold in thresholds]
        rows.append(
            [
                run.contender,
                f"{run.rate:g}" if run.rate else "recipe's",
                run.schedule,
                run.seed,
                f"{run.steps:,}",
                f"{result.last:.1f}" if result.end == "finished" else result.end,
                *(f"{point['step']:,}" if point else "" for point in points),
                f"{result.curve[-1]['minutes']:.1f}" if result.curve else "",
            ]
        )
    return rows


def report(figures: dict, thresholds: Sequence[float], args) -> None:
    """Prints the tables, and writes them to `args.out` with the JSON beside it."""
    size = Size(**figures["size"])
    results = [Result(**{**stored, "run": Run(**stored["run"])}) for stored in figures["runs"]]
    versions = sorted({result.info["version"] for result in results})
    rounds = len(next(iter(figures["rounds"].values())))
    searches = [
        [
            NAMES[row["contender"]],
            f"{row['steps']:,}",
            f"{row['minutes']:.1f}",
            f"{row['tflop']:.1f}",
        ]
        for row in figures["searches"]
    ]
    parts = [
        f"Unconditional composite, {size.layers} x {size.units} units, batch {size.batch}, "
        f"{size.frames} frames read and {size.frames} predicted of {size.frame_dim} "
        f"pixels: {figures['gflop_per_step']:.1f} GFLOP per step, the matrix products alone. "
        f"{', '.join(versions)}. Digits: {args.digits_dir or 'the 5,000 embedded ones'}. "
        f"The loss is that of {args.clips:,} validation clips, the same for all, every "
        f"{args.eval_every} steps; a target is met at the first evaluation at or below it.",
        _common.table(
            ["target, nats/frame", "", "steps: median (range)", "s/step", "minutes", "TFLOP"],
            target_rows(figures),
        ),
        f"The s/step are medians of {rounds} interleaved rounds, the minutes are steps times "
        "s/step: neither evaluation nor compiling is counted. Every schedule is fitted to "
        f"{args.steps:,} steps.",
        _common.table(
            ["", "s/step: median (lowest-highest)"],
            [
                [EXECUTION_NAMES[name], _common.spread(each)]
                for name, each in figures["rounds"].items()
            ],
        ),
        "## The contenders",
        CONTENDERS,
        "## The search of the others",
        _common.table(["", "steps of all its runs", "minutes", "TFLOP"], searches),
        "## All runs",
        "Steps are those at which a run met a target. The minutes are those of training as they "
        "were measured, with compiling, on a machine that other work may have shared.",
        _common.table(
            [
                "",
                "learning rate",
                "schedule",
                "seed",
                "steps",
                "loss at the end",
                *(f"{threshold:g}" for threshold in thresholds),
                "minutes",
            ],
            run_rows(results, thresholds),
        ),
    ]
    _common.report("The time to a given error", parts, args.out)
    if args.out:
        files.write_text(args.out.with_suffix(".json"), json.dumps(figures, indent=1) + "\n")


def main():
    parser = _common.flags(__doc__, units=512)
    numbers, names = _common.values_of(float), _common.values_of(str)
    integers = _common.values_of(int)
    parser.add_argument(
        "--workdir",
        type=_common.path,
        default=Path("runs/time_to_quality"),
        help="folder of the results",
    )
    parser.add_argument("--phases", type=names, default=[*PHASES], help="what to do, see above")
    parser.add_argument(
        "--contenders",
        type=names,
        default=[*NAMES],
        help="who takes part; those in bfloat16 tell something where config.precision=auto takes "
        "it. The rounds hold all of them in memory",
    )
    parser.add_argument("--seeds", type=integers, default=[0, 1, 2], help="a run for each")
    parser.add_argument(
        "--steps",
        type=int,
        default=1500,
        help="of the runs that count; fewer than the quickstart's, since all contenders make them",
    )
    parser.add_argument("--search_steps", type=int, default=600, help="of the search's runs")
    parser.add_argument("--rates", type=numbers, default=[1e-3, 2e-3, 4e-3], help="to search")
    parser.add_argument("--schedules", type=names, default=["linear", "constant"], help="to search")
    parser.add_argument(
        "--thresholds", type=numbers, default=[450.0, 427.0, 410.0], help="targets, nats/frame"
    )
    parser.add_argument(
        "--max_minutes",
        type=float,
        help="ends a run after that time of training, for good; runs of stock Keras use XLA, which "
        "may be the slower of its executions",
    )
    parser.add_argument("--eval_every", type=int, default=100, help="steps between evaluations")
    parser.add_argument("--clips", type=int, default=500, help="validation clips")
    parser.add_argument("--batch", type=int, default=64, help="clips per batch")
    parser.add_argument("--frame_size", type=int, default=64, help="side of a frame in pixels")
    parser.add_argument("--digits_dir", type=_common.path, help="folder of MNIST's idx files")
    parser.add_argument(
        "--torch_python",
        default=sys.executable,
        help="a Python with torch and NumPy; torch is no dependency of this project",
    )
    args = parser.parse_args()
    for flag, allowed in ("phases", PHASES), ("contenders", NAMES):
        if unknown := set(getattr(args, flag)) - set(allowed):
            parser.error(f"--{flag}: unknown {min(unknown)}: choose from {', '.join(allowed)}")
    if unknown := set(args.schedules) - {"linear", "constant"}:
        parser.error(f"--schedules: unknown {min(unknown)}: choose from linear, constant")
    trains = "runs" in args.phases or "rounds" in args.phases
    if trains and "torch" in args.contenders and (reason := missing_torch(args.torch_python)):
        parser.error(
            f"--torch_python={args.torch_python}: {reason}; or leave it out of --contenders"
        )

    size = Size(args.units, 1, args.batch, frame_dim=args.frame_size**2)
    setting = {
        "size": dataclasses.asdict(size),
        "digits_dir": str(args.digits_dir or ""),
        "eval_every": args.eval_every,
        "clips": args.clips,
    }
    plan = Plan(args.steps, args.search_steps, (*args.rates,), (*args.schedules,), (*args.seeds,))
    try:
        store = Store(args.workdir, setting)
        if "runs" in args.phases:
            make_runs(store, plan, args.contenders, size, args)
        if "rounds" in args.phases:
            measure_rounds(store, args.contenders, size, args)
        if "report" in args.phases:
            figures = summary(store, plan, args.contenders, args.thresholds, size)
            report(figures, args.thresholds, args)
    except (RuntimeError, ValueError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    main()
