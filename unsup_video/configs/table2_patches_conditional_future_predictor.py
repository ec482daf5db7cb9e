"""Table 2, patches: 2-layer future predictor, conditional, 221.3 in the paper. See `patches`."""

from unsup_video.configs import patches


def get_config(recipe=""):
    config = patches.get_config(recipe)
    config.name = "table2_patches_conditional_future_predictor"
    config.model.kind = "future_predictor"
    config.model.conditional_future = True
    return config
