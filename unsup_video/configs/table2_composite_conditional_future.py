"""Figure 5, third row, and table 2: 2-layer composite with a conditional future predictor."""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "table2_composite_conditional_future"
    config.model.layers = 2
    config.model.conditional_future = True
    config.expect = dict(reconstruction=0.0, future=341.2, source="table 2 of the paper")
    return config
