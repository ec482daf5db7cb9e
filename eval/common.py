"""Flags and functions that the evaluation commands share."""

from absl import flags

from unsup_video.training import precision, trained

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "Folder of a run; repeat the flag to compare runs."
)
_MODEL = flags.DEFINE_multi_string(
    "model",
    [],
    "Folder of a SavedModel's version, or of all versions, of which the newest is used; repeat the "
    "flag to compare models.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    precision.CHOICES,
    "Precision of matrix products; default: that of the training or, for a SavedModel, its export.",
)
_DIGITS_DIR = flags.DEFINE_string(
    "digits_dir", None, "Folder of MNIST's idx files; default: the one used in training."
)
_RECOMPUTE = flags.DEFINE_bool("recompute", False, "Compute stored results again.")


def models() -> list[trained.TrainedModel]:
    """Loads the trained video models that the flags name.

    Raises:
        ValueError: no model is named, or one is a classifier; other errors as in `trained.load`.
    """
    loaded = _load("train.pretrain")
    for model in loaded:
        if model.task != "pretraining":
            raise ValueError(
                f"{model.path} is a classifier of train.finetune, and predicts no frames: "
                "python -m eval.action_recognition evaluates it"
            )
    return loaded


def classifiers() -> list[trained.TrainedModel]:
    """Loads the trained classifiers that the flags name, those of --workdir first.

    Raises:
        ValueError: no model is named, or one is a video model; other errors as in `trained.load`.
    """
    loaded = _load("train.finetune")
    for model in loaded:
        if model.task != "finetuning":
            raise ValueError(
                f"{model.path} is a {model.config.model.kind} of train.pretrain, and names no "
                f"actions: python -m train.finetune --init={model.path} makes a classifier of it"
            )
    return loaded


def model() -> trained.TrainedModel:
    """Loads the single trained model that the flags name, a video model or a classifier.

    Raises:
        ValueError: none is named, or several; other errors as in `trained.load`.
    """
    if len(paths()) > 1:
        raise ValueError("--workdir and --model: give a single model")
    [loaded] = _load("train.pretrain or train.finetune")
    return loaded


def paths() -> list[str]:
    """Returns the values of --workdir and --model, in that order."""
    return [*_WORKDIR.value, *_MODEL.value]


def _load(command):
    if not paths():
        raise ValueError(
            f"--workdir=RUN is missing: the folder that {command} wrote; or "
            "--model=SAVED_MODEL: the folder that unsup_video.export wrote"
        )
    return [trained.load(path, wanted_precision(), _DIGITS_DIR.value) for path in paths()]


def loaded() -> list[trained.TrainedModel]:
    """Loads the models that the flags name, of both kinds.

    --digits_dir is for those among them that were trained on generated clips.

    Raises:
        ValueError: --digits_dir is given, and there are none; other errors as in `trained.load`.
    """
    models = [trained.load(path, wanted_precision()) for path in paths()]
    digits_dir = _DIGITS_DIR.value
    if digits_dir is None:
        return models
    if not any(map(trained.is_generated, models)):
        raise ValueError("--digits_dir is for models of generated clips, and none is given")
    return [trained.with_digits(m, digits_dir) if trained.is_generated(m) else m for m in models]


def refuse(reason: str, *flag_names: str) -> None:
    """Raises ValueError, with the reason, if one of the shared flags is given."""
    for name in flag_names:
        if flags.FLAGS[name].present:
            raise ValueError(f"--{name} {reason}")


def wanted_precision() -> str | None:
    """Returns the precision of matrix products; None for that of the model."""
    return _PRECISION.value


def recompute() -> bool:
    """Tells whether stored results have to be computed again."""
    return _RECOMPUTE.value


def show(evaluation) -> None:
    """Prints the paths of an evaluation's files."""
    print(f"written: {evaluation.folder}")
    for name in ["results.json", "results.csv", *(p.file for p in evaluation.pictures)]:
        print(f"  {evaluation.folder / name}")
