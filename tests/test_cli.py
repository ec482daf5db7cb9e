"""What commands print to be run next; their errors are tested where they are raised."""

import ast
import re
import shlex
from pathlib import Path

import pytest

from data_prep import common
from unsup_video import cli
from unsup_video.data import records

ROOT = Path(__file__).parents[1]


@pytest.mark.parametrize("path", ["runs/a", "my runs/it's; $(echo) #1", "läufe/ä b"])
def test_a_shell_reads_a_command_as_it_was_given(path):
    line = cli.command("eval.features", f"--workdir={path}", Path(path), note="it's # a note")
    words = shlex.split(line, comments=True)
    assert words == ["python", "-m", "eval.features", f"--workdir={path}", path]
    assert shlex.split(cli.command("tensorboard", "--logdir=x y")) == ["tensorboard", "--logdir=x y"]


def test_what_comes_after_a_data_set_is_quoted(capsys):
    manifest = records.Manifest("x", {}, (3, 4), 2, (records.Shard("a", 2, 10, ""),))
    common.written("my data/set", manifest, commands=[cli.command("train.pretrain", "a b")])
    after = capsys.readouterr().out.partition("next:\n")[2]
    assert [shlex.split(line)[2:] for line in after.splitlines()] == [
        ["data_prep.verify", "my data/set"], ["data_prep.show", "my data/set"],
        ["train.pretrain", "a b"],
    ]


def test_all_commands_say_what_comes_next_in_the_same_way():
    """No text of a program is "next:" but the one of `cli.print_next`."""
    found = []
    for folder in ("data_prep", "train", "eval", "unsup_video"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            texts = [node.value for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                     if isinstance(node, ast.Constant) and isinstance(node.value, str)]
            found += [path.name for text in texts if re.match(r"\s*next:", text)]
    assert found == ["cli.py"]
