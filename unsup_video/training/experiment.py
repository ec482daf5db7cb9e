"""Models built from a config, and the files of a run that describe its model."""

import contextlib
import hashlib
import json
import math
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unsup_video.models import cells, classifiers, video_models
from unsup_video.models.classifiers import Classifier
from unsup_video.training import fields, operations, precision
from unsup_video.utils import files

CLASSES = "classes.json"  # of a run: the names of the classes, in the order of the logits


def build_model(
    config: ConfigDict,
    frame_shape: tuple[int, ...],
    mean_frame: np.ndarray,
    standard_deviation: float = 1.0,
) -> video_models.VideoModel:
    """Builds the model of `config`, with the initial weights of its recipe.

    Args:
        frame_shape: (H, W[, C]) or (D,). mean_frame, standard_deviation: those of the training
            data, see `Source`; they matter only for a model that will be trained.
    """
    config = ConfigDict(fields.completed(config.to_dict()))
    model = video_models.build(
        **fields.architecture(config.model),
        frame_dim=int(np.prod(frame_shape)),
        conditional_input=config.recipe.conditional_input,
        initialization=video_models.Initialization(**config.recipe.init),
        gemm_dtype=precision.gemm_dtype(config.precision),
    )
    _set_scale(model, standard_deviation)
    if len(frame_shape) > 1:  # features have no neighbours
        model.blur_pixel_kernels(frame_shape, config.recipe.pixel_blur)
    if config.recipe.conditional_zero:
        model.zero_conditional_kernels()
    if config.recipe.mean_frame_bias:
        # Start from predicting the mean frame, instead of spending the first steps on learning it.
        model.start_at(mean_frame, standard_deviation if model.frame_scale else 1.0)
    return model


def step_flop(config: dict, frame_shape: Sequence[int]) -> int:
    """Returns the floating-point operations of a step of pretraining, see `operations.flop`.

    Args:
        config: as in config.json. frame_shape: (H, W[, C]) or (D,), as in run.json.
    """
    config = fields.completed(config)
    model, data, recipe = config["model"], config["data"], config["recipe"]
    frames = {"reconstruction": data["frames_in"], "future": data["frames_out"]}
    decoders = [
        operations.DecoderSize(
            frames[part], recipe["conditional_input"] if model[f"conditional_{part}"] else ""
        )
        for part in video_models.output_names(model)
    ]
    return operations.flop(
        model["units"],
        model["layers"],
        recipe["batch_size"],
        math.prod(frame_shape),
        data["frames_in"],
        decoders,
        gates=len(cells.get(model["cell"]).kernel_parts),
    )


def validation_data(config: dict, info: dict) -> str:
    """Returns a digest of the validation clips of a run of pretraining.

    The losses of runs with the same digest are of the same frames. Where the data are does not
    matter.

    Args:
        config, info: as in config.json and run.json.
    """
    config = fields.completed(config)
    elsewhere = ("digits_dir", "digits_source", "records", "shuffle_mb")
    data = {name: value for name, value in config["data"].items() if name not in elsewhere}
    contents = {name: value for name, value in info["data"]["sha256"].items() if name != "init"}
    known = [data, contents, config["eval"]["validation_clips"]]
    return hashlib.sha256(json.dumps(known, sort_keys=True).encode()).hexdigest()


def build_classifier(
    config: ConfigDict,
    classes: tuple[str, ...],
    frame_shape: tuple[int, ...],
    standard_deviation: float = 1.0,
) -> Classifier:
    """Builds the classifier of `config`, with initial weights.

    Args:
        frame_shape: (D,) or that of a picture. standard_deviation: the divisor of the frames; it
            matters only for a classifier that does not start from an encoder.

    Raises:
        ValueError: as in `classifiers.build`; or all values of the data are the same.
    """
    classifier = classifiers.build(
        classes,
        int(np.prod(frame_shape)),
        initialization=video_models.Initialization(**config.recipe.init),
        gemm_dtype=precision.gemm_dtype(config.precision),
        **fields.architecture(config.model),
    )
    _set_scale(classifier, standard_deviation)
    return classifier


def _set_scale(model, scale):
    if model.frame_scale is None:
        return
    if not scale > 0:
        raise ValueError("model.frame_scaling: all values of the training data are the same")
    model.frame_scale.scale.assign(scale)


@contextlib.contextmanager
def reading(folder: Path, command: str) -> Iterator[None]:
    """Turns errors while reading files of a run, which `command` makes, into clear messages.

    Raises:
        FileNotFoundError: a file is missing. ValueError: it is damaged.
    """
    try:
        yield
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{folder} is not the folder of a run: {Path(error.filename).name} is missing; "
            f"python -m {command} makes one"
        ) from None
    except ValueError as error:
        raise ValueError(f"{folder}: a file of the run is damaged ({error})") from None


def read_config(folder: Path) -> ConfigDict:
    """Reads FOLDER/config.json and adds the fields that an earlier version did not write."""
    stored = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    return ConfigDict(fields.completed(stored))


def write_classes(folder: Path, classes: tuple[str, ...]) -> None:
    """Writes FOLDER/classes.json."""
    files.write_text(folder / CLASSES, json.dumps(list(classes), indent=1) + "\n")


def read_classes(folder: Path) -> tuple[str, ...]:
    """Reads FOLDER/classes.json."""
    return tuple(json.loads((folder / CLASSES).read_text(encoding="utf-8")))
