"""The Keras contenders of `train_step`: ours, stock LSTMs, and a peephole cell in a stock RNN.

All use the loss (fused by XLA), the optimiser and the data of our own training loop, so that only
the recurrent layers differ.
"""

import keras
import numpy as np
import tensorflow as tf
from keras import ops

from benchmarks._common import Size, gemm_rate, timed
from unsup_video.models import video_models
from unsup_video.models.outputs import OUTPUTS
from unsup_video.training import precision

LEARNING_RATE, MOMENTUM = 1e-6, 0.9  # so small that no contender diverges


class PeepholeCell(keras.layers.Layer):
    """The peephole LSTM as a cell for `keras.layers.RNN`, written directly from the paper.

    Weights as in `unsup_video.models.cells.PeepholeLSTM`; without `has_input` no input is read.
    """

    def __init__(self, units, has_input=True, **kwargs):
        super().__init__(**kwargs)
        self.units, self.has_input = units, has_input
        self.state_size, self.output_size = [units, units], units

    def build(self, input_shape):
        n = self.units
        if self.has_input:
            self.kernel = self.add_weight((input_shape[-1], 4 * n), name="kernel")
        self.recurrent_kernel = self.add_weight((n, 4 * n), name="recurrent_kernel")
        self.peepholes = self.add_weight((3, n), "zeros", name="peepholes")
        self.bias = self.add_weight((4 * n,), "zeros", name="bias")

    def call(self, x, states):
        h, c = states
        z = ops.matmul(h, self.recurrent_kernel) + self.bias
        if self.has_input:
            z += ops.matmul(x, self.kernel)
        i, f, g, o = ops.split(z, 4, axis=-1)
        i = ops.sigmoid(i + self.peepholes[0] * c)
        f = ops.sigmoid(f + self.peepholes[1] * c)
        c = f * c + i * ops.tanh(g)
        o = ops.sigmoid(o + self.peepholes[2] * c)
        h = o * ops.tanh(c)
        return h, [h, c]


def _composite(recurrent, size):
    """Builds the composite from stock Keras layers, with the inputs of `VideoModel.training`.

    `recurrent(name, has_input)` makes a layer that returns (sequence, h, c). A stock decoder needs
    an input: without one it gets zeros of width 1.

    Raises:
        ValueError: the decoders read their own frames, which stock layers cannot do.
    """
    if size.conditional == "own":
        raise ValueError(f"{size}: stock layers cannot read the frames that they write")
    past = keras.Input((None, size.frame_dim), name="past")
    future = keras.Input((None, size.frame_dim), name="future")
    x, states = past, []
    for k in range(size.layers):
        x, *state = recurrent(f"encoder_lstm_{k + 1}", True)(x)
        states.append(state)
    outputs = {}
    for name, target in {"reconstruction": ops.flip(past, axis=1), "future": future}.items():
        x = ops.zeros_like(target[:, :, :1])
        if size.conditional:
            x = ops.concatenate([ops.zeros_like(target[:, :1]), target[:, :-1]], axis=1)
        for k, state in enumerate(states):
            has_input = k > 0 or bool(size.conditional)
            x, *_ = recurrent(f"{name}_lstm_{k + 1}", has_input)(x, initial_state=state)
        outputs[name] = keras.layers.Dense(size.frame_dim, name=f"{name}_decoder")(x)
    return keras.Model({"past": past, "future": future}, outputs)


def _our_model(size, gemm_dtype="float32"):
    return video_models.build(
        "composite",
        size.frame_dim,
        size.units,
        size.layers,
        conditional_reconstruction=bool(size.conditional),
        conditional_future=bool(size.conditional),
        conditional_input=size.conditional or "truth",
        gemm_dtype=gemm_dtype,
    ).training


def stock_model(size):
    def lstm(name, has_input):
        return keras.layers.LSTM(size.units, return_sequences=True, return_state=True, name=name)

    return _composite(lstm, size)


def _cell_model(size):
    def rnn(name, has_input):
        cell = PeepholeCell(size.units, has_input, name=name)
        return keras.layers.RNN(cell, return_sequences=True, return_state=True)

    return _composite(rnn, size)


def _training_step(model, size, learning_rate=LEARNING_RATE):
    """Returns a function that does one step on fixed clips and returns the loss before it."""
    frame_losses = tf.function(OUTPUTS["logistic"].frame_losses, jit_compile=True, autograph=False)
    rng = np.random.default_rng(0)
    shape = (size.batch, size.frames, size.frame_dim)
    past, future = (tf.constant(rng.random(shape) < 0.1, tf.float32) for _ in range(2))
    variables = model.trainable_variables
    optimizer = keras.optimizers.SGD(learning_rate, momentum=MOMENTUM)
    optimizer.build(variables)

    @tf.function(jit_compile=True, autograph=False)
    def apply(gradients):
        optimizer.apply(gradients, variables)

    @tf.function(autograph=False)
    def step(past, future):
        targets = {"reconstruction": tf.reverse(past, [1]), "future": future}
        with tf.GradientTape() as tape:
            outputs = model({"past": past, "future": future}, training=True)
            total = (
                tf.add_n(
                    [
                        tf.reduce_sum(frame_losses(targets[k], tf.cast(x, tf.float32)))
                        for k, x in outputs.items()
                    ]
                )
                / size.batch
            )
        apply(tape.gradient(total, [v.value for v in variables]))
        return total

    return lambda: float(step(past, future))


def _contender(build_model, policy="float32"):
    def build(size):
        keras.config.set_dtype_policy(policy)
        model = build_model(size)
        step = _training_step(model, size)
        info = {
            "parameters": model.count_params(),
            "fast_bfloat16": precision.gemm_dtype("auto") == "bfloat16",
        }
        return lambda: timed(step), info

    return build


def _gemm_floor(size: Size):
    def step():
        return size.flop / gemm_rate(4 * size.units, size.units, size.frames * size.batch)

    return step, {}


CONTENDERS = {
    "ours_float32": _contender(_our_model),
    "ours_bfloat16": _contender(lambda size: _our_model(size, "bfloat16")),
    "stock_lstm": _contender(stock_model),
    "stock_mixed_bfloat16": _contender(stock_model, "mixed_bfloat16"),
    "rnn_cell": _contender(_cell_model),
    "gemm_floor": _gemm_floor,
}


def differences_of_equal_models(size: Size) -> dict[str, float]:
    """Compares our model and the RNN cell's, from the same weights on the same clips.

    Returns:
        "loss": relative difference. "gradient": the largest difference over the largest element,
        for the weight with the largest such ratio.
    """
    rng = np.random.default_rng(1)
    ours, cells = _our_model(size), _cell_model(size)

    def by_name(model):
        return {"/".join(v.path.split("/")[-2:]): v for v in model.trainable_variables}

    ours_by_name, twins = by_name(ours), by_name(cells)
    assert ours_by_name.keys() == twins.keys(), "the two models differ in their weights"
    start = {}
    for name, variable in ours_by_name.items():
        # The range is so wide that every term of the equations matters, and no gate saturates.
        width = 1.0 if name.endswith("peepholes") else 2.0 / variable.shape[0] ** 0.5
        start[name] = rng.uniform(-width, width, variable.shape).astype(np.float32)
        variable.assign(start[name])
        twins[name].assign(start[name])

    # With a learning rate of 1 the step is the gradient.
    loss, twin_loss = (_training_step(model, size, learning_rate=1.0)() for model in (ours, cells))
    gradients = [
        np.abs(variable.numpy() - twins[name].numpy()).max()
        / np.abs(variable.numpy() - start[name]).max()
        for name, variable in ours_by_name.items()
    ]
    return {"loss": abs(loss / twin_loss - 1), "gradient": float(max(gradients))}
