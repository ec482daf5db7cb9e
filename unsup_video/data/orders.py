"""The random order in which windows of sequences are read, in NumPy alone."""

import numpy as np


class Order:
    """Windows of sequences in random order: each is as likely as any other.

    An epoch is a permutation of all windows, at every place of every sequence; with
    `max_per_sequence`, of so many of each sequence, drawn anew. It is a function of `seed` and the
    number of the epoch, and takes 8 bytes of memory for each window.

    Args:
        lengths: (N,) frames of the sequences; 0 for one that gives no window.
        length: frames of a window. seed: of the order.
        max_per_sequence: windows of each sequence in an epoch; None for all.

    Attributes:
        size: windows of an epoch.
    """

    def __init__(
        self, lengths: np.ndarray, length: int, seed: int, max_per_sequence: int | None = None
    ):
        self._numbers = np.maximum(lengths - length + 1, 0)
        self._ends = np.cumsum(self._numbers)
        self._seed, self._max = seed, max_per_sequence
        read = self._numbers if self._max is None else np.minimum(self._numbers, self._max)
        self.size = int(read.sum())

    def epoch(self, number: int) -> np.ndarray:
        """(size,) int64: the windows of an epoch, for `place`."""
        windows = np.random.default_rng((self._seed, number)).permutation(self._ends[-1])
        if self._max is None:
            return windows
        return windows[_ranks(np.searchsorted(self._ends, windows, "right")) < self._max]

    def place(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """(sequences, first frames) of windows, each of their shape."""
        sequences = np.searchsorted(self._ends, windows, "right")
        return sequences, windows - (self._ends[sequences] - self._numbers[sequences])


def _ranks(values):
    """Of each value, (N,) int, how many equal ones are before it."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty_like(order)
    numbers = np.bincount(values)
    ranks[order] = np.arange(len(values)) - (np.cumsum(numbers) - numbers)[values[order]]
    return ranks
