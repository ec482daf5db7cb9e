"""The page's sections on classifiers: the paper's tables 1 and 4, and the classes they confuse."""

import dataclasses
import json

from unsup_video.configs import NO_INIT
from unsup_video.data import overlap
from unsup_video.evaluation import action_recognition, comparison, paper, results, testvideos
from unsup_video.pictures import charts
from unsup_video.report import cells, page_runs
from unsup_video.report.section import Section

_ROWS = dict(zip(("single_frame", "lstm", "pretrained"), paper.TABLE_1, strict=True))


def _evaluation(run):
    return run.evaluations[action_recognition.KIND]


def _video(run, metric="accuracy"):
    """Returns the row of a metric for whole videos; None without one."""
    return next(iter(_evaluation(run).find(part="video", metric=metric)), None)


def _classifier(run):
    """Returns the key of `_ROWS`, or the kind of another classifier."""
    pretrained = run.model["kind"] == "lstm" and run.model["init"] != NO_INIT
    return "pretrained" if pretrained else run.model["kind"]


def reference(run) -> dict[str, float] | None:
    """Returns the paper's figures in Table 1 for such a classifier and test; None without any."""
    return (
        comparison.table_1(
            _ROWS.get(_classifier(run), ""), run.config, len(run.classes), _evaluation(run).settings
        )
        or None
    )


class _Actions(Section):
    """Base class of the sections on classifiers, which share one evaluation."""

    kind = action_recognition.KIND

    def applies_to(self, trained):
        return bool(trained.classes)

    def evaluate(self, trained, options, log):
        return action_recognition.evaluate(
            testvideos.select(trained, options.records, log=log),
            results.command(trained, self.kind, {"records": options.records}),
            recompute=options.recompute,
            log=log,
        )


# ---------------------------------------------------------------------- Table 1


class Table1(_Actions):
    """The runs' classifiers beside the paper's Table 1, and accuracies over the steps."""

    anchor, title, template = "table-1", "Table 1: action recognition", "table_1.html"

    def summary(self, runs, studies):
        lines = [
            [*page_runs.basics(runs, run), str(len(run.classes)), cells.row_cell(_video(run))]
            for run in self.evaluated(runs)
        ]
        head = [*page_runs.BASICS, "classes", "accuracy of test videos (%)"]
        return cells.Table(head, lines, labels=3) if lines else None

    def content(self, runs, studies):
        evaluated = self.evaluated(runs)
        if not evaluated:
            return None
        groups = _test_sets(evaluated)
        return {
            "groups": groups,
            "accuracies": _accuracies(runs, evaluated),
            "cautions": [
                note for run in evaluated for note in cells.cautions(run.name, _notes(run))
            ],
            "steps": _over_steps(runs, groups),
            "commands": self.commands(runs),
        }


def _test_sets(runs):
    """Groups the classifiers that were tested on the same videos, in lists."""
    groups = {}
    for run in runs:
        settings = _evaluation(run).settings
        key = json.dumps([settings[name] for name in ("data", "split", "part", "videos")])
        groups.setdefault(key, []).append(run)
    return list(groups.values())


def _accuracies(runs, evaluated):
    metrics = {
        row.metric: cells.metric_title(row)
        for run in evaluated
        for row in _evaluation(run).find(part="video", unit="%")
    }
    columns = next(iter(paper.TABLE_1.values()))
    lines = []
    for key in dict.fromkeys((*_ROWS, *map(_classifier, evaluated))):
        title = _ROWS.get(key, key.replace("_", " "))
        reported, beside = paper.TABLE_1.get(title, {}), set()
        for run in evaluated:
            if _classifier(run) == key:
                comparable = reference(run) or {}
                beside |= comparable.keys()
                (window,) = _evaluation(run).find(part="window", metric="accuracy")
                lines.append(
                    [
                        title,
                        cells.run_cell(runs, run),
                        _tested_on(run),
                        str(len(run.classes)),
                        *(cells.row_cell(_video(run, metric)) for metric in metrics),
                        cells.row_cell(window),
                        *cells.figures(comparable, columns),
                    ]
                )
        if reported.keys() - beside:  # the paper's figures without a comparable run
            nothing = [None] * (4 + len(metrics))
            lines.append([title, *nothing, *cells.figures(reported, columns)])
    return cells.Table(
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
    """Says why a test is doubtful; [] if it is not."""
    settings = _evaluation(run).settings
    return overlap.notes(settings["seen"], settings["videos"])


def _over_steps(runs, groups):
    """Draws accuracy over the number of frames read, one chart per test set."""
    drawn, shown = [], []
    for number, group in enumerate(groups, 1):
        lines = [
            line
            for run in group
            for line in charts.lines_from_rows(
                run.name,
                _evaluation(run).find(part="steps_so_far", metric="accuracy"),
                band=True,
                **charts.style(runs.index(run)),
            )
        ]
        if not lines:
            continue
        title = "Accuracy of windows" + (f", test set {number}" if len(groups) > 1 else "")
        drawn.append(charts.svg(lines, f"steps-{number}", title, "frames of the window read", "%"))
        shown += lines
    return cells.Charts(drawn, shown)


# ---------------------------------------------------------------------- classes


class Classes(_Actions):
    """The confusion matrix of each classifier, and its accuracy per class."""

    anchor, title, template = "classes", "Classes: what videos were taken for", "classes.html"

    def content(self, runs, studies):
        entries = [
            {
                "run": cells.run_cell(runs, run),
                # Table 1 has a chart of accuracy over steps for all runs.
                "pictures": [
                    cells.picture(_evaluation(run).folder / p.file, p.caption)
                    for p in _evaluation(run).pictures
                    if p.file == "confusion.png"
                ],
                "accuracies": _by_class(_evaluation(run)),
                "command": _evaluation(run).command,
            }
            for run in self.evaluated(runs)
        ]
        return {"runs": entries} if entries else None


def _by_class(evaluation):
    lines = []
    for row, others in action_recognition.hardest_classes(evaluation):
        name = cells.Cell(row.part.removeprefix("class/"), head=True)
        lines.append([name, others or None, f"{row.count:,}", cells.row_cell(row)])
    return cells.Table(["class", "most often taken for", "videos", "accuracy (%)"], lines, 2)


# ---------------------------------------------------------------------- Table 4


class Table4(_Actions):
    """The reported accuracies of other systems, and those of the runs in a column beside."""

    anchor, title, template = "table-4", "Table 4: other systems", "table_4.html"

    def content(self, runs, studies):
        own = [_own_run(runs, run) for run in self.evaluated(runs)]
        own += [line for study in studies for line in _own_study(study)]
        if not own and not studies:
            return None
        others = [
            [
                line.inputs,
                cells.Cell(line.system, head=True),
                cells.Cell(line.reference, href=line.url, title=line.title),
                *(None if x is None else f"{x:.1f}" for x in (line.ucf101, line.hmdb51)),
                None,
            ]
            for line in paper.table_4()
        ]
        head = ["inputs", "system", "reference", "UCF-101 (%)", "HMDB-51 (%)", "here (%)"]
        return {
            "systems": cells.Table(head, own + others, labels=3),
            "sources": list(dict.fromkeys(line.reported_in for line in paper.table_4())),
        }


def _own_run(runs, run):
    link = cells.run_cell(runs, run)
    kind = _classifier(run)
    name = f"{link.text}: {_ROWS.get(kind, kind.replace('_', ' '))}"
    about = f"{len(run.classes)} classes, {_tested_on(run)}"
    cell = cells.row_cell(_video(run))
    return ["here", dataclasses.replace(link, text=name), about, None, None, cell]


def _own_study(study):
    """Yields a line for each classifier that was trained on all labelled videos."""
    for s in study.summaries:
        if not s.per_class and s.accuracies:
            name = cells.Cell(f"{study.name}: {s.contender}", head=True)
            cell = cells.percent_cell(s.mean, None)
            yield ["here", name, "all labelled videos", None, None, cell]
