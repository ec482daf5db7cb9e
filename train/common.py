"""What the training commands share."""

import hashlib
import json
import time
from collections.abc import Callable, Collection
from pathlib import Path

import keras
import tensorflow as tf
from absl import flags
from ml_collections import ConfigDict

from unsup_video.data import overlap
from unsup_video.training import distribution, loop, precision, profiling, unread
from unsup_video.training.tasks import base
from unsup_video.training.workdir import Workdir

_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; default: runs/CONFIG_NAME.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Start anew in workdir; the run that is there is kept in workdir/.replaced "
    "until the new one is finished.",
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "none",
    distribution.STRATEGIES,
    "none: one device; mirrored: all GPUs of this "
    "machine; multiworker: all of the processes that TF_CONFIG lists. See docs/scale.md.",
)
_PRECISION = flags.DEFINE_enum(
    "precision", None, precision.CHOICES, "Of the matrix products; short for --config.precision."
)
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps",
    None,
    "FIRST,LAST step to write a trace of, such as 10,20. See docs/profiling.md.",
)

# "Try again later" of sysexits.h: the run was told to stop, its state is saved.
EXIT_INTERRUPTED = 75


def check_arguments(argv: list[str]) -> None:
    """Raises ValueError for an argument that is no flag."""
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")


def set_up(config: ConfigDict) -> tf.distribute.Strategy:
    """The strategy that the flags name; the network and the trainer are made in its scope.

    Also sets `config.precision` where the flag is given, seeds all that is random, and makes
    operations deterministic where the config says so.

    Raises:
        ValueError: flags that cannot be followed.
    """
    config.precision = _PRECISION.value or config.precision
    _profile_steps()  # what is wrong with it is no news after an hour
    strategy = distribution.strategy(_STRATEGY.value)
    keras.utils.set_random_seed(config.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    return strategy


def _profile_steps():
    return profiling.parse(_PROFILE_STEPS.value)


def check_read(config: ConfigDict, named: ConfigDict, ignored: dict[str, str]) -> None:
    """Refuses changes of fields that a new run would ignore; arguments as of `unread.check`.

    A run that is there already goes on with the config that it has.
    """
    if _OVERWRITE.value or not (_path(config) / "config.json").exists():
        unread.check(config, named, ignored)


def open_workdir(
    config: ConfigDict, strategy: tf.distribute.Strategy, ignored: Collection[str]
) -> Workdir:
    """The folder of the run, as the flags say; `ignored` and errors as of `Workdir.open`."""
    if not distribution.is_chief(strategy):
        return Workdir.join(_path(config))
    workdir = Workdir.open(_path(config), config.to_dict(), _OVERWRITE.value, ignored)
    if workdir.replaced.exists():
        print(f"the run that was there is in {workdir.replaced} until this one is finished")
    return workdir


def _path(config):
    return Path(_WORKDIR.value or f"runs/{config.name}")


def run(
    trainer: loop.Trainer,
    workdir: Workdir,
    info: dict,
    export: Callable[[], Path | None] = lambda: None,
    pretraining: dict | None = None,
) -> tuple[dict, Path | None]:
    """Trains, tests and exports; of a run that is finished it reads the results.

    Of several processes only the first one comes back from here.

    Args:
        info: more for run.json.
        export: exports it, where that was not done yet.
        pretraining: `overlap.run_contents` of the run whose encoder this one starts from.

    Returns:
        what `base.score_best` and `export` return.

    Raises:
        SystemExit: with `EXIT_INTERRUPTED`, the run was interrupted, and the same command goes on;
            with 0, this process has done its part of it.
        ValueError: the processes are not of one run.
    """
    config, strategy = trainer.config, trainer.strategy
    gemm_dtype = precision.gemm_dtype(config.precision)
    parameters = trainer.task.network.count_params()
    print(
        f"matrix products in {gemm_dtype} (config.precision={config.precision}); "
        f"run: {workdir.path}"
    )
    if _STRATEGY.value != "none":
        print(f"{_STRATEGY.value}: {distribution.describe(strategy)}")
    _check_same(trainer, [config.to_dict(), info["data"]["sha256"], gemm_dtype])
    info = {
        "seed": config.seed,
        "gemm_dtype": gemm_dtype,
        "parameters": parameters,
        "strategy": _STRATEGY.value,
        "replicas": strategy.num_replicas_in_sync,
        **info,
    }
    is_chief = distribution.is_chief(strategy)
    results = workdir.path / "results.json"
    finished = any(trainer.gathered(is_chief and results.exists()))
    if not finished:
        if is_chief and config.data.records:  # what is generated is in run.json
            _note_data(config, workdir, pretraining)
        try:
            loop.run(trainer, workdir, info, _profile_steps())
        except loop.Interrupted as stop:
            print(stop)
            raise SystemExit(EXIT_INTERRUPTED) from None
    if not is_chief:
        print("trained; the first process tests and exports")
        trainer.gathered(True)  # it may have to be started again meanwhile, with all of them
        raise SystemExit(0)
    if finished:
        print("this run is finished; --overwrite starts it anew")
        found = json.loads(results.read_text())
    else:
        print("testing the best checkpoint ...")
        found = base.score_best(trainer.task, workdir)
    exported = export()
    workdir.delete_replaced()
    trainer.gathered(True)
    return found, exported


def _note_data(config, workdir, pretraining):
    """Keeps what a new run is trained on in its folder, and says where it is tested on that."""
    if not (workdir.path / "run.json").exists():
        began = time.perf_counter()
        overlap.write(workdir.path, overlap.read_contents(config, pretraining))
        print(f"noted what this run is trained on ({time.perf_counter() - began:.1f} s)")
    for note in overlap.notes(overlap.seen_in_own_test(workdir.path, config), None, "sequences"):
        print(note)


def _check_same(trainer, what):
    """Raises ValueError where the processes do not have the same JSON values `what`."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    number = int(digest[:13], 16)  # 52 bits, as many as a float64 holds
    if len(set(trainer.gathered(number))) > 1:
        raise ValueError(
            "the processes differ in their config, their data or their precision: start all of "
            "them with the same command on the same data; on different hardware also with "
            "--precision"
        )
