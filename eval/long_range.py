"""Figure 7: runs a predictor far beyond the frames that it was trained to predict.

    python -m eval.long_range --workdir=runs/quickstart

Draws the activity of its units, measures whether activity and motion continue, and compares with
the same predictor before training.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags

from eval import common
from unsup_video.data import overlap
from unsup_video.evaluation import long_range
from unsup_video.utils import cli

_STEPS = flags.DEFINE_integer(
    "steps",
    None,
    "Number of frames to predict; default: 100, or four times that of training, if more.",
)
_CLIPS = flags.DEFINE_integer(
    "clips",
    None,
    "Number of test clips; default: 100, or all of a smaller data set.",
    lower_bound=1,
)
_UNITS = flags.DEFINE_integer(
    "units", 200, "Number of units whose activity is drawn.", lower_bound=1
)
_RECORDS = flags.DEFINE_string("records", None, "A data set of data_prep's to test on.")


def main(argv):
    cli.check_arguments(argv)
    for model in common.models():
        evaluation = long_range.evaluate(
            model, _STEPS.value, _CLIPS.value, _UNITS.value, _RECORDS.value, common.recompute()
        )
        print(f"\n{model.name} (step {model.step})\n{long_range.table(evaluation)}\n")
        for note in overlap.notes(evaluation.settings["seen"], None, "sequences"):
            print(note)
        print("a subject without a period drifts or stands still")
        common.show(evaluation)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
