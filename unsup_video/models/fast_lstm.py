"""The fast time loop of `cells.PeepholeLSTM` on TensorFlow; see `fast_loop` for the reasons."""

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
def _cell(recurrent, others, c_prev, peepholes):
    """Computes one step from `recurrent` R' h_{t-1} (4 units, B).

    `others` are the other terms of the pre-activations: b (4 units, 1) and, with input, W' x_t. The
    gates are in the order i, f, g, o; `peepholes` (3, units, 1) are those of i, f, o. Returns
    (h, c, gates).
    """
    i, f, g, o = tf.split(tf.cast(recurrent, c_prev.dtype) + sum(others), 4, axis=0)
    i = tf.sigmoid(i + peepholes[0] * c_prev)
    f = tf.sigmoid(f + peepholes[1] * c_prev)
    g = tf.tanh(g)
    c = f * c_prev + i * g
    o = tf.sigmoid(o + peepholes[2] * c)
    return o * tf.tanh(c), c, tf.concat([i, f, g, o], axis=0)


@compiled
def _cell_gradient(dh_out, dh, dc, gates, c, c_prev, peepholes):
    """Returns the gradient of `_cell` with respect to its pre-activations (4 units, B) and c_prev.

    `dh` and `dc` come from step t + 1, `dh_out` from outside the loop.
    """
    i, f, g, o = tf.split(gates, 4, axis=0)
    tanh_c = tf.tanh(c)
    dh = dh_out + dh
    do = dh * tanh_c * o * (1 - o)
    dc = dc + dh * o * (1 - tanh_c * tanh_c) + do * peepholes[2]
    di = dc * g * i * (1 - i)
    df = dc * c_prev * f * (1 - f)
    dg = dc * i * (1 - g * g)
    dc_prev = dc * f + di * peepholes[0] + df * peepholes[1]
    return tf.concat([di, df, dg, do], axis=0), dc_prev


@compiled
def _peephole_gradient(dz, c_before, c):
    """Returns the gradient of the peepholes (3, units); all arguments are columns."""
    di, df, _, do = tf.split(dz, 4, axis=0)
    return tf.stack([tf.reduce_sum(x, axis=1) for x in (di * c_before, df * c_before, do * c)])


def recurrence(inputs, kernel, bias, h0, c0, recurrent_kernel, peepholes, steps, gemm_dtype):
    """Runs the peephole LSTM over time; `cells.PeepholeLSTM` has the equations.

    Args:
        inputs: (B, T, D), and kernel (D, 4 units); or None for both.
        bias: (4 units,).
        h0, c0: (B, units), the initial state.
        recurrent_kernel: (units, 4 units). peepholes: (3, units).
        steps: T, a Python integer or a scalar int32 tensor.
        gemm_dtype: dtype of the matrix products; everything else keeps the dtype of c0.

    Returns:
        (h after every step (B, T, units), and the last h and c, (B, units) each).
    """
    dtype = c0.dtype

    @tf.custom_gradient
    def run(bias, h0, c0, recurrent_kernel, peepholes, *projected):
        r = tf.cast(recurrent_kernel, gemm_dtype)
        r_t = transpose(r)
        b, p = bias[:, None], peepholes[:, :, None]
        h0, c0 = tf.transpose(h0), tf.transpose(c0)
        z = [split(value, steps) for value in projected]

        def forward(t, carry):
            h, c = carry
            recurrent = tf.matmul(r_t, tf.cast(h, gemm_dtype))
            h, c, gates = _cell(recurrent, [b, *(value[t] for value in z)], c, p)
            return (h, c), (h, c, gates)

        (h, c), (h_all, c_all, gates_all) = loop(steps, forward, (h0, c0), (dtype, dtype, dtype))

        def gradient(dh_all, dh, dc):
            dh_all = split(columns(dh_all), steps)
            c_before = before(c0, c_all)

            def backward(k, carry):
                dh, dc = carry
                t = steps - 1 - k
                dz, dc = _cell_gradient(dh_all[t], dh, dc, gates_all[t], c_all[t], c_before[t], p)
                dh = tf.cast(tf.matmul(r, tf.cast(dz, gemm_dtype)), dtype)
                return (dh, dc), (dz,)

            start = tf.transpose(dh), tf.transpose(dc)
            (dh0, dc0), (dz_all,) = loop(steps, backward, start, (dtype,))
            dz = join(backwards(dz_all))  # the loop ran from the last step to the first
            dkernel = tf.matmul(
                tf.cast(join(before(h0, h_all)), gemm_dtype),
                tf.cast(dz, gemm_dtype),
                transpose_b=True,
            )
            return (
                tf.reduce_sum(dz, axis=1),
                tf.transpose(dh0),
                tf.transpose(dc0),
                tf.cast(dkernel, dtype),
                _peephole_gradient(dz, join(c_before), join(c_all)),
                *(dz for _ in projected),
            )

        return (sequence(join(h_all), steps), tf.transpose(h), tf.transpose(c)), gradient

    projected = [] if inputs is None else [input_product(inputs, kernel, gemm_dtype)]
    # tf.custom_gradient takes tensors, not variables.
    tensors = (bias, h0, c0, recurrent_kernel, peepholes, *projected)
    return run(*(tf.convert_to_tensor(x) for x in tensors))
