"""Figure 6, and the row "composite" of table 2: 2 layers of 2048 units on 32x32 colour patches.

The model reads 16 frames, reconstructs them and predicts 13. The patches come from your own videos,
or from UCF-101 as in the paper:

    python -m data_prep.patches --videos=FOLDER --out=data/patches --min_motion=0.01
    python -m train.pretrain --config=table2_patches_composite --config.data.records=data/patches

The paper does not give the units of its figure, 210.7. Expect a lower loss than that of repeating
the last frame, and blurry predictions, which are sharper with 4096 units; docs/results/patches.md
has the results of a small model. Training takes a machine with a GPU.
"""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe, use="natural")
    config.name = "table2_patches_composite"
    config.model.layers = 2
    config.model.output = "linear"  # squared loss
    config.data.records = "data/patches"
    config.data.frames_in, config.data.frames_out = 16, 13
    return config
