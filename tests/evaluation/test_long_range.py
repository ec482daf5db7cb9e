"""Running far ahead: the figures against signals whose values are known, and a tiny model."""

import dataclasses
import json

import numpy as np
import pytest
from PIL import Image

from unsup_video.configs import quickstart
from unsup_video.data import records, sources
from unsup_video.evaluation import long_range, results, testset
from unsup_video.models import video_models
from unsup_video.training import experiment
from unsup_video.training import trained as trained_module
from unsup_video.training.trained import TrainedModel

READ, PREDICTED, STEPS, CLIPS = 4, 3, 14, 3


def waves(periods, amplitudes, frames):
    """(1, frames, 2): the sum of sinusoids, for two units of other phases and other means."""
    t = np.arange(frames)[:, None]
    phase, mean = np.array([0.0, 1.0]), np.array([0.5, -2.0])
    pairs = zip(periods, amplitudes, strict=True)
    return (mean + sum(a * np.sin(2 * np.pi * t / p + phase) for p, a in pairs))[None]


# ---------------------------------------------------------------------- figures


def test_the_peak_of_two_sinusoids():
    # A sinusoid of amplitude a has the variance a^2 / 2: 0.045 and 0.02, at 1/8 and 1/4.
    power = long_range.spectrum(waves([8, 4], [0.3, 0.2], 80))
    assert power.shape == (1, 40)
    assert power[0, 9] == pytest.approx(0.045) and power[0, 19] == pytest.approx(0.02)
    assert power.sum() == pytest.approx(0.065)
    frequency, share = long_range.peak(power, 80)
    assert frequency == 1 / 8
    assert share == pytest.approx([0.045 / 0.065])


def test_the_share_takes_in_both_neighbours_of_the_peak():
    power = np.zeros((2, 20))
    power[:, 4:9] = [[1, 2, 5, 3, 9], [1, 2, 15, 3, 9]]
    frequency, share = long_range.peak(power, 40)
    assert frequency == 7 / 40
    assert share.mean() == pytest.approx((10 + 20) / (20 + 30))


def test_a_peak_at_the_ends_of_the_spectrum():
    assert long_range.peak(np.array([[3.0, 1, 0, 0, 4]]), 10)[0] == 0.5
    frequency, share = long_range.peak(np.array([[5.0, 1, 0, 4]]), 8)
    assert frequency == 1 / 8 and share == pytest.approx([0.6])


@pytest.mark.parametrize("frames", [7, 8])
def test_the_spectrum_sums_to_the_variance(frames):
    h = np.random.default_rng(0).normal(size=(3, frames, 5)).astype(np.float32)
    expected = h.astype(np.float64).var(axis=1).mean(-1)
    np.testing.assert_allclose(long_range.spectrum(h).sum(1), expected)


def test_late_early_of_a_decay():
    # Frames 1 .. 12 of 0.8^t: the last six, 7 .. 12, against frames 2 and 3.
    decay = 0.8 ** np.arange(1, 13)[None]
    expected = (sum(0.8**t for t in range(7, 13)) / 6) / ((0.8**2 + 0.8**3) / 2)
    assert long_range.late_early(decay, frames_out=3) == pytest.approx([expected])
    assert long_range.late_early(np.full((1, 12), 7.0), frames_out=3) == pytest.approx([1.0])


def test_late_early_leaves_the_first_frame_out():
    values = np.ones((1, 8))
    values[0, 0] = 100
    assert long_range.late_early(values, frames_out=2) == pytest.approx([1.0])
    assert long_range.late_early(values, frames_out=1) == pytest.approx([1.0])


def test_rounding_errors_after_death_do_not_count_as_going_on():
    values = np.concatenate([[[1.0, 0.1, 0.01]], np.full((1, 21), 1e-15)], axis=1)
    assert long_range.late_early(values, frames_out=3)[0] < 1e-13
    assert long_range.late_early(np.zeros((2, 24)), frames_out=3) is None


def test_the_interval_of_a_ratio_against_hand_arithmetic():
    values = long_range.ratio(np.array([2.0, 4.0, 9.0]), np.array([1.0, 2.0, 3.0]))
    np.testing.assert_allclose(values, [2.25, 2.0, 3.25])  # their mean is 15 / 6
    proportional = long_range.ratio(np.array([2.0, 20.0]), np.array([1.0, 10.0]))
    np.testing.assert_allclose(proportional, [2.0, 2.0])  # every clip says 2


def test_motion_and_activity_energy_against_hand_arithmetic():
    before, frames = np.array([[[0.0, 1.0]]]), np.array([[[0.5, 1.0], [0.0, 0.0]]])
    np.testing.assert_allclose(long_range.motion(before, frames), [[0.5, 1.5]])
    np.testing.assert_allclose(long_range.activity_energy(before, frames), [[0.125, 0.625]])


def test_an_oscillation_too_small_has_no_peak():
    def metrics_of(amplitude):
        h = waves([8], [amplitude], 32)
        steps = np.zeros((1, 40))
        measured = {"model": long_range.Dynamics(steps, steps, long_range.spectrum(h))}
        return {row.metric: row.value for row in long_range._rows(measured, 8, 40, None)}

    assert metrics_of(0.1)["period"] == pytest.approx(8)
    still = metrics_of(1e-6)
    assert "variance" in still and not {"peak_frequency", "period", "peak_share"} & set(still)


def test_a_drift_has_no_period():
    h = np.linspace(0, 1, 32)[None, :, None]
    steps = np.zeros((1, 40))
    measured = {"model": long_range.Dynamics(steps, steps, long_range.spectrum(h))}
    rows = {row.metric: row.value for row in long_range._rows(measured, 8, 40, None)}
    assert rows["peak_frequency"] == 1 / 32 and "period" not in rows


# ---------------------------------------------------------------------- running


@pytest.mark.parametrize("conditional", [False, True])
def test_the_activity_is_that_of_the_free_running_predictor(conditional):
    model = video_models.build(
        "future_predictor", frame_dim=7, units=5, layers=2, conditional_future=conditional
    )
    rng = np.random.default_rng(1)
    for weight in model.training.weights:
        weight.assign(rng.normal(0, 0.7, weight.shape))
    past = rng.random((2, 4, 7), dtype="float32")
    frames, activity = long_range.free_run(model, model.encoder(past), 12)
    expected = model.inference({"past": past, "clock": np.zeros((2, 12), "float32")})["future"]
    np.testing.assert_allclose(frames, expected, atol=1e-5)

    decoder = model.decoder_layers["future"]
    of_h = decoder.activate(activity["output"] @ np.asarray(decoder.kernel) + decoder.bias)
    np.testing.assert_allclose(of_h, frames, atol=1e-5)
    o, c = activity["output_gate"], activity["cell"]
    np.testing.assert_allclose(activity["output"], o * np.tanh(c), atol=1e-6)


# ---------------------------------------------------------------------- a tiny model


def tiny(path, kind="composite"):
    """A model of 32x32 frames that was never trained, as if it were."""
    config = quickstart.get_config()
    config.model.kind, config.model.units = kind, 8
    config.data.frame_size = 32
    config.data.frames_in, config.data.frames_out = READ, PREDICTED
    mean_frame = np.full(32 * 32, 0.1, np.float32)
    model = experiment.build_model(config, (32, 32), mean_frame)
    path.mkdir()
    info = {"data": sources.MovingMnistSource(config).description}
    (path / "run.json").write_text(json.dumps(info))
    return TrainedModel(path, config, model, 1, "0" * 64, (32, 32), mean_frame)


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    return tiny(tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="module")
def evaluation(trained):
    return long_range.evaluate(trained, steps=STEPS, clips=CLIPS, units=5)


def values(evaluation, subject, metric):
    """Of frames 1, 2, .."""
    found = [r for r in evaluation.find(subject=subject, metric=metric) if r.frame is not None]
    assert [row.frame for row in found] == list(range(1, len(found) + 1))
    return [row.value for row in found]


@pytest.mark.slow
def test_all_files_are_there_and_readable(evaluation):
    sizes = {}
    for picture in evaluation.pictures:
        with Image.open(evaluation.folder / picture.file) as image:
            image.load()
            sizes[picture.file] = getattr(image, "n_frames", 1)
    assert sizes == {
        "activity.png": 1,
        "persistence.png": 1,
        "long_range.png": 1,
        "long_range.gif": READ + STEPS,
    }
    assert results.load(evaluation.folder) == evaluation
    assert "--steps=14 --clips=3 --units=5" in evaluation.command


def test_the_rows_against_the_definitions(trained, evaluation):
    clips = testset.generated(trained.config, CLIPS, num_frames=READ + STEPS).clips(0, CLIPS)
    states = trained.model.encoder(clips[:, :READ])
    beginning = trained_module.untrained(trained)
    outputs = {
        "model": long_range.free_run(trained.model, states, STEPS),
        "untrained": long_range.free_run(beginning, states, STEPS),
        "truth": (clips[:, READ:], None),
    }
    for subject, (frames, activity) in outputs.items():
        last = clips[:, READ - 1]
        for t, value in enumerate(values(evaluation, subject, "motion")):
            assert value == pytest.approx(np.abs(frames[:, t] - last).sum(-1).mean(), rel=1e-4)
            last = frames[:, t]
        if subject != "truth":
            h = activity["output"]
            energy = values(evaluation, subject, "activity_energy")
            assert len(energy) == STEPS
            # The state of the trained encoder comes first.
            assert energy[0] == pytest.approx(np.mean((h[:, 0] - states[0]) ** 2), rel=1e-4)
            assert energy[5] == pytest.approx(np.mean((h[:, 5] - h[:, 4]) ** 2), rel=1e-4)
            variance = evaluation.find(subject=subject, metric="variance")[0]
            expected = h[:, PREDICTED:].var(axis=1).mean()
            assert variance.value == pytest.approx(expected, rel=1e-4)
            assert variance.frame is None and variance.low < variance.value < variance.high
    assert len(values(evaluation, "truth", "motion")) == STEPS
    assert evaluation.find(subject="truth", metric="motion_late_early")


def test_the_table_names_all_subjects(evaluation):
    lines = long_range.table(evaluation).splitlines()
    assert [line.split()[0] for line in lines[1:]] == ["model", "untrained", "truth"]
    variance = evaluation.find(subject="model", metric="variance")[0].value
    assert f"{variance:.3g}" in lines[1]


@pytest.mark.slow
def test_the_truth_ends_where_the_clips_of_a_data_set_end(trained, tmp_path):
    frames = np.random.default_rng(0).integers(0, 256, (2, 9, 32, 32), np.uint8)
    records.write(tmp_path / "set", frames, 2, "noise", {})
    folder = tmp_path / "set"
    evaluation = long_range.evaluate(trained, STEPS, records=str(folder))
    assert evaluation.settings["clips"] == 2  # all there are
    assert len(values(evaluation, "truth", "motion")) == 9 - READ
    assert len(values(evaluation, "model", "motion")) == STEPS
    assert not evaluation.find(subject="truth", metric="motion_late_early")
    with Image.open(evaluation.folder / "long_range.gif") as image:
        assert image.n_frames == READ + STEPS
    assert evaluation.settings["data"]["kind"] == "noise"
    assert f"--records={folder}" in evaluation.command


def test_blocks_of_clips_change_nothing(trained, monkeypatch):
    test_set = testset.generated(trained.config, CLIPS, num_frames=READ + STEPS)
    whole, blocks = [], []
    for found, size in ((whole, 20), (blocks, 2)):
        monkeypatch.setattr(long_range, "_BLOCK", size)
        measured = long_range._measure(trained, {"model": trained.model}, test_set, STEPS, print)
        found += [measured["truth"].motion, *dataclasses.astuple(measured["model"])]
    for a, b in zip(whole, blocks, strict=True):
        assert len(a) == CLIPS
        np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-9)


def test_bad_input(trained, tmp_path):
    with pytest.raises(ValueError, match="steps must be at least 12, four times the 3 .* got 11"):
        long_range.evaluate(trained, steps=11)
    with pytest.raises(ValueError, match="units, .* must be at least 1, got 0"):
        long_range.evaluate(trained, units=0)
    with pytest.raises(ValueError, match="test clips must be at least 1, got 0"):
        long_range.evaluate(trained, clips=0)
    with pytest.raises(results.Unsuitable, match="is an autoencoder and has no future predictor"):
        long_range.evaluate(tiny(tmp_path / "blind", "autoencoder"))
    records.write(tmp_path / "short", np.zeros((2, 6, 32, 32), np.uint8), 2, "x", {})
    with pytest.raises(ValueError, match="windows of 7 frames are wanted, the longest .* has 6"):
        long_range.evaluate(trained, STEPS, clips=2, records=tmp_path / "short")
    other = dataclasses.replace(trained, frame_shape=(28, 28))
    with pytest.raises(ValueError, match=r"reads frames of \(28, 28\), the test set has"):
        long_range.evaluate(other, STEPS)
