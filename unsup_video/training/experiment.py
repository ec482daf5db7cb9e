"""From a config to a model, and from a finished run to its results."""

import json
import math
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unsup_video.data import overlap
from unsup_video.data.sources import Source
from unsup_video.models import classifiers, outputs, video_models
from unsup_video.models.classifiers import Classifier
from unsup_video.training import checkpoints, fields, loop, precision
from unsup_video.training.tasks import pretraining
from unsup_video.training.workdir import Workdir
from unsup_video.utils import files

CLASSES = "classes.json"  # of a run: the names of the classes, in the order of the outputs
_AT_LEAST_ONE = (
    "data.frames_in",
    "data.frames_out",
    "recipe.batch_size",
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "eval.validation_clips",
    "eval.test_clips",
    "eval.batch_size",
)


def check(config: ConfigDict) -> None:
    """Raises ValueError for a number that is out of its range.

    Numbers of frames, clips and steps are at least 1, the patience and the blur at least 0.
    """
    check_at_least_one(config, _AT_LEAST_ONE)
    if config.train.early_stop_evaluations < 0:
        raise ValueError("config.train.early_stop_evaluations must be at least 0; 0 never stops")
    blur = fields.completed(config.to_dict())["recipe"]["pixel_blur"]
    if not (math.isfinite(blur) and blur >= 0):
        raise ValueError(
            f"config.recipe.pixel_blur must be a number of pixels, at least 0, got {blur}"
        )


def check_at_least_one(config: ConfigDict, names: tuple[str, ...]) -> None:
    """Raises ValueError for the first of these fields, such as "train.steps", that is below 1."""
    for field in names:
        section, name = field.split(".")
        if config[section][name] < 1:
            raise ValueError(f"config.{field} must be at least 1, got {config[section][name]}")


def build_model(
    config: ConfigDict, frame_shape: tuple[int, ...], mean_frame: np.ndarray, spread: float = 1.0
) -> video_models.VideoModel:
    """The model of `config`, with the recipe's starting weights.

    Args:
        frame_shape: (H, W[, C]) or (D,). mean_frame, spread: of the training data, see `Source`;
            they only matter for a model that is to be trained.
    """
    config = ConfigDict(fields.completed(config.to_dict()))
    model = video_models.build(
        **config.model,
        frame_dim=int(np.prod(frame_shape)),
        conditional_input=config.recipe.conditional_input,
        initialization=video_models.Initialization(**config.recipe.init),
        gemm_dtype=precision.gemm_dtype(config.precision),
    )
    _set_scale(model, spread)
    if len(frame_shape) > 1:  # features have no neighbours
        model.blur_pixel_kernels(frame_shape, config.recipe.pixel_blur)
    if config.recipe.mean_frame_bias:
        # Start from predicting the mean frame, instead of spending the first steps on it.
        model.start_at(mean_frame, spread if model.frame_scale else 1.0)
    return model


def build_classifier(
    config: ConfigDict, classes: tuple[str, ...], frame_shape: tuple[int, ...], spread: float = 1.0
) -> Classifier:
    """The classifier of `config`, with starting weights.

    Args:
        frame_shape: (D,) or that of a picture. spread: what frames are divided by; it only matters
            for a classifier that does not start from an encoder.

    Raises:
        ValueError: as of `classifiers.build`; data that are all the same.
    """
    options = {key: value for key, value in config.model.items() if key != "init"}
    classifier = classifiers.build(
        classes,
        int(np.prod(frame_shape)),
        initialization=video_models.Initialization(**config.recipe.init),
        gemm_dtype=precision.gemm_dtype(config.precision),
        **options,
    )
    _set_scale(classifier, spread)
    return classifier


def _set_scale(model, spread):
    if model.frame_scale is None:
        return
    if not spread > 0:
        raise ValueError("model.frame_scaling: all values of the training data are the same")
    model.frame_scale.scale.assign(spread)


def write_classes(folder: Path, classes: tuple[str, ...]) -> None:
    """Writes FOLDER/classes.json."""
    files.write_text(folder / CLASSES, json.dumps(list(classes), indent=1) + "\n")


def read_classes(folder: Path) -> tuple[str, ...]:
    """Reads FOLDER/classes.json."""
    return tuple(json.loads((folder / CLASSES).read_text(encoding="utf-8")))


def test(
    config: ConfigDict, model: video_models.VideoModel, source: Source, workdir: Workdir
) -> dict:
    """Scores the best checkpoint of a run on the test set and writes `results.json`.

    Returns:
        {"step": of the checkpoint, "clips": N, "scores": {"free_running/future": ..}, "floors":
        {"future": {"targets": .., "copy_last": .., "mean_frame": ..}, ..}}, per frame; and "seen",
        `overlap.seen` of the test part.
    """
    best = checkpoints.best(workdir.checkpoints)
    step, arrays, _ = checkpoints.restore(best)
    loop.load_weights(model.network, arrays, best)
    clips = source.evaluation("test", config.eval.test_clips)
    past, future = pretraining.split(clips, config.data.frames_in, config.data.frames_out)
    targets = {"reconstruction": past, "future": future}
    results = {
        "step": step,
        "clips": len(clips),
        "scores": pretraining.evaluator(model, config)(clips),
        "floors": {
            name: output.floors(past, targets[name], source.mean_frame)
            for name, output in model.decoder_outputs.items()
        },
        "seen": overlap.of_own_test(workdir.path, config),
    }
    files.write_text(workdir.path / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def table(config: ConfigDict, results: dict, expect: ConfigDict | None = None) -> str:
    """The results beside the floors and what to expect, as in `config.expect`, as text."""
    names = list(results["floors"])
    unit = outputs.frame_units(video_models.decoder_outputs(config.model))
    head = f"test set, {results['clips']:,} clips, {unit}"
    lines = [f"{head:<44}" + "".join(f"{name:>16}" for name in names)]

    def row(label, values):
        lines.append(f"{label:<44}" + "".join(f"{v:16.1f}" if v else f"{'-':>16}" for v in values))

    labels = {"free_running": "this run", "teacher_forced": "this run, teacher-forced"}
    for how, label in labels.items():
        values = [results["scores"].get(f"{how}/{name}") for name in names]
        if any(values):
            row(f"{label} (step {results['step']})", values)
    if expect:
        row(f"expected: {expect.source}", [expect[name] for name in names])
    for floor, label in {
        "mean_frame": "always the mean frame",
        "copy_last": "the last input frame repeated",
        "targets": "the targets' entropy: no model gets below",
    }.items():
        values = [results["floors"][name][floor] for name in names]
        if any(values):  # the truth itself has no squared loss
            row(label, values)
    return "\n".join(lines + overlap.notes(results.get("seen"), None, "sequences"))
