"""Measures of features with known shapes, and the command's pictures."""

import dataclasses

import numpy as np
import pytest
from PIL import Image

from unsup_video.evaluation import features, results
from unsup_video.training import trained

EVERYWHERE = np.ones((64, 64), bool)


def grid(shape=(64, 64), fine=1):
    """y and x of pixels from the middle of the frame; `fine` times as many each way."""
    return np.meshgrid(
        *((np.arange(size * fine) + 0.5) / fine - size / 2 for size in shape), indexing="ij"
    )


def bar(length, width, angle):
    """A bar in the middle of a frame, each pixel the share of its area that is inside."""
    y, x = grid(fine=8)
    along = x * np.cos(np.deg2rad(angle)) + y * np.sin(np.deg2rad(angle))
    across = y * np.cos(np.deg2rad(angle)) - x * np.sin(np.deg2rad(angle))
    inside = (abs(along) <= length / 2) & (abs(across) <= width / 2)
    return inside.reshape(64, 8, 64, 8).mean((1, 3))


@pytest.mark.parametrize("angle", [0, 20, 45, 90, 130])
@pytest.mark.parametrize(("length", "width"), [(20, 2), (40, 2), (30, 6), (12, 4)])
def test_a_bar_has_its_length_and_width(length, width, angle):
    measured = features.measure(bar(length, width, angle), EVERYWHERE)
    # The mean of the frame costs a thick bar a tenth, pixels that a slanting edge cuts widen it.
    assert measured["strip_length"] == pytest.approx(length, rel=0.1)
    assert measured["strip_width"] == pytest.approx(width, rel=0.07, abs=0.45)
    assert measured["elongation"] == pytest.approx(
        measured["strip_length"] / measured["strip_width"]
    )
    turned = features.measure(-3 * bar(length, width, angle) + 5, EVERYWHERE)
    assert turned == pytest.approx(measured)  # neither sign nor size nor level matters


def test_a_blob_against_the_integrals_of_a_gaussian():
    sigma = 3.0
    y, x = grid()
    measured = features.measure(np.exp(-(x**2 + y**2) / (2 * sigma**2)), EVERYWHERE)
    # a(d) is a Gaussian of variance 2 sigma^2, half its height at r = sigma sqrt(4 ln 2).
    radius = sigma * np.sqrt(4 * np.log(2))
    assert measured["strip_length"] == pytest.approx(2 * radius, rel=0.03)
    assert measured["elongation"] == pytest.approx(1, abs=0.01)
    # sum f^2 = pi s^2 and sum f^4 = pi s^2 / 2, but for the mean
    assert measured["effective_area"] == pytest.approx(2 * np.pi * sigma**2 / 64**2, rel=0.1)


def test_a_grating_has_its_frequency_and_strips():
    _, x = grid()
    grating = np.sin(2 * np.pi * 8 * x / 64)
    measured = features.measure(grating, EVERYWHERE)
    assert measured["spatial_frequency"] == pytest.approx(8 / 64)
    # Along the stripes a(d) = 1 - |d| / 64; across, cos(2 pi d / 8) (1 - |d| / 64) is a half at
    # 1.31.
    assert measured["strip_length"] == pytest.approx(64, rel=0.01)
    assert measured["strip_width"] == pytest.approx(2 * 1.31, rel=0.02)
    assert features.measure(grating.T, EVERYWHERE) == pytest.approx(measured)


def test_noise_has_no_strips():
    noise = features.measure(np.random.default_rng(0).normal(size=(64, 64)), EVERYWHERE)
    assert noise["spatial_frequency"] > 0.3
    assert 1 <= noise["strip_width"] <= noise["strip_length"] < 1.3


def test_frames_that_are_not_square():
    y, x = grid((40, 64))
    tall = (abs(x) < 2) & (abs(y) < 15)
    measured = features.measure(tall, np.ones((40, 64), bool))
    assert measured["strip_length"] == pytest.approx(30, rel=0.1)
    assert measured["strip_width"] == pytest.approx(4, rel=0.1)
    turned = features.measure(tall.T, np.ones((64, 40), bool))
    assert turned == pytest.approx(measured, rel=1e-3)


def test_the_rim_does_not_count():
    mean_frame = np.zeros((64, 64), np.float32)
    mean_frame[6:-6, 6:-6] = np.random.default_rng(0).uniform(0.1, 0.4, (52, 52))
    mean_frame[10, 10] = mean_frame[20, 3] = 0.01
    used = features.used_pixels(mean_frame.ravel(), (64, 64))
    expected = np.zeros((64, 64), bool)
    expected[6:-6, 6:-6] = True
    expected[10, 10] = False
    np.testing.assert_array_equal(used, expected)
    colour = np.stack([mean_frame, 0 * mean_frame, mean_frame], axis=-1)
    np.testing.assert_array_equal(features.used_pixels(colour.ravel(), (64, 64, 3)), expected)
    assert features.used_pixels(np.zeros(64 * 64 * 2), (64, 64, 2)).all()  # flow is no ink

    feature = bar(20, 3, 30)
    framed = np.where(used, feature, np.random.default_rng(1).normal(5, 3, (64, 64)))
    assert features.measure(framed, used) == features.measure(feature, used)


def test_colour_is_the_mean_over_channels():
    rng = np.random.default_rng(0)
    planes = rng.normal(size=(3, 16, 16))
    used = np.ones((16, 16), bool)
    each = [features.measure(plane, used)["effective_area"] for plane in planes]
    together = features.measure(np.moveaxis(planes, 0, -1), used)["effective_area"]
    assert together == pytest.approx(np.mean(each))


def test_weights_without_shape():
    rng = np.random.default_rng(0)
    used = np.ones((16, 16), bool)
    colour = np.stack([rng.normal(size=(16, 16)), np.full((16, 16), 0.3)], axis=-1)
    assert features.measure(colour, used) == features.measure(colour[..., 0], used)
    assert features.measure(np.full((16, 16), 0.3), used) == {}
    planted = np.zeros((3, 16, 16))
    planted[:2] = rng.normal(size=(2, 16, 16))
    rows = features._rows("model", {"future/output": planted}, used)
    assert {row.count for row in rows} == {2}
    values = {row.metric: row.value for row in rows}
    each = [features.measure(f, used)["effective_area"] for f in planted[:2]]
    assert values["effective_area"] == pytest.approx(np.mean(each))
    quartiles = values["effective_area_q25"], values["effective_area_q75"]
    assert quartiles == pytest.approx(np.quantile(each, [0.25, 0.75]))
    with pytest.raises(ValueError, match="all features of future/output are constant"):
        features._rows("model", {"future/output": np.zeros((3, 16, 16))}, used)


def test_two_blobs_are_not_one_strip():
    y, x = grid()
    one = np.exp(-((x + 16) ** 2 + y**2) / 18)
    two = one + np.exp(-((x - 16) ** 2 + y**2) / 18)
    # The second maximum of the autocorrelation, at half the height, does not count.
    assert features.measure(two, EVERYWHERE)["strip_length"] == pytest.approx(
        features.measure(one, EVERYWHERE)["strip_length"], rel=0.1
    )


def test_sets_are_ranked_and_aligned(fresh):
    model = trained.load(fresh.path).model
    lstm = model.encoder.get_layer("encoder_lstm_1")
    kernel = np.full((1024, 4, 8), 0.01, np.float32)
    kernel[:, 3, 5] = 9.0  # unit 5 is first, by its output gate alone
    kernel[:, 0, 2] = 4.0
    lstm.kernel.assign(kernel.reshape(1024, 32))
    sets = features.feature_sets(model, (32, 32), 2)
    assert sets["encoder/output_gate"][:, 0, 0] == pytest.approx([9.0, 0.01])
    assert sets["encoder/input_gate"][:, 0, 0] == pytest.approx([0.01, 4.0])
    weights = model.decoder_layers["future"].kernel.numpy()
    strongest = weights[np.argmax(np.linalg.norm(weights, axis=1))]
    np.testing.assert_array_equal(sets["future/output"][0].ravel(), strongest)


def test_which_sets_are_drawn_together(fresh, monkeypatch):
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


def test_two_channels_are_drawn_apart_and_more_are_refused(fresh, tmp_path):
    flow = np.random.default_rng(0).normal(size=(3, 8, 8, 2))
    panels = features._panels("Inputs", flow)
    assert list(panels) == ["Inputs, channel 1", "Inputs, channel 2"]
    np.testing.assert_array_equal(panels["Inputs, channel 2"], flow[..., 1])
    features._draw({"encoder/input": flow, "future/output": flow}, tmp_path)
    assert (tmp_path / "input_features.png").exists()
    for shape in ((1024,), (16, 16, 4)):
        other = dataclasses.replace(fresh, frame_shape=shape)
        with pytest.raises(results.Unsuitable, match="its features are no pictures"):
            features.evaluate(other)


def test_features_of_a_model(fresh):
    evaluation = features.evaluate(fresh, 5)
    for picture in evaluation.pictures:
        with Image.open(evaluation.folder / picture.file) as image:
            assert min(image.size) > 80 and len(image.convert("L").getcolors()) > 12
    parts = {row.part for row in evaluation.rows}
    assert parts == {
        "encoder/input",
        "encoder/input_gate",
        "encoder/forget_gate",
        "encoder/output_gate",
        "future/output",
        "reconstruction/output",
    }
    assert {row.count for row in evaluation.rows} == {5}
    assert len(features.table(evaluation).splitlines()) == 7
    said = []
    everything = features.evaluate(fresh, 100, log=said.append)
    assert everything.rows[0].count == 8 and "has 8 units" in said[0]
    with pytest.raises(ValueError, match="at least 1, got 0"):
        features.evaluate(fresh, 0)
