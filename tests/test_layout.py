"""The order of the folders of unsup_video: each imports only itself and those below it."""

import ast
from pathlib import Path

import pytest

PACKAGE = Path(__file__).parents[1] / "unsup_video"
ORDER = (  # from the bottom to the top
    "utils",
    "pictures",
    "configs",
    "models",
    "data",
    "training",
    "video",
    "evaluation",
    "report",
    "serving",
)
COMMANDS = {"client.py", "export.py"}  # beside the folders, above all of them


def imported(path):
    """The folders of unsup_video that a file imports from, anywhere in it."""
    for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
        if isinstance(node, ast.ImportFrom):
            assert not node.level, f"{path}: a relative import"
            names = [f"{node.module}.{alias.name}" for alias in node.names]
        elif isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        else:
            continue
        for name in names:
            package, *rest = name.split(".")
            assert package not in ("data_prep", "train", "eval", "benchmarks"), f"{path}: {name}"
            if package == "unsup_video" and rest:
                yield rest[0]


def test_every_folder_has_its_place():
    folders = {path.name for path in PACKAGE.iterdir() if (path / "__init__.py").exists()}
    assert folders == set(ORDER)
    assert {path.name for path in PACKAGE.glob("*.py")} == COMMANDS | {"__init__.py"}


@pytest.mark.parametrize("folder", ORDER)
def test_imports_point_downwards(folder):
    allowed = set(ORDER[: ORDER.index(folder) + 1])
    upwards = {
        f"{path.relative_to(PACKAGE)} imports {name}"
        for path in (PACKAGE / folder).rglob("*.py")
        for name in imported(path)
        if name not in allowed | {"__version__"}
    }
    assert not upwards
