"""A trace of some training steps, which TensorBoard shows if xprof is installed.

docs/profiling.md explains how to take and read one.
"""

import contextlib
import os
from collections.abc import Callable, Iterator
from typing import Self

import tensorflow as tf

from unsup_video.training.summaries import naming_the_folder


def parse(text: str | None) -> tuple[int, int] | None:
    """Parses the first and the last step to profile, such as "10,20"; returns None for no text.

    Raises:
        ValueError: the text is no such pair.
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

    Every step uses its two annotations, `step` and `input`; outside of the range they cost a
    microsecond. Leaving the context writes a trace that is still in progress, at the end of a run,
    after an error or after a signal.
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
            steps: the first and the last step to profile, counted from 1; None profiles nothing.
            start, end: the last step before this process, and the last step of the run. The step
                after `start`, in which this process compiles, is never profiled.
            log: called with messages about the profile, or the reason why there is none.

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
        """Annotates getting a batch and training step `number` on it.

        Raises:
            OSError: the trace cannot be written after the last step; the message names the folder.
        """
        if number in self._steps and not self._running:
            self._log(f"profiling from step {number} to {self._steps[-1]}")
            tf.profiler.experimental.start(self.logdir)
            self._running = True
        # _r=1 makes this the root event of a step, by which TensorBoard groups its pages.
        with tf.profiler.experimental.Trace("train", step_num=number, _r=1):
            yield
        if self._running and number == self._steps[-1]:
            self.close()

    def input(self) -> contextlib.AbstractContextManager:
        """Annotates getting a batch: this is the time that training waits for input."""
        return tf.profiler.experimental.Trace("input")

    @naming_the_folder
    def close(self) -> None:
        """Stops, and writes the trace. Raises OSError, which names the folder."""
        # Reset first, so that a failed trace is not tried again.
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
            self._log(str(unwritten))  # the error that ended the run is raised instead
