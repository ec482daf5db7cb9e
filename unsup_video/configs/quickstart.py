"""Moving MNIST in minutes on a laptop: `python -m train.pretrain`.

The 1-layer composite with 512 units and 5,000 digits that need no download.
"""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "quickstart"
    config.model.units = 512
    if config.recipe.name == "modern":
        config.recipe.learning_rate = 4e-3  # a quarter of the paper's width takes larger steps
    config.train.steps = 1100
    config.train.log_every = 25
    config.train.eval_every = 550
    config.train.checkpoint_every = 275
    return config
