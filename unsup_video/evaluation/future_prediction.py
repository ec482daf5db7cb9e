"""Scores a model's predictions per frame: the loss of the paper's Table 2, and other metrics."""

import time
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from unsup_video.evaluation import comparison, metrics, predict, results, testset
from unsup_video.models.outputs import FLOORS
from unsup_video.models.video_models import CONDITIONAL_INPUTS
from unsup_video.pictures import visualize
from unsup_video.training import precision
from unsup_video.training.tasks import pretraining
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files, progress

KIND = "future_prediction"
_BLOCK = 500  # clips in memory at a time; each finished block is stored


def evaluate(
    trained: TrainedModel,
    test_set: testset.TestSet,
    command: str,
    convention: str = "correct",
    lpips: metrics.Lpips | None = None,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Scores a model on a test set.

    The rows have the model's loss, MSE, MAE, SSIM and PSNR (see `metrics`), and LPIPS if `lpips` is
    given, for every frame and for the mean over frames. They cover each part that the model
    decodes, "free_running"; the parts of conditional decoders also "teacher_forced"; and for the
    future the floors: "entropy" (the loss of the truth itself), "copy_last", "mean_frame", and
    "constant_velocity" where the motion is known. For the loss, copy_last and constant_velocity
    are hedged (`Output.hedge`): clipped to [0.01, 0.99] for the cross entropy. Frames of a
    reconstruction are counted in the order in which they are decoded: frame 1 is the last one read.

    Finished blocks of clips are stored, and an interrupted evaluation resumes after them.

    Raises:
        ValueError: the model cannot read the clips, the convention is unknown, or LPIPS is wanted
            of frames that are no pictures.
    """
    metrics.check_convention(convention)
    data = trained.config.data
    wanted = data.frames_in + data.frames_out
    testset.check_fits(test_set, trained.frame_shape, wanted, trained.name)
    if lpips is not None and not visualize.drawable(trained.frame_shape):
        raise ValueError(
            f"LPIPS compares pictures, and {trained.name} has frames of {trained.frame_shape}"
        )
    settings = {
        "data": test_set.description,
        "clips": test_set.count,
        "seen": test_set.seen,
        "convention": convention,
        "lpips": lpips is not None,
        "gemm_dtype": precision.gemm_dtype(trained.config.precision),
    }
    parts = _Parts(results.folder_of(trained, KIND, settings))

    def compute(folder):
        seconds = {"data": 0.0, "inference": 0.0, "metrics": 0.0}
        began, stored = time.perf_counter(), 0
        scores = []
        for start in range(0, test_set.count, _BLOCK):
            count = min(_BLOCK, test_set.count - start)
            block = parts.load(start)
            if block is None:
                block = _score(trained, test_set, start, count, convention, lpips, seconds)
                parts.save(start, block)
                done = start + count
                per_clip = (time.perf_counter() - began) / (done - stored)
                left = per_clip * (test_set.count - done)
                log(
                    f"{trained.name}: {done:,} of {test_set.count:,} clips, "
                    f"{progress.duration(left)} to go"
                )
            else:
                stored += count
            scores.append(block)
        together = {name: np.concatenate([block[name] for block in scores]) for name in scores[0]}
        return results.Outcome(_rows(together, trained, test_set), seconds=seconds)

    return results.run(trained, KIND, settings, command, compute, recompute, log, parts.folder)


def _score(trained, test_set, start, count, convention, lpips, seconds):
    """Scores a block: {"SUBJECT MODE PART METRIC": (count, frames) float64}; adds to `seconds`."""
    data, outputs = trained.config.data, trained.model.decoder_outputs
    scores = {}

    def timed(name, function, *arguments):
        began = time.perf_counter()
        value = function(*arguments)
        seconds[name] += time.perf_counter() - began
        return value

    # Names of scores are "subject mode part metric"; a guess has no mode, so two spaces in a row.
    def measure(what, targets, frames):
        figures = metrics.frame_metrics(targets, frames, trained.frame_shape, convention)
        if lpips is not None:
            figures["lpips"] = lpips(targets, frames, trained.frame_shape)
        scores.update({f"{what} {name}": values for name, values in figures.items()})

    clips = timed("data", test_set.clips, start, count)
    past, future = pretraining.split(clips, data.frames_in, data.frames_out)
    targets = pretraining.target_arrays(past, future)
    modes = {"free_running": predict.predict, "teacher_forced": predict.teacher_forced}
    for mode, decode in modes.items():
        for part, (frame_losses, frames) in timed("inference", decode, trained, clips).items():
            scores[f"model {mode} {part} {outputs[part].metric}"] = frame_losses
            timed("metrics", measure, f"model {mode} {part}", targets[part], frames)

    guesses = {
        "copy_last": np.broadcast_to(past[:, -1:], future.shape),
        "mean_frame": np.broadcast_to(trained.mean_frame, future.shape),
    }
    ahead = timed("data", test_set.constant_velocity, start, count, data.frames_in)
    if ahead is not None:
        guesses["constant_velocity"] = ahead[:, : data.frames_out]
    # An autoencoder has no output for the future: its floors use the loss of its reconstruction.
    output = outputs.get("future", outputs.get("reconstruction"))
    for subject, frames in guesses.items():
        timed("metrics", measure, f"{subject}  future", future, frames)
        guess = frames if subject == "mean_frame" else output.hedge(frames)
        scores[f"{subject}  future {output.metric}"] = timed(
            "metrics", _losses, output, future, guess
        )
    scores[f"entropy  future {output.metric}"] = timed("metrics", _losses, output, future, future)
    return scores


def _losses(output, targets, guesses):
    """Returns `Output.frame_scores`, clip by clip, to keep the float64 copies small."""
    pairs = zip(targets, guesses, strict=True)
    return np.stack([output.frame_scores(target, guess) for target, guess in pairs])


class _Parts:
    """Stores scores of finished blocks, `.parts-KEY/00000500.npz`, until the evaluation ends."""

    def __init__(self, evaluation: Path):
        self.folder = evaluation.with_name(f".parts-{evaluation.name}")

    def load(self, start):
        path = self.folder / f"{start:08d}.npz"
        return files.read_arrays(path) if path.exists() else None

    def save(self, start, block):
        self.folder.mkdir(parents=True, exist_ok=True)
        with files.atomic_write(self.folder / f"{start:08d}.npz") as temporary:
            with open(temporary, "wb") as file:
                np.savez(file, **block)


def _rows(scores, trained, test_set):
    outputs = trained.model.decoder_outputs.values()
    units = {**metrics.UNITS, **{output.metric: output.unit for output in outputs}}
    rows = []
    for name, values in scores.items():
        subject, mode, part, metric = name.split(" ")
        columns = [(None, values.mean(1))] + [(t + 1, v) for t, v in enumerate(values.T)]
        rows += [
            results.row(
                subject,
                test_set.label,
                part,
                metric,
                v,
                mode,
                units[metric],
                frame,
                groups=test_set.groups,
            )
            for frame, v in columns
        ]
    return rows


_PAST = "reconstruction"  # the only part of an autoencoder
_FLOORS = {"constant_velocity": "straight motion, digits given", **FLOORS}


def floors(evaluation: results.Evaluation) -> dict[str, str]:
    """Returns {subject: label} of the floors that a model is compared with.

    "entropy" is left out where the loss of the truth is 0, as the squared loss is.
    """
    return {
        subject: label
        for subject, label in _FLOORS.items()
        if any(subject != "entropy" or row.value for row in evaluation.find(subject=subject))
    }


def table(evaluations: list[results.Evaluation], labels: Sequence[str] | None = None) -> str:
    """Returns the means over the frames of the future as text, one line per model and floor.

    For an autoencoder, which predicts no future, they are those of the reconstruction.
    Models are free-running, as in the paper, except in lines that say "teacher-forced". `labels`
    are distinct names of the models; None for the names of their folders. The floors are those of
    the first evaluation; all evaluations should share one test set.
    """
    loss = next(r.metric for r in evaluations[0].find(subject="entropy", frame=None))
    names = [loss, *(m for m in metrics.UNITS if evaluations[0].find(metric=m))]
    head = f"{'future, mean over frames':<44}{loss:>24}{'paper':>8}"
    lines = [head + "".join(f"{name:>10}" for name in names[1:])]

    def line(label, evaluation, subject, mode="", reference=None, part="future"):
        here = {"subject": subject, "mode": mode, "part": part, "frame": None}
        cells = []
        for name in names:
            rows = evaluation.find(**here, metric=name)
            text = _number(name, rows[0].value) if rows else "-"
            if rows and name == loss and subject == "model" and rows[0].low is not None:
                text += f" +- {rows[0].high - rows[0].value:.1f}"
            cells.append(text)
        paper_text = f"{reference:.1f}" if reference else "-"
        lines.append(
            f"{label:<44}{cells[0]:>24}{paper_text:>8}"
            + "".join(f"{cell:>10}" for cell in cells[1:])
        )

    labels = labels or [evaluation.model["name"] for evaluation in evaluations]
    for label, evaluation in zip(labels, evaluations, strict=True):
        label = f"{label} (step {evaluation.model['step']})"
        if not evaluation.find(subject="model", part="future"):
            line(f"{label}, reconstruction", evaluation, "model", "free_running", part=_PAST)
            continue
        if how := evaluation.model.get("conditional_input"):
            label += f", {CONDITIONAL_INPUTS[how]}"
        line(label, evaluation, "model", "free_running", reference(evaluation))
        if evaluation.find(part="future", mode="teacher_forced"):
            line(f"{label}, teacher-forced", evaluation, "model", "teacher_forced")
    for subject, label in floors(evaluations[0]).items():
        line(label, evaluations[0], subject)
    return "\n".join(lines)


def reference(evaluation: results.Evaluation) -> float | None:
    """Returns the paper's figure in Table 2 for such a model and data; None without one."""
    return comparison.table_2(evaluation.model, evaluation.settings["data"])


def _number(metric, value):
    return f"{value:.3f}" if metric in ("ssim", "lpips") else f"{value:.1f}"
