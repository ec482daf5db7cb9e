"""Computes the optical flow of videos, and stores it as records.

    python -m data_prep.flow --videos=my_videos --out=data/flow
    python -m data_prep.flow --layout=ucf101 --videos=UCF-101 --splits_dir=ucfTrainTestlist \\
        --out=data/ucf_flow

A record is (T - 1, 240, 320, 2) int8 for a video of T frames: u, to the right, and v, downwards, in
pixels per frame, clipped to 20. A stored value stands for value * 20 / 127. For a temporal-stream
CNN (Simonyan & Zisserman 2014), store stacks of 10 flows without camera motion, as 20 channels:

    python -m data_prep.flow --videos=my_videos --out=data/flow10 --stack=10 --subtract_mean

Windows of 10 consecutive single flows contain the same stacks, start at any frame, and store
nothing twice. To check a few videos first, write previews of video beside flow to OUT-previews/:

    python -m data_prep.flow --videos=my_videos --limit=5 --out=data/flow_try --previews=5

Many files repeat frames, and there is no flow between equal frames: if the previews show this, set
--fps.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from pathlib import Path

from absl import flags

from data_prep import job_flags, source_flags
from unsup_video.utils import cli
from unsup_video.video import flow

_DEFAULT = flow.Flow()

_METHOD = flags.DEFINE_enum(
    "method",
    _DEFAULT.method,
    flow.METHODS,
    "dis: dense inverse search and variational refinement. tvl1 needs OpenCV's contrib modules.",
)
_SIZE = flags.DEFINE_string("size", "240x320", "HxW to stretch frames to first.")
_BOUND = flags.DEFINE_float(
    "bound", _DEFAULT.bound, "Displacement in pixels per frame at which flow is clipped."
)
_FPS = flags.DEFINE_float(
    "fps", None, "Frames per second to resample to; default: the video's own rate."
)
_SUBTRACT_MEAN = flags.DEFINE_bool(
    "subtract_mean", False, "Subtracts the mean vector of every flow, mostly camera motion."
)
_STACK = flags.DEFINE_integer("stack", 1, "Flows per stack, as channels u1, v1, u2, v2, ..")
_STACK_STRIDE = flags.DEFINE_integer(
    "stack_stride", None, "Flows from one stack to the next; default: side by side."
)
_PREVIEWS = flags.DEFINE_integer(
    "previews", 0, "Number of videos, from the first, to write a GIF of.", lower_bound=0
)


def main(argv):
    job_flags.check(argv)
    if _STACK_STRIDE.present and _STACK.value == 1:
        raise ValueError("--stack_stride needs --stack")
    job = flow.Flow(
        method=_METHOD.value,
        size=cli.height_and_width(_SIZE),
        bound=_BOUND.value,
        fps=_FPS.value,
        subtract_mean=_SUBTRACT_MEAN.value,
        stack=_STACK.value,
        stack_stride=_STACK.value if _STACK_STRIDE.value is None else _STACK_STRIDE.value,
    )
    listing = source_flags.listing()
    job_flags.run(job, listing, argv)
    out = Path(flags.FLAGS.out)
    print(
        f"{flow.share_at_bound(out):.2%} of a sample of the values are at the bound of "
        f"{job.bound:g} pixels per frame: faster motion is clipped"
    )
    if _PREVIEWS.value:
        folder = out.with_name(f"{out.name}-previews")
        written = flow.write_previews(folder, _PREVIEWS.value, job, listing, out, print)
        print(f"wrote {len(written)} files in {folder}: video beside flow")
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
