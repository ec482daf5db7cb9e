"""What the benchmarks share: medians, tables, the machine and what it can do at most.

TensorFlow is imported only where it is used: the parent process of `train_step` stays small.
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

from unsup_video.training import workdir

T = TypeVar("T")


@dataclasses.dataclass(frozen=True)
class Size:
    """A composite without conditional decoders that reads `frames` frames and decodes as many."""

    units: int = 2048
    layers: int = 1
    batch: int = 100
    frames: int = 10
    frame_dim: int = 64 * 64

    @property
    def products(self) -> list[tuple[int, int, int]]:
        """(weights, rows, how many) of a training step's matrix products.

        A recurrent one is of one step: forward and back to its input they follow one another. All
        others, the gradients of recurrent weights too, take all steps at once.

        Every product comes three times: forward, gradient of its weights, gradient of its input.
        The encoder's first input needs no gradient. The encoder starts from zeros, so its first
        recurrent product is none. A decoder's first layer has no input product.

        With the default size, in weights x steps x passes:
        encoder 4096 x 8192 x 10 x 2 + 2048 x 8192 x 9 x 3; each of the two decoders
        2048 x 8192 x 10 x 3 + 2048 x 4096 x 10 x 3; times 2 x 100: 527 GFLOP.
        """
        u, t, rows = self.units, self.frames, self.batch * self.frames
        gates, output = u * 4 * u, u * self.frame_dim  # weights of such a product
        products = [
            (self.frame_dim * 4 * u, rows, 2),
            (output, rows, 2 * 3),
            (gates, rows, 3 * 3 * (self.layers - 1)),
        ]  # between layers
        for steps, lstms in (t - 1, self.layers), (t, 2 * self.layers):
            products += [(gates, self.batch, 2 * steps * lstms), (gates, self.batch * steps, lstms)]
        return products

    @property
    def flop(self) -> int:
        """Floating-point operations of these products: 2 for each weight and row."""
        return 2 * sum(weights * rows * count for weights, rows, count in self.products)


def path(text: str) -> Path:
    """A path of a command line, with the home folder for `~`."""
    return Path(text).expanduser()


def flags(description: str) -> argparse.ArgumentParser:
    """A parser with the flags of every benchmark."""
    parser = argparse.ArgumentParser(
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
        allow_abbrev=False,
    )
    parser.add_argument("--units", type=int, default=2048)
    parser.add_argument("--rounds", type=int, default=7, help="each measures every contender once")
    parser.add_argument("--out", type=path, help="Markdown file to write the report to as well")
    return parser


def timed(function: Callable, *arguments) -> float:
    """Seconds of one call."""
    start = time.perf_counter()
    function(*arguments)
    return time.perf_counter() - start


def interleave(contenders: dict[str, Callable[[], T]], rounds: int) -> dict[str, list[T]]:
    """Measures all contenders in turn, `rounds` times, so that a slow minute hits them alike."""
    figures = {name: [] for name in contenders}
    for _ in range(rounds):
        for name, measure in contenders.items():
            figures[name].append(measure())
    return figures


def spread(figures: Sequence[float], form: str = ".3g") -> str:
    """ "median (lowest-highest)"."""
    median, low, high = statistics.median(figures), min(figures), max(figures)
    return f"{median:{form}} ({low:{form}}-{high:{form}})"


def table(columns: Sequence[str], rows: Iterable[Sequence]) -> str:
    """A Markdown table."""
    lines = [columns, ["---"] * len(columns), *rows]
    return "\n".join(f"| {' | '.join(str(cell) for cell in line)} |" for line in lines)


def report(title: str, parts: Sequence[str], out: Path | None) -> None:
    """Prints the parts; with `out` also writes them there, under a header."""
    print("\n" + "\n\n".join(parts))
    if out:
        out.parent.mkdir(parents=True, exist_ok=True)
        out.write_text("\n\n".join([f"# {title}", machine(), *parts]) + "\n", encoding="utf-8")
        print(f"\nwritten to {out}")


def machine() -> str:
    """When, where and with what this command runs, as a Markdown list."""
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
    """Seconds of the fastest of several calls, after one that is not timed."""
    product()
    return min(timed(product) for _ in range(repeats))


def gemm_rate(rows: int, inner: int, columns: int, dtype: str = "float32") -> float:
    """FLOP/s of the product (rows, inner) x (inner, columns), the best of several."""
    import tensorflow as tf

    a = tf.cast(tf.random.normal((rows, inner)), dtype)
    b = tf.cast(tf.random.normal((inner, columns)), dtype)
    return 2 * rows * inner * columns / best_seconds(lambda: tf.matmul(a, b))


def read_bandwidth(megabytes: int = 512) -> float:
    """Bytes/s at which a matrix is read over and over, by its products with a vector: from memory,
    or from a cache that is large enough for it."""
    import tensorflow as tf

    side = round((megabytes * 2**18 / 64**2) ** 0.5) * 64  # 2**18 float32 are 1 MB
    matrix = tf.fill((side, side), 1 / side)  # which leaves a vector of ones as it is
    # Of a small matrix many products in one call, so that starting a call is no part of the rate.
    repeats = max(1, 256 // megabytes)

    @tf.function(autograph=False)
    def products(vector):
        for _ in range(repeats):  # each waits for the one before
            vector = tf.matmul(matrix, vector)
        return vector

    vector = tf.ones((side, 1))
    return 4 * side**2 * repeats / best_seconds(lambda: products(vector))
