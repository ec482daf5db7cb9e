"""The notebooks of examples/ run from start to end, and are stored as the tests read them."""

import re
from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient

ROOT = Path(__file__).parents[1]
NOTEBOOKS = sorted((ROOT / "examples").glob("*.ipynb"))
TIMEOUT = 300  # seconds, of a cell
# Fewer clips and passes than a reader has: the test is about the code.
SHORTER = {"tour.ipynb": {"400": "80", "epochs=20": "epochs=1"}}
ABSOLUTE_PATH = re.compile(r"(?<![\w./<:])/(?:[\w.-]+/)*[\w.-]+/?[\w.-]+")


@pytest.fixture(params=NOTEBOOKS, ids=lambda path: path.name)
def path(request):
    return request.param


@pytest.mark.slow
def test_a_notebook_runs(path, tmp_path, monkeypatch):
    """It runs in a folder of its own, where it may write, with the code of this checkout."""
    monkeypatch.setenv("PYTHONPATH", str(ROOT))
    (tmp_path / "examples").mkdir()
    (tmp_path / "saved_models").symlink_to(ROOT / "saved_models")
    notebook = nbformat.read(path, as_version=4)
    cells = [cell for cell in notebook.cells if cell.cell_type == "code"]
    for long, short in SHORTER.get(path.name, {}).items():
        assert any(long in cell.source for cell in cells)
        for cell in cells:
            cell.source = cell.source.replace(long, short)
    client = NotebookClient(
        notebook, timeout=TIMEOUT, resources={"metadata": {"path": tmp_path / "examples"}}
    )
    client.execute()  # raises CellExecutionError, with the traceback
    pictures = [
        output
        for cell in notebook.cells
        for output in cell.get("outputs", [])
        if "image/png" in output.get("data", {})
    ]
    assert len(pictures) >= 4


def test_a_notebook_shows_its_outputs(path):
    """What GitHub shows: all outputs, small ones, without errors or paths of a machine."""
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    code = [cell for cell in notebook.cells if cell.cell_type == "code"]
    assert [cell.execution_count for cell in code] == list(range(1, len(code) + 1))
    assert path.stat().st_size < 2e6
    outputs = [output for cell in code for output in cell.outputs]
    shown = [output.get("text", "") for output in outputs]
    shown += [x for o in outputs for kind, x in o.get("data", {}).items() if "text" in kind]
    assert [found for text in shown if (found := ABSOLUTE_PATH.findall(text))] == []
    assert not [output for output in outputs if output.output_type == "error"]
    assert not [output for output in outputs if output.get("name") == "stderr"]


def test_an_absolute_path_is_found():
    assert ABSOLUTE_PATH.findall("written: /home/me/a.png, C: /tmp/x") == [
        "/home/me/a.png",
        "/tmp/x",
    ]
    assert ABSOLUTE_PATH.findall("<b>a/b</b> runs/a/b.png https://keras.io/api/layers ../a/b") == []


def test_there_is_a_notebook():
    assert NOTEBOOKS
