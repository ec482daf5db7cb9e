"""Trains an action classifier: `python -m train.finetune --init=RUN_OR_SAVED_MODEL|none`.

    python -m train.finetune --init=runs/percepts_small --records=data/percepts
    python -m train.finetune --init=none --records=data/percepts --config.model.units=256
    python -m train.finetune --init=none --config.model.kind=single_frame --records=data/percepts

The classifier starts from the encoder of a run of train.pretrain, or of its export, or from random
weights, and reads percepts with labels. The same command resumes an interrupted run.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's messages at start-up

from absl import flags
from ml_collections import config_flags

from train import common, exports
from unsup_video import configs
from unsup_video.training import loop, trained, unread
from unsup_video.training.tasks import finetuning
from unsup_video.utils import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment, NAME[:RECIPE] or FILE.py[:RECIPE]; default: finetune."
)
_INIT = flags.DEFINE_string(
    "init",
    None,
    "Run or SavedModel with the encoder to start from, or none; short for --config.model.init.",
)
_RECORDS = flags.DEFINE_string(
    "records", None, "Folder of the labelled percepts; short for --config.data.records."
)


def main(argv):
    cli.check_arguments(argv)
    config, named = common.configs(_CONFIG)
    if _INIT.value is not None:
        config.model.init = _INIT.value
    if _RECORDS.value is not None:
        config.data.records = _RECORDS.value
    finetuning.check(config)
    random = config.model.init == configs.NO_INIT
    common.check_read(config, named, unread.of_finetuning(config, random))
    strategy = common.set_up(config)

    # ------------------------------------------------------------------ data and model
    init = trained.load_init(config.model.init)
    finetuning.take_architecture(config, init)
    data = finetuning.data(config)
    with strategy.scope():
        classifier, copied = finetuning.start(config, data, init)
        trainer = loop.Trainer(config, finetuning.Finetuning(config, classifier, data))
    # With an encoder the config has its architecture by now, as a run from random weights has.
    ignored = unread.of_finetuning(config, random=True)
    workdir = common.open_workdir(config, strategy, ignored, init)
    shape = "softmax regression"
    if classifier.cells:
        shape = (
            f"{config.model.layers} x {config.model.units} {config.model.cell.upper()} units "
            "and a softmax"
        )
    print(
        f"{config.name}: {classifier.kind}, {shape}, {classifier.network.count_params():,} "
        f"parameters, recipe {config.recipe.name}"
    )
    print(f"data: {data.description['kind']}: {data.description['source']}")
    for name, part in (("train", data.train), ("validation", data.validation), ("test", data.test)):
        print(f"  {name}: {len(part):,} videos of {len(part.classes)} classes")
    if init:
        print(f"encoder: {len(copied)} arrays of {init.name} (step {init.step}), equal")
    else:
        print("encoder: random" if classifier.cells else "no encoder")

    # ------------------------------------------------------------------ training
    info = {
        "data": trained.with_init(data.description, init),
        "frame_shape": data.train.frame_shape,
    }
    results, exported = common.run(trainer, workdir, info, lambda: exports.exported(workdir), init)

    # ------------------------------------------------------------------ results
    print(f"\n{finetuning.table(results)}\n")
    if exported:
        print(f"exported: {exported}")
    cli.print_next(
        cli.command("tensorboard", f"--logdir={workdir.tb}"),
        cli.command("eval.action_recognition", f"--workdir={workdir.path}"),
    )
    return 0


def run():
    sys.argv = configs.expand(sys.argv, default="finetune", task="finetuning")
    cli.run(main)


if __name__ == "__main__":
    run()
