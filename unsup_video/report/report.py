"""Writes a self-contained HTML page about trained models.

`collect` combines each run's own files with its evaluations, `studies` reads studies with few
labels, and `write` makes index.html of them, and results.json and results.csv with all figures.
"""

import csv
import dataclasses
import io
import json
import math
import re
import shlex
from collections.abc import Callable, Sequence
from pathlib import Path

from unsup_video.evaluation import few_labels, future_prediction, intervals, paper, results
from unsup_video.evaluation.naming import names
from unsup_video.report import page, page_actions, page_few_labels, sections
from unsup_video.report.section import Options
from unsup_video.training import workdir
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files

_FILES = ("index.html", "results.json", "results.csv")
_STUDY = "few_labels"  # the kind of a study's rows


@dataclasses.dataclass(frozen=True)
class Run:
    """A run as the page shows it.

    Attributes:
        name: unique on the page. path: its folder.
        config, info, metrics: its config.json, run.json and metrics.jsonl.
        model: `TrainedModel.describe()`.
        evaluations: kind -> evaluation, or the reason why it is missing.
        classes: of a classifier; () of a video model.
    """

    name: str
    path: Path
    config: dict
    info: dict
    metrics: list[dict]
    model: dict
    evaluations: dict[str, results.Evaluation | str]
    classes: tuple[str, ...] = ()

    @property
    def prediction(self) -> results.Evaluation:
        return self.evaluations[future_prediction.KIND]

    @property
    def command(self) -> str:
        """The command that trained the run, as a user types it."""
        program, *arguments = self.info["command"]
        program = Path(program)
        module = f"{program.parent.name}.{program.stem}"
        start = ["python", "-m", module] if program.suffix == ".py" else [program.name]
        return shlex.join([*start, *map(_typed, arguments)])


def _typed(argument):
    """Replaces the path of a packaged config, which `configs.expand` inserted, by its name."""
    return re.sub(r"^(--?config=)?.*/unsup_video/configs/(\w+)\.py(?=:|$)", r"\1\2", argument)


@dataclasses.dataclass(frozen=True)
class Study:
    """A study of `few_labels` as the page shows it.

    Attributes:
        name: unique on the page. path: its folder.
        settings, summaries: see `few_labels.load`.
        variants: contender -> its row in `paper.TABLE_3`, for those that have one.
    """

    name: str
    path: Path
    settings: dict
    summaries: list[few_labels.Summary]
    variants: dict[str, str]

    @property
    def contenders(self) -> list[str]:
        return list(dict.fromkeys(s.contender for s in self.summaries))

    @property
    def numbers(self) -> list[int]:
        """The numbers of labelled videos per class; 0 for all."""
        return list(dict.fromkeys(s.per_class for s in self.summaries))


def studies(folders: Sequence[str | Path]) -> list[Study]:
    """Reads studies of `few_labels`.

    Raises:
        ValueError: a study is missing, damaged, or given twice.
    """
    paths = [Path(folder) for folder in folders]
    loaded = []
    for name, path in zip(names(paths), paths, strict=True):
        settings, summaries = few_labels.load(path)
        variants = {few_labels.BASELINE: "none"}
        for contender, model in settings["pretrained"].items():
            if (variant := _variant(contender, model)) is not None:
                variants[contender] = variant
        loaded.append(Study(name, path, settings, summaries, variants))
    return loaded


def _variant(name, model):
    """Returns the row of `paper.TABLE_3` for a study's pretrained model; None without one.

    Studies of earlier versions do not record the kind of the model; its name tells.
    """
    if "kind" in model:
        return paper.variant(
            model["kind"], model["conditional_reconstruction"], model["conditional_future"]
        )
    known = name.removeprefix("table3_")
    return known if known in paper.TABLE_3 else None


def evaluate(
    trained: TrainedModel, options: Options, log: Callable[[str], None] = print
) -> dict[str, results.Evaluation | str]:
    """Returns {kind: evaluation} for every evaluation of the page; reads those that are stored.

    If an evaluation does not exist for this model, such as the long future of an autoencoder, the
    reason takes its place.

    Raises:
        ValueError, OSError: see `Section.evaluate`.
    """
    evaluations = {}
    for section in sections.SECTIONS:
        if section.kind in evaluations or not section.applies_to(trained):
            continue
        try:
            evaluations[section.kind] = section.evaluate(trained, options, log)
        except results.Unsuitable as error:
            evaluations[section.kind] = str(error)
            log(f"{trained.name}: no {section.kind} in the report: {error}")
    return evaluations


def collect(
    models: list[TrainedModel], evaluations: list[dict[str, results.Evaluation | str]]
) -> list[Run]:
    """Returns the runs of the page, from their files and the results of `evaluate`."""
    runs = []
    for name, trained, kinds in zip(
        names([m.path for m in models]), models, evaluations, strict=True
    ):
        runs.append(
            Run(
                name=name,
                path=trained.path,
                config=json.loads((trained.origin / "config.json").read_text(encoding="utf-8")),
                info=json.loads((trained.origin / "run.json").read_text(encoding="utf-8")),
                metrics=[]
                if trained.saved_model
                else workdir.read_metrics(trained.path / "metrics.jsonl"),
                model=trained.describe(),
                evaluations=kinds,
                classes=trained.classes,
            )
        )
    return runs


def check_folder(folder: str | Path, overwrite: bool) -> None:
    """Raises ValueError if a page in this folder would replace files."""
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise ValueError(
            f"{folder} is the folder of a run, whose results would be replaced; use another --out"
        )
    there = [folder / name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"{there[0]} exists; use another --out, or --overwrite to replace it")


def write(
    runs: list[Run],
    folder: str | Path,
    command: str,
    time: str,
    overwrite: bool = False,
    studies: Sequence[Study] = (),
) -> list[Path]:
    """Writes results.csv, results.json and, last, index.html; returns them.

    Args:
        command: the command line that makes the page. time: of the page, ISO 8601.

    Raises:
        ValueError: see `check_folder`. OSError: `folder` cannot be written, or a picture of an
            evaluation cannot be read.
    """
    check_folder(folder, overwrite)
    folder = Path(folder)
    figures = rows(runs, studies)
    texts = [
        page.render(runs, command, time, studies),
        _json(runs, studies, figures, command, time),
        _csv(figures),
    ]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in reversed(list(zip(_FILES, texts, strict=True))):
        files.write_text(folder / name, text)
    return [folder / name for name in _FILES]


def rows(runs: list[Run], studies: Sequence[Study] = ()) -> list[dict]:
    """Returns all rows of all runs, with the columns "run" and "kind" in front; inf as "inf".

    Rows of studies have the kind "few_labels", a contender as the subject, the part
    "videos_per_class/K", and the metrics "accuracy" with its interval over subsets,
    "accuracy_std", and "gain".
    """
    figures = [
        (run.name, evaluation.kind, row)
        for run in runs
        for evaluation in run.evaluations.values()
        if not isinstance(evaluation, str)
        for row in evaluation.rows
    ]
    figures += [(study.name, _STUDY, row) for study in studies for row in _study_rows(study)]
    return [
        {
            "run": name,
            "kind": kind,
            **dataclasses.asdict(row),
            "value": row.value if math.isfinite(row.value) else str(row.value),
        }
        for name, kind, row in figures
    ]


def _study_rows(study):
    for s in study.summaries:
        part = f"videos_per_class/{few_labels.number_text(s.per_class)}"

        def row(metric, value, low=None, high=None):
            known = [None if x is None or math.isnan(x) else x for x in (low, high)]
            return results.Row(
                s.contender, "test", part, "", metric, "%", None, value, *known, len(s.accuracies)
            )

        if not s.accuracies:
            continue  # training diverged; the page says so
        yield row("accuracy", *intervals.interval(s.accuracies, percent=True))
        if not math.isnan(s.std):
            yield row("accuracy_std", s.std)
        if s.difference is not None:
            yield row("gain", s.difference, s.low, s.high)


def _json(runs, studies, rows, command, time):
    described = [
        {
            "run": run.name,
            "model": run.model,
            "info": run.info,
            "config": run.config,
            "paper": page_actions.reference(run)
            if run.classes
            else future_prediction.reference(run.prediction),
            "evaluations": {
                kind: {"missing": evaluation}
                if isinstance(evaluation, str)
                else {
                    "command": evaluation.command,
                    "time": evaluation.time,
                    "settings": evaluation.settings,
                }
                for kind, evaluation in run.evaluations.items()
            },
        }
        for run in runs
    ]
    content = {
        "schema_version": results.SCHEMA_VERSION,
        "command": command,
        "time": time,
        "runs": described,
        "studies": [
            {
                "study": study.name,
                "path": str(study.path),
                "settings": study.settings,
                "paper": {
                    name: figures
                    for name in study.variants
                    if (figures := page_few_labels.reference(study, name))
                },
            }
            for study in studies
        ],
        "rows": rows,
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _csv(rows):
    file = io.StringIO()
    table = csv.DictWriter(file, ("run", "kind", *results.COLUMNS), lineterminator="\n")
    table.writeheader()
    table.writerows(rows)
    return file.getvalue()
