"""Flow percepts: what the temporal-stream CNN makes of every stack of flow, the values of its fc6.

A record is (T, D) for a video of T flows and a CNN of single flows, (T - L + 1, D) for stacks of L.
Percept t is of the L flows that begin at frame t of the video, so that it goes with the percept of
frame t that `percepts` makes of the pictures, which has L frames more at its end.
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

_MAX_BYTES = 1 << 30  # of a video's percepts: a record holds at most 2 GiB


@dataclasses.dataclass(frozen=True)
class FlowPercepts:
    """The job: (N, D) of every video of a data set of flow. `job` makes it.

    Attributes:
        cnn: folder of the run of `train.flow_cnn`. sha256: of its weights.
        flow: folder of the data set. fingerprint: its manifest's.
        dtype: how percepts are stored, of `storage.STORAGES`.
        batch_size: stacks that the CNN sees at once.
    """

    cnn: str
    sha256: str
    flow: str
    fingerprint: str
    dtype: str = "float16"
    batch_size: int = 32

    kind = "percepts"
    scale = 1.0  # with uint8 every record has its own

    @property
    def settings(self) -> dict:
        """All that the records depend on besides the video."""
        names = {"cnn": Path(self.cnn).name, "flow": Path(self.flow).name}
        return (
            dataclasses.asdict(self)
            | names
            | {"layer": flow_cnn.PERCEPT, "keras": keras.__version__}
        )

    def records(self, video: Video) -> Iterator[records.Record]:
        """The record of a video of `listing`.

        Raises VideoError: its flow cannot be read, is too short for a stack, or too long; or
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
        """(N, D) float32 of the flow of a video: codes (T, H, W, C) int8 that stand for x * scale.

        Raises VideoError, with `name` and `path`: fewer flows than a stack has; too many.
        """
        function, window = _loaded(self)
        count = len(codes) - window + 1
        if count < 1:
            raise VideoError(path, f"{name}: {len(codes)} flows, the CNN reads stacks of {window}")
        found, size = [], 0
        for first in range(0, count, self.batch_size):
            batch = np.zeros((self.batch_size + window - 1, *codes.shape[1:]), np.int8)
            part = codes[first : first + len(batch)]
            batch[: len(part)] = part
            found.append(function(batch, scale).numpy()[: count - first])
            size += found[-1].nbytes
            if size > _MAX_BYTES:
                raise VideoError(
                    path,
                    f"{name}: its percepts take more than {_MAX_BYTES >> 20} MiB: cut it "
                    "into shorter files",
                )
        return np.concatenate(found)


def job(
    cnn: str | Path, flow: str | Path, dtype: str = "float16", batch_size: int = 32
) -> FlowPercepts:
    """A job whose CNN was loaded once: what is wrong with it is found before the first video.

    Raises:
        FileNotFoundError, ValueError: no run of `train.flow_cnn`, no data set of flow, or one that
            this CNN does not read; a bad argument.
    """
    if dtype not in storage.STORAGES:
        raise ValueError(f"unknown storage {dtype!r}: {' or '.join(storage.STORAGES)}")
    if batch_size < 1:
        raise ValueError(f"batch_size must be at least 1, got {batch_size}")
    cnn, flow = Path(cnn).absolute(), Path(flow).absolute()  # workers may be in another folder
    records.examples(flow)  # a shard that is missing or cut short is an error now
    trained = _trained(str(cnn))
    found = FlowPercepts(
        str(cnn),
        trained.sha256,
        str(flow),
        records.Manifest.load(flow).fingerprint,
        dtype,
        batch_size,
    )
    _loaded(found)
    return found


def listing(flow: str | Path) -> Listing:
    """The videos of a data set of flow, with their labels, which may be missing, groups and splits.

    The path of a `Video` is the file that its record is in.

    Raises:
        FileNotFoundError, ValueError: no data set, or one whose sequences have no names.
    """
    flow = Path(flow)
    manifest, entries = records.Manifest.load(flow), records.load_index(flow)
    if not entries:
        raise ValueError(f"{flow}: its sequences have no names; write it anew with data_prep.flow")
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
    """A function of (batch_size + window - 1, H, W, C) int8 and a scale, and the window.

    It gives the percepts (batch_size, D) float32 of the windows from each of the first batch_size
    flows on.
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

_open = threading.local()  # the shard that a worker reads, and how far it is


def _stored(job, video):
    """(T, H, W, C) int8 and the scale of the record of a video."""
    shard, offset = _places(job.flow)[video.name]
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
    """A record of a shard; those after each other are read once."""
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
def _places(flow):
    """{name of a video: (name of its shard, number of its record there)}"""
    shards = _manifest(flow).shards
    places = [(shard.name, i) for shard in shards for i in range(shard.count)]
    return {e.name: place for e, place in zip(records.load_index(flow), places, strict=True)}
