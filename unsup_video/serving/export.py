"""Exports a trained model as a SavedModel, the format that TensorFlow Serving reads.

    python -m unsup_video.export --workdir=runs/quickstart --out=saved_models/quickstart
    python -m unsup_video.export --workdir=RUN --out=saved_models/NAME --kernel_dtype=int8

It writes saved_models/quickstart/VERSION, with the next free number: `saved_model.pb` and
`variables/`; the model card, `model_card.json` and `README.md`; and in `assets.extra/` the run's
`config.json`, `run.json`, `results.json`, and `mean_frame.npy` or, for a classifier,
`classes.json`; and the sha256 of every file. The signatures are those of
`unsup_video.serving.signatures` and `unsup_video.serving.classifier_signatures`; docs/serving.md
shows how to call them.
"""

import json
import shutil
from pathlib import Path

import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import overlap, sources, windows
from unsup_video.models import quantization
from unsup_video.models.cells import portable
from unsup_video.models.classifiers import Classifier
from unsup_video.models.quantization import StoredWeights
from unsup_video.serving import classifier_signatures, model_card, signatures, warmup
from unsup_video.training import checkpoints, experiment, precision
from unsup_video.training import trained as trained_module
from unsup_video.training.trained import CARD, EXTRA, SUMS, TrainedModel
from unsup_video.utils import files
from unsup_video.utils.indices import evenly_spread

_CLIPS = 10  # number of clips for measuring the effect of storing kernels in fewer bits
# Files that are copied from the run if they exist.
_COPIED = (
    "config.json",
    "run.json",
    "mean_frame.npy",
    experiment.CLASSES,
    "results.json",
    overlap.FILE,
)


def write(trained: TrainedModel, out: str | Path, kernel_dtype: str = "float32") -> Path:
    """Exports a model atomically as the next version in `out`; returns the version's folder.

    Its matrix products run in `trained.config.precision`, which for a loaded run is the dtype of
    the training, and for a loaded SavedModel its own; in float32 if that is "auto", since the
    export will run on another machine.

    Args:
        kernel_dtype: one of `quantization.DTYPES`, in which kernels are stored. If it is not
            float32, the graph converts the kernels to float32 at every call.

    Raises:
        ValueError: `kernel_dtype` is unknown, or cannot hold the kernels; `trained` is an export
            whose kernels are not in float32; `out` is not a folder of versions, or another process
            is using it.
        OSError: the export cannot be written.
    """
    quantization.check_dtype(kernel_dtype)
    if trained.kernel_dtype != "float32":
        raise ValueError(
            f"{trained.path} stores its kernels in {trained.kernel_dtype}: export the run instead"
        )
    out = Path(out)
    for name in ("config.json", "saved_model.pb"):
        if (out / name).exists():
            raise ValueError(f"{out} holds {name}, so it is no folder of versions; use another one")
    out.mkdir(parents=True, exist_ok=True)
    with files.lock(out):
        files.remove_leftovers(out)
        taken = [int(p.name) for p in out.iterdir() if p.name.isdecimal()]
        version = out / str(max(taken, default=0) + 1)
        with files.atomic_write(version) as temporary:
            try:
                _write(trained, temporary, version, kernel_dtype)
            except tf.errors.OpError as error:
                raise OSError(f"{version}: cannot be written ({error.message})") from None
    return version


def write_once(trained: TrainedModel, out: str | Path) -> Path:
    """The newest version in `out` if it has these very weights, else what `write` does."""
    newest = trained_module.version(out)
    if newest is not None and (newest / CARD).exists():
        card = json.loads((newest / CARD).read_text(encoding="utf-8"))
        stored = card.get("sha256"), card.get("kernel_dtype", "float32")
        if stored == (trained.sha256, "float32"):
            return newest
    return write(trained, out)


def _write(trained, folder, version, kernel_dtype):
    model, gemm_dtype = _portable(trained)
    stored = StoredWeights(checkpoints.weights(model.network), kernel_dtype)
    if isinstance(model, Classifier):
        functions = classifier_signatures.build(model, trained.frame_shape, stored.scope)
    else:
        functions = signatures.build(
            model, trained.frame_shape, trained.config.data.frames_out, stored.scope
        )
    # Gradients would need the Python code of this project, and a server computes none.
    options = tf.saved_model.SaveOptions(experimental_custom_gradients=False)
    tf.saved_model.save(stored.module, folder, functions, options)

    (folder / EXTRA).mkdir()
    warmup.write(folder / EXTRA / warmup.NAME, functions)
    for name in _COPIED:
        if (trained.origin / name).exists():
            shutil.copyfile(trained.origin / name, folder / EXTRA / name)
    quantized = {"kernel_dtype": kernel_dtype}
    if stored.kernels:
        quantized |= _errors(trained, model, stored)
    card = model_card.build(trained, functions, gemm_dtype, quantized, version)
    (folder / CARD).write_text(json.dumps(card, indent=1) + "\n", encoding="utf-8")
    (folder / "README.md").write_text(model_card.text(card), encoding="utf-8")
    names = sorted(str(p.relative_to(folder)) for p in folder.rglob("*") if p.is_file())
    sums = "".join(f"{files.sha256(folder / name)}  {name}\n" for name in names)
    (folder / SUMS).write_text(sums, encoding="utf-8")


def _portable(trained):
    """Returns (a model that any machine can run, the dtype of its matrix products)."""
    wanted = trained.config.precision
    wanted = "float32" if wanted == "auto" else wanted
    if precision.gemm_dtype(trained.config.precision) == wanted:
        return trained.model, wanted
    config = ConfigDict({**trained.config.to_dict(), "precision": wanted})
    model = trained.rebuilt(config)
    arrays = {name: v.numpy() for name, v in checkpoints.weights(trained.model.network).items()}
    checkpoints.load_weights(model.network, arrays, trained.path)
    return model, wanted


def _errors(trained, model, stored):
    """Measures the effect of storing kernels in fewer bits, for the model card."""
    kernels = {v.path: v.numpy() for v in model.network.weights}
    clips, described = _clips(trained, model)
    before = _outputs(trained, model, clips)
    with stored.scope([model.network]):
        after = _outputs(trained, model, clips)
    changes = np.concatenate([np.abs(after[name] - before[name]).ravel() for name in before])
    return {
        "kernel_error": float(
            max(np.abs(kernel - kernels[path]).max() for path, kernel in stored.kernels.items())
        ),
        "output_error": {
            "of": ", ".join(before),
            "clips": described,
            "mean": float(changes.mean(dtype=np.float64)),
            "largest": float(changes.max()),
        },
    }


def _clips(trained, model):
    """Returns (clips (N, T, D) float32 for the model, a description of them)."""
    data = trained.config.data
    length = data.frames if trained.task == "finetuning" else data.frames_in
    dim = int(np.prod(trained.frame_shape))
    try:
        if trained.classes or data.records:
            part = sources.split(trained.config, "validation")
            starts = windows.starts(part.folder, length, chosen=part.chosen)
            clips = sources.read(part.folder, length, starts[evenly_spread(_CLIPS, len(starts))])
        else:
            source = sources.MovingMnistSource(trained.config)
            clips = source.evaluation("validation", _CLIPS)[:, :length]
        if clips.shape[-1] == dim:
            return clips, f"{len(clips)} clips of the validation data"
    except (OSError, ValueError, tf.errors.DataLossError):
        pass  # the data are not on this machine, were replaced, or are damaged
    scale = 1 if model.frame_scale is None else float(model.frame_scale.scale)
    noise = scale * np.random.default_rng(0).random((_CLIPS, length, dim), np.float32)
    return noise, f"{_CLIPS} clips of noise, since the validation data could not be read"


def _outputs(trained, model, clips):
    """Returns name -> array, the main outputs of the model for clips (N, T, D)."""
    with portable():
        if trained.task == "finetuning":
            logits = model.network(clips, training=False)
            return {"step_probabilities": tf.nn.softmax(logits).numpy()}
        clock = np.zeros((len(clips), trained.config.data.frames_out), np.float32)
        outputs = model.inference({"past": clips, "clock": clock})
        return {name: frames.numpy() for name, frames in outputs.items()}
