"""The page's sections on video models: table 2, figure 5, and figures of other evaluations."""

import json
import re

from unsup_video.data import overlap
from unsup_video.evaluation import future_prediction, metrics, results, testset
from unsup_video.models import outputs
from unsup_video.models.video_models import decoder_outputs
from unsup_video.pictures import charts
from unsup_video.report import cells, page_runs
from unsup_video.report.section import Section

_CURVES = ("ssim", "mse")  # drawn over the frames of the future, after the losses
_SAMPLE = re.compile(r"step-(\d+)-(\d+)\.(png|gif)")


class Figure(Section):
    """The pictures and the means of an evaluation of video models, for each run.

    Args:
        module: a module of evaluation/ with `KIND` and `evaluate(trained, recompute=, log=)`.
        options: names of more fields of `Options` that its `evaluate` takes.
    """

    template = "figure.html"

    def __init__(self, module, title: str, *options: str):
        self.kind, self.anchor, self.title = module.KIND, module.KIND.replace("_", "-"), title
        self._module, self._options = module, ("recompute", *options)

    def applies_to(self, trained):
        return not trained.classes

    def evaluate(self, trained, options, log):
        given = {name: getattr(options, name) for name in self._options}
        return self._module.evaluate(trained, **given, log=log)

    def content(self, runs, studies):
        entries = [self._run(runs, run) for run in self.evaluated(runs)]
        return {"runs": entries} if entries else None

    def _run(self, runs, run):
        link, evaluation = cells.run_cell(runs, run), run.evaluations[self.kind]
        if isinstance(evaluation, str):
            return {"run": link, "missing": evaluation}
        return {
            "run": link,
            "missing": None,
            "pictures": [
                cells.picture(evaluation.folder / p.file, p.caption) for p in evaluation.pictures
            ],
            "means": _means(evaluation),
            "command": evaluation.command,
        }


def _means(evaluation):
    """Returns a table of the means over frames: one column per metric; None if there are none."""
    means = evaluation.find(frame=None)
    if not means:
        return None
    titles = {row.metric: cells.metric_title(row) for row in means}
    lines = {}
    for row in means:
        key = (row.subject, row.data, row.part, row.mode.replace("_", "-"))
        lines.setdefault(key, {})[row.metric] = row
    labels = ["subject", "data", "part", "mode"]
    if not any(mode for *_, mode in lines):
        labels.pop()
    return cells.Table(
        [*labels, *titles.values()],
        [
            [*key[: len(labels)], *(cells.row_cell(values.get(name)) for name in titles)]
            for key, values in lines.items()
        ],
        len(labels),
    )


# ---------------------------------------------------------------------- Table 2 and figure 5


class _Prediction(Section):
    """Base class of table 2 and figure 5, which share one evaluation."""

    kind = future_prediction.KIND

    def applies_to(self, trained):
        return not trained.classes

    def evaluate(self, trained, options, log):
        given = {
            "records": options.records,
            "clips": options.clips,
            "metric_convention": options.convention,
        }
        return future_prediction.evaluate(
            trained,
            testset.of_model(trained, options.records, options.clips),
            results.command(trained, self.kind, given),
            convention=options.convention or metrics.CONVENTIONS[0],
            recompute=options.recompute,
            log=log,
        )

    def test_sets(self, runs):
        """Groups the runs that were tested on the same frames in the same way, in lists."""
        groups = {}
        for run in self.evaluated(runs):
            settings, data = run.prediction.settings, run.model["data"]
            frames = settings["data"], settings["clips"], data["frames_in"], data["frames_out"]
            outputs_of = decoder_outputs(run.model)
            loss = outputs_of.get("future") or outputs_of["reconstruction"]
            key = json.dumps([frames, settings["convention"], loss.metric])
            groups.setdefault(key, []).append(run)
        return list(groups.values())


def _future_loss(run):
    """Returns the row of the model's mean loss on the future; None without a future decoder."""
    rows = run.prediction.find(subject="model", mode="free_running", part="future", frame=None)
    return next((row for row in rows if row.metric in outputs.metrics()), None)


def _difference_cell(run):
    """Returns the difference of the future's loss to the paper's; None without one."""
    row, paper = _future_loss(run), future_prediction.reference(run.prediction)
    if row is None or paper is None:
        return None
    difference = row.value - paper
    return cells.Cell(f"{difference:+.1f}", difference, f"({100 * difference / paper:+.1f}%)")


class Table2(_Prediction):
    """The losses of the future and of the reconstruction, beside the paper's."""

    anchor, title, template = "table-2", "Table 2: prediction of the future", "table_2.html"

    def summary(self, runs, studies):
        lines = [
            [*page_runs.basics(runs, run), cells.row_cell(_future_loss(run)), _difference_cell(run)]
            for run in self.evaluated(runs)
        ]
        head = [*page_runs.BASICS, "future loss per frame", "difference to the paper"]
        return cells.Table(head, lines, labels=3) if lines else None

    def content(self, runs, studies):
        groups = [self._group(runs, group) for group in self.test_sets(runs)]
        return {"groups": groups, "commands": self.commands(runs)} if groups else None

    def _group(self, runs, group):
        settings = group[0].prediction.settings
        return {
            "title": _describe(settings),
            "future": _prediction_table(runs, group),
            "settings": settings,
            "floors_of": group[0].name,
            "cautions": [
                note
                for run in group
                for note in cells.cautions(
                    run.name, overlap.notes(run.prediction.settings.get("seen"), None, "sequences")
                )
            ],
            "reconstruction": _reconstruction_table(runs, group),
        }


def _describe(settings):
    return f"{settings['clips']:,} clips, {settings['data']['kind'].replace('_', ' ')}"


def _titles(group, part):
    """Returns {metric: title}, the loss first."""
    rows = [row for run in group for row in run.prediction.find(part=part, frame=None)]
    return {
        row.metric: cells.metric_title(row)
        for row in sorted(rows, key=lambda row: row.metric not in outputs.metrics())
    }


def _metric_cells(evaluation, subject, mode, part, titles):
    here = evaluation.find(subject=subject, mode=mode, part=part, frame=None)
    by_metric = {row.metric: row for row in here}
    return [cells.row_cell(by_metric.get(metric)) for metric in titles]


def _prediction_table(runs, group):
    titles = _titles(group, "future")
    lines = []
    for run in group:
        if _future_loss(run) is None:
            continue  # an autoencoder
        first, *others = _metric_cells(run.prediction, "model", "free_running", "future", titles)
        paper = future_prediction.reference(run.prediction)
        paper_cell = f"{paper:.1f}" if paper else None
        head = cells.run_cell(runs, run)
        lines.append([head, first, paper_cell, _difference_cell(run), *others])
        lines += _aside(
            f"{run.name}, teacher-forced", run.prediction, "model", "teacher_forced", titles
        )
    for subject, label in future_prediction.floors(group[0].prediction).items():
        lines += _aside(label, group[0].prediction, subject, "", titles)
    first, *others = titles.values()
    return cells.Table(["future", first, "paper's Table 2", "difference", *others], lines)


def _aside(label, evaluation, subject, mode, titles):
    """Returns [a line without a figure of the paper's Table 2], or [] if it was not measured."""
    if not evaluation.find(subject=subject, mode=mode, part="future"):
        return []
    first, *others = _metric_cells(evaluation, subject, mode, "future", titles)
    return [[cells.Cell(label, head=True, floor=True), first, None, None, *others]]


def _reconstruction_table(runs, group):
    titles = _titles(group, "reconstruction")
    lines = [
        [
            cells.run_cell(runs, run),
            *_metric_cells(run.prediction, "model", "free_running", "reconstruction", titles),
        ]
        for run in group
        if run.prediction.find(subject="model", part="reconstruction")
    ]
    return cells.Table(["reconstruction", *titles.values()], lines) if lines else None


class Figure5(_Prediction):
    """Curves over the frames of the future, and each run's drawings of validation clips."""

    anchor, template = "figure-5", "figure_5.html"
    title = "Figure 5: reconstructions and predictions"

    def content(self, runs, studies):
        evaluated = self.evaluated(runs)
        if not evaluated:
            return None
        groups = enumerate(self.test_sets(runs), 1)
        return {
            "curves": [_frame_curves(runs, group, number) for number, group in groups],
            "commands": self.commands(runs),
            "samples": [_samples(runs, run) for run in evaluated],
        }


_DASHES = {
    "constant_velocity": charts.DOTTED,
    "mean_frame": charts.DASHED,
    "copy_last": charts.DASH_DOTTED,
    "entropy": charts.SOLID,
}


def _frame_curves(runs, group, number):
    """Draws every metric over the frames of the future, for a group of runs and its floors."""
    drawn, shown = [], []
    for metric in (*outputs.metrics(), *_CURVES):
        lines = []
        for run in group:
            look = charts.style(runs.index(run))
            rows = run.prediction.find(
                subject="model", mode="free_running", part="future", metric=metric
            )
            lines += charts.lines_from_rows(run.name, rows, band=True, **look)
        if not lines:
            continue
        for subject, label in future_prediction.floors(group[0].prediction).items():
            rows = group[0].prediction.find(subject=subject, part="future", metric=metric)
            lines += charts.lines_from_rows(label, rows, dash=_DASHES[subject], width=1.0)
        row = group[0].prediction.find(metric=metric)[0]
        drawn.append(
            charts.svg(
                lines,
                f"frames-{number}-{metric}",
                cells.metric_title(row),
                "frame of the future",
                "",
                log=metric == "cross_entropy",
            )
        )
        shown += lines
    title = _describe(group[0].prediction.settings)
    return {"title": title, "charts": cells.Charts(drawn, shown)}


def _samples(runs, run):
    """Returns the run's latest drawings of validation clips."""
    matches = [
        (match, path)
        for path in (run.path / "samples").glob("step-*")
        if (match := _SAMPLE.fullmatch(path.name))
    ]
    newest = max((int(match[1]) for match, _ in matches), default=0)
    return {
        "run": cells.run_cell(runs, run),
        "pictures": [
            cells.picture(
                path,
                f"Validation clip {int(match[2]) + 1} at step {newest:,}: the truth and the model "
                f"{run.name}",
            )
            for match, path in sorted(matches, key=lambda pair: pair[1].name)
            if int(match[1]) == newest
        ],
        "command": run.command,
    }
