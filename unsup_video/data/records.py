"""The one format of data sets on disk: a folder of TFRecord shards with a manifest.

    FOLDER/00000-of-00004.tfrecord, ..   each record a `tf.train.Example` of one sequence:
        frames   bytes: its uint8 values in C order
        shape    int64 list: (T, H, W) or (T, H, W, C)
    FOLDER/manifest.json                 what is there, a `Manifest`

A folder is written whole or not at all; `verify` finds what happened to it since.
"""

import dataclasses
import errno
import hashlib
import itertools
import json
import shutil
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from unsup_video import files

MANIFEST = "manifest.json"
SCHEMA_VERSION = 1
COMPRESSIONS = ("", "GZIP")
_SHARD_BYTES = 256 << 20  # of frames, about, where the number of shards is not given
_SHUFFLE = 10_000  # sequences


@dataclasses.dataclass(frozen=True)
class Shard:
    """One file: its name, number of records, size in bytes and hexadecimal sha256."""

    name: str
    count: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """What a data set holds.

    Attributes:
        kind: what it is, such as "moving_mnist". source: what it was made from, JSON values.
        shape: of every sequence, (T, H, W) or (T, H, W, C). dtype: "uint8".
        count: number of sequences. shards: the files, in order.
        compression: of the shards, "" or "GZIP".
    """

    kind: str
    source: dict
    shape: tuple[int, ...]
    count: int
    shards: tuple[Shard, ...]
    compression: str = ""
    dtype: str = "uint8"
    schema_version: int = SCHEMA_VERSION

    @property
    def fingerprint(self) -> str:
        """Changes with any byte of any shard: sha256 over the shards' sha256s."""
        digests = "".join(shard.sha256 for shard in self.shards)
        return hashlib.sha256(digests.encode()).hexdigest()

    @classmethod
    def load(cls, folder: str | Path) -> "Manifest":
        """Reads FOLDER/manifest.json.

        Raises:
            FileNotFoundError: there is none. ValueError: it is damaged, contradicts itself, or is
                of a newer version.
        """
        path = Path(folder) / MANIFEST
        if not path.is_file():
            raise FileNotFoundError(f"{path} is missing: {folder} is no data set of data_prep's")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["schema_version"] > SCHEMA_VERSION:
                raise ValueError(
                    f"schema version {fields['schema_version']}, this program reads up to "
                    f"{SCHEMA_VERSION}; update unsup_video"
                )
            fields["shape"] = tuple(fields["shape"])
            fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
            manifest = cls(**fields)
            manifest._check()
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: damaged, or no manifest ({error!r})") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return manifest

    def _check(self):
        if self.dtype != "uint8":
            raise ValueError(f"dtype {self.dtype!r}, only uint8 is known")
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression {self.compression!r}, only '' and 'GZIP' are known")
        if len(self.shape) not in (3, 4) or not all(n > 0 for n in self.shape):
            raise ValueError(f"shape {self.shape}, (T, H, W) or (T, H, W, C) expected")
        if any(Path(shard.name).name != shard.name for shard in self.shards):
            raise ValueError("the name of a shard is a path")
        held = sum(shard.count for shard in self.shards)
        if self.count != held or held < 1:
            raise ValueError(f"count {self.count}, but the shards' counts add up to {held}")


# ---------------------------------------------------------------------- writing


def write(
    folder: str | Path,
    sequences: Iterable[np.ndarray],
    count: int,
    kind: str,
    source: dict,
    shards: int | None = None,
    compression: str = "",
    overwrite: bool = False,
) -> Manifest:
    """Writes a data set, one sequence at a time; after an error `folder` is as it was.

    Args:
        sequences: exactly `count` uint8 arrays of one shape, (T, H, W) or (T, H, W, C).
        kind, source, compression: see `Manifest`.
        shards: number of files; None for one per 256 MB of frames. Each holds consecutive
            sequences.
        overwrite: replace a data set that is there.

    Raises:
        ValueError: a bad argument, or a bad sequence (its index is named). FileExistsError: there
            is something already. OSError: it cannot be written.
    """
    folder = Path(folder)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if shards is not None and not 1 <= shards <= count:
        raise ValueError(f"shards must be 1 to count = {count}, got {shards}")
    if compression not in COMPRESSIONS:
        raise ValueError(f"unknown compression {compression!r}: '' or 'GZIP'")
    if folder.exists():
        _check_replaceable(folder, overwrite)
    sequences = _checked(sequences, count)
    first = next(sequences)
    sequences = itertools.chain([first], sequences)
    if shards is None:
        shards = min(count, -(-count * first.nbytes // _SHARD_BYTES))

    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.whole(folder) as temporary:
        temporary.mkdir()
        written = []
        for i in range(shards):
            path = temporary / f"{i:05d}-of-{shards:05d}.tfrecord"
            size = count * (i + 1) // shards - count * i // shards
            _write_shard(path, itertools.islice(sequences, size), compression)
            written.append(Shard(path.name, size, path.stat().st_size, files.sha256(path)))
        next(sequences, None)  # raises if there are more
        manifest = Manifest(kind, source, first.shape, count, tuple(written), compression)
        text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
        (temporary / MANIFEST).write_text(text, encoding="utf-8")
        if folder.exists():
            shutil.rmtree(folder)
    return manifest


def _check_replaceable(folder, overwrite):
    if not overwrite:
        raise FileExistsError(f"{folder} exists; choose another name, or overwrite it")
    names = {path.name for path in folder.iterdir()} if folder.is_dir() else {str(folder)}
    if not all(name == MANIFEST or name.endswith(".tfrecord") for name in names):
        raise FileExistsError(f"{folder} holds more than a data set: it is not overwritten")


def _checked(sequences, count) -> Iterator[np.ndarray]:
    shape, index = None, -1
    for index, sequence in enumerate(sequences):
        if index == count:
            raise ValueError(f"there are more than count = {count} sequences")
        sequence = np.asarray(sequence)
        shape = shape or sequence.shape
        if sequence.dtype != np.uint8:
            raise ValueError(f"record {index}: uint8 expected, got {sequence.dtype}")
        if len(shape) not in (3, 4) or not all(shape):
            raise ValueError(f"record {index}: (T, H, W) or (T, H, W, C) expected, got {shape}")
        if sequence.shape != shape:
            raise ValueError(f"record {index}: shape {sequence.shape}, those before it {shape}")
        yield sequence
    if index + 1 < count:
        raise ValueError(f"count is {count}, but there are only {index + 1} sequences")


def _write_shard(path, sequences, compression):
    try:
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for sequence in sequences:
                writer.write(_serialize(sequence))
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from None  # `files.whole` adds the folder


def _serialize(sequence: np.ndarray) -> bytes:
    frames = tf.train.BytesList(value=[sequence.tobytes()])
    shape = tf.train.Int64List(value=sequence.shape)
    feature = {"frames": tf.train.Feature(bytes_list=frames),
               "shape": tf.train.Feature(int64_list=shape)}
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


# ---------------------------------------------------------------------- reading


def sequences(
    folder: str | Path, start: int = 0, shuffle_seed: int | None = None, repeat: bool = False
) -> tf.data.Dataset:
    """The sequences of a data set, each (T, H, W) or (T, H, W, C) uint8.

    Args:
        start: number of sequences already consumed, in all epochs together: the stream goes on
            with the very ones that would have come next. Whole epochs are not read for that.
        shuffle_seed: None for the order on disk. Otherwise every epoch has an order of its own, a
            function of this seed and the number of the epoch: that of the shards, then that in a
            buffer of min(count, 10,000) sequences, which is held in memory.
        repeat: epoch after epoch, without end.

    Raises:
        FileNotFoundError, ValueError: no data set, or one that `verify` finds incomplete. Damage
        inside of a shard is TensorFlow's `DataLossError` on reading, which does not name the
        file; `python -m data_prep.verify` does.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    for shard in manifest.shards:
        if problem := _file_problem(folder, shard):
            raise ValueError(f"{problem}; write the data set anew")
    if start < 0:
        raise ValueError(f"start must be at least 0, got {start}")
    paths = [str(folder / shard.name) for shard in manifest.shards]
    first, consumed = divmod(start, manifest.count)

    def epoch(number):
        order = tf.constant(paths)
        if shuffle_seed is not None:
            seed = tf.stack([tf.constant(shuffle_seed, tf.int64), number])
            order = tf.random.experimental.stateless_shuffle(order, seed)
        records = tf.data.TFRecordDataset(order, manifest.compression)
        if shuffle_seed is not None:
            # In a function this is the seed of its graph alone. Without it, the order would
            # depend on the program's global seed.
            tf.random.set_seed(1)
            records = records.shuffle(
                min(manifest.count, _SHUFFLE),
                tf.random.stateless_uniform([], seed, maxval=2**31 - 1, dtype=tf.int64),
                reshuffle_each_iteration=False,
            )
        return records.skip(tf.where(number == first, tf.constant(consumed, tf.int64), 0))

    def parse(record):
        feature = tf.io.FixedLenFeature([], tf.string)
        frames = tf.io.parse_single_example(record, {"frames": feature})["frames"]
        return tf.reshape(tf.io.decode_raw(frames, tf.uint8), manifest.shape)

    epochs = tf.data.Dataset.range(first, np.iinfo(np.int64).max if repeat else 1)
    return epochs.flat_map(epoch).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def batches(
    folder: str | Path,
    batch_size: int,
    start: int = 0,
    shuffle_seed: int | None = None,
    repeat: bool = False,
) -> tf.data.Dataset:
    """`sequences` in batches (B, T, H, W[, C]) uint8; without `repeat` the last may be smaller."""
    data = sequences(folder, start, shuffle_seed, repeat)
    return data.batch(batch_size, drop_remainder=repeat).prefetch(2)


# ---------------------------------------------------------------------- verifying


def verify(folder: str | Path) -> list[str]:
    """What is wrong with a data set, a line each that names the file; [] if it is whole.

    Reads everything: every shard must be there, with the size, sha256 and number of records that
    the manifest says, and every record of the right shape; and there must be no other file.
    """
    folder = Path(folder)
    try:
        manifest = Manifest.load(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    known = {MANIFEST, *(shard.name for shard in manifest.shards)}
    problems = [
        f"{path}: not of this data set"
        for path in sorted(folder.iterdir()) if path.name not in known
    ]
    for shard in manifest.shards:
        problems += _shard_problems(folder, shard, manifest)
    return problems


def _file_problem(folder, shard):
    path = folder / shard.name
    if not path.is_file():
        return f"{path} is missing"
    size = path.stat().st_size
    return f"{path}: {size} bytes, {shard.bytes} expected" if size != shard.bytes else None


def _shard_problems(folder, shard, manifest):
    path = folder / shard.name
    problem = _file_problem(folder, shard)
    if problem and not path.is_file():
        return [problem]
    problems = [problem] if problem else []
    if files.sha256(path) != shard.sha256:
        problems.append(f"{path}: its sha256 is not the manifest's")
    index = 0
    try:
        for record in tf.data.TFRecordDataset(str(path), manifest.compression):
            if problem := _record_problem(record.numpy(), manifest.shape):
                problems.append(f"{path}: record {index}: {problem}")
            index += 1
        if index != shard.count:
            problems.append(f"{path}: {index} records, {shard.count} expected")
    except tf.errors.OpError as error:
        problems.append(f"{path}: record {index}: cannot be read ({error.message})")
    return problems


def _record_problem(record, shape):
    try:
        feature = tf.train.Example.FromString(record).features.feature
    except DecodeError:
        return "not a tf.train.Example"
    found = tuple(feature["shape"].int64_list.value)
    if found != shape:
        return f"shape {found}, {shape} expected"
    frames = b"".join(feature["frames"].bytes_list.value)
    if len(frames) != np.prod(shape):
        return f"{len(frames)} bytes of frames, {np.prod(shape)} expected"
    return None
