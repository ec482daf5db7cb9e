"""Figures 9 and 10: draws and measures the input and output weights with the largest norm.

    python -m eval.features --workdir=runs/quickstart

Draws mosaics of the encoder's sets of input weights, four for an LSTM, and of each decoder's output
weights. Measures the length and width of their strips, their extent and spatial frequency, and
compares them with those of random initial weights.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags

from eval import common
from unsup_video.evaluation import features
from unsup_video.utils import cli

_COUNT = flags.DEFINE_integer("count", 200, "Number of features to draw of each set.")


def main(argv):
    cli.check_arguments(argv)
    common.refuse("has no effect here, where features are weights", "precision", "digits_dir")
    for model in common.models():
        evaluation = features.evaluate(model, _COUNT.value, common.recompute())
        print(f"\n{model.name} (step {model.step})\n{features.table(evaluation)}\n")
        common.show(evaluation)
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
