"""Confidence intervals: against hand arithmetic and scipy, and how often they hold the truth."""

import math

import numpy as np
import pytest
from scipy import stats

from unsup_video.evaluation.intervals import interval


def test_without_groups_it_is_students_t():
    values = [1.0, 2.0, 3.0, 6.0]
    mean, low, high = interval(values)
    expected = stats.t.interval(0.95, 3, loc=3.0, scale=stats.sem(values))
    assert mean == 3 and (low, high) == pytest.approx(expected)


def test_groups_of_one_size_are_as_good_as_their_means():
    """The mean of five groups of four values is the mean of the five means."""
    values = np.random.default_rng(0).normal(size=(5, 4))
    grouped = interval(values.ravel(), np.repeat(list("abcde"), 4))
    assert grouped == pytest.approx(interval(values.mean(1)))
    assert grouped[2] - grouped[1] != pytest.approx(np.ptp(interval(values.ravel())[1:]))


def test_groups_of_any_size_by_hand():
    # Mean 2; residuals sum to -2 (of one value) and to 2 (of three); v = (4/(3/4) + 4/(1/4)) / 16.
    mean, low, high = interval([0.0, 2, 3, 3], [7, 5, 5, 5])
    half = 12.706204736 * math.sqrt((4 / 0.75 + 4 / 0.25) / 16)
    assert (mean, low, high) == pytest.approx((2, 2 - half, 2 + half))


def test_answers_of_videos_of_their_own_have_wilsons_interval():
    for right, count in ((17, 20), (20, 20), (0, 9), (1, 2)):
        values = np.where(np.arange(count) < right, 100.0, 0.0)
        expected = stats.binomtest(right, count).proportion_ci(method="wilson")
        found = interval(values, answers=True)[1:]
        assert found == pytest.approx((100 * expected.low, 100 * expected.high))


def test_all_right_or_two_videos_say_little():
    _, low, high = interval([100.0] * 1000, np.repeat([0, 1], 500), answers=True)
    assert 30 < low < 40 and high == 100  # two videos, as two answers
    _, low, high = interval([0.0] * 500 + [100.0] * 500, np.repeat([0, 1], 500), answers=True)
    assert 0 <= low < 10 and 90 < high <= 100
    _, low, high = interval([100.0, 0.0] * 500, np.repeat([0, 1], 500), answers=True)
    assert low < 45 and high > 55  # even groups that agree are two groups
    _, low, high = interval([100.0] * 1000, np.repeat([0, 1], [990, 10]), answers=True)
    assert 20 < low < 25 and high == 100  # hardly more than one video


@pytest.mark.parametrize("sizes", [(500, 500), (100,) * 10, (600, 300, 60, 40)])
def test_the_first_wrong_answers_change_little(sizes):
    """1,000 answers, up to six of which are wrong: there is no jump where all are right."""
    groups, values = np.repeat(np.arange(len(sizes)), sizes), np.full(1000, 100.0)
    lows = [interval(values, groups, answers=True)[1]]
    for wrong in (0, 999, 1, 998, 2, 997):  # of two groups in turn
        values[wrong] = 0
        lows.append(interval(values, groups, answers=True)[1])
    assert np.abs(np.diff(lows)).max() < 20


def test_accuracies_are_no_answers():
    """Whatever their values are: a mean of accuracies of 100 has no interval of Wilson's."""
    mean, low, high = interval([100.0] * 10, percent=True)
    assert mean == 100 and math.isnan(low) and math.isnan(high)
    expected = stats.t.interval(0.95, 3, loc=75, scale=stats.sem([100, 100, 100, 0]))
    assert interval([100.0, 100, 100, 0], percent=True) == (75, max(expected[0], 0), 100)
    _, low, high = interval([97.0, 99.0], percent=True)
    assert 0 < low < 98 and high == 100
    with pytest.raises(ValueError, match="answers are 0 to 100, got 97 to 101"):
        interval([101.0, 97.0], answers=True)


@pytest.mark.parametrize(
    "values, groups, options",
    [
        ([1.0], None, {}),
        ([100.0], None, {"answers": True}),
        ([1.0, 2, 3], [0, 0, 0], {}),
        ([1.0, math.inf], None, {}),
        ([2.0, 2, 2], None, {}),
        ([60.0, 60], None, {"percent": True}),
    ],
)
def test_where_nothing_is_known_there_is_no_interval(values, groups, options):
    mean, low, high = interval(values, groups, **options)
    assert mean == pytest.approx(np.mean(values)) and math.isnan(low) and math.isnan(high)


@pytest.mark.parametrize(
    "sizes", [(20,) * 10, (100, 50, 25, 12, 6, 3, 2, 2), (200, 10, 10), (1, 3)]
)
def test_degrees_of_freedom_are_those_of_the_eigenvalues(sizes):
    n = np.array(sizes, float)
    residual = np.eye(len(n)) - np.outer(n, np.ones(len(n))) / n.sum()
    weights = np.diag(1 / (1 - n / n.sum()))
    found = np.linalg.eigvals(residual @ np.diag(n) @ residual.T @ weights).real
    expected = found.sum() ** 2 / (found**2).sum()
    # The half-width of values of which only that of a group differs gives t, and t the degrees.
    values, groups = (
        np.random.default_rng(0).normal(size=sum(sizes)),
        np.repeat(range(len(n)), sizes),
    )
    mean, _low, high = interval(values, groups)
    sums = np.bincount(groups, values - mean)
    error = math.sqrt((sums**2 / (1 - n / n.sum())).sum()) / n.sum()
    assert (high - mean) / error == pytest.approx(stats.t.ppf(0.975, expected))


def held(make, truth, answers, runs=1000):
    """In how many % of the runs the interval holds the truth, and without the groups."""
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(runs):
        values, groups = make(rng)
        for k, of in enumerate((groups, None)):
            _, low, high = interval(values, of, answers=answers)
            hits[k] += low <= truth <= high
    return 100 * hits / runs


def drawn(count):
    return lambda rng: rng.integers(20, 101, count)


def of(*sizes):
    return lambda rng: np.array(sizes)


def clips(sizes):
    """Losses of clips of a few videos, which differ more than the clips of one do."""

    def make(rng):
        groups = np.repeat(np.arange(len(found := sizes(rng))), found)
        return 45 + rng.normal(0, 15, len(found))[groups] + rng.normal(0, 20, len(groups)), groups

    return make


def blocks(sizes, share=0.8, alike=3.0):
    """Answers on blocks of videos, some of which are hard: a beta-binomial with mean `share`."""

    def make(rng):
        groups = np.repeat(np.arange(len(found := sizes(rng))), found)
        hard = rng.beta(share * alike, (1 - share) * alike, len(found))
        return 100.0 * (rng.random(len(groups)) < hard[groups]), groups

    return make


@pytest.mark.parametrize(
    "sizes, most",
    [(drawn(9), 97), (of(100, 50, 25, 12, 6, 3, 2, 2), 97), (of(200, 10, 10, 10, 10, 10), 98)],
)
def test_intervals_hold_the_truth_95_times_in_100(sizes, most):
    grouped, alone = held(clips(sizes), 45, answers=False)
    assert 93 < grouped < most and alone < 60


@pytest.mark.parametrize(
    "sizes, share",
    [
        (of(*[12] * 12), 0.8),
        (of(100, 50, 25, 12, 6, 3, 2, 2), 0.8),
        (of(200, *[10] * 5), 0.8),
        (of(*[12] * 12), 0.97),
    ],
)
def test_intervals_of_answers_hold_the_truth_at_least_so_often(sizes, share):
    grouped, alone = held(blocks(sizes, share), 100 * share, answers=True)
    assert 92 < grouped <= 99.5 and alone < 80
