"""What all commands share: how they read flags."""

import sys

import pytest
from absl import flags
from command_flags import apart
from ml_collections import config_flags

from benchmarks import _common
from unsup_video import cli, configs


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
    argv = configs.expand(["pretrain", "--config=~/mine.py:toronto", "--config.data.records=~/r"],
                          default="quickstart")
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


def test_paths_of_benchmarks(home):
    assert _common.flags("").parse_args(["--out=~/report.md"]).out == home / "report.md"
