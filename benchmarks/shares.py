"""Counts what each of several processes makes of a batch when they train together:
`python -m benchmarks.shares [--processes=1,2,4] [--out=FILE.md]`.

The processes run at the same time, each with the data pipeline that `Trainer.batches` gives it, but
take no steps and exchange nothing. Clips are counted where they are generated and where their
frames are read, bytes by the kernel (`rchar` of /proc/self/io, what the process asked to read, from
the disk or from the page cache). A pipeline works ahead, so counts are differences between two
moments when it was idle.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import argparse
import contextlib
import itertools
import json
import subprocess
import sys
import tempfile
import threading
import time
from pathlib import Path

import tensorflow as tf

from benchmarks import _common
from unsup_video.configs import base
from unsup_video.data import digits, frames, moving_mnist, records, sources
from unsup_video.training import distribution

_BATCH = 100
_STORED_FRAMES = 60  # per sequence; a clip has 20
_PATIENCE_S = 60
_WARM_UP = 5  # batches before the first count
_KINDS = ("generated", "records raw", "records GZIP", "records GZIP, held in memory")


class Counts:
    """Counts the clips that this process generates, and the windows that it reads."""

    def __init__(self):
        self.clips = 0
        graph, read = moving_mnist._graph, frames.Frames.read

        def generated(numbers):
            self.clips += len(numbers)
            return numbers

        def counted_graph(params):
            make = graph(params)

            def counted(images, seed, numbers):
                same = tf.numpy_function(generated, [numbers], tf.int64)
                return make(images, seed, tf.ensure_shape(same, numbers.shape))

            return counted

        def counted_read(data, *arguments):
            self.clips += 1
            return read(data, *arguments)

        moving_mnist._graph, frames.Frames.read = counted_graph, counted_read

    def idle(self) -> dict[str, float]:
        """Waits until nothing is made any more; returns clips, bytes and CPU seconds so far."""
        waits, end = 0, time.monotonic() + _PATIENCE_S
        while waits < 5:  # in a row
            if time.monotonic() > end:
                raise TimeoutError(f"the pipeline is still at work after {_PATIENCE_S} s")
            clips = self.clips
            time.sleep(0.05)
            waits = waits + 1 if self.clips == clips and _others_wait() else 0
        return {"clips": self.clips, "bytes": _read_bytes(), "cpu_s": time.process_time()}


def _others_wait():
    """Tells whether no other thread of this process runs, or would run if it had a core."""
    own, states = str(threading.get_native_id()), set()
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it has ended
            if task.name != own:
                states.add(
                    (task / "stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0]
                )
    return states <= {"S"}


def _read_bytes():
    lines = Path("/proc/self/io").read_text(encoding="utf-8").splitlines()
    return int(dict(line.split(": ") for line in lines)["rchar"])


def store(folder: str, sequences: int) -> None:
    """Writes the records of all kinds: Moving MNIST of 60 frames."""
    params = moving_mnist.MovingMnist(num_frames=_STORED_FRAMES)
    images = digits.load_digits("train").images
    for compression in ("", "GZIP"):
        for split, count in {"train": sequences, "validation": 1, "test": 1}.items():
            data = moving_mnist.batches(images, params, 0, min(count, 50), count=count).unbatch()
            records.write(
                f"{folder}/{compression or 'raw'}/{split}",
                data.as_numpy_iterator(),
                count,
                kind="moving_mnist",
                source={"seed": 0},
                compression=compression,
            )


def measure(
    kind: str, folder: str, batches: int, context: tf.distribute.InputContext, counts: Counts
) -> dict[str, float]:
    """Reads batches of one kind of data; returns what this process made of each, and at first.

    Returns:
        {"clips", "bytes", "cpu_s": means per batch, "first": bytes read before the first batch}.
    """
    config = base.get_config()
    config.eval.validation_clips = config.eval.test_clips = 1  # unused here
    if kind != "generated":
        stored = f"{folder}/{'raw' if 'raw' in kind else 'GZIP'}"
        config.data.records = stored
        manifest = records.Manifest.load(f"{stored}/train")
        size = manifest.count * _STORED_FRAMES * manifest.frame_bytes
        frames._MEMORY = size if "held" in kind else size // 7
    before = _read_bytes()
    rows = sources.build(config).train(_BATCH, 0, distribution.share(context))
    stream = iter(distribution.parts(rows, _BATCH, context))
    next(stream)
    first = _read_bytes() - before
    _take(stream, _WARM_UP)
    start = counts.idle()
    _take(stream, batches)
    end = counts.idle()
    return {**{key: (end[key] - start[key]) / batches for key in start}, "first": first}


def _take(stream, count):
    for _ in itertools.islice(stream, count):
        pass


def worker(index: int, processes: int, folder: str, batches: int) -> None:
    """Measures all kinds in this process, and prints a line of JSON."""
    context = tf.distribute.InputContext(processes, index, num_replicas_in_sync=processes)
    counts = Counts()
    print(json.dumps({kind: measure(kind, folder, batches, context, counts) for kind in _KINDS}))


def together(processes: int, folder: str, batches: int) -> list[dict]:
    """Runs so many workers at the same time; returns what each has printed."""
    running = []
    for index in range(processes):
        call = f"from benchmarks import shares; shares.worker({index}, {processes}, {folder!r}, "
        command = [sys.executable, "-c", f"{call}{batches})"]
        environment = {**os.environ, "CUDA_VISIBLE_DEVICES": "-1"}
        running.append(
            subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, text=True)
        )
    answers = [process.communicate()[0] for process in running]
    for process in running:
        if process.returncode:
            raise RuntimeError(
                f"one of {processes} processes ended with status {process.returncode}; its error "
                "is above"
            )
    return [json.loads(answer.splitlines()[-1]) for answer in answers]


def main():
    parser = argparse.ArgumentParser(description=__doc__, allow_abbrev=False)
    parser.add_argument("--processes", default="1,2,4", help="numbers of processes; default: 1,2,4")
    parser.add_argument("--batches", type=int, default=40, help="batches to count; default: 40")
    parser.add_argument(
        "--stored",
        type=int,
        default=400,
        help="sequences of 60 frames in the records; default: 400",
    )
    parser.add_argument("--out", type=_common.path, help="also write the report to this file")
    args = parser.parse_args()
    workers_of = {}
    with tempfile.TemporaryDirectory() as folder:
        store(folder, args.stored)
        for processes in map(int, args.processes.split(",")):
            workers_of[processes] = together(processes, folder, args.batches)
    rows = []
    for kind, (processes, workers) in itertools.product(_KINDS, workers_of.items()):
        largest = {key: max(one[kind][key] for one in workers) for key in workers[0][kind]}
        rows.append(
            [
                kind,
                processes,
                f"{largest['clips']:.1f}",
                f"{largest['bytes'] / 1e6:.2f}",
                f"{1e3 * largest['cpu_s']:.1f}",
                f"{largest['first'] / 1e6:.1f}",
            ]
        )
    columns = [
        "data",
        "processes",
        "clips per batch",
        "MB read per batch",
        "CPU ms per batch",
        "MB read before the first batch",
    ]
    parts = [
        f"Batches of {_BATCH} clips of 20 frames, 64 x 64. Means over {args.batches} batches, of "
        "the process that made, read or computed most.",
        _common.table(columns, rows),
    ]
    _common.report("What each process makes of a batch", parts, args.out)


if __name__ == "__main__":
    main()
