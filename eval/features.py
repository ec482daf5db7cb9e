"""Figures 9 and 10: the input and output weights with the largest norm, drawn and measured.

    python -m eval.features --workdir=runs/quickstart

Mosaics of the encoder's four sets of input weights and of each decoder's output weights; length and
width of their strips, their extent and spatial frequency, beside those before training.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags

from eval import common
from unsup_video.evaluation import features
from unsup_video.utils import cli

_COUNT = flags.DEFINE_integer("count", 200, "How many features of each set.")


def main(argv):
    common.check_arguments(argv)
    for model in common.models():
        evaluation = features.evaluate(model, _COUNT.value, common.recompute())
        print(f"\n{model.name} (step {model.step})\n{features.table(evaluation)}\n")
        common.show(evaluation)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
