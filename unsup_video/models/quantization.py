"""Storage of kernels in fewer bits than float32, which makes an export smaller.

Kernels are the matrices of the layers, nearly all weights of a model. In float16 they are rounded.
In int8 every `BLOCK` neighbours in a row share a float32 scale, and a weight is an integer from
-127 to 127 times its scale. All other weights (peepholes, biases, the scale of frames) stay
float32.
"""

from collections.abc import Callable

import keras
import numpy as np
import tensorflow as tf

DTYPES = ("float32", "float16", "int8")
# Weights of neighbouring pixels have similar sizes, but some parts of a frame have far larger ones:
# one scale for a whole row or column would lose much more precision.
BLOCK = 32


def check_dtype(kernel_dtype: str) -> None:
    """Raises ValueError for a dtype that kernels cannot be stored in."""
    if kernel_dtype not in DTYPES:
        raise ValueError(f"unknown kernel_dtype {kernel_dtype!r}: one of {', '.join(DTYPES)}")


def quantize(kernel: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Turns a kernel (N, M) float32 into values and scales.

    Returns (values (N, M) int8, scales (N, ceil(M / BLOCK)) float32).

    No weight changes by more than half its scale.
    """
    rows, columns = kernel.shape
    blocks = -(-columns // BLOCK)
    padded = np.pad(kernel, ((0, 0), (0, blocks * BLOCK - columns))).reshape(rows, blocks, BLOCK)
    scales = np.abs(padded).max(axis=-1) / np.float32(127)
    scales[scales == 0] = 1  # a block of zeros, for which any scale works
    values = np.rint(padded / scales[..., None]).astype(np.int8)
    return values.reshape(rows, -1)[:, :columns], scales


def dequantize(values, scales) -> tf.Tensor:
    """Returns the kernel (N, M) float32 of the arrays or tensors that `quantize` returns."""
    rows, columns = values.shape
    blocks = scales.shape[1]
    padded = tf.pad(values, ((0, 0), (0, blocks * BLOCK - columns)))
    integers = tf.cast(tf.reshape(padded, (rows, blocks, BLOCK)), tf.float32)
    return tf.reshape(integers * scales[..., None], (rows, -1))[:, :columns]


class StoredWeights:
    """The weights of a network in the form that an export stores.

    Args:
        weights: name -> variable. kernel_dtype: one of `DTYPES`.

    Attributes:
        module: the variables to save. `weights` holds those in float32 and float16 by name; `int8`
            and `scales` hold the two parts of every kernel in int8.
        kernels: path of a variable -> the kernel that the export computes with, a float32 array;
            empty if kernels stay in float32.

    Raises:
        ValueError: an unknown dtype, or a kernel that float16 cannot hold.
    """

    def __init__(self, weights: dict[str, keras.Variable], kernel_dtype: str):
        check_dtype(kernel_dtype)
        self.kernels: dict[str, np.ndarray] = {}
        # path -> a function that makes the kernel in the graph that is being traced
        self._tensors: dict[str, Callable] = {}
        full, int8, scales = {}, {}, {}
        for name, variable in weights.items():
            if kernel_dtype == "float32" or not variable.path.endswith("kernel"):
                full[name] = variable.value
            elif kernel_dtype == "float16":
                full[name] = self._add_float16(name, variable)
            else:
                int8[name], scales[name] = self._add_int8(variable)
        self.module = tf.Module()
        self.module.weights = full
        if int8:
            self.module.int8, self.module.scales = int8, scales

    def _add_float16(self, name, variable):
        kernel = variable.numpy()
        largest = np.finfo(np.float16).max
        if np.abs(kernel).max() > largest:
            raise ValueError(
                f"{name}: float16 holds no more than {largest:.0f}, and the largest weight is "
                f"{np.abs(kernel).max():.4g}; store the kernels in int8 or float32"
            )
        stored = tf.Variable(kernel.astype(np.float16), trainable=False)
        self.kernels[variable.path] = stored.numpy().astype(np.float32)
        self._tensors[variable.path] = lambda: tf.cast(stored, tf.float32)
        return stored

    def _add_int8(self, variable):
        parts = quantize(variable.numpy())
        values, scales = (tf.Variable(part, trainable=False) for part in parts)
        self.kernels[variable.path] = dequantize(*parts).numpy()
        self._tensors[variable.path] = lambda: dequantize(values, scales)
        return values, scales

    def scope(self, layers: list[keras.Layer]) -> keras.StatelessScope:
        """Returns a context in which these layers compute with the stored kernels.

        Entering it in a graph adds operations that make the kernels from the stored values at every
        call, so enter it in each traced function, outside of loops.
        """
        variables = {v.path: v for layer in layers for v in layer.weights}
        return keras.StatelessScope(
            [
                (variable, self._tensors[path]())
                for path, variable in variables.items()
                if path in self._tensors
            ]
        )
