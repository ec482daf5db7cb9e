"""A trace of some training steps, which TensorBoard shows where xprof is installed.

docs/profiling.md says how to take one and how to read it.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Self

import tensorflow as tf

from unsup_video.training.summaries import naming_the_folder


def parse(text: str | None) -> tuple[int, int] | None:
    """The first and the last step to profile, of "10,20"; None of nothing.

    Raises:
        ValueError: the text is no such pair; says what to give instead.
    """
    if not text:
        return None
    try:
        first, last = (int(number) for number in text.split(","))
    except ValueError:
        raise ValueError(
            f"profile_steps={text}: give the first and the last step to profile, such as 10,20"
        ) from None
    if first < 2:
        raise ValueError(
            f"profile_steps={text}: start at step 2 or later, a run's first step is spent on "
            "compiling; better at 10, when the input has been prefetched"
        )
    if last < first:
        raise ValueError(
            f"profile_steps={text}: the last step comes before the first; "
            f"give {first},{first + 10} for example"
        )
    return first, last


class Profiler:
    """Profiles the steps of a range, once, into `logdir`/plugins/profile/TIME/.

    Its two annotations, `step` and `input`, are around the same places in every step; outside of
    the range they cost a microsecond. What leaving it as a context finds still being profiled, at
    the end of a run or by an error or a signal, is written.
    """

    def __init__(
        self,
        logdir: str | os.PathLike,
        steps: tuple[int, int] | None = None,
        start: int = 0,
        end: int | None = None,
        log: Callable[[str], None] = print,
    ):
        """
        Args:
            steps: the first and the last step to profile, counted from 1; None: none.
            start, end: the last step before this process, and that of the run. The step after
                `start`, in which this process compiles, is never profiled.
            log: told what is profiled, or why nothing is.

        Raises:
            ValueError: the run ends before `steps`.
        """
        self.logdir = os.fspath(logdir)
        self._log = log
        self._running = False
        self._steps = range(0)
        if steps is None:
            return
        first, last = steps
        if end is not None and first > end:
            raise ValueError(
                f"profile_steps={first},{last}: the run ends with step {end}; choose earlier steps"
            )
        self._steps = range(max(first, start + 2), min(last, end or last) + 1)
        if not self._steps:
            log(
                f"nothing is profiled: profile_steps={first},{last}, but this process starts with "
                f"step {start + 1} and compiles in it"
            )

    @contextlib.contextmanager
    def step(self, number: int) -> Iterator[None]:
        """Around getting a batch and training step `number` on it.

        Raises:
            OSError: naming the folder, where the trace cannot be written after the last step.
        """
        if number in self._steps and not self._running:
            self._log(f"profiling from step {number} to {self._steps[-1]}")
            tf.profiler.experimental.start(self.logdir)
            self._running = True
        # _r=1 makes it the root event of a step, by which the pages of TensorBoard group.
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            yield
        if self._running and number == self._steps[-1]:
            self.close()

    def input(self) -> contextlib.AbstractContextManager:
        """Around getting a batch: the time in it is the time that training waits for input."""
        return tf.profiler.experimental.Trace("input")

    @naming_the_folder
    def close(self) -> None:
        """Stops, and writes what was profiled. Raises OSError naming the folder."""
        # Both before what may fail: one trace is tried once, and no other one follows.
        running, self._running = self._running, False
        steps, self._steps = self._steps, range(0)
        if not running:
            if steps:
                self._log(f"nothing was profiled: the run stopped before step {steps[0]}")
            return
        tf.profiler.experimental.stop()
        self._log(f"profiled: tensorboard --logdir={self.logdir} shows it under Profile")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind, error, traceback) -> None:
        try:
            self.close()
        except OSError as unwritten:
            if error is None:
                raise
            self._log(str(unwritten))  # must not hide why the run ended
