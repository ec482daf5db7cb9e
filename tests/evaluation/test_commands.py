"""The evaluation commands, in this process: what they print, store and refuse."""

import json
import shlex
import shutil
import sys
from pathlib import Path

import pytest
from absl import flags

import command_flags
import labelled
from unsup_video.evaluation import features, future_prediction, results, testset
from unsup_video.report import report


@pytest.fixture
def call(tmp_path, monkeypatch, capsys):
    """Calls the `main` of a command with flags, in a folder of its own; returns what it printed."""
    monkeypatch.chdir(tmp_path)

    def main(name, *given):
        argv = [f"eval.{name}", *map(str, given)]
        monkeypatch.setattr(sys, "argv", argv)  # which eval.report stores
        with command_flags.command(f"eval.{name}") as command:
            assert command.main(flags.FLAGS(argv)) == 0
        return capsys.readouterr().out

    return main


def written(printed):
    """The evaluations whose folders a command printed."""
    lines = printed.splitlines()
    folders = [line.removeprefix("written: ") for line in lines if line.startswith("written: ")]
    return [results.load(folder) for folder in folders]


@pytest.mark.slow
@pytest.mark.parametrize(
    "name, given, shown",
    [
        ("future_prediction", ["--clips=20", "--metric_convention=openstl"], "openstl"),
        ("long_range", ["--clips=3", "--steps=12", "--units=5"], "late/early"),
        ("out_of_domain", ["--clips=4", "--num_digits=1"], "1 digit"),
        ("features", ["--count=4"], "strip_length"),
    ],
)
def test_the_stored_command_finds_the_same_evaluation(fresh, call, name, given, shown):
    printed = call(name, f"--workdir={fresh.path}", *given)
    (evaluation,) = written(printed)
    assert shown in printed and evaluation.kind == name and evaluation.rows
    assert evaluation.folder.parent == fresh.path / "eval"
    program, argument, module, *stored = shlex.split(evaluation.command)
    assert [program, argument, module] == ["python", "-m", f"eval.{name}"]
    assert {f"--workdir={fresh.path}", given[0]} <= {*stored}
    before = evaluation.folder.stat().st_mtime_ns
    (again,) = written(call(name, *stored))
    assert again.folder == evaluation.folder and again.rows == evaluation.rows
    assert evaluation.folder.stat().st_mtime_ns == before  # it was read, not computed
    call(name, *stored, "--recompute")
    assert evaluation.folder.stat().st_mtime_ns != before


def test_runs_that_were_tested_on_different_data(fresh, call, tmp_path):
    other = tmp_path / "one_digit"
    shutil.copytree(fresh.path, other)
    config = json.loads((other / "config.json").read_text())
    config["data"]["num_digits"] = 1
    (other / "config.json").write_text(json.dumps(config))
    both = [f"--workdir={fresh.path}", f"--workdir={other}"]
    printed = call("future_prediction", *both, "--clips=4")
    assert [e.folder.parents[1] for e in written(printed)] == [fresh.path, other]
    assert "CAUTION: these runs were tested on different data" in printed
    same = call("future_prediction", both[0], "--clips=4")
    assert "CAUTION" not in same


def test_a_page_of_a_run(fresh, call, tmp_path, monkeypatch):
    """Its flags, with two small evaluations; test_report.py has the others."""
    asked = []

    def evaluate(model, options):
        asked.append((model.path, options))
        tested = future_prediction.evaluate(model, testset.generated(model.config, 4), "python")
        return {tested.kind: tested, features.KIND: features.evaluate(model, count=4)}

    monkeypatch.setattr(report, "evaluate", evaluate)
    given = [f"--workdir={fresh.path}", "--clips=4", "--metric_convention=predrnn", "--out=page"]
    printed = call("report", *given)
    assert asked == [(fresh.path, report.Options(4, None, "predrnn", False))]
    assert f"written: {Path('page', 'index.html')}" in printed
    rows = json.loads((tmp_path / "page" / "results.json").read_text())["rows"]
    assert {row["kind"] for row in rows} == {future_prediction.KIND, features.KIND}
    with pytest.raises(ValueError, match="--overwrite"):
        call("report", *given)
    call("report", *given, "--overwrite", "--recompute")
    assert asked[-1][1].recompute


@pytest.mark.parametrize(
    "name, given, message",
    [
        ("out_of_domain", ["--num_digits=1,a"], "--num_digits=1,a: whole numbers expected"),
        ("future_prediction", ["--lpips"], "--lpips needs the package lpips: pip install lpips"),
        ("features", ["features.png"], "unknown argument 'features.png'"),
        ("features", ["--precision=float32"], "--precision has no effect here"),
        ("features", ["--digits_dir=mnist"], "--digits_dir has no effect here"),
        ("report", [], "--out=FOLDER is missing"),
    ],
)
def test_bad_flags(fresh, call, monkeypatch, name, given, message):
    monkeypatch.setitem(sys.modules, "lpips", None)
    with pytest.raises(ValueError, match=message):
        call(name, f"--workdir={fresh.path}", *given)


def test_flags_of_a_page_without_such_a_run(call, tmp_path):
    data = labelled.write(tmp_path / "percepts", labelled.videos())
    labelled.untrained(labelled.a_config(data), tmp_path / "classifier")
    for given, message in (
        (["--clips=4"], "--clips is for runs of train.pretrain, and none is given"),
        (["--digits_dir=mnist"], "--digits_dir is for models of generated clips, and none"),
    ):
        with pytest.raises(ValueError, match=message):
            call("report", "--workdir=classifier", "--out=page", *given)
    with pytest.raises(ValueError, match="--workdir=RUN is missing"):
        call("report", "--out=page")
    for name in ("future_prediction", "long_range", "out_of_domain", "features"):
        with pytest.raises(ValueError, match="classifier of train.finetune, and predicts no fram"):
            call(name, "--workdir=classifier")
