"""Line charts as SVG inside a page; they take the page's text colour, light or dark."""

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

# Each has a contrast of at least 3:1 to the page in light and in dark (report.css).
COLOURS = ("#2f81c8", "#cf6a22", "#28946a", "#c24d93", "#8467cf", "#a37a10", "#168f9f", "#d4504c")
TEXT = "#010203"  # stands for the page's text colour, which the SVG takes as currentColor
SOLID, DASHED, DOTTED, DASH_DOTTED = (), (7, 3), (1.5, 2.5), (7, 2.5, 1.5, 2.5)
_WIDTH, _HEIGHT = 4.8, 3.1  # inches; small, so that the text can be read on a phone
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
        x, y: its points. low, high: of a band around it, one value a point, or None.
        bars: draw error bars instead of the band, which can be told apart where lines cross.
        colour, dash, width: how it is drawn, in points.
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


def of_rows(label: str, rows: Sequence, band: bool = False, **look) -> list[Line]:
    """[the line of figures over their frames]; [] where there is none.

    Args:
        rows: `results.Row`s. band: with the interval of each. look: as of `Line`.
    """
    found = [row for row in rows if row.frame is not None and math.isfinite(row.value)]
    if not found:
        return []
    if band and all(row.low is not None for row in found):
        look |= {"low": [row.low for row in found], "high": [row.high for row in found]}
    return [Line(label, [row.frame for row in found], [row.value for row in found], **look)]


def style(index: int) -> dict:
    """Colour and dash of the line of run number `index`, 0, 1, .."""
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
    """An <svg> of the lines, without their labels: `legend` has those.

    Args:
        name: letters, digits and hyphens that no other chart of the page has.
        log: a logarithmic y axis, where all values are positive.
        settled: leave what is above the y axis out of sight if only the first 5% of x reach there.
        ticks: what x = 0, 1, .. are called.
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


def log_scale(axes) -> None:
    """Makes the y axis logarithmic, with numbers such as 0.002, where matplotlib has formulas."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.yaxis.set_minor_formatter(NullFormatter())


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
    """The <svg> of an SVG file, made to live in a page beside others."""
    text = text[text.index("<svg") :]
    text = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", text, flags=re.DOTALL)
    view = re.search(r'viewBox="[^"]*"', text)[0]
    label = html.escape(title)
    body = text[text.index(">") + 1 :].replace(TEXT, "currentColor")
    # Names are of the whole page, where charts would take one another's clipping paths.
    body = re.sub(r'(\bid="|href="#|url\(#)', rf"\g<1>{name}-", body)
    return f'<svg class="chart" role="img" aria-label="{label}" {view}>{body}'


def legend(lines: list[Line]) -> str:
    """The labels of lines, each beside a piece of its line, as HTML."""
    entries = []
    for line in {line.label: line for line in lines}.values():
        colour = "currentColor" if line.colour == TEXT else line.colour
        dash = " ".join(f"{length:g}" for length in line.dash) or "none"
        entries.append(
            '<li><svg class="swatch" viewBox="0 0 28 8" aria-hidden="true">'
            f'<line x1="0" x2="28" y1="4" y2="4" stroke="{colour}" stroke-dasharray="{dash}" '
            f'stroke-width="{line.width:g}"/></svg> {html.escape(line.label)}</li>'
        )
    return f'<ul class="legend">{"".join(entries)}</ul>'
