"""In which dtype the matrix products run."""

from pathlib import Path

import tensorflow as tf

_CHOICES = ("auto", "float32", "bfloat16")


def gemm_dtype(precision: str) -> str:
    """The dtype that `config.precision` stands for.

    "auto" is bfloat16 where the machine multiplies it faster than float32: with a GPU, or a CPU
    that has AVX512-BF16 or AMX instructions. Without them bfloat16 is emulated, and slow.

    Raises:
        ValueError: for another value than auto, float32, bfloat16.
    """
    if precision not in _CHOICES:
        raise ValueError(f"unknown precision {precision!r}: one of {', '.join(_CHOICES)}")
    if precision != "auto":
        return precision
    if tf.config.list_physical_devices("GPU"):
        return "bfloat16"
    cpuinfo = Path("/proc/cpuinfo")
    cpu = cpuinfo.read_text() if cpuinfo.exists() else ""
    return "bfloat16" if "avx512_bf16" in cpu or "amx_bf16" in cpu else "float32"
