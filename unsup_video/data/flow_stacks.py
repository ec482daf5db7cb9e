"""Stacks of optical flow with the class of their video, from data sets of `data_prep.flow`.

A stack is (size, size, 2 L) float32 in pixels per frame: a crop of L consecutive flows, as channels
u1, v1, u2, v2, .. (Simonyan & Zisserman 2014, section 3.1). In records of single flows, a stack may
start at any flow; records of stacks contain one stack per frame.
"""

import dataclasses
from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import records, sources, splits, windows
from unsup_video.data.frames import Frames
from unsup_video.data.shares import WHOLE, Share
from unsup_video.utils.indices import evenly_spread


@dataclasses.dataclass(frozen=True)
class Form:
    """The form of a CNN's input.

    Attributes:
        size: of the square crop in pixels. stack: number of flows, L.
        subtract_mean: subtract the mean vector of every flow, which camera motion mostly causes;
            the mean is over the whole field, not the crop. If `data_prep.flow` has subtracted it
            already, this changes only flows that were clipped there.
    """

    size: int
    stack: int
    subtract_mean: bool

    @property
    def channels(self) -> int:
        return 2 * self.stack

    def window(self, folder: str | Path) -> int:
        """Returns how many consecutive frames of a data set make a stack: L, or 1.

        Raises:
            ValueError: the frames are no flow, are smaller than the crop, or are stacks of another
                length.
        """
        height, width, channels = flow_manifest(folder).frame_shape
        if min(height, width) < self.size:
            raise ValueError(
                f"{folder}: flow of {height}x{width} is smaller than the CNN's input of "
                f"{self.size}x{self.size}; write it larger (data_prep.flow --size=240x320 for "
                "224x224), or give a smaller config.model.size"
            )
        if channels not in (2, self.channels):
            raise ValueError(
                f"{folder} holds stacks of {channels // 2} flows, the CNN reads {self.stack}: give "
                f"config.data.stack={channels // 2}, or records of single flows, which make stacks "
                "of any length"
            )
        return self.stack if channels == 2 else 1


def flow_manifest(folder: str | Path) -> records.Manifest:
    """Returns the manifest of a data set of flow.

    Raises:
        FileNotFoundError, ValueError: there is none, or the data set holds something else.
    """
    manifest = records.Manifest.load(folder)
    if manifest.kind != "flow" or len(manifest.frame_shape) != 3:
        raise ValueError(
            f"{folder} holds {manifest.kind} of {records.format_shape(manifest.shape)}, no "
            "optical flow; python -m data_prep.flow makes it"
        )
    return manifest


def cropped(flows: tf.Tensor, form: Form, top=None, left=None) -> tf.Tensor:
    """Crops flows, (n, H, W, C) float32 -> (n, size, size, C), after subtracting the mean if asked.

    Args:
        top, left: of the crop, the same for all n; None for the centre.
    """
    height, width, channels = flows.shape[1:]
    if form.subtract_mean:
        flows = flows - tf.reduce_mean(flows, axis=(1, 2), keepdims=True)
    top = (height - form.size) // 2 if top is None else top
    left = (width - form.size) // 2 if left is None else left
    crop = flows[:, top : top + form.size, left : left + form.size]
    return tf.ensure_shape(crop, (None, form.size, form.size, channels))


def mirrored(flows: tf.Tensor) -> tf.Tensor:
    """Mirrors flows, (.., W, C): reverses their columns and negates u."""
    sign = tf.constant([-1.0, 1.0] * (flows.shape[-1] // 2))
    return tf.reverse(flows, axis=[-2]) * sign


def stacked(flows: tf.Tensor) -> tf.Tensor:
    """Stacks consecutive flows as channels: (.., n, H, W, C) -> (.., H, W, n * C)."""
    rank = len(flows.shape)
    first = list(range(rank - 4))
    n, height, width, channels = flows.shape[-4:]
    moved = tf.transpose(flows, first + [rank - 3, rank - 2, rank - 4, rank - 1])
    return tf.reshape(moved, [*tf.unstack(tf.shape(flows))[:-4], height, width, n * channels])


def form(config: ConfigDict) -> Form:
    """Returns the form of the input of the CNN of `config`."""
    return Form(config.model.size, config.data.stack, config.data.subtract_mean)


class Stacks:
    """The data of a run, which `config.data` describes; its splits are those of `sources.split`.

    Attributes:
        form: of a stack. classes: names of the labels.
        labels: for each split (N,) int32, those of the videos that are not too short, in order.
        description: what the data is, for people and for run.json.

    Raises:
        FileNotFoundError, ValueError: the flow is missing, damaged, without classes, or does not
            fit `config`; a video has no label.
    """

    def __init__(self, config: ConfigDict):
        data = config.data
        if not data.records:
            raise ValueError(
                "config.data.records is missing: the optical flow to train on. From videos in a "
                "folder for each class: python -m data_prep.flow --videos=FOLDER --out=data/flow, "
                "then --config.data.records=data/flow"
            )
        self.form = form(config)
        self._seed, self._per_video = config.seed, data.stacks_per_video or None
        self._parts = parts = {name: sources.split(config, name) for name in splits.SPLITS}
        self._sizes = {name: self.form.window(part.folder) for name, part in parts.items()}
        self._labels = {name: _labels(part) for name, part in parts.items()}
        self.classes = _classes(parts)
        self._starts = {
            name: _evaluation_starts(name, part, self._sizes[name], config.eval.stacks_per_video)
            for name, part in parts.items()
        }
        self._frames = Frames(parts["train"].folder, parts["train"].chosen, data.shuffle_mb << 20)
        self.labels = {
            name: self._labels[name][np.unique(self._starts[name][:, 0])] for name in splits.SPLITS
        }
        self.description = {
            "kind": f"{len(self.classes)} classes of optical flow, stacks of {self.form.stack}",
            "source": str(data.records),
            **records.fingerprints(
                {name: records.Manifest.load(part.folder) for name, part in parts.items()}
            ),
            "parts": {
                name: _size(part, self._sizes[name], self._starts[name])
                for name, part in parts.items()
            },
        }

    def train(self, batch_size: int, start: int, share: Share = WHOLE) -> tf.data.Dataset:
        """Returns an endless stream of random crops, half of them mirrored.

        Args:
            batch_size: stacks per whole batch. start: number of stacks already consumed.
            share: of every batch, the rows to make.

        Returns:
            Batches of {"stack": (B, size, size, 2 L) float32, "label": (B,) int32} of the B rows of
            the share.

        Raises:
            ValueError: the batch cannot be divided into such shares.
        """
        size = self._sizes["train"]
        stream = windows.training(
            self._frames, size, self._seed, start, self._per_video, batch_size, share
        )
        augment = _augmentation(
            self.form, size, self._frames.manifest.frame_shape, self._seed, self._labels["train"]
        )
        numbers = share.numbers(batch_size, start).unbatch()
        stacks = tf.data.Dataset.zip(numbers, stream).map(
            augment, num_parallel_calls=tf.data.AUTOTUNE
        )
        return stacks.batch(share.size(batch_size), drop_remainder=True).prefetch(2)

    def evaluation_batches(self, split: str, batch_size: int) -> int:
        """Returns the number of batches of `evaluation`."""
        return -(-len(self._starts[split]) // batch_size)

    def evaluation(
        self, split: str, batch_size: int, batches: range | None = None
    ) -> tf.data.Dataset:
        """Returns centre crops: `config.eval.stacks_per_video` of every video, evenly spaced.

        Args:
            batches: consecutive numbers of the batches to read; None for all.

        Returns:
            Batches of {"stack": (B, size, size, 2 L) float32, "sequence": (B,) int64, the index of
            the video, "first": (B,) int64, the index of the first flow}.
        """
        folder, size = self._parts[split].folder, self._sizes[split]
        frame_shape = records.Manifest.load(folder).frame_shape

        def centre(window):
            flows = tf.reshape(window["frames"], (size, *frame_shape))
            return {
                "stack": stacked(cropped(flows, self.form)),
                "sequence": window["sequence"],
                "first": window["first"],
            }

        starts = self._starts[split]
        if batches is not None:
            starts = starts[batches.start * batch_size : batches.stop * batch_size]
        stacks = windows.at(folder, size, starts)
        stacks = stacks.map(centre, num_parallel_calls=tf.data.AUTOTUNE)
        return stacks.batch(batch_size).prefetch(2)


def _classes(parts):
    classes_of = {name: records.Manifest.load(part.folder).classes for name, part in parts.items()}
    for name, classes in classes_of.items():
        if len(classes) < 2:
            raise ValueError(
                f"{parts[name].folder} has {len(classes)} classes, two at least are needed: write "
                "the flow of videos that are in a folder for each class, or have labels in a list"
            )
        if classes != classes_of["train"]:
            raise ValueError(
                f"{parts[name].folder}: its classes are not those of {parts['train'].folder}"
            )
    return classes_of["train"]


def _labels(part):
    """Returns the class of every video of a split, -1 for other videos: (count,) int32."""
    entries = records.load_index(part.folder)
    if not entries:
        raise ValueError(f"{part.folder}: its sequences have no names, and so no labels")
    labels = np.array([entry.label for entry in entries], np.int32)
    chosen = part.mask(len(entries))
    without = np.flatnonzero(chosen & (labels < 0))
    if len(without):
        raise ValueError(
            f"{part.folder}: {len(without):,} videos have no label, such as "
            f"{entries[without[0]].name}; write the flow of labelled videos alone"
        )
    return np.where(chosen, labels, -1).astype(np.int32)


def _evaluation_starts(name, part, window, count):
    """Returns the starts of up to `count` windows of each video, evenly spaced: (N, 2)."""
    try:
        starts = windows.starts(part.folder, window, stride=1, chosen=part.chosen)
    except ValueError as error:
        raise ValueError(f"{error}: nothing for {name}") from None
    firsts = np.flatnonzero(np.diff(starts[:, 0])) + 1  # of the next video
    return np.concatenate(
        [of_video[evenly_spread(count, len(of_video))] for of_video in np.split(starts, firsts)]
    )


def _size(part, window, starts):
    """Counts the videos, those too short for a stack, and the stacks for evaluation."""
    videos, too_short = part.counts(window)
    return {"videos": videos, "too_short": too_short, "evaluation_stacks": len(starts)}


def _augmentation(shape, window, frame_shape, seed, labels):
    """Returns a function (number, window) -> a random crop of a stack, maybe mirrored.

    The crop and the mirroring depend on the seed and the number alone.
    """
    labels_of = tf.constant(labels)
    last = [n - shape.size for n in frame_shape[:2]]

    def augment(number, element):
        key = tf.stack([tf.constant(seed, tf.int64), number])
        draw = tf.random.stateless_uniform([3], key)
        top, left = (tf.cast(draw[i] * (last[i] + 1), tf.int32) for i in range(2))
        flows = tf.reshape(element["frames"], (window, *frame_shape))
        flows = cropped(flows, shape, top, left)
        flows = tf.cond(draw[2] < 0.5, lambda: mirrored(flows), lambda: flows)
        return {"stack": stacked(flows), "label": labels_of[element["sequence"]]}

    return augment
