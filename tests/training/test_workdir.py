import json
import os

import pytest

from unsup_video.training.workdir import TRAINING_STREAM, Workdir, diff, git_state, read_metrics
from unsup_video.utils import files

CONFIG = {"name": "x", "model": {"units": 3, "kinds": (1, 2)}}


def test_a_new_run_has_its_folders_and_config(tmp_path):
    workdir = Workdir.open(tmp_path / "deep" / "run", CONFIG)
    assert json.loads((workdir.path / "config.json").read_text())["model"]["units"] == 3
    assert all(p.is_dir() for p in (workdir.checkpoints, workdir.samples, workdir.tb))
    assert read_metrics(workdir.metrics) == []


def test_the_same_config_resumes_and_another_is_refused_with_a_diff(tmp_path):
    Workdir.open(tmp_path, CONFIG).append_metrics({"step": 1})
    assert read_metrics(Workdir.open(tmp_path, CONFIG).metrics) == [{"step": 1}]
    with pytest.raises(ValueError, match=r"model\.units: 3 there, 4 here(?s:.*)--overwrite"):
        Workdir.open(tmp_path, {"name": "x", "model": {"units": 4, "kinds": (1, 2)}})
    assert read_metrics(Workdir.open(tmp_path, CONFIG).metrics) == [{"step": 1}]


def test_a_start_that_failed_before_training_does_not_hold_the_folder(tmp_path):
    Workdir.open(tmp_path, CONFIG).lock.close()
    (tmp_path / "trained_on.npz").write_bytes(b"of other data")
    Workdir.open(tmp_path, {**CONFIG, "name": "mended"})
    assert read_config(tmp_path) == "mended" and not (tmp_path / "trained_on.npz").exists()


def test_what_changes_nothing_may_differ(tmp_path):
    config = {**CONFIG, "expect": {"source": "x", "future": 1.0}, "data": {"shuffle_mb": 1}}
    Workdir.open(tmp_path, config).write_run_info(INFO)
    Workdir.open(tmp_path, {**CONFIG, "expect": {"source": ""}, "data": {"shuffle_mb": 2}})
    with pytest.raises(ValueError, match="data.split: 0 there, 1 here"):
        Workdir.open(tmp_path, {**config, "data": {"split": 1}})


def test_overwrite_starts_anew_but_never_deletes_what_is_no_run(tmp_path):
    Workdir.open(tmp_path / "run", CONFIG).append_metrics({"step": 1})
    assert read_metrics(Workdir.open(tmp_path / "run", {"name": "y"}, overwrite=True).metrics) == []
    (tmp_path / "thesis").mkdir()
    (tmp_path / "thesis" / "thesis.tex").write_text("years of work")
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=r"holds what is not of a run \(thesis\.tex\)"):
            Workdir.open(tmp_path / "thesis", CONFIG, overwrite=overwrite)
    assert (tmp_path / "thesis" / "thesis.tex").read_text() == "years of work"


def read_config(folder):
    return json.loads((folder / "config.json").read_text())["name"]


def test_a_run_is_kept_aside_until_the_one_in_its_place_is_finished(tmp_path):
    aside = tmp_path / ".replaced"

    def overwrite(name):
        return Workdir.open(tmp_path, {**CONFIG, "name": name}, overwrite=True)

    overwrite("a").append_metrics({"step": 1})
    assert not aside.exists()  # there was none
    (tmp_path / "results.json").write_text("{}")
    overwrite("b")
    assert read_config(tmp_path) == "b" and not (tmp_path / "results.json").exists()
    assert read_config(aside) == "a" and read_metrics(aside / "metrics.jsonl") == [{"step": 1}]
    overwrite("c")  # "b" came to nothing
    assert read_config(tmp_path) == "c" and read_config(aside) == "a"
    (tmp_path / "results.json").write_text("{}")
    workdir = overwrite("d")
    assert read_config(tmp_path) == "d" and read_config(aside) == "c"
    workdir.lock.close()
    resumed = Workdir.open(tmp_path, {**CONFIG, "name": "d"})
    assert read_config(aside) == "c"
    resumed.delete_replaced()
    resumed.delete_replaced()
    assert not aside.exists() and read_config(tmp_path) == "d"


def test_a_run_is_whole_where_its_overwriting_was_killed(tmp_path, monkeypatch):
    run = tmp_path / "run"
    Workdir.open(run, CONFIG).append_metrics({"step": 1})
    original, moved = os.replace, []

    def killed(source, target):
        if len(moved) == 2:
            raise KeyboardInterrupt
        original(source, target)
        moved.append(source)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        Workdir.open(run, {"name": "y"}, overwrite=True)
    assert len(moved) == 2
    assert read_metrics(Workdir.open(run, CONFIG).metrics) == [{"step": 1}]
    assert not (run / ".replacing").exists()


FOREIGN = (".DS_Store", ".nfs00000000", "slurm-1234.out", "notes/monday.txt")


@pytest.mark.parametrize("overwrite", [False, True])
def test_other_files_in_the_folder_of_a_run_neither_block_it_nor_are_deleted(tmp_path, overwrite):
    Workdir.open(tmp_path, CONFIG).append_metrics({"step": 1})
    for name in FOREIGN:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text("mine")
    (tmp_path / "results.json").write_text("{}")
    workdir = Workdir.open(tmp_path, CONFIG, overwrite=overwrite)
    assert read_metrics(workdir.metrics) == ([] if overwrite else [{"step": 1}])
    assert (tmp_path / "results.json").exists() is not overwrite
    assert all((tmp_path / name).read_text() == "mine" for name in FOREIGN)


def test_hidden_files_do_not_keep_a_run_from_starting(tmp_path):
    (tmp_path / ".DS_Store").write_text("")
    assert Workdir.open(tmp_path, CONFIG).metrics.exists()


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"model_type": "bert"}', "config.json is not of a run; use another --workdir"),
        ('{"name": "x", "mod', "config.json: damaged .*put back a copy"),
    ],
)
def test_a_folder_with_the_config_of_something_else_is_refused_and_kept(tmp_path, text, message):
    (tmp_path / "config.json").write_text(text)
    (tmp_path / "checkpoints").mkdir()
    for overwrite in (False, True):
        with pytest.raises(ValueError, match=message):
            Workdir.open(tmp_path, CONFIG, overwrite=overwrite)
    assert (tmp_path / "config.json").read_text() == text and (tmp_path / "checkpoints").exists()


def test_a_killed_overwrite_leaves_a_run(tmp_path, monkeypatch):
    Workdir.open(tmp_path, CONFIG).append_metrics({"step": 1})
    (tmp_path / "train.log").write_text("")
    with monkeypatch.context() as patches, pytest.raises(KeyboardInterrupt):
        patches.setattr(files, "write_text", _interrupt)
        Workdir.open(tmp_path, {**CONFIG, "seed": 1}, overwrite=True)
    workdir = Workdir.open(tmp_path, {**CONFIG, "seed": 1}, overwrite=True)
    assert json.loads((tmp_path / "config.json").read_text())["seed"] == 1
    assert read_metrics(workdir.metrics) == []


def _interrupt(*arguments):
    raise KeyboardInterrupt


def test_an_unwritable_workdir_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError, match="workdir .*file/run cannot be written"):
        Workdir.open(tmp_path / "file" / "run", CONFIG)


def test_metrics_are_cut_back_to_the_checkpoint(tmp_path):
    workdir = Workdir.open(tmp_path, CONFIG)
    for step in (1, 2, 3):
        workdir.append_metrics({"step": step, "loss": step / 3})
    with open(workdir.metrics, "a") as file:
        file.write('{"step": 4, "lo')  # killed while writing
    assert [line["step"] for line in read_metrics(workdir.metrics)] == [1, 2, 3]
    workdir.truncate_metrics(after_step=2)
    assert read_metrics(workdir.metrics) == [{"step": 1, "loss": 1 / 3}, {"step": 2, "loss": 2 / 3}]
    workdir.metrics.write_text('{"step": 1}\ngarbage\n')
    with pytest.raises(ValueError, match="metrics.jsonl, line 2: damaged"):
        read_metrics(workdir.metrics)


def test_a_run_that_was_killed_while_writing_a_file_is_resumed(tmp_path):
    Workdir.open(tmp_path, CONFIG).append_metrics({"step": 1})
    (tmp_path / ".partial-123-metrics.jsonl").write_text("ha")
    assert read_metrics(Workdir.open(tmp_path, CONFIG).metrics) == [{"step": 1}]
    assert not list(tmp_path.glob(".partial-*"))


def test_run_info_tells_what_ran_where(tmp_path):
    workdir = Workdir.open(tmp_path, CONFIG)
    extra = {"seed": 5, "data": {"sha256": {"train": "abc"}}}
    workdir.write_run_info(extra)
    workdir.write_run_info(extra)
    info = json.loads((tmp_path / "run.json").read_text())
    assert info["seed"] == 5
    assert info["folder"] == os.getcwd()
    assert info["versions"]["tensorflow"] and info["machine"]["cores"] == os.cpu_count()
    assert len(info["resumed"]) == 1 and info["resumed"][0]["command"] == info["command"]


EARLIER = {"name": "x", "model": {"units": 3}, "data": {}, "recipe": {"l2": 0.0}}
INFO = {"data": {"sha256": {"train": "abc"}}}


def of_now(**recipe):
    recipe = {
        "l2": 0.0,
        "pixel_blur": 0.0,
        "conditional_input": "truth",
        "conditional_factor": 1.0,
        "conditional_zero": False,
        **recipe,
    }
    return {
        "name": "x",
        "model": {"units": 3, "frame_scaling": False},
        "data": {"split": 0},
        "recipe": recipe,
    }


def test_a_finished_run_of_an_earlier_version_is_opened_again(tmp_path):
    """Its config lacks fields, which stand for what that version did."""
    Workdir.open(tmp_path, EARLIER).write_run_info({**INFO, "training_stream": None})
    (tmp_path / "results.json").write_text("{}")
    Workdir.open(tmp_path, of_now()).lock.close()
    Workdir.open(tmp_path, EARLIER).lock.close()  # of a config of one's own
    wanted = r"recipe\.pixel_blur: 0\.0 there, 2\.0 here\nGive .*--config\.FIELD=VALUE"
    with pytest.raises(ValueError, match=wanted):
        Workdir.open(tmp_path, of_now(pixel_blur=2.0))
    with pytest.raises(ValueError, match=r"recipe\.conditional_zero: False there, True here\nGive"):
        Workdir.open(tmp_path, of_now(conditional_zero=True))
    changed = {"pixel_blur": 2.0, "conditional_input": "own", "conditional_factor": 0.25}
    unread = [f"recipe.{name}" for name in changed]
    other = of_now(**changed)
    Workdir.open(tmp_path, other, ignored=unread).lock.close()
    assert json.loads((tmp_path / "config.json").read_text()) == EARLIER


def test_an_unfinished_run_with_another_training_stream_is_refused(tmp_path):
    def begun(name, **info):
        workdir = Workdir.open(tmp_path / name, EARLIER)
        workdir.write_run_info(INFO)
        file = workdir.path / "run.json"
        stored = json.loads(file.read_text())
        assert stored.pop("training_stream") == TRAINING_STREAM
        file.write_text(json.dumps({**stored, **info}))
        workdir.lock.close()
        return workdir.path

    for path, stream in ((begun("a"), 1), (begun("b", training_stream=99), 99)):
        stored = (path / "run.json").read_text()
        wanted = f"run in {path} is not finished.*training stream {stream} there, .* --overwrite"
        with pytest.raises(ValueError, match=wanted):
            Workdir.open(path, of_now())
        assert (path / "run.json").read_text() == stored
        Workdir.open(path, of_now(), overwrite=True).write_run_info(INFO)
        assert json.loads((path / "run.json").read_text())["training_stream"] == TRAINING_STREAM
    again = Workdir.open(begun("c", training_stream=TRAINING_STREAM), of_now())
    again.write_run_info(INFO)
    assert len(json.loads((again.path / "run.json").read_text())["resumed"]) == 1


def test_a_run_is_not_resumed_on_other_data(tmp_path):
    workdir = Workdir.open(tmp_path, CONFIG)
    workdir.write_run_info({"data": {"sha256": {"train": "abc"}}})
    with pytest.raises(ValueError, match="other data:\n  train: abc there, abd here"):
        workdir.write_run_info({"data": {"sha256": {"train": "abd"}}})
    earlier = {"sha256": {"train": "abd"}, "earlier_sha256": {"train": "abc"}}
    workdir.write_run_info({"data": earlier})  # the same data, as an earlier version named them
    info = json.loads((workdir.path / "run.json").read_text())
    assert info["data"] == {"sha256": {"train": "abc"}}
    assert info["resumed"][-1]["data"] == {"sha256": {"train": "abd"}}
    with pytest.raises(ValueError, match="started on other data"):
        workdir.write_run_info({"data": {**earlier, "earlier_sha256": {"train": "abe"}}})


def test_the_dtype_that_a_run_was_started_with_holds(tmp_path):
    data = {"data": {"sha256": {"train": "abc"}}}
    auto = {**CONFIG, "precision": "auto"}
    workdir = Workdir.open(tmp_path, auto)
    workdir.write_run_info({**data, "gemm_dtype": "float32"})
    # "auto" is something else on this machine.
    with pytest.raises(ValueError, match="have been in float32, .* bfloat16: .*precision=float32"):
        workdir.write_run_info({**data, "gemm_dtype": "bfloat16"})
    workdir.lock.close()
    # The flag of that message goes on.
    workdir = Workdir.open(tmp_path, {**CONFIG, "precision": "float32"})
    workdir.write_run_info({**data, "gemm_dtype": "float32"})
    assert json.loads((tmp_path / "config.json").read_text())["precision"] == "auto"


def test_a_run_that_has_not_recorded_its_dtype_is_held_to_its_config(tmp_path):
    workdir = Workdir.open(tmp_path, {**CONFIG, "precision": "auto"})
    workdir.write_run_info({"data": {"sha256": {"train": "abc"}}})
    workdir.lock.close()
    with pytest.raises(ValueError, match="precision: auto there, float32 here"):
        Workdir.open(tmp_path, {**CONFIG, "precision": "float32"})
    workdir = Workdir.open(tmp_path, {**CONFIG, "precision": "auto"})
    workdir.write_run_info({"data": {"sha256": {"train": "abc"}}, "gemm_dtype": "float32"})


def test_a_second_process_is_kept_out(tmp_path):
    workdir = Workdir.open(tmp_path, CONFIG)
    with pytest.raises(ValueError, match="another process is at work there now"):
        Workdir.open(tmp_path, CONFIG)
    workdir.lock.close()
    assert Workdir.open(tmp_path, CONFIG).path == tmp_path


def test_diff_names_nested_and_missing_fields():
    assert diff({"a": {"b": 1}, "c": 2}, {"a": {"b": 2}, "d": 3}) == [
        "a.b: 1 there, 2 here",
        "c: 2 there, nothing here",
        "d: nothing there, 3 here",
    ]


def test_git_state_is_none_outside_of_a_checkout(tmp_path):
    (tmp_path / "__init__.py").write_text("")
    assert git_state(tmp_path) is None
