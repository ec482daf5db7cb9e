"""Every command that the documentation gives is parsed as far as its flags, and not run."""

import argparse
import ast
import contextlib
import importlib
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from absl import flags

import command_flags
from unsup_video.utils import cli

ROOT = Path(__file__).parents[1]
PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
    ROOT / "serving" / "README.md",
    ROOT / "saved_models" / "README.md",
]
PACKAGES = ("benchmarks", "data_prep", "eval", "train", "unsup_video")
MODULES = [path for name in PACKAGES for path in sorted((ROOT / name).rglob("*.py"))]
WITH_COMMANDS = [
    path for path in [*PAGES, *MODULES] if "python -m" in path.read_text(encoding="utf-8")
]
# A script finds no program but python, which prints its arguments instead.
BASH = r"""
PATH=/nonexistent
command_not_found_handle() { :; }
python() { printf '%s\0' "$@" >&3; printf '\036' >&3; }
exec 3>&1 1>/dev/null
"""
TAKE_ARGUMENTS = ("data_prep.show", "data_prep.verify")  # which are no flags
# What stands for a value that the reader chooses; None: nothing is parsed there.
PLACEHOLDERS = {
    "--config=NAME": None,
    "--units=N": "--units=1",
    "..": None,
    "--step_seconds=S": "--step_seconds=1",
}


def page_scripts(path):
    """Yields the code of a page: its blocks, and the commands in its sentences."""
    text = path.read_text(encoding="utf-8")
    blocks = re.findall(r"^( *)```(\w*)\n(.*?)^\1```", text, re.DOTALL | re.MULTILINE)
    yield from (code for _, language, code in blocks if language in ("", "bash"))
    rest = re.sub(r"^( *)```.*?^\1```", "", text, flags=re.DOTALL | re.MULTILINE)
    yield from in_sentences(rest)


def module_scripts(path):
    """Yields the commands in the docstring of a module: indented, and in its sentences."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    yield from re.findall(r"^    .*(?:\n    .*)*", text, re.MULTILINE)
    yield from in_sentences(text)


def in_sentences(text):
    """Yields commands between backticks, with the first of [--a | --b] and no [:RECIPE]."""
    for code in re.findall(r"`(python -m \S+ [^`]*)`", text):
        code = re.sub(r"\[(--[^ |\]]*\w)(?:[ |][^\]]*)?\]", r"\1", re.sub(r"\[:\w+\]", "", code))
        yield re.sub(r"\|none|\[.*?\]", "", " ".join(code.split()))


def commands(script, folder):
    """Returns (module, arguments) of our commands that a script starts, with loops unrolled."""
    if "python -m" not in script:
        return []
    done = subprocess.run(
        [shutil.which("bash"), "-c", BASH + script.replace(".venv/bin/python", "python")],
        cwd=folder,
        capture_output=True,
        text=True,
        timeout=60,
        env={},
    )
    found = [line.split("\0")[:-1] for line in done.stdout.split("\036")[:-1]]
    return [
        (module, [given for text in arguments if (given := PLACEHOLDERS.get(text, text))])
        for option, module, *arguments in (line for line in found if line[:1] == ["-m"])
        if module.split(".")[0] in PACKAGES
    ]


class Parsed(Exception):
    """The flags are right."""


@pytest.fixture
def parse(monkeypatch):
    """Starts a command as `python -m` does, up to where its flags are parsed."""

    def run(main):
        rest = cli._parse(sys.argv)[1:]
        assert not rest or "--" in sys.argv or sys.argv[0] in TAKE_ARGUMENTS, f"{rest}: no flags"
        raise Parsed

    def parse_args(parser, *, parse=argparse.ArgumentParser.parse_args):
        parse(parser)
        raise Parsed

    monkeypatch.setattr(cli, "run", run)
    monkeypatch.setattr(argparse.ArgumentParser, "parse_args", parse_args)

    def parse(module, arguments):
        with command_flags.apart(), contextlib.suppress(Parsed):
            monkeypatch.setattr(sys, "argv", [module, *arguments])
            try:
                command = importlib.import_module(module)
            except ModuleNotFoundError as error:
                if error.name.split(".")[0] in PACKAGES:
                    raise
                pytest.skip(f"{module} needs {error.name}")
            (command.main if module.startswith("benchmarks.") else command.run)()
            pytest.fail(f"{module} parses no flags")

    return parse


@pytest.mark.parametrize(
    "path", WITH_COMMANDS, ids=[str(path.relative_to(ROOT)) for path in WITH_COMMANDS]
)
def test_the_flags_of_every_command_exist(path, parse, tmp_path):
    scripts = page_scripts(path) if path.suffix == ".md" else module_scripts(path)
    refused = []
    for script in scripts:
        for module, arguments in commands(script, tmp_path):
            try:
                parse(module, arguments)
            except (SystemExit, Exception) as error:
                refused.append(f"{module} {' '.join(arguments)}: {error}")
    assert not refused


def test_commands_are_found_where_they_stand(tmp_path):
    code = "for k in 1 2; do\n  python -m eval.features \\\n    --workdir=runs/$k\ndone\nrm -r x"
    assert commands(code, tmp_path) == [("eval.features", [f"--workdir=runs/{k}"]) for k in "12"]
    text = "Runs `python -m train.pretrain [--config=NAME[:RECIPE]] [--xla | --check]`."
    assert list(in_sentences(text)) == ["python -m train.pretrain --config=NAME --xla"]
    assert sum(len(commands(code, tmp_path)) for code in page_scripts(ROOT / "README.md")) > 20


def test_a_flag_that_does_not_exist_is_found(parse):
    with pytest.raises(flags.Error, match="no_such"):
        parse("train.pretrain", ["--no_such=1"])
    with pytest.raises(ValueError, match="no such config field: .*no_such"):
        parse("train.pretrain", ["--config.data.no_such=1"])
    with pytest.raises(SystemExit):
        parse("benchmarks.train_step", ["--no_such"])
    with pytest.raises(AssertionError, match="no flags"):
        parse("eval.features", ["runs/a"])
    parse("train.pretrain", ["--config=patches_small", "--config.data.records=x"])


def pages_named(path):
    """The Markdown pages that a page or a module names: as docs/.., and by relative links."""
    text = path.read_text(encoding="utf-8")
    # What a longer path ends with is a link, or of another project.
    found = [ROOT / name for name in re.findall(r"(?<![\w/.-])docs/[\w/.-]*\.md\b", text)]
    if path.suffix == ".md":
        links = re.findall(r"\]\(([^)#:\s]+\.md)(?:#[^)\s]*)?\)", text)
        found += [path.parent / link for link in links]
    return found


@pytest.mark.parametrize(
    "path",
    [*PAGES, *sorted(ROOT.glob("C*.md")), *MODULES],
    ids=lambda path: str(path.relative_to(ROOT)),
)
def test_the_pages_that_are_named_exist(path):
    missing = sorted({str(page) for page in pages_named(path) if not page.is_file()})
    assert not missing, f"{path} names pages that do not exist: {missing}"


def test_pages_are_found_where_they_are_named():
    assert ROOT / "docs/serving.md" in pages_named(ROOT / "docs" / "evaluation.md")
    assert ROOT / "serving/../docs/serving.md" in pages_named(ROOT / "serving" / "README.md")
    assert ROOT / "docs/scale.md" in pages_named(ROOT / "README.md")  # with a heading behind #
    assert (
        pages_named(ROOT / "unsup_video" / "configs" / "patches_small.py")
        == [ROOT / "docs/results/patches.md"] * 2
    )
