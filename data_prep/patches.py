"""Cuts image patches from videos: small crops of consecutive frames (the paper's figure 6).

    python -m data_prep.patches --videos=my_videos --out=data/patches
    python -m data_prep.patches --layout=ucf101 --videos=UCF-101 --splits_dir=ucfTrainTestlist \\
        --out=data/patches

A record is a crop of 29 frames, 16 to read and 13 to predict, of 32x32 pixels RGB, at a random
position and time of a video. All crops of a video, or of a group of videos, are in the same split.
To leave out crops in which nothing happens, set a minimum mean change per frame, for values in
[0, 1]:

    python -m data_prep.patches --videos=my_videos --out=data/patches --min_motion=0.01

Look at them with `python -m data_prep.show`, and train with

    python -m train.pretrain --config=patches_small --config.data.records=data/patches
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from absl import flags

from data_prep import job_flags, source_flags
from unsup_video.utils import cli
from unsup_video.video import patches

_DEFAULT = patches.Patches()

_SIZE = flags.DEFINE_integer("size", _DEFAULT.size, "Height and width of a crop in pixels.")
_FRAMES = flags.DEFINE_integer("frames", _DEFAULT.frames, "Consecutive frames per crop.")
_PER_VIDEO = flags.DEFINE_integer("per_video", _DEFAULT.per_video, "Number of crops per video.")
_GREY = flags.DEFINE_bool("grey", False, "Stores grey levels instead of RGB.")
_SHORT_SIDE = flags.DEFINE_integer(
    "short_side", None, "Pixels of the shorter side that frames are scaled to first."
)
_FPS = flags.DEFINE_float(
    "fps", None, "Frames per second to resample to; default: the video's own rate."
)
_MIN_MOTION = flags.DEFINE_float(
    "min_motion", _DEFAULT.min_motion, "Minimum mean change per frame, for values in [0, 1]."
)
_SEED = flags.DEFINE_integer("seed", _DEFAULT.seed, "Seed of the positions and times.")


def main(argv):
    job_flags.check(argv)
    job = patches.Patches(
        size=_SIZE.value,
        frames=_FRAMES.value,
        per_video=_PER_VIDEO.value,
        colour=not _GREY.value,
        short_side=_SHORT_SIDE.value,
        fps=_FPS.value,
        min_motion=_MIN_MOTION.value,
        seed=_SEED.value,
    )
    listing = source_flags.listing()
    manifest = job_flags.run(job, listing, argv, config="patches_small")
    unused = manifest.source["unused"] - len(listing.missing)
    wanted = job.per_video * (len(listing.videos) - unused)
    if manifest.count < wanted:
        print(
            f"{wanted - manifest.count:,} patches fewer than --per_video asks for: too little "
            "moves there"
        )
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
