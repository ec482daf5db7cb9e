"""Selects the labelled videos that classifiers are tested on, and checks for training videos."""

import copy
import dataclasses
import functools
from collections.abc import Callable

from unsup_video.data import overlap, sources
from unsup_video.data import records as records_module
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.models import classification
from unsup_video.models.classification import Predictions
from unsup_video.training import precision
from unsup_video.training.tasks import finetuning
from unsup_video.training.trained import TrainedModel


@dataclasses.dataclass(frozen=True, eq=False)
class TestVideos:
    """A classifier and the videos of its test.

    Attributes:
        trained: the classifier. videos: N labelled videos.
        part: "test", "validation" or "train". split: the official split, 0 without one.
        seen: {"train": n, "validation": n}, the numbers of videos that are also in the run's
            training and validation splits, and "pretraining" if its encoder was pretrained; each
            may be "unknown". See `overlap`.
    """

    __test__ = False  # tells pytest that this class is not a test

    trained: TrainedModel
    videos: LabelledVideos
    part: str
    split: int
    seen: dict[str, int | str]

    @functools.cached_property
    def classified(self) -> Predictions:
        """The classification of the videos, with block length and stride as in training."""
        data, size = self.trained.config.data, self.trained.config.eval.batch_size
        blocks = self.videos.blocks(data.frames, data.stride, size)
        return classification.classify(self.trained.model, blocks, len(self.videos))

    @property
    def short(self) -> int:
        """The number of videos shorter than a block; each is one block by itself."""
        return int((self.videos.lengths < self.trained.config.data.frames).sum())

    @property
    def label(self) -> str:
        """The text for the column `data`: the part, marked if training has seen any of it."""
        return self.part + (" (seen)" if overlap.is_no_test(self.seen, len(self.videos)) else "")

    @property
    def settings(self) -> dict:
        """The JSON values that the figures depend on besides the weights."""
        config = self.trained.config
        return {
            "data": records_module.Manifest.load(self.videos.folder).fingerprint,
            "split": self.split,
            "part": self.part,
            "videos": len(self.videos),
            "short": self.short,
            "seen": self.seen,
            "frames": config.data.frames,
            "stride": config.data.stride,
            "gemm_dtype": precision.gemm_dtype(config.precision),
        }

    def notes(self) -> list[str]:
        """Returns sentences that a reader of the figures has to know."""
        notes = []
        frames = self.trained.config.data.frames
        if self.short:
            notes.append(
                f"{self.short:,} of the {len(self.videos):,} videos are shorter than a "
                f"window of {frames} frames: "
                "each is read whole, as a single block"
            )
        return notes + overlap.notes(self.seen, len(self.videos))


def select(
    trained: TrainedModel,
    records: str | None = None,
    split: int | None = None,
    part: str = "test",
    log: Callable[[str], None] = print,
) -> TestVideos:
    """Selects the videos to test a classifier on.

    Args:
        records: a data set of data_prep's, or a folder of three; None for that of the run.
        split: official split; None for that of the run, 0 where `records` is divided already.
        part: "train", "validation" or "test", of that split.
        log: gets lines on videos that are left out because they have no label.

    Raises:
        FileNotFoundError, ValueError: the data, part or split does not exist, or its frames or
            classes differ from those of the classifier.
    """
    config = copy.deepcopy(trained.config)
    config.data.records = records or config.data.records
    divided = not records_module.exists(config.data.records)
    config.data.split = (0 if divided else config.data.split) if split is None else split
    videos = finetuning.videos(config, part, log=log)
    finetuning.check_fits(trained.model, videos)
    return TestVideos(trained, videos, part, config.data.split, seen(trained, videos))


def seen(trained: TrainedModel, videos: LabelledVideos) -> dict[str, int | str]:
    """Counts the videos that each split of a run has, too, see `overlap.seen`; reads the videos."""
    contents = overlap.split_contents(sources.Split(videos.folder, videos.chosen))
    return overlap.seen(overlap.run_contents(trained.origin, trained.config), contents)
