"""Recurrent layers: their base class, the LSTM, the GRU, and the table of them, `CELLS`.

They are written in `keras.ops`, so they run on every Keras backend. On TensorFlow the time loop is
`fast_lstm` or `fast_gru`, except inside `portable`.

To add a cell, write a `RecurrentLayer` and add it to `CELLS`; `--config.model.cell=NAME` then
trains, finetunes, evaluates and exports with it.
"""

import contextlib
import contextvars
import operator
from collections.abc import Sequence
from typing import ClassVar

import keras
from keras import ops

_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable():
    """Traces layers without XLA or custom gradients, so that another program can run the graph.

    The fast path needs XLA, which TensorFlow Serving refuses on a CPU, and keeps the gates of
    every step for the gradient.
    """
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def project(x, kernel, bias, gemm_dtype):
    """Returns `x W + b` over the last axis, computed as ONE product over all leading axes.

    Args:
        x: (..., D). kernel: (D, N). bias: (N,).
        gemm_dtype: dtype of the product; the result has the kernel's dtype.
    """
    shape = ops.shape(x)
    rows = ops.reshape(ops.cast(x, gemm_dtype), (-1, shape[-1]))
    product = ops.cast(ops.matmul(rows, ops.cast(kernel, gemm_dtype)), kernel.dtype)
    return ops.reshape(product + bias, (*shape[:-1], kernel.shape[-1]))


class RecurrentLayer(keras.layers.Layer):
    """The base class of the recurrent layers that encoders, decoders and classifiers use.

    A subclass names its states and gates in the attributes below and defines one step in `_cell`.
    It may add weights of its own (`_add_weights`, `_recurrent_weights`) and a faster time loop
    for TensorFlow (`_fast_recurrence`).

    With N = `len(kernel_parts)`, the weights are `kernel` (D, N units), absent in a layer without
    input; `recurrent_kernel` (units, N units); those of the subclass; and `bias` (N units,).

    Attributes:
        state_names: names of the states, each (B, units), in signatures. The first state is the
            layer's output.
        state_labels: names of the same states in pictures; the first is "output".
        kernel_parts: names of the gates and inputs that the columns of the kernels compute, `units`
            columns each.
        kept_by: the one of these parts that is the gate that keeps the state.
        gate_ranges: name -> (low, high) of each bounded value that `gates` returns.
        has_peepholes: whether the layer takes `use_peepholes` and `peephole_initializer`.

    Args:
        units: size of every state.
        forget_bias: initial value of the bias of the gate that keeps the state; the other biases
            start from `bias_initializer`.
        kernel_initializer, recurrent_initializer, bias_initializer: Keras initializers or their
            names. A kernel's fan_in is its first axis.
        gemm_dtype: dtype of the matrix products, for example "bfloat16"; all other arithmetic and
            the weights keep the layer's dtype. Default: the layer's dtype.

    Call arguments:
        inputs: (B, T, D); or None for a layer without input, which then needs `initial_state` and
            `steps`. A layer is built for one of the two.
        initial_state: a list of the states, each (B, units). Default: zeros.
        steps: T for a layer without input, an integer or a scalar integer tensor.

    Returns:
        (sequence, *states): the output of every step (B, T, units), and the states after the last
        step, (B, units) each.
    """

    state_names: tuple[str, ...] = ("h",)
    state_labels: tuple[str, ...] = ("output",)
    kernel_parts: tuple[str, ...] = ("input",)
    kept_by: str | None = None
    gate_ranges: ClassVar[dict[str, tuple[float, float]]] = {}
    has_peepholes = False

    def __init__(
        self,
        units,
        forget_bias=0.0,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        bias_initializer="zeros",
        gemm_dtype=None,
        **kwargs,
    ):
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"{type(self).__name__}: units must be at least 1, got {units}")
        self.units = units
        self.forget_bias = forget_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.gemm_dtype = gemm_dtype or self.compute_dtype

    # ------------------------------------------------------------------ for subclasses

    def _add_weights(self):
        """Creates the weights that a subclass adds to the kernels and the bias."""

    def _recurrent_weights(self):
        """Returns the weights that a step needs, as tensors: the last arguments of `_cell`."""
        return (ops.convert_to_tensor(self.recurrent_kernel),)

    def _cell(self, projected, state, recurrent_kernel):
        """Computes one step on (..., units).

        Args:
            projected: x_t W + b, (..., N units). state: the states before the step.

        Returns:
            (the states after the step, a dict of its gates for pictures).
        """
        raise NotImplementedError

    def _fast_recurrence(self, inputs, state, steps):
        """A faster loop for `call` on TensorFlow: (the output's sequence, *the last states)."""
        return self._recurrence(inputs, state, steps)

    # ------------------------------------------------------------------ for models

    def build(self, inputs_shape=None, initial_state_shape=None):
        """Creates the weights; `inputs_shape` is (B, T, D), or None for a layer without input."""
        n, width = self.units, len(self.kernel_parts) * self.units
        self.kernel = None
        if inputs_shape is not None:
            self.kernel = self.add_weight(
                (inputs_shape[-1], width), self.kernel_initializer, name="kernel"
            )
        self.recurrent_kernel = self.add_weight(
            (n, width), self.recurrent_initializer, name="recurrent_kernel"
        )
        self._add_weights()

        def bias(shape, dtype=None):
            value = self.bias_initializer(shape, dtype=dtype)
            forget = [self.forget_bias * (part == self.kept_by) for part in self.kernel_parts]
            return value + ops.repeat(ops.convert_to_tensor(forget, dtype), n)

        self.bias = self.add_weight((width,), bias, name="bias")
        self.built = True

    def call(self, inputs, initial_state=None, steps=None):
        fast = keras.backend.backend() == "tensorflow" and not _PORTABLE.get()
        recurrence = self._fast_recurrence if fast else self._recurrence
        return tuple(recurrence(inputs, *self._start(inputs, initial_state, steps)))

    def step(self, inputs, state):
        """Returns the states after one step, output first.

        Args:
            inputs: (B, D) or None. state: the states before the step, (B, units) each.
        """
        projected = self.bias
        if inputs is not None:
            projected = project(inputs, self.kernel, self.bias, self.gemm_dtype)
        return self._cell(projected, state, *self._recurrent_weights())[0]

    def gates(self, inputs, initial_state=None, steps=None):
        """Returns the activity of the units over time, for pictures such as the paper's figure 7.

        It takes the arguments of a call and returns a dict of (B, T, units): the gates of the cell,
        then its states under their `state_labels`; "output" is the last.
        """
        start, steps = self._start(inputs, initial_state, steps)
        projected = self._projected(inputs)
        states = self._scan(projected, start, steps)
        before = [
            ops.concatenate([first[:, None], state[:, :-1]], axis=1)
            for first, state in zip(start, states, strict=True)
        ]
        _, gates = self._cell(projected, before, *self._recurrent_weights())
        labelled = zip(self.state_labels, states, strict=True)
        return {**gates, **dict(reversed(list(labelled)))}

    def compute_output_shape(self, inputs_shape=None, initial_state_shape=None):
        if inputs_shape is None:
            batch, steps = initial_state_shape[0][0], None
        else:
            batch, steps = inputs_shape[:2]
        return ((batch, steps, self.units), *((batch, self.units) for _ in self.state_names))

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "forget_bias": self.forget_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "gemm_dtype": self.gemm_dtype,
        }

    # In a layer without input, Keras would take the shape of the initial state for the input's.
    def get_build_config(self):
        if not self.built:
            return None
        return {"input_dim": None if self.kernel is None else self.kernel.shape[0]}

    def build_from_config(self, config):
        dim = config["input_dim"]
        self.build(None if dim is None else (None, None, dim))

    # ------------------------------------------------------------------ the time loop

    def _start(self, inputs, initial_state, steps):
        """Returns (initial states, T) of a call."""
        if (inputs is None) != (self.kernel is None):
            raise ValueError(
                f"{self.name} was built {'with' if self.kernel is not None else 'without'} input "
                f"and called {'without' if inputs is None else 'with'} one"
            )
        if inputs is None:
            if initial_state is None or steps is None:
                raise ValueError(f"{self.name}: without input, give initial_state and steps")
            steps = _integer(steps)
        else:
            steps = ops.shape(inputs)[1]
        check_steps(self.name, steps)
        if initial_state is None:
            zeros = ops.zeros((ops.shape(inputs)[0], self.units), self.compute_dtype)
            initial_state = [zeros] * len(self.state_names)
        return initial_state, steps

    def _projected(self, inputs):
        """Returns x_t W + b of every step, (B, T, N units); without input the bias (N units,)."""
        if inputs is None:
            return ops.convert_to_tensor(self.bias)
        return project(inputs, self.kernel, self.bias, self.gemm_dtype)

    def _recurrence(self, inputs, state, steps):
        """The time loop in `keras.ops`: (the output's sequence, *the last states)."""
        states = self._scan(self._projected(inputs), state, steps)
        return (states[0], *(state[:, -1] for state in states))

    def _scan(self, projected, state, steps):
        """Returns every state after every step, (B, T, units) each."""
        weights = self._recurrent_weights()
        has_input = len(projected.shape) == 3

        def step(carry, z):
            after, _ = self._cell(z if has_input else projected, carry, *weights)
            return tuple(after), tuple(after)

        # Without input it scans zeros, since `steps` may be a tensor, and `length` may not.
        z = ops.transpose(projected, (1, 0, 2)) if has_input else ops.zeros((steps,))
        _, states = ops.scan(step, tuple(state), z)
        return [ops.transpose(state, (1, 0, 2)) for state in states]

    def _recurrent_product(self, h, recurrent_kernel):
        """Returns h R, computed in `gemm_dtype`, in the dtype of h."""
        product = ops.matmul(
            ops.cast(h, self.gemm_dtype), ops.cast(recurrent_kernel, self.gemm_dtype)
        )
        return ops.cast(product, h.dtype)


@keras.saving.register_keras_serializable("unsup_video")
class PeepholeLSTM(RecurrentLayer):
    """LSTM with diagonal peephole connections (Graves 2013; the unit of the paper's section 2.1).

        i_t = sigmoid(W_xi x_t + W_hi h_{t-1} + w_ci * c_{t-1} + b_i)
        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + w_cf * c_{t-1} + b_f)
        g_t =    tanh(W_xc x_t + W_hc h_{t-1} + b_c)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_xo x_t + W_ho h_{t-1} + w_co * c_t + b_o)      (uses the NEW cell)
        h_t = o_t * tanh(c_t)

    It adds the weight `peepholes` (3, units) for i, f, o, absent with `use_peepholes=False`.
    `gates` returns input_gate, forget_gate, output_gate, input (g, after the tanh), cell (c) and
    output (h).

    Args:
        use_peepholes: False gives the ordinary LSTM.
        peephole_initializer: a Keras initializer or its name.
        The others, the call arguments and the results are those of `RecurrentLayer`; a call returns
            (sequence, h, c).
    """

    state_names = ("h", "c")
    state_labels = ("output", "cell")
    kernel_parts = ("input_gate", "forget_gate", "input", "output_gate")
    kept_by = "forget_gate"
    gate_ranges: ClassVar = {
        "input_gate": (0, 1),
        "forget_gate": (0, 1),
        "output_gate": (0, 1),
        "input": (-1, 1),
        "output": (-1, 1),
    }
    has_peepholes = True

    def __init__(
        self,
        units,
        use_peepholes=True,
        forget_bias=0.0,
        kernel_initializer="glorot_uniform",
        recurrent_initializer="orthogonal",
        peephole_initializer="zeros",
        bias_initializer="zeros",
        gemm_dtype=None,
        **kwargs,
    ):
        super().__init__(
            units,
            forget_bias,
            kernel_initializer,
            recurrent_initializer,
            bias_initializer,
            gemm_dtype,
            **kwargs,
        )
        self.use_peepholes = use_peepholes
        self.peephole_initializer = keras.initializers.get(peephole_initializer)

    def _add_weights(self):
        self.peepholes = None
        if self.use_peepholes:
            self.peepholes = self.add_weight(
                (3, self.units), self.peephole_initializer, name="peepholes"
            )

    def _recurrent_weights(self):
        if self.peepholes is None:
            peepholes = ops.zeros((3, self.units), self.compute_dtype)
        else:
            peepholes = ops.convert_to_tensor(self.peepholes)
        return ops.convert_to_tensor(self.recurrent_kernel), peepholes

    def _cell(self, projected, state, recurrent_kernel, peepholes):
        h, c = state
        recurrent = self._recurrent_product(h, recurrent_kernel)
        i, f, g, o = ops.split(recurrent + projected, 4, axis=-1)
        i = ops.sigmoid(i + peepholes[0] * c)
        f = ops.sigmoid(f + peepholes[1] * c)
        g = ops.tanh(g)
        c = f * c + i * g
        o = ops.sigmoid(o + peepholes[2] * c)
        gates = {"input_gate": i, "forget_gate": f, "output_gate": o, "input": g}
        return [o * ops.tanh(c), c], gates

    def _fast_recurrence(self, inputs, state, steps):
        from unsup_video.models import fast_lstm  # the only part that needs TensorFlow

        weights = self.kernel, self.bias, *state, *self._recurrent_weights()
        return fast_lstm.recurrence(inputs, *weights, steps, self.gemm_dtype)

    def get_config(self):
        return {
            **super().get_config(),
            "use_peepholes": self.use_peepholes,
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
        }


@keras.saving.register_keras_serializable("unsup_video")
class GRU(RecurrentLayer):
    """Gated recurrent unit (Cho et al. 2014) in the form that cuDNN and
    `keras.layers.GRU(reset_after=True)` compute:

        z_t = sigmoid(W_xz x_t + b_z + W_hz h_{t-1} + d_z)
        r_t = sigmoid(W_xr x_t + b_r + W_hr h_{t-1} + d_r)
        g_t =    tanh(W_xg x_t + b_g + r_t * (W_hg h_{t-1} + d_g))
        h_t = z_t * h_{t-1} + (1 - z_t) * g_t

    It adds the weight `recurrent_bias` d (3 units,), which starts at zero; Keras stores b and d in
    one array. The update gate z keeps the state: `forget_bias` is the initial value of b_z.
    `gates` returns update_gate, reset_gate, input (g, after the tanh) and output (h).

    Arguments and results are those of `RecurrentLayer`; a call returns (sequence, h).
    """

    kernel_parts = ("update_gate", "reset_gate", "input")
    kept_by = "update_gate"
    gate_ranges: ClassVar = {
        "update_gate": (0, 1),
        "reset_gate": (0, 1),
        "input": (-1, 1),
        "output": (-1, 1),
    }

    def _add_weights(self):
        self.recurrent_bias = self.add_weight((3 * self.units,), "zeros", name="recurrent_bias")

    def _recurrent_weights(self):
        return tuple(map(ops.convert_to_tensor, (self.recurrent_kernel, self.recurrent_bias)))

    def _cell(self, projected, state, recurrent_kernel, recurrent_bias):
        (h,) = state
        recurrent = self._recurrent_product(h, recurrent_kernel) + recurrent_bias
        recurrent_z, recurrent_r, recurrent_g = ops.split(recurrent, 3, axis=-1)
        z, r, g = ops.split(projected, 3, axis=-1)
        z = ops.sigmoid(z + recurrent_z)
        r = ops.sigmoid(r + recurrent_r)
        g = ops.tanh(g + r * recurrent_g)
        return [z * h + (1 - z) * g], {"update_gate": z, "reset_gate": r, "input": g}

    def _fast_recurrence(self, inputs, state, steps):
        from unsup_video.models import fast_gru  # the only part that needs TensorFlow

        weights = self.kernel, self.bias, *state, *self._recurrent_weights()
        return fast_gru.recurrence(inputs, *weights, steps, self.gemm_dtype)


CELLS: dict[str, type[RecurrentLayer]] = {"lstm": PeepholeLSTM, "gru": GRU}


def get(name: str) -> type[RecurrentLayer]:
    """Returns the cell with this name. Raises ValueError, listing all names, if there is none."""
    if name not in CELLS:
        raise ValueError(f"unknown cell {name!r}: one of {', '.join(CELLS)}")
    return CELLS[name]


# ---------------------------------------------------------------------- stacks
#
# The states of a stack of layers are one flat list: those of the bottom layer come first.


def state_sizes(layers: Sequence[RecurrentLayer]) -> dict[str, int]:
    """Returns name -> size of every state of a stack, in order: h_1, c_1, h_2, .. for LSTMs."""
    return {
        f"{name}_{number}": layer.units
        for number, layer in enumerate(layers, 1)
        for name in layer.state_names
    }


def by_layer(layers: Sequence[RecurrentLayer], states: Sequence) -> list[list]:
    """Divides the states of a stack into a list for each layer."""
    left = iter(states)
    return [[next(left) for _ in layer.state_names] for layer in layers]


def advance(layers: Sequence[RecurrentLayer], x, states: Sequence) -> tuple:
    """Runs one step of a stack: x (B, D) or None, states -> (the top output, the states after)."""
    after = []
    for layer, state in zip(layers, by_layer(layers, states), strict=True):
        x, *others = layer.step(x, state)
        after += [x, *others]
    return x, after


# ---------------------------------------------------------------------- numbers of steps


def _integer(steps):
    """Returns a Python integer if the number is known while tracing, otherwise an int32 tensor."""
    try:
        return operator.index(steps)
    except TypeError:
        if isinstance(steps, float):
            raise
        return ops.cast(steps, "int32")


def check_steps(name, steps):
    """Raises ValueError for a number below 1, if it is known while tracing."""
    if isinstance(steps, int) and steps < 1:
        raise ValueError(f"{name}: at least 1 step is needed, got {steps}")
