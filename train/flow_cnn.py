"""Trains the temporal-stream CNN on optical flow: `python -m train.flow_cnn --config=NAME`.

    python -m data_prep.flow --videos=my_videos --out=data/flow        # a sub-folder for each class
    python -m train.flow_cnn --config=flow_cnn --config.data.records=data/flow

NAME is flow_cnn (single flows), flow_cnn_stack10 (stacks of 10), flow_cnn_small (the default, which
takes minutes on a laptop), or the path of your own config. Every field has a flag, for example
--config.model.dropout=0.5. The same command resumes an interrupted run. Then

    python -m data_prep.flow_percepts --workdir=runs/flow_cnn --flow=data/flow \\
        --out=data/flow_percepts

makes percepts of flow from fc6, as data_prep.percepts does from frames.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's messages at start-up

from ml_collections import config_flags

from train import common
from unsup_video import configs
from unsup_video.data import flow_stacks
from unsup_video.evaluation import comparison
from unsup_video.training import loop, precision, unread
from unsup_video.training.tasks import flow_classification
from unsup_video.utils import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment, NAME or FILE.py; default: flow_cnn_small."
)


def main(argv):
    cli.check_arguments(argv)
    config, named = common.configs(_CONFIG)
    flow_classification.check(config)
    ignored = unread.of_flow_cnn(config)
    common.check_read(config, named, ignored)
    strategy = common.set_up(config)

    # ------------------------------------------------------------------ data and network
    stacks = flow_stacks.Stacks(config)
    with strategy.scope():
        network = flow_classification.build_network(
            config, len(stacks.classes), precision.gemm_dtype(config.precision)
        )
        task = flow_classification.FlowClassification(config, network, stacks)
        trainer = loop.Trainer(config, task)
    workdir = common.open_workdir(config, strategy, ignored)
    print(f"{config.name}: {network.count_params():,} parameters, recipe {config.recipe.name}")
    print(f"data: {stacks.description['kind']}: {stacks.description['source']}")
    for name, size in stacks.description["parts"].items():
        print(f"  {name}: {size['videos']:,} videos, {size['too_short']:,} of them too short")

    # ------------------------------------------------------------------ training
    results, _ = common.run(trainer, workdir, {"data": stacks.description})

    # ------------------------------------------------------------------ results
    expect = comparison.expected(config, results.get("classes"))
    print(f"\n{flow_classification.table(config, results, expect)}\n")
    cli.print_next(
        cli.command("tensorboard", f"--logdir={workdir.tb}"),
        cli.command(
            "data_prep.flow_percepts",
            f"--workdir={workdir.path}",
            f"--flow={config.data.records}",
            "--out=data/flow_percepts",
        ),
    )
    return 0


def run():
    sys.argv = configs.expand(sys.argv, default="flow_cnn_small", task="flow_classification")
    cli.run(main)


if __name__ == "__main__":
    run()
