"""Figure 6, the larger model: 2 layers of 4096 units on patches. See `table2_patches_composite`."""

from unsup_video.configs import table2_patches_composite


def get_config(recipe=""):
    config = table2_patches_composite.get_config(recipe)
    config.name = "patches_4096"
    config.model.units = 4096
    return config
