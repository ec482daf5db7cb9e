"""Indices that are spread evenly over a range."""

import numpy as np


def evenly_spread(count: int, total: int) -> np.ndarray:
    """`count` of the indices 0 to `total` - 1, ascending, or all where there are no more.

    They are the starts of `count` parts of the range whose sizes differ by 1 at most.

    Returns:
        (min(count, total),) int64.
    """
    count = min(count, total)
    return np.arange(count) * total // max(count, 1)
