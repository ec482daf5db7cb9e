"""Action recognition: from windows to videos, rows, fusion, exports, files of one's own."""

import csv
import dataclasses
import json
import shutil
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image

import commands
import labelled
from labelled import CLASSES, DIM, FRAMES, STRIDE
from unsup_video.configs import percepts_small
from unsup_video.data import records, splits
from unsup_video.evaluation import (
    action_pictures,
    action_recognition,
    intervals,
    predictions,
    results,
    testvideos,
)
from unsup_video.models import classification, classifiers
from unsup_video.serving import classifier_signatures, export
from unsup_video.training import checkpoints, experiment, trained, workdir
from unsup_video.training.tasks import finetuning
from unsup_video.video import jobs, listing, percepts


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return labelled.write(tmp_path_factory.mktemp("data") / "percepts", labelled.videos())


@pytest.fixture(scope="module")
def run(folder, tmp_path_factory):
    return labelled.untrained(labelled.a_config(folder), tmp_path_factory.mktemp("runs") / "one")


@pytest.fixture(scope="module")
def saved(run, tmp_path_factory):
    """(the folder of its export, the classifier that is read from it)."""
    version = export.write(run, tmp_path_factory.mktemp("saved") / "one")
    return version, trained.load(version)


@pytest.fixture
def fresh(run, tmp_path):
    """The run in a folder that nothing was evaluated in."""
    shutil.copytree(run.path, tmp_path / "fresh", ignore=shutil.ignore_patterns("eval"))
    return dataclasses.replace(run, path=tmp_path / "fresh")


def value(evaluation, **fields):
    (row,) = evaluation.find(**fields)
    return row.value


# ---------------------------------------------------------------------- from windows to videos


def test_a_video_is_the_mean_of_its_blocks_and_a_block_of_its_steps():
    """By hand: video 0 has blocks (.8, .2) and (.4, .6), video 1 a short one of steps .3 and .5."""
    steps = {
        0: [[0.7, 0.3], [0.9, 0.1], [0.8, 0.2]],
        1: [[0.4, 0.6], [0.2, 0.8], [0.6, 0.4]],
        2: [[0.3, 0.7], [0.5, 0.5]],
    }

    class Fixed:
        def network(self, frames, training):
            return tf.math.log(frames)  # what a softmax undoes

    blocks = [
        (np.float32([steps[2]]), np.array([1]), np.array([0])),
        (np.float32([steps[0], steps[1]]), np.array([0, 0]), np.array([0, 2])),
    ]
    found = classification.classify(Fixed(), blocks, 2)
    np.testing.assert_allclose(found.blocks, [[0.4, 0.6], [0.8, 0.2], [0.4, 0.6]], atol=1e-6)
    np.testing.assert_allclose(found.probabilities, [[0.6, 0.4], [0.4, 0.6]], atol=1e-6)
    np.testing.assert_array_equal(found.videos, [1, 0, 0])
    np.testing.assert_array_equal(found.firsts, [0, 0, 2])
    assert np.isnan(found.steps[0, 2]).all() and np.isfinite(found.steps[1:]).all()
    figures = found.figures(np.array([0, 0]))
    assert figures["video_accuracy"] == 50
    assert figures["window_accuracy"] == pytest.approx(100 / 3)
    assert figures["video_cross_entropy"] == pytest.approx(-np.log([0.6, 0.4]).mean())


def test_windows_and_steps_count_by_group():
    steps = np.random.default_rng(0).random((5, 3, 2))
    videos = np.array([0, 0, 1, 2, 2])
    found = classification.Predictions(
        steps.mean(1)[:3], steps.mean(1), videos, np.array([0, 2, 0, 0, 2]), steps
    )
    labels, groups = np.array([0, 1, 1]), np.array([4, 4, 9])
    (row,) = action_recognition._window_rows("test", found, labels, (1,), groups)
    hits = 100.0 * (found.blocks.argmax(1) == labels[found.videos])
    expected = intervals.interval(hits, [4, 4, 4, 9, 9], answers=True)
    assert (row.value, row.low, row.high, row.count, row.groups) == (*expected, 5, 2)
    rows = action_recognition._step_rows("test", found, labels, groups)
    assert {(row.count, row.groups) for row in rows} == {(5, 2)}


def test_top_k():
    p = np.array([[0.5, 0.3, 0.2], [0.2, 0.3, 0.5], [0.3, 0.3, 0.4]])
    np.testing.assert_array_equal(action_recognition._ranks(p, np.array([1, 0, 1])), [1, 2, 2])
    hits = action_recognition._hits(p, np.array([1, 0, 1]), (1, 2))
    assert {name: x.tolist() for name, x in hits.items()} == {
        "accuracy": [0, 0, 0],
        "top_2_accuracy": [100, 0, 0],
    }
    assert action_recognition.check_topk(None, 6) == (1, 5)
    assert action_recognition.check_topk(None, 3) == (1,)
    assert action_recognition.check_topk([2], 3) == (1, 2)
    with pytest.raises(ValueError, match="--topk: 3 says nothing about 3 classes; use 1 to 2"):
        action_recognition.check_topk([1, 3], 3)


# ---------------------------------------------------------------------- an evaluation


def expected_probabilities(model, folder, names):
    """(N, K), video by video, in plain loops over the records."""
    stored = {r.name: r for r in records.pick(folder, range(36))}
    found = []
    for name in names:
        frames = np.float32(stored[name].frames)
        if len(frames) < FRAMES:
            blocks = [frames]
        else:
            blocks = [frames[f : f + FRAMES] for f in range(0, len(frames) - FRAMES + 1, STRIDE)]
        logits = [np.float64(model.network(block[None], training=False)[0]) for block in blocks]
        steps = [np.exp(x) / np.exp(x).sum(1, keepdims=True) for x in logits]
        found.append(np.mean([p.mean(0) for p in steps], axis=0))
    return np.stack(found)


@pytest.mark.slow
def test_rows_are_those_of_the_videos_of_the_test_part(folder, fresh):
    test = testvideos.select(fresh)
    chosen = splits.choose(records.load_index(folder), "test", 1)
    entries = [e for e, c in zip(records.load_index(folder), chosen, strict=True) if c]
    assert list(test.videos.names) == [e.name for e in entries] and len(entries) == 12
    p = expected_probabilities(fresh.model, folder, test.videos.names)
    np.testing.assert_allclose(test.classified.probabilities, p, atol=1e-5)

    evaluation = action_recognition.evaluate(test, "the command", topk=(1, 2))
    labels = np.array([e.label for e in entries])
    guesses = p.argmax(1)
    assert 0 < (guesses == labels).mean() < 1
    whole = {"subject": "model", "data": "test", "part": "video"}
    assert value(evaluation, **whole, metric="accuracy") == 100 * (guesses == labels).mean()
    top = np.argsort(-p, 1)[:, :2]
    assert value(evaluation, **whole, metric="top_2_accuracy") == pytest.approx(
        100 * (top == labels[:, None]).any(1).mean()
    )
    assert value(evaluation, **whole, metric="cross_entropy") == pytest.approx(
        -np.log(p[np.arange(12), labels]).mean(), rel=1e-4
    )
    figures = test.classified.figures(labels)
    assert value(evaluation, part="window", metric="accuracy") == pytest.approx(
        figures["window_accuracy"]
    )
    for k, name in enumerate(CLASSES):
        assert value(evaluation, part=f"class/{name}", metric="accuracy") == pytest.approx(
            100 * (guesses[labels == k] == k).mean()
        )
        for j, other in enumerate(CLASSES):
            taken = int(((labels == k) & (guesses == j)).sum())
            rows = evaluation.find(part=f"class/{name}", metric=f"as/{other}")
            assert [r.value for r in rows] == ([taken] if taken and j != k else [])

    # Over time: after the last step it is the window's; a short video has no fourth step.
    short = int((test.videos.lengths < FRAMES).sum())
    assert test.short == short > 0
    count = {r.frame: r.count for r in evaluation.find(part="step")}
    assert list(count) == [1, 2, 3, 4] and count[3] == count[4] + short
    steps = test.classified.steps
    hits = steps[:, 0].argmax(1) == labels[test.classified.videos]
    for part in ("step", "steps_so_far"):
        assert value(evaluation, part=part, frame=1) == pytest.approx(100 * hits.mean())
    full = ~np.isnan(steps[:, 3, 0])
    hits = steps[full].mean(1).argmax(1) == labels[test.classified.videos[full]]
    assert value(evaluation, part="steps_so_far", frame=4) == pytest.approx(100 * hits.mean())

    for picture in evaluation.pictures:
        with Image.open(evaluation.folder / picture.file) as image:
            assert min(image.size) > 300
    text = action_recognition.table(evaluation, CLASSES)
    assert "test, 12 videos" in text and "top_2_accuracy" in text and CLASSES[0] in text
    assert f"{short} of the 12 videos are shorter than a window of 4 frames" in test.notes()[0]
    lines = []
    again = action_recognition.evaluate(test, "the command", topk=(1, 2), log=lines.append)
    assert again.rows == evaluation.rows and "exists and is used" in lines[0]
    other = action_recognition.evaluate(test, "the command")
    assert other.folder != evaluation.folder


def test_a_saved_model_is_judged_as_its_run_is(fresh, saved, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    found = [
        action_recognition.evaluate(testvideos.select(model), "the command")
        for model in (fresh, saved[1])
    ]
    assert found[0].rows == found[1].rows
    assert found[1].folder.parent.name == "eval-one-1"


def test_videos_that_training_has_seen_are_told(folder, fresh, tmp_path, killed_while_replaced):
    assert testvideos.select(fresh).seen == {"train": 0, "validation": 0}
    train = testvideos.select(fresh, part="train")
    assert train.label == "train (seen)" and train.seen == {"train": 18, "validation": 0}
    assert "CAUTION: 18 of the 18 videos are of the run's train split" in train.notes()[-1]
    other = testvideos.select(fresh, split=2)  # other videos are for testing
    assert sum(other.seen.values()) == 12 and other.seen["train"] > 0
    assert other.label == "test (seen)" and other.settings["seen"] == other.seen

    copy = tmp_path / "copy"
    shutil.copytree(folder, copy)
    assert testvideos.select(fresh, str(copy), part="validation").seen["validation"] == 6
    config = fresh.config.copy_and_resolve_references()
    config.data.records = str(tmp_path / "gone")
    moved = testvideos.select(dataclasses.replace(fresh, config=config), str(copy))
    assert set(moved.seen.values()) == {"unknown"} and moved.label == "test"
    assert "train and validation split had these videos is not known" in moved.notes()[-1]

    killed_while_replaced(copy)
    assert testvideos.select(fresh, str(copy)).split == fresh.config.data.split != 0

    (tmp_path / "divided").mkdir()
    shutil.copytree(folder, tmp_path / "divided" / "test")  # of three data sets; all is for testing
    assert len(testvideos.select(fresh, str(tmp_path / "divided")).videos) == 36


def test_data_of_other_classes_or_percepts_are_refused(fresh, tmp_path):
    other = labelled.write(tmp_path / "other", labelled.videos(dim=9))
    with pytest.raises(ValueError, match=r"frames of \(9,\), but the classifier reads .* of 7"):
        testvideos.select(fresh, str(other))
    more = labelled.write(tmp_path / "more", labelled.videos(), classes=(*CLASSES, "rowing"))
    with pytest.raises(ValueError, match="4 classes, the classifier 3: it does not know rowing"):
        testvideos.select(fresh, str(more))
    with pytest.raises(ValueError, match="split 3 was asked for, but the data set has 1 to 2"):
        testvideos.select(fresh, split=3)
    with pytest.raises(FileNotFoundError, match="there is no data set"):
        testvideos.select(fresh, str(tmp_path / "nothing"))


# ---------------------------------------------------------------------- fusion


@pytest.fixture(scope="module")
def flow(folder, tmp_path_factory):
    """A classifier of other percepts of the same videos, which are in another order."""
    path = tmp_path_factory.mktemp("flow")
    other = labelled.write(path / "flow", labelled.videos(dim=4, seed=3)[::-1])
    config = labelled.a_config(other, kind="single_frame")
    config.seed = 5
    return labelled.untrained(config, path / "two")


def test_fusion_is_the_weighted_mean_of_the_same_videos(fresh, flow):
    tests = [testvideos.select(model) for model in (fresh, flow)]
    a, b = tests
    assert a.videos.names == b.videos.names[::-1]
    weighted = (a.classified.probabilities + 3 * b.classified.probabilities[::-1]) / 4
    labels = a.videos.labels
    evaluation = action_recognition.fuse(tests, "the command", weights=(2, 6), topk=(1, 2))
    assert evaluation.folder.parent == fresh.evaluations
    whole = {"part": "video", "metric": "cross_entropy"}
    expected = -np.log(weighted[np.arange(12), labels]).mean()
    assert value(evaluation, subject="fusion", **whole) == pytest.approx(expected)
    for test, name in ((a, "fresh"), (b, "two")):
        figures = test.classified.figures(test.videos.labels)
        assert value(evaluation, subject=name, **whole) == pytest.approx(
            figures["video_cross_entropy"]
        )
    assert {r.subject for r in evaluation.find(part="video")} == {"fusion", "fresh", "two"}
    assert "fusion" in action_recognition.table(evaluation, CLASSES)
    assert evaluation.settings["weights"] == [0.25, 0.75]
    equal = action_recognition.fuse(tests, "the command")
    assert equal.settings["weights"] == [0.5, 0.5] and equal.folder != evaluation.folder


def test_what_cannot_be_fused_is_named(fresh, flow, tmp_path):
    first = testvideos.select(fresh)
    found = [r for r in labelled.videos() if r.name != "biking/00"]
    fewer = testvideos.select(fresh, str(labelled.write(tmp_path / "fewer", found)))
    for tests in ([first, fewer], [fewer, first]):
        with pytest.raises(ValueError, match="fewer .*lacks 1 of the videos of .*: biking/00. "):
            action_recognition.fuse(tests, "the command")
    with pytest.raises(ValueError, match="one label in .* and another"):
        moved = [
            dataclasses.replace(r, label=0) if r.name == "diving/10" else r
            for r in labelled.videos()
        ]
        action_recognition.fuse(
            [first, testvideos.select(fresh, str(labelled.write(tmp_path / "moved", moved)))], "x"
        )
    for weights, message in (
        ((1,), "1 numbers for 2 models"),
        ((1, -1), "--weights=1,-1"),
        ((0, 0), "one of them above 0"),
    ):
        with pytest.raises(ValueError, match=message):
            action_recognition.check_weights(weights, 2)


def test_cross_validation_counts_all_test_videos(fresh, folder, tmp_path):
    config = labelled.a_config(folder)
    config.data.split, config.seed = 2, 4
    other = labelled.untrained(config, tmp_path / "other")
    tests = [testvideos.select(model) for model in (fresh, other)]
    evaluation = action_recognition.cross_validate(tests, "the command")
    hits = np.concatenate([t.classified.probabilities.argmax(1) == t.videos.labels for t in tests])
    assert len(hits) == 24
    (row,) = evaluation.find(subject="cross_validation", part="video", metric="accuracy")
    assert (row.value, row.count) == (pytest.approx(100 * hits.mean()), 24)
    for name, expected in (("fresh", hits[:12]), ("other", hits[12:])):
        whole = {"part": "video", "metric": "accuracy"}
        assert value(evaluation, subject=name, **whole) == pytest.approx(100 * expected.mean())
    assert sum(r.count for r in evaluation.find(metric="accuracy") if "class/" in r.part) == 24
    assert (evaluation.folder / "confusion.png").exists()
    assert "cross_validation" in action_recognition.table(evaluation, CLASSES)

    with pytest.raises(ValueError, match="at least two folds"):
        action_recognition.cross_validate(tests[:1], "x")
    with pytest.raises(ValueError, match="archery/00 is in the test part of .*fresh and of"):
        action_recognition.cross_validate([tests[0], tests[0]], "x")


def test_commands_repeat_flags_and_models(run):
    given = {"records": ["a", "b"], "topk": "1,5", "split": None}
    assert results.command(run, "x", given, ["--model=m"]) == (
        f"python -m eval.x --workdir={run.path} --model=m --records=a --records=b --topk=1,5"
    )


# ---------------------------------------------------------------------- signatures


def test_signatures_are_the_classifier(run, saved, folder):
    signatures = tf.saved_model.load(str(saved[0])).signatures
    assert signatures.keys() == {"serving_default", "classify", "encode", "step"}
    videos = finetuning.videos(run.config, "test", FRAMES, lambda line: None)
    frames, *_ = next(videos.blocks(FRAMES, FRAMES))
    logits = run.model.network(frames, training=False)
    steps = np.asarray(tf.nn.softmax(logits))
    for name in ("serving_default", "classify"):
        found = {key: x.numpy() for key, x in signatures[name](frames=tf.constant(frames)).items()}
        np.testing.assert_allclose(found["step_probabilities"], steps, atol=1e-5)
        np.testing.assert_allclose(found["probabilities"], steps.mean(1), atol=1e-5)
        assert [x.decode() for x in found["label"]] == [CLASSES[k] for k in steps.mean(1).argmax(1)]
        assert found["classes"].shape == (len(frames), 3)
        assert [x.decode() for x in found["classes"][-1]] == list(CLASSES)

    state = {f"{s}_{k}": tf.zeros((len(frames), 5)) for k in (1, 2) for s in "hc"}
    streamed = []
    for t in range(FRAMES):
        state = dict(signatures["step"](frame=tf.constant(frames[:, t]), **state))
        streamed.append(state.pop("probabilities").numpy())
    np.testing.assert_allclose(np.stack(streamed, 1), steps, atol=1e-5)
    encoded = signatures["encode"](frames=tf.constant(frames))
    assert encoded.keys() == state.keys()
    for name, x in encoded.items():
        np.testing.assert_allclose(x, state[name], atol=1e-5)
        assert np.abs(x).max() > 0.01

    for bad, message in (
        (frames * np.nan, "frames must be finite"),
        (frames[:, :0], "at least one of clips and frames"),
    ):
        with pytest.raises(tf.errors.InvalidArgumentError, match=message):
            signatures["classify"](frames=tf.constant(bad))


def test_signatures_of_pictures_take_pixels(tmp_path):
    rng = np.random.default_rng(0)
    found = [
        dataclasses.replace(r, frames=rng.integers(0, 256, (len(r.frames), 4, 4), np.uint8))
        for r in labelled.videos()
    ]
    records.write(tmp_path / "x", found, len(found), "patches", {}, classes=CLASSES)
    model = labelled.untrained(labelled.a_config(tmp_path / "x", kind="mean_frame"), tmp_path / "r")
    signatures = classifier_signatures.build(model.model, model.frame_shape)
    assert signatures.keys() == {
        name + end for name in ("serving_default", "classify") for end in ("", "_uint8")
    }
    pixels = found[0].frames[None]
    whole = signatures["classify"](tf.constant(pixels / 255, tf.float32))
    np.testing.assert_allclose(
        signatures["classify_uint8"](tf.constant(pixels))["probabilities"],
        whole["probabilities"],
        atol=1e-6,
    )
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"0\.\.1; for pixels .* _uint8"):
        signatures["classify"](tf.constant(pixels, tf.float32))
    with pytest.raises(ValueError, match="no percepts: give .npy files"):
        predictions.percepts_job(model, {})


def test_a_state_is_exported_without_steps():
    keras.utils.set_random_seed(0)
    model = classifiers.build(CLASSES, DIM, "state", units=5, layers=2)
    signatures = classifier_signatures.build(model, (DIM,))
    assert signatures.keys() == {"serving_default", "classify", "encode"}
    frames = tf.constant(np.random.default_rng(0).random((2, 4, DIM)), tf.float32)
    states = signatures["encode"](frames=frames)
    state = np.concatenate([states[name] for name in ("h_1", "c_1", "h_2", "c_2")], axis=1)
    logits = state @ model.head.kernel.numpy() + model.head.bias.numpy()
    expected = np.exp(logits) / np.exp(logits).sum(1, keepdims=True)
    found = signatures["classify"](frames=frames)["probabilities"]
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5)


def test_the_card_says_what_it_names(saved):
    card = json.loads((saved[0] / "model_card.json").read_text())
    assert card["classes"] == list(CLASSES) and (card["frames"], card["stride"]) == (4, 2)
    text = (saved[0] / "README.md").read_text()
    assert "**Classes**: 3: archery, biking, diving" in text and "from random weights" in text
    assert json.loads((saved[0] / "assets.extra" / "classes.json").read_text()) == list(CLASSES)


# ---------------------------------------------------------------------- files of one's own


def test_arrays_are_predicted_and_bad_files_named(fresh, folder, tmp_path):
    mine = tmp_path / "mine" / "sub"
    mine.mkdir(parents=True)
    names = ("biking/00", "archery/10")
    stored = {r.name: np.float32(r.frames) for r in records.pick(folder, range(36))}
    for name, file in zip(names, ("long", "short"), strict=True):
        frames = stored[name] if file == "long" else stored[name][:2]
        np.save(mine / f"{file}.npy", frames)
    np.save(mine / "wide.npy", np.zeros((5, 9), np.float32))
    np.save(mine / "nan.npy", np.full((5, DIM), np.nan, np.float32))
    (mine / "text.npy").write_text("no array")
    (mine.parent / "notes.txt").write_text("no video")
    paths, others = predictions.find(mine.parent)
    assert others == ("notes.txt",) and len(paths) == 5
    file_names = predictions.names(mine.parent, paths)
    out, lines = tmp_path / "out", []
    problems = predictions.run(fresh, paths, file_names, out, None, 2, lines.append)
    assert len(problems) == 3
    for name, reason in (
        ("wide", r"shape (5, 9); the classifier reads (frames, 7)"),
        ("nan", "a value is not finite"),
        ("text", "no .npy file"),
    ):
        (problem,) = (p for p in problems if f"{name}.npy" in p)
        assert reason in problem
    with open(out / "predictions.csv", encoding="utf-8") as file:
        table = list(csv.DictReader(file))
    assert len(table) == 3 + 2 * 2
    (p,) = expected_probabilities(fresh.model, folder, names[:1])
    found = {row["class"]: float(row["probability"]) for row in table if "long" in row["file"]}
    order = np.argsort(-p)[:2]
    assert list(found) == [CLASSES[k] for k in order]
    np.testing.assert_allclose(list(found.values()), p[order], atol=2e-6)
    assert [row["rank"] for row in table if "long" in row["file"]] == ["1", "2"]
    told = [line for line in lines if "short.npy" in line]
    assert "2 frames, 1 block (shorter than a window of 4: read whole)" in told[0]
    assert {p.name for p in (out / "sub").iterdir()} == {"long.npy.png", "short.npy.png"}
    with pytest.raises(ValueError, match="no video and no .npy file"):
        predictions.find(mine.parent / "notes.txt")
    with pytest.raises(FileNotFoundError, match="no such file or folder"):
        predictions.find(mine / "absent")


def test_the_table_does_not_depend_on_pictures(fresh, tmp_path, monkeypatch):
    mine, out = tmp_path / "mine", tmp_path / "out"
    mine.mkdir()
    names = ["x" * 236 + ".npy", "y" * 235 + "$.npy", "50% $_{.npy"]
    for name in names:
        np.save(mine / name, np.ones((6, DIM), np.float32))
    paths, _ = predictions.find(mine)
    lines = []
    arguments = fresh, paths, predictions.names(mine, paths), out, None, 1, lines.append
    assert predictions.run(*arguments) == []
    assert not [line for line in lines if "no picture" in line]
    pictures = [path for path in out.iterdir() if path.suffix == ".png"]
    assert len(pictures) == len(names) and "50% $_{.npy.png" in {p.name for p in pictures}
    table = (out / predictions.TABLE).read_text(encoding="utf-8")
    assert len(table.splitlines()) == 1 + len(names)

    def fails(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(action_pictures, "over_time", fails)
    (out / predictions.TABLE).unlink()
    assert predictions.run(*arguments) == []
    assert (out / predictions.TABLE).read_text(encoding="utf-8") == table
    assert sum("its picture cannot be drawn: no font" in line for line in lines) == len(names)


def test_probabilities_over_time_are_those_of_blocks_or_steps(fresh):
    frames = np.random.default_rng(0).random((9, DIM)).astype(np.float32)
    found = predictions.predict(fresh, frames)
    x, y, _ = predictions.over_time(found)
    np.testing.assert_array_equal(x, [2.5, 4.5, 6.5])  # 1..4, 3..6, 5..8
    np.testing.assert_allclose(y.mean(0), found.probabilities[0])
    x, y, _ = predictions.over_time(predictions.predict(fresh, frames[:3]))
    np.testing.assert_array_equal(x, [1, 2, 3])
    assert y.shape == (3, 3)


@pytest.fixture(scope="module")
def seen(tmp_path_factory):
    """(a classifier of a tiny CNN's percepts, the data set, the videos' folder, the CNN)."""
    path = tmp_path_factory.mktemp("seen")
    rng = np.random.default_rng(0)
    for name in CLASSES:
        (path / "videos" / name).mkdir(parents=True)
        for k in range(3):
            file = str(path / "videos" / name / f"{k}.avi")
            writer = cv2.VideoWriter(file, cv2.VideoWriter_fourcc(*"FFV1"), 10, (24, 16))
            for image in rng.integers(0, 256, (5 + k, 16, 24, 3), np.uint8):
                writer.write(image)
            writer.release()
    keras.utils.set_random_seed(0)
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(DIM, 3, activation="relu")(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(path / "cnn.keras")
    job = percepts.job(str(path / "cnn.keras"), mean=(127.0,), std=(60.0,))
    jobs.run(job, listing.folder(path / "videos"), path / "percepts")
    config = labelled.a_config(path / "percepts")
    config.data.split = 0
    return labelled.untrained(config, path / "run"), path


def test_a_video_is_predicted_as_its_record_is_judged(seen, tmp_path):
    model, path = seen
    given = {"cnn": str(path / "cnn.keras")}
    job = predictions.percepts_job(model, given)
    assert job.mean == (127.0,) and job.size == (8, 8)
    test = testvideos.select(model)
    for name, p in zip(test.videos.names, test.classified.probabilities, strict=True):
        frames = predictions.read(path / "videos" / name, model, lambda: job)
        np.testing.assert_allclose(
            predictions.predict(model, frames).probabilities[0], p, atol=1e-6
        )
    (tmp_path / "bad.avi").write_bytes(b"RIFF")
    files = [path / "videos" / "archery" / "0.avi", tmp_path / "bad.avi"]
    lines = []
    problems = predictions.run(
        model, files, ["a.avi", "bad.avi"], tmp_path / "out", lambda: job, 3, lines.append
    )
    assert len(problems) == 1 and problems[0].startswith(f"{tmp_path / 'bad.avi'}: ")
    with Image.open(tmp_path / "out" / "a.avi.png") as image:
        colours = np.asarray(image.convert("RGB"))[:120].reshape(-1, 3)
    assert (np.ptp(colours, axis=1) > 60).sum() > 500  # the frames of noise


def test_the_cnn_has_to_be_that_of_the_training_data(seen, tmp_path, monkeypatch):
    model, path = seen
    saved = trained.load(export.write(model, tmp_path / "saved"))  # knows it, too
    for one in (model, saved):
        with pytest.raises(OSError, match=r"--cnn is missing: .* percepts of cnn.keras \(sha256"):
            predictions.percepts_job(one, {})
    monkeypatch.chdir(path)  # where a file of that name is
    assert predictions.percepts_job(saved, {}).sha256
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(DIM, 3)(image)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(tmp_path / "other.keras")
    with pytest.raises(ValueError, match="other.keras: its sha256 is"):
        predictions.percepts_job(model, {"cnn": str(tmp_path / "other.keras")})
    with pytest.raises(ValueError, match="fps is 5.0, but .* made with none"):
        predictions.percepts_job(model, {"fps": 5.0})


def test_unknown_percepts_take_all_flags(run, seen):
    with pytest.raises(ValueError, match="--cnn is missing: the data .* do not say how"):
        predictions.percepts_job(run, {})
    given = {"cnn": str(seen[1] / "cnn.keras"), "mean": (0.0,), "std": (1.0,)}
    assert predictions.percepts_job(run, given).dim == DIM
    image = keras.Input((8, 8, 3))
    x = keras.layers.Conv2D(5, 3)(image)
    path = seen[1] / "five.keras"
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(x)).save(path)
    with pytest.raises(ValueError, match="gives percepts of 5 numbers, .* reads 7"):
        predictions.percepts_job(run, {**given, "cnn": str(path)})


def test_an_evaluation_does_not_depend_on_its_pictures(fresh, monkeypatch):
    def fails(*arguments):
        raise RuntimeError("no font")

    monkeypatch.setattr(action_pictures, "confusion", fails)
    test, lines = testvideos.select(fresh), []
    found = action_recognition.evaluate(test, "the command", log=lines.append)
    assert [picture.file for picture in found.pictures] == ["steps.png"]
    assert "confusion.png is not drawn: no font" in lines
    assert results.load(found.folder).rows == found.rows and len(found.rows) > 3


def test_a_matrix_of_many_classes_stays_readable(tmp_path):
    rng = np.random.default_rng(0)
    counts = np.diag(rng.integers(20, 40, 101)) + (rng.random((101, 101)) < 0.05) * 4
    counts[7] = 0  # no video of that class
    names = [f"class number {k}" for k in range(101)]
    action_pictures.confusion(counts, names, "many", tmp_path / "many.png")
    with Image.open(tmp_path / "many.png") as image:
        assert 1500 < image.width < 4000


# ---------------------------------------------------------------------- the command


# Runs the command several times in one process, for argument lists; prints what each one gave.
def call_command(calls):
    """The command with one list of arguments after another: (what is printed first, *arguments)."""
    from eval import action_recognition as command
    from eval import common

    for name, *arguments in calls:
        for flag in flags.FLAGS:
            flags.FLAGS[flag].unparse()
        flags.FLAGS(["command", *arguments])
        print(f"== {name}", flush=True)
        try:
            print(
                "status", common.models() if name == "video models" else command.main(["command"])
            )
        except (ValueError, OSError) as error:
            print("error", error)


@pytest.fixture
def video_model(tmp_path):
    """Folder of a run of a future predictor that never trained."""
    config = percepts_small.get_config()
    config.model.update({"kind": "future_predictor", "units": 3, "layers": 1})
    model = experiment.build_model(config, (DIM,), np.zeros(DIM))
    opened = workdir.Workdir.open(tmp_path / "video_model", config.to_dict())
    opened.write_run_info({"data": {"sha256": {}}, "frame_shape": (DIM,)})
    opened.write_mean_frame(np.zeros(DIM, np.float32))
    arrays = {name: v.numpy() for name, v in checkpoints.weights(model.network).items()}
    checkpoints.save_best(opened.checkpoints, 0, arrays, {})
    opened.lock.close()
    return opened.path


@pytest.mark.slow
def test_the_command(fresh, flow, video_model, tmp_path):
    mine = tmp_path / "mine"
    mine.mkdir()
    np.save(mine / "good.npy", np.ones((6, DIM), np.float32))
    np.save(mine / "bad.npy", np.ones((6, 2), np.float32))
    one, two = f"--workdir={fresh.path}", f"--workdir={flow.path}"
    calls = [
        ("one", one, "--topk=1,2"),
        ("fused", one, two, "--weights=1,2", "--part=validation"),
        ("predicted", one, f"--predict={mine}"),
        ("a video model", f"--workdir={video_model}"),
        ("video models", one),
        ("weights", one, two, "--weights=1"),
        ("records", one, two, "--records=x"),
        ("no numbers", one, "--topk=a"),
        ("twice", one, one),
        ("mixed", one, "--predict=x", "--part=train"),
        ("again", one, "--predict=x", "--recompute"),
        ("without predict", one, "--cnn_weights=x"),
        ("nothing",),
    ]
    done = commands.call(call_command, calls)
    assert done.returncode == 0, done.stderr
    said = dict(part.split("\n", 1) for part in done.stdout.split("== ")[1:])
    assert "test, 12 videos" in said["one"] and "top_2_accuracy" in said["one"]
    written = [line for line in said["one"].split("\n") if line.endswith(("json", "csv", "png"))]
    assert len(written) == 4 and all(Path(line.strip()).is_file() for line in written)
    assert "late fusion: fresh 0.333, two 0.667" in said["fused"]
    assert "of the run's validation split, which chose its weights" in said["fused"]
    (stored,) = fresh.evaluations.glob("action_recognition_fusion-*")
    assert results.load(stored).command == (
        f"python -m eval.action_recognition {one} {two} --part=validation --weights=1,2"
    )
    assert "status 1" in said["predicted"] and "good.npy: 6 frames, 2 blocks" in said["predicted"]
    assert f"error: {mine}/bad.npy: shape (6, 2)" in done.stderr
    assert (fresh.evaluations / "predictions-mine" / "predictions.csv").is_file()
    for name, message in {
        "a video model": "is a future_predictor of train.pretrain, and names no actions",
        "video models": "fresh is a classifier of train.finetune, and predicts no frames",
        "weights": "--weights has 1 numbers for 2 models",
        "records": "--records is given 1 times for 2 models",
        "no numbers": "--topk=a: whole numbers expected",
        "twice": "is given twice",
        "mixed": "--part does not go with --predict",
        "again": "--recompute does not go with --predict",
        "without predict": "--cnn_weights goes with --predict",
        "nothing": "--workdir=RUN is missing: the folder that train.finetune wrote",
    }.items():
        assert said[name].startswith("error ") and message in said[name], (name, said[name])
