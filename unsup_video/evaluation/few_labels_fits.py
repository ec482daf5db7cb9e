"""Trains the classifiers of `few_labels`: many short trainings with one compiled step."""

import functools
import time

import keras
import tensorflow as tf

from unsup_video.data import splits
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.evaluation import few_labels, short_trainings
from unsup_video.models.classification import classify
from unsup_video.training import loop, trained
from unsup_video.training.tasks import finetuning


class Fits:
    """Trains one contender on random subsets, with one number of labelled videos per class.

    Args:
        settings: a `few_labels.Settings`. contender: one of `settings.contenders()`.
        per_class: number of videos per class; 0 for all.

    Raises:
        ValueError: the data or models do not fit.
    """

    def __init__(self, settings, contender: str, per_class: int):
        tf.config.experimental.enable_op_determinism()
        self.settings = settings
        self.per_class = per_class
        self.config = few_labels.contender_config(settings, contender)
        init = settings.pretrained.get(settings.classifier(contender)[1])
        self.init = trained.load(init["path"]) if init else None
        if self.init and self.init.sha256 != init["sha256"]:
            raise ValueError(f"{init['path']} was trained further since this study began")
        quiet = functools.partial(finetuning.videos, self.config, log=lambda text: None)
        length = self.config.data.frames
        self.train, self.validation = quiet("train", length), quiet("validation", length)
        self.test_part = quiet("test")
        self.labelled = _together(self.train, self.validation)
        self.train.check_count(per_class or 1)
        # One scale for all subsets: one or two videos are too few to estimate it from.
        self.scale = finetuning.standard_deviation(self.train, length)
        self.trainings = short_trainings.ShortTrainings()

    def search(self, rate: float, dropout: float, subset: int) -> dict:
        """Trains on a subset of the training split and scores on the validation split.

        Returns:
            The figures; {"diverged": True, "why": a sentence} where training diverges.
        """
        return self._fit(rate, dropout, subset, self.train, self.validation)

    def test(self, rate: float, dropout: float, subset: int) -> dict:
        """Trains on a subset of the training and validation splits and scores on the test split.

        Where these splits are separate data sets, the subset is from the training split only.

        Returns what `search` returns.
        """
        return self._fit(rate, dropout, subset, self.labelled, self.test_part)

    def _fit(self, rate, dropout, subset, pool, judge):
        try:
            return self._trained(rate, dropout, subset, pool, judge)
        except loop.NonFiniteLoss as error:
            return {"diverged": True, "why": str(error)}

    def _trained(self, rate, dropout, subset, pool, judge):
        began = time.perf_counter()
        videos = pool
        if self.per_class:
            few = splits.few(pool.labels, self.per_class, self.settings.seed + subset)
            videos = pool.subset(few)
        config = few_labels.fit_config(
            self.settings, self.config, len(videos), rate, dropout, subset
        )

        # The same seed gives every contender the same initial softmax and the same windows.
        keras.utils.set_random_seed(config.seed)
        data = finetuning.Data(videos, judge, judge, {})
        fresh, _ = finetuning.start(config, data, self.init, self.scale)
        task = finetuning.Finetuning(config, fresh, data)
        trainer = self.trainings.train(config, task, form=dropout)
        blocks = judge.blocks(config.data.frames, config.data.stride)
        figures = classify(trainer.task.classifier, blocks, len(judge)).figures(judge.labels)
        return {
            "accuracy": figures["video_accuracy"],
            "cross_entropy": figures["video_cross_entropy"],
            "window_accuracy": figures["window_accuracy"],
            "videos": len(videos),
            "steps": config.train.steps,
            "loss": trainer.interval_means()["cross_entropy"],
            "seconds": round(time.perf_counter() - began, 2),
        }


def _together(train, validation):
    """Returns the videos of both splits; those of `train` if the splits are separate data sets."""
    if train.folder != validation.folder:
        return train
    return LabelledVideos(train.folder, train.chosen | validation.chosen)
