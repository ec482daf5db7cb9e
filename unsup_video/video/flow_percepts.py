"""Flow percepts: the outputs of the temporal-stream CNN's fc6 for every stack of flow.

A record is (T, D) for a video of T flows and a CNN of single flows, (T - L + 1, D) for stacks of L.
Percept t is of the L flows that begin at frame t of the video. It belongs to the percept of frame t
that `percepts` makes from the pictures, which have L more frames at the end.
"""

import dataclasses
import functools
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import keras
import numpy as np
import tensorflow as tf

from unsup_video.data import flow_stacks, records, storage
from unsup_video.models import flow_cnn
from unsup_video.training.tasks import flow_classification
from unsup_video.video import jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Listing, Video

_MAX_BYTES = 1 << 30  # per video: a record may have 2 GiB


@dataclasses.dataclass(frozen=True)
class FlowPercepts:
    """A job that computes (N, D) for every video of a data set of flow. Use `job` to make it.

    Attributes:
        cnn: folder of the run of `train.flow_cnn`. sha256: of its weights.
        flow: folder of the data set. fingerprint: of its manifest.
        dtype: one of `storage.STORAGES`.
        batch_size: stacks per call of the CNN.
    """

    cnn: str
    sha256: str
    flow: str
    fingerprint: str
    dtype: str = "float16"
    batch_size: int = 32

    kind = "percepts"
    scale = 1.0  # with uint8, every record has its own

    @property
    def settings(self) -> dict:
        """Everything that the records depend on besides the video."""
        names = {"cnn": Path(self.cnn).name, "flow": Path(self.flow).name}
        return (
            dataclasses.asdict(self)
            | names
            | {"layer": flow_cnn.PERCEPT, "keras": keras.__version__}
        )

    def records(self, video: Video) -> Iterator[records.Record]:
        """Yields the record of a video of `listing`.

        Raises VideoError: its flow cannot be read, is too short for a stack, or is too long; or
        `storage.pack` refuses its percepts.
        """
        values = self.percepts(*_stored(self, video), name=video.name, path=video.path)
        try:
            stored, scale = storage.pack(values, self.dtype)
        except ValueError as error:
            raise VideoError(video.path, f"{video.name}: of its percepts {error}") from None
        yield jobs.record(video, stored, scale)

    def percepts(
        self, codes: np.ndarray, scale: float, name: str = "flow", path: str = ""
    ) -> np.ndarray:
        """Computes (N, D) float32 from the flow of a video, codes (T, H, W, C) int8 times scale.

        Raises VideoError, with `name` and `path`: there are fewer flows than in a stack, or too
        many.
        """
        function, window = _loaded(self)
        count = len(codes) - window + 1
        if count < 1:
            raise VideoError(path, f"{name}: {len(codes)} flows, the CNN reads stacks of {window}")
        values, size = [], 0
        for first in range(0, count, self.batch_size):
            batch = np.zeros((self.batch_size + window - 1, *codes.shape[1:]), np.int8)
            part = codes[first : first + len(batch)]
            batch[: len(part)] = part
            values.append(function(batch, scale).numpy()[: count - first])
            size += values[-1].nbytes
            if size > _MAX_BYTES:
                raise VideoError(
                    path,
                    f"{name}: its percepts take more than {_MAX_BYTES >> 20} MiB: cut it "
                    "into shorter files",
                )
        return np.concatenate(values)


def job(
    cnn: str | Path, flow: str | Path, dtype: str = "float16", batch_size: int = 32
) -> FlowPercepts:
    """Makes a job and loads its CNN once, so that errors surface before the first video.

    Raises:
        FileNotFoundError, ValueError: the run of `train.flow_cnn` or the data set of flow is
            missing, or they do not fit together; a bad argument.
    """
    if dtype not in storage.STORAGES:
        raise ValueError(f"unknown storage {dtype!r}: {' or '.join(storage.STORAGES)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    cnn, flow = Path(cnn).absolute(), Path(flow).absolute()  # workers may be in another folder
    records.examples(flow)  # raises an error now if a shard is missing or truncated
    trained = _trained(str(cnn))
    percepts = FlowPercepts(
        str(cnn),
        trained.sha256,
        str(flow),
        records.Manifest.load(flow).fingerprint,
        dtype,
        batch_size,
    )
    _loaded(percepts)
    return percepts


def listing(flow: str | Path) -> Listing:
    """Lists the videos of a data set of flow, with their labels, if any, groups and splits.

    The path of a `Video` is the shard that contains its record.

    Raises:
        FileNotFoundError, ValueError: the data set is missing, or its sequences have no names.
    """
    flow = Path(flow)
    manifest, entries = records.Manifest.load(flow), records.load_index(flow)
    if not entries:
        raise ValueError(f"{flow}: its sequences have no names; write it again with data_prep.flow")
    paths = [str(flow / shard.name) for shard in manifest.shards for _ in range(shard.count)]
    videos = tuple(
        Video(path, entry.name, entry.label, entry.group, entry.splits)
        for path, entry in zip(paths, entries, strict=True)
    )
    return Listing("flow", videos, manifest.classes, (), {"flow": manifest.source})


@functools.lru_cache(1)
def _trained(cnn):
    return flow_classification.load(cnn)


@functools.lru_cache(1)
def _loaded(job: FlowPercepts) -> tuple[Callable, int]:
    """Returns the CNN as a function, and the number of flows per stack (the window).

    The function takes (batch_size + window - 1, H, W, C) int8 and a scale, and returns percepts,
    (batch_size, D) float32, of the windows that begin at each of the first batch_size flows.
    """
    trained = _trained(job.cnn)
    if trained.sha256 != job.sha256:
        raise RuntimeError(f"{job.cnn} has other weights than when the job began")
    window = trained.form.window(job.flow)
    network = flow_cnn.percepts(trained.network)
    shape = (job.batch_size + window - 1, *records.Manifest.load(job.flow).frame_shape)

    @tf.function(input_signature=[tf.TensorSpec(shape, tf.int8), tf.TensorSpec([], tf.float32)])
    def function(codes, scale):
        flows = flow_stacks.cropped(tf.cast(codes, tf.float32) * scale, trained.form)
        windows = tf.stack([flows[i : i + job.batch_size] for i in range(window)], axis=1)
        return network(flow_stacks.stacked(windows), training=False)

    return function, window


# ---------------------------------------------------------------------- reading

_open = threading.local()  # the shard that a worker reads, and its position in it


def _stored(job, video):
    """Reads the record of a video: (T, H, W, C) int8 and its scale."""
    shard, offset = _positions(job.flow)[video.name]
    manifest = _manifest(job.flow)
    try:
        example = _example(str(Path(job.flow) / shard), manifest.compression, offset)
    except (tf.errors.OpError, StopIteration) as error:
        raise VideoError(
            video.path,
            f"{video.name}: the file is damaged ({error}); python -m data_prep.verify "
            f"{job.flow} says more",
        ) from None
    feature = tf.train.Example.FromString(example).features.feature
    shape = tuple(feature["shape"].int64_list.value)
    codes = np.frombuffer(feature["frames"].bytes_list.value[0], np.int8).reshape(shape)
    scale = feature["scale"].float_list.value
    return codes, scale[0] if scale else manifest.scale


def _example(path, compression, offset):
    """Reads a record of a shard; consecutive records take one pass."""
    held = getattr(_open, "held", None)
    if held is None or held[0] != path or held[1] > offset:
        data = tf.data.TFRecordDataset(path, compression).prefetch(1)
        held = _open.held = [path, 0, data.as_numpy_iterator()]
    while held[1] < offset:
        next(held[2])
        held[1] += 1
    example = next(held[2])
    held[1] += 1
    return example


@functools.lru_cache(1)
def _manifest(flow):
    return records.Manifest.load(flow)


@functools.lru_cache(1)
def _positions(flow):
    """Returns {name of a video: (name of its shard, number of its record there)}."""
    shards = _manifest(flow).shards
    positions = [(shard.name, i) for shard in shards for i in range(shard.count)]
    return {
        e.name: position for e, position in zip(records.load_index(flow), positions, strict=True)
    }
