"""Windows of consecutive frames, cut from the sequences of a data set (`records`).

No window crosses from one sequence into another. A sequence shorter than a window gives none;
`too_short` finds such sequences.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.data import records
from unsup_video.data.frames import Frames
from unsup_video.data.orders import Order
from unsup_video.data.shares import WHOLE, Share
from unsup_video.utils import calls


def too_short(folder: str | Path, length: int) -> np.ndarray:
    """Returns (count,) bool: True for sequences with fewer than `length` frames."""
    return records.lengths(folder) < length


def starts(
    folder: str | Path, length: int, stride: int | None = None, chosen: np.ndarray | None = None
) -> np.ndarray:
    """Returns where the windows of a data set start, by sequence and then by time.

    Args:
        length: frames per window. stride: frames from one window to the next; None for `length`,
            that is, windows side by side.
        chosen: (count,) bool, True for the sequences to use; None for all.

    Returns:
        (N, 2) int64: the index of the sequence and the first frame of the window.

    Raises:
        ValueError: length or stride is below 1; nothing is chosen; no sequence is long enough.
    """
    stride = length if stride is None else stride
    _check_positive(folder, length=length, stride=stride)
    frames = _usable(folder, length, chosen)
    numbers = np.maximum((frames - length) // stride + 1, 0)
    sequences = np.repeat(np.arange(len(frames)), numbers)
    before = np.repeat(np.cumsum(numbers) - numbers, numbers)
    return np.stack([sequences, stride * (np.arange(len(sequences)) - before)], axis=1)


def at(folder: str | Path, length: int, starts: np.ndarray) -> tf.data.Dataset:
    """Reads the windows that begin at `starts`, which are in the order that `starts()` gives.

    Returns:
        A data set of {"frames": (T, D) float32, "sequence": int64, the index in the data set,
        "first": int64, the first frame of the window}.

    Raises:
        FileNotFoundError, ValueError: as `records.examples`.
    """
    manifest = records.Manifest.load(folder)
    numbers = np.bincount(starts[:, 0], minlength=manifest.count)
    ends = tf.constant(np.cumsum(numbers))
    firsts, numbers_of = tf.constant(starts[:, 1]), tf.constant(numbers)

    def cut(index, example):
        end = ends[index]
        return _cut(manifest, length, index, example, firsts[end - numbers_of[index] : end])

    def decode(data, scale, index, first):
        values = tf.io.decode_raw(data, manifest.dtype)
        return _window(manifest, length, values, scale, index, first)

    pieces = records.examples(folder, cut, numbers)
    return pieces.map(decode, num_parallel_calls=tf.data.AUTOTUNE)


def training(
    frames: Frames,
    length: int,
    seed: int,
    start: int = 0,
    max_per_video: int | None = None,
    batch_size: int = 1,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Returns an endless stream of windows in the random order of `orders.Order`.

    Args:
        frames: the sequences to read. length: frames per window.
        start: number of windows already consumed. The stream resumes from there without reading
            the windows before.
        max_per_video: maximum number of windows per sequence in an epoch; None for all.
        batch_size: number of windows of a batch, of all processes together.
        share: of every `batch_size` windows from `start` on, those to read; the stream has no
            others.

    Returns the elements of `at`. Raises the errors of `starts`, `Frames.prepare` and `Share.size`.
    """
    _check_positive(frames.folder, length=length)
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    order = Order(_usable(frames.folder, length, frames.chosen), length, seed, max_per_video)
    first_epoch, consumed = divmod(start, order.size)
    size = share.size(batch_size)
    frames.prepare()

    def windows(epoch):
        rest = order.epoch(epoch)[consumed if epoch == first_epoch else 0 :]
        position = max(0, epoch * order.size - start)  # of the first one in the stream
        rows = (position + np.arange(len(rest))) % batch_size
        return rest[rows // size == share.index]

    def read(window):
        sequence, first = order.place(window)
        return *frames.read(sequence, first, length), sequence, first

    def windows_of(epoch):
        return tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(calls.pure(windows, [epoch], tf.int64), [None])
        )

    def window(number):
        dtypes = frames.manifest.dtype, tf.float32, tf.int64, tf.int64
        values, scale, sequence, first = calls.pure(read, [number], dtypes)
        scalars = (tf.reshape(x, []) for x in (scale, sequence, first))
        return _window(frames.manifest, length, values, *scalars)

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return epochs.flat_map(windows_of).map(window, num_parallel_calls=tf.data.AUTOTUNE)


def _check_positive(folder, **values):
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{folder}: the {name} of a window must be at least 1, got {value}")


def _usable(folder, length, chosen):
    """Returns the frame counts, with 0 for sequences that give no window."""
    frames = records.lengths(folder)
    if chosen is not None:
        if chosen.shape != frames.shape or not chosen.any():
            raise ValueError(f"{folder}: none of its {len(frames)} sequences is chosen")
        frames = np.where(chosen, frames, 0)
    if frames.max() < length:
        raise ValueError(
            f"{folder}: windows of {length} frames are wanted, the longest sequence has "
            f"{frames.max()}"
        )
    return np.where(frames < length, 0, frames)


def _cut(manifest, length, index, example, firsts):
    """Returns a data set of a record's windows at `firsts`, still as bytes."""
    features = tf.io.parse_single_example(
        example,
        {
            "frames": tf.io.FixedLenFeature([], tf.string),
            "scale": tf.io.FixedLenFeature([], tf.float32, manifest.scale),
        },
    )
    frames, scale, size = features["frames"], features["scale"], manifest.frame_bytes
    return tf.data.Dataset.from_tensor_slices(firsts).map(
        lambda first: (tf.strings.substr(frames, first * size, length * size), scale, index, first)
    )


def _window(manifest, length, values, scale, index, first):
    """Makes an element of a data set of windows from stored values."""
    frames = tf.reshape(values, (length, int(np.prod(manifest.frame_shape))))
    return {"frames": tf.cast(frames, tf.float32) * scale, "sequence": index, "first": first}
