"""A task in training: its optimiser, one step, and everything that a checkpoint holds."""

from collections.abc import Callable, Iterator

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.training import checkpoints, distribution, evaluating, optimizers
from unsup_video.training.tasks.base import Task
from unsup_video.training.workdir import Workdir

_STOP = "stop"  # the name of the request to stop among the figures of a step


class NonFiniteLoss(ValueError):
    """The loss or its gradient is infinite or NaN; the last checkpoint is still good."""


class Trainer:
    """A task with its optimiser, its position in the run, and everything that a checkpoint holds.

    Create it, like the task's network, inside the scope of the strategy that it trains with.

    Raises:
        ValueError: the strategy cannot divide the batch.
    """

    def __init__(self, config: ConfigDict, task: Task):
        self.config = config
        self.task = task
        self.strategy = tf.distribute.get_strategy()
        distribution.check_batch_size(self.strategy, config.recipe.batch_size)
        self.schedule = optimizers.learning_rate(config.recipe, config.train.steps)
        # The rate is a variable that is set before every step, so that `rewind` can change it.
        self.optimizer = optimizers.optimizer(config.recipe, rate=0.0)
        self.optimizer.build(task.network.trainable_variables)
        self._begin()
        self._names: tuple[str, ...] = ()  # of the figures of a step
        self._train_step = tf.function(self._step, autograph=False)
        self._gather = tf.function(
            lambda x: self.strategy.run(distribution.gather, (x,)), autograph=False
        )
        self._apply = self._apply_gradients
        if not tf.distribute.has_strategy():  # a strategy updates variables outside of functions
            self._apply = tf.function(self._apply, jit_compile=True, autograph=False)

    def _begin(self):
        """Sets the position in the run to step 0."""
        self.step = 0
        self.elapsed_s = 0.0
        self.sums: dict[str, float] = {}  # of the steps since the last log line
        self.count = 0
        self.best: dict | None = None  # {"step": .., "score": ..}
        self.stale = 0  # evaluations since the best one
        self._unread: list[tf.Tensor] = []  # the figures of the last steps, on the device
        self._last: tf.Tensor | None = None  # the figures of the last step

    # ------------------------------------------------------------------ one step

    def batches(self) -> Iterator:
        """Returns endless batches for `train_step`, from the current step on."""
        size = self.config.recipe.batch_size
        start = self.step * size

        def of_this_process(context):
            batches = self.task.train(start, distribution.share(context))
            return distribution.parts(batches, size, context)

        return iter(self.strategy.distribute_datasets_from_function(of_this_process))

    def train_step(self, batch, stop: bool = False) -> bool:
        """Updates the weights with one of `batches`.

        It does not wait for the device: the figures of the step stay there until `read`.

        Args:
            stop: whether this process was asked to stop.

        Returns:
            Whether any process was asked to stop; all processes return True after the same step.
            If there are several, the answer is one step old, since that step has been computed by
            now and no process has to wait.
        """
        self.optimizer.learning_rate = self.schedule(self.step)
        figures = self._train_step(batch, tf.constant(float(stop)))
        before, self._last = self._last, self.strategy.experimental_local_results(figures)[0]
        self._unread.append(self._last)
        self.step += 1
        if distribution.processes(self.strategy) == 1:
            return stop
        return before is not None and bool(before[self._names.index(_STOP)] > 0)

    def _step(self, batch, stop):
        return self.strategy.run(self._replica_step, (batch, stop))

    def _replica_step(self, batch, stop):
        """Runs one device's part of a step; all devices end with the same weights."""
        variables = self.task.network.trainable_variables
        with tf.GradientTape() as tape:
            total, figures = self.task.losses(batch)
        gradients = distribution.reduce(
            tape.gradient(total, [v.value for v in variables]), self.task.reduction
        )
        self._apply(gradients)
        figures = distribution.reduce({**figures, _STOP: stop})
        figures["gradient_norm"] = tf.linalg.global_norm(gradients)
        self._names = tuple(figures)  # set while tracing: a step returns numbers without names
        return tf.stack(list(figures.values()))

    def _apply_gradients(self, gradients):
        self.optimizer.apply(gradients, self.task.network.trainable_variables)

    # ------------------------------------------------------------------ figures

    def read(self) -> None:
        """Waits for the device, and adds the figures of its steps to `sums`.

        Raises:
            NonFiniteLoss: a figure is not finite; the message names its step.
        """
        if not self._unread:
            return
        first = self.step + 1 - len(self._unread)
        rows = tf.stack(self._unread).numpy().tolist()
        steps = [dict(zip(self._names, row, strict=True)) for row in rows]
        for step, figures in enumerate(steps, first):
            del figures[_STOP]
            _check_finite(figures, step)
        for figures in steps:
            for name, value in figures.items():
                self.sums[name] = self.sums.get(name, 0.0) + value
        self.count += len(steps)
        self._unread = []

    def interval_means(self) -> dict[str, float]:
        """Returns means over the steps since the last call. Raises as `read` does."""
        self.read()
        means = {name: total / self.count for name, total in self.sums.items()}
        self.sums, self.count = {}, 0
        return means

    def validate(self) -> dict[str, float]:
        """Returns the task's figures for the validation data, whose batches all processes share.

        All processes return the figures of the first one, so that all take the same decisions,
        even if kinds of hardware differ in rounding.

        Raises:
            NonFiniteLoss: a figure is not finite; the message names the step.
        """
        self.read()
        scores = {k: float(v) for k, v in self.task.validate(self._shared).items()}
        if distribution.processes(self.strategy) > 1:
            values = self._all(np.array([*scores.values()]))[0]
            scores = dict(zip(scores, values.tolist(), strict=True))
        _check_finite(scores, self.step)
        return scores

    def _shared(self, evaluate, count):
        """Divides an evaluation among the processes: `evaluating.alone` for several."""
        processes = distribution.processes(self.strategy)
        if processes == 1:
            return evaluating.alone(evaluate, count)
        own = distribution.part_of(range(count), self.strategy)
        return evaluating.joined(list(evaluate(own)), self._all)

    def gathered(self, number: float) -> list[float]:
        """Returns the numbers of all processes; waits until every process has called it."""
        if distribution.processes(self.strategy) == 1:
            return [number]
        return list(self._all(np.float64(number)))

    def _all(self, array):
        """Returns the arrays of all processes, (processes, ..); they have the same shape."""
        arrays = self.strategy.experimental_local_results(self._gather(tf.constant(array)))[0]
        replicas = self.strategy.num_replicas_in_sync // distribution.processes(self.strategy)
        return arrays.numpy()[::replicas]

    # ------------------------------------------------------------------ the position in the run

    def due(self, every: int) -> bool:
        """Returns True every `every` steps, and after the last step."""
        return self.step % every == 0 or self.step == self.config.train.steps

    @property
    def finished(self) -> bool:
        return self.step >= self.config.train.steps or self.stopped_early

    @property
    def stopped_early(self) -> bool:
        """True if early stopping is on and its patience is used up."""
        patience = self.config.train.early_stop_evaluations
        return bool(patience) and self.stale >= patience

    def note_score(self, scores: dict[str, float]) -> bool:
        """Returns True if these scores of `validate` are the best so far, and remembers them."""
        score = self.task.score(scores)
        if self.best is not None and score >= self.best["score"]:
            self.stale += 1
            return False
        self.best, self.stale = {"step": self.step, "score": score}, 0
        return True

    # ------------------------------------------------------------------ checkpoints

    def weights(self) -> dict[str, np.ndarray]:
        """Returns the network's weights under their names in a checkpoint.

        Raises:
            NonFiniteLoss: a weight is not finite; the message names it and the step.
        """
        return self._finite(checkpoints.weights(self.task.network))

    def _slots(self):
        return {f"optimizer/{i:03d}/{v.name}": v for i, v in enumerate(self.optimizer.variables)}

    def _state(self):
        """Returns every variable that later steps depend on."""
        return {**checkpoints.state(self.task.network), **self._slots()}

    def _finite(self, variables):
        self.read()
        arrays = {name: v.numpy() for name, v in variables.items()}
        for name, array in arrays.items():
            if not np.isfinite(array).all():
                raise NonFiniteLoss(f"step {self.step}: {name} is not finite after the update")
        return arrays

    def slots(self) -> dict[str, np.ndarray]:
        """Returns a copy of the optimiser's variables."""
        return {name: v.numpy() for name, v in self._slots().items()}

    def rewind(self, config: ConfigDict, arrays: dict[str, np.ndarray]) -> None:
        """Returns to step 0 with `checkpoints.state` and `slots`, to train with another config.

        Nothing is compiled again, so model and optimiser must be the same; the learning rate, the
        number of steps and the task's data can differ.
        """
        self.config = config
        self.schedule = optimizers.learning_rate(config.recipe, config.train.steps)
        checkpoints.assign(self._state(), arrays, "what is rewound to")
        self._begin()

    def save(self, workdir: Workdir) -> None:
        """Saves a checkpoint. Raises as `weights` does."""
        arrays = self._finite(self._state())
        meta = {k: getattr(self, k) for k in ("elapsed_s", "sums", "count", "best", "stale")}
        checkpoints.save(workdir.checkpoints, self.step, arrays, meta)

    def restore(self, path) -> None:
        """Restores weights, optimiser and position in the run from a checkpoint.

        Raises:
            ValueError: the checkpoint is for another architecture or optimiser.
        """
        step, arrays, meta = checkpoints.restore(path)
        checkpoints.assign(self._state(), arrays, path)
        self._begin()
        self.step = step
        for k, v in meta.items():
            setattr(self, k, v)

    def resume(self, workdir: Workdir, log: Callable[[str], None]) -> str | None:
        """Resumes from the newest checkpoint, if there is one; all processes from the same one.

        Returns:
            The name of the checkpoint, or None.

        Raises:
            CheckpointError: every checkpoint is damaged.
            ValueError: the processes do not see the same folder.
        """
        self.gathered(0)  # the first process has created or emptied the folder by now
        newest = checkpoints.latest(workdir.checkpoints)
        if newest is not None:
            self.restore(newest)
            log(f"resumed from {newest}")
            self._check_best(workdir, log)
        steps = self.gathered(self.step if workdir.exists() else -1)
        if len(set(steps)) > 1:
            raise ValueError(
                f"{workdir.path}: the processes do not see the same run there, but these steps "
                f"(-1: none): {', '.join(f'{step:.0f}' for step in steps)}. --workdir must be one "
                "folder that all of them can read"
            )
        return None if newest is None else newest.name

    def _check_best(self, workdir, log):
        """Forgets the best score if its checkpoint is damaged or missing.

        It is missing if an older version, which removed it too early, was killed.
        """
        if self.best is None:
            return
        try:
            checkpoints.restore(checkpoints.best_at(workdir.checkpoints, self.best["step"]))
        except checkpoints.CheckpointError as error:
            log(
                "the best checkpoint cannot be read, so the next evaluation counts as best: "
                f"{error}"
            )
            if not self.finished:  # or a run that has stopped early would go on
                self.stale = 0
            self.best = None


def _check_finite(figures, step):
    if not np.isfinite(list(figures.values())).all():
        raise NonFiniteLoss(f"step {step}: {', '.join(f'{k} {v:.4g}' for k, v in figures.items())}")
