"""Evaluations of a tiny model: how they are stored, future_prediction, out_of_domain."""

import copy
import csv
import dataclasses
import functools
import io
import json
import os
import shutil
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from ml_collections import ConfigDict
from PIL import Image

from unsup_video.configs import table2_composite_conditional_future
from unsup_video.data import digits, moving_mnist, records, sources
from unsup_video.evaluation import (
    future_prediction,
    intervals,
    metrics,
    out_of_domain,
    predict,
    results,
    testset,
)
from unsup_video.models.outputs import OUTPUTS
from unsup_video.training import loop, precision, workdir
from unsup_video.training import trained as trained_module
from unsup_video.training.tasks import pretraining


def evaluate(model, test_set, **options):
    return future_prediction.evaluate(model, test_set, "the command", log=print, **options)


# ---------------------------------------------------------------------- storing


def test_a_folder_that_cannot_be_written_is_told_before_computing(model, tmp_path):
    (tmp_path / "run").write_text("")  # a file, in which nobody can make a folder
    with pytest.raises(OSError, match="run/eval cannot be written .*; evaluations are kept in the"):
        results.run(dataclasses.replace(model, path=tmp_path / "run"), "kind", {}, "", pytest.fail)
    with pytest.raises(OSError, match="run/x cannot be written .*; --out=FOLDER says"):
        results.check_writable(tmp_path / "run" / "x", "--out=FOLDER says where")
    results.check_writable(tmp_path / "new" / "x", "")
    assert list((tmp_path / "new" / "x").iterdir()) == []


@pytest.mark.slow
def test_an_evaluation_comes_back_as_it_was_stored(model):
    rows = [
        results.row("model", "test", "future", "psnr", [np.inf], unit="dB"),
        results.row("model", "test", "future", "mse", [1.0, 2.0], "free_running", frame=3),
    ]
    picture = results.Picture("a.txt", "what it shows")

    def compute(folder):
        (folder / "a.txt").write_text("a")
        return results.Outcome(rows, [picture], {"inference": 1.0})

    stored = results.run(model, "kind_a", {"x": (1, 2)}, "the command", compute)
    loaded = results.load(stored.folder)
    assert loaded.rows == tuple(rows) and loaded.pictures == (picture,)
    assert loaded.settings == {"x": [1, 2]} and loaded.command == "the command"
    table = list(csv.DictReader(io.StringIO((stored.folder / "results.csv").read_text())))
    assert list(table[0]) == list(results.COLUMNS)
    assert [(line["frame"], line["value"]) for line in table] == [("", "inf"), ("3", "1.5")]
    json.loads((stored.folder / "results.json").read_text(), parse_constant=pytest.fail)


def test_settings_may_be_numbers_of_numpys(model):
    mine = {"clips": np.int64(3), "share": np.float64(0.5)}
    assert results.folder_of(model, "kind_b", mine) == results.folder_of(
        model, "kind_b", {"share": 0.5, "clips": 3}
    )
    stored = results.run(
        model,
        "kind_b",
        mine,
        "the command",
        lambda folder: results.Outcome([results.row("model", "test", "future", "mse", [1.0])]),
    )
    assert results.load(stored.folder).settings == {"clips": 3, "share": 0.5}


def test_what_is_stored_is_not_computed_again(model):
    calls = []

    def compute(folder):
        calls.append(1)
        return results.Outcome([])

    def run(settings, **options):
        return results.run(model, "kind_b", settings, "", compute, **options)

    first = run({"clips": 1})
    assert run({"clips": 1}) == first and len(calls) == 1
    assert run({"clips": 2}).folder != first.folder and len(calls) == 2
    assert run({"clips": 1}, recompute=True).folder == first.folder and len(calls) == 3


def test_a_failed_computation_keeps_the_stored_one(model):
    def good(folder):
        return results.Outcome([results.row("model", "test", "future", "mse", [1.0])])

    def bad(folder):
        (folder / "half.txt").write_text("half")
        raise RuntimeError("interrupted")

    stored = results.run(model, "kind_c", {}, "", good)
    with pytest.raises(RuntimeError):
        results.run(model, "kind_c", {}, "", bad, recompute=True)
    assert results.load(stored.folder) == stored
    assert not list(model.evaluations.glob(".partial*"))


def test_another_evaluation_of_the_run_does_not_disturb_one_that_is_being_computed(model):
    def slow(folder):
        results.run(model, "kind_f", {}, "", lambda folder: results.Outcome([]))  # by a colleague
        return results.Outcome([results.row("model", "test", "future", "mse", [1.0])])

    left = model.evaluations / ".partial-1-kind_e-0123456789"
    left.mkdir(parents=True)
    stored = results.run(model, "kind_e", {}, "", slow)
    assert results.load(stored.folder) == stored and left.exists()
    left.rename(left.with_name(f".partial-1-{stored.folder.name}"))
    results.run(model, "kind_e", {}, "", slow, recompute=True)
    assert not list(model.evaluations.glob(".partial*"))


def test_a_second_process_waits_and_reads_what_the_first_one_stored(model):
    said, computing, go_on = [], threading.Event(), threading.Event()

    def slow(folder):
        computing.set()
        assert go_on.wait(60)
        return results.Outcome([results.row("model", "test", "future", "mse", [1.0])])

    def log(text):
        said.append(text)
        if "waiting" in text:
            go_on.set()

    def run(compute):
        return results.run(model, "kind_g", {}, "", compute, log=log)

    with ThreadPoolExecutor(2) as pool:  # a lock is of an open file, so threads are kept out, too
        first = pool.submit(run, slow)
        assert computing.wait(60)
        second = pool.submit(run, lambda folder: pytest.fail("computed twice"))
        assert second.result(60) == first.result(60)
    assert [text.rpartition(": ")[2] for text in said][:1] == [
        "waiting for another process that is computing it"
    ] and len(said) == 2
    assert not [p for p in model.evaluations.iterdir() if p.name.startswith(".")]


def test_a_second_recomputation_waits_and_then_replaces_the_first(model):
    computing, go_on, parts = threading.Event(), threading.Event(), model.evaluations / ".parts-h"

    def slow(folder):
        parts.mkdir(parents=True)
        computing.set()
        assert go_on.wait(60)
        assert parts.exists()
        return results.Outcome([results.row("model", "test", "future", "mse", [1.0])])

    def fast(folder):
        assert not parts.exists()
        return results.Outcome([results.row("model", "test", "future", "mse", [2.0])])

    def run(compute):
        return results.run(
            model,
            "kind_h",
            {},
            "",
            compute,
            recompute=True,
            log=lambda text: go_on.set(),
            parts=parts,
        )

    with ThreadPoolExecutor(2) as pool:
        first = pool.submit(run, slow)
        assert computing.wait(60)
        second = pool.submit(run, fast)
        first.result(60)
        assert results.load(second.result(60).folder).rows[0].value == 2.0


def test_foreign_files_outlive_a_recomputation(model):
    def compute(folder, name):
        (folder / name).write_text("picture")
        return results.Outcome([], [results.Picture(name, "")])

    def run(name):
        return results.run(
            model, "kind_j", {}, "", lambda folder: compute(folder, name), recompute=True
        ).folder

    folder = run("old.png")
    (folder / "notes.txt").write_text("mine")
    assert run("new.png") == folder
    assert sorted(p.name for p in folder.iterdir()) == [
        "new.png",
        "notes.txt",
        "results.csv",
        "results.json",
    ]


def test_an_evaluation_whose_replacement_was_killed_is_there_next_time(model, monkeypatch):
    def compute(folder):
        return results.Outcome([results.row("model", "test", "future", "mse", [1.0])])

    stored = results.run(model, "kind_i", {}, "", compute)
    original = os.replace

    def killed(source, target):
        if Path(target) == stored.folder:
            raise KeyboardInterrupt
        original(source, target)

    with monkeypatch.context() as patch, pytest.raises(KeyboardInterrupt):
        patch.setattr(os, "replace", killed)
        results.run(model, "kind_i", {}, "", compute, recompute=True)
    assert not stored.folder.exists()
    assert results.run(model, "kind_i", {}, "", pytest.fail) == stored
    assert not [p for p in model.evaluations.iterdir() if p.name.startswith(".")]


def test_a_damaged_evaluation_is_named(model):
    stored = results.run(model, "kind_d", {}, "", lambda folder: results.Outcome([]))
    path = stored.folder / "results.json"
    path.write_text(path.read_text()[:50])
    with pytest.raises(ValueError, match=r"results\.json: damaged .*--recompute"):
        results.load(stored.folder)
    shutil.rmtree(stored.folder)


# ---------------------------------------------------------------------- loading a model


def test_the_loaded_model_is_the_trained_one(run, model):
    stored = json.loads((run / "config.json").read_text())
    assert model.config.to_dict() == stored and model.step == 1
    assert model.frame_shape == (32, 32)
    source = sources.build(model.config)
    clips = source.evaluation("validation", 5)
    scores = pretraining.evaluator(model.model, model.config)(clips)
    lines = workdir.read_metrics(run / "metrics.jsonl")
    validated = next(line for line in lines if line["split"] == "validation")
    assert scores == pytest.approx({key: validated[key] for key in scores}, rel=1e-5)
    np.testing.assert_array_equal(model.mean_frame, source.mean_frame)


def test_the_digits_may_be_in_another_folder_than_in_training(fresh, tmp_path):
    here = trained_module.load(fresh.path, digits_dir="my digits")
    assert here.config.data.digits_dir == "my digits" and not fresh.config.data.digits_dir
    assert "'--digits_dir=my digits'" in results.command(here, "features", {})
    config = json.loads((fresh.path / "config.json").read_text())
    config["data"]["records"] = "somewhere"
    (fresh.path / "config.json").write_text(json.dumps(config))
    with pytest.raises(
        ValueError, match="trained on records: there are no digits for --digits_dir"
    ):
        trained_module.load(fresh.path, digits_dir="my digits")


def test_the_precision_that_is_asked_for_is_used_and_recorded(fresh):
    other = trained_module.load(fresh.path, "bfloat16")
    assert other.model.cells[0].gemm_dtype == "bfloat16"
    assert "--precision=bfloat16" in results.command(other, "features", {})
    assert "--precision" not in results.command(fresh, "features", {})
    past = np.random.default_rng(0).random((3, 4, 32 * 32), np.float32)
    here = trained_module.load(fresh.path, "float32").model.encoder(past)
    there = other.model.encoder(past)
    for a, b in zip(here, there, strict=True):
        assert b.dtype == "float32" and 0 < np.abs(a - b).max() < 0.05


@pytest.mark.parametrize(("recorded", "here"), [("bfloat16", False), ("float32", True)])
def test_the_precision_of_the_training_holds_on_every_machine(fresh, monkeypatch, recorded, here):
    monkeypatch.setattr(precision, "_cpu", lambda: {"flags": "amx_bf16"} if here else {})
    assert json.loads((fresh.path / "config.json").read_text())["precision"] == "auto"
    record(fresh.path, gemm_dtype=recorded)
    model = trained_module.load(fresh.path)
    assert model.model.cells[0].gemm_dtype == model.config.precision == recorded
    assert model.precision is None  # nothing that a printed command would have to ask for
    other = "bfloat16" if here else "float32"
    assert trained_module.load(fresh.path, other).model.cells[0].gemm_dtype == other


def record(path, **values):
    """Writes more into the run.json of a run."""
    info = json.loads((path / "run.json").read_text())
    (path / "run.json").write_text(json.dumps({**info, **values}))


def test_relative_paths_are_found_from_where_the_run_was_started(fresh, tmp_path, monkeypatch):
    config = json.loads((fresh.path / "config.json").read_text())
    config["data"].update(records="data/patches", digits_dir="digits")
    (fresh.path / "config.json").write_text(json.dumps(config))
    (tmp_path / "home" / "data" / "patches").mkdir(parents=True)
    (tmp_path / "elsewhere").mkdir()
    monkeypatch.chdir(tmp_path / "elsewhere")
    record(fresh.path, folder=str(tmp_path / "home"))
    data = trained_module.load(fresh.path).config.data
    assert data.records == str(tmp_path / "home" / "data" / "patches")
    assert data.digits_dir == "digits"  # not there either, as on another machine
    with pytest.raises(FileNotFoundError, match=f"data/patches .a path from {tmp_path}/elsewhere"):
        sources.split(ConfigDict(config), "test")


def test_what_is_no_finished_run(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="is not the folder of a run: config.json"):
        trained_module.load(tmp_path)
    path = tmp_path / "run"
    shutil.copytree(run, path)
    shutil.rmtree(path / "checkpoints")
    with pytest.raises(FileNotFoundError, match="no best checkpoint"):
        trained_module.load(path)
    (path / "config.json").write_text("{")
    with pytest.raises(ValueError, match="a file of the run is damaged"):
        trained_module.load(path)


# ---------------------------------------------------------------------- test sets


def test_generated_clips_are_those_of_the_stream_of_test_digits(model):
    test_set = testset.generated(model.config, 12)
    together = test_set.clips(0, 12)
    np.testing.assert_array_equal(together[5:9], test_set.clips(5, 4))
    np.testing.assert_array_equal(together[:5], sources.build(model.config).evaluation("test", 5))
    longer = testset.generated(model.config, 12, num_frames=20).clips(0, 12)
    np.testing.assert_array_equal(longer[:, :7], together)


@pytest.mark.slow
def test_training_never_reads_the_test_set(fresh, tmp_path, monkeypatch):
    config = fresh.config
    before = next(iter(sources.build(config).train(8, start=0))).numpy()
    tested = sources.build(config).evaluation("test", 5)
    pictures = {split: digits.load_digits(split).images for split in digits.SPLITS}
    load = digits.load_digits

    def spoilt(split, *arguments):
        loaded = load(split, *arguments)
        if split == "train":
            return loaded
        return dataclasses.replace(loaded, images=255 - loaded.images)

    # No test or validation digit has an influence on a training clip ..
    monkeypatch.setattr(digits, "load_digits", spoilt)
    source = sources.build(config)
    np.testing.assert_array_equal(next(iter(source.train(8, start=0))), before)
    assert not np.array_equal(source.evaluation("test", 5), tested)
    # .. none is a training digit as well ..
    seen = {split: {image.tobytes() for image in images} for split, images in pictures.items()}
    assert not seen["test"] & (seen["train"] | seen["validation"])
    # .. and a whole run asks for validation clips alone.
    asked = []

    def evaluation(split, count):
        asked.append(split)
        return source.evaluation(split, count)

    spied = copy.copy(source)
    spied.evaluation = evaluation
    folder = workdir.Workdir.open(tmp_path / "anew", config.to_dict())
    task = pretraining.Pretraining(config, trained_module.load(fresh.path).model, spied)
    loop.run(
        loop.Trainer(config, task), folder, {"data": source.description}, log=lambda text: None
    )
    assert set(asked) == {"validation"}


def test_constant_velocity_is_exact_until_a_wall(model):
    test_set = testset.generated(model.config, 40, num_frames=12)
    truth = test_set.clips(0, 40)[:, 4:]
    guess = test_set.constant_velocity(0, 40, 4)
    same = (truth == guess).all(-1)  # (40, 8)
    assert guess.shape == truth.shape and same[:, 0].mean() > 0.5
    assert same.any() and not same.all()
    # Once a wall was met, straight motion may be right by chance but is not right again for long.
    assert same[:, 0].mean() > same[:, -1].mean()


def test_records_are_the_clips_that_were_written(model, tmp_path):
    generated = testset.generated(model.config, 6)
    clips = generated.clips(0, 6)
    frames = np.rint(clips * 255).astype(np.uint8).reshape(6, 7, 32, 32)
    records.write(tmp_path / "set", frames, 6, "moving_mnist", generated.description)
    test_set = testset.from_records(sources.Split(tmp_path / "set"), 7, config=model.config)
    np.testing.assert_array_equal(test_set.clips(2, 3), clips[2:5])
    np.testing.assert_array_equal(
        test_set.constant_velocity(1, 2, 4), generated.constant_velocity(1, 2, 4)
    )
    other = dict(generated.description, digits={"source": "others", "sha256": "0"})
    records.write(tmp_path / "other", frames, 6, "moving_mnist", other)
    other = testset.from_records(sources.Split(tmp_path / "other"), 7, config=model.config)
    assert other.constant_velocity(1, 2, 4) is None
    with pytest.raises(ValueError, match="the number of clips must be 1 to 6, got 7"):
        testset.from_records(sources.Split(tmp_path / "set"), 7, 7)
    with pytest.raises(ValueError, match="first import it"):
        testset.from_records(sources.Split(tmp_path / "set" / "manifest.json"), 7)


# ---------------------------------------------------------------------- future_prediction


@pytest.mark.slow
def test_predictions_do_not_depend_on_the_batch(model):
    clips = testset.generated(model.config, 7).clips(0, 7)
    together, apart = predict.predict(model, clips), predict.predict(model, clips, batch_size=2)
    assert set(together) == {"reconstruction", "future"}
    for part, (frame_losses, frames) in together.items():
        np.testing.assert_allclose(frame_losses, apart[part][0], rtol=1e-5)
        np.testing.assert_allclose(frames, apart[part][1], atol=1e-6)
        past, future = clips[:, :4], clips[:, 4:7]
        targets = {"reconstruction": past[:, ::-1], "future": future}[part]
        expected = OUTPUTS["logistic"].frame_scores(targets, frames)
        np.testing.assert_allclose(frame_losses, expected, rtol=1e-4)


@pytest.mark.slow
def test_figures_agree_with_the_run_and_with_the_floors(fresh):
    test_set = testset.generated(fresh.config, 5)
    evaluation = evaluate(fresh, test_set)
    clips = test_set.clips(0, 5)
    scores = pretraining.evaluator(fresh.model, fresh.config)(clips)
    floors = OUTPUTS["logistic"].floors(clips[:, :4], clips[:, 4:7], fresh.mean_frame)

    def value(subject, part="future", metric="cross_entropy"):
        mode = "free_running" if subject == "model" else ""
        here = {"subject": subject, "mode": mode, "part": part, "metric": metric, "frame": None}
        (found,) = evaluation.find(**here)
        return found.value

    assert value("model") == pytest.approx(scores["free_running/future"], rel=1e-6)
    assert value("model", "reconstruction") == pytest.approx(
        scores["free_running/reconstruction"], rel=1e-6
    )
    forced = evaluation.find(mode="teacher_forced", metric="cross_entropy", frame=None)
    assert [row.part for row in forced] == ["future"]  # which alone is conditional
    assert forced[0].value == pytest.approx(scores["teacher_forced/future"], rel=1e-6)
    assert forced[0].value != value("model")
    assert value("entropy") == pytest.approx(floors["entropy"], rel=1e-9)
    assert value("copy_last") == pytest.approx(floors["copy_last"], rel=1e-9)
    assert value("mean_frame") == pytest.approx(floors["mean_frame"], rel=1e-9)
    frames = predict.predict(fresh, clips)["future"][1]
    expected = metrics.frame_metrics(clips[:, 4:7], frames, (32, 32))
    for name, values in expected.items():
        assert value("model", metric=name) == pytest.approx(values.mean(), rel=1e-6)


def named_clips(folder):
    """7 + 7 * 2 frames of videos "v0" to "v3", the last two of which are of one group."""
    rng = np.random.default_rng(0)
    groups = ("", "", "both", "both")
    records.write(
        folder,
        [
            records.Record(
                rng.integers(0, 50 * (k + 1), (7 * (1 + 2 * (k > 0)), 32, 32), np.uint8),
                name=f"v{k}",
                group=group,
            )
            for k, group in enumerate(groups)
        ],
        4,
        "patches",
        {},
    )
    return sources.Split(folder)


def test_clips_of_one_group_count_together(fresh, tmp_path):
    test_set = testset.from_records(named_clips(tmp_path / "named"), 7)
    np.testing.assert_array_equal(test_set.groups, [0] + 3 * [1] + 6 * [2])
    evaluation = evaluate(fresh, test_set)
    clips = test_set.clips(0, 10)
    values = metrics.frame_metrics(clips[:, 4:7], np.repeat(clips[:, 3:4], 3, 1), (32, 32))[
        "mse"
    ].mean(1)
    (row,) = evaluation.find(subject="copy_last", metric="mse", frame=None)
    assert (row.count, row.groups) == (10, 3)
    expected = intervals.interval(values, test_set.groups)
    assert (row.value, row.low, row.high) == pytest.approx(expected, rel=1e-5)
    assert {r.groups for r in evaluation.rows if r.low is not None} == {3}

    stored = np.random.default_rng(1).integers(0, 255, (2, 14, 32, 32), np.uint8)
    records.write(tmp_path / "nameless", stored, 2, "x", {})
    test_set = testset.from_records(sources.Split(tmp_path / "nameless"), 7)
    np.testing.assert_array_equal(test_set.groups, [0, 0, 1, 1])  # windows of two sequences


def test_frames_average_to_the_mean(fresh):
    evaluation = evaluate(fresh, testset.generated(fresh.config, 6))
    means = [row for row in evaluation.rows if row.frame is None]
    # Two parts, and the conditional one teacher-forced; three floors; the entropy.
    assert len(means) == (2 + 1) * 5 + 3 * 5 + 1
    for mean in means:
        each = [
            r
            for r in evaluation.rows
            if r.frame is not None
            and (r.subject, r.mode, r.part, r.metric)
            == (mean.subject, mean.mode, mean.part, mean.metric)
        ]
        assert [r.frame for r in each] == list(range(1, (4 if mean.part != "future" else 3) + 1))
        assert np.mean([r.value for r in each]) == pytest.approx(mean.value)


def test_a_model_that_copies_the_truth_scores_the_entropy(fresh, monkeypatch):
    def truth(trained, clips):
        frames = clips[:, 4:7]
        return {"future": (OUTPUTS["logistic"].frame_scores(frames, frames), frames)}

    monkeypatch.setattr(predict, "predict", truth)
    evaluation = evaluate(fresh, testset.generated(fresh.config, 6))
    for frame in (None, 1, 2, 3):
        rows = evaluation.find(metric="cross_entropy", frame=frame)
        values = {row.subject: row.value for row in rows if row.mode != "teacher_forced"}
        assert values["model"] == values["entropy"] < values["constant_velocity"]


@pytest.mark.slow
def test_an_interrupted_evaluation_goes_on(fresh, monkeypatch):
    monkeypatch.setattr(future_prediction, "_BLOCK", 4)
    test_set = testset.generated(fresh.config, 10)
    uninterrupted = evaluate(fresh, test_set)
    shutil.rmtree(uninterrupted.folder)
    predicted = []
    real = predict.predict

    def limited(trained, clips):
        if len(predicted) == 2:
            predicted.append(0)
            raise KeyboardInterrupt
        predicted.append(len(clips))
        return real(trained, clips)

    monkeypatch.setattr(predict, "predict", limited)
    with pytest.raises(KeyboardInterrupt):
        evaluate(fresh, test_set)
    assert not uninterrupted.folder.exists()
    resumed = evaluate(fresh, test_set)
    assert predicted == [4, 4, 0, 2]
    sides = resumed.rows, uninterrupted.rows
    # Not bit by bit: the order of sums may depend on what else the machine does.
    figures = (np.array([(r.value, r.low, r.high) for r in rows], float) for rows in sides)
    np.testing.assert_allclose(*figures, rtol=1e-5)
    described, expected = (
        [dataclasses.replace(r, value=0, low=0, high=0) for r in rows] for rows in sides
    )
    assert described == expected
    assert not list(fresh.evaluations.glob(".parts*"))


@pytest.mark.slow
def test_the_block_and_the_number_of_clips_change_no_figure(fresh, monkeypatch):
    whole = evaluate(fresh, testset.generated(fresh.config, 6))
    monkeypatch.setattr(future_prediction, "_BLOCK", 1)
    single = evaluate(fresh, testset.generated(fresh.config, 6), recompute=True)
    for a, b in zip(whole.rows, single.rows, strict=True):
        assert a.value == pytest.approx(b.value, rel=1e-5)


def test_other_frames_and_short_clips_are_refused(fresh, tmp_path):
    frames = np.zeros((2, 7, 28, 28), np.uint8)
    records.write(tmp_path / "small", frames, 2, "x", {})
    with pytest.raises(ValueError, match=r"reads frames of \(32, 32\), the test set has .*28, 28"):
        evaluate(fresh, testset.from_records(sources.Split(tmp_path / "small"), 7))
    records.write(tmp_path / "short", np.zeros((2, 6, 32, 32), np.uint8), 2, "x", {})
    with pytest.raises(ValueError, match="needs clips of 7 frames, the test set has 6"):
        evaluate(fresh, testset.from_records(sources.Split(tmp_path / "short"), 6))
    with pytest.raises(ValueError, match="windows of 7 frames are wanted, the longest .* has 6"):
        testset.from_records(sources.Split(tmp_path / "short"), 7)
    with pytest.raises(ValueError, match="unknown metric convention"):
        evaluate(fresh, testset.generated(fresh.config, 2), convention="mine")


def test_the_table_shows_runs_side_by_side(fresh):
    evaluation = evaluate(fresh, testset.generated(fresh.config, 5))
    lines = future_prediction.table([evaluation, evaluation]).splitlines()
    free, forced = evaluation.find(part="future", metric="mae", frame=None, subject="model")
    assert (free.mode, forced.mode) == ("free_running", "teacher_forced")
    assert [line.split()[0] for line in lines[1:5]] == ["run"] * 4
    assert all(f"{free.value:.1f}" in line for line in lines[1:5:2])
    assert all(f"{forced.value:.1f}" in line and "teacher-forced" in line for line in lines[2:5:2])
    assert "+-" in lines[1] and len(lines) == 9


def test_the_papers_column():
    config = table2_composite_conditional_future.get_config()
    digits = {"source": "MNIST, idx files in mnist"}
    model = {**config.model.to_dict(), "data": config.data.to_dict(), "trained_on": digits}
    generator = {"num_digits": 2, "frame_size": 64, "speed": [0.1, 0.1], "bounce": "clamp"}
    data = {"kind": "moving_mnist", "generator": generator, "split": "test", "digits": digits}
    evaluation = results.Evaluation("", None, "", "", model, {"data": data}, {}, {}, (), ())
    assert future_prediction.reference(evaluation) == 341.2
    for fields, other in (
        (model, {"layers": 1}),
        (model, {"output": "linear"}),
        (model, {"output_future": "linear"}),
        (model, {"data": {**model["data"], "frames_out": 20}}),
        (data, {"kind": "noise"}),
        (data, {"generator": {**generator, "num_digits": 1}}),
    ):
        before = dict(fields)
        fields.update(other)
        assert future_prediction.reference(evaluation) is None
        fields.clear()
        fields.update(before)


# ---------------------------------------------------------------------- out_of_domain


@pytest.mark.slow
def test_out_of_domain(fresh):
    evaluation = out_of_domain.evaluate(fresh, (1, 3), clips=6)
    assert {row.data for row in evaluation.rows} == {"1 digit", "2 digits", "3 digits"}
    for n, name in {1: "1 digit", 3: "3 digits"}.items():
        clips = testset.generated(fresh.config, 6, num_digits=n).clips(0, 6)
        frame_losses, _ = predict.predict(fresh, clips)["future"]
        (row,) = evaluation.find(
            subject="model", data=name, part="future", metric="cross_entropy", frame=None
        )
        assert row.value == pytest.approx(frame_losses.mean())
    own = evaluation.find(data="2 digits", metric="relative_excess")
    assert [row.value for row in own] == [1.0, 1.0]
    for picture in evaluation.pictures:
        with Image.open(evaluation.folder / picture.file) as image:
            assert getattr(image, "n_frames", 1) == (7 if picture.file.endswith("gif") else 1)
    assert len(evaluation.pictures) == 3 * 3 * 2
    lines = out_of_domain.table(evaluation).splitlines()
    assert [line.split("  ")[0] for line in lines[1:]] == ["1 digit", "2 digits", "3 digits"]
    with pytest.raises(ValueError, match="num_digits must be at least 1"):
        out_of_domain.evaluate(fresh, (0,))


def test_what_a_run_on_records_was_trained_on(fresh, tmp_path):
    generator = {
        "num_digits": 3,
        "frame_size": 32,
        "num_frames": 30,
        "speed": [0.0, 0.2],
        "bounce": "reflect",
    }
    frames = np.zeros((2, 7, 32, 32), np.uint8)
    sha256 = digits.load_digits("train").sha256
    for name, sha256_of in {"data": sha256, "idx": "0"}.items():
        source = {"generator": generator, "digits": {"source": "idx", "sha256": sha256_of}}
        records.write(tmp_path / name / "train", frames, 2, "moving_mnist", source)
    records.write(tmp_path / "noise" / "train", frames, 2, "noise", {})
    # What the config says of digits is not what the frames on disk are.
    fresh.config.data.records = str(tmp_path / "data")
    assert testset.generator(fresh.config) == moving_mnist.MovingMnist(
        3, 32, 7, (0.0, 0.2), "reflect"
    )
    # Our test digits may be among others' training digits.
    fresh.config.data.records = str(tmp_path / "idx")
    with pytest.raises(results.Unsuitable, match="but of idx: it may hold our test digits"):
        out_of_domain.evaluate(fresh)
    fresh.config.data.records = str(tmp_path / "noise")
    with pytest.raises(results.Unsuitable, match="other data: .* holds noise, not generated"):
        out_of_domain.evaluate(fresh)
    fresh.config.data.records = str(tmp_path / "nowhere")
    with pytest.raises(results.Unsuitable, match="there is no data set"):
        out_of_domain.evaluate(fresh)


def test_runs_of_all_seeds_are_tested_on_the_same_clips(fresh):
    before = testset.generated(fresh.config, 3)
    fresh.config.seed = 1
    after = testset.generated(fresh.config, 3)
    assert after.description == before.description
    np.testing.assert_array_equal(after.clips(0, 3), before.clips(0, 3))


@pytest.mark.parametrize(
    "loss, of_truth, expected",
    [("cross_entropy", 0.5, ["copy_last", "entropy"]), ("squared_loss", 0.0, ["copy_last"])],
)
def test_the_truth_is_a_floor_where_it_has_a_loss(loss, of_truth, expected):
    values = {"model": 1.0, "entropy": of_truth, "copy_last": 1.0}
    rows = [
        results.row(subject, "test", "future", loss, [value]) for subject, value in values.items()
    ]
    evaluation = SimpleNamespace(rows=rows)
    evaluation.find = functools.partial(results.Evaluation.find, evaluation)
    assert list(future_prediction.floors(evaluation)) == expected
