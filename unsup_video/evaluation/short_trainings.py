"""Trains many models of one form for a few steps each, with one compiled step."""

from collections.abc import Hashable

from ml_collections import ConfigDict

from unsup_video.data.shares import WHOLE
from unsup_video.training import checkpoints, loop
from unsup_video.training.tasks.base import Task


class ShortTrainings:
    """Trains tasks one after the other; only the first one of a form is compiled.

    Attributes:
        trainers: form -> the trainer of all its tasks, and the optimiser's variables at step 0.
    """

    def __init__(self):
        self.trainers: dict[Hashable, tuple[loop.Trainer, dict]] = {}

    def train(self, config: ConfigDict, task: Task, form: Hashable = None) -> loop.Trainer:
        """Trains a new task from its initial weights for `config.train.steps` steps.

        Args:
            form: equal for tasks whose model, losses and optimiser are equal.

        Returns:
            The trainer; `trainer.task` has the trained network, until the next training of that
            form. It is the first task of the form, not the given one.

        Raises:
            NonFiniteLoss: training diverged.
        """
        arrays = {name: v.numpy() for name, v in checkpoints.state(task.network).items()}
        if form not in self.trainers:
            trainer = loop.Trainer(config, task)
            self.trainers[form] = trainer, trainer.slots()
        trainer, slots = self.trainers[form]
        trainer.rewind(config, {**arrays, **slots})
        batches = iter(task.train(0, WHOLE))
        for _ in range(config.train.steps):
            trainer.train_step(next(batches))
        trainer.weights()  # raises unless they are finite
        return trainer
