"""Another output for one decoder, known to the table alone: trained, evaluated, exported."""

from types import SimpleNamespace

import numpy as np
import pytest
import tensorflow as tf
from keras import ops

import labelled
from unsup_video.configs import percepts_small
from unsup_video.data import sources
from unsup_video.evaluation import future_prediction, testset
from unsup_video.models.outputs import OUTPUTS, Output
from unsup_video.report import page_videos
from unsup_video.serving import export
from unsup_video.training import fields, trained, workdir
from unsup_video.training.tasks import base, pretraining


class Huber(Output):
    """The smooth L1 loss: squared up to a difference of 1, and then linear."""

    metric = "huber_loss"

    def value_losses(self, targets, frames):
        size = ops.abs(frames - targets)
        return ops.where(size < 1, 0.5 * size * size, size - 0.5)


def huber(targets, frames):
    """The same by its integral, the clipped difference, for an oracle: (.., D) -> (..)."""
    d = np.float64(frames) - np.float64(targets)
    return (np.clip(d, -1, 1) * (d - np.clip(d, -1, 1) / 2)).sum(-1)


@pytest.fixture(scope="module")
def percepts(tmp_path_factory):
    """(the trained model, its results, lines of the log) of a run that has Huber for the future."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(OUTPUTS, "huber", Huber())
        config = percepts_small.get_config()
        config.model.update({"units": 5, "layers": 1, "output_future": "huber"})
        records = labelled.write(tmp_path_factory.mktemp("data") / "percepts", labelled.videos())
        config.data.update({"records": str(records), "frames_in": 2, "frames_out": 1})
        config.recipe.batch_size = 4
        config.train.update({"steps": 4, "log_every": 1})
        lines = []
        path = labelled.pretrained(config, tmp_path_factory.mktemp("runs") / "huber", lines.append)
        model = trained.load(path)
        opened = workdir.Workdir.open(path, config.to_dict())
        task = pretraining.Pretraining(config, model.model, sources.build(config))
        results = base.score_best(task, opened)
        opened.lock.close()
        yield model, results, lines


def test_the_losses_are_those_of_each_decoders_output(percepts):
    model, results, lines = percepts
    clips = sources.build(model.config).evaluation("test", model.config.eval.test_clips)
    past, future = clips[:, :2], clips[:, 2:3]
    made = model.model.inference({"past": past, "clock": future[:, :, 0]})
    squared = 0.5 * np.square(np.float64(made["reconstruction"]) - past[:, ::-1]).sum(-1)
    scores = results["scores"]
    assert scores["free_running/future"] == pytest.approx(huber(future, made["future"]).mean())
    assert scores["free_running/reconstruction"] == pytest.approx(squared.mean())
    floor = results["floors"]["future"]
    assert floor["copy_last"] == pytest.approx(huber(future, past[:, -1:]).mean())
    assert floor["entropy"] == 0
    units = "squared loss/frame (reconstruction), huber loss/frame (future)"
    assert units in pretraining.table(model.config, results)
    assert any(units in line for line in lines)


def test_the_gradient_is_that_of_both_losses(percepts):
    model = percepts[0].model
    rng = np.random.default_rng(0)
    past, future = (3 * rng.random((4, n, labelled.DIM), np.float32) for n in (2, 1))
    biases = [model.decoder_layers[name].bias.value for name in ("reconstruction", "future")]
    with tf.GradientTape() as tape:
        x = model.training({"past": past, "future": future})
        targets = {"reconstruction": past[:, ::-1], "future": future}
        losses = model.frame_losses(targets, x)
        total = tf.add_n([tf.reduce_sum(loss) for loss in losses.values()])
    of_reconstruction, of_future = tape.gradient(total, biases)
    scale = float(model.frame_scale.scale)
    difference = {name: np.asarray(x[name]) - targets[name] for name in x}
    assert np.abs(difference["future"]).max() > 1  # where the two losses differ
    np.testing.assert_allclose(
        of_reconstruction, scale * difference["reconstruction"].sum((0, 1)), rtol=1e-4
    )
    clipped = np.clip(difference["future"], -1, 1)
    np.testing.assert_allclose(of_future, scale * clipped.sum((0, 1)), rtol=1e-4)


def test_it_is_evaluated_and_shown(percepts):
    model, results, _ = percepts
    evaluation = future_prediction.evaluate(
        model, testset.of_model(model, None, None), "the command", log=lambda line: None
    )
    here = {"subject": "model", "mode": "free_running", "frame": None}
    (future,) = evaluation.find(**here, part="future", metric="huber_loss")
    assert future.value == pytest.approx(results["scores"]["free_running/future"])
    (reconstruction,) = evaluation.find(**here, part="reconstruction", metric="squared_loss")
    assert reconstruction.value == pytest.approx(results["scores"]["free_running/reconstruction"])
    assert not evaluation.find(part="future", metric="squared_loss")
    assert future_prediction.table([evaluation]).splitlines()[0].split()[4] == "huber_loss"
    assert page_videos._future_loss(SimpleNamespace(prediction=evaluation)) == future


def test_it_is_exported(percepts, tmp_path):
    model = percepts[0]
    version = export.write(model, tmp_path / "saved")
    frames = np.random.default_rng(0).random((2, 3, labelled.DIM), np.float32)
    served = tf.saved_model.load(version).signatures["serving_default"](frames=frames)
    expected = model.model.inference({"past": frames, "clock": np.zeros((2, 1), np.float32)})
    for name, x in expected.items():
        np.testing.assert_allclose(served[name], x, rtol=0, atol=1e-5)
    saved = trained.load(version)
    assert saved.model.decoder_layers["future"].output_name == "huber"
    assert saved.model.decoder_layers["reconstruction"].output_name == "linear"


def test_runs_made_before_have_one_output_for_all_decoders():
    model = {"kind": "composite", "output": "relu", "units": 3}
    completed = fields.completed({"name": "x", "model": model})["model"]
    assert completed["output_reconstruction"] == completed["output_future"] == ""
    classifier = {"kind": "lstm", "units": 3, "init": ""}
    assert "output_future" not in fields.completed({"model": classifier})["model"]
