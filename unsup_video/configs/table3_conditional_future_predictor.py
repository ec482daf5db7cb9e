"""Table 3, row "conditional future predictor". See `table3_composite`."""

from unsup_video.configs import table3_composite


def get_config(recipe=""):
    config = table3_composite.get_config(recipe)
    config.name = "table3_conditional_future_predictor"
    config.model.kind = "future_predictor"
    config.model.conditional_future = True
    return config
