import pytest
import tensorflow as tf

from unsup_video.training import precision
from unsup_video.utils import processor


@pytest.mark.parametrize(
    "vendor, flags, gpus, expected",
    [
        # Intel's bfloat16 products without AMX are slower than those in float32.
        ("GenuineIntel", "avx512f avx512_bf16", [], "float32"),
        ("GenuineIntel", "avx512_bf16 amx_bf16 amx_tile", [], "bfloat16"),
        ("AuthenticAMD", "avx512f avx512_bf16", [], "bfloat16"),
        ("AuthenticAMD", "avx2", [], "float32"),
        ("AuthenticAMD", "avx2", ["a GPU"], "bfloat16"),
    ],
)
def test_auto(monkeypatch, vendor, flags, gpus, expected):
    cpu = {"vendor_id": vendor, "flags": flags}
    monkeypatch.setattr(precision, "_cpu", lambda: cpu)
    monkeypatch.setattr(tf.config, "list_physical_devices", lambda kind: gpus)
    assert precision.gemm_dtype("auto") == expected
    monkeypatch.setattr(precision, "_cpu", dict)  # a system that does not say
    assert precision.gemm_dtype("auto") == ("bfloat16" if gpus else "float32")
    assert precision.gemm_dtype("float32") == "float32"
    assert precision.gemm_dtype("bfloat16") == "bfloat16"


def test_the_fields_of_the_first_processor(tmp_path):
    cpuinfo = tmp_path / "cpuinfo"
    assert processor.fields(cpuinfo) == {}  # a system without such a file
    cpuinfo.write_text(
        "processor\t: 0\nvendor_id\t: AuthenticAMD\nflags\t\t: fpu avx512_bf16\n\nprocessor\t: 1\n"
    )
    assert processor.fields(cpuinfo) == {
        "processor": "0",
        "vendor_id": "AuthenticAMD",
        "flags": "fpu avx512_bf16",
    }


def test_an_unknown_precision_is_refused():
    with pytest.raises(ValueError, match="'half': one of auto, float32, bfloat16"):
        precision.gemm_dtype("half")
