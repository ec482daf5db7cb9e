"""Makes records of whole frames of videos, folders of images, GIFs and arrays.

    python -m data_prep.frames --input=my_images --size=32x32 --grey --out=data/mine
    python -m data_prep.frames --input=clips.npy --size=64x64 --grey --range=-1,1 --out=data/mine
    python -m data_prep.frames --layout=ucf101 --videos=UCF-101 --splits_dir=ucfTrainTestlist \\
        --size=32x32 --fps=10 --out=data/frames

--input is a file, or a folder of files at any depth. A folder that holds images is one sequence, in
the natural order of their names, 2 before 10. An array, .npy or X of a .npz, is (T, H, W) or
(T, H, W, C), one sequence, or (N, T, H, W) or (N, T, H, W, C), several. Sub-folders are classes; a
.npz may have label, group, name and split.

A record is a whole sequence, or a window of --frames of it. Training cuts its own windows from
whole sequences, starting at any frame, so you rarely need --frames. Look at the records with
`python -m data_prep.show`, and train with

    python -m train.pretrain --config=frames_small --config.data.records=data/mine
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags

from data_prep import job_flags, source_flags
from unsup_video.utils import cli
from unsup_video.video import frames, inputs

_INPUT = flags.DEFINE_string(
    "input",
    None,
    "Read this video, GIF, .npy or .npz file, folder of images, or folder of all these.",
)
_SIZE = flags.DEFINE_string(
    "size", None, "Cut frames to the proportions HxW around their centre, and resize them to HxW."
)
_GREY = flags.DEFINE_bool("grey", False, "Write grey levels instead of RGB.")
_FRAMES = flags.DEFINE_integer(
    "frames", None, "Write adjacent windows of this many frames; default: whole sequences."
)
_FPS = flags.DEFINE_float(
    "fps", None, "Resample videos and GIFs to this frame rate; default: their own."
)
_RANGE = cli.define_range()


def main(argv):
    job_flags.check(argv)
    if _SIZE.value is None:
        raise ValueError("--size=HEIGHTxWIDTH of the frames to write is missing, such as 32x32")
    job = frames.Frames(
        size=cli.height_and_width(_SIZE),
        colour=not _GREY.value,
        frames=_FRAMES.value,
        fps=_FPS.value,
        value_range=cli.value_range(_RANGE),
    )
    if _INPUT.value == "":  # an empty path would mean the current folder
        raise ValueError("--input is empty: a file or a folder is expected")
    given = None if _INPUT.value is None else inputs.listing(_INPUT.value)
    notes = []
    if job.frames:
        notes.append(
            f"windows of {job.frames} frames: remaining frames at the end of a sequence, fewer "
            "than that, are not used"
        )
    listing = source_flags.listing(given, _INPUT.name, "sequences")
    job_flags.run(job, listing, argv, notes, config="frames_small")
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
