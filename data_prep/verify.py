"""Checks data sets: `python -m data_prep.verify FOLDER [FOLDER ..]`.

Reads every record of every folder that data_prep wrote, and compares files, sizes, checksums,
counts and shapes with the manifest. Prints what is wrong and where; the exit status is 1 then.
Files that are not of the data set are named; they do no harm, unless they look like its shards.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

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
