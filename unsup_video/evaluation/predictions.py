"""Names the actions in a user's own files: videos, or .npy files of percepts."""

import csv
import zipfile
from collections.abc import Callable
from pathlib import Path

import numpy as np

from unsup_video.data import folders, records
from unsup_video.evaluation import action_pictures
from unsup_video.models import classification
from unsup_video.models.classification import Predictions
from unsup_video.training.trained import TrainedModel
from unsup_video.utils import files
from unsup_video.video import decoding, jobs, percepts
from unsup_video.video.listing import Video

TABLE = "predictions.csv"
COLUMNS = ("file", "frames", "blocks", "rank", "class", "probability", "problem")
_ARRAY = ".npy"
_DRAWN = 5  # classes in a picture
_PICTURES = 8  # frames in a picture
_HEIGHT = 128  # pixels, of such a frame


def find(path: str | Path) -> tuple[list[Path], tuple[str, ...]]:
    """Lists the videos and .npy files of a folder, as `folders.files` does, or a single file.

    Returns:
        (paths, names of files that are not used).

    Raises:
        FileNotFoundError: nothing is there. ValueError: there is no video and no .npy file.
        OSError: a folder cannot be read.
    """
    path = Path(path)
    known = (*decoding.EXTENSIONS, _ARRAY)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    if path.is_dir():
        matches, ignored = folders.files(path, known)
        used = list(matches.values())
    else:
        used, ignored = [path] if path.suffix.lower() in known else [], ()
    if not used:
        raise ValueError(
            f"{path}: no video and no {_ARRAY} file; extensions known: {' '.join(sorted(known))}"
        )
    return used, ignored


def names(path: str | Path, paths: list[Path]) -> list[str]:
    """Names each file of `find(path)` by its path relative to that folder."""
    path = Path(path)
    return [p.name if path.is_file() else p.relative_to(path).as_posix() for p in paths]


def is_video(path: Path) -> bool:
    """Tells whether a file of `find` is a video, whose percepts have to be computed."""
    return path.suffix.lower() != _ARRAY


# ---------------------------------------------------------------------- percepts


def percepts_job(trained: TrainedModel, given: dict) -> percepts.Percepts:
    """Returns the job that makes percepts in the same way as the classifier's training data.

    Its settings come from the run's run.json, or else from the data set. They have the name and the
    sha256 of the CNN's file, which is looked for under that name.

    Args:
        given: arguments of `percepts.job`: the paths of the files; and all settings, if the
            training data do not record theirs.

    Raises:
        ValueError: `given` contradicts the training data, or lacks settings; or the frames are no
            percepts of pictures. OSError: the CNN is missing or cannot be read.
    """
    if len(trained.frame_shape) != 1:
        raise ValueError(
            f"{trained.path} reads frames of {trained.frame_shape}, no percepts: give {_ARRAY} "
            "files of such frames"
        )
    settings = _settings(trained)
    if "flow" in settings:
        raise ValueError(
            f"{trained.path} reads percepts of optical flow: make them with data_prep.flow and "
            f"data_prep.flow_percepts, and give them as {_ARRAY} files"
        )
    if not settings:
        if "cnn" not in given:
            raise ValueError(
                f"--cnn is missing: the data that {trained.path} was trained on do not say how "
                "they were made from videos. Give the flags of data_prep.percepts (--cnn, --layer, "
                "--size, ..), or .npy files"
            )
        job = percepts.job(**given)
    else:
        job = _as_recorded(trained, settings, given)
    if (job.dim,) != trained.frame_shape:
        raise ValueError(
            f"{job.cnn}, layer {job.layer or 'of the last pooling'}, gives percepts of {job.dim} "
            f"numbers, {trained.path} reads {trained.frame_shape[0]}: give the CNN and layer that "
            "its training data were made with"
        )
    return job


def _settings(trained):
    """Returns the settings of the job that made the training data; {} if unknown."""
    source = trained.made_of
    if not source:  # a run of an earlier version
        data = Path(trained.config.data.records)
        for folder in (data, data / "train"):
            if records.exists(folder):
                manifest = records.Manifest.load(folder)
                if manifest.is_recorded_as(trained.data["sha256"]["train"]):
                    source = manifest.source
    settings = source.get("settings", {})
    return settings if "cnn" in settings else {}


def _as_recorded(trained, settings, given):
    tuples = {
        key: tuple(value) if isinstance(value, list) else value
        for key, value in settings.items()
        if key not in ("keras", "sha256")
    }
    for key, value in given.items():
        if key not in ("cnn", "weights") and value != tuples[key]:
            raise ValueError(
                f"{key} is {value}, but {trained.path} was trained on percepts that were made with "
                f"{tuples[key] or 'none'}: leave it out"
            )
    try:
        job = percepts.job(**{**tuples, **given})
    except FileNotFoundError:
        key = "weights" if tuples["weights"] not in ("", percepts.IMAGENET) else "cnn"
        if key in given:
            raise
        flag = {"cnn": "--cnn", "weights": "--cnn_weights"}[key]
        raise FileNotFoundError(
            f"{flag} is missing: {trained.path} was trained on percepts of {tuples[key]} (sha256 "
            f"{settings['sha256']}), which is not in this folder: {flag}=FILE says where it is"
        ) from None
    if job.sha256 != settings["sha256"]:
        file = job.cnn if percepts.is_keras_file(job.cnn) else job.weights
        raise ValueError(
            f"{file}: its sha256 is {job.sha256}, but {trained.path} was trained on "
            f"percepts of {settings['cnn']} with "
            f"{settings['sha256'] or 'the weights ' + percepts.IMAGENET}"
        )
    return job


def read(path: Path, trained: TrainedModel, job: Callable[[], percepts.Percepts]) -> np.ndarray:
    """Reads the frames (T, D) float32 of a .npy file, or makes them from a video as a data set.

    Args:
        job: returns the job of `percepts_job`; only called for a video.

    Raises:
        ValueError, OSError: the file cannot be read, or holds something else.
    """
    if is_video(path):
        record = next(job().records(Video(str(path), path.name)))
        return record.frames.astype(np.float32) * np.float32(record.scale or 1)
    try:
        # A memory map checks the header against the size of the file and allocates nothing.
        frames = np.load(path, mmap_mode="r", allow_pickle=False)
    except (ValueError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"no .npy file of numbers ({error})") from None
    shape = trained.frame_shape
    if not isinstance(frames, np.ndarray) or not np.issubdtype(frames.dtype, np.floating):
        raise ValueError("a single array of floats is expected")
    if frames.shape[1:] != shape or not len(frames):
        sizes = ", ".join(map(str, shape))
        raise ValueError(f"shape {frames.shape}; the classifier reads (frames, {sizes})")
    frames = np.array(frames, np.float32).reshape(len(frames), -1)
    trained.check_values(frames)
    return frames


# ---------------------------------------------------------------------- predictions


def predict(trained: TrainedModel, frames: np.ndarray) -> Predictions:
    """Classifies the frames (T, D) float32 of one video, and its blocks."""
    data, size = trained.config.data, trained.config.eval.batch_size
    length = min(len(frames), data.frames)  # a shorter video is one block by itself
    firsts = np.arange(0, len(frames) - length + 1, data.stride)

    def blocks():
        for start in range(0, len(firsts), size):
            starts = firsts[start : start + size]
            yield (
                np.stack([frames[f : f + length] for f in starts]),
                np.zeros(len(starts), int),
                starts,
            )

    return classification.classify(trained.model, blocks(), 1)


def over_time(classified: Predictions) -> tuple[np.ndarray, np.ndarray, str]:
    """Returns the probabilities of one video over time.

    They are those of its blocks, since the classifier starts again in each; for a video of one
    block, those of the steps.

    Returns:
        (frame numbers from 1, (n,), the middles of the blocks; probabilities (n, K); axis label).
    """
    length = classified.steps.shape[1]
    if len(classified.firsts) == 1:
        return 1 + np.arange(length), classified.steps[0], "frame (its step in the only window)"
    return (
        classified.firsts + (length + 1) / 2,
        classified.blocks,
        f"frame (middle of a window of {length})",
    )


def run(
    trained: TrainedModel,
    paths: list[Path],
    names: list[str],
    out: str | Path,
    job: Callable[[], percepts.Percepts],
    topk: int,
    log: Callable[[str], None] = print,
) -> list[str]:
    """Classifies files, one by one, and writes OUT/predictions.csv and a picture OUT/NAME.png each.

    A line of the table has a file, the number of its frames and blocks, and one of the `topk`
    likeliest classes with its probability; or a file that cannot be used, and the reason. If a
    picture cannot be drawn, the log says so, and nothing else changes.

    Args:
        names: of the files, relative to `out`, without ".png"; `files.safe_path` shortens long
            ones. job: see `read`.

    Returns:
        The reasons of all files that cannot be used.

    Raises:
        OSError: `out` cannot be written. JobError: the CNN cannot be loaded.
    """
    out = Path(out)
    lines, problems = [], []
    for path, name in zip(paths, names, strict=True):
        try:
            with decoding.collect_notes() as notes:
                frames = read(path, trained, job)
        except jobs.JobError:
            raise
        except (ValueError, OSError) as error:
            reason = str(error).removeprefix(f"{path}: ")
            problems.append(f"{path}: {reason}")
            log(f"{name}: cannot be used: {reason}")
            lines.append({"file": str(path), "problem": reason})
            continue
        for note in dict.fromkeys(notes):
            log(f"doubtful: {note}")
        classified = predict(trained, frames)
        ranking = _ranking(trained, classified)
        log(
            f"{name}: {_length(trained, frames, classified)}: "
            + ", ".join(f"{label} {p:.3f}" for label, _, p in ranking[:topk])
        )
        lines += [
            {
                "file": str(path),
                "frames": len(frames),
                "blocks": len(classified.firsts),
                "rank": rank + 1,
                "class": label,
                "probability": f"{p:.6f}",
            }
            for rank, (label, _, p) in enumerate(ranking[:topk])
        ]
        try:
            shown = _pictures(path, len(frames), job) if is_video(path) else None
            _draw(name, frames, classified, ranking, shown, out)
        except Exception as error:  # whatever drawing raises, the table does not depend on it
            log(f"{name}: its picture cannot be drawn: {error}")
    out.mkdir(parents=True, exist_ok=True)
    with files.atomic_write(out / TABLE) as temporary:
        # File names may contain bytes that are not UTF-8.
        with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.DictWriter(file, COLUMNS, lineterminator="\n")
            table.writeheader()
            table.writerows(lines)
    return problems


def _ranking(trained, classified):
    """Returns (name, index, probability) of all classes, the likeliest first."""
    probabilities = classified.probabilities[0]
    order = np.argsort(-probabilities, kind="stable")
    return [(trained.classes[k], int(k), float(probabilities[k])) for k in order]


def _length(trained, frames, classified):
    window, blocks = trained.config.data.frames, len(classified.firsts)
    text = f"{len(frames):,} frames, {blocks:,} block{'s' * (blocks > 1)}"
    if len(frames) < window:
        text += f" (shorter than a window of {window}: read whole)"
    return text


def _draw(name, frames, classified, ranking, pictures, out):
    path = out / files.safe_path(name, ".png")
    path.parent.mkdir(parents=True, exist_ok=True)
    *points, x_label = over_time(classified)
    action_pictures.over_time(
        *points, len(frames), ranking[:_DRAWN], f"{name}: {ranking[0][0]}", x_label, path, pictures
    )


def _pictures(path, length, job) -> dict[int, np.ndarray]:
    """Returns {frame number from 1: (H, W, 3) uint8}, frames evenly spread over a video."""
    count = min(_PICTURES, length)
    wanted = {int((n + 0.5) * length / count) for n in range(count)}
    shown = {}
    for number, frame in enumerate(decoding.frames(path, job().fps)):
        if number in wanted:
            width = max(1, round(frame.shape[1] * _HEIGHT / frame.shape[0]))
            shown[number + 1] = decoding.resize(frame, _HEIGHT, width)
        if len(shown) == count:
            break
    return shown
