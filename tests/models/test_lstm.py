import collections
import json

import keras
import numpy as np
import pytest
import tensorflow as tf

from unsup_video.models import fast_loop
from unsup_video.models.cells import PeepholeLSTM, portable

B, T, D, UNITS = 2, 4, 5, 3
TENSORS = ("inputs", "h0", "c0")  # all other values are weights of the layer

both_inputs = pytest.mark.parametrize("has_input", [True, False], ids=["input", "no_input"])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def oracle(values, steps):
    """Gates, cell and output of every step, each (B, steps, units), from the paper's equations."""
    w_hi, w_hf, w_hc, w_ho = np.split(values["recurrent_kernel"], 4, axis=1)
    b_i, b_f, b_c, b_o = np.split(values["bias"], 4)
    w_ci, w_cf, w_co = values.get("peepholes", np.zeros((3, len(w_hi))))
    h, c = values["h0"], values["c0"]
    activity = collections.defaultdict(list)
    for t in range(steps):
        x_i = x_f = x_c = x_o = 0.0
        if "inputs" in values:
            x = values["inputs"][:, t]
            w_xi, w_xf, w_xc, w_xo = np.split(values["kernel"], 4, axis=1)
            x_i, x_f, x_c, x_o = x @ w_xi, x @ w_xf, x @ w_xc, x @ w_xo
        i = sigmoid(x_i + h @ w_hi + w_ci * c + b_i)
        f = sigmoid(x_f + h @ w_hf + w_cf * c + b_f)
        g = np.tanh(x_c + h @ w_hc + b_c)
        c = f * c + i * g
        o = sigmoid(x_o + h @ w_ho + w_co * c + b_o)
        h = o * np.tanh(c)
        step = dict(input_gate=i, forget_gate=f, output_gate=o, input=g, cell=c, output=h)
        for name, value in step.items():
            activity[name].append(value)
    return {name: np.stack(steps_of, axis=1) for name, steps_of in activity.items()}


def oracle_outputs(values, steps):
    activity = oracle(values, steps)
    h, c = activity["output"], activity["cell"]
    return {"sequence": h, "h": h[:, -1], "c": c[:, -1]}


def oracle_results(values, loss_weights, steps):
    """What `results` returns, with the gradient by central differences in float64."""
    epsilon = 1e-5

    def loss():
        outputs = oracle_outputs(values, steps)
        return sum((outputs[name] * loss_weights[name]).sum() for name in loss_weights)

    expected = oracle_outputs(values, steps)
    for name, value in values.items():
        gradient = expected[f"d_{name}"] = np.empty(value.shape)
        for at in np.ndindex(value.shape):
            start = value[at]
            value[at] = start + epsilon
            above = loss()
            value[at] = start - epsilon
            gradient[at] = (above - loss()) / (2 * epsilon)
            value[at] = start
    return expected


def random_values(has_input, use_peepholes=True, batch=B, steps=T, dim=D, units=UNITS):
    """Inputs and weights of a layer, float64 arrays of numbers that float32 holds exactly."""
    shapes = {
        "h0": (batch, units),
        "c0": (batch, units),
        "recurrent_kernel": (units, 4 * units),
        "bias": (4 * units,),
    }
    if has_input:
        shapes |= {"inputs": (batch, steps, dim), "kernel": (dim, 4 * units)}
    if use_peepholes:
        shapes["peepholes"] = (3, units)
    rng = np.random.default_rng(0)
    return {name: np.float64(np.float32(rng.normal(0, 0.7, s))) for name, s in shapes.items()}


def random_loss_weights(batch=B, steps=T, units=UNITS):
    """The loss's weight for each output: every h_t, and the last h and c once more."""
    rng = np.random.default_rng(1)
    shapes = {"sequence": (batch, steps, units), "h": (batch, units), "c": (batch, units)}
    return {name: rng.normal(size=shape) for name, shape in shapes.items()}


def layer_of(values, **options):
    """A layer with the given weights."""
    units = len(values["recurrent_kernel"])
    layer = PeepholeLSTM(units, use_peepholes="peepholes" in values, **options)
    layer.build(values["inputs"].shape if "inputs" in values else None)
    assert {w.name for w in layer.weights} == set(values) - set(TENSORS)
    for weight in layer.weights:
        weight.assign(values[weight.name])
    return layer


def tensors_of(values, dtype="float32"):
    return {name: tf.constant(values[name], dtype) for name in TENSORS if name in values}


def results(layer, tensors, loss_weights, steps=T):
    """Outputs of a call and the gradient of <outputs, loss_weights> for every tensor and weight."""
    weights = {w.name: w.value for w in layer.weights}
    with tf.GradientTape() as tape:
        tape.watch(tensors)
        state = [tensors["h0"], tensors["c0"]]
        outputs = layer(tensors.get("inputs"), initial_state=state, steps=steps)
        outputs = dict(zip(("sequence", "h", "c"), outputs, strict=True))
        loss = sum(
            tf.reduce_sum(x * tf.cast(loss_weights[name], x.dtype)) for name, x in outputs.items()
        )
    gradients = tape.gradient(loss, {**tensors, **weights})
    return outputs | {f"d_{name}": gradient for name, gradient in gradients.items()}


def assert_close(actual, expected, tolerance=1e-5):
    """Same names; each array within `tolerance` of the expected one's largest element."""
    assert set(actual) == set(expected)
    for name in expected:
        x, y = np.float64(actual[name]), np.float64(expected[name])
        assert x.shape == y.shape, name
        assert np.abs(y).max() > 0, name
        assert np.abs(x - y).max() <= tolerance * np.abs(y).max(), name


def traced(function, *arguments):
    return tf.function(function).get_concrete_function(*arguments)


def operations(concrete_function):
    """How often the graph of a function, with those it calls, has each type of operation."""
    graph = concrete_function.graph.as_graph_def()
    graphs = [graph.node, *(f.node_def for f in graph.library.function)]
    return collections.Counter(node.op for nodes in graphs for node in nodes)


# Numbers.


@both_inputs
@pytest.mark.parametrize("use_peepholes", [True, False], ids=["peepholes", "no_peepholes"])
def test_outputs_and_gradient_equal_the_equations(has_input, use_peepholes):
    values, loss_weights = random_values(has_input, use_peepholes), random_loss_weights()
    actual = results(layer_of(values), tensors_of(values), loss_weights)
    assert_close(actual, oracle_results(values, loss_weights, T))


def test_a_float64_layer_equals_the_equations_to_float64():
    values, loss_weights = random_values(has_input=True), random_loss_weights()
    actual = results(layer_of(values, dtype="float64"), tensors_of(values, "float64"), loss_weights)
    assert_close(actual, oracle_results(values, loss_weights, T), 1e-8)


def test_outputs_and_gradient_equal_block_lstm():
    values, loss_weights = random_values(has_input=True), random_loss_weights()
    variables = {name: tf.constant(value, "float32") for name, value in values.items()}

    def reordered(x):  # our i, f, g, o -> BlockLSTM's i, g, f, o
        i, f, g, o = tf.split(x, 4, axis=-1)
        return tf.concat([i, g, f, o], axis=-1)

    with tf.GradientTape() as tape:
        tape.watch(variables)
        w_ci, w_cf, w_co = tf.unstack(variables["peepholes"])
        block = tf.raw_ops.BlockLSTM(
            seq_len_max=tf.constant(T, "int64"),
            x=tf.transpose(variables["inputs"], (1, 0, 2)),
            cs_prev=variables["c0"],
            h_prev=variables["h0"],
            w=reordered(tf.concat([variables["kernel"], variables["recurrent_kernel"]], axis=0)),
            wci=w_ci,
            wcf=w_cf,
            wco=w_co,
            b=reordered(variables["bias"]),
            forget_bias=0,
            cell_clip=-1,
            use_peephole=True,
        )
        sequence = tf.transpose(block.h, (1, 0, 2))
        outputs = {"sequence": sequence, "h": block.h[-1], "c": block.cs[-1]}
        loss = sum(tf.reduce_sum(x * np.float32(loss_weights[name])) for name, x in outputs.items())
    gradients = tape.gradient(loss, variables)
    expected = outputs | {f"d_{name}": gradient for name, gradient in gradients.items()}
    assert_close(results(layer_of(values), tensors_of(values), loss_weights), expected)


@both_inputs
def test_one_long_run_equals_two_chained_runs(has_input):
    values = random_values(has_input, steps=7)
    layer, tensors = layer_of(values), tensors_of(values)
    start, inputs = [tensors["h0"], tensors["c0"]], tensors.get("inputs")
    first = second = None
    if has_input:
        first, second = inputs[:, :3], inputs[:, 3:]
    sequence, h, c = layer(inputs, initial_state=start, steps=7)
    part_1, *middle = layer(first, initial_state=start, steps=3)
    part_2, h_end, c_end = layer(second, initial_state=middle, steps=4)
    chained = {"sequence": np.concatenate([part_1, part_2], axis=1), "h": h_end, "c": c_end}
    assert_close(chained, {"sequence": sequence, "h": h, "c": c})
    np.testing.assert_array_equal(h, sequence[:, -1])


def test_the_default_initial_state_is_zero():
    values = random_values(has_input=True)
    layer, zeros = layer_of(values), np.zeros((B, UNITS), "float32")
    inputs = tensors_of(values)["inputs"]
    expected = layer(inputs, initial_state=[zeros, zeros])
    for x, y in zip(layer(inputs), expected, strict=True):
        np.testing.assert_array_equal(x, y)


# Ways to run it.


@both_inputs
@pytest.mark.parametrize(
    "batch, steps, dim, units", [(1, 1, 1, 1), (B, 9, D, UNITS), (7, 3, 2, 6), (B, 40, D, UNITS)]
)
def test_graph_equals_eager(has_input, batch, steps, dim, units):
    values = random_values(has_input, True, batch, steps, dim, units)
    layer, tensors = layer_of(values), tensors_of(values)
    loss_weights = random_loss_weights(batch, steps, units)
    eager = results(layer, tensors, loss_weights, steps)
    graph = tf.function(lambda tensors: results(layer, tensors, loss_weights, steps))(tensors)
    assert_close(graph, eager)


@both_inputs
@pytest.mark.parametrize("batch", [None, 1])
def test_a_graph_of_unknown_sizes_equals_eager(has_input, batch):
    layer = layer_of(random_values(has_input))
    unknown = {name: tf.TensorSpec((batch, UNITS)) for name in ("h0", "c0")}
    if has_input:
        unknown["inputs"] = tf.TensorSpec((batch, None, D))
    unknown_outputs = {"sequence": tf.TensorSpec((batch, None, UNITS))}
    unknown_outputs |= {name: tf.TensorSpec((batch, UNITS)) for name in "hc"}

    @tf.function(input_signature=[unknown, unknown_outputs, tf.TensorSpec((), "int32")])
    def graph(tensors, loss_weights, steps):
        return results(layer, tensors, loss_weights, steps)

    for steps in (4, 40):
        tensors = tensors_of(random_values(has_input, batch=batch or B, steps=steps))
        loss_weights = random_loss_weights(batch or B, steps)
        loss_weights = {name: np.float32(x) for name, x in loss_weights.items()}
        eager = results(layer, tensors, loss_weights, steps)
        assert_close(graph(tensors, loss_weights, steps), eager)


def test_a_functional_model_takes_any_length():
    values = random_values(has_input=True, steps=40)
    layer, inputs = layer_of(values), tensors_of(values)["inputs"]
    frames = keras.Input((None, D))
    model = keras.Model(frames, layer(frames))
    assert [x.shape for x in model.outputs] == [(None, None, UNITS), (None, UNITS), (None, UNITS)]
    for steps in (1, 40):
        expected = layer(inputs[:, :steps])
        for x, y in zip(model.predict(inputs[:, :steps], verbose=0), expected, strict=True):
            np.testing.assert_allclose(x, y, atol=1e-6)


@both_inputs
def test_the_while_loop_equals_the_unrolled_loop(has_input, monkeypatch):
    values, loss_weights = random_values(has_input), random_loss_weights()
    layer, tensors = layer_of(values), tensors_of(values)

    def call(tensors):
        return results(layer, tensors, loss_weights)

    def loops(graph):
        counts = operations(graph)
        return counts["While"] + counts["StatelessWhile"]

    unrolled = traced(call, tensors)
    monkeypatch.setattr(fast_loop, "_MAX_UNROLLED_STEPS", 0)
    looped = traced(call, tensors)
    assert (loops(unrolled), loops(looped)) == (0, 2)  # forward and backward
    assert_close(looped(tensors), unrolled(tensors))


@both_inputs
@pytest.mark.parametrize("use_peepholes", [True, False], ids=["peepholes", "no_peepholes"])
def test_the_portable_recurrence_equals_tensorflows(has_input, use_peepholes):
    values, loss_weights = random_values(has_input, use_peepholes), random_loss_weights()
    layer, tensors = layer_of(values), tensors_of(values)
    fast = results(layer, tensors, loss_weights)
    with portable():
        assert_close(results(layer, tensors, loss_weights), fast)


def test_each_input_costs_one_matrix_product_and_no_input_none():
    loss_weights = random_loss_weights()
    counts = {}
    for has_input in (True, False):
        values = random_values(has_input)
        layer, tensors = layer_of(values), tensors_of(values)
        assert (layer.kernel is not None) == has_input

        def call(tensors, layer=layer):
            state = [tensors["h0"], tensors["c0"]]
            return layer(tensors.get("inputs"), initial_state=state, steps=T)

        def train(tensors, layer=layer):
            return results(layer, tensors, loss_weights)

        counts[has_input] = (
            operations(traced(call, tensors))["MatMul"],
            operations(traced(train, tensors))["MatMul"],
        )
    # Forward: T recurrent products. Backward: T more, and one for the recurrent kernel's gradient.
    assert counts[False] == (T, 2 * T + 1)
    # The input adds one for all T, and in the backward pass one each for kernel and inputs.
    assert counts[True] == (T + 1, 2 * T + 1 + 3)


@pytest.mark.parametrize("steps", [np.int64(5), np.uint8(5), np.int32(40)])
def test_steps_may_be_an_integer_of_numpys(steps):
    layer = PeepholeLSTM(UNITS)
    state = [tf.ones((B, UNITS)), tf.zeros((B, UNITS))]
    expected, *_ = layer(None, initial_state=state, steps=int(steps))
    np.testing.assert_array_equal(layer(None, initial_state=state, steps=steps)[0], expected)
    assert layer.gates(None, initial_state=state, steps=steps)["cell"].shape == expected.shape
    with pytest.raises(ValueError, match="at least 1 step is needed, got 0"):
        layer(None, initial_state=state, steps=type(steps)(0))


@both_inputs
def test_steps_one_by_one_equal_a_call(has_input):
    values = random_values(has_input)
    layer, tensors = layer_of(values), tensors_of(values)
    state = [tensors["h0"], tensors["c0"]]
    sequence, h, c = layer(tensors.get("inputs"), initial_state=state, steps=T)
    outputs = []
    for t in range(T):
        state = layer.step(tensors["inputs"][:, t] if has_input else None, state)
        outputs.append(state[0])
    stepped = {"sequence": np.stack(outputs, axis=1), "h": state[0], "c": state[1]}
    assert_close(stepped, {"sequence": sequence, "h": h, "c": c})


@both_inputs
@pytest.mark.parametrize("use_peepholes", [True, False], ids=["peepholes", "no_peepholes"])
def test_gates_equal_the_equations(has_input, use_peepholes):
    values = random_values(has_input, use_peepholes)
    tensors = tensors_of(values)
    state = [tensors["h0"], tensors["c0"]]
    gates = layer_of(values).gates(tensors.get("inputs"), initial_state=state, steps=T)
    assert set(gates) == {"input_gate", "forget_gate", "output_gate", "input", "cell", "output"}
    assert_close(gates, oracle(values, T))


@both_inputs
def test_bfloat16_products_are_close_to_float32(has_input):
    values, loss_weights = random_values(has_input), random_loss_weights()
    tensors = tensors_of(values)
    layer = layer_of(values, gemm_dtype="bfloat16")
    exact = results(layer_of(values), tensors, loss_weights)
    rounded = results(layer, tensors, loss_weights)
    assert {x.dtype for x in rounded.values()} == {tf.float32}
    assert {weight.dtype for weight in layer.weights} == {"float32"}
    assert_close(rounded, exact, 2e-2)
    for name in exact:  # too far for float32: the products did run in bfloat16
        assert np.abs(rounded[name] - exact[name]).max() > 1e-5, name


# Weights, configuration, errors.


def test_a_layer_has_the_weights_it_uses():
    def shapes(inputs_shape, **options):
        layer = PeepholeLSTM(UNITS, **options)
        layer.build(inputs_shape)
        return {weight.name: weight.shape for weight in layer.weights}

    bare = {"recurrent_kernel": (UNITS, 4 * UNITS), "bias": (4 * UNITS,)}
    kernel, peepholes = {"kernel": (D, 4 * UNITS)}, {"peepholes": (3, UNITS)}
    assert shapes(None, use_peepholes=False) == bare
    assert shapes(None) == bare | peepholes
    assert shapes((None, None, D), use_peepholes=False) == bare | kernel
    assert shapes((None, None, D)) == bare | kernel | peepholes


def test_default_initial_weights():
    layer = PeepholeLSTM(20)
    layer.build((None, None, 30))
    kernel, recurrent = layer.kernel.numpy(), layer.recurrent_kernel.numpy()
    limit = np.sqrt(6 / (30 + 80))  # Glorot
    assert 0.95 * limit < np.abs(kernel).max() <= limit
    np.testing.assert_allclose(recurrent @ recurrent.T, np.eye(20), atol=1e-5)
    assert not layer.peepholes.numpy().any()
    assert not layer.bias.numpy().any()


def test_each_weight_has_its_initializer():
    constants = [keras.initializers.Constant(value) for value in (1.0, 2.0, 3.0, 4.0)]
    layer = PeepholeLSTM(UNITS, True, 0.5, *constants)
    layer.build((None, None, D))
    for weight, value in zip(layer.weights[:3], (1.0, 2.0, 3.0), strict=True):
        assert (weight.numpy() == value).all(), weight.name
    i, f, g, o = np.split(layer.bias.numpy(), 4)
    assert (f == 4.5).all()
    assert (np.stack([i, g, o]) == 4.0).all()


def test_configuration_round_trip():
    layer = PeepholeLSTM(
        7,
        use_peepholes=False,
        forget_bias=1.5,
        kernel_initializer=keras.initializers.RandomUniform(-0.25, 0.25),
        recurrent_initializer="zeros",
        peephole_initializer="ones",
        bias_initializer="ones",
        gemm_dtype="bfloat16",
        name="some_lstm",
    )
    config = json.loads(json.dumps(layer.get_config()))
    copy = PeepholeLSTM.from_config(config)
    assert copy.get_config() == layer.get_config()
    assert (copy.name, copy.units, copy.gemm_dtype) == ("some_lstm", 7, "bfloat16")
    assert (copy.use_peepholes, copy.forget_bias) == (False, 1.5)
    assert copy.kernel_initializer.maxval == 0.25
    assert isinstance(copy.recurrent_initializer, keras.initializers.Zeros)
    assert isinstance(copy.peephole_initializer, keras.initializers.Ones)
    assert isinstance(copy.bias_initializer, keras.initializers.Ones)


def test_a_saved_model_gives_equal_outputs(tmp_path):
    inputs = keras.Input((None, D))
    _, h, c = PeepholeLSTM(UNITS, peephole_initializer="random_normal")(inputs)
    decoder = PeepholeLSTM(UNITS, gemm_dtype="bfloat16", peephole_initializer="random_normal")
    model = keras.Model(inputs, decoder(None, initial_state=[h, c], steps=T))
    model.save(tmp_path / "model.keras")
    loaded = keras.saving.load_model(tmp_path / "model.keras", safe_mode=True)

    x = np.random.default_rng(0).normal(size=(B, T, D)).astype("float32")
    assert np.asarray(model(x)[0]).any()
    for original, copy in zip(model(x), loaded(x), strict=True):
        np.testing.assert_array_equal(original, copy)
    for original, copy in zip(model.weights, loaded.weights, strict=True):
        np.testing.assert_array_equal(original, copy)


@pytest.mark.parametrize("units", [0, -1])
def test_a_layer_without_units_is_an_error(units):
    with pytest.raises(ValueError, match=f"units must be at least 1, got {units}"):
        PeepholeLSTM(units)


def test_a_call_unlike_the_build_is_an_error():
    x, state = np.zeros((B, T, D), "float32"), [np.zeros((B, UNITS), "float32")] * 2
    without = PeepholeLSTM(UNITS, name="without")
    without.build(None)
    with pytest.raises(ValueError, match="without was built without input and called with one"):
        without(x)
    with_input = PeepholeLSTM(UNITS, name="reader")
    with_input.build((None, None, D))
    with pytest.raises(ValueError, match="reader was built with input and called without one"):
        with_input(None, initial_state=state, steps=T)


@pytest.mark.parametrize("missing", ["initial_state", "steps"])
def test_no_input_needs_a_state_and_a_length(missing):
    layer = PeepholeLSTM(UNITS, name="writer")
    layer.build(None)
    arguments = {"initial_state": [np.zeros((B, UNITS), "float32")] * 2, "steps": T}
    del arguments[missing]
    with pytest.raises(ValueError, match="writer: without input, give initial_state and steps"):
        layer(None, **arguments)
