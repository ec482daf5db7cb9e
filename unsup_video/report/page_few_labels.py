"""The page's sections on studies with few labels: the paper's figure 12 and table 3."""

import math

from unsup_video.data import overlap
from unsup_video.evaluation import comparison, few_labels, paper
from unsup_video.evaluation.few_labels import number_text
from unsup_video.pictures import charts
from unsup_video.report import cells
from unsup_video.report.section import Section

_SHIFT = 0.06  # horizontal distance between the error bars of contenders
# The colours of the same contenders in a study: indices into `Settings.contenders()`.
_PAPER = {"single frame": 0, "LSTM": 2, "LSTM, pretrained": 3}


def _anchor(studies, study):
    return f"study-{studies.index(study) + 1}"


def _cells(study, name, cell):
    """Applies `cell` to each summary of a contender; None for a number that it lacks."""
    by_number = {s.per_class: s for s in study.summaries if s.contender == name}

    def content(s):
        return cell(s) if s.accuracies else "diverged"

    return [content(by_number[k]) if k in by_number else None for k in study.numbers]


# ---------------------------------------------------------------------- Figure 12


class Figure12(Section):
    """Accuracies over the number of labelled videos, beside the paper's, and the gains."""

    anchor, title, template = "figure-12", "Figure 12: few labelled videos", "figure_12.html"

    def summary(self, runs, studies):
        lines = [
            [
                cells.Cell(study.name, href=f"#{_anchor(studies, study)}", head=True),
                f"{len(study.settings['pretrained'])} pretrained, "
                f"{len({*few_labels.LINEAR, few_labels.BASELINE} & {*study.contenders})} baselines",
                ", ".join(map(number_text, study.numbers)),
                str(study.settings["subsets"]),
            ]
            for study in studies
        ]
        head = [
            "study with few labels",
            "classifiers",
            "labelled videos per class",
            "random subsets",
        ]
        return cells.Table(head, lines, labels=3) if lines else None

    def content(self, runs, studies):
        figures = [
            {
                "anchor": _anchor(studies, study),
                "name": study.name,
                "curves": _curves(study, _anchor(studies, study)),
                "gains": _gains(study),
                "cautions": _cautions(study),
                "choices": _choices(study),
                "settings": study.settings,
                "path": study.path,
            }
            for study in studies
        ]
        return {"studies": figures} if figures else None


def _cautions(study):
    """Returns notes on excluded settings, and on contenders that have seen videos of the test."""
    lines = []
    for s in study.summaries:
        if s.diverged:
            note = f"training diverged with {few_labels.excluded(s)}"
            lines += cells.cautions(
                s.contender, [f"at {number_text(s.per_class)} per class {note}"]
            )
    for name, seen in (study.settings.get("seen") or {"": None}).items():
        lines += cells.cautions(name or "labelled videos", overlap.notes(seen, None))
    return lines


def _curves(study, name):
    middle = (len(study.contenders) - 1) / 2
    own = []
    for index, contender in enumerate(study.contenders):
        points = [s for s in study.summaries if s.contender == contender and s.accuracies]
        spread = [0.0 if math.isnan(s.std) else s.std for s in points]
        own.append(
            charts.Line(
                contender,
                [study.numbers.index(s.per_class) + _SHIFT * (index - middle) for s in points],
                [s.mean for s in points],
                low=[s.mean - std for s, std in zip(points, spread, strict=True)],
                high=[s.mean + std for s, std in zip(points, spread, strict=True)],
                bars=True,
                **charts.style(index),
            )
        )
    drawn = [_chart(own, f"{name}-own", "This study", study.numbers)]
    papers = []
    for data, curves in paper.FIGURE_12.items():
        papers = [
            charts.Line(
                f"paper: {contender}",
                range(len(curves[contender])),
                curves[contender],
                **charts.style(index),
            )
            for contender, index in _PAPER.items()
        ]
        drawn.append(_chart(papers, f"{name}-{data}", f"The paper, {data}", curves["videos"]))
    return cells.Charts(drawn, own + papers)


def _chart(lines, name, title, numbers):
    return charts.svg(
        lines, name, title, "labelled videos per class", "%", ticks=list(map(number_text, numbers))
    )


def _gains(study):
    lines = [
        [cells.Cell(name, head=True), *_cells(study, name, _gain_cell)]
        for name in study.contenders
        if name != few_labels.BASELINE
    ]
    gain = f"gain over the {few_labels.BASELINE} (%)"
    return cells.Table([gain, *(f"{number_text(k)} per class" for k in study.numbers)], lines)


def _gain_cell(summary):
    if summary.difference is None:  # the baseline diverged
        return None
    interval = "" if summary.low is None else f"({summary.low:+.1f} to {summary.high:+.1f})"
    return cells.Cell(f"{summary.difference:+.1f}", summary.difference, interval)


def _choices(study):
    lines = [
        [name, *_cells(study, name, lambda s: f"{s.learning_rate:g}, {s.dropout:g}")]
        for name in study.contenders
    ]
    head = ["learning rate, dropout", *(f"{number_text(k)} per class" for k in study.numbers)]
    return cells.Table(head, lines)


# ---------------------------------------------------------------------- Table 3


class Table3(Section):
    """The study's variants beside the rows of the paper's Table 3, and the other contenders."""

    anchor, title, template = "table-3", "Table 3: kinds of pretraining", "table_3.html"

    def content(self, runs, studies):
        tables = [{"name": study.name, "variants": _variants(study)} for study in studies]
        return {"studies": tables} if tables else None


def reference(study, name: str) -> dict[str, float]:
    """Returns the paper's figures in Table 3 for a contender of a study; {} without any."""
    if name not in study.variants:
        return {}
    settings = study.settings
    return comparison.table_3(
        study.variants[name], settings["config"], settings.get("classes"), study.numbers
    )


def _variants(study):
    columns = next(iter(paper.TABLE_3.values()))
    lines = []
    for variant, reported in paper.TABLE_3.items():
        beside = set()
        for name in study.contenders:
            if study.variants.get(name) == variant:
                comparable = reference(study, name)
                beside |= comparable.keys()
                papers = cells.figures(comparable, columns)
                lines.append(_line(study, _title_of(variant), name, papers))
        if reported.keys() - beside:  # the paper's figures without a comparable contender
            papers = cells.figures(reported, columns)
            lines.append(_line(study, _title_of(variant), None, papers))
    for name in study.contenders:
        if name not in study.variants:
            lines.append(_line(study, None, name, [None] * len(columns)))
    return cells.Table(
        [
            "pretraining",
            "here",
            *(f"here: {number_text(k)} per class (%)" for k in study.numbers),
            *(f"paper: {name} (%)" for name in columns),
        ],
        lines,
        labels=2,
    )


def _title_of(variant):
    text = variant.replace("_", " ")
    return text.replace("composite conditional future", "composite, conditional future predictor")


def _line(study, pretraining, name, papers):
    if name is None:
        return [pretraining, None, *[None] * len(study.numbers), *papers]

    def cell(s):
        return cells.percent_cell(s.mean, None if math.isnan(s.std) else s.std)

    return [pretraining, cells.Cell(name, head=True), *_cells(study, name, cell), *papers]
