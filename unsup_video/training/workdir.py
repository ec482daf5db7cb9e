"""The folder of a run."""

import dataclasses
import datetime
import importlib.metadata
import io
import json
import os
import platform
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np

import unsup_video
from unsup_video import files


_CONTENTS = {
    files.LOCK, "config.json", "run.json", "mean_frame.npy", "classes.json", "metrics.jsonl",
    "results.json", "trained_on.npz", "checkpoints", "samples", "tb", "export", "eval",
}


@dataclasses.dataclass(frozen=True)
class Workdir:
    """The folder of a run: config.json, run.json, mean_frame.npy (or classes.json of a
    classifier), trained_on.npz (see `overlap`), metrics.jsonl, results.json;
    checkpoints/, samples/, tb/, export/, and eval/, which the evaluations write."""

    path: Path
    lock: io.TextIOBase | None  # open as long as this process writes the folder; None: it does not

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
    def metrics(self) -> Path:
        return self.path / "metrics.jsonl"

    @classmethod
    def open(cls, path: str | os.PathLike, config: dict, overwrite: bool = False) -> "Workdir":
        """A new run's folder, or that of a run of the very same config, to resume it.

        Args:
            config: the whole config, of JSON values. overwrite: delete a run that is there.

        Raises:
            ValueError: another config's run is there (the fields that differ are named), files
                that are no run, or a process that is running it now.
            OSError: the folder cannot be made or written.
        """
        path = Path(path)
        config = json.loads(json.dumps(config))  # tuples become lists, as in the file
        stored = path / "config.json"
        try:
            found = set(path.iterdir()) - set(files.leftovers(path)) if path.is_dir() else set()
            if {p.name for p in found} - _CONTENTS:
                raise ValueError(
                    f"{path} holds what is not of a run; use another --workdir"
                )
            path.mkdir(parents=True, exist_ok=True)
            lock = files.lock(path)
            files.remove_leftovers(path)
            if overwrite:
                _empty(path)
            if stored.exists():
                differences = diff(json.loads(stored.read_text()), config)
                if differences:
                    raise ValueError(
                        f"{path} holds a run of another config:\n  " + "\n  ".join(differences)
                        + "\nUse another --workdir, or --overwrite to delete that run."
                    )
            else:
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
        """The folder of a run that another process writes; this one only reads checkpoints."""
        return cls(Path(path), lock=None)

    def exists(self) -> bool:
        """Whether this process sees the run."""
        return (self.path / "config.json").exists()

    def write_run_info(self, extra: dict) -> None:
        """Writes run.json: what ran, where and when; a resumed run is added to its list.

        Args:
            extra: more to write; extra["data"]["sha256"] identifies the data.

        Raises:
            ValueError: the run was started on other data.
        """
        info = {
            "time": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "command": sys.argv,
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
            **extra,
        }
        file = self.path / "run.json"
        if file.exists():
            first = json.loads(file.read_text())
            if differences := diff(first["data"]["sha256"], extra["data"]["sha256"]):
                raise ValueError(
                    f"{self.path} was started on other data:\n  " + "\n  ".join(differences)
                )
            info = {**first, "resumed": [*first.get("resumed", []), info]}
        files.write_text(file, json.dumps(info, indent=2) + "\n")

    def write_mean_frame(self, frame) -> None:
        """Writes mean_frame.npy, (D,) float32: what evaluations compare with, without the data."""
        with files.whole(self.path / "mean_frame.npy") as temporary, open(temporary, "wb") as file:
            np.save(file, frame)

    def append_metrics(self, values: dict) -> None:
        """Adds one line to metrics.jsonl. Raises OSError naming the file, on a full disk."""
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
        """Drops what a run wrote after the checkpoint that it is resumed from."""
        kept = [line for line in read_metrics(self.metrics) if line["step"] <= after_step]
        files.write_text(self.metrics, "".join(json.dumps(line) + "\n" for line in kept))


def read_metrics(file: Path) -> list[dict]:
    """The lines of a metrics.jsonl; a last line that a crash cut short is left out."""
    lines = file.read_text(encoding="utf-8").splitlines(keepends=True)
    return [json.loads(line) for line in lines if line.endswith("\n")]


def _empty(path):
    """Deletes a run, its config last: what a killed deletion leaves is still a run."""
    for child in sorted(path.iterdir(), key=lambda child: child.name == "config.json"):
        if child.is_dir():
            shutil.rmtree(child)
        elif child.name != files.LOCK:
            child.unlink()


def diff(old: dict, new: dict, prefix: str = "") -> list[str]:
    """The fields in which two nested dicts differ, a line each: `a.b: 1 there, 2 here`."""
    lines = []
    for key in sorted(old.keys() | new.keys()):
        a, b = old.get(key, "nothing"), new.get(key, "nothing")
        if isinstance(a, dict) and isinstance(b, dict):
            lines += diff(a, b, f"{prefix}{key}.")
        elif a != b:
            lines.append(f"{prefix}{key}: {a} there, {b} here")
    return lines


def git_state(folder: Path) -> dict | None:
    """{"sha": .., "dirty": ..} of the checkout that holds `folder`; None outside of one."""

    def git(*arguments):
        return subprocess.run(
            ["git", *arguments], cwd=folder, capture_output=True, text=True, check=True
        ).stdout.strip()

    try:
        git("ls-files", "--error-unmatch", "__init__.py")  # else: inside another project's checkout
        return {"sha": git("rev-parse", "HEAD"), "dirty": bool(git("status", "--porcelain"))}
    except (OSError, subprocess.CalledProcessError):
        return None


def version(package: str) -> str | None:
    """Version of an installed package; None where it is not installed."""
    try:
        return importlib.metadata.version(package)
    except importlib.metadata.PackageNotFoundError:
        return None


def cpu() -> str:
    """Name of the processor's model."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor()


def _devices():
    import tensorflow as tf  # the rest of this module runs without it

    return [device.name for device in tf.config.list_physical_devices()]
