"""Runs of the training commands in processes of their own, for tests."""

import functools
import itertools
import json
import signal
import tempfile

import commands
from unsup_video.training import checkpoints
from unsup_video.training.trainer import Trainer

TINY = [
    "--config.precision=float32",  # on every machine
    "--config.model.units=8",
    "--config.data.frame_size=28",
    "--config.data.num_digits=1",
    "--config.data.frames_in=3",
    "--config.data.frames_out=2",
    "--config.recipe.batch_size=4",
    "--config.train.steps=12",
    "--config.train.log_every=2",
    "--config.train.eval_every=4",
    "--config.train.checkpoint_every=3",
    "--config.eval.validation_clips=10",
    "--config.eval.test_clips=12",
    "--config.eval.batch_size=5",
]

# More, for a run on records, which would ignore these.
NO_GENERATOR = ["--config.data.frame_size=64", "--config.data.num_digits=2"]

# To compile for speed takes longer than all steps of such a run.
XLA_FLAGS = "--xla_backend_optimization_level=0"


@functools.cache
def _compiled():
    """A folder for what XLA has compiled, which the runs of this process share."""
    return tempfile.TemporaryDirectory(prefix="unsup_video_xla_")


def environment():
    """The environment variables of a run."""
    return {
        "XLA_FLAGS": XLA_FLAGS,
        "TF_XLA_FLAGS": f"--tf_xla_persistent_cache_directory={_compiled().name}",
    }


_NUMBERS = itertools.count()


def _command(command, flags, before):
    if before is not None:
        before()
    commands.module(command, *flags)


class Run:
    """A run of a training command, by default a tiny one, in a process of its own.

    Args:
        flags: after `tiny`. before: called in the process before the command.
    """

    def __init__(self, workdir, *flags, command="train.pretrain", before=None, tiny=TINY):
        self.output_file = workdir.parent / f"{workdir.name}.{next(_NUMBERS)}.txt"
        flags = [f"--workdir={workdir}", "--noexport", *tiny, *flags]
        self.process = commands.start(
            _command,
            command,
            flags,
            before,
            environment=environment(),
            stdout=self.output_file,
            stderr=self.output_file,
        )

    @property
    def output(self):
        return self.output_file.read_text() if self.output_file.exists() else ""

    def finish(self):
        """(exit status, output)."""
        self.process.join(timeout=240)
        assert self.process.exitcode is not None, self.output
        return self.process.exitcode, self.output


class CallIn:
    """Calls a function when a method of the trainer begins after that many steps."""

    def __init__(self, function, method, step):
        self.function, self.method, self.step = function, method, step

    def __call__(self):
        original = getattr(Trainer, self.method)

        def after_call(trainer, *arguments):
            if trainer.step == self.step:
                self.function()
            return original(trainer, *arguments)

        setattr(Trainer, self.method, after_call)


class SignalIn(CallIn):
    """Sends its process a signal at such a time."""

    def __init__(self, number, method, step):
        super().__init__(functools.partial(signal.raise_signal, number), method, step)


def what_training_left(workdir):
    """Last and best checkpoint, metrics and results, if any, without wall-clock times."""
    folder, results = workdir / "checkpoints", workdir / "results.json"
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    for line in lines:
        del line["elapsed_s"]
    _, last, meta = checkpoints.restore(checkpoints.latest(folder))
    best_step, best, _ = checkpoints.restore(checkpoints.best(folder))
    del meta["elapsed_s"]
    return {
        "last": last,
        "meta": meta,
        "best step": best_step,
        "best": best,
        "metrics": lines,
        "results": json.loads(results.read_text()) if results.exists() else None,
    }


def assert_bit_identical(a, b):
    for name in ("meta", "best step", "metrics", "results"):
        assert a[name] == b[name]
    for name in ("last", "best"):
        assert a[name].keys() == b[name].keys()
        for key in a[name]:
            assert a[name][key].tobytes() == b[name][key].tobytes(), key
