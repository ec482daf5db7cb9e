"""Table 3, row "autoencoder". See `percepts`."""

from unsup_video.configs import percepts


def get_config(recipe=""):
    config = percepts.get_config(recipe)
    config.name = "table3_autoencoder"
    config.model.kind = "autoencoder"
    return config
