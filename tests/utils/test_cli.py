"""All commands read flags, end with an error, and suggest what to run next in the same way."""

import ast
import re
import shlex
import sys
from pathlib import Path

import pytest
import tensorflow as tf
from absl import flags
from ml_collections import config_flags

from benchmarks import _common
from command_flags import apart
from data_prep import common
from unsup_video import configs
from unsup_video.data import records
from unsup_video.utils import calls, cli

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def home(tmp_path, monkeypatch):
    monkeypatch.setenv("HOME", str(tmp_path))
    return tmp_path


def test_the_home_folder_in_every_flag_argument_and_config(home, monkeypatch):
    file = home / "mine.py"
    file.write_text(
        "from unsup_video.configs import base\n\n\ndef get_config(recipe=''):\n"
        "    config = base.get_config(recipe)\n    config.data.digits_dir = '~/digits'\n"
        "    return config\n"
    )
    argv = configs.expand(
        ["pretrain", "--config=~/mine.py:toronto", "--config.data.records=~/r"],
        default="quickstart",
    )
    monkeypatch.setattr(sys, "argv", argv)  # where flags of config fields are looked for
    with apart():
        config = config_flags.DEFINE_config_file("config", None, "")
        out = flags.DEFINE_string("out", None, "")
        several = flags.DEFINE_multi_string("workdir", [], "")
        default = flags.DEFINE_string("cache", "~/cache", "")
        number = flags.DEFINE_integer("count", 3, "")
        left = cli._parse([*argv, "--out=~/data", "--workdir=a~b", "--workdir=~", "~/x", "y"])
        assert left == ["pretrain", f"{home}/x", "y"]
        assert (out.value, default.value, number.value) == (f"{home}/data", f"{home}/cache", 3)
        assert several.value == ["a~b", str(home)]
        assert config.value.data.records == f"{home}/r"
        assert config.value.data.digits_dir == f"{home}/digits"
        assert config.value.recipe.name == "toronto" and config.value.name == "base"
        named = cli.config_from_file(config)  # without what other flags change
        assert named.data.records == "" and named.data.digits_dir == f"{home}/digits"
        assert named.recipe == config.value.recipe


def test_an_error_of_a_config_file_is_one_line(home, monkeypatch):
    file = home / "mine.py"
    file.write_text('def get_config(name=""):\n    raise ValueError(f"no size {name}")\n')
    argv = ["pretrain", f"--config={file}:huge"]
    monkeypatch.setattr(sys, "argv", argv)
    with apart():
        config_flags.DEFINE_config_file("config", None, "")
        with pytest.raises(ValueError, match=f"--config={file}:huge: ValueError: no size huge$"):
            cli._parse(argv)


def test_paths_of_benchmarks(home):
    assert _common.flags("").parse_args(["--out=~/report.md"]).out == home / "report.md"


@pytest.mark.parametrize("path", ["runs/a", "my runs/it's; $(echo) #1", "läufe/ä b"])
def test_a_shell_reads_a_command_as_it_was_given(path):
    line = cli.command("eval.features", f"--workdir={path}", Path(path), note="it's # a note")
    words = shlex.split(line, comments=True)
    assert words == ["python", "-m", "eval.features", f"--workdir={path}", path]
    assert shlex.split(cli.command("tensorboard", "--logdir=x y")) == [
        "tensorboard",
        "--logdir=x y",
    ]


def test_what_comes_after_a_data_set_is_quoted(capsys):
    manifest = records.Manifest("x", {}, (3, 4), 2, (records.Shard("a", 2, 10, ""),))
    common.print_summary("my data/set", manifest, commands=[cli.command("train.pretrain", "a b")])
    after = capsys.readouterr().out.partition("next:\n")[2]
    assert [shlex.split(line)[2:] for line in after.splitlines()] == [
        ["data_prep.verify", "my data/set"],
        ["data_prep.show", "my data/set"],
        ["train.pretrain", "a b"],
    ]


def test_all_commands_say_what_comes_next_in_the_same_way():
    """No text of a program is "next:" but the one of `cli.print_next`."""
    found = []
    for folder in ("data_prep", "train", "eval", "unsup_video"):
        for path in sorted((ROOT / folder).rglob("*.py")):
            texts = [
                node.value
                for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
                if isinstance(node, ast.Constant) and isinstance(node.value, str)
            ]
            found += [path.name for text in texts if re.match(r"\s*next:", text)]
    assert found == ["cli.py"]


def fail(argv):
    try:
        return {}["what was asked for"]
    except KeyError:
        raise ValueError("x.json: the field is missing") from None


@pytest.mark.parametrize("error", [ValueError("x: it is cut\nshort"), OSError(2, "gone", "x")])
def test_an_error_inside_a_pipeline_is_one_line(error):
    def fail(_):
        raise error

    def read(argv):
        numbers = tf.data.Dataset.range(3)
        return list(numbers.map(lambda n: calls.pure(fail, [n], tf.int64)).prefetch(1))

    with pytest.raises(SystemExit) as ended:
        cli._one_line_errors(read)(sys.argv)
    assert ended.value.code == f"error: {error}"


def test_too_little_memory_is_one_line():
    message = "{{node x}} OOM when allocating tensor with shape[4096,12] and type float on /job:x"

    def fail(argv):
        raise tf.errors.ResourceExhaustedError(None, None, message)

    with pytest.raises(SystemExit) as ended:
        cli._one_line_errors(fail)(sys.argv)
    start = "error: out of memory (OOM when allocating tensor with shape[4096,12]): a smaller model"
    assert ended.value.code.startswith(start)


def test_a_full_disk_is_not_called_too_little_memory():
    def fail(argv):
        raise tf.errors.ResourceExhaustedError(None, None, "/x; No space left on device")

    with pytest.raises(SystemExit, match="error: /x; No space left on device"):
        cli._one_line_errors(fail)(sys.argv)


def test_an_error_of_tensorflow_itself_is_not_hidden():
    with pytest.raises(tf.errors.InvalidArgumentError):
        cli._one_line_errors(lambda argv: tf.reshape(tf.range(3), [2]))(sys.argv)


@pytest.mark.parametrize("debug", [False, True])
def test_an_error_is_one_line_and_its_whole_traceback_is_shown_on_request(
    capsys, monkeypatch, debug
):
    monkeypatch.setenv(cli.DEBUG, "1" if debug else "")
    with pytest.raises(SystemExit) as ended:
        cli._one_line_errors(fail)(sys.argv)
    assert ended.value.code == "error: x.json: the field is missing"
    shown = capsys.readouterr().err
    for text in (
        "Traceback",
        "in fail",
        "KeyError: 'what was asked for'",
        "ValueError: x.json: the field is missing",
    ):
        assert (text in shown) is debug
