"""An action classifier from a pretrained encoder (the paper's section 3.3), or from nothing.

    python -m train.finetune --init=runs/percepts --records=data/percepts
    python -m train.finetune --init=none --records=data/percepts

The best checkpoint is that of the most right videos of the validation part.
"""

from ml_collections import ConfigDict

from unsup_video.configs import recipes


def get_config(recipe: str = "") -> ConfigDict:
    """The classifier, with the recipe of that name."""
    config = ConfigDict()
    config.name = "finetune"
    config.seed = 0
    config.precision = "auto"  # of the matrix products, as in pretraining

    config.model = ConfigDict(
        dict(
            # The run or SavedModel whose encoder it starts from; "none": random weights.
            init="",
            # lstm | state: regression on what the encoder remembers | single_frame, mean_frame: the
            # last two are baselines without init.
            kind="lstm",
            # Without init; with it they are the encoder's.
            units=2048,
            layers=2,
            use_peepholes=True,
            frame_scaling=True,
            dropout=0.5,  # between the layers and before the softmax, never through time
            input_dropout=0.0,  # of the frames
            freeze=False,  # train the softmax alone
        )
    )

    config.data = ConfigDict(
        dict(
            records="",  # written by data_prep: one data set, or a folder of train/, validation/, test/
            split=0,  # the official split of one data set; 0: divided by groups of videos
            frames=16,  # of a window
            stride=8,  # from one block of a video to the next, where whole videos are classified
            videos_per_class=0,  # train on so many, at random; 0: on all
            subset_seed=0,  # which of them
        )
    )

    config.recipe = recipes.get(recipe or "modern")
    config.recipe.encoder_factor = 1.0  # times the learning rate, for the LSTMs
    config.recipe.mean_frame_bias = False  # there is no decoder
    if config.recipe.name == "modern":
        config.recipe.learning_rate = 3e-4

    config.train = ConfigDict(
        dict(
            steps=300,
            log_every=20,  # steps, as all of these
            eval_every=50,
            checkpoint_every=50,
            early_stop_evaluations=0,  # stop after so many without a better one; 0: never
            deterministic=True,
        )
    )
    config.eval = ConfigDict(dict(batch_size=100))
    return config.lock()  # a typo is an error
