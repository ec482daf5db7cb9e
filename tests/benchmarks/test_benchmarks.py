import collections
import re
import sys

import pytest

from benchmarks import _common
from benchmarks._common import Size
from benchmarks._workers import Worker
from benchmarks.contenders import differences_of_equal_models
from unsup_video.models import classifiers, video_models


def test_the_flop_of_a_step_by_hand():
    # Weights x steps x passes of the default size; 2 x 100 operations for each.
    encoder = 4096 * 8192 * 10 * 2 + 2048 * 8192 * 9 * 3
    decoder = 2048 * 8192 * 10 * 3 + 2048 * 4096 * 10 * 3
    assert Size().flop == 200 * (encoder + 2 * decoder)
    assert Size().flop / 1e9 == pytest.approx(527, abs=1)


@pytest.mark.slow
@pytest.mark.parametrize("layers", [1, 2])
def test_contenders_train_the_same_model(layers):
    # Our layers against a cell in keras.layers.RNN, from equal weights.
    differences = differences_of_equal_models(Size(6, layers, batch=3, frames=4, frame_dim=10))
    assert differences["loss"] < 1e-6 and differences["gradient"] < 1e-4


@pytest.mark.parametrize(
    "program",
    ["exec sleep 600", "echo '{\"info\": {}}'; exec sleep 600", "exit 1"],
    ids=["hangs", "hangs later", "ends"],
)
def test_a_contender_that_does_not_answer_is_an_error(tmp_path, program):
    python, timeout = tmp_path / "python", 0.5 if "sleep" in program else 60
    python.write_text(f"#!/bin/sh\n{program}\n")
    python.chmod(0o755)
    message = f"other ended, or did not answer in {timeout:g} s"
    with (
        pytest.raises(RuntimeError, match=message),
        Worker("contenders", "other", Size(), str(python), timeout=timeout) as worker,
    ):
        worker.step()


@pytest.fixture(scope="module")
def serving():
    pytest.importorskip("tensorflow_serving", reason="needs tensorflow-serving-api")
    from benchmarks import serving

    return serving


def read(serving, products):
    """Bytes that are read over and over -> how many bytes of that are read in all."""
    found = collections.Counter()
    for use in serving.reads(products):
        found[use.among] += use.times * use.size
    return found


def test_the_work_of_a_video_models_signatures_by_hand(serving):
    # Weights: the encoder's 5 x 12 and 3 x 12; of each decoder 3 x 12, and 3 x 5 for the frames.
    work = serving.work(video_models.build("composite", frame_dim=5, units=3), 4, 6)
    encode = 60 * 4 + 36 * 3  # x steps; the first one starts from zeros
    steps = {
        "encode": encode,
        "reconstruct": encode + (36 + 15) * 4,
        "predict_future": encode + (36 + 15) * 6,
        "serving_default": encode + (36 + 15) * (4 + 6),
        "step": 60 + 36 + 36 + 15,
    }
    assert {name: serving.flop(products, 7) for name, products in work.items()} == {
        name: 2 * 7 * count for name, count in steps.items()
    }
    # Each matrix is read once, and each recurrent one at every further step.
    assert read(serving, work["encode"]) == {4 * 96: 4 * 96, 4 * 36: 4 * 36 * 2}
    assert read(serving, work["predict_future"]) == {4 * 147: 4 * 147, 4 * 36: 4 * 36 * (2 + 5)}
    assert read(serving, work["step"]) == {4 * 147: 4 * 147}
    for products in work.values():
        assert sum(use.times * use.flop for use in serving.reads(products)) == (
            serving.flop(products, 1)
        )
    # Reading takes 240 / 240 + 144 / 240 s, and 144 / 144 s at each of two further steps;
    # computing, for a clip, 480 / 480 and 72 / 480 s at each of the three. The longer counts.
    rates = serving.Rates(gemm=480, bandwidth={384: 240, 144: 144})
    assert rates.floor(work["encode"], 1) == pytest.approx(1 + 0.6 + 2)
    assert rates.floor(work["encode"], 5) == pytest.approx(5 + 0.75 + 2)
    assert rates.floor(work["encode"], 10) == pytest.approx(10 + 3 * 1.5)
    with pytest.raises(ValueError, match="conditional"):
        serving.work(video_models.build(frame_dim=5, units=3, conditional_future=True), 4, 6)


def test_the_work_of_a_classifiers_signatures_by_hand(serving):
    # Weights: 5 x 12, 3 x 12, 3 x 12, 3 x 12, and 3 x 2 of the softmax.
    classifier = classifiers.build(("a", "b"), frame_dim=5, units=3, layers=2)
    work = serving.work(classifier, 4, 0)
    encode = (60 + 36) * 4 + (36 + 36) * 3
    assert work["serving_default"] == work["classify"]
    assert serving.flop(work["encode"], 1) == 2 * encode
    assert serving.flop(work["classify"], 1) == 2 * (encode + 6 * 4)
    assert serving.flop(work["step"], 1) == 2 * (60 + 3 * 36 + 6)
    assert read(serving, work["encode"]) == {4 * 168: 4 * 168, 4 * 36: 4 * 36 * 2 * 2}


def test_a_bandwidth_is_measured_of_any_size():
    assert all(0 < _common.read_bandwidth(size) < 1e13 for size in (1, 3, 64))


@pytest.mark.slow
def test_the_benchmark_of_serving_runs(serving, tmp_path, monkeypatch):
    out = tmp_path / "serving.md"
    monkeypatch.setattr(_common, "machine", lambda: "the machine")  # of a command; this is none
    monkeypatch.setattr(
        sys,
        "argv",
        [
            "serving",
            "--models",
            "classifier",
            "--units=8",
            "--frame_size=8",
            "--batch=3",
            "--requests=4",
            "--rounds=2",
            f"--out={out}",
        ],
    )
    serving.main()
    latency, throughput, rates, hop, ways = re.findall(
        r"(?:^\| .*\n)+", out.read_text(), re.MULTILINE
    )
    for table in (latency, throughput):
        assert re.findall(r"^\| (\w+) \| `(\w+)`", table, re.MULTILINE) == [
            ("classifier", name) for name in ("serving_default", "classify", "encode", "step")
        ]
    assert rates.count("\n") > 3
    assert re.findall(r"^\| classifier, `classify` \| (\d)", hop, re.MULTILINE) == ["1", "3"]
    for row in hop.splitlines()[2:]:
        cells = row.strip("| ").split(" | ")[-len(serving.PARTS) :]
        parts = [float(cell.replace(",", "")) for cell in cells]
        assert min(parts) >= 0 < sum(parts)
    assert re.findall(r"^\| classifier, `classify` \| (\w.*?) \|", ways, re.MULTILINE) == [
        "gRPC",
        "gRPC, 4 at a time",
        "REST",
    ]
