"""A classifier of your own videos in a minute. See `finetune`.

    python -m train.finetune --config=finetune_small --init=RUN --records=data/percepts
    python -m train.finetune --config=finetune_small --init=none --config.model.units=256 \\
        --records=data/percepts

The weights after the last step are used, as in the cross-validation of eval.choose, because a few
validation videos do not suffice to choose a checkpoint. Regression needs ten times this learning
rate: `--config.model.kind=single_frame --config.recipe.learning_rate=1e-2`.
"""

from unsup_video.configs import finetune


def get_config(recipe=""):
    config = finetune.get_config(recipe)
    config.name = "finetune_small"
    config.recipe.learning_rate = 1e-3
    config.recipe.batch_size = 32
    config.train.steps = 60
    config.train.eval_every = 60
    config.train.checkpoint_every = 60
    return config
