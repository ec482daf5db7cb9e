import importlib

import pytest
from ml_collections import config_dict

from unsup_video import configs, models, paper
from unsup_video.training import experiment, recipes


def load(name, recipe=""):
    return importlib.import_module(f"unsup_video.configs.{name}").get_config(recipe)


# Table 2 and figure 5: kind, layers, conditional future predictor, the paper's figure.
EXPERIMENTS = {
    "moving_mnist_1layer": ("composite", 1, False, 346.0),
    "moving_mnist_2layer": ("composite", 2, False, 344.9),
    "moving_mnist_2layer_conditional_future": ("composite", 2, True, 341.2),
    "table2_future_predictor": ("future_predictor", 2, False, 350.2),
    "table2_conditional_future_predictor": ("future_predictor", 2, True, 343.5),
}


# Table 2 and figure 6: kind, conditional future predictor, units, the paper's figure.
PATCHES = {
    "patches": ("composite", False, 2048, 210.7),
    "patches_4096": ("composite", False, 4096, 210.7),
    "patches_conditional_future": ("composite", True, 2048, 208.1),
    "table2_patches_future_predictor": ("future_predictor", False, 2048, 225.2),
    "table2_patches_conditional_future_predictor": ("future_predictor", True, 2048, 221.3),
}


# Table 3: kind, conditional reconstruction, conditional future.
PERCEPTS = {
    "percepts": ("composite", False, False),
    "table3_autoencoder": ("autoencoder", False, False),
    "table3_future_predictor": ("future_predictor", False, False),
    "table3_conditional_autoencoder": ("autoencoder", True, False),
    "table3_conditional_future_predictor": ("future_predictor", False, True),
    "table3_composite_conditional_future": ("composite", False, True),
}


def test_every_experiment_of_the_paper_is_there():
    assert set(configs.names()) == {
        "quickstart", "moving_mnist_hour", "patches_small", "percepts_small", *EXPERIMENTS, *PATCHES, *PERCEPTS
    }
    assert configs.names("finetune") == ["finetune", "finetune_few_labels"]
    assert configs.names("flow_cnn") == ["flow_cnn", "flow_cnn_small", "flow_cnn_stack10"]


@pytest.mark.parametrize("name", PERCEPTS)
def test_experiments_on_percepts_are_the_papers(name):
    config = load(name)
    model = config.model
    assert config.name == name
    assert (
        model.kind, model.conditional_reconstruction, model.conditional_future
    ) == PERCEPTS[name]
    assert (model.layers, model.units, model.output) == (2, 2048, "linear")
    assert (config.data.frames_in, config.data.frames_out) == (16, 13)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_the_papers(name):
    config = load(name)
    kind, layers, conditional, future = EXPERIMENTS[name]
    assert config.name == name
    assert (config.model.kind, config.model.layers) == (kind, layers)
    assert (config.model.conditional_future, config.model.conditional_reconstruction) == (
        conditional, False,
    )
    assert (config.model.units, config.data.frames_in, config.data.frames_out) == (2048, 10, 10)
    assert (config.data.num_digits, config.data.frame_size, config.data.speed_max) == (2, 64, 0.1)
    assert config.expect.future == future


@pytest.mark.parametrize("name", PATCHES)
def test_experiments_on_patches_are_the_papers(name):
    config = load(name)
    kind, conditional, units, figure = PATCHES[name]
    model = config.model
    assert (config.name, model.kind, model.layers, model.units) == (name, kind, 2, units)
    assert (model.conditional_future, model.conditional_reconstruction) == (conditional, False)
    assert (config.data.frames_in, config.data.frames_out, model.output) == (16, 13, "linear")
    assert paper.table_2("patches", kind, 2, conditional) == figure


@pytest.mark.parametrize("name", configs.names())
@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_every_config_takes_every_recipe_and_builds(name, recipe):
    config = load(name, recipe)
    experiment.check(config)
    assert config.recipe.name == recipe
    config.model.units = 2
    model = models.build(
        **config.model, frame_dim=4, initialization=recipes.initialization(config.recipe)
    )
    assert model.kind == config.model.kind


def test_a_field_that_does_not_exist_is_an_error():
    config = load("quickstart")
    with pytest.raises(AttributeError, match="unitz"):
        config.model.unitz = 3
    with pytest.raises(TypeError):
        config.model.units = "many"
    assert isinstance(config, config_dict.ConfigDict) and config.is_locked


@pytest.mark.parametrize("field", ["data.frames_out", "data.frames_in", "recipe.batch_size"])
def test_a_size_of_zero_is_an_error(field):
    config = load("quickstart")
    with config.unlocked():
        config.update_from_flattened_dict({field: 0})
    with pytest.raises(ValueError, match=f"config.{field} must be at least 1, got 0"):
        experiment.check(config)


def test_names_become_paths():
    path = configs.path("quickstart")
    assert configs.expand(["c"], "quickstart") == ["c", f"--config={path}"]
    assert configs.expand(["c", "--config=quickstart:github"], "x") == [
        "c", f"--config={path}:github",
    ]
    assert configs.expand(["c", "--config", "quickstart", "--config.seed=1"], "x") == [
        "c", "--config", path, "--config.seed=1",
    ]
    assert configs.expand(["c", "--config=my/own.py:x"], "x") == ["c", "--config=my/own.py:x"]
    with pytest.raises(SystemExit, match="no experiment 'nope'; there are .*quickstart"):
        configs.expand(["c", "--config=nope"], "x")
    with pytest.raises(SystemExit, match="no recipe 'sgd'; there are modern, toronto, github"):
        configs.expand(["c", "--config=quickstart:sgd"], "x")
