"""Computes 95% confidence intervals of means of values that may come in groups."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

_QUANTILE = 0.975  # two-sided, 95%


def interval(
    values: Sequence[float] | np.ndarray,
    groups: Sequence | np.ndarray | None = None,
    percent: bool = False,
    answers: bool = False,
) -> tuple[float, float, float]:
    """Returns the mean of values and its 95% confidence interval; groups are independent.

    Values of one group, such as the clips of one video, are correlated, so that a thousand clips of
    two videos say little more than the two. The variance of the mean is the cluster-robust one,
    over the G groups with n_g of the N values each and the sums r_g of their residuals,

        v = sum_g r_g^2 / (1 - n_g / N) / N^2

    (the correction CR2 of Bell and McCaffrey, Survey Methodology 28(2), 2002; without groups it is
    s^2 / N), and the interval is mean +- t sqrt(v), with Student's t of their degrees of freedom:
    G - 1 for groups of equal size, and fewer the more the sizes differ, down to 1. It is too narrow
    only if a single group has nearly all values: with 400 of 410 values in one of 11 groups it
    contains the truth 85 times in 100.

    For answers the interval is Wilson's score interval (JASA 22, 1927) with the effective number of
    answers: N divided by the design effect, and by the ratio of the squared t of these degrees of
    freedom and of N - 1 (Korn and Graubard, Survey Methodology 24(2), 1998; Dean and Pagano, J.
    Survey Statistics and Methodology 3(4), 2015, compare such intervals and recommend this one).
    If answers of the rarer kind are few, they hardly tell how correlated a group is. So with m
    answers of that kind the effective number is at most (m + 1) N^2 / sum_g n_g^2; if all answers
    are right, or all wrong, it equals this bound, which is G for groups of equal size.

    Args:
        values: (N,), N >= 1. groups: (N,), the group of each value, anything that can be sorted;
            None where every value is a group of its own.
        percent: the values are percentages, so that the interval is cut to [0, 100].
        answers: each value is an answer, 100 if it is right and 0 if not, or the mean of several
            answers about one video, which count as a single one.

    Returns:
        (mean, low, high); low = high = NaN where there is no interval: for fewer than two groups,
        for values that are not finite, and, except for answers, for values that are all equal.

    Raises:
        ValueError: `answers` is set, and a value is not from 0 to 100.
    """
    values = np.asarray(values, np.float64)
    if answers and not (0 <= values.min() and values.max() <= 100):
        raise ValueError(f"answers are 0 to 100, got {values.min():g} to {values.max():g}")
    mean = float(values.mean())
    _, members = np.unique(
        np.arange(len(values)) if groups is None else np.asarray(groups), return_inverse=True
    )
    sizes = np.bincount(members)
    if len(sizes) < 2 or not math.isfinite(mean):
        return mean, math.nan, math.nan
    residuals = np.bincount(members, values - mean)
    variance = float((residuals**2 / (1 - sizes / len(values))).sum() / len(values) ** 2)
    t = float(stats.t.ppf(_QUANTILE, _degrees_of_freedom(sizes)))
    if answers:
        low, high = _wilson(mean / 100, variance / 1e4, sizes, t)
        return mean, 100 * low, 100 * high
    if np.ptp(values) == 0:
        return mean, math.nan, math.nan
    half = t * math.sqrt(variance)
    if percent:
        return mean, max(mean - half, 0.0), min(mean + half, 100.0)
    return mean, mean - half, mean + half


def _degrees_of_freedom(sizes):
    """Returns Bell and McCaffrey's (2002) degrees of freedom of a variance over groups.

    They are (sum lambda)^2 / sum lambda^2 with the eigenvalues lambda of the matrix of the
    quadratic form times the covariance of the residuals' sums if all values were independent.
    """
    sizes = sizes.astype(np.float64)
    count = sizes.sum()
    weights = 1 / (1 - sizes / count)
    squares = (
        (sizes**2).sum()
        + ((weights * sizes**2).sum() / count) ** 2
        - (weights**2 * sizes**4).sum() / count**2
    )
    return count**2 / squares


def _wilson(share, variance, sizes, t):
    """Returns (low, high) of a share of right answers, in [0, 1], with this variance."""
    count = int(sizes.sum())
    rarer = round(min(share, 1 - share) * count)
    worth = (rarer + 1) * count**2 / (sizes.astype(np.float64) ** 2).sum()
    if rarer:
        design_effect = max(variance / (share * (1 - share) / (count - 1)), 1.0)
        freedom = (stats.t.ppf(_QUANTILE, count - 1) / t) ** 2
        worth = min(worth, count / design_effect * freedom)
    z = stats.norm.ppf(_QUANTILE)
    middle = (share + z**2 / (2 * worth)) / (1 + z**2 / worth)
    half = z / (1 + z**2 / worth) * math.sqrt(share * (1 - share) / worth + z**2 / (4 * worth**2))
    # A share of 0 or 1 is exactly a bound of its interval, in spite of rounding.
    low = 0.0 if share == 0 else max(middle - half, 0.0)
    high = 1.0 if share == 1 else min(middle + half, 1.0)
    return float(low), float(high)
