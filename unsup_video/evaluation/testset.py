"""The clips that models are evaluated on."""

import dataclasses
import hashlib
from pathlib import Path

import numpy as np
from ml_collections import ConfigDict

from unsup_video.data import digits, moving_mnist, overlap, records, sources, splits, windows
from unsup_video.training.trained import Trained
from unsup_video.utils.indices import evenly_spread

_SEED = 0  # of generated clips


@dataclasses.dataclass(frozen=True)
class Motion:
    """Generated Moving MNIST, which knows how its digits move.

    Attributes:
        images: the digits. params: of the generator. stream: its seed.
    """

    images: np.ndarray
    params: moving_mnist.MovingMnist
    stream: int

    def clips(self, start: int, count: int) -> np.ndarray:
        """The clips from `start` on, (count, T, D) float32."""
        return sources.collect(
            moving_mnist.batches(
                self.images, self.params, self.stream, 100, start=start, count=count
            )
        )

    def straight_on(self, indices: np.ndarray, frames_in: int) -> np.ndarray:
        """The frames of `moving_mnist.constant_velocity`, (N, T - frames_in, D) float32."""
        frames = moving_mnist.constant_velocity(
            self.images, self.params, self.stream, indices, frames_in
        )
        return sources.to_frames(frames).numpy()


@dataclasses.dataclass(frozen=True, kw_only=True)
class TestSet:
    """Clips in an order that never changes.

    Attributes:
        count: how many. num_frames: of each. frame_shape: (H, W), (H, W, C) or (D,), D its product.
        description: what they are, JSON values; equal for equal clips.
        contents: what the sequences are that they are from.
        groups: (count,) int64, the group that each clip is of: clips of one group of videos, or of
            one sequence, are not independent; None where every clip is.
        motion: what generated the clips; None where that is not known.
        seen: of `overlap.seen`, for the run that it is to test; None where nobody looked.
    """

    __test__ = False  # not a test, whatever pytest makes of the name

    count: int
    num_frames: int
    frame_shape: tuple[int, ...]
    description: dict
    contents: overlap.Contents
    groups: np.ndarray | None = None
    motion: Motion | None = None
    seen: dict[str, int | str] | None = None

    def clips(self, start: int, count: int) -> np.ndarray:
        """The clips from `start` on, (count, num_frames, D) float32."""
        return self.motion.clips(start, count)

    def constant_velocity(self, start: int, count: int, frames_in: int) -> np.ndarray | None:
        """The oracle of `moving_mnist.constant_velocity`; None where the motion is not known.

        Returns:
            (count, num_frames - frames_in, D) float32.
        """
        if self.motion is None:
            return None
        return self.motion.straight_on(self._generated(start, count), frames_in)

    def _generated(self, start, count):
        """The numbers that clips have in `motion`."""
        return np.arange(start, start + count)

    @property
    def label(self) -> str:
        """Of the column `data`: with a mark where training has seen any of it."""
        return "test (seen)" if overlap.is_no_test(self.seen, self.contents.count) else "test"

    def notes(self) -> list[str]:
        """What a reader of the figures has to know, a sentence each."""
        return overlap.notes(self.seen, self.contents.count, "sequences")


@dataclasses.dataclass(frozen=True, kw_only=True)
class _Windows(TestSet):
    """Windows of a data set on disk: the folder, and `starts` (count, 2) as of `windows.starts`."""

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
    trained: Trained | None = None,
) -> TestSet:
    """Moving MNIST of test digits, generated in the way of the frames that the run was trained on.

    The clips are the same for runs of all seeds, so that those can be compared.

    Args:
        count: of clips. num_digits, num_frames: others than in training.
        trained: the run that they are to test, of which `seen` is to be known.

    Raises:
        ValueError, FileNotFoundError: bad numbers; digits that are missing or damaged; what
            `generator` raises.
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
    return test_set if trained is None else _check_suitable(test_set, trained)


def generator(config: ConfigDict) -> moving_mnist.MovingMnist:
    """What generates clips like those that the run was trained on, as long as it needs them.

    Raises:
        ValueError: it was trained on data that were not generated, or on digits other than the
            training digits that we have: our test digits may be among them. FileNotFoundError:
            these data are gone.
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
    return digits.load_digits(split, config.data.digits_dir or None, config.data.digits_source)


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
    """Clips of a data set of data_prep's: windows side by side, or `count` spread over them.

    Args:
        part: of which sequences. length: frames that a clip must have; shorter sequences give none.
        config: says where digits are, for the oracle, which has to draw those of a generated set.
        longest: frames that are wanted, if there are as many in every sequence that is not too
            short; else the clips are as long as the shortest of these. None for `length`.

    Raises:
        ValueError, FileNotFoundError: no such data set, a damaged one, or fewer clips.
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
        raise ValueError(f"{folder}: 1 to {len(starts)} clips can be asked for, got {count}")
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
    """What generated a set of data_prep's; None where it was not from digits we have."""
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
    trained: Trained, folder: str | None, count: int | None, longest: int | None = None
) -> TestSet:
    """The test set of a command: `folder` where given, else that which the run's config describes.

    `count` None stands for all of a data set on disk, and for 10,000 generated clips; `longest` is
    that of `from_records`. `seen` is known of it.

    Raises:
        ValueError: `folder` holds what the run was trained on, and nothing else; or all of it.
            Others as of `from_records`.
    """
    config = trained.config
    if not folder and not config.data.records:
        return generated(config, 10_000 if count is None else count, trained=trained)
    part = sources.Split(Path(folder)) if folder else sources.split(config, "test")
    length = config.data.frames_in + config.data.frames_out
    test_set = _check_suitable(from_records(part, length, count, config, longest), trained)
    if folder and (
        name := overlap.is_training_data(
            overlap.run_contents(trained.origin, config), test_set.contents
        )
    ):
        raise ValueError(
            f"{folder} holds what this run was trained on: sequences of its {name} part, or clips "
            "of the same digits; without --records it is tested on its test data"
        )
    return test_set


def _check_suitable(test_set, trained):
    """A test set of which it is known what the run has seen of it."""
    run = overlap.run_contents(trained.origin, trained.config)
    return dataclasses.replace(test_set, seen=overlap.seen(run, test_set.contents))


def check_fits(test_set: TestSet, frame_shape: tuple[int, ...], frames: int, name: str) -> None:
    """Raises ValueError where a model of that frame shape cannot read `frames` of these clips."""
    if tuple(test_set.frame_shape) != tuple(frame_shape):
        raise ValueError(
            f"{name} reads frames of {tuple(frame_shape)}, the test set has frames of "
            f"{tuple(test_set.frame_shape)}"
        )
    if test_set.num_frames < frames:
        raise ValueError(
            f"{name} needs clips of {frames} frames, the test set has {test_set.num_frames}"
        )
