"""Table 3, row "conditional autoencoder". See `percepts`."""

from unsup_video.configs import percepts


def get_config(recipe=""):
    config = percepts.get_config(recipe)
    config.name = "table3_conditional_autoencoder"
    config.model.kind = "autoencoder"
    config.model.conditional_reconstruction = True
    return config
