"""Draws the loss of whole runs over their operations and their time, a curve for each width:
`python -m benchmarks.widths RUN [RUN ..] [--out=FILE.md]`.

A RUN is the folder of a finished `train.pretrain`. Runs of one width differ in their numbers of
steps, and each has a schedule that ends at its last step, so a point is what a model of that width
reaches at that cost. The loss is the free-running one of the future at the last validation. The
time is the number of steps times the median seconds per step between two lines of metrics.jsonl:
pauses of a run and other work for a while do not count.

The figure is written beside FILE.md as FILE.png, and all figures as FILE.json.
"""

import argparse
import dataclasses
import itertools
import json
import statistics
from collections.abc import Iterable, Sequence
from pathlib import Path

from benchmarks import _common
from unsup_video import configs
from unsup_video.models import video_models
from unsup_video.pictures import charts, visualize
from unsup_video.training import experiment
from unsup_video.training.workdir import read_metrics
from unsup_video.utils import files

_LOSS = "free_running/future"


@dataclasses.dataclass(frozen=True)
class Point:
    """A whole run.

    Attributes:
        layers, units: of its LSTMs. steps: of the run, of `batch` clips each.
        tflop: floating-point operations of all steps, 1e12, of the matrix products alone.
        minutes: of training. future: loss of the future on validation clips, in `unit`.
        data: a digest of the validation clips.
    """

    layers: int
    units: int
    batch: int
    steps: int
    tflop: float
    minutes: float
    future: float
    unit: str
    data: str

    @property
    def width(self) -> str:
        return f"{self.layers} x {self.units} units"

    @classmethod
    def read(cls, folder: Path) -> "Point":
        """Reads the folder of a run.

        Raises:
            ValueError: it is no run that reached its last step and predicts the future, or it goes
                on from another run.
        """
        try:
            config, info = (
                json.loads((folder / name).read_text(encoding="utf-8"))
                for name in ("config.json", "run.json")
            )
            lines = read_metrics(folder / "metrics.jsonl")
        except FileNotFoundError as error:
            raise ValueError(f"{folder} is no run of train.pretrain: {error}") from None
        if config["model"].get("init", configs.NO_INIT) != configs.NO_INIT:
            raise ValueError(f"{folder} goes on from another run, whose cost is not in it")
        steps = config["train"]["steps"]
        validation = [line for line in lines if line["split"] == "validation" and _LOSS in line]
        if not validation or validation[-1]["step"] < steps:
            raise ValueError(f"{folder} has no loss of the future at its last step, {steps:,}")
        return cls(
            config["model"]["layers"],
            config["model"]["units"],
            config["recipe"]["batch_size"],
            steps,
            steps * experiment.step_flop(config, info["frame_shape"]) / 1e12,
            steps * _seconds_per_step(folder, lines) / 60,
            validation[-1][_LOSS],
            video_models.decoder_outputs(config["model"])["future"].frame_unit,
            experiment.validation_data(config, info),
        )


def _seconds_per_step(folder, lines):
    training = [line for line in lines if line["split"] == "train"]
    if len(training) < 2:
        raise ValueError(f"{folder}/metrics.jsonl has fewer than two lines of training losses")
    return statistics.median(
        (after["elapsed_s"] - before["elapsed_s"]) / (after["step"] - before["step"])
        for before, after in itertools.pairwise(training)
    )


def curves(points: Iterable[Point]) -> dict[str, list[Point]]:
    """Returns width -> its points, the cheapest first; narrow widths first."""
    ordered = sorted(points, key=lambda p: (p.layers, p.units, p.tflop))
    return {width: list(group) for width, group in itertools.groupby(ordered, lambda p: p.width)}


def draw(points: Sequence[Point], path: Path) -> None:
    """Draws the loss over operations and over minutes."""
    with visualize.figure(path, (9, 3.8)) as figure:
        left, right = figure.subplots(1, 2, sharey=True)
        for number, (width, group) in enumerate(curves(points).items()):
            losses = [point.future for point in group]
            look = dict(marker="o", markersize=4, label=width, color=charts.style(number)["colour"])
            left.plot([point.tflop for point in group], losses, **look)
            right.plot([point.minutes for point in group], losses, **look)
        left.set(ylabel=f"future, validation, {points[0].unit}", xlabel="TFLOP of matrix products")
        right.set(xlabel="minutes of training")
        for axes in (left, right):
            charts.log_scale(axes, "x")
            axes.grid(alpha=0.2)
        right.legend()


def report(points: Sequence[Point], out: Path | None) -> None:
    """Prints the table; also writes it to `out`, if given, with the figure and the JSON."""
    columns = ["model", "steps", "batch", "TFLOP", "minutes", f"future, {points[0].unit}"]
    rows = [
        [
            width,
            f"{point.steps:,}",
            point.batch,
            f"{point.tflop:.0f}",
            f"{point.minutes:.1f}",
            f"{point.future:.1f}",
        ]
        for width, group in curves(points).items()
        for point in group
    ]
    parts = [_common.table(columns, rows)]
    if out:
        picture = out.with_suffix(".png")
        draw(points, picture)
        parts.append(f"![Loss over operations and over minutes]({picture.name})")
        stored = [dataclasses.asdict(point) for point in points]
        files.write_text(out.with_suffix(".json"), json.dumps(stored, indent=1) + "\n")
    _common.report("The loss over time and operations, by width", parts, out)


def main():
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("runs", nargs="+", type=_common.path, metavar="RUN")
    parser.add_argument("--out", type=_common.path, help="also write the report to this file")
    args = parser.parse_args()
    try:
        points = [Point.read(folder) for folder in args.runs]
        if len({(point.unit, point.data) for point in points}) > 1:
            raise ValueError("the runs have other validation clips or losses than one another")
    except ValueError as error:
        parser.error(str(error))
    report(points, args.out)


if __name__ == "__main__":
    main()
