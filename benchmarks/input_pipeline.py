"""Measures sequences per second of the input pipeline, and compares with training:
`python -m benchmarks.input_pipeline [--step_seconds=S] [--out=FILE.md]`.

Moving MNIST is read in all ways that training can read it: generated on the fly, and from records,
raw and gzip, that are written to a temporary folder first. Then percepts: windows of 16 + 9 frames
of 4096 values from records of longer videos, for a model of 2 layers. Without `--step_seconds` and
`--percepts_step_seconds` the command first times our fastest training steps (see train_step).
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import itertools
import statistics
import tempfile

import numpy as np
import tensorflow as tf

from benchmarks import _common, train_step
from unsup_video.configs import base
from unsup_video.data import digits, moving_mnist, records, sources, windows
from unsup_video.data.frames import Frames
from unsup_video.training import precision

SEED = 0
WANTED = 5  # times the rate of training
# Batches to skip before the clock starts: they were prepared while another pipeline ran.
_DISCARDED = 5
_PERCEPTS = 4096
_VIDEO_FRAMES = 180  # the average of UCF-101
_WINDOW = 16 + 9


def pipelines(folder: str, batch: int, stored: int) -> dict[str, tf.data.Dataset]:
    """Returns {name: endless data set of batches}; writes the records into `folder`."""
    params = moving_mnist.MovingMnist()
    images = digits.load_digits("train").images
    config = base.get_config()
    config.eval.validation_clips = config.eval.test_clips = 1  # unused here
    datasets = {
        "generated, uint8": moving_mnist.batches(images, params, SEED, batch),
        "generated, as training reads it (float32)": sources.build(config).train(batch, start=0),
    }
    for compression in ("", "GZIP"):
        name = f"records {compression or 'raw'}"
        path = f"{folder}/{name}"
        for split, count in {"train": stored, "validation": 1, "test": 1}.items():
            data = moving_mnist.batches(images, params, SEED, batch, count=count).unbatch()
            records.write(
                f"{path}/{split}",
                data.as_numpy_iterator(),
                count=count,
                kind="moving_mnist",
                source={"seed": SEED},
                compression=compression,
            )
        config.data.records = path
        datasets[f"{name}, uint8"] = records.batches(f"{path}/train", batch).repeat()
        datasets[f"{name}, as training reads them (float32, shuffled)"] = sources.build(
            config
        ).train(batch, start=0)
    return datasets


def percept_pipelines(folder: str, batch: int, videos: int) -> dict[str, tf.data.Dataset]:
    """Does the same for percepts, of which half of the values are 0, as of VGG-16's fc6.

    They are held in memory, or read from the disk with memory for a seventh of them: 1 GiB for
    UCF-101.
    """
    datasets = {}
    for storage, compression in itertools.product(("uint8", "float16"), ("", "GZIP")):
        generator = np.random.default_rng(SEED)

        def videos_of():
            for i in range(videos):
                values = generator.normal(0, 40, (_VIDEO_FRAMES, _PERCEPTS)).clip(0, 255)
                yield records.Record(values.astype(np.uint8).astype(storage), name=f"{i}")

        name = f"{storage}, {compression or 'raw'}"
        path = f"{folder}/{name}"
        records.write(
            path,
            videos_of(),
            videos,
            kind="percepts",
            source={"seed": SEED},
            compression=compression,
            dtype=storage,
        )
        size = videos * _VIDEO_FRAMES * _PERCEPTS * np.dtype(storage).itemsize
        for where, memory in {"held": size, "from the disk": size // 7}.items():
            stream = windows.training(Frames(path, memory=memory), _WINDOW, SEED)
            clips = stream.map(lambda window: window["frames"])
            datasets[f"{name}, {where}"] = clips.batch(batch, drop_remainder=True).prefetch(2)
    return datasets


def rate_of(dataset: tf.data.Dataset, batch: int, batches: int):
    """Returns a function that takes the next `batches` batches and returns sequences/s."""
    iterator = iter(dataset)

    def take(count):
        for _ in itertools.islice(iterator, count):
            pass

    def rate():
        take(_DISCARDED)
        return batches * batch / _common.timed(take, batches)

    rate()  # tf.data tunes itself meanwhile
    return rate


def fastest_step(size: _common.Size) -> float:
    """Measures the seconds of our training step in this machine's fastest precision."""
    case = (f"ours_{precision.gemm_dtype('auto')}", size)
    return train_step.measure([case], rounds=3)[case].median


def compare(
    datasets: dict[str, tf.data.Dataset], batch: int, batches: int, rounds: int, consumed: float
) -> str:
    """Returns a table of the data sets' rates compared with `consumed` sequences/s."""
    rates = _common.interleave(
        {name: rate_of(dataset, batch, batches) for name, dataset in datasets.items()}, rounds
    )
    rows = []
    for name, figures in rates.items():
        times = statistics.median(figures) / consumed
        rows.append(
            [
                name,
                _common.spread(figures, ".0f"),
                f"{times:.1f}",
                "met" if times >= WANTED else "missed",
            ]
        )
    columns = [
        "pipeline",
        "sequences/s: median (range)",
        "times what training consumes",
        f"target: at least {WANTED}",
    ]
    return _common.table(columns, rows)


def main():
    parser = _common.flags(__doc__)
    parser.add_argument("--batch", type=int, default=100, help="sequences per batch")
    parser.add_argument("--batches", type=int, default=20, help="batches per round")
    parser.add_argument("--stored", type=int, default=2000, help="sequences in the records")
    parser.add_argument("--videos", type=int, default=60, help="videos in the records of percepts")
    parser.add_argument(
        "--step_seconds", type=float, help="seconds of the training step; default: measured"
    )
    parser.add_argument("--percepts_step_seconds", type=float, help="the same for percepts")
    args = parser.parse_args()
    size = _common.Size(units=args.units, batch=args.batch)
    deep = _common.Size(units=args.units, batch=args.batch, layers=2, frame_dim=_PERCEPTS)
    seconds = args.step_seconds or fastest_step(size)
    percepts_seconds = args.percepts_step_seconds or fastest_step(deep)

    def table(datasets, consumed):
        return compare(datasets, args.batch, args.batches, args.rounds, consumed)

    with tempfile.TemporaryDirectory() as folder:
        datasets = pipelines(folder, args.batch, args.stored)
        parts = [
            f"Batches of {args.batch} sequences of 20 frames, 64 x 64. A training step of "
            f"{seconds:.3g} s consumes {args.batch / seconds:.1f} sequences/s.",
            table(datasets, args.batch / seconds),
        ]
    with tempfile.TemporaryDirectory() as folder:
        datasets = percept_pipelines(folder, args.batch, args.videos)
        parts += [
            f"Percepts: batches of {args.batch} windows of {_WINDOW} frames of {_PERCEPTS} values, "
            f"from videos of {_VIDEO_FRAMES}, as training reads them, with memory for all of them "
            "(held) or for a seventh (from the disk). A training step of "
            f"{percepts_seconds:.3g} s consumes {args.batch / percepts_seconds:.1f} windows/s.",
            table(datasets, args.batch / percepts_seconds),
        ]
    _common.report("The input pipeline", parts, args.out)


if __name__ == "__main__":
    main()
