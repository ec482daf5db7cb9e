"""The clips that a run trains, validates and tests on, (B, T, D) float32, from its config."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, records, splits, windows
from unsup_video.data.frames import Frames
from unsup_video.models import video_models
from unsup_video.utils.indices import evenly_spread


@dataclass(frozen=True)
class Source:
    """The data of one run.

    Attributes:
        frame_shape: (H, W), (H, W, C), or (D,) of features. D is its product.
        train: (batch_size, start) -> endless `tf.data.Dataset` of (B, T, D) float32; `start` is
            the number of clips already consumed.
        evaluation: (split, count) -> (count, T, D) float32, always the same clips, fewer if the
            split has fewer; split is "validation" or "test".
        description: what the data is and where it comes from, for people and for run.json.
    """

    frame_shape: tuple[int, ...]
    train: Callable[..., tf.data.Dataset]
    evaluation: Callable[[str, int], np.ndarray]
    description: dict

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
    """(..., T, H, W[, C]) uint8 -> (B, T, D) float32 in [0, 1]."""
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


def moving_mnist_source(config: ConfigDict) -> Source:
    """Generates training clips without end, and evaluation clips from digits never trained on."""
    data = config.data
    params = generator(config)

    @functools.cache
    def images(split):
        return digits.load_digits(split, data.digits_dir or None, data.digits_source)

    def batches(split, batch_size, start=0, count=None):
        stream = moving_mnist.stream_seed(config.seed, split)
        return moving_mnist.batches(
            images(split).images, params, stream, batch_size, start=start, count=count
        )

    return Source(
        frame_shape=(data.frame_size, data.frame_size),
        train=lambda batch_size, start: (
            batches("train", batch_size, start).map(to_frames).prefetch(2)
        ),
        evaluation=lambda split, count: collect(batches(split, 100, count=count)),
        description={
            "kind": "Moving MNIST, generated",
            "source": images("train").source,
            "sha256": {split: images(split).sha256 for split in digits.SPLITS},
        },
    )


@dataclass(frozen=True)
class Split:
    """A training, validation or test split on disk.

    Attributes:
        folder: the data set. chosen: (count,) bool, True for its sequences in the split; None for
            all.
    """

    folder: Path
    chosen: np.ndarray | None = None


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


def records_source(config: ConfigDict) -> Source:
    """Cuts windows from the splits on disk; evaluation windows are spread evenly over a split."""
    data = config.data
    length = data.frames_in + data.frames_out
    parts = {name: split(config, name) for name in splits.SPLITS}
    manifests = {name: records.Manifest.load(part.folder) for name, part in parts.items()}
    for name, manifest in manifests.items():
        made_for = manifest.source.get("split") if "generator" in manifest.source else None
        if parts[name].chosen is None and made_for not in (None, name):
            raise ValueError(
                f"{parts[name].folder} was generated from {made_for} digits, so it is not for "
                f"{name}; write it again: python -m data_prep.moving_mnist --split={name}"
            )
    starts = {name: _window_starts(name, part, length) for name, part in parts.items()}
    shape = manifests["train"].frame_shape
    for name, manifest in manifests.items():
        if manifest.frame_shape != shape:
            raise ValueError(
                f"{parts[name].folder}: frames of {manifest.frame_shape}, but those of "
                f"{parts['train'].folder} are {shape}"
            )

    frames = Frames(parts["train"].folder, parts["train"].chosen)

    def train(batch_size, start):
        stream = windows.training(frames, length, config.seed, start)
        clips = stream.map(lambda window: window["frames"])
        return clips.batch(batch_size, drop_remainder=True).prefetch(2)

    def evaluation(name, count):
        chosen = evenly_spread(count, len(starts[name]))
        return read(parts[name].folder, length, starts[name][chosen])

    for output in video_models.decoder_outputs(config.model).values():
        if np.isfinite(output.limits).any():
            _check_limits(evaluation("train", 100), output, data.records)
    description = {
        "kind": f"records, {manifests['train'].kind}",
        "source": str(data.records),
        "made_of": manifests["train"].source,
        "sha256": {name: manifest.fingerprint for name, manifest in manifests.items()},
        "parts": {name: _size(part, length, starts[name]) for name, part in parts.items()},
    }
    return Source(shape, train, evaluation, description)


def _window_starts(name, split, length):
    try:
        return windows.starts(split.folder, length, chosen=split.chosen)
    except ValueError as error:
        raise ValueError(
            f"{error}: nothing for {name} (frames are data.frames_in + data.frames_out)"
        ) from None


def _size(split, length, starts):
    """Counts the sequences, those too short for a window, and the windows side by side."""
    short = windows.too_short(split.folder, length)
    chosen = np.ones(len(short), bool) if split.chosen is None else split.chosen
    return {
        "sequences": int(chosen.sum()),
        "too_short": int((short & chosen).sum()),
        "windows": len(starts),
    }


def read(folder: str | Path, length: int, starts: np.ndarray) -> np.ndarray:
    """Reads the windows of a data set that begin at `starts`, as (N, length, D) float32."""
    clips = windows.at(folder, length, starts).map(lambda window: window["frames"])
    return np.concatenate(list(clips.batch(100).as_numpy_iterator()))


def _check_limits(clips, output, name):
    (low, high), smallest, largest = output.limits, clips.min(), clips.max()
    if smallest < low or largest > high:
        raise ValueError(
            f"config.data.records={name}: values from {smallest:.3g} to {largest:.3g}, but the "
            f"{output.metric.replace('_', ' ')} needs them in [{low:g}, {high:g}]; "
            "--config.model.output=linear has a squared loss (relu: for values that are never "
            "negative)"
        )


def build(config: ConfigDict) -> Source:
    """Builds the source that `config.data` describes.

    Raises:
        ValueError, FileNotFoundError: the data is missing, damaged, or too short.
    """
    if config.data.records:
        return records_source(config)
    return moving_mnist_source(config)
