"""A line every few seconds while a command writes."""

import time
from collections.abc import Iterable, Iterator


def report(items: Iterable, total: int, what: str, every: float = 5.0) -> Iterator:
    """Passes `items` on, of which there are `total`, and prints how many there were so far."""
    began = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - shown >= every:
            rate = done / (now - began)
            print(f"{done:,} of {total:,} {what} ({done / total:.0%}), {rate:,.0f} a second, "
                  f"{(total - done) / rate:,.0f} s to go", flush=True)
            shown = now
        yield item
