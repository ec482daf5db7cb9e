"""One page of HTML about trained models, with everything that it shows inside it.

`collect` takes a run's own files and its evaluations together, `write` makes index.html of them,
and results.json and results.csv with all figures.
"""

import base64
import csv
import dataclasses
import html
import io
import json
import math
import re
import shlex
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from unsup_video import files
from unsup_video.evaluation import (
    charts,
    features,
    future_prediction,
    long_range,
    out_of_domain,
    results,
    testset,
)
from unsup_video.evaluation.trained import Trained
from unsup_video.training import workdir

TITLE = "Video representations learned by LSTMs"
_FIGURES = {
    long_range.KIND: "Figure 7: long futures",
    out_of_domain.KIND: "Figure 8: other numbers of digits",
    features.KIND: "Figures 9 and 10: what the weights look like",
}
_CURVES = ("cross_entropy", "squared_loss", "ssim", "mse")  # drawn over the frames of the future
_FILES = ("index.html", "results.json", "results.csv")
_NUMBER = ' class="number"'
_SAMPLE = re.compile(r"step-(\d+)-(\d+)\.(png|gif)")


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
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> dict[str, results.Evaluation | str]:
    """Every evaluation of the page, kind -> evaluation; those that are stored are read.

    A figure that cannot be made of this model, such as the long future of an autoencoder, is the
    reason for that instead.

    Args:
        clips: test clips of future_prediction; None for all of them.

    Raises:
        ValueError, FileNotFoundError: the model cannot be tested on its own test set.
    """
    test_set = testset.of_model(trained.config, None, clips)
    command = results.command(trained, future_prediction.KIND, {"clips": clips})
    found = {
        future_prediction.KIND: future_prediction.evaluate(
            trained, test_set, command, recompute=recompute, log=log
        )
    }
    for module in (long_range, out_of_domain, features):
        try:
            found[module.KIND] = module.evaluate(trained, recompute=recompute)
        except ValueError as error:
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
            config=json.loads((trained.path / "config.json").read_text(encoding="utf-8")),
            info=json.loads((trained.path / "run.json").read_text(encoding="utf-8")),
            metrics=workdir.read_metrics(trained.path / "metrics.jsonl"),
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
    short = [folder.name for folder in folders]
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
    texts = [page(runs, command, time), _json(runs, command, time), _csv(runs)]
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


# ---------------------------------------------------------------------- the page


def page(runs: list[Run], command: str, time: str) -> str:
    """The page as HTML. Arguments as of `write`."""
    sections = [
        ("runs", "Runs: what was trained, and how", _runs(runs)),
        ("learning", "Learning curves of all runs", _learning(runs)),
        ("table-2", "Table 2: prediction of the future", _table_2(runs)),
        ("figure-5", "Figure 5: reconstructions and predictions", _figure_5(runs)),
        *((kind.replace("_", "-"), title, _figure(runs, kind))
          for kind, title in _FIGURES.items()),
    ]
    contents = "".join(
        f'<li><a href="#{anchor}">{_text(title)}</a></li>' for anchor, title, _ in sections
    )
    body = "".join(
        f'<section id="{anchor}"><h2>{_text(title)}</h2>{content}</section>'
        for anchor, title, content in sections
    )
    count = f"{len(runs)} run{'s' if len(runs) > 1 else ''}"
    style = Path(__file__).with_name("report.css").read_text(encoding="utf-8")
    # The policy holds even if something were not escaped: no script runs, nothing is loaded.
    return f"""<!DOCTYPE html>
<html lang="en">
<head>
<meta charset="utf-8">
<meta name="viewport" content="width=device-width, initial-scale=1">
<meta http-equiv="Content-Security-Policy" content="default-src 'none'; img-src data:; \
style-src 'unsafe-inline'">
<meta name="color-scheme" content="light dark">
<link rel="icon" href="data:,">
<title>{TITLE}: {count}</title>
<style>
{style}</style>
</head>
<body>
<header>
<h1>{TITLE}</h1>
<p class="lead">Report on {count} &middot; <time datetime="{_text(time)}">{_text(time[:10])}</time>
&middot; after <cite>Unsupervised Learning of Video Representations using LSTMs</cite>
(<a href="https://arxiv.org/abs/1502.04681">arXiv 1502.04681</a>)</p>
{_summary(runs)}
</header>
<nav aria-label="Contents"><h2>Contents</h2><ol>{contents}</ol></nav>
<main>{body}</main>
<footer><p>This page was made by</p>{_code(command)}
<p>All figures are in results.json and results.csv beside it.</p></footer>
</body>
</html>
"""


def _text(value):
    return html.escape(str(value))


def _code(command):
    # Pieces that stay whole: a browser would break lines after the hyphens of a flag.
    words = " ".join(f"<span>{_text(word)}</span>" for word in command.split(" "))
    return f'<pre class="command"><code>{words}</code></pre>'


def _details(summary, content):
    return f"<details><summary>{_text(summary)}</summary>{content}</details>"


def _table(head, lines, labels=1):
    """A table that scrolls in its own box; the columns behind the first `labels` are numbers.

    Args:
        lines: of cells, HTML with their <td>.
    """
    columns = "".join(
        f'<th scope="col"{_NUMBER if k >= labels else ""}>{_text(title)}</th>'
        for k, title in enumerate(head)
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in lines)
    return (f'<div class="scroll" tabindex="0"><table><thead><tr>{columns}</tr></thead>'
            f"<tbody>{body}</tbody></table></div>")


def _label(value):
    return f"<td>{_text(value)}</td>"


def _number(content="–"):
    return f"<td{_NUMBER}>{content}</td>"


def _run_cell(runs, run):
    return f'<th scope="row"><a href="#{_anchor(runs, run)}">{_text(run.name)}</a></th>'


def _anchor(runs, run):
    return f"run-{runs.index(run) + 1}"


def _figure_text(value, like):
    """A figure with as many decimals as show about four digits of `like`."""
    size = abs(like)
    if 0 < size < 0.001:
        return f"{value:.2e}"
    return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3}f}"


def _row_cell(row):
    """The value of a `results.Row` with its interval; the exact one is in the element <data>."""
    if row is None:
        return _number()
    text = f'<data value="{row.value!r}">{_figure_text(row.value, row.value)}</data>'
    if row.high is not None:
        half = _figure_text(row.high - row.value, row.value)
        text += f' <span class="interval">&plusmn; {half}</span>'
    return _number(text)


def _metric_title(row):
    """"mse (sum over pixels)"."""
    name = row.metric.replace("_", " ")
    name = name.upper() if name in ("mse", "mae", "ssim", "psnr", "lpips") else name
    return f"{name} ({row.unit})" if row.unit else name


def _duration(seconds):
    if seconds < 120:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 120 else f"{minutes // 60} h {minutes % 60} min"


def _training_time(run):
    return _duration(run.metrics[-1]["elapsed_s"]) if run.metrics else "–"


def _architecture(model):
    return f"{model['kind']}, {model['layers']} × {model['units']} units"


def _parameters(run):
    return f"{run.info['parameters']:,}" if "parameters" in run.info else "–"


# ---------------------------------------------------------------------- runs


def _summary(runs):
    lines = []
    for run in runs:
        loss = _future_loss(run)
        lines.append([
            _run_cell(runs, run),
            _label(_architecture(run.model)),
            _label(run.model["recipe"]),
            _number(f"{run.model['step']:,}"),
            _number(_parameters(run)),
            _number(_training_time(run)),
            _row_cell(loss),
            _difference_cell(run),
        ])
    head = ("run", "model", "recipe", "step", "parameters", "training", "future loss per frame",
            "difference to the paper")
    return _table(head, lines, labels=3)


def _runs(runs):
    return "".join(
        f'<article id="{_anchor(runs, run)}"><h3>{_text(run.name)}</h3>{_facts(run)}'
        f"{_losses(runs, run)}"
        f"{_details('The whole config', _listing(run.config))}"
        f"<p>Trained by</p>{_code(run.command)}</article>"
        for run in runs
    )


def _facts(run):
    info, model = run.info, run.model
    conditional = [part for part in ("reconstruction", "future") if model[f"conditional_{part}"]]
    facts = {
        "Model": f"{_architecture(model)}, {model['output']} output, "
                 + (f"conditional {' and '.join(conditional)}" if conditional else "unconditional"),
        "Weights": f"of step {model['step']:,} of {_steps(run)}, the best on validation "
                   f"clips; sha256 {model['sha256']}",
        "Parameters": _parameters(run),
        "Config": f"{model['config']}, recipe {model['recipe']}",
        "Training time": _training_time(run),
        "Seed": run.config["seed"],
        "Data": _flat({k: v for k, v in info["data"].items() if k != "sha256"}),
        "Data, sha256": _flat(info["data"]["sha256"]),
        "Code": _git(info.get("git")),
        "Started": info["time"],
        "Resumed": _resumed(info.get("resumed", [])),
        "Hardware": _flat(info["machine"]),
        "Versions": _flat(info["versions"]),
        "Matrix products": info.get("gemm_dtype"),
        "Folder": run.path,
    }
    lines = "".join(
        f"<dt>{_text(name)}</dt><dd>{_text(value)}</dd>"
        for name, value in facts.items() if value not in (None, "")
    )
    return f"<dl>{lines}</dl>"


def _steps(run):
    last = run.metrics[-1]["step"] if run.metrics else run.model["step"]
    return f"{last:,}"


def _git(state):
    if state is None:
        return "not from a git checkout"
    return f"git {state['sha']}, " + ("with uncommitted changes" if state["dirty"] else "clean")


def _resumed(resumed):
    return "; ".join(f"{again['time']}, {_git(again.get('git'))}" for again in resumed)


def _flat(value):
    """Nested JSON values as one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_flat(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_flat, value))
    return str(value)


def _listing(value):
    return f'<pre class="listing"><code>{_text(json.dumps(value, indent=2))}</code></pre>'


def _series(run, split, key):
    """(steps, seconds, values) of one quantity of metrics.jsonl."""
    lines = [line for line in run.metrics if line["split"] == split and key in line]
    return ([line["step"] for line in lines], [line["elapsed_s"] for line in lines],
            [line[key] for line in lines])


def _losses(runs, run):
    """The loss curves of one run: a chart for each part of the model."""
    looks = {"train": (charts.COLOURS[1], 1.1), "validation": (charts.COLOURS[0], 1.8)}
    drawn, parts = [], {}
    for split, (colour, width) in looks.items():
        for mode, dash in (("free_running", charts.SOLID), ("teacher_forced", charts.DASHED)):
            for part in ("reconstruction", "future"):
                steps, _, values = _series(run, split, f"{mode}/{part}")
                if steps:
                    label = f"{split}, {mode.replace('_', '-')}"
                    line = charts.Line(label, steps, values, colour, dash, width)
                    parts.setdefault(part, []).append(line)
    for part, lines in parts.items():
        drawn.append(charts.svg(
            lines, f"{_anchor(runs, run)}-{part}", f"Loss of the {part}", "step",
            "loss per frame", settled=True,
        ))
    if not drawn:
        return "<p>metrics.jsonl has no losses.</p>"
    return _charts(drawn, [line for lines in parts.values() for line in lines])


def _charts(drawn, lines):
    return f'<div class="charts">{"".join(drawn)}</div>{charts.legend(lines)}'


def _learning(runs):
    by_step, by_time = [], []
    for index, run in enumerate(runs):
        steps, seconds, values = _series(run, "validation", "free_running/future")
        if steps:
            look = charts.style(index)
            minutes = [s / 60 for s in seconds]
            by_step.append(charts.Line(run.name, steps, values, **look))
            by_time.append(charts.Line(run.name, minutes, values, **look))
    if not by_step:
        return "<p>No run predicts the future.</p>"
    title, loss = "Future, validation, free-running", "loss per frame"
    drawn = [
        charts.svg(by_step, "learning-step", title, "step", loss, settled=True),
        charts.svg(by_time, "learning-time", title, "minutes of training", loss, settled=True),
    ]
    return _charts(drawn, by_step)


# ---------------------------------------------------------------------- Table 2 and figure 5


def _future_loss(run):
    """The row of the model's mean loss on the future; None for a model without one."""
    return next((row for row in run.prediction.find(subject="model", part="future", frame=None)
                 if row.metric in ("cross_entropy", "squared_loss")), None)


def _difference(run):
    """How far the future's cross entropy is above the paper's; None where it has none."""
    row, paper = _future_loss(run), future_prediction.reference(run.prediction)
    if row is None or paper is None or row.metric != "cross_entropy":
        return None
    return row.value - paper


def _difference_cell(run):
    difference = _difference(run)
    if difference is None:
        return _number()
    percent = 100 * difference / future_prediction.reference(run.prediction)
    return _number(f'<data value="{difference!r}">{difference:+.1f}</data> '
                   f'<span class="interval">({percent:+.1f}%)</span>')


def _test_sets(runs):
    """The runs, in lists of those that were tested on the same clips in the same way."""
    groups = {}
    for run in runs:
        settings = run.prediction.settings
        key = json.dumps([settings["data"], settings["clips"], settings["convention"]])
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _table_2(runs):
    groups = _test_sets(runs)
    parts = []
    if len(groups) > 1:
        parts.append('<p class="caution">These runs were tested on different clips, so there is a '
                     "table for each test set; figures of different tables do not compare.</p>")
    for number, group in enumerate(groups, 1):
        title = f"Test set {number}: " if len(groups) > 1 else "Test set: "
        settings = group[0].prediction.settings
        parts += [
            f"<h3>{_text(title + _describe(settings))}</h3>",
            _prediction_table(runs, group),
            f"<p>Means over frames and clips, free-running; &plusmn; is the 95% confidence "
            f"interval over clips. Metric convention: {_text(settings['convention'])}. "
            f"Below the runs: what needs no learning (of {_text(group[0].name)}).</p>",
            _reconstruction_table(runs, group),
            _details("What was tested on, and how", _listing(settings)),
        ]
    return "".join(parts) + _commands(runs, future_prediction.KIND)


def _describe(settings):
    return f"{settings['clips']:,} clips, {settings['data']['kind'].replace('_', ' ')}"


def _metrics(group, part):
    """metric -> its title, the loss first."""
    found = [row for run in group for row in run.prediction.find(part=part, frame=None)]
    return {row.metric: _metric_title(row)
            for row in sorted(found, key=lambda row: row.metric not in _CURVES[:2])}


def _metric_cells(evaluation, subject, part, metrics):
    here = evaluation.find(subject=subject, part=part, frame=None)
    found = {row.metric: row for row in here}
    return [_row_cell(found.get(metric)) for metric in metrics]


def _prediction_table(runs, group):
    metrics = _metrics(group, "future")
    lines = []
    for run in group:
        first, *others = _metric_cells(run.prediction, "model", "future", metrics)
        paper = future_prediction.reference(run.prediction)
        paper_cell = _number(f"{paper:.1f}") if paper else _number()
        lines.append([_run_cell(runs, run), first, paper_cell, _difference_cell(run), *others])
    floors = group[0].prediction
    for subject, label in future_prediction.SUBJECTS.items():
        if floors.find(subject=subject):
            first, *others = _metric_cells(floors, subject, "future", metrics)
            lines.append([f'<th scope="row" class="floor">{_text(label)}</th>', first,
                          _number(), _number(), *others])
    first, *others = metrics.values()
    return _table(["future", first, "paper's Table 2", "difference", *others], lines)


def _reconstruction_table(runs, group):
    metrics = _metrics(group, "reconstruction")
    lines = [
        [_run_cell(runs, run),
         *_metric_cells(run.prediction, "model", "reconstruction", metrics)]
        for run in group if run.prediction.find(subject="model", part="reconstruction")
    ]
    return _table(["reconstruction", *metrics.values()], lines) if lines else ""


def _commands(runs, kind):
    """The commands that make the evaluations of that kind."""
    commands = dict.fromkeys(
        run.evaluations[kind].command for run in runs
        if not isinstance(run.evaluations[kind], str)
    )
    return "".join(["<p>Made by</p>", *map(_code, commands)]) if commands else ""


def _figure_5(runs):
    return "".join([
        *(_frame_curves(runs, group, number) for number, group in enumerate(_test_sets(runs), 1)),
        _commands(runs, future_prediction.KIND),
        *(_samples(runs, run) for run in runs),
    ])


def _frame_curves(runs, group, number):
    """Charts of every metric over the frames of the future: the runs of a group, and its floors."""
    dashes = (charts.DOTTED, charts.DASHED, charts.DASH_DOTTED, charts.SOLID)
    drawn, shown = [], []
    for metric in _CURVES:
        lines = []
        for run in group:
            look = charts.style(runs.index(run))
            lines += _frame_line(run.prediction, "model", metric, run.name, band=True, **look)
        if not lines:
            continue
        for (subject, label), dash in zip(
            future_prediction.SUBJECTS.items(), dashes, strict=True
        ):
            lines += _frame_line(group[0].prediction, subject, metric, label, dash=dash, width=1.0)
        row = group[0].prediction.find(metric=metric)[0]
        drawn.append(charts.svg(
            lines, f"frames-{number}-{metric}", _metric_title(row), "frame of the future", "",
            log=metric == "cross_entropy",
        ))
        shown += lines
    if not drawn:
        return ""
    settings = group[0].prediction.settings
    return f"<h3>Frame by frame: {_text(_describe(settings))}</h3>{_charts(drawn, shown)}"


def _frame_line(evaluation, subject, metric, label, band=False, **look):
    """[the line of a metric over the frames of the future]; [] where there is none."""
    found = [row for row in evaluation.find(subject=subject, part="future", metric=metric)
             if row.frame is not None and math.isfinite(row.value)]
    if not found:
        return []
    if band and all(row.low is not None for row in found):
        look |= {"low": [row.low for row in found], "high": [row.high for row in found]}
    x, y = [row.frame for row in found], [row.value for row in found]
    return [charts.Line(label, x, y, **look)]


def _samples(runs, run):
    """What the run drew of validation clips when it was evaluated for the last time."""
    found = [(match, path) for path in (run.path / "samples").glob("step-*")
             if (match := _SAMPLE.fullmatch(path.name))]
    title = f'<h3>Validation clips of <a href="#{_anchor(runs, run)}">{_text(run.name)}</a></h3>'
    if not found:
        return f"{title}<p>The run has drawn no samples.</p>"
    newest = max(int(match[1]) for match, _ in found)
    pictures = [
        (path, f"Validation clip {int(match[2]) + 1} at step {newest:,}: the truth and the model "
         f"{run.name}")
        for match, path in sorted(found, key=lambda pair: pair[1].name) if int(match[1]) == newest
    ]
    return f"{title}{_pictures(pictures)}<p>Made in training, by</p>{_code(run.command)}"


# ---------------------------------------------------------------------- other figures


def _figure(runs, kind):
    """A section of any kind of evaluation: its pictures, its means and its command."""
    parts = []
    for run in runs:
        evaluation = run.evaluations[kind]
        parts.append(f'<h3><a href="#{_anchor(runs, run)}">{_text(run.name)}</a></h3>')
        if isinstance(evaluation, str):
            parts.append(f'<p class="caution">Not made of this run: {_text(evaluation)}.</p>')
            continue
        parts += [
            _pictures([(evaluation.folder / p.file, p.caption) for p in evaluation.pictures]),
            _means(evaluation),
            "<p>Made by</p>",
            _code(evaluation.command),
        ]
    return "".join(parts)


def _means(evaluation):
    """The rows that are of no single frame: a line for each thing measured, metrics across."""
    means = evaluation.find(frame=None)
    if not means:
        return ""
    metrics = {row.metric: _metric_title(row) for row in means}
    lines = {}
    for row in means:
        key = (row.subject, row.data, row.part, row.mode.replace("_", "-"))
        lines.setdefault(key, {})[row.metric] = row
    labels = ["subject", "data", "part", "mode"]
    if not any(mode for *_, mode in lines):
        labels.pop()
    table = _table(
        [*labels, *metrics.values()],
        [[*map(_label, key[: len(labels)]), *(_row_cell(found.get(name)) for name in metrics)]
         for key, found in lines.items()],
        len(labels),
    )
    return table if len(lines) <= 24 else _details(f"All {len(lines)} lines of figures", table)


def _pictures(pictures):
    """Figures of (path, caption): the still ones below one another, the animations in a grid."""
    still, moving = [], []
    for path, caption in pictures:
        kind = moving if path.suffix == ".gif" else still
        kind.append(f"<figure>{_image(path, caption)}<figcaption>{_text(caption)}</figcaption>"
                    "</figure>")
    grid = f'<div class="animations">{"".join(moving)}</div>' if moving else ""
    return f'<div class="stills">{"".join(still)}</div>{grid}'


def _image(path, alt):
    with Image.open(path) as picture:
        width, height, kind = *picture.size, Image.MIME[picture.format]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (f'<div class="scroll" tabindex="0"><img src="data:{kind};base64,{data}" '
            f'width="{width}" height="{height}" alt="{_text(alt)}"></div>')
