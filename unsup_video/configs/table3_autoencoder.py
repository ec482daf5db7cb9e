"""Table 3, row "autoencoder". See `table3_composite`."""

from unsup_video.configs import table3_composite


def get_config(recipe=""):
    config = table3_composite.get_config(recipe)
    config.name = "table3_autoencoder"
    config.model.kind = "autoencoder"
    return config
