"""The random order in which windows of sequences are read, in NumPy alone."""

import numpy as np


class Order:
    """The order of windows in training: random, and each window is equally likely.

    An epoch is a permutation of all windows, from every first frame of every sequence. With
    `max_per_sequence`, it has at most that many windows of each sequence, drawn again for each
    epoch. It is a function of `seed` and the number of the epoch, and takes 8 bytes of memory per
    window.

    Args:
        lengths: (N,) numbers of frames of the sequences; 0 excludes a sequence.
        length: frames per window. seed: of the random numbers.
        max_per_sequence: maximum number of windows per sequence in an epoch; None for all.

    Attributes:
        size: number of windows per epoch.
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
        """Returns the windows of an epoch, (size,) int64, in the numbering that `place` reads."""
        windows = np.random.default_rng((self._seed, number)).permutation(self._ends[-1])
        if self._max is None:
            return windows
        return windows[_ranks(np.searchsorted(self._ends, windows, "right")) < self._max]

    def place(self, windows: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Returns (sequences, first frames) of windows; both have the shape of `windows`."""
        sequences = np.searchsorted(self._ends, windows, "right")
        return sequences, windows - (self._ends[sequences] - self._numbers[sequences])


def _ranks(values):
    """Counts, for each of (N,) int values, the equal values before it."""
    order = np.argsort(values, kind="stable")
    ranks = np.empty_like(order)
    numbers = np.bincount(values)
    ranks[order] = np.arange(len(values)) - (np.cumsum(numbers) - numbers)[values[order]]
    return ranks
