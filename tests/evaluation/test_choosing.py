"""Choosing percepts and a classifier, on synthetic percepts whose answer is known."""

import csv
import dataclasses
import itertools
import json

import cv2
import numpy as np
import pytest
from absl import flags

import command_flags
from unsup_video.data import records
from unsup_video.evaluation.choosing import (
    advice,
    folds,
    model,
    networks,
    scores,
    sets,
    statistics,
    study,
    videos,
)
from unsup_video.video import listing

DIM = 4


def write(
    folder, label_of, frames_of, count=24, groups=None, classes=("a", "b"), splits=None, source=None
):
    """Percepts of `count` videos, (6 to 8, DIM), as a data set; returns its folder."""
    rng = np.random.default_rng(0)
    found = [
        records.Record(
            frames_of(label_of(i), 6 + i % 3, rng).astype("float16"),
            None,
            f"v{i:02d}",
            label_of(i),
            f"g{groups(i)}" if groups else "",
            splits(i) if splits else (),
        )
        for i in range(count)
    ]
    source = source or {}
    options = dict(dtype="float16", scale=1.0, classes=classes)
    records.write(folder, found, count, "percepts", source, **options)
    return folder


def mean_tells(label, length, rng):
    return rng.normal(size=(length, DIM)) * 0.3 + (1.0 if label else -1.0)


def motion_tells(label, length, rng):
    """Both classes alternate between the same two frames: one fast, one slowly."""
    fast = np.arange(length) % 2
    slow = np.arange(length) // (length // 2) % 2
    signs = np.where((fast if label else slow) == rng.integers(2), 1.0, -1.0)
    return signs[:, None] + rng.normal(size=(length, DIM)) * 0.1


def noise(label, length, rng):
    return rng.normal(size=(length, DIM))


def alternate(i):
    return i % 2


class Guess:
    """Networks that learn nothing and take no time."""

    def __init__(self, kind, videos):
        self.videos = videos

    def probabilities(self, train, test, seed):
        return np.full((test.sum(), len(self.videos.classes)), 0.5)


class Clock:
    """A clock that only trainings of `networks` advance, by some seconds per fold."""

    def __init__(self, seconds):
        self.now, self.seconds = 0.0, seconds

    def __call__(self):
        return self.now

    def networks(self, kind, videos):
        clock = self

        class Slow(Guess):
            def probabilities(self, train, test, seed):
                clock.now += clock.seconds
                return super().probabilities(train, test, seed)

        return Slow(kind, videos)


@pytest.fixture(autouse=True)
def few_trees(monkeypatch):
    monkeypatch.setattr(statistics, "_TREES", 10)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    root = tmp_path_factory.mktemp("percepts")
    return {
        "mean": write(root / "mean", alternate, mean_tells),
        "motion": write(root / "motion", alternate, motion_tells),
        "noise": write(root / "noise", alternate, noise),
    }


def chosen(loaded, folder, **changes):
    options = dict(repeats=2, networks_of=Guess, log=lambda line: None) | changes
    return study.run(
        study.Settings(loaded.fingerprint, loaded.fingerprints), loaded, folder, **options
    )


def row(result, percepts, classifier):
    (found,) = (
        r for r in result.rows if r.percepts == tuple(percepts) and r.classifier == classifier
    )
    return found


# ---------------------------------------------------------------------- the parts


def test_statistics_are_those_of_numpy():
    frames = np.random.default_rng(0).normal(size=(7, 3))
    wanted = [
        frames.mean(0),
        frames.std(0),
        *(np.quantile(frames, q, axis=0) for q in (0.1, 0.5, 0.9)),
        np.abs(frames[1:] - frames[:-1]).mean(0),
        frames[4:].mean(0) - frames[:3].mean(0),
    ]
    np.testing.assert_allclose(statistics.summed_up(frames), np.concatenate(wanted), atol=1e-6)
    single = statistics.summed_up(frames[:1])
    np.testing.assert_allclose(single[-6:], 0)
    assert np.isfinite(single).all()


def test_folds_never_divide_a_group_and_are_balanced():
    rng = np.random.default_rng(0)
    groups = np.repeat(np.arange(20), rng.integers(1, 4, 20))
    labels = groups % 2
    for seed in range(20):
        fold = folds.draw(labels, groups, 4, seed)
        assert set(fold) == set(range(4))
        for group in np.unique(groups):
            assert len(set(fold[groups == group])) == 1
    alone = np.arange(30)
    drawn = [folds.draw(alone % 3, alone, 5, seed) for seed in range(3)]
    for fold in drawn:  # two of each class in each
        assert (np.array([np.bincount(alone[fold == k] % 3) for k in range(5)]) == 2).all()
    assert (drawn[0] != drawn[1]).any()


def test_what_cannot_be_divided_is_refused():
    labels, alone = np.array([0, 0, 0, 1, 1]), np.arange(5)
    folds.check(labels, alone, 2, ("a", "b"))
    with pytest.raises(ValueError, match="3 folds need 3 groups .* there are 2 of b"):
        folds.check(labels, alone, 3, ("a", "b"))
    with pytest.raises(ValueError, match="there is 1 of b"):
        folds.check(labels, np.array([0, 1, 2, 3, 3]), 2, ("a", "b"))
    with pytest.raises(ValueError, match="all 3 videos are of one class, a"):
        folds.check(labels[:3], alone[:3], 2, ("a", "b"))
    with pytest.raises(ValueError, match="at least 2 folds"):
        folds.check(labels, alone, 1, ("a", "b"))


def test_the_correction_is_that_of_a_plain_bootstrap():
    rng = np.random.default_rng(1)
    groups = np.repeat(np.arange(12), 2)
    hits = 100.0 * (rng.random((5, 24)) < 0.6)
    found = scores.corrected(hits, groups, seed=3, draws=500)
    values = []
    rng = np.random.default_rng(4)
    for _ in range(4000):
        sample = rng.integers(12, size=12)
        inside = np.concatenate([np.flatnonzero(groups == g) for g in sample])
        means = hits[:, inside].mean(1)
        best = means >= means.max() - 1e-9
        values.append(hits[best][:, ~np.isin(groups, sample)].mean())
    assert found.mean == pytest.approx(np.mean(values), abs=1.5)
    assert found.low == pytest.approx(np.quantile(values, 0.025), abs=5)
    assert found.high == pytest.approx(np.quantile(values, 0.975), abs=5)


def test_the_correction_of_a_perfect_candidate_has_an_interval():
    perfect = scores.corrected(np.full((2, 10), 100.0), np.arange(10), draws=50)
    _, low, _ = scores.accuracy(np.full(10, 100.0), np.arange(10))
    assert (perfect.mean, perfect.low, perfect.high) == (100, low, 100) and low < 80


def test_the_best_of_many_guesses_is_corrected_to_a_guess():
    """Averaged over experiments, the best of 40 coins looks good, and its correction does not."""
    rng = np.random.default_rng(0)
    best, corrected = [], []
    for _ in range(30):
        hits = 100.0 * (rng.random((40, 60)) < 0.5)
        best.append(hits.mean(1).max())
        corrected.append(scores.corrected(hits, np.arange(60), draws=200).mean)
        by_luck = np.argsort(-hits.mean(1))
        first = scores.corrected(hits[by_luck], np.arange(60), draws=200)
        assert first.mean == pytest.approx(corrected[-1], abs=1e-9)  # the order does not matter
    assert np.mean(best) > 60
    assert np.mean(corrected) == pytest.approx(50, abs=2.5)


def test_accuracies_and_differences():
    hits = scores.right(np.array([[[0.9, 0.1], [0.2, 0.8]], [[0.4, 0.6], [0.1, 0.9]]]), [0, 1])
    assert hits.tolist() == [50, 100]
    mean, low, high = scores.accuracy(np.full(10, 100.0), np.arange(10))
    assert mean == high == 100 and 60 < low < 90
    assert scores.difference(hits, hits, np.arange(2)) == (0, 0, 0)


def test_repeats_do_not_narrow_the_interval_of_few_videos():
    """20 videos: one wrong answer in ten repeats says hardly more than none."""
    hits = np.full(20, 100.0)
    _, low, _ = scores.accuracy(hits, np.arange(20))
    hits[3] = 90
    mean, other, high = scores.accuracy(hits, np.arange(20))
    assert mean == 99.5 and low - 2 < other < low and high == pytest.approx(100, abs=0.1)
    mean, low, high = scores.accuracy(np.full(20, 50.0), np.arange(20))
    assert mean == 50 and 25 < low < 35 and 65 < high < 75  # as for ten right answers of 20


def test_sets_of_fusions():
    assert study.subsets(["a", "b", "c"]) == [
        *[("a",), ("b",), ("c",), ("a", "b"), ("a", "c"), ("b", "c"), ("a", "b", "c")]
    ]
    five = study.subsets(list("abcde"))
    assert len(five) == 5 + 10 + 1 and ("a", "b", "c", "d", "e") in five


# ---------------------------------------------------------------------- the videos


def test_sets_hold_the_videos_that_all_have(tmp_path, data):
    fewer = write(tmp_path / "fewer", alternate, noise, count=20)
    loaded = sets.load({"mean": data["mean"], "fewer": fewer})
    assert len(loaded) == 20 and loaded.left_out == {"mean": 4, "fewer": 0}
    other = write(tmp_path / "other", lambda i: (i + 1) % 2, noise)
    with pytest.raises(ValueError, match="have other labels, such as of v00"):
        sets.load({"mean": data["mean"], "other": other})
    renamed = write(tmp_path / "renamed", alternate, noise, classes=("a", "c"))
    with pytest.raises(ValueError, match="the classes a, b and a, c"):
        sets.load({"mean": data["mean"], "renamed": renamed})
    bare = write(tmp_path / "bare", lambda i: -1, noise)
    with pytest.raises(ValueError, match="no video has a label"):
        sets.load({"bare": bare})


def test_test_videos_of_an_official_split_are_left_alone(tmp_path):
    folder = write(tmp_path / "x", alternate, noise, splits=lambda i: (2 if i < 6 else 1,))
    with pytest.raises(ValueError, match="--split=1 to --split=1 leaves the test videos"):
        sets.load({"x": folder})
    assert sets.load({"x": folder}, split=1).names == tuple(f"v{i:02d}" for i in range(6, 24))
    assert len(sets.load({"x": folder}, split=0)) == 24
    with pytest.raises(ValueError, match="--split=2: .* has the official splits 1 to 1"):
        sets.load({"x": folder}, split=2)


# ---------------------------------------------------------------------- the study


def test_each_kind_of_percepts_is_found_out(tmp_path, data):
    loaded = sets.load(data)
    result = chosen(loaded, tmp_path, repeats=1)
    for classifier in statistics.KINDS:
        assert row(result, ["mean"], classifier).accuracy == 100
        assert row(result, ["motion"], classifier).accuracy > 90  # only the statistics of change
        assert row(result, ["noise"], classifier).accuracy < 75
    assert result.rows[0].accuracy == 100 and result.guess == 50 and result.gain[1] > 0
    assert len(result.rows) == 7 * len(study.CLASSIFIERS)
    assert row(result, ["noise"], "lstm").accuracy == 50  # the first class of equal ones
    text = study.verdict(result)
    assert "over always guessing" in text and "BBC-CV" in text
    assert f"the best of {len(result.rows)}" in text and "no better than a guess" not in text
    doubtful = dataclasses.replace(result, corrected=scores.Corrected(60, 45, 75))
    (line,) = (x for x in study.verdict(doubtful).splitlines() if "no better than a guess" in x)
    assert "BBC-CV" in line
    assert study.markdown(result).count("\n") == 2 + len(result.rows)
    with open(tmp_path / "results.csv") as file:
        best = next(csv.DictReader(file))
    assert best["percepts"] == " + ".join(result.rows[0].percepts)
    stored = json.loads((tmp_path / "results.json").read_text())
    assert stored["rows"][0]["accuracy"] == 100 and stored["corrected"]["mean"] > 95


def test_noise_is_not_recommended_as_sure(tmp_path, data):
    noisy = sets.load({"noise": data["noise"]})
    result = chosen(noisy, tmp_path, classifiers=["logistic", "single_frame"])
    assert result.gain[1] <= 0
    assert "no better than a guess" in study.verdict(result)


def test_cross_validation_is_that_of_scikit_learn(tmp_path, data):
    """Predictions are those of classifiers fitted by hand on the other folds."""
    loaded = sets.load({"motion": data["motion"]})
    chosen(loaded, tmp_path, classifiers=["logistic"], repeats=2)
    features = statistics.of_sequences(data["motion"])
    for repeat in range(2):
        fold = folds.draw(loaded.labels, loaded.groups, 5, repeat)
        with np.load(tmp_path / "fits" / "motion" / f"logistic-{repeat}.npz") as stored:
            for k, i in itertools.product(range(5), range(len(loaded))):
                if fold[i] == k:
                    own = statistics.classifier("logistic", features.shape[1], repeat)
                    own.fit(features[fold != k], loaded.labels[fold != k])
                    np.testing.assert_allclose(
                        stored["probabilities"][i], own.predict_proba(features[i : i + 1])[0]
                    )
                    break  # one of each fold suffices


def test_a_fusion_is_the_mean_of_the_probabilities(tmp_path, data):
    loaded = sets.load({k: data[k] for k in ("motion", "noise")})
    result = chosen(loaded, tmp_path, classifiers=["logistic"])
    both = []
    for name in ("motion", "noise"):
        paths = [tmp_path / "fits" / name / f"logistic-{k}.npz" for k in range(2)]
        both.append([np.load(path)["probabilities"] for path in paths])
    hits = 100 * (np.mean(both, axis=0).argmax(-1) == loaded.labels).mean()
    assert row(result, ["motion", "noise"], "logistic").accuracy == pytest.approx(hits)


def test_the_budget_is_kept_and_a_study_resumes(tmp_path, data):
    loaded = sets.load({"mean": data["mean"]})
    clock = Clock(24.0)  # seconds per fold: a repeat takes two minutes
    options = dict(classifiers=["single_frame", "lstm"], networks_of=clock.networks, clock=clock)
    first = chosen(loaded, tmp_path, repeats=9, minutes=7, **options)
    assert clock.now == 3 * 120  # the fourth repeat would end after the seventh minute
    assert first.untried == (("mean", "lstm"),) and first.rows[0].repeats == 3
    assert first.rows[0].seconds == 120
    assert "not tried, for lack of time" in study.verdict(first)
    paths = list((tmp_path / "fits").rglob("*.npz"))
    before = {path: path.stat().st_mtime_ns for path in paths}
    lines = []
    second = chosen(loaded, tmp_path, repeats=4, log=lines.append, **options)
    assert second.untried == () and {r.repeats for r in second.rows} == {4}
    assert len(paths) == 3 and len(lines) == 8 - 3 and clock.now == 8 * 120
    assert before == {path: path.stat().st_mtime_ns for path in paths}


def test_slow_classifiers_come_last_and_in_turn(tmp_path, data):
    loaded = sets.load({k: data[k] for k in ("mean", "noise")})
    lines = []
    names = ["pretrained", "lstm", "single_frame"]
    chosen(loaded, tmp_path, classifiers=names, log=lines.append)
    short = [line.split(":")[0].replace("LSTM from ", "").replace(" of 2", "") for line in lines]
    kinds = ("random weights", "a pretrained encoder")
    assert short == [
        *(
            f"{name}, regression on single frames, repeat {k}"
            for name in ("mean", "noise")
            for k in (1, 2)
        ),
        *(
            f"{name}, {kind}, repeat {k}"
            for k in (1, 2)
            for kind in kinds
            for name in ("mean", "noise")
        ),
    ]


def test_another_study_and_bad_arguments_are_refused(tmp_path, data):
    loaded = sets.load({"mean": data["mean"]})
    chosen(loaded, tmp_path, classifiers=["logistic"], repeats=1)
    with pytest.raises(ValueError, match="study with other settings"):
        study.run(study.Settings(loaded.fingerprint, loaded.fingerprints, seed=1), loaded, tmp_path)
    for changes, problem in (
        (dict(repeats=0), "repeats must be at least 1"),
        (dict(minutes=0), "minutes must be above 0"),
        (dict(classifiers=["x"]), "unknown classifier 'x'"),
        (dict(classifiers=[]), "no classifier is given"),
    ):
        with pytest.raises(ValueError, match=problem):
            chosen(loaded, tmp_path / "x", **changes)
    path = tmp_path / "fits" / "mean" / "logistic-0.npz"
    whole = path.read_bytes()
    path.write_bytes(whole[:50])
    with pytest.raises(ValueError, match="logistic-0.npz"):
        chosen(loaded, tmp_path, classifiers=["logistic"], repeats=1)
    np.savez(path, probabilities=np.zeros((3, 2)), seconds=1.0)
    with pytest.raises(ValueError, match="logistic-0.npz holds arrays of"):
        chosen(loaded, tmp_path, classifiers=["logistic"], repeats=1)
    path.write_bytes(whole)
    settings = tmp_path / "settings.json"
    stored = json.loads(settings.read_text())
    del stored["made_with"]["networks"]["pretrained"]["encoder"]["model"]["init"]
    settings.write_text(json.dumps(stored))  # as a version wrote it that did not have the field
    chosen(loaded, tmp_path, classifiers=["logistic"], repeats=1)
    stored["made_with"]["networks"]["lstm"]["classifier"]["recipe"]["learning_rate"] = 1.0
    settings.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="(?s)study with other settings.*learning_rate"):
        chosen(loaded, tmp_path, classifiers=["logistic"], repeats=1)
    del stored["made_with"]
    settings.write_text(json.dumps(stored))
    with pytest.raises(ValueError, match="study of another version of unsup_video"):
        chosen(loaded, tmp_path, classifiers=["logistic"], repeats=1)


def test_percepts_can_be_added_to_a_study(tmp_path, data):
    lines = []
    options = dict(classifiers=["logistic"], repeats=1, log=lines.append)
    chosen(sets.load({"mean": data["mean"]}), tmp_path, **options)
    both = chosen(sets.load({k: data[k] for k in ("mean", "motion")}), tmp_path, **options)
    chosen(sets.load({"mean": data["mean"]}), tmp_path, **options)
    assert len(both.rows) == 3 and len(lines) == 2
    with pytest.raises(ValueError, match="percepts.mean"):
        chosen(sets.load({"mean": data["noise"]}), tmp_path, **options)
    fewer = write(tmp_path / "fewer", alternate, noise, count=20)
    with pytest.raises(ValueError, match="videos"):
        chosen(sets.load({"fewer": fewer}), tmp_path, **options)


def test_what_cannot_be_trained_is_reported(tmp_path, data):
    class Short(Guess):
        def probabilities(self, train, test, seed):
            raise networks.CannotTrain("no video to train on has 16 frames")

    loaded = sets.load({"mean": data["mean"]})
    result = chosen(loaded, tmp_path, classifiers=["logistic", "lstm"], networks_of=Short)
    assert result.failed == (("mean", "lstm", "no video to train on has 16 frames"),)
    assert "cannot be trained: mean, LSTM" in study.verdict(result)
    with pytest.raises(ValueError, match="no candidate could be trained"):
        chosen(loaded, tmp_path / "x", classifiers=["lstm"], networks_of=Short)

    class Damaged(Guess):
        def probabilities(self, train, test, seed):
            raise ValueError("the shard is damaged")

    with pytest.raises(ValueError, match="the shard is damaged"):
        chosen(loaded, tmp_path / "y", classifiers=["logistic", "lstm"], networks_of=Damaged)


# ---------------------------------------------------------------------- the package's classifiers


def shrunken(config):
    config.model.units, config.model.layers = 8, 1
    if "frames" in config.data:
        config.data.frames, config.data.stride = 3, 3
        config.train.steps = 20
        config.recipe.learning_rate = 0.03
    else:
        config.data.frames_in, config.data.frames_out = 2, 1
        config.train.steps = 2


@pytest.mark.slow
@pytest.mark.parametrize("kind", networks.KINDS)
def test_networks_learn_and_do_not_depend_on_earlier_ones(data, kind):
    loaded = sets.load({"mean": data["mean"]})
    half = np.arange(24) < 12
    first = networks.Networks(kind, loaded.videos["mean"], shrunken)
    other = first.probabilities(~half, half, 1)
    again = first.probabilities(half, ~half, 0)
    if kind == networks.PRETRAINED:  # which trains in both ways, and so covers the others
        fresh = networks.Networks(kind, loaded.videos["mean"], shrunken)
        np.testing.assert_array_equal(again, fresh.probabilities(half, ~half, 0))
    for found, which in ((other, half), (again, ~half)):
        assert found.shape == (12, 2)
        assert (found.argmax(1) == loaded.labels[which]).mean() > 0.9
    long = networks.Networks(kind, loaded.videos["mean"])
    with pytest.raises(networks.CannotTrain, match="no video to train on has 16 frames"):
        long.probabilities(half, ~half, 0)


# ---------------------------------------------------------------------- model and command


def test_a_model_comes_back(tmp_path, data):
    loaded = sets.load({k: data[k] for k in ("mean", "motion")})
    made = model.train(loaded, ("mean", "motion"), "forest", 0)
    made.save(tmp_path / "model.npz")
    folders = {k: data[k] for k in ("mean", "motion")}
    back = model.load(tmp_path / "model.npz")
    assert model.predict(back, folders) == model.predict(made, folders)
    found, left_out = model.predict(back, folders)
    assert [p.label for p in found] == ["ab"[i % 2] for i in range(24)] and not left_out
    with pytest.raises(ValueError, match="percepts motion are missing"):
        model.predict(back, {"mean": data["mean"]})
    fewer = write(tmp_path / "fewer", alternate, motion_tells, count=20)
    found, left_out = model.predict(back, {"mean": data["mean"], "motion": fewer})
    assert [p.name for p in found] == [f"v{i:02d}" for i in range(20)]
    assert [p.label for p in found] == ["ab"[i % 2] for i in range(20)]
    assert left_out == ["v20", "v21", "v22", "v23"]


def test_a_damaged_model_is_refused(tmp_path, data):
    path = tmp_path / "model.npz"
    model.train(sets.load({"mean": data["mean"]}), ("mean",), "logistic", 0).save(path)
    whole = dict(np.load(path))
    for changes in ({"about": np.array("{}")}, {"labels": np.zeros(3, int)}, {"features_x": [0]}):
        np.savez(path, **(whole | changes))
        with pytest.raises(ValueError, match="model.npz is no model of eval.choose"):
            model.load(path)


def test_percepts_made_in_another_way_are_refused(tmp_path, data):
    """What matters is the flow behind percepts, and not the size of a batch."""

    def made(name, bound, batch_size):
        source = {
            "settings": {
                "flow": name,
                "fingerprint": name,
                "cnn": {"layer": "top", "batch_size": batch_size, "keras": str(batch_size)},
            },
            "videos": {"flow": {"settings": {"bound": bound}}},
        }
        return write(tmp_path / name, alternate, mean_tells, source=source)

    own = model.train(sets.load({"x": made("x", 20, 32)}), ("x",), "logistic", 0)
    assert len(model.predict(own, {"x": made("same", 20, 8)})[0]) == 24
    with pytest.raises(ValueError, match="other was made with other settings .* percepts x"):
        model.predict(own, {"x": made("other", 5, 32)})


def called(capsys, *arguments):
    """Calls the command in this process; returns (its exit status, what it prints)."""
    with command_flags.command("eval.choose") as command:
        flags.FLAGS(["eval.choose", *map(str, arguments)])
        status = command.main(["eval.choose"])
    return status, capsys.readouterr().out


def test_the_command(tmp_path, data, capsys):
    out = tmp_path / "out"
    percepts = f"--percepts=mean={data['mean']},noise={data['noise']}"
    options = ("--classifiers=logistic", "--repeats=1")
    status, said = called(capsys, percepts, f"--out={out}", *options)
    assert status == 0
    assert "recommended: mean, statistics over time, logistic regression: 100.0 %" in said
    assert f"python -m eval.choose --out={out} --predict=mean=NEW_MEAN" in said
    new = f"--predict=mean={data['mean']}"
    status, said = called(capsys, f"--out={out}", new)
    assert status == 0
    with open(out / "predictions.csv") as file:
        assert [r["class"] for r in csv.DictReader(file)] == ["a", "b"] * 12
    for arguments, problem in (
        (["--percepts=mean"], "NAME=FOLDER expected"),
        ([percepts, "--cnn=VGG16"], "--cnn does not go with --percepts"),
        ([new, "--fps=5"], "--fps does not go with --predict=NAME=FOLDER"),
        ([new, "--folds=3"], "--folds does not go with --predict"),
        ([new, percepts], "--percepts does not go with --predict"),
        ([f"--videos={tmp_path}", "--split=1"], "--split goes with --percepts"),
    ):
        with pytest.raises(ValueError, match=problem):
            called(capsys, f"--out={out}", *arguments)


def test_what_to_run_next(tmp_path, data):
    """No command is suggested that cannot work: runs of frames alone name actions in videos."""

    def made(name, settings, **others):
        source = {"settings": settings, **others}
        return write(tmp_path / name, alternate, mean_tells, source=source)

    cnn = {"cnn": "own.keras", "sha256": "0"}
    behind = {"flow": {"settings": {}}}
    loaded = sets.load(
        {"rgb": made("rgb", cnn), "flow": made("flow", {"flow": "x", "cnn": cnn}, videos=behind)}
    )

    def after(names, split=0, cnn=()):
        best = study.Row(names, "single_frame", 90.0, 80.0, 95.0, 1, 1.0)
        (first, *_) = advice.trainings(tmp_path, loaded, best, split)
        return first, advice.uses(tmp_path, loaded, best, split, cnn), advice.note(loaded, best)

    start = f"python -m eval.action_recognition --workdir={tmp_path}/runs"
    cnn = ("--cnn=own.keras", "--cnn_weights=w.h5")
    training, uses, note = after(("rgb",), cnn=cnn)
    assert "--config.recipe.learning_rate=0.01 " in training and not note
    assert uses == [f"{start}/rgb --predict=NEW_VIDEOS --cnn=own.keras --cnn_weights=w.h5"]
    everything = tmp_path / "all_videos" / "rgb"
    assert f"--records={everything} " in training and "none are left for a test" in training
    for part in ("train", "validation", "test"):
        assert (everything / part).resolve() == tmp_path / "rgb"
    assert after(("rgb",))[1] == [f"{start}/rgb --predict=NEW_VIDEOS --cnn=FILE"]
    _, uses, note = after(("flow",))
    assert uses == [] and "as .npy files" in note
    _, uses, note = after(("rgb", "flow"))
    assert uses == [] and "not for new videos" in note
    training, uses, _ = after(("rgb", "flow"), split=1)
    assert f"--records={tmp_path / 'rgb'} --config.data.split=1 " in training
    assert uses == [f"{start}/rgb --workdir={tmp_path}/runs/flow"]


def test_the_flags_of_the_cnn_are_suggested_again():
    with command_flags.command("eval.choose") as command:
        flags.FLAGS(["eval.choose", "--cnn=own.keras", "--weights=w.h5", "--mean=1,2,3"])
        assert sorted(command._cnn_arguments(renamed={"weights": "cnn_weights"})) == [
            "--cnn=own.keras",
            "--cnn_weights=w.h5",
            "--mean=1,2,3",
        ]


# ---------------------------------------------------------------------- from videos


def write_clips(folder, count, start=0):
    """`count` clips of a textured square on grey of each class: it moves, or it does not."""
    rng = np.random.default_rng(start)
    for name, speed in (("moves", 3), ("rests", 0)):
        (folder / name).mkdir(parents=True, exist_ok=True)
        for i in range(start, start + count):
            square = rng.integers(0, 256, (24, 24, 1)).astype(np.uint8).repeat(3, -1)
            writer = cv2.VideoWriter(
                str(folder / name / f"{i}.avi"), cv2.VideoWriter_fourcc(*"FFV1"), 10, (96, 64)
            )
            for t in range(7):
                frame = np.full((64, 96, 3), 128, np.uint8)
                left = 10 + speed * t + i % 3
                frame[20:44, left : left + 24] = square
                writer.write(frame)
            writer.release()
    return folder


@pytest.mark.slow
def test_from_a_folder_of_videos_to_new_labels(tmp_path, capsys):
    clips, out = write_clips(tmp_path / "clips", 3), tmp_path / "out"
    (clips / "moves" / "broken.avi").write_bytes(b"no video")
    options = ["--folds=2", "--repeats=1", "--classifiers=logistic", "--fps=10"]
    status, said = called(capsys, f"--videos={clips}", f"--out={out}", *options)
    assert status == 0 and "1 of 7 videos cannot be used" in said
    assert "without --cnn, only percepts that need none are tried" in said
    assert "recommended: hof, statistics over time, logistic regression: 100.0 %" in said
    assert "--predict=NEW_VIDEOS --fps=10.0" in said
    flow = records.Manifest.load(out / "percepts" / "optical_flow")
    assert flow.source["settings"]["fps"] == 10
    new = write_clips(tmp_path / "new", 1, start=4)
    with pytest.raises(ValueError, match="made with other settings"):
        called(capsys, f"--out={out}", f"--predict={new}")
    (new / "moves" / "broken.avi").write_bytes(b"no video")
    status, said = called(capsys, f"--out={out}", f"--predict={new}", "--fps=10")
    assert status == 1 and "NOT classified, 1 of 3" in said and "moves/broken.avi" in said
    with open(out / "predictions.csv") as file:
        found = list(csv.DictReader(file))
    assert [r["class"] for r in found] == [r["video"].split("/")[0] for r in found]
    assert len(found) == 2


def test_other_videos_of_the_same_names_are_refused(tmp_path):
    for name in ("x/1.avi", "y/2.avi"):
        (tmp_path / "clips" / name).parent.mkdir(parents=True)
        (tmp_path / "clips" / name).write_bytes(b"one")
    for _ in range(2):  # the second time, they are known
        videos.make(listing.folder(tmp_path / "clips"), tmp_path / "out", [], None)
    (tmp_path / "clips" / "x" / "1.avi").write_bytes(b"other")
    with pytest.raises(ValueError, match="out was made from other videos: give another --out"):
        videos.make(listing.folder(tmp_path / "clips"), tmp_path / "out", [], None)


def test_what_is_made_of_videos(tmp_path):
    (tmp_path / "a.avi").touch()
    listed = listing.folder(tmp_path)
    with pytest.raises(ValueError, match="percepts own are not made from videos here"):
        videos.make(listed, tmp_path / "out", ["hof", "own"], None)
    with pytest.raises(ValueError, match="--cnn is missing"):
        videos.make(listed, tmp_path / "out", ["hof", "flow"], None)


def test_folders_that_cannot_be_used_are_refused_before_any_work(tmp_path):
    (tmp_path / "a.avi").touch()
    with pytest.raises(ValueError, match="no video has a label. Put the videos of each class"):
        videos.check(listing.folder(tmp_path), 2)
    for name in ("x/1.avi", "x/2.avi"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(ValueError, match="all 2 videos are of one class, x"):
        videos.check(listing.folder(tmp_path), 2)
    (tmp_path / "y").mkdir()
    (tmp_path / "y" / "3.avi").touch()
    with pytest.raises(ValueError, match="2 folds need 2 groups .* there is 1 of y"):
        videos.check(listing.folder(tmp_path), 2)
