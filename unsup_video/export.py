"""Exports a trained model as a SavedModel, the format that TensorFlow Serving reads.

    python -m unsup_video.export --workdir=runs/quickstart --out=saved_models/quickstart

Writes saved_models/quickstart/VERSION, with the next number that is free: `saved_model.pb` and
`variables/`; `model_card.json` and `README.md`, what it is; and in `assets.extra/` the run's
`config.json`, `run.json`, `mean_frame.npy` and `results.json`, and the sha256 of every file. The
signatures are those of `unsup_video.signatures`; docs/serving.md shows how to call them.
"""

import os

if __name__ == "__main__":
    os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import datetime
import json
import shutil
from pathlib import Path

import tensorflow as tf
from ml_collections import ConfigDict

import unsup_video
from unsup_video import files, signatures
from unsup_video.evaluation import trained as trained_module
from unsup_video.evaluation.trained import CARD, EXTRA, SUMS, Trained
from unsup_video.training import experiment, loop, precision

_COPIED = ("config.json", "run.json", "mean_frame.npy", "results.json")  # of the run, where present


def write(trained: Trained, out: str | Path) -> Path:
    """Exports a model as the next version in `out`, which is returned; wholly or not at all.

    Its matrix products run in float32 where config.precision is "auto", since it will run on
    another machine, and else in what that says.

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
        if json.loads((newest / CARD).read_text(encoding="utf-8"))["sha256"] == trained.sha256:
            return newest
    return write(trained, out)


def _write(trained, folder, version):
    model, gemm_dtype = _portable(trained)
    functions = signatures.build(model, trained.frame_shape, trained.config.data.frames_out)
    module = tf.Module()
    module.weights = {name: v.value for name, v in loop.weights(model).items()}
    # Gradients would need the project's Python code, and none are asked for.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(module, folder, functions, options)

    (folder / EXTRA).mkdir()
    for name in _COPIED:
        if (trained.origin / name).exists():
            shutil.copyfile(trained.origin / name, folder / EXTRA / name)
    card = _card(trained, functions, gemm_dtype, version)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(_text(card), encoding="utf-8")
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
    model = experiment.build_model(config, trained.frame_shape, trained.mean_frame)
    arrays = {name: v.numpy() for name, v in loop.weights(trained.model).items()}
    loop.load_weights(model, arrays, trained.path)
    return model, wanted


# ---------------------------------------------------------------------- the model card


def _card(trained, functions, gemm_dtype, version):
    config = trained.config
    run = json.loads((trained.origin / "run.json").read_text(encoding="utf-8"))
    results = trained.origin / "results.json"
    results = json.loads(results.read_text(encoding="utf-8")) if results.exists() else {}
    return {
        "schema_version": 1,
        "name": version.parent.name,
        "version": int(version.name),
        "exported": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "unsup_video": unsup_video.__version__,
        "config": config.name,
        "recipe": config.recipe.name,
        "model": config.model.to_dict(),
        "parameters": trained.model.training.count_params(),
        "gemm_dtype": gemm_dtype,
        "step": trained.step,
        "sha256": trained.sha256,
        "data": run["data"],
        "frame_shape": list(trained.frame_shape),
        "frames_in": config.data.frames_in,
        "frames_out": config.data.frames_out,
        "max_steps": signatures.MAX_STEPS,
        "results": results if results.get("step") == trained.step else {},
        "signatures": {name: _describe(function) for name, function in functions.items()},
    }


def _describe(function):
    def of(specs):
        return {name: {"dtype": spec.dtype.name, "shape": spec.shape.as_list()}
                for name, spec in specs.items()}

    inputs = tf.nest.flatten(function.structured_input_signature)
    return {
        "inputs": of({spec.name: spec for spec in inputs}),
        "outputs": of(function.structured_outputs),
    }


def _text(card):
    """The card for people, in Markdown."""
    model, shape = card["model"], " x ".join(map(str, card["frame_shape"]))

    def tensors(specs):
        sizes = {name: ", ".join("?" if n is None else str(n) for n in spec["shape"])
                 for name, spec in specs.items()}
        return ", ".join(f"{name} {specs[name]['dtype']} ({size})" for name, size in sizes.items())

    lines = [
        f"# {card['name']}, version {card['version']}",
        "",
        f"A {model['kind']} of {model['layers']} x {model['units']} LSTM units "
        f"({card['parameters']:,} parameters) for videos with frames of {shape}, after "
        "[arXiv 1502.04681](https://arxiv.org/abs/1502.04681). "
        f"Exported by unsup_video {card['unsup_video']} on {card['exported'][:10]}.",
        "",
        f"- **Training**: config {card['config']}, recipe {card['recipe']}, weights of step "
        f"{card['step']:,} (sha256 {card['sha256']}), to read {card['frames_in']} frames and "
        f"predict {card['frames_out']}.",
        f"- **Data**: {card['data']['kind']}: {card['data']['source']}.",
        *(f"- **Test loss a frame, {name}**: {value:.1f}, over {card['results']['clips']:,} clips."
          for name, value in card["results"].get("scores", {}).items()),
        f"- **Limits**: it knows no videos but such as it was trained on. At most "
        f"{card['max_steps']:,} frames are predicted at once; those after the first "
        f"{card['frames_out']} are beyond its training.",
        f"- **Arithmetic**: matrix products in {card['gemm_dtype']}, all else in float32.",
        "- **Check the files**: `sha256sum -c assets.extra/sha256sums.txt`.",
        "",
        "| signature | inputs | outputs |",
        "|---|---|---|",
        *(f"| `{name}` | {tensors(found['inputs'])} | {tensors(found['outputs'])} |"
          for name, found in card["signatures"].items()),
        "",
        "A reconstruction is in reversed order, the last frame read first.",
    ]
    return "\n".join(lines) + "\n"


# ---------------------------------------------------------------------- the command


def run():
    from absl import flags  # here, so that the library has none

    from unsup_video import cli

    workdir = flags.DEFINE_string("workdir", None, "The run whose best checkpoint is exported.")
    out = flags.DEFINE_string("out", None, "Folder of the versions, such as saved_models/NAME.")

    def main(argv):
        if len(argv) > 1:
            raise ValueError(f"unknown argument {argv[1]!r}: options start with --")
        for flag, example in ((workdir, "runs/quickstart"), (out, "saved_models/quickstart")):
            if not flag.value:
                raise ValueError(f"--{flag.name} is missing, such as --{flag.name}={example}")
        version = write(trained_module.load(workdir.value), out.value)
        print(f"written: {version}")
        for path in sorted(p for p in version.rglob("*") if p.is_file()):
            print(f"  {path}")
        print(f"next:\n  python -m eval.future_prediction --model={version}")
        return 0

    cli.run(main)


if __name__ == "__main__":
    run()
