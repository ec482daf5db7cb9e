"""Checks data sets: `python -m data_prep.verify FOLDER [FOLDER ..]`.

Reads every record of the folders, and compares files, sizes, checksums, counts and shapes with the
manifest. Prints every problem and where it is; the exit status is then 1. Files that do not belong
to the data set are listed; they do no harm, unless they look like its shards.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from unsup_video.data import records
from unsup_video.utils import cli


def main(argv):
    folders = argv[1:]
    if not folders:
        raise ValueError("which data set? python -m data_prep.verify FOLDER [FOLDER ..]")
    status = 0
    for folder in folders:
        problems = records.verify(folder)
        if problems:
            status = 1
            print(f"{folder}: DAMAGED", *problems, sep="\n  ")
        else:
            manifest = records.Manifest.load(folder)
            shape = records.format_shape(manifest.shape)
            classes = f" in {len(manifest.classes)} classes" if manifest.classes else ""
            print(
                f"{folder}: whole, {manifest.count:,} sequences{classes} of {shape} "
                f"{manifest.dtype}, {manifest.kind}, fingerprint {manifest.fingerprint[:16]}"
            )
            for path in records.foreign(folder):
                print(f"  {path}: foreign, not of this data set; it is not read")
    return status


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
