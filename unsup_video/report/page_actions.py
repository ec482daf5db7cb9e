"""What the page says of classifiers: the paper's tables 1 and 4, and which classes they mix up."""

import json
from collections.abc import Sequence

from unsup_video.data import overlap
from unsup_video.evaluation import action_recognition, comparison, paper
from unsup_video.pictures import charts
from unsup_video.report import markup, page_runs

# What has to stand beside every figure of the paper.
CAUTION = (
    '<p class="caution">The paper\'s figures are for all 101 classes of UCF-101 and all 51 of '
    "HMDB-51, with percepts of its own CNNs and encoders of 2 layers of 2048 units, pretrained on "
    "300 hours of video. Figures for a part of the classes, or from other percepts, do not compare "
    "with them.</p>"
)
_ROWS = dict(zip(("single_frame", "lstm", "pretrained"), paper.TABLE_1, strict=True))


def _classifiers(runs):
    return markup.of_kind(runs, action_recognition.KIND)


def _evaluation(run):
    return run.evaluations[action_recognition.KIND]


def _video(run, metric="accuracy"):
    """The row of whole videos of a metric; None where there is none."""
    return next(iter(_evaluation(run).find(part="video", metric=metric)), None)


def _classifier(run):
    """The key of `_ROWS`, or another kind of classifier."""
    pretrained = run.model["kind"] == "lstm" and run.model["init"] != "none"
    return "pretrained" if pretrained else run.model["kind"]


def reference(run) -> dict[str, float] | None:
    """The paper's figures for such a classifier and test in Table 1; None where it has none."""
    return (
        comparison.table_1(
            _ROWS.get(_classifier(run), ""), run.config, len(run.classes), _evaluation(run).settings
        )
        or None
    )


def summary(runs: list) -> str:
    """A table of the classifiers, for the head of the page."""
    lines = [
        [
            *page_runs.basics(runs, run),
            markup.number(str(len(run.classes))),
            markup.row_cell(_video(run)),
        ]
        for run in _classifiers(runs)
    ]
    head = [*page_runs.BASICS, "classes", "accuracy of test videos (%)"]
    return markup.table(head, lines, labels=3) if lines else ""


# ---------------------------------------------------------------------- Table 1


def table_1(runs: list) -> str:
    """One's own classifiers beside the paper's Table 1, and accuracies over the steps."""
    found = _classifiers(runs)
    if not found:
        return ""
    groups = _test_sets(found)
    several = (
        (
            '<p class="caution">These runs were tested on different videos; their figures do '
            "not compare with one another.</p>"
        )
        if len(groups) > 1
        else ""
    )
    return "".join(
        [
            several,
            _accuracies(runs, found),
            "<p>In brackets is the 95% confidence interval; videos of one group count together. A "
            "video is classified by the mean over its windows, a window by the mean over its steps. "
            "What the paper has pretrained here is the composite; other kinds are in its Table 3.</p>",
            CAUTION,
            *(markup.cautions(run.name, _notes(run)) for run in found),
            _over_steps(runs, groups),
            markup.commands(runs, action_recognition.KIND),
        ]
    )


def _test_sets(runs):
    """The classifiers, in lists of those that were tested on the same videos."""
    groups = {}
    for run in runs:
        settings = _evaluation(run).settings
        key = json.dumps([settings[name] for name in ("data", "split", "part", "videos")])
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _accuracies(runs, found):
    metrics = {
        row.metric: markup.metric_title(row)
        for run in found
        for row in _evaluation(run).find(part="video", unit="%")
    }
    columns = next(iter(paper.TABLE_1.values()))
    lines = []
    for key in dict.fromkeys((*_ROWS, *map(_classifier, found))):
        title = _ROWS.get(key, key.replace("_", " "))
        reported, beside = paper.TABLE_1.get(title, {}), set()
        for run in found:
            if _classifier(run) == key:
                comparable = reference(run) or {}
                beside |= comparable.keys()
                (window,) = _evaluation(run).find(part="window", metric="accuracy")
                lines.append(
                    [
                        markup.label(title),
                        markup.run_cell(runs, run),
                        markup.label(_tested_on(run)),
                        markup.number(str(len(run.classes))),
                        *(markup.row_cell(_video(run, metric)) for metric in metrics),
                        markup.row_cell(window),
                        *markup.figures(comparable, columns),
                    ]
                )
        if reported.keys() - beside:  # what stands beside no run
            nothing = [markup.label("–")] * 2 + [markup.number()] * (2 + len(metrics))
            lines.append([markup.label(title), *nothing, *markup.figures(reported, columns)])
    return markup.table(
        [
            "classifier",
            "run",
            "tested on",
            "classes",
            *(f"videos: {title}" for title in metrics.values()),
            "windows: accuracy (%)",
            *(f"paper: {name}" for name in columns),
        ],
        lines,
        labels=3,
    )


def _tested_on(run):
    row, split = _video(run), _evaluation(run).settings["split"]
    return f"{row.data}{f' of split {split}' if split else ''}, {row.count:,} videos"


def _notes(run):
    """Why a test is doubtful; [] where it is not."""
    settings = _evaluation(run).settings
    return overlap.notes(settings["seen"], settings["videos"])


def _over_steps(runs, groups):
    """A chart for each test set, of accuracy by the number of frames read."""
    drawn, shown = [], []
    for number, group in enumerate(groups, 1):
        lines = [
            line
            for run in group
            for line in charts.of_rows(
                run.name,
                _evaluation(run).find(part="steps_so_far", metric="accuracy"),
                band=True,
                **charts.style(runs.index(run)),
            )
        ]
        title = "Accuracy of windows" + (f", test set {number}" if len(groups) > 1 else "")
        drawn.append(charts.svg(lines, f"steps-{number}", title, "frames of the window read", "%"))
        shown += lines
    return f"<h3>Step by step</h3>{markup.chart_grid(drawn, shown)}"


# ---------------------------------------------------------------------- classes


def classes(runs: list) -> str:
    """The confusion matrix of each classifier, and its accuracy class by class."""
    return "".join(
        f"<h3>{markup.run_link(runs, run)}</h3>{_confusion(_evaluation(run))}"
        for run in _classifiers(runs)
    )


def _confusion(evaluation):
    # Accuracy over steps is a chart of all runs, above.
    shown = [
        (evaluation.folder / p.file, p.caption)
        for p in evaluation.pictures
        if p.file == "confusion.png"
    ]
    measured = [row for row in evaluation.rows if row.part.startswith("class/")]
    hardest = sorted((r for r in measured if r.metric == "accuracy"), key=lambda row: row.value)
    lines = []
    for row in hardest:
        taken = sorted(
            (r for r in measured if r.part == row.part and r.metric.startswith("as/")),
            key=lambda r: -r.value,
        )
        others = [f"{r.metric.removeprefix('as/')} {r.value:.0f}" for r in taken[:3]]
        lines.append(
            [
                f'<th scope="row">{markup.text(row.part.removeprefix("class/"))}</th>',
                markup.label(", ".join(others) or "–"),
                markup.number(f"{row.count:,}"),
                markup.row_cell(row),
            ]
        )
    table = markup.table(["class", "most often taken for", "videos", "accuracy (%)"], lines, 2)
    title = f"Accuracy of {len(lines)} classes, the hardest first"
    return (
        f"{markup.pictures(shown)}{markup.details(title, table)}"
        f"<p>Made by</p>{markup.code(evaluation.command)}"
    )


# ---------------------------------------------------------------------- Table 4


def table_4(runs: list, studies: Sequence) -> str:
    """What was reported of other systems, and one's own accuracies in a column beside."""
    own = [*_own_runs(runs), *(line for study in studies for line in _own_study(study))]
    if not own and not studies:
        return ""
    lines = [
        [
            markup.label(line.inputs),
            f'<th scope="row">{markup.text(line.system)}</th>',
            f'<td><a href="{markup.text(line.url)}" title="{markup.text(line.title)}">'
            f"{markup.text(line.reference)}</a></td>",
            *(
                markup.number() if value is None else markup.number(f"{value:.1f}")
                for value in (line.ucf101, line.hmdb51)
            ),
            markup.number(),
        ]
        for line in paper.table_4()
    ]
    sources = ", ".join(dict.fromkeys(line.reported_in for line in paper.table_4()))
    return "".join(
        [
            markup.table(
                ["inputs", "system", "reference", "UCF-101 (%)", "HMDB-51 (%)", "here (%)"],
                own + lines,
                labels=3,
            ),
            f"<p>Accuracy of videos. UCF-101 and HMDB-51: as reported in {markup.text(sources)}; "
            "the links lead to the papers about the systems.</p>",
            CAUTION,
        ]
    )


def _own_runs(runs):
    return [
        _own(
            markup.run_link(runs, run),
            _ROWS.get(_classifier(run), "mean frame"),
            f"{len(run.classes)} classes, {_tested_on(run)}",
            markup.row_cell(_video(run)),
        )
        for run in _classifiers(runs)
    ]


def _own_study(study):
    """Those of its classifiers that had all labelled videos."""
    return [
        _own(
            markup.text(study.name),
            s.contender,
            "all labelled videos",
            markup.percent_cell(s.mean, None),
        )
        for s in study.summaries
        if not s.per_class and s.accuracies
    ]


def _own(name, classifier, about, cell):
    """A line of the table; `name` and `cell` are HTML."""
    return [
        markup.label("here"),
        f'<th scope="row">{name}: {markup.text(classifier)}</th>',
        markup.label(about),
        markup.number(),
        markup.number(),
        cell,
    ]
