"""The peephole LSTM and the frame decoder built from it.

Written in `keras.ops`, so they run on every Keras backend; on TensorFlow the time loop is
`unsup_video.models.video_models.fast_lstm`, except inside `portable`.
"""

import contextlib
import contextvars
import operator

import keras
from keras import ops

from unsup_video.models import outputs

_PORTABLE = contextvars.ContextVar("portable", default=False)


@contextlib.contextmanager
def portable():
    """Inside, layers are called in plain operations: for a graph that another program will run.

    The fast path insists on XLA, which TensorFlow Serving refuses on a CPU, and keeps the gates of
    every step for a gradient.
    """
    token = _PORTABLE.set(True)
    try:
        yield
    finally:
        _PORTABLE.reset(token)


def project(x, kernel, bias, gemm_dtype):
    """`x W + b` over the last axis, as ONE product over all leading axes.

    Args:
        x: (..., D). kernel: (D, N). bias: (N,).
        gemm_dtype: dtype in which the product runs; the result has the kernel's dtype.
    """
    shape = ops.shape(x)
    rows = ops.reshape(ops.cast(x, gemm_dtype), (-1, shape[-1]))
    product = ops.cast(ops.matmul(rows, ops.cast(kernel, gemm_dtype)), kernel.dtype)
    return ops.reshape(product + bias, (*shape[:-1], kernel.shape[-1]))


@keras.saving.register_keras_serializable("unsup_video")
class PeepholeLSTM(keras.layers.Layer):
    """LSTM with diagonal peephole connections (Graves 2013; the unit of the paper's section 2.1).

        i_t = sigmoid(W_xi x_t + W_hi h_{t-1} + w_ci * c_{t-1} + b_i)
        f_t = sigmoid(W_xf x_t + W_hf h_{t-1} + w_cf * c_{t-1} + b_f)
        g_t =    tanh(W_xc x_t + W_hc h_{t-1} + b_c)
        c_t = f_t * c_{t-1} + i_t * g_t
        o_t = sigmoid(W_xo x_t + W_ho h_{t-1} + w_co * c_t + b_o)      (sees the NEW cell)
        h_t = o_t * tanh(c_t)

    Weights, with the gates in the order i, f, g, o along the last axis: `kernel` (D, 4 units),
    absent in a layer without input; `recurrent_kernel` (units, 4 units); `peepholes` (3, units)
    for i, f, o, absent with `use_peepholes=False`; `bias` (4 units,).

    Args:
        units: size of h and c.
        use_peepholes: False gives the ordinary LSTM.
        forget_bias: initial value of b_f; the other gates start from `bias_initializer`.
        kernel_initializer, recurrent_initializer, peephole_initializer, bias_initializer: Keras
            initializers or their names. A kernel's fan_in is its first axis.
        gemm_dtype: dtype of the matrix products, for example "bfloat16"; all other arithmetic and
            the weights keep the layer's dtype. Default: the layer's dtype.

    Call arguments:
        inputs: (B, T, D); or None for a layer without input, which then needs `initial_state` and
            `steps`. A layer is built for one of the two.
        initial_state: [h, c], each (B, units). Default: zeros.
        steps: T of a layer without input, an integer or a scalar integer tensor.

    Returns:
        (sequence, h, c): h_1..h_T (B, T, units), h_T and c_T (B, units).
    """

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
        super().__init__(**kwargs)
        if units < 1:
            raise ValueError(f"PeepholeLSTM: units must be at least 1, got {units}")
        self.units = units
        self.use_peepholes = use_peepholes
        self.forget_bias = forget_bias
        self.kernel_initializer = keras.initializers.get(kernel_initializer)
        self.recurrent_initializer = keras.initializers.get(recurrent_initializer)
        self.peephole_initializer = keras.initializers.get(peephole_initializer)
        self.bias_initializer = keras.initializers.get(bias_initializer)
        self.gemm_dtype = gemm_dtype or self.compute_dtype

    def build(self, inputs_shape=None, initial_state_shape=None):
        """Creates the weights; `inputs_shape` is (B, T, D), or None for a layer without input."""
        n = self.units
        self.kernel = None
        if inputs_shape is not None:
            self.kernel = self.add_weight(
                (inputs_shape[-1], 4 * n), self.kernel_initializer, name="kernel"
            )
        self.recurrent_kernel = self.add_weight(
            (n, 4 * n), self.recurrent_initializer, name="recurrent_kernel"
        )
        self.peepholes = None
        if self.use_peepholes:
            self.peepholes = self.add_weight((3, n), self.peephole_initializer, name="peepholes")

        def bias(shape, dtype=None):
            value = self.bias_initializer(shape, dtype=dtype)
            forget = ops.repeat(ops.convert_to_tensor([0.0, self.forget_bias, 0.0, 0.0], dtype), n)
            return value + forget

        self.bias = self.add_weight((4 * n,), bias, name="bias")
        self.built = True

    def _arguments(self, inputs, initial_state, steps):
        """(projected input or bias, h0, c0, recurrent kernel, peepholes, T) of a call."""
        if (inputs is None) != (self.kernel is None):
            raise ValueError(
                f"{self.name} was built {'with' if self.kernel is not None else 'without'} input "
                f"and called {'without' if inputs is None else 'with'} one"
            )
        if inputs is None:
            if initial_state is None or steps is None:
                raise ValueError(f"{self.name}: without input, give initial_state and steps")
            steps = _integer(steps)
            _check_steps(self.name, steps)
            projected = ops.convert_to_tensor(self.bias)
        else:
            steps = ops.shape(inputs)[1]
            _check_steps(self.name, steps)
            projected = project(inputs, self.kernel, self.bias, self.gemm_dtype)
            if initial_state is None:
                zeros = ops.zeros((ops.shape(inputs)[0], self.units), self.compute_dtype)
                initial_state = (zeros, zeros)
        h0, c0 = initial_state
        return projected, h0, c0, ops.convert_to_tensor(self.recurrent_kernel), self._w_c(), steps

    def _w_c(self):
        if self.peepholes is None:
            return ops.zeros((3, self.units), self.compute_dtype)
        return ops.convert_to_tensor(self.peepholes)

    def _run(self, inputs, initial_state, steps):
        arguments = self._arguments(inputs, initial_state, steps)
        if keras.backend.backend() == "tensorflow" and not _PORTABLE.get():
            from unsup_video.models import (
                fast_lstm,  # the one place where TensorFlow itself is used
            )

            return fast_lstm.recurrence(*arguments, self.gemm_dtype)
        return scan_recurrence(*arguments, self.gemm_dtype)

    def call(self, inputs, initial_state=None, steps=None):
        h, c = self._run(inputs, initial_state, steps)
        return h, h[:, -1], c[:, -1]

    def step(self, inputs, state):
        """One step: inputs (B, D) or None, state [h, c] -> [h, c], each (B, units)."""
        h, c = state
        projected = self.bias
        if inputs is not None:
            projected = project(inputs, self.kernel, self.bias, self.gemm_dtype)
        return _cell(projected, h, c, self.recurrent_kernel, self._w_c(), self.gemm_dtype)[:2]

    def gates(self, inputs, initial_state=None, steps=None):
        """The unit's activity over time, for pictures such as the paper's figure 7.

        Arguments as in a call. Returns a dict of (B, T, units): input_gate, forget_gate,
        output_gate, input (g, after the tanh), cell (c) and output (h).
        """
        projected, h0, c0, *_ = self._arguments(inputs, initial_state, steps)
        h, c = self._run(inputs, initial_state, steps)
        h_before = ops.concatenate([h0[:, None], h[:, :-1]], axis=1)
        c_before = ops.concatenate([c0[:, None], c[:, :-1]], axis=1)
        _, _, (i, f, g, o) = _cell(
            projected, h_before, c_before, self.recurrent_kernel, self._w_c(), self.gemm_dtype
        )
        return {
            "input_gate": i,
            "forget_gate": f,
            "output_gate": o,
            "input": g,
            "cell": c,
            "output": h,
        }

    def compute_output_shape(self, inputs_shape=None, initial_state_shape=None):
        if inputs_shape is None:
            batch, steps = initial_state_shape[0][0], None
        else:
            batch, steps = inputs_shape[:2]
        state = (batch, self.units)
        return (batch, steps, self.units), state, state

    def get_config(self):
        return {
            **super().get_config(),
            "units": self.units,
            "use_peepholes": self.use_peepholes,
            "forget_bias": self.forget_bias,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
            "recurrent_initializer": keras.initializers.serialize(self.recurrent_initializer),
            "peephole_initializer": keras.initializers.serialize(self.peephole_initializer),
            "bias_initializer": keras.initializers.serialize(self.bias_initializer),
            "gemm_dtype": self.gemm_dtype,
        }

    # Keras's own pair takes the initial state's shape for the input's in a layer without input.
    def get_build_config(self):
        if not self.built:
            return None
        return {"input_dim": None if self.kernel is None else self.kernel.shape[0]}

    def build_from_config(self, config):
        dim = config["input_dim"]
        self.build(None if dim is None else (None, None, dim))


def _integer(steps):
    """An integer, of Python, numpy or a tensor, as Python's where it is known, else as int32."""
    try:
        return operator.index(steps)
    except TypeError:
        if isinstance(steps, float):
            raise
        return ops.cast(steps, "int32")


def _check_steps(name, steps):
    if isinstance(steps, int) and steps < 1:
        raise ValueError(f"{name}: at least 1 step is needed, got {steps}")


def _cell(projected, h, c, recurrent_kernel, peepholes, gemm_dtype):
    """One step on (..., units): (h, c, (i, f, g, o)); `projected` is x_t W + b."""
    recurrent = ops.matmul(ops.cast(h, gemm_dtype), ops.cast(recurrent_kernel, gemm_dtype))
    i, f, g, o = ops.split(ops.cast(recurrent, c.dtype) + projected, 4, axis=-1)
    i = ops.sigmoid(i + peepholes[0] * c)
    f = ops.sigmoid(f + peepholes[1] * c)
    g = ops.tanh(g)
    c = f * c + i * g
    o = ops.sigmoid(o + peepholes[2] * c)
    return o * ops.tanh(c), c, (i, f, g, o)


def scan_recurrence(projected, h0, c0, recurrent_kernel, peepholes, steps, gemm_dtype):
    """`fast_lstm.recurrence` in `keras.ops`: same arguments and result."""
    has_input = len(projected.shape) == 3

    def step(carry, z):
        h, c, _ = _cell(
            z if has_input else projected, *carry, recurrent_kernel, peepholes, gemm_dtype
        )
        return (h, c), (h, c)

    # Without input a clock is scanned: `length` has to be a Python integer, `steps` need not be.
    z = ops.transpose(projected, (1, 0, 2)) if has_input else ops.zeros((steps,))
    _, (h, c) = ops.scan(step, (h0, c0), z)
    return ops.transpose(h, (1, 0, 2)), ops.transpose(c, (1, 0, 2))


@keras.saving.register_keras_serializable("unsup_video")
class FrameScale(keras.layers.Layer):
    """Frames in units of their own spread: `x / scale`, or `x * scale` with `inverse=True`.

    `scale` is one number, a weight that is not trained: it goes wherever the model's weights go.
    """

    def build(self, shape):
        self.scale = self.add_weight((), "ones", trainable=False, name="scale")
        self.built = True

    def call(self, x, inverse=False):
        return x * self.scale if inverse else x / self.scale


@keras.saving.register_keras_serializable("unsup_video")
class Dropout(keras.layers.Dropout):
    """Keras' dropout, with a mask that does not depend on how many devices share a batch.

    Each draws the mask of the whole batch and applies the rows that are its own: the masks of one
    device's examples are not those of another's, and together they are what one device alone draws.
    """

    def __init__(self, rate, noise_shape=None, **kwargs):
        if noise_shape is not None:
            raise ValueError("noise_shape: every value has a mask of its own here")
        super().__init__(rate, **kwargs)

    def call(self, x, training=False):
        if not training or self.rate == 0:
            return x
        replica, replicas = _replica()
        rows = ops.shape(x)[0]
        whole = ops.ones((replicas * rows, *ops.shape(x)[1:]), x.dtype)
        mask = keras.random.dropout(whole, self.rate, seed=self.seed_generator)
        return x * mask[replica * rows : (replica + 1) * rows]


def _replica():
    """(number of this device, number of devices) of those that share a batch."""
    if keras.backend.backend() != "tensorflow":
        return 0, 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:  # called outside of `Strategy.run`: one device does it for all
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


@keras.saving.register_keras_serializable("unsup_video")
class Decoder(keras.layers.Layer):
    """A stack of PeepholeLSTMs that writes frames, starting from the encoder's state.

    The top layer's h_t gives the frame, as pre-activation: `h_t kernel + bias`, kernel (units, D).
    An unconditional decoder has no input at any step. A conditional one reads the previous frame:
    the true one where `teacher` is given (teacher forcing), else its own, after the non-linearity
    (feedback). At the first step there is no previous frame: the input is zero.

    Args:
        lstms: PeepholeLSTM layers, unbuilt, bottom first.
        frame_dim: D, size of a frame.
        conditional: whether it reads the previous frame.
        output: a name of `outputs.OUTPUTS`, which turns pre-activations into frames.
        kernel_initializer: of the output kernel; the output bias starts at zero.

    Call arguments:
        states: [h, c] of every layer in turn, each (B, units).
        clock: (B, S) or (B, S, ...): only its second size, the number of frames S, is read.
        teacher: (B, S, D), the true frames, for teacher forcing. An unconditional decoder never
            reads it.

    Returns:
        (B, S, D) pre-activations; `activate` turns them into frames.
    """

    def __init__(
        self,
        lstms,
        frame_dim,
        conditional=False,
        output="logistic",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        outputs.get(output)  # an unknown one is an error here
        self.lstms = list(lstms)
        self.frame_dim = frame_dim
        self.conditional = conditional
        self.output_name = output
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, states_shape=None, clock_shape=None, teacher_shape=None):
        shape = (None, None, self.frame_dim) if self.conditional else None
        for lstm in self.lstms:
            if not lstm.built:
                lstm.build(shape)
            shape = (None, None, lstm.units)
        self.kernel = self.add_weight(
            (self.lstms[-1].units, self.frame_dim), self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight((self.frame_dim,), "zeros", name="bias")
        state_sizes = [lstm.units for lstm in self.lstms for _ in "hc"] + [self.frame_dim]
        self.feedback = keras.layers.RNN(
            _FeedbackCell(self._feedback_step, state_sizes, self.compute_dtype),
            return_sequences=True,
        )
        self.built = True

    def _frames(self, h):
        return project(h, self.kernel, self.bias, self.lstms[-1].gemm_dtype)

    def activate(self, x):
        """Pre-activations -> frames."""
        return outputs.get(self.output_name).activate(x)

    def call(self, states, clock, teacher=None):
        if self.conditional and teacher is None:
            return self._feed_back(states, clock)
        x = None
        if self.conditional:
            x = ops.concatenate([ops.zeros_like(teacher[:, :1]), teacher[:, :-1]], axis=1)
        for k, lstm in enumerate(self.lstms):
            x, _, _ = lstm(x, initial_state=states[2 * k : 2 * k + 2], steps=ops.shape(clock)[1])
        return self._frames(x)

    def _feed_back(self, states, clock):
        _check_steps(self.name, ops.shape(clock)[1])
        batch = ops.shape(states[0])[0]
        ticks = ops.zeros((batch, ops.shape(clock)[1], 1), self.compute_dtype)
        first = ops.zeros((batch, self.frame_dim), self.compute_dtype)
        return self.feedback(ticks, initial_state=[*states, first])

    def _feedback_step(self, state):
        """(pre-activation of this frame, next state) from [h, c, .., previous frame]."""
        *states, x = state
        next_states = []
        for k, lstm in enumerate(self.lstms):
            x, c = lstm.step(x, states[2 * k : 2 * k + 2])
            next_states += [x, c]
        frame = self._frames(x)
        return frame, [*next_states, self.activate(frame)]

    def compute_output_shape(self, states_shape, clock_shape, teacher_shape=None):
        return (*clock_shape[:2], self.frame_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "lstms": [keras.saving.serialize_keras_object(lstm) for lstm in self.lstms],
            "frame_dim": self.frame_dim,
            "conditional": self.conditional,
            "output": self.output_name,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        lstms = [keras.saving.deserialize_keras_object(lstm) for lstm in config["lstms"]]
        return cls(**{**config, "lstms": lstms})


class _FeedbackCell:
    """What `keras.layers.RNN` asks of a cell; the RNN's input is a clock and is not read.

    Not a layer itself, since the weights belong to the decoder.
    """

    def __init__(self, step, state_size, compute_dtype):
        self.step = step
        self.compute_dtype = compute_dtype
        self.state_size = state_size
        self.output_size = state_size[-1]

    def __call__(self, tick, state):
        return self.step(state)

    call = __call__
