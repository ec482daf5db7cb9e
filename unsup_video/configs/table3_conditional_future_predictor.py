"""Table 3, row "conditional future predictor". See `percepts`."""

from unsup_video.configs import percepts


def get_config(recipe=""):
    config = percepts.get_config(recipe)
    config.name = "table3_conditional_future_predictor"
    config.model.kind = "future_predictor"
    config.model.conditional_future = True
    return config
