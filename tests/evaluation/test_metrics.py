"""Metrics against scikit-image, hand-worked arrays, and the published definitions."""

import sys
import types

import numpy as np
import pytest
from skimage.metrics import peak_signal_noise_ratio, structural_similarity

from unsup_video.evaluation import metrics
from unsup_video.evaluation.metrics import frame_metrics


@pytest.fixture
def frames():
    """(truth, prediction), each (2, 3, 20 * 24) float32: blobs on black, and a blurred shift."""
    rng = np.random.default_rng(0)
    truth = np.zeros((2, 3, 20, 24), np.float32)
    truth[..., 5:14, 6:15] = rng.random((2, 3, 9, 9))
    prediction = np.roll(truth, 1, axis=-1) * 0.7 + 0.05
    return truth.reshape(2, 3, -1), prediction.reshape(2, 3, -1)


def each(function, truth, prediction):
    pictures = zip(truth.reshape(-1, 20, 24), prediction.reshape(-1, 20, 24), strict=True)
    return np.reshape([function(a, b) for a, b in pictures], truth.shape[:-1])


def test_mse_and_mae_are_sums_over_pixels():
    truth = np.array([[0.0, 1.0, 0.5, 0.25]], np.float32)
    guess = np.array([[0.5, 1.0, 0.0, 0.0]], np.float32)
    found = frame_metrics(truth, guess, (2, 2))
    assert found["mse"] == pytest.approx([0.25 + 0.25 + 0.0625])
    assert found["mae"] == pytest.approx([0.5 + 0.5 + 0.25])
    assert set(found) == {"mse", "mae"}  # too small for a structural similarity


def test_flow_is_no_picture():
    flow = np.random.default_rng(0).uniform(-20, 20, (3, 16 * 16 * 2)).astype(np.float32)
    assert set(frame_metrics(flow, flow, (16, 16, 2))) == {"mse", "mae"}


def test_correct_ssim_is_that_of_wang_2004(frames):
    expected = each(
        lambda a, b: structural_similarity(
            a, b, data_range=1, gaussian_weights=True, sigma=1.5, use_sample_covariance=False
        ),
        *frames,
    )
    np.testing.assert_allclose(frame_metrics(*frames, (20, 24))["ssim"], expected, atol=1e-6)


def test_openstl_ssim_has_the_data_range_of_signed_floats(frames):
    expected = each(lambda a, b: structural_similarity(a, b, data_range=2), *frames)
    found = frame_metrics(*frames, (20, 24), "openstl")["ssim"]
    np.testing.assert_allclose(found, expected, atol=1e-6)


def test_predrnn_ssim_and_psnr_are_of_truncated_bytes(frames):
    truth, prediction = (np.uint8(x * 255) for x in frames)
    found = frame_metrics(*frames, (20, 24), "predrnn")
    np.testing.assert_allclose(
        found["ssim"], each(structural_similarity, truth, prediction), atol=1e-6
    )
    expected = each(lambda a, b: peak_signal_noise_ratio(a, b), truth, prediction)
    np.testing.assert_allclose(found["psnr"], expected, rtol=1e-6)


@pytest.mark.parametrize("convention", ["correct", "openstl"])
def test_psnr_is_of_the_frames(frames, convention):
    expected = each(lambda a, b: peak_signal_noise_ratio(a, b, data_range=1), *frames)
    found = frame_metrics(*frames, (20, 24), convention)["psnr"]
    np.testing.assert_allclose(found, expected, rtol=1e-5)


def test_equal_frames(frames):
    truth, _ = frames
    for convention, psnr in {"correct": 100, "openstl": np.inf, "predrnn": np.inf}.items():
        found = frame_metrics(truth, truth, (20, 24), convention)
        assert (found["psnr"] == psnr).all()
        np.testing.assert_allclose(found["ssim"], 1, atol=1e-6)
        assert not found["mse"].any() and not found["mae"].any()


def test_which_convention_clips():
    truth, guess = np.zeros((1, 256), np.float32), np.full((1, 256), 1.5, np.float32)
    for convention, mse in {"correct": 2.25, "openstl": 2.25, "predrnn": 1.0}.items():
        found = frame_metrics(truth, guess, (16, 16), convention)
        assert found["mse"] == pytest.approx([256 * mse])
        clipped = frame_metrics(truth, np.ones_like(guess), (16, 16), convention)
        same = found["ssim"] == pytest.approx(clipped["ssim"])
        assert same == (convention != "correct")


def test_the_conventions_differ_where_it_is_said(frames):
    a, b, c = (frame_metrics(*frames, (20, 24), name) for name in metrics.CONVENTIONS)
    assert np.allclose(a["mse"], b["mse"]) and np.allclose(b["mse"], c["mse"])
    assert (b["ssim"] > c["ssim"]).all()  # a larger data range is kinder
    assert not np.allclose(a["ssim"], c["ssim"], atol=1e-3)


def test_colour_is_the_mean_over_channels(frames):
    truth, prediction = (np.stack([x, x[::-1], 1 - x], axis=-1) for x in frames)
    found = frame_metrics(truth.reshape(2, 3, -1), prediction.reshape(2, 3, -1), (20, 24, 3))
    expected = structural_similarity(
        truth[1, 2].reshape(20, 24, 3),
        prediction[1, 2].reshape(20, 24, 3),
        data_range=1,
        gaussian_weights=True,
        sigma=1.5,
        use_sample_covariance=False,
        channel_axis=-1,
    )
    assert found["ssim"][1, 2] == pytest.approx(expected, abs=1e-6)


def test_a_frame_does_not_depend_on_those_beside_it(frames):
    truth, prediction = (np.tile(x.reshape(6, -1), (60, 1)) for x in frames)  # more than a chunk
    truth[::7], prediction[::5] = 1, 0
    assert truth.size > metrics._CHUNK
    together = frame_metrics(truth, prediction, (20, 24))
    for k in (0, 7, 100, 272, 273, 359):
        alone = frame_metrics(truth[k], prediction[k], (20, 24))
        for name, value in alone.items():
            np.testing.assert_allclose(together[name][k], value, rtol=1e-5, atol=1e-7)


def test_bad_input(frames):
    with pytest.raises(ValueError, match="unknown metric convention 'mine': one of correct"):
        frame_metrics(*frames, (20, 24), "mine")
    with pytest.raises(ValueError, match="expected"):
        frame_metrics(*frames, (20, 25))


class FakeLpips(types.ModuleType):
    """A stand-in for the package: the mean of what it is given, so that the scaling shows."""

    class LPIPS:
        def __init__(self, net, verbose):
            assert net == "alex"

        def __call__(self, a, b):
            assert a.shape == b.shape == (6, 3, 20, 24)
            return types.SimpleNamespace(numpy=lambda: np.mean(a, axis=(1, 2, 3), keepdims=True))


class FakeTorch(types.ModuleType):
    from contextlib import nullcontext as no_grad

    from_numpy = staticmethod(np.asarray)


@pytest.mark.parametrize("convention, low, high", [("correct", -1, 1), ("predrnn", 0, 1)])
def test_what_lpips_is_given(frames, monkeypatch, convention, low, high):
    monkeypatch.setitem(sys.modules, "lpips", FakeLpips("lpips"))
    monkeypatch.setitem(sys.modules, "torch", FakeTorch("torch"))
    found = metrics.Lpips(convention)(*frames, (20, 24))
    np.testing.assert_allclose(found, low + (high - low) * frames[0].mean(-1), rtol=1e-5)
