"""Whole runs of `python -m train.pretrain`, tiny ones, in processes of their own."""

import functools
import json
import os
import resource
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from commands import ROOT
from runs import (
    NO_GENERATOR,
    TINY,
    CallIn,
    Run,
    SignalIn,
    assert_bit_identical,
    environment,
    what_training_left,
)
from unsup_video.data import records
from unsup_video.training import checkpoints

pytestmark = pytest.mark.slow


@pytest.fixture(scope="session")
def uninterrupted(tmp_path_factory):
    workdir = tmp_path_factory.mktemp("runs") / "uninterrupted"
    run = subprocess.run(
        [sys.executable, "-m", "train.pretrain", f"--workdir={workdir}", *TINY],
        cwd=ROOT,
        env={**os.environ, **environment()},
        capture_output=True,
        text=True,
        check=False,
    )
    assert run.returncode == 0, run.stderr
    return workdir, run.stdout


def test_a_run_writes_everything_and_says_where(uninterrupted):
    workdir, output = uninterrupted
    for text in (
        "compiling",
        "step 12/12 (100.0%)",
        "examples/s",
        "ETA",
        "nats/frame",
        "5,000 MNIST digits",
        "always the mean frame",
        "the targets' entropy",
        "next:",
    ):
        assert text in output
    named = [Path(line.strip()) for line in output.splitlines() if line.endswith((".png", ".gif"))]
    assert len(named) == 8 and all(path.is_file() for path in named)

    info = json.loads((workdir / "run.json").read_text())
    assert info["data"]["sha256"].keys() == {"train", "validation", "test"}
    assert info["gemm_dtype"] in ("float32", "bfloat16") and info["seed"] == 0
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    train = [line for line in lines if line["split"] == "train"]
    assert [line["step"] for line in train] == [2, 4, 6, 8, 10, 12]
    assert {"gradient_norm", "learning_rate", "free_running/future"} <= train[0].keys()
    assert [line["step"] for line in lines if line["split"] == "validation"] == [4, 8, 12]
    assert list((workdir / "tb").glob("events*"))
    assert (workdir / "export" / "1" / "saved_model.pb").exists()
    assert f"exported: {workdir / 'export' / '1'}" in output
    results = json.loads((workdir / "results.json").read_text())
    assert results["floors"]["future"]["entropy"] < results["scores"]["free_running/future"]


def test_the_figures_are_what_the_best_checkpoint_gives(uninterrupted):
    workdir, _ = uninterrupted
    lines = [json.loads(line) for line in (workdir / "metrics.jsonl").read_text().splitlines()]
    scores = {
        line["step"]: line["free_running/future"] for line in lines if line["split"] == "validation"
    }
    results = json.loads((workdir / "results.json").read_text())
    assert results["step"] == min(scores, key=scores.get)


def test_a_finished_run_is_shown_again_and_another_config_is_refused(uninterrupted):
    workdir, output = uninterrupted
    shutil.rmtree(workdir / "export")
    status, again = Run(workdir, "--export").finish()
    assert status == 0 and "this run is finished" in again
    assert (workdir / "export" / "1" / "saved_model.pb").exists()
    table = [line for line in output.splitlines() if "this run (step" in line]
    assert table and table[0] in again
    status, refused = Run(workdir, "--config.model.units=9").finish()
    assert status == 1 and "model.units: 8 there, 9 here" in refused
    dtype = json.loads((workdir / "run.json").read_text())["gemm_dtype"]
    other = {"float32": "bfloat16", "bfloat16": "float32"}[dtype]
    status, refused = Run(workdir, f"--precision={other}").finish()
    assert status == 1 and f"is finished, and its matrix products were in {dtype}" in refused


def test_an_overwritten_run_is_kept_until_the_new_one_is_finished(uninterrupted, tmp_path):
    workdir, aside = tmp_path / "run", tmp_path / "run" / ".replaced"
    shutil.copytree(uninterrupted[0], workdir)
    kill = SignalIn(signal.SIGKILL, "train_step", 1)
    assert (
        Run(workdir, "--overwrite", "--config.seed=1", before=kill).finish()[0] == -signal.SIGKILL
    )
    assert (aside / "results.json").exists() and not (workdir / "results.json").exists()
    assert what_training_left(aside).keys() == what_training_left(uninterrupted[0]).keys()
    status, output = Run(workdir, "--config.seed=1").finish()
    assert status == 0 and f"the old run is in {aside} until" in output
    assert (workdir / "results.json").exists() and not aside.exists()


class DieInSave:
    """Kills its process in the second save: with half a file written, or before the rename."""

    def __init__(self, moment):
        self.moment = moment
        self.saves = 0

    def __call__(self):
        module, name = {"writing": (np, "savez"), "renaming": (os, "replace")}[self.moment]
        original = getattr(module, name)

        def dying(path, *arguments, **options):
            self.saves += "checkpoints" in str(path) and "-step-" in str(path)
            if self.saves == 2:
                if self.moment == "writing":
                    path.write_bytes(b"half a file")
                os.kill(os.getpid(), signal.SIGKILL)
            return original(path, *arguments, **options)

        setattr(module, name, dying)


def test_interrupted_in_all_ways_it_ends_bit_identical(uninterrupted, tmp_path):
    """The checkpoints are of every third step, and of the step after SIGTERM."""
    folder = tmp_path / "run" / "checkpoints"
    for killer, resumed_from in (
        (DieInSave("writing"), None),  # saving step 6
        (DieInSave("renaming"), 3),  # saving step 9
        (SignalIn(signal.SIGKILL, "validate", 8), 6),
        (SignalIn(signal.SIGKILL, "train_step", 11), 6),
    ):
        killed = Run(tmp_path / "run", before=killer)
        assert killed.finish()[0] == -signal.SIGKILL
        if resumed_from is None:
            assert "resumed from" not in killed.output
        else:
            assert f"resumed from {folder / f'step-{resumed_from:08d}'}" in killed.output
        if isinstance(killer, DieInSave):
            assert list(folder.glob(".partial-*"))  # what the next save clears away
    terminated = Run(tmp_path / "run", before=SignalIn(signal.SIGTERM, "train_step", 9))
    status, output = terminated.finish()
    assert status == 75 and f"resumed from {folder / 'step-00000009'}" in output
    assert "SIGTERM: saved step 11 of 12" in output
    status, output = Run(tmp_path / "run").finish()
    assert status == 0 and f"resumed from {folder / 'step-00000011'}" in output
    assert not list(folder.glob(".partial-*"))
    assert_bit_identical(what_training_left(uninterrupted[0]), what_training_left(tmp_path / "run"))


def test_a_damaged_latest_checkpoint_falls_back(uninterrupted, tmp_path):
    shutil.copytree(uninterrupted[0], tmp_path / "run")
    newest = sorted((tmp_path / "run" / "checkpoints").glob("step-*"))[-1]
    (tmp_path / "run" / "results.json").unlink()
    (newest / "arrays.npz").write_bytes(b"damaged")
    status, output = Run(tmp_path / "run").finish()
    assert status == 0 and f"{newest / 'arrays.npz'}: damaged" in output
    resumed = json.loads((tmp_path / "run" / "run.json").read_text())["resumed"]
    assert resumed[-1]["resumed_from"] < newest.name
    assert_bit_identical(what_training_left(uninterrupted[0]), what_training_left(tmp_path / "run"))


def test_a_non_finite_loss_stops_the_run_and_keeps_the_last_good_checkpoint(tmp_path):
    # The rate climbs until the weights overflow.
    status, output = Run(
        tmp_path / "run",
        "--config.recipe.learning_rate=1e35",
        "--config.recipe.warmup_fraction=1",
        "--config.train.checkpoint_every=1",
    ).finish()
    assert status == 1 and "the loss is not finite any more at step" in output
    latest = checkpoints.latest(tmp_path / "run" / "checkpoints")
    assert f"The last good checkpoint is {latest}" in output
    _, arrays, _ = checkpoints.restore(latest)
    assert all(np.isfinite(a).all() for a in arrays.values())


def test_a_full_disk_is_a_clear_error_that_keeps_the_previous_checkpoint(tmp_path):
    # A limit on the size of files stands in for the end of the disk. The first save still fitted,
    # and so does the output, in which XLA has much to say about what it compiled before.
    fill = functools.partial(resource.setrlimit, resource.RLIMIT_FSIZE, (100_000, 100_000))
    status, output = Run(tmp_path / "run", before=CallIn(fill, "save", 6)).finish()
    assert status == 1 and "cannot be written (File too large)" in output
    assert "Traceback" not in output
    kept = checkpoints.latest(tmp_path / "run" / "checkpoints")
    assert f"checkpoints kept: best-00000004, {kept.name}" in output
    assert kept.name == "step-00000003"


def test_a_checkpoint_of_another_architecture_is_refused(uninterrupted, tmp_path):
    run = tmp_path / "run"
    shutil.copytree(uninterrupted[0], run)
    config = json.loads((run / "config.json").read_text())
    config["model"]["units"] = 9
    (run / "config.json").write_text(json.dumps(config))
    (run / "results.json").unlink()
    status, output = Run(run, "--config.model.units=9").finish()
    assert status == 1
    assert "is a checkpoint of another architecture" in output
    assert "(8, 32) in the checkpoint, (9, 36) in this model" in output


def test_a_run_on_records_resumes_and_names_damage(tmp_path):
    rng = np.random.default_rng(0)
    drawn = rng.integers(0, 256, (52, 5, 28, 28), np.uint8)
    for split, start, count in (("train", 0, 30), ("validation", 30, 10), ("test", 40, 12)):
        clips = drawn[start : start + count]
        clips[:2] = drawn[:2]  # two clips of training are in all parts
        records.write(tmp_path / "data" / split, clips, count, "noise", {}, shards=2)
    tiny = [*TINY, *NO_GENERATOR, f"--config.data.records={tmp_path / 'data'}"]
    status, output = Run(tmp_path / "whole", tiny=tiny).finish()
    assert status == 0 and "records, noise" in output
    assert output.count("CAUTION: 2 of the test's sequences are of the run's train split") == 2
    assert (tmp_path / "whole" / "trained_on.npz").exists()
    seen = json.loads((tmp_path / "whole" / "results.json").read_text())["seen"]
    assert seen == {"train": 2, "validation": 2}

    kill = SignalIn(signal.SIGKILL, "train_step", 8)
    assert Run(tmp_path / "run", tiny=tiny, before=kill).finish()[0] == -signal.SIGKILL
    assert Run(tmp_path / "run", tiny=tiny).finish()[0] == 0
    whole, run = (what_training_left(tmp_path / name) for name in ("whole", "run"))
    assert_bit_identical(whole, run)

    # A run from before such fields were refused is gone on with.
    stored = tmp_path / "whole" / "config.json"
    stored.write_text(stored.read_text().replace('"num_digits": 2', '"num_digits": 1'))
    status, output = Run(tmp_path / "whole", "--config.data.num_digits=1", tiny=tiny).finish()
    assert status == 0 and "this run is finished" in output

    shard = min((tmp_path / "data" / "train").glob("*.tfrecord"))
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 1
    shard.write_bytes(data)
    status, output = Run(tmp_path / "damaged", tiny=tiny).finish()
    assert status == 1 and "a data set is damaged" in output and "data_prep.verify" in output
    assert "Traceback" not in output

    too_long = Run(tmp_path / "long", "--config.data.frames_in=4", tiny=tiny).finish()
    assert too_long[0] == 1 and "the longest sequence has 5" in too_long[1]


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--config.model.unitz=3"], 'Did you mean "units"'),
        (["--confg=quickstart"], "Unknown command line flag 'confg'"),
        (["--config=quickstart:sgd"], "no recipe 'sgd'"),
        (["--config.data.frames_out=0"], "config.data.frames_out must be at least 1, got 0"),
        (["--digits_dir=nowhere"], "nowhere: none of train-images-idx3-ubyte"),
        ([*NO_GENERATOR, "--config.data.records=nowhere"], "nowhere"),
        (
            ["--config.data.records=nowhere"],
            "config.data.num_digits=1 would be ignored, since data.records has the clips",
        ),
        (["quickstart"], "unknown argument 'quickstart'"),
    ],
)
def test_bad_input_is_one_line_and_leaves_no_run(tmp_path, flags, message):
    status, output = Run(tmp_path / "run", *flags).finish()
    assert status == 1 and message in output and "Traceback" not in output
    assert not (tmp_path / "run").exists()


def test_what_a_named_config_sets_and_records_do_not_need_is_not_refused(tmp_path):
    status, output = Run(
        tmp_path / "run", "--config.data.records=nowhere", tiny=["--config=moving_mnist_hour"]
    ).finish()
    assert status == 1 and "would be ignored" not in output
    assert "config.data.records=nowhere (a path from" in output


def test_an_unwritable_workdir_is_a_clear_error(tmp_path):
    (tmp_path / "file").write_text("")
    run = Run(tmp_path / "x", f"--workdir={tmp_path / 'file' / 'run'}")
    status, output = run.finish()
    assert status == 1 and "file/run cannot be written" in output and "Traceback" not in output
