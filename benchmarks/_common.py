"""Functions that the benchmarks share: medians, tables, the machine and its peak rates.

TensorFlow is imported only where it is used, so that the parent process of `train_step` is small.
What the top of this module imports needs the standard library alone: PyTorch's interpreter has no
more.
"""

import argparse
import dataclasses
import datetime
import os
import platform
import shlex
import statistics
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import TypeVar

from unsup_video.training import operations

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Size:
    """The size of a composite that reads `frames` frames and decodes as many.

    `conditional` is "" for unconditional decoders; otherwise both read their previous frames in
    training, "truth" or "own" as in `video_models.build`.
    """

    units: int = 2048
    layers: int = 1
    batch: int = 100
    frames: int = 10
    frame_dim: int = 64 * 64
    conditional: str = ""

    @property
    def flop(self) -> int:
        """Floating-point operations of a training step's matrix products."""
        decoders = [operations.DecoderSize(self.frames, self.conditional)] * 2
        return operations.flop(
            self.units, self.layers, self.batch, self.frame_dim, self.frames, decoders
        )


def path(text: str) -> Path:
    """Returns a path of a command line, with the home folder for `~`."""
    return Path(text).expanduser()


def values_of(kind: type[T]) -> Callable[[str], list[T]]:
    """Returns a type for argparse: values separated by commas."""
    return lambda text: [kind(value) for value in text.split(",")]


def flags(description: str, units: int | None = 2048) -> argparse.ArgumentParser:
    """Returns a parser with the flags of every benchmark.

    Args:
        units: the default of --units; None for a benchmark without that flag.
    """
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--rounds", type=int, default=7, help="measurements of every contender")
    parser.add_argument("--out", type=path, help="also write the report to this Markdown file")
    if units is not None:
        parser.add_argument("--units", type=int, default=units, help="units per layer")
    return parser


def timed(function: Callable, *arguments) -> float:
    """Returns the seconds of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def interleave(contenders: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measures all contenders in turn, `rounds` times, so that a slow minute affects all."""
    figures = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            figures[name].append(measure())
    return figures


def spread(figures: Sequence[float], form: str = ".3g") -> str:
    """Returns "median (lowest-highest)"."""
    median, low, high = statistics.median(figures), min(figures), max(figures)
    return f"{median:{form}} ({low:{form}}-{high:{form}})"


def table(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """Returns a Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def report(title: str, parts: Sequence[str], out: Path | None) -> None:
    """Prints the parts, and also writes them to `out`, if given, under a header.

    If that file exists, its section `## Notes` and all that follows it stay: they are written by
    hand.
    """
    print("\n" + "\n\n".join(parts))
    if out:
        from unsup_video.utils import files  # imports more than the standard library

        out.parent.mkdir(parents=True, exist_ok=True)
        written = "\n\n".join([f"# {title}", machine(), *parts]) + "\n"
        files.write_text(out, written + _notes(out))
        print(f"\nwritten to {out}")


def _notes(page: Path) -> str:
    if not page.exists():
        return ""
    _, heading, notes = page.read_text(encoding="utf-8").partition("\n## Notes\n")
    return heading + notes


def machine() -> str:
    """Returns date, machine, versions and command line as a Markdown list."""
    from unsup_video.training import workdir

    packages = ("tensorflow", "keras", "numpy", "jax", "torch")
    versions = [f"Python {platform.python_version()}"] + [
        f"{name} {version}" for name in packages if (version := workdir.version(name))
    ]
    command = f"python -m {sys.modules['__main__'].__spec__.name} {shlex.join(sys.argv[1:])}"
    lines = {
        "date": datetime.date.today().isoformat(),
        "CPU": f"{workdir.cpu()}, {os.cpu_count()} cores",
        "versions": ", ".join(versions),
        "command": f"`{command.strip()}`",
    }
    return "\n".join(f"- {name}: {value}" for name, value in lines.items())


def best_seconds(product: Callable, repeats: int = 5) -> float:
    """Returns the seconds of the fastest of several calls, after one that is not timed."""
    product()
    return min(timed(product) for _ in range(repeats))


def gemm_rate(rows: int, inner: int, columns: int, dtype: str = "float32") -> float:
    """Returns the FLOP/s of the product (rows, inner) x (inner, columns), the best of several."""
    import tensorflow as tf

    a = tf.cast(tf.random.normal((rows, inner)), dtype)
    b = tf.cast(tf.random.normal((inner, columns)), dtype)
    return 2 * rows * inner * columns / best_seconds(lambda: tf.matmul(a, b))


def read_bandwidth(megabytes: int = 512) -> float:
    """Returns the bytes/s at which products with a vector read a matrix over and over.

    It is read from memory, or from a cache that is large enough.
    """
    import tensorflow as tf

    side = round((megabytes * 2**18 / 64**2) ** 0.5) * 64  # 2**18 float32 are 1 MB
    matrix = tf.fill((side, side), 1 / side)  # maps a vector of ones to itself
    # One call has many products of a small matrix, so that the overhead of calls does not count.
    repeats = max(1, 256 // megabytes)

    @tf.function(autograph=False)
    def products(vector):
        for _ in range(repeats):  # each product waits for the previous one
            vector = tf.matmul(matrix, vector)
        return vector

    vector = tf.ones((side, 1))
    return 4 * side**2 * repeats / best_seconds(lambda: products(vector))
