"""Whole frames of one's own in minutes on a laptop: 256 units. See `frames`.

python -m data_prep.frames --input=my_images --size=32x32 --grey --out=data/mine
python -m train.pretrain --config=frames_small --config.data.records=data/mine
"""

from unsup_video.configs import frames


def get_config(recipe=""):
    config = frames.get_config(recipe)
    config.name = "frames_small"
    config.model.units = 256
    config.train.steps = 1000
    config.train.log_every = 50
    config.train.eval_every = 250
    config.train.checkpoint_every = 250
    return config
