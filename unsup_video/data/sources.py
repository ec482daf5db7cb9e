"""What a run trains, validates and tests on: clips (B, T, D) float32, from the config."""

import functools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, records, splits, windows
from unsup_video.data.frames import Frames


@dataclass(frozen=True)
class Source:
    """The data of one run.

    Attributes:
        frame_shape: (H, W), (H, W, C), or (D,) of features. D is its product.
        train: (batch_size, start) -> endless `tf.data.Dataset` of (B, T, D) float32; `start` is
            the number of clips already consumed.
        evaluation: (split, count) -> (count, T, D) float32, always the same clips, fewer where
            there are no more; split is "validation" or "test".
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
    def spread(self) -> float:
        """The standard deviation of all values of the first 500 training clips."""
        return self._statistics[1]


def to_frames(clips):
    """(..., T, H, W[, C]) uint8 -> (B, T, D) float32 in [0, 1]."""
    shape = tf.shape(clips)
    dim = int(np.prod(clips.shape[2:]))
    return tf.reshape(tf.cast(clips, tf.float32) * records.UNIT, (shape[0], clips.shape[1], dim))


def collect(batches: tf.data.Dataset) -> np.ndarray:
    """All clips of uint8 batches, (N, T, D) float32."""
    return np.concatenate(list(batches.map(to_frames).as_numpy_iterator()))


def generator(config: ConfigDict) -> moving_mnist.MovingMnist:
    """What `config.data` generates."""
    data = config.data
    return moving_mnist.MovingMnist(
        num_digits=data.num_digits,
        frame_size=data.frame_size,
        num_frames=data.frames_in + data.frames_out,
        speed=(data.speed_min, data.speed_max),
        bounce=data.bounce,
    )


def moving_mnist_source(config: ConfigDict) -> Source:
    """Generated without end from the training digits; evaluation from digits never trained on."""
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
class Part:
    """A part of the data on disk: the sequences `chosen`, (count,) bool or None for all, of the
    data set in `folder`."""

    folder: Path
    chosen: np.ndarray | None = None


def part(config: ConfigDict, name: str) -> Part:
    """The part "train", "validation" or "test" of `config.data.records`.

    That is a folder of three data sets with these names; or one data set, which `splits.choose`
    divides: by its official split `config.data.split`, or by groups where that is 0.

    Raises:
        FileNotFoundError, ValueError: no data is there; a data set that cannot be divided so.
    """
    folder = Path(config.data.records)
    split = config.data.split
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
        if split:
            raise ValueError(
                f"config.data.split={split} does not go with {folder}, which is divided already"
            )
        return Part(folder / name)
    entries = records.load_index(folder)
    if not entries:
        raise ValueError(
            f"config.data.records={folder}: its sequences have no names, so that it cannot be "
            f"divided; give a folder that holds {', '.join(f'{p}/' for p in splits.PARTS)}"
        )
    return Part(folder, splits.choose(entries, name, split))


def records_source(config: ConfigDict) -> Source:
    """Windows of the parts of the data on disk; those to evaluate on are spread over all of one."""
    data = config.data
    length = data.frames_in + data.frames_out
    parts = {name: part(config, name) for name in splits.PARTS}
    manifests = {name: records.Manifest.load(p.folder) for name, p in parts.items()}
    for name, manifest in manifests.items():
        made_for = manifest.source.get("split") if "generator" in manifest.source else None
        if parts[name].chosen is None and made_for not in (None, name):
            raise ValueError(
                f"{parts[name].folder} was generated from {made_for} digits, so it is not for "
                f"{name}; write it anew: python -m data_prep.moving_mnist --split={name}"
            )
    places = {name: _places(name, p, length) for name, p in parts.items()}
    shape = manifests["train"].frame_shape
    for name, manifest in manifests.items():
        if manifest.frame_shape != shape:
            raise ValueError(
                f"{parts[name].folder}: frames of {manifest.frame_shape}, but those of "
                f"{parts['train'].folder} are {shape}"
            )

    frames = Frames(parts["train"].folder, parts["train"].chosen)

    def train(batch_size, start):
        found = windows.training(frames, length, config.seed, start)
        clips = found.map(lambda window: window["frames"])
        return clips.batch(batch_size, drop_remainder=True).prefetch(2)

    def evaluation(name, count):
        return read(parts[name].folder, length, windows.spread(places[name], count))

    if config.model.output == "logistic":
        _check_unit_range(evaluation("train", 100), data.records)
    description = {
        "kind": f"records, {manifests['train'].kind}",
        "source": str(data.records),
        "made_of": manifests["train"].source,
        "sha256": {name: manifest.fingerprint for name, manifest in manifests.items()},
        "parts": {name: _size(p, length, places[name]) for name, p in parts.items()},
    }
    return Source(shape, train, evaluation, description)


def _places(name, of, length):
    try:
        return windows.places(of.folder, length, chosen=of.chosen)
    except ValueError as error:
        raise ValueError(
            f"{error}: nothing for {name} (frames are data.frames_in + data.frames_out)"
        ) from None


def _size(of, length, places):
    """Numbers of sequences, of those too short for a window, and of windows side by side."""
    short = windows.too_short(of.folder, length)
    chosen = np.ones(len(short), bool) if of.chosen is None else of.chosen
    return {
        "sequences": int(chosen.sum()),
        "too_short": int((short & chosen).sum()),
        "windows": len(places),
    }


def read(folder: str | Path, length: int, places: np.ndarray) -> np.ndarray:
    """The windows of a data set at `places`, (N, length, D) float32."""
    found = windows.at(folder, length, places).map(lambda window: window["frames"])
    return np.concatenate(list(found.batch(100).as_numpy_iterator()))


def _check_unit_range(clips, name):
    low, high = clips.min(), clips.max()
    if low < 0 or high > 1:
        raise ValueError(
            f"config.data.records={name}: values from {low:.3g} to {high:.3g}, but the cross "
            "entropy needs them in [0, 1]; --config.model.output=linear has a squared loss (relu: "
            "for values that are never negative)"
        )


def build(config: ConfigDict) -> Source:
    """The source that `config.data` describes.

    Raises:
        ValueError, FileNotFoundError: data that is missing, damaged, or too short.
    """
    if config.data.records:
        return records_source(config)
    return moving_mnist_source(config)
