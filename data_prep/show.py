"""Shows the contents of a data set, as a model will see them:

    python -m data_prep.show data/patches
    python -m data_prep.show data/percepts --out=figures --count=12

Prints the number of sequences, their lengths, classes and splits, and what was not used. Writes a
contact sheet of evenly spaced sequences, OUT/NAME-show.png, and for pictures also an animation,
OUT/NAME-show.gif. Flow is drawn in colours, with the direction as hue and the speed as saturation;
vectors, such as percepts, are drawn as features over time.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's start-up messages

from pathlib import Path

from absl import flags

from unsup_video.utils import cli
from unsup_video.video import preview

_OUT = flags.DEFINE_string("out", None, "Folder for the pictures; default: beside the data set.")
_COUNT = flags.DEFINE_integer("count", 8, "Number of sequences.", lower_bound=1)
_COLUMNS = flags.DEFINE_integer(
    "columns", 10, "Maximum number of frames per sequence.", lower_bound=1
)
_GIF = flags.DEFINE_bool("gif", True, "Also writes an animation, if the data are pictures.")


def main(argv):
    if len(argv) != 2:
        raise ValueError("which data set? python -m data_prep.show FOLDER")
    folder = Path(argv[1])
    print(f"{folder}:", *preview.summary(folder), sep="\n  ")
    sample = preview.sample(folder, _COUNT.value)
    print(f"  {preview.statistics(sample)}")
    out = Path(_OUT.value) if _OUT.value else folder.absolute().parent
    out.mkdir(parents=True, exist_ok=True)
    # NAME.gif may be the clip that the data set was made of.
    written = [out / f"{folder.absolute().name}-show.png"]
    preview.sheet(sample, written[0], _COLUMNS.value)
    if _GIF.value and len(sample.manifest.frame_shape) > 1:
        written.append(written[0].with_suffix(".gif"))
        preview.animation(sample, written[1])
    print("wrote", *written)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
