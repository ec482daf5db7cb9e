"""Action recognition in minutes on a laptop: 2 layers of 256 units on percepts.

    python -m data_prep.convert --input=ucf101_8classes_vgg16_fc6_uint8.npz --out=data/ucf101_fc6
    python -m train.pretrain --config=percepts_small --config.data.records=data/ucf101_fc6 \\
        --config.data.split=1

It reads 16 frames and predicts 9, for videos of 25. docs/results/action_recognition.md has its
results.
"""

from unsup_video.configs import table3_composite


def get_config(recipe=""):
    config = table3_composite.get_config(recipe)
    config.name = "percepts_small"
    config.model.units = 256
    config.data.frames_out = 9
    config.train.steps = 120
    config.train.log_every = 10
    config.train.eval_every = 30
    config.train.checkpoint_every = 30
    return config
