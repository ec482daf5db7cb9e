"""Provides the clips that models are evaluated on."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, overlap, records, sources, splits, windows
from unsup_video.training.trained import TrainedModel
from unsup_video.utils.indices import evenly_spread

_SEED = 0  # of generated clips


@dataclasses.dataclass(frozen=True)
class Motion:
    """Generates Moving MNIST whose motion is known.

    Attributes:
        images: the digits. params: of the generator. stream: its seed.
    """

    images: np.ndarray
    params: moving_mnist.MovingMnist
    stream: int

    def clips(self, start: int, count: int) -> np.ndarray:
        """Returns `count` clips from number `start` on, (count, T, D) float32."""
        return sources.collect(
            moving_mnist.batches(
                self.images, self.params, self.stream, 100, start=start, count=count
            )
        )

    def straight_on(self, indices: np.ndarray, frames_in: int) -> np.ndarray:
        """Returns `moving_mnist.constant_velocity` as (N, T - frames_in, D) float32."""
        frames = moving_mnist.constant_velocity(
            self.images, self.params, self.stream, indices, frames_in
        )
        return sources.to_frames(frames).numpy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestSet:
    """Test clips in a fixed order.

    Attributes:
        count: number of clips. num_frames: frames of each clip.
        frame_shape: (H, W), (H, W, C) or (D,), D its product.
        description: of the clips, as JSON values; equal for equal clips.
        contents: of the sequences that the clips are cut from.
        groups: (count,) int64, the group of each clip: clips of one group of videos, or of one
            sequence, are not independent; None where every clip is.
        motion: the generator of the clips; None if unknown.
        seen: `overlap.seen` for the run to test; None where it was not checked.
    """

    __test__ = False  # tells pytest that this class is not a test

    count: int
    num_frames: int
    frame_shape: tuple[int, ...]
    description: dict
    contents: overlap.Contents
    groups: np.ndarray | None = None
    motion: Motion | None = None
    seen: dict[str, int | str] | None = None

    def clips(self, start: int, count: int) -> np.ndarray:
        """Returns `count` clips from number `start` on, (count, num_frames, D) float32."""
        return self.motion.clips(start, count)

    def constant_velocity(self, start: int, count: int, frames_in: int) -> np.ndarray | None:
        """Predicts the clips by `moving_mnist.constant_velocity`.

        Returns:
            (count, num_frames - frames_in, D) float32; None if the motion is unknown.
        """
        if self.motion is None:
            return None
        return self.motion.straight_on(self._generated(start, count), frames_in)

    def _generated(self, start, count):
        """Returns the numbers of clips in `motion`."""
        return np.arange(start, start + count)

    @property
    def label(self) -> str:
        """The text for the column `data`: marked if training has seen any of the clips."""
        return "test (seen)" if overlap.is_no_test(self.seen, self.contents.count) else "test"

    def notes(self) -> list[str]:
        """Returns sentences that a reader of the figures has to know."""
        return overlap.notes(self.seen, self.contents.count, "sequences")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Windows(TestSet):
    """Windows of a data set on disk: its folder, and the `starts` (count, 2), `windows.starts`."""

    folder: Path
    starts: np.ndarray

    def clips(self, start, count):
        return sources.read(self.folder, self.num_frames, self.starts[start : start + count])

    def _generated(self, start, count):
        return self.starts[start : start + count, 0]


def generated(
    config: ConfigDict,
    count: int,
    num_digits: int | None = None,
    num_frames: int | None = None,
    trained: TrainedModel | None = None,
) -> TestSet:
    """Generates Moving MNIST from test digits, like the frames that the run was trained on.

    The clips are the same for all seeds of a run, so that such runs can be compared.

    Args:
        count: number of clips. num_digits, num_frames: None for those of the training.
        trained: the run to test, for which `seen` is determined.

    Raises:
        ValueError, FileNotFoundError: a number is bad, digits are missing or damaged, or as in
            `generator`.
    """
    if count < 1:
        raise ValueError(f"the number of test clips must be at least 1, got {count}")
    params = generator(config)
    params = dataclasses.replace(
        params,
        num_digits=params.num_digits if num_digits is None else num_digits,
        num_frames=params.num_frames if num_frames is None else num_frames,
    )
    chosen = _digits(config, "test")
    description = {
        "kind": "moving_mnist",
        "generator": dataclasses.asdict(params),
        "seed": _SEED,
        "split": "test",
        "digits": {"source": chosen.source, "sha256": chosen.sha256},
    }
    source = overlap.Digits("test", chosen.source, chosen.sha256)
    test_set = _moving_mnist(chosen.images, params, _SEED, source, count, description)
    return test_set if trained is None else _with_seen(test_set, trained)


def generator(config: ConfigDict) -> moving_mnist.MovingMnist:
    """Returns a generator of clips like the run's training data, as long as the run needs them.

    Raises:
        ValueError: the training data were not generated, or they were made of other digits than our
            training digits, and our test digits may be among them. FileNotFoundError: the training
            data are missing.
    """
    data = config.data
    if not data.records:
        return sources.generator(config)
    manifest = records.Manifest.load(sources.split(config, "train").folder)
    if "generator" not in manifest.source:
        raise ValueError(f"{data.records} holds {manifest.kind}, not generated Moving MNIST")
    if _digits(config, "train").sha256 != manifest.source["digits"]["sha256"]:
        raise ValueError(
            f"{data.records} was not made of the training digits that we have, but of "
            f"{manifest.source['digits']['source']}: it may hold our test digits"
        )
    params = _generator(manifest.source)
    return dataclasses.replace(params, num_frames=data.frames_in + data.frames_out)


def _digits(config, split):
    try:
        return digits.load_digits(split, config.data.digits_dir or None, config.data.digits_source)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"{error}; --digits_dir=FOLDER says where they are") from None


def _generator(source):
    stored = source["generator"]
    return moving_mnist.MovingMnist(**{**stored, "speed": tuple(stored["speed"])})


def _moving_mnist(images, params, seed, source, count, description):
    return TestSet(
        count=count,
        num_frames=params.num_frames,
        frame_shape=(params.frame_size, params.frame_size),
        description=description,
        contents=overlap.generated_contents(count, source),
        motion=Motion(images, params, moving_mnist.stream_seed(seed, source.split)),
    )


def from_records(
    part: sources.Split,
    length: int,
    count: int | None = None,
    config: ConfigDict | None = None,
    longest: int | None = None,
) -> TestSet:
    """Cuts clips from a data set of data_prep's: adjacent windows, or `count` spread over them.

    Args:
        part: the split to take. length: minimum number of frames of a clip; shorter sequences are
            skipped.
        config: says where the digits are, which the constant-velocity predictions of a generated
            data set need.
        longest: preferred number of frames of a clip; if a sequence that is not skipped is shorter,
            all clips are as long as the shortest of these. None for `length`.

    Raises:
        ValueError, FileNotFoundError: the data set is missing or damaged, or has fewer clips.
    """
    folder, chosen = part.folder, part.chosen
    if folder.is_file():
        raise ValueError(
            f"{folder} is a file; first import it: python -m data_prep.moving_mnist "
            f"--import_npy={folder} --out=FOLDER"
        )
    manifest = records.Manifest.load(folder)
    description = {"kind": manifest.kind, "source": manifest.source, "sha256": manifest.fingerprint}
    if chosen is not None:
        mask = hashlib.sha256(np.packbits(chosen).tobytes()).hexdigest()
        description |= {"sequences": int(chosen.sum()), "chosen": mask}
    if longest is not None:
        sequences = np.unique(windows.starts(folder, length, chosen=chosen)[:, 0])
        length = min(longest, int(records.lengths(folder)[sequences].min()))
    starts = windows.starts(folder, length, chosen=chosen)
    count = len(starts) if count is None else count
    if not 1 <= count <= len(starts):
        raise ValueError(f"{folder}: the number of clips must be 1 to {len(starts)}, got {count}")
    starts = starts[evenly_spread(count, len(starts))]
    return _Windows(
        count=count,
        num_frames=length,
        frame_shape=manifest.frame_shape,
        description={**description, "frames": length, "frame_shape": list(manifest.frame_shape)},
        contents=overlap.split_contents(part),
        groups=splits.numbered_groups(records.load_index(folder), starts[:, 0]),
        motion=_motion(manifest, starts, config),
        folder=folder,
        starts=starts,
    )


def _motion(manifest, starts, config):
    """Returns the generator of a data set of data_prep's; None if it used digits we lack."""
    source = manifest.source
    if config is None or "generator" not in source or starts[:, 1].any():
        return None
    try:
        chosen = _digits(config, source["split"])
    except FileNotFoundError:
        return None
    if chosen.sha256 != source["digits"]["sha256"]:
        return None
    stream = moving_mnist.stream_seed(source["seed"], source["split"])
    return Motion(chosen.images, _generator(source), stream)


def of_model(
    trained: TrainedModel, folder: str | None, count: int | None, longest: int | None = None
) -> TestSet:
    """Returns the test set of a command, with `seen`: `folder`, or None for that of the config.

    `count` None stands for all clips of a data set on disk, and for 10,000 generated clips;
    `longest` is that of `from_records`.

    Raises:
        ValueError: `folder` holds nothing but training data of the run, or all of them; other
            errors as in `from_records`.
    """
    config = trained.config
    if not folder and not config.data.records:
        return generated(config, 10_000 if count is None else count, trained=trained)
    part = sources.Split(Path(folder)) if folder else sources.split(config, "test")
    length = config.data.frames_in + config.data.frames_out
    test_set = _with_seen(from_records(part, length, count, config, longest), trained)
    if folder and (
        name := overlap.is_training_data(
            overlap.run_contents(trained.origin, config), test_set.contents
        )
    ):
        raise ValueError(
            f"{folder} holds data that this run was trained on: sequences of its {name} split, or "
            "clips of the same digits; leave out --records to use the run's test data"
        )
    return test_set


def _with_seen(test_set, trained):
    """Adds to a test set how many of its sequences the run has seen."""
    run = overlap.run_contents(trained.origin, trained.config)
    return dataclasses.replace(test_set, seen=overlap.seen(run, test_set.contents))


def check_fits(test_set: TestSet, frame_shape: tuple[int, ...], frames: int, name: str) -> None:
    """Raises ValueError if a model of that frame shape cannot read `frames` of these clips."""
    if tuple(test_set.frame_shape) != tuple(frame_shape):
        raise ValueError(
            f"{name} reads frames of {tuple(frame_shape)}, the test set has frames of "
            f"{tuple(test_set.frame_shape)}"
        )
    if test_set.num_frames < frames:
        raise ValueError(
            f"{name} needs clips of {frames} frames, the test set has {test_set.num_frames}"
        )
