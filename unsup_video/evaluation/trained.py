"""A trained model as the evaluations take it, from the folder of a run."""

import dataclasses
import json
from pathlib import Path

import keras
import numpy as np
from ml_collections import ConfigDict

from unsup_video.models import VideoModel
from unsup_video.training import checkpoints, experiment, loop


@dataclasses.dataclass(frozen=True, eq=False)  # compared, and hashed, by identity
class Trained:
    """A trained model and where it comes from.

    Attributes:
        path: the run's folder. name: the folder's name, for tables.
        config: of the run. model: with the trained weights. step: at which they were taken.
        sha256: of the weights' file.
        frame_shape: (H, W) or (H, W, C); D is its product.
        mean_frame: (D,) float32, of the training data.
    """

    path: Path
    config: ConfigDict
    model: VideoModel
    step: int
    sha256: str
    frame_shape: tuple[int, ...]
    mean_frame: np.ndarray

    @property
    def name(self) -> str:
        return self.path.resolve().name

    @property
    def evaluations(self) -> Path:
        """The folder that evaluations of this run write into."""
        return self.path / "eval"

    def describe(self) -> dict:
        """What a table or a page says of the model; JSON values."""
        return {
            "name": self.name,
            "path": str(self.path),
            "config": self.config.name,
            "recipe": self.config.recipe.name,
            "step": self.step,
            "sha256": self.sha256,
            **self.config.model.to_dict(),
        }


def load(path: str | Path) -> Trained:
    """The best checkpoint of a run.

    Raises:
        FileNotFoundError: no run is there, or it has no checkpoint yet. ValueError: it is damaged.
    """
    path = Path(path)
    try:
        config = ConfigDict(json.loads((path / "config.json").read_text()))
        run = json.loads((path / "run.json").read_text())
        mean_frame = np.load(path / "mean_frame.npy", allow_pickle=False)
    except FileNotFoundError as error:
        raise FileNotFoundError(
            f"{path} is not the folder of a run: {Path(error.filename).name} is missing; "
            "python -m train.pretrain makes one"
        ) from None
    except ValueError as error:
        raise ValueError(f"{path}: a file of the run is damaged ({error})") from None
    best = checkpoints.best(path / "checkpoints")
    step, arrays, _ = checkpoints.restore(best)
    frame_shape = tuple(run["frame_shape"])
    model = experiment.build_model(config, frame_shape, mean_frame)
    loop.load_weights(model, arrays, best)
    return Trained(
        path, config, model, step, checkpoints.fingerprint(best), frame_shape, mean_frame
    )


def untrained(trained: Trained, seed: int = 0) -> VideoModel:
    """The same architecture with the starting weights of its recipe."""
    keras.utils.set_random_seed(seed)
    return experiment.build_model(trained.config, trained.frame_shape, trained.mean_frame)
