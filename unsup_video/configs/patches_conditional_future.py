"""Table 2, patches: 2-layer composite, conditional future, 208.1 in the paper. See `patches`."""

from unsup_video.configs import patches


def get_config(recipe=""):
    config = patches.get_config(recipe)
    config.name = "patches_conditional_future"
    config.model.conditional_future = True
    return config
