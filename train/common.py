"""What the training commands share."""

import json
from collections.abc import Callable

import keras
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict

from unsup_video.training import loop, precision
from unsup_video.training.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; default: runs/CONFIG_NAME.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what is in workdir and start anew.")

# "Try again later" of sysexits.h: the run was told to stop, its state is saved.
EXIT_INTERRUPTED = 75


def check_arguments(argv: list[str]) -> None:
    """Raises ValueError for an argument that is no flag."""
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")


def seed(config: ConfigDict) -> None:
    """Seeds all that is random, and makes operations deterministic where the config says so."""
    keras.utils.set_random_seed(config.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()


def open_workdir(config: ConfigDict) -> Workdir:
    """The folder of the run, as the flags say. Errors as of `Workdir.open`."""
    path = _WORKDIR.value or f"runs/{config.name}"
    return Workdir.open(path, config.to_dict(), overwrite=_OVERWRITE.value)


def run(
    trainer: loop.Trainer, workdir: Workdir, info: dict, test: Callable[[], dict]
) -> dict | None:
    """Trains and tests, or reads the results of a run that is finished.

    Args:
        info: more for run.json. test: scores the best checkpoint and writes results.json.

    Returns:
        the results; None where the run was interrupted, and said so.
    """
    config = trainer.config
    gemm_dtype = precision.gemm_dtype(config.precision)
    parameters = trainer.task.network.count_params()
    print(f"matrix products in {gemm_dtype} (config.precision={config.precision}); "
          f"run: {workdir.path}")
    results = workdir.path / "results.json"
    if results.exists():
        print("this run is finished; --overwrite starts it anew")
        return json.loads(results.read_text())
    info = {"seed": config.seed, "gemm_dtype": gemm_dtype, "parameters": parameters, **info}
    try:
        loop.run(trainer, workdir, info)
    except loop.Interrupted as stop:
        print(stop)
        return None
    print("testing the best checkpoint ...")
    return test()
