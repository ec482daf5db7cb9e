"""The flow CNN as a task of the one loop: the class of a video from a stack of its flow."""

import dataclasses
import json
from collections.abc import Callable
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import flow_stacks, overlap
from unsup_video.data.flow_stacks import Form, Stacks
from unsup_video.models import flow_cnn
from unsup_video.models.classification import Classified, video_means
from unsup_video.training import checkpoints, experiment, loop
from unsup_video.training.workdir import Workdir
from unsup_video.utils.files import write_text

_AT_LEAST_ONE = (
    "model.size",
    "data.stack",
    "data.shuffle_mb",
    "recipe.batch_size",
    "train.steps",
    "train.log_every",
    "train.eval_every",
    "train.checkpoint_every",
    "eval.stacks_per_video",
    "eval.batch_size",
)


def check(config: ConfigDict) -> None:
    """Raises ValueError for a config of something else, or a number out of its range."""
    if "stack" not in config.data:
        raise ValueError(f"config {config.name!r} describes no flow CNN, as flow_cnn does")
    experiment.check_at_least_one(config, _AT_LEAST_ONE)
    if config.train.early_stop_evaluations < 0:
        raise ValueError("config.train.early_stop_evaluations must be at least 0; 0 never stops")
    if config.data.stacks_per_video < 0:
        raise ValueError("config.data.stacks_per_video must be at least 0; 0: all that fit")
    if not 0 <= config.model.dropout < 1:
        raise ValueError(f"config.model.dropout must be in [0, 1), got {config.model.dropout}")


def build_network(config: ConfigDict, classes: int, gemm_dtype: str = "float32") -> keras.Model:
    """The CNN of `config`, see `flow_cnn.build`, with starting weights."""
    return flow_cnn.build(
        channels=flow_stacks.form(config).channels,
        classes=classes,
        gemm_dtype=gemm_dtype,
        **config.model,
    )


class FlowClassification:
    """The `loop.Task` of a flow CNN. Every stack has the label of its video."""

    unit = "(nats/stack, %)"
    reduction = "mean"

    def __init__(self, config: ConfigDict, network: keras.Model, stacks: Stacks):
        self.config = config
        self.network = network
        self.stacks = stacks
        self._classify = classifier(network, config.eval.batch_size)

    def prepare(self, log):
        """The videos are known already."""

    def write(self, workdir):
        experiment.write_classes(workdir.path, self.stacks.classes)

    def train(self, start):
        return self.stacks.train(self.config.recipe.batch_size, start=start)

    def losses(self, batch):
        """The cross entropy of the softmax, averaged over the batch."""
        logits = self.network(batch["stack"], training=True)
        loss = tf.reduce_mean(
            tf.nn.sparse_softmax_cross_entropy_with_logits(labels=batch["label"], logits=logits)
        )
        right = tf.equal(tf.argmax(logits, -1, tf.int32), batch["label"])
        return loss, {
            "cross_entropy": loss,
            "window_accuracy": 100 * tf.reduce_mean(tf.cast(right, tf.float32)),
        }

    def validate(self):
        return figures(self._classify, self.stacks, "validation")

    def score(self, figures):
        """The error of whole videos, in %; of equal ones the lower cross entropy counts."""
        return 100 - figures["video_accuracy"] + figures["video_cross_entropy"] / 1000

    def sample(self, workdir, board, step):
        """Nothing is drawn: what comes out are classes."""


def classifier(network: keras.Model, batch_size: int) -> Callable[[Stacks, str], Classified]:
    """A function of the data and a part that classifies the part's videos.

    The blocks of the `Classified` are stacks, with one step each. A video's probabilities are the
    mean of the softmax over its stacks (Simonyan & Zisserman 2014, section 5).
    """

    @tf.function(reduce_retracing=True, autograph=False)
    def softmax(stack):
        return tf.nn.softmax(network(stack, training=False))

    def classify(stacks, part):
        found = [
            (softmax(batch["stack"]).numpy(), batch["sequence"].numpy(), batch["first"].numpy())
            for batch in stacks.evaluation(part, batch_size)
        ]
        steps, sequences, firsts = (np.concatenate(arrays) for arrays in zip(*found, strict=True))
        videos, numbers = np.unique(sequences, return_inverse=True)
        means = video_means(steps, numbers, len(videos))
        return Classified(means, steps, numbers, firsts, steps[:, None])

    return classify


def figures(classify: Callable[[Stacks, str], Classified], stacks: Stacks, part: str) -> dict:
    """How well `classify`, a `classifier`, does on a part: see `Classified.figures`."""
    return classify(stacks, part).figures(stacks.labels[part])


def test(config: ConfigDict, network: keras.Model, stacks: Stacks, workdir: Workdir) -> dict:
    """Scores the best checkpoint of a run on the test videos and writes `results.json`.

    Returns:
        {"step": of the checkpoint, "classes": K, "videos": N, "stacks": N, "scores":
        `Classified.figures`,
        "most_frequent_class": the accuracy, in %, of always guessing the class with the most videos
        to train on, "seen": `overlap.seen` of the test part}.
    """
    best = checkpoints.best(workdir.checkpoints)
    step, arrays, _ = checkpoints.restore(best)
    loop.load_weights(network, arrays, best)
    labels = stacks.labels["test"]
    guess = np.bincount(stacks.labels["train"]).argmax()
    results = {
        "step": step,
        "classes": len(stacks.classes),
        "videos": len(labels),
        "stacks": stacks.description["parts"]["test"]["evaluation_stacks"],
        "scores": figures(classifier(network, config.eval.batch_size), stacks, "test"),
        "most_frequent_class": 100 * float(np.mean(labels == guess)),
        "seen": overlap.of_own_test(workdir.path, config),
    }
    write_text(workdir.path / "results.json", json.dumps(results, indent=2) + "\n")
    return results


def table(config: ConfigDict, results: dict, expect: ConfigDict | None = None) -> str:
    """The results beside a guess and what to expect, as in `config.expect`, as text."""
    head = f"test set, {results['videos']:,} videos, {results['stacks']:,} stacks"
    lines = [f"{head:<56}{'videos, %':>16}{'stacks, %':>16}"]

    def row(label, of_videos, of_stacks=None):
        shown = "-" if of_stacks is None else f"{of_stacks:.1f}"
        lines.append(f"{label:<56}{of_videos:16.1f}{shown:>16}")

    scores = results["scores"]
    row(f"this run (step {results['step']})", scores["video_accuracy"], scores["window_accuracy"])
    if expect:
        row(f"expected: {expect.source}", expect.video_accuracy)
    row("always the most frequent class of the training videos", results["most_frequent_class"])
    return "\n".join(lines + overlap.notes(results.get("seen"), results["videos"]))


@dataclasses.dataclass(frozen=True, eq=False)
class TrainedFlowCNN:
    """A trained flow CNN, of the folder of a run.

    Attributes:
        path: the run's folder. config: of the run. form: what the CNN reads.
        classes: names of its outputs. network: with the weights of the best checkpoint.
        step: at which they were taken. sha256: of the weights' checkpoint.
    """

    path: Path
    config: ConfigDict
    form: Form
    classes: tuple[str, ...]
    network: keras.Model
    step: int
    sha256: str


def load(path: str | Path) -> TrainedFlowCNN:
    """The best checkpoint of a run of `train.flow_cnn`.

    Raises:
        FileNotFoundError: there is no run, or it has no checkpoint yet. ValueError: it is damaged,
            or a run of something else.
    """
    path = Path(path)
    try:
        config = ConfigDict(json.loads((path / "config.json").read_text(encoding="utf-8")))
        if "stack" not in config.get("data", {}):
            raise ValueError("it is not of train.flow_cnn")
        classes = experiment.read_classes(path)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not the folder of a run: {Path(error.filename).name} is missing; "
            "python -m train.flow_cnn makes one"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: no run that can be used here ({error})") from None
    best = checkpoints.best(path / "checkpoints")
    step, arrays, _ = checkpoints.restore(best)
    network = build_network(config, len(classes))
    loop.load_weights(network, arrays, best)
    return TrainedFlowCNN(
        path,
        config,
        flow_stacks.form(config),
        classes,
        network,
        step,
        checkpoints.fingerprint(best),
    )
