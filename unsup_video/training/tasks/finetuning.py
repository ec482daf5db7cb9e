"""Finetuning: a classifier learns from labelled videos."""

import dataclasses
from collections.abc import Callable
from typing import cast

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.data import overlap, records, sources, splits
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.models import classifiers
from unsup_video.models.classification import error, predictions, steps
from unsup_video.models.classifiers import Classifier
from unsup_video.models.video_models import VideoModel
from unsup_video.training import experiment, fields
from unsup_video.training.evaluating import Shared, alone
from unsup_video.training.tasks.base import Task
from unsup_video.training.trained import TrainedModel

_AT_LEAST_ONE = ("data.frames", "data.stride")


def check(config: ConfigDict) -> None:
    """Raises ValueError for a config that cannot be trained on any data."""
    fields.check_task(config, "finetuning")
    fields.check_numbers(config, _AT_LEAST_ONE)
    kind = config.model.kind
    if kind not in classifiers.KINDS:
        raise ValueError(
            f"unknown config.model.kind {kind!r} of a classifier: one of "
            f"{', '.join(classifiers.KINDS)}"
        )
    for name in ("videos_per_class", "subset_seed"):
        if config.data[name] < 0:
            raise ValueError(f"config.data.{name} must be at least 0, got {config.data[name]}")
    if not config.data.records:
        raise ValueError("--records=FOLDER is missing: percepts with labels, of data_prep.percepts")
    if not config.model.init:
        raise ValueError(
            "--init=RUN_OR_SAVED_MODEL is missing: what train.pretrain or unsup_video.export "
            "wrote; or --init=none, random weights"
        )
    if config.model.init != configs.NO_INIT and kind not in classifiers.RECURRENT:
        raise ValueError(f"a {kind} classifier has no encoder: --init=none")


@dataclasses.dataclass(frozen=True)
class Data:
    """The labelled videos of a run.

    Attributes:
        train, validation, test: the videos of each split. description: for people and run.json.
    """

    train: LabelledVideos
    validation: LabelledVideos
    test: LabelledVideos
    description: dict


def videos(
    config: ConfigDict, part: str, shortest: int = 1, log: Callable[[str], None] = print
) -> LabelledVideos:
    """Returns the labelled videos of a split of `config.data.records`; logs how many it omits.

    Args:
        part: "train", "validation" or "test". shortest: the smallest number of frames of a video.

    Raises:
        ValueError, FileNotFoundError: there are no data, or no videos that can be used.
    """
    split = sources.split(config, part)
    entries = records.load_index(split.folder)
    labels = np.array([entry.label for entry in entries])
    chosen = split.mask(len(entries))
    short = np.array([entry.frames < shortest for entry in entries], bool)
    for left_out, why in (
        (chosen & (labels < 0), "have no label"),
        (chosen & (labels >= 0) & short, f"are shorter than {shortest} frames"),
    ):
        if left_out.any():
            example = entries[int(np.argmax(left_out))].name
            log(f"{part}: {left_out.sum():,} videos are not used, they {why} (such as {example})")
    if entries and not (chosen & (labels >= 0) & ~short).any():
        raise ValueError(
            f"{split.folder}: of {chosen.sum():,} videos for {part} none has a label and "
            f"{shortest} frames"
        )
    return LabelledVideos(split.folder, chosen & (labels >= 0) & ~short)


def data(config: ConfigDict, log: Callable[[str], None] = print) -> Data:
    """Returns the labelled videos that `config.data` describes.

    Raises:
        ValueError, FileNotFoundError: as in `videos`; or a class has no video to train on.
    """
    per_class = config.data.videos_per_class
    train = videos(config, "train", config.data.frames, log)
    validation = videos(config, "validation", log=log)
    test = videos(config, "test", log=log)  # now, so that errors surface before training
    if per_class:
        train.check_count(per_class)
        train = train.subset(splits.few(train.labels, per_class, config.data.subset_seed))
    for other in (validation, test):
        if train.classes != other.classes:
            raise ValueError(
                f"{train.folder} has the classes {', '.join(train.classes)}; {other.folder} has "
                f"{', '.join(other.classes)}"
            )
        if train.frame_shape != other.frame_shape:
            raise ValueError(
                f"{other.folder}: frames of {other.frame_shape}, but those of {train.folder} are "
                f"{train.frame_shape}"
            )
    empty = set(range(len(train.classes))) - set(train.labels.tolist())
    if empty:
        more = f", and of {len(empty) - 1} more" if len(empty) > 1 else ""
        raise ValueError(
            f"{train.folder}: no video to train on of {train.classes[min(empty)]}{more}"
        )
    parts = {"train": train, "validation": validation, "test": test}
    manifests = {name: records.Manifest.load(part.folder) for name, part in parts.items()}
    return Data(
        train,
        validation,
        test,
        {
            "kind": f"records, {manifests['train'].kind}, labelled",
            "source": str(config.data.records),
            **records.fingerprints(manifests),
            "parts": {name: {"videos": len(part)} for name, part in parts.items()},
            # How the frames were made, which is needed to make those of other videos.
            "made_of": manifests["train"].source,
        },
    )


def take_architecture(config: ConfigDict, init: TrainedModel | None) -> None:
    """Copies the architecture of a pretrained encoder into `config.model`."""
    if init is None:
        return
    for name in fields.OF_ENCODER:
        config.model[name] = init.config.model[name]


def start(
    config: ConfigDict, data: Data, init: TrainedModel | None, scale: float | None = None
) -> tuple[Classifier, list[str]]:
    """Returns (the classifier at step 0, the names of the arrays copied from the encoder).

    Args:
        scale: the divisor of the frames, without an encoder; None for their `standard_deviation`.

    Raises:
        ValueError: the encoder reads frames of another shape.
    """
    videos = data.train
    if init is not None and tuple(init.frame_shape) != tuple(videos.frame_shape):
        raise ValueError(
            f"{init.path} reads frames of {tuple(init.frame_shape)}, those of {videos.folder} are "
            f"{tuple(videos.frame_shape)}: give it percepts of the CNN that it was pretrained on"
        )
    if scale is None:
        scaled = config.model.frame_scaling and init is None
        scale = standard_deviation(videos, config.data.frames) if scaled else 1.0
    classifier = experiment.build_classifier(config, videos.classes, videos.frame_shape, scale)
    if init is None:
        return classifier, []
    return classifier, classifiers.copy_encoder(cast(VideoModel, init.model), classifier)


def standard_deviation(videos: LabelledVideos, frames: int) -> float:
    """Returns the standard deviation of all values of up to 500 windows with random starts."""
    windows = next(iter(videos.training(frames, min(500, len(videos)), seed=0)))
    return float(tf.math.reduce_std(windows["frames"]))


class Finetuning(Task):
    """Trains a classifier with the cross entropy of the video's label at every step."""

    unit = "(nats/step, %)"

    def __init__(self, config: ConfigDict, classifier: Classifier, data: Data):
        fields.check_reduction(config)
        self.config = config
        self.classifier = classifier
        self.data = data
        self.network = classifier.network
        self.reduction = config.recipe.batch_reduction

    def write(self, workdir):
        experiment.write_classes(workdir.path, self.classifier.classes)

    def train(self, start, share):
        config = self.config
        return self.data.train.training(
            config.data.frames, config.recipe.batch_size, config.seed, start, share
        )

    def losses(self, batch):
        logits = self.network(batch["frames"], training=True)
        loss = classifiers.step_cross_entropy(batch["label"], logits)
        hits = tf.equal(tf.argmax(logits, -1), batch["label"][:, None])
        accuracy = 100 * tf.reduce_mean(tf.cast(hits, tf.float32))
        figures = {"cross_entropy": loss, "step_accuracy": accuracy}
        if self.reduction == "sum":
            loss *= tf.cast(tf.shape(logits)[0], loss.dtype)
        return loss, figures

    def validate(self, shared):
        return self._scores(self.data.validation, shared)

    def test(self):
        """Returns {"videos": N, "scores": `Predictions.figures`} for the test videos."""
        return {"videos": len(self.data.test), "scores": self._scores(self.data.test)}

    def _scores(self, videos: LabelledVideos, shared: Shared = alone):
        form = self.config.data.frames, self.config.data.stride, self.config.eval.batch_size
        parts = shared(
            lambda batches: steps(self.classifier, videos.blocks(*form, batches)),
            videos.block_batches(*form),
        )
        return predictions(parts, len(videos)).figures(videos.labels)

    def score(self, figures):
        return error(figures)


def table(results: dict) -> str:
    """Returns the results as text."""
    scores = results["scores"]
    return "\n".join(
        [
            f"test part, {results['videos']:,} videos, checkpoint of step {results['step']}",
            f"  accuracy of videos   {scores['video_accuracy']:6.1f} %",
            f"  accuracy of windows  {scores['window_accuracy']:6.1f} %",
            *overlap.notes(results.get("seen"), results["videos"]),
        ]
    )


def check_fits(classifier: Classifier, videos: LabelledVideos) -> None:
    """Raises ValueError if a classifier cannot read these videos, or has other classes."""
    dim = classifier.network.input_shape[-1]
    if int(np.prod(videos.frame_shape)) != dim:
        raise ValueError(
            f"{videos.folder}: frames of {videos.frame_shape}, but the classifier reads percepts "
            f"of {dim} numbers: give it those of the CNN that it was trained on"
        )
    if tuple(videos.classes) != classifier.classes:
        unknown = [name for name in videos.classes if name not in classifier.classes]
        raise ValueError(
            f"{videos.folder} has {len(videos.classes)} classes, the classifier "
            f"{len(classifier.classes)}: "
            + (
                f"it does not know {', '.join(unknown[:5])}"
                if unknown
                else f"{', '.join(videos.classes)} there, {', '.join(classifier.classes)} here"
            )
        )
