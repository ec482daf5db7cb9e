"""Config fields that a run would not read: a change to one of them is a mistake, and an error."""

from ml_collections import ConfigDict

from unsup_video.models import video_models
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


def of_pretraining(
    config: ConfigDict, frame_shape: tuple[int, ...] | None = None
) -> dict[str, str]:
    """The fields, such as "data.num_digits", that a run of train.pretrain ignores -> why.

    Args:
        frame_shape: (H, W), (H, W, C), or (D,) of features; None where it is not known yet.
    """
    found = _of_recipe(config)
    if config.data.records:
        found |= {f"data.{name}": "data.records has the clips" for name in _GENERATOR}
    else:
        found["data.split"] = "it divides data.records, and that is empty"
    if not config.model.use_peepholes:
        found["recipe.init.peepholes"] = "model.use_peepholes is off"
    decoders = video_models.KINDS.get(config.model.kind, ())
    if not any(config.model[f"conditional_{name}"] for name in decoders):
        found["recipe.conditional_input"] = "no decoder is conditional"
    if frame_shape is not None and len(frame_shape) == 1:
        found["recipe.pixel_blur"] = "the data are features, and not pixels"
    return found


def of_finetuning(config: ConfigDict, random: bool) -> dict[str, str]:
    """The same of train.finetune; `random`: it starts from random weights, from no encoder."""
    model = config.model
    found = _of_recipe(config) | {
        "recipe.mean_frame_bias": "a classifier has no decoder",
        "recipe.output_factor": "a classifier has no decoder",
        "recipe.conditional_input": "a classifier has no decoder",
        "recipe.pixel_blur": "only the kernels of pretraining are blurred",
    }
    if not config.data.videos_per_class:
        found["data.subset_seed"] = "data.videos_per_class is 0, which stands for all videos"
    if model.kind != "lstm":
        found |= dict.fromkeys(
            (
                "model.units",
                "model.layers",
                "model.use_peepholes",
                "model.dropout",
                "recipe.encoder_factor",
                "recipe.init.forget_bias",
                "recipe.init.peepholes",
            ),
            f"a {model.kind} classifier has no LSTM",
        )
    elif not random:
        found |= dict.fromkeys(
            (
                "model.units",
                "model.layers",
                "model.use_peepholes",
                "model.frame_scaling",
                "recipe.init.forget_bias",
                "recipe.init.peepholes",
            ),
            "the encoder of --init has its own",
        )
    elif not model.use_peepholes:
        found["recipe.init.peepholes"] = "model.use_peepholes is off"
    if model.freeze:
        found["recipe.encoder_factor"] = "model.freeze trains the softmax alone"
    return found


def of_flow_cnn(config: ConfigDict) -> dict[str, str]:
    """The same of train.flow_cnn."""
    return _of_recipe(config)


def of_study(config: ConfigDict) -> dict[str, str]:
    """The same of `few_labels.run`, for whatever contender."""
    return of_finetuning(config, random=True) | {
        "train.log_every": "the short trainings of a study log nothing",
        "train.eval_every": "the last weights count in a study",
        "train.checkpoint_every": "the short trainings of a study write no checkpoints",
        "train.early_stop_evaluations": "the last weights count in a study",
        "train.deterministic": "a study is always deterministic",
        "eval.batch_size": "a study has its own",
    }


def _of_recipe(config):
    recipe = config.recipe
    if recipe.schedule == "piecewise" and not recipe.boundaries:
        return {"recipe.decay_rate": "recipe.boundaries is empty"}
    return {}


def check(config: ConfigDict, named: ConfigDict, unread: dict[str, str]) -> None:
    """Refuses a config with a changed field that the run would ignore.

    Args:
        named: what the config was before it was changed, as its file has it.
        unread: the fields that are ignored -> why.

    Raises:
        ValueError: naming every such field, its value and why it is ignored.
    """
    flat, start = (dict(fields.flat(c.to_dict())) for c in (config, named))
    lines = [
        f"config.{name}={flat[name]} would be ignored, since {why}"
        for name, why in unread.items()
        if flat.get(name) != start.get(name)  # a recipe of one's own need not have it
    ]
    if lines:
        raise ValueError("; ".join(lines) + ". Leave that out, so that the config says what is run")
