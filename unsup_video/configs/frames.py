"""Whole frames of one's own: the 1-layer composite with 2048 units, which takes a machine with a GPU.

    python -m data_prep.frames --input=my_images --size=64x64 --grey --out=data/frames
    python -m train.pretrain --config=frames --config.data.records=data/frames

Reads 10 frames, reconstructs them and predicts 10. `config.model.output=logistic`, the default, has
the cross entropy of pixels in [0, 1], as on Moving MNIST: it suits shapes before a plain ground.
`--config.model.output=linear` has a squared loss, as on patches of natural pictures.
docs/own_frames.md walks through it with `frames_small`.
"""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe)
    config.name = "frames"
    config.data.records = "data/frames"
    if config.recipe.name == "modern":
        config.recipe.learning_rate = 1e-3  # as for patches: few pixels of natural pictures are 0
    return config
