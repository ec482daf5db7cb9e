"""Random access to the frames of a data set (`records`), from which training draws its windows.

Data that fits in memory is held there. For larger data, an index says where in its shard the values
of each sequence are, and frames are read from disk on demand. A GZIP shard can only be read
forwards, so copies of the decompressor's state are kept at even distances, and reading starts from
the last one before the frames.
"""

import bisect
import contextlib
import copy
import functools
import os
import zlib
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import tensorflow as tf
from google.protobuf.message import DecodeError

from unsup_video.data import records
from unsup_video.utils import files

_MEMORY = 1 << 30  # bytes
# The size of a decompressor's state: a window of 32 KiB, tables, and up to a chunk of input that it
# has not decompressed yet.
_STATE = 44 << 10
_SPACING = 64 << 10  # minimum number of bytes from one state to the next
_CHUNK = 4 << 10  # bytes of a compressed file to decompress at once
_BUFFER = 64 << 10  # bytes to read at once
_GZIP = 31  # zlib's code for a stream with gzip's header
_HEADER = 12  # bytes of a TFRecord before its data: length and checksum
_CHECKSUM = 4  # bytes after its data
_HEAD = _HEADER + 128  # bytes of a record that suffice to locate its values


class Frames:
    """The stored values of the chosen sequences of a data set.

    Args:
        folder: the data set. chosen: (count,) bool, True for the sequences to use; None for all.
        memory: maximum bytes for the values, or for the states of GZIP shards; None for 1 GiB.

    Attributes:
        folder, manifest: of the data set. chosen: (count,) bool.
        lengths: (count,) int64, the frame counts of all sequences.
        is_held: True if the values fit into `memory`.

    Raises:
        FileNotFoundError, ValueError: the data set is missing or damaged.
    """

    def __init__(
        self, folder: str | Path, chosen: np.ndarray | None = None, memory: int | None = None
    ):
        self.folder = Path(folder)
        self.manifest = records.Manifest.load(folder)
        self.lengths = records.lengths(folder)
        self.chosen = np.ones(len(self.lengths), bool) if chosen is None else chosen
        self._memory = _MEMORY if memory is None else memory
        size = self.lengths[self.chosen].sum() * self.manifest.frame_bytes
        self.is_held = bool(size <= self._memory)

    def subset(self, chosen: np.ndarray) -> "Frames":
        """Returns the frames of some of these sequences, (count,) bool; shares what is loaded."""
        self.prepare()
        frames = copy.copy(self)
        frames.chosen = chosen
        return frames

    def prepare(self) -> None:
        """Loads or indexes the values now, instead of on the first `read`.

        Indexing takes one pass through the shards that contain a chosen sequence, several at once.
        It decompresses GZIP shards, and compares the sha256 of other shards with the manifest's.

        Raises:
            ValueError, tensorflow.errors.DataLossError: a shard is missing or damaged. Everything
                that is read is checked against its checksums.
        """
        _ = self._source

    def read(self, sequence: int, first: int, count: int) -> tuple[np.ndarray, np.float32]:
        """Reads frames `first` to `first + count` of a chosen sequence, which has that many.

        Several threads may call this at the same time, after `prepare`.

        Returns:
            (count, *frame_shape) of the data set's dtype; and the value that a stored 1 stands for.

        Raises:
            OSError, ValueError: a file can no longer be read, or has changed since `prepare`.
        """
        return self._source(sequence, first, count)

    @functools.cached_property
    def _source(self):
        if self.is_held:
            indices = np.flatnonzero(self.chosen)
            held = dict(zip(indices, records.pick(self.folder, indices), strict=True))

            def read(sequence, first, count):
                record = held[sequence]
                return record.frames[first : first + count], np.float32(record.scale)

            return read
        return self._index()

    def _index(self):
        manifest, size = self.manifest, self.manifest.frame_bytes
        records.check_shards(self.folder, manifest)
        bounds = np.cumsum([0, *(shard.count for shard in manifest.shards)])
        used = np.flatnonzero(np.diff(np.cumsum([0, *self.chosen])[bounds]))
        total = size * sum(int(self.lengths[bounds[n] : bounds[n + 1]].sum()) for n in used)
        spacing = max(_SPACING, total * _STATE // max(1, self._memory))

        def index(number):
            expected = manifest.shards[number]
            path = self.folder / expected.name
            sizes = size * self.lengths[bounds[number] : bounds[number + 1]]
            try:
                if manifest.compression:
                    shard = _GzipFile(path, spacing)  # checks GZIP's checksum
                else:
                    shard = _PlainFile(path)
                    if files.sha256(path) != expected.sha256:
                        raise ValueError("its sha256 is not the manifest's")
                return shard, *_locate(shard, sizes, manifest.scale)
            except (ValueError, zlib.error, DecodeError) as error:
                raise ValueError(
                    f"{path}: damaged ({error}); python -m data_prep.verify {self.folder} says "
                    "what is wrong"
                ) from None

        with ThreadPoolExecutor(os.cpu_count()) as pool:
            shards = dict(zip(used, pool.map(index, used), strict=True))

        def read(sequence, first, count):
            number = bisect.bisect(bounds, sequence) - 1
            shard, offsets, scales = shards[number]
            nth = sequence - bounds[number]
            data = shard.read(offsets[nth] + first * size, count * size)
            values = np.frombuffer(data, manifest.dtype)
            return values.reshape(count, *manifest.frame_shape), scales[nth]

        return read


# ---------------------------------------------------------------------- shards


class _File:
    """A file that is opened for each read, since a data set may have more files than a process may
    hold open, and that must stay as it was when it was indexed."""

    def __init__(self, path):
        self._path = path
        self._stamp = _stamp(os.stat(path))

    @contextlib.contextmanager
    def _opened(self):
        with open(self._path, "rb", _BUFFER) as file:
            if _stamp(os.fstat(file.fileno())) != self._stamp:
                raise ValueError(
                    f"{self._path} has changed since training began to read it: start again"
                )
            yield file


def _stamp(status):
    return status.st_ino, status.st_size, status.st_mtime_ns


class _PlainFile(_File):
    """A file without compression."""

    def read(self, offset, size):
        """Reads `size` bytes from `offset` on; fewer at the end of the file."""
        with self._opened() as file:
            file.seek(offset)
            return file.read(size)


class _GzipFile(_File):
    """The contents of a GZIP file; keeps a decompressor's state every `spacing` bytes."""

    def __init__(self, path, spacing):
        super().__init__(path)
        self._offsets = []  # where the states are in the contents
        self._states = []  # (position in the file, decompressor)
        offset = 0
        with self._opened() as file:
            stream = _GzipStream(file, zlib.decompressobj(_GZIP))
            while not stream.inflate.eof:
                self._offsets.append(offset)
                self._states.append((stream.tell(), stream.inflate.copy()))
                offset += len(stream.read(spacing))

    def read(self, offset, size):
        """Reads `size` bytes of the contents from `offset` on; fewer at their end."""
        nearest = bisect.bisect(self._offsets, offset) - 1
        position, inflate = self._states[nearest]
        with self._opened() as file:
            file.seek(position)
            stream = _GzipStream(file, inflate.copy())
            stream.read(offset - self._offsets[nearest])
            return stream.read(size)


class _GzipStream:
    """Reads a GZIP file forwards, from the position of `inflate`, its decompressor."""

    def __init__(self, file, inflate):
        self.inflate = inflate
        self._file = file
        self._rest = b""  # read from the file, but not decompressed yet

    def tell(self):
        return self._file.tell() - len(self._rest)

    def read(self, size):
        parts = []
        while size and not self.inflate.eof:
            data = self._rest or self._file.read(_CHUNK)
            part = self.inflate.decompress(data, size)
            if not data and not part:
                raise ValueError("its GZIP stream has no end")
            self._rest = self.inflate.unconsumed_tail
            parts.append(part)
            size -= len(part)
        return b"".join(parts)


# ---------------------------------------------------------------------- records


def _locate(shard, sizes, scale):
    """Returns where the values of a shard's records are, `sizes` bytes each, and their scales."""
    offsets, scales, record = [], [], 0
    head = shard.read(0, _HEAD)
    for number, size in enumerate(sizes.tolist()):
        length = int.from_bytes(head[:8], "little")
        try:
            first, stored, end = _locate_values(head[_HEADER:])
        except IndexError:
            raise ValueError(f"record {number} holds no frames") from None
        after = length - first - size  # bytes of the other features, which follow
        if end != length or after < 0:
            raise ValueError(f"record {number} has a wrong length")
        if stored != size:
            raise ValueError(f"record {number} has {stored} bytes of frames, {size} expected")
        offsets.append(record + _HEADER + first)
        # One read for the rest of this record and the head of the next.
        rest = shard.read(offsets[-1] + size, after + _CHECKSUM + _HEAD)
        if len(rest) < after + _CHECKSUM:
            raise ValueError(f"it ends in record {number}")
        own = tf.train.Features.FromString(rest[:after]).feature["scale"].float_list.value
        scales.append(own[0] if own else scale)
        head = rest[after + _CHECKSUM :]
        record += _HEADER + length + _CHECKSUM
    return np.array(offsets, np.int64), np.array(scales, np.float32)


_KEY = b"\n\x06frames\x12"  # the key of an entry in a map of features, and the tag of its value


def _locate_values(example):
    """Locates the values in the first bytes of a tf.train.Example: (start, size, end of example).

    Raises IndexError if there are no values.
    """
    size, at = _varint(example, 1)  # after the tag of the features
    end = at + size
    while True:
        size, at = _varint(example, at + 1)
        if example.startswith(_KEY, at):
            break
        at += size
    _, at = _varint(example, at + len(_KEY))  # size of the feature
    _, at = _varint(example, at + 1)  # size of its list of bytes
    size, at = _varint(example, at + 1)
    return at, size, end


def _varint(data, at):
    """Reads a number in the wire format of protocol buffers: (number, offset after it)."""
    number = shift = 0
    while data[at] & 128:
        number |= (data[at] & 127) << shift
        at, shift = at + 1, shift + 7
    return number | data[at] << shift, at + 1
