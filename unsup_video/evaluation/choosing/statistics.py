"""Classifiers of whole videos from statistics of their percepts over time, by scikit-learn."""

from pathlib import Path

import numpy as np
from sklearn.base import ClassifierMixin
from sklearn.ensemble import RandomForestClassifier
from sklearn.linear_model import LogisticRegression
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from unsup_video.data.frames import Frames

KINDS = ("logistic", "forest")
_QUANTILES = (0.1, 0.5, 0.9)
_TREES = 300


def summed_up(frames: np.ndarray) -> np.ndarray:
    """Returns the statistics of percepts over time, (..., 7 D) float32.

    They are the mean, the standard deviation, the quantiles 10%, 50% and 90%, the mean absolute
    difference of consecutive frames, and the mean of the second half less that of the first. The
    last two are 0 for a single frame.

    Args:
        frames: (..., T, D).
    """
    frames = np.asarray(frames, np.float32)
    length = frames.shape[-2]
    steps = np.abs(np.diff(frames, axis=-2)).sum(-2) / max(length - 1, 1)
    half = length // 2
    trend = frames[..., length - half :, :].sum(-2) - frames[..., :half, :].sum(-2)
    return np.concatenate(
        [
            frames.mean(-2),
            frames.std(-2),
            *np.quantile(frames, _QUANTILES, axis=-2),
            steps,
            trend / max(half, 1),
        ],
        axis=-1,
    ).astype(np.float32)


def of_sequences(folder: str | Path, chosen: np.ndarray | None = None) -> np.ndarray:
    """Returns `summed_up` of sequences of a data set of percepts, (N, 7 D) float32.

    Args:
        chosen: (count,) bool, True for the sequences to use; None for all.

    Raises:
        FileNotFoundError, ValueError: the data set is missing or damaged.
    """
    frames = Frames(folder, chosen)
    features = []
    for i in np.flatnonzero(frames.chosen):
        values, scale = frames.read(i, 0, int(frames.lengths[i]))
        features.append(summed_up(values.reshape(len(values), -1) * scale))
    return np.stack(features)


def classifier(kind: str, dim: int, seed: int) -> ClassifierMixin:
    """Returns a classifier of scikit-learn that is not fitted yet.

    The regression reads standardized features; the strength of its penalty does not depend on how
    many they are.

    Args:
        kind: one of `KINDS`. dim: the number of features. seed: of the forest.

    Raises:
        ValueError: an unknown kind.
    """
    if kind == "logistic":
        return make_pipeline(StandardScaler(), LogisticRegression(C=1 / dim, max_iter=1000))
    if kind == "forest":
        return RandomForestClassifier(_TREES, random_state=seed)
    raise ValueError(f"unknown classifier of statistics {kind!r}: one of {', '.join(KINDS)}")
