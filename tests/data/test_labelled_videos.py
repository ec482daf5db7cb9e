"""Labelled videos as windows: places, labels, resuming, short videos, parts."""

import numpy as np
import pytest

import labelled
from unsup_video.data import frames, records, splits
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.training.tasks import finetuning

LENGTHS = (3, 5, 8, 9, 4, 12, 7)
CHOSEN = np.array([False, True, True, True, False, True, True])
SCALE = 0.5


def number(video, frame):
    """The value that every feature of that frame stands for."""
    return 8 * video + frame / 2


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Videos whose values say where they are; the class of video v is v mod 3."""
    path = tmp_path_factory.mktemp("data") / "numbered"
    found = [
        records.Record(
            np.repeat(16 * v + np.arange(n, dtype=np.float16)[:, None], 2, 1), None, f"v{v}", v % 3
        )
        for v, n in enumerate(LENGTHS)
    ]
    records.write(
        path,
        found,
        len(found),
        "percepts",
        {},
        dtype="float16",
        scale=SCALE,
        classes=("a", "b", "c"),
        shards=2,
    )
    return path


@pytest.fixture(params=["held", "streamed"])
def store(request, monkeypatch):
    if request.param == "streamed":
        monkeypatch.setattr(frames, "_MEMORY", 0)
    return request.param


def place(window):
    """(video, first frame) of a window, which is checked to be in one piece."""
    video = int(window[0, 0] // 8)
    first = int(2 * (window[0, 0] - 8 * video))
    frames = number(video, first + np.arange(len(window)))
    np.testing.assert_array_equal(window, np.stack([frames, frames], 1))
    assert first + len(window) <= LENGTHS[video]
    return video, first


def test_training_windows_are_of_the_chosen_videos_and_have_their_labels(folder, store):
    videos = LabelledVideos(folder, CHOSEN)
    assert videos._frames.is_held == (store == "held")
    assert videos.names == ("v1", "v2", "v3", "v5", "v6")
    per_epoch = {1: 2, 2: 5, 3: 6, 5: 9, 6: 4}  # every window
    stream = videos.training(4, 13, seed=1).as_numpy_iterator()
    epochs = []
    for _ in range(2):
        places = []
        for batch in (next(stream) for _ in range(2)):
            assert batch["frames"].shape == (13, 4, 2) and batch["frames"].dtype == np.float32
            for window, label in zip(batch["frames"], batch["label"], strict=True):
                video, first = place(window)
                assert label == video % 3
                places.append((video, first))
        found, counts = np.unique([video for video, _ in places], return_counts=True)
        assert dict(zip(found.tolist(), counts.tolist(), strict=True)) == per_epoch
        assert len(set(places)) == 26
        epochs.append(places)
    assert epochs[0] != epochs[1]  # in another order


@pytest.mark.slow
def test_training_goes_on_at_any_example(folder, store):
    videos = LabelledVideos(folder, CHOSEN)

    def take(count, **options):
        found = list(videos.training(4, 4, **options).take(count).as_numpy_iterator())
        return {key: np.concatenate([batch[key] for batch in found]) for key in found[0]}

    whole = take(10, seed=1)
    assert (whole["frames"][:4] != whole["frames"][4:8]).any()
    for start in (4, 8, 20, 27, 32):  # an epoch has 26
        for key, values in take(2, seed=1, start=start).items():
            np.testing.assert_array_equal(values, whole[key][start : start + 8])
    assert (take(10, seed=2)["frames"] != whole["frames"]).any()


def test_blocks_are_at_every_stride_and_a_short_video_is_one(folder, store):
    chosen = np.ones(len(LENGTHS), bool)
    chosen[3] = False
    found = {}
    for values, videos, firsts in LabelledVideos(folder, chosen).blocks(6, 2, batch_size=2):
        assert len(values) <= 2 and values.dtype == np.float32
        for window, video, first in zip(values, videos, firsts, strict=True):
            there = np.flatnonzero(chosen)[video]
            assert place(window) == (there, first)
            found.setdefault(int(there), []).append((int(first), len(window)))
    assert found == {
        0: [(0, 3)],
        1: [(0, 5)],
        2: [(0, 6), (2, 6)],
        4: [(0, 4)],
        5: [(0, 6), (2, 6), (4, 6), (6, 6)],
        6: [(0, 6)],
    }


def test_what_cannot_be_used_is_named(folder, tmp_path):
    with pytest.raises(ValueError, match="v0 has fewer than 4 frames"):
        LabelledVideos(folder, np.ones(7, bool)).training(4, 2, seed=0)
    with pytest.raises(ValueError, match="none of its 7 videos is chosen"):
        LabelledVideos(folder, np.zeros(7, bool))
    few = [records.Record(np.zeros((4, 2), np.float16), None, f"v{k}", k - 1) for k in range(2)]
    labelled.write(tmp_path / "unlabelled", few)
    with pytest.raises(ValueError, match="v0 has no label"):
        LabelledVideos(tmp_path / "unlabelled", np.ones(2, bool))
    labelled.write(tmp_path / "classless", few[:1], classes=())
    with pytest.raises(ValueError, match="its sequences have no labels"):
        LabelledVideos(tmp_path / "classless", np.ones(1, bool))


@pytest.mark.parametrize("split", [0, 1])
def test_parts_share_no_group(tmp_path, split):
    folder = labelled.write(tmp_path / "x", labelled.videos())
    config = labelled.a_config(folder)
    config.data.split = split
    entries = records.load_index(folder)
    groups, count = {}, 0
    for part in splits.SPLITS:
        videos = finetuning.videos(config, part)
        assert set(videos.labels.tolist()) == {0, 1, 2}
        groups[part] = {entries[i].group for i in videos.indices}
        count += len(videos)
    assert count == len(entries)
    assert sum(map(len, groups.values())) == len(set.union(*groups.values()))


def test_videos_that_are_left_out_are_told(tmp_path):
    found = labelled.videos()
    found[5] = records.Record(found[5].frames, None, "unknown", -1, "u", (1, 1))
    folder = labelled.write(tmp_path / "x", found)
    lines = []
    videos = finetuning.videos(labelled.a_config(folder), "train", 4, lines.append)
    assert "unknown" not in videos.names and (videos.lengths >= 4).all()
    entries = records.load_index(folder)
    train = splits.choose(entries, "train", 1)
    short = sum(entries[i].frames < 4 and entries[i].label >= 0 for i in np.flatnonzero(train))
    assert short > 0 and len(videos) == train.sum() - short - 1
    assert "train: 1 videos are not used, they have no label (such as unknown)" in lines
    assert any(f"{short} videos are not used, they are shorter than 4" in line for line in lines)
