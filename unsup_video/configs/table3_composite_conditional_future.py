"""Table 3, row "composite, conditional future predictor". See `percepts`."""

from unsup_video.configs import percepts


def get_config(recipe=""):
    config = percepts.get_config(recipe)
    config.name = "table3_composite_conditional_future"
    config.model.conditional_future = True
    return config
