"""Flags and functions that the training commands share."""

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
from unsup_video.training import distribution, fields, loop, precision, profiling, unread
from unsup_video.training.tasks import base
from unsup_video.training.trained import TrainedModel
from unsup_video.training.workdir import Workdir, begun, read_json
from unsup_video.utils import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of the run; default: runs/CONFIG_NAME.")
_OVERWRITE = flags.DEFINE_bool(
    "overwrite",
    False,
    "Start anew in workdir; keeps the old run in workdir/.replaced until the new one is finished.",
)
_STRATEGY = flags.DEFINE_enum(
    "strategy",
    "none",
    distribution.STRATEGIES,
    "Train on one device (none), on all GPUs of this machine (mirrored), or on those of all "
    "processes that TF_CONFIG lists (multiworker). See docs/scale.md.",
)
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    precision.CHOICES,
    "Precision of the matrix products; short for --config.precision.",
)
_PROFILE_STEPS = flags.DEFINE_string(
    "profile_steps",
    None,
    "Write a trace of the steps FIRST,LAST, such as 10,20. See docs/profiling.md.",
)

# EX_TEMPFAIL of sysexits.h: a signal stopped the run, and its state is saved.
EXIT_INTERRUPTED = 75


def configs(flag: flags.FlagHolder) -> tuple[ConfigDict, ConfigDict]:
    """Returns the config of the flag, and the same without the changes of the command line.

    Fields that a config of a user lacks have the values of `fields.completed`.
    """
    both = flag.value, cli.config_from_file(flag)
    for config in both:
        fields.complete(config)
    return both


def set_up(config: ConfigDict) -> tf.distribute.Strategy:
    """Returns the strategy of the flags; make the network and the trainer in its scope.

    It also sets `config.precision` from the flag, sets the random seeds, and makes operations
    deterministic if the config asks for that.

    Raises:
        ValueError: a flag has a value that cannot be used.
    """
    config.precision = _PRECISION.value or config.precision
    _profile_steps()  # now, so that an error surfaces before training
    strategy = distribution.strategy(_STRATEGY.value)
    keras.utils.set_random_seed(config.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()
    return strategy


def _profile_steps():
    return profiling.parse(_PROFILE_STEPS.value)


def check_read(config: ConfigDict, named: ConfigDict, ignored: dict[str, str]) -> None:
    """Refuses changes of fields that a new run would ignore; see `unread.check`.

    An existing run is resumed with its stored config.
    """
    if _OVERWRITE.value or not begun(_path(config)):
        unread.check(config, named, ignored)


def open_workdir(
    config: ConfigDict,
    strategy: tf.distribute.Strategy,
    ignored: Collection[str],
    init: TrainedModel | None = None,
) -> Workdir:
    """Opens the folder of the run that the flags name; see `Workdir.open`.

    Raises:
        ValueError: `init` is in that folder.
    """
    if init is not None and init.path.resolve().is_relative_to(_path(config).resolve()):
        raise ValueError(
            f"--init={init.path} is in {_path(config)}, the folder of the new run: give it another "
            "--workdir"
        )
    if not distribution.is_chief(strategy):
        return Workdir.join(_path(config))
    workdir = Workdir.open(_path(config), config.to_dict(), _OVERWRITE.value, ignored)
    if workdir.replaced.exists():
        print(f"the old run is in {workdir.replaced} until this one is finished")
    return workdir


def _path(config):
    return Path(_WORKDIR.value or f"runs/{config.name}")


def run(
    trainer: loop.Trainer,
    workdir: Workdir,
    info: dict,
    export: Callable[[], Path | None] = lambda: None,
    init: TrainedModel | None = None,
) -> tuple[dict, Path | None]:
    """Trains, tests and exports; reads the results of a finished run.

    If several processes train, only the first one returns.

    Args:
        info: more items for run.json.
        export: a function that exports the run if that is not done yet.
        init: the trained model whose weights this run starts from.

    Returns:
        The return values of `base.score_best` and `export`.

    Raises:
        SystemExit: with `EXIT_INTERRUPTED` if the run was interrupted, and the same command resumes
            it; with 0 in the other processes, when training is finished.
        ValueError: the processes do not train the same run.
    """
    config, strategy = trainer.config, trainer.strategy
    gemm_dtype = precision.gemm_dtype(config.precision)
    parameters = trainer.task.network.count_params()
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
    if finished:
        dtype = (read_json(workdir.path / "run.json") or {}).get("gemm_dtype", gemm_dtype)
        differs = config.precision != "auto" and dtype != gemm_dtype
        if any(trainer.gathered(is_chief and differs)):
            raise ValueError(
                f"{workdir.path} is finished, and its matrix products were in {dtype}: leave out "
                "the precision, or use another --workdir"
            )
        print(f"run: {workdir.path}")
    else:
        print(
            f"matrix products in {gemm_dtype} (config.precision={config.precision}); "
            f"run: {workdir.path}"
        )
        # run.json describes generated data.
        if is_chief and (config.data.records or init is not None):
            _note_data(config, info["data"], workdir, init)
        try:
            loop.run(trainer, workdir, info, _profile_steps())
        except loop.Interrupted as stop:
            print(f"{stop}{' without --overwrite' if _OVERWRITE.value else ''}")
            raise SystemExit(EXIT_INTERRUPTED) from None
    if not is_chief:
        print("trained; the first process tests and exports")
        trainer.gathered(True)  # waits, since the first process may need a restart of all
        raise SystemExit(0)
    if finished:
        print("this run is finished; --overwrite starts it anew")
        if _profile_steps():
            print("--profile_steps has no effect, since nothing is trained")
        scores = read_json(results)
    else:
        print("testing the best checkpoint ...")
        scores = base.score_best(trainer.task, workdir)
    exported = export()
    workdir.delete_replaced()
    trainer.gathered(True)
    return scores, exported


def _note_data(config, data, workdir, init):
    """Records the training data of a new run, and prints which of them are in its test data."""
    if not (workdir.path / "run.json").exists():
        began = time.perf_counter()
        pretraining = None if init is None else overlap.run_contents(init.origin, init.config)
        overlap.write(workdir.path, overlap.read_contents(config, pretraining, data))
        print(f"noted what this run is trained on ({time.perf_counter() - began:.1f} s)")
    for note in overlap.notes(overlap.seen_in_own_test(workdir.path, config), None, "sequences"):
        print(note)


def _check_same(trainer, what):
    """Raises ValueError if the JSON values `what` differ between the processes."""
    digest = hashlib.sha256(json.dumps(what, sort_keys=True).encode()).hexdigest()
    number = int(digest[:13], 16)  # 52 bits, as many as a float64 holds
    if len(set(trainer.gathered(number))) > 1:
        raise ValueError(
            "the processes differ in their config, their data or their precision: start all of "
            "them with the same command on the same data; on different hardware also with "
            "--precision"
        )
