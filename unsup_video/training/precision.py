"""The dtype of the matrix products."""

from unsup_video.utils import processor

CHOICES = ("auto", "float32", "bfloat16")
_cpu = processor.fields  # which tests replace


def gemm_dtype(precision: str) -> str:
    """Returns the dtype that `config.precision` means.

    "auto" is bfloat16 with a GPU, and on CPUs that multiply it faster than float32: those with AMX
    instructions, and AMD's with AVX512-BF16. On a Zen 4 a training step takes 0.6 times as long as
    in float32, on an Intel with AVX512-BF16 alone 1.7 times (docs/results/train_step.md). On other
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
