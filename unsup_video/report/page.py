"""Renders the page of `report` as HTML, with every picture inside it."""

import json
from collections.abc import Sequence
from pathlib import Path

import jinja2

from unsup_video.report import sections

_TEMPLATES = jinja2.Environment(
    loader=jinja2.FileSystemLoader(Path(__file__).with_name("templates")),
    autoescape=True,
    undefined=jinja2.StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.filters["indented"] = lambda value: json.dumps(value, indent=2)


def render(runs: list, command: str, time: str, studies: Sequence = ()) -> str:
    """Returns the page of `report.Run`s and `report.Study`s as HTML; arguments: `report.write`."""
    contents = [(section, section.content(runs, studies)) for section in sections.SECTIONS]
    return _TEMPLATES.get_template("page.html").render(
        sections=[(section, content) for section, content in contents if content is not None],
        summaries=[section.summary(runs, studies) for section in sections.SECTIONS],
        runs=runs,
        studies=studies,
        command=command,
        time=time,
    )
