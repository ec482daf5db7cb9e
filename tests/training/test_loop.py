"""The training loop on a task of its own that takes no time: killed anywhere, and resumed."""

import json
import os
import shutil
import signal

import keras
import numpy as np
import pytest
import tensorflow as tf

from runs import assert_bit_identical, what_training_left
from unsup_video.configs import finetune
from unsup_video.training import checkpoints, distribution, evaluating, loop, optimizers
from unsup_video.training.tasks.base import Task, score_best
from unsup_video.training.workdir import Workdir

STEPS = 9
SCORES = {2: 5.0, 4: 3.0, 6: 4.0, 8: 2.0, 9: 2.5}  # of the validation after these steps
INFO = {"data": {"sha256": {"train": "abc"}}}


class Line(Task):
    """The task of a straight line; what its validation says is given."""

    def __init__(self):
        inputs = keras.Input((1,))
        self.network = keras.Model(inputs, keras.layers.Dense(1, name="dense")(inputs))
        self.scores = SCORES
        self.trainer = None

    def train(self, start, share):
        x = np.random.default_rng(0).normal(size=(4 * STEPS, 1)).astype("float32")
        return tf.data.Dataset.from_tensor_slices(x[start:]).batch(4)

    def losses(self, batch):
        loss = tf.reduce_mean((self.network(batch) - 3 * batch) ** 2)
        return loss, {"loss": loss}

    def validate(self, shared):
        return {"score": self.scores[self.trainer.step]}

    def score(self, figures):
        return figures["score"]

    def test(self):
        return {"kernel": float(self.network.get_layer("dense").kernel.numpy()[0, 0])}


@pytest.fixture(scope="module")
def fresh():
    """A function that gives one and the same trainer at step 0, compiled once."""
    config = finetune.get_config()
    config.train.update({"steps": STEPS, "log_every": 2, "eval_every": 2, "checkpoint_every": 3})
    config.recipe.batch_size = 4
    keras.utils.set_random_seed(0)
    task = Line()
    task.trainer = trainer = loop.Trainer(config, task)
    start = {
        name: v.numpy() for name, v in checkpoints.state(task.network).items()
    } | trainer.slots()

    def at_step_0(scores=SCORES):
        trainer.rewind(config, start)
        task.scores = scores
        return trainer

    return at_step_0


def run(trainer, path, lines=None):
    workdir = Workdir.open(path, {"name": "line", "model": {}})
    try:
        loop.run(trainer, workdir, INFO, log=(lines if lines is not None else []).append)
    finally:
        workdir.lock.close()


class Killed(BaseException):
    """Stands in for SIGKILL: nothing more reaches the disk."""


def kill_at(monkeypatch, number):
    """Ends the process, as it were, at the change number `number` of what has its name on disk."""
    changes = []

    def dying(function, halfway=lambda *arguments: None):
        def change(*arguments, **options):
            changes.append(arguments)
            if len(changes) == number:
                halfway(*arguments)
            if len(changes) >= number:
                raise Killed
            return function(*arguments, **options)

        return change

    def delete_one_file(path, **options):
        for file in sorted(p for p in path.rglob("*") if p.is_file())[:1]:
            file.unlink()

    monkeypatch.setattr(os, "replace", dying(os.replace))
    monkeypatch.setattr(shutil, "rmtree", dying(shutil.rmtree, delete_one_file))


@pytest.fixture(scope="module")
def uninterrupted(fresh, tmp_path_factory):
    path = tmp_path_factory.mktemp("line") / "run"
    run(fresh(), path)
    return what_training_left(path)


def test_the_best_of_an_uninterrupted_run(uninterrupted):
    assert uninterrupted["best step"] == 8
    steps = [line["step"] for line in uninterrupted["metrics"] if line["split"] == "validation"]
    assert steps == list(SCORES)


def test_no_step_waits_for_its_figures(fresh, monkeypatch):
    """They are read where something needs them, all at once."""
    trainer = fresh()
    trainer.train_step(next(trainer.batches()))  # traces the step, which stacks its figures
    trainer = fresh()
    batches = trainer.batches()
    reads = []
    stack = tf.stack
    monkeypatch.setattr(tf, "stack", lambda values: reads.append(len(values)) or stack(values))
    for _ in range(5):
        assert trainer.train_step(next(batches)) is False
    assert not reads and not trainer.sums and trainer.step == 5
    means = trainer.interval_means()
    assert reads == [5] and set(means) == {"loss", "gradient_norm"}
    trainer = fresh()
    batches, losses = trainer.batches(), []
    for _ in range(5):
        trainer.train_step(next(batches))
        losses.append(trainer.interval_means()["loss"])
    assert means["loss"] == sum(losses) / 5


def with_infinite_data(trainer, monkeypatch, number):
    """Makes an infinity of the data of step `number`, counted from 1."""
    train = trainer.task.train

    def spoiled(start, share):
        count = number - 1 - start // 4
        batches = train(start, share)
        bad = batches.skip(count).take(1).map(lambda batch: batch * np.inf)
        return batches.take(count).concatenate(bad).concatenate(batches.skip(count + 1))

    monkeypatch.setattr(trainer.task, "train", spoiled)


def test_a_loss_that_is_not_finite_stops_the_run_at_its_step(fresh, tmp_path, monkeypatch):
    """Step 7 is bad; it is found out at step 8, where something is due."""
    trainer = fresh()
    with_infinite_data(trainer, monkeypatch, 7)
    with pytest.raises(loop.NonFiniteLoss, match="at step 7: loss (nan|inf)(?s:.*)step-00000006"):
        run(trainer, tmp_path)
    left = what_training_left(tmp_path)
    assert left["best step"] == 4 and max(line["step"] for line in left["metrics"]) == 6
    assert not list((tmp_path / "checkpoints").glob("*-0000000[789]"))
    assert all(
        np.isfinite(array).all() for array in (*left["last"].values(), *left["best"].values())
    )


def test_an_unfinished_interval_is_not_saved_with_a_bad_step(fresh, tmp_path, monkeypatch):
    trainer = fresh()
    with_infinite_data(trainer, monkeypatch, 5)
    batches = trainer.batches()
    workdir = Workdir.open(tmp_path, {"name": "line", "model": {}})
    for _ in range(5):
        trainer.train_step(next(batches))
    for saves in (lambda: trainer.save(workdir), trainer.weights, trainer.validate):
        with pytest.raises(loop.NonFiniteLoss, match="^step 5: loss"):
            saves()
    assert not list((tmp_path / "checkpoints").iterdir())
    workdir.lock.close()


def test_one_of_several_processes_is_asked_and_all_stop_after_the_same_step(fresh, monkeypatch):
    """Each learns from the step before, which has been computed already."""
    monkeypatch.setattr(distribution, "processes", lambda strategy: 2)
    trainer = fresh()
    batches = trainer.batches()
    found = []
    for step in range(1, 7):
        found.append(trainer.train_step(next(batches), stop=step >= 3))
        if step % 2 == 0:
            trainer.read()  # does not lose what was asked
    assert found == [False, False, False, True, True, True]


@pytest.mark.parametrize("step", [8, STEPS])
def test_a_signal_in_any_validation_stops_the_run(fresh, tmp_path, step):
    trainer = fresh()
    validate = trainer.task.validate

    def signalled(shared):
        if trainer.step == step:
            os.kill(os.getpid(), signal.SIGTERM)
        return validate(shared)

    trainer.task.validate = signalled
    try:
        saved = f"SIGTERM: saved step {STEPS} of {STEPS}; .* tests and exports"
        with pytest.raises(loop.Interrupted, match=saved):
            run(trainer, tmp_path / "run")
    finally:
        trainer.task.validate = validate
    lines = []
    run(fresh(), tmp_path / "run", lines)
    assert not any("compiling" in line for line in lines)  # there is nothing left to train


def test_the_best_checkpoint_is_tested_and_not_the_last(fresh, tmp_path, monkeypatch):
    monkeypatch.setattr(
        "unsup_video.data.overlap.seen_in_own_test", lambda path, config: {"train": 0}
    )
    trainer = fresh()
    trainer.task.config = trainer.config
    run(trainer, tmp_path)
    results = score_best(trainer.task, Workdir.join(tmp_path))
    _, best, _ = checkpoints.restore(checkpoints.best(tmp_path / "checkpoints"))
    assert list(results.items()) == [
        ("step", 8),
        ("kernel", float(best["model/dense/kernel"][0, 0])),
        ("seen", {"train": 0}),
    ]
    assert json.loads((tmp_path / "results.json").read_text()) == results
    with pytest.raises(FileNotFoundError, match="no best checkpoint"):
        checkpoints.load_best(trainer.task.network, tmp_path)


def test_a_task_says_no_more_than_what_it_is(fresh, tmp_path):
    """The rest has defaults, and what a task must say is named."""
    Task().prepare(print)
    Task().write(None)
    assert (Task.unit, Task.reduction) == ("", "mean")
    with pytest.raises(NotImplementedError):
        Task().validate(evaluating.alone)


def test_another_optimiser_is_trained_stopped_and_resumed(monkeypatch, tmp_path):
    monkeypatch.setitem(
        optimizers.OPTIMIZERS, "sgd", lambda recipe, rate: keras.optimizers.SGD(rate, 0.9)
    )
    config = finetune.get_config()
    config.train.update({"steps": STEPS, "log_every": 2, "eval_every": 2, "checkpoint_every": 3})
    config.recipe.update({"batch_size": 4, "optimizer": "sgd"})

    def trainer():
        keras.utils.set_random_seed(0)
        task = Line()
        task.trainer = loop.Trainer(config, task)
        return task.trainer

    run(trainer(), tmp_path / "whole")
    stopped = trainer()
    train = stopped.task.train
    stopped.task.train = lambda start, share: train(start, share).take(5)
    with pytest.raises(StopIteration):
        run(stopped, tmp_path / "stopped")
    run(trainer(), tmp_path / "stopped")
    whole, again = what_training_left(tmp_path / "whole"), what_training_left(tmp_path / "stopped")
    assert_bit_identical(again, whole)
    assert [name.rpartition("/")[2] for name in whole["last"] if name.startswith("optimizer/")] == [
        "iteration",
        "learning_rate",
        "dense_kernel_momentum",
        "dense_bias_momentum",
    ]


def test_killed_at_any_change_on_disk_a_run_ends_with_its_best(
    fresh, uninterrupted, tmp_path, monkeypatch
):
    # On another machine the scores differ: no later evaluation may be as good as the first time.
    worse = {step: score + 10 for step, score in SCORES.items()}
    monkeypatch.setattr(os, "fsync", lambda descriptor: None)  # no disk is lost here
    monkeypatch.setattr("unsup_video.training.workdir.git_state", lambda folder: None)
    number, killed = 0, True
    while killed:
        number += 1
        path, elsewhere = tmp_path / str(number), tmp_path / f"{number} elsewhere"
        with monkeypatch.context() as patches:
            kill_at(patches, number)
            try:
                run(fresh(), path)
                killed = False
            except Killed:
                shutil.copytree(path, elsewhere)
        run(fresh(), path)
        assert_bit_identical(what_training_left(path), uninterrupted)
        if killed:
            trainer = fresh(worse)
            run(trainer, elsewhere)
            assert what_training_left(elsewhere)["best step"] == trainer.best["step"]
    assert number > 12  # saves, their removals, and the files of the run


def test_a_run_whose_best_was_lost_makes_another(fresh, tmp_path):
    with pytest.raises(loop.NonFiniteLoss, match="step 8: score nan(?s:.*)step-00000006"):
        run(fresh({**SCORES, 8: float("nan")}), tmp_path)
    shutil.rmtree(tmp_path / "checkpoints" / "best-00000004")
    lines = []
    run(fresh({8: 99.0, 9: 98.0}), tmp_path, lines)
    assert any(
        "best checkpoint cannot be read" in line and "best-00000004" in line for line in lines
    )
    assert checkpoints.best(tmp_path / "checkpoints").name == "best-00000009"


def test_the_early_stop(fresh, tmp_path, monkeypatch):
    trainer = fresh()
    monkeypatch.setitem(trainer.config.train, "early_stop_evaluations", 1)
    run(trainer, tmp_path, lines := [])
    stopped = "stopped early at step 6: 1 evaluations without a better one than that of step 4"
    assert stopped in lines
    step, _, meta = checkpoints.restore(checkpoints.latest(tmp_path / "checkpoints"))
    assert (step, meta["best"]["step"]) == (6, 4)
    run(fresh(), tmp_path, lines := [])  # it stays stopped
    assert stopped in lines and not any("validation" in line for line in lines)


def test_a_run_at_its_end_whose_best_is_damaged_is_evaluated_again(fresh, tmp_path):
    scores = SCORES | {9: 1.0}
    run(fresh(scores), tmp_path)
    best = checkpoints.best(tmp_path / "checkpoints")
    (best / "arrays.npz").write_bytes(b"")
    run(fresh(scores), tmp_path, lines := [])
    assert best.name == "best-00000009" and checkpoints.restore(best)[0] == 9
    assert any("best checkpoint cannot be read" in line for line in lines)
    run(fresh(scores), tmp_path, lines := [])
    assert not any("cannot be read" in line or "validation" in line for line in lines)
