"""Table 2: 2-layer future predictor, conditional."""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "table2_conditional_future_predictor"
    config.model.kind = "future_predictor"
    config.model.layers = 2
    config.model.conditional_future = True
    config.expect = dict(reconstruction=0.0, future=343.5, source="table 2 of the paper")
    return config
