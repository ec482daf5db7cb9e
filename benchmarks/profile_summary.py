"""Divides the time of a run's profiled steps into parts: `python -m benchmarks.profile_summary
--workdir=RUN [--out=FILE.md]`, for a run with `--profile_steps` on a CPU.

Every moment of a step is divided equally among the operations that run at that moment, on all
threads, so that the parts add up to the step. TensorBoard's own tables add up the times of all
operations instead, even if they run in parallel, and leave out operations that XLA compiled for a
CPU.
"""

import argparse
import collections
import dataclasses
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

from tensorflow.tsl.profiler.protobuf import xplane_pb2

from benchmarks import _common
from unsup_video.training import experiment

INPUT = "input pipeline, in its own threads"
NOTHING = "between operations"
PRODUCTS = "matrix products"
_MOVING = "transposes, slices, stacking, casts"
_REST = "other operations"
# The first pattern that matches the module name of XLA code, or ":Type" of an operation, counts.
_PARTS = [
    (PRODUCTS, r":.*MatMul"),
    ("gates of the LSTM (XLA)", r"_cell_"),
    ("loss (XLA)", r"frame_losses_"),
    ("optimiser (XLA)", r"_apply_gradients_"),
    ("norm of the gradient", r":L2Loss"),
    (_MOVING, r":.*Transpose|:.*Slice|:(Split|Pack|Concat|Reverse|Gather|Pad|Cast)"),
    ("sums: gradients of biases and peepholes", r"_peephole_gradient_|:Sum"),
]
_OPERATION = re.compile(r"[^:]+(:\w+)")  # name:Type
_TRACES = "tb/plugins/profile/*/*.xplane.pb"


@dataclasses.dataclass(frozen=True)
class Summary:
    """The times of one step in seconds, means over the profiled steps."""

    steps: list[int]
    step: float
    parts: dict[str, float]  # they add up to `step`
    waiting: float  # for input
    input_work: float  # of the input pipeline's operations, including parallel ones


def newest_trace(workdir: Path) -> Path:
    """Returns the newest trace. Raises ValueError if there is none."""
    traces = sorted(workdir.glob(_TRACES), key=lambda file: file.stat().st_mtime)
    if not traces:
        raise ValueError(f"{workdir} has no {_TRACES}: train with --profile_steps=10,20")
    return traces[-1]


def read(trace: Path) -> Summary:
    """Summarises a trace of a CPU.

    Raises:
        ValueError: the trace is of a GPU, or has no training step.
    """
    space = xplane_pb2.XSpace.FromString(trace.read_bytes())
    if any(plane.name.startswith("/device:") for plane in space.planes):
        raise ValueError(f"{trace} is of a GPU: use TensorBoard's own pages")
    (host,) = [plane for plane in space.planes if plane.name == "/host:CPU"]
    windows, waiting, work = {}, 0, []
    for line in host.lines:
        spans = []
        for event in line.events:
            name = host.event_metadata[event.metadata_id].name
            start = line.timestamp_ns * 1000 + event.offset_ps
            stats = {host.stat_metadata[s.metadata_id].name: s for s in event.stats}
            if name == "train":
                windows[_integer(stats["step_num"])] = (start, start + event.duration_ps)
            elif name == "input":
                waiting += event.duration_ps
            elif part := _part(name, stats, host, line.name):
                spans.append((start, start + event.duration_ps, part))
        work += _innermost(spans)
    if not windows:
        raise ValueError(f"{trace} holds no complete training step")
    count = len(windows)
    parts = {k: v / count / 1e12 for k, v in _divide(work, windows.values()).items()}
    return Summary(
        steps=sorted(windows),
        step=sum(end - start for start, end in windows.values()) / count / 1e12,
        parts=parts,
        waiting=waiting / count / 1e12,
        input_work=sum(end - start for start, end, part in work if part == INPUT) / count / 1e12,
    )


def _integer(stat) -> int:
    return int(getattr(stat, stat.WhichOneof("value")))


def _part(name, stats, host, thread) -> str | None:
    """Returns the part of the step that an event belongs to; None if it contains others."""
    if "hlo_module" in stats:
        text = host.stat_metadata[stats["hlo_module"].ref_value].name
    elif operation := _OPERATION.fullmatch(name):
        text = operation[1]
    else:
        return None
    if thread.startswith("tf_data"):
        return INPUT
    return next((part for part, pattern in _PARTS if re.search(pattern, text)), _REST)


def _innermost(events: Iterable[tuple]) -> Iterator[tuple]:
    """Yields events (start, end, part) of a thread, without the time of the events inside them."""
    open_, now = [], 0
    for start, end, part in sorted(events, key=lambda event: (event[0], -event[1])):
        while open_ and open_[-1][0] <= start:
            until, outer = open_.pop()
            yield now, until, outer
            now = until
        if open_:
            yield now, start, open_[-1][1]
        open_.append((end, part))
        now = start
    while open_:
        until, outer = open_.pop()
        yield now, until, outer
        now = until


def _divide(work: list[tuple], windows: Iterable[tuple]) -> dict[str, float]:
    """Divides the time inside the windows, each moment equally among the work of that moment."""
    edges = []
    for start, end, part in [*work, *((start, end, None) for start, end in windows)]:
        edges += [(start, 1, part), (end, -1, part)]
    parts, running, inside, before = collections.Counter(), collections.Counter(), 0, 0
    for time, change, part in sorted(edges, key=lambda edge: edge[0]):
        if inside and time > before:
            total = running.total()
            for name, count in running.items() if total else [(NOTHING, 1)]:
                parts[name] += (time - before) * count / (total or 1)
        before = time
        if part is None:
            inside += change
        else:
            running[part] += change
    return parts


def report(summary: Summary, flop: int | None, rate: float | None) -> list[str]:
    """Returns the parts of a step as a table, and compares the step with the floor.

    Args:
        rate: FLOP/s of a large matrix product on this machine.
    """
    rows = [
        [part, f"{1e3 * seconds:.1f}", f"{seconds / summary.step:.1%}"]
        for part, seconds in sorted(summary.parts.items(), key=lambda item: -item[1])
    ]
    rows.append(["the step", f"{1e3 * summary.step:.1f}", "100%"])
    waiting = (
        f"Training waits {1e3 * summary.waiting:.2f} ms per step for input "
        f"({summary.waiting / summary.step:.2%}). The input pipeline's operations take "
        f"{1e3 * summary.input_work:.0f} ms of a core, while the step runs."
    )
    texts = [
        f"Means over the steps {summary.steps[0]} to {summary.steps[-1]}.",
        _common.table(["part", "ms/step", "of the step"], rows),
        waiting,
    ]
    if flop:
        floor, products = flop / rate, summary.parts[PRODUCTS]
        texts.append(
            f"{flop / 1e9:.4g} GFLOP per step in matrix products; at the "
            f"{rate / 1e9:.0f} GFLOP/s of a large one, the floor, they take {1e3 * floor:.0f} ms. "
            f"Here they take {1e3 * products:.0f} ms "
            f"({flop / products / 1e9:.0f} GFLOP/s), and the step takes "
            f"{summary.step / floor:.2f} times the floor: {floor / summary.step:.0%} of its rate."
        )
    return texts


def main():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument(
        "--workdir", type=_common.path, required=True, help="folder of a run with --profile_steps"
    )
    parser.add_argument(
        "--out", type=_common.path, help="also write the report to this Markdown file"
    )
    args = parser.parse_args()
    try:
        summary = read(newest_trace(args.workdir))
        config = json.loads((args.workdir / "config.json").read_text())
        run = json.loads((args.workdir / "run.json").read_text())
    except (OSError, ValueError) as error:
        sys.exit(f"error: {error}")
    flop, rate = None, None
    if config.get("task", "pretraining") == "pretraining":
        flop = experiment.step_flop(config, run["frame_shape"])
        # The rate of the same product as that of the floor of train_step.
        units, rows = config["model"]["units"], config["data"]["frames_in"]
        shape = 4 * units, units, rows * config["recipe"]["batch_size"]
        rate = max(_common.gemm_rate(*shape, run["gemm_dtype"]) for _ in range(5))
    _common.report("A profiled training step", report(summary, flop, rate), args.out)


if __name__ == "__main__":
    main()
