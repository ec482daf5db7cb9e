"""Makes percepts of optical flow: a vector for every flow of a video, as records.

    python -m data_prep.flow --videos=my_videos --out=data/flow

Histograms of the directions of flow and statistics of its speed, by cells of a grid, need no CNN:

    python -m data_prep.flow_percepts --descriptor=hof --flow=data/flow --out=data/hof

A CNN that was trained on images, in keras.applications or a .keras file as in data_prep.percepts,
reads u, v and the speed as the three channels of an image; --stack=5 averages them over 5 flows:

    python -m data_prep.flow_percepts --cnn=EfficientNetV2B0 --flow=data/flow --out=data/flow_cnn
    python -m data_prep.flow_percepts --cnn=mine.keras --mean=127 --std=128 --flow=data/flow \\
        --out=data/flow_cnn

A CNN that train.flow_cnn trained on labelled flow gives the outputs of its fc6:

    python -m train.flow_cnn --config=flow_cnn --config.data.records=data/flow
    python -m data_prep.flow_percepts --workdir=runs/flow_cnn --flow=data/flow \\
        --out=data/flow_percepts

A record is (T, D) for a video of T flows, (T - L + 1, D) for stacks of L, with the name, label,
group and official splits of the flow's. Percept t is of the flow that begins at frame t. The result
has the format of data_prep.percepts and is used in the same way. A CNN trained on flow fits its
training videos better than new ones: divide its percepts as the flow was divided (the same
config.data.split) before judging anything trained on them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from absl import flags

from data_prep import cnn_flags, job_flags
from unsup_video.data import storage
from unsup_video.utils import cli
from unsup_video.video import flow_percepts, hof, percepts, stored_flow

_FLOW = flags.DEFINE_string("flow", None, "Data set written by data_prep.flow.")
_STORAGE = flags.DEFINE_enum(
    "storage",
    "float16",
    storage.STORAGES,
    "Storage of percepts; with uint8, 255 stands for the video's largest value.",
)

_WORKDIR = flags.DEFINE_string("workdir", None, "Folder of a run of train.flow_cnn.")
_cnn = cnn_flags.define(of_videos=False)
flags.adopt_module_key_flags(cnn_flags)  # so that --help shows them
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Flows or stacks per call of a CNN.")
_STACK = flags.DEFINE_integer(
    "stack", 1, "With --cnn: number of consecutive flows whose images are averaged."
)
_BOUND = flags.DEFINE_float(
    "bound", 5.0, "With --cnn: displacement in pixels per frame of the brightest and darkest pixel."
)
_SUBTRACT_MEDIAN = flags.DEFINE_bool(
    "subtract_median", True, "With --cnn: subtracts the median of every flow, mostly camera motion."
)
_DESCRIPTOR = flags.DEFINE_enum(
    "descriptor", None, ["hof"], "Histograms and statistics of flow, which need no CNN."
)
_GRID = flags.DEFINE_string(
    "grid", "3x3", "With --descriptor: rows x columns of cells; the whole frame counts besides."
)
_REST = flags.DEFINE_float(
    "rest", hof.Hof.rest, "With --descriptor: speed below which a pixel rests, in pixels per frame."
)

_KINDS = {  # the flag that chooses a kind of percepts: flags that go with it alone
    "workdir": {"batch_size"},
    "cnn": {"batch_size", "stack", "bound", "subtract_median", "weights", *cnn_flags.DETAILS},
    "descriptor": {"grid", "rest"},
}


def _kind():
    """Returns the flag that chooses the kind of percepts; checks that the others go with it."""
    chosen = [name for name in _KINDS if flags.FLAGS[name].value]
    if len(chosen) != 1:
        given = " and ".join(f"--{name}" for name in chosen) or "none of them"
        raise ValueError(
            "give one of --workdir=RUN, a run of train.flow_cnn; --cnn=NAME_OR_FILE, a CNN trained "
            f"on images; and --descriptor=hof, which needs no CNN; got {given}"
        )
    for name in sorted(set.union(*_KINDS.values()) - _KINDS[chosen[0]]):
        if flags.FLAGS[name].present:
            others = " and ".join(f"--{kind}" for kind, names in _KINDS.items() if name in names)
            raise ValueError(f"--{name} goes with {others}, not with --{chosen[0]}")
    return chosen[0]


def _job(kind):
    folder, dtype = _FLOW.value, _STORAGE.value
    if kind == "workdir":
        return flow_percepts.trained(_WORKDIR.value, folder, dtype, _BATCH_SIZE.value)
    if kind == "cnn":
        cnn = percepts.job(**_cnn(), dtype=dtype, batch_size=_BATCH_SIZE.value)
        return flow_percepts.of_images(
            cnn, folder, _STACK.value, _BOUND.value, _SUBTRACT_MEDIAN.value
        )
    return flow_percepts.described(
        hof.Hof(cli.height_and_width(_GRID, "3x3"), _REST.value), folder, dtype
    )


def main(argv):
    job_flags.check(argv)
    kind = _kind()
    if not _FLOW.value:
        raise ValueError("--flow is missing: the flow to read")
    listing = stored_flow.listing(_FLOW.value)
    job = _job(kind)
    print(
        f"{len(listing.videos):,} videos of {_FLOW.value}, {len(listing.classes):,} classes; "
        f"{job.title}"
    )
    job_flags.run(job, listing, argv)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
