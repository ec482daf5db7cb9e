"""The temporal-stream CNN on single flows; its fc6 makes the flow percepts (paper, section 3.3).

    python -m data_prep.flow --layout=ucf101 --videos=UCF-101 --splits_dir=ucfTrainTestlist \\
        --out=data/ucf_flow
    python -m train.flow_cnn --config=flow_cnn --config.data.records=data/ucf_flow \\
        --config.data.split=1

On UCF-101's test videos, the paper reports an accuracy of 72.2%, and Simonyan & Zisserman (2014)
73.9% on split 1, after a day on 4 GPUs of 2014. This is not reproduced here yet. Recipe, sizes and
dropout are those of Simonyan & Zisserman; the weight decay is that of Krizhevsky et al. 2012, whose
training they adapt.
"""

from ml_collections import ConfigDict


def get_config(recipe=""):
    if recipe:
        raise ValueError(f"a flow CNN has one recipe: leave out :{recipe}")
    config = ConfigDict()
    config.name = "flow_cnn"
    config.task = "flow_classification"
    config.seed = 0
    config.precision = "auto"  # the dtype of convolutions and matrix products, as in pretraining

    config.model = ConfigDict(
        dict(
            size=224,  # pixels of the square crop
            filters=(96, 256, 512, 512, 512),  # of conv1, conv2, ..
            kernels=(7, 5, 3, 3, 3),
            strides=(2, 2, 1, 1, 1),
            paddings=(0, 1, 1, 1, 1),
            norm_after=(1,),  # numbers of convolutions, from 1
            pool_after=(1, 2, 5),
            full=(4096, 2048),  # units of fc6, fc7
            dropout=0.9,
        )
    )

    config.data = ConfigDict(
        dict(
            # Written by data_prep.flow: one data set, or a folder with train/, validation/ and
            # test/. One data set is divided by its official split of this number, or by groups of
            # videos if it is 0.
            records="",
            split=0,
            stack=1,  # flows
            subtract_mean=True,  # subtract the mean vector of every flow, over the whole field
            stacks_per_video=25,  # maximum per epoch, drawn again for each epoch; 0: all
            # Memory in MiB. Up to this much flow is held. For more flow, this is the memory for
            # finding stacks in GZIP shards; more memory makes it faster.
            shuffle_mb=4096,
        )
    )

    config.recipe = ConfigDict(
        dict(
            name="two_stream",
            optimizer="clipped_momentum",  # momentum alone, since clip and RMSProp are off
            learning_rate=1e-2,
            schedule="piecewise",  # x decay_rate after each of the boundaries
            decay_rate=0.1,
            boundaries=(50_000, 70_000),  # steps
            momentum=0.9,
            rms_decay=0.0,
            step_clip=1.0,  # no weight ever moves that far in a step
            l2=5e-4,
            batch_size=256,
        )
    )

    config.train = ConfigDict(
        dict(
            steps=80_000,
            log_every=100,  # in steps, as are the next two
            eval_every=2_000,
            checkpoint_every=1_000,
            early_stop_evaluations=0,  # stop after this many without improvement; 0: never
            deterministic=True,
        )
    )
    config.eval = ConfigDict(
        dict(
            stacks_per_video=25,  # evenly spaced; a video's prediction is their mean
            batch_size=128,
        )
    )

    # Figure to expect at the end: % of the test videos.
    config.expect = ConfigDict(dict(video_accuracy=72.2, source="paper, UCF-101"))
    return config.lock()
