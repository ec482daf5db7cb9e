"""Reads the flow of one video after another from a data set that `data_prep.flow` wrote."""

import functools
import threading
from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.data import records
from unsup_video.video import jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Listing, Video


def listing(folder: str | Path) -> Listing:
    """Lists the videos of a data set of flow, with their labels, if any, groups and splits.

    The path of a `Video` is the shard that contains its record.

    Raises:
        FileNotFoundError, ValueError: the data set is missing, or its sequences have no names.
    """
    folder = Path(folder)
    manifest, entries = records.Manifest.load(folder), records.load_index(folder)
    if not entries:
        raise ValueError(
            f"{folder}: its sequences have no names; write it again with data_prep.flow"
        )
    paths = [str(folder / shard.name) for shard in manifest.shards for _ in range(shard.count)]
    videos = tuple(
        Video(path, entry.name, entry.label, entry.group, entry.splits)
        for path, entry in zip(paths, entries, strict=True)
    )
    return Listing("flow", videos, manifest.classes, (), {"flow": manifest.source})


def read(folder: str, fingerprint: str, video: Video) -> tuple[np.ndarray, float]:
    """Reads the record of a video of `listing`: (T, H, W, C) int8, and pixels that a 1 stands for.

    Args:
        fingerprint: that of the manifest.

    Raises:
        VideoError: the file is damaged.
        JobError: the data set is missing, or another one.
    """
    manifest = _manifest(folder, fingerprint)
    shard, offset = _positions(folder, fingerprint)[video.name]
    try:
        example = _example(folder, shard, fingerprint, manifest.compression, offset)
    except tf.errors.NotFoundError as error:
        raise jobs.JobError(f"the flow cannot be loaded: {error.message}") from None
    except (tf.errors.OpError, StopIteration) as error:
        raise VideoError(
            video.path,
            f"{video.name}: the file is damaged ({error}); python -m data_prep.verify "
            f"{folder} says more",
        ) from None
    return records.decode(example, manifest)


_open = threading.local()  # the shard that a worker reads, and its position in it


def _example(folder, shard, fingerprint, compression, offset):
    """Reads a record of a shard; consecutive records take one pass."""
    held, own = getattr(_open, "held", None), (folder, shard, fingerprint)
    if held is None or held[0] != own or held[1] > offset:
        _checked(folder, fingerprint)  # it may have been replaced since the last shard
        data = tf.data.TFRecordDataset(str(Path(folder) / shard), compression).prefetch(1)
        held = _open.held = [own, 0, data.as_numpy_iterator()]
    while held[1] < offset:
        next(held[2])
        held[1] += 1
    example = next(held[2])
    held[1] += 1
    return example


def _checked(folder, fingerprint):
    """Loads the manifest. Raises JobError if it is missing or has another fingerprint."""
    with jobs.loading("the flow"):
        manifest = records.Manifest.load(folder)
        if manifest.fingerprint != fingerprint:
            raise ValueError(f"{folder} is another data set than when the job began")
    return manifest


_manifest = functools.lru_cache(1)(_checked)


@functools.lru_cache(1)
def _positions(folder, fingerprint):
    """Returns {name of a video: (name of its shard, number of its record there)}."""
    shards = _manifest(folder, fingerprint).shards
    positions = [(shard.name, i) for shard in shards for i in range(shard.count)]
    with jobs.loading("the flow"):
        entries = records.load_index(folder)
    return {e.name: position for e, position in zip(entries, positions, strict=True)}
