"""Writes Moving MNIST as records, and converts the published test file to records and back.

This generates a fixed data set. The same flags give the same sequences on every machine, and the
same seed and split give the stream that `train.pretrain` uses:

    python -m data_prep.moving_mnist --out=data/mm/test --split=test --count=10000
    python -m data_prep.moving_mnist --out=data/mm/train --split=train --count=50000 --seed=1

To import the published test file, `mnist_test_seq.npy` (uint8, time first, (20, 10000, 64, 64)),
whose checksum is verified. Never select a model on it:

    python -m data_prep.moving_mnist --out=data/published/test --import_npy=mnist_test_seq.npy

To write one digit per sequence, labelled with the direction that it moves in (one of 8), which no
single frame shows:

    python -m data_prep.moving_mnist --out=data/motion/test --split=test --count=2000 \\
        --num_digits=1 --num_frames=10 --bounce=wrap --directions=8

To export records as a file of that layout:

    python -m data_prep.moving_mnist --records=data/mm/test --export_npy=mm_test_seq.npy
"""

import dataclasses
import os
from pathlib import Path

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

import numpy as np
from absl import flags

from data_prep import common
from unsup_video.data import digits, moving_mnist, records
from unsup_video.utils import cli, files

_DEFAULT = moving_mnist.MovingMnist()

_OUT = flags.DEFINE_string("out", None, "Folder to write.")
_SPLIT = flags.DEFINE_enum(
    "split", "test", digits.SPLITS, "Split of the digits and of the random stream."
)
_COUNT = flags.DEFINE_integer("count", 10_000, "Number of sequences.", lower_bound=1)
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the random stream, like config.seed of a run.")
_NUM_DIGITS = flags.DEFINE_integer("num_digits", _DEFAULT.num_digits, "Digits per sequence.")
_FRAME_SIZE = flags.DEFINE_integer(
    "frame_size", _DEFAULT.frame_size, "Height and width of frames in pixels."
)
_NUM_FRAMES = flags.DEFINE_integer("num_frames", _DEFAULT.num_frames, "Frames per sequence.")
_SPEED_MIN = flags.DEFINE_float(
    "speed_min", _DEFAULT.speed[0], "Minimum speed, as a fraction of the box per frame."
)
_SPEED_MAX = flags.DEFINE_float(
    "speed_max", _DEFAULT.speed[1], "Maximum speed, as a fraction of the box per frame."
)
_BOUNCE = flags.DEFINE_enum(
    "bounce", _DEFAULT.bounce, moving_mnist.BOUNCES, "Behaviour of digits at the walls."
)
_DIRECTIONS = flags.DEFINE_integer(
    "directions",
    None,
    "Number of directions, evenly spaced; each sequence is labelled with its own.",
)
_DIGITS_DIR = flags.DEFINE_string("digits_dir", None, "Folder of MNIST's idx files.")
_DIGITS_SOURCE = flags.DEFINE_enum("digits_source", "auto", digits.SOURCES, "Source of the digits.")
_SHARDS = flags.DEFINE_integer("shards", None, "Number of files; default: one per 256 MB.")
_COMPRESSION = flags.DEFINE_enum(
    "compression",
    "",
    records.COMPRESSIONS,
    "GZIP makes files 50 times smaller, but slower to read.",
)
_IMPORT_NPY = flags.DEFINE_string("import_npy", None, "Time-first .npy file to write to --out.")
_ANY_CHECKSUM = flags.DEFINE_bool(
    "any_checksum", False, "Imports a file of the published file's size with another checksum."
)
_EXPORT_NPY = flags.DEFINE_string("export_npy", None, "Time-first .npy file to write.")
_RECORDS = flags.DEFINE_string("records", None, "Data set to export to --export_npy.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces an existing data set or file.")

_GENERATOR = (
    _SPLIT,
    _COUNT,
    _SEED,
    _NUM_DIGITS,
    _SPEED_MIN,
    _SPEED_MAX,
    _BOUNCE,
    _DIRECTIONS,
    _DIGITS_DIR,
    _DIGITS_SOURCE,
)
_LAYOUT = (_FRAME_SIZE, _NUM_FRAMES)
_OUTPUT = (_OUT, _SHARDS, _COMPRESSION)

# mnist_test_seq.npy as published.
PUBLISHED_BYTES = 819_200_096
PUBLISHED_SHA256 = "c2a3e8d3939c001ab77bf543f130157424efa486bb4d0974d2cebb773b13f8b3"

_BLOCK = 100  # sequences held at a time


def main(argv):
    cli.check_arguments(argv)
    if _EXPORT_NPY.value is not None:
        _refuse(_EXPORT_NPY, _IMPORT_NPY, _ANY_CHECKSUM, *_GENERATOR, *_LAYOUT, *_OUTPUT)
        export()
    elif _RECORDS.present:
        raise ValueError("--records needs --export_npy=FILE")
    elif not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder to write")
    elif _IMPORT_NPY.value is not None:
        _refuse(_IMPORT_NPY, *_GENERATOR)
        write(*read_npy())
    elif _ANY_CHECKSUM.present:
        raise ValueError("--any_checksum needs --import_npy=FILE")
    else:
        write(*generate())
    return 0


def _refuse(mode, *others):
    for flag in others:
        if flag.present:
            raise ValueError(f"--{flag.name} does not go with --{mode.name}")


def generate():
    """Returns (T, H, W) uint8 sequences or labelled Records, their number, source and classes."""
    labelled = _DIRECTIONS.value is not None
    if labelled and (_NUM_DIGITS.value, _BOUNCE.value) != (1, "wrap"):
        raise ValueError(
            "--directions needs --num_digits=1 --bounce=wrap: each digit has a direction of its "
            "own, and loses it where it bounces"
        )
    params = moving_mnist.MovingMnist(
        num_digits=_NUM_DIGITS.value,
        frame_size=_FRAME_SIZE.value,
        num_frames=_NUM_FRAMES.value,
        speed=(_SPEED_MIN.value, _SPEED_MAX.value),
        bounce=_BOUNCE.value,
        **({"directions": _DIRECTIONS.value} if labelled else {}),
    )
    chosen = digits.load_digits(_SPLIT.value, _DIGITS_DIR.value, _DIGITS_SOURCE.value)
    print(f"digits: {len(chosen.images):,} for {chosen.split}, {chosen.source}")
    stream = moving_mnist.stream_seed(_SEED.value, _SPLIT.value)
    batches = moving_mnist.batches(chosen.images, params, stream, _BLOCK, count=_COUNT.value)
    source = {
        "generator": dataclasses.asdict(params),
        "seed": _SEED.value,
        "split": _SPLIT.value,
        "digits": {"source": chosen.source, "sha256": chosen.sha256},
    }
    sequences = (frames for batch in batches for frames in batch.numpy())
    if not labelled:
        return sequences, _COUNT.value, source, ()
    indices = np.arange(_COUNT.value)
    which, _, _ = moving_mnist.draw(params, len(chosen.images), stream, indices)
    directions = moving_mnist.directions(params, stream, indices)
    labelled_records = (
        records.Record(frames, name=f"{i:06d}", label=int(direction), group=f"digit {digit}")
        for i, frames, digit, direction in zip(
            indices, sequences, which.numpy()[:, 0], directions.numpy()[:, 0], strict=True
        )
    )
    classes = tuple(f"{360 * k / params.directions:g} degrees" for k in range(params.directions))
    return labelled_records, _COUNT.value, source, classes


def read_npy():
    """Returns an iterable of (T, H, W) uint8, their number, their source, and no classes."""
    path = Path(_IMPORT_NPY.value)
    try:
        # Maps the file, and reads neither pickles nor archives.
        frames = np.lib.format.open_memmap(path, mode="r")
    except ValueError as error:
        raise ValueError(f"{path}: truncated, damaged, or not a .npy file ({error})") from None
    if frames.dtype != np.uint8:
        raise ValueError(f"{path}: holds {frames.dtype}, uint8 expected")
    length, size = _NUM_FRAMES.value, _FRAME_SIZE.value
    if frames.ndim != 4 or (length, size, size) != (frames.shape[0], *frames.shape[2:]):
        raise ValueError(
            f"{path}: shape {frames.shape}, ({length}, N, {size}, {size}) expected: time first; "
            "--num_frames and --frame_size say what else to expect"
        )
    published = path.stat().st_size == PUBLISHED_BYTES
    sha256 = files.sha256(path)
    if published and sha256 != PUBLISHED_SHA256:
        if not _ANY_CHECKSUM.value:
            raise ValueError(
                f"{path}: has the size of the published test file, but not its sha256: damaged, or "
                f"another file ({sha256}, {PUBLISHED_SHA256} expected). Fetch it again; or accept "
                "it as a file of your own with --any_checksum"
            )
        published = False
    print(
        f"{path}: {'the published test file' if published else 'NOT the published test file'}, "
        f"{frames.shape[1]:,} sequences"
    )
    source = {"file": path.name, "sha256": sha256, "published_test_file": published}
    sequences = (
        sequence
        for start in range(0, frames.shape[1], _BLOCK)
        for sequence in np.ascontiguousarray(frames[:, start : start + _BLOCK].swapaxes(0, 1))
    )
    return sequences, frames.shape[1], source, ()


def write(sequences, count, source, classes):
    """Writes --out, and prints its contents and what to run next."""
    manifest = records.write(
        _OUT.value,
        common.show_progress(sequences, count, "sequences"),
        count,
        "moving_mnist",
        source,
        shards=_SHARDS.value,
        compression=_COMPRESSION.value,
        overwrite=_OVERWRITE.value,
        classes=classes,
    )
    common.print_summary(
        _OUT.value,
        manifest,
        commands=[
            cli.command(
                "train.pretrain",
                f"--config.data.records={Path(_OUT.value).absolute().parent}",
                note=f"once it holds {', '.join(f'{split}/' for split in digits.SPLITS)}",
            )
        ],
    )


def export():
    """Writes --records to --export_npy, time first."""
    if not _RECORDS.value:
        raise ValueError("--records=FOLDER is missing: the data set to export")
    path = Path(_EXPORT_NPY.value)
    if path.exists() and not _OVERWRITE.value:
        raise FileExistsError(f"{path} exists; choose another name, or --overwrite")
    if problems := records.verify(_RECORDS.value):
        raise ValueError("\n  ".join([f"{_RECORDS.value} is damaged:", *problems]))
    manifest = records.Manifest.load(_RECORDS.value)
    length, *frame_shape = manifest.shape
    if manifest.dtype != "uint8" or length is None:
        raise ValueError(
            f"--records={_RECORDS.value} holds {manifest.dtype} of "
            f"{'several lengths' if length is None else f'{length} frames'}: --export_npy is for "
            "uint8 sequences of one length"
        )
    if manifest.scale != records.UNIT or len(frame_shape) < 2:  # records of vectors have scales
        raise ValueError(f"--records={_RECORDS.value} holds no pixels, which --export_npy is for")
    count, frame_bytes = manifest.count, int(np.prod(frame_shape))
    shape = (length, count, *frame_shape)
    blocks = records.batches(_RECORDS.value, _BLOCK)
    path.parent.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
        # Writes instead of mapping, because a full disk would end a process that maps the file.
        np.lib.format.write_array_header_1_0(
            file, {"descr": "|u1", "fortran_order": False, "shape": shape}
        )
        data = file.tell()
        total = -(-count // _BLOCK)
        for i, block in enumerate(
            common.show_progress(blocks, total, f"blocks of {_BLOCK} sequences")
        ):
            for t, frames in enumerate(block.numpy().swapaxes(0, 1)):
                file.seek(data + (t * count + i * _BLOCK) * frame_bytes)
                file.write(np.ascontiguousarray(frames))
    print(f"wrote {path}: uint8 {shape}; sequence n is array[:, n]")


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
