"""A job for tests of the runner: its "videos" are text files of numbers, read in no time."""

import dataclasses
import functools
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unsup_video.video import jobs
from unsup_video.video.decoding import VideoError


@dataclasses.dataclass(frozen=True)
class Numbers:
    """A job that makes `height` x 2 frames per video, which show the numbers of its file.

    Attributes:
        calls: file that gets a byte for every video that is read. per_video: records of each.
    """

    calls: str = os.devnull
    height: int = 3
    per_video: int = 1
    kind: str = "numbers"
    dtype: str = "uint8"
    scale: float = 1.0

    @property
    def settings(self):
        return {"height": self.height, "per_video": self.per_video}

    def records(self, video):
        with open(self.calls, "ab") as file:
            file.write(b".")
        text = Path(video.path).read_text()
        if text == "bug":
            raise KeyError("a bug")
        try:
            numbers = np.array(text.split(), np.uint8)
        except ValueError:
            raise VideoError(video.path, "not numbers", 2) from None
        frames = np.broadcast_to(numbers[:, None, None], (len(numbers), self.height, 2))
        if self.per_video == 1:
            yield jobs.record(video, frames)
        else:
            for i in range(self.per_video):
                yield jobs.record(video, frames, number=i)


@dataclasses.dataclass(frozen=True)
class WhoWorks(Numbers):
    """`Numbers` that leaves a file named by the process that read a video in `pids`.

    No video is done before `workers` processes are at work.
    """

    pids: str = "."
    workers: int = 2

    def records(self, video):
        Path(self.pids, str(os.getpid())).touch()
        while len(list(Path(self.pids).iterdir())) < self.workers:
            time.sleep(0.01)
        yield from super().records(video)


@dataclasses.dataclass(frozen=True)
class Interrupted(Numbers):
    """`Numbers` that calls `function` in the middle of video `victim`."""

    victim: str = ""
    function: Callable = signal.pause

    def records(self, video):
        for record in super().records(video):
            if video.name == self.victim:
                self.function()
            yield record


kill = functools.partial(signal.raise_signal, signal.SIGKILL)
