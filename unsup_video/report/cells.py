"""Holds the tables, charts and pictures of the page as values; templates/parts.html draws them."""

import base64
import dataclasses
import math
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from PIL import Image

from unsup_video.evaluation.results import Row
from unsup_video.pictures import charts


@dataclasses.dataclass(frozen=True)
class Cell:
    """A cell of a table, or a link in a text.

    Attributes:
        text: the text of the cell. value: the exact figure behind it. interval: the text beside it.
        href, title: of a link. head: the cell names its line. floor: the cell names a floor.
    """

    text: str
    value: float | None = None
    interval: str = ""
    href: str = ""
    title: str = ""
    head: bool = False
    floor: bool = False


@dataclasses.dataclass(frozen=True)
class Table:
    """A table.

    Attributes:
        head: titles of the columns. lines: one cell per column; None is drawn as a dash.
        labels: number of columns with text; the others hold numbers.
    """

    head: Sequence[str]
    lines: Sequence[Sequence[Cell | str | None]]
    labels: int = 1


@dataclasses.dataclass(frozen=True)
class Charts:
    """Charts as SVG, and the lines of their common legend."""

    drawn: Sequence[str]
    lines: Sequence[charts.Line]

    @property
    def legend(self) -> list[charts.Line]:
        """One line per label."""
        return list({line.label: line for line in self.lines}.values())


@dataclasses.dataclass(frozen=True)
class Picture:
    """A picture inside the page: its data: URL, its size in pixels and its caption."""

    source: str
    width: int
    height: int
    caption: str
    moving: bool


def picture(path: Path, caption: str) -> Picture:
    """Reads a PNG or GIF. Raises OSError if it cannot be read."""
    with Image.open(path) as image:
        width, height, kind = *image.size, Image.MIME[image.format]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return Picture(f"data:{kind};base64,{data}", width, height, caption, path.suffix == ".gif")


def anchor(runs: list, run) -> str:
    """Returns the id of the article about a run."""
    return f"run-{runs.index(run) + 1}"


def run_cell(runs: list, run) -> Cell:
    """Returns the name of a run, linked to its article on the page."""
    return Cell(run.name, href=f"#{anchor(runs, run)}", head=True)


def figure(value: float, like: float) -> str:
    """Formats a figure with as many decimals as show three or four digits of `like`."""
    size = abs(like)
    if 0 < size < 0.001:
        return f"{value:.2e}"
    if size >= 0.1 or size == 0:
        return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3}f}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}"


def row_cell(row: Row | None) -> Cell | None:
    """Returns the value of a row with its interval."""
    if row is None:
        return None
    percent = row.unit == "%"
    shown = f"{row.value:.1f}" if percent else figure(row.value, row.value)
    if row.high is None:
        return Cell(shown, row.value)
    if percent:  # its interval is not symmetric
        return Cell(shown, row.value, f"({row.low:.1f} to {row.high:.1f})")
    return Cell(shown, row.value, f"± {figure(row.high - row.value, row.value)}")


def percent_cell(value: float, half: float | None) -> Cell:
    """Returns a percentage with its half interval or standard deviation, if known."""
    return Cell(f"{value:.1f}", value, "" if half is None else f"± {half:.1f}")


def figures(values: Mapping[str, float], columns: Iterable[str]) -> list[str | None]:
    """Returns one cell per column, None where there is no figure."""
    return [f"{values[name]:.1f}" if name in values else None for name in columns]


def cautions(name: str, notes: Iterable[str]) -> list[str]:
    """Returns the cautions about the figures of `name` as sentences."""
    return [f"{name}: {note}." for note in notes]


def metric_title(row: Row) -> str:
    """Returns a title such as "MSE (sum over pixels)"."""
    name = row.metric.replace("_", " ")
    name = name.upper() if name in ("mse", "mae", "ssim", "psnr", "lpips") else name
    return f"{name} ({row.unit})" if row.unit else name
