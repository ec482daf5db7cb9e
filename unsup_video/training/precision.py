"""The dtype of the matrix products."""

from pathlib import Path

CHOICES = ("auto", "float32", "bfloat16")


def gemm_dtype(precision: str) -> str:
    """Returns the dtype that `config.precision` means.

    "auto" is bfloat16 with a GPU, and on CPUs that multiply it faster than float32: those with AMX
    instructions, and AMD's with AVX512-BF16, where a training step takes 0.6 times as long. On
    Intel's with AVX512-BF16 alone it takes 1.7 times as long (docs/results/train_step.md). On other
    CPUs bfloat16 is emulated, and slower still.

    Raises:
        ValueError: the value is not auto, float32 or bfloat16.
    """
    if precision not in CHOICES:
        raise ValueError(f"unknown precision {precision!r}: one of {', '.join(CHOICES)}")
    if precision != "auto":
        return precision
    import tensorflow as tf  # only to look for a GPU

    gpu = tf.config.list_physical_devices("GPU")
    return "bfloat16" if gpu or _faster_in_bfloat16(_cpu()) else "float32"


def _faster_in_bfloat16(cpu):
    instructions = cpu.get("flags", "").split()
    amd = cpu.get("vendor_id") == "AuthenticAMD"
    return "amx_bf16" in instructions or (amd and "avx512_bf16" in instructions)


def _cpu() -> dict[str, str]:
    """Returns the fields of the first processor in /proc/cpuinfo; {} where there is none."""
    cpuinfo = Path("/proc/cpuinfo")
    return fields_of_cpu(cpuinfo.read_text()) if cpuinfo.exists() else {}


def fields_of_cpu(cpuinfo: str) -> dict[str, str]:
    """Returns name -> value of the first processor in the text of /proc/cpuinfo."""
    first = cpuinfo.split("\n\n")[0]
    fields = (line.partition(":") for line in first.splitlines())
    return {name.strip(): value.strip() for name, _, value in fields}
