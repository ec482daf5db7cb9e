"""Commands in processes of their own, forked from one that has imported what all of them need."""

import multiprocessing
import os
import runpy
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).parent.parent
TIMEOUT = 300  # seconds

# A process that imports TensorFlow itself needs seconds for that.
SERVER = multiprocessing.get_context("forkserver")
SERVER.set_forkserver_preload(["tests.preload"])


def module(name, *arguments):
    """Does what `python -m NAME ARGUMENT ..` does; a process has the flags of one command only."""
    sys.argv = [name, *map(str, arguments)]
    runpy.run_module(name, run_name="__main__", alter_sys=True)


def start(function, *arguments, stdout, stderr, environment=None, daemon=True):
    """A process that calls a function of a module, with its output in files.

    Args:
        stdout, stderr: paths, which may be the same. environment: variables that it has besides.
            daemon: it ends with this process, and starts none.
    """
    process = SERVER.Process(
        target=_call, args=(function, arguments, (stdout, stderr), environment or {}), daemon=daemon
    )
    process.start()
    return process


def _call(function, arguments, outputs, environment):
    for descriptor, path in enumerate(outputs, 1):
        os.dup2(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND), descriptor)
    sys.stdout.reconfigure(line_buffering=True)
    os.chdir(ROOT)
    os.environ.update(environment)
    function(*arguments)


def call(function, *arguments, environment=None) -> subprocess.CompletedProcess:
    """Calls a function of a module in a process of its own, and waits for it."""
    with tempfile.TemporaryDirectory() as folder:
        outputs = [Path(folder, name) for name in ("stdout", "stderr")]
        process = start(
            function,
            *arguments,
            stdout=outputs[0],
            stderr=outputs[1],
            environment=environment,
            daemon=False,
        )
        process.join(TIMEOUT)
        if process.exitcode is None:
            process.kill()
            process.join()
        texts = [path.read_text() if path.exists() else "" for path in outputs]
    return subprocess.CompletedProcess(arguments, process.exitcode, *texts)


def run(name, *arguments, environment=None) -> subprocess.CompletedProcess:
    """`python -m NAME ARGUMENT ..`, as `subprocess.run` would return it."""
    return call(module, name, *arguments, environment=environment)
