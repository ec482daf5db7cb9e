"""Starts the stand-in for TensorFlow Serving (`server.py`) in a process of its own.

For the tests; no part of the installed package.
"""

import re
import subprocess
import sys
import threading
from pathlib import Path
from typing import IO

SERVER = Path(__file__).with_name("server.py")


def end(process: subprocess.Popen, timeout: float = 60.0) -> None:
    """Ends a process: asks it to, and after `timeout` seconds no longer asks."""
    process.terminate()
    try:
        process.communicate(timeout=timeout)
    except subprocess.TimeoutExpired:
        process.kill()
        process.communicate()


class Process:
    """A stand-in that serves `base_path` as `name`, on free ports of this machine.

    A context manager, which ends the process.

    Args:
        base_path: folder of the versions. log: an open file for its errors; default where this
            process's go. max_message: bytes of a request. timeout: seconds that its start may take.

    Attributes:
        process: its subprocess.Popen. grpc, rest: its ports.

    Raises RuntimeError: it did not start in time, or ended.
    """

    def __init__(
        self,
        name: str,
        base_path: Path,
        log: IO | None = None,
        max_message: int = 64 << 20,
        timeout: float = 120.0,
    ):
        self.process = subprocess.Popen(
            [
                sys.executable,
                "-I",
                str(SERVER),
                f"--name={name}",
                f"--base_path={base_path}",
                "--port=0",
                "--rest_api_port=0",
                f"--max_message={max_message}",
            ],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
        )
        late = threading.Timer(timeout, self.process.kill)  # ends the line that is waited for
        late.start()
        line = self.process.stdout.readline()
        late.cancel()
        ports = re.fullmatch(r"gRPC (\d+) REST (\d+)\n", line)
        if not ports:
            end(self.process)
            errors = f"; its errors are in {log.name}" if log else ""
            raise RuntimeError(
                f"the stand-in for {base_path} ended, or did not start in {timeout:g} s{errors}"
            )
        self.grpc, self.rest = map(int, ports.groups())

    def __enter__(self):
        return self

    def __exit__(self, *_):
        end(self.process)
