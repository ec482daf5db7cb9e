"""Figure 6, the larger model: 2 layers of 4096 units on patches. See `patches`."""

from unsup_video.configs import patches


def get_config(recipe=""):
    config = patches.get_config(recipe)
    config.name = "patches_4096"
    config.model.units = 4096
    return config
