"""Which figures of the paper stand beside a run, and which are expected of it."""

import importlib

import pytest

from unsup_video import comparison, configs
from unsup_video.training import experiment

GENERATOR = {"num_digits": 2, "frame_size": 64, "num_frames": 20, "speed": (0.1, 0.1),
             "bounce": "clamp"}
GENERATED = {"kind": "moving_mnist", "generator": GENERATOR, "seed": 0, "split": "test"}
PATCHES = {"kind": "patches", "frames": 29, "frame_shape": [32, 32, 3], "source": {}}


def load(name, recipe="", **changes):
    """A config of the package with changed fields, `data__bounce` for data.bounce."""
    config = importlib.import_module(f"unsup_video.configs.{name}").get_config(recipe)
    config.update_from_flattened_dict({k.replace("__", "."): v for k, v in changes.items()})
    return config


def figure(name, tested, **changes):
    config = load(name, **changes)
    described = {**config.model.to_dict(), "data": config.data.to_dict()}
    return comparison.table_2(described, tested)


@pytest.mark.parametrize("name, paper", [
    ("moving_mnist_2layer", 344.9), ("moving_mnist_2layer_conditional_future", 341.2),
    ("table2_future_predictor", 350.2), ("table2_conditional_future_predictor", 343.5),
    ("moving_mnist_1layer", None), ("quickstart", None),
])
def test_the_papers_models_have_its_figures(name, paper):
    assert figure(name, GENERATED) == paper
    source = {"generator": GENERATOR, "split": "test"}
    assert figure(name, {"kind": "moving_mnist", "source": source}) == paper
    published = {"kind": "moving_mnist", "source": {"published_test_file": True}}
    assert figure(name, published) == paper


@pytest.mark.parametrize("changes", [
    {"data__frames_out": 20}, {"data__frames_in": 5}, {"data__speed_max": 0.2},
    {"data__bounce": "reflect"}, {"data__num_digits": 3}, {"model__units": 256},
    {"model__conditional_reconstruction": True}, {"model__use_peepholes": False},
    {"model__output": "linear"}, {"model__kind": "autoencoder"},
])
def test_another_task_or_model_has_none(changes):
    assert figure("moving_mnist_2layer", GENERATED, **changes) is None


def test_the_test_counts_too():
    for other in ({"speed": (0.05, 0.1)}, {"bounce": "reflect"}, {"num_digits": 1}):
        tested = {**GENERATED, "generator": {**GENERATOR, **other}}
        assert figure("moving_mnist_2layer", tested) is None
    assert figure("moving_mnist_2layer", {"kind": "moving_mnist", "source": {"file": "x"}}) is None
    assert figure("moving_mnist_2layer", {"kind": "percepts", "source": {}}) is None


def test_a_decoder_that_a_model_lacks_does_not_count():
    changes = {"model__conditional_reconstruction": True}
    assert figure("table2_future_predictor", GENERATED, **changes) == 350.2


def test_patches():
    assert figure("patches", PATCHES) == 210.7
    assert figure("patches", {**PATCHES, "frame_shape": [32, 32]}) is None
    assert figure("patches_small", PATCHES) is None and figure("patches_4096", PATCHES) is None
    assert figure("patches", PATCHES, data__frames_out=5) is None


def test_what_is_expected_of_a_config_is_not_expected_of_a_changed_one():
    kept = {"seed": 3, "precision": "float32", "train__log_every": 7, "eval__test_clips": 50}
    for name in ("quickstart", "moving_mnist_2layer", "moving_mnist_1layer"):
        assert comparison.expected(load(name, **kept)).source
        for changes in ({"model__units": 9}, {"train__steps": 3}, {"data__frames_out": 3},
                        {"recipe__learning_rate": 0.5}, {"data__speed_max": 0.3},
                        {"data__records": "data/x"}, {"model__conditional_future": True}):
            assert comparison.expected(load(name, **changes)) is None, (name, changes)
    digits = {"data__digits_dir": "mnist"}  # all of MNIST, as in the paper
    assert comparison.expected(load("moving_mnist_2layer", **digits))
    assert comparison.expected(load("quickstart", **digits)) is None  # measured on 5,000 digits
    assert comparison.expected(load("patches_small", data__records="data/mine"))
    assert comparison.expected(load("flow_cnn")).source == "paper, UCF-101"
    assert comparison.expected(load("base")) is None  # nothing is


@pytest.mark.parametrize("name", configs.names() + configs.names("flow_cnn"))
def test_no_packaged_config_differs_from_itself(name):
    config = load(name)
    found = comparison.expected(config)
    assert (found is not None) == bool(config.expect.source)


def test_a_config_of_ones_own_is_taken_at_its_word():
    config = load("quickstart", model__units=9)
    config.name = "mine"
    assert comparison.expected(config).future == config.expect.future


def test_the_final_table_of_training_asks():
    results = {"clips": 2, "step": 1, "scores": {"free_running/future": 1.0}, "seen": {},
               "floors": {"future": {"targets": 1.0, "copy_last": 2.0, "mean_frame": 3.0}}}
    assert "expected: table 2" in experiment.table(load("moving_mnist_2layer"), results)
    changed = load("moving_mnist_2layer", data__frames_out=3)
    assert "expected" not in experiment.table(changed, results)


def classifier(kind="lstm", units=2048, layers=2, frames=16, stride=8):
    model = {"kind": kind, "units": units, "layers": layers, "use_peepholes": True}
    return {"model": model, "data": {"frames": frames, "stride": stride}}


def test_classifiers_compare_with_all_classes_alone():
    tested = {"part": "test", "split": 1}
    found = comparison.table_1("LSTM", classifier(), 101, tested)
    assert found == {"UCF-101, RGB": 74.5, "UCF-101, 1-frame flow": 74.3}
    assert comparison.table_1("LSTM", classifier(), 51, tested) == {"HMDB-51, RGB": 42.8}
    for config, classes, of in (
        (classifier(), 8, tested), (classifier(units=256), 101, tested),
        (classifier(stride=16), 101, tested), (classifier(), 101, {"part": "test", "split": 0}),
        (classifier(), 101, {"part": "validation", "split": 1}),
    ):
        assert comparison.table_1("LSTM", config, classes, of) == {}
    one = classifier("single_frame", units=8)  # has no units
    assert comparison.table_1("single frame", one, 51, tested) == {"HMDB-51, RGB": 40.1}
    assert comparison.table_1("mean frame", one, 51, tested) == {}
