"""Classifiers of the package, trained on folds: regression, and LSTMs with and without pretraining.

They are those of `configs.finetune_small`, and their encoders those of `configs.percepts_small`,
which `train.pretrain` and `train.finetune` train in the same way.
"""

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.configs import NO_INIT, finetune_small, percepts_small
from unsup_video.data import sources, splits
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.evaluation.few_labels import LINEAR_FACTOR
from unsup_video.evaluation.short_trainings import ShortTrainings
from unsup_video.models import classifiers
from unsup_video.models.classification import classify
from unsup_video.training import experiment
from unsup_video.training.tasks import finetuning, pretraining

PRETRAINED = "pretrained"
KINDS = ("single_frame", "lstm", PRETRAINED)


def configs(kind: str) -> dict[str, ConfigDict]:
    """Returns the configs that one of `KINDS` is trained with, "classifier" and maybe "encoder"."""
    own, encoder = finetune_small.get_config(), percepts_small.get_config()
    own.model.init = NO_INIT  # the encoder of `PRETRAINED` is copied
    own.model.units, own.model.layers = encoder.model.units, encoder.model.layers
    if kind == "single_frame":
        own.model.kind = kind
        own.recipe.learning_rate *= LINEAR_FACTOR
    return {"classifier": own, **({"encoder": encoder} if kind == PRETRAINED else {})}


class CannotTrain(ValueError):
    """The videos to train on are too short."""


class Networks:
    """Trains classifiers of one kind on subsets of the videos of one data set.

    Args:
        kind: one of `KINDS`. videos: N videos. shrink: changes the configs of classifier and
            encoder in place, for tests with smaller ones.
    """

    def __init__(self, kind: str, videos: LabelledVideos, shrink=lambda config: None):
        tf.config.experimental.enable_op_determinism()
        self.videos = videos
        own = configs(kind)
        for config in own.values():
            shrink(config)
        self.config, self.pretraining = own["classifier"], own.get("encoder")
        self.trainings = ShortTrainings()

    def probabilities(self, train: np.ndarray, test: np.ndarray, seed: int) -> np.ndarray:
        """Trains on some videos and classifies others.

        Args:
            train, test: (N,) bool. Videos to train on that are shorter than a window are left out.
            seed: of the initial weights and the order of the windows.

        Returns:
            (test.sum(), K) float64.

        Raises:
            CannotTrain: no video to train on is as long as a window. NonFiniteLoss: training
                diverged.
        """
        keras.utils.set_random_seed(seed)
        long = self._long(train, self.config.data.frames)
        learn, judge = self.videos.subset(long), self.videos.subset(test)
        own = self.config.copy_and_resolve_references()
        own.seed = seed
        own.recipe.batch_size = min(own.recipe.batch_size, len(learn))
        data = finetuning.Data(learn, judge, judge, {})
        classifier, _ = finetuning.start(own, data, None)
        if self.pretraining is not None:
            classifiers.copy_encoder(self._pretrained(train, seed), classifier)
        task = finetuning.Finetuning(own, classifier, data)
        trained = self.trainings.train(own, task, form=own.recipe.batch_size).task
        blocks = judge.blocks(own.data.frames, own.data.stride)
        return classify(trained.classifier, blocks, len(judge)).probabilities

    def _long(self, train, frames):
        """Returns which of the videos to train on, (N,) bool, have this many frames."""
        long = train & (self.videos.lengths >= frames)
        if not long.any():
            raise CannotTrain(f"no video to train on has {frames} frames")
        return long

    def _pretrained(self, train, seed):
        """Returns a video model that was trained on some videos, without labels."""
        own = self.pretraining.copy_and_resolve_references()
        own.seed = seed
        long = self._long(train, own.data.frames_in + own.data.frames_out)
        part = sources.Split(self.videos.folder, self.videos.subset(long).chosen)
        source = sources.RecordsSource(own, dict.fromkeys(splits.SPLITS, part))
        model = experiment.build_model(
            own, source.frame_shape, source.mean_frame, source.standard_deviation
        )
        task = pretraining.Pretraining(own, model, source)
        return self.trainings.train(own, task, form=PRETRAINED).task.model
