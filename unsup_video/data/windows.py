"""Windows of consecutive frames, cut from the sequences of a data set (`records`).

No window crosses from one sequence into another, and a sequence that is shorter than a window gives
none: `too_short` says which.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.data import calls, records
from unsup_video.data.frames import Frames
from unsup_video.data.orders import Order


def too_short(folder: str | Path, length: int) -> np.ndarray:
    """(count,) bool: which sequences of a data set have fewer than `length` frames."""
    return records.lengths(folder) < length


def places(
    folder: str | Path, length: int, stride: int | None = None, chosen: np.ndarray | None = None
) -> np.ndarray:
    """Where the windows of a data set are, in its order, then in that of time.

    Args:
        length: frames of a window. stride: frames from one window to the next; None for `length`,
            windows side by side.
        chosen: (count,) bool, which sequences; None for all.

    Returns:
        (N, 2) int64: the sequence's index and the window's first frame.

    Raises:
        ValueError: length or stride below 1; nothing chosen, or no sequence that long.
    """
    stride = length if stride is None else stride
    _check_positive(folder, length=length, stride=stride)
    frames = _usable(folder, length, chosen)
    numbers = np.maximum((frames - length) // stride + 1, 0)
    sequences = np.repeat(np.arange(len(frames)), numbers)
    before = np.repeat(np.cumsum(numbers) - numbers, numbers)
    return np.stack([sequences, stride * (np.arange(len(sequences)) - before)], axis=1)


def at(folder: str | Path, length: int, places: np.ndarray) -> tf.data.Dataset:
    """The windows at `places`, which are in the order that `places()` gives.

    Returns:
        A data set of {"frames": (T, D) float32, "sequence": int64, its index in the data set,
        "first": int64, the window's first frame}.

    Raises:
        FileNotFoundError, ValueError: as of `records.examples`.
    """
    manifest = records.Manifest.load(folder)
    numbers = np.bincount(places[:, 0], minlength=manifest.count)
    ends = tf.constant(np.cumsum(numbers))
    firsts, numbers_of = tf.constant(places[:, 1]), tf.constant(numbers)

    def cut(index, example):
        end = ends[index]
        return _cut(manifest, length, index, example, firsts[end - numbers_of[index] : end])

    def decode(data, scale, index, first):
        values = tf.io.decode_raw(data, manifest.dtype)
        return _window(manifest, length, values, scale, index, first)

    found = records.examples(folder, cut, numbers)
    return found.map(decode, num_parallel_calls=tf.data.AUTOTUNE)


def evaluation(
    folder: str | Path, length: int, stride: int | None = None, chosen: np.ndarray | None = None
) -> tf.data.Dataset:
    """Every window: `at` all `places`."""
    return at(folder, length, places(folder, length, stride, chosen))


def training(
    frames: Frames, length: int, seed: int, start: int = 0, most: int | None = None
) -> tf.data.Dataset:
    """Windows in the random order of `orders.Order`, epoch after epoch, without end.

    Args:
        frames: of which sequences, and how they are read. length: frames of a window.
        start: number of windows already consumed: the stream goes on where it was, and reads
            nothing of what came before.
        most: windows of each sequence in an epoch; None for all.

    Returns, and raises, what `at` and `places` do, and `Frames.prepare`.
    """
    _check_positive(frames.folder, length=length)
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    order = Order(_usable(frames.folder, length, frames.chosen), length, seed, most)
    first_epoch, consumed = divmod(start, order.size)
    frames.prepare()

    def windows(epoch):
        return order.epoch(epoch)[consumed if epoch == first_epoch else 0 :]

    def read(window):
        sequence, first = order.place(window)
        return *frames.read(sequence, first, length), sequence, first

    def windows_of(epoch):
        return tf.data.Dataset.from_tensor_slices(
            tf.ensure_shape(calls.pure(windows, [epoch], tf.int64), [None])
        )

    def window(number):
        dtypes = frames.manifest.dtype, tf.float32, tf.int64, tf.int64
        found = calls.pure(read, [number], dtypes)
        return _window(frames.manifest, length, found[0], *(tf.reshape(x, []) for x in found[1:]))

    epochs = tf.data.Dataset.range(first_epoch, np.iinfo(np.int64).max)
    return epochs.flat_map(windows_of).map(window, num_parallel_calls=tf.data.AUTOTUNE)


def _check_positive(folder, **values):
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{folder}: the {name} of a window must be at least 1, got {value}")


def _usable(folder, length, chosen):
    """`lengths`, with 0 for sequences that give no window."""
    frames = records.lengths(folder)
    if chosen is not None:
        if chosen.shape != frames.shape or not chosen.any():
            raise ValueError(f"{folder}: of {len(frames)} sequences none is chosen")
        frames = np.where(chosen, frames, 0)
    if frames.max() < length:
        raise ValueError(
            f"{folder}: windows of {length} frames are wanted, the longest sequence has "
            f"{frames.max()}"
        )
    return np.where(frames < length, 0, frames)


def _cut(manifest, length, index, example, firsts):
    """A data set of a record's windows at `firsts`, still as bytes."""
    found = tf.io.parse_single_example(
        example,
        {
            "frames": tf.io.FixedLenFeature([], tf.string),
            "scale": tf.io.FixedLenFeature([], tf.float32, manifest.scale),
        },
    )
    frames, scale, size = found["frames"], found["scale"], manifest.frame_bytes
    return tf.data.Dataset.from_tensor_slices(firsts).map(
        lambda first: (tf.strings.substr(frames, first * size, length * size), scale, index, first)
    )


def _window(manifest, length, values, scale, index, first):
    """An element of a data set of windows, from its stored values."""
    frames = tf.reshape(values, (length, int(np.prod(manifest.frame_shape))))
    return {"frames": tf.cast(frames, tf.float32) * scale, "sequence": index, "first": first}
