import itertools

import pytest

from unsup_video.utils.indices import evenly_spread


@pytest.mark.parametrize(
    "count, expected", [(1, [0]), (4, [0, 2, 5, 7]), (10, range(10)), (11, range(10)), (0, [])]
)
def test_indices_are_spread_evenly(count, expected):
    assert evenly_spread(count, 10).tolist() == list(expected)


@pytest.mark.parametrize("count, total", [(3, 10), (7, 50), (1, 4), (9, 9)])
def test_parts_between_them_differ_by_one_at_most(count, total):
    bounds = [*evenly_spread(count, total).tolist(), total]
    sizes = [end - start for start, end in itertools.pairwise(bounds)]
    assert bounds[0] == 0 and len(sizes) == count and max(sizes) - min(sizes) <= 1
