"""The fields of a config, and values for those that configs of earlier versions lack."""

import math
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ml_collections import ConfigDict

from unsup_video import configs

# `config.task` -> the command that trains it.
COMMANDS = {
    "pretraining": "train.pretrain",
    "finetuning": "train.finetune",
    "flow_classification": "train.flow_cnn",
}

# Fields of `config.model` that a classifier takes over from its pretrained encoder.
OF_ENCODER = ("units", "layers", "cell", "use_peepholes", "frame_scaling")

# For each task, the values that describe runs made before these fields existed.
_RECURRENT: dict[str, dict] = {
    "model": {"frame_scaling": False, "cell": "lstm"},
    "data": {"split": 0},
    "recipe": {
        "pixel_blur": 0.0,
        "conditional_input": "truth",
        "conditional_factor": 1.0,
        "conditional_zero": False,
    },
}
_PRETRAINING = {"output_reconstruction": "", "output_future": "", "init": configs.NO_INIT}
_EARLIER: dict[str, dict[str, dict]] = {
    "pretraining": {**_RECURRENT, "model": {**_RECURRENT["model"], **_PRETRAINING}},
    "finetuning": {**_RECURRENT, "data": {"split": 0, "videos_per_class": 0, "subset_seed": 0}},
    "flow_classification": {"data": {"split": 0}},
}


def completed(config: dict) -> dict:
    """Adds to a config, nested dicts, the fields that it lacks if an earlier version wrote it.

    Their values describe what that version did. A packaged config has the name it has today.
    """
    task = config.get("task") or _task(config)
    earlier = _EARLIER.get(task, {})
    sections = {
        section: {**earlier.get(section, {}), **value} if isinstance(value, dict) else value
        for section, value in config.items()
    }
    if "name" in config:
        sections["name"] = configs.ALIASES.get(config["name"], config["name"])
    return {"task": task, **sections}


def complete(config: ConfigDict) -> None:
    """Adds to a config the fields that it lacks, in place, with the values of `completed`."""
    with config.unlocked():
        for section, value in completed(config.to_dict()).items():
            if section not in config:
                config[section] = value
            elif isinstance(value, dict):
                for name in value.keys() - config[section].keys():
                    config[section][name] = value[name]


def _task(config):
    """Infers the task of a config that does not name it."""
    if "stack" in config.get("data", {}):
        return "flow_classification"
    model = config.get("model", {})
    return "finetuning" if "init" in model and "output" not in model else "pretraining"


def architecture(model: Mapping) -> dict:
    """Returns `config.model` without `init`: the arguments with which a model is built."""
    return {name: value for name, value in model.items() if name != "init"}


def check_task(config: Mapping, task: str) -> None:
    """Raises ValueError if a config, also one of an earlier version, is for another task."""
    own = completed(dict(config))["task"]
    if own != task:
        known = f": python -m {COMMANDS[own]} trains it" if own in COMMANDS else ""
        raise ValueError(
            f"config {config['name']!r} is one of {own}, and {COMMANDS[task]} does {task}{known}"
        )


_AT_LEAST_ONE = (  # in every task
    "recipe.batch_size",
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "eval.batch_size",
)


# Ranges of a recipe's fields, in words -> (the range, the fields).
_RANGES: dict[str, tuple[Callable[[float], bool], tuple[str, ...]]] = {
    "finite and above 0": (
        lambda x: 0 < x < math.inf,
        (
            "learning_rate",
            "fan_in",
            "output_factor",
            "conditional_factor",
            "step_clip",
            "decay_rate",
        ),
    ),
    "finite and at least 0": (
        lambda x: 0 <= x < math.inf,
        ("encoder_factor", "l2", "pixel_blur", "init.kernel", "init.peepholes"),
    ),
    "finite": (math.isfinite, ("init.forget_bias",)),
    "in [0, 1)": (lambda x: 0 <= x < 1, ("beta_1", "beta_2", "momentum", "rms_decay")),
    "in [0, 1]": (lambda x: 0 <= x <= 1, ("warmup_fraction",)),
    "at least 1": (lambda x: x >= 1, ("decay_steps",)),
}


def check_reduction(config: Mapping) -> None:
    """Raises ValueError for a `recipe.batch_reduction` that is not "mean" or "sum"."""
    reduction = config["recipe"]["batch_reduction"]
    if reduction not in ("mean", "sum"):
        raise ValueError(f"unknown recipe.batch_reduction {reduction!r}: mean or sum")


def check_numbers(config: Mapping, at_least_one: tuple[str, ...] = ()) -> None:
    """Raises ValueError for the first number that is out of its range.

    Args:
        at_least_one: fields of the task, such as "data.frames_in", that must be at least 1, in
            addition to those of every task. The patience of early stopping must be at least 0.
    """
    for field in (*at_least_one, *_AT_LEAST_ONE):
        section, name = field.split(".")
        if config[section][name] < 1:
            raise ValueError(f"config.{field} must be at least 1, got {config[section][name]}")
    recipe = dict(flat(config["recipe"]))
    for words, (in_range, names) in _RANGES.items():
        for name in names:
            if name in recipe and not in_range(recipe[name]):
                raise ValueError(f"config.recipe.{name} must be {words}, got {recipe[name]}")
    if not 0 <= config["seed"] < 1 << 32:
        raise ValueError(f"config.seed must be from 0 to 2**32 - 1, got {config['seed']}")
    if config["train"]["early_stop_evaluations"] < 0:
        raise ValueError("config.train.early_stop_evaluations must be at least 0; 0 never stops")


def flat(config: Mapping | ConfigDict, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Yields (name, value) of every field of nested dicts, with names such as "model.units"."""
    for key, value in config.items():
        if isinstance(value, (dict, ConfigDict)):
            yield from flat(value, f"{prefix}{key}.")
        else:
            yield prefix + key, value
