"""Draws line charts as SVG inside a page; they take the page's text colour, light or dark."""

import dataclasses
import html
import io
import math
import re
from collections.abc import Sequence

import matplotlib
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, LogLocator, MaxNLocator, NullFormatter

from unsup_video.pictures import fonts

# Each has a contrast of at least 3:1 with the page, light and dark (report.css).
COLOURS = ("#2f81c8", "#cf6a22", "#28946a", "#c24d93", "#8467cf", "#a37a10", "#168f9f", "#d4504c")
TEXT = "#010203"  # a placeholder for the page's text colour, currentColor in the SVG
SOLID, DASHED, DOTTED, DASH_DOTTED = (), (7, 3), (1.5, 2.5), (7, 2.5, 1.5, 2.5)
_WIDTH, _HEIGHT = 4.8, 3.1  # inches; small, so that the text is legible on a phone
_STYLE = {
    "svg.fonttype": "none",
    "font.size": 9.5,
    "font.family": "sans-serif",
    "lines.scale_dashes": False,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.linewidth": 0.7,
    **dict.fromkeys(
        (
            "text.color",
            "axes.edgecolor",
            "axes.labelcolor",
            "xtick.color",
            "ytick.color",
            "grid.color",
        ),
        TEXT,
    ),
}


@dataclasses.dataclass(frozen=True)
class Line:
    """A line of a chart.

    Attributes:
        x, y: its points. low, high: of a band around it, one value per point, or None.
        bars: draw error bars instead of the band; they are easier to tell apart where lines cross.
        colour, dash, width: how to draw the line; dash and width in points.
    """

    label: str
    x: Sequence[float]
    y: Sequence[float]
    colour: str = TEXT
    dash: tuple[float, ...] = SOLID
    width: float = 1.8
    low: Sequence[float] | None = None
    high: Sequence[float] | None = None
    bars: bool = False

    @property
    def stroke(self) -> str:
        """The colour inside a page."""
        return "currentColor" if self.colour == TEXT else self.colour


def lines_from_rows(label: str, rows: Sequence, band: bool = False, **look) -> list[Line]:
    """Returns [the line of figures over frames], or [] if there are no figures.

    Args:
        rows: `results.Row`s. band: draw their intervals. look: fields of `Line`.
    """
    rows = [row for row in rows if row.frame is not None and math.isfinite(row.value)]
    if not rows:
        return []
    if band and all(row.low is not None for row in rows):
        look |= {"low": [row.low for row in rows], "high": [row.high for row in rows]}
    return [Line(label, [row.frame for row in rows], [row.value for row in rows], **look)]


def style(index: int) -> dict:
    """Returns the colour and dash for the line of run number `index`, from 0."""
    dashes = (SOLID, DASHED, DOTTED, DASH_DOTTED)
    return {
        "colour": COLOURS[index % len(COLOURS)],
        "dash": dashes[index // len(COLOURS) % len(dashes)],
    }


def svg(
    lines: list[Line],
    name: str,
    title: str,
    x_label: str,
    y_label: str,
    log: bool = False,
    settled: bool = False,
    ticks: Sequence[str] = (),
) -> str:
    """An <svg> of the lines, without their labels, which are for a legend beside it.

    Args:
        name: letters, digits and hyphens, different for every chart of the page.
        log: use a logarithmic y axis if all values are positive.
        settled: fit the y axis to the values after the first 5% of x.
        ticks: names for x = 0, 1, ..
    """
    figure = Figure((_WIDTH, _HEIGHT), layout="constrained")
    file = io.StringIO()
    with fonts.literal(), matplotlib.rc_context({**_STYLE, "svg.hashsalt": name}):
        axes = figure.add_subplot(title=title, xlabel=x_label, ylabel=y_label)
        axes.grid(alpha=0.15, linewidth=0.7)
        for line in lines:
            _draw(axes, line)
        whole = all(isinstance(x, int) for line in lines for x in line.x)
        axes.xaxis.set_major_locator(MaxNLocator(6, integer=whole))
        if ticks:
            axes.set_xticks(range(len(ticks)), ticks)
            axes.set_xlim(-0.5, len(ticks) - 0.5)
        if log and all(value > 0 for line in lines for value in line.y):
            log_scale(axes)
        elif settled:
            _settle(axes, lines)
        figure.savefig(file, format="svg", transparent=True, metadata={"Date": None})
    return _inline(file.getvalue(), name, title)


def log_scale(axes, which: str = "y") -> None:
    """Makes the axis `which`, "x" or "y", logarithmic, with numbers such as 0.002, not 10^-3."""
    axes.set(**{f"{which}scale": "log"})
    axis = getattr(axes, f"{which}axis")
    axis.set_major_locator(_LogLocator())
    axis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axis.set_minor_formatter(NullFormatter())


class _LogLocator(LogLocator):
    """Ticks at 1, 2, 5, 10, .. over a few decades, and at powers of 10 over more."""

    def tick_values(self, vmin, vmax):
        # With 2 and 5, matplotlib would give no ticks at all where there is no room for all.
        self.set_params(subs=(1, 2, 5) if vmax < 1e4 * vmin else (1,))
        return super().tick_values(vmin, vmax)


def _draw(axes, line):
    marker = "o" if len(line.x) == 1 or (len(line.x) <= 30 and line.width > 1.5) else ""
    axes.plot(
        line.x,
        line.y,
        color=line.colour,
        linestyle=(0, line.dash or None),
        linewidth=line.width,
        marker=marker,
        markersize=2 * line.width,
    )
    if line.low is None:
        return
    if line.bars:
        axes.vlines(line.x, line.low, line.high, color=line.colour, linewidth=line.width / 2)
    else:
        axes.fill_between(line.x, line.low, line.high, color=line.colour, alpha=0.18, linewidth=0)


def _settle(axes, lines):
    start = 0.05 * max((max(line.x) for line in lines), default=0)
    late = [y for line in lines for x, y in zip(line.x, line.y, strict=True) if x > start]
    if late:
        margin = 0.06 * (max(late) - min(late)) or 1.0
        axes.set_ylim(min(late) - margin, max(late) + margin)


def _inline(text, name, title):
    """Returns the <svg> of an SVG file, ready to be inlined in a page beside others."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', text)[0]
    label = html.escape(title)
    body = text[text.index(">") + 1 :].replace(TEXT, "currentColor")
    # Ids are global to a page, where charts would otherwise share their clipping paths.
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    return f'<svg class="chart" role="img" aria-label="{label}" {view}>{body}'
