"""The page about classifiers and studies with few labels: tables 1, 3 and 4, figure 12."""

import csv
import dataclasses
import json
import math
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from markupsafe import escape
from ml_collections import ConfigDict
from test_report import TIME, Page, make, section

import commands
from unsup_video.evaluation import action_recognition, few_labels, intervals, paper, testvideos
from unsup_video.models.classification import Predictions
from unsup_video.models.classifiers import Classifier
from unsup_video.pictures import charts
from unsup_video.report import page, report
from unsup_video.report.section import Options
from unsup_video.training.trained import TrainedModel

CLASSES = ("Dive", "Run & jump", "<b>Swim")
LABELS = np.array([0, 0, 1, 1])
GUESSES = np.array([0, 0, 1, 2])  # 3 of 4 videos are right


@pytest.fixture(autouse=True)
def drawn(monkeypatch):
    """{name of a chart: its lines}; drawing takes most of the time."""
    found = {}
    monkeypatch.setattr(
        charts,
        "svg",
        lambda lines, name, *arguments, **options: (
            found.update({name: lines}) or f'<svg data-name="{name}"></svg>'
        ),
    )
    monkeypatch.setattr(
        action_recognition.action_pictures,
        "over_steps",
        lambda rows, title, path: path.write_bytes(b""),
    )
    return found


def classifier(folder, name="ft", kind="lstm", init="runs/pre", data="feed", seen=None):
    """A run of which two steps of a window each were evaluated; every video is one window."""
    model = {"kind": kind, "init": init, "layers": 2, "units": 8, "freeze": False}
    config = {
        "name": "finetune",
        "seed": 7,
        "model": model,
        "data": {},
        "recipe": {"name": "modern"},
    }
    path = folder / name
    path.mkdir()
    trained = TrainedModel(
        path,
        ConfigDict(config),
        Classifier(kind, CLASSES, None, [], None, None),
        40,
        "c0ffee",
        (8,),
        None,
    )
    sure = 0.8 * np.eye(3)[GUESSES] + 0.2 / 3
    found = Predictions(sure, sure, np.arange(4), np.zeros(4, int), np.stack([sure, sure], 1))
    seen = {"train": 0, "validation": 0} if seen is None else seen
    test = SimpleNamespace(
        trained=trained,
        classified=found,
        videos=SimpleNamespace(labels=LABELS, groups=np.arange(4)),
        label="test",
        settings={"data": data, "split": 1, "part": "test", "videos": 4, "seen": seen or None},
    )
    evaluation = action_recognition.evaluate(test, f"the command of {name}", log=lambda line: None)
    info = {
        "time": TIME,
        "git": None,
        "versions": {},
        "machine": {"cpu": "a processor"},
        "command": ["/x/train/finetune.py", "--config=/x/unsup_video/configs/finetune.py:github"],
        "data": {"kind": "records", "sha256": {"train": "beef"}},
        "parameters": 12345,
    }
    metrics = [
        {"step": step, "split": split, "elapsed_s": 1.0 * step, **figures}
        for step in (20, 40)
        for split, figures in (
            ("train", {"cross_entropy": 1.0, "step_accuracy": 90.0}),
            ("validation", {"video_cross_entropy": 2.0, "video_accuracy": 70.0}),
        )
    ]
    return report.Run(
        name,
        path,
        config,
        info,
        metrics,
        trained.describe(),
        {action_recognition.KIND: evaluation},
        CLASSES,
    )


def summary(contender, per_class, accuracies, baseline=None):
    values = np.array(accuracies)
    gained = (None,) * 3 if baseline is None else intervals.interval(values - np.array(baseline))
    std = float(values.std(ddof=1)) if len(values) > 1 else None
    gained = [None if x is None or math.isnan(x) else x for x in gained]
    return few_labels.Summary(
        contender, per_class, 1e-3, 0.5, accuracies, float(values.mean()), std, *gained
    )


PRETRAINED = ("composite here", "exported", "table3_future_predictor", "mystery")


def study_folder(folder, name="few", units=2048, classes=101):
    """A study of four pretrained models, of two of which it says what they are."""
    path = folder / name
    kinds = {"composite here": ("composite", False), "exported": ("autoencoder", True)}
    summaries = []
    for k, lstm in ((10, (50.0, 52.0)), (0, (60.0,))):
        summaries.append(summary("single frame", k, tuple(x - 1 for x in lstm), lstm))
        summaries.append(summary("mean frame", k, lstm, lstm))
        summaries.append(summary("LSTM", k, lstm))
        gains = dict(zip(PRETRAINED, (4.0, 3.0, 2.0, 1.0), strict=True))
        summaries += [
            summary(contender, k, tuple(x + gain + n for n, x in enumerate(lstm)), lstm)
            for contender, gain in gains.items()
        ]
    settings = {
        "pretrained": {
            name: {"path": name, "sha256": "c0de"}
            | (
                {
                    "kind": kinds[name][0],
                    "conditional_reconstruction": kinds[name][1],
                    "conditional_future": False,
                }
                if name in kinds
                else {}
            )
            for name in PRETRAINED
        },
        "subsets": 2,
        "config": {
            "model": {"kind": "lstm", "units": units, "layers": 2, "use_peepholes": True},
            "data": {"frames": 16, "stride": 8, "split": 1},
        },
    }
    path.mkdir()
    content = {
        "settings": settings,
        "classes": classes,
        "summaries": list(map(dataclasses.asdict, summaries)),
    }
    (path / "results.json").write_text(json.dumps(content, allow_nan=False))
    return path


def lines_of(table):
    """The cells of each line of an HTML table, as text."""
    return [
        [Page(cell).text for cell in re.findall(r"<t[dh].*?</t[dh]>", line)]
        for line in re.findall(r"<tr>(.*?)</tr>", table, re.DOTALL)
    ]


def anchors(text):
    return [a["id"] for a in Page(text).all("section")]


def test_table_1_sets_classifiers_beside_the_papers(tmp_path, drawn):
    runs = [
        classifier(tmp_path, "a"),
        classifier(tmp_path, "b", init="none"),
        classifier(tmp_path, "mean", kind="mean_frame", init="none"),
    ]
    text = page.render(runs, "", TIME)
    assert anchors(text) == ["runs", "table-1", "classes", "table-4"]
    part = section(text, "table-1")
    head, *lines = lines_of(part)
    # One of four wrong, Wilson: (.75 + 1.96^2 / 8 +- 1.96 sqrt(.1875 / 4 + 1.96^2 / 64)) / 1.96.
    own = ["test of split 1, 4 videos", "3", *["75.0 (30.1 to 95.4)"] * 2]
    nothing = ["–"] * 5
    assert head[:3] == ["classifier", "run", "tested on"] and len(head) == 9
    assert lines == [
        ["single frame", *nothing, "72.2", "72.2", "40.1"],
        ["LSTM", "b", *own, "–", "–", "–"],  # of 3 classes
        ["LSTM", *nothing, "74.5", "74.3", "42.8"],
        ["LSTM, pretrained", "a", *own, "–", "–", "–"],
        ["LSTM, pretrained", *nothing, "75.8", "74.9", "44.1"],
        ["mean frame", "mean", *own, "–", "–", "–"],
    ]
    assert "all 101 classes of UCF-101 and all 51 of HMDB-51" in part
    assert all(f"the command of {run.name}" in Page(part).text for run in runs)
    assert "different videos" not in part and "no test" not in part
    assert [(line.label, line.x, line.y) for line in drawn["steps-1"]] == [
        (run.name, [1, 2], [75.0, 75.0])
        for run in runs
        if run.name != "mean"  # which sees all frames at once
    ]
    assert len(drawn["steps-1"][0].low) == 2


def test_classifiers_are_described_among_the_runs(tmp_path, drawn):
    runs = [classifier(tmp_path, "a"), classifier(tmp_path, "b", init="none")]
    text = page.render(runs, "", TIME)
    shown = Page(section(text, "runs")).text
    for fact in (
        "LSTM classifier, 2 × 8 units, 3 classes, starts from the encoder of runs/pre",
        "starts from random weights",
        "the best on validation videos",
        "12,345",
        "python -m train.finetune --config=finetune:github",
    ):
        assert fact in shown, fact
    entropy, accuracy = drawn["run-1-0"], drawn["run-1-1"]
    assert [(line.y, line.label) for line in (*entropy, *accuracy)] == [
        ([1.0, 1.0], "train, single steps"),
        ([2.0, 2.0], "validation, whole videos"),
        ([90.0, 90.0], "train, single steps"),
        ([70.0, 70.0], "validation, whole videos"),
    ]
    assert [
        "b",
        "LSTM classifier, 2 × 8 units",
        "modern",
        "40",
        "12,345",
        "40 s",
        "3",
        "75.0 (30.1 to 95.4)",
    ] in lines_of(text.split("<nav")[0])


def test_classes_are_shown_with_what_they_were_taken_for(tmp_path):
    text = page.render([classifier(tmp_path)], "", TIME)
    part = section(text, "classes")
    (image,) = Page(part).all("img")
    assert image["alt"] == "What the videos of each class were taken for"
    # Two videos each; the third class has none, so nothing was measured.
    assert lines_of(part)[1:] == [
        ["Run & jump", "<b>Swim (1)", "2", "50.0 (9.5 to 90.5)"],
        ["Dive", "–", "2", "100.0 (34.2 to 100.0)"],
    ]


@pytest.mark.parametrize(
    "seen, caution",
    [
        ({}, "is not known"),
        ({"train": 3, "validation": "unknown"}, "3 of the 4 videos are of the run's train split"),
        ({"train": 3, "validation": "unknown"}, "validation split had these videos is not known"),
    ],
)
def test_a_doubtful_test_says_so(tmp_path, seen, caution):
    text = page.render([classifier(tmp_path, seen=seen)], "", TIME)
    assert caution in Page(section(text, "table-1")).text


def test_classifiers_tested_on_other_videos_are_not_drawn_together(tmp_path, drawn):
    runs = [classifier(tmp_path, "a"), classifier(tmp_path, "b", data="other")]
    text = page.render(runs, "", TIME)
    assert "tested on different videos" in section(text, "table-1")
    assert [[line.label for line in drawn[f"steps-{n}"]] for n in (1, 2)] == [["a"], ["b"]]


def test_a_study_is_read_with_the_variants_of_its_models(tmp_path):
    (study,) = report.studies([study_folder(tmp_path)])
    assert (study.name, study.numbers) == ("few", [10, 0])
    assert study.contenders == ["single frame", "mean frame", "LSTM", *PRETRAINED]
    assert study.variants == {
        "LSTM": "none",
        "composite here": "composite",
        "exported": "conditional_autoencoder",
        "table3_future_predictor": "future_predictor",
    }
    with pytest.raises(ValueError, match="few is given twice"):
        report.studies([study.path, study.path])
    with pytest.raises(ValueError, match="holds no finished study"):
        report.studies([tmp_path])


def test_figure_12_sets_curves_beside_the_papers(tmp_path, drawn):
    studies = report.studies([study_folder(tmp_path)])
    text = page.render([], "", TIME, studies)
    assert anchors(text) == ["figure-12", "table-3", "table-4"]
    assert "Report on 1 study" in Page(text).text and 'href="#study-1"' in text
    assert ["few", "4 pretrained, 3 baselines", "10, all", "2"] in lines_of(text.split("<nav")[0])
    own = {line.label: line for line in drawn["study-1-own"]}
    lstm = own["LSTM"]
    assert list(own) == studies[0].contenders and lstm.bars
    assert [round(x) for x in lstm.x] == [0, 1] and lstm.y == [51.0, 60.0]
    std = math.sqrt(2)  # of 50 and 52; of one classifier there is none
    assert list(lstm.low) == [51 - std, 60] and list(lstm.high) == [51 + std, 60]
    for data in ("UCF-101", "HMDB-51"):
        found = {line.label.removeprefix("paper: "): line.y for line in drawn[f"study-1-{data}"]}
        assert {"videos": paper.FIGURE_12[data]["videos"], **found} == paper.FIGURE_12[data]
    # 4 and 5 over the LSTM: 4.5 +- 12.706 * 0.707 / 1.414; with all videos a single one.
    (table,) = [
        t
        for t in re.findall("<table>.*?</table>", section(text, "figure-12"), re.DOTALL)
        if "gain over" in t
    ]
    assert lines_of(table)[0] == ["gain over the LSTM (%)", "10 per class", "all per class"]
    assert ["composite here", "+4.5 (-1.9 to +10.9)", "+4.0"] in lines_of(table)
    assert not any(line[0] == "LSTM" for line in lines_of(table))


def test_table_3_sets_variants_beside_the_papers(tmp_path):
    text = page.render([], "", TIME, report.studies([study_folder(tmp_path)]))
    _, *lines = lines_of(section(text, "table-3"))
    nothing, no_figure = ["–"] * 3, ["–"] * 4
    assert lines == [
        ["none", "LSTM", "51.0 ± 1.4", "60.0", "63.7", "74.5", "–", "–"],
        ["none", *nothing, "63.7", "74.5", "25.3", "42.8"],
        ["autoencoder", *nothing, "66.2", "75.1", "28.6", "44.0"],
        [
            "future predictor",
            "table3_future_predictor",
            "53.5 ± 2.1",
            "62.0",
            "64.9",
            "74.9",
            "–",
            "–",
        ],
        ["future predictor", *nothing, "64.9", "74.9", "27.3", "43.1"],
        ["conditional autoencoder", "exported", "54.5 ± 2.1", "63.0", "65.8", "74.8", "–", "–"],
        ["conditional autoencoder", *nothing, "65.8", "74.8", "27.9", "43.1"],
        ["conditional future predictor", *nothing, "65.1", "74.9", "27.4", "43.4"],
        ["composite", "composite here", "55.5 ± 2.1", "64.0", "67.0", "75.8", "–", "–"],
        ["composite", *nothing, "67.0", "75.8", "29.1", "44.1"],
        ["composite, conditional future predictor", *nothing, "67.1", "75.8", "29.2", "44.0"],
        ["–", "single frame", "50.0 ± 1.4", "59.0", *no_figure],
        ["–", "mean frame", "51.0 ± 1.4", "60.0", *no_figure],
        ["–", "mystery", "52.5 ± 2.1", "61.0", *no_figure],
    ]


@pytest.mark.parametrize("changes", [{"units": 256}, {"classes": 8}, {"classes": None}])
def test_the_papers_figures_stand_apart_from_a_study_of_other_sizes_or_data(tmp_path, changes):
    (study,) = report.studies([study_folder(tmp_path, **changes)])
    lines = lines_of(section(page.render([], "", TIME, [study]), "table-3"))
    assert ["composite", "composite here", "55.5 ± 2.1", "64.0", *["–"] * 4] in lines
    assert ["composite", *["–"] * 3, "67.0", "75.8", "29.1", "44.1"] in lines
    report.write([], tmp_path / "out", "", TIME, studies=[study])
    stored = json.loads((tmp_path / "out" / "results.json").read_text())
    assert stored["studies"][0]["paper"] == {}


def test_table_4_has_other_systems_and_ones_own(tmp_path):
    runs = [classifier(tmp_path)]
    text = page.render(runs, "", TIME, report.studies([study_folder(tmp_path)]))
    part = section(text, "table-4")
    _, *lines = lines_of(part)
    assert lines[0] == [
        "here",
        "ft: LSTM, pretrained",
        "3 classes, test of split 1, 4 videos",
        "–",
        "–",
        "75.0 (30.1 to 95.4)",
    ]
    assert ["here", "few: LSTM", "all labelled videos", "–", "–", "60.0"] in lines
    assert sum(line[0] == "here" for line in lines) == 1 + 7
    assert [
        "RGB + flow",
        "multi-skip feature stacking",
        "Lan et al. 2014",
        "89.1",
        "65.1",
        "–",
    ] in lines
    assert ["RGB", "C3D", "Tran et al. 2014", "72.3", "–", "–"] in lines
    assert len(lines) == 8 + 12
    assert "https://arxiv.org/abs/1411.6660" in {a["href"] for a in Page(part).all("a")}
    assert "arXiv 1502.04681v3, table 4" in Page(part).text and "do not compare" in part


def test_every_mixture_is_a_page(tmp_path):
    video, study = make(tmp_path, "video"), report.studies([study_folder(tmp_path)])
    runs = [video, classifier(tmp_path)]
    shown = Page(page.render(runs, "", TIME, study))
    assert "Report on 2 runs and 1 study" in shown.text
    targets = {a["href"][1:] for a in shown.all("a") if a["href"].startswith("#")}
    names = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(names) == len(set(names)) and targets == set(names)
    assert len(shown.all("section")) == 12
    assert not {"table-1", "classes", "figure-12", "table-3", "table-4"} & set(
        anchors(page.render([video], "", TIME))
    )


def test_names_of_classes_and_studies_are_escaped(tmp_path):
    evil = '<script>alert(1)</script> & "so"'
    found = report.studies([study_folder(tmp_path)])[0]
    summaries = [
        dataclasses.replace(s, contender=evil) if s.contender == "mystery" else s
        for s in found.summaries
    ]
    study = dataclasses.replace(found, name=evil, path=evil, summaries=summaries)
    run = dataclasses.replace(classifier(tmp_path), name=evil)
    run.model["init"] = evil
    text = page.render([run], "", TIME, [study])
    shown = Page(text)
    assert not shown.all("script") and not shown.all("b")
    assert evil in shown.text and escape(evil) in section(text, "table-3")
    assert "<b>Swim" in shown.text


def test_the_new_figures_are_stored(tmp_path):
    runs, studies = [classifier(tmp_path)], report.studies([study_folder(tmp_path)])
    report.write(runs, tmp_path / "out", "", TIME, studies=studies)
    stored = json.loads((tmp_path / "out" / "results.json").read_text(), parse_constant=pytest.fail)
    assert stored["runs"][0]["paper"] is None  # it names three classes
    (study,) = stored["studies"]
    assert study["settings"]["subsets"] == 2
    assert study["paper"]["composite here"] == {"UCF-101 small": 67.0, "UCF-101": 75.8}
    with open(tmp_path / "out" / "results.csv", newline="") as file:
        table = list(csv.DictReader(file))
    assert len(table) == len(stored["rows"])

    def value(**fields):
        (found,) = [row for row in table if fields.items() <= row.items()]
        return tuple(float(found[x]) if found[x] else None for x in ("value", "low", "high"))

    assert value(run="ft", part="video", metric="accuracy")[0] == 75
    of = {"run": "few", "kind": "few_labels", "subject": "composite here"}
    some, everything = "videos_per_class/10", "videos_per_class/all"
    # 54 and 57: 55.5 +- 12.706 * 2.1213 / 1.4142
    assert value(**of, part=some, metric="accuracy") == pytest.approx(
        (55.5, 36.441, 74.559), abs=1e-3
    )
    assert value(**of, part=some, metric="accuracy_std")[0] == pytest.approx(math.sqrt(4.5))
    assert value(**of, part=some, metric="gain") == pytest.approx((4.5, -1.853, 10.853), abs=1e-3)
    assert value(**of, part=everything, metric="gain") == (4.0, None, None)


def test_a_classifier_is_tested_on_its_videos(monkeypatch):
    trained = TrainedModel(
        Path("x"),
        ConfigDict(),
        Classifier("lstm", CLASSES, None, [], None, None),
        1,
        "",
        (8,),
        None,
    )
    monkeypatch.setattr(testvideos, "select", lambda trained, records, log: (records, log))
    monkeypatch.setattr(
        action_recognition, "evaluate", lambda test, command, **options: (test, command, options)
    )
    found = report.evaluate(trained, Options(50, "set", "openstl", recompute=True), log=print)
    command = "python -m eval.action_recognition --workdir=x --records=set"
    options = {"recompute": True, "log": print}
    assert found == {"action_recognition": (("set", print), command, options)}


@pytest.mark.parametrize(
    "argument, shown",
    [
        ("--config=/a b/unsup_video/configs/quickstart.py", "--config=quickstart"),
        ("-config=/x/unsup_video/configs/quickstart.py:toronto", "-config=quickstart:toronto"),
        ("/x/unsup_video/configs/quickstart.py", "quickstart"),
        ("--config=/x/my/configs/quickstart.py", "--config=/x/my/configs/quickstart.py"),
        ("--config.train.steps=5", "--config.train.steps=5"),
    ],
)
def test_a_packaged_config_is_called_by_its_name(tmp_path, argument, shown):
    run = make(tmp_path)
    run.info["command"] = ["/x/train/pretrain.py", argument]
    assert run.command == f"python -m train.pretrain {shown}"


@pytest.mark.slow
def test_the_command_makes_a_page_of_a_study(tmp_path):
    study = f"--few_labels={study_folder(tmp_path)}"
    done = commands.run("eval.report", study, f"--out={tmp_path}/out")
    assert done.returncode == 0, done.stderr
    assert f"written: {tmp_path}/out/index.html" in done.stdout
    text = (tmp_path / "out" / "index.html").read_text()
    assert text.count('class="chart"') == 3 and study in Page(text).text
