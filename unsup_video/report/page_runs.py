"""The page's sections on runs: their settings, loss curves and learning curves."""

from unsup_video.configs import NO_INIT
from unsup_video.models.classifiers import KINDS, RECURRENT
from unsup_video.models.video_models import CONDITIONAL_INPUTS, output_names
from unsup_video.pictures import charts
from unsup_video.report import cells
from unsup_video.report.section import Section
from unsup_video.training import experiment
from unsup_video.utils import progress

_CURVES = {  # of a classifier: (title, unit) -> split -> name in metrics.jsonl
    ("Cross entropy", "nats"): {"train": "cross_entropy", "validation": "video_cross_entropy"},
    ("Accuracy", "%"): {"train": "step_accuracy", "validation": "video_accuracy"},
}
_OF = {"train": "train, single steps", "validation": "validation, whole videos"}
_LOOKS = {"train": (charts.COLOURS[1], 1.1), "validation": (charts.COLOURS[0], 1.8)}


class Runs(Section):
    """One article per run."""

    anchor, title, template = "runs", "Runs: what was trained, and how", "runs.html"

    def content(self, runs, studies):
        articles = [
            {
                "anchor": cells.anchor(runs, run),
                "name": run.name,
                "facts": _facts(run),
                "losses": _losses(runs, run),
                "no_losses": "metrics.jsonl has no losses."
                if run.metrics
                else "No loss curves: metrics.jsonl stays in the run's folder.",
                "config": run.config,
                "command": run.command,
            }
            for run in runs
        ]
        return {"articles": articles} if articles else None


def basics(runs: list, run) -> list[cells.Cell | str]:
    """Returns the cells of the columns `BASICS`, the first ones of every table of runs."""
    return [
        cells.run_cell(runs, run),
        architecture(run.model),
        run.model["recipe"],
        f"{run.model['step']:,}",
        _parameters(run),
        _training_time(run),
    ]


BASICS = ("run", "model", "recipe", "step", "parameters", "training")  # 3 texts, 3 numbers


def architecture(model: dict) -> str:
    """Describes the architecture of `TrainedModel.describe()` in a few words."""
    kind, cell = model["kind"], model.get("cell", "lstm")  # earlier evaluations do not name it
    if kind in KINDS and kind not in RECURRENT:
        return f"{kind.replace('_', ' ')} classifier"
    units = "units" if cell == "lstm" else f"{cell.upper()} units"
    if kind in KINDS:
        kind = f"{cell.upper() if kind == 'lstm' else kind} classifier"
        units = "units"
    return f"{kind}, {model['layers']} × {model['units']} {units}"


def _training_time(run):
    return progress.duration(run.metrics[-1]["elapsed_s"]) if run.metrics else "–"


def _parameters(run):
    return f"{run.info['parameters']:,}" if "parameters" in run.info else "–"


def _facts(run):
    info, model = run.info, run.model
    facts = {
        "Model": f"{architecture(model)}, {_specifics(run)}",
        "Weights": f"of step {model['step']:,} of {_steps(run)}, the best on validation "
        f"{'videos' if run.classes else 'clips'}; sha256 {model['sha256']}"
        + (f"; kernels in {model['kernel_dtype']}" if "kernel_dtype" in model else ""),
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
        "Matrix products in training": info.get("gemm_dtype"),
        "Folder": run.path,
    }
    return {name: value for name, value in facts.items() if value not in (None, "")}


def _specifics(run):
    model = run.model
    if run.classes:
        start = "random weights" if model["init"] == NO_INIT else f"the encoder of {model['init']}"
        frozen = ", which is frozen" if model["freeze"] else ""
        return f"{len(run.classes)} classes, starts from {start}{frozen}"
    conditional = [part for part in ("reconstruction", "future") if model[f"conditional_{part}"]]
    names = output_names(model)
    output = f"{' and '.join(dict.fromkeys(names.values()))} output"
    if (init := model.get("init", NO_INIT)) != NO_INIT:
        output += f", starts from the weights of {init}"
    if not conditional:
        return f"{output}, unconditional"
    # Earlier versions did not store this field; their models were trained on the true frames.
    how = CONDITIONAL_INPUTS[model.get("conditional_input", "truth")]
    return f"{output}, conditional {' and '.join(conditional)}, {how}"


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
    """Formats nested JSON values as one line."""
    if isinstance(value, dict):
        return ", ".join(f"{name}: {_flat(inner)}" for name, inner in value.items())
    if isinstance(value, list):
        return " ".join(map(_flat, value))
    return str(value)


# ---------------------------------------------------------------------- curves


def _series(run, split, key):
    """Returns (steps, seconds, values) of one quantity in metrics.jsonl."""
    lines = [line for line in run.metrics if line["split"] == split and key in line]
    return (
        [line["step"] for line in lines],
        [line["elapsed_s"] for line in lines],
        [line[key] for line in lines],
    )


def _losses(runs, run):
    """Draws the loss curves of one run, one chart per quantity; None if there are none."""
    panels = _accuracies(run) if run.classes else _parts(run)
    panels = {key: lines for key, lines in panels.items() if lines}
    if not panels:
        return None
    name = cells.anchor(runs, run)
    return cells.Charts(
        [
            charts.svg(lines, f"{name}-{number}", title, "step", unit, settled=True)
            for number, ((title, unit), lines) in enumerate(panels.items())
        ],
        [line for lines in panels.values() for line in lines],
    )


def _parts(run):
    """Returns {(title, unit): lines} for the losses of each part of a video model."""
    panels = {}
    for part in ("reconstruction", "future"):
        lines = panels.setdefault((f"Loss of the {part}", "loss per frame"), [])
        for split in _LOOKS:
            for mode, dash in (("free_running", charts.SOLID), ("teacher_forced", charts.DASHED)):
                label = f"{split}, {mode.replace('_', '-')}"
                lines += _line(run, split, f"{mode}/{part}", label, dash)
    return panels


def _accuracies(run):
    """Returns {(title, unit): lines} for a classifier."""
    return {
        title: [line for split, key in keys.items() for line in _line(run, split, key, _OF[split])]
        for title, keys in _CURVES.items()
    }


def _line(run, split, key, label, dash=charts.SOLID):
    """Returns [the line of a quantity over the steps], or [] if it was not recorded."""
    steps, _, values = _series(run, split, key)
    colour, width = _LOOKS[split]
    return [charts.Line(label, steps, values, colour, dash, width)] if steps else []


class Learning(Section):
    """The validation losses of the future, in charts of runs with comparable losses."""

    anchor, title, template = "learning", "Learning curves of all runs", "learning.html"

    def content(self, runs, studies):
        videos, groups = [run for run in runs if not run.classes], {}
        if not videos:
            return None
        for run in videos:
            output = output_names(run.model).get("future")
            key = experiment.validation_data(run.config, run.info), output
            groups.setdefault(key, []).append(run)
        drawn = [_learning(runs, group, n) for n, group in enumerate(groups.values(), 1)]
        return {
            "groups": [group for group in drawn if group.lines],
            "nothing": "No run predicts the future."
            if any(run.metrics for run in videos)
            else "No curves: metrics.jsonl stays in the run's folder.",
        }


def _learning(runs, group, number):
    """Draws charts of runs with comparable losses, over steps, time and operations."""
    lines = {"step": [], "minutes of training": [], "TFLOP of training, matrix products": []}
    for run in group:
        steps, seconds, values = _series(run, "validation", "free_running/future")
        tera = experiment.step_flop(run.config, run.info["frame_shape"]) / 1e12
        axes = steps, [s / 60 for s in seconds], [tera * step for step in steps]
        look = charts.style(runs.index(run))
        for curves, x in zip(lines.values(), axes, strict=True):
            curves += [charts.Line(run.name, x, values, **look)] if steps else []
    title = "Future, validation, free-running"
    return cells.Charts(
        [
            charts.svg(
                curves, f"learning-{number}-{k}", title, label, "loss per frame", settled=True
            )
            for k, (label, curves) in enumerate(lines.items())
            if curves
        ],
        lines["step"],
    )
