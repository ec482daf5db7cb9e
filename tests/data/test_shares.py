"""Shares of a batch: put together they are the batch, and a process makes no other rows."""

import numpy as np
import pytest
import tensorflow as tf

from unsup_video.configs import base, flow_cnn_small
from unsup_video.data import flow_stacks, frames, moving_mnist, records, sources, windows
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.data.shares import Share

BATCH, STEPS, START = 12, 5, 7
COUNT, LENGTH, WINDOW = 9, 8, 3


def stored(folder, store, monkeypatch):
    """Labelled flow, 6 windows per video, held in memory or read from shards on the disk.

    Six videos are to train on, so that the 60 rows of the batches go over an epoch of 36 windows.
    """
    monkeypatch.setattr(frames, "_MEMORY", 1 << 20 if store == "held" else 0)
    monkeypatch.setattr(frames, "_SPACING", 300)
    rng = np.random.default_rng(0)
    records.write(
        folder,
        [
            records.Record(
                rng.integers(-99, 99, (LENGTH, 6, 7, 2), np.int8),
                name=f"v{k}",
                label=k % 2,
                group=f"g{k}",
                splits=(1 + (k < 2),),
            )
            for k in range(COUNT)
        ],
        COUNT,
        "flow",
        {},
        shards=3,
        compression="GZIP" if store == "GZIP" else "",
        dtype="int8",
        scale=0.5,
        classes=("a", "b"),
    )
    return folder


def config_of_records(config, folder):
    config.data.update({"records": str(folder), "split": 1})
    return config


def generated_clips(folder):
    config = base.get_config()
    config.data.update({"frame_size": 32, "frames_in": 2, "frames_out": 1})
    return sources.build(config).train


def recorded_clips(folder):
    config = config_of_records(base.get_config(), folder)
    config.model.output = "linear"
    config.data.update({"frames_in": 2, "frames_out": WINDOW - 2})
    return sources.build(config).train


def random_crops(folder, stacks_per_video=0):
    config = config_of_records(flow_cnn_small.get_config(), folder)
    config.model.size = 5
    config.data.update({"stack": WINDOW, "stacks_per_video": stacks_per_video})
    return flow_stacks.Stacks(config).train


def few_crops(folder):
    """An epoch of them is smaller than a batch."""
    return random_crops(folder, stacks_per_video=1)


def labelled_windows(folder):
    videos = LabelledVideos(folder, np.arange(COUNT) > 2)
    return lambda batch_size, start, share: videos.training(WINDOW, batch_size, 0, start, share)


def rows(stream, share):
    """The first batches of a share, each a list of arrays."""
    batches = stream(BATCH, START, share).take(STEPS).as_numpy_iterator()
    return [[np.asarray(x) for x in tf.nest.flatten(batch)] for batch in batches]


@pytest.mark.parametrize(
    ("stream", "store", "counts"),
    [
        pytest.param(generated_clips, "held", (1, 2, 3, 4), marks=pytest.mark.slow),
        (recorded_clips, "held", (1, 2, 3, 4)),
        (recorded_clips, "", (3,)),
        (recorded_clips, "GZIP", (3,)),
        (labelled_windows, "GZIP", (2,)),
        (random_crops, "", (4,)),
        (few_crops, "held", (3,)),
    ],
)
def test_shares_are_the_rows_of_the_whole_batch(stream, store, counts, tmp_path, monkeypatch):
    make = stream(stored(tmp_path / "x", store, monkeypatch))
    whole = rows(make, Share())
    assert len(whole) == STEPS and all(len(x) == BATCH for batch in whole for x in batch)
    assert len({x.tobytes() for batch in whole for x in batch[-1:]}) > 1
    for count in counts:
        shares = [rows(make, Share(index, count)) for index in range(count)]
        for step, batch in enumerate(whole):
            for number, expected in enumerate(batch):
                parts = [share[step][number] for share in shares]
                assert {len(part) for part in parts} == {BATCH // count}
                np.testing.assert_array_equal(np.concatenate(parts), expected)


@pytest.mark.parametrize("stream", [generated_clips, recorded_clips, labelled_windows])
def test_a_batch_that_cannot_be_divided_is_an_error(stream, tmp_path, monkeypatch):
    make = stream(stored(tmp_path / "x", "held", monkeypatch))
    with pytest.raises(ValueError, match="batch of 12 cannot be divided among 5 processes"):
        make(BATCH, 0, Share(0, 5))


def test_a_process_reads_no_other_windows(tmp_path, monkeypatch):
    """Of an epoch that is much longer than what a pipeline reads ahead."""
    video = np.random.default_rng(0).integers(0, 256, (1, 2000, 5), np.uint8)
    records.write(tmp_path / "x", video, 1, "noise", {}, compression="")
    found = []
    read = frames.Frames.read

    def noted(self, sequence, first, count):
        found.append(first)
        return read(self, sequence, first, count)

    data = frames.Frames(tmp_path / "x", memory=0)
    whole = windows.training(data, WINDOW, 0, START).take(1900)
    order = np.array([window["first"] for window in whole.as_numpy_iterator()])
    monkeypatch.setattr(frames.Frames, "read", noted)
    for index in range(3):
        found.clear()
        share = Share(index, 3)
        stream = windows.training(data, WINDOW, 0, START, batch_size=BATCH, share=share)
        list(stream.take(60).as_numpy_iterator())
        numbers = np.flatnonzero(np.isin(order, found))
        assert len(numbers) >= 60 and set(numbers % BATCH // (BATCH // 3)) == {index}


def test_a_process_generates_no_other_clips(tmp_path, monkeypatch):
    found = []

    def noted(numbers):
        found.extend(numbers.tolist())
        return np.zeros((len(numbers), 3, 32, 32), np.uint8)

    monkeypatch.setattr(
        moving_mnist,
        "_graph",
        lambda params: lambda images, seed, numbers: tf.numpy_function(noted, [numbers], tf.uint8),
    )
    for index in range(3):
        found.clear()
        rows(generated_clips(tmp_path), Share(index, 3))
        assert len(found) >= STEPS * BATCH // 3
        assert {(n - START) % BATCH // (BATCH // 3) for n in found} == {index}
