"""Action recognition: the composite that the paper pretrains on percepts; table 3, "composite".

2 layers of 2048 units read 16 frames, reconstruct them and predict 13. The decoders are
unconditional.

    python -m data_prep.percepts --videos=FOLDER --out=data/percepts
    python -m train.pretrain --config=table3_composite --config.data.records=data/percepts
    python -m train.finetune --init=runs/table3_composite --records=data/percepts

Pretraining uses no labels. The paper trains on 300 hours of Sports-1M; it does not publish its
losses.
"""

from unsup_video.configs import base


def get_config(recipe=""):
    config = base.get_config(recipe, use="natural")
    config.name = "table3_composite"
    config.model.layers = 2
    config.model.output = "linear"  # squared loss; "relu" for predictions that are never negative
    config.model.frame_scaling = True  # percepts of different CNNs differ in size
    config.data.records = "data/percepts"
    config.data.frames_in, config.data.frames_out = 16, 13
    return config
