"""How evaluations are stored: one schema, as JSON and as CSV, beside their pictures.

An evaluation is a folder, `RUN/eval/KIND-KEY/`, written whole or not at all. KEY is a hash of
everything that the figures depend on: the model's weights, the data, the settings. So an evaluation
that is there already is read instead of computed. The folder holds `results.json`, an
`Evaluation`; `results.csv`, its rows; and pictures. docs/evaluation.md describes the columns.
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
from unsup_video.training.trained import Trained
from unsup_video.utils import files

# 1 had features measured with their mean, and nothing teacher-forced; 2 had intervals that took
# clips of one video as independent.
SCHEMA_VERSION = 3


class Unsuitable(ValueError):
    """An evaluation that does not exist for such a model, whatever is done about it."""


@dataclasses.dataclass(frozen=True)
class Row:
    """One figure.

    Attributes:
        subject: whose it is: "model", or what it is compared with, such as "copy_last".
        data: what it was measured on, such as "test".
        part: of the model, or of a clip: "reconstruction", "future", "encoder/input_gate", ...
        mode: "free_running", "teacher_forced", or "" where that makes no difference.
        metric, unit: what was measured, in what.
        frame: 1, 2, .. of the part; None for the mean over all of them.
        value, low, high: the figure and its 95% confidence interval (see `intervals`); None without
            one.
        count: of clips, units or features behind it.
        groups: how many groups of these, such as videos, the interval takes as independent; None
            without an interval, and in results of an earlier version.
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
    """A file of the evaluation's folder, and what it shows."""

    file: str
    caption: str


@dataclasses.dataclass(frozen=True)
class Evaluation:
    """What one command found out about one model.

    Attributes:
        kind: the command, such as "future_prediction". folder: where it is stored.
        command: the command line that makes it. time: when it ran, ISO 8601.
        model: `Trained.describe`. settings: what the figures depend on besides the model.
        seconds: what it took, by part. machine: the processor.
        rows, pictures: what came out.
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
        """Rows with these values, for example find(subject="model", metric="mse", frame=None)."""
        return [r for r in self.rows if all(getattr(r, k) == v for k, v in fields.items())]


@dataclasses.dataclass
class Outcome:
    """What a computation hands over to be stored."""

    rows: list[Row]
    pictures: list[Picture] = dataclasses.field(default_factory=list)
    seconds: dict[str, float] = dataclasses.field(default_factory=dict)


def row(
    subject, data, part, metric, values, mode="", unit="", frame=None, count=None, groups=None
) -> Row:
    """A `Row` of `values`: one for each clip, or a single figure, which has no interval.

    Values in % are answers, 0 or 100 each: see `intervals.interval`.

    Args:
        groups: (len(values),), the group that each clip is of, such as its video; None where every
            clip is independent of the others.
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
    """Draws pictures; returns those that are there. The figures do not depend on the others.

    Args:
        folder: of the evaluation. pictures: what to draw -> a function that writes it at a path.
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


def command(trained: Trained, kind: str, flags: dict, others: Sequence[str] = ()) -> str:
    """The command line of an evaluation of that model.

    Args:
        flags: name -> value; a list for one that is repeated, None for one that is left out.
        others: the arguments that give more models.
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


def folder_of(trained: Trained, kind: str, settings: dict) -> Path:
    """Where the evaluation of that model with these settings is stored."""
    identity = [SCHEMA_VERSION, kind, trained.sha256, settings]
    key = hashlib.sha256(_json(identity).encode()).hexdigest()[:10]
    return trained.evaluations / f"{kind}-{key}"


def check_writable(folder: str | Path, advice: str) -> None:
    """Makes a folder, and raises OSError with that advice where nothing can be written there."""
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryFile(dir=folder):
            pass
    except OSError as error:
        raise OSError(
            error.errno, f"{folder} cannot be written ({error.strerror}); {advice}"
        ) from None


def run(
    trained: Trained,
    kind: str,
    settings: dict,
    command: str,
    compute: Callable[[Path], Outcome],
    recompute: bool = False,
    log: Callable[[str], None] = print,
    parts: Path | None = None,
) -> Evaluation:
    """The stored evaluation, or a new one.

    One process at a time works on it: a second one waits, and reads what the first one stored.

    Args:
        settings: JSON values; all that the figures depend on besides the model.
        command: the command line that makes this evaluation.
        compute: folder -> `Outcome`; writes its pictures into `folder`.
        recompute: replace one that is stored; other files in its folder stay.
        parts: a folder where `compute` keeps what an interrupted one goes on with; it is deleted
            once the evaluation is stored, and, with `recompute`, before.

    Raises:
        OSError: it cannot be written, or its file system has no locks; an earlier one is kept.
    """
    settings = json.loads(_json(settings))  # tuples become lists, as in the file
    folder = folder_of(trained, kind, settings)
    if folder.exists() and not recompute:  # also where nothing can be written
        return _stored(folder, log)
    check_writable(
        trained.evaluations,
        "evaluations are kept in the folder of the run: make that writable, or "
        "copy the run; those of a SavedModel (--model) are kept under the current folder",
    )

    def waiting():
        log(f"{folder}: another process is at work on it: waiting")

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
    log(f"{folder} is there already; --recompute makes it anew")
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
    """Names of what an evaluation wrote; of a damaged one only those that all have."""
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
    """JSON has no infinity: it is stored as the text "inf", which float() reads."""
    return value if math.isfinite(value) else str(value)


def load(folder: str | Path) -> Evaluation:
    """Reads a stored evaluation. Raises ValueError where it is damaged or of a newer version."""
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
