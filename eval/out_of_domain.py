"""Figure 8: tests a model of Moving MNIST on other numbers of digits than it was trained on.

    python -m eval.out_of_domain --workdir=runs/quickstart

Draws strips and animations of 1 and 3 test digits, and compares the losses with those on the number
of digits in training.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags

from eval import common
from unsup_video.evaluation import out_of_domain
from unsup_video.utils import cli

_NUM_DIGITS = flags.DEFINE_list("num_digits", ["1", "3"], "Numbers of digits to test.")
_CLIPS = flags.DEFINE_integer(
    "clips", 1000, "Number of test clips for each number of digits.", lower_bound=1
)


def main(argv):
    cli.check_arguments(argv)
    numbers = cli.numbers(_NUM_DIGITS, int)
    for model in common.models():
        evaluation = out_of_domain.evaluate(model, numbers, _CLIPS.value, common.recompute())
        print(f"\n{model.name} (step {model.step})\n{out_of_domain.table(evaluation)}\n")
        common.show(evaluation)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
