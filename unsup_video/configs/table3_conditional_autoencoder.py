"""Table 3, row "conditional autoencoder". See `table3_composite`."""

from unsup_video.configs import table3_composite


def get_config(recipe=""):
    config = table3_composite.get_config(recipe)
    config.name = "table3_conditional_autoencoder"
    config.model.kind = "autoencoder"
    config.model.conditional_reconstruction = True
    return config
