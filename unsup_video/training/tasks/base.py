"""The base class of tasks. Every other file in this folder is one task: the check of its config,
its `Task`, and the table of its results."""

import json
from collections.abc import Callable

import keras
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import overlap
from unsup_video.data.shares import Share
from unsup_video.training import checkpoints
from unsup_video.training.evaluating import Shared
from unsup_video.training.summaries import TensorBoard
from unsup_video.training.workdir import Workdir
from unsup_video.utils import files


class Task:
    """A task defines the network, its data, its losses and its scores.

    Attributes:
        config: the config of the run.
        network: the Keras model whose weights are trained and saved in checkpoints.
        unit: the unit of the losses in the progress line.
        reduction: "mean" or "sum", the reduction over the examples of a batch in the loss.
    """

    config: ConfigDict
    network: keras.Model
    unit = ""
    reduction = "mean"

    def train(self, start: int, share: Share) -> tf.data.Dataset:
        """Returns the share of endless training batches, without the first `start` examples."""
        raise NotImplementedError

    def losses(self, batch) -> tuple[tf.Tensor, dict[str, tf.Tensor]]:
        """Returns (the loss to differentiate, the figures to report) of a batch; float32 scalars.

        If several devices train, each computes these for its share of the batch; gradients are
        reduced over the devices by `reduction`, and figures are averaged.
        """
        raise NotImplementedError

    def validate(self, shared: Shared) -> dict[str, float]:
        """Returns figures for the validation data.

        Args:
            shared: calls a function with the numbers of the batches that this process evaluates,
                and returns the results of all batches.
        """
        raise NotImplementedError

    def score(self, figures: dict[str, float]) -> float:
        """Returns the score that ranks checkpoints, from `validate`'s figures; lower is better."""
        raise NotImplementedError

    def test(self) -> dict:
        """Returns the results on the test data, as JSON values."""
        raise NotImplementedError

    def prepare(self, log: Callable[[str], None]) -> None:
        """Loads the data for `validate`, so that errors in it surface before training."""

    def write(self, workdir: Workdir) -> None:
        """Writes the files that evaluations need in addition to the weights."""

    def sample(self, workdir: Workdir, board: TensorBoard, step: int) -> None:
        """Draws samples of the network's outputs, if they are pictures."""


def score_best(task: Task, workdir: Workdir) -> dict:
    """Scores the best checkpoint of a run on the test data and writes results.json.

    Returns:
        {"step": that of the checkpoint, the items of `Task.test`, "seen": `overlap.seen` for the
        test data}.
    """
    step, _ = checkpoints.load_best(task.network, workdir.checkpoints)
    seen = overlap.seen_in_own_test(workdir.path, task.config)
    results = {"step": step, **task.test(), "seen": seen}
    files.write_text(workdir.path / "results.json", json.dumps(results, indent=2) + "\n")
    return results
