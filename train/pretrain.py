"""Pretrains a video model: `python -m train.pretrain [--config=NAME[:RECIPE]] [--workdir=DIR]`.

NAME is a config in unsup_video/configs, or the path of your own config. Every field has a flag, for
example --config.model.units=512. The same command resumes an interrupted run.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's messages at start-up

from absl import flags
from ml_collections import config_flags

from train import common, exports
from unsup_video import configs
from unsup_video.data import sources
from unsup_video.evaluation import comparison
from unsup_video.models import video_models
from unsup_video.training import experiment, loop, trained, unread
from unsup_video.training.tasks import pretraining
from unsup_video.utils import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Experiment, NAME[:RECIPE] or FILE.py[:RECIPE]; default: quickstart."
)
_DIGITS_DIR = flags.DEFINE_string(
    "digits_dir", None, "Folder with MNIST's idx files; short for --config.data.digits_dir."
)
_INIT = flags.DEFINE_string(
    "init",
    None,
    "Run or SavedModel whose weights the model starts from, for longer training or on other data; "
    "short for --config.model.init.",
)

_LARGER = {
    "quickstart": "moving_mnist_1layer",
    "frames_small": "frames",
    "patches_small": "table2_patches_composite",
    "percepts_small": "table3_composite",
}


def main(argv):
    cli.check_arguments(argv)
    config, named = common.configs(_CONFIG)
    if _DIGITS_DIR.value is not None:
        config.data.digits_dir = _DIGITS_DIR.value
    if _INIT.value is not None:
        config.model.init = _INIT.value
    pretraining.check(config)
    common.check_read(config, named, unread.of_pretraining(config))
    strategy = common.set_up(config)

    # ------------------------------------------------------------------ data and model
    source = sources.build(config)
    ignored = unread.of_pretraining(config, source.frame_shape)
    common.check_read(config, named, ignored)
    init = trained.load_init(config.model.init)
    with strategy.scope():
        model = experiment.build_model(
            config, source.frame_shape, source.mean_frame, source.standard_deviation
        )
        if init:
            pretraining.start_from(init, config, source, model)
        trainer = loop.Trainer(config, pretraining.Pretraining(config, model, source))
    workdir = common.open_workdir(config, strategy, ignored, init)
    wanted = config.model
    shape = f"{wanted.kind}, {wanted.layers} x {wanted.units} {wanted.cell.upper()} units"
    if model.conditional:
        shape += (
            f", conditional {' and '.join(model.conditional)} "
            f"{video_models.CONDITIONAL_INPUTS[model.conditional_input]}"
        )
    print(
        f"{config.name}: {shape}, {model.network.count_params():,} parameters, "
        f"recipe {config.recipe.name}"
    )
    print(f"data: {source.description['kind']}: {source.description['source']}")
    for name, size in source.description.get("parts", {}).items():
        windows = f"{size['windows']:,} windows, side by side,"
        print(
            f"  {name}: {'all windows' if name == 'train' else windows} of {size['sequences']:,} "
            f"sequences, {size['too_short']:,} of them too short"
        )
    if init:
        print(f"initial weights: those of {init.name} (step {init.step})")

    # ------------------------------------------------------------------ training
    info = {"data": trained.with_init(source.description, init), "frame_shape": source.frame_shape}
    results, exported = common.run(trainer, workdir, info, lambda: exports.exported(workdir), init)

    # ------------------------------------------------------------------ results
    print(f"\n{pretraining.table(config, results, comparison.expected(config))}\n")
    if pictures := sorted(workdir.samples.glob(f"step-{results['step']:08d}-*")):
        print("look at:", *pictures, sep="\n  ")
    if exported:
        print(f"exported: {exported}")
    commands = [
        cli.command("tensorboard", f"--logdir={workdir.tb}"),
        cli.command("eval.future_prediction", f"--workdir={workdir.path}"),
    ]
    if len(source.frame_shape) == 1:
        split = [f"--config.data.split={config.data.split}"] if config.data.split else []
        commands.append(
            cli.command(
                "train.finetune",
                f"--init={workdir.path}",
                f"--records={config.data.records}",
                *split,
            )
        )
    if larger := _LARGER.get(config.name):
        same_data = [
            f"--config.data.{name}={config.data[name]}"
            for name in ("records", "split", "digits_dir")
            if config.data[name]
        ]
        note = "the paper's size"
        if not same_data:  # the larger config is made for all of MNIST
            same_data, note = ["--digits_dir=MNIST"], f"{note}; MNIST: the folder of its files"
        commands.append(cli.command("train.pretrain", f"--config={larger}", *same_data, note=note))
    cli.print_next(*commands)
    return 0


def run():
    sys.argv = configs.expand(sys.argv, default="quickstart")
    cli.run(main)


if __name__ == "__main__":
    run()
