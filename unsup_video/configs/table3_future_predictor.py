"""Table 3, row "future predictor". See `percepts`."""

from unsup_video.configs import percepts


def get_config(recipe=""):
    config = percepts.get_config(recipe)
    config.name = "table3_future_predictor"
    config.model.kind = "future_predictor"
    return config
