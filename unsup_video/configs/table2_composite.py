"""Figure 5, second row, and the row "composite" of table 2: 2 layers, unconditional."""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "table2_composite"
    config.model.layers = 2
    config.expect = dict(reconstruction=0.0, future=344.9, source="table 2 of the paper")
    return config
