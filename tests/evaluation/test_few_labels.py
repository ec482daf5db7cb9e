"""Studies of few labels, tiny ones on percepts that tell their class."""

import copy
import csv
import dataclasses
import itertools
import json
import math
import sys

import numpy as np
import pytest
from absl import flags

import command_flags
import labelled
from unsup_video.configs import finetune_few_labels, percepts_small
from unsup_video.data import records, splits
from unsup_video.evaluation import few_labels, few_labels_fits, naming
from unsup_video.report import page, page_few_labels, report
from unsup_video.training import loop, trained

CLASSES, DIM = 3, 6


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """12 groups of 2 videos of each class, 6 to 8 frames: a pattern of the class, and noise."""
    folder = tmp_path_factory.mktemp("data") / "percepts"
    rng = np.random.default_rng(0)
    videos = []
    for label, group, part in itertools.product(range(CLASSES), range(12), range(2)):
        pattern = np.eye(CLASSES, DIM)[label] * 2
        frames = np.maximum(pattern + rng.normal(size=(6 + group % 3, DIM)), 0).astype("float16")
        videos.append(
            records.Record(frames, None, f"c{label}g{group}p{part}", label, f"c{label}g{group}")
        )
    records.write(
        folder,
        videos,
        len(videos),
        "percepts",
        {},
        dtype="float16",
        scale=1.0,
        classes=("a", "b", "c"),
    )
    return folder


def settings(data, **changes):
    config = finetune_few_labels.get_config()
    config.data.records = str(data)
    config.data.frames, config.data.stride = 2, 2  # compiled sooner than more
    config.model.init = "none"
    config.model.units, config.model.layers = 5, 1
    config.train.steps = 4
    fields = dict(
        pretrained={},
        data="x",
        per_class=(1, 0),
        subsets=3,
        epochs=1,
        search_subsets=2,
        learning_rates=(1e-3, 3e-2),
        dropouts=(0.3,),
    )
    return few_labels.Settings(config.to_dict(), **{**fields, **changes})


@pytest.fixture(scope="module")
def study(data, tmp_path_factory):
    folder = tmp_path_factory.mktemp("studies") / "study"
    return settings(data), folder, few_labels.run(settings(data), folder, log=lambda text: None)


@pytest.mark.slow
def test_a_study_writes_what_it_found(study):
    of, folder, summaries = study
    assert [(s.contender, s.per_class) for s in summaries] == [
        (name, k) for k in (1, 0) for name in ("single frame", "mean frame", "LSTM")
    ]
    for s in summaries:
        assert len(s.accuracies) == (3 if s.per_class else 2)  # seeds, where all are labelled
        factor = 1 if s.contender == "LSTM" else few_labels.LINEAR_FACTOR
        assert s.learning_rate in [factor * rate for rate in of.learning_rates]
        assert s.dropout == (0.3 if s.contender == "LSTM" else 0.0)
        assert s.mean == pytest.approx(np.mean(s.accuracies))
        assert s.std == pytest.approx(np.std(s.accuracies, ddof=1))
        assert (s.difference is None) == (s.contender == "LSTM")
    found = {(s.contender, s.per_class): s for s in summaries}
    gained = np.subtract(found["mean frame", 1].accuracies, found["LSTM", 1].accuracies)
    assert found["mean frame", 1].difference == pytest.approx(gained.mean())
    assert found["mean frame", 0].mean > 60  # of three classes: patterns like these are learned

    loaded_settings, loaded = few_labels.load(folder)
    assert loaded == summaries and loaded_settings["per_class"] == [1, 0]
    with open(folder / "results.csv", newline="", encoding="utf-8") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == 3 * (3 + 2)
    assert {line["videos_per_class"] for line in lines} == {"1", "all"}
    table = (folder / "table.md").read_text(encoding="utf-8")
    assert f"| mean frame | {found['mean frame', 1].mean:.1f} ± " in table
    assert (folder / "figure_12.png").read_bytes().startswith(b"\x89PNG")


@pytest.mark.slow
def test_the_learning_rate_is_that_of_the_best_validation(study):
    _, folder, summaries = study
    for s in summaries:
        name = f"{s.contender.replace(' ', '_')}-{s.per_class or 'all'}.jsonl"
        lines = [json.loads(line) for line in (folder / "fits" / name).read_text().splitlines()]
        means = {}
        for line in lines:
            if line["key"][0] == "search":
                means.setdefault(line["key"][1], []).append(
                    (line["accuracy"], -line["cross_entropy"])
                )
        means = {rate: tuple(np.mean(of, axis=0)) for rate, of in means.items()}
        assert len(means) == 2 and means[s.learning_rate] == max(means.values())


def test_the_search_reads_neither_test_part_nor_validation_labels(data, monkeypatch):
    fits = few_labels_fits.Fits(settings(data), "mean frame", 0)
    seen = []
    monkeypatch.setattr(
        fits, "_fit", lambda rate, dropout, subset, pool, judge: seen.append((pool, judge))
    )
    fits.search(1e-3, 0.0, 0)
    fits.test(1e-3, 0.0, 0)
    (searched, validation), (labelled, test) = [[set(v.names) for v in pair] for pair in seen]
    entries = records.load_index(data)
    parts = {
        part: {e.name for e, c in zip(entries, splits.choose(entries, part), strict=True) if c}
        for part in splits.SPLITS
    }
    assert (searched, validation) == (parts["train"], parts["validation"])
    assert labelled == parts["train"] | parts["validation"] and test == parts["test"]


@pytest.mark.parametrize(
    "changes, text",
    [
        ({"per_class": (1, 1)}, "given twice"),
        ({"per_class": ()}, "at least 1, or 0 for all"),
        ({"subsets": 0}, "subsets must be at least 1"),
        ({"learning_rates": (0.0,)}, "above 0"),
        ({"dropouts": ()}, r"in \[0, 1\)"),
        ({"pretrained": {"mean_frame": {"path": "x", "sha256": "0"}}}, "are called mean_frame"),
    ],
)
def test_settings_that_cannot_be(data, tmp_path, changes, text):
    with pytest.raises(ValueError, match=text):
        few_labels.run(settings(data, **changes), tmp_path)


@pytest.mark.slow
def test_contenders_get_the_same_subsets_and_the_same_softmax(data):
    fits = {name: few_labels_fits.Fits(settings(data), name, 1) for name in ("LSTM", "mean frame")}
    seen = {}
    for name, fit in fits.items():
        original = fit.train.subset
        fit.train.subset = lambda which, name=name, original=original: (
            seen.setdefault(name, []).append(tuple(np.flatnonzero(which))),
            original(which),
        )[1]
        for subset in range(3):
            fit.search(1e-3, 0.0, subset)
    assert seen["LSTM"] == seen["mean frame"] and len(set(seen["LSTM"])) == 3


@pytest.mark.slow
def test_a_fit_depends_on_its_key_alone(data):
    fits = few_labels_fits.Fits(settings(data), "LSTM", 1)
    first = fits.test(3e-2, 0.0, 0)
    fits.test(1e-3, 0.0, 1)
    again = fits.test(3e-2, 0.0, 0)  # by a trainer that was used before
    other = few_labels_fits.Fits(settings(data), "LSTM", 1).test(3e-2, 0.0, 0)
    for figures in (first, again, other):
        del figures["seconds"]
    assert first == again == other


@pytest.fixture(scope="module")
def pretrained(data, tmp_path_factory):
    """A composite on the percepts, as it is after two steps."""
    config = percepts_small.get_config()
    config.model.units, config.model.layers = 5, 1
    config.data.records, config.data.frames_in, config.data.frames_out = str(data), 3, 2
    config.train.steps, config.recipe.batch_size = 2, 4
    return trained.load(labelled.pretrained(config, tmp_path_factory.mktemp("runs") / "composite"))


@pytest.mark.slow
def test_contenders_start_from_the_same_softmax(data, pretrained, monkeypatch):
    of = settings(
        data, pretrained={"composite": {"path": str(pretrained.path), "sha256": pretrained.sha256}}
    )
    started = {}
    rewind = loop.Trainer.rewind
    monkeypatch.setattr(
        loop.Trainer,
        "rewind",
        lambda self, config, arrays: (
            started.setdefault(name, arrays),
            rewind(self, config, arrays),
        ),
    )
    for name in ("LSTM", "composite"):
        few_labels_fits.Fits(of, name, 1).search(1e-3, 0.3, 0)
    softmax = "model/softmax/kernel"
    np.testing.assert_array_equal(started["LSTM"][softmax], started["composite"][softmax])
    kernel = "model/encoder_lstm_1/kernel"
    expected = pretrained.model.cells[0].kernel.numpy()
    np.testing.assert_array_equal(started["composite"][kernel], expected)
    assert not np.array_equal(started["LSTM"][kernel], expected)


def test_a_state_is_that_of_the_pretrained_encoder(data, pretrained):
    """Which is not trained; its rates are those of regression."""
    of = settings(
        data, pretrained={"composite": {"path": str(pretrained.path), "sha256": pretrained.sha256}}
    )
    assert of.contenders()[3:] == ["composite", "state of composite"]
    assert of.classifier("state of composite") == ("state", "composite")
    fits = few_labels_fits.Fits(of, "state of composite", 1)
    (_, rate, dropout, _), *_ = few_labels._searched(of, "state of composite", 1)
    assert (rate, dropout) == (1e-3 * few_labels.LINEAR_FACTOR, 0.0)
    assert 0 <= fits.search(rate, dropout, 0)["accuracy"] <= 100
    ((trainer, _),) = fits.trainings.trainers.values()
    classifier = trainer.task.classifier
    assert classifier.kind == "state"
    for mine, theirs in zip(classifier.cells, pretrained.model.cells, strict=True):
        for a, b in zip(mine.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


def test_parts_may_be_data_sets_of_their_own(data, tmp_path):
    """Then the labelled videos are those of `train` alone."""
    for part, groups in (("train", range(6)), ("validation", (6, 7)), ("test", (8, 9, 10))):
        chosen = [
            i
            for i, entry in enumerate(records.load_index(data))
            if int(entry.group.partition("g")[2]) in groups
        ]
        records.write(
            tmp_path / part,
            records.pick(data, chosen),
            len(chosen),
            "percepts",
            {},
            dtype="float16",
            scale=1.0,
            classes=("a", "b", "c"),
        )
    fits = few_labels_fits.Fits(settings(tmp_path), "mean frame", 1)
    assert fits.labelled is fits.train and len(fits.train) == 36
    assert (len(fits.validation), len(fits.test_part)) == (12, 18)
    assert fits.test(1e-3, 0.0, 0)["videos"] == 3


def test_a_model_that_was_trained_further_is_refused(data, pretrained):
    of = settings(data, pretrained={"x": {"path": str(pretrained.path), "sha256": "0"}})
    with pytest.raises(ValueError, match="was trained further since"):
        few_labels_fits.Fits(of, "x", 1)


def test_more_labels_than_there_are(data):
    with pytest.raises(ValueError, match="100 labelled videos of each class are needed, .* of a"):
        few_labels_fits.Fits(settings(data), "LSTM", 100)


def test_a_rate_that_diverges_is_not_chosen(data):
    fits = few_labels_fits.Fits(settings(data), "LSTM", 1)
    found = fits.search(1e38, 0.0, 0)
    assert found["diverged"] and "step" in found["why"] and "accuracy" not in found
    assert fits.test(1e38, 0.0, 0)["diverged"]


def diverging(monkeypatch, diverges):
    """Fits that are not trained: the higher the rate the better, or it `diverges(name, ..)`."""

    class Fits(few_labels_fits.Fits):
        def __init__(self, of, contender, per_class):
            self.contender, self.train, self.validation = contender, "train", "validation"
            self.labelled, self.test_part = "labelled", "test"

        def _trained(self, rate, dropout, subset, pool, judge):
            if diverges(self.contender, judge, rate, subset, dropout):
                raise loop.NonFiniteLoss("step 3: the loss is nan")
            return {"accuracy": 50 + rate + subset, "cross_entropy": 1.0}

    monkeypatch.setattr(few_labels_fits, "Fits", Fits)


def test_an_interrupted_study_goes_on(data, tmp_path, monkeypatch):
    of = settings(data, per_class=(1,))
    diverging(monkeypatch, lambda *_: False)
    whole = few_labels.run(of, tmp_path / "whole", log=lambda text: None)
    fit, count = few_labels_fits.Fits._fit, itertools.count(1)

    def stopped(*arguments):
        if next(count) == 6:
            raise KeyboardInterrupt
        return fit(*arguments)

    monkeypatch.setattr(few_labels_fits.Fits, "_fit", stopped)
    with pytest.raises(KeyboardInterrupt):
        few_labels.run(of, tmp_path / "again", log=lambda text: None)
    first = tmp_path / "again" / "fits" / "single_frame-1.jsonl"
    lines = first.read_text().splitlines()
    assert len(lines) == 5
    first.write_text("\n".join(lines) + '\n{"key": ["te')  # a crash while writing
    assert few_labels.run(of, tmp_path / "again", log=lambda text: None) == whole
    assert first.read_text().splitlines()[:5] == lines  # not trained again
    with pytest.raises(ValueError, match=r"other settings:\n  subsets: 3 there, 4 here"):
        few_labels.run(settings(data, per_class=(1,), subsets=4), tmp_path / "again")


def test_a_study_goes_on_after_a_fit_that_diverges(data, tmp_path, monkeypatch):
    of = settings(data, per_class=(1,), learning_rates=(1.0, 2.0, 4.0))
    diverging(
        monkeypatch,
        lambda name, judge, rate, subset, _: (
            name == "LSTM" and ((judge, rate, subset) in {("validation", 4.0, 1), ("test", 2.0, 2)})
        ),
    )
    single, mean, lstm = few_labels.run(of, tmp_path / "study", log=lambda line: None, classes=3)
    # 4 diverged once in the search, 2 in the last fit that counts: all of those are of 1.
    assert (lstm.learning_rate, lstm.diverged) == (1.0, ((2.0, 0.3), (4.0, 0.3)))
    assert lstm.accuracies == (51.0, 52.0, 53.0)
    assert single.learning_rate == 40.0 and single.diverged == ()
    text = (tmp_path / "study" / "table.md").read_text(encoding="utf-8")
    assert (
        "LSTM, 1 per class: training diverged with learning rate 2 (dropout 0.3) and learning rate "
        "4 (dropout 0.3), which is excluded."
    ) in text
    lines = (tmp_path / "study" / "fits" / "LSTM-1.jsonl").read_text().splitlines()
    assert sum("the loss is nan" in line for line in lines) == 2
    stored, summaries = few_labels.load(tmp_path / "study")
    assert summaries == [single, mean, lstm] and stored["classes"] == 3
    again = few_labels.run(of, tmp_path / "study", log=lambda line: None)
    assert again[2] == lstm
    assert (tmp_path / "study" / "fits" / "LSTM-1.jsonl").read_text().splitlines() == lines


def test_one_dropout_may_diverge_and_another_be_chosen(data, tmp_path, monkeypatch):
    """What is excluded is the pair: the rate that is chosen is not said to be."""
    of = settings(data, per_class=(1,), learning_rates=(1.0,), dropouts=(0.1, 0.3))
    diverging(monkeypatch, lambda name, judge, rate, subset, dropout: dropout == 0.3)
    *_, lstm = few_labels.run(of, tmp_path / "study", log=lambda line: None)
    assert (lstm.learning_rate, lstm.dropout, lstm.diverged) == (1.0, 0.1, ((1.0, 0.3),))
    assert few_labels.excluded(lstm) == "learning rate 1 (dropout 0.3), which is excluded"
    (study,) = report.studies([tmp_path / "study"])
    assert few_labels.excluded(lstm) in page.render([], "", "", [study])
    file = tmp_path / "study" / "results.json"
    fields = json.loads(file.read_text())
    fields["summaries"][-1]["diverged"] = [1.0]  # an earlier version kept the rates alone
    file.write_text(json.dumps(fields))
    assert few_labels.excluded(few_labels.load(tmp_path / "study")[1][-1]) == (
        "learning rate 1, which is excluded"
    )


@pytest.mark.parametrize("name", ["mean frame", few_labels.BASELINE])
def test_a_contender_that_always_diverges_has_no_accuracy(data, tmp_path, monkeypatch, name):
    diverging(monkeypatch, lambda contender, *_: contender == name)
    few_labels.run(settings(data, per_class=(1,)), tmp_path / "study", log=lambda line: None)
    _, summaries = few_labels.load(tmp_path / "study")
    found = {s.contender: s for s in summaries}
    assert found[name].accuracies == () and math.isnan(found[name].mean)
    assert found[name].learning_rate is None and len(found[name].diverged) == 2
    gained = [s.contender for s in summaries if s.difference is not None]
    assert gained == ([] if name == few_labels.BASELINE else ["single frame"])
    text = (tmp_path / "study" / "table.md").read_text(encoding="utf-8")
    assert f"| {name} | diverged |" in text and "| 0.0" not in text
    (study,) = report.studies([tmp_path / "study"])
    shown = page.render([], "", "", [study])
    assert "diverged</td>" in shown and "training diverged with learning rate" in shown
    rows = [row["subject"] for row in report.rows([], [study]) if row["metric"] == "accuracy"]
    assert sorted({*rows, name}) == sorted(found) and name not in rows


def test_models_of_one_last_name_are_two_contenders(data, tmp_path, monkeypatch):
    paths = [tmp_path / "a" / "pre", tmp_path / "b" / "pre"]
    names = naming.names(paths)
    assert len(set(names)) == 2
    of = settings(
        data,
        per_class=(1,),
        pretrained={
            name: {
                "path": str(path),
                "sha256": "x",
                "kind": "composite",
                "conditional_reconstruction": False,
                "conditional_future": False,
            }
            for name, path in zip(names, paths, strict=True)
        },
    )
    diverging(monkeypatch, lambda contender, *_: contender == names[1])
    summaries = few_labels.run(of, tmp_path / "study", log=lambda line: None)
    states = [f"state of {name}" for name in names]
    assert [s.contender for s in summaries] == [
        "single frame",
        "mean frame",
        "LSTM",
        *names,
        *states,
    ]
    assert summaries[3].accuracies and not summaries[4].accuracies


def of_an_earlier_version(folder):
    """A study as a version left it that knew fewer fields and had another training stream."""
    path = folder / "settings.json"
    stored = json.loads(path.read_text())
    del stored["training_stream"], stored["config"]["recipe"]["conditional_input"]
    del stored["config"]["recipe"]["pixel_blur"]
    path.write_text(json.dumps(stored))


def test_a_finished_study_of_an_earlier_version_is_shown_again(data, tmp_path, monkeypatch):
    of = settings(data, per_class=(1,), learning_rates=(1.0, 2.0))
    diverging(monkeypatch, lambda *_: False)
    few_labels.run(of, tmp_path, log=lambda line: None)
    of_an_earlier_version(tmp_path)
    # It wrote a search that diverged as the worst there is, and chose among all of them.
    fits = tmp_path / "fits" / "LSTM-1.jsonl"
    lines = [json.loads(line) for line in fits.read_text().splitlines()]
    for line in lines:
        if line["key"] == ["search", 2.0, 0.3, 0]:
            line.update(accuracy=0.0, cross_entropy=1e9)
        elif line["key"][:2] == ["search", 1.0]:
            line.update(accuracy=1.0)
    fits.write_text("".join(json.dumps(line) + "\n" for line in lines))
    diverging(monkeypatch, lambda *_: pytest.fail("nothing is trained anew"))
    *_, lstm = few_labels.run(of, tmp_path, log=lambda line: None)
    assert (lstm.learning_rate, lstm.accuracies) == (2.0, (52.0, 53.0, 54.0))
    with pytest.raises(ValueError, match=r"other settings:\n  config.train.steps: 4 there, 5 here"):
        other = copy.deepcopy(of.config)
        other["train"]["steps"] = 5
        few_labels.run(dataclasses.replace(of, config=other), tmp_path)


def test_a_finished_study_keeps_its_contenders(data, pretrained, tmp_path, monkeypatch):
    """Those that an earlier version did not have are not added to it."""
    of = settings(
        data,
        per_class=(1,),
        pretrained={"x": {"path": str(pretrained.path), "sha256": pretrained.sha256}},
    )
    diverging(monkeypatch, lambda *_: False)
    assert len(few_labels.run(of, tmp_path, log=lambda line: None)) == 5
    (tmp_path / "fits" / "state_of_x-1.jsonl").unlink()
    stored = json.loads((tmp_path / "results.json").read_text())
    del stored["summaries"][-1]
    (tmp_path / "results.json").write_text(json.dumps(stored))
    diverging(monkeypatch, lambda *_: pytest.fail("nothing is trained anew"))
    shown = few_labels.run(of, tmp_path, log=lambda line: None)
    assert [s.contender for s in shown] == ["single frame", "mean frame", "LSTM", "x"]
    (study,) = report.studies([tmp_path])
    (line,) = page_few_labels.Figure12().summary([], [study]).lines
    assert "1 pretrained, 3 baselines" in line


def test_an_unfinished_study_of_an_earlier_version_is_refused(data, tmp_path, monkeypatch):
    of = settings(data, per_class=(1,))
    diverging(monkeypatch, lambda *_: False)
    few_labels.run(of, tmp_path, log=lambda line: None)
    of_an_earlier_version(tmp_path)
    (tmp_path / "results.json").unlink()
    with pytest.raises(ValueError, match="study in .* is not finished.* start anew: in another"):
        few_labels.run(of, tmp_path, log=lambda line: None)


@pytest.mark.slow
def test_the_command(data, pretrained, tmp_path, capsys, monkeypatch):
    """Two processes train; what the study sets itself is refused."""
    own = tmp_path / "own.py"  # a user's config, from before there were few labels
    own.write_text(
        "from unsup_video.configs import finetune_few_labels\n"
        "def get_config():\n"
        "    config = finetune_few_labels.get_config()\n"
        "    with config.unlocked():\n"
        "        del config.data['videos_per_class']\n"
        "    return config\n"
    )
    given = [
        f"--config={own}",
        f"--workdir={pretrained.path}",
        f"--records={data}",
        "--per_class=1",
        "--subsets=2",
        "--search_subsets=1",
        "--learning_rates=1e-3",
        "--config.train.steps=2",
        "--config.data.frames=2",
        f"--out={tmp_path / 'study'}",
        "--processes=2",
    ]

    def study(*more):
        argv = ["few_labels", *given, *more]
        monkeypatch.setattr(sys, "argv", argv)  # where ml_collections finds the config's fields
        with command_flags.command("eval.few_labels") as command:
            return command.main(flags.FLAGS(argv))

    assert study() == 0
    name = pretrained.path.name
    assert f"| {name} |" in capsys.readouterr().out
    stored, summaries = few_labels.load(tmp_path / "study")
    names = ["single frame", "mean frame", "LSTM", name, f"state of {name}"]
    assert [s.contender for s in summaries] == names
    none = {"train": 0, "validation": 0}
    assert stored["seen"] == {"": none, name: none} and stored["classes"] == CLASSES
    for field, reason in {
        "recipe.learning_rate=1": "use --learning_rates",
        "model.units=64": "the encoders of",
        "model.cell=gru": "the encoders of",
        "train.eval_every=7": "the last weights count",
    }.items():
        with pytest.raises(ValueError, match=f"config.{field}.* would be ignored.*{reason}"):
            study(f"--config.{field}")


def test_a_folder_without_a_study(tmp_path):
    with pytest.raises(ValueError, match="holds no finished study of eval.few_labels"):
        few_labels.load(tmp_path)
