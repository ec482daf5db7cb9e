"""The page of `report`: its HTML, with every picture inside it."""

import json
import re
from collections.abc import Sequence
from pathlib import Path

from unsup_video.data import overlap
from unsup_video.evaluation import features, future_prediction, long_range, out_of_domain
from unsup_video.models import outputs
from unsup_video.pictures import charts
from unsup_video.report import markup, page_actions, page_few_labels, page_runs

TITLE = "Video representations learned by LSTMs"
_FIGURES = {
    long_range.KIND: "Figure 7: long futures",
    out_of_domain.KIND: "Figure 8: other numbers of digits",
    features.KIND: "Figures 9 and 10: what the weights look like",
}
_CURVES = ("ssim", "mse")  # drawn over the frames of the future, after the losses
_SAMPLE = re.compile(r"step-(\d+)-(\d+)\.(png|gif)")


def render(runs: list, command: str, time: str, studies: Sequence = ()) -> str:
    """The page of `report.Run`s and `report.Study`s as HTML. Arguments as of `report.write`."""
    sections = [
        ("runs", "Runs: what was trained, and how", page_runs.articles(runs)),
        ("learning", "Learning curves of all runs", page_runs.learning(runs)),
        ("table-2", "Table 2: prediction of the future", _table_2(runs)),
        ("figure-5", "Figure 5: reconstructions and predictions", _figure_5(runs)),
        *((kind.replace("_", "-"), title, _figure(runs, kind)) for kind, title in _FIGURES.items()),
        ("table-1", "Table 1: action recognition", page_actions.table_1(runs)),
        ("classes", "Classes: what videos were taken for", page_actions.classes(runs)),
        ("figure-12", "Figure 12: few labelled videos", page_few_labels.figure_12(studies)),
        ("table-3", "Table 3: kinds of pretraining", page_few_labels.table_3(studies)),
        ("table-4", "Table 4: other systems", page_actions.table_4(runs, studies)),
    ]
    sections = [section for section in sections if section[2]]
    contents = "".join(
        f'<li><a href="#{anchor}">{markup.text(title)}</a></li>' for anchor, title, _ in sections
    )
    body = "".join(
        f'<section id="{anchor}"><h2>{markup.text(title)}</h2>{content}</section>'
        for anchor, title, content in sections
    )
    count = " and ".join(
        f"{len(of)} {name if len(of) == 1 else names}"
        for of, name, names in ((runs, "run", "runs"), (studies, "study", "studies"))
        if of
    )
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
<p class="lead">Report on {count} &middot;
<time datetime="{markup.text(time)}">{markup.text(time[:10])}</time>
&middot; after <cite>Unsupervised Learning of Video Representations using LSTMs</cite>
(<a href="https://arxiv.org/abs/1502.04681">arXiv 1502.04681</a>)</p>
{_summary(runs)}{page_actions.summary(runs)}{page_few_labels.summary(studies)}
</header>
<nav aria-label="Contents"><h2>Contents</h2><ol>{contents}</ol></nav>
<main>{body}</main>
<footer><p>This page was made by</p>{markup.code(command)}
<p>All figures are in results.json and results.csv beside it.</p></footer>
</body>
</html>
"""


def _summary(runs):
    lines = [
        [*page_runs.basics(runs, run), markup.row_cell(_future_loss(run)), _difference_cell(run)]
        for run in markup.of_kind(runs, future_prediction.KIND)
    ]
    head = [*page_runs.BASICS, "future loss per frame", "difference to the paper"]
    return markup.table(head, lines, labels=3) if lines else ""


# ---------------------------------------------------------------------- Table 2 and figure 5


def _future_loss(run):
    """The row of the model's mean loss on the future; None for a model without one."""
    found = run.prediction.find(subject="model", mode="free_running", part="future", frame=None)
    return next((row for row in found if row.metric in outputs.metrics()), None)


def _difference(run):
    """How far the future's loss is above the paper's; None where it has none."""
    row, paper = _future_loss(run), future_prediction.reference(run.prediction)
    return None if row is None or paper is None else row.value - paper


def _difference_cell(run):
    difference = _difference(run)
    if difference is None:
        return markup.number()
    percent = 100 * difference / future_prediction.reference(run.prediction)
    return markup.number(
        f'<data value="{difference!r}">{difference:+.1f}</data> '
        f'<span class="interval">({percent:+.1f}%)</span>'
    )


def _test_sets(runs):
    """The runs, in lists of those that were tested on the same clips in the same way."""
    groups = {}
    for run in markup.of_kind(runs, future_prediction.KIND):
        settings = run.prediction.settings
        key = json.dumps([settings["data"], settings["clips"], settings["convention"]])
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _table_2(runs):
    groups = _test_sets(runs)
    parts = []
    if len(groups) > 1:
        parts.append(
            '<p class="caution">These runs were tested on different clips, so there is a '
            "table for each test set; figures of different tables do not compare.</p>"
        )
    for number, group in enumerate(groups, 1):
        title = f"Test set {number}: " if len(groups) > 1 else "Test set: "
        settings = group[0].prediction.settings
        parts += [
            f"<h3>{markup.text(title + _describe(settings))}</h3>",
            _prediction_table(runs, group),
            f"<p>Means over frames and clips, free-running but where it says teacher-forced; "
            f"&plusmn; is the 95% confidence interval, for which clips of one video, or of one "
            f"group of videos, count together. Metric convention: "
            f"{markup.text(settings['convention'])}. Below the runs: what needs no learning (of "
            f"{markup.text(group[0].name)}).</p>",
            *(
                markup.cautions(
                    run.name, overlap.notes(run.prediction.settings.get("seen"), None, "sequences")
                )
                for run in group
            ),
            _reconstruction_table(runs, group),
            markup.details("What was tested on, and how", markup.listing(settings)),
        ]
    return "".join(parts) + markup.commands(runs, future_prediction.KIND)


def _describe(settings):
    return f"{settings['clips']:,} clips, {settings['data']['kind'].replace('_', ' ')}"


def _metrics(group, part):
    """metric -> its title, the loss first."""
    found = [row for run in group for row in run.prediction.find(part=part, frame=None)]
    return {
        row.metric: markup.metric_title(row)
        for row in sorted(found, key=lambda row: row.metric not in outputs.metrics())
    }


def _metric_cells(evaluation, subject, mode, part, metrics):
    here = evaluation.find(subject=subject, mode=mode, part=part, frame=None)
    found = {row.metric: row for row in here}
    return [markup.row_cell(found.get(metric)) for metric in metrics]


def _prediction_table(runs, group):
    metrics = _metrics(group, "future")
    lines = []
    for run in group:
        if _future_loss(run) is None:
            continue  # an autoencoder
        first, *others = _metric_cells(run.prediction, "model", "free_running", "future", metrics)
        paper = future_prediction.reference(run.prediction)
        paper_cell = markup.number(f"{paper:.1f}") if paper else markup.number()
        head = markup.run_cell(runs, run)
        lines.append([head, first, paper_cell, _difference_cell(run), *others])
        lines += _aside(
            f"{run.name}, teacher-forced", run.prediction, "model", "teacher_forced", metrics
        )
    for subject, label in future_prediction.floors(group[0].prediction).items():
        lines += _aside(label, group[0].prediction, subject, "", metrics)
    first, *others = metrics.values()
    return markup.table(["future", first, "paper's Table 2", "difference", *others], lines)


def _aside(label, evaluation, subject, mode, metrics):
    """[a line that the paper's Table 2 has nothing to set beside]; [] where there is none."""
    if not evaluation.find(subject=subject, mode=mode, part="future"):
        return []
    first, *others = _metric_cells(evaluation, subject, mode, "future", metrics)
    head = f'<th scope="row" class="floor">{markup.text(label)}</th>'
    return [[head, first, markup.number(), markup.number(), *others]]


def _reconstruction_table(runs, group):
    metrics = _metrics(group, "reconstruction")
    lines = [
        [
            markup.run_cell(runs, run),
            *_metric_cells(run.prediction, "model", "free_running", "reconstruction", metrics),
        ]
        for run in group
        if run.prediction.find(subject="model", part="reconstruction")
    ]
    return markup.table(["reconstruction", *metrics.values()], lines) if lines else ""


def _figure_5(runs):
    return "".join(
        [
            *(
                _frame_curves(runs, group, number)
                for number, group in enumerate(_test_sets(runs), 1)
            ),
            markup.commands(runs, future_prediction.KIND),
            *(_samples(runs, run) for run in markup.of_kind(runs, future_prediction.KIND)),
        ]
    )


_DASHES = {
    "constant_velocity": charts.DOTTED,
    "mean_frame": charts.DASHED,
    "copy_last": charts.DASH_DOTTED,
    "entropy": charts.SOLID,
}


def _frame_curves(runs, group, number):
    """Charts of every metric over the frames of the future: the runs of a group, and its floors."""
    drawn, shown = [], []
    for metric in (*outputs.metrics(), *_CURVES):
        lines = []
        for run in group:
            look = charts.style(runs.index(run))
            rows = run.prediction.find(
                subject="model", mode="free_running", part="future", metric=metric
            )
            lines += charts.of_rows(run.name, rows, band=True, **look)
        if not lines:
            continue
        for subject, label in future_prediction.floors(group[0].prediction).items():
            rows = group[0].prediction.find(subject=subject, part="future", metric=metric)
            lines += charts.of_rows(label, rows, dash=_DASHES[subject], width=1.0)
        row = group[0].prediction.find(metric=metric)[0]
        drawn.append(
            charts.svg(
                lines,
                f"frames-{number}-{metric}",
                markup.metric_title(row),
                "frame of the future",
                "",
                log=metric == "cross_entropy",
            )
        )
        shown += lines
    if not drawn:
        return ""
    title = f"Frame by frame: {_describe(group[0].prediction.settings)}"
    return f"<h3>{markup.text(title)}</h3>{markup.chart_grid(drawn, shown)}"


def _samples(runs, run):
    """What the run drew of validation clips when it was evaluated for the last time."""
    found = [
        (match, path)
        for path in (run.path / "samples").glob("step-*")
        if (match := _SAMPLE.fullmatch(path.name))
    ]
    title = f"<h3>Validation clips of {markup.run_link(runs, run)}</h3>"
    if not found:
        return f"{title}<p>The run has drawn no samples.</p>"
    newest = max(int(match[1]) for match, _ in found)
    pictures = [
        (
            path,
            f"Validation clip {int(match[2]) + 1} at step {newest:,}: the truth and the model "
            f"{run.name}",
        )
        for match, path in sorted(found, key=lambda pair: pair[1].name)
        if int(match[1]) == newest
    ]
    return (
        f"{title}{markup.pictures(pictures)}<p>Made in training, by</p>{markup.code(run.command)}"
    )


# ---------------------------------------------------------------------- other figures


def _figure(runs, kind):
    """A section of any kind of evaluation: its pictures, its means and its command."""
    parts = []
    for run in markup.of_kind(runs, kind):
        evaluation = run.evaluations[kind]
        parts.append(f"<h3>{markup.run_link(runs, run)}</h3>")
        if isinstance(evaluation, str):
            parts.append(f'<p class="caution">Not made of this run: {markup.text(evaluation)}.</p>')
            continue
        parts += [
            markup.pictures([(evaluation.folder / p.file, p.caption) for p in evaluation.pictures]),
            _means(evaluation),
            "<p>Made by</p>",
            markup.code(evaluation.command),
        ]
    return "".join(parts)


def _means(evaluation):
    """The rows that are of no single frame: a line for each thing measured, metrics across."""
    means = evaluation.find(frame=None)
    if not means:
        return ""
    metrics = {row.metric: markup.metric_title(row) for row in means}
    lines = {}
    for row in means:
        key = (row.subject, row.data, row.part, row.mode.replace("_", "-"))
        lines.setdefault(key, {})[row.metric] = row
    labels = ["subject", "data", "part", "mode"]
    if not any(mode for *_, mode in lines):
        labels.pop()
    table = markup.table(
        [*labels, *metrics.values()],
        [
            [
                *map(markup.label, key[: len(labels)]),
                *(markup.row_cell(found.get(name)) for name in metrics),
            ]
            for key, found in lines.items()
        ],
        len(labels),
    )
    if len(lines) <= 24:
        return table
    return markup.details(f"All {len(lines)} lines of figures", table)
