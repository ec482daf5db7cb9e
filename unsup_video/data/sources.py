"""The clips that a run trains, validates and tests on, (B, T, D) float32, from its config."""

import abc
import functools
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, records, splits, windows
from unsup_video.data.frames import Frames
from unsup_video.data.shares import WHOLE, Share
from unsup_video.models import outputs, video_models
from unsup_video.utils.indices import evenly_spread


class Source(abc.ABC):
    """The data of one run.

    Attributes:
        frame_shape: (H, W), (H, W, C), or (D,) of features. D is its product.
        description: what the data is and where it comes from, for people and for run.json.
    """

    frame_shape: tuple[int, ...]
    description: dict

    @abc.abstractmethod
    def train(self, batch_size: int, start: int, share: Share = WHOLE) -> tf.data.Dataset:
        """Returns an endless stream of (B, T, D) float32.

        Args:
            batch_size: number of clips per whole batch. start: number of clips already consumed.
            share: of every batch, the rows to make; B is their number.

        Raises:
            ValueError: the batch cannot be divided into such shares.
        """

    @abc.abstractmethod
    def evaluation(self, split: str, count: int) -> np.ndarray:
        """Returns (count, T, D) float32, always the same clips, fewer if the split has fewer.

        Args:
            split: "validation" or "test".
        """

    @functools.cached_property
    def _statistics(self):
        clips = next(iter(self.train(500, start=0))).numpy()
        return clips.mean(axis=(0, 1), dtype=np.float64).astype(np.float32), float(clips.std())

    @property
    def mean_frame(self) -> np.ndarray:
        """(D,): the mean of the first 500 training clips."""
        return self._statistics[0]

    @property
    def standard_deviation(self) -> float:
        """The standard deviation of all values of the first 500 training clips."""
        return self._statistics[1]


def to_frames(clips):
    """(B, T, H, W[, C]) uint8 -> (B, T, D) float32 in [0, 1]."""
    shape = tf.shape(clips)
    dim = int(np.prod(clips.shape[2:]))
    return tf.reshape(tf.cast(clips, tf.float32) * records.UNIT, (shape[0], clips.shape[1], dim))


def collect(batches: tf.data.Dataset) -> np.ndarray:
    """Concatenates uint8 batches into (N, T, D) float32."""
    return np.concatenate(list(batches.map(to_frames).as_numpy_iterator()))


def generator(config: ConfigDict) -> moving_mnist.MovingMnist:
    """Returns the generator of Moving MNIST that `config.data` describes."""
    data = config.data
    return moving_mnist.MovingMnist(
        num_digits=data.num_digits,
        frame_size=data.frame_size,
        num_frames=data.frames_in + data.frames_out,
        speed=(data.speed_min, data.speed_max),
        bounce=data.bounce,
    )


class MovingMnistSource(Source):
    """Generates training clips without end, and evaluation clips from digits never trained on."""

    def __init__(self, config: ConfigDict):
        self.frame_shape = (config.data.frame_size, config.data.frame_size)
        self._data, self._seed = config.data, config.seed
        self._params = generator(config)
        self._images: dict[str, digits.Digits] = {}
        self.description = {
            "kind": "Moving MNIST, generated",
            "source": self._digits("train").source,
            "sha256": {split: self._digits(split).sha256 for split in digits.SPLITS},
        }

    def train(self, batch_size, start, share=WHOLE):
        return self._batches("train", batch_size, start, share=share).map(to_frames).prefetch(2)

    def evaluation(self, split, count):
        return collect(self._batches(split, 100, count=count))

    def _digits(self, split):
        if split not in self._images:
            data = self._data
            self._images[split] = digits.load_digits(
                split, data.digits_dir or None, data.digits_source
            )
        return self._images[split]

    def _batches(self, split, batch_size, start=0, count=None, share=WHOLE):
        images, stream = self._digits(split).images, moving_mnist.stream_seed(self._seed, split)
        return moving_mnist.batches(images, self._params, stream, batch_size, start, count, share)


@dataclass(frozen=True)
class Split:
    """A training, validation or test split on disk.

    Attributes:
        folder: the data set. chosen: (count,) bool, True for its sequences in the split; None for
            all.
    """

    folder: Path
    chosen: np.ndarray | None = None

    def mask(self, count: int) -> np.ndarray:
        """Returns `chosen`, also if it is all of the `count` sequences."""
        return np.ones(count, bool) if self.chosen is None else self.chosen

    def counts(self, length: int) -> tuple[int, int]:
        """Counts the sequences of the split, and those too short for a window of `length`."""
        short = windows.too_short(self.folder, length)
        mask = self.mask(len(short))
        return int(mask.sum()), int((short & mask).sum())


def split(config: ConfigDict, name: str) -> Split:
    """Returns the split "train", "validation" or "test" of `config.data.records`.

    The records are either a folder of three data sets with these names, or one data set, which
    `splits.choose` divides: by the official split `config.data.split`, or by groups if that is 0.

    Raises:
        FileNotFoundError, ValueError: the data set is missing, or cannot be divided in this way.
    """
    folder = Path(config.data.records)
    official = config.data.split
    if not records.exists(folder):
        if not records.exists(folder / name):
            relative = "" if folder.is_absolute() else f" (a path from {Path.cwd()})"
            raise FileNotFoundError(
                f"config.data.records={folder}{relative}: there is no data set, and none in "
                f"{folder / name}. "
                f"From videos: python -m data_prep.percepts --videos=FOLDER --out={folder}, or "
                "data_prep.frames, data_prep.patches or data_prep.flow; docs/data.md has the other "
                "ways"
            )
        if official:
            raise ValueError(
                f"config.data.split={official} does not go with {folder}, which is divided already"
            )
        return Split(folder / name)
    entries = records.load_index(folder)
    if not entries:
        raise ValueError(
            f"config.data.records={folder}: its sequences have no names, so it cannot be divided; "
            f"give a folder that contains {', '.join(f'{name}/' for name in splits.SPLITS)}"
        )
    return Split(folder, splits.choose(entries, name, official))


class RecordsSource(Source):
    """Cuts windows from the splits on disk; evaluation windows are spread evenly over a split.

    Args:
        parts: "train", "validation" and "test", where they are not those that `config.data` names.
    """

    def __init__(self, config: ConfigDict, parts: dict[str, Split] | None = None):
        data = config.data
        self._seed = config.seed
        self._length = length = data.frames_in + data.frames_out
        parts = parts or {name: split(config, name) for name in splits.SPLITS}
        self._parts = parts
        manifests = {name: records.Manifest.load(part.folder) for name, part in parts.items()}
        for name, manifest in manifests.items():
            made_for = manifest.source.get("split") if "generator" in manifest.source else None
            if parts[name].chosen is None and made_for not in (None, name):
                raise ValueError(
                    f"{parts[name].folder} was generated from {made_for} digits, so it is not for "
                    f"{name}; write it again: python -m data_prep.moving_mnist --split={name}"
                )
        self._starts = {name: _window_starts(name, part, length) for name, part in parts.items()}
        self.frame_shape = manifests["train"].frame_shape
        for name, manifest in manifests.items():
            if manifest.frame_shape != self.frame_shape:
                raise ValueError(
                    f"{parts[name].folder}: frames of {manifest.frame_shape}, but those of "
                    f"{parts['train'].folder} are {self.frame_shape}"
                )
        self._frames = Frames(parts["train"].folder, parts["train"].chosen)
        for decoder, name in video_models.output_names(config.model).items():
            field = f"output_{decoder}" if config.model.get(f"output_{decoder}") else "output"
            if np.isfinite(outputs.get(name).limits).any():
                _check_limits(self.evaluation("train", 100), name, field, data.records)
        self.description = {
            "kind": f"records, {manifests['train'].kind}",
            "source": str(data.records),
            "made_of": manifests["train"].source,
            **records.fingerprints(manifests),
            "parts": {n: _size(part, length, self._starts[n]) for n, part in parts.items()},
        }

    def train(self, batch_size, start, share=WHOLE):
        stream = windows.training(
            self._frames, self._length, self._seed, start, batch_size=batch_size, share=share
        )
        clips = stream.map(lambda window: window["frames"])
        return clips.batch(share.size(batch_size), drop_remainder=True).prefetch(2)

    def evaluation(self, split, count):
        starts = self._starts[split]
        chosen = evenly_spread(count, len(starts))
        return read(self._parts[split].folder, self._length, starts[chosen])


def _window_starts(name, split, length):
    try:
        return windows.starts(split.folder, length, chosen=split.chosen)
    except ValueError as error:
        raise ValueError(
            f"{error}: nothing for {name} (frames are data.frames_in + data.frames_out)"
        ) from None


def _size(split, length, starts):
    """Counts the sequences, those too short for a window, and the windows side by side."""
    sequences, too_short = split.counts(length)
    return {"sequences": sequences, "too_short": too_short, "windows": len(starts)}


def read(folder: str | Path, length: int, starts: np.ndarray) -> np.ndarray:
    """Reads the windows of a data set that begin at `starts`, as (N, length, D) float32."""
    clips = windows.at(folder, length, starts).map(lambda window: window["frames"])
    return np.concatenate(list(clips.batch(100).as_numpy_iterator()))


def _check_limits(clips, output, field, folder):
    (low, high), smallest, largest = outputs.get(output).limits, clips.min(), clips.max()
    if smallest < low or largest > high:
        raise ValueError(
            f"config.data.records={folder}: values from {smallest:.3g} to {largest:.3g}, but "
            f"config.model.{field}={output} is for values in [{low:g}, {high:g}]; "
            f"--config.model.{field}=linear has a squared loss of any values"
        )


def build(config: ConfigDict) -> Source:
    """Builds the source that `config.data` describes.

    Raises:
        ValueError, FileNotFoundError: the data is missing, damaged, or too short.
    """
    if config.data.records:
        return RecordsSource(config)
    return MovingMnistSource(config)
