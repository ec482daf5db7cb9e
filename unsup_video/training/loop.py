"""The one training loop."""

import signal
import time
from collections.abc import Callable
from typing import Protocol

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.training import checkpoints, recipes
from unsup_video.training.summaries import TensorBoard
from unsup_video.training.workdir import Workdir


class NonFiniteLoss(ValueError):
    """The loss or its gradient became infinite or NaN; the last checkpoint is still good."""


class Interrupted(Exception):
    """A signal asked the run to stop; its state is saved."""


class Task(Protocol):
    """What is trained, on what, and how it is judged.

    Attributes:
        network: the Keras model whose weights are trained, and kept in checkpoints.
        unit: of the losses in the line of progress.
    """

    network: keras.Model
    unit: str

    def prepare(self, workdir: Workdir, log: Callable[[str], None]) -> None:
        """Writes what evaluations need besides the weights; called before the first step."""

    def train(self, start: int) -> tf.data.Dataset:
        """Endless batches, from the one that comes after `start` examples."""

    def losses(self, batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """(what is differentiated, the figures to report) of a batch, in training; all scalars."""

    def validate(self) -> dict[str, float]:
        """Figures of the validation data."""

    def score(self, figures: dict[str, float]) -> float:
        """What ranks checkpoints, from `validate`'s figures: the lower, the better."""

    def sample(self, workdir: Workdir, board: TensorBoard, step: int) -> None:
        """Draws what the network does now, if that can be drawn."""


class Trainer:
    """A task with its optimiser, its place in the run, and everything a checkpoint holds."""

    def __init__(self, config: ConfigDict, task: Task):
        self.config = config
        self.task = task
        self.schedule = recipes.learning_rate(config.recipe, config.train.steps)
        # A variable, set before every step, so that `rewind` can change the schedule.
        self.optimizer = recipes.optimizer(config.recipe, rate=0.0)
        self.optimizer.build(task.network.trainable_variables)
        self.step = 0
        self.elapsed_s = 0.0
        self.sums: dict[str, float] = {}  # of the steps since the last log line
        self.count = 0
        self.best: dict | None = None  # {"step": .., "score": ..}
        self.stale = 0  # evaluations since the best one
        self._train_step = tf.function(self._step, autograph=False)
        self._apply = tf.function(self._apply_gradients, jit_compile=True, autograph=False)

    def _step(self, batch):
        variables = self.task.network.trainable_variables
        with tf.GradientTape() as tape:
            total, results = self.task.losses(batch)
        gradients = tape.gradient(total, [v.value for v in variables])
        self._apply(gradients)
        return {**results, "gradient_norm": tf.linalg.global_norm(gradients)}

    def _apply_gradients(self, gradients):
        self.optimizer.apply(gradients, self.task.network.trainable_variables)

    def train_step(self, batch) -> None:
        """One update from a batch of `Task.train`.

        Raises:
            NonFiniteLoss: naming the step.
        """
        self.optimizer.learning_rate = self.schedule(self.step)
        results = {k: float(v) for k, v in self._train_step(batch).items()}
        self.step += 1
        if not np.isfinite(list(results.values())).all():
            raise NonFiniteLoss(
                f"step {self.step}: {', '.join(f'{k} {v:.4g}' for k, v in results.items())}"
            )
        for k, v in results.items():
            self.sums[k] = self.sums.get(k, 0.0) + v
        self.count += 1

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
        self.schedule = recipes.learning_rate(config.recipe, config.train.steps)
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
        for k in variables.keys() & stored.keys() if stored[k].shape != tuple(variables[k].shape)
    ]
    if problems:
        raise ValueError(
            f"{path} is a checkpoint of another architecture:\n  " + "\n  ".join(sorted(problems))
        )
    for k, v in variables.items():
        v.assign(stored[k])


def _record(workdir, board, trainer, split_name, values):
    board.scalars(trainer.step, {f"{split_name}/{k}": v for k, v in values.items()})
    workdir.append_metrics(
        {"step": trainer.step, "split": split_name, "elapsed_s": trainer.elapsed_s, **values}
    )


def _keep_best(trainer, scores, workdir):
    score = trainer.task.score(scores)
    if trainer.best is not None and score >= trainer.best["score"]:
        trainer.stale += 1
        return
    trainer.best, trainer.stale = {"step": trainer.step, "score": score}, 0
    checkpoints.save_best(workdir.checkpoints, trainer.step, trainer.weights(), {"scores": scores})


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
    scores = "  ".join(f"{k} {v:.4g}" for k, v in means.items()
                       if k not in ("gradient_norm", "learning_rate"))
    step, steps = trainer.step, config.train.steps
    eta = (steps - step) * config.recipe.batch_size / examples_per_s
    return (
        f"step {step}/{steps} ({100 * step / steps:.1f}%)  {examples_per_s:.0f} examples/s  "
        f"ETA {_clock(eta)}  {scores} {trainer.task.unit}  |g| {means['gradient_norm']:.3g}"
    )


def run(
    trainer: Trainer,
    workdir: Workdir,
    info: dict,
    log: Callable[[str], None] = print,
) -> None:
    """Trains to `config.train.steps`, from the newest valid checkpoint where there is one.

    Writes run.json with `info` (see `Workdir.write_run_info`) and the checkpoint it starts from.

    The state after step k is a function of the config alone, whenever and however often the run
    was interrupted (with `config.train.deterministic`, and on one kind of machine).

    Raises:
        NonFiniteLoss: nothing of the bad step is saved.
        CheckpointError: every checkpoint is damaged.
        Interrupted: after SIGTERM or SIGINT; the state is saved.
    """
    config, task = trainer.config, trainer.task
    newest = checkpoints.latest(workdir.checkpoints)
    if newest is not None:
        trainer.restore(newest)
        log(f"resumed from {newest}")
    workdir.write_run_info({**info, "resumed_from": newest and newest.name})
    task.prepare(workdir, log)
    checkpoints.discard_after(workdir.checkpoints, trainer.step)
    workdir.truncate_metrics(trainer.step)
    batch_size, steps = config.recipe.batch_size, config.train.steps

    stop_signals = []

    def stop(number, frame):
        if stop_signals:  # asked twice: at once
            raise KeyboardInterrupt
        stop_signals.append(number)
        log("stopping: saving after this step ...")

    handlers = {s: signal.signal(s, stop) for s in (signal.SIGTERM, signal.SIGINT)}
    board = TensorBoard(workdir.tb)
    try:
        batches = iter(task.train(trainer.step * batch_size))
        first = trainer.step + 1
        since = None  # (time, step) from which the speed is measured
        while trainer.step < steps and not _stale(trainer):
            started = time.perf_counter()
            if trainer.step + 1 == first:
                log("compiling the training step, which takes some seconds ...")
            trainer.train_step(next(batches))
            step = trainer.step
            if step == first:
                log(f"compiled and ran step {step} in {time.perf_counter() - started:.0f} s")
            else:
                trainer.elapsed_s += time.perf_counter() - started
            since = since or (time.perf_counter(), step)

            if step % config.train.log_every == 0 or step == steps:
                means = trainer.interval_means()
                means["learning_rate"] = float(trainer.schedule(step - 1))  # of this step
                _record(workdir, board, trainer, "train", means)
                if step > since[1]:
                    seconds = time.perf_counter() - since[0]
                    speed = (step - since[1]) * batch_size / seconds
                    log(_progress(trainer, means, config, speed))
                since = (time.perf_counter(), step)
            if step % config.train.eval_every == 0 or step == steps:
                scores = task.validate()
                _record(workdir, board, trainer, "validation", scores)
                _keep_best(trainer, scores, workdir)
                task.sample(workdir, board, step)
                log("  validation: " + "  ".join(f"{k} {v:.4g}" for k, v in scores.items()))
                since = (time.perf_counter(), step)
            last = step == steps or _stale(trainer)
            if step % config.train.checkpoint_every == 0 or last or stop_signals:
                trainer.save(workdir)
                since = (time.perf_counter(), step)
            if stop_signals and not last:
                raise Interrupted(
                    f"{signal.Signals(stop_signals[0]).name}: saved step {step} of {steps}; "
                    "the same command goes on from there"
                )
        if _stale(trainer):
            log(f"stopped early at step {trainer.step}: {trainer.stale} evaluations without a "
                f"better one than that of step {trainer.best['step']}")
    except NonFiniteLoss as error:
        raise NonFiniteLoss(_non_finite_text(error, workdir)) from None
    finally:
        board.close()
        for s, handler in handlers.items():
            signal.signal(s, handler)
