"""Checkpoints: exact, with checksums, written atomically.

Each checkpoint is a folder, such as `step-00001000/`: `arrays.npz` has every array under its name,
and `checkpoint.json` has the step, the sha256 of arrays.npz, and the rest of the state. The best
checkpoint is kept separately, as `best-00000800/`. So is, for each checkpoint that a run can be
resumed from, the best one up to that step, since a resumed run may find no better one. Files and
folders with other names are left alone.
"""

import json
import os
import re
import warnings
from pathlib import Path

import keras
import numpy as np

from unsup_video.utils import files


class CheckpointError(ValueError):
    """A checkpoint is damaged; the message names the file."""


def _save(folder: Path, prefix, step, arrays, meta):
    folder.mkdir(parents=True, exist_ok=True)
    files.remove_leftovers(folder)
    path = _path(folder, prefix, step)
    try:
        with files.atomic_write(path, replace=True) as temporary:  # a damaged one may be there
            temporary.mkdir()
            np.savez(temporary / "arrays.npz", **arrays)
            text = {"step": step, "sha256": files.sha256(temporary / "arrays.npz"), "meta": meta}
            (temporary / "checkpoint.json").write_text(json.dumps(text, indent=2) + "\n")
    except OSError as error:
        left = [*_folders(folder, "best").values(), *_folders(folder, "step").values()]
        kept = ", ".join(path.name for path in left) or "none before it"
        raise OSError(error.errno, f"{error.strerror}; checkpoints kept: {kept}") from error
    _remove_superseded(folder)
    return path


def _path(folder, prefix, step):
    return Path(folder) / f"{prefix}-{step:08d}"


def _folders(folder, prefix):
    """Returns step -> folder of the checkpoints with this prefix, the newest first."""
    steps = {
        int(match[1]): path
        for path in Path(folder).glob(f"{prefix}-*")
        if (match := re.fullmatch(rf"{prefix}-(\d+)", path.name)) and path.is_dir()
    }
    return dict(sorted(steps.items(), reverse=True))


def _remove_superseded(folder):
    """Removes all but the newest two checkpoints, and the best ones that no resume can need."""
    steps, bests = _folders(folder, "step"), _folders(folder, "best")
    kept = list(steps)[:2]
    needed = set(list(bests)[:1])
    for step in kept:
        needed |= set([best for best in bests if best <= step][:1])
    superseded = [path for step, path in steps.items() if step not in kept]
    superseded += [path for step, path in bests.items() if step not in needed]
    for path in superseded:
        files.discard(path)


def save(folder: str | os.PathLike, step: int, arrays: dict[str, np.ndarray], meta: dict) -> Path:
    """Saves the state after `step` and removes all checkpoints but the newest two.

    Raises:
        OSError: it cannot be written, for example on a full disk; earlier checkpoints are kept.
    """
    return _save(Path(folder), "step", step, arrays, meta)


def save_best(
    folder: str | os.PathLike, step: int, arrays: dict[str, np.ndarray], meta: dict
) -> Path:
    """Saves the best state so far, separately from the others.

    The previous best one is kept as long as a run can be resumed from a step at which it was best.
    """
    return _save(Path(folder), "best", step, arrays, meta)


def restore(path: str | os.PathLike) -> tuple[int, dict[str, np.ndarray], dict]:
    """Reads a checkpoint; returns (step, arrays, meta).

    Raises:
        CheckpointError: a file is missing or damaged. OSError: it cannot be read now, for example
            because a network disk does not answer, which says nothing about the checkpoint.
    """
    path = Path(path)
    try:
        text = json.loads((path / "checkpoint.json").read_text())
        step, digest, meta = text["step"], text["sha256"], text["meta"]
    except (FileNotFoundError, ValueError, KeyError, TypeError) as error:
        raise CheckpointError(f"{path / 'checkpoint.json'}: missing or damaged ({error})") from None
    arrays = path / "arrays.npz"
    try:
        if files.sha256(arrays) != digest:
            raise CheckpointError(f"{arrays}: damaged, its sha256 is not the recorded one")
        return step, files.read_arrays(arrays), meta
    except CheckpointError:
        raise
    except (FileNotFoundError, ValueError) as error:
        raise CheckpointError(f"{arrays}: missing or damaged ({error})") from None


def fingerprint(path: str | os.PathLike) -> str:
    """Returns the hexadecimal sha256 of a checkpoint's arrays that was recorded on saving."""
    return json.loads((Path(path) / "checkpoint.json").read_text())["sha256"]


def latest(folder: str | os.PathLike) -> Path | None:
    """Returns the newest undamaged checkpoint; None if there is no checkpoint at all.

    A warning names each damaged one. Raises CheckpointError if all are damaged, and OSError as in
    `restore`.
    """
    paths = _folders(folder, "step").values()
    for path in paths:
        try:
            restore(path)
        except CheckpointError as error:
            warnings.warn(f"{error}; trying the checkpoint before", stacklevel=2)
        else:
            return path
    if paths:
        raise CheckpointError(
            f"{folder}: every checkpoint is damaged; put back a copy, or start the run anew"
        )
    return None


def discard_after(folder: str | os.PathLike, step: int) -> None:
    """Removes all checkpoints after `step`, from which a run is resumed."""
    for prefix in ("step", "best"):
        for number, path in _folders(folder, prefix).items():
            if number > step:
                files.discard(path)


def best_at(folder: str | os.PathLike, step: int) -> Path:
    """Returns the path of the checkpoint that was saved as the best one at `step`."""
    return _path(folder, "best", step)


def best(folder: str | os.PathLike) -> Path:
    """Returns the path of the best checkpoint.

    Raises:
        FileNotFoundError: there is none.
    """
    paths = list(_folders(folder, "best").values())
    if not paths:
        raise FileNotFoundError(f"{folder}: no best checkpoint; was the run ever validated?")
    return paths[0]


# ---------------------------------------------------------------------- names of arrays


def weights(network: keras.Model) -> dict[str, keras.Variable]:
    """Returns the weights of a network under their names in a checkpoint."""
    return {f"model/{v.path}": v for v in network.weights}


def state(network: keras.Model) -> dict[str, keras.Variable]:
    """Returns `weights` and the seeds of dropout."""
    seeds = [v for v in network.variables if not any(v is w for w in network.weights)]
    return weights(network) | {f"seed/{i}": v for i, v in enumerate(seeds)}


def load_weights(network: keras.Model, arrays: dict[str, np.ndarray], path) -> None:
    """Copies a checkpoint's weights into `network`; errors name `path`.

    Raises:
        ValueError: weights are missing, left over, or of another shape; the message names them all.
    """
    assign(weights(network), {k: a for k, a in arrays.items() if k.startswith("model/")}, path)


def load_best(network: keras.Model, folder: str | os.PathLike) -> tuple[int, str]:
    """Copies the weights of the best checkpoint into `network`.

    Returns:
        The step of the checkpoint, and its `fingerprint`.

    Raises:
        FileNotFoundError: there is none. CheckpointError: it is damaged. ValueError: as in
            `load_weights`.
    """
    path = best(folder)
    step, arrays, _ = restore(path)
    load_weights(network, arrays, path)
    return step, fingerprint(path)


def assign(variables: dict[str, keras.Variable], stored: dict[str, np.ndarray], path) -> None:
    """Copies arrays into the variables of the same names. Raises as `load_weights` does."""
    problems = [f"{k}: missing in the checkpoint" for k in variables.keys() - stored.keys()]
    problems += [f"{k}: not in this model" for k in stored.keys() - variables.keys()]
    problems += [
        f"{k}: {stored[k].shape} in the checkpoint, {tuple(variables[k].shape)} in this model"
        for k in variables.keys() & stored.keys()
        if stored[k].shape != tuple(variables[k].shape)
    ]
    if problems:
        raise ValueError(
            f"{path} is a checkpoint of another architecture:\n  " + "\n  ".join(sorted(problems))
        )
    for k, v in variables.items():
        v.assign(stored[k])
