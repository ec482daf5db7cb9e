"""Moving MNIST in 40 minutes of 2 cores: 1 layer of 512 units, all of MNIST.

    python -m train.pretrain --config=moving_mnist_hour --digits_dir=FOLDER_WITH_THE_IDX_FILES

The time is for a CPU on which `config.precision=auto` takes bfloat16. The model and the recipe are
those of `quickstart`, with more digits and more steps.
docs/results/moving_mnist_hour.md has the curve.
"""

from unsup_video.configs import quickstart


def get_config(recipe=""):
    config = quickstart.get_config(recipe)
    config.name = "moving_mnist_hour"
    config.data.digits_source = "idx"
    config.train.steps = 10_000
    config.train.log_every = 100
    config.train.eval_every = 1_000
    config.train.checkpoint_every = 500
    config.eval.test_clips = 3_000
    if config.expect.source:  # as of the quickstart: with the recipe that was measured
        config.expect = dict(
            reconstruction=255.6, future=356.0, source="docs/results/moving_mnist_hour.md"
        )
    return config
