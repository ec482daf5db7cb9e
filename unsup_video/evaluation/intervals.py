"""95% confidence intervals of means, of values that may come in groups."""

import math
from collections.abc import Sequence

import numpy as np
from scipy import stats

_QUANTILE = 0.975  # two-sided, 95%


def interval(
    values: Sequence[float] | np.ndarray,
    groups: Sequence | np.ndarray | None = None,
    percent: bool = False,
) -> tuple[float, float, float]:
    """The mean of values and its 95% confidence interval; groups of values are independent.

    Values of one group, such as the clips of one video, are alike, so that a thousand clips of two
    videos say little more than the two. The variance of the mean is the cluster-robust one, over
    the G groups with n_g of the N values each and the sums r_g of their residuals,

        v = sum_g r_g^2 / (1 - n_g / N) / N^2

    (the correction CR2 of Bell and McCaffrey, Survey Methodology 28(2), 2002; without groups it is
    s^2 / N), and the interval is mean +- t sqrt(v), with Student's t of G - 1 degrees of freedom.

    Of percentages of right answers, values that are all 0 or 100, it is Wilson's score interval
    (JASA 22, 1927), of as many answers as the groups are worth: N divided by the design effect,
    and by the ratio of the squared t of G - 1 and N - 1 degrees of freedom (Korn and Graubard,
    Survey Methodology 24(2), 1998; Dean and Pagano, J. Survey Statistics and Methodology 3(4),
    2015, compare such intervals and recommend this one). Where all answers are right, or all
    wrong, how alike those of a group are is not known, and each group counts as one answer. Other
    percentages, such as accuracies themselves, have the interval with t, cut to [0, 100].

    Args:
        values: (N,), N >= 1. groups: (N,), the group of each value, anything that can be sorted;
            None where every value is a group of its own.
        percent: whether the values are percentages, from 0 to 100.

    Returns:
        (mean, low, high); low = high = nan where there is no interval: of fewer than two groups,
        values that are not finite, and values that are all the same, but for answers.
    """
    values = np.asarray(values, np.float64)
    mean = float(values.mean())
    _, members = np.unique(np.arange(len(values)) if groups is None else np.asarray(groups),
                           return_inverse=True)
    sizes = np.bincount(members)
    if len(sizes) < 2 or not math.isfinite(mean):
        return mean, math.nan, math.nan
    residuals = np.bincount(members, values - mean)
    variance = float((residuals ** 2 / (1 - sizes / len(values))).sum() / len(values) ** 2)
    t = float(stats.t.ppf(_QUANTILE, len(sizes) - 1))
    if percent and np.isin(values, (0.0, 100.0)).all():
        low, high = _wilson(mean / 100, variance / 1e4, len(values), len(sizes), t)
        return mean, 100 * low, 100 * high
    if np.ptp(values) == 0:
        return mean, math.nan, math.nan
    half = t * math.sqrt(variance)
    if percent:
        return mean, max(mean - half, 0.0), min(mean + half, 100.0)
    return mean, mean - half, mean + half


def _wilson(share, variance, count, groups, t):
    """(low, high) of a share of right answers, in [0, 1]; `variance` is that of the share."""
    if 0 < share < 1:
        design_effect = max(variance / (share * (1 - share) / (count - 1)), 1.0)
        worth = count / design_effect * (stats.t.ppf(_QUANTILE, count - 1) / t) ** 2
    else:
        worth = groups
    z = stats.norm.ppf(_QUANTILE)
    middle = (share + z ** 2 / (2 * worth)) / (1 + z ** 2 / worth)
    half = z / (1 + z ** 2 / worth) * math.sqrt(
        share * (1 - share) / worth + z ** 2 / (4 * worth ** 2)
    )
    # At the ends the interval ends there exactly, whatever rounding says.
    low = 0.0 if share == 0 else max(middle - half, 0.0)
    high = 1.0 if share == 1 else min(middle + half, 1.0)
    return float(low), float(high)
