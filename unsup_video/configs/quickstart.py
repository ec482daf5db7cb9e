"""Moving MNIST in minutes on a laptop: `python -m train.pretrain`."""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "quickstart"
    config.model.units = 1024
    config.train.steps = 1200
    config.train.log_every = 20
    config.train.eval_every = 200
    config.train.checkpoint_every = 200
    return config
