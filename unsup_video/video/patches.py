"""Image patches: small crops of videos, as in the paper's figure 6 and table 2."""

import collections
import dataclasses
import hashlib
from collections.abc import Iterator
from typing import ClassVar

import cv2
import numpy as np

from unsup_video.data import records
from unsup_video.video import decoding, jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video


@dataclasses.dataclass(frozen=True)
class Patches:
    """Random crops of consecutive frames: a job of `jobs.run`.

    A record is a crop, (frames, size, size, 3) uint8 RGB or (frames, size, size) luma. The crops
    of a video belong to one group, so no split divides them.

    Every possible first frame and position is equally likely; with `min_motion`, every one that
    moves enough. Crop k is a function of (seed, name of the video, k), so asking for more crops
    does not change the first ones.

    Attributes:
        size: height and width in pixels. frames: per crop. per_video: number of crops per video.
        colour: True for RGB, False for luma.
        short_side: frames are scaled first, so that their shorter side has this many pixels.
        fps: frames per second to resample to; None for the video's own rate.
        min_motion: minimum mean absolute difference between consecutive frames of a crop, for
            values in [0, 1]. At each frame of a video, one position is tried for each crop, so a
            video with little motion gives fewer crops.
        seed: seed of the positions and times.
    """

    kind: ClassVar[str] = "patches"
    dtype: ClassVar[str] = "uint8"
    scale: ClassVar[float] = records.UNIT

    size: int = 32
    frames: int = 29
    per_video: int = 10
    colour: bool = True
    short_side: int | None = None
    fps: float | None = None
    min_motion: float = 0.0
    seed: int = 0

    def __post_init__(self):
        for name in ("size", "frames", "per_video"):
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be at least 1, got {getattr(self, name)}")
        if self.short_side is not None and self.short_side < self.size:
            raise ValueError(
                f"short_side must be at least size = {self.size}, got {self.short_side}"
            )
        decoding.check_fps(self.fps)
        if not 0 <= self.min_motion < 1 or (self.min_motion and self.frames < 2):
            raise ValueError(
                f"min_motion must be 0 to 1, and needs 2 frames, got {self.min_motion}"
            )

    @property
    def settings(self) -> dict:
        return dataclasses.asdict(self)

    def records(self, video: Video) -> Iterator[records.Record]:
        crops = [_Crop(self, video.name, k) for k in range(self.per_video)]
        recent = collections.deque(maxlen=self.frames)  # keeps no more frames in memory
        changes = _Changes(self.frames, self.size) if self.min_motion else None
        count = 0
        for frame in decoding.frames(video.path, self.fps, self.colour, video.start, video.seconds):
            recent.append(self._scaled(frame, video, count))
            count += 1
            if changes:
                changes.add(recent[-1])
            if len(recent) == self.frames:
                for crop in crops:
                    crop.consider(recent, changes)
        if count < self.frames:
            raise VideoError(
                video.path, f"too short: {count} frames, {self.frames} are wanted", count
            )
        video = dataclasses.replace(video, group=video.group or video.name)
        kept = [
            jobs.record(video, crop.kept, number=crop.number)
            for crop in crops
            if crop.kept is not None
        ]
        if not kept:
            raise VideoError(video.path, f"no place moves by {self.min_motion:g} per frame", count)
        yield from kept

    def _scaled(self, frame, video, count):
        height, width = frame.shape[:2]
        if self.short_side is not None:
            factor = self.short_side / min(height, width)
            height, width = round(height * factor), round(width * factor)
            frame = decoding.resize(frame, height, width)
        if min(height, width) < self.size:
            raise VideoError(
                video.path, f"frames of {height} x {width} pixels: no room for {self.size}", count
            )
        return frame


class _Crop:
    """Keeps one of the candidates that `consider` sees, by reservoir sampling."""

    def __init__(self, job, name, number):
        self.job, self.number = job, number
        digest = hashlib.sha256(f"{job.seed} {number} {name}".encode()).digest()
        self.random = np.random.Generator(np.random.PCG64(int.from_bytes(digest)))
        self.candidates, self.kept = 0, None

    def consider(self, recent, changes):
        """Draws a position in the last frames; the crop there replaces the kept one by chance."""
        size = self.job.size
        height, width = recent[0].shape[:2]
        y, x, chance = self.random.random(3)
        top, left = int(y * (height - size + 1)), int(x * (width - size + 1))
        if changes and changes.mean(top, left) < self.job.min_motion:
            return
        self.candidates += 1
        if chance * self.candidates < 1:
            self.kept = np.stack([frame[top : top + size, left : left + size] for frame in recent])


class _Changes:
    """Measures how much the last frames of a video change in any square, from a running sum."""

    def __init__(self, frames, size):
        self.size = size
        self.last = None
        self.recent = collections.deque(maxlen=frames - 1)  # (H, W) uint16, summed over colours
        self.total = None  # (H, W) int32, the sum of `recent`
        self.sums = None  # (H + 1, W + 1), sums of everything above and to the left

    def add(self, frame):
        if self.last is None:
            self.total = np.zeros(frame.shape[:2], np.int32)
        else:
            if len(self.recent) == self.recent.maxlen:
                self.total -= self.recent[0]
            planes = np.atleast_3d(cv2.absdiff(frame, self.last)).transpose(2, 0, 1)
            self.recent.append(sum(planes, np.zeros(frame.shape[:2], np.uint16)))
            self.total += self.recent[-1]
            self.sums = cv2.integral(self.total.astype(np.float64))
        self.last = frame

    def mean(self, top, left):
        """Returns the mean change in the square with that corner, for values in [0, 1]."""
        s, bottom, right = self.sums, top + self.size, left + self.size
        total = s[bottom, right] - s[top, right] - s[bottom, left] + s[top, left]
        colours = self.last.shape[2] if self.last.ndim == 3 else 1
        return total / (255 * self.size**2 * colours * len(self.recent))
