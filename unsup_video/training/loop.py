"""The one training loop."""

import contextlib
import signal
import time
from collections.abc import Callable, Iterator
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.training import checkpoints, distribution, optimizers, profiling
from unsup_video.training.summaries import TensorBoard
from unsup_video.training.workdir import Workdir

_STOP = "stop"  # among the figures of a step


class NonFiniteLoss(ValueError):
    """The loss or its gradient became infinite or NaN; the last checkpoint is still good."""


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved."""


class Task(Protocol):
    """What is trained, on what, and how it is judged.

    Attributes:
        network: the Keras model whose weights are trained, and kept in checkpoints.
        unit: of the losses in the line of progress.
        reduction: "mean" or "sum": what is differentiated is that of the batch's examples.
    """

    network: keras.Model
    unit: str
    reduction: str

    def prepare(self, log: Callable[[str], None]) -> None:
        """Reads what `validate` needs: what is wrong with it is no news after hours."""

    def write(self, workdir: Workdir) -> None:
        """Writes what evaluations need besides the weights."""

    def train(self, start: int) -> tf.data.Dataset:
        """Endless batches, from the one that comes after `start` examples."""

    def losses(self, batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """(what is differentiated, the figures to report) of a batch, in training; all scalars.

        Where several devices train, each has this of its share of the batch: of what is
        differentiated `reduction` is taken over them, figures are averaged.
        """

    def validate(self) -> dict[str, float]:
        """Figures of the validation data."""

    def score(self, figures: dict[str, float]) -> float:
        """What ranks checkpoints, from `validate`'s figures: the lower, the better."""

    def sample(self, workdir: Workdir, board: TensorBoard, step: int) -> None:
        """Draws what the network does now, if that can be drawn."""


class Trainer:
    """A task with its optimiser, its place in the run, and everything a checkpoint holds.

    Made inside the scope of the strategy that it trains with, as the task's network is.

    Raises:
        ValueError: a batch that the strategy cannot divide.
    """

    def __init__(self, config: ConfigDict, task: Task):
        self.config = config
        self.task = task
        self.strategy = tf.distribute.get_strategy()
        distribution.check_batch_size(self.strategy, config.recipe.batch_size)
        self.schedule = optimizers.learning_rate(config.recipe, config.train.steps)
        # A variable, set before every step, so that `rewind` can change the schedule.
        self.optimizer = optimizers.optimizer(config.recipe, rate=0.0)
        self.optimizer.build(task.network.trainable_variables)
        self.step = 0
        self.elapsed_s = 0.0
        self.sums: dict[str, float] = {}  # of the steps since the last log line
        self.count = 0
        self.best: dict | None = None  # {"step": .., "score": ..}
        self.stale = 0  # evaluations since the best one
        self._train_step = tf.function(self._step, autograph=False)
        self._gather = tf.function(
            lambda x: self.strategy.run(distribution.gather, (x,)), autograph=False
        )
        self._apply = self._apply_gradients
        if not tf.distribute.has_strategy():  # which updates its variables outside of functions
            self._apply = tf.function(self._apply, jit_compile=True, autograph=False)

    def batches(self) -> Iterator:
        """What `train_step` takes, from the place in the run on, without end."""
        start = self.step * self.config.recipe.batch_size
        return iter(
            self.strategy.distribute_datasets_from_function(
                lambda context: distribution.shares(self.task.train(start), context)
            )
        )

    def _step(self, batch, stop):
        return self.strategy.run(self._replica_step, (batch, stop))

    def _replica_step(self, batch, stop):
        """One device's part of a step, which ends with the same weights as that of the others."""
        variables = self.task.network.trainable_variables
        with tf.GradientTape() as tape:
            total, results = self.task.losses(batch)
        gradients = distribution.reduce(
            tape.gradient(total, [v.value for v in variables]), self.task.reduction
        )
        self._apply(gradients)
        results = distribution.reduce({**results, _STOP: stop})
        return {**results, "gradient_norm": tf.linalg.global_norm(gradients)}

    def _apply_gradients(self, gradients):
        self.optimizer.apply(gradients, self.task.network.trainable_variables)

    def train_step(self, batch, stop: bool = False) -> bool:
        """One update from a batch of `batches`.

        Args:
            stop: whether this process was asked to stop.

        Returns:
            whether any process was, which all get to know after the same step.

        Raises:
            NonFiniteLoss: naming the step.
        """
        self.optimizer.learning_rate = self.schedule(self.step)
        results = self._train_step(batch, tf.constant(float(stop)))
        results = {
            k: float(self.strategy.experimental_local_results(v)[0]) for k, v in results.items()
        }
        stop = results.pop(_STOP) > 0
        self.step += 1
        self._check_finite(results)
        for k, v in results.items():
            self.sums[k] = self.sums.get(k, 0.0) + v
        self.count += 1
        return stop

    def validate(self) -> dict[str, float]:
        """The task's figures, means over all processes.

        Raises:
            NonFiniteLoss: naming the step; such a figure ranks no checkpoint.
        """
        scores = self.means(self.task.validate())
        self._check_finite(scores)
        return scores

    def _check_finite(self, figures):
        if not np.isfinite(list(figures.values())).all():
            raise NonFiniteLoss(
                f"step {self.step}: {', '.join(f'{k} {v:.4g}' for k, v in figures.items())}"
            )

    def gathered(self, number: float) -> list[float]:
        """What all processes have; waits until each is here with its own."""
        if distribution.processes(self.strategy) == 1:
            return [number]
        found = self._gather(tf.constant(number, tf.float64))
        return list(self.strategy.experimental_local_results(found)[0].numpy())

    def means(self, figures: dict[str, float]) -> dict[str, float]:
        """The means over all processes, with which they take the same decisions."""
        return {name: float(np.mean(self.gathered(value))) for name, value in figures.items()}

    def interval_means(self) -> dict[str, float]:
        """Means over the steps since the last call."""
        means = {k: v / self.count for k, v in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def weights(self) -> dict[str, np.ndarray]:
        """The network's weights as a checkpoint holds them.

        Raises:
            NonFiniteLoss: naming the step and the first weight that is not finite.
        """
        return self._finite(weights(self.task.network))

    def _slots(self):
        return {f"optimizer/{i:03d}/{v.name}": v for i, v in enumerate(self.optimizer.variables)}

    def _finite(self, variables):
        arrays = {name: v.numpy() for name, v in variables.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise NonFiniteLoss(f"step {self.step}: {name} is not finite after the update")
        return arrays

    def _state(self):
        """Every variable that the steps to come depend on."""
        return {**state(self.task.network), **self._slots()}

    def slots(self) -> dict[str, np.ndarray]:
        """A copy of the optimiser's variables."""
        return {name: v.numpy() for name, v in self._slots().items()}

    def rewind(self, config: ConfigDict, arrays: dict[str, np.ndarray]) -> None:
        """Goes back to step 0 with a `state` and `slots`, to train again with another config.

        Nothing is compiled again, so model and optimiser must be the same; the learning rate, the
        number of steps and the task's data need not be.
        """
        self.config = config
        self.schedule = optimizers.learning_rate(config.recipe, config.train.steps)
        _assign(self._state(), arrays, "what is rewound to")
        self.step, self.sums, self.count = 0, {}, 0
        self.elapsed_s, self.best, self.stale = 0.0, None, 0

    def save(self, workdir: Workdir) -> None:
        arrays = self._finite(self._state())
        meta = {k: getattr(self, k) for k in ("elapsed_s", "sums", "count", "best", "stale")}
        checkpoints.save(workdir.checkpoints, self.step, arrays, meta)

    def restore(self, path) -> None:
        """Takes everything from a checkpoint.

        Raises:
            ValueError: the checkpoint is of another architecture or optimiser.
        """
        step, arrays, meta = checkpoints.restore(path)
        _assign(self._state(), arrays, path)
        self.step = step
        for k, v in meta.items():
            setattr(self, k, v)


def load_weights(network: keras.Model, arrays: dict[str, np.ndarray], path) -> None:
    """Copies a checkpoint's weights into `network`.

    Raises:
        ValueError: a weight is missing, left over, or has another shape; all are named.
    """
    _assign(weights(network), {k: a for k, a in arrays.items() if k.startswith("model/")}, path)


def weights(network: keras.Model) -> dict[str, tf.Variable]:
    """The weights of a network under the names that a checkpoint has for them."""
    return {f"model/{v.path}": v for v in network.weights}


def state(network: keras.Model) -> dict[str, tf.Variable]:
    """`weights`, and the seeds of dropout."""
    found = weights(network)
    seeds = [v for v in network.variables if not any(v is w for w in network.weights)]
    return found | {f"seed/{i}": v for i, v in enumerate(seeds)}


def _assign(variables, stored, path):
    problems = [f"{k}: missing in the checkpoint" for k in variables.keys() - stored.keys()]
    problems += [f"{k}: not in this model" for k in stored.keys() - variables.keys()]
    problems += [
        f"{k}: {stored[k].shape} in the checkpoint, {tuple(variables[k].shape)} in this model"
        for k in variables.keys() & stored.keys()
        if stored[k].shape != tuple(variables[k].shape)
    ]
    if problems:
        raise ValueError(
            f"{path} is a checkpoint of another architecture:\n  " + "\n  ".join(sorted(problems))
        )
    for k, v in variables.items():
        v.assign(stored[k])


class _Record:
    """What a run leaves in its folder; only one process has one."""

    def __init__(self, trainer: Trainer, workdir: Workdir, info: dict):
        self.trainer = trainer
        self.workdir = workdir
        workdir.write_run_info(info)
        trainer.task.write(workdir)
        checkpoints.discard_after(workdir.checkpoints, trainer.step)
        workdir.truncate_metrics(trainer.step)
        self.board = TensorBoard(workdir.tb)

    def figures(self, split_name: str, values: dict[str, float]) -> None:
        step, elapsed_s = self.trainer.step, self.trainer.elapsed_s
        self.board.scalars(step, {f"{split_name}/{k}": v for k, v in values.items()})
        self.workdir.append_metrics(
            {"step": step, "split": split_name, "elapsed_s": elapsed_s, **values}
        )

    def validation(self, scores: dict[str, float], is_best: bool) -> None:
        trainer = self.trainer
        self.figures("validation", scores)
        if is_best:
            checkpoints.save_best(
                self.workdir.checkpoints, trainer.step, trainer.weights(), {"scores": scores}
            )
        trainer.task.sample(self.workdir, self.board, trainer.step)


def _is_best(trainer, scores) -> bool:
    """Whether a checkpoint has the best score so far, which is then that to beat."""
    score = trainer.task.score(scores)
    if trainer.best is not None and score >= trainer.best["score"]:
        trainer.stale += 1
        return False
    trainer.best, trainer.stale = {"step": trainer.step, "score": score}, 0
    return True


def _stale(trainer) -> bool:
    """Whether the early stop, if there is one, applies."""
    patience = trainer.config.train.early_stop_evaluations
    return bool(patience) and trainer.stale >= patience


def _non_finite_text(error, workdir) -> str:
    good = checkpoints.latest(workdir.checkpoints)
    return (
        f"training stopped, the loss is not finite any more at {error}. "
        + (f"The last good checkpoint is {good}. " if good else "There is no checkpoint yet. ")
        + "Start anew (--overwrite) with a lower --config.recipe.learning_rate."
    )


def _clock(seconds: float) -> str:
    minutes, seconds = divmod(int(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    return f"{hours}:{minutes:02d}:{seconds:02d}" if hours else f"{minutes}:{seconds:02d}"


def _progress(trainer, means, config, examples_per_s) -> str:
    scores = "  ".join(
        f"{k} {v:.4g}" for k, v in means.items() if k not in ("gradient_norm", "learning_rate")
    )
    step, steps = trainer.step, config.train.steps
    eta = (steps - step) * config.recipe.batch_size / examples_per_s
    return (
        f"step {step}/{steps} ({100 * step / steps:.1f}%)  {examples_per_s:.0f} examples/s  "
        f"ETA {_clock(eta)}  {scores} {trainer.task.unit}  |g| {means['gradient_norm']:.3g}"
    )


@contextlib.contextmanager
def _stop_signals(log) -> Iterator[list[signal.Signals]]:
    """Those of SIGTERM and SIGINT that came since; after the first one a second stops at once."""
    received = []

    def receive(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))
        log("stopping: saving after this step ...")

    handlers = {s: signal.signal(s, receive) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for s, handler in handlers.items():
            signal.signal(s, handler)


def _resume(trainer, workdir, log) -> str | None:
    """Goes on from the newest checkpoint, in all processes from the same; its name."""
    trainer.gathered(0)  # the first process has made, or emptied, the folder by now
    newest = checkpoints.latest(workdir.checkpoints)
    if newest is not None:
        trainer.restore(newest)
        log(f"resumed from {newest}")
        _check_best(trainer, workdir, log)
    steps = trainer.gathered(trainer.step if workdir.exists() else -1)
    if len(set(steps)) > 1:
        raise ValueError(
            f"{workdir.path}: the processes do not see the same run there, but these steps "
            f"(-1: none): {', '.join(f'{step:.0f}' for step in steps)}. --workdir must be one "
            "folder that all of them can read"
        )
    return newest and newest.name


def _check_best(trainer, workdir, log):
    """Forgets the best score where its checkpoint is damaged or gone, so that there will be one.

    It is gone where an older version, which removed it too early, was killed.
    """
    if trainer.best is None:
        return
    try:
        checkpoints.restore(checkpoints.best_at(workdir.checkpoints, trainer.best["step"]))
    except checkpoints.CheckpointError as error:
        log(f"the best checkpoint cannot be read, so the next evaluation counts as best: {error}")
        trainer.best, trainer.stale = None, 0


def run(
    trainer: Trainer,
    workdir: Workdir,
    info: dict,
    profile_steps: tuple[int, int] | None = None,
    log: Callable[[str], None] = print,
) -> None:
    """Trains to `config.train.steps`, from the newest valid checkpoint where there is one.

    Writes run.json with `info` (see `Workdir.write_run_info`) and the checkpoint it starts from.
    Of several processes (see `distribution`) all read `workdir`, and only the first one writes.
    A trace of the steps `profile_steps`, (first, last), is written to its tb/, see `profiling`.

    The state after step k is a function of the config alone, whenever and however often the run
    was interrupted (with `config.train.deterministic`, and on one kind of machine).

    Raises:
        NonFiniteLoss: nothing of the bad step is saved.
        CheckpointError: every checkpoint is damaged.
        Interrupted: after SIGTERM or SIGINT, of any of the processes; the state is saved.
        ValueError: the processes do not see the same folder.
    """
    config, task = trainer.config, trainer.task
    batch_size, steps = config.recipe.batch_size, config.train.steps
    resumed_from = _resume(trainer, workdir, log)
    is_chief = distribution.is_chief(trainer.strategy)
    profiler = profiling.Profiler(
        workdir.tb, profile_steps if is_chief else None, trainer.step, steps, log
    )
    task.prepare(log)
    record = None
    if is_chief:
        record = _Record(trainer, workdir, {**info, "resumed_from": resumed_from})
    try:
        with _stop_signals(log) as stop_signals, profiler:
            batches = trainer.batches()
            first = trainer.step + 1
            since = None  # (time, step) from which the speed is measured
            while trainer.step < steps and not _stale(trainer):
                started = time.perf_counter()
                if trainer.step + 1 == first:
                    log("compiling the training step, which takes some seconds ...")
                with profiler.step(trainer.step + 1):
                    with profiler.input():
                        batch = next(batches)
                    stopping = trainer.train_step(batch, bool(stop_signals))
                step = trainer.step
                if step == first:
                    log(f"compiled and ran step {step} in {time.perf_counter() - started:.0f} s")
                else:
                    trainer.elapsed_s += time.perf_counter() - started
                since = since or (time.perf_counter(), step)

                if step % config.train.log_every == 0 or step == steps:
                    means = trainer.interval_means()
                    means["learning_rate"] = float(trainer.schedule(step - 1))  # of this step
                    if record:
                        record.figures("train", means)
                    if step > since[1]:
                        seconds = time.perf_counter() - since[0]
                        speed = (step - since[1]) * batch_size / seconds
                        log(_progress(trainer, means, config, speed))
                    since = (time.perf_counter(), step)
                if step % config.train.eval_every == 0 or step == steps:
                    scores = trainer.validate()
                    is_best = _is_best(trainer, scores)
                    if record:
                        record.validation(scores, is_best)
                    log("  validation: " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))
                    since = (time.perf_counter(), step)
                last = step == steps or _stale(trainer)
                if step % config.train.checkpoint_every == 0 or last or stopping:
                    if record:
                        trainer.save(workdir)
                    since = (time.perf_counter(), step)
                if stopping and not last:
                    by = stop_signals[0].name if stop_signals else "another process stops"
                    raise Interrupted(
                        f"{by}: saved step {step} of {steps}; the same command goes on from there"
                    )
        if _stale(trainer):
            log(
                f"stopped early at step {trainer.step}: {trainer.stale} evaluations without a "
                f"better one than that of step {trainer.best['step']}"
            )
    except NonFiniteLoss as error:
        raise NonFiniteLoss(_non_finite_text(error, workdir)) from None
    finally:
        if record:
            record.board.close()
