"""Flow percepts: a vector for every flow of a video, or for every stack of consecutive flows.

There are three kinds of jobs, all of which read a data set that `data_prep.flow` wrote:

- `TrainedPercepts`: fc6 of a temporal-stream CNN, which `train.flow_cnn` trained on labelled flow.
- `ImagePercepts`: a layer of a CNN that was trained on images, which reads u, v and the speed of
  flow as the three channels of an image. Temporal streams are initialised in this way (Wang et al.
  2016); here the CNN is used as it is.
- `HofPercepts`: the descriptor of `hof`, without a CNN.

A record is (T, D) for a video of T flows and percepts of single flows, (T - L + 1, D) for stacks of
L. Percept t is of the L flows that begin at frame t of the video. It belongs to the percept of
frame t that `percepts` makes from the pictures, which have L more frames at the end.
"""

import abc
import dataclasses
import functools
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from unsup_video.data import flow_stacks, records, storage
from unsup_video.models import flow_cnn
from unsup_video.training.tasks import flow_classification
from unsup_video.video import hof, jobs, percepts, stored_flow
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video

_MAX_BYTES = 1 << 30  # per video: a record may have 2 GiB


@dataclasses.dataclass(frozen=True)
class FlowPercepts(abc.ABC):
    """A job that computes (N, D) for every video of a data set of flow.

    Attributes:
        flow: folder of the data set. fingerprint: of its manifest.
        dtype: one of `storage.STORAGES`.
    """

    flow: str
    fingerprint: str
    dtype: str

    kind = "percepts"
    scale = 1.0  # with uint8, every record has its own

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        return dataclasses.asdict(self) | {"flow": Path(self.flow).name}

    @property
    @abc.abstractmethod
    def title(self) -> str:
        """A few words about the origin of the percepts, for people."""

    @abc.abstractmethod
    def percepts(self, codes: np.ndarray, scale: float, video: Video) -> np.ndarray:
        """Computes (N, D) float32 from the flow of a video, codes (T, H, W, C) int8 times scale.

        Raises VideoError: there are fewer flows than in a stack, or too many.
        """

    def records(self, video: Video) -> Iterator[records.Record]:
        """Yields the record of a video of `stored_flow.listing`.

        Raises:
            VideoError: its flow cannot be read, is too short for a stack, or is too long; or
                `storage.pack` refuses its percepts.
            JobError: the flow is missing, or another data set than when the job was made.
        """
        values = self.percepts(*stored_flow.read(self.flow, self.fingerprint, video), video)
        try:
            stored, scale = storage.pack(values, self.dtype)
        except ValueError as error:
            raise VideoError(video.path, f"{video.name}: of its percepts {error}") from None
        yield jobs.record(video, stored, scale)


def _data_set(flow, dtype):
    """Returns the fields of `FlowPercepts`; raises the errors that all jobs have in common."""
    if dtype not in storage.STORAGES:
        raise ValueError(f"unknown storage {dtype!r}: {' or '.join(storage.STORAGES)}")
    flow = Path(flow).absolute()  # workers may be in another folder
    records.examples(flow)  # raises an error now if a shard is missing or truncated
    return str(flow), flow_stacks.flow_manifest(flow).fingerprint, dtype


def _checked_count(flows, window, video):
    """Returns the number of windows in the flows of a video; raises VideoError if there is none."""
    if flows < window:
        raise VideoError(
            video.path, f"{video.name}: {flows} flows, percepts are of stacks of {window}"
        )
    return flows - window + 1


def _too_long(video):
    return VideoError(
        video.path,
        f"{video.name}: its percepts take more than {_MAX_BYTES >> 20} MiB: cut it into shorter "
        "files",
    )


# ---------------------------------------------------------------------- a CNN trained on flow


@dataclasses.dataclass(frozen=True)
class TrainedPercepts(FlowPercepts):
    """Percepts of a CNN that was trained on flow. Use `trained` to make the job.

    Attributes:
        cnn: folder of the run of `train.flow_cnn`. sha256: of its weights.
        batch_size: stacks per call of the CNN.
    """

    cnn: str
    sha256: str
    batch_size: int

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        names = {"cnn": Path(self.cnn).name, "layer": flow_cnn.PERCEPT}
        return super().settings | names | {"keras": keras.__version__}

    @property
    def title(self) -> str:
        """A few words about the origin of the percepts, for people."""
        return f"the CNN of {self.cnn}, layer {flow_cnn.PERCEPT}"

    def percepts(self, codes: np.ndarray, scale: float, video: Video) -> np.ndarray:
        """Computes (N, D) float32 from the flow of a video; see `FlowPercepts.percepts`."""
        with jobs.loading("the CNN"):
            function, window = _loaded(self)
        count = _checked_count(len(codes), window, video)
        values, size = [], 0
        for first in range(0, count, self.batch_size):
            batch = np.zeros((self.batch_size + window - 1, *codes.shape[1:]), np.int8)
            part = codes[first : first + len(batch)]
            batch[: len(part)] = part
            values.append(function(batch, scale).numpy()[: count - first])
            size += values[-1].nbytes
            if size > _MAX_BYTES:
                raise _too_long(video)
        return np.concatenate(values)


def trained(
    run: str | Path, flow: str | Path, dtype: str = "float16", batch_size: int = 32
) -> TrainedPercepts:
    """Makes a job and loads its CNN once, so that errors surface before the first video.

    Args:
        run: folder of a run of `train.flow_cnn`. flow: folder of a data set of `data_prep.flow`.

    Raises:
        FileNotFoundError, ValueError: the run or the data set of flow is missing, or they do not
            fit together; a bad argument.
    """
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    run = str(Path(run).absolute())
    job = TrainedPercepts(*_data_set(flow, dtype), run, _trained(run).sha256, batch_size)
    _loaded(job)
    return job


@functools.lru_cache(1)
def _trained(run):
    return flow_classification.load(run)


@functools.lru_cache(1)
def _loaded(job: TrainedPercepts) -> tuple[Callable, int]:
    """Returns the CNN as a function, and the number of flows per stack (the window).

    The function takes (batch_size + window - 1, H, W, C) int8 and a scale, and returns percepts,
    (batch_size, D) float32, of the windows that begin at each of the first batch_size flows.
    """
    run = _trained(job.cnn)
    if run.sha256 != job.sha256:
        raise ValueError(f"{job.cnn} has other weights than when the job began")
    window = run.form.window(job.flow)
    network = flow_cnn.percepts(run.network)
    shape = (job.batch_size + window - 1, *records.Manifest.load(job.flow).frame_shape)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.int8), tf.TensorSpec([], tf.float32)])
    def function(codes, scale):
        flows = flow_stacks.cropped(tf.cast(codes, tf.float32) * scale, run.form)
        windows = tf.stack([flows[i : i + job.batch_size] for i in range(window)], axis=1)
        return network(flow_stacks.stacked(windows), training=False)

    return function, window


# ---------------------------------------------------------------------- a CNN trained on images


@dataclasses.dataclass(frozen=True)
class ImagePercepts(FlowPercepts):
    """Percepts of a CNN that was trained on images. Use `of_images` to make the job.

    Attributes:
        cnn: makes percepts of images.
        stack: number of consecutive flows whose images are averaged; 1 for records of stacks, each
            of which gives one image.
        bound, subtract_median: see `image`.
    """

    cnn: percepts.Percepts
    stack: int
    bound: float
    subtract_median: bool

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        return super().settings | {"cnn": self.cnn.settings}

    @property
    def title(self) -> str:
        """A few words about the origin of the percepts, for people."""
        return self.cnn.title

    def percepts(self, codes: np.ndarray, scale: float, video: Video) -> np.ndarray:
        """Computes (N, D) float32 from the flow of a video; see `FlowPercepts.percepts`."""
        count = _checked_count(len(codes), self.stack, video)
        images = (self.image(codes[t : t + self.stack], scale) for t in range(count))
        return self.cnn.of_frames(images, video)

    def image(self, codes: np.ndarray, scale: float) -> np.ndarray:
        """Draws flow as an image: (n, H, W, C) int8 codes times scale -> (H, W, 3) uint8.

        The channels are u, v and the speed |(u, v)| in pixels per frame, each the mean of all flows
        in `codes`. With `subtract_median`, u and v are relative to their medians over the frame,
        most of which camera motion causes. A channel x becomes

            rint(128 + 127 clip(x / bound, -1, 1)),

        so that no motion is mid-grey, the centre of a CNN's input.
        """
        flows = codes.reshape(*codes.shape[:3], -1, 2).astype(np.float32) * np.float32(scale)
        if self.subtract_median:
            flows -= np.median(flows, axis=(1, 2), keepdims=True)
        speed = np.hypot(flows[..., 0], flows[..., 1])[..., None]
        channels = np.concatenate([flows, speed], axis=-1).mean(axis=(0, 3))
        return np.rint(128 + 127 * np.clip(channels / self.bound, -1, 1)).astype(np.uint8)


def of_images(
    cnn: percepts.Percepts,
    flow: str | Path,
    stack: int = 1,
    bound: float = 5.0,
    subtract_median: bool = True,
) -> ImagePercepts:
    """Makes a job; errors surface before the first video.

    Args:
        cnn: the result of `percepts.job`, whose storage the percepts have.
        flow: folder of a data set of `data_prep.flow`, of single flows or stacks.
        stack: number of flows to average, at least 1. bound: in pixels per frame, above 0.

    Raises:
        FileNotFoundError, ValueError: the data set of flow is missing; a bad argument.
    """
    fields = _data_set(flow, cnn.dtype)
    channels = records.Manifest.load(flow).frame_shape[2]
    if stack < 1 or (stack > 1 and channels > 2):
        raise ValueError(
            f"stack must be at least 1, and 1 for records of stacks, got {stack}; {flow} has "
            f"{channels // 2} flows per record"
        )
    if not 0 < bound < np.inf:
        raise ValueError(f"bound must be above 0, got {bound}")
    return ImagePercepts(*fields, cnn, stack, bound, subtract_median)


# ---------------------------------------------------------------------- no CNN


@dataclasses.dataclass(frozen=True)
class HofPercepts(FlowPercepts):
    """Descriptors of flow. Use `described` to make the job.

    Attributes:
        descriptor: makes them.
    """

    descriptor: hof.Hof

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        return super().settings | {"descriptor": self.descriptor.settings}

    @property
    def title(self) -> str:
        """A few words about the origin of the percepts, for people."""
        rows, columns = self.descriptor.grid
        return f"hof, {self.descriptor.dim} values: {rows}x{columns} cells and the whole frame"

    def percepts(self, codes: np.ndarray, scale: float, video: Video) -> np.ndarray:
        """Computes (T, D) float32 from the flow of a video; see `FlowPercepts.percepts`."""
        if 4 * len(codes) * self.descriptor.dim > _MAX_BYTES:
            raise _too_long(video)
        return self.descriptor(codes, scale)


def described(descriptor: hof.Hof, flow: str | Path, dtype: str = "float16") -> HofPercepts:
    """Makes a job; errors surface before the first video.

    Args:
        flow: folder of a data set of `data_prep.flow`, of single flows.

    Raises:
        FileNotFoundError, ValueError: the data set of flow is missing, or is of stacks, or too
            small for the grid; a bad argument.
    """
    fields = _data_set(flow, dtype)
    if dtype != "float16":
        raise ValueError(f"descriptors have negative values, which {dtype} cannot store: float16")
    height, width, channels = records.Manifest.load(flow).frame_shape
    if channels != 2:
        raise ValueError(
            f"{flow} holds stacks of {channels // 2} flows, the descriptor is of single flows: "
            "write them with data_prep.flow without --stack"
        )
    descriptor.check_size(height, width)
    return HofPercepts(*fields, descriptor)
