"""The fast time loop of `cells.GRU` on TensorFlow; `fast_loop` explains why it is fast."""

import tensorflow as tf

from unsup_video.models.fast_loop import (
    backwards,
    before,
    columns,
    compiled,
    input_product,
    join,
    loop,
    sequence,
    split,
    transpose,
)


@compiled
def _cell(recurrent, recurrent_bias, others, h_prev):
    """Computes one step from `recurrent` R' h_{t-1} (3 units, B).

    `others` are the terms without h_{t-1}: b (3 units, 1) and, with input, W' x_t. The gates are in
    the order z, r, g; `recurrent_bias` is (3 units, 1). Returns (h, gates), where gates (4 units,
    B) are z, r, g, and the value that r multiplies.
    """
    recurrent = tf.cast(recurrent, h_prev.dtype) + recurrent_bias
    recurrent_z, recurrent_r, recurrent_g = tf.split(recurrent, 3, axis=0)
    z, r, g = tf.split(sum(others), 3, axis=0)
    z = tf.sigmoid(z + recurrent_z)
    r = tf.sigmoid(r + recurrent_r)
    g = tf.tanh(g + r * recurrent_g)
    return z * h_prev + (1 - z) * g, tf.concat([z, r, g, recurrent_g], axis=0)


@compiled
def _cell_gradient(dh_out, dh, gates, h_prev):
    """Returns the gradient of `_cell` with respect to `recurrent` (3 units, B), the pre-activation
    of g (units, B), and h_prev as far as it does not pass through the kernel.

    `dh` has the terms that come from step t + 1; `dh_out` comes from outside the loop. For z and r,
    `recurrent` and `others` have the same gradient.
    """
    z, r, g, recurrent_g = tf.split(gates, 4, axis=0)
    dh = dh_out + sum(dh)
    dz = dh * (h_prev - g) * z * (1 - z)
    dg = dh * (1 - z) * (1 - g * g)
    dr = dg * recurrent_g * r * (1 - r)
    return tf.concat([dz, dr, dg * r], axis=0), dg, dh * z


def recurrence(inputs, kernel, bias, h0, recurrent_kernel, recurrent_bias, steps, gemm_dtype):
    """Runs the GRU over time; `cells.GRU` has the equations.

    Args:
        inputs: (B, T, D), and kernel (D, 3 units); or None for both.
        bias: (3 units,).
        h0: (B, units), the initial state.
        recurrent_kernel: (units, 3 units). recurrent_bias: (3 units,).
        steps: T, a Python integer or a scalar int32 tensor.
        gemm_dtype: dtype of the matrix products; everything else keeps the dtype of h0.

    Returns:
        (h after every step (B, T, units), and the last h (B, units)).
    """
    dtype = h0.dtype

    @tf.custom_gradient
    def run(bias, h0, recurrent_kernel, recurrent_bias, *projected):
        r = tf.cast(recurrent_kernel, gemm_dtype)
        r_t = transpose(r)
        b, d = bias[:, None], recurrent_bias[:, None]
        h0 = tf.transpose(h0)
        x = [split(value, steps) for value in projected]

        def forward(t, h):
            recurrent = tf.matmul(r_t, tf.cast(h, gemm_dtype))
            h, gates = _cell(recurrent, d, [b, *(value[t] for value in x)], h)
            return h, (h, gates)

        h, (h_all, gates_all) = loop(steps, forward, h0, (dtype, dtype))

        def gradient(dh_all, dh):
            dh_all = split(columns(dh_all), steps)
            h_before = before(h0, h_all)

            def backward(k, dh):
                t = steps - 1 - k
                d_recurrent, dg, dh = _cell_gradient(dh_all[t], dh, gates_all[t], h_before[t])
                product = tf.cast(tf.matmul(r, tf.cast(d_recurrent, gemm_dtype)), dtype)
                return (product, dh), (d_recurrent, dg)

            start = tf.zeros_like(h0), tf.transpose(dh)
            dh0, values = loop(steps, backward, start, (dtype, dtype))
            # The loop ran from the last step to the first.
            d_recurrent, dg = (join(backwards(value)) for value in values)
            dkernel = tf.matmul(
                tf.cast(join(h_before), gemm_dtype),
                tf.cast(d_recurrent, gemm_dtype),
                transpose_b=True,
            )
            dx = tf.concat([d_recurrent[: -dg.shape[0]], dg], axis=0)
            return (
                tf.reduce_sum(dx, axis=1),
                tf.transpose(sum(dh0)),
                tf.cast(dkernel, dtype),
                tf.reduce_sum(d_recurrent, axis=1),
                *(dx for _ in projected),
            )

        return (sequence(join(h_all), steps), tf.transpose(h)), gradient

    projected = [] if inputs is None else [input_product(inputs, kernel, gemm_dtype)]
    # tf.custom_gradient takes tensors, not variables.
    tensors = (bias, h0, recurrent_kernel, recurrent_bias, *projected)
    return run(*(tf.convert_to_tensor(x) for x in tensors))
