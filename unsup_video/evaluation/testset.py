"""The clips that models are evaluated on."""

import dataclasses
from collections.abc import Callable
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, records, sources


@dataclasses.dataclass(frozen=True)
class TestSet:
    """Clips in an order that never changes.

    Attributes:
        count: how many. num_frames: of each. frame_shape: (H, W) or (H, W, C), D its product.
        description: what they are, JSON values; equal for equal clips.
        clips: (start, count) -> (count, num_frames, D) float32.
        constant_velocity: (start, count, frames_in) -> (count, num_frames - frames_in, D) float32,
            the oracle of `moving_mnist.constant_velocity`; None where the motion is not known.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    count: int
    num_frames: int
    frame_shape: tuple[int, ...]
    description: dict
    clips: Callable[[int, int], np.ndarray]
    constant_velocity: Callable[[int, int, int], np.ndarray] | None = None


def generated(
    config: ConfigDict, count: int, num_digits: int | None = None, num_frames: int | None = None
) -> TestSet:
    """Moving MNIST of test digits, as `config.data` describes it.

    Args:
        count: of clips. num_digits, num_frames: others than the config's.

    Raises:
        ValueError, FileNotFoundError: bad numbers; digits that are missing or damaged.
    """
    if count < 1:
        raise ValueError(f"the number of test clips must be at least 1, got {count}")
    params = sources.generator(config)
    params = dataclasses.replace(
        params,
        num_digits=params.num_digits if num_digits is None else num_digits,
        num_frames=params.num_frames if num_frames is None else num_frames,
    )
    chosen = digits.load_digits("test", config.data.digits_dir or None, config.data.digits_source)
    description = {
        "kind": "moving_mnist",
        "generator": dataclasses.asdict(params),
        "seed": config.seed,
        "split": "test",
        "digits": {"source": chosen.source, "sha256": chosen.sha256},
    }
    return _moving_mnist(chosen.images, params, config.seed, "test", count, description)


def _moving_mnist(images, params, seed, split, count, description):
    stream = moving_mnist.stream_seed(seed, split)

    def clips(start, count):
        batches = moving_mnist.batches(images, params, stream, 100, start=start, count=count)
        return sources.collect(batches, count)

    def constant_velocity(start, count, frames_in):
        indices = np.arange(start, start + count)
        return sources.to_frames(
            moving_mnist.constant_velocity(images, params, stream, indices, frames_in)
        ).numpy()

    shape = (params.frame_size, params.frame_size)
    return TestSet(count, params.num_frames, shape, description, clips, constant_velocity)


def from_records(
    folder: str | Path, count: int | None = None, config: ConfigDict | None = None
) -> TestSet:
    """A data set of data_prep's, or its first `count` clips.

    Args:
        config: says where digits are, for the oracle, which has to draw those of a generated set.

    Raises:
        ValueError, FileNotFoundError: no such data set, a damaged one, or fewer clips.
    """
    folder = Path(folder)
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file; first import it: python -m data_prep.moving_mnist "
            f"--import_npy={folder} --out=FOLDER"
        )
    manifest = records.Manifest.load(folder)
    count = manifest.count if count is None else count
    if not 1 <= count <= manifest.count:
        raise ValueError(f"{folder}: 1 to {manifest.count} clips can be asked for, got {count}")

    def clips(start, count):
        return sources.collect(records.batches(folder, 100, start=start), count)

    return TestSet(
        count,
        manifest.shape[0],
        manifest.shape[1:],
        {"kind": manifest.kind, "source": manifest.source, "sha256": manifest.fingerprint},
        clips,
        _oracle(manifest, config),
    )


def _oracle(manifest, config):
    """The constant-velocity oracle of a set that data_prep generated from digits we have."""
    source = manifest.source
    if config is None or "generator" not in source:
        return None
    generator = dict(source["generator"], speed=tuple(source["generator"]["speed"]))
    params = moving_mnist.MovingMnist(**generator)
    try:
        chosen = digits.load_digits(
            source["split"], config.data.digits_dir or None, config.data.digits_source
        )
    except FileNotFoundError:
        return None
    if chosen.sha256 != source["digits"]["sha256"]:
        return None
    return _moving_mnist(
        chosen.images, params, source["seed"], source["split"], manifest.count, {}
    ).constant_velocity


def of_model(config: ConfigDict, folder: str | None, count: int | None) -> TestSet:
    """The test set of a command: `folder` where given, else that which the run's config describes.

    `count` None stands for all of a data set on disk, and for 10,000 generated clips.
    """
    if folder or config.data.records:
        return from_records(folder or f"{config.data.records}/test", count, config)
    return generated(config, 10_000 if count is None else count)


def check_fits(test_set: TestSet, frame_shape: tuple[int, ...], frames: int, name: str) -> None:
    """Raises ValueError where a model of that frame shape cannot read `frames` of these clips."""
    if tuple(test_set.frame_shape) != tuple(frame_shape):
        raise ValueError(
            f"{name} reads frames of {tuple(frame_shape)}, the test set has frames of "
            f"{tuple(test_set.frame_shape)}"
        )
    if test_set.num_frames < frames:
        raise ValueError(
            f"{name} needs clips of {frames} frames, the test set has {test_set.num_frames}"
        )
