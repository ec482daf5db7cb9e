"""Makes records of whole frames of videos, images and arrays."""

import dataclasses
from collections.abc import Iterator
from typing import ClassVar

import numpy as np

from unsup_video.data import records
from unsup_video.pictures import visualize
from unsup_video.video import decoding, inputs, jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video

_MAX_BYTES = 1 << 30  # of a record, which is built in memory


@dataclasses.dataclass(frozen=True)
class Frames:
    """A job of `jobs.run` that resizes whole frames of all forms that `inputs.read` reads.

    A record is a sequence, (T, H, W, 3) uint8 RGB or (T, H, W) luma; or, with `frames`, a window of
    it. The windows of a sequence are adjacent and belong to one group; remaining frames at its end
    are left out.

    Attributes:
        size: (H, W); a frame is cut to these proportions around its centre, and resized.
        colour: RGB, or else luma.
        frames: of a window, at least 2; None for whole sequences.
        fps: the rate to which videos and animations are resampled, in frames per second; None for
            their own.
        value_range: (lowest, highest) of values that are no 8-bit pixels, see `inputs.read`.
    """

    kind: ClassVar[str] = "frames"
    dtype: ClassVar[str] = "uint8"
    scale: ClassVar[float] = records.UNIT

    size: tuple[int, int] = (64, 64)
    colour: bool = True
    frames: int | None = None
    fps: float | None = None
    value_range: tuple[float, float] | None = None

    def __post_init__(self):
        if min(self.size) < 1:
            raise ValueError(f"size must be at least 1x1, got {self.size[0]}x{self.size[1]}")
        if self.frames is not None and self.frames < 2:
            raise ValueError(f"frames must be at least 2, got {self.frames}")
        decoding.check_fps(self.fps)
        if self.value_range is not None:
            inputs.check_range(self.value_range)

    @property
    def settings(self) -> dict:
        return dataclasses.asdict(self)

    def records(self, video: Video) -> Iterator[records.Record]:
        shape = (*self.size, 3) if self.colour else self.size
        fitted = inputs.fitted(inputs.read(video, self.fps, self.value_range), shape)
        of_windows = dataclasses.replace(video, group=video.group or video.name)
        kept, count, windows = [], 0, 0
        for frame in fitted:
            kept.append(visualize.to_uint8(frame))
            count += 1
            if len(kept) == self.frames:
                yield jobs.record(of_windows, np.stack(kept), number=windows)
                kept, windows = [], windows + 1
            elif len(kept) * frame.size > _MAX_BYTES:
                raise VideoError(
                    video.path,
                    f"its frames take more than {_MAX_BYTES >> 20} MiB: cut it into shorter "
                    "files, or into windows by `frames`",
                    count,
                )
        if self.frames is None:
            yield jobs.record(video, np.stack(kept))
        elif not windows:
            raise VideoError(
                video.path, f"too short: {count} frames, {self.frames} are wanted", count
            )
