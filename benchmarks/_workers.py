"""Runs each contender in a process of its own, which gets commands over a pipe.

So each contender's peak memory can be measured, any Python interpreter can run it, and the steps of
all contenders can be measured in turn while all stay loaded and warm. They keep their memory
meanwhile: the machine needs the sum of their peaks.
"""

import dataclasses
import importlib
import json
import os
import resource
import subprocess
import sys
import threading
import time
from pathlib import Path

from benchmarks._common import Size

_ROOT = Path(__file__).resolve().parents[1]
_WARM_UP_STEPS = 2
_PAUSE_S = 0.3  # before a step: threads of the previous process spin for up to 0.2 s


class Worker:
    """One contender: `benchmarks.MODULE.CONTENDERS[name](size)`, which returns (step, info).

    `step()` runs once and returns its seconds; `info` is a dict of further facts. The process sees
    no GPU. It is killed if an answer takes more than `timeout` seconds; before the first answer it
    imports and compiles.

    Attributes:
        info: see above. peak_gb: the process's peak memory so far, including the framework.

    Raises:
        RuntimeError: the process ended or was killed; `step` raises it, too.
    """

    def __init__(
        self,
        module: str,
        name: str,
        size: Size,
        python: str = sys.executable,
        timeout: float = 1800.0,
    ):
        self.name, self.timeout = name, timeout
        environment = {**os.environ, "TF_CPP_MIN_LOG_LEVEL": "2", "CUDA_VISIBLE_DEVICES": "-1"}
        self.process = subprocess.Popen(
            [
                python,
                "-m",
                "benchmarks._workers",
                module,
                name,
                json.dumps(dataclasses.asdict(size)),
            ],
            cwd=_ROOT,
            env=environment,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
        )
        self.info = self._answer()["info"]

    def _answer(self):
        late = threading.Timer(self.timeout, self.process.kill)  # which ends `readline`
        late.start()
        line = self.process.stdout.readline()
        late.cancel()
        if not line:
            self._end()
            raise RuntimeError(
                f"contender {self.name} ended, or did not answer in {self.timeout:g} s; its error, "
                "if any, is above"
            )
        return json.loads(line)

    def step(self) -> float:
        """Runs one step and returns its seconds."""
        time.sleep(_PAUSE_S)
        self.process.stdin.write("step\n")
        self.process.stdin.flush()
        answer = self._answer()
        self.peak_gb = answer["peak_gb"]
        return answer["seconds"]

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._end()

    def _end(self):
        try:
            self.process.communicate(timeout=60)  # closes its stdin, which ends it
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.communicate()


def _peak_gb():
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit / 1e9


def _serve(module, name, size):
    # Answers use the real standard output; output of libraries goes to standard error.
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
