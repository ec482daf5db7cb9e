"""The one training loop: data, step, log, evaluate, save."""

import contextlib
import time
from collections.abc import Callable, Iterator

from unsup_video.training import checkpoints, distribution, profiling, signals
from unsup_video.training.record import NoRecord, Record
from unsup_video.training.trainer import NonFiniteLoss, Trainer
from unsup_video.training.workdir import Workdir
from unsup_video.utils import progress


class Interrupted(Exception):
    """A signal stopped the run; its state is saved."""


def run(
    trainer: Trainer,
    workdir: Workdir,
    info: dict,
    profile_steps: tuple[int, int] | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Trains up to `config.train.steps`, from the newest valid checkpoint if there is one.

    It writes run.json with `info` (see `Workdir.write_run_info`) and the name of the checkpoint
    that it resumes from. If several processes train (see `distribution`), all read `workdir`, and
    only the first one writes to it. A trace of the steps `profile_steps`, (first, last), goes to
    its tb/, see `profiling`.

    The state after step k depends only on the config, and not on when and how often the run was
    interrupted (with `config.train.deterministic`, and on one kind of machine).

    The figures of a step stay on the device until they are logged, or until the next evaluation or
    checkpoint. A figure that is not finite then stops the run, and the error names its step.

    Raises:
        NonFiniteLoss: a loss is not finite; nothing from that step on is saved.
        CheckpointError: every checkpoint is damaged.
        Interrupted: any of the processes received SIGTERM or SIGINT; the state is saved.
        ValueError: the processes do not see the same folder.
    """
    task, plan = trainer.task, trainer.config.train
    resumed_from = trainer.resume(workdir, log)  # restores weights, optimiser and position
    info = {**info, "resumed_from": resumed_from}
    is_chief = distribution.is_chief(trainer.strategy)
    profiler = profiling.Profiler(
        workdir.tb, profile_steps if is_chief else None, trainer.step, plan.steps, log
    )
    task.prepare(log)
    with (
        Record(trainer, workdir, info) if is_chief else NoRecord() as record,
        _pointing_to_the_last_checkpoint(workdir),
        signals.stops(log) as received,
        profiler,
    ):
        if trainer.finished and trainer.best is None:  # resumed, and its best one was damaged
            stale = trainer.stale
            _evaluate(trainer, record, log)
            trainer.stale = stale  # it is as finished as before
            record.save()
        batches = trainer.batches()
        clock = _Clock(trainer, log)
        while not trainer.finished:
            clock.start()
            with profiler.step(trainer.step + 1):
                with profiler.input():
                    batch = next(batches)
                stopping = trainer.train_step(batch, bool(received))
            if not (stopping or clock.compiling or _anything_is_due(trainer)):
                continue

            speed = clock.stop()
            if trainer.due(plan.log_every):
                means = trainer.interval_means()
                means["learning_rate"] = float(trainer.schedule(trainer.step - 1))  # of this step
                record.figures("train", means)
                if speed:
                    log(_line(trainer, means, speed))
            if trainer.due(plan.eval_every):
                _evaluate(trainer, record, log)
            if trainer.due(plan.checkpoint_every) or trainer.finished or stopping:
                record.save()
            if stopping and not trainer.finished:
                raise _interrupted(received, trainer)
    if any(trainer.gathered(bool(received))):  # during the last step, or after it
        raise _interrupted(received, trainer)
    if trainer.stopped_early and trainer.best is not None:
        log(
            f"stopped early at step {trainer.step}: {trainer.stale} evaluations without a better "
            f"one than that of step {trainer.best['step']}"
        )


def _evaluate(trainer, record, log):
    scores = trainer.validate()
    is_best = trainer.note_score(scores)  # in every process: for early stopping
    record.validation(scores, is_best)
    log("  validation: " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))


def _interrupted(received, trainer):
    by = received[0].name if received else "another process stops"
    then = "tests and exports" if trainer.finished else "goes on from there"
    steps = trainer.config.train.steps
    return Interrupted(f"{by}: saved step {trainer.step} of {steps}; the same command {then}")


def _anything_is_due(trainer):
    plan = trainer.config.train
    return any(map(trainer.due, (plan.log_every, plan.eval_every, plan.checkpoint_every)))


class _Clock:
    """Measures the time of training steps, without compiling and without work between steps."""

    def __init__(self, trainer, log):
        self.compiling = True
        self._trainer = trainer
        self._log = log
        self._began = None  # (time, step); None while the clock is stopped

    def start(self):
        if self._began is None:
            if self.compiling:
                self._log("compiling the training step, which takes some seconds ...")
            self._began = time.perf_counter(), self._trainer.step

    def stop(self) -> float | None:
        """Waits for the device; returns the examples per second, None after the first step.

        Raises:
            NonFiniteLoss: see `Trainer.read`.
        """
        trainer = self._trainer
        trainer.read()
        began, step = self._began
        seconds, self._began = time.perf_counter() - began, None
        if self.compiling:
            self.compiling = False
            self._log(f"compiled and ran step {trainer.step} in {seconds:.0f} s")
            return None
        trainer.elapsed_s += seconds
        return (trainer.step - step) * trainer.config.recipe.batch_size / seconds


def _line(trainer, means, speed):
    """Returns the progress line: steps, speed, remaining time and figures."""
    scores = "  ".join(
        f"{k} {v:.4g}" for k, v in means.items() if k not in ("gradient_norm", "learning_rate")
    )
    step, steps = trainer.step, trainer.config.train.steps
    left = progress.duration((steps - step) * trainer.config.recipe.batch_size / speed)
    return (
        f"step {step}/{steps} ({100 * step / steps:.1f}%)  {speed:.0f} examples/s  "
        f"ETA {left}  {scores} {trainer.task.unit}  |g| {means['gradient_norm']:.3g}"
    )


@contextlib.contextmanager
def _pointing_to_the_last_checkpoint(workdir) -> Iterator[None]:
    """Adds the last good checkpoint and a way out to the message of a NonFiniteLoss."""
    try:
        yield
    except NonFiniteLoss as error:
        good = checkpoints.latest(workdir.checkpoints)
        raise NonFiniteLoss(
            f"training stopped, the loss is not finite any more at {error}. "
            + (f"The last good checkpoint is {good}. " if good else "There is no checkpoint yet. ")
            + "Start anew (--overwrite) with a lower --config.recipe.learning_rate."
        ) from None
