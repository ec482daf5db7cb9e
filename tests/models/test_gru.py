"""The GRU against `keras.layers.GRU(reset_after=True)`, and as a cell of models."""

import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from unsup_video.models import cells, classifiers, fast_loop, video_models
from unsup_video.models.cells import GRU, portable

B, T, D, UNITS = 2, 4, 5, 3

both_inputs = pytest.mark.parametrize("has_input", [True, False], ids=["input", "no_input"])


def random_layer(has_input=True, units=UNITS, **options):
    """A layer with random weights."""
    layer = GRU(units, **options)
    layer.build((None, None, D) if has_input else None)
    rng = np.random.default_rng(0)
    for weight in layer.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    return layer


def random_tensors(has_input, batch=B, steps=T, units=UNITS):
    """The inputs, where there are some, and the initial state."""
    rng = np.random.default_rng(1)
    shapes = {"h0": (batch, units), **({"inputs": (batch, steps, D)} if has_input else {})}
    return {name: tf.constant(rng.normal(size=s), "float32") for name, s in shapes.items()}


def loss_weights(batch=B, steps=T, units=UNITS):
    rng = np.random.default_rng(2)
    shapes = {"sequence": (batch, steps, units), "h": (batch, units)}
    return {name: np.float32(rng.normal(size=shape)) for name, shape in shapes.items()}


def differentiated(call, tensors, weights):
    """Outputs of a call, and the gradient of <outputs, loss_weights> for tensors and weights."""
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        outputs = dict(zip(("sequence", "h"), call(tensors), strict=True))
        shape = outputs["sequence"].shape
        loss = sum(tf.reduce_sum(x * loss_weights(*shape)[name]) for name, x in outputs.items())
    gradients = tape.gradient(loss, {**tensors, **weights})
    return outputs | {f"d_{name}": gradient for name, gradient in gradients.items()}


def results(layer, tensors, steps=T):
    def call(tensors):
        return layer(tensors.get("inputs"), initial_state=[tensors["h0"]], steps=steps)

    return differentiated(call, tensors, {w.name: w.value for w in layer.weights})


def keras_results(layer, tensors, steps=T):
    """The same of Keras' own GRU with these weights; without input it reads zeros."""
    own = keras.layers.GRU(layer.units, return_sequences=True, return_state=True, reset_after=True)
    kernel = np.zeros((1, 3 * layer.units)) if layer.kernel is None else layer.kernel.numpy()
    own.build((None, None, len(kernel)))
    biases = np.stack([layer.bias.numpy(), layer.recurrent_bias.numpy()])
    own.set_weights([kernel, layer.recurrent_kernel.numpy(), biases])

    def call(tensors):
        zeros = tf.zeros((len(tensors["h0"]), steps, 1))
        return own(tensors.get("inputs", zeros), initial_state=tensors["h0"])

    found = differentiated(call, tensors, {w.name: w.value for w in own.weights})
    found["d_bias"], found["d_recurrent_bias"] = tf.unstack(found["d_bias"])
    if layer.kernel is None:
        del found["d_kernel"]
    return found


def assert_close(actual, expected, tolerance=1e-5):
    """Same names; each array within `tolerance` of the expected one's largest element."""
    assert set(actual) == set(expected)
    for name in expected:
        x, y = np.float64(actual[name]), np.float64(expected[name])
        assert x.shape == y.shape, name
        assert np.abs(y).max() > 0, name
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max(), name


# Numbers.


@both_inputs
@pytest.mark.parametrize("steps", [1, T, 40], ids=lambda steps: f"{steps}_steps")
def test_outputs_and_gradient_equal_keras(has_input, steps):
    layer, tensors = random_layer(has_input), random_tensors(has_input, steps=steps)
    assert_close(results(layer, tensors, steps), keras_results(layer, tensors, steps))


@both_inputs
def test_the_portable_loop_equals_keras(has_input):
    layer, tensors = random_layer(has_input), random_tensors(has_input)
    with portable():
        found = results(layer, tensors)
    assert_close(found, keras_results(layer, tensors))


@both_inputs
@pytest.mark.parametrize("batch", [None, 1])
def test_a_graph_of_unknown_sizes_and_a_while_loop_equal_keras(has_input, batch, monkeypatch):
    layer = random_layer(has_input)
    unknown = {"h0": tf.TensorSpec((batch, UNITS))}
    if has_input:
        unknown["inputs"] = tf.TensorSpec((batch, None, D))
    monkeypatch.setattr(fast_loop, "_MAX_UNROLLED_STEPS", 0)

    @tf.function(input_signature=[unknown, tf.TensorSpec((), "int32")])
    def graph(tensors, steps):
        return layer(tensors.get("inputs"), initial_state=[tensors["h0"]], steps=steps)

    looped = tf.function(lambda tensors: results(layer, tensors))
    for steps in (T, 7):
        tensors = random_tensors(has_input, batch or B, steps)
        expected = keras_results(layer, tensors, steps)
        sequence, h = graph(tensors, steps)
        assert_close({"sequence": sequence, "h": h}, {k: expected[k] for k in ("sequence", "h")})
    tensors = random_tensors(has_input)
    assert_close(looped(tensors), keras_results(layer, tensors))


@both_inputs
def test_steps_one_by_one_and_chained_runs_equal_a_call(has_input):
    layer, tensors = random_layer(has_input), random_tensors(has_input)
    inputs, state = tensors.get("inputs"), [tensors["h0"]]
    sequence, _ = layer(inputs, initial_state=state, steps=T)
    parts = (inputs[:, :1], inputs[:, 1:]) if has_input else (None, None)
    first, *middle = layer(parts[0], initial_state=state, steps=1)
    second, _ = layer(parts[1], initial_state=middle, steps=T - 1)
    np.testing.assert_allclose(np.concatenate([first, second], 1), sequence, atol=1e-6)
    for t in range(T):
        state = layer.step(inputs[:, t] if has_input else None, state)
        np.testing.assert_allclose(state[0], sequence[:, t], atol=1e-6)


@both_inputs
def test_gates_and_candidate_make_the_output(has_input):
    layer, tensors = random_layer(has_input), random_tensors(has_input)
    call = {"initial_state": [tensors["h0"]], "steps": T}
    gates = {k: np.asarray(v) for k, v in layer.gates(tensors.get("inputs"), **call).items()}
    assert list(gates) == ["update_gate", "reset_gate", "input", "output"]
    sequence, _ = layer(tensors.get("inputs"), **call)
    np.testing.assert_allclose(gates["output"], sequence, atol=1e-6)
    before = np.concatenate([tensors["h0"][:, None], gates["output"][:, :-1]], axis=1)
    z = gates["update_gate"]
    np.testing.assert_allclose(z * before + (1 - z) * gates["input"], sequence, atol=1e-6)
    r = gates["reset_gate"]  # on what the state adds to the candidate
    w, b, d = (
        x.numpy()[..., 2 * UNITS :]
        for x in (layer.recurrent_kernel, layer.bias, layer.recurrent_bias)
    )
    x = tensors["inputs"] @ layer.kernel[:, 2 * UNITS :] if has_input else 0
    np.testing.assert_allclose(np.tanh(x + b + r * (before @ w + d)), gates["input"], atol=1e-5)
    for name, (low, high) in layer.gate_ranges.items():
        assert gates[name].min() >= low and gates[name].max() <= high


def test_bfloat16_products_are_close_to_float32():
    tensors = random_tensors(True)
    exact, rounded = (
        results(random_layer(gemm_dtype=dtype), tensors) for dtype in (None, "bfloat16")
    )
    assert {x.dtype for x in rounded.values()} == {tf.float32}
    assert_close(rounded, exact, 5e-2)
    for name in exact:
        assert np.abs(rounded[name] - exact[name]).max() > 1e-5, name


# Weights and configuration.


def test_its_weights_and_how_they_start():
    layer = GRU(UNITS, forget_bias=1.5)
    layer.build((None, None, D))
    assert {w.name: w.shape for w in layer.weights} == {
        "kernel": (D, 3 * UNITS),
        "recurrent_kernel": (UNITS, 3 * UNITS),
        "recurrent_bias": (3 * UNITS,),
        "bias": (3 * UNITS,),
    }
    np.testing.assert_array_equal(layer.bias, np.repeat([1.5, 0, 0], UNITS))
    np.testing.assert_array_equal(layer.recurrent_bias, np.zeros(3 * UNITS))


def test_configuration_round_trip():
    layer = GRU(7, 0.5, "zeros", "ones", "ones", "bfloat16", name="some_gru")
    copy = GRU.from_config(json.loads(json.dumps(layer.get_config())))
    assert copy.get_config() == layer.get_config()
    assert (copy.name, copy.units, copy.forget_bias) == ("some_gru", 7, 0.5)


# In models.

MODEL = {"frame_dim": D, "units": UNITS, "layers": 2, "cell": "gru"}
CONDITIONAL = {"conditional_reconstruction": True, "conditional_future": True}


def random_model(**options):
    model = video_models.build(**MODEL, **options)
    rng = np.random.default_rng(3)
    for weight in model.training.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    return model


def test_a_composite_of_grus_equals_its_units_step_by_step():
    model = random_model(**CONDITIONAL)
    assert [cell.name for cell in model.cells] == ["encoder_gru_1", "encoder_gru_2"]
    past = np.random.default_rng(4).random((B, T, D), np.float32)
    states = [np.zeros((B, UNITS), np.float32)] * 2
    for t in range(T):
        x = past[:, t]
        for k, cell in enumerate(model.cells):
            (x,) = (states[k],) = cell.step(x, [states[k]])
    for found, expected in zip(model.encode(past), states, strict=True):
        np.testing.assert_allclose(found, expected, atol=1e-6)
    decoder, copied, x, written = model.decoder_layers["future"], [*states], past[:, 0] * 0, []
    for _ in range(6):
        h = x
        for k, cell in enumerate(decoder.cells):
            (h,) = (copied[k],) = cell.step(h, [copied[k]])
        x = np.asarray(h) @ decoder.kernel.numpy() + decoder.bias.numpy()
        x = 1 / (1 + np.exp(-x))
        written.append(x)
    found = model.inference({"past": past, "clock": np.zeros((B, 6), np.float32)})["future"]
    np.testing.assert_allclose(found, np.stack(written, 1), atol=1e-5)


@pytest.mark.parametrize("conditional", [{}, CONDITIONAL], ids=["unconditional", "conditional"])
def test_a_saved_model_gives_equal_outputs(conditional, tmp_path):
    model = random_model(**conditional)
    rng = np.random.default_rng(5)
    inputs = {name: rng.random((B, n, D), np.float32) for name, n in (("past", T), ("future", 3))}
    model.training.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)
    for name, x in model.training(inputs).items():
        np.testing.assert_array_equal(loaded(inputs)[name], x)


def test_a_classifier_starts_from_a_gru_encoder_alone():
    model = random_model(output="linear", frame_scaling=True)
    options = {"frame_dim": D, "units": UNITS, "layers": 2, "dropout": 0.0}
    classifier = classifiers.build(("a", "b"), cell="gru", **options)
    copied = classifiers.copy_encoder(model, classifier)
    assert "encoder_gru_2/recurrent_bias" in copied and len(copied) == 9
    frames = np.random.default_rng(6).random((B, T, D), np.float32)
    x = classifier.read(frames)
    for cell in classifier.cells:
        x, h = cell(x)
    np.testing.assert_allclose(h, model.encoder(frames)[-1], atol=1e-6)
    with pytest.raises(ValueError, match="encoder_gru_1/bias: .* in the encoder, missing here"):
        classifiers.copy_encoder(model, classifiers.build(("a", "b"), **options))


def test_an_unknown_cell_is_an_error():
    with pytest.raises(ValueError, match="unknown cell 'rnn': one of lstm, gru"):
        video_models.build(frame_dim=D, units=UNITS, cell="rnn")


def test_a_cell_needs_a_step_and_the_table_alone(monkeypatch):
    """One without gates, biases of its own or a fast loop: h_t = tanh(W x_t + b + R h_{t-1})."""

    class Plain(cells.RecurrentLayer):
        def _cell(self, projected, state, recurrent_kernel):
            product = self._recurrent_product(state[0], recurrent_kernel)
            return [keras.ops.tanh(projected + product)], {}

    monkeypatch.setitem(cells.CELLS, "plain", Plain)
    model = video_models.build(**{**MODEL, "layers": 1, "cell": "plain"})
    past = np.random.default_rng(7).random((B, T, D), np.float32)
    own = keras.layers.SimpleRNN(UNITS)
    own.build((None, None, D))
    (cell,) = model.cells
    own.set_weights([w.numpy() for w in (cell.kernel, cell.recurrent_kernel, cell.bias)])
    (h,) = model.encode(past)
    np.testing.assert_allclose(h, own(past), atol=1e-6)
    assert list(cell.gates(past)) == ["output"]
    with tf.GradientTape() as tape:
        x = model.training({"past": past, "future": past[:, :3]})
        loss = sum(tf.reduce_sum(value) for value in x.values())
    gradients = tape.gradient(loss, [w.value for w in model.training.trainable_weights])
    assert all(np.abs(gradient).max() > 0 for gradient in gradients)
