"""Whole frames of one's own: the 1-layer composite with 2048 units. It takes a machine with a GPU.

    python -m data_prep.frames --input=my_images --size=64x64 --grey --out=data/frames
    python -m train.pretrain --config=frames --config.data.records=data/frames

Reads 10 frames, reconstructs them and predicts 10. The output is logistic, with the cross entropy
of pixels in [0, 1], as on Moving MNIST. For the squared loss, as on patches:
`--config.model.output=linear --config.recipe.learning_rate=1e-3`. docs/own_frames.md walks through
it with `frames_small`.
"""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe, use="frames")
    config.name = "frames"
    config.data.records = "data/frames"
    return config
