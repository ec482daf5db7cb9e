"""What a run trains, validates and tests on: clips (B, T, D) float32, from the config."""

import functools
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, records


@dataclass(frozen=True)
class Source:
    """The data of one run.

    Attributes:
        frame_shape: (H, W), or (H, W, C). D is its product.
        train: (batch_size, start) -> endless `tf.data.Dataset` of (B, T, D) float32; `start` is
            the number of clips already consumed.
        evaluation: (split, count) -> (count, T, D) float32, always the same clips; split is
            "validation" or "test".
        description: what the data is and where it comes from, for people and for run.json.
    """

    frame_shape: tuple[int, ...]
    train: Callable[..., tf.data.Dataset]
    evaluation: Callable[[str, int], np.ndarray]
    description: dict

    @functools.cached_property
    def mean_frame(self) -> np.ndarray:
        """(D,): the mean of the first 500 training clips."""
        clips = next(iter(self.train(500, start=0))).numpy()
        return clips.mean(axis=(0, 1), dtype=np.float64).astype(np.float32)


def to_frames(clips):
    """(..., T, H, W[, C]) uint8 -> (B, T, D) float32 in [0, 1]."""
    shape = tf.shape(clips)
    dim = int(np.prod(clips.shape[2:]))
    return tf.reshape(tf.cast(clips, tf.float32) / 255.0, (shape[0], clips.shape[1], dim))


def collect(batches: tf.data.Dataset, count: int) -> np.ndarray:
    """The first `count` clips of uint8 batches, (count, T, D) float32. Raises ValueError: fewer."""
    clips = list(batches.map(to_frames).unbatch().take(count).as_numpy_iterator())
    if len(clips) < count:
        raise ValueError(f"{count} clips wanted for evaluation, the data set holds {len(clips)}")
    return np.stack(clips)


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
        evaluation=lambda split, count: collect(batches(split, 100, count=count), count),
        description={
            "kind": "Moving MNIST, generated",
            "source": images("train").source,
            "sha256": {split: images(split).sha256 for split in digits.SPLITS},
        },
    )


def records_source(config: ConfigDict) -> Source:
    """Data sets written by data_prep: folders train/, validation/ and test/ of `data.records`."""
    data = config.data
    if data.digits_dir:
        raise ValueError("data.digits_dir does not go with data.records: give one of them")
    manifests = {
        split: records.Manifest.load(f"{data.records}/{split}") for split in digits.SPLITS
    }
    wanted = data.frames_in + data.frames_out
    for split, manifest in manifests.items():
        if manifest.shape[0] < wanted:
            raise ValueError(
                f"{data.records}/{split}: sequences of {manifest.shape[0]} frames, but "
                f"data.frames_in + data.frames_out = {wanted}"
            )
        if manifest.shape[1:] != manifests["train"].shape[1:]:
            raise ValueError(
                f"{data.records}/{split}: frames of {manifest.shape[1:]}, but those of train/ are "
                f"{manifests['train'].shape[1:]}"
            )
        clips = 1 if split == "train" else config.eval[f"{split}_clips"]
        if manifest.count < clips:
            raise ValueError(
                f"{data.records}/{split}: {manifest.count} sequences, but "
                f"config.eval.{split}_clips = {clips}"
            )

    def train(batch_size, start):
        return records.batches(
            f"{data.records}/train", batch_size, start=start, shuffle_seed=config.seed, repeat=True
        ).map(to_frames).prefetch(2)

    def evaluation(split, count):
        return collect(records.batches(f"{data.records}/{split}", 100), count)

    return Source(
        frame_shape=tuple(manifests["train"].shape[1:]),
        train=train,
        evaluation=evaluation,
        description={
            "kind": f"records, {manifests['train'].kind}",
            "source": data.records,
            "sha256": {split: manifest.fingerprint for split, manifest in manifests.items()},
        },
    )


def build(config: ConfigDict) -> Source:
    """The source that `config.data` describes.

    Raises:
        ValueError, FileNotFoundError: data that is missing, damaged, or too short.
    """
    return records_source(config) if config.data.records else moving_mnist_source(config)
