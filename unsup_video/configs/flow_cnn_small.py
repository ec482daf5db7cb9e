"""The flow CNN in minutes on a laptop: 3 convolutions on crops of 64x64. See `flow_cnn`.

    python -m data_prep.flow --videos=FOLDER --size=72x96 --bound=4 --out=data/flow_small
    python -m train.flow_cnn --config.data.records=data/flow_small

Small frames have small displacements, so a bound below 20 pixels stores them more precisely in 8
bits.
"""

from ml_collections import ConfigDict

from unsup_video.configs import flow_cnn


def get_config(recipe=""):
    config = flow_cnn.get_config(recipe)
    config.name = "flow_cnn_small"
    config.model.update(
        dict(
            size=64,
            filters=(32, 64, 128),
            kernels=(5, 3, 3),
            strides=(2, 1, 1),
            paddings=(2, 1, 1),
            norm_after=(1,),
            pool_after=(1, 2, 3),
            full=(256, 128),
            dropout=0.5,
        )
    )
    config.data.shuffle_mb = 1024
    config.recipe = ConfigDict(
        dict(
            name="two_stream_short",
            optimizer="clipped_momentum",
            learning_rate=1e-2,
            schedule="warmup_linear",  # up, then down to zero at the last step
            warmup_fraction=0.05,
            momentum=0.9,
            rms_decay=0.0,
            step_clip=1.0,
            l2=5e-4,
            batch_size=32,
        )
    )
    config.train.steps = 600
    config.train.log_every = 25
    config.train.eval_every = 100
    config.train.checkpoint_every = 100
    config.expect = dict(video_accuracy=0.0, source="")
    return config
