"""Labelled videos, read as windows: what classifiers are trained and judged on."""

import functools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.data import records, splits, windows
from unsup_video.data.frames import Frames


class Videos:
    """Some sequences of a data set of data_prep's, all with a label.

    Up to 1 GiB is held in memory, as it is stored; more is read when it is wanted (`Frames`).

    Args:
        folder: the data set. chosen: (count,) bool, which sequences.

    Attributes:
        chosen: as given. indices: (N,) int64, of these sequences in the data set, ascending.
        names, labels, lengths: N names, classes (N,) int64 and numbers of frames (N,) int64.
        groups: (N,) int64, of the videos: equal numbers, one group (see `splits.numbered_groups`).
        classes: names of the data set's classes. frame_shape: (D,) or that of a picture.

    Raises:
        FileNotFoundError, ValueError: no data set, a damaged one, one without names or classes; a
            chosen sequence without a label; nothing chosen.
    """

    def __init__(self, folder: str | Path, chosen: np.ndarray):
        self.folder = Path(folder)
        manifest = records.Manifest.load(folder)
        entries = records.load_index(folder)
        if not entries or not manifest.classes:
            raise ValueError(
                f"{folder}: its sequences have no labels. Sub-folders of videos are classes, and "
                "lists have labels: docs/data.md"
            )
        self.indices = np.flatnonzero(chosen)
        if not len(self.indices):
            raise ValueError(f"{folder}: none of its {len(entries)} videos is chosen")
        found = [entries[i] for i in self.indices]
        if unlabelled := [entry.name for entry in found if entry.label < 0]:
            raise ValueError(f"{folder}: {unlabelled[0]} has no label")
        self.names = tuple(entry.name for entry in found)
        self.labels = np.array([entry.label for entry in found])
        self.lengths = np.array([entry.frames for entry in found])
        self.groups = splits.numbered_groups(entries, self.indices)
        self.classes = manifest.classes
        self.frame_shape = manifest.frame_shape
        self.chosen = np.asarray(chosen, bool)

    def __len__(self):
        return len(self.indices)

    def subset(self, which: np.ndarray) -> "Videos":
        """Some of these videos, (N,) bool; what is held in memory is shared.

        Raises:
            ValueError: none of them.
        """
        chosen = np.zeros_like(self.chosen)
        chosen[self.indices[which]] = True
        found = Videos(self.folder, chosen)
        found._frames = self._frames.subset(chosen)
        return found

    @functools.cached_property
    def _frames(self):
        return Frames(self.folder, self.chosen)

    def training(self, length: int, batch_size: int, seed: int, start: int = 0) -> tf.data.Dataset:
        """`windows.training` of these videos, with their labels: every window is as likely.

        What comes is a function of `seed` and the number of the example.

        Args:
            length: frames of a window. start: number of examples already consumed.

        Returns:
            Batches {"frames": (B, T, D) float32, "label": (B,) int64}.

        Raises:
            ValueError: a video is shorter than a window.
        """
        if (self.lengths < length).any():
            short = self.names[int(np.argmin(self.lengths))]
            raise ValueError(f"{self.folder}: {short} has fewer than {length} frames")
        label_of = np.zeros(len(self.chosen), np.int64)
        label_of[self.indices] = self.labels
        label_of = tf.constant(label_of)
        found = windows.training(self._frames, length, seed, start)
        return (
            found.map(lambda x: {"frames": x["frames"], "label": label_of[x["sequence"]]})
            .batch(batch_size, drop_remainder=True)
            .prefetch(2)
        )

    def blocks(
        self, length: int, stride: int, batch_size: int = 100
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Every block of `length` frames at `stride`; a shorter video is one block by itself.

        Yields:
            (frames (B, T, D) float32, the blocks' videos (B,) as numbers 0..N-1, the blocks' first
            frames (B,)); all blocks of a batch have the same T.
        """
        for size in sorted({min(int(n), length) for n in self.lengths}):
            which = self.lengths >= length if size == length else self.lengths == size
            chosen = np.isin(np.arange(len(self.chosen)), self.indices[which])
            places = windows.places(self.folder, size, stride, chosen)
            if not self._frames.is_held:  # the order on disk is faster than any other
                found = windows.at(self.folder, size, places).batch(batch_size)
                for batch in found.as_numpy_iterator():
                    videos = np.searchsorted(self.indices, batch["sequence"])
                    yield batch["frames"], videos, batch["first"]
                continue
            for start in range(0, len(places), batch_size):
                sequences, firsts = places[start : start + batch_size].T
                frames = [
                    self._block(*place, size) for place in zip(sequences, firsts, strict=True)
                ]
                yield np.stack(frames), np.searchsorted(self.indices, sequences), firsts

    def _block(self, sequence, first, length):
        values, scale = self._frames.read(sequence, first, length)
        return values.reshape(length, -1).astype(np.float32) * scale
