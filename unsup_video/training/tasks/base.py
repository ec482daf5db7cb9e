"""What every task has. One file in this folder is one task: the check of its config, its `Task`,
and the table of its results."""

import json
from collections.abc import Callable

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import overlap
from unsup_video.training import checkpoints
from unsup_video.training.summaries import TensorBoard
from unsup_video.training.workdir import Workdir
from unsup_video.utils import files


class Task:
    """What is trained, on what, and how it is judged.

    Attributes:
        config: of the run.
        network: the Keras model whose weights are trained and kept in checkpoints.
        unit: of the losses, as the progress line shows it.
        reduction: "mean" or "sum": what is differentiated is that of the batch's examples.
    """

    config: ConfigDict
    network: keras.Model
    unit = ""
    reduction = "mean"

    def train(self, start: int) -> tf.data.Dataset:
        """Endless batches, from the one that comes after `start` examples."""
        raise NotImplementedError

    def losses(self, batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """(what is differentiated, the figures to report) of a batch, in training; float32 scalars.

        Where several devices train, each has this of its share of the batch: of what is
        differentiated `reduction` is taken over them, figures are averaged.
        """
        raise NotImplementedError

    def validate(self) -> dict[str, float]:
        """Figures of the validation data."""
        raise NotImplementedError

    def score(self, figures: dict[str, float]) -> float:
        """What ranks checkpoints, from the figures of `validate`: the lower, the better."""
        raise NotImplementedError

    def test(self) -> dict:
        """Results on the test data; JSON values."""
        raise NotImplementedError

    def prepare(self, log: Callable[[str], None]) -> None:
        """Loads what `validate` needs, so that errors in it surface before training."""

    def write(self, workdir: Workdir) -> None:
        """Writes what evaluations need besides the weights."""

    def sample(self, workdir: Workdir, board: TensorBoard, step: int) -> None:
        """Draws what the network does now, if that can be drawn."""


def score_best(task: Task, workdir: Workdir) -> dict:
    """Scores the best checkpoint of a run on the test data and writes results.json.

    Returns:
        {"step": of the checkpoint, what `Task.test` returns, "seen": `overlap.seen` of the test
        data}.
    """
    step, _ = checkpoints.load_best(task.network, workdir.checkpoints)
    seen = overlap.seen_in_own_test(workdir.path, task.config)
    results = {"step": step, **task.test(), "seen": seen}
    files.write_text(workdir.path / "results.json", json.dumps(results, indent=2) + "\n")
    return results
