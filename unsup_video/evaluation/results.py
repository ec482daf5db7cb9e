"""Stores evaluations in one schema, as JSON and as CSV, with their pictures.

An evaluation is a folder, `RUN/eval/KIND-KEY/`, written atomically. KEY is a hash of everything
that the figures depend on: the model's weights, the data, the settings. So a stored evaluation is
read instead of computed again. The folder holds `results.json`, an `Evaluation`; `results.csv`, its
rows; and pictures. docs/evaluation.md describes the columns.
"""

import contextlib
import csv
import dataclasses
import datetime
import hashlib
import json
import math
import operator
import os
import shlex
import shutil
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

import unsup_video
from unsup_video.evaluation import intervals
from unsup_video.training import workdir
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files

# Version 1 measured features with their mean and had no teacher-forced rows; the intervals of
# version 2 treated clips of one video as independent.
SCHEMA_VERSION = 3


class Unsuitable(ValueError):
    """Raised if an evaluation does not exist for such a model, whatever its settings."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        subject: "model", or the floor that it is compared with, such as "copy_last".
        data: name of the test data, such as "test".
        part: of the model, or of a clip: "reconstruction", "future", "encoder/input_gate", ...
        mode: "free_running", "teacher_forced", or "" where that makes no difference.
        metric, unit: the name and the unit of the quantity.
        frame: 1, 2, .. of the part; None for the mean over all frames.
        value, low, high: the figure and its 95% confidence interval (see `intervals`); low and high
            are None without one.
        count: number of clips, units or features behind the figure.
        groups: number of their groups, such as videos, that the interval treats as independent;
            None without an interval, and in results of an earlier version.
    """

    subject: str
    data: str
    part: str
    mode: str
    metric: str
    unit: str
    frame: int | None
    value: float
    low: float | None
    high: float | None
    count: int
    groups: int | None = None


COLUMNS = tuple(field.name for field in dataclasses.fields(Row))


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture's file in the evaluation's folder, and its caption."""

    file: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """The results of one command for one model.

    Attributes:
        kind: the command, such as "future_prediction". folder: where it is stored.
        command: the command line that makes it. time: when it ran, ISO 8601.
        model: `TrainedModel.describe`. settings: all that the figures depend on besides the model.
        seconds: the duration of each part. machine: the processor and versions.
        rows, pictures: the figures and the pictures.
    """

    kind: str
    folder: Path
    command: str
    time: str
    model: dict
    settings: dict
    seconds: dict[str, float]
    machine: dict
    rows: tuple[Row, ...]
    pictures: tuple[Picture, ...]
    schema_version: int = SCHEMA_VERSION

    def find(self, **fields) -> list[Row]:
        """Finds rows by values, for example find(subject="model", metric="mse", frame=None)."""
        return [r for r in self.rows if all(getattr(r, k) == v for k, v in fields.items())]


@dataclasses.dataclass
class Outcome:
    """The figures and pictures of a computation, to be stored."""

    rows: list[Row]
    pictures: list[Picture] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def row(
    subject, data, part, metric, values, mode="", unit="", frame=None, count=None, groups=None
) -> Row:
    """Returns the `Row` of `values`: one per clip, or a single figure, which has no interval.

    Values in % are answers, 0 or 100 each: see `intervals.interval`.

    Args:
        groups: (len(values),), the group of each clip, such as its video; None where every clip is
            independent of the others.
    """
    values = np.atleast_1d(values)
    mean, low, high = intervals.interval(values, groups, answers=unit == "%")
    count = len(values) if count is None else count
    if math.isnan(low):
        return Row(subject, data, part, mode, metric, unit, frame, mean, None, None, count)
    independent = len(values) if groups is None else len(np.unique(groups))
    return Row(subject, data, part, mode, metric, unit, frame, mean, low, high, count, independent)


def drawn(
    folder: Path, pictures: dict[Picture, Callable[[Path], None]], log: Callable[[str], None]
) -> list[Picture]:
    """Draws pictures and returns those that could be drawn.

    Args:
        folder: of the evaluation. pictures: picture -> a function that writes it to a path.
        log: gets a line on a picture that cannot be drawn.
    """
    written = []
    for picture, draw in pictures.items():
        try:
            draw(folder / picture.file)
        except Exception as error:  # whatever drawing raises
            log(f"{picture.file} is not drawn: {error}")
        else:
            written.append(picture)
    return written


def command(trained: TrainedModel, kind: str, flags: dict, others: Sequence[str] = ()) -> str:
    """Returns the command line of an evaluation of that model.

    Args:
        flags: name -> value; a list for a flag that is repeated, None for one that is left out.
        others: arguments that name more models.
    """
    given = [
        f"--{name}={one}"
        for name, value in flags.items()
        if value is not None
        for one in (value if isinstance(value, list) else [value])
    ]
    if trained.precision:
        given.append(f"--precision={trained.precision}")
    if trained.digits_dir:
        given.append(f"--digits_dir={trained.digits_dir}")
    return shlex.join(["python", "-m", f"eval.{kind}", trained.flag, *others, *given])


def _json(values):
    return json.dumps(values, sort_keys=True, default=operator.index)  # numpy's integers too


def folder_of(trained: TrainedModel, kind: str, settings: dict) -> Path:
    """Returns the folder of the evaluation of that model with these settings."""
    identity = [SCHEMA_VERSION, kind, trained.sha256, settings]
    key = hashlib.sha256(_json(identity).encode()).hexdigest()[:10]
    return trained.evaluations / f"{kind}-{key}"


def check_writable(folder: str | Path, advice: str) -> None:
    """Makes a folder, and raises OSError with `advice` if it cannot be written."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno, f"{folder} cannot be written ({error.strerror}); {advice}"
        ) from None


def run(
    trained: TrainedModel,
    kind: str,
    settings: dict,
    command: str,
    compute: Callable[[Path], Outcome],
    recompute: bool = False,
    log: Callable[[str], None] = print,
    parts: Path | None = None,
) -> Evaluation:
    """Reads the stored evaluation, or computes and stores it.

    One process at a time computes it: a second one waits, and reads the result of the first.

    Args:
        settings: JSON values; all that the figures depend on besides the model.
        command: the command line that makes this evaluation.
        compute: folder -> `Outcome`; writes its pictures into `folder`.
        recompute: replace a stored evaluation; other files in its folder stay.
        parts: a folder where `compute` keeps intermediate results to resume from; it is deleted
            once the evaluation is stored, and, with `recompute`, before.

    Raises:
        OSError: it cannot be written, or its file system has no locks; an earlier one is kept.
    """
    settings = json.loads(_json(settings))  # tuples become lists, as in the file
    folder = folder_of(trained, kind, settings)
    if folder.exists() and not recompute:  # works in read-only folders, too
        return _stored(folder, log)
    check_writable(
        trained.evaluations,
        "evaluations are kept in the folder of the run: make that writable, or "
        "copy the run; those of a SavedModel (--model) are kept under the current folder",
    )

    def waiting():
        log(f"{folder}: waiting for another process that is computing it")

    with files.locked(folder, waiting):
        files.remove_leftovers(trained.evaluations, folder.name)
        if folder.exists() and not recompute:
            return _stored(folder, log)
        if parts is not None and recompute:
            shutil.rmtree(parts, ignore_errors=True)
        evaluation = _computed(trained, kind, settings, command, compute, folder, recompute)
        if parts is not None:
            shutil.rmtree(parts, ignore_errors=True)
    return evaluation


def _stored(folder, log):
    log(f"{folder} exists and is used; --recompute computes it again")
    return load(folder)


def _computed(trained, kind, settings, command, compute, folder, recompute):
    began = time.perf_counter()
    with files.atomic_write(folder, replace=recompute) as temporary:
        temporary.mkdir()
        outcome = compute(temporary)
        evaluation = Evaluation(
            kind=kind,
            folder=folder,
            command=command,
            time=datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            model=trained.describe(),
            settings=settings,
            seconds={**outcome.seconds, "total": time.perf_counter() - began},
            machine={
                "cpu": workdir.cpu(),
                "cores": os.cpu_count(),
                "unsup_video": unsup_video.__version__,
                "tensorflow": workdir.version("tensorflow"),
            },
            rows=tuple(outcome.rows),
            pictures=tuple(outcome.pictures),
        )
        _write(evaluation, temporary)
        if folder.exists():
            files.keep_foreign(folder, temporary, _own_files(folder))
    return evaluation


def _own_files(folder):
    """Returns the names of an evaluation's files; if damaged, of those that every one has."""
    names = {"results.json", "results.csv"}
    with contextlib.suppress(ValueError):
        names |= {picture.file for picture in load(folder).pictures}
    return names


def _write(evaluation, folder):
    fields = dataclasses.asdict(evaluation)
    del fields["folder"]
    for stored in fields["rows"]:
        stored["value"] = _number(stored["value"])
    text = json.dumps(fields, indent=1, allow_nan=False) + "\n"
    (folder / "results.json").write_text(text, encoding="utf-8")
    with open(folder / "results.csv", "w", newline="", encoding="utf-8") as file:
        table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
        table.writeheader()
        table.writerows(fields["rows"])


def _number(value):
    """Returns a value for JSON, which has no infinity: the text "inf", which float() reads."""
    return value if math.isfinite(value) else str(value)


def load(folder: str | Path) -> Evaluation:
    """Reads a stored evaluation. Raises ValueError if it is damaged or of a newer version."""
    path = Path(folder) / "results.json"
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema_version"] > SCHEMA_VERSION:
            raise ValueError(f"schema version {fields['schema_version']}; update unsup_video")
        fields["rows"] = tuple(
            Row(**{**stored, "value": float(stored["value"])}) for stored in fields["rows"]
        )
        fields["pictures"] = tuple(Picture(**stored) for stored in fields["pictures"])
        return Evaluation(folder=Path(folder), **fields)
    except (OSError, KeyError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete {folder} or use --recompute") from None
