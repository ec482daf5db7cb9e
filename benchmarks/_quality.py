"""The runs of `time_to_quality`: their settings and results, and the process that makes one.

Every run has a process of its own, in any Python that has NumPy and the contender's library. The
contender is `benchmarks.MODULE.TRAINED[name](size, run, data)`: its `train(steps)` does the next
steps and returns their seconds, `predict(past)` returns the pre-activations of the future frames,
both (N, T, D) float32 arrays, and `info` is a dict of further facts.
"""

import dataclasses
import importlib
import json
import math
import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from benchmarks._common import Size
from unsup_video.utils import files

_ROOT = Path(__file__).resolve().parents[1]
MODULES = {
    "package": "quality_contenders",
    "package_bfloat16": "quality_contenders",
    "keras": "quality_contenders",
    "keras_bfloat16": "quality_contenders",
    "torch": "quality_contenders_torch",
}


@dataclasses.dataclass(frozen=True)
class Run:
    """One training.

    Attributes:
        contender: a key of `MODULES`. rate: the learning rate; 0 is the recipe's.
        schedule: "constant", "linear" (to zero at the last step), or "recipe".
        steps: the number of steps, into which the schedule is fitted.
        seed: of the initial weights and of the stream of training clips.
    """

    contender: str
    rate: float
    schedule: str
    steps: int
    seed: int

    @property
    def name(self) -> str:
        rate = f"{self.rate:g}-" if self.rate else ""
        return f"{self.contender}-{rate}{self.schedule}-{self.steps}-{self.seed}"


@dataclasses.dataclass(frozen=True)
class Result:
    """The loss that a run had over its steps, and how it ended.

    Attributes:
        curve: one dict per evaluation: "step", "future" in nats per frame, "minutes" of training,
            which include compiling and whatever else the machine does.
        end: "finished", "diverged", or "max_minutes". info: further facts of the contender.
    """

    run: Run
    curve: list[dict]
    end: str
    info: dict

    @classmethod
    def read(cls, path: Path) -> "Result":
        stored = json.loads(path.read_text(encoding="utf-8"))
        return cls(**{**stored, "run": Run(**stored["run"])})

    def write(self, path: Path) -> None:
        files.write_text(path, json.dumps(dataclasses.asdict(self), indent=1) + "\n")

    @property
    def last(self) -> float:
        """The loss at the last step; infinite for a run that did not get there."""
        return self.curve[-1]["future"] if self.end == "finished" else math.inf

    def first_at(self, threshold: float) -> dict | None:
        """Returns the first evaluation with at most that loss; None if there is none."""
        return next((point for point in self.curve if point["future"] <= threshold), None)


def nats_per_frame(targets: np.ndarray, x: np.ndarray) -> float:
    """Returns the mean cross entropy per frame of targets and pre-activations, (N, T, D) each."""
    total = 0.0
    for target, value in zip(targets, x, strict=True):  # clip by clip: float64 takes memory
        value = np.float64(value)
        each = np.maximum(value, 0) - value * target + np.log1p(np.exp(-np.abs(value)))
        total += each.sum(-1).mean()
    return total / len(targets)


def train(
    contender, run: Run, clips: np.ndarray, eval_every: int, max_minutes: float = math.inf
) -> Result:
    """Trains to the end of a run.

    Args:
        contender: see the module. clips: (N, 2 T, D) uint8; the second half is the future.
        eval_every: steps between evaluations; there is one at the end, too.
        max_minutes: time of training after which the run ends, with its next evaluation.
    """
    frames = clips.shape[1] // 2
    past, future = np.split(clips.astype(np.float32) / 255, [frames], axis=1)
    curve, seconds, end, step = [], 0.0, "finished", 0
    while step < run.steps and end == "finished":
        steps = min(eval_every, run.steps - step)
        seconds += contender.train(steps)
        step += steps
        loss = nats_per_frame(future, contender.predict(past))
        if not math.isfinite(loss):
            end = "diverged"
            break
        curve.append({"step": step, "future": loss, "minutes": seconds / 60})
        print(f"{run.name}: step {step}, {loss:.1f} nats/frame, {seconds:.0f} s", file=sys.stderr)
        if step < run.steps and seconds > 60 * max_minutes:
            end = "max_minutes"
    return Result(run, curve, end, contender.info)


def start(
    run: Run,
    size: Size,
    path: Path,
    clips: Path,
    data: str,
    eval_every: int,
    max_minutes: float,
    python: str = sys.executable,
) -> Result:
    """Makes a run in a process that sees no GPU, and returns what it writes to `path`.

    Args:
        clips: a .npy file, see `train`. data: where the contender's training clips come from.

    Raises:
        RuntimeError: the process failed.
    """
    job = {
        "run": dataclasses.asdict(run),
        "size": dataclasses.asdict(size),
        "path": str(path.resolve()),
        "clips": str(clips.resolve()),
        "data": data,
        "eval_every": eval_every,
        "max_minutes": max_minutes,
    }
    environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
    done = subprocess.run(
        [python, "-m", "benchmarks._quality", json.dumps(job)], cwd=_ROOT, env=environment
    )
    if done.returncode:
        raise RuntimeError(f"run {run.name} failed; its error is above")
    return Result.read(path)


def _made(job: dict) -> None:
    run, size = Run(**job["run"]), Size(**job["size"])
    module = importlib.import_module(f"benchmarks.{MODULES[run.contender]}")
    contender = module.TRAINED[run.contender](size, run, job["data"])
    clips = np.load(job["clips"])
    result = train(contender, run, clips, job["eval_every"], job["max_minutes"])
    result.write(Path(job["path"]))


# ---------------------------------------------------------------------- the search


def best(results: Sequence[Result]) -> Result:
    """Returns the result of the search with the lowest loss at its last step.

    Raises:
        ValueError: none of the runs finished.
    """
    finished = [result for result in results if result.end == "finished"]
    if not finished:
        names = ", ".join(result.run.name for result in results) or "none is there"
        raise ValueError(
            f"no run of the search finished ({names}): make runs first, with lower --rates if all "
            "diverged"
        )
    return min(finished, key=lambda result: result.last)


if __name__ == "__main__":
    _made(json.loads(sys.argv[1]))
