"""Contenders in processes of their own, told over pipes when to run a step.

So each one's peak memory is its own, any Python interpreter can run it, and the steps of all can
be measured in turn although every one stays loaded and warm. They all keep their memory meanwhile:
the machine needs the sum of their peaks.
"""

import dataclasses
import importlib
import json
import os
import resource
import subprocess
import sys
import time
from pathlib import Path

from benchmarks._common import Size

_ROOT = Path(__file__).resolve().parents[1]
_WARM_UP_STEPS = 2
_PAUSE_S = 0.3  # before a step: the threads of the last one's process spin for up to 0.2 s


class Worker:
    """One contender: `benchmarks.MODULE.CONTENDERS[name](size)`, which gives (step, info).

    `step()` runs once and returns its seconds; `info` is a dict of what else there is to know.

    Attributes:
        info: as above. peak_gb: the process's highest memory so far, the framework included.
    """

    def __init__(self, module: str, name: str, size: Size, python: str = sys.executable):
        self.name = name
        self.process = subprocess.Popen(
            [python, "-m", "benchmarks._workers", module, name,
             json.dumps(dataclasses.asdict(size))],
            cwd=_ROOT,
            env={**os.environ, "CUDA_VISIBLE_DEVICES": "-1", "TF_CPP_MIN_LOG_LEVEL": "2"},
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
        )
        self.info = self._answer()["info"]

    def _answer(self):
        line = self.process.stdout.readline()
        if not line:
            raise RuntimeError(f"contender {self.name} ended; its error is above")
        return json.loads(line)

    def step(self) -> float:
        """Seconds of one step."""
        time.sleep(_PAUSE_S)
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak_gb = answer["peak_gb"]
        return answer["seconds"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.process.communicate()  # closes its stdin, which ends it


def _peak_gb():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _serve(module, name, size):
    # The answers get the real standard output; what libraries print there goes to the errors.
    answers = os.fdopen(os.dup(1), "w")
    os.dup2(2, 1)
    step, info = importlib.import_module(f"benchmarks.{module}").CONTENDERS[name](Size(**size))
    for _ in range(_WARM_UP_STEPS):
        step()
    print(json.dumps({"info": info}), file=answers, flush=True)
    for _ in sys.stdin:
        seconds = step()
        print(json.dumps({"seconds": seconds, "peak_gb": _peak_gb()}), file=answers, flush=True)


if __name__ == "__main__":
    _serve(sys.argv[1], sys.argv[2], json.loads(sys.argv[3]))
