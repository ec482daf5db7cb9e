"""Runs a job over many videos: in this process, in several, or on a cluster by Apache Beam.

A job makes records of one video. The runner stores finished work in a working folder beside the
data set, one part per video, so that a run that was killed can be resumed:

    .parts-NAME/job.json                  the job and its videos: no other job can resume here
    .parts-NAME/00012/videos.jsonl        the videos 12,000 to 12,999
    .parts-NAME/00012/345.tfrecord        the records of video 12,345
    .parts-NAME/00012/345.json            their shape, size and the video's time of change, then
                                          their index entries, one per line; written last
    .parts-NAME/00012/346.bad             instead: the reason why video 12,346 cannot be used

Then the runner combines the parts into shards, writes index and manifest, and renames the data set
to its final name. Its bytes depend only on the job, the videos and the number of shards, not on the
number of workers. Workers share nothing but the file system.
"""

import contextlib
import dataclasses
import functools
import hashlib
import json
import multiprocessing
import os
import shutil
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from pathlib import Path
from typing import Protocol

import numpy as np
import tensorflow as tf

import unsup_video
from unsup_video.data import records
from unsup_video.training import workdir
from unsup_video.utils import files, progress
from unsup_video.utils.indices import evenly_spread
from unsup_video.video import decoding
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Listing, Video, last_change

_JOB = "job.json"
_VIDEOS = "videos.jsonl"
_FOLDER_SIZE = 1000  # videos per sub-folder
_LINES_EVERY = 10.0  # seconds between lines of progress


class Job(Protocol):
    """Makes the records of a video. A frozen dataclass in a module, with plain values as fields.

    It is pickled for the workers, and several threads may use one object: load costly objects, such
    as a CNN, in a cached function.

    Attributes:
        kind, dtype, scale: of the data set, see `records.Manifest`.
        settings: all that the records depend on besides the video, as a dict of JSON values. It is
            stored in the manifest, and a job with other settings cannot use the parts.
    """

    kind: str
    dtype: str
    scale: float

    @property
    def settings(self) -> dict: ...

    def records(self, video: Video) -> Iterator[records.Record]:
        """Yields at least one record of a video, made by `record`; depends on the video only.

        Raises:
            VideoError: the video cannot be used. It is listed, and the job continues, as it does
                after an OSError. Any other error ends the job.
        """
        ...


class JobError(ValueError):
    """Something that a job needs for all videos is missing or has changed. It ends the job."""


@contextlib.contextmanager
def loading(what: str):
    """Makes a JobError of an error while loading `what`, for which no video is to blame."""
    try:
        yield
    except (OSError, ValueError) as error:
        raise JobError(f"{what} cannot be loaded: {error}") from error


def record(
    video: Video, frames: np.ndarray, scale: float | None = None, number: int | None = None
) -> records.Record:
    """Returns a record with the name, label, group and splits of its video.

    Args:
        frames, scale: see `records.Record`.
        number: of the record, if a video gives several: number 3 is named "NAME#3".
    """
    name = video.name if number is None else f"{video.name}#{number}"
    return records.Record(frames, scale, name, video.label, video.group, tuple(video.splits))


def run(
    job: Job,
    listing: Listing,
    out: str | Path,
    shards: int | None = None,
    compression: str = "GZIP",
    max_bad_fraction: float = 0.05,
    num_workers: int = 1,
    beam_args: Sequence[str] = (),
    overwrite: bool = False,
    log: Callable[[str], None] = lambda line: None,
) -> records.Manifest:
    """Makes the data set `out` of the videos of a listing, in their order.

    Called again with the same job, listing and `out` after it was killed or failed, it resumes: it
    skips finished videos whose files have not changed since, and tries again those that could not
    be used.

    Args:
        shards: number of files; None for one per 256 MB of frames. Every file holds the records of
            about the same number of consecutive videos.
        compression: of the shards, "" or "GZIP". The parts are not compressed, and need the space
            of all records meanwhile.
        max_bad_fraction: maximum fraction of unusable videos.
        num_workers: number of processes on this machine. If there are several, each imports the
            script that calls this, which must therefore do so below `if __name__ == "__main__":`.
            They see the environment variables of the first such call, whose server process they are
            forked from, and which ends with this process.
        beam_args: Apache Beam's own flags, such as ["--runner=FlinkRunner", ..], instead of
            `num_workers`. All workers must see the videos and `out` under the paths given here.
        overwrite: replace an existing data set, or existing parts of another job.
        log: gets lines on the progress.

    Raises:
        ValueError: an argument is bad; too many videos are unusable or unfinished; the records have
            different frame shapes; the parts belong to another job, or another process uses them;
            a JobError.
        FileExistsError: `out` exists. OSError: it cannot be written, or a worker process died.
            RuntimeError: the job raised an error, or Beam reports one.
    """
    out = Path(out).absolute()
    records.check_writable(out, compression, overwrite)
    _check(listing, shards, num_workers, beam_args, max_bad_fraction)
    working = out.with_name(f".parts-{out.name}")
    total = len(listing.videos)
    with _opened(out, working, job, listing, overwrite):
        for path in working.glob("[0-9]*/[0-9]*.bad"):
            path.unlink()
        if done := _count_done(working):
            log(f"resuming: {done:,} of {total:,} videos are done")
        with _progress(functools.partial(_count_done, working), total, "videos", log):
            process = functools.partial(_process, job, working, len(listing.classes))
            _map(process, total, num_workers, beam_args, working)
        good, entries, frame_shape, size, doubtful = _read_parts(working)
        bad = _read_bad(working)
        _check_bad(working, bad, total, len(good), max_bad_fraction)
        unused = [_quarantined(path, "missing") for path in listing.missing] + bad

        shards = min(len(good), shards or records.default_shards(size))
        # Shard k gets the videos from bounds[k] up to bounds[k + 1].
        bounds = [*(good[k] for k in evenly_spread(shards, len(good))), total]
        written = working / "shards"
        shutil.rmtree(written, ignore_errors=True)
        written.mkdir()
        with records.replacing(out, overwrite) as temporary:

            def count_written():
                return len(list(written.glob("[0-9]*")))

            log(f"{len(entries):,} records: writing {shards} files")
            with _progress(count_written, shards, "files", log):
                write = functools.partial(
                    _write_shard, working, temporary, written, bounds, compression
                )
                _map(write, shards, num_workers, beam_args, working)
            if lines := _lines(unused + doubtful):
                (temporary / records.QUARANTINE).write_text(lines, encoding="utf-8")
            manifest = records.finish(
                temporary,
                job.kind,
                {
                    "settings": job.settings,
                    "videos": listing.source,
                    "unused": len(unused),
                    "doubtful": len(doubtful),
                    "version": unsup_video.__version__,
                },
                frame_shape,
                [
                    records.Shard(**json.loads(_note(written, number).read_text()))
                    for number in range(shards)
                ],
                entries,
                compression=compression,
                dtype=job.dtype,
                scale=job.scale,
                classes=listing.classes,
            )
        files.discard(working)
    return manifest


def _check(listing, shards, num_workers, beam_args, max_bad_fraction):
    twice = [name for name, n in Counter(video.name for video in listing.videos).items() if n > 1]
    if twice:
        raise ValueError(f"{len(twice)} names belong to more than one video, such as {twice[0]}")
    if shards is not None and not 1 <= shards <= len(listing.videos):
        raise ValueError(f"shards must be 1 to the {len(listing.videos)} videos, got {shards}")
    if num_workers < 1:
        raise ValueError(f"num_workers must be at least 1, got {num_workers}")
    if num_workers > 1 and beam_args:
        raise ValueError("give either num_workers or Beam's own flags, not both")
    if not 0 <= max_bad_fraction <= 1:
        raise ValueError(f"max_bad_fraction must be 0 to 1, got {max_bad_fraction}")


# ---------------------------------------------------------------------- the working folder


@contextlib.contextmanager
def _opened(out, working, job, listing, overwrite):
    """Makes the working folder, or checks an existing one, and holds its lock.

    It removes leftovers of killed processes there and beside `out`.
    """
    # Paths are absolute, because workers may run in other folders.
    lines = [
        _lines(
            [
                dataclasses.asdict(video) | {"path": str(Path(video.path).absolute())}
                for video in part
            ]
        )
        for part in _batches(listing.videos)
    ]
    identity = {
        "kind": job.kind,
        "dtype": job.dtype,
        "scale": job.scale,
        "settings": job.settings,
        "classes": list(listing.classes),
        "version": unsup_video.__version__,
        "videos": f"{len(listing.videos)}, "
        f"sha256 {hashlib.sha256(''.join(lines).encode()).hexdigest()[:16]}",
    }
    identity = json.loads(json.dumps(identity))  # tuples become lists, as in the file

    def refuse():
        raise ValueError(f"{working}: another process is at work there now")

    def refuse_out():
        raise ValueError(f"{out}: another process is writing it now")

    working.parent.mkdir(parents=True, exist_ok=True)
    with files.locked(working, waiting=refuse), files.locked(out, waiting=refuse_out):
        for path in (out, working):
            files.remove_leftovers(path.parent, path.name)
        if working.exists():
            stored = json.loads((working / _JOB).read_text(encoding="utf-8"))
            differences = workdir.diff(stored, identity)
            has_parts = any(working.glob("[0-9]*/[0-9]*.json"))
            if differences and has_parts and not overwrite:
                raise ValueError(
                    f"{working} holds the parts of another job that did not finish:\n  "
                    + "\n  ".join(differences)
                    + "\nResume that job, use another name, or --overwrite to delete its parts."
                )
            if differences:
                _make(working, identity, lines, replace=True)
        else:
            _make(working, identity, lines, replace=False)
        _videos.cache_clear()
        for folder in working.glob("[0-9]*"):
            files.remove_leftovers(folder)
        yield


def _make(working, identity, lines, replace):
    with files.atomic_write(working, replace) as temporary:
        for number, text in enumerate(lines):
            folder = temporary / f"{number:05d}"
            folder.mkdir(parents=True)
            (folder / _VIDEOS).write_text(text, encoding="utf-8")
        (temporary / _JOB).write_text(json.dumps(identity, indent=2), encoding="utf-8")


def _lines(values):
    return "".join(json.dumps(value) + "\n" for value in values)


def _batches(videos):
    return [videos[i : i + _FOLDER_SIZE] for i in range(0, len(videos), _FOLDER_SIZE)]


def _part(working, number, suffix):
    return working / f"{number // _FOLDER_SIZE:05d}" / f"{number % _FOLDER_SIZE:03d}{suffix}"


@functools.lru_cache(maxsize=4)
def _videos(path):
    fields = (json.loads(line) for line in path.read_text(encoding="utf-8").splitlines())
    return [Video(**{**video, "splits": tuple(video["splits"])}) for video in fields]


def _count_done(working):
    return sum(path.suffix in (".json", ".bad") for path in working.glob("[0-9]*/[0-9]*"))


def _read_parts(working):
    """Reads all parts: (numbers of good videos, entries, frame shape, bytes of frames, doubts)."""
    good, entries, shape, size, doubtful = [], [], None, 0, []
    for path in sorted(working.glob("[0-9]*/[0-9]*.json")):
        head, *lines = path.read_text(encoding="utf-8").splitlines()
        head = json.loads(head)
        part = [records.parse_entry(line) for line in lines]
        shape = shape or head["frame_shape"]
        if head["frame_shape"] != shape:
            raise ValueError(
                f"{part[0].name}: frames of shape {tuple(head['frame_shape'])}, those of "
                f"{entries[0].name} have {tuple(shape)}; all frames of a data set have one shape"
            )
        good.append(int(path.parent.name) * _FOLDER_SIZE + int(path.stem))
        entries += part
        size += head["bytes"]
        doubtful += head["doubtful"]
    return good, entries, shape, size, doubtful


def _quarantined(path, reason, frame=None, used=False):
    """Returns a line of quarantine.jsonl.

    `frame` is the number of frames decoded before the error, if known; `used` is True for a video
    that is doubtful, but in the data set.
    """
    return {"path": path, "reason": reason, "frame": frame, "used": used}


def _read_bad(working):
    paths = sorted(working.glob("[0-9]*/[0-9]*.bad"))
    # Beam may have retried a video that failed at first.
    paths = [path for path in paths if not path.with_suffix(".json").exists()]
    return [json.loads(path.read_text(encoding="utf-8")) for path in paths]


def _check_bad(working, bad, total, good, max_bad_fraction):
    if good + len(bad) != total:
        raise ValueError(
            f"{good + len(bad):,} of {total:,} videos were done when Beam's runner ended: let it "
            "wait for its workers, and start again"
        )
    if good and len(bad) <= max_bad_fraction * total:
        return
    path = working / records.QUARANTINE
    files.write_text(path, _lines(bad))
    reasons = Counter(line["reason"] for line in bad).most_common(3)
    more = f"more than {max_bad_fraction:.0%}" if good else "so that there are none to write"
    higher = ", or with a higher --max_bad_fraction" if good else ""
    raise ValueError(
        f"{len(bad):,} of {total:,} videos cannot be used, {more}: "
        + "; ".join(f"{reason} ({n})" for reason, n in reasons)
        + f"\n{path} lists them. Nothing is lost: start again once they are repaired{higher}; only "
        "these videos are read again."
    )


# ---------------------------------------------------------------------- the work of a process


def _process(job, working, classes, number):
    """Makes the part of a video, unless it exists and the video is unchanged."""
    done = _part(working, number, ".json")
    video = _videos(done.with_name(_VIDEOS))[number % _FOLDER_SIZE]
    try:
        stamp = list(last_change(video.path))
    except OSError:
        stamp = None  # the video is missing
    if done.exists():
        if stamp in (None, _head(done).get("stamp")):  # None: this process cannot see it now
            return
        done.unlink()
    lines, head = [], {"frame_shape": None, "bytes": 0, "doubtful": [], "stamp": stamp}

    def examples():
        for example in _records(job, video, classes):
            lines.append(records.format_entry(records.entry_of(example)) + "\n")
            head["frame_shape"] = example.frames.shape[1:]
            head["bytes"] += example.frames.nbytes
            yield records.serialize(example)

    try:
        with files.atomic_write(_part(working, number, ".tfrecord")) as temporary:
            with decoding.collect_notes() as notes:
                records.write_file(temporary, examples(), "")
            if not lines:
                raise VideoError(video.path, "gave no record")
    except VideoError as error:
        line = _quarantined(error.path, error.reason, error.frame)
        files.write_text(_part(working, number, ".bad"), json.dumps(line))
    else:
        if notes:
            doubts = dict.fromkeys(note.removeprefix(f"{video.path}: ") for note in notes)
            head["doubtful"] = [_quarantined(video.path, "; ".join(doubts), used=True)]
        files.write_text(done, json.dumps(head) + "\n" + "".join(lines))


def _head(part):
    with open(part, encoding="utf-8") as file:
        return json.loads(file.readline())


def _records(job, video, classes):
    """Yields the checked records of a video.

    Raises VideoError for errors of the video, JobError, and RuntimeError for a bug in the job.
    """
    try:
        shape = None
        for example in job.records(video):
            shape = shape or example.frames.shape[1:]
            problem = records.record_problem(example, job.dtype, classes)
            if problem or example.frames.shape[1:] != shape:
                raise ValueError(problem or f"frames of {shape} and {example.frames.shape[1:]}")
            yield example
    except (VideoError, JobError):
        raise
    except OSError as error:
        raise VideoError(video.path, f"cannot be read ({error})") from error
    except Exception as error:
        raise RuntimeError(f"{video.path}: {type(error).__name__} in the job: {error}") from error


def _write_shard(working, folder, written, bounds, compression, number):
    """Writes a shard from its parts, and stores its `records.Shard`.

    Raises ValueError for damaged parts; they are made again next time.
    """
    # Skips parts without a list, which a killed process left of a video that is now bad.
    listed = {
        n: len(_part(working, n, ".json").read_text(encoding="utf-8").splitlines()) - 1
        for n in range(bounds[number], bounds[number + 1])
        if _part(working, n, ".json").exists()
    }

    def examples():
        paths = [str(_part(working, n, ".tfrecord")) for n in listed]
        try:
            yield from tf.data.TFRecordDataset(paths).as_numpy_iterator()
        except (tf.errors.DataLossError, tf.errors.NotFoundError):
            _forget_damaged(working, listed)
            raise

    shard = records.write_shard(folder, number, len(bounds) - 1, examples(), compression)
    if shard.count != sum(listed.values()):
        _forget_damaged(working, listed)
    files.write_text(_note(written, number), json.dumps(dataclasses.asdict(shard)))


def _forget_damaged(working, listed):
    """Raises ValueError if parts, {number: count}, hold other numbers of records.

    The next run makes these parts again.
    """
    damaged = []
    for number, expected in listed.items():
        path, count = _part(working, number, ".tfrecord"), 0
        try:
            for _ in tf.data.TFRecordDataset(str(path)):
                count += 1
        except tf.errors.OpError:
            count = -1
        if count != expected:
            damaged.append(path)
            path.with_suffix(".json").unlink()  # marks the video as not done
    if damaged:
        raise ValueError(
            f"{len(damaged)} parts are damaged, such as {damaged[0]}: start again, which makes "
            "these again"
        )


def _note(written, number):
    return written / f"{number:05d}.json"


def _map(function, count, num_workers, beam_args, working):
    """Calls `function` with 0 to `count` - 1: here, in processes, or by Beam with `beam_args`."""
    workers = min(num_workers, count)
    if beam_args and count > 1:
        _map_by_beam(function, count, beam_args)
    elif workers > 1:
        try:
            _map_in_processes(function, count, workers)
        except BrokenProcessPool:
            raise OSError(_why_broken(working)) from None
    else:
        for number in range(count):
            function(number)


def _map_in_processes(function, count, num_workers):
    # Workers are forked from a server process that has imported TensorFlow, which takes seconds,
    # and has not used it: a fork of a process that has used it may hang.
    server = multiprocessing.get_context("forkserver")
    server.set_forkserver_preload([__name__])
    with ProcessPoolExecutor(num_workers, server, initializer=_end_with_parent) as pool:
        # Chunks, so that a million videos do not become a million futures.
        for _ in pool.map(function, range(count), chunksize=-(-count // (1000 * num_workers))):
            pass


def _end_with_parent():
    """Ends this worker when the process that started it ends, even if it was killed."""

    def watch():
        multiprocessing.parent_process().join()
        os._exit(1)

    threading.Thread(target=watch, daemon=True).start()


def _why_broken(working):
    """Returns the error text for a worker that died, with the videos that were in work."""
    in_work = []
    for folder in sorted(working.glob("[0-9]*")):
        videos = _videos(folder / _VIDEOS)
        names = (leftover.name.rpartition("-")[2] for leftover in files.leftovers(folder))
        in_work += [videos[n].path for n in sorted(int(name.partition(".")[0]) for name in names)]
    return (
        "a worker process ended abruptly, because the system killed it for lack of memory or "
        f"because a library crashed; in work were: {', '.join(in_work) or 'no videos'}. Finished "
        "videos are kept: start again to resume, with fewer --num_workers if memory was short, or "
        "without the video that crashes the library."
    )


def _map_by_beam(function, count, beam_args):
    try:
        import apache_beam as beam
        from apache_beam.options.pipeline_options import PipelineOptions
    except ImportError:
        raise ValueError("a cluster needs Apache Beam: pip install 'unsup_video[beam]'") from None
    with beam.Pipeline(options=PipelineOptions(list(beam_args))) as pipeline:
        # Ranges keep the pipeline small, even for a million videos.
        _ = (
            pipeline
            | beam.Create(range(0, count, _FOLDER_SIZE))
            | beam.FlatMap(_numbers, count)
            | beam.Reshuffle()
            | beam.Map(function)
        )


def _numbers(first, count):
    return range(first, min(first + _FOLDER_SIZE, count))


@contextlib.contextmanager
def _progress(count_done, total, what, log):
    """Logs a line every few seconds with the result of `count_done()`."""
    first, began, ended = count_done(), time.monotonic(), threading.Event()

    def watch():
        pause = _LINES_EVERY
        while not ended.wait(pause):
            now = time.monotonic()
            done = count_done()
            if done > first:
                log(progress.line(done, total, what, (done - first) / (now - began)))
            # At most a twentieth of the time goes into counting.
            pause = max(_LINES_EVERY, 20 * (time.monotonic() - now))

    thread = threading.Thread(target=watch, daemon=True)
    thread.start()
    try:
        yield
    finally:
        ended.set()
        thread.join()
