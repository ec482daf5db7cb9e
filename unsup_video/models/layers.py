"""The frame decoder, the frame scale and dropout; `cells.py` has the recurrent layers.

They are written in `keras.ops`, so they run on every Keras backend.
"""

import keras
from keras import ops

from unsup_video.models import outputs
from unsup_video.models.cells import advance, by_layer, check_steps, project, state_sizes


@keras.saving.register_keras_serializable("unsup_video")
class FrameScale(keras.layers.Layer):
    """Divides frames by a scale, such as their standard deviation; `inverse=True` multiplies.

    `scale` is one number, a weight that is not trained, so that every checkpoint holds it.
    """

    def build(self, shape):
        self.scale = self.add_weight((), "ones", trainable=False, name="scale")
        self.built = True

    def call(self, x, inverse=False):
        return x * self.scale if inverse else x / self.scale


@keras.saving.register_keras_serializable("unsup_video")
class Dropout(keras.layers.Dropout):
    """Keras' dropout with a mask that does not depend on the number of devices that share a batch.

    Every device draws the mask of the whole batch and applies the rows of its own examples, so that
    masks differ between devices and together equal the mask that a single device draws.
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
    """Returns (index of this device, number of devices) among those that share a batch."""
    if keras.backend.backend() != "tensorflow":
        return 0, 1
    import tensorflow as tf

    context = tf.distribute.get_replica_context()
    if context is None:  # outside of `Strategy.run`: one device computes the whole batch
        return 0, 1
    return context.replica_id_in_sync_group, context.num_replicas_in_sync


@keras.saving.register_keras_serializable("unsup_video")
class Decoder(keras.layers.Layer):
    """A stack of recurrent layers that writes frames, starting from the encoder's state.

    The pre-activation of a frame is `h_t kernel + bias`, with h_t of the top layer and the kernel
    (units, D). An unconditional decoder has no input at any step. A conditional one reads the
    previous frame: the true one if `teacher` is given (teacher forcing), otherwise its own, after
    the non-linearity (free running). At the first step, without a previous frame, the input is
    zero.

    Args:
        cells: `cells.RecurrentLayer`s, unbuilt, bottom first.
        frame_dim: D, size of a frame.
        conditional: whether the decoder reads the previous frame.
        output: a name in `outputs.OUTPUTS`, which turns pre-activations into frames.
        kernel_initializer: initializer of the output kernel; the output bias starts at zero.

    Call arguments:
        states: the states of every layer in turn, each (B, units).
        clock: (B, S) or (B, S, ...); only its second size, the number of frames S, is used.
        teacher: (B, S, D), the true frames, for teacher forcing. An unconditional decoder never
            reads it.

    Returns:
        (B, S, D) pre-activations; `activate` turns them into frames.
    """

    def __init__(
        self,
        cells,
        frame_dim,
        conditional=False,
        output="logistic",
        kernel_initializer="glorot_uniform",
        **kwargs,
    ):
        super().__init__(**kwargs)
        outputs.get(output)  # raises ValueError for an unknown name
        self.cells = list(cells)
        self.frame_dim = frame_dim
        self.conditional = conditional
        self.output_name = output
        self.kernel_initializer = keras.initializers.get(kernel_initializer)

    def build(self, states_shape=None, clock_shape=None, teacher_shape=None):
        shape = (None, None, self.frame_dim) if self.conditional else None
        for cell in self.cells:
            if not cell.built:
                cell.build(shape)
            shape = (None, None, cell.units)
        self.kernel = self.add_weight(
            (self.cells[-1].units, self.frame_dim), self.kernel_initializer, name="kernel"
        )
        self.bias = self.add_weight((self.frame_dim,), "zeros", name="bias")
        sizes = [*state_sizes(self.cells).values(), self.frame_dim]
        self.feedback = keras.layers.RNN(
            _FeedbackCell(self._feedback_step, sizes, self.compute_dtype), return_sequences=True
        )
        self.built = True

    def _frames(self, h):
        return project(h, self.kernel, self.bias, self.cells[-1].gemm_dtype)

    def activate(self, x):
        """Turns pre-activations into frames."""
        return outputs.get(self.output_name).activate(x)

    def call(self, states, clock, teacher=None):
        if self.conditional and teacher is None:
            return self._feed_back(states, clock)
        x = None
        if self.conditional:
            x = ops.concatenate([ops.zeros_like(teacher[:, :1]), teacher[:, :-1]], axis=1)
        for cell, state in zip(self.cells, by_layer(self.cells, states), strict=True):
            x, *_ = cell(x, initial_state=state, steps=ops.shape(clock)[1])
        return self._frames(x)

    def _feed_back(self, states, clock):
        check_steps(self.name, ops.shape(clock)[1])
        batch = ops.shape(states[0])[0]
        ticks = ops.zeros((batch, ops.shape(clock)[1], 1), self.compute_dtype)
        first = ops.zeros((batch, self.frame_dim), self.compute_dtype)
        return self.feedback(ticks, initial_state=[*states, first])

    def _feedback_step(self, state):
        """Returns (pre-activation of this frame, next state) from [the states, previous frame]."""
        *states, x = state
        h, next_states = advance(self.cells, x, states)
        frame = self._frames(h)
        return frame, [*next_states, self.activate(frame)]

    def compute_output_shape(self, states_shape, clock_shape, teacher_shape=None):
        return (*clock_shape[:2], self.frame_dim)

    def get_config(self):
        return {
            **super().get_config(),
            "cells": [keras.saving.serialize_keras_object(cell) for cell in self.cells],
            "frame_dim": self.frame_dim,
            "conditional": self.conditional,
            "output": self.output_name,
            "kernel_initializer": keras.initializers.serialize(self.kernel_initializer),
        }

    @classmethod
    def from_config(cls, config):
        cells = [keras.saving.deserialize_keras_object(cell) for cell in config["cells"]]
        return cls(**{**config, "cells": cells})


class _FeedbackCell:
    """The decoder's step as a cell of `keras.layers.RNN`, which does not use its input.

    It is not a layer itself, since the weights belong to the decoder.
    """

    def __init__(self, step, state_size, compute_dtype):
        self.step = step
        self.compute_dtype = compute_dtype
        self.state_size = state_size
        self.output_size = state_size[-1]

    def __call__(self, tick, state):
        return self.step(state)

    call = __call__
