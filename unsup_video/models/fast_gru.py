"""The fast time loop of `cells.GRU` on TensorFlow; `fast_loop` explains why it is fast."""

import tensorflow as tf

from unsup_video.models.fast_loop import columns, compiled, loop, transpose


@compiled
def _cell(recurrent, recurrent_bias, projected, h_prev):
    """Computes one step from `recurrent` R' h_{t-1} and `projected` W' x_t + b, both (3 units, B).

    The gates are in the order z, r, g; `recurrent_bias` is (3 units, 1). Returns (h, gates), where
    gates (4 units, B) are z, r, g, and the value that r multiplies.
    """
    recurrent = tf.cast(recurrent, h_prev.dtype) + recurrent_bias
    recurrent_z, recurrent_r, recurrent_g = tf.split(recurrent, 3, axis=0)
    z, r, g = tf.split(projected, 3, axis=0)
    z = tf.sigmoid(z + recurrent_z)
    r = tf.sigmoid(r + recurrent_r)
    g = tf.tanh(g + r * recurrent_g)
    return z * h_prev + (1 - z) * g, tf.concat([z, r, g, recurrent_g], axis=0)


@compiled
def _cell_gradient(dh_out, dh_product, dh, gates, h_prev):
    """Returns the gradient of `_cell` with respect to `recurrent` (3 units, B), the pre-activation
    of g (units, B), and h_prev as far as it does not pass through the kernel.

    `dh_product` and `dh` come from step t + 1, through the kernel and directly; `dh_out` comes from
    outside the loop. For z and r, `recurrent` and `projected` have the same gradient.
    """
    z, r, g, recurrent_g = tf.split(gates, 4, axis=0)
    dh = dh_out + tf.cast(dh_product, g.dtype) + dh
    dz = dh * (h_prev - g) * z * (1 - z)
    dg = dh * (1 - z) * (1 - g * g)
    dr = dg * recurrent_g * r * (1 - r)
    return tf.concat([dz, dr, dg * r], axis=0), dg, dh * z


def recurrence(projected, h0, recurrent_kernel, recurrent_bias, steps, gemm_dtype):
    """Runs the GRU over time; `cells.GRU` has the equations.

    Args:
        projected: x_t W + b of every step, (B, T, 3 units); or, for a layer without input, the
            bias (3 units,).
        h0: (B, units), the initial state.
        recurrent_kernel: (units, 3 units). recurrent_bias: (3 units,).
        steps: T, a Python integer or a scalar int32 tensor.
        gemm_dtype: dtype of the recurrent products; everything else keeps the dtype of h0.

    Returns:
        h after every step, (B, T, units).
    """
    has_input = len(projected.shape) == 3
    dtype = h0.dtype

    @tf.custom_gradient
    def run(projected, h0, recurrent_kernel, recurrent_bias):
        kernel = tf.cast(recurrent_kernel, gemm_dtype)
        kernel_t = transpose(kernel)
        d = recurrent_bias[:, None]
        h0 = tf.transpose(h0)
        x = tf.transpose(projected, (1, 2, 0)) if has_input else projected[:, None]

        def forward(t, h):
            recurrent = tf.matmul(kernel_t, tf.cast(h, gemm_dtype))
            h, gates = _cell(recurrent, d, x[t] if has_input else x, h)
            return h, (h, gates)

        _, (h_all, gates_all) = loop(steps, forward, h0, (dtype, dtype))

        def gradient(dh_all):
            dh_all = tf.transpose(dh_all, (1, 2, 0))
            h_before = tf.concat([h0[None], h_all[:-1]], axis=0)

            def backward(k, carry):
                t = steps - 1 - k
                d_recurrent, dg, dh = _cell_gradient(dh_all[t], *carry, gates_all[t], h_before[t])
                product = tf.matmul(kernel, tf.cast(d_recurrent, gemm_dtype))
                return (product, dh), (d_recurrent, dg)

            zeros = tf.zeros_like(h0)
            (dh_product, dh), values = loop(
                steps, backward, (tf.cast(zeros, gemm_dtype), zeros), (dtype, dtype)
            )
            # The loop ran from the last step to the first.
            d_recurrent, dg = (tf.reverse(value, [0]) for value in values)
            dkernel = tf.matmul(
                columns(tf.cast(h_before, gemm_dtype)),
                columns(tf.cast(d_recurrent, gemm_dtype)),
                transpose_b=True,
            )
            dx = tf.concat([d_recurrent[:, : -dg.shape[1]], dg], axis=1)
            dprojected = tf.transpose(dx, (2, 0, 1)) if has_input else tf.reduce_sum(dx, (0, 2))
            return (
                dprojected,
                tf.transpose(tf.cast(dh_product, dtype) + dh),
                tf.cast(dkernel, dtype),
                tf.reduce_sum(d_recurrent, (0, 2)),
            )

        return tf.transpose(h_all, (2, 0, 1)), gradient

    # tf.custom_gradient takes tensors, not variables.
    tensors = (projected, h0, recurrent_kernel, recurrent_bias)
    return run(*(tf.convert_to_tensor(x) for x in tensors))
