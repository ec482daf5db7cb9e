"""The time loop that `fast_lstm` and `fast_gru` share.

Three things make it faster than a time loop under automatic differentiation, here with N gates:

* States are feature-major, (units, B), inside the loop: (N units, units) x (units, B) ran faster
  than (B, units) x (units, N units) for 1024 and 2048 units and the batches of training (B <= 128)
  on the CPUs where both were timed; for the LSTM by a factor of 1.1 to 2.
* The backward loop carries only the gradient of the state. The gradient of the recurrent kernel is
  ONE product over all T * B columns after the loop, where autodiff sums T small ones.
* XLA compiles the arithmetic between the products into one kernel per step.
"""

import functools

import tensorflow as tf

# The loop is unrolled up to this many steps, which is about 2% faster than a while loop.
_MAX_UNROLLED_STEPS = 32

compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


@compiled
def transpose(matrix):
    # A compiled function of its own, so that the graph optimiser cannot fold the transpose into
    # MatMul(transpose_a=True), whose kernel runs at half the speed for small batches.
    return tf.transpose(matrix)


def loop(steps, body, carry, dtypes):
    """Runs `carry, values = body(t, carry)` for t = 0..steps-1 and stacks the values over time.

    `dtypes` are those of the values. The loop is unrolled if `steps` is a small Python integer.
    """
    if isinstance(steps, int) and steps <= _MAX_UNROLLED_STEPS:
        values = []
        for t in range(steps):
            carry, value = body(t, carry)
            values.append(value)
        return carry, [tf.stack(value) for value in zip(*values, strict=True)]

    arrays = [tf.TensorArray(dtype, steps) for dtype in dtypes]

    def step(t, carry, arrays):
        carry, values = body(t, carry)
        return t + 1, carry, [array.write(t, v) for array, v in zip(arrays, values, strict=True)]

    _, carry, arrays = tf.while_loop(
        lambda t, *_: t < steps, step, (tf.constant(0), carry, arrays), maximum_iterations=steps
    )
    return carry, [array.stack() for array in arrays]


def columns(x):
    """Reshapes (T, n, B) to (n, T * B)."""
    return tf.reshape(tf.transpose(x, (1, 0, 2)), (x.shape[1], -1))
