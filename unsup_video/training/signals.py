"""Signals that ask a run to stop."""

import contextlib
import signal
from collections.abc import Callable, Iterator


@contextlib.contextmanager
def stops(log: Callable[[str], None]) -> Iterator[list[signal.Signals]]:
    """Yields a list that collects SIGTERM or SIGINT; a second one raises KeyboardInterrupt."""
    received: list[signal.Signals] = []

    def receive(number, frame):
        if received:
            raise KeyboardInterrupt
        received.append(signal.Signals(number))
        log("stopping: saving after this step ...")

    handlers = {s: signal.signal(s, receive) for s in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield received
    finally:
        for s, handler in handlers.items():
            signal.signal(s, handler)
