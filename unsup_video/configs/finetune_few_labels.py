"""Figure 12 and table 3: what is trained on each subset of eval.few_labels. See `finetune`.

    python -m eval.few_labels --workdir=runs/percepts_small --records=data/ucf101_fc6 \\
        --config.data.split=1 --out=results/few_labels

The last weights count: with a label or two of each class there is nothing to choose a checkpoint by.
"""

from unsup_video.configs import finetune


def get_config(recipe=""):
    config = finetune.get_config(recipe)
    config.name = "finetune_few_labels"
    config.recipe.batch_size = 32  # or all videos, where there are fewer
    config.train.steps = 60  # at least; more where `--epochs` asks for more
    return config
