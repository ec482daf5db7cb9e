"""Windows of consecutive frames, cut from the sequences of a data set (`records`).

No window crosses from one sequence into another, and a sequence that is shorter than a window gives
none: `too_short` says which.
"""

from pathlib import Path

import numpy as np
import tensorflow as tf

from unsup_video.data import records

_SHUFFLE_BYTES = 1 << 30  # of stored values, at most, that are held for shuffling


def lengths(folder: str | Path) -> np.ndarray:
    """(count,) int64: the number of frames of every sequence of a data set."""
    manifest = records.Manifest.load(folder)
    if manifest.shape[0] is not None:
        return np.full(manifest.count, manifest.shape[0], np.int64)
    return np.array([entry.frames for entry in records.load_index(folder)], np.int64)


def too_short(folder: str | Path, length: int) -> np.ndarray:
    """(count,) bool: which sequences of a data set have fewer than `length` frames."""
    return lengths(folder) < length


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


def spread(places: np.ndarray, count: int) -> np.ndarray:
    """`count` of `places`, evenly spread over them; all where there are no more."""
    count = min(count, len(places))
    return places[np.arange(count) * len(places) // max(count, 1)]


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

    def cut(_, index, example):
        end = ends[index]
        return _cut(manifest, length, index, example, firsts[end - numbers_of[index] : end])

    return _decoded(manifest, length, records.examples(folder, cut=cut, pieces=numbers))


def evaluation(
    folder: str | Path,
    length: int,
    stride: int | None = None,
    chosen: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Every window: `at` all `places`."""
    return at(folder, length, places(folder, length, stride, chosen))


def training(
    folder: str | Path,
    length: int,
    seed: int,
    start: int = 0,
    chosen: np.ndarray | None = None,
    most: int | None = None,
    shuffle_bytes: int = _SHUFFLE_BYTES,
) -> tf.data.Dataset:
    """Windows at random places, shuffled, without end.

    An epoch takes as many of each sequence as fit into it side by side, so that every frame counts
    alike, each at a place of its own. Places and order are functions of `seed` and the number of
    the epoch.

    Args:
        length, chosen: as of `places`.
        start: number of windows already consumed: the stream goes on where it was.
        most: of each sequence in an epoch; None for as many as fit. With fewer, those in the buffer
            are of more sequences.
        shuffle_bytes: of stored values, at most, that are held for shuffling.

    Returns, and raises, what `at` and `places` do.
    """
    _check_positive(folder, length=length)
    manifest = records.Manifest.load(folder)
    numbers = _usable(folder, length, chosen) // length
    if most is not None:
        numbers = np.minimum(numbers, most)
    numbers_of = tf.constant(numbers)

    def cut(epoch, index, example):
        key = tf.stack([tf.constant(seed, tf.int64), epoch])
        firsts = tf.random.stateless_uniform(
            [numbers_of[index]],
            tf.random.experimental.stateless_fold_in(key, index),
            maxval=_shape(manifest, example)[0] - length + 1,
            dtype=tf.int64,
        )
        return _cut(manifest, length, index, example, firsts)

    found = records.examples(
        folder, start, shuffle_seed=seed, repeat=True, cut=cut, pieces=numbers,
        shuffle_buffer=max(1, shuffle_bytes // (length * _frame_bytes(manifest))),
    )
    return _decoded(manifest, length, found)


def _check_positive(folder, **values):
    for name, value in values.items():
        if value < 1:
            raise ValueError(f"{folder}: the {name} of a window must be at least 1, got {value}")


def _usable(folder, length, chosen):
    """`lengths`, with 0 for sequences that give no window."""
    frames = lengths(folder)
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


def _frame_bytes(manifest):
    return int(np.prod(manifest.frame_shape)) * np.dtype(manifest.dtype).itemsize


def _shape(manifest, example):
    spec = {"shape": tf.io.FixedLenFeature([len(manifest.shape)], tf.int64)}
    return tf.io.parse_single_example(example, spec)["shape"]


def _cut(manifest, length, index, example, firsts):
    """A data set of a record's windows at `firsts`, still as bytes."""
    found = tf.io.parse_single_example(example, {
        "frames": tf.io.FixedLenFeature([], tf.string),
        "scale": tf.io.FixedLenFeature([], tf.float32, manifest.scale),
    })
    frames, scale, size = found["frames"], found["scale"], _frame_bytes(manifest)
    return tf.data.Dataset.from_tensor_slices(firsts).map(
        lambda first: (tf.strings.substr(frames, first * size, length * size), scale, index, first)
    )


def _decoded(manifest, length, found):
    # After shuffling: what waits in the buffer is a quarter of the size.
    def decode(data, scale, index, first):
        values = tf.cast(tf.io.decode_raw(data, manifest.dtype), tf.float32) * scale
        frames = tf.reshape(values, (length, int(np.prod(manifest.frame_shape))))
        return {"frames": frames, "sequence": index, "first": first}

    return found.map(decode, num_parallel_calls=tf.data.AUTOTUNE)
