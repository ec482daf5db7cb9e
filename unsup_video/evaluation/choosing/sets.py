"""The labelled videos of several data sets of percepts."""

import dataclasses
import hashlib
import json
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unsup_video.data import records, splits
from unsup_video.data.labelled_videos import LabelledVideos


@dataclasses.dataclass(frozen=True, eq=False)
class Sets:
    """The N labelled videos that all data sets have, in the same order in each.

    Attributes:
        videos: name of a set -> its videos.
        names, labels (N,), groups (N,): of the videos; groups are numbers.
        classes: names of the classes.
        left_out: name of a set -> the number of its labelled videos that another set lacks.
    """

    videos: dict[str, LabelledVideos]
    names: tuple[str, ...]
    labels: np.ndarray
    groups: np.ndarray
    classes: tuple[str, ...]
    left_out: dict[str, int]

    def __len__(self):
        return len(self.names)

    @property
    def fingerprint(self) -> str:
        """The sha256 of names, labels and groups of the videos."""
        rows = zip(self.names, self.labels.tolist(), self.groups.tolist(), strict=True)
        return hashlib.sha256(json.dumps([*rows]).encode()).hexdigest()

    @property
    def fingerprints(self) -> dict[str, str]:
        """Name of a set -> the fingerprint of its data set."""
        return {
            name: records.Manifest.load(videos.folder).fingerprint
            for name, videos in self.videos.items()
        }


def load(folders: Mapping[str, str | Path], split: int | None = None) -> Sets:
    """Loads the labelled videos that all data sets have.

    Args:
        folders: name of a set -> the folder of its data set.
        split: number of the official split whose test videos are left alone; 0 for all videos; None
            where the data sets have no official splits.

    Raises:
        FileNotFoundError, ValueError: a data set is missing, damaged, has no labels or no such
            split; or the sets do not agree on the classes, labels, groups or order of the videos.
    """
    if not folders:
        raise ValueError("no data set of percepts is given")
    entries = {name: records.load_index(folder) for name, folder in folders.items()}
    usable = {name: _usable(folders[name], own, split) for name, own in entries.items()}
    shared = set.intersection(*map(set, usable.values()))
    if not shared:
        raise ValueError(f"no labelled video is in all of {', '.join(map(str, folders.values()))}")
    videos = {
        name: LabelledVideos(
            folder, np.array([e.name in shared and e.name in usable[name] for e in entries[name]])
        )
        for name, folder in folders.items()
    }
    first, *others = videos.values()
    for other in others:
        _check_same(first, other)
    return Sets(
        videos,
        first.names,
        first.labels,
        first.groups,
        first.classes,
        {name: len(own) - len(shared) for name, own in usable.items()},
    )


def _usable(folder, entries, split):
    """Returns the names of the labelled videos outside of the split's test list."""
    official = min((len(entry.splits) for entry in entries), default=0)
    if official and split is None:
        raise ValueError(
            f"{folder} has official splits: --split=1 to --split={official} leaves the test videos "
            "of that one alone; --split=0 uses all videos, such as those divided by --folds"
        )
    split = split or 0
    if split > official:
        raise ValueError(
            f"--split={split}: {folder} has "
            + (f"the official splits 1 to {official}" if official else "no official splits")
        )
    names = {
        entry.name
        for entry in entries
        if entry.label >= 0 and (not split or entry.splits[split - 1] == splits.TRAIN)
    }
    if not names:
        raise ValueError(
            f"{folder}: no video has a label. Sub-folders of videos are classes, and lists have "
            "labels: docs/data.md"
        )
    return names


def _check_same(first, other):
    """Raises ValueError if two data sets do not say the same of their videos."""
    where = f"{first.folder} and {other.folder}"
    if first.classes != other.classes:
        raise ValueError(
            f"{where}: the classes {', '.join(first.classes)} and {', '.join(other.classes)}"
        )
    if first.names != other.names:
        raise ValueError(f"{where} hold their videos in another order: make them from one list")
    for what in ("labels", "groups"):
        differ = np.flatnonzero(getattr(first, what) != getattr(other, what))
        if len(differ):
            raise ValueError(f"{where} have other {what}, such as of {first.names[differ[0]]}")
