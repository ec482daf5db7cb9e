"""Table 2, patches: 2-layer future predictor, unconditional, 225.2 in the paper. See `patches`."""

from unsup_video.configs import patches


def get_config(recipe=""):
    config = patches.get_config(recipe)
    config.name = "table2_patches_future_predictor"
    config.model.kind = "future_predictor"
    return config
