"""Figure 12 and table 3: the training on each subset of eval.few_labels. See `finetune`.

    python -m eval.few_labels --workdir=runs/percepts_small --records=data/ucf101_fc6 \\
        --config.data.split=1 --out=results/few_labels

The last weights are evaluated, because one or two labels per class do not suffice to choose a
checkpoint.
"""

from unsup_video.configs import finetune


def get_config(recipe=""):
    config = finetune.get_config(recipe)
    config.name = "finetune_few_labels"
    config.recipe.batch_size = 32  # or all videos, if there are fewer
    config.train.steps = 60  # minimum; `--epochs` may ask for more
    return config
