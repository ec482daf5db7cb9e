"""What the evaluation commands share."""

from absl import flags

from unsup_video.evaluation import trained

_WORKDIR = flags.DEFINE_multi_string(
    "workdir", [], "Folder of a run; give it several times to compare runs."
)
_MODEL = flags.DEFINE_multi_string(
    "model", [], "SavedModel: a version's folder, or that of all versions, of which the newest is "
    "taken; several times to compare."
)
_RECOMPUTE = flags.DEFINE_bool("recompute", False, "Compute anew what is stored already.")


def check_arguments(argv) -> None:
    """Raises ValueError for an argument that is no flag."""
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")


def models() -> list[trained.Trained]:
    """The trained models that the flags name, loaded one after the other.

    Raises:
        ValueError: none is named. Whatever `trained.load` raises.
    """
    paths = [*_WORKDIR.value, *_MODEL.value]
    if not paths:
        raise ValueError(
            "--workdir=RUN is missing: the folder that train.pretrain wrote; or "
            "--model=SAVED_MODEL: what unsup_video.export wrote"
        )
    return [trained.load(path) for path in paths]


def recompute() -> bool:
    """Whether what is stored is computed anew."""
    return _RECOMPUTE.value


def show(evaluation) -> None:
    """Prints the files that an evaluation consists of."""
    print(f"written: {evaluation.folder}")
    for name in ["results.json", "results.csv", *(p.file for p in evaluation.pictures)]:
        print(f"  {evaluation.folder / name}")
