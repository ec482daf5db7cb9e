"""Figure 5, first row, and the model of figures 7 to 10: 1-layer composite, unconditional.

A public log of the authors' release has 213 (reconstruction) and 346 (future) nats per frame after
17,000 steps of batch 128, on the training stream.
"""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "moving_mnist_1layer"
    config.expect = dict(
        reconstruction=213.0, future=346.0, source="log of the 2015 release, training stream"
    )
    return config
