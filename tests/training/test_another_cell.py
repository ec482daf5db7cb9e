"""A model of GRUs from pretraining to serving: trained, finetuned, exported, drawn."""

import numpy as np
import pytest
import tensorflow as tf

import labelled
from unsup_video.configs import percepts_small
from unsup_video.evaluation import features, long_range
from unsup_video.models import video_models
from unsup_video.models.cells import GRU
from unsup_video.pictures import visualize
from unsup_video.report import page_runs
from unsup_video.serving import export
from unsup_video.training import checkpoints, fields, optimizers, trained, unread
from unsup_video.training.tasks import finetuning

UNITS = 5


@pytest.fixture(scope="module")
def pretrained(tmp_path_factory):
    """The trained model of a run of four steps: GRUs, a conditional decoder of the future."""
    config = percepts_small.get_config()
    config.model.update({"cell": "gru", "units": UNITS, "layers": 1, "conditional_future": True})
    folder = labelled.write(tmp_path_factory.mktemp("data") / "percepts", labelled.videos())
    config.data.update({"records": str(folder), "frames_in": 2, "frames_out": 1})
    config.recipe.batch_size = 4
    config.train.update({"steps": 4, "log_every": 1, "eval_every": 2, "checkpoint_every": 2})
    return trained.load(labelled.pretrained(config, tmp_path_factory.mktemp("runs") / "gru"))


def frames(*shape):
    return np.random.default_rng(0).random((*shape, labelled.DIM), np.float32)


def streamed(step, clips):
    """What `step` gives for the last of the frames, read one by one from a state of zeros."""
    state = {"h_1": np.zeros((len(clips), UNITS), np.float32)}
    for frame in clips.swapaxes(0, 1):
        found = step(frame=frame, **state)
        state = {"h_1": found["h_1"]}
    return found


def test_the_weights_have_the_cells_name_and_are_trained(pretrained):
    arrays = checkpoints.restore(checkpoints.latest(pretrained.path / "checkpoints"))[1]
    assert {name for name in arrays if name.startswith("model/encoder_")} == {
        f"model/encoder_gru_1/{name}"
        for name in ("kernel", "recurrent_kernel", "recurrent_bias", "bias")
    }
    for cell in (pretrained.model.cells[0], *pretrained.model.decoder_layers["future"].cells):
        assert isinstance(cell, GRU) and np.abs(cell.recurrent_bias).max() > 0  # it starts at zero


def test_it_is_served_with_the_states_of_its_cell(pretrained, tmp_path):
    version = export.write(pretrained, tmp_path / "saved")
    assert f"composite of 1 x {UNITS} GRU units" in (version / "README.md").read_text()
    saved = tf.saved_model.load(version).signatures
    clips, model = frames(3, 4), pretrained.model
    encoded = saved["encode"](frames=clips)
    assert list(encoded) == ["h_1"]
    np.testing.assert_allclose(encoded["h_1"], model.encode(clips)[0], rtol=0, atol=1e-5)
    last = streamed(saved["step"], clips)
    np.testing.assert_allclose(last["h_1"], encoded["h_1"], rtol=0, atol=1e-5)
    clock = {"past": clips, "clock": np.zeros((3, 6), np.float32)}
    expected = model.inference(clock)["future"]
    scale = np.abs(expected).max()
    np.testing.assert_allclose(last["next_frame"], expected[:, 0], rtol=0, atol=1e-5 * scale)
    future = saved["predict_future"](frames=clips, steps=np.full(3, 6, np.int32))["future"]
    np.testing.assert_allclose(future, expected, rtol=0, atol=1e-5 * scale)

    again = trained.load(version).model.network.get_weights()
    for a, b in zip(again, model.network.get_weights(), strict=True):
        np.testing.assert_array_equal(a, b)


def test_a_classifier_starts_from_it_and_is_served(pretrained, tmp_path):
    config = labelled.a_config(pretrained.config.data.records, str(pretrained.path))
    config.data.split = 0
    classifier = labelled.finetuned(config, tmp_path / "finetuned")
    assert classifier.config.model.cell == "gru"
    data = finetuning.data(classifier.config, log=lambda line: None)
    started, copied = finetuning.start(classifier.config, data, pretrained)
    assert "encoder_gru_1/recurrent_bias" in copied
    weights = zip(started.cells[0].weights, pretrained.model.cells[0].weights, strict=True)
    for a, b in weights:
        np.testing.assert_array_equal(a, b)
    version = export.write(classifier, tmp_path / "saved")
    assert f"1 x {UNITS} GRU units" in (version / "README.md").read_text()
    saved = tf.saved_model.load(version).signatures
    clips = frames(2, 3)
    steps = saved["classify"](frames=clips)["step_probabilities"]
    last = streamed(saved["step"], clips)
    np.testing.assert_allclose(last["probabilities"], steps[:, -1], rtol=0, atol=1e-5)
    assert page_runs.architecture(classifier.describe()) == f"GRU classifier, 1 × {UNITS} units"


def test_its_gates_are_drawn(pretrained, monkeypatch):
    drawn = []
    figure = visualize.figure

    def recorded(path, size, dpi):
        drawn.append((path.name, size))
        return figure(path, size, dpi=dpi)

    monkeypatch.setattr(visualize, "figure", recorded)
    evaluation = long_range.evaluate(pretrained, steps=4, clips=2, units=3, log=lambda line: None)
    assert evaluation.find(subject="model", metric="variance")
    assert ("activity.png", (3 * 4, 7)) in drawn  # update gate, reset gate, input, output
    assert (evaluation.folder / "activity.png").stat().st_size > 10_000


def test_its_features_are_those_of_its_kernel(tmp_path):
    model = video_models.build(frame_dim=6, units=4, cell="gru")
    sets = features.feature_sets(model, (2, 3), 4)
    assert list(sets) == [
        "encoder/input",
        "encoder/update_gate",
        "encoder/reset_gate",
        "reconstruction/output",
        "future/output",
    ]
    kernel = model.cells[0].kernel.numpy()
    order = np.argsort(-np.square(kernel).reshape(6, 3, 4).sum((0, 1)), kind="stable")
    np.testing.assert_array_equal(sets["encoder/reset_gate"].reshape(4, 6), kernel[:, 4:8].T[order])
    assert features._draw(sets, tmp_path) == ("input_features.png", "output_features.png")


def test_the_optimisers_factor_is_the_encoders():
    recipe = percepts_small.get_config().recipe
    with recipe.unlocked():
        recipe.encoder_factor = 0.5
    model = video_models.build(frame_dim=6, units=4, cell="gru")
    biases = {v.path: v for v in model.training.trainable_variables if v.path.endswith("bias")}
    factors = {path: optimizers.rate_factor(recipe, bias) for path, bias in biases.items()}
    of_encoder = {"encoder_gru_1/bias", "encoder_gru_1/recurrent_bias"}
    assert of_encoder < factors.keys()
    assert {path for path, factor in factors.items() if factor == 0.5} == of_encoder


def test_runs_made_before_are_of_lstms():
    assert fields.completed({"model": {"units": 3}})["model"]["cell"] == "lstm"


@pytest.mark.parametrize("name", ["model.use_peepholes", "recipe.init.peepholes"])
def test_a_gru_has_no_peepholes(name):
    config = percepts_small.get_config()
    config.model.cell = "gru"
    assert unread.of_pretraining(config)[name] == "a gru has no peepholes"
    assert name not in unread.of_pretraining(percepts_small.get_config())
