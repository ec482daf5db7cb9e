"""The share of every batch that one of several processes makes when they train together."""

import dataclasses

import numpy as np
import tensorflow as tf


@dataclasses.dataclass(frozen=True)
class Share:
    """One of `count` equal parts of every batch, in the order of its examples.

    Streams of examples take a share, and read or generate no other rows. The rows of all shares, in
    the order of `index`, are the batch of a single process.

    Attributes:
        index: from 0. count: number of processes.
    """

    index: int = 0
    count: int = 1

    def size(self, batch_size: int) -> int:
        """Returns the number of rows of the share.

        Raises:
            ValueError: a batch of this size cannot be divided evenly.
        """
        if batch_size % self.count:
            raise ValueError(
                f"a batch of {batch_size} cannot be divided among {self.count} processes"
            )
        return batch_size // self.count

    def rows(self, batch_size: int) -> slice:
        """Returns the rows of the share. Raises as `size` does."""
        size = self.size(batch_size)
        return slice(self.index * size, (self.index + 1) * size)

    def numbers(self, batch_size: int, start: int, end: int | None = None) -> tf.data.Dataset:
        """Returns the share of the numbers start, start + 1, .. in batches (size,) int64.

        Args:
            end: one more than the last number, whose batch may be smaller; None for an endless data
                set.
        """
        last = np.iinfo(np.int64).max if end is None else end
        whole = tf.data.Dataset.range(start, last).batch(batch_size, drop_remainder=end is None)
        rows = self.rows(batch_size)
        return whole.map(lambda numbers: numbers[rows])


WHOLE = Share()
