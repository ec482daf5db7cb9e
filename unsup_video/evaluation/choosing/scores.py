"""Scores of candidates from the predictions of a cross-validation, on the same videos."""

import dataclasses
import math

import numpy as np

from unsup_video.evaluation import intervals

_DRAWS = 2000


def right(probabilities: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """Returns how often each video is classified correctly, (N,) in %, the mean over repeats.

    Args:
        probabilities: (R, N, K), of repeats, videos and classes. labels: (N,) int.
    """
    return 100.0 * (probabilities.argmax(-1) == labels).mean(0)


def accuracy(hits: np.ndarray, groups: np.ndarray) -> tuple[float, float, float]:
    """Returns the mean of `right`, and its 95% interval of answers over groups of videos."""
    return intervals.interval(hits, groups, answers=True)


def difference(
    one: np.ndarray, other: np.ndarray, groups: np.ndarray
) -> tuple[float, float, float]:
    """Returns the mean of the paired differences of two `right`, and its 95% interval.

    If all differences are equal, it has no width.
    """
    mean, low, high = intervals.interval(one - other, groups)
    return (mean, mean, mean) if math.isnan(low) else (mean, low, high)


@dataclasses.dataclass(frozen=True)
class Corrected:
    """The accuracy of choosing the best candidate, in %, with its 95% interval.

    Attributes:
        mean, low, high: of videos that the choice has not seen.
    """

    mean: float
    low: float
    high: float


def corrected(
    scores: np.ndarray, groups: np.ndarray, seed: int = 0, draws: int = _DRAWS
) -> Corrected:
    """Corrects the accuracy of the best candidate for the choice of the best: BBC-CV.

    The best of many candidates is partly the luckiest one. In each draw, groups of videos are
    sampled with replacement, the best candidate on these is chosen, and scored on the videos of all
    other groups; of equally good ones, the mean of their scores counts, so that their order, which
    may come from all videos, does not matter. The mean over draws estimates the accuracy of the
    whole procedure, the choice included; it is slightly too low, because a choice from a sample
    knows fewer videos (Tsamardinos, Greasidou and Borboudakis, Machine Learning 107, 2018).

    The interval covers the 2.5% and 97.5% quantiles over draws, which are far apart, as the videos
    outside of a sample are few, and the best candidate's own interval, moved by the correction. The
    latter matters if all draws agree, as for a candidate that is always right.

    Args:
        scores: (C, N), of each candidate for each video, in %. groups: (N,), anything that can be
            sorted.
    """
    _, members = np.unique(groups, return_inverse=True)
    sizes = np.bincount(members).astype(float)  # (G,)
    sums = np.stack([np.bincount(members, row, len(sizes)) for row in scores])  # (C, G)
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(len(sizes), np.full(len(sizes), 1 / len(sizes)), size=draws)
    outside = drawn == 0
    drawn, outside = drawn[outside.any(1)], outside[outside.any(1)]
    inside = (drawn @ sums.T) / (drawn @ sizes)[:, None]  # (draws, C)
    outer = (outside @ sums.T) / (outside @ sizes)[:, None]
    tied = np.isclose(inside, inside.max(1, keepdims=True), rtol=0, atol=1e-9)
    values = (outer * tied).sum(1) / tied.sum(1)
    mean = float(values.mean())
    low, high = map(float, np.quantile(values, (0.025, 0.975)))
    own, own_low, own_high = accuracy(scores[scores.mean(1).argmax()], groups)
    moved = mean - own
    return Corrected(
        mean, max(min(low, own_low + moved), 0.0), min(max(high, own_high + moved), 100.0)
    )
