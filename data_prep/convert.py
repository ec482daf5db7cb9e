"""Converts existing percepts to records.

NumPy arrays: a `.npz` with X (N, T, D), and optionally scale, label, split, group and name; a
`.npy` (N, T, D); or a folder of `.npy` files (T, D), one per video:

    python -m data_prep.convert --input=ucf101_fc6.npz --out=data/ucf101_fc6
    python -m data_prep.convert --input=fc6.npy --labels=labels.txt --out=data/fc6
    python -m data_prep.convert --input=percepts/ --out=data/fc6           # sub-folders are classes

The formats of the authors' releases, HDF5 with text files: either all frames in one file, or a
list of files:

    python -m data_prep.convert --input=train_features.h5 --dataset=hidden6 \\
        --num_frames=train_num_frames.txt --labels=train_labels.txt --out=data/train
    python -m data_prep.convert --input=sports_files.txt --num_frames=sports_num_frames.txt \\
        --out=data/sports

Floating-point numbers are stored as float16, or with --storage=uint8 in 8 bits with a scale per
video; uint8 is stored unchanged. Videos with names of UCF-101 (--names) get its groups.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from absl import flags

from data_prep import common
from unsup_video.data import convert, folders, records, storage
from unsup_video.utils import cli

_INPUT = flags.DEFINE_string(
    "input", None, "File (.npz, .npy, .h5 or .txt), or folder of .npy files, to convert."
)
_OUT = flags.DEFINE_string("out", None, "Folder to write.")
_LABELS = flags.DEFINE_string(
    "labels",
    None,
    "Text file with the label of every video, one per line; for a folder, lines `NAME LABEL`.",
)
_NUM_FRAMES = flags.DEFINE_string(
    "num_frames", None, "Text file with the frame count of every video in HDF5, one per line."
)
_NAMES = flags.DEFINE_string("names", None, "Text file with the name of every video, one per line.")
_CLASSES = flags.DEFINE_string(
    "classes",
    None,
    "Text file with one class per line, numbered from 0, or lines `NUMBER NAME`, as classInd.txt.",
)
_DATASET = flags.DEFINE_string("dataset", None, "Data set in an HDF5 file; default: the only one.")
_SCALE = flags.DEFINE_float(
    "scale", None, "Value that a stored 1 stands for, for uint8 without a scale of its own."
)
_STORAGE = flags.DEFINE_enum(
    "storage", None, storage.STORAGES, "Storage of floating-point numbers; default: float16."
)
_SHARDS = flags.DEFINE_integer("shards", None, "Number of files; default: one per 256 MB.")
_COMPRESSION = flags.DEFINE_enum(
    "compression", "GZIP", records.COMPRESSIONS, "GZIP makes files smaller, but slower to read."
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replaces an existing data set.")


def main(argv):
    cli.check_arguments(argv)
    for flag, what in ((_INPUT, "the percepts to convert"), (_OUT, "the folder to write")):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing: {what}")
    percepts = convert.read(
        _INPUT.value,
        labels=_LABELS.value,
        num_frames=_NUM_FRAMES.value,
        names=_NAMES.value,
        classes=_CLASSES.value,
        dataset=_DATASET.value,
        scale=_SCALE.value,
        storage=_STORAGE.value,
    )
    if percepts.ignored:
        print(f"files not used: {len(percepts.ignored):,}: {folders.shown(percepts.ignored)}")
    manifest = records.write(
        _OUT.value,
        common.show_progress(percepts.records, percepts.count, "videos"),
        percepts.count,
        "percepts",
        percepts.source,
        shards=_SHARDS.value,
        compression=_COMPRESSION.value,
        overwrite=_OVERWRITE.value,
        dtype=percepts.dtype,
        scale=percepts.scale,
        classes=percepts.classes,
    )
    common.print_summary(_OUT.value, manifest)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
