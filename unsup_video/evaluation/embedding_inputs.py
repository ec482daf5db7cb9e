"""The sequences that `embeddings` reads one by one: of files, of a data set, or clips in memory."""

import abc
import dataclasses
import hashlib
import itertools
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from unsup_video.data import records, splits
from unsup_video.evaluation import own_clips
from unsup_video.pictures import visualize
from unsup_video.training.trained import TrainedModel
from unsup_video.video import inputs
from unsup_video.video.listing import Video, stamp


@dataclasses.dataclass(frozen=True)
class Entry:
    """A sequence without its frames.

    Attributes:
        name: of the sequence. label: the name of its class, "" without one.
        group: sequences of one group belong together, see `records.Record`; without one, the name.
        splits: see `records.Record`. fps: frames per second; None if unknown.
    """

    name: str
    label: str = ""
    group: str = ""
    splits: tuple[int, ...] = ()
    fps: float | None = None


class Sequences(abc.ABC):
    """Sequences of frames for one model.

    Attributes:
        entries: one per sequence. frame_shape: of all frames.
        identity: JSON values that differ for other sequences, or other frames of the same.
    """

    entries: Sequence[Entry]
    frame_shape: tuple[int, ...]
    identity: dict

    @abc.abstractmethod
    def read(self, numbers: Iterable[int]) -> Iterator[tuple[int, Iterator[np.ndarray]]]:
        """Yields (number, frames) of the sequences with these numbers, which ascend.

        The frames of a sequence, (*frame_shape) float32 each, have to be used before the next
        sequence is asked for. Reading them raises ValueError or OSError if the sequence is damaged.
        """


class Clips(Sequences):
    """Clips in memory, N arrays (T, *frame_shape) float32; their content is the identity."""

    def __init__(self, names: Sequence[str], clips: Sequence[np.ndarray]):
        self.entries = [Entry(name, group=name) for name in names]
        self.frame_shape = clips[0].shape[1:]
        self._clips = clips
        digest = hashlib.sha256()
        for clip in clips:
            digest.update(np.ascontiguousarray(clip))
        self.identity = {"clips": len(clips), "sha256": digest.hexdigest()}

    def read(self, numbers):
        yield from ((number, iter(self._clips[number])) for number in numbers)


class Records(Sequences):
    """The sequences of a data set of data_prep's.

    Args:
        folder: the data set. count: the largest number of sequences, the first ones; None for all.

    Raises:
        FileNotFoundError, ValueError: the data set is missing or damaged.
    """

    def __init__(self, folder: str | os.PathLike, count: int | None = None):
        self._folder = Path(folder)
        manifest = records.Manifest.load(folder)
        self.frame_shape = manifest.frame_shape
        fps = manifest.source.get("settings", {}).get("fps")
        self.entries = [
            Entry(
                entry.name,
                manifest.classes[entry.label] if entry.label >= 0 else "",
                splits.group_of(entry),
                entry.splits,
                fps,
            )
            for entry in records.load_index(folder)
        ] or [Entry(name, group=name) for name in map(_name, range(manifest.count))]
        self.entries = self.entries[:count]
        self.identity = {"records": manifest.fingerprint, "sequences": len(self.entries)}

    def read(self, numbers):
        numbers = list(numbers)
        for number, record in zip(numbers, records.read(self._folder, numbers), strict=True):
            yield number, _scaled(record)


def _name(number):
    """Returns the name of a sequence of a data set without names."""
    return f"sequence {number}"


def _scaled(record):
    scale = np.float32(record.scale)
    return (frame.astype(np.float32) * scale for frame in record.frames)


class Files(Sequences):
    """The sequences of a file or folder, as `inputs.listing` finds them, as frames of pictures.

    Args:
        path: the file or folder. frame_shape: of the frames to make, see `inputs.fitted`.
        fps: the rate to which videos and animations are resampled; None for `usual_fps`, or, if
            that is None, too, for their own. value_range: as of `inputs.read`.
        count: the largest number of sequences, the first ones; None for all.
        log: gets a line for every kind of change that makes frames fit.

    Raises:
        ValueError, OSError: see `inputs.listing`; or frames of `frame_shape` are no pictures.
    """

    def __init__(
        self,
        path: str | os.PathLike,
        frame_shape: tuple[int, ...],
        fps: float | None = None,
        usual_fps: float | None = None,
        value_range: tuple[float, float] | None = None,
        count: int | None = None,
        log: Callable[[str], None] = lambda line: None,
    ):
        if not visualize.drawable(frame_shape):
            raise ValueError(
                f"{path}: the model takes frames of shape {frame_shape}, which are no pictures"
            )
        listing = inputs.listing(path)
        self.frame_shape = frame_shape
        self._videos = listing.videos[:count]
        self._fps, self._usual_fps, self._range = fps, usual_fps, value_range
        self._log, self._logged = log, set()
        self.entries = [
            Entry(
                video.name,
                listing.classes[video.label] if video.label >= 0 else "",
                video.group or video.name,
                video.splits,
                self._rate(video),
            )
            for video in self._videos
        ]
        self.identity = {
            "files": f"{len(self._videos)}, sha256 {stamp(self._videos)[:16]}",
            "fps": fps or usual_fps,
            "range": value_range and list(value_range),
        }

    def _rate(self, video):
        """Returns the rate to which a sequence is resampled, None for its own frames."""
        return self._fps or (self._usual_fps if inputs.has_times(Path(video.path)) else None)

    def read(self, numbers):
        yield from ((number, self._frames(self._videos[number])) for number in numbers)

    def _frames(self, video: Video):
        rate = self._rate(video)
        frames = inputs.read(video, rate, self._range)
        first = next(frames)
        changed = []
        if rate and not self._fps:
            changed += [f"resampled to {rate:g} frames per second, as the training data"]
        changed += filter(None, [inputs.changes(first.shape, self.frame_shape)])
        if changed and tuple(changed) not in self._logged:
            self._logged.add(tuple(changed))
            self._log(f"{video.name}: {'; '.join(changed)} (and so are others like it)")
        for frame in inputs.fitted(itertools.chain([first], frames), self.frame_shape):
            yield frame / np.float32(255) if frame.dtype == np.uint8 else frame


def of_array(path: str | os.PathLike, dim: int, count: int | None = None) -> Clips:
    """Returns the sequences of a .npy or .npz file of vectors, (T, D) or (N, T, D).

    Raises:
        ValueError, OSError: as `inputs.clips`.
    """
    clips = inputs.clips(path, (dim,), max_clips=count)
    return Clips([clip.name for clip in clips], [clip.frames for clip in clips])


def generated(trained: TrainedModel, count: int) -> tuple[Clips, list[str]]:
    """Returns (`count` clips of Moving MNIST like the training data, notes for the reader).

    Raises:
        ValueError: as `own_clips.generated`.
    """
    clips, notes = own_clips.generated(trained, count, steps=0)
    return Clips([f"clip {number}" for number in range(1, count + 1)], clips), notes
