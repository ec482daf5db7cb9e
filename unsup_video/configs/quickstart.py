"""Moving MNIST in minutes on a laptop: `python -m train.pretrain`.

This is the 1-layer composite with 512 units, on 5,000 digits that need no download. Expect 311
(reconstruction) and 412 (future) nats per frame on the test digits after 9 minutes on 2 cores of
an AMD EPYC (Zen 4), or an estimated 14 to 19 in float32; docs/results/quickstart.md has the curve.
"""

from unsup_video.configs import base, recipes


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "quickstart"
    config.model.units = 512
    config.train.steps = 2_400
    config.train.log_every = 50
    config.train.eval_every = 600
    config.train.checkpoint_every = 600
    if (
        config.recipe.to_dict() == recipes.modern().to_dict()
    ):  # with which the figures were measured
        config.expect = dict(
            reconstruction=310.9, future=411.7, source="docs/results/quickstart.md"
        )
    return config
