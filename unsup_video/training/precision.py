"""The dtype of the matrix products."""

from pathlib import Path

CHOICES = ("auto", "float32", "bfloat16")


def gemm_dtype(precision: str) -> str:
    """Returns the dtype that `config.precision` means.

    "auto" is bfloat16 with a GPU, or a CPU that has AMX instructions. With AVX512-BF16 alone a
    training step takes 1.7 times as long as in float32 (docs/results/train_step.md), and with
    neither bfloat16 is emulated, and slower still.

    Raises:
        ValueError: the value is not auto, float32 or bfloat16.
    """
    if precision not in CHOICES:
        raise ValueError(f"unknown precision {precision!r}: one of {', '.join(CHOICES)}")
    if precision != "auto":
        return precision
    import tensorflow as tf  # only to look for a GPU

    if tf.config.list_physical_devices("GPU") or "amx_bf16" in _cpu_flags():
        return "bfloat16"
    return "float32"


def _cpu_flags() -> list[str]:
    """Returns the instruction sets of the first processor, as Linux names them; [] elsewhere."""
    cpuinfo = Path("/proc/cpuinfo")
    lines = cpuinfo.read_text().splitlines() if cpuinfo.exists() else []
    flags = (line.partition(":")[2].split() for line in lines if line.startswith("flags"))
    return next(flags, [])
