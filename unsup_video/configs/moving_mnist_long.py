"""Moving MNIST in an hour and a half of 2 cores: `moving_mnist_hour` with 24,000 steps.

    python -m train.pretrain --config=moving_mnist_long --digits_dir=FOLDER_WITH_THE_IDX_FILES

The time is for a CPU on which `config.precision=auto` takes bfloat16.
docs/results/moving_mnist_long.md has the curve.
"""

from unsup_video.configs import moving_mnist_hour


def get_config(recipe=""):
    config = moving_mnist_hour.get_config(recipe)
    config.name = "moving_mnist_long"
    config.train.steps = 24_000
    config.train.eval_every = 2_000
    config.train.checkpoint_every = 1_000
    if config.expect.source:  # as of the quickstart: with the recipe that was measured
        config.expect = dict(
            reconstruction=238.4, future=336.1, source="docs/results/moving_mnist_long.md"
        )
    return config
