"""A trained model as the evaluations take it, from the folder of a run or from a SavedModel."""

import dataclasses
import json
from pathlib import Path
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.models import quantization
from unsup_video.models.classifiers import Classifier
from unsup_video.models.video_models import VideoModel
from unsup_video.training import checkpoints, experiment
from unsup_video.utils import files

# What `unsup_video.export` writes into a version's folder beside TensorFlow's own files.
EXTRA = "assets.extra"
SUMS = f"{EXTRA}/sha256sums.txt"
CARD = "model_card.json"
# What is in a version's folder; other files, and hidden ones, are foreign and are not read.
_OWN = {"saved_model.pb", "fingerprint.pb", "variables", "assets", EXTRA, CARD, "README.md"}
_VARIABLES = "variables/variables"
_KEY_END = "/.ATTRIBUTES/VARIABLE_VALUE"  # of every variable in TensorFlow's checkpoint


@dataclasses.dataclass(frozen=True, eq=False)  # compared, and hashed, by identity
class Trained:
    """A trained model and where it comes from.

    Attributes:
        path: the run's folder, or that of a SavedModel's version.
        config: of the run, where `precision` is the dtype that the run recorded, and paths are
            found from the folder that it was started in. model: with the trained weights; a video
            model of train.pretrain or a classifier of train.finetune. step: at which they were
            taken.
        sha256: of the weights' checkpoint in the run; of a SavedModel whose kernels are not in
            float32, so that its weights are others, of the file that holds them.
        frame_shape: (H, W), (H, W, C) or (D,); D is its product.
        mean_frame: (D,) float32, of the training data; None of a classifier.
        saved_model: whether `path` is a SavedModel.
        precision: what `load` was asked for; None for that of the training.
        digits_dir: what `load` was asked for; None for that of the training.
        kernel_dtype: in which a SavedModel stores its kernels; those of `model` are in float32.
        data: what run.json says of the data that it was trained on.
    """

    path: Path
    config: ConfigDict
    model: VideoModel | Classifier
    step: int
    sha256: str
    frame_shape: tuple[int, ...]
    mean_frame: np.ndarray | None
    saved_model: bool = False
    precision: str | None = None
    digits_dir: str | None = None
    kernel_dtype: str = "float32"
    data: dict = dataclasses.field(default_factory=dict)

    @property
    def name(self) -> str:
        return name_of(self.path)

    @property
    def task(self) -> str:
        """pretraining: `model` is a video model; finetuning: it is a classifier."""
        return self.config.task

    @property
    def classes(self) -> tuple[str, ...]:
        """Of a classifier; () of a video model."""
        return self.model.classes if isinstance(self.model, Classifier) else ()

    def rebuilt(self, config: ConfigDict) -> VideoModel | Classifier:
        """A model of `config`, with starting weights, for the same frames and classes."""
        scale = self.model.frame_scale
        spread = 1.0 if scale is None else float(scale.scale)
        return build(config, self.frame_shape, self.mean_frame, self.classes, spread)

    @property
    def flag(self) -> str:
        """The argument that gives this model to a command."""
        return f"--{'model' if self.saved_model else 'workdir'}={self.path}"

    @property
    def evaluations(self) -> Path:
        """The folder that evaluations of this model write into.

        For a SavedModel it is outside, `runs/eval-NAME` under the current folder: what a server
        reads is not written to.
        """
        return Path("runs") / f"eval-{self.name}" if self.saved_model else self.path / "eval"

    @property
    def origin(self) -> Path:
        """The folder that has the run's config.json, run.json and mean_frame.npy."""
        return self.path / EXTRA if self.saved_model else self.path

    @property
    def conditional_input(self) -> dict[str, str]:
        """{"conditional_input": ..} of a model with conditional decoders; otherwise {}."""
        model = self.config.model
        if not (model.get("conditional_reconstruction") or model.get("conditional_future")):
            return {}
        return {"conditional_input": self.config.recipe.conditional_input}

    def describe(self) -> dict:
        """What a table or a page says of the model; JSON values."""
        return {
            "name": self.name,
            "path": str(self.path),
            "config": self.config.name,
            "recipe": self.config.recipe.name,
            **self.conditional_input,
            "step": self.step,
            "sha256": self.sha256,
            **({} if self.kernel_dtype == "float32" else {"kernel_dtype": self.kernel_dtype}),
            **self.config.model.to_dict(),
            "data": self.config.data.to_dict(),
            "trained_on": self.data,
        }


def name_of(path: Path) -> str:
    """A name for tables: RUN, NAME-VERSION, or RUN-VERSION for the export of a run."""
    path = path.resolve()
    if not path.name.isdecimal() or not (path / "saved_model.pb").exists():
        return path.name
    parent = path.parent
    return f"{parent.parent.name if parent.name == 'export' else parent.name}-{path.name}"


def load(path: str | Path, precision: str | None = None, digits_dir: str | None = None) -> Trained:
    """The best checkpoint of a run, or the weights of a SavedModel.

    A SavedModel's weights are read as data and its program is not run. It is given as the folder of
    a version, or of all versions, of which the newest is taken.

    Args:
        precision: of the matrix products, instead of that of the training: auto, float32 or
            bfloat16.
        digits_dir: the folder of MNIST's digits, instead of that of the training.

    Raises:
        FileNotFoundError: neither is there, or the run has no checkpoint yet. ValueError: it is
            damaged, a SavedModel that `unsup_video.export` did not write, or a model that was not
            trained on generated clips, where `digits_dir` is given.
    """
    path = Path(path)
    trained = _load(path, precision)
    if digits_dir is None:
        return trained
    if trained.task == "finetuning" or trained.config.data.records:
        raise ValueError(f"{path} was trained on records: there are no digits for --digits_dir")
    trained.config.data.digits_dir = digits_dir
    return dataclasses.replace(trained, digits_dir=digits_dir)


def _load(path, precision):
    found = version(path)
    if found is not None:
        return _load_saved_model(found, precision)
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"{path} is not the folder of a run: config.json is missing; nor is it a SavedModel: "
            "saved_model.pb is missing, and so are folders with the number of a version. "
            "python -m train.pretrain makes a run, python -m unsup_video.export a SavedModel"
        )
    trained = _starting(path, _read_origin(path), precision)
    step, sha256 = checkpoints.load_best(trained.model.network, path / "checkpoints")
    return dataclasses.replace(trained, step=step, sha256=sha256)


def version(path: str | Path) -> Path | None:
    """`path` where it is a SavedModel, else its newest version; None where it has none."""
    path = Path(path)
    if (path / "saved_model.pb").exists():
        return path
    found = [p.parent for p in path.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    return max(found, key=lambda folder: int(folder.name), default=None)


def _load_saved_model(path, precision):
    if not (path / CARD).exists() or not (path / SUMS).exists():
        raise ValueError(
            f"{path} is a SavedModel without {CARD} or {SUMS}, which hold what an evaluation needs "
            "to know; python -m unsup_video.export writes them"
        )
    try:
        lines = (path / SUMS).read_text(encoding="utf-8").splitlines()
        sums = {name: digest for digest, _, name in (line.partition("  ") for line in lines)}
        here = {p.relative_to(path).as_posix() for p in path.rglob("*") if p.is_file()} - {SUMS}
        for name in sorted(here | sums.keys()):
            if name not in sums:
                if _is_foreign(name):
                    continue
                raise ValueError(f"{SUMS} does not list {name}")
            if name not in here:  # also what is elsewhere, or no regular file
                raise ValueError(f"{SUMS} lists {name!r}, which is no file of this folder")
            if files.sha256(path / name) != sums[name]:
                raise ValueError(f"the sha256 of {name} is not the recorded one")
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        step, sha256 = card["step"], card["sha256"]
        kernel_dtype = card.get("kernel_dtype", "float32")  # an older export has none
        if kernel_dtype != "float32":
            sha256 = sums[f"{_VARIABLES}.data-00000-of-00001"]
        weights = _read_weights(path)
    except (OSError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{path}: damaged ({error}); export the model anew") from None
    found = _starting(path, _read_origin(path / EXTRA), precision)
    checkpoints.load_weights(found.model.network, weights, path)
    return dataclasses.replace(
        found, step=step, sha256=sha256, saved_model=True, kernel_dtype=kernel_dtype
    )


def _is_foreign(name):
    """Whether a file in a SavedModel's folder is none that anything of this package reads."""
    return name.partition("/")[0] not in _OWN or name.rpartition("/")[2].startswith(".")


def _read_weights(path):
    reader = tf.train.load_checkpoint(str(path / _VARIABLES))
    # As `quantization.StoredWeights` names them; the name of a weight has ".S" for "/".
    found = {"weights": {}, "int8": {}, "scales": {}}
    for key in reader.get_variable_to_shape_map():
        part, _, name = key.removesuffix(_KEY_END).partition("/")
        if part in found and key.endswith(_KEY_END):
            found[part][name.replace(".S", "/")] = reader.get_tensor(key)
    return {
        **{name: np.asarray(array, np.float32) for name, array in found["weights"].items()},
        **{
            name: quantization.dequantize(values, found["scales"][name]).numpy()
            for name, values in found["int8"].items()
        },
    }


def _read_origin(folder):
    """(config, frame_shape, mean_frame or None, classes or (), data) of a run."""
    with experiment.reading(folder, "train.pretrain"):
        config = experiment.read_config(folder)
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        mean_frame, classes = None, ()
        if config.task == "finetuning":
            classes = experiment.read_classes(folder)
        elif config.task == "pretraining":
            # Mapped: what its header claims is held to the size of the file, and not allocated.
            mean_frame = np.array(np.lib.format.open_memmap(folder / "mean_frame.npy", mode="r"))
    if config.task == "flow_classification":
        raise ValueError(
            f"{folder} is a CNN of train.flow_cnn; python -m data_prep.flow_percepts uses it"
        )
    _as_started(config, run)
    return config, tuple(run["frame_shape"]), mean_frame, classes, run.get("data", {})


def _as_started(config, run):
    """Puts into a config what the machine and the folder of the training made of it, from run.json.

    A run from before these were recorded keeps what its config says.
    """
    config.precision = run.get("gemm_dtype", config.precision)
    for name in ("records", "digits_dir"):
        if config.data.get(name) and "folder" in run:
            path = Path(run["folder"]) / config.data[name]
            if path.exists():  # not so on another machine
                config.data[name] = str(path)


def _starting(path, origin, precision):
    """The model of a run with starting weights."""
    config, frame_shape, mean_frame, classes, data = origin
    config.precision = precision or config.precision
    model = build(config, frame_shape, mean_frame, classes)
    return Trained(
        path, config, model, 0, "", frame_shape, mean_frame, precision=precision, data=data
    )


def build(
    config: ConfigDict,
    frame_shape: tuple[int, ...],
    mean_frame: np.ndarray | None,
    classes: tuple[str, ...],
    spread: float = 1.0,
) -> VideoModel | Classifier:
    """The model of `config`, with starting weights: a classifier where there are classes."""
    if classes:
        return experiment.build_classifier(config, classes, frame_shape, spread)
    return experiment.build_model(config, frame_shape, cast(np.ndarray, mean_frame), spread)


def untrained(trained: Trained, seed: int = 0) -> VideoModel:
    """The same architecture with the starting weights of its recipe."""
    keras.utils.set_random_seed(seed)
    return cast(VideoModel, trained.rebuilt(trained.config))
