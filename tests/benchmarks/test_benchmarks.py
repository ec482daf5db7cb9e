import re
import sys

import pytest

from benchmarks import _common, serving, train_step
from benchmarks._common import Size
from benchmarks._workers import Worker
from benchmarks.contenders import differences_of_equal_models


def test_the_flop_of_a_step_by_hand():
    # Weights x steps x passes of the default size; 2 x 100 operations for each.
    encoder = 4096 * 8192 * 10 * 2 + 2048 * 8192 * 9 * 3
    decoder = 2048 * 8192 * 10 * 3 + 2048 * 4096 * 10 * 3
    assert Size().flop == 200 * (encoder + 2 * decoder)
    assert Size().flop / 1e9 == pytest.approx(527, abs=1)
    frames = 4096 * 8192 * 9  # what each of two conditional decoders reads: all but the first frame
    for conditional, passes in {"truth": 2, "own": 3}.items():
        assert Size(conditional=conditional).flop == Size().flop + 200 * 2 * frames * passes


def test_a_page_that_is_written_again_keeps_its_notes(tmp_path, monkeypatch):
    monkeypatch.setattr(_common, "machine", lambda: "the machine")  # of a command; this is none
    page, notes = tmp_path / "page.md", "\n## Notes\n\nBy hand.\n\n## More by hand\n"
    _common.report("Title", ["first"], page)
    assert page.read_text() == "# Title\n\nthe machine\n\nfirst\n"
    page.write_text(page.read_text() + notes)
    _common.report("Title", ["second", "third"], page)
    assert page.read_text() == "# Title\n\nthe machine\n\nsecond\n\nthird\n" + notes


def test_the_rows_of_other_composites():
    rows = []
    for name, size in train_step.models(Size()).items():
        seconds = {"gemm_floor": [2.0, 1.0], "ours_float32": [2.0], "stock_lstm": [3.0]}
        results = {
            case: train_step.Result(seconds[case[0]], 1.5, {})
            for case in train_step.model_cases(size)
        }
        rows.append(train_step.model_row(name, size, results))
    assert [row[4] for row in rows] == ["1.50", "1.50", ""]  # stock layers read no own frames
    assert [row[5] for row in rows] == ["50%"] * 3  # of the floor's best round


@pytest.mark.slow
@pytest.mark.parametrize("layers, conditional", [(1, ""), (2, ""), (1, "truth")])
def test_contenders_train_the_same_model(layers, conditional):
    # Our layers against a cell in keras.layers.RNN, from equal weights.
    size = Size(6, layers, batch=3, frames=4, frame_dim=10, conditional=conditional)
    differences = differences_of_equal_models(size)
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


def test_a_bandwidth_is_measured_of_any_size():
    assert all(0 < _common.read_bandwidth(size) < 1e13 for size in (1, 3, 64))


def test_the_floor_of_a_request_by_hand(tmp_path):
    model = serving.composite(8, 8, tmp_path).model
    encoder, recurrent, output = 64 * 32, 8 * 32, 8 * 64  # numbers of weights
    read = {"encode": encoder + 9 * recurrent, "step": encoder + 2 * recurrent + output}
    read["reconstruct"] = read["predict_future"] = read["encode"] + 10 * recurrent + output
    read["serving_default"] = read["encode"] + 2 * (10 * recurrent + output)
    computed = {"encode": 10 * encoder + 9 * recurrent}
    computed["predict_future"] = computed["encode"] + 10 * (recurrent + output)
    found = serving.products(model, 10, 10)

    def floor(name, **rates):
        return sum(product.floor(3, **rates) for product in found[name])

    assert {name: floor(name, bandwidth=4, rate=1e99) for name in found} == pytest.approx(read)
    for name, weights in computed.items():
        assert floor(name, bandwidth=1e99, rate=6) == pytest.approx(weights)


@pytest.mark.slow
def test_the_benchmark_of_serving_runs(tmp_path, monkeypatch):
    out = tmp_path / "serving.md"
    monkeypatch.setattr(_common, "machine", lambda: "the machine")  # of a command; this is none
    flags = ["--units=8", "--frame_size=8", "--batches", "1", "3", "--rounds=2", f"--out={out}"]
    monkeypatch.setattr(sys, "argv", ["serving", *flags])
    serving.main()
    rows = re.findall(r"^\| (\w+) \| `(\w+)` \| (\d) \|", out.read_text(), re.MULTILINE)
    assert len(rows) == len(set(rows)) and {clips for *_, clips in rows} == {"1", "3"}
    assert {("composite", "predict_future_uint8", "3"), ("classifier", "classify", "1")} <= {*rows}
