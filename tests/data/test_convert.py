"""Percepts that exist already: every format against NumPy, through to what a model reads."""

import fcntl
import io
import os
import zipfile

import h5py
import numpy as np
import pytest

import commands
from unsup_video.data import convert, records, storage, windows

COUNT, LENGTH, DIM = 6, 4, 5
VALUES = np.random.default_rng(0).gamma(1, 3, (COUNT, LENGTH, DIM)).astype(np.float32)
CODES = np.random.default_rng(1).integers(0, 256, (COUNT, LENGTH, DIM)).astype(np.uint8)
LABELS = [1, 0, 2, 2, -1, 0]
UCF101 = [
    f"Pu/v_Punch_g{i:02d}_c01.avi" if i % 2 else f"Bi/v_Biking_g{i:02d}_c02.avi"
    for i in range(COUNT)
]
COUNTS = [3, 1, 7, 2, 4, 7]  # of frames; 24 in all


def convert_to(folder, path, **arguments):
    """(manifest, entries, the frames of every video as float32) of a written data set."""
    found = convert.read(path, **arguments)
    manifest = records.write(
        folder,
        found.records,
        found.count,
        "percepts",
        found.source,
        dtype=found.dtype,
        scale=found.scale,
        classes=found.classes,
        compression="GZIP",
    )
    assert records.verify(folder) == []
    entries = records.load_index(folder)
    videos = [[] for _ in entries]
    for window in windows.at(folder, 1, windows.starts(folder, 1)).as_numpy_iterator():
        videos[window["sequence"]].append(window["frames"][0])
    return manifest, entries, [np.stack(video) for video in videos]


def lines(path, values):
    path.write_text("".join(f"{value}\n" for value in values))
    return path


# ---------------------------------------------------------------------- storage


@pytest.mark.parametrize("name, bound", [("float16", 2.0**-11), ("uint8", 1 / 510)])
def test_error_of_storage(name, bound):
    values = np.random.default_rng(0).gamma(0.5, 2, (300, 100)).astype(np.float32)
    stored, scale = storage.pack(values, name)
    assert stored.dtype == name
    error = np.abs(stored.astype(np.float64) * (scale or 1) - values)
    relative_to = values.max() if name == "uint8" else np.maximum(values, 2.0**-14)
    assert 0.5 * bound < (error / relative_to).max() <= bound * 1.001


def test_zeros_stay_zeros():
    for name in storage.STORAGES:
        stored, scale = storage.pack(np.zeros((2, 3)), name)
        assert not stored.any() and scale in (None, 1.0)


@pytest.mark.parametrize(
    "value, name, message",
    [
        (np.nan, "float16", "not finite"),
        (np.nan, "uint8", "not finite"),
        (np.inf, "uint8", "not finite"),
        (-np.inf, "float16", "not finite"),
        (7e4, "float16", "7e[+]04 is beyond float16's 65504"),
        (-7e4, "float16", "beyond float16's"),
        (-1, "uint8", "never negative"),
    ],
)
def test_values_that_cannot_be_stored(value, name, message):
    with pytest.raises(ValueError, match=message):
        storage.pack(np.array([[0.5, value]]), name)


# ---------------------------------------------------------------------- NumPy


def test_npz_with_everything(tmp_path):
    splits = np.random.default_rng(2).integers(0, 3, (COUNT, 3)).astype(np.int8)
    scale = np.float32(12 / 255)
    np.savez_compressed(
        tmp_path / "a.npz",
        X=CODES,
        scale=scale,
        label=np.array([9, 4] * 3, np.int16),
        split=splits,
        group=np.arange(COUNT),
        name=np.array(UCF101)[::-1],
    )
    manifest, entries, videos = convert_to(tmp_path / "out", tmp_path / "a.npz")
    assert manifest.dtype == "uint8" and manifest.shape == (LENGTH, DIM)
    assert np.float32(manifest.scale) == scale
    assert manifest.classes == ("Biking", "Punch")  # in the order of their numbers
    assert [entry.label for entry in entries] == [1, 0] * 3
    assert [entry.name for entry in entries] == UCF101[::-1]
    assert entries[0].group == "Punch_g05" and entries[1].group == "Biking_g04"
    assert [entry.splits for entry in entries] == [tuple(row) for row in splits.tolist()]
    np.testing.assert_array_equal(videos, CODES.astype(np.float32) * scale)


def test_a_scale_for_each_video(tmp_path):
    scale = np.linspace(0.1, 2, COUNT).astype(np.float32)
    np.savez(tmp_path / "a.npz", X=CODES, scale=scale, group=list("aabbcc"), split=[1, 2] * 3)
    _, entries, videos = convert_to(tmp_path / "out", tmp_path / "a.npz")
    np.testing.assert_array_equal(videos, CODES * scale[:, None, None])
    assert [(entry.name, entry.label, entry.group, entry.splits) for entry in entries][:3] == [
        ("000000", -1, "a", (1,)),
        ("000001", -1, "a", (2,)),
        ("000002", -1, "b", (1,)),
    ]


@pytest.mark.parametrize("suffix, dtype", [("npy", ">f4"), ("npy", "<f8"), ("npz", "<f2")])
def test_arrays_of_floats(tmp_path, suffix, dtype):
    path = tmp_path / f"a.{suffix}"
    (np.save if suffix == "npy" else np.savez)(path, VALUES.astype(dtype))
    manifest, entries, videos = convert_to(
        tmp_path / "out", path, labels=lines(tmp_path / "labels.txt", LABELS)
    )
    assert manifest.dtype == "float16" and manifest.scale == 1
    np.testing.assert_array_equal(videos, VALUES.astype(np.float16).astype(np.float32))
    assert [entry.label for entry in entries] == LABELS
    assert manifest.classes == ("0", "1", "2")


def test_floats_in_8_bits(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    _, _, videos = convert_to(tmp_path / "out", tmp_path / "a.npy", storage="uint8")
    largest = VALUES.max(axis=(1, 2), keepdims=True)
    assert 0 < np.abs(videos - VALUES).max() and (np.abs(videos - VALUES) < largest / 509).all()


def test_uint8_with_a_scale_that_is_given(tmp_path):
    np.save(tmp_path / "a.npy", CODES)
    _, _, videos = convert_to(tmp_path / "out", tmp_path / "a.npy", scale=0.5)
    np.testing.assert_array_equal(videos, CODES / 2)


def test_folder(tmp_path):
    for i, values in enumerate(VALUES):
        path = tmp_path / "in" / "xy"[i % 2] / f"{i}.npy"
        path.parent.mkdir(parents=True, exist_ok=True)
        np.save(path, values[: 1 + i % LENGTH])
    names = ["x/0", "x/2", "x/4", "y/1", "y/3", "y/5"]
    manifest, entries, videos = convert_to(tmp_path / "out", tmp_path / "in")
    assert [entry.name for entry in entries] == names and manifest.shape == (None, DIM)
    assert [manifest.classes[entry.label] for entry in entries] == [name[0] for name in names]
    for name, video in zip(names, videos, strict=True):
        i = int(name[2:])
        np.testing.assert_array_equal(video, VALUES[i, : 1 + i % LENGTH].astype(np.float16))

    labels = lines(
        tmp_path / "labels",
        ["y/1.npy b", "x/0 a", *(f"{n} a" for n in names[1:3]), "y/3 b", "y/5 c"],
    )
    found = convert.read(tmp_path / "in", labels=labels)
    assert [found.classes[record.label] for record in found.records] == ["a"] * 3 + ["b", "b", "c"]


def test_some_without_a_label(tmp_path):
    (tmp_path / "in" / "a").mkdir(parents=True)
    for name in ("a/0", "1", "2"):
        np.save(tmp_path / "in" / f"{name}.npy", VALUES[0])

    def labels(**arguments):
        found = convert.read(tmp_path / "in", **arguments)
        return [(record.name, record.label) for record in found.records], found.classes

    assert labels() == ([("1", -1), ("2", -1), ("a/0", 0)], ("a",))
    named = lines(tmp_path / "labels", ["1 b", "2 -1", "a/0 c"])
    assert labels(labels=named) == ([("1", 0), ("2", -1), ("a/0", 1)], ("b", "c"))


def test_text_as_bytes(tmp_path):
    np.savez(
        tmp_path / "a.npz",
        X=VALUES,
        label=np.array([b"run", b"jump"] * 3),
        group=np.array([b"g"] * 6),
    )
    found = convert.read(tmp_path / "a.npz")
    assert found.classes == ("jump", "run")
    assert {(record.label, record.group) for record in found.records} == {(0, "g"), (1, "g")}


def test_text_as_bytes_is_utf_8(tmp_path):
    names = [f"\u00e9t\u00e9{i}" for i in range(COUNT)]
    np.savez(tmp_path / "a.npz", X=VALUES, name=np.array([name.encode() for name in names]))
    assert [record.name for record in convert.read(tmp_path / "a.npz").records] == names


def test_class_files(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)

    def classes_of(labels, classes):
        found = convert.read(
            tmp_path / "a.npy",
            labels=lines(tmp_path / "labels", labels),
            classes=lines(tmp_path / "classes", classes),
        )
        return [found.classes[record.label] for record in found.records], found.classes

    wanted = ["b", "a", "c", "c", "a", "a"]
    assert classes_of(wanted, "abcd") == (wanted, tuple("abcd"))
    assert classes_of([1, 0, 2, 2, 0, 0], "abcd") == (wanted, tuple("abcd"))
    numbered = ["1 a", "2 b", "3 c", "4 d"]
    assert classes_of([2, 1, 3, 3, 1, 1], numbered) == (wanted, tuple("abcd"))
    with pytest.raises(ValueError, match="label 0, but .*classes has 1 to 4"):
        classes_of([1, 0, 2, 2, 0, 0], numbered)
    with pytest.raises(ValueError, match="label z, but .*classes has a to d"):
        classes_of(list("zzzzzz"), "abcd")


# ---------------------------------------------------------------------- HDF5, as the authors'


@pytest.fixture
def hdf5(tmp_path):
    """(path, numbers of frames, labels, all frames) of the LABELLED format."""
    frames = np.random.default_rng(3).gamma(1, 3, (sum(COUNTS), DIM)).astype(np.float32)
    with h5py.File(tmp_path / "a.h5", "w") as file:
        file["hidden6"] = frames
    return (
        tmp_path / "a.h5",
        lines(tmp_path / "num_frames.txt", COUNTS),
        lines(tmp_path / "labels.txt", LABELS),
        frames,
    )


def test_hdf5(tmp_path, hdf5):
    path, num_frames, labels, frames = hdf5
    _manifest, entries, videos = convert_to(
        tmp_path / "out",
        path,
        num_frames=num_frames,
        labels=labels,
        dataset="hidden6",
        names=lines(tmp_path / "names.txt", UCF101),
    )
    assert [entry.frames for entry in entries] == COUNTS == [len(video) for video in videos]
    np.testing.assert_array_equal(np.concatenate(videos), frames.astype(np.float16))
    assert [entry.label for entry in entries] == LABELS
    assert entries[3].name == UCF101[3] and entries[3].group == "Punch_g03"


def test_hdf5_is_read_video_by_video(hdf5, monkeypatch):
    path, num_frames, _, _ = hdf5
    read, original = [], h5py.Dataset.__getitem__

    def getitem(dataset, key, **arguments):
        found = original(dataset, key, **arguments)
        read.append(len(found))
        return found

    monkeypatch.setattr(h5py.Dataset, "__getitem__", getitem)
    list(convert.read(path, num_frames=num_frames).records)
    assert read == COUNTS


def test_list_of_hdf5(tmp_path, hdf5):
    _, num_frames, _, frames = hdf5
    parts = np.split(frames, np.cumsum(COUNTS)[:-1])
    (tmp_path / "files").mkdir()
    for i, part in enumerate(parts):
        with h5py.File(tmp_path / "files" / f"{i}.h5", "w") as file:
            file["a/fc6"] = part
            file["a/other"] = np.zeros(3)
    path = lines(tmp_path / "list.txt", [f"files/{i}.h5" for i in range(COUNT)])
    for arguments in ({}, {"num_frames": num_frames}):
        _, entries, videos = convert_to(
            tmp_path / f"out{len(arguments)}", path, dataset="a/fc6", **arguments
        )
        assert [entry.name for entry in entries] == [f"files/{i}.h5" for i in range(COUNT)]
        for video, part in zip(videos, parts, strict=True):
            np.testing.assert_array_equal(video, part.astype(np.float16))
    with pytest.raises(ValueError, match="holds a/fc6, a/other: say which"):
        convert.read(path)
    with pytest.raises(ValueError, match="no data set fc6, only a/fc6, a/other"):
        convert.read(path, dataset="fc6")
    lines(num_frames, [3, 1, 7, 2, 4, 8])
    with pytest.raises(ValueError, match="5.h5 has 7 frames, .* says 8"):
        list(convert.read(path, dataset="a/fc6", num_frames=num_frames).records)


def test_hdf5_is_read_without_a_lock(tmp_path):
    path = stack(tmp_path, VALUES.reshape(-1, DIM))
    with open(path, "rb") as other:
        fcntl.flock(other, fcntl.LOCK_EX)  # as where there are no locks, h5py would refuse
        found = convert.read(path, num_frames=lines(tmp_path / "n.txt", [LENGTH] * COUNT))
        assert len(list(found.records)) == COUNT


# ---------------------------------------------------------------------- bad input


def saved(path, **arrays):
    np.savez(path / "a.npz", **arrays)
    return path / "a.npz"


def array(path, values):
    np.save(path / "a.npy", values)
    return path / "a.npy"


def stack(path, frames, **more):
    with h5py.File(path / "a.h5", "w") as file:
        file["x"] = frames
    return path / "a.h5"


def garbage(path, name, content=b"no such format" * 50):
    (path / name).write_bytes(content)
    return path / name


def truncated(path):
    whole = saved(path, X=CODES).read_bytes()
    return garbage(path, "b.npz", whole[: len(whole) // 2])


def flipped(path):
    """An archive with another byte among the values, which its checksum tells."""
    whole = bytearray(saved(path, X=VALUES).read_bytes())
    whole[whole.index(VALUES.tobytes()) + 9] ^= 1
    return garbage(path, "b.npz", bytes(whole))


def claiming(path, shape):
    """An archive whose header promises more values than there are."""
    header = io.BytesIO()
    fields = {"descr": "|u1", "fortran_order": False, "shape": shape}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(path / "a.npz", "w") as archive:
        archive.writestr("X.npy", header.getvalue() + bytes(100))
    return path / "a.npz"


def unwritten(path, shape, **values):
    """A data set of HDF5 of which nothing is stored, or one value."""
    with h5py.File(path / "a.h5", "w") as file:
        found = file.create_dataset("x", shape, "uint8", chunks=(1, 8))
        for place in values.get("at", ()):
            found[place] = 1
    assert (path / "a.h5").stat().st_size < 10_000
    return path / "a.h5"


def pipe(path, name):
    os.mkfifo(path / name)
    return path / name


def zipped(path, *names):
    with zipfile.ZipFile(path / "a.npz", "w") as archive:
        for name in names:
            archive.writestr(name, "text")
    return path / "a.npz"


def listed(path, *names):
    return lines(path / "list.txt", names)


def unequal(path, second):
    np.save(path / "0.npy", VALUES[0])
    np.save(path / "1.npy", second)
    return path


def elsewhere(path):
    with h5py.File(path / "a.h5", "w") as file:
        file.create_dataset("x", (4, 5), "uint8", external=[(path / "b", 0, h5py.h5f.UNLIMITED)])
    return path / "a.h5"


def with_one(value):
    values = VALUES.copy()
    values[4, 1, 2] = value
    return values


def test_an_array_of_few_bytes_is_not_decompressed_without_a_limit(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_LIMIT", 1 << 20)
    np.savez_compressed(tmp_path / "a.npz", X=VALUES, label=np.zeros(1 << 18, np.int64))
    with pytest.raises(ValueError, match="a.npz: .*label makes it larger than it may be"):
        convert.read(tmp_path / "a.npz")


def test_an_array_of_numpys_is_not_larger_than_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr(convert, "_LARGEST", VALUES[0].nbytes - 1)
    np.save(tmp_path / "a.npy", VALUES)
    np.savez(tmp_path / "a.npz", X=VALUES)
    (tmp_path / "in").mkdir()
    np.save(tmp_path / "in" / "a.npy", VALUES[0])
    for name in ("a.npy", "a.npz", "in"):
        with pytest.raises(ValueError, match=f"{name}.*: 80 bytes per video, at most 79 can be"):
            list(convert.read(tmp_path / name).records)


@pytest.mark.parametrize(
    "make, arguments, message",
    [
        (lambda p: p / "none.npz", {}, "none.npz does not exist"),
        (lambda p: p, {}, "holds no .npy file"),
        (lambda p: garbage(p, "a.mat"), {}, "a folder or a .npz, .npy"),
        (lambda p: garbage(p, "a.npz"), {}, "a.npz: truncated, damaged"),
        (lambda p: garbage(p, "a.npy"), {}, "a.npy: truncated, damaged"),
        (lambda p: garbage(p, "a.h5"), {"num_frames": [3]}, "a.h5: damaged, or not HDF5"),
        (truncated, {}, "b.npz: truncated, damaged"),
        (flipped, {}, "b.npz: truncated, damaged.*CRC"),
        (lambda p: claiming(p, (1, 1 << 20, 1 << 12)), {"scale": 1.0}, "a.npz: .*bytes per video"),
        (lambda p: saved(p, A=CODES, B=CODES), {}, "no array X, but A, B"),
        (lambda p: zipped(p, "X"), {}, "a.npz: .*it holds X: no .npy file"),
        (lambda p: zipped(p, "X.npy", "a/b.txt"), {}, "a.npz: .*it holds a/b.txt: no .npy file"),
        (lambda p: zipped(p), {}, "a.npz: no array X, but nothing"),
        *(
            (
                lambda p, name=name: saved(p, X=VALUES, **{name: [b"a", b"\xff"] * 3}),
                {},
                f"a.npz: {name} holds text that is not UTF-8 .*0xff",
            )
            for name in ("label", "name", "group")
        ),
        (
            lambda p: saved(p, X=CODES[0]),
            {"scale": 1.0},
            r"X: shape \(4, 5\), \(N, T, D\) expected",
        ),
        (lambda p: saved(p, X=CODES.astype(int)), {}, "int64, uint8 or floating-point"),
        (lambda p: saved(p, X=np.array([None])), {}, "expected"),
        (lambda p: saved(p, X=CODES, scale=1.0, label=LABELS[1:]), {}, "6 videos, but 5 labels"),
        (lambda p: saved(p, X=CODES, scale=1.0, name=3), {}, r"name has shape \(\)"),
        (
            lambda p: saved(p, X=CODES, scale=1.0, label=np.zeros((6, 2))),
            {},
            r"label has shape \(6, 2",
        ),
        (
            lambda p: saved(p, X=CODES, scale=1.0, label=[0.5] * 6),
            {},
            "label holds float64, integers",
        ),
        (lambda p: saved(p, X=CODES, scale=1.0, split=[3] * 6), {}, "a split is 0 .unused., 1"),
        (lambda p: saved(p, X=CODES, scale=1.0, label=[-2] * 6), {}, "label -2"),
        (lambda p: saved(p, X=CODES, scale=1.0), {"scale": 1.0}, "has a scale of its own"),
        (lambda p: saved(p, X=CODES, scale=[1.0, 2.0]), {}, "one positive number, or one for each"),
        (lambda p: saved(p, X=CODES, scale=0.0), {}, "a scale must say"),
        (lambda p: saved(p, X=CODES, scale=np.inf), {}, "a scale must say"),
        (
            lambda p: saved(p, X=VALUES, scale=[3.0] * 6),
            {},
            "a.npz holds float32: a scale is for uin",
        ),
        (lambda p: saved(p, X=VALUES, scale="abc"), {}, "a.npz: scale holds <U3, numbers expected"),
        (lambda p: saved(p, X=CODES, scale="abc"), {}, "a.npz: scale holds <U3, numbers expected"),
        (lambda p: array(p, CODES), {}, "a scale must say what a stored 1 stands for"),
        (lambda p: array(p, CODES), {"scale": 1.0, "storage": "float16"}, "stored as it is"),
        (lambda p: array(p, VALUES), {"scale": 1.0}, "a scale is for uint8"),
        (lambda p: array(p, VALUES[:, :0]), {}, r"shape \(6, 0, 5\)"),
        (lambda p: array(p, VALUES), {"labels": [0, 1]}, "6 videos, but 2 labels"),
        (lambda p: array(p, VALUES), {"labels": []}, "labels is empty"),
        (lambda p: array(p, VALUES), {"names": ["a"] * 5}, "6 videos, but 5 names"),
        (lambda p: array(p, VALUES), {"classes": ["a"]}, "no video has a label"),
        (lambda p: array(p, VALUES), {"num_frames": [4] * 6}, "is for HDF5"),
        (lambda p: array(p, with_one(np.nan)), {}, "video 000004: a value is not finite"),
        (lambda p: array(p, with_one(1e5)), {}, "video 000004: .* beyond float16"),
        (lambda p: array(p, with_one(-1)), {"storage": "uint8"}, "video 000004: .*never negative"),
        (lambda p: unequal(p, VALUES), {}, r"1.npy: shape \(6, 4, 5\), \(T, D\) expected"),
        (lambda p: unequal(p, VALUES[0, :, 1:]), {}, "1.npy: .*those before it have D = 5"),
        (lambda p: unequal(p, CODES[0]), {}, "1.npy: uint8 .*floating-point numbers"),
        (lambda p: unequal(p, VALUES[1]), {"labels": ["0 a"]}, "labels: no label for 1 names"),
        (
            lambda p: unequal(p, VALUES[1]),
            {"labels": ["0 a", "1 a", "2 a"]},
            "1 unknown names, such",
        ),
        (
            lambda p: unequal(p, VALUES[1]),
            {"labels": ["0 a", "1 a", "0.npy b"]},
            "0 is there twice",
        ),
        (lambda p: unequal(p, VALUES[1]), {"labels": ["0", "1 a"]}, "'0', NAME LABEL expected"),
        (lambda p: stack(p, VALUES[0]), {}, "numbers of frames is needed"),
        (
            lambda p: unwritten(p, (9, 1 << 26)),
            {"num_frames": [9]},
            "a.h5: no value was ever .* to /x",
        ),
        (
            lambda p: unwritten(p, (9, 1 << 30), at=[(0, 0)]),
            {"num_frames": [3] * 3, "scale": 1.0},
            "a.h5: /x: 3,221,225,472 bytes per video, at most 2,147,483,647",
        ),
        (
            lambda p: listed(unwritten(p, (9, 1 << 30), at=[(0, 0)]).parent, "a.h5"),
            {"scale": 1.0},
            "a.h5: 9,663,676,416 bytes per video, at most",
        ),
        (
            lambda p: listed(stack(p, np.float32(1)).parent, "a.h5"),
            {"num_frames": [1]},
            r"a.h5: shape \(\), \(T, D\) expected",
        ),
        *(
            (lambda p, name=name: pipe(p, name), {}, f"{name}: not a regular file")
            for name in ("a.npz", "a.npy")
        ),
        (elsewhere, {"num_frames": [4]}, "a.h5: the values of /x are in other files"),
        (lambda p: stack(p, VALUES[0]), {"num_frames": [1, 2]}, "4 frames, but .* adds up to 3"),
        (lambda p: stack(p, VALUES[0]), {"num_frames": [4, 0]}, "'0', a number of frames expected"),
        (
            lambda p: stack(p, VALUES[0]),
            {"num_frames": ["4 frames"]},
            "a number of frames expected",
        ),
        (
            lambda p: stack(p, VALUES),
            {"num_frames": [6]},
            r"x: shape .*\(total frames, D\) expected",
        ),
        (lambda p: garbage(p, "a.txt", b"b.h5"), {}, "b.h5 does not exist"),
    ],
)
def test_bad_input(tmp_path, make, arguments, message):
    (tmp_path / "in").mkdir()
    arguments = {
        key: lines(tmp_path / key, value) if isinstance(value, list) else value
        for key, value in arguments.items()
    }
    with pytest.raises((ValueError, OSError), match=message):
        list(convert.read(make(tmp_path / "in"), **arguments).records)


# ---------------------------------------------------------------------- the command, real percepts


@pytest.mark.slow
def test_as_a_command(tmp_path):
    np.save(tmp_path / "a.npy", VALUES)
    labels = lines(tmp_path / "labels.txt", LABELS)
    done = commands.run(
        "data_prep.convert",
        "--input=~/a.npy",
        f"--labels={labels}",
        "--out=~/out",
        environment={"HOME": str(tmp_path)},
    )
    assert done.returncode == 0, done.stderr
    assert f"python -m data_prep.verify {tmp_path / 'out'}" in done.stdout
    assert "6 sequences of (4, 5) float16, 3 classes" in done.stdout
    assert records.verify(tmp_path / "out") == []


def test_real_percepts(tmp_path, real_data):
    path = real_data / "percepts" / "ucf101_8classes_vgg16_fc6_uint8.npz"
    found = convert.read(path)
    with np.load(path) as original:
        wanted, scale = original["X"], original["scale"]
        names, numbers, splits = (original[key] for key in ("name", "label", "split"))
    assert found.dtype == "uint8" and np.float32(found.scale) == scale
    assert len(found.classes) == 8 and found.count == 1069
    for i, record in enumerate(found.records):
        assert (record.frames == wanted[i]).all() and record.name == names[i]
        assert found.classes[record.label] == names[i].split("/")[0]
        assert record.label == numbers[i] - 2 and record.splits == tuple(splits[i])
        assert record.name.split("/v_")[1].startswith(f"{record.group}_c")
    assert i == 1068
