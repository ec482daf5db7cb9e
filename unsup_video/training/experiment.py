"""From a config to a model, and from a finished run to its results."""

import json

import numpy as np
from ml_collections import ConfigDict

from unsup_video import losses, models
from unsup_video.data.sources import Source
from unsup_video.files import write_text
from unsup_video.training import checkpoints, loop, precision, recipes
from unsup_video.training.workdir import Workdir


_AT_LEAST_ONE = (
    "data.frames_in", "data.frames_out", "recipe.batch_size", "train.steps", "train.log_every",
    "train.eval_every", "train.checkpoint_every", "eval.validation_clips", "eval.test_clips",
    "eval.batch_size",
)


def check(config: ConfigDict) -> None:
    """Raises ValueError for a number of frames, clips or steps below 1, or a negative patience."""
    for field in _AT_LEAST_ONE:
        section, name = field.split(".")
        if config[section][name] < 1:
            raise ValueError(f"config.{field} must be at least 1, got {config[section][name]}")
    if config.train.early_stop_evaluations < 0:
        raise ValueError("config.train.early_stop_evaluations must be at least 0; 0 never stops")


def build_model(
    config: ConfigDict, frame_shape: tuple[int, ...], mean_frame: np.ndarray
) -> models.VideoModel:
    """The model of `config`, with the recipe's starting weights.

    Args:
        frame_shape: (H, W[, C]) or (D,). mean_frame: (D,), of the training data.
    """
    model = models.build(
        **config.model,
        frame_dim=int(np.prod(frame_shape)),
        initialization=recipes.initialization(config.recipe),
        gemm_dtype=precision.gemm_dtype(config.precision),
    )
    if config.recipe.mean_frame_bias:
        # Start from predicting the mean frame, instead of spending the first steps on it.
        bias = mean_frame
        if config.model.output == "logistic":
            p = np.clip(bias, 1e-3, 1 - 1e-3)
            bias = np.log(p / (1 - p))
        for decoder in model.decoder_layers.values():
            decoder.bias.assign(bias)
    return model


def test(config: ConfigDict, model: models.VideoModel, source: Source, workdir: Workdir) -> dict:
    """Scores the best checkpoint of a run on the test set and writes `results.json`.

    Returns:
        {"step": of the checkpoint, "clips": N, "scores": {"free_running/future": ..}, "floors":
        {"future": {"targets": .., "copy_last": .., "mean_frame": ..}, ..}}, per frame.
    """
    best = checkpoints.best(workdir.checkpoints)
    step, arrays, _ = checkpoints.restore(best)
    loop.load_weights(model, arrays, best)
    clips = source.evaluation("test", config.eval.test_clips)
    past, future = loop.split(clips, config.data.frames_in, config.data.frames_out)
    targets = {"reconstruction": past, "future": future}
    results = {
        "step": step,
        "clips": len(clips),
        "scores": loop.evaluator(model, config)(clips),
        "floors": {
            name: losses.floors(config.model.output, past, targets[name], source.mean_frame)
            for name in model.outputs
        },
    }
    write_text(workdir.path / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def table(config: ConfigDict, results: dict) -> str:
    """The results beside what to expect and the floors, as text."""
    names = list(results["floors"])
    unit = "nats/frame" if config.model.output == "logistic" else "squared loss/frame"
    head = f"test set, {results['clips']:,} clips, {unit}"
    lines = [f"{head:<44}" + "".join(f"{name:>16}" for name in names)]

    def row(label, values):
        lines.append(f"{label:<44}" + "".join(f"{v:16.1f}" if v else f"{'-':>16}" for v in values))

    labels = {"free_running": "this run", "teacher_forced": "this run, teacher-forced"}
    for how, label in labels.items():
        values = [results["scores"].get(f"{how}/{name}") for name in names]
        if any(values):
            row(f"{label} (step {results['step']})", values)
    if config.expect.source:
        row(f"expected: {config.expect.source}", [config.expect[name] for name in names])
    for floor, label in {
        "mean_frame": "always the mean frame",
        "copy_last": "the last input frame repeated",
        "targets": "the targets' entropy: no model gets below",
    }.items():
        if floor != "targets" or config.model.output == "logistic":
            row(label, [results["floors"][name][floor] for name in names])
    return "\n".join(lines)
