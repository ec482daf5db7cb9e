"""One page of HTML about trained models, with everything that it shows inside it.

`collect` takes a run's own files and its evaluations together, `write` makes index.html of them,
and results.json and results.csv with all figures.
"""

import csv
import dataclasses
import io
import json
import math
import shlex
from collections.abc import Callable
from pathlib import Path

from unsup_video import files, metrics
from unsup_video.evaluation import (
    features,
    future_prediction,
    long_range,
    out_of_domain,
    page,
    results,
    testset,
)
from unsup_video.evaluation.trained import Trained, name_of
from unsup_video.training import workdir

_FILES = ("index.html", "results.json", "results.csv")


@dataclasses.dataclass(frozen=True)
class Run:
    """What the page says of one run.

    Attributes:
        name: that no other run of the page has. path: its folder.
        config, info, metrics: its config.json, run.json and metrics.jsonl.
        model: `Trained.describe()`.
        evaluations: kind -> evaluation, or the reason why there is none.
    """

    name: str
    path: Path
    config: dict
    info: dict
    metrics: list[dict]
    model: dict
    evaluations: dict[str, results.Evaluation | str]

    @property
    def prediction(self) -> results.Evaluation:
        return self.evaluations[future_prediction.KIND]

    @property
    def command(self) -> str:
        """The command that trained it, as one types it."""
        program, *arguments = self.info["command"]
        program = Path(program)
        module = f"{program.parent.name}.{program.stem}"
        start = ["python", "-m", module] if program.suffix == ".py" else [program.name]
        return shlex.join([*start, *arguments])


def evaluate(
    trained: Trained,
    clips: int | None = None,
    records: str | None = None,
    convention: str | None = None,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, results.Evaluation | str]:
    """Every evaluation of the page, kind -> evaluation; those that are stored are read.

    A figure that does not exist for this model, such as the long future of an autoencoder, is the
    reason for that instead.

    Args:
        clips: test clips of future_prediction; None for all of them. records: a data set of
            data_prep's to test on; None for the run's own. convention: of `metrics`.

    Raises:
        ValueError, OSError: the model cannot be tested on these clips; a stored evaluation is
            damaged.
    """
    test_set = testset.of_model(trained.config, records, clips)
    given = {"records": records, "clips": clips, "metric_convention": convention}
    found = {
        future_prediction.KIND: future_prediction.evaluate(
            trained,
            test_set,
            results.command(trained, future_prediction.KIND, given),
            convention=convention or metrics.CONVENTIONS[0],
            recompute=recompute,
            log=log,
        )
    }
    for module, options in {
        long_range: {"records": records}, out_of_domain: {}, features: {},
    }.items():
        try:
            found[module.KIND] = module.evaluate(trained, **options, recompute=recompute, log=log)
        except results.Unsuitable as error:
            found[module.KIND] = str(error)
            log(f"{trained.name}: no {module.KIND} in the report: {error}")
    return found


def collect(
    models: list[Trained], evaluations: list[dict[str, results.Evaluation | str]]
) -> list[Run]:
    """The runs of the page: their files, and what `evaluate` gave for each model."""
    runs = []
    for name, trained, found in zip(names([m.path for m in models]), models, evaluations,
                                    strict=True):
        runs.append(Run(
            name=name,
            path=trained.path,
            config=json.loads((trained.origin / "config.json").read_text(encoding="utf-8")),
            info=json.loads((trained.origin / "run.json").read_text(encoding="utf-8")),
            metrics=[] if trained.saved_model
            else workdir.read_metrics(trained.path / "metrics.jsonl"),
            model=trained.describe(),
            evaluations=found,
        ))
    return runs


def names(paths: list[Path]) -> list[str]:
    """A name for each run: that of its folder, or the whole path where two are called the same.

    Raises:
        ValueError: a folder is given twice.
    """
    folders = [path.resolve() for path in paths]
    for path, folder in zip(paths, folders, strict=True):
        if folders.count(folder) > 1:
            raise ValueError(f"the run {path} is given twice; give each run once")
    short = [name_of(folder) for folder in folders]
    return [
        str(path) if short.count(name) > 1 else name
        for path, name in zip(paths, short, strict=True)
    ]


def check_folder(folder: str | Path, overwrite: bool) -> None:
    """Raises ValueError for a folder whose files may not be replaced by those of a page."""
    folder = Path(folder)
    if (folder / "config.json").exists():
        raise ValueError(f"{folder} is the folder of a run, whose results would be replaced; "
                         "use another --out")
    there = [folder / name for name in _FILES if (folder / name).exists()]
    if there and not overwrite:
        raise ValueError(f"{there[0]} exists; use another --out, or --overwrite to replace it")


def write(
    runs: list[Run], folder: str | Path, command: str, time: str, overwrite: bool = False
) -> list[Path]:
    """Writes results.csv, results.json and, last, index.html; returns them.

    Args:
        command: the one that makes the page. time: ISO 8601, of the page.

    Raises:
        ValueError: see `check_folder`. OSError: it cannot be written, or a picture of an evaluation
            cannot be read.
    """
    check_folder(folder, overwrite)
    folder = Path(folder)
    texts = [page.render(runs, command, time), _json(runs, command, time), _csv(runs)]
    folder.mkdir(parents=True, exist_ok=True)
    for name, text in reversed(list(zip(_FILES, texts, strict=True))):
        files.write_text(folder / name, text)
    return [folder / name for name in _FILES]


def rows(runs: list[Run]) -> list[dict]:
    """All rows of all runs, with the columns "run" and "kind" in front; inf is the text "inf"."""
    return [
        {
            "run": run.name,
            "kind": evaluation.kind,
            **dataclasses.asdict(row),
            "value": row.value if math.isfinite(row.value) else str(row.value),
        }
        for run in runs
        for evaluation in run.evaluations.values() if not isinstance(evaluation, str)
        for row in evaluation.rows
    ]


def _json(runs, command, time):
    described = [
        {
            "run": run.name,
            "model": run.model,
            "info": run.info,
            "config": run.config,
            "paper": future_prediction.reference(run.prediction),
            "evaluations": {
                kind: {"missing": found} if isinstance(found, str)
                else {"command": found.command, "time": found.time, "settings": found.settings}
                for kind, found in run.evaluations.items()
            },
        }
        for run in runs
    ]
    content = {
        "schema_version": results.SCHEMA_VERSION,
        "command": command,
        "time": time,
        "runs": described,
        "rows": rows(runs),
    }
    return json.dumps(content, indent=1, allow_nan=False) + "\n"


def _csv(runs):
    file = io.StringIO()
    table = csv.DictWriter(file, ("run", "kind", *results.COLUMNS), lineterminator="\n")
    table.writeheader()
    table.writerows(rows(runs))
    return file.getvalue()
