"""The page about runs: what is on it, that it holds everything itself, and that it can be read."""

import base64
import csv
import dataclasses
import io
import json
import math
import re
from html.parser import HTMLParser
from pathlib import Path
from types import SimpleNamespace

import pytest
from markupsafe import escape
from ml_collections import ConfigDict
from PIL import Image

from unsup_video.configs import table2_composite_conditional_future
from unsup_video.evaluation import features, future_prediction, long_range, out_of_domain, results
from unsup_video.evaluation import testset as test_sets
from unsup_video.pictures import charts
from unsup_video.report import cells, page, page_videos, report, sections
from unsup_video.report.section import Options
from unsup_video.training.trained import TrainedModel

TIME = "2026-01-31T12:00:00+00:00"
VOID = {"meta", "link", "img", "br", "hr", "input", "wbr"}
FIGURES = ("long_range", "out_of_domain", "features")


class Page(HTMLParser):
    """Reads a page strictly: raises where tags are not balanced."""

    def __init__(self, text):
        super().__init__()
        self.open, self.tags, self.texts, self.tables = [], [], [], {}
        self.feed(text)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attributes):
        self.tags.append((tag, dict(attributes)))

    def handle_endtag(self, tag):
        assert self.open and self.open.pop() == tag, f"</{tag}> closes nothing"

    def handle_data(self, data):
        if self.open and self.open[-1] != "style":
            self.texts.append(data)

    def all(self, tag):
        return [attributes for name, attributes in self.tags if name == tag]

    @property
    def text(self):
        return " ".join("".join(self.texts).split())


def section(text, anchor):
    return re.search(rf'<section id="{anchor}">.*?</section>', text, re.DOTALL)[0]


def evaluation(folder, kind, rows, pictures=(), model=None, settings=None):
    folder.mkdir(parents=True)
    for picture in pictures:
        Image.new("RGB", (40, 20), (200, 30, 30)).save(folder / picture.file)
    return results.Evaluation(
        kind,
        folder,
        f"python -m eval.{kind} --workdir={folder.parent}",
        TIME,
        model or {},
        settings or {},
        {},
        {},
        tuple(rows),
        tuple(pictures),
    )


def prediction(folder, values, model, parts, clips):
    def of(subject, part, metric, per_frame, unit="", mode=""):
        return [
            results.row(subject, "test", part, metric, [v - 1.0, v + 1.0], mode, unit, frame)
            for frame, v in [(None, sum(per_frame) / len(per_frame)), *enumerate(per_frame, 1)]
        ]

    rows = [
        row
        for part in parts
        for row in (
            of("model", part, "cross_entropy", values, "nats", "free_running")
            + of("model", part, "ssim", [0.5] * len(values), mode="free_running")
        )
    ]
    if "future" in parts:  # told the truth, it is 100 nats better
        told = [value - 100 for value in values]
        rows += of("model", "future", "cross_entropy", told, "nats", "teacher_forced")
    rows += of("entropy", "future", "cross_entropy", [90.0] * len(values), "nats")
    rows.append(results.row("copy_last", "test", "future", "psnr", [math.inf], unit="dB"))
    data = {"kind": "moving_mnist", "source": {"published_test_file": True}}
    settings = {"data": data, "clips": clips, "convention": "correct"}
    return evaluation(folder, "future_prediction", rows, model=model, settings=settings)


def make(folder, name="a", kind="composite", values=(340.0, 360.0), clips=100):
    """A run of a conditional 2-layer model; the mean of `values` is its cross entropy."""
    path = folder / name
    parts = [
        part
        for part in ("reconstruction", "future")
        if kind != {"reconstruction": "future_predictor", "future": "autoencoder"}[part]
    ]
    config = table2_composite_conditional_future.get_config()
    model = {
        "name": name,
        "config": "tiny",
        "recipe": "modern",
        "step": 40,
        "sha256": "c0ffee",
        **config.model.to_dict(),
        "kind": kind,
        "data": config.data.to_dict(),
        "trained_on": {"source": "MNIST, idx files in mnist"},
    }
    found = {"future_prediction": prediction(path / "eval", values, model, parts, clips)}
    for figure in FIGURES:
        found[figure] = evaluation(
            path / figure,
            figure,
            [results.row("model", "2 digits", "future", "cross_entropy", [1.0, 2.0], unit="nats")],
            [
                results.Picture("still.png", f"What {figure} shows"),
                results.Picture("moving.gif", f"What moves in {figure}"),
            ],
        )
    (path / "samples").mkdir()
    for step in (9, 40):
        for ending in ("png", "gif"):
            Image.new("RGB", (30, 10)).save(path / "samples" / f"step-{step:08d}-0.{ending}")
    metrics = [
        {
            "step": step,
            "split": split,
            "elapsed_s": step * 180.0,
            **{f"{mode}/{part}": 500.0 - step for part in parts},
        }
        for step in (10, 20, 40)
        for split, mode in (("train", "teacher_forced"), ("validation", "free_running"))
    ]
    info = {
        "time": TIME,
        "command": ["/somewhere/train/pretrain.py", "--workdir=with space"],
        "git": {"sha": "0123abc", "dirty": True},
        "versions": {"keras": "3.15.1"},
        "machine": {"cpu": "a processor", "devices": ["CPU:0"]},
        "parameters": 12345,
        "frame_shape": [64, 64],
        "data": {"kind": "Moving MNIST", "source": "some digits", "sha256": {"test": "feed5eed"}},
    }
    settings = {**config.to_dict(), "name": "tiny", "seed": 7}
    settings["model"]["kind"] = kind
    return report.Run(name, path, settings, info, metrics, model, found)


def two_runs(folder):
    return [make(folder, "a"), make(folder, "b", values=(300.0, 320.0))]


@pytest.fixture(scope="module")
def written(tmp_path_factory):
    """(runs, the folder of their page, the page)."""
    folder = tmp_path_factory.mktemp("runs")
    runs = two_runs(folder)
    report.write(runs, folder / "out", "python -m eval.report --out=here", TIME)
    return runs, folder / "out", (folder / "out" / "index.html").read_text()


@pytest.fixture
def no_charts(monkeypatch):
    """Drawing takes most of the time."""
    monkeypatch.setattr(charts, "svg", lambda *arguments, **options: "<svg></svg>")


def test_the_page_has_every_section_and_every_command(written):
    runs, _, text = written
    shown = Page(text)
    anchors = {a["id"] for a in shown.all("section")}
    assert anchors == {
        "runs",
        "learning",
        "table-2",
        "figure-5",
        "long-range",
        "out-of-domain",
        "features",
    }
    targets = {a["href"][1:] for a in shown.all("a") if a["href"].startswith("#")}
    assert targets == anchors | {"run-1", "run-2"}
    names = [attributes["id"] for _, attributes in shown.tags if "id" in attributes]
    assert len(names) == len(set(names)) and targets <= set(names)
    for run in runs:
        for figure in FIGURES:
            part = section(text, figure.replace("_", "-"))
            assert f"What {figure} shows" in part
            assert Page(part).text.count(run.evaluations[figure].command) == 1
        assert run.prediction.command in Page(section(text, "table-2")).text
        assert run.prediction.command in Page(section(text, "figure-5")).text
    assert "python -m eval.report --out=here" in shown.text and TIME[:10] in shown.text


def test_a_run_says_what_was_trained_and_how(written):
    shown = Page(section(written[2], "runs").split("</article>")[0] + "</article></section>")
    for fact in (
        "0123abc, with uncommitted changes",
        "feed5eed",
        "some digits",
        "12,345",
        "2.0 h",
        "a processor",
        "keras: 3.15.1",
        "step 40 of 40",
        '"seed": 7',
        "python -m train.pretrain '--workdir=with space'",
        "train, teacher-forced",
        "validation, free-running",
    ):
        assert fact in shown.text, fact
    assert len([a for a in shown.all("svg") if a["class"] == "chart"]) == 2


def test_table_2_has_the_figures_of_results_json(written):
    stored = json.loads((written[1] / "results.json").read_text())
    table = section(written[2], "table-2")
    found = {float(value) for value in re.findall(r'<data value="([^"]+)"', table)}
    figures = {
        float(row["value"])
        for row in stored["rows"]
        if row["kind"] == "future_prediction"
        and row["frame"] is None
        # of the floors, those of the first run
        and (row["subject"] == "model" or row["run"] == "a")
    }
    paper = 341.2  # a conditional composite of 2 layers in the paper's Table 2
    assert stored["runs"][0]["paper"] == paper
    assert found == figures | {350.0 - paper, 310.0 - paper}
    shown = Page(table)
    assert "+8.8 (+2.6%)" in shown.text and "-31.2 (-9.1%)" in shown.text
    # Two clips, of v - 1 and v + 1: 12.7 sqrt(2) / sqrt(2).
    assert "350.0 ± 12.7" in shown.text and "a, teacher-forced" in shown.text
    assert "250.0 ± 12.7" in shown.text and "convention: correct" in shown.text


def test_all_rows_of_all_runs_are_stored(written):
    runs, out, _ = written
    content = (out / "results.json").read_text()
    stored = json.loads(content, parse_constant=pytest.fail)["rows"]
    table = list(csv.DictReader(io.StringIO((out / "results.csv").read_text())))
    expected = [
        (run.name, e.kind, row.metric, row.value)
        for run in runs
        for e in run.evaluations.values()
        for row in e.rows
    ]
    for rows in (stored, table):
        assert expected == [(r["run"], r["kind"], r["metric"], float(r["value"])) for r in rows]
    assert list(table[0]) == ["run", "kind", *results.COLUMNS]


def test_the_page_needs_nothing_from_outside(written):
    text = written[2]
    shown = Page(text)
    outside = [
        value
        for _, attributes in shown.tags
        for name, value in attributes.items()
        if name in ("src", "href", "xlink:href", "srcset", "data", "action", "poster")
        and not value.startswith(("#", "data:"))
    ]
    assert outside == ["https://arxiv.org/abs/1502.04681"]
    assert "url(" not in re.sub(r"url\(#", "", text) and "@import" not in text
    assert not shown.all("script") and not shown.all("iframe")
    images = shown.all("img")
    assert len(images) == 2 * (2 + 2 * len(FIGURES))  # the newest step's samples, and pictures
    for image in images:
        kind, data = re.fullmatch(r"data:(image/\w+);base64,(.*)", image["src"]).groups()
        with Image.open(io.BytesIO(base64.b64decode(data, validate=True))) as picture:
            picture.load()
            assert Image.MIME[picture.format] == kind
            assert picture.size == (int(image["width"]), int(image["height"]))
        assert image["alt"]
    assert "at step 40" in shown.text and "at step 9" not in shown.text


def test_what_comes_from_files_is_escaped(tmp_path, no_charts):
    name = '<b>bold<b> & "quoted"'
    run = make(tmp_path, name)
    evil = "<script>alert(1)</script>"
    run.config["name"] = run.info["machine"]["cpu"] = run.info["command"][1] = evil
    features = run.evaluations["features"]
    features.pictures[0].__dict__["caption"] = f'" onload="x{evil}'
    run.evaluations["long_range"] = evil
    text = page.render([run], evil, TIME)
    shown = Page(text)
    assert not shown.all("b") and not shown.all("script")
    assert not any("onload" in attributes for _, attributes in shown.tags)
    assert name in shown.text and evil in shown.text
    assert escape(name) in text


def test_a_figure_that_cannot_be_made_says_why(tmp_path, no_charts):
    run = make(tmp_path, kind="autoencoder")
    run.evaluations["long_range"] = "it has no future predictor"
    text = page.render([run], "", TIME)
    part = Page(section(text, "long-range"))
    assert "Not available for this run: it has no future predictor." in part.text
    assert not part.all("img")
    assert Page(section(text, "learning")).text.endswith("No run predicts the future.")
    assert "341.2" not in section(text, "table-2")


@pytest.fixture
def autoencoder(monkeypatch):
    """A model; what is asked of other modules comes back as their evaluations."""
    model = SimpleNamespace(outputs=("reconstruction",), kind="autoencoder")
    trained = TrainedModel(Path("x"), ConfigDict({"data": {}}), model, 1, "", (8, 8), None)
    monkeypatch.setattr(test_sets, "of_model", lambda config, *given: given)
    for module in (future_prediction, out_of_domain, features):
        monkeypatch.setattr(
            module, "evaluate", lambda trained, *given, log, **options: (*given, options)
        )
    return trained


def test_an_autoencoder_goes_without_long_range(autoencoder):
    said = []
    found = report.evaluate(autoencoder, Options(clips=50, recompute=True), log=said.append)
    command = "python -m eval.future_prediction --workdir=x --clips=50"
    options = {"convention": "correct", "recompute": True}
    assert found["future_prediction"] == ((None, 50), command, options)
    assert "no future predictor" in found["long_range"] and len(said) == 1
    assert found["out_of_domain"] == found["features"] == ({"recompute": True},)


def test_what_the_command_is_told_is_passed_on(autoencoder, monkeypatch):
    monkeypatch.setattr(long_range, "evaluate", lambda trained, log, **options: options)
    found = report.evaluate(autoencoder, Options(records="set", convention="openstl"))
    test_set, command, options = found["future_prediction"]
    assert test_set == ("set", None) and options["convention"] == "openstl"
    assert command.endswith("--workdir=x --records=set --metric_convention=openstl")
    assert found["long_range"] == {"records": "set", "recompute": False}


def test_a_damaged_evaluation_is_no_sentence_on_a_page(autoencoder, monkeypatch):
    def damaged(*arguments, **options):
        raise ValueError("results.json: damaged")

    monkeypatch.setattr(features, "evaluate", damaged)
    with pytest.raises(ValueError, match="damaged"):
        report.evaluate(autoencoder, Options(), log=print)


def test_a_section_of_the_list_is_computed_and_drawn(autoencoder, tmp_path, monkeypatch, no_charts):
    rows = [results.row("model", "test", "future", "novelty", [1.0, 2.0])]
    made = evaluation(
        tmp_path / "n", "novel_figure", rows, [results.Picture("n.png", "What is new")]
    )
    module = SimpleNamespace(KIND="novel_figure", evaluate=lambda trained, recompute, log: made)
    novel = page_videos.Figure(module, "Figure 13: what is new")
    monkeypatch.setattr(sections, "SECTIONS", (*sections.SECTIONS, novel))
    found = report.evaluate(autoencoder, Options(), log=lambda line: None)
    assert found["novel_figure"] is made
    run = make(tmp_path)
    run.evaluations["novel_figure"] = found["novel_figure"]
    text = page.render([run], "", TIME)
    part = section(text, "novel-figure")
    assert '<a href="#novel-figure">Figure 13: what is new</a>' in text
    assert [image["alt"] for image in Page(part).all("img")] == ["What is new"]
    assert "novelty" in part and made.command in Page(part).text
    assert [row["value"] for row in report.rows([run]) if row["kind"] == "novel_figure"] == [1.5]


def test_every_section_has_a_template_and_an_anchor_of_its_own():
    templates = page._TEMPLATES.list_templates()
    assert {section.template for section in sections.SECTIONS} <= set(templates)
    anchors = [section.anchor for section in sections.SECTIONS]
    assert len(set(anchors)) == len(anchors)


def test_runs_tested_on_different_clips_get_a_table_each(tmp_path, no_charts):
    runs = [make(tmp_path, "a"), make(tmp_path, "b", clips=5000)]
    text = section(page.render(runs, "", TIME), "table-2")
    assert "tested on different clips" in text
    assert "Test set 1: 100 clips" in text and "Test set 2: 5,000 clips" in text
    alone = section(page.render(runs[:1], "", TIME), "table-2")
    assert "tested on different clips" not in alone


@pytest.fixture
def drawn(monkeypatch):
    """{name of a chart: the labels of its lines}; drawing takes most of the time."""
    found = {}
    monkeypatch.setattr(
        charts,
        "svg",
        lambda lines, name, *arguments, **options: (
            found.update({name: [line.label for line in lines]}) or "<svg></svg>"
        ),
    )
    return found


def test_losses_on_other_data_are_not_drawn_together(tmp_path, drawn):
    runs = [make(tmp_path, name) for name in "abcdef"]
    runs[1].info["data"]["sha256"] = {"test": "other"}
    runs[2].info["data"]["sha256"]["init"] = "the weights it started from"
    runs[3].config["data"]["num_digits"] = 3
    runs[4].config["data"]["frames_out"] = 5
    runs[5].config["data"]["digits_dir"] = "elsewhere"
    page.render(runs, "", TIME)
    learning = {name: labels for name, labels in drawn.items() if name.startswith("learning")}
    groups = {1: ["a", "c", "f"], 2: ["b"], 3: ["d"], 4: ["e"]}
    assert learning == {f"learning-{n}-{k}": groups[n] for n in groups for k in range(3)}


def test_the_losses_of_all_models_with_a_future_are_drawn_together(tmp_path, drawn):
    page.render([make(tmp_path, "a"), make(tmp_path, "b", kind="future_predictor")], "", TIME)
    assert drawn["learning-1-0"] == ["a", "b"]


@pytest.mark.parametrize("change", ["loss", "frames"])
def test_runs_with_other_losses_or_frames_are_in_tables_of_their_own(tmp_path, drawn, change):
    runs = two_runs(tmp_path)
    if change == "loss":
        runs[1].model["output"] = "linear"
        rows = runs[1].prediction.rows
        runs[1].evaluations["future_prediction"] = dataclasses.replace(
            runs[1].prediction,
            rows=tuple(
                dataclasses.replace(r, metric=r.metric.replace("cross_entropy", "squared_loss"))
                for r in rows
            ),
        )
    else:
        runs[1].model["data"]["frames_out"] = 5
    text = section(page.render(runs, "", TIME), "table-2")
    assert "Test set 1: " in text and "Test set 2: " in text
    loss = "squared_loss" if change == "loss" else "cross_entropy"
    assert drawn["frames-1-cross_entropy"][0] == "a" and drawn[f"frames-2-{loss}"][0] == "b"


def test_learning_is_drawn_over_operations(tmp_path, monkeypatch):
    drawn = {}
    monkeypatch.setattr(
        charts, "svg", lambda lines, name, *_, **options: drawn.update({name: lines}) or "<svg/>"
    )
    page.render([make(tmp_path, "a", kind="future_predictor")], "", TIME)
    # 2 layers of 2048 units, the decoder reads its own frames; weights x frames x passes.
    encoder = 4096 * 8192 * 10 * 2 + 2048 * 8192 * (2 * 9 + 10) * 3
    decoder = 2048 * 8192 * (2 * 10 + 10) * 3 + 2048 * 4096 * 10 * 3 + 4096 * 8192 * 9 * 3
    flop = 2 * 64 * (encoder + decoder)
    (line,) = drawn["learning-1-2"]
    assert line.x == pytest.approx([flop * step / 1e12 for step in (10, 20, 40)])


def test_a_page_is_replaced_only_when_told_to(tmp_path, no_charts):
    runs, out = two_runs(tmp_path), tmp_path / "out"
    report.write(runs, out, "first", TIME)
    with pytest.raises(ValueError, match="index.html exists; .*--overwrite"):
        report.write(runs, out, "second", TIME)
    assert "first" in (out / "index.html").read_text()
    (runs[0].evaluations["features"].folder / "still.png").unlink()
    with pytest.raises(OSError, match="still.png"):
        report.write(runs, out, "second", TIME, overwrite=True)
    assert "first" in (out / "index.html").read_text()
    report.write(runs[1:], out, "second", TIME, overwrite=True)
    assert "first" not in (out / "index.html").read_text()
    assert json.loads((out / "results.json").read_text())["command"] == "second"


def test_a_run_is_not_overwritten(tmp_path):
    (tmp_path / "results.json").write_text("something else's")
    with pytest.raises(ValueError, match="results.json exists"):
        report.check_folder(tmp_path, overwrite=False)
    report.check_folder(tmp_path, overwrite=True)
    (tmp_path / "config.json").write_text("{}")
    with pytest.raises(ValueError, match="the folder of a run"):
        report.check_folder(tmp_path, overwrite=True)


def test_runs_are_read_from_their_folders(tmp_path):
    runs, models = two_runs(tmp_path), []
    for run in runs:
        (run.path / "config.json").write_text(json.dumps(run.config))
        (run.path / "run.json").write_text(json.dumps(run.info))
        lines = [json.dumps(line) + "\n" for line in run.metrics]
        (run.path / "metrics.jsonl").write_text("".join(lines) + '{"step": 50, "cut sho')
        config = ConfigDict(run.config)
        models.append(TrainedModel(run.path, config, None, 40, "c0ffee", (8, 8), None))
    collected = report.collect(models, [run.evaluations for run in runs])
    for run, read in zip(runs, collected, strict=True):
        assert (read.name, read.path, read.config, read.info, read.metrics) == (
            run.name,
            run.path,
            run.config,
            run.info,
            run.metrics,
        )
        assert read.evaluations is run.evaluations and read.model["step"] == 40


def test_names_of_runs(tmp_path):
    assert report.names([Path("x/a"), Path("x/b")]) == ["a", "b"]
    assert report.names([Path("x/a"), Path("y/a"), Path("b")]) == ["x/a", "y/a", "b"]
    with pytest.raises(ValueError, match="x/../x/a is given twice"):
        report.names([Path("x/../x/a"), Path("x/a")])


def test_charts_follow_the_page():
    line = charts.Line("_a & b", [1, 2, 3], [10.0, 20.0, 30.0], **charts.style(0))
    text = charts.svg([line], "one", "A title", "x", "y")
    assert "currentColor" in text and charts.COLOURS[0] in text and charts.TEXT not in text
    assert "<style" not in text and "http" not in text
    used = set(re.findall(r'(?:href="#|url\(#)([^")]+)', text))
    names = set(re.findall(r' id="([^"]+)"', text))
    assert used and used <= names and all(name.startswith("one-") for name in names)
    parts = page._TEMPLATES.get_template("parts.html").module
    drawn = parts.charts(cells.Charts([text, text], [line, line]))
    assert drawn.count(text) == 2 and drawn.count("<li>") == 1 and "_a &amp; b" in drawn


def test_a_settled_chart_leaves_the_first_steps_out_of_sight():
    line = charts.Line("a", [1, 50, 100], [3000.0, 400.0, 300.0])

    def ticks(**options):
        text = charts.svg([line], "c", "", "", "", **options)
        return [float(number) for number in re.findall(r">(\d+)</text>", text)]

    assert max(ticks(settled=True)) <= 410
    assert max(ticks()) >= 2500
