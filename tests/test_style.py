"""The rules of plain words that a program can check, for the folders that follow them so far."""

import ast
import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOLDERS = (
    "benchmarks",
    "data_prep",
    "eval",
    "train",
    "unsup_video/client.py",
    "unsup_video/configs",
    "unsup_video/data",
    "unsup_video/evaluation",
    "unsup_video/export.py",
    "unsup_video/models",
    "unsup_video/pictures",
    "unsup_video/report",
    "unsup_video/serving",
    "unsup_video/training",
    "unsup_video/utils",
    "unsup_video/video",
)
# A docstring says what a function does or returns, in a sentence with a subject or a verb.
OPENINGS = re.compile(r"(What|How|Of|Whether|Where|Which|Those|That)\b")
NAMES = {"of", "found", "most"}  # of what? these say nothing
CLASSES = {
    "Classified",
    "Exported",
    "Found",
    "Inflated",
    "Measured",
    "Opened",
    "Reported",
    "Trained",
}
# "frames a second" is "frames per second".
PER = re.compile(
    r"\b(bits|bytes|clips|examples|files|flows|frames|images|labels|nats|pixels|sequences|stacks"
    r"|steps|values|videos|windows) an? ([a-z]+)"
)


def _modules(path):
    return [path] if path.is_file() else sorted(path.rglob("*.py"))


MODULES = [path for folder in FOLDERS for path in _modules(ROOT / folder)]


def problems(text):
    """Yields (line, problem) of a module."""
    tree = ast.parse(text)
    for node in ast.walk(tree):
        if isinstance(node, ast.Module | ast.ClassDef | ast.FunctionDef):
            docstring = ast.get_docstring(node) or ""
            line = getattr(node, "lineno", 1)
            if opening := OPENINGS.match(docstring):
                yield line, f"a docstring opens with {opening[0]}"
            if match := PER.search(docstring):
                yield line, f"{match[0]!r} in a docstring: per {match[2]}"
        if isinstance(node, ast.ClassDef) and node.name.strip("_") in CLASSES:
            yield node.lineno, f"class {node.name}: name what it is, not what happened to it"
        if isinstance(node, ast.Call) and ast.unparse(node.func).startswith("flags.DEFINE"):
            for value in node.args:
                text = value.value if isinstance(value, ast.Constant) else None
                if isinstance(text, str) and (match := OPENINGS.match(text) or PER.search(text)):
                    yield node.lineno, f"the help of a flag has {match[0]!r}: say what it does"
        name = None
        if isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            name = node.id
        elif isinstance(node, ast.arg):
            name = node.arg
        elif isinstance(node, ast.FunctionDef):
            name = node.name
        if name in NAMES:
            yield node.lineno, f"the name {name} does not say of what"


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT)))
def test_plain_words(path):
    lines = [f"{path}:{line}: {text}" for line, text in problems(path.read_text("utf-8"))]
    assert not lines


def test_problems_are_noticed():
    text = '"""How fast, in frames a second."""\nclass _Found:\n    def of(self, most): pass\n'
    assert [line for line, _ in problems(text)] == [1, 1, 2, 3, 3]
    assert len(list(problems('flags.DEFINE_float("x", 1.0, "Of the box, a frame.")\n'))) == 1
    assert not list(problems('"""Returns frames per second; half a second."""\nprobe = 1\n'))
