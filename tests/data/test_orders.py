"""The order of windows in training, without a data set: test_windows.py has it with one."""

import numpy as np
import pytest

from unsup_video.data.orders import Order

LENGTHS = np.array([0, 5, 9, 0, 3, 20])
WINDOWS = [(n, first) for n, frames in enumerate(LENGTHS) for first in range(frames - 2)]


def places(order, epoch):
    return list(zip(*(of.tolist() for of in order.place(order.epoch(epoch))), strict=True))


def test_an_epoch_has_every_window_once():
    order = Order(LENGTHS, 3, seed=7)
    first, second = places(order, 0), places(order, 1)
    assert sorted(first) == sorted(second) == WINDOWS and order.size == len(WINDOWS)
    assert first != second != WINDOWS
    assert first == places(Order(LENGTHS, 3, seed=7), 0) != places(Order(LENGTHS, 3, seed=8), 0)


@pytest.mark.parametrize("limit", [1, 4, 100])
def test_an_epoch_has_so_many_windows_of_each_sequence(limit):
    order = Order(LENGTHS, 3, seed=7, max_per_sequence=limit)
    found = places(order, 5)
    assert len(set(found)) == len(found) == order.size and set(found) <= set(WINDOWS)
    counts = np.bincount([n for n, _ in found], minlength=len(LENGTHS))
    assert counts.tolist() == np.minimum(np.maximum(LENGTHS - 2, 0), limit).tolist()
