"""`moving_mnist_hour` with a conditional future predictor, in about an hour of 2 cores.

    python -m train.pretrain --config=moving_mnist_hour_conditional_future \\
        --digits_dir=FOLDER_WITH_THE_IDX_FILES

A step takes about 1.5 times as long as an unconditional one, because the future predictor reads its
own frames in training, one after the other.
"""

from unsup_video.configs import moving_mnist_hour


def get_config(recipe=""):
    config = moving_mnist_hour.get_config(recipe)
    config.name = "moving_mnist_hour_conditional_future"
    config.model.conditional_future = True
    config.expect = dict(reconstruction=0.0, future=0.0, source="")
    return config
