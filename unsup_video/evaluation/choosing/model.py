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

_ABOUT = ("classifier", "classes", "seed", "made")  # attributes that are stored as JSON
_FEATURES = "features_"  # begins the names of their arrays


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
        about = {name: getattr(self, name) for name in _ABOUT}
        arrays = {f"{_FEATURES}{name}": values for name, values in self.features.items()}
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
    """Returns the settings that made a data set of percepts, whatever its videos were.

    Those of percepts of flow hold the settings of the flow as "flow". What hardly changes a percept
    is left out: the batch size, and the version of Keras. It is {} for data sets that do not tell,
    such as those of data_prep.convert.
    """
    source = records.Manifest.load(folder).source
    made = _lasting(source.get("settings", {}))
    if "flow" in made:
        made["flow"] = source["videos"]["flow"].get("settings", {})
    return made


def _lasting(settings):
    return {
        key: _lasting(value) if isinstance(value, dict) else value
        for key, value in settings.items()
        if key not in ("fingerprint", "batch_size", "keras")
    }


def load(path: str | os.PathLike) -> StatisticsModel:
    """Loads a model that `StatisticsModel.save` wrote, and fits it.

    Raises:
        FileNotFoundError: there is none. ValueError: the file is damaged.
    """
    arrays = files.read_arrays(path)
    features = {
        name.removeprefix(_FEATURES): values
        for name, values in arrays.items()
        if name.startswith(_FEATURES)
    }
    try:
        about = json.loads(str(arrays["about"]))
        labels = arrays["labels"]
        whole = set(about) == set(_ABOUT) and set(about["made"]) == set(features) != set()
    except (KeyError, TypeError, ValueError):
        whole = False
    if not (
        whole
        and labels.ndim == 1
        and set(labels.tolist()) <= set(range(len(about["classes"])))
        and all(values.ndim == 2 and len(values) == len(labels) for values in features.values())
    ):
        raise ValueError(f"{path} is no model of eval.choose: run eval.choose again to write it")
    return StatisticsModel(features=features, labels=labels, **about)


@dataclasses.dataclass(frozen=True)
class Prediction:
    """The classification of a video: its name, the likeliest class and its probability."""

    name: str
    label: str
    probability: float


def predict(
    model: StatisticsModel, folders: Mapping[str, str | Path]
) -> tuple[list[Prediction], list[str]]:
    """Classifies the videos that all data sets of percepts have, labelled or not.

    Args:
        folders: name of a set -> its data set, for each of `model.percepts`.

    Returns:
        (the predictions, the names of the videos that one of the sets lacks).

    Raises:
        ValueError: a set is missing, no video is in all of them or they are in another order, or a
            set was made with other settings than that of the training videos.
        FileNotFoundError: a data set is missing.
    """
    if missing := [name for name in model.percepts if name not in folders]:
        raise ValueError(
            f"percepts {missing[0]} are missing: the classifier reads {', '.join(model.percepts)}"
        )
    names = {}
    for name in model.percepts:
        if (made := how_made(folders[name])) != model.made[name]:
            raise ValueError(
                f"{folders[name]} was made with other settings than the percepts {name} of the "
                f"training videos: {made}, not {model.made[name]}"
            )
        names[name] = [entry.name for entry in records.load_index(folders[name])]
    shared = set.intersection(*map(set, names.values()))
    where = " and ".join(str(folders[name]) for name in model.percepts)
    if not shared:
        raise ValueError(f"no video with a name is in {where}")
    chosen = {name: np.array([n in shared for n in own]) for name, own in names.items()}
    orders = {tuple(n for n in own if n in shared) for own in names.values()}
    if len(orders) > 1:
        raise ValueError(f"{where} hold their videos in another order: make them from one list")
    features = {
        name: statistics.of_sequences(folders[name], chosen[name]) for name in model.percepts
    }
    (order,) = orders
    predictions = [
        Prediction(name, model.classes[int(row.argmax())], float(row.max()))
        for name, row in zip(order, model.probabilities(features), strict=True)
    ]
    return predictions, sorted(set().union(*names.values()) - shared)
