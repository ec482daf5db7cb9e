"""An action classifier that starts from a pretrained encoder (the paper's section 3.3), or not.

    python -m train.finetune --init=runs/table3_composite --records=data/percepts
    python -m train.finetune --init=none --records=data/percepts

The best checkpoint is the one that classifies the most validation videos correctly.
"""

from ml_collections import ConfigDict

from unsup_video.configs import recipes


def get_config(recipe: str = "") -> ConfigDict:
    """Returns the classifier's config, with the recipe of that name."""
    config = ConfigDict()
    config.name = "finetune"
    config.task = "finetuning"
    config.seed = 0
    config.precision = "auto"  # the dtype of matrix products, as in pretraining

    config.model = ConfigDict(
        dict(
            # The run or SavedModel whose encoder it starts from; "none": random weights.
            init="",
            # lstm: recurrent, of any `cell`; state: regression on what the encoder remembers;
            # single_frame, mean_frame: baselines without init.
            kind="lstm",
            # The next five are for a classifier without init; otherwise they are the encoder's.
            units=2048,
            layers=2,
            cell="lstm",  # lstm | gru
            use_peepholes=True,  # of lstm
            frame_scaling=True,
            dropout=0.5,  # between the layers and before the softmax, never through time
            input_dropout=0.0,  # of the frames
            freeze=False,  # train only the softmax
        )
    )

    config.data = ConfigDict(
        dict(
            # Written by data_prep: one data set, or a folder with train/, validation/ and test/.
            records="",
            split=0,  # the official split of one data set; 0: divide it by groups of videos
            frames=16,  # per window
            stride=8,  # frames from one block of a video to the next, to classify whole videos
            videos_per_class=0,  # train on this many random videos of each class; 0: on all
            subset_seed=0,  # seed of that choice
        )
    )

    config.recipe = recipes.get(recipe or "modern", use="labels")
    config.recipe.encoder_factor = 1.0  # times the learning rate, for the encoder
    config.recipe.mean_frame_bias = False  # there is no decoder

    config.train = ConfigDict(
        dict(
            steps=300,
            log_every=20,  # in steps, as are the next two
            eval_every=50,
            checkpoint_every=50,
            early_stop_evaluations=0,  # stop after this many without improvement; 0: never
            deterministic=True,
        )
    )
    config.eval = ConfigDict(dict(batch_size=100))
    return config.lock()  # so that a typo is an error
