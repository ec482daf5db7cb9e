"""An export and a data set of an earlier version: this one reads, evaluates and serves them.

`earlier/model` is a composite of 4 units with a conditional future predictor, `tests/data/earlier`
the clips that answers.npz has the same version's predictions and loss of.
"""

import json
from pathlib import Path

import numpy as np
import pytest
import tensorflow as tf
from ml_collections import ConfigDict

from unsup_video.data import records
from unsup_video.evaluation import future_prediction, testset
from unsup_video.training import trained
from unsup_video.training.tasks import pretraining

HERE = Path(__file__).parent / "earlier"
DATA = HERE.parents[1] / "data" / "earlier" / "moving_mnist"


@pytest.fixture(scope="module")
def answers():
    return dict(np.load(HERE / "answers.npz"))


def test_the_data_set_is_read(answers):
    assert records.verify(DATA) == []
    clips = np.stack(list(records.sequences(DATA).as_numpy_iterator()))
    np.testing.assert_array_equal(clips.reshape(answers["clips"].shape), answers["clips"])


def test_the_export_is_read_and_evaluated(answers, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where evaluations of exports are written
    model = trained.load(HERE / "model", "float32")
    past = answers["clips"][:, :4] / np.float32(255)
    frames = model.model.inference({"past": past, "clock": np.zeros((len(past), 5), np.float32)})
    np.testing.assert_allclose(frames["future"], answers["future"], rtol=1e-4, atol=1e-6)
    test_set = testset.of_model(model, str(DATA), None)
    evaluation = future_prediction.evaluate(model, test_set, "x", "correct", None, True)
    (row,) = evaluation.find(
        subject="model", mode="free_running", part="future", frame=None, metric="cross_entropy"
    )
    assert row.value == pytest.approx(float(answers["loss"]), rel=1e-5)


def test_the_results_are_shown():
    config = trained.load(HERE / "model", "float32").config
    results = json.loads((HERE / "model/1/assets.extra/results.json").read_text())
    some = ConfigDict({"source": "a page", "future": 60.0})
    table = pretraining.table(config, results, some)
    assert "always the mean frame" in table
    (line,) = [line for line in table.splitlines() if line.startswith("expected: a page")]
    assert line.split()[-2:] == ["-", "60.0"]


def test_the_export_is_served(answers):
    served = tf.saved_model.load(str(HERE / "model" / "1"))
    past = answers["clips"][:, :4].reshape(-1, 4, 32, 32) / np.float32(255)
    future = served.signatures["predict_future"](
        frames=tf.constant(past), steps=tf.fill([len(past)], 5)
    )["future"]
    np.testing.assert_allclose(
        future.numpy().reshape(answers["future"].shape), answers["future"], rtol=1e-4, atol=1e-6
    )
