import dataclasses
import importlib.util
import json
import math
import sys

import keras
import numpy as np
import pytest

from benchmarks import _common, _moving_mnist, _quality, quality_contenders, time_to_quality
from benchmarks._common import Size
from benchmarks._quality import Result, Run
from unsup_video.models.outputs import OUTPUTS

SIZE = Size(8, batch=3, frames=4, frame_dim=32 * 32)


def result(losses, run=Run("keras", 1e-3, "constant", 300, 0), end="finished"):
    curve = [
        {"step": 100 * (k + 1), "future": loss, "minutes": k + 1.0} for k, loss in enumerate(losses)
    ]
    return Result(run, curve, end, {"version": "1"})


# ---------------------------------------------------------------------- thresholds


def test_a_target_is_met_at_the_first_evaluation_at_or_below_it():
    found = result([500.0, 450.0, 460.0, 430.0])
    assert [
        found.first_at(loss) and found.first_at(loss)["step"] for loss in (500, 450, 449, 1)
    ] == [
        100,
        200,  # at the target itself; 460 after it does not matter
        400,
        None,
    ]


def test_the_loss_is_that_of_the_package():
    rng = np.random.default_rng(0)
    targets = rng.random((3, 4, 50), np.float32)
    x = rng.normal(0, 10, (3, 4, 50)).astype(np.float32)
    package = np.mean(OUTPUTS["logistic"].frame_losses(targets, x))
    assert _quality.nats_per_frame(targets, x) == pytest.approx(package, rel=1e-6)
    certain = _quality.nats_per_frame(np.ones((1, 1, 2)), np.array([[[1e4, -1e4]]]))
    assert certain == pytest.approx(1e4)  # of the wrong pixel alone, without overflow


class Scripted:
    """A contender whose predictions get worse or better as they are told."""

    def __init__(self, x, seconds=1.0):
        self.x, self.seconds, self.done, self.info = list(x), seconds, [], {"version": "0"}

    def train(self, steps):
        self.done.append(steps)
        return self.seconds * steps

    def predict(self, past):
        return np.full_like(past, self.x.pop(0))


def test_a_run_is_evaluated_at_its_steps_and_at_the_end():
    contender = Scripted([0.0, 1.0, 2.0])
    run, clips = Run("keras", 1e-3, "constant", 250, 0), np.zeros((2, 6, 10), np.uint8)
    found = _quality.train(contender, run, clips, eval_every=100)
    assert contender.done == [100, 100, 50] and found.end == "finished"
    assert [point["step"] for point in found.curve] == [100, 200, 250]
    assert [point["minutes"] for point in found.curve] == pytest.approx(
        [100 / 60, 200 / 60, 250 / 60]
    )
    by_hand = [10 * math.log1p(math.exp(x)) for x in (0, 1, 2)]  # of black pixels
    assert [point["future"] for point in found.curve] == pytest.approx(by_hand)
    assert found.last == pytest.approx(by_hand[-1])


@pytest.mark.parametrize(
    "x, minutes, end, points",
    [([0.0, math.nan], math.inf, "diverged", 1), ([0.0, 0.0], 3, "max_minutes", 2)],
)
def test_a_run_ends_early(x, minutes, end, points):
    run, clips = Run("keras", 1e-3, "constant", 300, 0), np.zeros((1, 2, 3), np.uint8)
    found = _quality.train(Scripted(x), run, clips, eval_every=100, max_minutes=minutes)
    assert found.end == end and len(found.curve) == points and found.last == math.inf


# ---------------------------------------------------------------------- the search


def plan(**values):
    return time_to_quality.Plan(
        **{
            **dict(steps=300, search_steps=100, rates=(1e-3, 2e-3), schedules=("linear",)),
            **dict(seeds=(5, 6)),
            **values,
        }
    )


def test_the_search_tries_everything_with_the_first_seed():
    runs = plan(schedules=("linear", "constant")).search("torch")
    assert {(run.rate, run.schedule) for run in runs} == {
        (1e-3, "linear"),
        (2e-3, "linear"),
        (1e-3, "constant"),
        (2e-3, "constant"),
    }
    assert {(run.contender, run.steps, run.seed) for run in runs} == {("torch", 100, 5)}
    assert plan().search("package") == []
    assert len({run.name for run in runs}) == 4


def test_the_run_with_the_lowest_loss_at_the_end_is_chosen():
    low, high = plan().search("keras")
    searched = [
        result([600.0, 500.0], low),
        result([600.0, 499.0], high),
        result([1.0], dataclasses.replace(high, rate=1.0), "diverged"),
    ]
    assert _quality.best(searched).run == high
    assert plan().final("keras", searched) == [
        Run("keras", 2e-3, "linear", 300, 5),
        Run("keras", 2e-3, "linear", 300, 6),
    ]
    assert plan().final("package", []) == [Run("package", 0.0, "recipe", 300, s) for s in (5, 6)]
    with pytest.raises(
        ValueError, match=r"no run .* finished \(keras-0.002-linear-100-5\).*--rates"
    ):
        _quality.best([result([1.0], high, "diverged")])
    with pytest.raises(ValueError, match="none is there"):
        _quality.best([])


# ---------------------------------------------------------------------- the report


@pytest.fixture
def store(tmp_path):
    """The results of a package and a Keras that were trained with two seeds."""
    store, wanted = time_to_quality.Store(tmp_path / "runs", {"clips": 1}), plan()
    curves = {"package": [440.0, 420.0], "keras": [460.0, 430.0]}
    for run in wanted.search("keras"):
        result([500 - 1e4 * run.rate], run).write(store.path(run))
    for name, losses in curves.items():
        searched = store.results(wanted.search(name))
        for run in wanted.final(name, searched):
            found = result([loss + 11 * (run.seed - 5) for loss in losses], run)
            found.write(store.path(run))
    store.rounds.write_text(
        json.dumps({"package": [3.0, 1.0, 2.0], "keras": [6.0], "keras without XLA": [7.0]})
    )
    return store


def test_the_costs_of_a_target_by_hand(store):
    names = ["package", "keras"]
    found = time_to_quality.summary(store, plan(), names, [450.0, 425.0], SIZE)
    flop = (
        2
        * 3
        * (  # 2 x batch x weights x steps x passes
            1024 * 32 * 4 * 2 + 8 * 32 * 3 * 3 + 2 * (8 * 32 * 4 * 3 + 8 * 1024 * 4 * 3)
        )
    )
    assert found["gflop_per_step"] * 1e9 == pytest.approx(flop)
    rows = {(row["contender"], row["target"]): row for row in found["targets"]}
    first = rows["package", 450.0]
    assert first["reached"] == [100, 200]  # seed 6 has 451 at step 100
    assert first["steps"] == 150 and first["seconds_per_step"] == 2.0
    assert first["minutes"] == 150 * 2 / 60
    assert first["tflop"] == pytest.approx(150 * flop / 1e12)
    second = rows["package", 425.0]
    assert second["reached"] == [200] and "minutes" not in second  # one of two seeds
    assert second["lowest"] == [420.0, 431.0]
    (search,) = found["searches"]  # two runs of one evaluation after 100 steps
    assert search["contender"] == "keras" and search["steps"] == 200
    assert search["minutes"] == 200 * 6 / 60  # the faster of the two executions
    table = [(row[2], row[4]) for row in time_to_quality.target_rows(found)]
    assert table == [
        ("150 (100-200)", "5.0"),
        ("reached by 1 of 2 runs; lowest 420.0, 431.0", "> 10.0"),  # 300 steps of 2 s
        ("200 (200-200)", "20.0"),
        ("reached by 0 of 2 runs; lowest 430.0, 441.0", "> 30.0"),
    ]


def test_a_run_of_the_search_that_counts_is_listed_once(tmp_path, store):
    longer = time_to_quality.Store(tmp_path / "longer", {"clips": 1})
    longer.rounds.write_text(store.rounds.read_text())
    wanted = plan(search_steps=300)
    for run in wanted.search("keras"):
        result([460.0, 430.0 - run.rate], run).write(longer.path(run))
    found = time_to_quality.summary(longer, wanted, ["keras"], [450.0], SIZE)
    assert [(r["run"]["rate"], r["run"]["seed"]) for r in found["runs"]] == [(1e-3, 5), (2e-3, 5)]
    assert found["targets"][0]["reached"] == [200] and found["targets"][0]["runs"] == 1


def test_a_report_needs_the_time_of_a_step(store):
    store.rounds.write_text(json.dumps({"keras": [6.0], "keras without XLA": [6.0]}))
    with pytest.raises(ValueError, match="no rounds of package; --phases=rounds"):
        time_to_quality.summary(store, plan(), ["package", "keras"], [450.0], SIZE)


def test_a_folder_has_one_setting(store):
    time_to_quality.Store(store.folder, {"clips": 1})
    with pytest.raises(ValueError, match="other values of clips; .*--workdir"):
        time_to_quality.Store(store.folder, {"clips": 2})


# ---------------------------------------------------------------------- contenders


@pytest.mark.slow
def test_drawn_clips_are_those_of_the_package(tmp_path):
    run = Run("torch", 1e-3, "linear", 2, 1)
    quality_contenders.write_stream(tmp_path / "stream.npz", SIZE, run)
    stream = dict(np.load(tmp_path / "stream.npz"))
    drawn = [_moving_mnist.drawn(stream, first, 3, 8, 32) for first in (0, 3)]
    source = quality_contenders.sources.build(quality_contenders.config_of(SIZE, run, ""))
    for own, package in zip(drawn, source.train(3, 0), strict=False):
        assert own.dtype == np.uint8
        np.testing.assert_array_equal(own, np.rint(255 * package))


@pytest.mark.slow
def test_the_benchmark_runs_and_resumes(tmp_path, monkeypatch):
    # The package, and PyTorch where it is installed; Keras has a test of its own.
    contenders = ["package"] + ["torch"] * bool(importlib.util.find_spec("torch"))
    out, workdir = tmp_path / "page.md", tmp_path / "runs"
    flags = ["--units=8", "--batch=3", "--frame_size=32", "--clips=4", "--steps=3"]
    flags += ["--search_steps=2", "--eval_every=2", "--seeds=0", "--rates=1e-3"]
    flags += ["--schedules=linear", f"--contenders={','.join(contenders)}"]
    flags += [f"--workdir={workdir}", f"--out={out}", "--thresholds=1e4,0", "--phases=runs,report"]
    monkeypatch.setattr(_common, "machine", lambda: "the machine")  # of a command; this is none
    monkeypatch.setattr(sys, "argv", ["time_to_quality", *flags])
    with pytest.raises(SystemExit, match="no rounds of package"):
        time_to_quality.main()
    (workdir / "rounds.json").write_text(json.dumps({name: [1.0] for name in contenders}))

    def no_run(*_):
        pytest.fail("a run that is there was made again")

    monkeypatch.setattr(_quality, "start", no_run)
    time_to_quality.main()
    found = json.loads(out.with_suffix(".json").read_text())
    steps = {(r["run"]["contender"], r["run"]["steps"]): r["curve"] for r in found["runs"]}
    assert {name for name, _ in steps} == {*contenders}
    assert all([p["step"] for p in steps[name, 3]] == [2, 3] for name in contenders)
    assert [row["reached"] for row in found["targets"]] == [[2], []] * len(contenders)


@pytest.mark.parametrize("name", time_to_quality.NAMES)
def test_every_contender_is_in_the_tables_of_its_module(name):
    if name != "torch":  # whose module needs PyTorch
        assert name in quality_contenders.TRAINED
        assert {*time_to_quality.EXECUTIONS[name]} <= set(quality_contenders.CONTENDERS)
    assert name in _quality.MODULES


@pytest.fixture
def dtype_policy():
    before = keras.config.dtype_policy()
    yield
    keras.config.set_dtype_policy(before)


@pytest.mark.slow
@pytest.mark.parametrize(
    ("contender", "dtype"),
    [
        (quality_contenders.StockLstm, "float32"),
        (quality_contenders.StockLstmBfloat16WithoutXla, "bfloat16"),
    ],
)
def test_stock_keras_trains(contender, dtype, dtype_policy):
    run = Run("keras", 4e-3, "linear", 4, 0)
    contender = contender(SIZE, run)
    assert {layer.compute_dtype for layer in contender._network.layers} == {dtype}
    if contender.jit_compile is False:  # "auto" depends on what else this process has set
        assert contender._network.jit_compile is False
    clips = np.zeros((2, 8, 32 * 32), np.uint8)  # almost all pixels of digits are black
    found = _quality.train(contender, run, clips, eval_every=2)
    assert [point["step"] for point in found.curve] == [2, 4] and found.end == "finished"
    assert found.curve[1]["future"] < found.curve[0]["future"] < 32 * 32 * math.log(2) + 1
    assert float(contender._network.optimizer.learning_rate) == pytest.approx(0)  # fitted


@pytest.mark.parametrize(
    ("contender", "dtype"),
    [(quality_contenders.Package, "float32"), (quality_contenders.PackageBfloat16, "bfloat16")],
)
def test_the_package_multiplies_in_its_precision(contender, dtype):
    built = contender(SIZE, Run("package", 0.0, "recipe", 4, 0))
    assert {cell.gemm_dtype for cell in built.model.cells} == {dtype}
    assert built.predict(np.zeros((2, 4, 32 * 32), np.float32)).dtype == np.float32


def test_the_first_step_of_an_epoch_is_not_in_a_round(monkeypatch):
    now = iter([10.0, 17.0, 20.0])  # the epoch begins, its first step ends, the epoch ends
    monkeypatch.setattr(quality_contenders.time, "perf_counter", lambda: next(now))
    clock = quality_contenders._Clock()
    clock.on_epoch_begin(0)
    for batch in range(3):
        clock.on_train_batch_end(batch)
    clock.on_epoch_end(0)
    assert (clock.seconds, clock.later_steps) == (10.0, 3.0)


def test_a_round_is_divided_by_its_steps():
    class Fake:
        def __init__(self, size, run):
            self.info, self.clock = {}, self
            self.later_steps = 24.0

        def train(self, steps):
            self.steps = steps
            return 36.0

    stock, _ = quality_contenders._stock_rounds(Fake)(SIZE)
    package, _ = quality_contenders._package_rounds(Fake)(SIZE)
    assert (stock(), package()) == (24.0 / 12, 36.0 / 12)
