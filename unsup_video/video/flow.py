"""Optical flow of videos: the displacement of every pixel from one frame to the next.

A flow is (H, W, 2): u, to the right, and v, downwards, in pixels per frame. It is stored as in
two-stream networks (Simonyan & Zisserman 2014), clipped to +-bound and in 8 bits, but signed.
Therefore no motion is exactly 0, and a stored value stands for value * scale, as in every data set:

    stored = rint(clip(flow, -bound, bound) * 127 / bound)          int8, -127 to 127
    flow   = stored * scale,  scale = bound / 127                   pixels per frame

Within the bound, the error is at most half a step, bound / 254: 0.08 pixels for a bound of 20.
Tools that expect the usual unsigned codes add 128.
"""

import dataclasses
import itertools
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import ClassVar

import cv2
import numpy as np
import tensorflow as tf

from unsup_video.data import records
from unsup_video.pictures import visualize
from unsup_video.utils import files
from unsup_video.video import decoding, jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Listing, Video

METHODS = ("dis", "farneback", "tvl1")
MIN_SIZE = 16  # minimum height and width in pixels: DIS needs at least two of its patches
MAX_SIZE = 4096  # maximum height and width: such a flow takes 128 MiB as float32
_LEVELS = 127  # of either sign
_MAX_BYTES = 1 << 30  # per video: its flow is held in memory, and a record may have 2 GiB
_PREVIEW_FLOWS = 50
_PREVIEW_HEIGHT = 120


def estimator(method: str) -> Callable[[np.ndarray, np.ndarray], np.ndarray]:
    """Returns a function of two frames, (H, W) uint8 grey, that computes the flow between them.

    The flow is (H, W, 2) float32.

    Args:
        method: "dis", dense inverse search followed by variational refinement, which minimises an
            energy as Brox's method does; "farneback"; or "tvl1".

    Raises:
        ValueError: the method is unknown, or missing from the installed OpenCV.
    """
    if method == "dis":
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        refinement = cv2.VariationalRefinement_create()
        return lambda a, b: refinement.calc(a, b, search.calc(a, b, None))
    if method == "farneback":
        return lambda a, b: cv2.calcOpticalFlowFarneback(a, b, None, 0.5, 5, 15, 3, 5, 1.2, 0)
    if method == "tvl1":
        if not hasattr(cv2, "optflow"):
            raise ValueError(
                "tvl1 is in OpenCV's contrib modules, which are not installed: "
                "pip uninstall opencv-python-headless, then "
                "pip install opencv-contrib-python-headless; or use dis or farneback"
            )
        tvl1 = cv2.optflow.createOptFlow_DualTVL1()
        return lambda a, b: tvl1.calc(a, b, None)
    raise ValueError(f"unknown method {method!r}: one of {', '.join(METHODS)}")


def quantise(flow: np.ndarray, bound: float) -> np.ndarray:
    """Converts flow in pixels per frame to int8; values beyond +-bound become +-127."""
    return np.rint(np.clip(flow, -bound, bound) * (_LEVELS / bound)).astype(np.int8)


def dequantise(codes: np.ndarray, bound: float) -> np.ndarray:
    """Converts the result of `quantise` to pixels per frame, float32."""
    return codes.astype(np.float32) * np.float32(bound / _LEVELS)


def share_at_bound(folder: str | Path) -> float:
    """Returns the share of +-127 among the stored values of about 200 sequences of a data set.

    These values were clipped, or within half a step of the bound. The sequences are the first ones
    of up to 50 evenly spaced shards; a small data set is read completely.
    """
    manifest = records.Manifest.load(folder)
    shards = manifest.shards[:: -(-len(manifest.shards) // 50)]
    each = -(-200 // len(shards))
    count = total = 0
    for shard in shards:
        data = tf.data.TFRecordDataset(str(Path(folder) / shard.name), manifest.compression)
        for example in data.take(each).as_numpy_iterator():
            codes, _ = records.decode(example, manifest)
            count += int((np.abs(codes) == _LEVELS).sum())
            total += codes.size
    return count / total


def stacks(flows: np.ndarray, length: int, stride: int) -> np.ndarray:
    """Stacks `length` consecutive flows as channels, from every `stride`-th flow on.

    (T, H, W, 2) -> (N, H, W, 2 * length), channels u1, v1, u2, v2, ..; N = (T - length) // stride
    + 1, or 0 if T < length.
    """
    stacked = [
        np.concatenate(list(flows[first : first + length]), axis=-1)
        for first in range(0, len(flows) - length + 1, stride)
    ]
    return (
        np.stack(stacked) if stacked else np.empty((0, *flows.shape[1:3], 2 * length), flows.dtype)
    )


@dataclasses.dataclass(frozen=True)
class Flow:
    """A job that computes (T - 1, H, W, 2) int8 for a video of T frames, or stacks of flows.

    Stacks are (N, H, W, 2 * stack).

    Attributes:
        method: see `estimator`. size: (H, W) that grey frames are resized to first.
        bound: the largest displacement in pixels per frame that is not clipped.
        fps: frames per second to resample to; None for the video's own rate.
        subtract_mean: subtract the mean vector of every flow, which camera motion mostly causes.
        stack: number of flows per stack, 1 for none. stack_stride: flows from one stack to the
            next.

    Raises:
        ValueError: a bad value, or a method that is not installed.
    """

    kind: ClassVar[str] = "flow"
    dtype: ClassVar[str] = "int8"

    method: str = "dis"
    size: tuple[int, int] = (240, 320)
    bound: float = 20.0
    fps: float | None = None
    subtract_mean: bool = False
    stack: int = 1
    stack_stride: int = 1

    def __post_init__(self):
        estimator(self.method)
        if not all(MIN_SIZE <= n <= MAX_SIZE for n in self.size):
            raise ValueError(
                f"size must be {MIN_SIZE} to {MAX_SIZE} pixels each way, got {self.size}"
            )
        if not 0 < self.bound < np.inf:
            raise ValueError(f"bound must be above 0, got {self.bound}")
        decoding.check_fps(self.fps)
        if self.stack < 1 or self.stack_stride < 1:
            raise ValueError(
                f"stack and stack_stride must be at least 1, got {self.stack}, {self.stack_stride}"
            )

    @property
    def scale(self) -> float:
        """Pixels per frame that a stored 1 stands for."""
        return self.bound / _LEVELS

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        return dataclasses.asdict(self)

    def records(self, video: Video) -> Iterator[records.Record]:
        """Yields one record for a video.

        Raises VideoError: the video has too few frames, or too many for the memory.
        """
        # Jobs use processes: a second thread costs 50% more work for 15% more speed.
        cv2.setNumThreads(1)
        stored, size = [], 0
        for flow in self.flows(video):
            stored.append(quantise(flow, self.bound))
            size += stored[-1].nbytes * self.stack / self.stack_stride
            if size > _MAX_BYTES:
                raise VideoError(
                    video.path,
                    f"its flow takes more than {_MAX_BYTES >> 20} MiB: cut it into "
                    "shorter files, or use a smaller size or fps",
                    len(stored) + 1,
                )
        if len(stored) < self.stack:
            raise VideoError(
                video.path, f"{self.stack + 1} frames at least are needed for flow", len(stored) + 1
            )
        values = np.stack(stored)
        if self.stack > 1:
            values = stacks(values, self.stack, self.stack_stride)
        yield jobs.record(video, values)

    def flows(self, video: Video) -> Iterator[np.ndarray]:
        """Yields the flows of a video in pixels per frame, (H, W, 2) float32, before clipping."""
        estimate = estimator(self.method)
        last = None
        for frame in self.frames(video, colour=False):
            if last is not None:
                # Repeated frames are common, and some methods see motion at their borders.
                still = np.array_equal(last, frame)
                flow = np.zeros((*self.size, 2), np.float32) if still else estimate(last, frame)
                if self.subtract_mean:
                    flow = flow - flow.mean(axis=(0, 1))
                yield flow
            last = frame

    def frames(self, video: Video, colour: bool) -> Iterator[np.ndarray]:
        """Yields the frames between which flow is computed: (H, W, 3) uint8 RGB, or (H, W) grey."""
        frames = decoding.frames(
            video.path, self.fps, colour, start=video.start, seconds=video.seconds
        )
        for frame in frames:
            yield decoding.resize(frame, *self.size)


# ---------------------------------------------------------------------- pictures


def to_colour(u: np.ndarray, v: np.ndarray, bound: float) -> np.ndarray:
    """Converts flow to colours, (.., H, W) each -> (.., H, W, 3) uint8 RGB.

    The hue shows the direction: red to the right, yellow-green down, cyan to the left, violet up.
    The saturation shows the speed, from white for no motion to the full colour at `bound` and
    beyond.
    """
    u, v = np.asarray(u, np.float32), np.asarray(v, np.float32)
    hue = np.degrees(np.arctan2(v, u)) % 360
    saturation = np.minimum(np.hypot(u, v) / bound, 1)
    hsv = np.stack([hue, saturation, np.ones_like(u)], axis=-1)
    rgb = cv2.cvtColor(hsv.reshape(-1, 1, 3), cv2.COLOR_HSV2RGB)
    return np.rint(rgb.reshape(hsv.shape) * 255).astype(np.uint8)


def wheel(size: int) -> np.ndarray:
    """Returns the colours of `to_colour` as a disc: (size, size, 3) uint8, black outside."""
    axis = np.linspace(-1, 1, size)
    u, v = np.meshgrid(axis, axis)
    return to_colour(u, v, 1.0) * (np.hypot(u, v) <= 1)[..., None].astype(np.uint8)


def visible_bound(flows: np.ndarray) -> float:
    """Returns a bound for `to_colour` that also shows slow flows: the 99% quantile, at least 1."""
    return max(1.0, float(np.percentile(np.hypot(flows[..., 0], flows[..., 1]), 99)))


def preview(frames: list[np.ndarray], flows: np.ndarray) -> bytes:
    """Returns a GIF of flows (T, H, W, 2), pixels per frame, beside their first frames (H, W, 3).

    The wheel in the corner explains the colours; its rim is the speed in the heading.
    """
    bound = visible_bound(flows)
    height, width = flows.shape[1:3]
    size = (round(width * _PREVIEW_HEIGHT / height), _PREVIEW_HEIGHT)

    def small(picture):
        return cv2.resize(picture, size, interpolation=cv2.INTER_AREA)

    colours = [small(to_colour(flow[..., 0], flow[..., 1], bound)) for flow in flows]
    legend = wheel(min(size) // 4)
    for picture in colours:
        corner = picture[: len(legend), : len(legend)]
        corner[legend.any(axis=-1)] = legend[legend.any(axis=-1)]
    panels = {
        "video": [small(frame) for frame in frames],
        f"flow, up to {bound:.1f} pixels per frame": colours,
    }
    captions = [f"{t + 1} of {len(flows)}" for t in range(len(flows))]
    return visualize.gif(panels, captions, past=len(flows), fps=10, colourful=True)


def write_previews(
    folder: str | Path,
    count: int,
    job: Flow,
    listing: Listing,
    data_set: str | Path,
    log: Callable[[str], None] = lambda line: None,
) -> list[Path]:
    """Writes the `preview` of the first `count` records of a data set made by `jobs.run`.

    Returns the paths FOLDER/NAME.gif that were written; `log` gets a line about each failure.
    """
    videos = {video.name: video for video in listing.videos}
    paths = []
    stored = records.sequences(data_set).take(count).as_numpy_iterator()
    for entry, codes in zip(records.load_index(data_set), stored, strict=False):
        path = Path(folder) / files.safe_path(entry.name, ".gif")
        try:
            flows = dequantise(codes[:_PREVIEW_FLOWS, ..., :2], job.bound)
            frames = job.frames(videos[entry.name], colour=True)
            steps = itertools.islice(frames, 0, len(flows) * job.stack_stride, job.stack_stride)
            path.parent.mkdir(parents=True, exist_ok=True)
            with files.atomic_write(path) as temporary:
                temporary.write_bytes(preview(list(steps), flows))
        except Exception as error:  # the data set is complete without it
            log(f"no preview of {entry.name}: {error}")
        else:
            paths.append(path)
    return paths
