"""What the evaluation commands share."""

from absl import flags

from unsup_video.training import precision, trained

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "Folder of a run; give it several times to compare runs."
)
_MODEL = flags.DEFINE_multi_string(
    "model",
    [],
    "SavedModel: a version's folder, or that of all versions, of which the newest is "
    "taken; several times to compare.",
)
_PRECISION = flags.DEFINE_enum(
    "precision", None, precision.CHOICES, "Of the matrix products; default: as in training."
)
_DIGITS_DIR = flags.DEFINE_string(
    "digits_dir", None, "Folder of MNIST's idx files, where it is not the one of the training."
)
_RECOMPUTE = flags.DEFINE_bool("recompute", False, "Compute anew what is stored already.")


def check_arguments(argv) -> None:
    """Raises ValueError for an argument that is no flag."""
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")


def models() -> list[trained.Trained]:
    """The trained video models that the flags name, loaded one after the other.

    Raises:
        ValueError: none is named, or a classifier. Whatever `trained.load` raises.
    """
    loaded = _load("train.pretrain")
    for model in loaded:
        if model.task != "pretraining":
            raise ValueError(
                f"{model.path} is a classifier of train.finetune, and predicts no frames: "
                "python -m eval.action_recognition evaluates it"
            )
    return loaded


def classifiers() -> list[trained.Trained]:
    """The trained classifiers that the flags name, those of --workdir first.

    Raises:
        ValueError: none is named, or a video model. Whatever `trained.load` raises.
    """
    loaded = _load("train.finetune")
    for model in loaded:
        if model.task != "finetuning":
            raise ValueError(
                f"{model.path} is a {model.config.model.kind} of train.pretrain, and names no "
                f"actions: python -m train.finetune --init={model.path} makes a classifier of it"
            )
    return loaded


def paths() -> list[str]:
    """What --workdir and --model name, in that order; [] where neither is given."""
    return [*_WORKDIR.value, *_MODEL.value]


def _load(command):
    if not paths():
        raise ValueError(
            f"--workdir=RUN is missing: the folder that {command} wrote; or "
            "--model=SAVED_MODEL: what unsup_video.export wrote"
        )
    return [trained.load(path, wanted_precision(), _DIGITS_DIR.value) for path in paths()]


def wanted_precision() -> str | None:
    """Of the matrix products; None for what the models were trained with."""
    return _PRECISION.value


def recompute() -> bool:
    """Whether what is stored is computed anew."""
    return _RECOMPUTE.value


def show(evaluation) -> None:
    """Prints the files that an evaluation consists of."""
    print(f"written: {evaluation.folder}")
    for name in ["results.json", "results.csv", *(p.file for p in evaluation.pictures)]:
        print(f"  {evaluation.folder / name}")
