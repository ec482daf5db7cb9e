"""The fast time loop of `cells.PeepholeLSTM` on TensorFlow; see `fast_loop` for the reasons."""

import tensorflow as tf

from unsup_video.models.fast_loop import columns, compiled, loop, transpose


@compiled
def _cell(recurrent, projected, c_prev, peepholes):
    """Computes one step from `recurrent` R' h_{t-1} and `projected` W' x_t + b, both (4 units, B).

    The gates are in the order i, f, g, o; `peepholes` (3, units, 1) are those of i, f, o. Returns
    (h, c, gates).
    """
    i, f, g, o = tf.split(tf.cast(recurrent, c_prev.dtype) + projected, 4, axis=0)
    i = tf.sigmoid(i + peepholes[0] * c_prev)
    f = tf.sigmoid(f + peepholes[1] * c_prev)
    g = tf.tanh(g)
    c = f * c_prev + i * g
    o = tf.sigmoid(o + peepholes[2] * c)
    return o * tf.tanh(c), c, tf.concat([i, f, g, o], axis=0)


@compiled
def _cell_gradient(dh_out, dh, dc_out, dc, gates, c, c_prev, peepholes):
    """Returns the gradient of `_cell` with respect to its pre-activations (4 units, B) and c_prev.

    `dh` and `dc` come from step t + 1, `dh_out` and `dc_out` from outside the loop.
    """
    i, f, g, o = tf.split(gates, 4, axis=0)
    tanh_c = tf.tanh(c)
    dh = dh_out + tf.cast(dh, c.dtype)
    do = dh * tanh_c * o * (1 - o)
    dc = dc_out + dc + dh * o * (1 - tanh_c * tanh_c) + do * peepholes[2]
    di = dc * g * i * (1 - i)
    df = dc * c_prev * f * (1 - f)
    dg = dc * i * (1 - g * g)
    dc_prev = dc * f + di * peepholes[0] + df * peepholes[1]
    return tf.concat([di, df, dg, do], axis=0), dc_prev


def recurrence(projected, h0, c0, recurrent_kernel, peepholes, steps, gemm_dtype):
    """Runs the peephole LSTM over time; `cells.PeepholeLSTM` has the equations.

    Args:
        projected: x_t W + b of every step, (B, T, 4 units); or, for a layer without input, the
            bias (4 units,).
        h0, c0: (B, units), the initial state.
        recurrent_kernel: (units, 4 units). peepholes: (3, units).
        steps: T, a Python integer or a scalar int32 tensor.
        gemm_dtype: dtype of the recurrent products; everything else keeps the dtype of c0.

    Returns:
        (h, c), each (B, T, units): output and cell after every step.
    """
    has_input = len(projected.shape) == 3
    dtype = c0.dtype

    @tf.custom_gradient
    def run(projected, h0, c0, recurrent_kernel, peepholes):
        kernel = tf.cast(recurrent_kernel, gemm_dtype)
        kernel_t = transpose(kernel)
        p = peepholes[:, :, None]
        h0, c0 = tf.transpose(h0), tf.transpose(c0)
        z = tf.transpose(projected, (1, 2, 0)) if has_input else projected[:, None]

        def forward(t, carry):
            h, c = carry
            recurrent = tf.matmul(kernel_t, tf.cast(h, gemm_dtype))
            h, c, gates = _cell(recurrent, z[t] if has_input else z, c, p)
            return (h, c), (h, c, gates)

        _, (h_all, c_all, gates_all) = loop(steps, forward, (h0, c0), (dtype, dtype, dtype))

        def gradient(dh_all, dc_all):
            dh_all, dc_all = tf.transpose(dh_all, (1, 2, 0)), tf.transpose(dc_all, (1, 2, 0))
            h_before = tf.concat([h0[None], h_all[:-1]], axis=0)
            c_before = tf.concat([c0[None], c_all[:-1]], axis=0)

            def backward(k, carry):
                dh, dc = carry
                t = steps - 1 - k
                dz, dc = _cell_gradient(
                    dh_all[t], dh, dc_all[t], dc, gates_all[t], c_all[t], c_before[t], p
                )
                dz_gemm = tf.cast(dz, gemm_dtype)
                return (tf.matmul(kernel, dz_gemm), dc), (dz,)

            zeros = tf.zeros_like(c0)
            (dh0, dc0), (dz_all,) = loop(
                steps, backward, (tf.cast(zeros, gemm_dtype), zeros), (dtype,)
            )
            dz_all = tf.reverse(dz_all, [0])  # the loop ran from the last step to the first
            dkernel = tf.matmul(
                columns(tf.cast(h_before, gemm_dtype)),
                columns(tf.cast(dz_all, gemm_dtype)),
                transpose_b=True,
            )
            di, df, _, do = tf.split(dz_all, 4, axis=1)
            dpeepholes = tf.stack(
                [
                    tf.reduce_sum(di * c_before, axis=(0, 2)),
                    tf.reduce_sum(df * c_before, axis=(0, 2)),
                    tf.reduce_sum(do * c_all, axis=(0, 2)),
                ]
            )
            if has_input:
                dprojected = tf.transpose(dz_all, (2, 0, 1))
            else:
                dprojected = tf.reduce_sum(dz_all, axis=(0, 2))
            return (
                dprojected,
                tf.transpose(tf.cast(dh0, dtype)),
                tf.transpose(dc0),
                tf.cast(dkernel, dtype),
                dpeepholes,
            )

        return (tf.transpose(h_all, (2, 0, 1)), tf.transpose(c_all, (2, 0, 1))), gradient

    # tf.custom_gradient takes tensors, not variables.
    tensors = (projected, h0, c0, recurrent_kernel, peepholes)
    return run(*(tf.convert_to_tensor(x) for x in tensors))
