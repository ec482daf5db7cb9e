"""What the page says of studies with few labels: the paper's figure 12 and table 3."""

import math
from collections.abc import Sequence

from unsup_video.data import overlap
from unsup_video.evaluation import comparison, few_labels, paper
from unsup_video.pictures import charts
from unsup_video.report import markup
from unsup_video.report.page_actions import CAUTION

_SHIFT = 0.06  # between the error bars of contenders, which would hide one another
# The colours that the same contenders have in a study: `Settings.contenders()`.
_PAPER = {"single frame": 0, "LSTM": 2, "LSTM, pretrained": 3}


def summary(studies: Sequence) -> str:
    """A table of `report.Study`s, for the head of the page."""
    lines = [
        [
            f'<th scope="row"><a href="#{_anchor(studies, study)}">{markup.text(study.name)}</a></th>',
            markup.label(
                f"{len(study.settings['pretrained'])} pretrained, "
                f"{len({*few_labels.LINEAR, few_labels.BASELINE} & {*study.contenders})} baselines"
            ),
            markup.label(", ".join(map(_number, study.numbers))),
            markup.number(str(study.settings["subsets"])),
        ]
        for study in studies
    ]
    head = ["study with few labels", "classifiers", "labelled videos a class", "random subsets"]
    return markup.table(head, lines, labels=3) if lines else ""


def _anchor(studies, study):
    return f"study-{studies.index(study) + 1}"


def _number(per_class):
    return str(per_class or "all")


def _title(study):
    return f"<h3>{markup.text(study.name)}</h3>"


def _cells(study, name, cell):
    """`cell` of each summary of a contender, a dash for a number that it lacks."""
    found = {s.per_class: s for s in study.summaries if s.contender == name}

    def content(s):
        return cell(s) if s.accuracies else markup.number("diverged")

    return [content(found[k]) if k in found else markup.number() for k in study.numbers]


# ---------------------------------------------------------------------- Figure 12


def figure_12(studies: Sequence) -> str:
    """Accuracies over the number of labelled videos, beside those of the paper; what is gained."""
    if not studies:
        return ""
    return CAUTION + "".join(
        f'<article id="{_anchor(studies, study)}">{_title(study)}'
        f"{_curves(study, _anchor(studies, study))}"
        f"<p>Accuracy of videos; bars are the standard deviation over "
        f"{study.settings['subsets']} random subsets, and over seeds where all videos are labelled."
        " The paper's figures are read off its figure 12, to about 0.2.</p>"
        f"{_gains(study)}{_cautions(study)}"
        f"{markup.details('Learning rates and dropouts that were chosen', _choices(study))}"
        f"{markup.details('All settings of the study', markup.listing(study.settings))}"
        f"<dl><dt>Folder</dt><dd>{markup.text(study.path)}</dd></dl></article>"
        for study in studies
    )


def _cautions(study):
    """What was excluded, and whether a contender has seen videos of the test."""
    cautions = [
        markup.cautions(
            s.contender,
            [f"at {_number(s.per_class)} a class training diverged with {few_labels.excluded(s)}"],
        )
        for s in study.summaries
        if s.diverged
    ]
    for name, seen in (study.settings.get("seen") or {"": None}).items():
        cautions.append(markup.cautions(name or "labelled videos", overlap.notes(seen, None)))
    return "".join(cautions)


def _curves(study, name):
    middle = (len(study.contenders) - 1) / 2
    own = []
    for index, contender in enumerate(study.contenders):
        found = [s for s in study.summaries if s.contender == contender and s.accuracies]
        spread = [0.0 if math.isnan(s.std) else s.std for s in found]
        own.append(
            charts.Line(
                contender,
                [study.numbers.index(s.per_class) + _SHIFT * (index - middle) for s in found],
                [s.mean for s in found],
                low=[s.mean - std for s, std in zip(found, spread, strict=True)],
                high=[s.mean + std for s, std in zip(found, spread, strict=True)],
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
    return markup.chart_grid(drawn, own + papers)


def _chart(lines, name, title, numbers):
    return charts.svg(
        lines, name, title, "labelled videos a class", "%", ticks=list(map(_number, numbers))
    )


def _gains(study):
    names = [name for name in study.contenders if name != few_labels.BASELINE]
    lines = [
        [f'<th scope="row">{markup.text(name)}</th>', *_cells(study, name, _gain_cell)]
        for name in names
    ]
    head = [
        f"gain over the {few_labels.BASELINE} (%)",
        *(f"{_number(k)} a class" for k in study.numbers),
    ]
    return (
        f"{markup.table(head, lines)}<p>Differences on the same subsets, and in brackets their "
        "95% confidence interval over subsets (Student's t).</p>"
    )


def _gain_cell(summary):
    if summary.difference is None:  # the baseline diverged
        return markup.number()
    text = f'<data value="{summary.difference!r}">{summary.difference:+.1f}</data>'
    if summary.low is not None:
        text += f' <span class="interval">({summary.low:+.1f} to {summary.high:+.1f})</span>'
    return markup.number(text)


def _choices(study):
    lines = [
        [
            markup.label(name),
            *_cells(study, name, lambda s: markup.number(f"{s.learning_rate:g}, {s.dropout:g}")),
        ]
        for name in study.contenders
    ]
    head = ["learning rate, dropout", *(f"{_number(k)} a class" for k in study.numbers)]
    return markup.table(head, lines)


# ---------------------------------------------------------------------- Table 3


def table_3(studies: Sequence) -> str:
    """One's own variants beside the rows of the paper's Table 3, and the other contenders."""
    if not studies:
        return ""
    return "".join(f"{_title(study)}{_variants(study)}" for study in studies) + (
        "<p>Accuracy of videos, mean and standard deviation over subsets. The paper's small "
        "sets have 10 (UCF-101) and 4 (HMDB-51) labelled videos a class.</p>" + CAUTION
    )


def reference(study, name: str) -> dict[str, float]:
    """The paper's figures for a contender of a `report.Study` in Table 3; {} where it has none."""
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
                papers = markup.figures(comparable, columns)
                lines.append(_line(study, _title_of(variant), name, papers))
        if reported.keys() - beside:  # what stands beside no contender
            papers = markup.figures(reported, columns)
            lines.append(_line(study, _title_of(variant), None, papers))
    for name in study.contenders:
        if name not in study.variants:
            lines.append(_line(study, "–", name, [markup.number()] * len(columns)))
    return markup.table(
        [
            "pretraining",
            "here",
            *(f"here: {_number(k)} a class (%)" for k in study.numbers),
            *(f"paper: {name} (%)" for name in columns),
        ],
        lines,
        labels=2,
    )


def _title_of(variant):
    text = variant.replace("_", " ")
    return text.replace("composite conditional future", "composite, conditional future predictor")


def _line(study, pretraining, name, papers):
    own = (
        [markup.number()] * len(study.numbers)
        if name is None
        else _cells(
            study, name, lambda s: markup.percent_cell(s.mean, None if math.isnan(s.std) else s.std)
        )
    )
    head = f'<th scope="row">{markup.text(name)}</th>' if name else markup.label("–")
    return [markup.label(pretraining), head, *own, *papers]
