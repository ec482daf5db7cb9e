"""A line every few seconds while a command writes."""

import time
from collections.abc import Iterable, Iterator

from unsup_video import progress


def report(items: Iterable, total: int, what: str, every: float = 5.0) -> Iterator:
    """Passes `items` on, of which there are `total`, and prints how many there were so far."""
    began = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - shown >= every:
            print(progress.line(done, total, what, done / (now - began)), flush=True)
            shown = now
        yield item
