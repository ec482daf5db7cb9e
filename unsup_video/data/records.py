"""The format of data sets on disk: a folder of TFRecord shards with a manifest.

    FOLDER/00000-of-00004.tfrecord, ..   each record is a `tf.train.Example` of one sequence:
        frames   bytes: the values, of the manifest's dtype, in C order, little-endian
        shape    int64 list: (T, D), (T, H, W) or (T, H, W, C)
        scale    float, if it is not the manifest's: a stored value stands for value * scale
        name, label   bytes and int64, of a sequence with a name: the name of its video and the
                 index of its class, -1 without one
    FOLDER/index.jsonl                   for sequences with names: one `Entry` per line, in order
    FOLDER/quarantine.jsonl              inputs that were not used (`used` is false), or were used,
                                         but are doubtful (`used` is true), with the reason
    FOLDER/manifest.json                 the contents, a `Manifest`

A data set is written atomically. `verify` detects later damage.
"""

import contextlib
import dataclasses
import errno
import hashlib
import itertools
import json
import os
import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import cast

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from unsup_video.utils import files
from unsup_video.utils.indices import evenly_spread

MANIFEST = "manifest.json"
INDEX = "index.jsonl"
QUARANTINE = "quarantine.jsonl"
SCHEMA_VERSION = 2  # version 1 had uint8 frames of one shape, and no names
COMPRESSIONS = ("", "GZIP")
DTYPES = ("uint8", "int8", "float16")
UNIT = 1 / 255  # the scale of pixels: uint8 stands for [0, 1]
_SHARD_BYTES = 256 << 20  # approximate size of a shard if the number of shards is not given


@dataclasses.dataclass(frozen=True)
class Record:
    """A sequence to write, with its name, label, group and splits.

    Attributes:
        frames: (T, ..) of the data set's dtype. scale: None for the data set's.
        name: the name of the video, unique in the data set; "" for a sequence without a name.
        label: index into the manifest's classes, -1 without one.
        group: videos of one group (for example of one recording) are never divided between splits;
            "" for a video that is its own group.
        splits: for each official split 1 (train), 2 (test) or 0 (unused); () without any.
    """

    frames: np.ndarray
    scale: float | None = None
    name: str = ""
    label: int = -1
    group: str = ""
    splits: tuple[int, ...] = ()


@dataclasses.dataclass(frozen=True)
class Entry:
    """A line of index.jsonl: a `Record` without its values; `frames` is T."""

    frames: int
    name: str
    label: int
    group: str
    splits: tuple[int, ...]


@dataclasses.dataclass(frozen=True)
class Shard:
    """A file of records: its name, number of records, size in bytes and hexadecimal sha256."""

    name: str
    count: int
    bytes: int
    sha256: str


@dataclasses.dataclass(frozen=True)
class Manifest:
    """The contents of a data set, as manifest.json has them.

    Attributes:
        kind: the kind of data, such as "moving_mnist". source: its origin, JSON values.
        shape: of every sequence, (T, D), (T, H, W) or (T, H, W, C); T is None if it varies.
        dtype: one of `DTYPES`. scale: the value that a stored 1 stands for, unless a record has its
            own scale.
        count: number of sequences. shards: the files, in order.
        compression: of the shards, "" or "GZIP". classes: names of the labels.
        index: sha256 of index.jsonl; "" if the sequences have no names.
    """

    kind: str
    source: dict
    shape: tuple[int | None, ...]
    count: int
    shards: tuple[Shard, ...]
    compression: str = ""
    dtype: str = "uint8"
    scale: float = UNIT
    classes: tuple[str, ...] = ()
    index: str = ""
    schema_version: int = SCHEMA_VERSION

    @property
    def fingerprint(self) -> str:
        """The sha256 of all that sequences are read from: the shards, the index, and what turns
        their bytes into frames and labels (frame shape, dtype, scale and classes)."""
        digests = [*(shard.sha256 for shard in self.shards), self.index]
        meaning = [self.frame_shape, self.dtype, self.scale, self.classes]
        return hashlib.sha256(json.dumps([digests, meaning]).encode()).hexdigest()

    @property
    def earlier_fingerprint(self) -> str:
        """The fingerprint of earlier versions, which is of the bytes alone."""
        digests = "".join(shard.sha256 for shard in self.shards) + self.index
        return hashlib.sha256(digests.encode()).hexdigest()

    def is_recorded_as(self, fingerprint: str) -> bool:
        """Returns True for `fingerprint`, and for that of earlier versions."""
        return fingerprint in (self.fingerprint, self.earlier_fingerprint)

    @property
    def frame_shape(self) -> tuple[int, ...]:
        """(D,), (H, W) or (H, W, C)."""
        return cast(tuple[int, ...], self.shape[1:])  # only the number of frames varies

    @property
    def frame_bytes(self) -> int:
        """The size of a stored frame in bytes."""
        return int(np.prod(self.frame_shape)) * np.dtype(self.dtype).itemsize

    @classmethod
    def load(cls, folder: str | Path) -> "Manifest":
        """Reads FOLDER/manifest.json.

        Raises:
            FileNotFoundError: the file does not exist. ValueError: it is damaged, contradicts
                itself, or comes from a newer version.
        """
        path = Path(folder) / MANIFEST
        if not exists(folder):
            raise FileNotFoundError(f"{path} is missing: {folder} is no data set of data_prep")
        try:
            fields = json.loads(path.read_text(encoding="utf-8"))
            if fields["schema_version"] > SCHEMA_VERSION:
                raise ValueError(
                    f"schema version {fields['schema_version']}, this program reads up to "
                    f"{SCHEMA_VERSION}; update unsup_video"
                )
            fields["shape"] = tuple(fields["shape"])
            fields["classes"] = tuple(fields.get("classes", ()))
            fields["shards"] = tuple(Shard(**shard) for shard in fields["shards"])
            manifest = cls(**fields)
            manifest._check()
        except (KeyError, TypeError, AttributeError) as error:
            raise ValueError(f"{path}: damaged, or not a manifest ({error!r})") from None
        except ValueError as error:
            raise ValueError(f"{path}: {error}") from None
        return manifest

    def _check(self):
        if self.dtype not in DTYPES:
            raise ValueError(f"dtype {self.dtype!r}, only {', '.join(DTYPES)} are known")
        if self.compression not in COMPRESSIONS:
            raise ValueError(f"compression {self.compression!r}, only '' and 'GZIP' are known")
        length, *frame_shape = self.shape
        sizes = frame_shape if length is None else self.shape
        if not 1 <= len(frame_shape) <= 3 or not all(n > 0 for n in sizes):
            raise ValueError(f"shape {self.shape}, {_SHAPES} expected")
        if any(Path(shard.name).name != shard.name for shard in self.shards):
            raise ValueError("the name of a shard is a path")
        total = sum(shard.count for shard in self.shards)
        if self.count != total or total < 1:
            raise ValueError(f"count {self.count}, but the shards' counts add up to {total}")

    def shape_problem(self, shape: tuple[int, ...]) -> str | None:
        """Returns why a sequence cannot have this shape here, or None if it can."""
        if (
            len(shape) == len(self.shape)
            and shape[0] > 0
            and (tuple(shape[1:]) == self.frame_shape and self.shape[0] in (None, shape[0]))
        ):
            return None
        return f"shape {tuple(shape)}, {format_shape(self.shape)} expected"


def fingerprints(manifests: Mapping[str, Manifest]) -> dict[str, dict[str, str]]:
    """Returns the fingerprints of a run's data, as `Workdir.write_run_info` compares them.

    They are {"sha256": name -> fingerprint, "earlier_sha256": name -> that of earlier versions}.
    """
    return {
        "sha256": {name: manifest.fingerprint for name, manifest in manifests.items()},
        "earlier_sha256": {name: m.earlier_fingerprint for name, m in manifests.items()},
    }


def format_shape(shape: tuple[int | None, ...]) -> str:
    """Formats a manifest's shape: "(T, 4096)" if the number of frames varies."""
    return f"({', '.join('T' if n is None else str(n) for n in shape)})"


_SHAPES = "(T, D), (T, H, W) or (T, H, W, C)"


def exists(folder: str | Path) -> bool:
    """Returns True if a data set exists, after recovering one whose replacement was killed."""
    path = Path(folder) / MANIFEST
    if not path.is_file():
        files.recover(folder)
    return path.is_file()


def load_index(folder: str | Path) -> tuple[Entry, ...]:
    """Reads the entries of a data set, one per record; () if its sequences have no names.

    Raises:
        FileNotFoundError, ValueError: as `Manifest.load`; the index is missing or damaged.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    path = folder / INDEX
    if not manifest.index:
        return ()
    if problem := _index_problem(path, manifest):
        raise ValueError(f"{problem}; write the data set again")
    lines = path.read_text(encoding="utf-8").splitlines()
    return tuple(parse_entry(line) for line in lines)


def parse_entry(line: str) -> Entry:
    """Parses an `Entry` from a line of JSON."""
    fields = json.loads(line)
    return Entry(**{**fields, "splits": tuple(fields["splits"])})


def format_entry(entry: Entry) -> str:
    """Formats an `Entry` as one line of JSON."""
    return json.dumps(dataclasses.asdict(entry))


def _index_problem(path, manifest):
    if not path.is_file():
        return f"{path} is missing"
    if files.sha256(path) != manifest.index:
        return f"{path}: its sha256 is not the manifest's"
    return None


# ---------------------------------------------------------------------- writing


def write(
    folder: str | Path,
    sequences: Iterable[np.ndarray | Record],
    count: int,
    kind: str,
    source: dict,
    shards: int | None = None,
    compression: str = "",
    overwrite: bool = False,
    dtype: str = "uint8",
    scale: float = UNIT,
    classes: tuple[str, ...] = (),
) -> Manifest:
    """Writes a data set atomically, one sequence at a time.

    Args:
        sequences: exactly `count` arrays of `dtype`, (T, D), (T, H, W) or (T, H, W, C), of one
            shape; or `count` `Record`s, either all with names or all without. T may vary between
            records with names.
        kind, source, compression, dtype, scale, classes: see `Manifest`.
        shards: number of files; None for one per 256 MB of frames. Each contains consecutive
            sequences.
        overwrite: replace an existing data set; other files in its folder stay.

    Raises:
        ValueError: a bad argument, or a bad sequence (the message has its index); another process
            is writing the data set. FileExistsError: `folder` exists. OSError: it cannot be
            written.
    """
    folder = Path(folder)
    if count < 1:
        raise ValueError(f"count must be at least 1, got {count}")
    if shards is not None and not 1 <= shards <= count:
        raise ValueError(f"shards must be 1 to count = {count}, got {shards}")
    check_writable(folder, compression, overwrite)
    records = _checked(sequences, count, dtype, len(classes))
    first = next(records)
    records = itertools.chain([first], records)
    if shards is None:
        shards = min(count, default_shards(count * first.frames.nbytes))

    entries = []

    def examples(size):
        for record in itertools.islice(records, size):
            entries.append(entry_of(record))
            yield serialize(record)

    def refuse():
        raise ValueError(f"{folder}: another process is writing it now")

    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(folder, waiting=refuse):
        files.remove_leftovers(folder.parent, folder.name)
        with replacing(folder, overwrite) as temporary:
            written = []
            bounds = [*evenly_spread(shards, count).tolist(), count]
            for i, size in enumerate(np.diff(bounds)):
                written.append(write_shard(temporary, i, shards, examples(size), compression))
            next(records, None)  # raises an error if there are more
            return finish(
                temporary,
                kind,
                source,
                first.frames.shape[1:],
                written,
                entries,
                compression=compression,
                dtype=dtype,
                scale=scale,
                classes=classes,
            )


def default_shards(size: int) -> int:
    """Returns the number of shards for `size` bytes of frames, if the user does not choose it."""
    return -(-size // _SHARD_BYTES)


@contextlib.contextmanager
def replacing(folder: Path, overwrite: bool) -> Iterator[Path]:
    """Yields a temporary folder to write a data set into, which replaces `folder` at the end.

    An existing folder is replaced only if `check_writable` allows it. Foreign files in it stay.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(folder, replace=overwrite) as temporary:
        temporary.mkdir()
        yield temporary
        files.sync(temporary)  # takes long, so the check below comes after it
        check_writable(folder, "", overwrite)
        if folder.exists():
            own = {path.name for path in folder.iterdir()} - {p.name for p in foreign(folder)}
            files.keep_foreign(folder, temporary, own)


def write_shard(
    folder: Path, number: int, shards: int, examples: Iterable[bytes], compression: str
) -> Shard:
    """Writes shard `number`, from 0, of `shards` to `folder`; `examples` are from `serialize`."""
    path = folder / f"{number:05d}-of-{shards:05d}.tfrecord"
    count = write_file(path, examples, compression)
    return Shard(path.name, count, path.stat().st_size, files.sha256(path))


def write_file(path: Path, examples: Iterable[bytes], compression: str) -> int:
    """Writes a TFRecord file, inside an `atomic_write`; returns its number of records."""
    count = 0
    try:
        with tf.io.TFRecordWriter(str(path), compression) as writer:
            for example in examples:
                writer.write(example)
                count += 1
    except tf.errors.OpError as error:
        raise OSError(errno.EIO, error.message) from None  # `atomic_write` adds the name
    return count


def finish(
    folder: Path,
    kind: str,
    source: dict,
    frame_shape: tuple[int, ...],
    shards: Iterable[Shard],
    entries: list[Entry],
    **fields,
) -> Manifest:
    """Writes the index and the manifest of a data set whose shards are in `folder`.

    Args:
        entries: one for each record, in order. fields: other fields of `Manifest`.
    """
    lengths = {entry.frames for entry in entries}
    length = lengths.pop() if len(lengths) == 1 else None
    index = ""
    if entries[0].name:
        text = "".join(format_entry(entry) + "\n" for entry in entries)
        (folder / INDEX).write_text(text, encoding="utf-8")
        index = files.sha256(folder / INDEX)
    manifest = Manifest(
        kind, source, (length, *frame_shape), len(entries), tuple(shards), index=index, **fields
    )
    manifest._check()
    text = json.dumps(dataclasses.asdict(manifest), indent=2) + "\n"
    (folder / MANIFEST).write_text(text, encoding="utf-8")
    return manifest


def check_writable(folder: Path, compression: str, overwrite: bool) -> None:
    """Raises ValueError or OSError if a data set cannot be written to `folder`.

    An existing folder is replaced only with `overwrite`, and only if it contains a data set, or no
    files but those of a data set.
    """
    if compression not in COMPRESSIONS:
        raise ValueError(f"unknown compression {compression!r}: '' or 'GZIP'")
    for parent in folder.absolute().parents:
        if parent.exists() and not parent.is_dir():
            raise NotADirectoryError(f"{folder} cannot be made: {parent} is a file")
    is_data_set = exists(folder)
    if not folder.exists():
        return
    if not overwrite:
        raise FileExistsError(f"{folder} exists; choose another name, or --overwrite it")
    if not folder.is_dir():
        raise FileExistsError(f"{folder} is a file and no data set: it is not overwritten")
    if not os.access(folder, os.W_OK):
        raise PermissionError(f"{folder} is read-only: it is not overwritten")
    if not is_data_set and (others := foreign(folder)):
        raise FileExistsError(
            f"{folder} is no data set ({MANIFEST} is missing) and holds {others[0].name}: it is "
            "not overwritten"
        )


_OWN_FILES = {MANIFEST, INDEX, QUARANTINE}
_SHARD = re.compile(r"\d{5,}-of-\d{5,}\.tfrecord")  # names from `write_shard`


def foreign(folder: str | Path) -> list[Path]:
    """Lists the files in the folder of a data set whose names are not those of a data set."""
    return [
        path
        for path in sorted(Path(folder).iterdir())
        if path.name not in _OWN_FILES and not _SHARD.fullmatch(path.name)
    ]


def _checked(sequences, count, dtype, classes) -> Iterator[Record]:
    first, names, index = None, set(), -1
    for index, sequence in enumerate(sequences):
        if index == count:
            raise ValueError(f"there are more than count = {count} sequences")
        if not isinstance(sequence, Record):
            sequence = Record(np.asarray(sequence))
        if problem := record_problem(sequence, dtype, classes):
            raise ValueError(f"record {index}: {problem}")
        first = first or sequence
        if bool(sequence.name) != bool(first.name):
            raise ValueError(f"record {index}: all sequences have a name, or none has")
        if sequence.name and sequence.name in names:
            raise ValueError(f"record {index}: there is another one named {sequence.name}")
        names.add(sequence.name)
        shape, expected = sequence.frames.shape, first.frames.shape
        if shape[1:] != expected[1:] or (not first.name and shape != expected):
            raise ValueError(f"record {index}: shape {shape}, those before it {expected}")
        yield sequence
    if index + 1 < count:
        raise ValueError(f"count is {count}, but there are only {index + 1} sequences")


def record_problem(record: Record, dtype: str, classes: int) -> str | None:
    """Returns why a data set of this dtype and number of classes cannot take a record, or None."""
    frames = record.frames
    if frames.dtype != dtype:
        return f"{dtype} expected, got {frames.dtype}"
    if not 2 <= frames.ndim <= 4 or not frames.size:
        return f"{_SHAPES} expected, got {frames.shape}"
    if dtype == "float16" and not np.isfinite(frames).all():
        return "a value is not finite, or beyond the range of float16"
    if not -1 <= record.label < classes:
        return f"label {record.label}, -1 or one of {classes} classes expected"
    return None


def entry_of(record: Record) -> Entry:
    """Returns the index entry of a record."""
    return Entry(len(record.frames), record.name, record.label, record.group, tuple(record.splits))


def serialize(record: Record) -> bytes:
    """Serializes a record; the bytes are the same on every machine."""
    features = {
        "frames": tf.train.Feature(
            bytes_list=tf.train.BytesList(value=[np.ascontiguousarray(record.frames).tobytes()])
        ),
        "shape": _integers(record.frames.shape),
    }
    if record.scale is not None:
        features["scale"] = tf.train.Feature(float_list=tf.train.FloatList(value=[record.scale]))
    if record.name:
        name = tf.train.BytesList(value=[record.name.encode()])
        features["name"] = tf.train.Feature(bytes_list=name)
        features["label"] = _integers([record.label])
    example = tf.train.Example(features=tf.train.Features(feature=features))
    return example.SerializeToString(deterministic=True)


def _integers(values):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=values))


# ---------------------------------------------------------------------- reading


def lengths(folder: str | Path) -> np.ndarray:
    """Returns the number of frames of every sequence of a data set, (count,) int64."""
    manifest = Manifest.load(folder)
    if manifest.shape[0] is not None:
        return np.full(manifest.count, manifest.shape[0], np.int64)
    return np.array([entry.frames for entry in load_index(folder)], np.int64)


def check_shards(folder: str | Path, manifest: Manifest) -> None:
    """Raises ValueError if a shard is missing or does not have the expected size."""
    for shard in manifest.shards:
        if problem := _file_problem(Path(folder), shard):
            raise ValueError(f"{problem}; write the data set again")


def examples(
    folder: str | Path,
    cut: Callable[..., tf.data.Dataset] | None = None,
    pieces: np.ndarray | None = None,
) -> tf.data.Dataset:
    """Reads the records of a data set in the order on disk, as (index, serialized Example).

    Args:
        cut: (index, example) -> data set of pieces of the record, which become the elements.
        pieces: (count,) int, the number of pieces that `cut` makes of each record; None for one.
            Records with 0 pieces are skipped.

    Raises:
        FileNotFoundError, ValueError: the data set is missing or incomplete. Damage inside a shard
            raises TensorFlow's `DataLossError` on reading, which does not name the file;
            `python -m data_prep.verify` does.
    """
    folder = Path(folder)
    manifest = Manifest.load(folder)
    check_shards(folder, manifest)
    pieces = np.ones(manifest.count, np.int64) if pieces is None else pieces
    paths = tf.constant([str(folder / shard.name) for shard in manifest.shards])
    bounds = np.cumsum([0, *(shard.count for shard in manifest.shards)])
    firsts = tf.constant(bounds[:-1])
    pieces_of_shards = np.diff(np.cumsum([0, *pieces])[bounds])
    used = np.flatnonzero(pieces_of_shards)  # the other shards are not opened

    def read(shard):
        numbered = tf.data.TFRecordDataset(paths[shard], manifest.compression).enumerate()
        return numbered.map(lambda i, example: (i + tf.gather(firsts, shard), example))

    elements = tf.data.Dataset.from_tensor_slices(used).flat_map(read)
    if not pieces.all():
        kept = tf.constant(pieces > 0)
        elements = elements.filter(lambda i, example: kept[i])
    return elements if cut is None else elements.flat_map(cut)


def sequences(folder: str | Path) -> tf.data.Dataset:
    """Reads the stored values of the sequences one by one, (T, ..) of the data set's dtype.

    Raises the errors of `examples`.
    """
    manifest = Manifest.load(folder)

    def parse(index, example):
        features = tf.io.parse_single_example(
            example,
            {
                "frames": tf.io.FixedLenFeature([], tf.string),
                "shape": tf.io.FixedLenFeature([len(manifest.shape)], tf.int64),
            },
        )
        values = tf.io.decode_raw(features["frames"], manifest.dtype)
        values = tf.reshape(values, features["shape"])
        return tf.ensure_shape(values, manifest.shape)

    return examples(folder).map(parse, num_parallel_calls=tf.data.AUTOTUNE)


def read(folder: str | Path, indices: Iterable[int]) -> Iterator[Record]:
    """Reads the records with these indices, in the order of the data set; each with its scale.

    Only one record is in memory at a time. Raises the errors of `examples`.
    """
    manifest, entries = Manifest.load(folder), load_index(folder)
    pieces = np.zeros(manifest.count, np.int64)
    pieces[list(indices)] = 1
    for index, example in examples(folder, pieces=pieces):
        frames, scale = decode(example.numpy(), manifest)
        entry = entries[int(index)] if entries else Entry(len(frames), "", -1, "", ())
        yield Record(frames, scale, entry.name, entry.label, entry.group, entry.splits)


def decode(example: bytes, manifest: Manifest) -> tuple[np.ndarray, float | None]:
    """Returns (frames, scale) of a serialised example, see `Record`."""
    feature = tf.train.Example.FromString(example).features.feature
    frames = np.frombuffer(feature["frames"].bytes_list.value[0], manifest.dtype)
    scale = feature["scale"].float_list.value
    shape = feature["shape"].int64_list.value
    return frames.reshape(shape), scale[0] if scale else manifest.scale


def pick(folder: str | Path, indices: Iterable[int]) -> list[Record]:
    """Returns the records of `read` as a list."""
    return list(read(folder, indices))


def batches(folder: str | Path, batch_size: int) -> tf.data.Dataset:
    """Batches `sequences` of one length as (B, T, ..); the last batch may be smaller."""
    return sequences(folder).batch(batch_size).prefetch(2)


# ---------------------------------------------------------------------- verifying


def verify(folder: str | Path) -> list[str]:
    """Checks a data set completely; returns one line per problem, which names the file.

    Every shard must exist and have the size, sha256 and number of records in the manifest. Every
    record must have the right shape and match the index. No other .tfrecord file may exist; other
    `foreign` files do no harm.
    """
    folder = Path(folder)
    try:
        manifest = Manifest.load(folder)
    except (OSError, ValueError) as error:
        return [str(error)]
    known = {shard.name for shard in manifest.shards}
    problems = [
        f"{path}: not of this data set"
        for path in sorted(folder.glob("*.tfrecord"))
        if path.name not in known and not path.name.startswith(".")
    ]
    entries = None
    if manifest.index:
        if problem := _index_problem(folder / INDEX, manifest):
            problems.append(problem)
        else:
            entries = load_index(folder)
            if len(entries) != manifest.count:
                problems.append(
                    f"{folder / INDEX}: {len(entries)} lines, {manifest.count} expected"
                )
    first = 0
    for shard in manifest.shards:
        expected = None if entries is None else entries[first : first + shard.count]
        problems += _shard_problems(folder, shard, manifest, expected)
        first += shard.count
    return problems


def _file_problem(folder, shard):
    path = folder / shard.name
    if not path.is_file():
        return f"{path} is missing"
    size = path.stat().st_size
    return f"{path}: {size} bytes, {shard.bytes} expected" if size != shard.bytes else None


def _shard_problems(folder, shard, manifest, entries):
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
            entry = entries[index] if entries and index < len(entries) else None
            if problem := _example_problem(record.numpy(), manifest, entry):
                problems.append(f"{path}: record {index}: {problem}")
            index += 1
        if index != shard.count:
            problems.append(f"{path}: {index} records, {shard.count} expected")
    except tf.errors.OpError as error:
        problems.append(f"{path}: record {index}: cannot be read ({error.message})")
    return problems


def _example_problem(example, manifest, entry):
    try:
        feature = tf.train.Example.FromString(example).features.feature
    except DecodeError:
        return "not a tf.train.Example"
    shape = tuple(feature["shape"].int64_list.value)
    if problem := manifest.shape_problem(shape):
        return problem
    frames = b"".join(feature["frames"].bytes_list.value)
    wanted = int(np.prod(shape)) * np.dtype(manifest.dtype).itemsize
    if len(frames) != wanted:
        return f"{len(frames)} bytes of frames, {wanted} expected"
    if entry is None:
        return None
    stored = (
        shape[0],
        b"".join(feature["name"].bytes_list.value).decode(errors="replace"),
        *feature["label"].int64_list.value,
    )
    expected = (entry.frames, entry.name, entry.label)
    if stored == expected:
        return None
    return f"{stored} (frames, name, label), the index has {expected}"
