"""Table 2, patches: 2-layer future predictor, unconditional, 225.2 in the paper."""

from unsup_video.configs import table2_patches_composite


def get_config(recipe=""):
    config = table2_patches_composite.get_config(recipe)
    config.name = "table2_patches_future_predictor"
    config.model.kind = "future_predictor"
    return config
