"""Exports a trained model as a SavedModel, the format that TensorFlow Serving reads.

    python -m unsup_video.export --workdir=runs/quickstart --out=saved_models/quickstart

Writes saved_models/quickstart/VERSION, with the next number that is free: `saved_model.pb` and
`variables/`; `model_card.json` and `README.md`, what it is; and in `assets.extra/` the run's
`config.json`, `run.json`, `results.json`, and `mean_frame.npy` or, of a classifier, `classes.json`;
and the sha256 of every file. The signatures are those of `unsup_video.signatures` and
`unsup_video.classifier_signatures`; docs/serving.md shows how to call them.
"""

import os

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import json
import shutil
from pathlib import Path

import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video import classifier_signatures, files, model_card, signatures, warmup
from unsup_video.classifiers import Classifier
from unsup_video.data import overlap
from unsup_video.evaluation import trained as trained_module
from unsup_video.evaluation.trained import CARD, EXTRA, SUMS, Trained
from unsup_video.training import experiment, loop, precision

# Of the run, where present.
_COPIED = (
    "config.json", "run.json", "mean_frame.npy", experiment.CLASSES, "results.json", overlap.FILE,
)


def write(trained: Trained, out: str | Path) -> Path:
    """Exports a model as the next version in `out`, which is returned; wholly or not at all.

    Its matrix products run in `trained.config.precision`, for a loaded model the dtype of the
    training; in float32 where that is "auto", since it will run on another machine.

    Raises:
        ValueError: `out` is something else than a folder of versions, or in use by another process.
        OSError: it cannot be written.
    """
    out = Path(out)
    for name in ("config.json", "saved_model.pb"):
        if (out / name).exists():
            raise ValueError(f"{out} holds {name}, so it is no folder of versions; use another one")
    out.mkdir(parents=True, exist_ok=True)
    with files.lock(out):
        files.remove_leftovers(out)
        taken = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
        version = out / str(max(taken, default=0) + 1)
        with files.whole(version) as temporary:
            try:
                _write(trained, temporary, version)
            except tf.errors.OpError as error:
                raise OSError(f"{version}: cannot be written ({error.message})") from None
    return version


def write_once(trained: Trained, out: str | Path) -> Path:
    """The newest version in `out` if it is of these very weights, else what `write` does."""
    newest = trained_module.version(out)
    if newest is not None and (newest / CARD).exists():
        if json.loads((newest / CARD).read_text(encoding="utf-8")).get("sha256") == trained.sha256:
            return newest
    return write(trained, out)


def _write(trained, folder, version):
    model, gemm_dtype = _portable(trained)
    if isinstance(model, Classifier):
        functions = classifier_signatures.build(model, trained.frame_shape)
    else:
        functions = signatures.build(model, trained.frame_shape, trained.config.data.frames_out)
    module = tf.Module()
    module.weights = {name: v.value for name, v in loop.weights(model.network).items()}
    # Gradients would need the project's Python code, and none are asked for.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, functions, options)

    (folder / EXTRA).mkdir()
    warmup.write(folder / EXTRA / warmup.NAME, functions)
    for name in _COPIED:
        if (trained.origin / name).exists():
            shutil.copyfile(trained.origin / name, folder / EXTRA / name)
    card = model_card.of(trained, functions, gemm_dtype, version)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card.text(card), encoding="utf-8")
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    sums = "".join(f"{files.sha256(folder / name)}  {name}\n" for name in names)
    (folder / SUMS).write_text(sums, encoding="utf-8")


def _portable(trained):
    """(the model for any machine, the dtype of its matrix products)."""
    wanted = trained.config.precision
    wanted = "float32" if wanted == "auto" else wanted
    if precision.gemm_dtype(trained.config.precision) == wanted:
        return trained.model, wanted
    config = ConfigDict({**trained.config.to_dict(), "precision": wanted})
    model = trained.rebuilt(config)
    arrays = {name: v.numpy() for name, v in loop.weights(trained.model.network).items()}
    loop.load_weights(model.network, arrays, trained.path)
    return model, wanted


# ---------------------------------------------------------------------- the command


def run():
    from absl import flags  # here, so that the library has none

    from unsup_video import cli

    workdir = flags.DEFINE_string("workdir", None, "The run whose best checkpoint is exported.")
    out = flags.DEFINE_string("out", None, "Folder of the versions, such as saved_models/NAME.")
    wanted = flags.DEFINE_enum(
        "precision", None, ("float32", "bfloat16"),
        "Of the matrix products; default: as in training. bfloat16 is slow on a CPU without AMX."
    )

    def main(argv):
        if len(argv) > 1:
            raise ValueError(f"unknown argument {argv[1]!r}: options start with --")
        for flag, example in ((workdir, "runs/quickstart"), (out, "saved_models/quickstart")):
            if not flag.value:
                raise ValueError(f"--{flag.name} is missing, such as --{flag.name}={example}")
        trained = trained_module.load(workdir.value, wanted.value)
        version = write(trained, out.value)
        print(f"written: {version}")
        for path in sorted(p for p in version.rglob("*") if p.is_file()):
            print(f"  {path}")
        evaluation = "action_recognition" if trained.classes else "future_prediction"
        cli.print_next(cli.command(f"eval.{evaluation}", f"--model={version}"))
        return 0

    cli.run(main)


if __name__ == "__main__":
    run()
