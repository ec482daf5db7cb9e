import numpy as np
import pytest
import tensorflow as tf
from keras import ops

from unsup_video.configs import recipes
from unsup_video.models import classifiers, video_models
from unsup_video.models.outputs import OUTPUTS, Output, frame_units


def entropy(y):
    """Entropy of grey levels read as probabilities, in nats, summed over the last axis."""
    y = np.float64(y)
    with np.errstate(divide="ignore", invalid="ignore"):
        terms = np.where(y > 0, -y * np.log(y), 0) + np.where(y < 1, -(1 - y) * np.log(1 - y), 0)
    return terms.sum(-1)


def test_cross_entropy_is_tensorflows_summed_over_pixels():
    rng = np.random.default_rng(0)
    x = rng.normal(0, 10, (3, 4, 50)).astype("float32")
    y = rng.random((3, 4, 50), dtype="float32")
    expected = tf.reduce_sum(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=x), -1)
    np.testing.assert_allclose(OUTPUTS["logistic"].frame_losses(y, x), expected, rtol=1e-5)


def test_cross_entropy_stays_finite_for_huge_pre_activations():
    x = np.array([[1e4, -1e4, 1e4, -1e4]], "float32")
    y = np.array([[1.0, 0.0, 0.0, 1.0]], "float32")
    assert OUTPUTS["logistic"].frame_losses(y, x).numpy().tolist() == [2e4]


# Where a maximum, an absolute value or an exponential function could go wrong.
CRITICAL = [x for size in (0.0, 1e-30, 1e-6, 0.5, 13.0, 30.0, 1e4, 1e30) for x in (size, -size)]


def values_and_gradients(output, targets, x, compiled):
    """Loss of every single value, and its derivative, through automatic differentiation."""

    @tf.function(jit_compile=compiled, autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            values = OUTPUTS[output].frame_losses(targets[..., None], x[..., None])
        return values, tape.gradient(values, x)

    return [np.float64(found) for found in run(tf.constant(x))]


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("target", [0.0, 0.25, 0.5, 0.9, 1.0])
def test_cross_entropy_and_its_gradient_are_the_closed_form(target, compiled):
    x = np.array(CRITICAL, "float32")
    y = np.full_like(x, target)
    values, gradients = values_and_gradients("logistic", y, x, compiled)
    x, y = np.float64(x), np.float64(y)
    np.testing.assert_allclose(  # TensorFlow's log1p outside of XLA is log(1 + x), rounded
        values,
        y * np.logaddexp(0, -x) + (1 - y) * np.logaddexp(0, x),
        rtol=1e-6,
        atol=1e-30 if compiled else 2e-7,
    )
    sigmoid, other = np.exp(-np.logaddexp(0, -x)), np.exp(-np.logaddexp(0, x))
    np.testing.assert_allclose(gradients, (1 - y) * sigmoid - y * other, rtol=0, atol=1e-7)
    assert gradients[0] == pytest.approx(0.5 - target, abs=1e-7)  # at 0 itself


@pytest.mark.parametrize("compiled", [False, True])
@pytest.mark.parametrize("output", ["linear", "relu"])
def test_the_gradient_of_a_squared_loss_is_between_its_one_sided_derivatives(output, compiled):
    x = np.array([0.0, -0.0, 1e-3, -1e-3, 0.5, -0.5, 30.0, -30.0], "float32")
    for target in (0.0, 0.25, 1.0):
        _, gradients = values_and_gradients(output, np.full_like(x, target), x, compiled)

        def loss(x, target=target):
            return 0.5 * ((np.maximum(x, 0) if output == "relu" else x) - target) ** 2

        step, at = 1e-7, np.float64(x)
        sides = [(loss(at + step) - loss(at)) / step, (loss(at) - loss(at - step)) / step]
        assert (gradients >= np.minimum(*sides) - 1e-5).all()
        assert (gradients <= np.maximum(*sides) + 1e-5).all()


@pytest.mark.parametrize("recipe", ["toronto", "github"])
def test_an_empty_clip_moves_the_output_bias_by_the_closed_form(recipe):
    # All biases but the forget gates' are 0: states, and so all pre-activations, are exactly 0.
    model = video_models.build(
        frame_dim=5, units=3, initialization=video_models.Initialization(**recipes.get(recipe).init)
    )
    past, future = tf.zeros((2, 4, 5)), tf.fill((2, 3, 5), 0.25)
    biases = [model.decoder_layers[name].bias.value for name in model.outputs]
    with tf.GradientTape() as tape:
        x = model.training({"past": past, "future": future}, training=True)
        total = sum(
            tf.reduce_sum(OUTPUTS["logistic"].frame_losses(y, x[name]))
            for name, y in (("reconstruction", past), ("future", future))
        )
    assert not np.any(x["reconstruction"]) and not np.any(x["future"])
    reconstruction, future = tape.gradient(total, biases)
    np.testing.assert_allclose(reconstruction, 2 * 4 * (0.5 - 0.0), rtol=1e-6)
    np.testing.assert_allclose(future, 2 * 3 * (0.5 - 0.25), rtol=1e-6)


@pytest.mark.parametrize("compiled", [False, True])
def test_the_cross_entropy_of_steps_and_its_gradient_are_the_closed_form(compiled):
    # Equal logits, as of a softmax that starts at 0, and very unequal ones.
    logits = np.zeros((2, 3, 4), "float32")
    logits[1, 1] = [0.0, 0.0, 50.0, -50.0]
    labels = np.array([2, 1])

    @tf.function(jit_compile=compiled, autograph=False)
    def run(x):
        with tf.GradientTape() as tape:
            tape.watch(x)
            loss = classifiers.step_cross_entropy(tf.constant(labels), x)
        return loss, tape.gradient(loss, x)

    loss, gradient = run(tf.constant(logits))
    chosen = np.eye(4)[labels][:, None]
    exponents = np.exp(np.float64(logits))
    softmax = exponents / exponents.sum(-1, keepdims=True)
    assert float(loss) == pytest.approx(-np.log((softmax * chosen).sum(-1)).mean(), rel=1e-6)
    np.testing.assert_allclose(gradient, (softmax - chosen) / 6, atol=1e-7)


def test_squared_loss_by_hand():
    targets = np.array([[1.0, 2.0, 3.0]])
    predictions = np.array([[0.0, -2.0, 5.0]])
    assert float(OUTPUTS["linear"].frame_losses(targets, predictions)[0]) == 0.5 * (1 + 16 + 4)
    assert float(OUTPUTS["relu"].frame_losses(targets, predictions)[0]) == 0.5 * (1 + 4 + 4)


def test_what_frame_scaling_needs_is_measured():
    class Softplus(Output):
        def activate(self, x):
            return ops.softplus(x)

    found = {name: output.is_homogeneous for name, output in OUTPUTS.items()}
    assert found == {"logistic": False, "linear": True, "relu": True}
    assert not Softplus().is_homogeneous


def test_limits_are_those_of_the_frames_that_an_output_can_write():
    x = np.float32([-np.inf, 0, np.inf])
    for output in OUTPUTS.values():
        frames = ops.convert_to_numpy(output.activate(x))
        assert output.limits == (frames.min(), frames.max())


@pytest.mark.parametrize("output", ["logistic", "linear", "relu"])
def test_scores_of_finished_frames_equal_losses_of_pre_activations(output):
    rng = np.random.default_rng(1)
    x = rng.normal(0, 3, (2, 5, 30)).astype("float32")
    y = rng.random((2, 5, 30), dtype="float32")
    frames = {"logistic": 1 / (1 + np.exp(-np.float64(x))), "linear": x, "relu": np.maximum(x, 0)}
    np.testing.assert_allclose(
        OUTPUTS[output].frame_scores(y, frames[output]),
        OUTPUTS[output].frame_losses(y, x),
        rtol=1e-5,
    )


def test_floors_by_hand():
    rng = np.random.default_rng(2)
    past = rng.random((3, 4, 6))
    past[:, -1] = np.round(past[:, -1])
    targets = rng.random((3, 5, 6))
    mean_frame = rng.uniform(0.1, 0.9, 6)

    def cross_entropy(y, p):
        return (-y * np.log(p) - (1 - y) * np.log(1 - p)).sum(-1).mean()

    floors = OUTPUTS["logistic"].floors(past, targets, mean_frame)
    assert floors["entropy"] == pytest.approx(entropy(targets).mean(), rel=1e-5)
    last = np.where(past[:, -1:] > 0.5, 0.99, 0.01)
    assert floors["copy_last"] == pytest.approx(cross_entropy(targets, last))
    assert floors["mean_frame"] == pytest.approx(cross_entropy(targets, mean_frame))

    floors = OUTPUTS["linear"].floors(past, targets, mean_frame)
    assert floors["entropy"] == 0
    squared = 0.5 * ((targets - past[:, -1:]) ** 2).sum(-1).mean()
    assert floors["copy_last"] == pytest.approx(squared)


def test_no_prediction_beats_the_entropy():
    rng = np.random.default_rng(3)
    y = rng.random((10, 20))
    for _ in range(20):
        guess = np.clip(y + rng.normal(0, 0.1, y.shape), 0.01, 0.99)
        assert (OUTPUTS["logistic"].frame_scores(y, guess) > entropy(y)).all()


@pytest.mark.parametrize("output", OUTPUTS)
def test_the_bias_of_a_frame_predicts_that_frame(output):
    frame = np.array([0.05, 0.5, 0.95])
    bias = OUTPUTS[output].bias(frame)
    np.testing.assert_allclose(OUTPUTS[output].activate(bias), frame, rtol=1e-6)


def test_units_of_one_or_several_losses():
    two = {"reconstruction": OUTPUTS["logistic"], "future": OUTPUTS["linear"]}
    assert frame_units({"future": OUTPUTS["logistic"]}) == "nats/frame"
    assert frame_units(dict.fromkeys(two, OUTPUTS["relu"])) == "squared loss/frame"
    assert frame_units(two) == "nats/frame (reconstruction), squared loss/frame (future)"
