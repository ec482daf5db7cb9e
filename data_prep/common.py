"""Prints progress and results for the commands that write a data set."""

import time
from collections.abc import Iterable, Iterator, Sequence

from unsup_video.data import records
from unsup_video.utils import cli, progress


def show_progress(items: Iterable, total: int, what: str, every: float = 5.0) -> Iterator:
    """Passes on `items`, of which there are `total`, and prints how many have passed so far."""
    began = shown = time.monotonic()
    for done, item in enumerate(items):
        now = time.monotonic()
        if done and now - shown >= every:
            print(progress.line(done, total, what, done / (now - began)), flush=True)
            shown = now
        yield item


def print_summary(
    out: str, manifest: records.Manifest, *notes: str, commands: Sequence[str] = ()
) -> None:
    """Prints the contents of a data set, then `notes`, then what to run next.

    Args:
        commands: more suggestions, lines of `cli.command`.
    """
    size = sum(shard.bytes for shard in manifest.shards)
    classes = f", {len(manifest.classes)} classes" if manifest.classes else ""
    print(
        f"wrote {out}: {manifest.count:,} sequences of {records.format_shape(manifest.shape)} "
        f"{manifest.dtype}{classes}, in {len(manifest.shards)} files, {size / 1e6:,.1f} MB"
    )
    for note in notes:
        print(note)
    cli.print_next(
        cli.command("data_prep.verify", out), cli.command("data_prep.show", out), *commands
    )
