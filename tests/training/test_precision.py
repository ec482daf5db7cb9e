import pytest
import tensorflow as tf

from unsup_video.training import precision


@pytest.mark.parametrize(
    "flags, gpus, expected",
    [
        (["avx512f", "avx512_bf16"], [], "float32"),  # its bfloat16 products are the slower ones
        (["avx512_bf16", "amx_bf16", "amx_tile"], [], "bfloat16"),
        ([], [], "float32"),
        ([], ["a GPU"], "bfloat16"),
    ],
)
def test_auto(monkeypatch, flags, gpus, expected):
    monkeypatch.setattr(precision, "_cpu_flags", lambda: flags)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert precision.gemm_dtype("auto") == expected
    assert precision.gemm_dtype("float32") == "float32"
    assert precision.gemm_dtype("bfloat16") == "bfloat16"


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'half': one of auto, float32, bfloat16"):
        precision.gemm_dtype("half")
