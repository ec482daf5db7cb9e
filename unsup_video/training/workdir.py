"""The folder of a run."""

import dataclasses
import datetime
import importlib.metadata
import io
import json
import os
import platform
import subprocess
import sys
from collections.abc import Collection
from pathlib import Path

import numpy as np

import unsup_video
from unsup_video.training import fields
from unsup_video.utils import files, processor

# The version of the batches, learning rates and losses that a config defines. It increases when a
# run of an earlier version could not be resumed with the same result. run.json has it from 2 on.
TRAINING_STREAM = 2

_CONTENTS = {
    files.LOCK,
    "config.json",
    "run.json",
    "mean_frame.npy",
    "classes.json",
    "metrics.jsonl",
    "results.json",
    "trained_on.npz",
    "checkpoints",
    "samples",
    "tb",
    "export",
    "eval",
    files.REPLACED,
    files.MOVING,
}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder of a run.

    It has config.json, run.json, mean_frame.npy (or classes.json for a classifier),
    trained_on.npz (see `overlap`), metrics.jsonl and results.json; checkpoints/, samples/, tb/,
    export/, and eval/, which the evaluations write. Other files, such as the log of a job, are
    never touched.
    """

    path: Path
    lock: io.TextIOBase | None  # open while this process writes the folder; None if it only reads

    @property
    def checkpoints(self) -> Path:
        return self.path / "checkpoints"

    @property
    def samples(self) -> Path:
        return self.path / "samples"

    @property
    def tb(self) -> Path:
        return self.path / "tb"

    @property
    def export(self) -> Path:
        return self.path / "export"

    @property
    def replaced(self) -> Path:
        return self.path / files.REPLACED

    @property
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @classmethod
    def open(
        cls,
        path: str | os.PathLike,
        config: dict,
        overwrite: bool = False,
        ignored: Collection[str] = (),
    ) -> "Workdir":
        """Creates the folder of a new run, or opens that of a run of the same config.

        Args:
            config: the whole config, of JSON values.
            overwrite: start anew even if there is a run. The old run is moved to `.replaced`, until
                `delete_replaced`. If it has no results and `.replaced` already holds an earlier
                run, the earlier one is kept instead.
            ignored: fields that the run does not read, such as "data.num_digits"; these may differ
                from the stored config.

        Raises:
            ValueError: the folder has a run of another config (the message names the fields that
                differ), an unfinished run of an earlier version with another training stream, or
                files that are no run; or another process is writing it.
            OSError: the folder cannot be created or written.
        """
        path = Path(path)
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        stored = path / "config.json"
        try:
            # A run may also be in `.replaced`, or on its way there if a process was killed.
            if _stored_config(path) is None and not any(
                (path / name).exists() for name in (files.REPLACED, files.MOVING)
            ):
                _check_empty(path)
            path.mkdir(parents=True, exist_ok=True)
            lock = files.lock(path)
            files.remove_leftovers(path)
            files.put_back(path)
            there = _stored_config(path) if begun(path) else None
            if overwrite:
                _set_aside(path)
            elif there is not None:
                _check_same(path, there, config, ignored)
            if there is None and not overwrite:  # of a start that failed, on other data
                (path / "trained_on.npz").unlink(missing_ok=True)
            if overwrite or there is None:
                files.write_text(stored, json.dumps(config, indent=2) + "\n")
            workdir = cls(path, lock)
            for folder in (workdir.checkpoints, workdir.samples, workdir.tb):
                folder.mkdir(exist_ok=True)
            workdir.metrics.touch()
        except OSError as error:
            raise OSError(
                error.errno, f"workdir {path} cannot be written ({error.strerror})"
            ) from error
        return workdir

    @classmethod
    def join(cls, path: str | os.PathLike) -> "Workdir":
        """Opens the folder of a run that another process writes, to read its checkpoints."""
        return cls(Path(path), lock=None)

    def delete_replaced(self) -> None:
        """Deletes the run that this one, which is now finished, replaces."""
        if self.replaced.exists():
            files.discard(self.replaced)

    def exists(self) -> bool:
        """Returns True if this process sees the run."""
        return (self.path / "config.json").exists()

    def write_run_info(self, extra: dict) -> None:
        """Writes run.json: command, versions, machine and time; adds to it when a run is resumed.

        Args:
            extra: more to write; extra["data"]["sha256"] identifies the data, and so does
                extra["data"]["earlier_sha256"], if it is there, in runs of earlier versions;
                extra["gemm_dtype"] is the dtype of the matrix products.

        Raises:
            ValueError: the run was started on other data, from other weights, or with matrix
                products in another dtype.
        """
        data = dict(extra["data"])
        earlier = data.pop("earlier_sha256", {})
        info = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
            "folder": os.getcwd(),  # relative paths in the config and the command start here
            "git": git_state(Path(unsup_video.__file__).parent),
            "versions": {
                "python": platform.python_version(),
                "unsup_video": unsup_video.__version__,
                **{name: version(name) for name in ("tensorflow", "keras", "numpy")},
            },
            "machine": {
                "system": platform.platform(),
                "cpu": cpu(),
                "cores": os.cpu_count(),
                "devices": _devices(),
            },
            "training_stream": TRAINING_STREAM,
            **extra,
            "data": data,
        }
        file = self.path / "run.json"
        first = read_json(file)
        if first is not None:
            there = first["data"]["sha256"]
            same = {name for name, digest in earlier.items() if there.get(name) == digest}
            here = {name: there[name] if name in same else d for name, d in data["sha256"].items()}
            if differences := diff(there, here):
                changed = {line.partition(":")[0] for line in differences}
                what = "from other weights (--init)" if changed == {"init"} else "on other data"
                raise ValueError(f"{self.path} was started {what}:\n  " + "\n  ".join(differences))
            dtype, now = first.get("gemm_dtype"), extra.get("gemm_dtype")
            if dtype and now and dtype != now:
                raise ValueError(
                    f"{self.path}: its matrix products have been in {dtype}, they would go on in "
                    f"{now}: give --precision={dtype}, which every machine can do"
                )
            info = {**first, "resumed": [*first.get("resumed", []), info]}
        files.write_text(file, json.dumps(info, indent=2) + "\n")

    def write_mean_frame(self, frame) -> None:
        """Writes mean_frame.npy, (D,) float32, which evaluations compare with."""
        with (
            files.atomic_write(self.path / "mean_frame.npy") as temporary,
            open(temporary, "wb") as file,
        ):
            np.save(file, frame)

    def append_metrics(self, values: dict) -> None:
        """Adds one line to metrics.jsonl. Raises OSError, naming the file, on a full disk."""
        try:
            with open(self.metrics, "a", encoding="utf-8") as file:
                file.write(json.dumps(values) + "\n")
                file.flush()
                os.fsync(file.fileno())
        except OSError as error:
            raise OSError(
                error.errno, f"{self.metrics}: cannot be written ({error.strerror})"
            ) from error

    def truncate_metrics(self, after_step: int) -> None:
        """Removes the lines after `after_step`, from which the run is resumed."""
        kept = [line for line in read_metrics(self.metrics) if line["step"] <= after_step]
        files.write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def read_metrics(file: Path) -> list[dict]:
    """Reads the lines of a metrics.jsonl, without a last line that a crash cut short.

    Raises ValueError, naming the file and the line, if another line is damaged.
    """
    metrics = []
    for number, line in enumerate(file.read_text(encoding="utf-8").splitlines(keepends=True), 1):
        if not line.endswith("\n"):
            break
        try:
            metrics.append(json.loads(line))
        except ValueError as error:
            raise ValueError(f"{file}, line {number}: damaged ({error})") from None
    return metrics


def begun(path: str | os.PathLike) -> bool:
    """Returns True if a folder has a run that came as far as its run.json.

    A start that failed before leaves its config and a note of its data, and holds no folder.
    """
    path = Path(path)
    metrics = path / "metrics.jsonl"
    return (path / "run.json").exists() or (metrics.exists() and metrics.stat().st_size > 0)


def _set_aside(path):
    """Moves a run into `.replaced`; a run without results does not replace one with results."""
    contents = _CONTENTS - {files.LOCK, files.REPLACED, files.MOVING}
    if any((path / name).exists() for name in contents):
        files.set_aside(path, contents, keep_earlier=not (path / "results.json").exists())


def read_json(file):
    """Reads the dict in a JSON file of a run; returns None if there is no such file.

    Raises ValueError, naming the file, if it is damaged.
    """
    if not file.exists():
        return None
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except ValueError as error:
        raise ValueError(f"{file}: damaged ({error}); put back a copy") from None


def _stored_config(path):
    """Reads the config of the run in a folder; returns None if there is no run.

    Raises ValueError if config.json belongs to another program.
    """
    file = path / "config.json"
    config = read_json(file)
    if config is not None and not {"name", "model"} <= set(config):
        raise ValueError(f"{file} is not of a run; use another --workdir, or move that away")
    return config


def _check_empty(path):
    """Raises ValueError if a folder without a run has files other than hidden ones."""
    if path.is_dir():
        names = sorted(p.name for p in path.iterdir() if not p.name.startswith("."))
        if names:
            more = f" and {len(names) - 5} more" if len(names) > 5 else ""
            raise ValueError(
                f"{path} holds what is not of a run ({', '.join(names[:5])}{more}); use another "
                "--workdir, or move that away"
            )


def _check_same(path, there, config, ignored):
    """Raises ValueError if the stored run is not one of `config`.

    `precision` may differ if the dtype of the run is recorded, which `write_run_info` checks. So
    may what changes nothing: the figures to compare with, and the memory for data.
    """
    info = read_json(path / "run.json") or {}
    ignored = {*ignored, *(["precision"] if "gemm_dtype" in info else []), "data.shuffle_mb"}
    ignored |= {f"expect.{name}" for c in (there, config) for name in c.get("expect", {})}
    if lines := differences(there, config, ignored):
        raise ValueError(
            f"{path} holds a run of another config:\n  "
            + "\n  ".join(lines)
            + "\nGive the values that it has there (--config.FIELD=VALUE) to go on with it, use "
            "another --workdir, or --overwrite to replace that run."
        )
    if info and not (path / "results.json").exists():
        check_stream(
            info.get("training_stream"),
            f"the run in {path}",
            "--overwrite, or use another --workdir",
        )


def check_stream(stream: int | None, name: str, anew: str) -> None:
    """Raises ValueError if a version with another training stream began a run or a study.

    Args:
        stream: the recorded `TRAINING_STREAM`; None, from the first version, means 1.
        name: of the run or study. anew: the flag that starts it anew, for the message.
    """
    stream = 1 if stream is None else stream
    if stream != TRAINING_STREAM:
        raise ValueError(
            f"{name} is not finished, and another version of unsup_video began it, which trains on "
            f"other batches or with other learning rates (training stream {stream} there, "
            f"{TRAINING_STREAM} here), so that it would go on as another one. Finish it with that "
            f"version, or start anew: {anew}"
        )


def differences(stored: dict, config: dict, ignored: Collection[str] = ()) -> list[str]:
    """Returns the fields in which a stored config differs from another one, see `diff`.

    Fields that an earlier version did not have are added first, see `fields.completed`.
    """
    old, new = (
        {k: v for k, v in fields.flat(fields.completed(c)) if k not in ignored}
        for c in (stored, config)
    )
    return diff(old, new)


def diff(old: dict, new: dict, prefix: str = "") -> list[str]:
    """Returns a line per field in which two nested dicts differ: `a.b: 1 there, 2 here`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key, "nothing"), new.get(key, "nothing")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += diff(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} there, {b} here")
    return lines


def git_state(folder: Path) -> dict | None:
    """Returns {"sha": .., "dirty": ..} of the checkout with `folder`; None outside of one."""

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git(
            "ls-files", "--error-unmatch", "__init__.py"
        )  # fails inside the checkout of another project
        return {"sha": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def version(package: str) -> str | None:
    """Returns the version of a package; None if it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu() -> str:
    """Returns the name of the processor."""
    return processor.fields().get("model name") or platform.processor()


def _devices():
    import tensorflow as tf  # the rest of this module runs without it

    return [device.name for device in tf.config.list_physical_devices()]
