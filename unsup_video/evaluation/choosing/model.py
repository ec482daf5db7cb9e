"""The recommended classifier of statistics over time, stored to classify new videos.

A model is one .npz file, of numbers and text only: the statistics and labels of the training
videos. scikit-learn fits the classifier to them again when it is loaded, in seconds, so that no
file with code of a certain version, such as a pickle, has to be kept and trusted.
"""

import dataclasses
import json
import os
from collections.abc import Mapping
from pathlib import Path

import numpy as np

from unsup_video.data import records
from unsup_video.evaluation.choosing import statistics
from unsup_video.evaluation.choosing.sets import Sets
from unsup_video.utils import files


class StatisticsModel:
    """A classifier of statistics over time, or the late fusion of one for each set of percepts.

    Args:
        classifier: one of `statistics.KINDS`. classes: names of the K classes.
        features: name of a set -> (N, F), `statistics.of_sequences` of the training videos.
        labels: (N,) int. seed: of a forest.
        made: name of a set -> how it was made, see `how_made`.
    """

    def __init__(
        self,
        classifier: str,
        classes: tuple[str, ...],
        features: Mapping[str, np.ndarray],
        labels: np.ndarray,
        seed: int,
        made: Mapping[str, dict],
    ):
        self.classifier, self.classes, self.seed = classifier, tuple(classes), seed
        self.made = dict(made)
        self.features, self.labels = dict(features), labels
        self._fitted = {}
        for name, values in self.features.items():
            own = statistics.classifier(classifier, values.shape[1], seed)
            self._fitted[name] = own.fit(values, labels)

    @property
    def percepts(self) -> tuple[str, ...]:
        """The names of the sets that it reads."""
        return tuple(self.features)

    def probabilities(self, features: Mapping[str, np.ndarray]) -> np.ndarray:
        """Classifies M videos; returns (M, K).

        Args:
            features: name of a set -> (M, F).
        """
        return np.mean(
            [own.predict_proba(features[name]) for name, own in self._fitted.items()], axis=0
        )

    def save(self, path: str | os.PathLike) -> None:
        """Writes the model, atomically."""
        names = ("classifier", "classes", "seed", "made")
        about = {name: getattr(self, name) for name in names}
        arrays = {f"features_{name}": values for name, values in self.features.items()}
        with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, about=json.dumps(about), labels=self.labels, **arrays)


def train(sets: Sets, percepts: tuple[str, ...], classifier: str, seed: int) -> StatisticsModel:
    """Trains on all videos of `sets`, with the percepts of these names."""
    features = {
        name: statistics.of_sequences(sets.videos[name].folder, sets.videos[name].chosen)
        for name in percepts
    }
    made = {name: how_made(sets.videos[name].folder) for name in percepts}
    return StatisticsModel(classifier, sets.classes, features, sets.labels, seed, made)


def how_made(folder: str | Path) -> dict:
    """Returns the settings of the job that made a data set of percepts, without its videos.

    It is {} for data sets that do not tell, such as those of data_prep.convert.
    """
    settings = records.Manifest.load(folder).source.get("settings", {})
    return {key: value for key, value in settings.items() if key not in ("flow", "fingerprint")}


def load(path: str | os.PathLike) -> StatisticsModel:
    """Loads a model that `StatisticsModel.save` wrote, and fits it.

    Raises:
        FileNotFoundError: there is none. ValueError: the file is damaged.
    """
    with files.damage_as_value_error(path), np.load(path, allow_pickle=False) as stored:
        about = json.loads(str(stored["about"]))
        features = {
            name.removeprefix("features_"): stored[name]
            for name in stored.files
            if name.startswith("features_")
        }
        labels = stored["labels"]
    return StatisticsModel(features=features, labels=labels, **about)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The classification of a video: its name, the likeliest class and its probability."""

    name: str
    label: str
    probability: float


def predict(model: StatisticsModel, folders: Mapping[str, str | Path]) -> list[Prediction]:
    """Classifies the videos of data sets of percepts, labelled or not.

    Args:
        folders: name of a set -> its data set, for each of `model.percepts`.

    Raises:
        ValueError: a set is missing, holds other videos than the others, or was made with other
            settings than that of the training videos.
        FileNotFoundError: a data set is missing.
    """
    if missing := [name for name in model.percepts if name not in folders]:
        raise ValueError(
            f"percepts {missing[0]} are missing: the classifier reads {', '.join(model.percepts)}"
        )
    names: tuple[str, ...] = ()
    for number, name in enumerate(model.percepts):
        if how_made(folders[name]) != model.made[name]:
            raise ValueError(
                f"{folders[name]} was made with other settings than the percepts {name} of the "
                f"training videos: {how_made(folders[name])}, not {model.made[name]}"
            )
        own = tuple(entry.name for entry in records.load_index(folders[name]))
        if number and own != names:
            raise ValueError(
                f"{folders[name]} and {folders[model.percepts[0]]} hold other videos, or in "
                "another order: make them from the same videos"
            )
        names = own
    features = {name: statistics.of_sequences(folders[name]) for name in model.percepts}
    return [
        Prediction(name, model.classes[int(row.argmax())], float(row.max()))
        for name, row in zip(names, model.probabilities(features), strict=True)
    ]
