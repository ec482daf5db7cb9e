"""Makes percepts of optical flow: the outputs of fc6 of a CNN that train.flow_cnn trained.

    python -m data_prep.flow --videos=my_videos --out=data/flow
    python -m train.flow_cnn --config=flow_cnn --config.data.records=data/flow
    python -m data_prep.flow_percepts --cnn=runs/flow_cnn --flow=data/flow --out=data/flow_percepts

A record is (T, 4096) for a video of T flows, T - 9 for a CNN of stacks of 10, with the name, label,
group and official splits of the flow's. Percept t is of the flow that begins at frame t. The result
has the format of data_prep.percepts and is used in the same way. The CNN fits its training videos
better than new ones: divide the percepts as the flow was divided (the same config.data.split)
before judging anything trained on them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from absl import flags

from data_prep import job_flags
from unsup_video.data import storage
from unsup_video.utils import cli
from unsup_video.video import flow_percepts

_CNN = flags.DEFINE_string("cnn", None, "Folder of a run of train.flow_cnn.")
_FLOW = flags.DEFINE_string("flow", None, "Data set written by data_prep.flow.")
_STORAGE = flags.DEFINE_enum(
    "storage",
    "float16",
    storage.STORAGES,
    "Storage of percepts; with uint8, 255 stands for the video's largest value.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Stacks per call of the CNN.")


def main(argv):
    job_flags.check(argv)
    for flag, what in ((_CNN, "the run of train.flow_cnn"), (_FLOW, "the flow to read")):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing: {what}")
    listing = flow_percepts.listing(_FLOW.value)
    job = flow_percepts.job(_CNN.value, _FLOW.value, _STORAGE.value, _BATCH_SIZE.value)
    print(
        f"{len(listing.videos):,} videos of {_FLOW.value}, {len(listing.classes):,} classes; "
        f"the CNN of {_CNN.value}, layer {job.settings['layer']}"
    )
    job_flags.run(job, listing, argv)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
