"""Compares the training step with stock layers, PyTorch and the machine's matrix products:
`python -m benchmarks.train_step [--models | --scaling | --check] [--out=FILE.md]`.

A step is the forward pass, the loss, all gradients and an update by SGD with momentum, for the
unconditional composite on the CPU. Every contender runs in a process of its own; steps are measured
in turn, round by round, with all contenders in memory: 20 GB at the default size, less with fewer
`--contenders`. `--models` measures deeper and conditional composites beside stock layers, and
`--scaling` our float32 step over T, batch and layers; `--check` compares our model's loss and
gradients with those of (b) from the same weights.
"""

import argparse
import contextlib
import dataclasses
import statistics
import subprocess
import sys

from benchmarks import _common
from benchmarks._common import Size
from benchmarks._workers import Worker

NAMES = {
    "ours_float32": "ours, float32",
    "ours_bfloat16": "ours, bfloat16 products",
    "stock_lstm": "(a) `keras.layers.LSTM`",
    "stock_mixed_bfloat16": "(a16) the same, `mixed_bfloat16`",
    "rnn_cell": "(b) peephole cell in `keras.layers.RNN`",
    "torch": "(c) PyTorch `nn.LSTM`",
    "gemm_floor": "(d) the matrix products alone, float32",
}


@dataclasses.dataclass(frozen=True)
class Result:
    """Seconds of every round, peak GB of the process, and the contender's `info`."""

    seconds: list[float]
    peak_gb: float
    info: dict

    @property
    def median(self) -> float:
        return statistics.median(self.seconds)


def measure(
    cases: list[tuple[str, Size]], rounds: int, torch_python: str = sys.executable
) -> dict[tuple[str, Size], Result]:
    """Measures contenders, each (key of `NAMES`, size), in turn."""
    with contextlib.ExitStack() as stack:
        workers = {}
        for name, size in cases:
            print(f"starting {name}, {size}", file=sys.stderr)
            module, python = "contenders", sys.executable
            if name == "torch":
                module, python = "contenders_torch", torch_python
            workers[name, size] = stack.enter_context(Worker(module, name, size, python))
        seconds = _common.interleave({case: w.step for case, w in workers.items()}, rounds)
        return {case: Result(seconds[case], w.peak_gb, w.info) for case, w in workers.items()}


def comparison(size: Size, results: dict[str, Result]) -> list[str]:
    """Returns the report: the setting, the table, the notes, the targets."""
    stock, floor = results.get("stock_lstm"), results.get("gemm_floor")
    rate = size.flop / min(floor.seconds) if floor else None
    columns = [
        "contender",
        "s/step: median (range)",
        "times (a)'s speed",
        "of the floor's rate",
        "peak GB",
        "parameters",
    ]
    rows = [
        [
            NAMES[name],
            _common.spread(result.seconds),
            f"{stock.median / result.median:.2f}" if stock else "",
            f"{size.flop / result.median / rate:.0%}" if floor else "",
            f"{result.peak_gb:.2f}" if name != "gemm_floor" else "",
            f"{result.info['parameters']:,}" if name != "gemm_floor" else "",
        ]
        for name, result in results.items()
    ]
    notes = ["Peak GB is that of the whole process, including the framework."]
    if floor:
        notes.append(f"The floor's rate is its best round's, {rate / 1e9:.1f} GFLOP/s.")
    slow = not all(result.info.get("fast_bfloat16", True) for result in results.values())
    if slow:
        notes.append(
            "`config.precision=auto` takes float32 on this CPU: its bfloat16 figures say nothing "
            "about a CPU with AMX, or an AMD with AVX512-BF16."
        )
    notes += [f"{r.info['version']}." for r in results.values() if "version" in r.info]
    return [
        f"Composite, {size.layers} x {size.units} units, batch {size.batch}, {size.frames} frames "
        f"read and {size.frames} predicted of {size.frame_dim} pixels: "
        f"{size.flop / 1e9:.4g} GFLOP per step.",
        _common.table(columns, rows),
        " ".join(notes),
        _common.table(["target", "at least", "measured", ""], targets(results, slow)),
    ]


def targets(results: dict[str, Result], slow_bfloat16: bool) -> list[list[str]]:
    """Returns a row for every target whose contenders were measured."""

    def speed(ours, other):
        return other.median / ours.median

    def of_floor(ours, floor):
        return min(floor.seconds) / ours.median

    def memory(ours, other):
        return other.peak_gb / ours.peak_gb

    rows = []
    for text, wanted, figure, ours, other in (
        ("float32: times (a)'s speed", 1.4, speed, "ours_float32", "stock_lstm"),
        ("float32: of the floor's rate", 0.8, of_floor, "ours_float32", "gemm_floor"),
        ("float32: (a)'s peak memory over ours", 1, memory, "ours_float32", "stock_lstm"),
        ("bfloat16: times (a)'s speed", 2.1, speed, "ours_bfloat16", "stock_lstm"),
        ("bfloat16: times (a16)'s speed", 1.25, speed, "ours_bfloat16", "stock_mixed_bfloat16"),
        ("bfloat16: (a)'s peak memory over ours", 1, memory, "ours_bfloat16", "stock_lstm"),
    ):
        if ours in results and other in results:
            measured = figure(results[ours], results[other])
            verdict = "met" if measured >= wanted else "missed"
            if slow_bfloat16 and figure is speed and ours == "ours_bfloat16":
                verdict += " (slow bfloat16)"
            rows.append([text, wanted, f"{measured:.2f}", verdict])
    return rows


def models(size: Size) -> dict[str, Size]:
    """Returns other composites of this size, by their names in the report."""
    return {
        "2 layers": dataclasses.replace(size, layers=2),
        "conditional decoders, true frames": dataclasses.replace(size, conditional="truth"),
        "conditional decoders, own frames": dataclasses.replace(size, conditional="own"),
    }


def model_cases(size: Size) -> list[tuple[str, Size]]:
    """Returns what `--models` measures of a size: the floor, ours, and stock layers if possible."""
    names = ["gemm_floor", "ours_float32"]
    if size.conditional != "own":
        names.append("stock_lstm")
    return [(name, size) for name in names]


def model_row(name: str, size: Size, results: dict[tuple[str, Size], Result]) -> list[str]:
    """Returns the row of one of `models` in the report."""
    floor, ours = results["gemm_floor", size], results["ours_float32", size]
    stock = results.get(("stock_lstm", size))
    return [
        name,
        f"{size.flop / 1e9:.4g}",
        _common.spread(ours.seconds),
        _common.spread(stock.seconds) if stock else "",
        f"{stock.median / ours.median:.2f}" if stock else "",
        f"{min(floor.seconds) / ours.median:.0%}",
        f"{ours.peak_gb:.2f}",
        f"{stock.peak_gb:.2f}" if stock else "",
    ]


def model_report(size: Size, rows: list[list[str]]) -> list[str]:
    """Returns the report of the rows of `models`."""
    columns = [
        "composite",
        "GFLOP",
        "ours, s/step: median (range)",
        "(a) `keras.layers.LSTM`",
        "times (a)'s speed",
        "of the floor's rate",
        "peak GB, ours",
        "(a)",
    ]
    return [
        f"Composites of {size.units} units, batch {size.batch}, {size.frames} frames read and "
        f"{size.frames} predicted of {size.frame_dim} pixels, float32. Either both decoders are "
        "conditional, or neither is. The steps of one row were measured in turn, with the floor, "
        "whose rate is its best round's. Stock layers cannot read the frames that they write.",
        _common.table(columns, rows),
    ]


def scaling_groups(size: Size) -> list[list[Size]]:
    """Returns sizes over T (at a fifth of the batch, to fit into memory), batch, and layers."""
    small = dataclasses.replace(size, batch=max(1, size.batch // 5))
    return [
        [dataclasses.replace(small, frames=frames) for frames in (10, 20, 100)],
        [dataclasses.replace(size, batch=batch) for batch in (16, 100, 256)],
        [dataclasses.replace(size, layers=layers) for layers in (1, 2)],
    ]


def scaling(groups: list[dict[Size, Result]]) -> list[str]:
    """Returns the report: the time per operation is constant where the time is linear."""
    columns = ["layers", "batch", "T", "GFLOP", "s/step: median (range)", "ms/GFLOP", "peak GB"]
    tables = [
        _common.table(
            columns,
            [
                [
                    size.layers,
                    size.batch,
                    size.frames,
                    f"{size.flop / 1e9:.4g}",
                    _common.spread(result.seconds),
                    f"{1e12 * result.median / size.flop:.2f}",
                    f"{result.peak_gb:.2f}",
                ]
                for size, result in group.items()
            ],
        )
        for group in groups
    ]
    units = next(iter(groups[0])).units
    return [
        f"Our float32 step of the composite, {units} units, T frames read and T predicted. The "
        "steps of one table were measured in turn.",
        *tables,
    ]


def missing_torch(python: str) -> str | None:
    """Returns the reason why `python` cannot import torch; None if it can."""
    try:
        result = subprocess.run([python, "-c", "import torch"], capture_output=True, text=True)
    except OSError as error:
        return str(error)
    if not result.returncode:
        return None
    return (result.stderr.strip().splitlines() or [f"exit status {result.returncode}"])[-1]


def main():
    parser = _common.flags(__doc__)
    parser.add_argument("--frame_dim", type=int, default=64 * 64, help="pixels of a frame")
    parser.add_argument("--batch", type=int, default=100, help="sequences per batch")
    parser.add_argument("--frames", type=int, default=10, help="T, frames read and predicted")
    parser.add_argument("--layers", type=int, default=1, help="layers of each LSTM")
    parser.add_argument(
        "--contenders",
        default=argparse.SUPPRESS,  # which its help does not show a second time
        help=f"contenders, separated by commas; default: {','.join(NAMES)}",
    )
    parser.add_argument(
        "--torch_python",
        default=argparse.SUPPRESS,
        help="a Python with torch, which is no dependency of this project; default: this one",
    )
    fixed = parser.add_mutually_exclusive_group()
    fixed.add_argument("--models", action="store_true", help="measure other composites")
    fixed.add_argument("--scaling", action="store_true", help="measure our step over its sizes")
    fixed.add_argument(
        "--check", action="store_true", help="compare our gradients with those of (b)"
    )
    args = parser.parse_args()
    names = getattr(args, "contenders", None)
    python = getattr(args, "torch_python", None)
    size = Size(args.units, args.layers, args.batch, args.frames, args.frame_dim)
    if (args.check or args.models or args.scaling) and (names or python):
        parser.error("--contenders and --torch_python: --check, --models and --scaling have theirs")
    if args.check and args.out:
        parser.error("--check writes no report: leave --out out")

    if args.check:
        from benchmarks.contenders import differences_of_equal_models  # imports TensorFlow

        for name, difference in differences_of_equal_models(size).items():
            print(f"{name}: relative difference between ours and the RNN cell's {difference:.1e}")
    elif args.models:
        rows = [
            model_row(name, model, measure(model_cases(model), args.rounds))
            for name, model in models(size).items()
        ]
        _common.report("The training step of other composites", model_report(size, rows), args.out)
    elif args.scaling:
        groups = []
        for sizes in scaling_groups(size):
            results = measure([("ours_float32", size) for size in sizes], args.rounds)
            groups.append({size: result for (_, size), result in results.items()})
        _common.report("How the training step scales", scaling(groups), args.out)
    else:
        names, python = names.split(",") if names else [*NAMES], python or sys.executable
        if unknown := [name for name in names if name not in NAMES]:
            parser.error(f"unknown contenders {', '.join(unknown)}: choose from {', '.join(NAMES)}")
        if "torch" in names and (reason := missing_torch(python)):
            print(f"torch is skipped: {python}: {reason}", file=sys.stderr)
            names.remove("torch")
        results = measure([(name, size) for name in names], args.rounds, python)
        parts = comparison(size, {name: result for (name, _), result in results.items()})
        _common.report("The training step", parts, args.out)


if __name__ == "__main__":
    main()
