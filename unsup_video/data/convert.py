"""Converts existing percepts to records, from NumPy arrays or HDF5.

    X.npz     X (N, T, D), and optionally scale, label (N,), split (N, K), group (N,) and name (N,),
              but no other arrays; or a single array of any name
    X.npy     (N, T, D)
    FOLDER    .npy files, (T, D) each, one per video, as `folders.files` finds them; the names of
              sub-folders are the classes, and videos outside them have no label
    X.h5      (total frames, D), all videos one after the other; a text file has the frame count of
              each video, one per line. The authors' releases call this LABELLED
    X.txt     paths of HDF5 files, one per line, (T, D) each. The authors call this UNLABELLED

Values are floating-point numbers, or uint8 with a scale, which are stored unchanged. Files are read
one video at a time; pickles are refused.
"""

import contextlib
import dataclasses
import math
import re
import zipfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING

import h5py
import numpy as np

from unsup_video.data import folders, labelling, text
from unsup_video.data import storage as packing
from unsup_video.utils import files

if TYPE_CHECKING:  # importing `records` would import TensorFlow, which `group` does not need
    from unsup_video.data.records import Record

_ARRAY = ".npy"
_HDF5 = (".h5", ".hdf5")
ANNOTATIONS = ("label", "split", "group", "name")  # arrays of a .npz besides its values
_KNOWN = ("scale", *ANNOTATIONS)
_LIMIT = 256 << 20  # maximum size of these arrays in bytes, together
_LARGEST = 2**31 - 1  # maximum size of a video in bytes: a record has to fit in a protocol buffer
# The name of a video of UCF-101, with its class and the number of its group.
_UCF101 = re.compile(r"(?:.*/)?v_(\w+)_(g[0-9]+)_c[0-9]+(?:\.\w+)?")


@dataclasses.dataclass(frozen=True)
class Percepts:
    """The arguments for `records.write`, which see. `records` can be read only once.

    `ignored` has the names of files in a folder that are not used, as in `folders.files`.
    """

    records: "Iterator[Record]"
    count: int
    dtype: str
    scale: float
    classes: tuple[str, ...]
    source: dict
    ignored: tuple[str, ...] = ()


@dataclasses.dataclass(frozen=True)
class Annotations:
    """The annotations of the N sequences of a .npz file; None if the file has none of a kind.

    Attributes:
        names, labels, groups: one per sequence; the label of a sequence without one is None.
        splits: one value of `records.Entry.splits` per sequence.
    """

    names: list[str] | None = None
    labels: list[str | None] | None = None
    groups: list[str] | None = None
    splits: list[tuple[int, ...]] | None = None


@dataclasses.dataclass
class _RawPercepts:
    """The contents of a file: the values of `count` videos, one by one, and their metadata."""

    count: int
    videos: Iterator[np.ndarray]  # (T, D)
    dtype: np.dtype
    scale: np.ndarray | None = None
    names: Sequence[str] | None = None
    labels: Sequence[str | None] | None = None  # None for a video without one
    numbered: bool = True  # labels that are all numbers are numbers of classes
    groups: Sequence[str] | None = None
    splits: Sequence[tuple[int, ...]] | None = None
    ignored: tuple[str, ...] = ()


def read(
    path: str | Path,
    *,
    labels: str | Path | None = None,
    num_frames: str | Path | None = None,
    names: str | Path | None = None,
    classes: str | Path | None = None,
    dataset: str | None = None,
    scale: float | None = None,
    storage: str | None = None,
) -> Percepts:
    """Opens percepts, and checks as much as possible before their values are read.

    A video with a name of UCF-101 gets its group from that name, and the class of a label that is a
    number gets its name. Otherwise, numbers are classes from 0 to the largest number, which are
    named by their numbers; at least half of them must be used, since years, for example, are no
    indices. The names of folders are never numbers.

    Args:
        path: see above, in the description of the module.
        labels: text file with the label of every video in order, one per line: a name, or a number,
            -1 for none. For a folder, lines are `NAME LABEL`, in any order.
        num_frames: text file with the frame count of every video in order, one per line; HDF5 only.
        names: text file with the name of every video in order, one per line.
        classes: text file with one class per line: names, numbered from 0; or `NUMBER NAME`, as in
            UCF-101's classInd.txt.
        dataset: name of the data set in HDF5 files; None if they have only one.
        scale: the value that a stored 1 stands for, for uint8 without a scale of its own.
        storage: one of `storage.STORAGES`, for floating-point numbers; None for float16.

    Raises:
        ValueError: the files are damaged or contradict each other. Reading `records` raises it,
            too, for bad values, and names the video. OSError: a file cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path} does not exist")
    suffix = path.suffix.lower()
    if num_frames is not None and suffix not in (*_HDF5, ".txt"):
        raise ValueError(f"{path}: a file of the numbers of frames is for HDF5")
    if path.is_dir():
        raw = _folder(path)
    elif suffix == ".npz":
        raw = _npz(path)
    elif suffix == _ARRAY:
        raw = _npy(path)
    elif suffix in _HDF5:
        raw = _hdf5(path, dataset, num_frames)
    elif suffix == ".txt":
        raw = _hdf5_list(path, dataset, num_frames)
    else:
        raise ValueError(f"{path}: a folder or a .npz, .npy, .h5, .hdf5 or .txt file is expected")

    if names is not None:
        raw.names = [name for _, name in _lines(names)]
    elif raw.names is None:
        raw.names = [f"{i:06d}" for i in range(raw.count)]
    known = {} if classes is None else _class_names(classes)
    if labels is not None:
        named = known.values()
        if path.is_dir():
            given = text.values(labels, raw.names, "LABEL", _without_suffix)
            raw.labels = [_label(labels, *given[name], named) for name in raw.names]
        else:
            raw.labels = _labels(labels, named)
        raw.numbered = True
    for what in ("names", "labels", "groups", "splits"):
        values = getattr(raw, what)
        if values is not None and len(values) != raw.count:
            raise ValueError(f"{path}: {raw.count} videos, but {len(values)} {what}")

    dtype, scales = _storage(path, raw, scale, storage)
    indices, class_names = _classes(labels or path, raw, classes, known)
    source = {"file": path.name} | ({"sha256": files.sha256(path)} if path.is_file() else {})
    return Percepts(
        _records(path, raw, dtype, scales, indices),
        raw.count,
        dtype,
        1.0 if scales.ndim else float(scales),
        class_names,
        source,
        raw.ignored,
    )


def group(name: str) -> str:
    """Returns the group of a video with a name of UCF-101; "" for any other name."""
    match = _UCF101.fullmatch(name)
    return "_".join(match.groups()) if match else ""


def _records(path, raw, dtype, scales, indices):
    from unsup_video.data.records import Record

    for i, values in enumerate(raw.videos):
        name, scale = raw.names[i], float(scales[i]) if scales.ndim else None
        if raw.dtype != np.uint8:
            try:
                values, scale = packing.pack(values, dtype)
            except ValueError as error:
                raise ValueError(f"{path}: video {name}: {error}") from None
        its_group = group(name) or ("" if raw.groups is None else raw.groups[i])
        splits = () if raw.splits is None else raw.splits[i]
        yield Record(np.ascontiguousarray(values), scale, name, indices[i], its_group, splits)


def _storage(path, raw, scale, storage):
    """Returns (dtype to store, the value that a stored 1 stands for: float32, () or (N,))."""
    if raw.dtype != np.uint8:
        if scale is not None or raw.scale is not None:
            raise ValueError(
                f"{path} holds {raw.dtype}: a scale is for uint8; multiply the values by it, or "
                "leave it out"
            )
        return storage or "float16", np.float32(1)
    if storage is not None:
        raise ValueError(f"{path} holds uint8: it is stored as it is, and not as {storage}")
    if raw.scale is not None and scale is not None:
        raise ValueError(f"{path} has a scale of its own")
    scales = np.asarray(raw.scale if scale is None else scale, np.float32)
    if scales.shape not in ((), (raw.count,)) or not ((scales > 0) & (scales < np.inf)).all():
        raise ValueError(
            f"{path} holds uint8: a scale must say what a stored 1 stands for, one positive "
            "number, or one for each video"
        )
    return "uint8", scales


def _classes(where, raw, classes, known):
    """Returns (index of the class of every video, names of the classes).

    Args:
        where: the source of the labels, for messages. known: {number: name} from the file
            `classes`, if there is one.
    """
    if raw.labels is None:
        if known:
            raise ValueError(f"{classes} names classes, but no video has a label")
        return [-1] * raw.count, ()
    given = set(raw.labels) - {None}
    try:
        numbers = labelling.numbers(given, known.values()) if raw.numbered else None
    except ValueError as error:
        raise ValueError(f"{where}: {error}") from None
    if numbers is None:
        labels = raw.labels
    else:
        labels = [None if label is None else numbers[label] for label in raw.labels]
    used = sorted(set(labels) - {None})
    if not known and numbers is None:
        known = dict(enumerate(used))
    elif not known:
        known = _classes_from_videos(labels, raw.names) or _classes_from_numbers(where, used)
    keys = list(known.values() if numbers is None else known)
    if unknown := set(used) - set(keys):
        raise ValueError(
            f"{where}: label {min(unknown)}, but {classes} has {keys[0]} to {keys[-1]}"
        )
    index = {key: i for i, key in enumerate(keys)} | {None: -1}
    return [index[label] for label in labels], tuple(known.values())


def _classes_from_numbers(where, used):
    """Returns {number: the number as text} for all numbers from 0 to the largest of `used`."""
    count = used[-1] + 1 if used else 0
    if count > 2 * len(used):
        raise ValueError(
            f"{where}: label {used[-1]}: numbers are classes from 0 to the largest, {count:,} of "
            f"them, of which only {len(used):,} are used. A file of lines NUMBER NAME, --classes, "
            "says which there are"
        )
    return {number: str(number) for number in range(count)}


def _classes_from_videos(labels, names):
    """Returns {number: class} if all videos have names of UCF-101 that agree; otherwise None."""
    matches = [_UCF101.fullmatch(name) for name in names]
    if not all(matches):
        return None
    labelled = zip(labels, matches, strict=True)
    pairs = sorted({(number, match[1]) for number, match in labelled if number is not None})
    known = dict(pairs)
    return known if len(pairs) == len(known) == len(set(known.values())) else None


# ---------------------------------------------------------------------- text files


def _lines(path):
    """Reads the lines of a text file that must not be empty."""
    if not (lines := text.lines(path)):
        raise ValueError(f"{path} is empty")
    return lines


def _counts(path):
    counts = []
    for number, line in _lines(path):
        if not re.fullmatch("[0-9]+", line) or int(line) < 1:
            raise ValueError(
                f"{path}, line {number}: {line!r}, a number of frames expected, one per line"
            )
        counts.append(int(line))
    return counts


def _labels(path, named):
    return [_label(path, number, line, named) for number, line in _lines(path)]


def _label(path, number, label, named):
    """Checks a label of a text file; returns None for a video without a label."""
    try:
        return None if label == labelling.NONE else labelling.check(label, named)
    except ValueError as error:
        raise ValueError(f"{path}, line {number}: {error}") from None


def _without_suffix(name):
    return name[: -len(_ARRAY)] if name.lower().endswith(_ARRAY) else name


def _class_names(path):
    """Reads {number: name} of the classes from lines `NAME` or `NUMBER NAME`, by number."""
    lines = _lines(path)
    fields = [line.split(maxsplit=1) for _, line in lines]
    if all(len(pair) == 2 and re.fullmatch("[0-9]+", pair[0]) for pair in fields):
        pairs = [(int(number), name) for number, name in fields]
    else:
        pairs = [(index, " ".join(words)) for index, words in enumerate(fields)]
    classes = {}
    for (line, _), (number, name) in zip(lines, pairs, strict=True):
        if number in classes or name in classes.values():
            raise ValueError(
                f"{path}, line {line}: the number or the name of {number} {name} is there twice"
            )
        classes[number] = name
    return dict(sorted(classes.items()))


# ---------------------------------------------------------------------- NumPy


def _check(where, shape, dtype, axes):
    """Raises ValueError unless an array has the axes named by `axes` and a usable dtype."""
    if len(shape) != axes.count(",") + 1 or not all(shape):
        raise ValueError(f"{where}: shape {tuple(shape)}, {axes} expected")
    if dtype != np.uint8 and dtype.kind != "f":
        raise ValueError(f"{where}: {dtype}, uint8 or floating-point numbers expected")


def _check_size(where, shape, dtype):
    """Raises ValueError if the values of one video, (T, D), exceed the size of a record.

    A file of a few bytes can claim any size.
    """
    size = math.prod(shape) * dtype.itemsize
    if size > _LARGEST:
        raise ValueError(f"{where}: {size:,} bytes per video, at most {_LARGEST:,} can be stored")


def _npz(path):
    with files.damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        names = archive.namelist()
        if others := [name for name in names if not name.endswith(_ARRAY)]:
            raise ValueError(f"it holds {folders.shown(others)}: no {_ARRAY} file")
        keys = [name.removesuffix(_ARRAY) for name in names]
    known = files.read_arrays(path, _KNOWN, _LIMIT)
    key = keys[0] if len(keys) == 1 else "X"
    if key not in keys:
        raise ValueError(f"{path}: no array X, but {', '.join(keys) or 'nothing'}")
    with files.damage_as_value_error(path), _member(path, key) as (_, shape, dtype):
        pass
    _check(f"{path}: {key}", shape, dtype, "(N, T, D)")
    _check_size(f"{path}: {key}", shape[1:], dtype)
    if unknown := [name for name in keys if name not in (key, *_KNOWN)]:
        raise ValueError(
            f"{path}: arrays {', '.join(unknown)} are not known, only {key}, {', '.join(_KNOWN)}: "
            "rename them, or save the file without them"
        )
    scale = known.pop("scale", None)
    if scale is not None and scale.dtype.kind not in "iuf":
        raise ValueError(f"{path}: scale holds {scale.dtype}, numbers expected")
    return _RawPercepts(
        shape[0], _npz_videos(path, key), dtype, scale=scale, **vars(annotations(path, known))
    )


def annotations(path: str | Path, arrays: dict[str, np.ndarray]) -> Annotations:
    """Reads the `ANNOTATIONS` among the arrays of a .npz file.

    Raises:
        ValueError: an array of another shape or of other values; the message names it.
    """
    known = dict(arrays)
    for name in ANNOTATIONS:
        if name not in known:
            continue
        if known[name].ndim != 1 and not (name == "split" and known[name].ndim == 2):
            raise ValueError(
                f"{path}: {name} has shape {known[name].shape}, one value per video expected"
            )
        if known[name].dtype.kind == "S":
            try:
                known[name] = np.char.decode(known[name], "utf-8")
            except UnicodeDecodeError as error:
                raise ValueError(f"{path}: {name} holds text that is not UTF-8 ({error})") from None
        if known[name].dtype.kind not in "iuU":
            raise ValueError(f"{path}: {name} holds {known[name].dtype}, integers or text expected")
    names, labels, groups = (
        known[name].astype(str).tolist() if name in known else None
        for name in ("name", "label", "group")
    )
    if labels is not None:
        labels = [None if label == labelling.NONE else label for label in labels]
    codes, splits = known.get("split"), None
    if codes is not None:
        if not np.isin(codes, (0, 1, 2)).all():
            raise ValueError(f"{path}: a split is 0 (unused), 1 (train) or 2 (test)")
        rows = codes[:, None] if codes.ndim == 1 else codes
        splits = [tuple(row) for row in rows.astype(int).tolist()]
    return Annotations(names, labels, groups, splits)


def _npz_videos(path, key):
    # Reads from the stream, because np.load would hold the whole array in memory.
    with files.damage_as_value_error(path), _member(path, key) as (file, shape, dtype):
        size = math.prod(shape[1:]) * dtype.itemsize
        for _ in range(shape[0]):
            yield np.frombuffer(file.read(size), dtype).reshape(shape[1:])


@contextlib.contextmanager
def _member(path, key):
    """Yields (file at the first value, shape, dtype) of an array of an archive."""
    with zipfile.ZipFile(path) as archive, archive.open(f"{key}{_ARRAY}") as file:
        shape, fortran_order, dtype = files.read_header(file)
        if fortran_order:
            raise ValueError(f"{key} is in Fortran order; save np.ascontiguousarray of it")
        yield file, shape, dtype


def _npy(path):
    array = _map(path)
    _check(path, array.shape, array.dtype, "(N, T, D)")
    _check_size(path, array.shape[1:], array.dtype)
    return _RawPercepts(len(array), iter(array), array.dtype)


def _map(path):
    with files.damage_as_value_error(path):
        return np.lib.format.open_memmap(path, mode="r")


def _folder(path):
    paths_by_name, ignored = folders.files(path, (_ARRAY,))
    if not paths_by_name:
        unused = f" (not used: {folders.shown(ignored)})" if ignored else ""
        raise ValueError(f"{path} holds no {_ARRAY} file{unused}")
    names = [_without_suffix(name) for name in paths_by_name]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: two files for {twice}; remove one")
    paths = list(paths_by_name.values())
    in_folders = any("/" in name for name in names)
    return _RawPercepts(
        len(paths),
        _checked_values(paths, map(_map, paths)),
        _map(paths[0]).dtype,
        names=names,
        labels=[name.split("/")[0] if "/" in name else None for name in names]
        if in_folders
        else None,
        numbered=False,
        ignored=ignored,
    )


def _checked_values(paths, arrays):
    """Yields the values of files' arrays, which must be (T, D), all of one D and kind of dtype.

    Each array is checked before it is read.
    """
    first = None
    for path, array in zip(paths, arrays, strict=True):
        _check(path, array.shape, array.dtype, "(T, D)")
        _check_size(path, array.shape, array.dtype)
        kind = array.shape[1], array.dtype.kind
        if kind != (first := first or kind):
            raise ValueError(
                f"{path}: {array.dtype} {array.shape}, but those before it have D = {first[0]}, "
                f"{'uint8' if first[1] == 'u' else 'floating-point numbers'}"
            )
        yield array[()]


# ---------------------------------------------------------------------- HDF5, the authors' format


def _hdf5(path, dataset, num_frames):
    if num_frames is None:
        raise ValueError(f"{path}: a file of the videos' numbers of frames is needed")
    counts = _counts(num_frames)
    with _open(path, dataset) as values:
        _check(f"{path}: {values.name}", values.shape, values.dtype, "(total frames, D)")
        if sum(counts) != len(values):
            raise ValueError(
                f"{path} has {len(values):,} frames, but {num_frames} adds up to {sum(counts):,}"
            )
        _check_size(f"{path}: {values.name}", (max(counts), values.shape[1]), values.dtype)
        dtype = values.dtype

    def videos():
        first = 0
        with _open(path, dataset) as values:
            for count in counts:
                yield values[first : first + count]
                first += count

    return _RawPercepts(len(counts), videos(), dtype)


def _hdf5_list(path, dataset, num_frames):
    names = [name for _, name in _lines(path)]
    paths = [path.parent / name for name in names]
    counts = [None] * len(paths) if num_frames is None else _counts(num_frames)
    if len(counts) != len(paths):
        raise ValueError(f"{path} has {len(paths)} files, {num_frames} {len(counts)} numbers")
    with _open(paths[0], dataset) as values:
        dtype = values.dtype

    def arrays():
        for file, count in zip(paths, counts, strict=True):
            with _open(file, dataset) as values:
                if values.shape and count not in (None, len(values)):
                    raise ValueError(f"{file} has {len(values)} frames, {num_frames} says {count}")
                yield values

    return _RawPercepts(len(paths), _checked_values(paths, arrays()), dtype, names=names)


@contextlib.contextmanager
def _open(path, dataset):
    """Opens the data set of that name in an HDF5 file, or its only one."""
    if not path.is_file():
        raise FileNotFoundError(f"{path} does not exist")
    try:
        # Nobody writes the file, and not every file system has locks.
        file = h5py.File(path, "r", locking=False)
    except OSError as error:
        raise ValueError(f"{path}: damaged, or not HDF5 ({error})") from None
    with file:
        items = []
        file.visititems(lambda name, item: items.append((name, item)))
        names = [name for name, item in items if isinstance(item, h5py.Dataset)]
        if dataset is None and len(names) != 1:
            raise ValueError(
                f"{path} holds {', '.join(names) or 'no data set'}: say which data set it is"
            )
        if dataset not in (None, *names):
            raise ValueError(f"{path} has no data set {dataset}, only {', '.join(names)}")
        values = file[dataset or names[0]]
        if values.external or values.is_virtual:
            raise ValueError(f"{path}: the values of {values.name} are in other files; copy them")
        if not values.id.get_storage_size():  # without any, its shape may claim any size
            raise ValueError(f"{path}: no value was ever written to {values.name}")
        yield values
