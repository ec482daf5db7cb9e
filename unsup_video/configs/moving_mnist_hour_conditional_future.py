"""`moving_mnist_hour` with a conditional future predictor, in 75 minutes of 2 cores.

    python -m train.pretrain --config=moving_mnist_hour_conditional_future \\
        --digits_dir=FOLDER_WITH_THE_IDX_FILES

The time is for a CPU on which `config.precision=auto` takes bfloat16. A step takes about twice as
long as an unconditional one, because the future predictor reads its own frames in training, one
after the other. docs/results/moving_mnist_hour_conditional_future.md has the curve with an earlier
version of the recipe `modern`; no run with the present one has been measured.
"""

from unsup_video.configs import moving_mnist_hour


def get_config(recipe=""):
    config = moving_mnist_hour.get_config(recipe)
    config.name = "moving_mnist_hour_conditional_future"
    config.model.conditional_future = True
    config.expect = dict(reconstruction=0.0, future=0.0, source="")
    return config
