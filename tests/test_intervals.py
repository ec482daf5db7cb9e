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
        found = interval(values, percent=True)[1:]
        assert found == pytest.approx((100 * expected.low, 100 * expected.high))


def test_all_right_or_two_videos_say_little():
    _, low, high = interval([100.0] * 1000, np.repeat([0, 1], 500), percent=True)
    assert 30 < low < 40 and high == 100  # two videos, as two answers
    _, low, high = interval([0.0] * 500 + [100.0] * 500, np.repeat([0, 1], 500), percent=True)
    assert 0 <= low < 10 and 90 < high <= 100
    _, low, high = interval([100.0, 0.0] * 500, np.repeat([0, 1], 500), percent=True)
    assert low < 45 and high > 55  # even groups that agree are two groups
    _, low, high = interval([97.0, 99.0], percent=True)  # accuracies, not answers
    assert 0 < low < 98 and high == 100


@pytest.mark.parametrize("values, groups, percent", [
    ([1.0], None, False), ([100.0], None, True), ([1.0, 2, 3], [0, 0, 0], False),
    ([1.0, math.inf], None, False), ([2.0, 2, 2], None, False), ([60.0, 60], None, True),
])
def test_where_nothing_is_known_there_is_no_interval(values, groups, percent):
    mean, low, high = interval(values, groups, percent)
    assert mean == pytest.approx(np.mean(values)) and math.isnan(low) and math.isnan(high)


def held(make, truth, percent, runs=1500):
    """In how many % of the runs the interval holds the truth, and without the groups."""
    rng = np.random.default_rng(0)
    hits = np.zeros(2)
    for _ in range(runs):
        values, groups = make(rng)
        for k, of in enumerate((groups, None)):
            _, low, high = interval(values, of, percent)
            hits[k] += low <= truth <= high
    return 100 * hits / runs


def clips(rng, videos=9, most=100):
    """Losses of 20 to 100 clips of a few videos, which differ more than the clips of one do."""
    sizes = rng.integers(20, most + 1, videos)
    groups = np.repeat(np.arange(videos), sizes)
    return 45 + rng.normal(0, 15, videos)[groups] + rng.normal(0, 20, len(groups)), groups


def answers(rng, videos=12, blocks=12, share=0.8, alike=3.0):
    """Answers on blocks of videos, some of which are hard: a beta-binomial with mean `share`."""
    hard = rng.beta(share * alike, (1 - share) * alike, videos)
    groups = np.repeat(np.arange(videos), blocks)
    return 100.0 * (rng.random(len(groups)) < hard[groups]), groups


def test_intervals_hold_the_truth_95_times_in_100():
    grouped, alone = held(clips, 45, percent=False)
    assert 93 < grouped < 97 and alone < 60
    grouped, alone = held(answers, 80, percent=True)
    assert 92 < grouped < 99 and alone < 80
