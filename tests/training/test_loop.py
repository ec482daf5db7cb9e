"""The training loop on a task of its own that takes no time: killed anywhere, and resumed."""

import json
import os
import shutil

import keras
import numpy as np
import pytest
import tensorflow as tf
from runs import assert_bit_identical

from unsup_video.configs import finetune
from unsup_video.training import checkpoints, loop
from unsup_video.training.workdir import Workdir

STEPS = 9
SCORES = {2: 5.0, 4: 3.0, 6: 4.0, 8: 2.0, 9: 2.5}  # of the validation after these steps
INFO = {"data": {"sha256": {"train": "abc"}}}


class Line:
    """The `loop.Task` of a straight line; what its validation says is given."""

    unit, reduction = "", "mean"

    def __init__(self):
        inputs = keras.Input((1,))
        self.network = keras.Model(inputs, keras.layers.Dense(1, name="dense")(inputs))
        self.scores = SCORES
        self.trainer = None

    def prepare(self, log):
        pass

    def write(self, workdir):
        pass

    def train(self, start):
        x = np.random.default_rng(0).normal(size=(4 * STEPS, 1)).astype("float32")
        return tf.data.Dataset.from_tensor_slices(x[start:]).batch(4)

    def losses(self, batch):
        loss = tf.reduce_mean((self.network(batch) - 3 * batch) ** 2)
        return loss, {"loss": loss}

    def validate(self):
        return {"score": self.scores[self.trainer.step]}

    def score(self, figures):
        return figures["score"]

    def sample(self, workdir, board, step):
        pass


@pytest.fixture(scope="module")
def fresh():
    """A function that gives one and the same trainer at step 0, compiled once."""
    config = finetune.get_config()
    config.train.update({"steps": STEPS, "log_every": 2, "eval_every": 2, "checkpoint_every": 3})
    config.recipe.batch_size = 4
    keras.utils.set_random_seed(0)
    task = Line()
    task.trainer = trainer = loop.Trainer(config, task)
    start = {name: v.numpy() for name, v in loop.state(task.network).items()} | trainer.slots()

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


def what_is_left(path):
    folder = path / "checkpoints"
    _, last, meta = checkpoints.restore(checkpoints.latest(folder))
    best_step, best, _ = checkpoints.restore(checkpoints.best(folder))
    lines = [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
    for with_times in (meta, *lines):
        del with_times["elapsed_s"]
    return {
        "last": last,
        "meta": meta,
        "best step": best_step,
        "best": best,
        "metrics": lines,
        "results": None,
    }


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
    return what_is_left(path)


def test_the_best_of_an_uninterrupted_run(uninterrupted):
    assert uninterrupted["best step"] == 8
    steps = [line["step"] for line in uninterrupted["metrics"] if line["split"] == "validation"]
    assert steps == list(SCORES)


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
        assert_bit_identical(what_is_left(path), uninterrupted)
        if killed:
            trainer = fresh(worse)
            run(trainer, elsewhere)
            assert what_is_left(elsewhere)["best step"] == trainer.best["step"]
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
