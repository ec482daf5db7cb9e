"""Training on data that are larger than the memory for them: what it sees, and where it leads."""

import json
import subprocess
import sys
import textwrap
import tracemalloc

import numpy as np
import pytest
import tensorflow as tf
from scipy import stats

import labelled
from unsup_video.configs import base, flow_cnn_small
from unsup_video.data import flow_stacks, frames, records, sources
from unsup_video.data.frames import Frames
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.utils import files

CLASSES, PER_CLASS, LENGTH, DIM = 20, 6, 24, 5
WINDOW, BATCH = 8, 16
SMALL = 1_200  # bytes of memory; the values below take 14,400


def class_sorted(folder, compression):
    """Videos in the order of their classes, as a listing has them. The first value is the class."""
    rng = np.random.default_rng(0)
    found = []
    for video in range(CLASSES * PER_CLASS):
        values = rng.integers(0, 256, (LENGTH, DIM), np.uint8)
        values[:, 0] = video // PER_CLASS
        found.append(records.Record(values, name=f"v{video:03d}", label=video // PER_CLASS))
    records.write(
        folder,
        found,
        len(found),
        "percepts",
        {},
        shards=7,
        compression=compression,
        scale=1.0,
        classes=tuple(f"c{k:02d}" for k in range(CLASSES)),
    )
    return folder


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_class_sorted_set_gives_batches_of_independent_draws(tmp_path, compression, monkeypatch):
    monkeypatch.setattr(frames, "_MEMORY", SMALL)
    monkeypatch.setattr(frames, "_SPACING", 1000)
    monkeypatch.setattr(frames, "_STATE", 100)
    videos = LabelledVideos(
        class_sorted(tmp_path / "x", compression), np.ones(CLASSES * PER_CLASS, bool)
    )
    assert not videos._frames.is_held
    batches = list(videos.training(WINDOW, BATCH, seed=0).take(30).as_numpy_iterator())
    labels = np.concatenate([batch["label"] for batch in batches])
    for batch in batches:
        np.testing.assert_array_equal(batch["frames"][:, 0, 0], batch["label"])
    for first in (10, 30):  # batches
        counts = np.bincount(labels[: first * BATCH], minlength=CLASSES)
        assert 0.001 < stats.chisquare(counts).pvalue < 0.999
    in_batch = [len(np.unique(batch["label"])) for batch in batches]
    expected = CLASSES * (1 - (1 - 1 / CLASSES) ** BATCH)  # 11.2 of 20 classes
    assert abs(np.mean(in_batch) - expected) < 1  # 0.25 is the standard deviation
    same = int((labels[1:] == labels[:-1]).sum())  # as the one before
    assert stats.binomtest(same, len(labels) - 1, 1 / CLASSES).pvalue > 0.001


def test_held_and_streamed_training_are_the_same_and_learn(tmp_path, monkeypatch):
    """The one that reads from the disk is killed and goes on, too."""
    folder = labelled.write(tmp_path / "data", labelled.videos(seed=1))
    config = labelled.a_config(folder, kind="single_frame", dropout=0.0)
    config.recipe.learning_rate = 0.3
    config.train.update({"steps": 30, "eval_every": 15, "checkpoint_every": 5, "log_every": 15})
    config.recipe.batch_size = 12
    held = labelled.finetuned(config, tmp_path / "held")
    monkeypatch.setattr(frames, "_MEMORY", 100)
    with pytest.raises(labelled.Stopped):
        labelled.finetuned(config, tmp_path / "streamed", stop_after=12)
    streamed = labelled.finetuned(config, tmp_path / "streamed")
    for a, b in zip(held.model.network.weights, streamed.model.network.weights, strict=True):
        np.testing.assert_array_equal(a.numpy(), b.numpy())
    results = [json.loads((run.path / "results.json").read_text()) for run in (held, streamed)]
    assert results[0] == results[1]
    assert results[0]["scores"]["video_accuracy"] > 60  # 33 by chance


def test_pretraining_and_flow_see_the_same_however_much_fits(tmp_path, monkeypatch):
    """Windows of a run of pretraining, and stacks of the flow CNN with its own limit."""
    folder = tmp_path / "flow"
    rng = np.random.default_rng(0)
    records.write(
        folder,
        [
            records.Record(
                rng.integers(-9, 9, (5 + k % 3, 6, 7, 2), np.int8),
                name=f"v{k}",
                label=k % 2,
                group=f"g{k}",
                splits=(1 + (k < 4),),
            )
            for k in range(20)
        ],
        20,
        "flow",
        {},
        shards=3,
        compression="GZIP",
        dtype="int8",
        scale=0.5,
        classes=("a", "b"),
    )
    config = flow_cnn_small.get_config()
    config.model.size = 5
    config.data.update({"records": str(folder), "split": 1, "stack": 2, "stacks_per_video": 3})
    found = []
    for memory in (1 << 30, 200):
        monkeypatch.setattr(frames, "_MEMORY", memory)
        for module in (flow_stacks, sources):
            monkeypatch.setattr(module, "Frames", lambda *args, m=memory: Frames(*args[:2], m))
        pretraining = base.get_config()
        pretraining.model.output = "linear"
        pretraining.data.update(
            {"records": str(folder), "split": 1, "frames_in": 2, "frames_out": 1}
        )
        clips = sources.build(pretraining).train(8, start=3)
        stacks = flow_stacks.Stacks(config).train(8, start=3)
        found.append(
            [
                *clips.take(9).as_numpy_iterator(),
                *(
                    batch[key]
                    for batch in stacks.take(9).as_numpy_iterator()
                    for key in sorted(batch)
                ),
            ]
        )
    for held, streamed in zip(*found, strict=True):
        np.testing.assert_array_equal(held, streamed)


# ---------------------------------------------------------------------- random access


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize(
    "dtype, shape", [("uint8", (300,)), ("int8", (4, 5, 2)), ("float16", (7,))]
)
def test_any_frames_of_any_sequence(tmp_path, monkeypatch, compression, dtype, shape):
    monkeypatch.setattr(frames, "_SPACING", 700)
    rng = np.random.default_rng(0)
    found = [
        records.Record(
            rng.integers(0, 100, (1 + k, *shape)).astype(dtype),
            k / 2 if k % 2 else None,
            "n" * 300 + f"{k}" if k == 5 else f"{k}",
            k % 3,
        )
        for k in range(12)
    ]
    records.write(
        tmp_path / "x",
        found,
        12,
        "numbers",
        {},
        shards=4,
        compression=compression,
        dtype=dtype,
        scale=0.25,
        classes=("a", "b", "c"),
    )
    for memory in (1 << 30, 0):
        chosen = np.arange(12) > 2  # nothing of the first shard
        read = Frames(tmp_path / "x", chosen, memory)
        read.prepare()
        for k in rng.permutation(np.flatnonzero(chosen)):
            first = int(rng.integers(0, k + 1))
            count = int(rng.integers(1, k + 2 - first))
            values, scale = read.read(k, first, count)
            np.testing.assert_array_equal(values, found[k].frames[first : first + count])
            assert values.dtype == dtype and scale == (k / 2 if k % 2 else 0.25)


def test_the_states_of_gzip_shards_are_bounded(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "_SPACING", 64)
    folder = class_sorted(tmp_path / "x", "GZIP")
    numbers = []
    for states in (10, 40):
        made = []

        class CountedFile(frames._GzipFile):
            def __init__(self, *args):
                super().__init__(*args)
                made.append(self)

        with monkeypatch.context() as patched:
            patched.setattr(frames, "_GzipFile", CountedFile)
            patched.setattr(frames, "_STATE", 100)
            Frames(folder, memory=states * 100).prepare()
        numbers.append(sum(len(shard._states) for shard in made))
    # One more for each of 7 shards; what is not frames is a third of these tiny records.
    assert 10 <= numbers[0] <= 15 + 7 and 40 <= numbers[1] <= 60 + 14


@pytest.mark.parametrize("largest", [255, 15])  # without and with something to compress
def test_the_states_of_gzip_shards_take_the_memory_that_there_is(tmp_path, largest):
    """zlib's own memory, too, which goes through Python's allocator."""
    values = np.random.default_rng(0).integers(0, largest, (24, 64, 4096), np.uint8, endpoint=True)
    records.write(tmp_path / "x", values, 24, "noise", {}, compression="GZIP", shards=1)
    memory = 2 << 20
    read = Frames(tmp_path / "x", memory=memory)
    tracemalloc.start()
    try:
        read.prepare()
        taken, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert 0.8 * memory < taken < 1.05 * memory


def test_values_are_found_wherever_they_are_in_a_record(tmp_path):
    """The first schema's records were not written in the order of their names."""
    clips = np.random.default_rng(0).integers(0, 256, (6, 4, 3, 50), np.uint8)
    records.write(tmp_path / "x", clips, 6, "noise", {}, shards=1)
    (shard,) = records.Manifest.load(tmp_path / "x").shards
    path = tmp_path / "x" / shard.name

    def entry(name, feature):
        features = tf.train.Features(feature={name: feature})
        return features.SerializeToString()

    turned = []
    for example in tf.data.TFRecordDataset(str(path)).as_numpy_iterator():
        feature = tf.train.Example.FromString(example).features.feature
        body = entry("shape", feature["shape"]) + entry("frames", feature["frames"])
        head = tf.train.Example(features=tf.train.Features()).SerializeToString()
        assert head == b"\n\0"
        turned.append(b"\n" + varint(len(body)) + body)
        assert tf.train.Example.FromString(turned[-1]).features.feature == feature
    records.write_file(path, turned, "")
    assert path.stat().st_size == shard.bytes
    of_these_bytes(tmp_path / "x")
    read = Frames(tmp_path / "x", memory=0)
    for k in (3, 0, 5):
        np.testing.assert_array_equal(read.read(k, 1, 2)[0], clips[k, 1:3])


def of_these_bytes(folder):
    """Gives the manifest the checksums that its shards have now."""
    path = folder / records.MANIFEST
    text = path.read_text()
    for shard in records.Manifest.load(folder).shards:
        text = text.replace(shard.sha256, files.sha256(folder / shard.name))
    path.write_text(text)


def varint(number):
    return bytes([number]) if number < 128 else bytes([number & 127 | 128]) + varint(number >> 7)


@pytest.mark.parametrize("compression", ["", "GZIP"])
@pytest.mark.parametrize("damage", ["first", "middle"])
def test_damage_names_the_shard(tmp_path, compression, damage):
    folder = class_sorted(tmp_path / "x", compression)
    shard = records.Manifest.load(folder).shards[3]
    data = bytearray((folder / shard.name).read_bytes())
    for i in range(8):  # of a plain shard the length of the first record, or of another
        data[i if damage == "first" else len(data) * 10 // 17 // 10 * 10 + i] ^= 255
    if not compression and damage == "middle":
        data[12 + 170 :] = bytes(len(data) - 182)
    (folder / shard.name).write_bytes(data)
    of_these_bytes(folder)  # that of a plain shard would tell all of it
    with pytest.raises(ValueError, match=f"{shard.name}: damaged .*data_prep.verify {folder}"):
        Frames(folder, memory=100).prepare()
    (folder / shard.name).write_bytes(data[:-5])
    with pytest.raises(ValueError, match=f"{shard.name}: .* bytes, .* expected"):
        Frames(folder, memory=100).prepare()


@pytest.mark.parametrize("memory", [1 << 30, 100])
@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_value_that_has_changed_is_not_trained_on(tmp_path, compression, memory):
    """Sizes, and all that says where the values are, stay as they were."""
    folder = class_sorted(tmp_path / "x", compression)
    shard = records.Manifest.load(folder).shards[3]
    path = folder / shard.name
    data = bytearray(path.read_bytes())
    at = len(data) // 2
    if not compression:
        example = list(tf.data.TFRecordDataset(str(path)).as_numpy_iterator())[9]
        values = tf.train.Example.FromString(example).features.feature["frames"].bytes_list.value[0]
        at = data.index(values) + 60
    data[at] ^= 1
    path.write_bytes(data)
    with pytest.raises((ValueError, tf.errors.DataLossError)):
        Frames(folder, memory=memory).prepare()
    others = np.arange(CLASSES * PER_CLASS) < 20  # of other shards
    Frames(folder, others, memory).prepare()


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_data_that_is_replaced_during_training_is_not_trained_on(tmp_path, compression):
    folder = class_sorted(tmp_path / "x", compression)
    read = Frames(folder, memory=100)
    before, _ = read.read(0, 0, 2)
    shard = folder / records.Manifest.load(folder).shards[0].name
    shard.with_suffix(".new").write_bytes(shard.read_bytes())
    shard.with_suffix(".new").replace(shard)
    with pytest.raises(ValueError, match=f"{shard} has changed since training began to read it"):
        read.read(0, 0, 2)
    again, _ = Frames(folder, memory=100).read(0, 0, 2)
    np.testing.assert_array_equal(again, before)


def test_a_program_ends_while_its_pipeline_works_ahead(tmp_path):
    """An iterator that still exists then has threads that call Python."""
    folder = class_sorted(tmp_path / "x", "GZIP")
    program = textwrap.dedent("""
        import sys
        from unsup_video.data import windows
        from unsup_video.data.frames import Frames
        stream = windows.training(Frames(sys.argv[1], memory=1000), 8, seed=0)
        iterator = iter(stream.batch(50).prefetch(20))
        next(iterator)
        print("done")
    """)
    done = subprocess.run(
        [sys.executable, "-c", program, folder], capture_output=True, text=True, timeout=100
    )
    assert done.returncode == 0 and done.stdout == "done\n", done.stderr
