"""The pieces of HTML that the sections of the page are made of."""

import base64
import html
import json
import math
from collections.abc import Iterable, Mapping
from pathlib import Path

from PIL import Image

from unsup_video.evaluation.results import Row
from unsup_video.pictures import charts

_NUMBER = ' class="number"'


def text(value: object) -> str:
    """What is no HTML, as HTML."""
    return html.escape(str(value))


def code(command: str) -> str:
    """A command line."""
    # Pieces that stay whole: a browser would break lines after the hyphens of a flag.
    words = " ".join(f"<span>{text(word)}</span>" for word in command.split(" "))
    return f'<pre class="command"><code>{words}</code></pre>'


def details(summary: str, content: str) -> str:
    """HTML that is hidden until one asks for it."""
    return f"<details><summary>{text(summary)}</summary>{content}</details>"


def table(head: list[str], lines: list[list[str]], labels: int = 1) -> str:
    """A table that scrolls in its own box; the columns behind the first `labels` are numbers.

    Args:
        lines: of cells, HTML with their <td>.
    """
    columns = "".join(
        f'<th scope="col"{_NUMBER if k >= labels else ""}>{text(title)}</th>'
        for k, title in enumerate(head)
    )
    body = "".join(f"<tr>{''.join(cells)}</tr>" for cells in lines)
    return (
        f'<div class="scroll" tabindex="0"><table><thead><tr>{columns}</tr></thead>'
        f"<tbody>{body}</tbody></table></div>"
    )


def label(value: object) -> str:
    """A cell of text."""
    return f"<td>{text(value)}</td>"


def number(content: str = "–") -> str:
    """A cell of HTML on the right; a dash for a figure that is not there."""
    return f"<td{_NUMBER}>{content}</td>"


def run_cell(runs: list, run) -> str:
    """The head of a line about a run."""
    return f'<th scope="row">{run_link(runs, run)}</th>'


def run_link(runs: list, run) -> str:
    """The name of a run, which leads to what the page says of it."""
    return f'<a href="#{anchor(runs, run)}">{text(run.name)}</a>'


def anchor(runs: list, run) -> str:
    """The id of the article about a run."""
    return f"run-{runs.index(run) + 1}"


def figure(value: float, like: float) -> str:
    """A figure with as many decimals as show three or four digits of `like`."""
    size = abs(like)
    if 0 < size < 0.001:
        return f"{value:.2e}"
    if size >= 0.1 or size == 0:
        return f"{value:.{1 if size >= 100 else 2 if size >= 10 else 3}f}"
    return f"{value:.{2 - math.floor(math.log10(size))}f}"


def row_cell(row: Row | None) -> str:
    """The value of a row with its interval; the exact one is in the element <data>."""
    if row is None:
        return number()
    if row.unit == "%":  # its interval is not symmetric
        interval = None if row.high is None else f"({row.low:.1f} to {row.high:.1f})"
        return _with_interval(row.value, f"{row.value:.1f}", interval)
    half = None if row.high is None else f"&plusmn; {figure(row.high - row.value, row.value)}"
    return _with_interval(row.value, figure(row.value, row.value), half)


def percent_cell(value: float, half: float | None) -> str:
    """A percentage with what it varies by, if that is known."""
    return _with_interval(value, f"{value:.1f}", None if half is None else f"&plusmn; {half:.1f}")


def figures(found: Mapping[str, float], columns: Iterable[str]) -> list[str]:
    """A cell for each column, with a dash where there is no figure."""
    return [number(f"{found[name]:.1f}") if name in found else number() for name in columns]


def _with_interval(value, shown, interval):
    interval = "" if interval is None else f' <span class="interval">{interval}</span>'
    return number(f'<data value="{value!r}">{shown}</data>{interval}')


def cautions(name: str, notes: list[str]) -> str:
    """Paragraphs of what a reader has to know of the figures of a run."""
    return "".join(f'<p class="caution">{text(name)}: {text(note)}.</p>' for note in notes)


def metric_title(row: Row) -> str:
    """ "mse (sum over pixels)"."""
    name = row.metric.replace("_", " ")
    name = name.upper() if name in ("mse", "mae", "ssim", "psnr", "lpips") else name
    return f"{name} ({row.unit})" if row.unit else name


def listing(value) -> str:
    """JSON values as text."""
    return f'<pre class="listing"><code>{text(json.dumps(value, indent=2))}</code></pre>'


def chart_grid(drawn: list[str], lines: list[charts.Line]) -> str:
    """Charts side by side, and one legend of their lines."""
    return f'<div class="charts">{"".join(drawn)}</div>{charts.legend(lines)}'


def of_kind(runs: list, kind: str) -> list:
    """The runs that have an evaluation of that kind, or a reason why not."""
    return [run for run in runs if kind in run.evaluations]


def commands(runs: list, kind: str) -> str:
    """The commands that make the evaluations of that kind."""
    found = dict.fromkeys(
        run.evaluations[kind].command
        for run in of_kind(runs, kind)
        if not isinstance(run.evaluations[kind], str)
    )
    return "".join(["<p>Made by</p>", *map(code, found)]) if found else ""


def pictures(found: list[tuple[Path, str]]) -> str:
    """Figures of (path, caption): the still ones below one another, the animations in a grid."""
    still, moving = [], []
    for path, caption in found:
        kind = moving if path.suffix == ".gif" else still
        kind.append(
            f"<figure>{_image(path, caption)}<figcaption>{text(caption)}</figcaption></figure>"
        )
    grid = f'<div class="animations">{"".join(moving)}</div>' if moving else ""
    return f'<div class="stills">{"".join(still)}</div>{grid}'


def _image(path, alt):
    with Image.open(path) as picture:
        width, height, kind = *picture.size, Image.MIME[picture.format]
    data = base64.b64encode(path.read_bytes()).decode("ascii")
    return (
        f'<div class="scroll" tabindex="0"><img src="data:{kind};base64,{data}" '
        f'width="{width}" height="{height}" alt="{text(alt)}"></div>'
    )
