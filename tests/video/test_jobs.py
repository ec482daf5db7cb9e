import functools
import json
import os
import socket
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pytest

import commands
import fake_jobs
from fake_jobs import Numbers
from unsup_video.data import records
from unsup_video.utils import files
from unsup_video.video import decoding, jobs
from unsup_video.video.listing import Listing, Video

TESTS = Path(__file__).parents[1]


def listing(folder, count=10, bad=(), bug=()):
    """Videos v0, v1, .. of 3 to 6 frames; video i shows i, i + 1, .."""
    folder.mkdir(exist_ok=True)
    videos = []
    for i in range(count):
        text = "x y" if i in bad else "bug" if i in bug else " ".join(map(str, numbers(i)))
        path = folder / f"v{i}.txt"
        if not path.exists() or path.read_text() != text:  # a job notices a file that was written
            path.write_text(text)
        videos.append(Video(str(folder / f"v{i}.txt"), f"v{i}", i % 2, f"g{i // 3}", (1, 2, 0)))
    return Listing("folder", tuple(videos), ("odd", "even"), (), {"folder": "videos"})


def numbers(i):
    return range(i, i + 3 + i % 4)


def contents(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def names(folder):
    return [entry.name for entry in records.load_index(folder)]


@pytest.fixture
def calls(tmp_path):
    """Counts how many videos were read."""
    path = tmp_path / "calls"
    path.touch()

    def count():
        found = path.stat().st_size
        path.write_bytes(b"")
        return found

    count.path = str(path)
    return count


# ---------------------------------------------------------------------- what is written


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_a_data_set_of_all_videos_in_order(tmp_path, compression):
    out = tmp_path / "a" / "out"  # the parent is made
    manifest = jobs.run(Numbers(), listing(tmp_path / "in"), out, shards=3, compression=compression)
    assert records.verify(out) == [] and list(out.parent.iterdir()) == [out]
    assert manifest == records.Manifest.load(out)
    assert (manifest.kind, manifest.dtype, manifest.scale) == ("numbers", "uint8", 1.0)
    assert (manifest.shape, manifest.count) == ((None, 3, 2), 10)
    assert [shard.count for shard in manifest.shards] == [3, 3, 4]
    assert manifest.classes == ("odd", "even") and manifest.compression == compression
    assert manifest.source["settings"] == {"height": 3, "per_video": 1}
    assert manifest.source["videos"] == {"folder": "videos"} and manifest.source["unused"] == 0
    assert not (out / records.QUARANTINE).exists()
    for i, frames in enumerate(records.sequences(out)):
        np.testing.assert_array_equal(frames[:, 1, 1], numbers(i))
    assert records.load_index(out)[7] == records.Entry(6, "v7", 1, "g2", (1, 2, 0))


def test_several_records_of_a_video(tmp_path):
    out = tmp_path / "out"
    manifest = jobs.run(Numbers(per_video=2), listing(tmp_path / "in", 3), out, shards=2)
    assert names(out) == ["v0#0", "v0#1", "v1#0", "v1#1", "v2#0", "v2#1"]
    assert [shard.count for shard in manifest.shards] == [2, 4]
    assert records.verify(out) == []


def test_more_videos_than_one_sub_folder_holds(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_FOLDER_SIZE", 4)
    jobs.run(
        Numbers(), listing(tmp_path / "in", 11, bad=[2]), tmp_path / "out", max_bad_fraction=0.2
    )
    assert names(tmp_path / "out") == [f"v{i}" for i in range(11) if i != 2]


def test_the_number_of_shards_follows_the_size(tmp_path, monkeypatch):
    monkeypatch.setattr(records, "_SHARD_BYTES", 100)  # 10 videos have 43 frames of 6 bytes
    manifest = jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out")
    assert len(manifest.shards) == 3


# ---------------------------------------------------------------------- bad videos and bugs


def test_bad_videos_are_listed_and_left_alone(tmp_path):
    videos = listing(tmp_path / "in", 10, bad=[3])
    videos = Listing(videos.kind, videos.videos, videos.classes, ("v99.avi",), videos.source)
    (tmp_path / "in" / "v8.txt").unlink()
    jobs.run(Numbers(), videos, tmp_path / "out", shards=10, max_bad_fraction=0.2)
    lines = [json.loads(line) for line in (tmp_path / "out" / "quarantine.jsonl").open()]
    assert lines[0] == {"path": "v99.avi", "reason": "missing", "frame": None, "used": False}
    assert lines[1] == {
        "path": videos.videos[3].path,
        "reason": "not numbers",
        "frame": 2,
        "used": False,
    }
    assert lines[2]["path"] == videos.videos[8].path and "No such file" in lines[2]["reason"]
    assert len(lines) == 3
    assert names(tmp_path / "out") == [f"v{i}" for i in range(10) if i not in (3, 8)]
    assert len(records.Manifest.load(tmp_path / "out").shards) == 8  # none is empty
    assert records.verify(tmp_path / "out") == []
    assert Path(videos.videos[3].path).read_text() == "x y"


def test_doubtful_videos_are_used_and_listed(tmp_path, monkeypatch):
    plain = Numbers.records

    def with_doubts(self, video):
        if video.name == "v4":
            decoding._note(f"{video.path}: claims more")
            decoding._note(f"{video.path}: stands still")
            decoding._note(f"{video.path}: claims more")  # decoded twice
        yield from plain(self, video)

    monkeypatch.setattr(Numbers, "records", with_doubts)
    manifest = jobs.run(Numbers(), listing(tmp_path / "in", 6), tmp_path / "out")
    assert manifest.count == 6
    assert (manifest.source["unused"], manifest.source["doubtful"]) == (0, 1)
    assert json.loads((tmp_path / "out" / "quarantine.jsonl").read_text()) == {
        "path": str(tmp_path / "in" / "v4.txt"),
        "reason": "claims more; stands still",
        "frame": None,
        "used": True,
    }


def test_too_many_bad_videos_fail_and_what_is_done_is_kept(tmp_path, calls):
    out, job = tmp_path / "out", Numbers(calls=calls.path)
    videos = listing(tmp_path / "in", 10, bad=[3, 4])
    message = r"2 of 10 videos cannot be used, more than 10%: not numbers \(2\)"
    with pytest.raises(ValueError, match=message) as error:
        jobs.run(job, videos, out, max_bad_fraction=0.1)
    assert not out.exists() and calls() == 10
    quarantine = tmp_path / ".parts-out" / "quarantine.jsonl"
    assert str(quarantine) in str(error.value) and len(quarantine.read_text().splitlines()) == 2
    Path(videos.videos[3].path).write_text("1 2 3")  # mended
    log = []
    jobs.run(job, videos, out, max_bad_fraction=0.1, log=log.append)
    assert calls() == 2 and log[0] == "resuming: 8 of 10 videos are done"
    assert names(out) == [f"v{i}" for i in range(10) if i != 4]
    with pytest.raises(ValueError, match="2 of 2 videos cannot be used"):
        jobs.run(job, listing(tmp_path / "in", 2, bad=[0, 1]), tmp_path / "no", max_bad_fraction=1)


def test_no_usable_video_at_all_is_said_so(tmp_path):
    videos = listing(tmp_path / "in", 2, bad=[0, 1])
    with pytest.raises(ValueError, match="2 of 2 videos cannot be used, so that there are none"):
        jobs.run(Numbers(), videos, tmp_path / "out", max_bad_fraction=1)


def test_a_job_that_finished_no_video_is_replaced_by_a_corrected_one(tmp_path):
    videos = listing(tmp_path / "in", 2, bad=[0, 1])
    with pytest.raises(ValueError, match="2 of 2 videos cannot be used"):
        jobs.run(Numbers(), videos, tmp_path / "out")
    videos = listing(tmp_path / "in", 2)
    jobs.run(Numbers(height=3), videos, tmp_path / "out")
    assert records.Manifest.load(tmp_path / "out").frame_shape[0] == 3


def test_what_another_process_writes_is_left_alone(tmp_path):
    out = tmp_path / "out"
    with files.locked(out), pytest.raises(ValueError, match=f"{out}: another process is writing"):
        jobs.run(Numbers(), listing(tmp_path / "in", 2), out)


def test_a_bug_ends_the_job_and_names_the_video(tmp_path, calls):
    out, job = tmp_path / "out", Numbers(calls=calls.path)
    videos = listing(tmp_path / "in", 10, bug=[5])
    with pytest.raises(RuntimeError, match="v5.txt: KeyError in the job: 'a bug'"):
        jobs.run(job, videos, out, max_bad_fraction=1)
    assert calls() == 6 and not out.exists()
    listing(tmp_path / "in")
    jobs.run(job, videos, out)
    assert calls() == 5 and len(names(out)) == 10


@pytest.mark.parametrize(
    "change, message",
    [
        ({"dtype": "float16"}, "v0.txt: .*float16 expected, got uint8"),
        ({"height": 0}, "v0.txt: .*expected, got"),
        ({"per_video": 0}, "1 of 1 videos cannot be used.*gave no record"),
    ],
)
def test_records_are_checked(tmp_path, change, message):
    with pytest.raises((RuntimeError, ValueError), match=message):
        jobs.run(Numbers(**change), listing(tmp_path / "in", 1), tmp_path / "out")


def test_frames_of_several_shapes(tmp_path, monkeypatch):
    def by_name(self, video):
        yield jobs.record(video, np.zeros((3, 2 + (video.name == "v4"), 2), np.uint8))

    monkeypatch.setattr(Numbers, "records", by_name)
    with pytest.raises(ValueError, match=r"v4: frames of shape \(3, 2\), those of v0.*\(2, 2\)"):
        jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out")


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"shards": 11}, "shards must be 1 to the 10 videos"),
        ({"shards": 0}, "shards"),
        ({"compression": "zip"}, "compression 'zip'"),
        ({"max_bad_fraction": 1.5}, "max_bad_fraction"),
        ({"num_workers": 0}, "num_workers"),
        ({"num_workers": 2, "beam_args": ["--runner=FlinkRunner"]}, "not both"),
    ],
)
def test_bad_arguments(tmp_path, arguments, message):
    videos = listing(tmp_path / "in")
    with pytest.raises(ValueError, match=message):
        jobs.run(Numbers(), videos, tmp_path / "out", **arguments)
    assert [path.name for path in tmp_path.iterdir()] == ["in"]


def test_names_are_unique(tmp_path):
    good = listing(tmp_path / "in", 2)
    twice = Listing("folder", good.videos * 2, good.classes, (), {})
    with pytest.raises(ValueError, match="2 names belong to more than one video, such as v0"):
        jobs.run(Numbers(), twice, tmp_path / "out")


# ---------------------------------------------------------------------- resuming


@pytest.mark.slow
def test_a_killed_job_goes_on_where_it_was(tmp_path, calls):
    videos, out = listing(tmp_path / "in"), tmp_path / "out"
    process = commands.start(
        functools.partial(jobs.run, shards=3),
        fake_jobs.Interrupted(calls=calls.path, victim="v5"),
        videos,
        out,
        stdout=os.devnull,
        stderr=tmp_path / "errors",
    )
    deadline = time.monotonic() + 120
    while Path(calls.path).stat().st_size < 6:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.01)
    process.kill()
    process.join()
    parts = tmp_path / ".parts-out" / "00000"
    assert len(list(parts.glob("[0-9]*.json"))) == 5 and not out.exists() and calls() == 6
    jobs.run(Numbers(calls=calls.path), videos, out, shards=3)
    assert calls() == 5
    jobs.run(Numbers(), videos, tmp_path / "at once", shards=3)
    assert contents(out) == contents(tmp_path / "at once")
    assert not (tmp_path / ".parts-out").exists()


def interrupt(tmp_path, job, count=10, done=5):
    """Leaves the parts of the first `done` videos behind."""
    with pytest.raises(RuntimeError):
        jobs.run(job, listing(tmp_path / "in", count, bug=[done]), tmp_path / "out")
    listing(tmp_path / "in", count)


def test_parts_of_another_job_are_not_used(tmp_path, calls):
    job = Numbers(calls=calls.path)
    interrupt(tmp_path, job)
    videos = listing(tmp_path / "in")
    other = Numbers(calls=calls.path, height=4)
    with pytest.raises(ValueError, match=r"another job.*\n.*settings\.height: 3 there, 4 here\n"):
        jobs.run(other, videos, tmp_path / "out")
    fewer = Listing("folder", videos.videos[:9], videos.classes, (), {})
    with pytest.raises(ValueError, match=r"videos: 10, sha256 \w+ there, 9, sha256 \w+ here"):
        jobs.run(job, fewer, tmp_path / "out")
    assert calls() == 6
    jobs.run(other, videos, tmp_path / "out", overwrite=True)
    assert calls() == 10 and records.Manifest.load(tmp_path / "out").shape == (None, 4, 2)


def test_a_video_that_has_changed_is_read_again(tmp_path, calls):
    interrupt(tmp_path, Numbers())
    videos = listing(tmp_path / "in")
    Path(videos.videos[1].path).write_text("7 8 9 10 11")
    jobs.run(Numbers(calls=calls.path), videos, tmp_path / "out")
    assert calls() == 6 and names(tmp_path / "out") == [f"v{i}" for i in range(10)]
    frames = list(records.sequences(tmp_path / "out"))[1]
    np.testing.assert_array_equal(frames[:, 0, 0], [7, 8, 9, 10, 11])


def test_a_video_that_is_out_of_reach_keeps_its_part(tmp_path, calls):
    interrupt(tmp_path, Numbers())
    videos = listing(tmp_path / "in")
    Path(videos.videos[1].path).unlink()  # as on a folder that is not mounted now
    jobs.run(Numbers(calls=calls.path), videos, tmp_path / "out")
    assert calls() == 5 and names(tmp_path / "out") == [f"v{i}" for i in range(10)]


def test_what_is_left_of_a_video_that_is_bad_by_now_is_not_used(tmp_path):
    """Killed between the records and their list; when it goes on the video is broken."""
    interrupt(tmp_path, Numbers())
    videos, parts = listing(tmp_path / "in", 10, bad=[4]), tmp_path / ".parts-out" / "00000"
    (parts / "004.json").unlink()
    assert (parts / "004.tfrecord").exists()
    manifest = jobs.run(Numbers(), videos, tmp_path / "out", max_bad_fraction=0.2)
    assert manifest.count == 9 and records.verify(tmp_path / "out") == []


@pytest.mark.parametrize("overwrite", [False, True])
def test_killed_while_parts_are_removed(tmp_path, monkeypatch, overwrite):
    """Then no part counts as done whose records are gone."""
    if overwrite:
        interrupt(tmp_path, Numbers(height=4))
    remove = files.shutil.rmtree

    def kill(path, *args, **kwargs):
        if "parts" not in str(path) or Path(path).name == "shards":
            return remove(path, *args, **kwargs)
        for part in Path(path).glob("*/*.tfrecord"):
            part.unlink()
        raise KeyboardInterrupt

    videos, out = listing(tmp_path / "in"), tmp_path / "out"
    monkeypatch.setattr(files.shutil, "rmtree", kill)
    with pytest.raises(KeyboardInterrupt):
        jobs.run(Numbers(), videos, out, overwrite=overwrite)
    monkeypatch.undo()
    jobs.run(Numbers(), videos, out, overwrite=True)
    assert records.verify(out) == [] and len(names(out)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


@pytest.mark.parametrize(
    "damage",
    [
        lambda part: part.write_bytes(b""),  # as published by a process that had just begun
        lambda part: part.write_bytes(part.read_bytes()[:-3]),
        lambda part: part.unlink(),
    ],
)
def test_parts_are_kept_until_they_are_all_there_and_damaged_ones_are_made_anew(
    tmp_path, calls, damage
):
    job, videos, out = Numbers(calls=calls.path), listing(tmp_path / "in"), tmp_path / "out"
    interrupt(tmp_path, job)
    assert calls() == 6
    damage(tmp_path / ".parts-out" / "00000" / "002.tfrecord")
    with pytest.raises(ValueError, match=r"1 parts are damaged, such as .*002\.tfrecord: start"):
        jobs.run(job, videos, out, shards=2)
    assert calls() == 5 and not out.exists()
    jobs.run(job, videos, out, shards=2)
    assert calls() == 1 and records.verify(out) == []
    jobs.run(Numbers(), videos, tmp_path / "at once", shards=2)
    assert contents(out) == contents(tmp_path / "at once")


def test_leftovers_of_a_killed_job_are_removed_and_no_others(tmp_path):
    for name in (".partial-7-out", ".partial-7-my-out"):
        (tmp_path / name).mkdir()
    jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out")
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-7-my-out", "in", "out"]


def test_what_appears_meanwhile_is_kept(tmp_path, monkeypatch):
    videos, plain = listing(tmp_path / "in"), Numbers.records

    def slow(self, video):
        (tmp_path / "out").mkdir(exist_ok=True)
        (tmp_path / "out" / "precious").touch()
        yield from plain(self, video)

    monkeypatch.setattr(Numbers, "records", slow)
    with pytest.raises(FileExistsError, match="out exists"):
        jobs.run(Numbers(), videos, tmp_path / "out")
    assert (tmp_path / "out" / "precious").exists()


def test_a_runner_that_does_not_wait_is_told(tmp_path, monkeypatch):
    plain = jobs._map
    monkeypatch.setattr(jobs, "_map", lambda f, count, *how: plain(f, count - 1, *how))
    with pytest.raises(ValueError, match="9 of 10 videos were done"):
        jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out", max_bad_fraction=1)


def test_what_was_tried_again_is_not_bad(tmp_path):
    interrupt(tmp_path, Numbers())
    working = tmp_path / ".parts-out"
    for number in (3, 7):
        (working / "00000" / f"{number:03d}.bad").write_text('{"path": "x"}')
    assert jobs._read_bad(working) == [{"path": "x"}]  # video 7 is not done


def test_workers_get_absolute_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    videos, seen = listing(Path("in"), 2), []
    plain = Numbers.records

    def note(self, video):
        seen.append(video.path)
        yield from plain(self, video)

    monkeypatch.setattr(Numbers, "records", note)
    jobs.run(Numbers(), videos, "out")
    assert seen == [str(tmp_path / "in" / f"v{i}.txt") for i in range(2)]


def test_more_shards_than_five_digits_name(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_note", lambda folder, number: folder / f"{number}.json")
    manifest = jobs.run(Numbers(), listing(tmp_path / "in", 11), tmp_path / "out", shards=11)
    assert [shard.name[:5] for shard in manifest.shards] == [f"{k:05d}" for k in range(11)]


def test_out_below_a_file(tmp_path):
    videos = listing(tmp_path / "in")
    for out in (tmp_path / "in" / "v0.txt" / "out", tmp_path / "in" / "v0.txt" / "a" / "out"):
        with pytest.raises(OSError, match="out cannot be made: .*v0.txt is a file"):
            jobs.run(Numbers(), videos, out)


def test_one_process_at_a_time(tmp_path):
    interrupt(tmp_path, Numbers())
    with files.locked(tmp_path / ".parts-out"):
        with pytest.raises(ValueError, match="another process is at work"):
            jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out", overwrite=True)
    jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out")


def test_a_second_process_that_starts_the_same_job_leaves_the_first_one_alone(
    tmp_path, monkeypatch
):
    """It starts when the first one has seen that there is no working folder."""
    videos, out = listing(tmp_path / "in"), tmp_path / "out"
    make, second = jobs._make, []

    def late(*arguments, **options):
        monkeypatch.setattr(jobs, "_make", make)
        with pytest.raises(ValueError, match="parts-out: another process is at work there now"):
            jobs.run(Numbers(), videos, out)
        second.append(True)
        make(*arguments, **options)

    monkeypatch.setattr(jobs, "_make", late)
    jobs.run(Numbers(), videos, out)
    assert second and len(names(out)) == 10
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in", "out"]


def test_what_is_there_is_kept_unless_overwritten(tmp_path):
    videos, out = listing(tmp_path / "in"), tmp_path / "out"
    jobs.run(Numbers(), videos, out)
    before = contents(out)
    with pytest.raises(FileExistsError, match="out exists"):
        jobs.run(Numbers(height=4), videos, out)
    with pytest.raises(RuntimeError):
        jobs.run(Numbers(height=4), listing(tmp_path / "in", 10, bug=[9]), out, overwrite=True)
    assert contents(out) == before
    jobs.run(Numbers(height=4), listing(tmp_path / "in"), out, overwrite=True)
    assert records.Manifest.load(out).shape == (None, 4, 2) and records.verify(out) == []


def test_progress(tmp_path, monkeypatch):
    monkeypatch.setattr(jobs, "_LINES_EVERY", 0.01)
    log, plain, deadline = [], Numbers.records, time.monotonic() + 120

    def after_a_line(self, video):
        """Waits for the line that counts the videos before this one."""
        before = int(video.name.removeprefix("v"))
        while before and not any(line.startswith(f"{before} of 10 videos (") for line in log):
            assert time.monotonic() < deadline
            time.sleep(0.002)
        yield from plain(self, video)

    monkeypatch.setattr(Numbers, "records", after_a_line)
    jobs.run(Numbers(), listing(tmp_path / "in"), tmp_path / "out", log=log.append)
    lines = [line for line in log if "of 10 videos (" in line]
    done = [int(line.split()[0]) for line in lines]
    assert done == sorted(done) and set(done) >= set(range(1, 10))
    assert all(" per second, " in line and line.endswith(" to go") for line in lines)


# ---------------------------------------------------------------------- several processes


@pytest.fixture
def alone(tmp_path):
    """(listing, what one process makes of it)."""
    videos = listing(tmp_path / "in", 10, bad=[3])
    jobs.run(Numbers(), videos, tmp_path / "alone", shards=4, max_bad_fraction=0.2)
    return videos, contents(tmp_path / "alone")


@pytest.mark.slow
def test_processes_make_the_same_bytes_without_beam(alone, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    (tmp_path / "pids").mkdir()
    job, out = fake_jobs.WhoWorks(pids=str(tmp_path / "pids")), tmp_path / "out"
    jobs.run(job, alone[0], out, shards=4, max_bad_fraction=0.2, num_workers=2)
    assert contents(out) == alone[1]
    workers = {path.name for path in (tmp_path / "pids").iterdir()}
    assert len(workers) == 2 and str(os.getpid()) not in workers


@pytest.mark.slow
def test_a_worker_that_dies_names_its_video_and_what_was_done_is_kept(tmp_path, calls):
    videos, out = listing(tmp_path / "in", 6), tmp_path / "out"
    leftover = tmp_path / ".parts-out" / "00000" / ".partial-other_1_ab-001.tfrecord"
    job = fake_jobs.Interrupted(calls=calls.path, victim="v4", function=fake_jobs.kill)
    interrupt(tmp_path, job, count=6, done=3)
    leftover.mkdir()  # of a process that was killed before
    # The other process may be at the video before or after, or between two.
    in_work = r"in work were: ([^ ]*v3.txt, )?[^ ]*v4.txt(, [^ ]*v5.txt)?\. Finished"
    with pytest.raises(OSError, match=in_work) as e:
        jobs.run(job, videos, out, num_workers=2)
    assert "start again" in str(e.value) and not out.exists()
    calls()
    jobs.run(Numbers(calls=calls.path), videos, out)
    assert 1 <= calls() <= 3 and names(out) == [f"v{i}" for i in range(6)]


@pytest.mark.slow
def test_workers_end_with_the_process_that_started_them(tmp_path):
    """A killed process cannot stop its workers, so they watch it themselves."""
    (tmp_path / "pids").mkdir()
    job = fake_jobs.WhoWorks(pids=str(tmp_path / "pids"), workers=3)  # which never come
    process = commands.start(
        functools.partial(jobs.run, num_workers=2),
        job,
        listing(tmp_path / "in"),
        tmp_path / "out",
        stdout=os.devnull,
        stderr=tmp_path / "errors",
        daemon=False,
    )
    deadline = time.monotonic() + 120
    while len(pids := [int(path.name) for path in (tmp_path / "pids").iterdir()]) < 2:
        assert process.is_alive() and time.monotonic() < deadline
        time.sleep(0.05)
    process.kill()
    process.join()
    while any(map(runs, pids)):
        assert time.monotonic() < deadline
        time.sleep(0.05)
    assert process.pid not in pids


def runs(pid):
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


# ---------------------------------------------------------------------- Beam


def test_without_beam(alone, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "apache_beam", None)
    with pytest.raises(ValueError, match=r"pip install 'unsup_video\[beam\]'"):
        jobs.run(Numbers(), alone[0], tmp_path / "out", beam_args=["--runner=FnApiRunner"])


def test_beam_in_this_process(alone, tmp_path, calls):
    pytest.importorskip("apache_beam")
    out = tmp_path / "out"
    jobs.run(
        Numbers(calls=calls.path),
        alone[0],
        out,
        shards=4,
        max_bad_fraction=0.2,
        beam_args=["--runner=FnApiRunner"],
    )
    assert contents(out) == alone[1] and calls() == 10


@pytest.mark.slow
def test_a_job_service_of_its_own(alone, tmp_path):
    pytest.importorskip("apache_beam")
    with socket.socket() as probe:
        probe.bind(("localhost", 0))
        port = probe.getsockname()[1]
    service = subprocess.Popen(
        [
            sys.executable,
            "-m",
            "apache_beam.runners.portability.local_job_service_main",
            f"--port={port}",
        ],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        cwd=tmp_path,
    )
    try:
        deadline = time.monotonic() + 300
        while True:
            assert service.poll() is None and time.monotonic() < deadline
            with socket.socket() as probe:
                if probe.connect_ex(("localhost", port)) == 0:
                    break
            time.sleep(0.1)
        out = tmp_path / "out"
        jobs.run(
            Numbers(),
            alone[0],
            out,
            shards=4,
            max_bad_fraction=0.2,
            beam_args=[
                "--runner=PortableRunner",
                f"--job_endpoint=localhost:{port}",
                "--environment_type=LOOPBACK",
            ],
        )
        assert contents(out) == alone[1]
    finally:
        service.terminate()
        service.wait()
