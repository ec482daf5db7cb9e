"""Formats the progress of a long job as a line of text."""


def line(done: int, total: int, what: str, rate: float) -> str:
    """Returns a line saying that `done` of `total` things are done, at `rate` per second.

    >>> line(30, 120, "videos", 0.5)
    '30 of 120 videos (25%), 0.5 per second, 3 min to go'
    """
    speed = f"{rate:,.0f}" if rate >= 10 else f"{rate:.2g}"
    left = duration((total - done) / rate)
    return f"{done:,} of {total:,} {what} ({done / total:.0%}), {speed} per second, {left} to go"


def duration(seconds: float) -> str:
    """Formats a duration for people: "40 s", "3 min", "2.5 h"."""
    if seconds < 100:
        return f"{seconds:.0f} s"
    return f"{seconds / 60:.0f} min" if seconds < 6000 else f"{seconds / 3600:,.1f} h"
