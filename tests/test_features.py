"""Measures of features with known shapes, and the command's pictures."""

import cv2
import numpy as np
import pytest
from PIL import Image

from tests.test_evaluation import fresh, model, run  # noqa: F401 (fixtures)
from unsup_video.evaluation import features


@pytest.mark.parametrize("angle", [0, 30, 90])
def test_a_bar_has_its_length_and_width(angle):
    bar = np.zeros((64, 64), np.float32)
    box = cv2.boxPoints(((31.5, 31.5), (30, 6), angle))
    cv2.fillConvexPoly(bar, np.int32(np.rint(box * 16)), 1.0, shift=4)
    measured = features.measure(bar)
    # The autocorrelation of a bar is (1 - |x| / L)(1 - |y| / W); the half-height set is nearly an
    # ellipse-like region of +-L/2, +-W/2, whose moments' axes are within a fifth of L and W.
    assert measured["strip_length"] == pytest.approx(30, rel=0.25)
    assert measured["strip_width"] == pytest.approx(6, rel=0.35)
    assert features.measure(-bar) == pytest.approx(measured)  # the sign does not matter


def test_a_blob_against_the_integrals_of_a_gaussian():
    sigma = 4.0
    y, x = np.mgrid[:64, :64] - 31.5
    measured = features.measure(np.exp(-(x**2 + y**2) / (2 * sigma**2)))
    # a(d) is a Gaussian of variance 2 sigma^2; half height at r = sigma sqrt(4 ln 2); a disc of
    # that radius has l1 = l2 = r^2 / 4, so both axes are 2 r.
    radius = sigma * np.sqrt(4 * np.log(2))
    assert measured["strip_length"] == pytest.approx(2 * radius, rel=0.03)
    assert measured["elongation"] == pytest.approx(1, abs=0.01)
    # sum f^2 = pi s^2 and sum f^4 = pi s^2 / 2
    assert measured["effective_area"] == pytest.approx(2 * np.pi * sigma**2 / 64**2, rel=0.01)


def test_a_grating_has_its_frequency():
    x = np.arange(64)
    grating = np.broadcast_to(np.sin(2 * np.pi * 8 * x / 64), (64, 64))
    assert features.measure(grating)["spatial_frequency"] == pytest.approx(8 / 64)
    noise = np.random.default_rng(0).normal(size=(64, 64))
    assert features.measure(noise)["spatial_frequency"] > 0.3
    assert features.measure(np.eye(1, 4096).reshape(64, 64))["effective_area"] == 1 / 4096


def test_colour_is_the_mean_over_channels():
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(3, 16, 16))
    each = [features.measure(plane)["effective_area"] for plane in planes]
    together = features.measure(np.moveaxis(planes, 0, -1))["effective_area"]
    assert together == pytest.approx(np.mean(each))


def test_weights_without_energy():
    rng = np.random.default_rng(0)
    colour = np.stack([rng.normal(size=(16, 16)), np.zeros((16, 16))], axis=-1)
    assert features.measure(colour) == features.measure(colour[..., 0])
    constant = features.measure(np.full((16, 16), 0.3))
    assert constant["spatial_frequency"] == pytest.approx(0, abs=1e-6)
    assert np.isfinite(list(constant.values())).all()
    planted = np.zeros((3, 16, 16))
    planted[:2] = rng.normal(size=(2, 16, 16))
    rows = features._rows("model", {"future/output": planted})
    assert {row.count for row in rows} == {2}
    values = {row.metric: row.value for row in rows}
    each = [features.measure(f)["effective_area"] for f in planted[:2]]
    assert values["effective_area"] == pytest.approx(np.mean(each))
    quartiles = values["effective_area_q25"], values["effective_area_q75"]
    assert quartiles == pytest.approx(np.quantile(each, [0.25, 0.75]))
    with pytest.raises(ValueError, match="all weights of future/output are zero"):
        features._rows("model", {"future/output": np.zeros((3, 16, 16))})


def test_two_blobs_are_not_one_strip():
    y, x = np.mgrid[:64, :64]
    one = np.exp(-((x - 16.0) ** 2 + (y - 32) ** 2) / 18)
    two = one + np.exp(-((x - 48.0) ** 2 + (y - 32) ** 2) / 18)
    # The second maximum of the autocorrelation, at half the height, is not connected to the first.
    assert features.measure(two)["strip_length"] == pytest.approx(
        features.measure(one)["strip_length"], rel=0.1
    )


def test_sets_are_ranked_and_aligned(fresh):  # noqa: F811
    lstm = fresh.model.encoder.get_layer("encoder_lstm_1")
    kernel = np.full((1024, 4, 8), 0.01, np.float32)
    kernel[:, 3, 5] = 9.0  # unit 5 is first, by its output gate alone
    kernel[:, 0, 2] = 4.0
    lstm.kernel.assign(kernel.reshape(1024, 32))
    sets = features.feature_sets(fresh.model, (32, 32), 2)
    assert sets["encoder/output_gate"][:, 0, 0] == pytest.approx([9.0, 0.01])
    assert sets["encoder/input_gate"][:, 0, 0] == pytest.approx([0.01, 4.0])
    weights = fresh.model.decoder_layers["future"].kernel.numpy()
    strongest = weights[np.argmax(np.linalg.norm(weights, axis=1))]
    np.testing.assert_array_equal(sets["future/output"][0].ravel(), strongest)


def test_which_sets_are_drawn_together(fresh, monkeypatch):  # noqa: F811
    drawn = {}

    def mosaic(panels, path):
        drawn[path.name] = {title: len(features) for title, features in panels.items()}

    monkeypatch.setattr(features.visualize, "mosaic", mosaic)
    features.evaluate(fresh, 5)
    assert drawn == {
        "input_features.png": dict.fromkeys(
            ["Inputs", "Input gates", "Forget gates", "Output gates"], 5
        ),
        "output_features.png": dict.fromkeys(["Input reconstruction", "Future prediction"], 5),
    }


def test_features_of_a_model(fresh):  # noqa: F811
    evaluation = features.evaluate(fresh, 5)
    for picture in evaluation.pictures:
        with Image.open(evaluation.folder / picture.file) as image:
            assert min(image.size) > 80 and len(image.convert("L").getcolors()) > 20
    parts = {row.part for row in evaluation.rows}
    assert parts == {"encoder/input", "encoder/input_gate", "encoder/forget_gate",
                     "encoder/output_gate", "future/output", "reconstruction/output"}
    assert {row.count for row in evaluation.rows} == {5}
    assert len(features.table(evaluation).splitlines()) == 7
    said = []
    everything = features.evaluate(fresh, 100, log=said.append)
    assert everything.rows[0].count == 8 and "has 8 units" in said[0]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        features.evaluate(fresh, 0)
