"""Makes percepts of videos: the outputs of a layer of a CNN for every frame, as records.

The paper's percepts are VGG-16's fc6 of the central 224x224 of frames of 240x320, at about 30
frames per second. Keras downloads the ImageNet weights (553 MB) once; --weights=FILE uses a file
instead:

    python -m data_prep.percepts --videos=my_videos --fps=30 --out=data/percepts

Another CNN of keras.applications, with its own input size and preprocessing:

    python -m data_prep.percepts --videos=my_videos --cnn=EfficientNetV2B0 --out=data/percepts

Any .keras file, with the preprocessing it was trained with: it gets (pixel - mean) / std for pixels
from 0 to 255, in the order RGB unless --bgr:

    python -m data_prep.percepts --videos=my_videos --cnn=mine.keras --layer=percept \\
        --mean=127 --std=128 --out=data/percepts

A record is (T, D). --storage=uint8 takes half the space, for layers that are never negative, such
as those after a ReLU.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from absl import flags

from data_prep import cnn_flags, job_flags, source_flags
from unsup_video.data import storage
from unsup_video.utils import cli
from unsup_video.video import percepts

_cnn = cnn_flags.define()
flags.adopt_module_key_flags(cnn_flags)  # so that --help shows them
_STORAGE = flags.DEFINE_enum(
    "storage",
    "float16",
    storage.STORAGES,
    "Storage of percepts; with uint8, 255 stands for the video's largest value.",
)
_BATCH_SIZE = flags.DEFINE_integer("batch_size", 32, "Frames per call of the CNN.")


def main(argv):
    job_flags.check(argv)
    listing = source_flags.listing()  # before the CNN, which may have to be downloaded
    job = percepts.job(**_cnn(), dtype=_STORAGE.value, batch_size=_BATCH_SIZE.value)
    print(job.title)
    job_flags.run(job, listing, argv)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
