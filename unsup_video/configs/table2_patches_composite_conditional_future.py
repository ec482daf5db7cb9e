"""Table 2, patches: 2-layer composite, conditional future, 208.1 in the paper."""

from unsup_video.configs import table2_patches_composite


def get_config(recipe=""):
    config = table2_patches_composite.get_config(recipe)
    config.name = "table2_patches_composite_conditional_future"
    config.model.conditional_future = True
    return config
