"""The time loop that `fast_lstm` and `fast_gru` share.

Four things make it faster than a time loop under automatic differentiation, here with N gates:

* Everything from the product with the inputs to its gradient is feature-major: states are
  (units, B), and a sequence is T * B columns, those of the first step first. (N units, units) x
  (units, B) ran faster than (B, units) x (units, N units) for 1024 and 2048 units and the batches
  of training (B <= 128) on the Intel CPUs where both were timed, for the LSTM by a factor of 1.1 to
  2; on an AMD EPYC it was up to 7% slower (docs/results/train_step.md).
* The values of an unrolled loop stay where they are: the backward loop reads them from a list.
* The backward loop carries only the gradient of the state. The gradient of the recurrent kernel is
  ONE product over all T * B columns after the loop, where autodiff sums T small ones.
* XLA compiles the arithmetic between the products into one kernel per step.
"""

import functools

import tensorflow as tf

# The loop is unrolled up to this many steps, which is about 2% faster than a while loop.
_MAX_UNROLLED_STEPS = 32

compiled = functools.partial(tf.function, jit_compile=True, autograph=False)


def transpose(matrix):
    # One matrix of a batch of one, so that the graph optimiser cannot fold the transpose into
    # MatMul(transpose_a=True), whose kernel is slower for small batches. XLA would take 2.5 times
    # as long for it.
    return tf.transpose(matrix[None], (0, 2, 1))[0]


def _unrolled(steps):
    return isinstance(steps, int) and steps <= _MAX_UNROLLED_STEPS


def loop(steps, body, carry, dtypes):
    """Runs `carry, values = body(t, carry)` for t = 0..steps-1; returns the carry and the values.

    `dtypes` are those of the values. The loop is unrolled if `steps` is a small Python integer;
    each value is then a list of T tensors, which are never copied, and otherwise stacked over time.
    """
    if _unrolled(steps):
        values = []
        for t in range(steps):
            carry, value = body(t, carry)
            values.append(value)
        return carry, [list(value) for value in zip(*values, strict=True)]

    arrays = [tf.TensorArray(dtype, steps) for dtype in dtypes]

    def step(t, before, arrays):
        carry, values = body(t, before)
        for value, known in zip(tf.nest.flatten(carry), tf.nest.flatten(before), strict=True):
            value.set_shape(known.shape)  # a step whose input has an unknown shape forgets it
        return t + 1, carry, [array.write(t, v) for array, v in zip(arrays, values, strict=True)]

    _, carry, arrays = tf.while_loop(
        lambda t, *_: t < steps, step, (tf.constant(0), carry, arrays), maximum_iterations=steps
    )
    return carry, [array.stack() for array in arrays]


# ---------------------------------------------------------------------- columns
#
# Below, `parts` are the values of a loop over time, (n, B) each: a list, or stacked (T, n, B).
# Sequences are transposed in two passes, rows first and matrices then: a transpose of three axes at
# once takes three times as long.


def columns(sequence):
    """Reshapes (B, T, n) to (n, T * B)."""
    rows = tf.reshape(tf.transpose(sequence, (1, 0, 2)), (-1, sequence.shape[2]))
    return transpose(rows)


def sequence(columns, steps):
    """Reshapes (n, T * B) to (B, T, n)."""
    rows = tf.reshape(transpose(columns), (steps, -1, columns.shape[0]))
    return tf.transpose(rows, (1, 0, 2))


def split(columns, steps):
    """Divides (n, T * B) into parts."""
    if _unrolled(steps):
        return tf.split(columns, steps, axis=1)
    return tf.transpose(tf.reshape(columns, (columns.shape[0], steps, -1)), (1, 0, 2))


def join(parts):
    """Returns parts as columns (n, T * B)."""
    if isinstance(parts, list):
        return tf.concat(parts, axis=1)
    return tf.reshape(tf.transpose(parts, (1, 0, 2)), (parts.shape[1], -1))


def backwards(parts):
    """Returns the parts from the last step to the first."""
    return parts[::-1] if isinstance(parts, list) else tf.reverse(parts, [0])


def before(first, parts):
    """Returns the parts of one step earlier, which start with `first`."""
    if isinstance(parts, list):
        return [first, *parts[:-1]]
    return tf.concat([first[None], parts[:-1]], axis=0)


def input_product(inputs, kernel, gemm_dtype):
    """Returns the product of inputs (B, T, D) and kernel (D, N) as columns (N, T * B).

    The product runs in `gemm_dtype`; the result has the kernel's dtype.
    """
    product = tf.matmul(
        tf.cast(kernel, gemm_dtype), columns(tf.cast(inputs, gemm_dtype)), transpose_a=True
    )
    return tf.cast(product, kernel.dtype)
