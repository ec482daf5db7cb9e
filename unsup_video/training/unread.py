"""Config fields that a run would ignore: changing one of them is an error."""

from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.models import cells, classifiers, video_models
from unsup_video.training import fields

_GENERATOR = (
    "num_digits",
    "frame_size",
    "speed_min",
    "speed_max",
    "bounce",
    "digits_source",
    "digits_dir",
)
_CONDITIONAL = ("recipe.conditional_input", "recipe.conditional_factor", "recipe.conditional_zero")


def of_pretraining(
    config: ConfigDict, frame_shape: tuple[int, ...] | None = None
) -> dict[str, str]:
    """Returns the fields that a run of train.pretrain ignores, such as "data.num_digits" -> why.

    Args:
        frame_shape: (H, W), (H, W, C), or (D,) of features; None if it is not known yet.
    """
    ignored = _of_recipe(config)
    if config.data.records:
        ignored |= {f"data.{name}": "data.records has the clips" for name in _GENERATOR}
    else:
        ignored["data.split"] = "it divides data.records, and that is empty"
    ignored |= _of_cell(config.model)
    decoders = video_models.KINDS.get(config.model.kind, ())
    if not any(config.model[f"conditional_{name}"] for name in decoders):
        ignored |= dict.fromkeys(_CONDITIONAL, "no decoder is conditional")
    if decoders and all(config.model.get(f"output_{name}") for name in decoders):
        ignored["model.output"] = "every decoder has an output of its own"
    if frame_shape is not None and len(frame_shape) == 1:
        ignored["recipe.pixel_blur"] = "the data are features, and not pixels"
    if config.model.get("init", configs.NO_INIT) != configs.NO_INIT:
        names = [
            *(f"init.{name}" for name in config.recipe.init),
            "mean_frame_bias",
            "pixel_blur",
            "conditional_zero",
        ]
        ignored |= {f"recipe.{name}": "the weights are those of --init" for name in names}
    return ignored


def of_finetuning(config: ConfigDict, random: bool) -> dict[str, str]:
    """Returns the same for train.finetune.

    Args:
        random: whether the run starts from random weights instead of an encoder.
    """
    model = config.model
    ignored = _of_recipe(config) | {
        "recipe.mean_frame_bias": "a classifier has no decoder",
        "recipe.output_factor": "a classifier has no decoder",
        **dict.fromkeys(_CONDITIONAL, "a classifier has no decoder"),
        "recipe.pixel_blur": "only the kernels of pretraining are blurred",
    }
    if not config.data.videos_per_class:
        ignored["data.subset_seed"] = "data.videos_per_class is 0, which stands for all videos"
    if model.kind not in classifiers.RECURRENT:
        ignored |= dict.fromkeys(
            (
                "model.units",
                "model.layers",
                "model.cell",
                "model.use_peepholes",
                "model.dropout",
                "recipe.encoder_factor",
                "recipe.init.forget_bias",
                "recipe.init.peepholes",
            ),
            f"a {model.kind} classifier has no recurrent layer",
        )
    elif not random:
        ignored |= dict.fromkeys(
            (
                *(f"model.{name}" for name in fields.OF_ENCODER),
                "recipe.init.forget_bias",
                "recipe.init.peepholes",
            ),
            "the encoder of --init has its own",
        )
    else:
        ignored |= _of_cell(model)
    if model.kind == "state":
        why = "a state classifier trains the softmax alone, on what an encoder remembers"
        ignored |= {"model.dropout": why, "recipe.encoder_factor": why}
    if model.freeze:
        ignored["recipe.encoder_factor"] = "model.freeze trains the softmax alone"
    return ignored


def of_flow_cnn(config: ConfigDict) -> dict[str, str]:
    """Returns the same for train.flow_cnn."""
    return _of_recipe(config)


def of_study(config: ConfigDict) -> dict[str, str]:
    """Returns the same for `few_labels.run`, for every contender."""
    return of_finetuning(config, random=True) | {
        "train.log_every": "the short trainings of a study log nothing",
        "train.eval_every": "the last weights count in a study",
        "train.checkpoint_every": "the short trainings of a study write no checkpoints",
        "train.early_stop_evaluations": "the last weights count in a study",
        "train.deterministic": "a study is always deterministic",
        "eval.batch_size": "a study has its own",
    }


def _of_cell(model):
    cell = model.get("cell", "lstm")  # configs of users need not have it
    if not cells.get(cell).has_peepholes:
        why = f"a {cell} has no peepholes"
        return {"model.use_peepholes": why, "recipe.init.peepholes": why}
    if not model.use_peepholes:
        return {"recipe.init.peepholes": "model.use_peepholes is off"}
    return {}


def _of_recipe(config):
    recipe = config.recipe
    if recipe.schedule == "piecewise" and not recipe.boundaries:
        return {"recipe.decay_rate": "recipe.boundaries is empty"}
    return {}


def check(config: ConfigDict, named: ConfigDict, unread: dict[str, str]) -> None:
    """Refuses a config with a changed field that the run would ignore.

    Args:
        named: the config before any change, as in its file.
        unread: the fields that are ignored -> why.

    Raises:
        ValueError: the run would ignore changed fields; the message names each field, its value
            and the reason.
    """
    flat, start = (dict(fields.flat(c.to_dict())) for c in (config, named))
    lines = [
        f"config.{name}={flat[name]} would be ignored, since {why}"
        for name, why in unread.items()
        if flat.get(name) != start.get(name)  # recipes of users need not have it
    ]
    if lines:
        raise ValueError("; ".join(lines) + ". Leave that out, so that the config says what is run")
