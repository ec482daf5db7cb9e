"""Pretrains a video model: `python -m train.pretrain [--config=NAME[:RECIPE]] [--workdir=DIR]`.

NAME is a config of unsup_video/configs, or the path of one's own. Every field has a flag, for
example --config.model.units=512. The same command again resumes a run that was interrupted.
"""

import json
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import keras
import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from unsup_video import cli, configs, export
from unsup_video.data import sources
from unsup_video.evaluation import trained
from unsup_video.training import experiment, loop, precision
from unsup_video.training.workdir import Workdir

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "The experiment, NAME[:RECIPE] or FILE.py[:RECIPE]; default: quickstart."
)
_WORKDIR = flags.DEFINE_string("workdir", None, "Where the run lives; default: runs/CONFIG_NAME.")
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Delete what is in workdir and start anew.")
_EXPORT = flags.DEFINE_bool("export", True, "Export the best checkpoint at the end.")
_DIGITS_DIR = flags.DEFINE_string(
    "digits_dir", None, "Folder of MNIST's idx files; short for --config.data.digits_dir."
)

_LARGER = {"quickstart": "moving_mnist_1layer", "patches_small": "patches"}
# "Try again later" of sysexits.h: the run was told to stop, its state is saved.
EXIT_INTERRUPTED = 75


def main(argv):
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")
    config = _CONFIG.value
    if _DIGITS_DIR.value is not None:
        config.data.digits_dir = _DIGITS_DIR.value

    experiment.check(config)
    keras.utils.set_random_seed(config.seed)
    if config.train.deterministic:
        tf.config.experimental.enable_op_determinism()

    # ------------------------------------------------------------------ data and model
    source = sources.build(config)
    model = experiment.build_model(config, source.frame_shape, source.mean_frame)
    trainer = loop.Trainer(config, model)
    path = _WORKDIR.value or f"runs/{config.name}"
    workdir = Workdir.open(path, config.to_dict(), overwrite=_OVERWRITE.value)
    parameters = model.training.count_params()
    gemm_dtype = precision.gemm_dtype(config.precision)
    info = {
        "seed": config.seed,
        "data": source.description,
        "gemm_dtype": gemm_dtype,
        "parameters": parameters,
        "frame_shape": source.frame_shape,
    }
    shape = f"{config.model.kind}, {config.model.layers} x {config.model.units} units"
    print(f"{config.name}: {shape}, {parameters:,} parameters, recipe {config.recipe.name}")
    print(f"data: {source.description['kind']}: {source.description['source']}")
    for name, size in source.description.get("parts", {}).items():
        print(f"  {name}: {size['windows']:,} windows, side by side, of {size['sequences']:,} "
              f"sequences, {size['too_short']:,} of them too short")
    print(f"matrix products in {gemm_dtype} (config.precision={config.precision}); run: {path}")

    # ------------------------------------------------------------------ training
    results_file = workdir.path / "results.json"
    if results_file.exists():
        print("this run is finished; --overwrite starts it anew")
        results = json.loads(results_file.read_text())
    else:
        try:
            loop.run(trainer, source, workdir, info)
        except loop.Interrupted as stop:
            print(stop)
            return EXIT_INTERRUPTED
        print("testing the best checkpoint ...")
        results = experiment.test(config, model, source, workdir)
    exported = None
    if _EXPORT.value:
        print(f"exporting to {workdir.export} ...")
        exported = export.write_once(trained.load(path), workdir.export)

    # ------------------------------------------------------------------ what came out
    print(f"\n{experiment.table(config, results)}\n")
    if pictures := sorted(workdir.samples.glob(f"step-*{results['step']:08d}-*")):
        print("look at:", *pictures, sep="\n  ")
    if exported:
        print(f"exported: {exported}")
    print("next:")
    print(f"  tensorboard --logdir={workdir.tb}")
    print(f"  python -m eval.future_prediction --workdir={path}")
    if larger := _LARGER.get(config.name):
        print(f"  python -m train.pretrain --config={larger}    (the paper's size)")
    return 0


def run():
    sys.argv = configs.expand(sys.argv, default="quickstart")
    cli.run(main)


if __name__ == "__main__":
    run()
