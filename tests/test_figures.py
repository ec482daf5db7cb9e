"""Figures of the documentation equal the results that are stored beside it.

docs/results/NAME.json holds the results that NAME.md is about. Every decimal number in a table of
NAME.md, and in its sentences with a figure in nats, is one of them, rounded to the decimals shown.
The figures in the table of claims are those of the pages that a row links, and the README's those
of any of these files. A wrong figure is not found if it is another result of the same file.
"""

import json
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
RESULTS = ROOT / "docs" / "results"
PAGES = sorted(
    path.with_suffix(".md") for path in RESULTS.glob("*.json") if path.with_suffix(".md").exists()
)
DECIMAL = re.compile(r"(?<![\w.])-?\d[\d,]*\.\d+(?![\w.]*\d)")
PAPER = re.compile(r"\bpaper\b")  # the paper's figures are those of evaluation/paper.py


def numbers(value):
    """All numbers in a value that was read from JSON."""
    if isinstance(value, dict):
        value = list(value.values())
    if isinstance(value, list):
        return [number for item in value for number in numbers(item)]
    return [float(value)] if isinstance(value, (int, float)) else []


def unknown(text, stored):
    """The decimal numbers of a text that are none of the stored ones, rounded alike."""
    wrong = []
    for shown in DECIMAL.findall(text):
        decimals = len(shown.partition(".")[2])
        value = float(shown.replace(",", ""))
        # Half a unit of the last decimal: a tie may have been rounded either way.
        if all(abs(number - value) > 0.5001 * 10**-decimals for number in stored):
            wrong.append(shown)
    return wrong


def quoted(page):
    """The parts of a page whose decimal numbers are results: rows of tables, cells with the paper's
    figures left out, and sentences about nats."""
    prose = []
    for block in page.read_text(encoding="utf-8").split("\n\n"):
        if block.lstrip().startswith("```"):
            continue
        rows = [line for line in block.splitlines() if line.startswith("|")]
        yield from (row for row in rows if not PAPER.search(row))
        if not rows:
            prose += re.split(r"(?<=[.:;]) ", " ".join(block.split()))
    yield from (s for s in prose if "nats" in s and not PAPER.search(s))


def stored_in(*paths):
    return [number for path in paths for number in numbers(json.loads(path.read_text()))]


@pytest.mark.parametrize("page", PAGES, ids=lambda path: path.stem)
def test_figures_of_a_page_are_those_stored_beside_it(page):
    stored = stored_in(page.with_suffix(".json"))
    wrong = {text: found for text in quoted(page) if (found := unknown(text, stored))}
    assert not wrong


def test_figures_of_the_claims_are_those_of_their_pages():
    text = (RESULTS / "README.md").read_text(encoding="utf-8").partition("\n## ")[0]
    rows = [line.split("|")[1:-1] for line in text.splitlines() if line.startswith("| ")][1:]
    wrong = {}
    for claim, _, here, _, pages in rows:
        jsons = [RESULTS / f"{name}.json" for name in re.findall(r"\((\w+)\.md", pages)]
        stored = stored_in(*(path for path in jsons if path.exists()))
        if found := unknown(here, stored):
            wrong[claim] = found
    assert len(rows) > 10 and not wrong


def test_losses_in_the_readme_are_stored():
    stored = stored_in(*RESULTS.glob("*.json"))
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    losses = [part for part in quoted(ROOT / "README.md") if re.search(r"\b\d{3,4}\.\d\b", part)]
    assert losses and text
    assert not {part: found for part in losses if (found := unknown(part, stored))}


def test_a_figure_that_is_stored_nowhere_is_found():
    assert unknown("| 356.0 | 1,376.4 | -0.5 |", [355.96, 1376.44, -0.52]) == []
    assert unknown("| 356.1 | 0.53 |", [355.96, 0.5]) == ["356.1", "0.53"]
    assert numbers({"a": [1, {"b": 2.5}], "c": "3", "d": None}) == [1.0, 2.5]
