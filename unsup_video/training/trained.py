"""Loads a trained model for an evaluation, from the folder of a run or from a SavedModel."""

import dataclasses
import json
from pathlib import Path
from typing import cast

import keras
import numpy as np
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.models import quantization
from unsup_video.models.classifiers import Classifier
from unsup_video.models.video_models import VideoModel
from unsup_video.pictures import visualize
from unsup_video.training import checkpoints, experiment
from unsup_video.utils import files

# Files that `unsup_video.export` writes into a version's folder in addition to TensorFlow's own.
EXTRA = "assets.extra"
SUMS = f"{EXTRA}/sha256sums.txt"
CARD = "model_card.json"
# The files in a version's folder; others, and hidden ones, are foreign and are not read.
_OWN = {"saved_model.pb", "fingerprint.pb", "variables", "assets", EXTRA, CARD, "README.md"}
_VARIABLES = "variables/variables"
_KEY_END = "/.ATTRIBUTES/VARIABLE_VALUE"  # of every variable in TensorFlow's checkpoint


@dataclasses.dataclass(frozen=True, eq=False)  # compared, and hashed, by identity
class TrainedModel:
    """A trained model and its origin.

    Attributes:
        path: the folder of the run, or of a version of a SavedModel.
        config: the config of the run, with paths relative to the folder in which it was started.
            `precision` is the dtype that the run recorded, or for a SavedModel that of its program.
        model: the video model of train.pretrain or the classifier of train.finetune, with its
            trained weights. step: the step at which they were saved.
        sha256: that of the run's checkpoint; for a SavedModel whose kernels are not in float32 that
            of the file with its weights, which differ from the run's.
        frame_shape: (H, W), (H, W, C) or (D,); D is its product.
        mean_frame: (D,) float32, that of the training data; None for a classifier.
        saved_model: whether `path` is a SavedModel.
        precision: the argument of `load`; None for that of `config`.
        digits_dir: the argument of `load`; None for that of the training.
        kernel_dtype: the dtype in which a SavedModel stores its kernels; `model` has float32 ones.
        data: the description of the training data in run.json.
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
        """ "pretraining" for a video model, "finetuning" for a classifier."""
        return self.config.task

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of a classifier's classes; () for a video model."""
        return self.model.classes if isinstance(self.model, Classifier) else ()

    def rebuilt(self, config: ConfigDict) -> VideoModel | Classifier:
        """Builds the model of `config`, with initial weights, for the same frames and classes."""
        layer = self.model.frame_scale
        scale = 1.0 if layer is None else float(layer.scale)
        return build(config, self.frame_shape, self.mean_frame, self.classes, scale)

    def check_values(self, frames: np.ndarray) -> None:
        """Raises ValueError unless values are finite and in the range of `value_limits`."""
        low, high = value_limits(self.frame_shape, self.model)
        smallest, largest = float(frames.min()), float(frames.max())
        if not np.isfinite([smallest, largest]).all():  # NaN if any value is NaN
            raise ValueError("a value is not finite")
        if smallest < low or largest > high:
            raise ValueError(
                f"values from {smallest:g} to {largest:g}, but {self.path} was trained on values "
                f"in [{low:g}, {high:g}]"
            )

    @property
    def made_of(self) -> dict:
        """The `source` of the training data's manifest; {} if there is none, or it is unknown."""
        data = self.data
        return data.get("made_of") or data.get("made") or {}  # "made": an earlier classifier's

    @property
    def flag(self) -> str:
        """The flag that passes this model to a command."""
        return f"--{'model' if self.saved_model else 'workdir'}={self.path}"

    @property
    def evaluations(self) -> Path:
        """The folder for evaluations of this model.

        For a SavedModel it is `runs/eval-NAME` in the current folder, since nothing is written to
        the folder that a server reads.
        """
        return Path("runs") / f"eval-{self.name}" if self.saved_model else self.path / "eval"

    @property
    def origin(self) -> Path:
        """The folder that has the run's config.json, run.json and mean_frame.npy."""
        return self.path / EXTRA if self.saved_model else self.path

    @property
    def conditional_input(self) -> dict[str, str]:
        """{"conditional_input": ..} for a model with conditional decoders; otherwise {}."""
        model = self.config.model
        if not (model.get("conditional_reconstruction") or model.get("conditional_future")):
            return {}
        return {"conditional_input": self.config.recipe.conditional_input}

    def describe(self) -> dict:
        """Describes the model for tables and pages, in JSON values."""
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


def value_limits(
    frame_shape: tuple[int, ...], model: VideoModel | Classifier
) -> tuple[float, float]:
    """Returns (low, high), the range of values that a model's frames may have.

    It is [0, 1] for pixels, and for other frames that of the losses; a classifier has none.
    """
    if visualize.drawable(frame_shape):
        return 0.0, 1.0
    return model.limits if isinstance(model, VideoModel) else (-np.inf, np.inf)


def name_of(path: Path) -> str:
    """Returns a name for tables: RUN, NAME-VERSION, or RUN-VERSION for the export of a run."""
    path = path.resolve()
    if not path.name.isdecimal() or not (path / "saved_model.pb").exists():
        return path.name
    return f"{export_name(path)}-{path.name}"


def export_name(version: Path) -> str:
    """Returns the name of an export: NAME of NAME/VERSION, or RUN of RUN/export/VERSION."""
    parent = version.resolve().parent
    return parent.parent.name if parent.name == "export" else parent.name


def load(
    path: str | Path, precision: str | None = None, digits_dir: str | None = None
) -> TrainedModel:
    """Loads the best checkpoint of a run, or a SavedModel.

    The weights of a SavedModel are read as data; its program is not run. `path` is the folder of a
    version, or of all versions, of which the newest is loaded.

    Args:
        precision: the precision of the matrix products: auto, float32 or bfloat16; by default that
            of the training, and for a SavedModel that of its program.
        digits_dir: the folder of MNIST's digits, instead of that of the training.

    Raises:
        FileNotFoundError: there is neither, or the run has no checkpoint yet.
        ValueError: a file is damaged; `unsup_video.export` did not write the SavedModel; or
            `digits_dir` is given for a model that was not trained on generated clips.
    """
    path = Path(path)
    trained = _load(path, precision)
    if digits_dir is None:
        return trained
    if not is_generated(trained):
        raise ValueError(f"{path} was trained on records: there are no digits for --digits_dir")
    return with_digits(trained, digits_dir)


def is_generated(trained: TrainedModel) -> bool:
    """Returns True for a model that was trained on clips generated from digits."""
    return trained.task == "pretraining" and not trained.config.data.records


def with_digits(trained: TrainedModel, digits_dir: str) -> TrainedModel:
    """Returns a model of generated clips with another folder of MNIST's digits."""
    trained.config.data.digits_dir = digits_dir
    return dataclasses.replace(trained, digits_dir=digits_dir)


def _load(path, precision):
    saved_model = version(path)
    if saved_model is not None:
        return _load_saved_model(saved_model, precision)
    if not (path / "config.json").exists():
        raise FileNotFoundError(
            f"{path} is not the folder of a run: config.json is missing; nor is it a SavedModel: "
            "saved_model.pb is missing, and so are folders with the number of a version. "
            "python -m train.pretrain makes a run, python -m unsup_video.export a SavedModel"
        )
    trained = _initial(path, _read_origin(path), precision)
    step, sha256 = checkpoints.load_best(trained.model.network, path / "checkpoints")
    return dataclasses.replace(trained, step=step, sha256=sha256)


def version(path: str | Path) -> Path | None:
    """Returns `path` if it is a SavedModel, otherwise its newest version; None if it has none."""
    path = Path(path)
    if (path / "saved_model.pb").exists():
        return path
    versions = [p.parent for p in path.glob("*/saved_model.pb") if p.parent.name.isdecimal()]
    return max(versions, key=lambda folder: int(folder.name), default=None)


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
            if name not in here:  # also if it is in another folder, or not a regular file
                raise ValueError(f"{SUMS} lists {name!r}, which is no file of this folder")
            if files.sha256(path / name) != sums[name]:
                raise ValueError(f"the sha256 of {name} is not the recorded one")
        card = json.loads((path / CARD).read_text(encoding="utf-8"))
        step, sha256 = card["step"], card["sha256"]
        kernel_dtype = card.get("kernel_dtype", "float32")  # an older export does not record it
        if kernel_dtype != "float32":
            sha256 = sums[f"{_VARIABLES}.data-00000-of-00001"]
        weights = _read_weights(path)
    except (FileNotFoundError, KeyError, TypeError, ValueError, tf.errors.OpError) as error:
        raise ValueError(f"{path}: damaged ({error}); export the model anew") from None
    origin = config, *_ = _read_origin(path / EXTRA)
    config.precision = card.get("gemm_dtype", config.precision)
    trained = _initial(path, origin, precision)
    checkpoints.load_weights(trained.model.network, weights, path)
    return dataclasses.replace(
        trained, step=step, sha256=sha256, saved_model=True, kernel_dtype=kernel_dtype
    )


def _is_foreign(name):
    """Returns True for a file in a SavedModel's folder that this package does not read."""
    return name.partition("/")[0] not in _OWN or name.rpartition("/")[2].startswith(".")


def _read_weights(path):
    reader = tf.train.load_checkpoint(str(path / _VARIABLES))
    # These are the names in `quantization.StoredWeights`; TensorFlow writes ".S" for "/".
    parts = {"weights": {}, "int8": {}, "scales": {}}
    for key in reader.get_variable_to_shape_map():
        part, _, name = key.removesuffix(_KEY_END).partition("/")
        if part in parts and key.endswith(_KEY_END):
            parts[part][name.replace(".S", "/")] = reader.get_tensor(key)
    return {
        **{name: np.asarray(array, np.float32) for name, array in parts["weights"].items()},
        **{
            name: quantization.dequantize(values, parts["scales"][name]).numpy()
            for name, values in parts["int8"].items()
        },
    }


def _read_origin(folder):
    """Reads (config, frame_shape, mean_frame or None, classes or (), data) of a run."""
    with experiment.reading(folder, "train.pretrain"):
        config = experiment.read_config(folder)
        run = json.loads((folder / "run.json").read_text(encoding="utf-8"))
        mean_frame, classes = None, ()
        if config.task == "finetuning":
            classes = experiment.read_classes(folder)
        elif config.task == "pretraining":
            # Memory-mapped, so that a damaged header cannot claim more memory than the file has.
            mean_frame = np.array(np.lib.format.open_memmap(folder / "mean_frame.npy", mode="r"))
    if config.task == "flow_classification":
        raise ValueError(
            f"{folder} is a CNN of train.flow_cnn; python -m data_prep.flow_percepts uses it"
        )
    _as_started(config, run)
    return config, tuple(run["frame_shape"]), mean_frame, classes, run.get("data", {})


def _as_started(config, run):
    """Sets the recorded dtype, and paths relative to the recorded folder, in a config.

    A run from before run.json recorded these keeps the values in its config.
    """
    config.precision = run.get("gemm_dtype", config.precision)
    for name in ("records", "digits_dir"):
        if config.data.get(name) and "folder" in run:
            path = Path(run["folder"]) / config.data[name]
            if path.exists():  # not so on another machine
                config.data[name] = str(path)


def _initial(path, origin, precision):
    """Builds the model of a run with initial weights."""
    config, frame_shape, mean_frame, classes, data = origin
    config.precision = precision or config.precision
    model = build(config, frame_shape, mean_frame, classes)
    return TrainedModel(
        path, config, model, 0, "", frame_shape, mean_frame, precision=precision, data=data
    )


def build(
    config: ConfigDict,
    frame_shape: tuple[int, ...],
    mean_frame: np.ndarray | None,
    classes: tuple[str, ...],
    scale: float = 1.0,
) -> VideoModel | Classifier:
    """Builds the model of `config` with initial weights: a classifier if there are classes."""
    if classes:
        return experiment.build_classifier(config, classes, frame_shape, scale)
    return experiment.build_model(config, frame_shape, cast(np.ndarray, mean_frame), scale)


def load_init(path: str) -> TrainedModel | None:
    """Loads the model that `config.model.init` names; returns None for `configs.NO_INIT`.

    Raises:
        ValueError: it is a classifier. Others as in `load`.
    """
    if path == configs.NO_INIT:
        return None
    init = load(path)
    if isinstance(init.model, Classifier):
        raise ValueError(
            f"{init.path} is a classifier; --init takes what train.pretrain or its export wrote"
        )
    return init


def with_init(description: dict, init: TrainedModel | None) -> dict:
    """Adds the fingerprint of `init` to the description of a run's data.

    A run can then be resumed only with the same one, see `Workdir.write_run_info`.
    """
    if init is None:
        return description
    return {**description, "sha256": {**description["sha256"], "init": init.sha256}}


def untrained(trained: TrainedModel, seed: int = 0) -> VideoModel:
    """Builds a model of the same architecture with random weights of its recipe."""
    keras.utils.set_random_seed(seed)
    return cast(VideoModel, trained.rebuilt(trained.config))
