"""The page of `report`: its HTML, with every picture inside it."""

import base64
import html
import json
import math
import re
from pathlib import Path

from PIL import Image

from unsup_video.evaluation import (
    charts,
    features,
    future_prediction,
    long_range,
    out_of_domain,
)

TITLE = "Video representations learned by LSTMs"
_FIGURES = {
    long_range.KIND: "Figure 7: long futures",
    out_of_domain.KIND: "Figure 8: other numbers of digits",
    features.KIND: "Figures 9 and 10: what the weights look like",
}
_LOSSES = ("cross_entropy", "squared_loss")
_CURVES = (*_LOSSES, "ssim", "mse")  # drawn over the frames of the future
_NUMBER = ' class="number"'
_SAMPLE = re.compile(r"step-(\d+)-(\d+)\.(png|gif)")


def render(runs: list, command: str, time: str) -> str:
    """The page of `report.Run`s as HTML. Arguments as of `report.write`."""
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
    """A figure with as many decimals as show three or four digits of `like`."""
    size = abs(like)
    if 0 < size < 0.001:
        return f"{value:.2e}"
    if size >= 0.1 or size == 0:
        return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3}f}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}"


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
    if not run.metrics:
        return "<p>No loss curves: metrics.jsonl stays in the run's folder.</p>"
    if not drawn:
        return "<p>metrics.jsonl has no losses.</p>"
    return _charts(drawn, [line for lines in parts.values() for line in lines])


def _charts(drawn, lines):
    return f'<div class="charts">{"".join(drawn)}</div>{charts.legend(lines)}'


def _learning(runs):
    """The validation losses of the future: a chart for runs whose losses compare."""
    groups = {}
    for run in runs:
        key = json.dumps([run.info["data"]["sha256"], run.model["output"]], sort_keys=True)
        groups.setdefault(key, []).append(run)
    drawn = []
    for number, group in enumerate(groups.values(), 1):
        lines = {"step": [], "minutes of training": []}
        for run in group:
            steps, seconds, values = _series(run, "validation", "free_running/future")
            look = charts.style(runs.index(run))
            for of, x in zip(lines.values(), (steps, [s / 60 for s in seconds]), strict=True):
                of += [charts.Line(run.name, x, values, **look)] if steps else []
        if lines["step"]:
            drawn.append(_charts([
                charts.svg(of, f"learning-{number}-{k}", "Future, validation, free-running", label,
                           "loss per frame", settled=True)
                for k, (label, of) in enumerate(lines.items())
            ], lines["step"]))
    if drawn:
        return "".join(drawn)
    return ("<p>No run predicts the future.</p>" if any(run.metrics for run in runs)
            else "<p>No curves: metrics.jsonl stays in the run's folder.</p>")


# ---------------------------------------------------------------------- Table 2 and figure 5


def _future_loss(run):
    """The row of the model's mean loss on the future; None for a model without one."""
    found = run.prediction.find(subject="model", mode="free_running", part="future", frame=None)
    return next((row for row in found if row.metric in _LOSSES), None)


def _difference(run):
    """How far the future's loss is above the paper's; None where it has none."""
    row, paper = _future_loss(run), future_prediction.reference(run.prediction)
    return None if row is None or paper is None else row.value - paper


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
            f"<p>Means over frames and clips, free-running but where it says teacher-forced; "
            f"&plusmn; is the 95% confidence interval over clips. Metric convention: "
            f"{_text(settings['convention'])}. Below the runs: what needs no learning (of "
            f"{_text(group[0].name)}).</p>",
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
            for row in sorted(found, key=lambda row: row.metric not in _LOSSES)}


def _metric_cells(evaluation, subject, mode, part, metrics):
    here = evaluation.find(subject=subject, mode=mode, part=part, frame=None)
    found = {row.metric: row for row in here}
    return [_row_cell(found.get(metric)) for metric in metrics]


def _prediction_table(runs, group):
    metrics = _metrics(group, "future")
    lines = []
    for run in group:
        if _future_loss(run) is None:
            continue  # an autoencoder
        first, *others = _metric_cells(run.prediction, "model", "free_running", "future", metrics)
        paper = future_prediction.reference(run.prediction)
        paper_cell = _number(f"{paper:.1f}") if paper else _number()
        lines.append([_run_cell(runs, run), first, paper_cell, _difference_cell(run), *others])
        lines += _aside(f"{run.name}, teacher-forced", run.prediction, "model", "teacher_forced",
                        metrics)
    for subject, label in future_prediction.floors(group[0].prediction).items():
        lines += _aside(label, group[0].prediction, subject, "", metrics)
    first, *others = metrics.values()
    return _table(["future", first, "paper's Table 2", "difference", *others], lines)


def _aside(label, evaluation, subject, mode, metrics):
    """[a line that the paper's Table 2 has nothing to set beside]; [] where there is none."""
    if not evaluation.find(subject=subject, mode=mode, part="future"):
        return []
    first, *others = _metric_cells(evaluation, subject, mode, "future", metrics)
    head = f'<th scope="row" class="floor">{_text(label)}</th>'
    return [[head, first, _number(), _number(), *others]]


def _reconstruction_table(runs, group):
    metrics = _metrics(group, "reconstruction")
    lines = [
        [_run_cell(runs, run),
         *_metric_cells(run.prediction, "model", "free_running", "reconstruction", metrics)]
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


_DASHES = {
    "constant_velocity": charts.DOTTED, "mean_frame": charts.DASHED,
    "copy_last": charts.DASH_DOTTED, "entropy": charts.SOLID,
}


def _frame_curves(runs, group, number):
    """Charts of every metric over the frames of the future: the runs of a group, and its floors."""
    drawn, shown = [], []
    for metric in _CURVES:
        lines = []
        for run in group:
            look = charts.style(runs.index(run))
            lines += _frame_line(run.prediction, "model", metric, run.name, "free_running",
                                 band=True, **look)
        if not lines:
            continue
        for subject, label in future_prediction.floors(group[0].prediction).items():
            lines += _frame_line(
                group[0].prediction, subject, metric, label, dash=_DASHES[subject], width=1.0
            )
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


def _frame_line(evaluation, subject, metric, label, mode="", band=False, **look):
    """[the line of a metric over the frames of the future]; [] where there is none."""
    here = {"subject": subject, "mode": mode, "part": "future", "metric": metric}
    found = [row for row in evaluation.find(**here)
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
