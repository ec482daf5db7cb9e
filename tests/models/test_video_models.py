import itertools

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

from unsup_video.models import video_models
from unsup_video.models.outputs import OUTPUTS

B, T, S, D, UNITS = 2, 4, 5, 7, 3
DECODERS = {  # written out again, independently of the package
    "autoencoder": ["reconstruction"],
    "future_predictor": ["future"],
    "composite": ["reconstruction", "future"],
}
NONLINEARITIES = {
    "logistic": lambda x: 1 / (1 + np.exp(-x)),
    "linear": lambda x: x,
    "relu": lambda x: np.maximum(x, 0),
}
BOTH = {"conditional_reconstruction": True, "conditional_future": True}
neither_or_both = pytest.mark.parametrize(
    "conditional", [{}, BOTH], ids=["unconditional", "conditional"]
)


def frames(*shape, seed=0):
    return np.random.default_rng(seed).random(shape, dtype="float32")


def model_of(kind="composite", **options):
    """A tiny model with random weights, biases and peepholes too."""
    model = video_models.build(kind, frame_dim=D, units=UNITS, **options)
    rng = np.random.default_rng(1)
    for weight in model.training.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    return model


def trained_on(model, past, future):
    """Outputs of the training form, as numpy arrays."""
    outputs = model.training({"past": past, "future": future})
    return {name: np.asarray(x) for name, x in outputs.items()}


def inferred(model, past, clock):
    outputs = model.inference({"past": past, "clock": clock})
    return {name: np.asarray(x) for name, x in outputs.items()}


def ticks(steps, batch=B):
    return np.zeros((batch, steps), "float32")


def changed_positions(x, y):
    """Time steps at which two (B, S, D) arrays are not bit-equal."""
    return np.flatnonzero((x != y).any(axis=(0, 2))).tolist()


def assert_close(actual, expected, tolerance=1e-5):
    assert set(actual) == set(expected)
    for name, x in expected.items():
        np.testing.assert_allclose(actual[name], x, rtol=0, atol=tolerance, err_msg=name)


def lstm_parameters(inputs, units, use_peepholes):
    gates = 4 * (inputs * units + units * units + units)
    return gates + (3 * units if use_peepholes else 0)


def variants():
    """Every kind with every combination of conditional flags that it has."""
    for kind, names in DECODERS.items():
        for flags in itertools.product([False, True], repeat=len(names)):
            yield kind, dict(zip(names, flags, strict=True))


# Structure.


@pytest.mark.parametrize("layers", [1, 2, 3])
@pytest.mark.parametrize("use_peepholes", [True, False], ids=["peepholes", "no_peepholes"])
def test_parameter_counts(layers, use_peepholes):
    for kind, conditional in variants():
        model = video_models.build(
            kind,
            frame_dim=11,
            units=5,
            layers=layers,
            use_peepholes=use_peepholes,
            **{f"conditional_{name}": flag for name, flag in conditional.items()},
        )
        upper = (layers - 1) * lstm_parameters(5, 5, use_peepholes)
        encoder = lstm_parameters(11, 5, use_peepholes) + upper
        decoders = {
            name: lstm_parameters(11 if flag else 0, 5, use_peepholes) + upper + 5 * 11 + 11
            for name, flag in conditional.items()
        }
        assert model.encoder.count_params() == encoder
        assert {name: x.count_params() for name, x in model.decoders.items()} == decoders
        for form in (model.training, model.free_running, model.inference):
            assert form.count_params() == encoder + sum(decoders.values()), (kind, conditional)
        assert model.outputs == tuple(conditional)
        assert model.conditional == tuple(name for name, flag in conditional.items() if flag)


def test_all_forms_share_the_same_variables():
    model = model_of(layers=2, **BOTH)

    def variables(*forms):
        return {id(weight) for form in forms for weight in form.weights}

    training = variables(model.training)
    assert len(training) == len(model.training.trainable_weights) == 6 * 4 + 2 * 2
    assert training == variables(model.free_running) == variables(model.inference)
    assert training == variables(model.encoder, *model.decoders.values())


@neither_or_both
def test_encoder_then_decoders_equal_inference(conditional):
    model, past = model_of(layers=2, **conditional), frames(B, T, D)
    states = model.encoder(past)
    assert [x.shape for x in states] == [(B, UNITS)] * 4
    apart = {
        name: model.decoders[name]({"states": states, "clock": tf.zeros((B, steps))})
        for name, steps in {"reconstruction": T, "future": S}.items()
    }
    assert_close(apart, inferred(model, past, ticks(S)))


@pytest.mark.parametrize("output", NONLINEARITIES)
def test_the_composite_equals_its_units_step_by_step(output):
    # The paper's wiring by hand: layer k + 1 reads layer k, each layer's state is copied to the
    # same layer of each decoder, the first step has no frame, the top layer writes the frame.
    model = model_of(layers=2, output=output, **BOTH)
    past = frames(B, T, D)
    state = {k: [np.zeros((B, UNITS), "float32")] * 2 for k in (1, 2)}
    for t in range(T):
        x = past[:, t]
        for k in (1, 2):
            state[k] = model.encoder.get_layer(f"encoder_lstm_{k}").step(x, state[k])
            x = state[k][0]

    expected = {}
    for name, steps in {"reconstruction": T, "future": S}.items():
        decoder, copied, x, written = model.decoder_layers[name], dict(state), ticks(D), []
        for _ in range(steps):
            for k in (1, 2):
                copied[k] = decoder.cells[k - 1].step(x, copied[k])
                x = copied[k][0]
            x = np.asarray(x) @ decoder.kernel.numpy() + decoder.bias.numpy()
            x = NONLINEARITIES[output](x)
            written.append(x)
        expected[name] = np.stack(written, axis=1)
    assert_close(inferred(model, past, ticks(S)), expected)


# Teachers: which frame reaches which output.


def test_the_reconstruction_is_taught_the_past_in_reverse():
    model = model_of("autoencoder", conditional_reconstruction=True)
    # An encoder that does not see its input, so that the past reaches the output as teacher only.
    encoder = model.encoder.get_layer("encoder_lstm_1")
    encoder.kernel.assign(np.zeros(encoder.kernel.shape))
    past = frames(B, T, D)
    before = trained_on(model, past, frames(B, S, D))["reconstruction"]
    assert before.shape == (B, T, D)
    # The output at position j is v_{T-j}, counting from 0, and reads v_{T-j+1} and later ones.
    for frame, positions in {3: [1, 2, 3], 2: [2, 3], 1: [3], 0: []}.items():
        other = past.copy()
        other[:, frame] = frames(B, D, seed=1)
        after = trained_on(model, other, frames(B, S, D))["reconstruction"]
        assert changed_positions(before, after) == positions


def test_a_future_frame_reaches_only_later_outputs():
    model = model_of(layers=2, **BOTH)
    past, future = frames(B, T, D), frames(B, S, D)
    before = trained_on(model, past, future)
    for k in range(S):
        other = future.copy()
        other[:, k:] = frames(B, S - k, D, seed=1)
        after = trained_on(model, past, other)
        assert changed_positions(before["future"], after["future"]) == list(range(k + 1, S))
        np.testing.assert_array_equal(before["reconstruction"], after["reconstruction"])


@pytest.mark.parametrize("kind", DECODERS)
def test_an_unconditional_decoder_never_sees_the_future(kind):
    model, past = model_of(kind), frames(B, T, D)
    expected = trained_on(model, past, frames(B, S, D))
    for future in (frames(B, S, D, seed=1), np.full((B, S, D), np.nan, "float32")):
        for name, x in trained_on(model, past, future).items():
            assert np.isfinite(x).all()
            np.testing.assert_array_equal(x, expected[name])


@pytest.mark.parametrize("kind", DECODERS)
@pytest.mark.parametrize("form", ["free_running", "inference"])
def test_free_running_outputs_never_see_the_future(kind, form):
    # The only input besides the past is the clock: give it the future, and then another one.
    flags = {f"conditional_{name}": True for name in DECODERS[kind]}
    model, past = getattr(model_of(kind, **flags), form), frames(B, T, D)
    expected = model({"past": past, "clock": ticks(S)})
    for content in (frames(B, S), np.full((B, S), np.nan, "float32")):
        for name, x in model({"past": past, "clock": content}).items():
            assert np.isfinite(x).all()
            np.testing.assert_array_equal(x, expected[name])


def test_unconditional_outputs_are_the_same_in_training_and_free_running():
    model, past = model_of(layers=2), frames(B, T, D)
    free = model.free_running({"past": past, "clock": ticks(S)})
    assert_close(trained_on(model, past, frames(B, S, D)), free)


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("output", NONLINEARITIES)
def test_own_outputs_as_teacher_equal_feedback(output, layers):
    # Causality makes the feedback path the only frames that a decoder maps to themselves.
    model, past = model_of(layers=layers, output=output, **BOTH), frames(B, T, D)
    states, own = model.encoder(past), inferred(model, past, ticks(S))
    taught = {}
    for name, decoder in model.decoder_layers.items():
        x = decoder(states, clock=own[name], teacher=own[name])
        taught[name] = NONLINEARITIES[output](np.asarray(x))
    assert_close(taught, own)
    future = trained_on(model, past, own["future"])["future"]
    np.testing.assert_allclose(NONLINEARITIES[output](future), own["future"], rtol=0, atol=1e-5)
    # The frames differ enough over time for a wrong one to show.
    assert np.abs(np.diff(own["future"], axis=1)).max() > 0.01


@pytest.mark.parametrize("layers", [1, 2])
@pytest.mark.parametrize("output", NONLINEARITIES)
def test_trained_on_own_frames_a_decoder_runs_in_training_as_it_does_afterwards(output, layers):
    model = model_of(layers=layers, output=output, conditional_input="own", **BOTH)
    past = frames(B, T, D)
    free = model.free_running({"past": past, "clock": ticks(S)})
    # Of the future only the length counts, so it may be anything.
    for future in (frames(B, S, D), np.full((B, S, D), np.nan, "float32")):
        assert_close(trained_on(model, past, future), free)
    taught = model.teacher_forced({"past": past, "future": frames(B, S, D)})
    assert np.abs(taught["future"] - free["future"]).max() > 0.01


@pytest.mark.parametrize("output", NONLINEARITIES)
def test_inference_is_free_running_after_the_nonlinearity(output):
    model, past = model_of(output=output, **BOTH), frames(B, T, D)
    before = model.free_running({"past": past, "clock": ticks(S)})
    expected = {name: NONLINEARITIES[output](np.asarray(x)) for name, x in before.items()}
    assert_close(inferred(model, past, ticks(S)), expected)


def test_a_decoder_may_have_an_output_of_its_own():
    model, past = model_of(output="linear", output_future="logistic", **BOTH), frames(B, T, D)
    before = model.free_running({"past": past, "clock": ticks(S)})
    kinds = {"reconstruction": "linear", "future": "logistic"}
    expected = {name: NONLINEARITIES[of](np.asarray(before[name])) for name, of in kinds.items()}
    assert_close(inferred(model, past, ticks(S)), expected)
    assert model.limits == (0, 1)  # both decoders have the same frames for targets
    model.start_at(np.full(D, 0.25, "float32"))
    np.testing.assert_array_equal(model.decoder_layers["reconstruction"].bias, np.float32(0.25))
    bias = model.decoder_layers["future"].bias.numpy()
    np.testing.assert_allclose(bias, np.log(0.25 / 0.75), rtol=1e-6)


# Sizes at call time, graphs, precision, files.


@neither_or_both
def test_the_horizon_is_chosen_at_call_time(conditional):
    model, past = model_of(layers=2, **conditional), frames(B, T, D)
    assert trained_on(model, past, frames(B, 10, D))["future"].shape == (B, 10, D)
    inference = tf.function(lambda past, clock: model.inference({"past": past, "clock": clock}))
    short, long = inference(past, ticks(10)), inference(past, ticks(100))
    assert short["future"].shape == (B, 10, D)
    assert long["future"].shape == (B, 100, D)
    assert np.isfinite(long["future"]).all()
    np.testing.assert_allclose(long["future"][:, :10], short["future"], rtol=0, atol=1e-5)
    np.testing.assert_allclose(long["reconstruction"], short["reconstruction"], rtol=0, atol=1e-5)


@pytest.mark.parametrize("batch", [1, B])
@neither_or_both
def test_graph_equals_eager(conditional, batch):
    model = model_of(layers=2, **conditional)
    past, future = frames(batch, T, D), frames(batch, S, D)
    for form, inputs in {
        model.training: {"past": past, "future": future},
        model.inference: {"past": past, "clock": ticks(S, batch)},
    }.items():
        eager, graph = form(inputs), tf.function(form)(inputs)
        assert graph["reconstruction"].shape == (batch, T, D)
        assert graph["future"].shape == (batch, S, D)
        assert_close(graph, eager)


def test_bfloat16_products_keep_float32_outputs():
    # Also through each decoder's output layer and feedback path.
    past, outputs = frames(B, T, D), {}
    for gemm_dtype in (None, "bfloat16"):
        model = model_of(gemm_dtype=gemm_dtype, **BOTH)
        outputs[gemm_dtype] = inferred(model, past, ticks(S))
    assert_close(outputs["bfloat16"], outputs[None], 2e-2)
    for name, x in outputs["bfloat16"].items():
        assert x.dtype == "float32"
        assert np.abs(x - outputs[None][name]).max() > 1e-5


@neither_or_both
def test_saved_models_give_equal_outputs(conditional, tmp_path):
    model = model_of(layers=2, **conditional)
    inputs = {"past": frames(B, T, D), "future": frames(B, S, D), "clock": ticks(S)}
    for form in (model.training, model.inference):
        form.save(tmp_path / "model.keras")
        loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
        used = {name: inputs[name] for name in form.input}
        for name, x in form(used).items():
            np.testing.assert_array_equal(loaded(used)[name], x)


# Weights.


def test_a_seed_gives_the_weights():
    def weights(seed):
        keras.utils.set_random_seed(seed)
        model = video_models.build(
            frame_dim=D,
            units=UNITS,
            layers=2,
            initialization=video_models.Initialization(peepholes=0.1),
            **BOTH,
        )
        return [weight.numpy() for weight in model.training.weights]

    first, again, other = weights(3), weights(3), weights(4)
    for x, y, z in zip(first, again, other, strict=True):
        np.testing.assert_array_equal(x, y)
        assert (x == z).all() == (not x.any())  # only the biases, which start at zero
    for x, y in itertools.combinations([x for x in first if x.any()], 2):
        assert x.shape != y.shape or (x != y).all()  # no two layers start alike


def test_the_papers_initial_weights():
    keras.utils.set_random_seed(0)
    model = video_models.build(frame_dim=90, units=40, layers=2, **BOTH)
    assert len(model.training.weights) == 28
    for weight in model.training.weights:
        value = weight.numpy()
        if weight.name in ("kernel", "recurrent_kernel"):
            limit = 1 / np.sqrt(len(value))  # the first axis is the fan-in: 90 or 40
            assert 0.99 * limit < np.abs(value).max() <= limit
            assert value.std() == pytest.approx(limit / np.sqrt(3), rel=0.05)
        else:
            assert weight.name in ("bias", "peepholes")
            assert not value.any()


def test_other_initial_weights():
    keras.utils.set_random_seed(0)
    initialization = video_models.Initialization(kernel=0.01, peepholes=0.2, forget_bias=1.0)
    model = video_models.build(frame_dim=90, units=40, initialization=initialization, **BOTH)
    for weight in model.training.weights:
        value = weight.numpy()
        if weight.name in ("kernel", "recurrent_kernel"):
            assert 0.0099 < np.abs(value).max() <= 0.01
        elif weight.name == "peepholes":
            assert 0.18 < np.abs(value).max() <= 0.2
        else:
            is_forget = np.arange(value.size) // 40 == 1 if value.size == 160 else 0.0
            np.testing.assert_array_equal(value, is_forget * np.ones(value.size))


@pytest.fixture
def float64():
    for set_to in (keras.config.set_floatx, keras.config.set_dtype_policy):
        set_to("float64")
    yield
    for set_to in (keras.config.set_floatx, keras.config.set_dtype_policy):
        set_to("float32")


@pytest.mark.parametrize("shape", [(6, 9), (6, 9, 3)], ids=["grey", "colour"])
def test_kernels_over_pixels_start_as_smooth_as_asked_for(shape):
    sigma, dim = 1.5, int(np.prod(shape))
    keras.utils.set_random_seed(0)
    model = video_models.build(frame_dim=dim, units=5, layers=2, **BOTH)
    before = {w.path: w.numpy() for w in model.training.weights}
    model.blur_pixel_kernels(shape, sigma)
    pixel_kernels = 0
    for weight in model.training.weights:
        old, new = before[weight.path], weight.numpy()
        if dim not in old.shape or old.ndim == 1:
            np.testing.assert_array_equal(new, old)
            continue
        pixel_kernels += 1
        if old.shape[0] == dim:
            old, new = old.T, new.T
        # The oracle is OpenCV, which pads with the mirror image too and filters in float64 here.
        grids = np.float64(old).reshape(-1, *shape)
        expected = np.stack(
            [cv2.GaussianBlur(g, (15, 15), sigma, borderType=cv2.BORDER_REFLECT) for g in grids]
        ).reshape(old.shape)
        norm, smooth = (np.linalg.norm(x, axis=1, keepdims=True) for x in (old, expected))
        expected *= norm / smooth
        np.testing.assert_allclose(new, expected, rtol=0, atol=1e-3 * np.abs(old).max())
    assert pixel_kernels == 1 + 2 * 2  # the encoder's; each conditional decoder reads and writes


def test_no_blur_changes_no_kernel():
    model = video_models.build(frame_dim=12, units=3)
    before = [w.numpy() for w in model.training.weights]
    model.blur_pixel_kernels((3, 4), 0.0)
    for old, weight in zip(before, model.training.weights, strict=True):
        np.testing.assert_array_equal(weight.numpy(), old)


def test_a_feature_of_zeros_stays_zero_when_kernels_are_blurred():
    model = video_models.build(frame_dim=12, units=3)
    kernel = model.cells[0].kernel
    start = kernel.numpy()
    start[:, 1] = 0
    kernel.assign(start)
    model.blur_pixel_kernels((3, 4), 1.0)
    changed = (kernel.numpy() != start).any(axis=0)
    assert not changed[1] and changed.sum() == start.shape[1] - 1
    assert np.isfinite(kernel.numpy()).all()


@pytest.mark.parametrize("conditional_input", video_models.CONDITIONAL_INPUTS)
def test_the_gradient_of_the_loss_reaches_every_weight(float64, conditional_input):
    # Each weight is moved along its own gradient: the loss must change at the gradient's norm.
    model = model_of(layers=2, conditional_input=conditional_input, **BOTH)
    past, future = np.float64(frames(B, T, D)), np.float64(frames(B, S, D))

    @tf.function
    def loss():
        x = model.training({"past": past, "future": future})
        targets = {"reconstruction": past[:, ::-1], "future": future}
        return sum(
            tf.reduce_mean(OUTPUTS["logistic"].frame_losses(targets[name], x[name])) for name in x
        )

    weights = model.training.trainable_weights
    with tf.GradientTape() as tape:
        value = loss()
    gradients = tape.gradient(value, weights)
    assert len(weights) == 28
    for weight, gradient in zip(weights, gradients, strict=True):
        start, gradient = weight.numpy(), np.asarray(gradient)
        assert (gradient != 0).all(), weight.path
        step = 1e-5 * gradient / np.linalg.norm(gradient)
        weight.assign(start + step)
        above = float(loss())
        weight.assign(start - step)
        slope = (above - float(loss())) / 2e-5
        weight.assign(start)
        assert slope == pytest.approx(np.linalg.norm(gradient), rel=1e-5), weight.path


# Errors.


@pytest.mark.parametrize(
    "options, message",
    [
        ({"kind": "predictor"}, "unknown kind of model 'predictor'"),
        ({"output": "softmax"}, "unknown output 'softmax'"),
        ({"conditional_input": "true"}, "unknown conditional_input 'true': one of truth, own"),
        ({"frame_dim": 0}, "frame_dim must be at least 1, got 0"),
        ({"units": 0}, "units must be at least 1, got 0"),
        ({"layers": 0}, "layers must be at least 1, got 0"),
        ({"layers": -1}, "layers must be at least 1, got -1"),
        (
            {"kind": "autoencoder", "conditional_future": True},
            "conditional_future is set, but .*autoencoder",
        ),
        (
            {"kind": "future_predictor", "conditional_reconstruction": True},
            "conditional_reconstruction is set, but .*future_predictor",
        ),
        ({"output_future": "softmax"}, "unknown output 'softmax'"),
        (
            {"kind": "autoencoder", "output_future": "linear"},
            "output_future is set, but .*autoencoder",
        ),
        (
            {"output": "linear", "output_future": "logistic", "frame_scaling": True},
            "frame_scaling needs outputs that scale with their input, .* and logistic does not",
        ),
    ],
    ids=lambda x: "-".join(x) if isinstance(x, dict) else "",
)
def test_impossible_models_are_errors(options, message):
    with pytest.raises(ValueError, match=message):
        video_models.build(**{"frame_dim": D, "units": UNITS, **options})
