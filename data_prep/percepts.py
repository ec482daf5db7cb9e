"""Percepts of videos, as records: the values of a layer of a CNN for every frame.

The paper's, VGG-16's fc6 of the central 224x224 of a frame of 240x320, at about 30 frames a second.
Keras downloads the ImageNet weights (553 MB) once; --weights=FILE takes a file that you have:

    python -m data_prep.percepts --videos=my_videos --fps=30 --out=data/percepts

Another CNN of keras.applications, with its own input size and preprocessing:

    python -m data_prep.percepts --videos=my_videos --cnn=EfficientNetV2B0 --out=data/percepts

Any .keras file. What it was trained on has to be said: it gets (pixel - mean) / std of pixels of 0
to 255, in the order RGB unless --bgr:

    python -m data_prep.percepts --videos=my_videos --cnn=mine.keras --layer=percept \\
        --mean=127 --std=128 --out=data/percepts

A record is (T, D). --storage=uint8 takes half the space, for layers that are never negative, such
as those after a ReLU.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import re

from absl import flags

from data_prep import job_flags, source_flags
from unsup_video import cli
from unsup_video.data import storage
from unsup_video.video import percepts

_CNN = flags.DEFINE_string("cnn", "VGG16", "A name in keras.applications, or a .keras file.")
_WEIGHTS = flags.DEFINE_string(
    "weights", "", "Of a CNN by name: imagenet (the default), or a file of weights."
)
_LAYER = flags.DEFINE_string(
    "layer", "", "Which layer's output; (H, W, D) is averaged over H and W. Default: fc1 (fc6) of "
    "VGG, the last global pooling of others."
)
_SIZE = flags.DEFINE_string("size", None, "HxW of the CNN's input; default: its own, or 224x224.")
_RESIZE = flags.DEFINE_string(
    "resize", None, "HxW that a frame is stretched to; its centre is the input. Default: 240x320 "
    "for 224x224, in proportion for others."
)
_MEAN = flags.DEFINE_list("mean", None, "A number, or three: the CNN gets (pixel - mean) / std.")
_STD = flags.DEFINE_list("std", None, "A number, or three; default: the CNN's own preprocessing.")
_BGR = flags.DEFINE_bool("bgr", False, "The CNN gets blue, green, red; with --mean and --std.")
_STORAGE = flags.DEFINE_enum(
    "storage", "float16", storage.STORAGES, "uint8: 255 is the video's largest value."
)
_FPS = flags.DEFINE_float("fps", None, "Frames a second to resample to; default: the video's own.")
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Frames that the CNN sees at once.")


def main(argv):
    job_flags.check(argv)
    listing = source_flags.listing()  # before the CNN, which may have to be downloaded
    job = percepts.job(
        _CNN.value,
        _WEIGHTS.value,
        _LAYER.value,
        _pixels(_SIZE),
        _pixels(_RESIZE),
        _numbers(_MEAN),
        _numbers(_STD),
        bgr=_BGR.value,
        dtype=_STORAGE.value,
        fps=_FPS.value,
        batch_size=_BATCH_SIZE.value,
    )
    print(f"{job.cnn}, layer {job.layer or 'of the last global pooling'}: the central "
          f"{job.size[0]}x{job.size[1]} of {job.resize[0]}x{job.resize[1]}")
    job_flags.run(job, listing, argv)
    return 0


def _pixels(flag):
    if flag.value is None:
        return None
    size = re.fullmatch(r"(\d+)x(\d+)", flag.value)
    if not size:
        raise ValueError(f"--{flag.name} must be HEIGHTxWIDTH, such as 240x320, got {flag.value!r}")
    return int(size[1]), int(size[2])


def _numbers(flag):
    try:
        return tuple(float(number) for number in flag.value or ())
    except ValueError:
        raise ValueError(f"--{flag.name}: numbers expected, got {','.join(flag.value)!r}") from None


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
