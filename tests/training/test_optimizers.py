import keras
import numpy as np
import pytest
import tensorflow as tf

from unsup_video.configs import (
    finetune,
    flow_cnn,
    patches_small,
    percepts_small,
    quickstart,
    recipes,
    table2_conditional_future_predictor,
)
from unsup_video.models import video_models
from unsup_video.training import experiment, loop, optimizers
from unsup_video.training.tasks import pretraining


def steps_of(recipe, start, gradients, name="kernel", total_steps=100):
    """Weights after each update of one variable with the given gradients."""
    variable = keras.Variable(np.array(start), dtype="float32", name=name)
    optimizer = optimizers.optimizer(recipe, optimizers.learning_rate(recipe, total_steps))
    optimizer.build([variable])
    weights = []
    for gradient in gradients:
        optimizer.apply([keras.ops.convert_to_tensor(np.float32(gradient))], [variable])
        weights.append(variable.numpy().copy())
    return np.array(weights)


def test_toronto_by_hand():
    # w = 0.5, g = 0.2 twice; the first step:
    # g1 = 0.2 + 1e-4 * 0.5 = 0.20005; r1 = sqrt(0.95 + 0.05 * 0.20005^2) = 0.9757056...
    # step = -1e-3 * 0.20005 / r1 = -2.050311e-4, inside the clip.
    w1 = 0.5 - 1e-3 * 0.20005 / np.sqrt(0.95 + 0.05 * 0.20005**2)
    r2 = np.sqrt(0.95 * (0.95 + 0.05 * 0.20005**2) + 0.05 * (0.2 + 1e-4 * w1) ** 2)
    w2 = w1 + 0.9 * (w1 - 0.5) - 1e-3 * (0.2 + 1e-4 * w1) / r2
    weights = steps_of(recipes.get("toronto"), [0.5], [[0.2], [0.2]])
    np.testing.assert_allclose(weights[:, 0], [w1, w2], rtol=1e-6)


def test_the_step_is_clipped_after_momentum():
    # Two gradients of 100 at lr 1e-4: each raw step is -1e-2, so both are clipped to -1e-4. Then
    # a zero gradient: the momentum starts from the CLIPPED step, 0.9 * -1e-4 (and L2's 1e-8).
    recipe = recipes.get("github")
    recipe.l2 = 0.0
    weights = steps_of(recipe, [1.0], [[100.0], [100.0], [0.0]])
    np.testing.assert_allclose(1.0 - weights[:, 0], [1e-4, 2e-4, 2.9e-4], rtol=1e-3)


def test_biases_have_no_l2():
    recipe = recipes.get("github")
    recipe.l2, recipe.step_clip, recipe.learning_rate = 0.5, 1e9, 0.1
    for name in ("kernel", "recurrent_kernel", "peepholes"):
        decayed = steps_of(recipe, [2.0], [[0.0]], name=name)
        assert decayed[0, 0] == pytest.approx(2.0 - 0.1 * 0.5 * 2.0)
    assert steps_of(recipe, [2.0], [[0.0]], name="bias")[0, 0] == 2.0


def test_l2_comes_before_rmsprop_and_the_clip_after_momentum():
    recipe = recipes.get("toronto")
    recipe.l2, recipe.learning_rate, recipe.step_clip = 0.5, 0.1, 0.04
    g = 0.2 + 0.5 * 1.0
    r = np.sqrt(0.95 + 0.05 * g**2)
    s1 = max(-0.1 * g / r, -0.04)  # clipped: the raw step is -0.07
    w1 = 1.0 + s1
    g = -0.3 + 0.5 * w1
    r = np.sqrt(0.95 * r**2 + 0.05 * g**2)
    s2 = 0.9 * s1 - 0.1 * g / r  # a smaller one, from the clipped step on; then clipped again
    weights = steps_of(recipe, [1.0], [[0.2], [-0.3]])
    np.testing.assert_allclose(weights[:, 0], [w1, w1 + max(s2, -0.04)], rtol=1e-6)


def test_l2_enters_the_gradient():
    recipe = recipes.get("github")
    recipe.l2, recipe.step_clip, recipe.learning_rate = 0.5, 1e9, 0.1
    assert steps_of(recipe, [2.0], [[1.0]])[0, 0] == pytest.approx(2.0 - 0.1 * (1.0 + 0.5 * 2.0))


def test_a_weight_without_gradient_never_becomes_nan():
    recipe = recipes.get("toronto")
    recipe.rms_decay = 0.01  # the running square underflows to 0 after some twenty steps
    weights = steps_of(recipe, [0.0], np.zeros((40, 1)))
    assert np.isfinite(weights).all()


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_gradient_of_zero_from_the_start_leaves_a_bias_as_it_is(name):
    weights = steps_of(recipes.get(name), [0.0, 0.5], np.zeros((3, 2)), name="bias")
    np.testing.assert_array_equal(weights, [[0.0, 0.5]] * 3)


def test_learning_rates():
    toronto = optimizers.learning_rate(recipes.get("toronto"), 10**6)
    assert [float(toronto(s)) for s in (0, 9_999, 10_000, 25_000)] == pytest.approx(
        [1e-3, 1e-3, 0.9e-3, 0.81e-3]
    )
    modern = recipes.get("modern")
    modern.warmup_fraction = 0.1
    rate = optimizers.learning_rate(modern, 1000)
    peak = modern.learning_rate
    assert float(rate(0)) == pytest.approx(peak / 100)
    assert float(rate(49)) == pytest.approx(peak / 2)
    assert float(rate(99)) == pytest.approx(peak)
    assert float(rate(100)) == pytest.approx(peak * 900 / 901)
    assert float(rate(999)) == pytest.approx(peak / 901)
    assert float(rate(1000)) == 0


@pytest.mark.parametrize("fraction", [0.0, 0.03, 0.5, 1.0])
@pytest.mark.parametrize("steps", [1, 2, 3, 60])
def test_every_step_of_a_run_has_a_learning_rate_and_one_of_them_the_peak(steps, fraction):
    recipe = recipes.get("modern")
    recipe.warmup_fraction = fraction
    rate = optimizers.learning_rate(recipe, steps)
    rates = np.array([float(rate(step)) for step in range(steps)])
    assert (rates > 0).all() and (rates <= recipe.learning_rate * (1 + 1e-6)).all()
    assert rates.max() > 0.5 * recipe.learning_rate
    assert float(rate(steps)) == 0


def test_the_piecewise_rate_changes_after_the_boundary_many_steps():
    recipe = flow_cnn.get_config().recipe
    assert (recipe.learning_rate, tuple(recipe.boundaries)) == (1e-2, (50_000, 70_000))
    rate = optimizers.learning_rate(recipe, 80_000)
    steps = (0, 49_999, 50_000, 69_999, 70_000, 79_999)
    assert [float(rate(step)) for step in steps] == pytest.approx(
        [1e-2, 1e-2, 1e-3, 1e-3, 1e-4, 1e-4]
    )
    recipe.boundaries = ()
    rate = optimizers.learning_rate(recipe, 100)
    assert [float(rate(step)) for step in (0, 50, 99)] == pytest.approx([1e-2] * 3)


@pytest.mark.parametrize(
    "change, make, missing",
    [
        ("schedule=staircase", lambda r: optimizers.learning_rate(r, 10), "decay_steps"),
        ("optimizer=clipped_momentum", lambda r: optimizers.optimizer(r, 0.1), "momentum"),
    ],
)
def test_a_choice_whose_fields_a_recipe_lacks_is_an_error(change, make, missing):
    recipe = recipes.get("modern")
    name, value = change.split("=")
    recipe[name] = value
    with pytest.raises(ValueError, match=f"recipe.{change} needs recipe.{missing}, .*'modern'"):
        make(recipe)


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_a_run_of_one_step_moves_the_weights(name):
    recipe = recipes.get(name)
    with keras.name_scope("future_decoder"):
        variable = keras.Variable(np.zeros((4, 2), np.float32), name="kernel")
    optimizer = optimizers.optimizer(recipe, float(optimizers.learning_rate(recipe, 1)(0)))
    optimizer.build([variable])
    optimizer.apply([keras.ops.ones((4, 2))], [variable])
    assert np.all(variable.numpy() < -1e-6)


@pytest.mark.parametrize(
    "name, shape, factor",
    [
        ("bias", (4,), 1.0),
        ("peepholes", (3, 4), 1.0),
        ("encoder_lstm_1/kernel", (64, 4), 512 / 64),
        ("encoder_lstm_1/recurrent_kernel", (2048, 4), 1 / 4),
        ("future_decoder/kernel", (1024, 4), 2 * 512 / 1024),
    ],
)
def test_the_rate_of_modern_is_that_of_the_number_of_inputs(name, shape, factor):
    recipe = recipes.get("modern")
    assert (recipe.fan_in, recipe.output_factor) == (512, 2.0)
    rate = optimizers.learning_rate(recipe, 100)
    with keras.name_scope(name.rpartition("/")[0] or "layer"):
        variable = keras.Variable(np.zeros(shape, np.float32), name=name.rpartition("/")[2])
    optimizer = optimizers.optimizer(recipe, rate)
    optimizer.build([variable])
    for _ in range(3):  # Adam moves by its rate when all gradients are alike
        before = variable.numpy()
        optimizer.apply([keras.ops.ones(shape)], [variable])
    np.testing.assert_allclose(before - variable.numpy(), factor * float(rate(2)), rtol=1e-4)


def test_modern_is_adam():
    recipe = recipes.get("modern")
    recipe.fan_in = 1  # of the one kernel below, a vector
    gradients = np.random.default_rng(0).normal(size=(3, 4)).astype("float32")
    weights = steps_of(recipe, np.zeros(4), gradients, total_steps=10)
    rate = optimizers.learning_rate(recipe, 10)
    m = v = w = np.zeros(4)
    for t, g in enumerate(np.float64(gradients), 1):
        m = recipe.beta_1 * m + (1 - recipe.beta_1) * g
        v = recipe.beta_2 * v + (1 - recipe.beta_2) * g**2
        m_hat, v_hat = m / (1 - recipe.beta_1**t), v / (1 - recipe.beta_2**t)
        w = w - float(rate(t - 1)) * m_hat / (np.sqrt(v_hat) + 1e-8)
        np.testing.assert_allclose(weights[t - 1], w, rtol=1e-4, atol=1e-9)


def test_another_optimiser_is_one_entry_of_the_registry(monkeypatch):
    """A stock one of Keras, with the factors of the learning rate that every recipe may have."""
    monkeypatch.setitem(
        optimizers.OPTIMIZERS,
        "sgd",
        lambda recipe, rate: keras.optimizers.SGD(rate, momentum=recipe.momentum),
    )
    recipe = recipes.get("toronto")
    with recipe.unlocked():
        recipe.update({"optimizer": "sgd", "momentum": 0.5, "encoder_factor": 0.1})
        recipe.update({"fan_in": 8, "output_factor": 3.0})
    names = {
        "encoder_lstm_1/kernel": 0.1 * 8 / 2,
        "encoder_lstm_1/bias": 0.1,
        "future_decoder/kernel": 3 * 8 / 2,
        "softmax/kernel": 8 / 2,
    }
    variables = []
    for name in names:
        with keras.name_scope(name.split("/")[0]):
            variables.append(keras.Variable(np.ones((2, 4)), name=name.split("/")[1]))
    optimizer = optimizers.optimizer(recipe, 0.25)
    optimizer.build(variables)
    for _ in range(2):
        optimizer.apply([keras.ops.ones((2, 4))] * 4, variables)
    for variable, factor in zip(variables, names.values(), strict=True):
        # Steps of 0.25 and, with the momentum, 0.25 * 1.5.
        np.testing.assert_allclose(variable, 1 - factor * 0.25 * 2.5, rtol=1e-6)


def test_another_optimiser_trains(monkeypatch):
    monkeypatch.setitem(
        optimizers.OPTIMIZERS,
        "lion",
        lambda recipe, rate: keras.optimizers.Lion(
            rate, beta_1=recipe.beta_1, beta_2=recipe.beta_2, weight_decay=0.01
        ),
    )
    config = table2_conditional_future_predictor.get_config()
    config.model.update({"units": 4, "layers": 1})
    config.recipe.update({"optimizer": "lion", "batch_size": 8, "learning_rate": 0.02})
    config.recipe.fan_in = 8
    config.data.update({"frames_in": 2, "frames_out": 2})
    config.train.steps = 40
    keras.utils.set_random_seed(0)
    model = experiment.build_model(config, (6,), np.full(6, 0.5, "float32"))
    clips = tf.constant(np.random.default_rng(0).integers(0, 2, (8, 1, 6)) * np.ones((1, 4, 1)))
    trainer = loop.Trainer(config, pretraining.Pretraining(config, model, None))
    losses = []
    for _ in range(config.train.steps):
        trainer.train_step(tf.cast(clips, tf.float32))
        losses.append(trainer.interval_means()["free_running/future"])
    assert losses[-1] < 0.7 * losses[0]


def test_a_recipe_says_itself_what_rate_its_use_needs(monkeypatch):
    """So that a recipe of one's own is not trained with the rate that another one was tuned to."""
    for name in recipes.RECIPES:
        assert recipes.get(name).learning_rate == recipes.get(name, "digits").learning_rate

    def mine(use="digits"):
        recipe = recipes.modern(use)
        recipe.update(name="mine", learning_rate={"natural": 0.5}.get(use, 0.25))
        return recipe

    monkeypatch.setitem(recipes.RECIPES, "mine", mine)
    assert patches_small.get_config("mine").recipe.learning_rate == 0.5
    assert percepts_small.get_config("mine").recipe.learning_rate == 0.5
    assert finetune.get_config("mine").recipe.learning_rate == 0.25
    # Figures are expected of the values that they were measured with.
    assert patches_small.get_config("modern").expect.source
    assert not patches_small.get_config("mine").expect.source
    assert not quickstart.get_config("mine").expect.source
    with pytest.raises(ValueError, match="unknown use of a recipe 'x': one of digits, frames"):
        recipes.get("modern", "x")


def test_initialisations():
    for name, kernel, forget in [("toronto", 0.01, 5.0), ("github", 0.01, 0.0)]:
        recipe = recipes.get(name)
        model = video_models.build(
            frame_dim=30, units=20, initialization=video_models.Initialization(**recipe.init)
        )
        lstm = model.encoder.get_layer("encoder_lstm_1")
        for weight, limit in [
            (lstm.kernel, kernel),
            (lstm.recurrent_kernel, kernel),
            (lstm.peepholes, 0.1),
        ]:
            assert 0.8 * limit < np.abs(weight.numpy()).max() <= limit
        np.testing.assert_array_equal(lstm.bias.numpy().reshape(4, 20)[1], forget)
        np.testing.assert_array_equal(lstm.bias.numpy().reshape(4, 20)[[0, 2, 3]], 0)


def _built(recipe_name, frame_shape=(6, 6), **recipe_fields):
    """The conditional future predictor that a recipe with these fields starts from."""
    config = table2_conditional_future_predictor.get_config(recipe_name)
    config.model.units = 3
    config.model.output = "linear"
    with config.unlocked():
        config.recipe.update(recipe_fields)
    keras.utils.set_random_seed(0)
    return experiment.build_model(config, frame_shape, np.zeros(np.prod(frame_shape), "float32"))


@pytest.mark.parametrize(
    "name, mode",
    [("modern", "free_running"), ("toronto", "teacher_forced"), ("github", "teacher_forced")],
)
def test_the_releases_force_the_teacher_and_modern_does_not(name, mode):
    model = _built(name)
    assert pretraining.mode(model, "future") == mode
    # A run of a version that had no such field was teacher-forced.
    config = table2_conditional_future_predictor.get_config(name)
    config.model.units = 3
    with config.unlocked():
        del config.recipe.conditional_input, config.recipe.pixel_blur
    model = experiment.build_model(config, (6, 6), np.full(36, 0.5, "float32"))
    assert pretraining.mode(model, "future") == "teacher_forced"


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("name, factor", [("modern", 0.25), ("toronto", 1.0), ("github", 1.0)])
def test_kernels_that_read_the_previous_frame_have_a_rate_of_their_own(name, factor, cell):
    recipe, without = recipes.get(name), recipes.get(name)
    without.conditional_factor = 1.0
    model = video_models.build(
        frame_dim=6,
        units=3,
        layers=2,
        cell=cell,
        conditional_reconstruction=True,
        conditional_future=True,
    )
    factors = {
        variable.path: optimizers.rate_factor(recipe, variable)
        / optimizers.rate_factor(without, variable)
        for variable in model.network.trainable_variables
    }
    for decoder in model.decoder_layers.values():
        assert factors.pop(decoder.cells[0].kernel.path) == factor
    assert set(factors.values()) == {1.0}


@pytest.mark.parametrize("name", recipes.RECIPES)
def test_conditional_decoders_of_modern_start_as_unconditional_ones(name):
    config = table2_conditional_future_predictor.get_config(name)
    config.model.units = 3
    keras.utils.set_random_seed(0)
    model = experiment.build_model(config, (6, 6), np.full(36, 0.5, "float32"))
    kernel = model.decoder_layers["future"].cells[0].kernel.numpy()
    assert (kernel == 0).all() == (name == "modern")
    past, teacher = np.random.default_rng(0).random((2, 1, 4, 36), "float32")
    x, of_black = (
        model.teacher_forced({"past": past, "future": frames})["future"]
        for frames in (teacher, 0 * teacher)
    )
    assert np.array_equal(x, of_black) == (name == "modern")


def test_kernels_over_pictures_are_blurred_and_those_over_features_are_not():
    def reading(**options):
        return _built("modern", **options).cells[0].kernel.numpy()

    assert (reading() != reading(pixel_blur=0.0)).all()
    features = {"frame_shape": (36,)}
    np.testing.assert_array_equal(reading(**features), reading(**features, pixel_blur=0.0))
    np.testing.assert_array_equal(reading(**features), reading(pixel_blur=0.0))


def test_unknown_names_are_errors():
    with pytest.raises(ValueError, match="unknown recipe 'sgd'.*modern, toronto, github"):
        recipes.get("sgd")
    recipe = recipes.get("modern")
    recipe.optimizer = "sgdx"
    with pytest.raises(ValueError, match="'sgdx': one of adam, clipped_momentum"):
        optimizers.optimizer(recipe, 0.1)
    recipe = recipes.get("modern")
    recipe.schedule = "linear"
    with pytest.raises(ValueError, match="linear"):
        optimizers.learning_rate(recipe, 10)
