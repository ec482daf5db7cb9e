"""Labelled videos, read as windows, for training and evaluating classifiers."""

import functools
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.data import records, splits, windows
from unsup_video.data.frames import Frames
from unsup_video.data.shares import WHOLE, Share


class LabelledVideos:
    """Sequences chosen from a data set, all of which have a label.

    Up to 1 GiB is held in memory, as stored. Of larger data, windows are read from disk on demand
    (see `Frames`).

    Args:
        folder: the data set. chosen: (count,) bool, True for the sequences to use.

    Attributes:
        chosen: as given. indices: (N,) int64, the indices of the chosen sequences, ascending.
        names: N names. labels: (N,) int64, the classes. lengths: (N,) int64, the frame counts.
        groups: (N,) int64, equal for videos of one group (see `splits.numbered_groups`).
        classes: names of the data set's classes. frame_shape: (D,), or the shape of a picture.

    Raises:
        FileNotFoundError, ValueError: the data set is missing, damaged, or has no names or classes;
            a chosen sequence has no label; nothing is chosen.
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
        used = [entries[i] for i in self.indices]
        if unlabelled := [entry.name for entry in used if entry.label < 0]:
            raise ValueError(f"{folder}: {unlabelled[0]} has no label")
        self.names = tuple(entry.name for entry in used)
        self.labels = np.array([entry.label for entry in used])
        self.lengths = np.array([entry.frames for entry in used])
        self.groups = splits.numbered_groups(entries, self.indices)
        self.classes = manifest.classes
        self.frame_shape = manifest.frame_shape
        self.chosen = np.asarray(chosen, bool)

    def __len__(self):
        return len(self.indices)

    def check_count(self, per_class: int) -> None:
        """Raises ValueError for the first class with fewer than `per_class` videos."""
        for label, name in enumerate(self.classes):
            count = int((self.labels == label).sum())
            if count < per_class:
                raise ValueError(
                    f"{self.folder}: {per_class} labelled videos of each class are needed, but the "
                    f"training split has {count} of {name}"
                )

    def subset(self, which: np.ndarray) -> "LabelledVideos":
        """Returns the videos where `which`, (N,) bool, is True; frames in memory are shared.

        Raises:
            ValueError: no video is chosen.
        """
        chosen = np.zeros_like(self.chosen)
        chosen[self.indices[which]] = True
        videos = LabelledVideos(self.folder, chosen)
        videos._frames = self._frames.subset(chosen)
        return videos

    @functools.cached_property
    def _frames(self):
        return Frames(self.folder, self.chosen)

    def training(
        self, length: int, batch_size: int, seed: int, start: int = 0, share: Share = WHOLE
    ) -> tf.data.Dataset:
        """Returns an endless stream of labelled windows, each equally likely.

        Every example is a function of `seed` and the number of the example (`windows.training`).

        Args:
            length: frames per window. batch_size: examples per whole batch.
            start: number of examples already consumed. share: of every batch, the rows to read.

        Returns:
            Batches {"frames": (B, T, D) float32, "label": (B,) int64} of the B rows of the share.

        Raises:
            ValueError: a video is shorter than a window; the batch cannot be divided into such
                shares.
        """
        if (self.lengths < length).any():
            short = self.names[int(np.argmin(self.lengths))]
            raise ValueError(f"{self.folder}: {short} has fewer than {length} frames")
        label_of = np.zeros(len(self.chosen), np.int64)
        label_of[self.indices] = self.labels
        label_of = tf.constant(label_of)
        stream = windows.training(
            self._frames, length, seed, start, batch_size=batch_size, share=share
        )
        return (
            stream.map(lambda x: {"frames": x["frames"], "label": label_of[x["sequence"]]})
            .batch(share.size(batch_size), drop_remainder=True)
            .prefetch(2)
        )

    def block_batches(self, length: int, stride: int, batch_size: int) -> int:
        """Returns the number of batches that `blocks` yields."""
        return len(self._block_starts(length, stride, batch_size))

    def blocks(
        self, length: int, stride: int, batch_size: int = 100, batches: range | None = None
    ) -> Iterator[tuple[np.ndarray, np.ndarray, np.ndarray]]:
        """Yields every block of `length` frames at `stride`; a shorter video is one block.

        Args:
            batches: consecutive numbers of the batches to read; None for all.

        Yields:
            (frames (B, T, D) float32, the video of each block (B,) as a number from 0 to N - 1, the
            first frame of each block (B,)). All blocks of a batch have the same T.
        """
        wanted = self._block_starts(length, stride, batch_size)
        if batches is not None:
            wanted = wanted[batches.start : batches.stop]
        for size, group in itertools.groupby(wanted, key=lambda batch: batch[0]):
            starts = [starts for _, starts in group]
            if not self._frames.is_held:  # reading in the order on disk is fastest
                read = windows.at(self.folder, size, np.concatenate(starts)).batch(batch_size)
                for batch in read.as_numpy_iterator():
                    videos = np.searchsorted(self.indices, batch["sequence"])
                    yield batch["frames"], videos, batch["first"]
                continue
            for sequences, firsts in (batch.T for batch in starts):
                frames = [
                    self._block(*position, size) for position in zip(sequences, firsts, strict=True)
                ]
                yield np.stack(frames), np.searchsorted(self.indices, sequences), firsts

    def _block_starts(self, length, stride, batch_size):
        """Returns (frames per block, where the blocks start) of every batch of `blocks`."""
        batches = []
        for size in sorted({min(int(n), length) for n in self.lengths}):
            which = self.lengths >= length if size == length else self.lengths == size
            chosen = np.isin(np.arange(len(self.chosen)), self.indices[which])
            starts = windows.starts(self.folder, size, stride, chosen)
            batches += [
                (size, starts[i : i + batch_size]) for i in range(0, len(starts), batch_size)
            ]
        return batches

    def _block(self, sequence, first, length):
        values, scale = self._frames.read(sequence, first, length)
        return values.reshape(length, -1).astype(np.float32) * scale
