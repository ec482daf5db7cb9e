"""Flow classification: the flow CNN learns the class of a video from a stack of its flow."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import flow_stacks, overlap
from unsup_video.data.flow_stacks import Form, Stacks
from unsup_video.models import flow_cnn
from unsup_video.models.classification import Predictions, error, video_means
from unsup_video.training import checkpoints, experiment, fields
from unsup_video.training.evaluating import Shared, alone
from unsup_video.training.tasks.base import Task

_AT_LEAST_ONE = ("model.size", "data.stack", "data.shuffle_mb", "eval.stacks_per_video")


def check(config: ConfigDict) -> None:
    """Raises ValueError for a config of another task, or a number out of its range."""
    fields.check_task(config, "flow_classification")
    fields.check_numbers(config, _AT_LEAST_ONE)
    if config.data.stacks_per_video < 0:
        raise ValueError("config.data.stacks_per_video must be at least 0; 0: all that fit")
    if not 0 <= config.model.dropout < 1:
        raise ValueError(f"config.model.dropout must be in [0, 1), got {config.model.dropout}")


def build_network(config: ConfigDict, classes: int, gemm_dtype: str = "float32") -> keras.Model:
    """Builds the CNN of `config` with initial weights, see `flow_cnn.build`."""
    return flow_cnn.build(
        channels=flow_stacks.form(config).channels,
        classes=classes,
        gemm_dtype=gemm_dtype,
        **config.model,
    )


class FlowClassification(Task):
    """Trains a flow CNN. Every stack has the label of its video."""

    unit = "(nats/stack, %)"

    def __init__(self, config: ConfigDict, network: keras.Model, stacks: Stacks):
        self.config = config
        self.network = network
        self.stacks = stacks
        self._classify = classifier(network, config.eval.batch_size)

    def write(self, workdir):
        experiment.write_classes(workdir.path, self.stacks.classes)

    def train(self, start, share):
        return self.stacks.train(self.config.recipe.batch_size, start, share)

    def losses(self, batch):
        """Returns the cross entropy of the softmax, averaged over the batch."""
        logits = self.network(batch["stack"], training=True)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["label"], logits=logits)
        )
        right = tf.equal(tf.argmax(logits, -1, tf.int32), batch["label"])
        return loss, {
            "cross_entropy": loss,
            "window_accuracy": 100 * tf.reduce_mean(tf.cast(right, tf.float32)),
        }

    def validate(self, shared):
        return figures(self._classify, self.stacks, "validation", shared)

    def test(self):
        """Returns the scores on the test videos.

        Returns:
            {"classes": K, "videos": N, "stacks": N, "scores": `Predictions.figures`,
            "most_frequent_class": the accuracy, in %, of always guessing the class with the most
            training videos}.
        """
        stacks = self.stacks
        labels = stacks.labels["test"]
        guess = np.bincount(stacks.labels["train"]).argmax()
        return {
            "classes": len(stacks.classes),
            "videos": len(labels),
            "stacks": stacks.description["parts"]["test"]["evaluation_stacks"],
            "scores": figures(self._classify, stacks, "test"),
            "most_frequent_class": 100 * float(np.mean(labels == guess)),
        }

    def score(self, figures):
        return error(figures)


def classifier(network: keras.Model, batch_size: int) -> Callable[..., Predictions]:
    """Returns a function of the data and a split that classifies the videos of the split.

    With a third argument, several processes share the batches (see `evaluating`).

    The blocks of the `Predictions` are stacks, with one step each. The probabilities of a video are
    the mean of the softmax over its stacks (Simonyan & Zisserman 2014, section 5).
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def softmax(stack):
        return tf.nn.softmax(network(stack, training=False))

    def classify(stacks: Stacks, part: str, shared: Shared = alone):
        def evaluate(batches):
            for batch in stacks.evaluation(part, batch_size, batches):
                steps = softmax(batch["stack"]).numpy()
                yield {"steps": steps, **{k: batch[k].numpy() for k in ("sequence", "first")}}

        results = shared(evaluate, stacks.evaluation_batches(part, batch_size))
        steps, sequences, firsts = (
            np.concatenate([batch[k] for batch in results]) for k in ("steps", "sequence", "first")
        )
        videos, numbers = np.unique(sequences, return_inverse=True)
        means = video_means(steps, numbers, len(videos))
        return Predictions(means, steps, numbers, firsts, steps[:, None])

    return classify


def figures(
    classify: Callable[..., Predictions], stacks: Stacks, part: str, shared: Shared = alone
) -> dict:
    """Returns the scores of `classify`, a `classifier`, on a split: see `Predictions.figures`."""
    return classify(stacks, part, shared).figures(stacks.labels[part])


def table(config: ConfigDict, results: dict, expect: ConfigDict | None = None) -> str:
    """Returns a table of the results, a guess and the expected figures of `config.expect`."""
    head = f"test set, {results['videos']:,} videos, {results['stacks']:,} stacks"
    lines = [f"{head:<56}{'videos, %':>16}{'stacks, %':>16}"]

    def row(label, of_videos, of_stacks=None):
        shown = "-" if of_stacks is None else f"{of_stacks:.1f}"
        lines.append(f"{label:<56}{of_videos:16.1f}{shown:>16}")

    scores = results["scores"]
    row(f"this run (step {results['step']})", scores["video_accuracy"], scores["window_accuracy"])
    if expect and expect.get("video_accuracy"):
        row(f"expected: {expect.source}", expect.video_accuracy)
    row("always the most frequent class of the training videos", results["most_frequent_class"])
    return "\n".join(lines + overlap.notes(results.get("seen"), results["videos"]))


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedFlowCNN:
    """A trained flow CNN, from the folder of a run.

    Attributes:
        path: the folder of the run. config: the config of the run. form: the form of the stacks.
        classes: the names of its classes. network: the CNN with the weights of the best checkpoint.
        step: the step of that checkpoint. sha256: that of its arrays.
    """

    path: Path
    config: ConfigDict
    form: Form
    classes: tuple[str, ...]
    network: keras.Model
    step: int
    sha256: str


def load(path: str | Path) -> TrainedFlowCNN:
    """Loads the best checkpoint of a run of `train.flow_cnn`.

    Raises:
        FileNotFoundError: there is no run, or it has no checkpoint yet. ValueError: a file is
            damaged, or the run is one of another command.
    """
    path = Path(path)
    with experiment.reading(path, "train.flow_cnn"):
        config = experiment.read_config(path)
    if config.task != "flow_classification":
        raise ValueError(
            f"{path} is a run of {fields.COMMANDS.get(config.task)}, not of train.flow_cnn"
        )
    with experiment.reading(path, "train.flow_cnn"):
        classes = experiment.read_classes(path)
    network = build_network(config, len(classes))
    step, sha256 = checkpoints.load_best(network, path / "checkpoints")
    return TrainedFlowCNN(path, config, flow_stacks.form(config), classes, network, step, sha256)
