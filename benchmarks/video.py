"""Measures the stages of data_prep's work on videos, in frames per second on one core:
`python -m benchmarks.video [--videos=FOLDER] [--cnn=FILE.keras] [--percepts=FOLDER] [--out=FILE]`.

The process is bound to one core. The command measures decoding of a generated clip and of real
ones, if a folder of them is given; then each stage of the work on frames by itself; then writing
and reading. VGG-16 has random weights, which does not change its time. docs/scale.md calculates
with these rates.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")

import itertools
import statistics
import tempfile
import time
from pathlib import Path

import cv2
import keras
import numpy as np
import tensorflow as tf

from benchmarks import _common
from unsup_video.data import records, storage
from unsup_video.utils.indices import evenly_spread
from unsup_video.video import decoding, flow, listing, patches

HEIGHT, WIDTH = 240, 320
BATCH = 32
FRAMES = 150  # of the generated clip
PAIRS = 10


def generated(path: Path) -> Path:
    """Writes a clip of a moving texture with noise, as MPEG-4."""
    random = np.random.default_rng(0)
    large = cv2.GaussianBlur(random.integers(0, 256, (600, 800, 3)).astype(np.uint8), (0, 0), 3)
    large = cv2.normalize(large, None, 0, 255, cv2.NORM_MINMAX)
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"mp4v"), 25, (WIDTH, HEIGHT))
    for t in range(FRAMES):
        frame = large[t : t + HEIGHT, 2 * t : 2 * t + WIDTH]
        writer.write(cv2.add(frame, random.integers(0, 8, frame.shape).astype(np.uint8)))
    writer.release()
    return path


def rate(function, *arguments):
    """Returns a function that measures the frames/s of `function`, which returns their number."""

    def measure():
        began = time.perf_counter()
        return function(*arguments) / (time.perf_counter() - began)

    return measure


def count(iterator) -> int:
    return sum(1 for _ in iterator)


def decode(paths, **arguments):
    return sum(count(decoding.frames(path, **arguments)) for path in paths)


def decode_for_cnn(paths):
    return sum(
        count(
            decoding.centre_crop(decoding.resize(frame, HEIGHT, WIDTH), 224, 224)
            for frame in decoding.frames(path)
        )
        for path in paths
    )


def make_patches(paths, frames):
    job = patches.Patches()
    for path in paths:
        count(job.records(listing.Video(str(path), path.name)))
    return frames


def run_cnn(function, batch):
    return len(function(batch).numpy())


def make_flow(estimate, frames):
    for a, b in itertools.pairwise(frames):
        flow.quantise(estimate(a, b), 20)
    return len(frames) - 1


def make_part(values, path):
    """Writes a part as a job does for a video: packed, serialized, uncompressed."""
    stored, scale = storage.pack(values, "uint8")
    example = records.serialize(records.Record(stored, scale, "video"))
    records.write_file(path, [example], "")
    return len(values)


def compress(part, path):
    examples = tf.data.TFRecordDataset(str(part)).as_numpy_iterator()
    records.write_file(path, examples, "GZIP")
    example = next(tf.data.TFRecordDataset(str(part)).as_numpy_iterator())
    shape = tf.train.Example.FromString(example).features.feature["shape"].int64_list.value
    return shape[0]


def cnns(file):
    """Returns {name: function of a batch (32, 224, 224, 3) float32}."""
    vgg = keras.applications.VGG16(weights=None)
    models = {"VGG-16 to fc6": keras.Model(vgg.inputs, vgg.get_layer("fc1").output)}
    if file:
        model = keras.saving.load_model(file, compile=False, safe_mode=True)
        models[f"{Path(file).stem} to its end"] = model
    return {
        name: tf.function(lambda x, model=model: tf.nest.flatten(model(x, training=False))[0])
        for name, model in models.items()
    }


def percepts(folder):
    """Returns (100, D) values of a real data set, or (100, 4096) generated ones, half of them 0."""
    if not folder:
        return np.maximum(np.random.default_rng(0).normal(0, 1, (100, 4096)), 0).astype(np.float32)
    size = records.Manifest.load(folder).count
    sample = records.pick(folder, evenly_spread(100, size))
    values = [record.frames.astype(np.float32) * record.scale for record in sample]
    return np.concatenate(values)[:100]


def main():
    parser = _common.flags(__doc__, units=None)
    parser.add_argument("--videos", type=_common.path, help="folder of real videos")
    parser.add_argument("--clips", type=int, default=6, help="number of these, evenly spread")
    parser.add_argument(
        "--cnn", type=os.path.expanduser, help=".keras file to measure besides VGG-16"
    )
    parser.add_argument("--percepts", type=_common.path, help="data set of percepts to compress")
    args = parser.parse_args()
    core = min(os.sched_getaffinity(0))
    os.sched_setaffinity(0, {core})
    cv2.setNumThreads(1)

    with tempfile.TemporaryDirectory() as folder:
        folder = Path(folder)
        clips = {"generated, MPEG-4, 320x240": [generated(folder / "clip.mp4")]}
        if args.videos:
            videos = listing.folder(args.videos).videos
            chosen = evenly_spread(args.clips, len(videos))
            clips[f"{args.clips} of {args.videos.name}/"] = [Path(videos[i].path) for i in chosen]
        stages = {}
        for name, paths in clips.items():
            stages["decode RGB", name] = rate(decode, paths)
            stages["decode grey", name] = rate(lambda p: decode(p, colour=False), paths)
            stages["decode, resize, crop 224x224", name] = rate(decode_for_cnn, paths)
        paths = list(clips.values())[-1]
        frames = [
            decoding.resize(frame, HEIGHT, WIDTH)
            for frame in itertools.islice(decoding.frames(paths[0], colour=False), PAIRS + 1)
        ]
        batch = np.random.default_rng(0).random((BATCH, 224, 224, 3), np.float32)
        for cnn, function in cnns(args.cnn).items():
            function(batch)  # compiles
            stages["CNN", f"{cnn}, batches of {BATCH}"] = rate(run_cnn, function, batch)
        for method in ("dis", "farneback"):
            stages["optical flow", f"{method}, 320x240, quantised"] = rate(
                make_flow, flow.estimator(method), frames
            )
        values = percepts(args.percepts)
        part, shard = folder / "part", folder / "shard"
        width = f"{values.shape[1]}-d percepts"
        make_part(values, part)
        compress(part, shard)
        per_frame = {"part": part.stat().st_size, "GZIP": shard.stat().st_size}
        stages["write a part", f"{width}, uint8"] = rate(make_part, values, part)
        stages["write a shard", f"{width}, uint8, GZIP"] = rate(compress, part, shard)
        stages["decode and crop patches", f"{name}, 10 per video"] = rate(
            make_patches, paths, decode(paths)
        )
        figures = _common.interleave(stages, args.rounds)

    rows = [
        [stage, what, _common.spread(rates, ",.1f"), f"{1000 / statistics.median(rates):,.2f}"]
        for (stage, what), rates in figures.items()
    ]
    sizes = ", ".join(
        f"{size / len(values):,.0f} bytes per frame {name}" for name, size in per_frame.items()
    )
    source = f"of {args.percepts.name}" if args.percepts else "generated"
    parts = [
        "One core; every stage by itself.",
        _common.table(["stage", "of what", "frames/s: median (range)", "ms per frame"], rows),
        f"Percepts ({source}) as uint8: {sizes}; {(values == 0).mean():.0%} of the values are 0.",
    ]
    _common.report("From videos to records", parts, args.out)


if __name__ == "__main__":
    main()
