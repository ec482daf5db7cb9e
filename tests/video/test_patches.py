"""Patches of videos whose pixels carry their place and time."""

import dataclasses

import cv2
import numpy as np
import pytest

import commands
from unsup_video.data import records
from unsup_video.video import decoding, jobs, listing, patches
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video

LENGTH, HEIGHT, WIDTH = 40, 50, 70
VIDEO = Video("known.avi", "known")
SMALL = dict(size=8, frames=5, per_video=3)


def known(length=LENGTH, height=HEIGHT, width=WIDTH):
    """R is the frame, G the row, B the column."""
    t, y, x = np.indices((length, height, width), np.uint8)
    return np.stack([t, y, x], -1)


@pytest.fixture
def video(monkeypatch):
    """Replaces decoding: `video(frames)` is what every file holds from now on."""

    def hold(frames):
        def decode(path, fps, colour, start, seconds):
            yield from frames if colour else frames[..., 0]

        monkeypatch.setattr(decoding, "frames", decode)

    hold(known())
    return hold


def crops(job, video=VIDEO):
    return [record.frames for record in job.records(video)]


def place(crop):
    """(first frame, top, left) of a crop, which is exactly what is there."""
    t, y, x = (int(value) for value in crop[0, 0, 0])
    frames, size = crop.shape[:2]
    np.testing.assert_array_equal(crop, known()[t : t + frames, y : y + size, x : x + size])
    return t, y, x


def test_a_crop_is_one_place_in_consecutive_frames(video):
    found = crops(patches.Patches())
    assert len(found) == 10
    assert all(crop.shape == (29, 32, 32, 3) and crop.dtype == np.uint8 for crop in found)
    assert len({place(crop) for crop in found}) > 8
    grey = crops(patches.Patches(colour=False, **SMALL))
    assert [crop.shape for crop in grey] == 3 * [(5, 8, 8)]


def test_every_place_and_time_is_as_likely(video):
    video(known(7, 10, 11))
    job = patches.Patches(size=8, frames=5, per_video=1800)
    counts = np.zeros((3, 3, 4), int)
    for crop in crops(job):
        counts[tuple(int(value) for value in crop[0, 0, 0])] += 1
    assert (np.abs(counts - 50) < 5 * np.sqrt(50)).all(), counts


def test_crop_k_depends_on_seed_name_and_k_alone(video):
    job = patches.Patches(**SMALL)
    first = [place(crop) for crop in crops(job)]
    more = dataclasses.replace(job, per_video=6)
    assert [place(crop) for crop in crops(more)][:3] == first
    assert [place(crop) for crop in crops(job, Video("elsewhere.avi", "known"))] == first
    others = [crops(job, Video("known.avi", "other")), crops(dataclasses.replace(job, seed=1))]
    assert all([place(crop) for crop in other] != first for other in others)


def test_records_say_where_they_are_from(video):
    found = list(patches.Patches(**SMALL).records(Video("a", "a", 2, "g", (1, 2, 0))))
    assert [record.name for record in found] == ["a#0", "a#1", "a#2"]
    assert {(r.label, r.group, r.splits, r.scale) for r in found} == {(2, "g", (1, 2, 0), None)}
    # All crops of a video are for training, or none.
    assert {record.group for record in patches.Patches(**SMALL).records(VIDEO)} == {"known"}


def motion(crop):
    """Mean absolute difference between consecutive frames, of values in [0, 1]."""
    return np.abs(np.diff(crop / 255, axis=0)).mean()


@pytest.mark.parametrize("colour", [True, False])
def test_motion_is_the_mean_absolute_difference(video, colour):
    frames = np.random.default_rng(0).integers(0, 256, (12, 30, 20, 3)).astype(np.uint8)
    frames[:, :15] //= 4
    video(frames)
    job = patches.Patches(size=8, frames=5, per_video=200, colour=colour, min_motion=0.2)
    kept = [motion(crop) for crop in crops(job)]
    free = [motion(crop) for crop in crops(dataclasses.replace(job, min_motion=0))]
    assert min(free) < 0.15 < 0.2 <= min(kept) < 0.21
    assert max(kept) == pytest.approx(max(free), rel=0.05)


def test_only_what_moves_is_taken(video):
    frames = np.zeros((LENGTH, HEIGHT, WIDTH, 3), np.uint8)
    frames[::2, :, :8] = 51  # the left flickers by 0.2
    video(frames)
    job = patches.Patches(size=8, frames=5, per_video=20, min_motion=0.15)
    found = crops(job)
    assert 10 < len(found) <= 20  # 36 tries each, of which 3 in 63 move enough
    assert all(motion(crop) >= 0.15 for crop in found)
    assert any(motion(crop) == 0 for crop in crops(dataclasses.replace(job, min_motion=0)))
    with pytest.raises(VideoError, match="no place moves by 0.21 per frame"):
        crops(dataclasses.replace(job, min_motion=0.21))


def test_frames_can_be_scaled_before(video):
    video(np.full((6, 50, 100, 3), 7, np.uint8))
    found = crops(patches.Patches(size=20, frames=5, short_side=20))
    assert found[0].shape == (5, 20, 20, 3) and (found[0] == 7).all()
    halves = np.zeros((6, 40, 80, 3), np.uint8)
    halves[:, 20:] = 200
    video(halves)
    crop = crops(patches.Patches(size=10, frames=5, short_side=10))[0]
    assert (crop[:, :5] == 0).all() and (crop[:, 5:] == 200).all()


@pytest.mark.parametrize(
    "frames, job, reason, count",
    [
        (known(28), {}, "too short: 28 frames, 29 are wanted", 28),
        (known(30, 31, 70), {}, "frames of 31 x 70 pixels: no room for 32", 0),
    ],
)
def test_videos_that_cannot_be_used(video, frames, job, reason, count):
    video(frames)
    with pytest.raises(VideoError, match=reason) as error:
        crops(patches.Patches(**job))
    assert (error.value.path, error.value.frame) == ("known.avi", count)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": 0}, "size"),
        ({"frames": 0}, "frames"),
        ({"per_video": 0}, "per_video"),
        ({"short_side": 31}, "short_side must be at least size = 32"),
        ({"fps": 0.0}, "fps"),
        ({"fps": float("inf")}, "fps"),
        ({"min_motion": 1.0}, "min_motion"),
        ({"min_motion": 0.1, "frames": 1}, "min_motion"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        patches.Patches(**options)


def write_video(path, frames):
    """Without loss."""
    writer = cv2.VideoWriter(
        str(path), cv2.VideoWriter_fourcc(*"png "), 10, (frames.shape[2], frames.shape[1])
    )
    for frame in frames:
        writer.write(np.ascontiguousarray(frame[..., ::-1]))
    writer.release()


def test_a_data_set_of_files(tmp_path):
    (tmp_path / "videos").mkdir()
    for name, length in {"a": 40, "b": 33, "short": 10}.items():
        write_video(tmp_path / "videos" / f"{name}.avi", known(length))
    job = patches.Patches(per_video=4)
    found = listing.folder(tmp_path / "videos")
    manifest = jobs.run(job, found, tmp_path / "patches", max_bad_fraction=0.5)
    assert (manifest.kind, manifest.shape, manifest.count) == ("patches", (29, 32, 32, 3), 8)
    assert records.verify(tmp_path / "patches") == []
    for crop in records.sequences(tmp_path / "patches").as_numpy_iterator():
        place(crop)
    quarantine = (tmp_path / "patches" / records.QUARANTINE).read_text()
    assert "short.avi" in quarantine and "too short: 10 frames" in quarantine
    groups = [entry.group for entry in records.load_index(tmp_path / "patches")]
    assert len(set(groups)) == 2 and len(groups) == 8


@pytest.mark.slow
def test_the_command_says_how_many_are_too_few(tmp_path):
    """One that moves at its left alone, in which some crops find nothing; and a missing one."""
    frames = np.zeros((29, 32, 200, 3), np.uint8)
    frames[:, :, :60] = np.random.default_rng(0).integers(0, 256, (29, 32, 60, 3))
    write_video(tmp_path / "a.avi", frames)
    (tmp_path / "list").write_text("a.avi\ngone.avi\n")
    done = commands.run(
        "data_prep.patches",
        f"--list={tmp_path / 'list'}",
        "--allow_missing",
        "--min_motion=0.1",
        f"--out={tmp_path / 'out'}",
    )
    assert done.returncode == 0, done.stderr
    count = records.Manifest.load(tmp_path / "out").count
    suggested = f"train.pretrain --config=patches_small --config.data.records={tmp_path / 'out'}\n"
    assert suggested in done.stdout.partition("next:\n")[2]
    assert 0 < count < 10 and f"\n{10 - count} patches fewer than --per_video" in done.stdout
