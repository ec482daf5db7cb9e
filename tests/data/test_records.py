import dataclasses
import hashlib
import json
import os
import re
import resource
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf

from unsup_video.configs import base
from unsup_video.data import records, sources
from unsup_video.utils import files

COUNT = 11
CLIPS = np.random.default_rng(0).integers(0, 256, (COUNT, 4, 6, 5)).astype(np.uint8)


def write(folder, clips=CLIPS, shards=3, count=None, **arguments):
    count = len(clips) if count is None else count
    return records.write(folder, clips, count, "noise", {"seed": 0}, shards, **arguments)


@pytest.fixture
def folder(tmp_path):
    write(tmp_path / "noise")
    return tmp_path / "noise"


def read(folder):
    return np.array(list(records.sequences(folder).as_numpy_iterator()))


# ---------------------------------------------------------------------- whole data sets


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("shape, shards", [((4, 6, 5), 1), ((4, 6, 5), 3), ((3, 4, 5, 3), 11)])
def test_round_trip(tmp_path, compression, shape, shards):
    clips = np.random.default_rng(1).integers(0, 256, (COUNT, *shape)).astype(np.uint8)
    folder = tmp_path / "a" / "b"  # the parent is made
    manifest = write(folder, iter(clips), shards, count=COUNT, compression=compression)
    np.testing.assert_array_equal(read(folder), clips)
    assert records.Manifest.load(folder) == manifest
    assert (manifest.count, manifest.shape, manifest.kind) == (COUNT, shape, "noise")
    assert manifest.source == {"seed": 0} and manifest.compression == compression
    assert len(manifest.shards) == shards
    assert max(s.count for s in manifest.shards) - min(s.count for s in manifest.shards) <= 1
    assert sorted(path.name for path in folder.iterdir()) == [
        *(f"{i:05d}-of-{shards:05d}.tfrecord" for i in range(shards)),
        "manifest.json",
    ]
    assert list(folder.parent.iterdir()) == [folder]
    assert records.verify(folder) == []
    spec = records.sequences(folder).element_spec
    assert spec.dtype == tf.uint8 and spec.shape == shape


def test_records_are_plain_examples(folder):
    path = folder / "00000-of-00003.tfrecord"
    first = next(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())
    feature = tf.train.Example.FromString(first).features.feature
    assert sorted(feature) == ["frames", "shape"]
    assert list(feature["shape"].int64_list.value) == [4, 6, 5]
    assert feature["frames"].bytes_list.value[0] == CLIPS[0].tobytes()


def test_fingerprint_is_that_of_the_content(tmp_path):
    same = [write(tmp_path / name).fingerprint for name in ("a", "b")]
    changed = CLIPS.copy()
    changed[-1, -1, -1, -1] ^= 1
    assert same[0] == same[1] != write(tmp_path / "c", changed).fingerprint


def test_number_of_shards_follows_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_SHARD_BYTES", 300)  # a clip has 120 bytes
    assert len(write(tmp_path / "a", shards=None).shards) == 5


# ---------------------------------------------------------------------- reading


def test_batches(folder):
    found = list(records.batches(folder, 4).as_numpy_iterator())
    assert [len(batch) for batch in found] == [4, 4, 3]
    np.testing.assert_array_equal(np.concatenate(found), CLIPS)


def test_as_the_source_of_a_run(tmp_path):
    config = base.get_config()
    config.data.records = str(tmp_path)
    config.data.frames_in, config.data.frames_out = 3, 1
    for split in ("train", "validation", "test"):
        write(tmp_path / split)
    source = sources.build(config)
    clips = next(iter(source.train(5, start=2))).numpy()
    assert source.frame_shape == (6, 5)

    def flat(clips):
        return clips.reshape(-1, 4, 30).astype("float32") / 255

    expected = CLIPS[np.random.default_rng((config.seed, 0)).permutation(COUNT)[2:7]]
    np.testing.assert_allclose(clips, flat(expected), atol=1e-7)
    spread = [0, 1, 3, 4, 6, 7, 9]  # 7 of 11
    np.testing.assert_allclose(source.evaluation("test", 7), flat(CLIPS[spread]), atol=1e-7)
    np.testing.assert_allclose(source.evaluation("test", 12), flat(CLIPS), atol=1e-7)
    config.data.frames_out = 2
    with pytest.raises(ValueError, match="train: windows of 5 frames .* longest sequence has 4"):
        sources.build(config)


# ---------------------------------------------------------------------- named sequences


def named(dtype="float16", lengths=(3, 5, 2, 4)):
    """Vectors (T, 6) of several lengths, with all that can be known of a video."""
    random = np.random.default_rng(0)
    return [
        records.Record(
            random.integers(0, 100, (length, 6)).astype(dtype),
            0.5 * i if i else None,
            f"vidéo\u2028 {i}",
            i - 1,
            f"g{i // 2}",
            (1, 2),
        )
        for i, length in enumerate(lengths)
    ]


def write_named(folder, found=None, dtype="float16", **arguments):
    found = named(dtype) if found is None else found
    arguments = {"shards": 2, "classes": ("a", "b", "c"), "scale": 2.0} | arguments
    return records.write(folder, found, len(found), "percepts", {}, dtype=dtype, **arguments)


@pytest.mark.parametrize("dtype", records.DTYPES)
def test_named_sequences(tmp_path, dtype):
    found = named(dtype)
    manifest = write_named(tmp_path / "a", dtype=dtype)
    assert manifest.shape == (None, 6) and manifest.frame_shape == (6,)
    assert (manifest.dtype, manifest.scale, manifest.classes) == (dtype, 2.0, ("a", "b", "c"))
    assert records.Manifest.load(tmp_path / "a") == manifest
    assert records.verify(tmp_path / "a") == []
    assert records.load_index(tmp_path / "a") == tuple(
        records.Entry(len(r.frames), r.name, r.label, r.group, r.splits) for r in found
    )
    for stored, expected in zip(records.sequences(tmp_path / "a"), found, strict=True):
        assert stored.dtype.name == dtype
        np.testing.assert_array_equal(stored, expected.frames)
    path = tmp_path / "a" / "00000-of-00002.tfrecord"
    second = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())[1]
    feature = tf.train.Example.FromString(second).features.feature
    assert sorted(feature) == ["frames", "label", "name", "scale", "shape"]
    assert feature["name"].bytes_list.value[0].decode() == "vidéo\u2028 1"
    assert list(feature["label"].int64_list.value) == [0]
    assert list(feature["scale"].float_list.value) == [0.5]


def test_pick(tmp_path):
    found = named()
    write_named(tmp_path / "a", found)
    first, last = records.pick(tmp_path / "a", [3, 0])
    np.testing.assert_array_equal(first.frames, found[0].frames)
    np.testing.assert_array_equal(last.frames, found[3].frames)
    assert (first.scale, last.scale) == (2.0, 1.5)
    assert (last.name, last.label, last.group) == (found[3].name, 2, "g1")
    write(tmp_path / "noise")
    (sixth,) = records.pick(tmp_path / "noise", [5])
    np.testing.assert_array_equal(sixth.frames, CLIPS[5])
    assert sixth.name == "" and sixth.scale == records.UNIT


def test_what_earlier_versions_recorded_is_known(tmp_path):
    manifest = write(tmp_path / "x")
    digests = "".join(shard.sha256 for shard in manifest.shards) + manifest.index
    assert manifest.is_recorded_as(hashlib.sha256(digests.encode()).hexdigest())
    assert manifest.is_recorded_as(manifest.fingerprint)
    assert not manifest.is_recorded_as("")


@pytest.mark.parametrize(
    "change", [{"scale": 0.5}, {"classes": ("a",)}, {"dtype": "int8"}, {"shape": (3, 8)}]
)
def test_the_fingerprint_is_of_the_meaning_of_the_bytes_too(tmp_path, change):
    manifest = write(tmp_path / "x")
    assert dataclasses.replace(manifest, **change).fingerprint != manifest.fingerprint


def test_the_fingerprint_is_of_names_and_labels_too(tmp_path):
    found = named()
    groups = [dataclasses.replace(record, group="other") for record in found]
    names = [dataclasses.replace(record, name=f"{record.name}!") for record in found]
    prints = [
        write_named(tmp_path / str(i), r).fingerprint
        for i, r in enumerate((found, found, groups, names))
    ]
    assert prints[0] == prints[1] and len(set(prints)) == 3


@pytest.mark.parametrize(
    "change, message",
    [
        ({"name": ""}, "record 2: all sequences have a name, or none has"),
        ({"name": "vidéo\u2028 0"}, "record 2: there is another one named vid"),
        ({"label": 3}, "record 2: label 3, -1 or one of 3 classes expected"),
        ({"label": -2}, "record 2: label -2"),
        ({"frames": np.ones((2, 5), np.float16)}, r"record 2: shape \(2, 5\), those before it"),
        ({"frames": np.full((2, 6), np.inf, np.float16)}, "record 2: a value is not finite"),
        ({"frames": np.ones((2, 6), np.float32)}, "record 2: float16 expected, got float32"),
    ],
)
def test_bad_named_sequences(tmp_path, change, message):
    found = named()
    found[2] = dataclasses.replace(found[2], **change)
    with pytest.raises(ValueError, match=message):
        write_named(tmp_path / "a", found)
    assert list(tmp_path.iterdir()) == []


def test_verify_holds_records_to_the_index(tmp_path):
    folder = tmp_path / "a"
    write_named(folder, shards=1)
    path = folder / "index.jsonl"
    lines = path.read_text().splitlines(keepends=True)

    def problems(text):
        path.write_text(text)
        found = records.verify(folder)
        edit_manifest(folder, index=records.files.sha256(path))  # as whoever edits both would
        return found, records.verify(folder)

    swapped = "".join([lines[1], lines[0], *lines[2:]])
    found, consistent = problems(swapped)
    assert found == [f"{path}: its sha256 is not the manifest's"]
    assert [line.split(":")[1] for line in consistent] == [" record 0", " record 1"]
    assert "(frames, name, label), the index has" in consistent[0]
    assert f"{path}: 3 lines, 4 expected" in problems("".join(lines[:3]))[1]
    path.unlink()
    assert records.verify(folder) == [f"{path} is missing"]
    with pytest.raises(ValueError, match="index.jsonl is missing"):
        records.load_index(folder)


def test_sets_of_the_first_schema_are_read(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    for field in ("dtype", "scale", "classes", "index"):
        del manifest[field]
    (folder / "manifest.json").write_text(json.dumps(manifest | {"schema_version": 1}))
    np.testing.assert_array_equal(read(folder), CLIPS)
    assert records.verify(folder) == [] and records.load_index(folder) == ()


# ---------------------------------------------------------------------- damage


def flip_a_byte(folder, shard):
    path = folder / shard
    data = bytearray(path.read_bytes())
    data[-40] ^= 1  # of the last record
    path.write_bytes(data)


def truncate(folder, shard):
    path = folder / shard
    path.write_bytes(path.read_bytes()[:-10])


def remove(folder, shard):
    (folder / shard).unlink()


def swap(folder, shard):
    (folder / "00000-of-00003.tfrecord").rename(folder / "x")
    (folder / shard).rename(folder / "00000-of-00003.tfrecord")
    (folder / "x").rename(folder / shard)


def edit_manifest(folder, **changes):
    path = folder / "manifest.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def serialized(frames):
    return records.serialize(records.Record(frames))


def rewrite(folder, shard, examples):
    """Replaces the records of a shard, with a manifest that agrees with the file."""
    path = folder / shard
    with tf.io.TFRecordWriter(str(path)) as writer:
        for example in examples:
            writer.write(example)
    manifest = json.loads((folder / "manifest.json").read_text())
    entry = next(entry for entry in manifest["shards"] if entry["name"] == shard)
    entry |= {"bytes": path.stat().st_size, "sha256": records.files.sha256(path)}
    edit_manifest(folder, shards=manifest["shards"])


def replace_record(example):
    def damage(folder, shard):
        kept = [serialized(clip) for clip in CLIPS[3:6]]
        rewrite(folder, shard, [*kept, example])

    return damage


def wrong_length():
    feature = {
        "frames": tf.train.Feature(bytes_list=tf.train.BytesList(value=[b"123"])),
        "shape": tf.train.Feature(int64_list=tf.train.Int64List(value=[4, 6, 5])),
    }
    return tf.train.Example(features=tf.train.Features(feature=feature)).SerializeToString()


@pytest.mark.parametrize(
    "damage, message",
    [
        (flip_a_byte, "sha256"),
        (flip_a_byte, "record 3: cannot be read"),
        (truncate, "bytes, .* expected"),
        (truncate, "record 3: cannot be read"),
        (remove, "is missing"),
        (swap, "sha256"),
        (
            lambda folder, shard: rewrite(folder, shard, [serialized(CLIPS[3])] * 3),
            "3 records, 4 expected",
        ),
        (replace_record(serialized(CLIPS[6][:3])), r"record 3: shape \(3, 6, 5\)"),
        (replace_record(wrong_length()), "record 3: 3 bytes of frames, 120 expected"),
        (replace_record(b"\xff\xff"), "record 3: not a tf.train.Example"),
        (replace_record(b""), r"record 3: shape \(\)"),
    ],
)
def test_verify_names_the_shard(folder, damage, message):
    shard = "00001-of-00003.tfrecord"  # records 3 to 6
    damage(folder, shard)
    problems = [problem for problem in records.verify(folder) if str(folder / shard) in problem]
    assert any(re.search(message, problem) for problem in problems), problems


def test_verify_names_only_what_is_wrong(folder):
    flip_a_byte(folder, "00002-of-00003.tfrecord")
    assert all("00002-of-00003" in problem for problem in records.verify(folder))
    assert len(records.verify(folder)) == 2


def test_damage_inside_compressed_shards_is_found(tmp_path):
    write(tmp_path / "gz", compression="GZIP")
    flip_a_byte(tmp_path / "gz", "00000-of-00003.tfrecord")
    problems = records.verify(tmp_path / "gz")
    assert len(problems) == 2 and "cannot be read" in problems[1]


def test_foreign_files_are_named_and_what_looks_like_a_shard_is_an_error(folder):
    for name in (".DS_Store", ".nfs0001", "job.log", "._00000-of-00003.tfrecord"):
        (folder / name).touch()
    (folder / "notes").mkdir()
    assert records.verify(folder) == []
    assert [path.name for path in records.foreign(folder)] == [
        ".DS_Store",
        "._00000-of-00003.tfrecord",
        ".nfs0001",
        "job.log",
        "notes",
    ]
    for name in ("00003-of-00003.tfrecord", "more.tfrecord"):
        (folder / name).write_bytes(b"")
    assert records.verify(folder) == [
        f"{folder / '00003-of-00003.tfrecord'}: not of this data set",
        f"{folder / 'more.tfrecord'}: not of this data set",
    ]


@pytest.mark.parametrize(
    "changes, message",
    [
        ({"count": 12}, "count 12, but the shards' counts add up to 11"),
        ({"schema_version": 3}, "schema version 3.*update unsup_video"),
        ({"schema_version": "new"}, "damaged"),
        ({"dtype": "float32"}, "dtype 'float32'"),
        ({"compression": "ZIP"}, "compression 'ZIP'"),
        ({"shape": [4]}, "shape"),
        ({"shape": [4, None]}, "damaged"),
        ({"shape": [0, 6, 5]}, "shape"),
        ({"shards": [{"name": "x"}]}, "damaged"),
        ({"more": 1}, "damaged"),
        ({"shards": [{"name": "../x", "count": 11, "bytes": 1, "sha256": ""}]}, "is a path"),
    ],
)
def test_bad_manifests(folder, changes, message):
    edit_manifest(folder, **changes)
    for function in (records.Manifest.load, records.sequences):
        with pytest.raises(ValueError, match=message) as error:
            function(folder)
        assert str(folder / "manifest.json") in str(error.value)
    assert records.verify(folder) == [str(error.value)]


def test_manifests_that_are_no_manifests(folder, tmp_path):
    for text in ("", "{", "[]", "3", "\0"):
        (folder / "manifest.json").write_text(text)
        with pytest.raises(ValueError, match="manifest.json"):
            records.Manifest.load(folder)
    with pytest.raises(FileNotFoundError, match="nowhere.*is missing"):
        records.sequences(tmp_path / "nowhere")
    assert "is missing" in records.verify(tmp_path / "nowhere")[0]


def test_reading_an_incomplete_set_names_the_shard(folder):
    truncate(folder, "00001-of-00003.tfrecord")
    with pytest.raises(ValueError, match="00001-of-00003.tfrecord: .* bytes, .* expected"):
        records.sequences(folder)
    remove(folder, "00001-of-00003.tfrecord")
    with pytest.raises(ValueError, match="00001-of-00003.tfrecord is missing"):
        records.batches(folder, 4)


# ---------------------------------------------------------------------- writing that fails


def broken_source():
    yield from CLIPS[:5]
    raise RuntimeError("camera unplugged")


@pytest.mark.parametrize(
    "clips, arguments, message",
    [
        (broken_source(), {"count": 11}, "unplugged"),
        (CLIPS, {"count": 10}, "more than count = 10"),
        (CLIPS, {"count": 12}, "count is 12, but there are only 11"),
        ([], {"count": 3}, "only 0"),
        ([], {}, "count must be at least 1"),
        ([*CLIPS[:6], CLIPS[6].astype("float32")], {}, "record 6: uint8 expected, got float32"),
        (
            [*CLIPS[:6], CLIPS[6][:2]],
            {},
            r"record 6: shape \(2, 6, 5\), those before it \(4, 6, 5\)",
        ),
        (CLIPS[:, 0, 0], {}, "record 0: .* expected"),
        (CLIPS[:, :0], {}, "record 0: .* expected"),
        (CLIPS, {"shards": 12}, "shards"),
        (CLIPS, {"shards": 0}, "shards"),
        (CLIPS, {"compression": "zip"}, "compression 'zip'"),
    ],
)
def test_nothing_is_left_of_a_write_that_fails(tmp_path, clips, arguments, message):
    with pytest.raises((ValueError, RuntimeError), match=message):
        write(tmp_path / "noise", clips, **arguments)
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_os_error(tmp_path):
    unlimited = resource.getrlimit(resource.RLIMIT_FSIZE)
    clips = np.random.default_rng(0).integers(0, 256, (20, 20, 64, 64)).astype(np.uint8)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, unlimited[1]))
    try:
        with pytest.raises(OSError, match="noise: cannot be written.*00000-of-00001.tfrecord"):
            write(tmp_path / "noise", clips, shards=1)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, unlimited)
    assert list(tmp_path.iterdir()) == []


def test_what_is_there_is_kept_unless_overwritten(folder):
    with pytest.raises(FileExistsError, match="noise exists"):
        write(folder, CLIPS[:3])
    with pytest.raises(RuntimeError):
        write(folder, broken_source(), count=11, overwrite=True)
    np.testing.assert_array_equal(read(folder), CLIPS)
    write(folder, CLIPS[:3], shards=1, overwrite=True)
    np.testing.assert_array_equal(read(folder), CLIPS[:3])
    assert records.verify(folder) == []


def test_foreign_files_outlive_an_overwrite_and_what_is_no_data_set_is_not_overwritten(folder):
    for name in (".DS_Store", "job.log", "thesis.tex"):
        (folder / name).write_text("years of work")
    write(folder, CLIPS[:3], shards=1, overwrite=True)
    np.testing.assert_array_equal(read(folder), CLIPS[:3])
    assert records.verify(folder) == []
    assert len(records.foreign(folder)) == 3
    assert (folder / "thesis.tex").read_text() == "years of work"
    (folder / records.MANIFEST).unlink()
    with pytest.raises(
        FileExistsError, match=r"no data set \(manifest.json is missing\) and holds"
    ):
        write(folder, overwrite=True)
    assert (folder / "thesis.tex").exists()


def test_a_set_that_is_read_only_is_refused_before_the_work(folder, monkeypatch):
    monkeypatch.setattr(os, "access", lambda path, mode: path != folder)  # root may do anything
    with pytest.raises(PermissionError, match="noise is read-only: it is not overwritten"):
        records.write(folder, iter(()), 1, "noise", {}, overwrite=True)
    np.testing.assert_array_equal(read(folder), CLIPS)


@pytest.mark.parametrize("overwrite", [False, True])
def test_what_appears_while_a_set_is_brought_to_disk_is_kept(tmp_path, monkeypatch, overwrite):
    original, out = files.os.fsync, tmp_path / "out"

    def late(descriptor):
        out.mkdir(exist_ok=True)
        (out / "precious.txt").write_text("years of work")
        original(descriptor)

    monkeypatch.setattr(files.os, "fsync", late)
    with pytest.raises(FileExistsError, match="out"):
        write(out, overwrite=overwrite)
    assert [(path.name, path.read_text()) for path in out.iterdir()] == [
        ("precious.txt", "years of work")
    ]


def test_a_set_whose_replacement_was_killed_is_read_and_written(folder, monkeypatch):
    original = files.os.replace

    def killed(source, target):
        if Path(target) == folder:
            raise KeyboardInterrupt
        original(source, target)

    def interrupt():
        with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
            patch.setattr(files.os, "replace", killed)
            write(folder, CLIPS[:3], shards=1, overwrite=True)
        assert not folder.exists()

    interrupt()
    np.testing.assert_array_equal(read(folder), CLIPS)
    interrupt()
    with pytest.raises(FileExistsError):
        write(folder)
    interrupt()
    write(folder, CLIPS[:3], shards=1, overwrite=True)
    files.remove_leftovers(folder.parent, folder.name)  # of what was killed
    np.testing.assert_array_equal(read(folder), CLIPS[:3])
    assert list(folder.parent.iterdir()) == [folder]


def test_what_a_killed_process_left_is_removed(tmp_path):
    leftover = tmp_path / ".partial-other_1_ab-a"
    leftover.mkdir()
    records.write(tmp_path / "a", [np.zeros((2, 3, 3), np.uint8)], 1, "frames", {})
    assert [path.name for path in tmp_path.iterdir()] == ["a"]
