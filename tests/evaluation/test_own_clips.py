"""eval.predict: clips of one's own through a trained model."""

import importlib
from pathlib import Path

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

import command_flags
from unsup_video.evaluation import own_clips, predict, testset
from unsup_video.models import outputs

ROOT = Path(__file__).parents[2]
# `model`, of tests/conftest.py, reads 4 frames of 32x32 and was to predict 3.
CLIPS = np.random.default_rng(0).random((2, 9, 32, 32)).astype(np.float32)


def test_it_is_what_the_evaluations_compute(model):
    found = own_clips.run(model, ["a", "b"], CLIPS, 3)
    expected = predict.predict(model, CLIPS.reshape(2, 9, -1))
    for part, frames in (("future", found.future), ("reconstruction", found.reconstruction)):
        each, decoded = expected[part]
        assert found.scores[part] == pytest.approx(each.mean())
        decoded = decoded.reshape(2, -1, 32, 32)
        wanted = decoded if part == "future" else decoded[:, ::-1]
        np.testing.assert_array_equal(frames, wanted)
    past, truth = CLIPS[:, :4].reshape(2, 4, -1), CLIPS[:, 4:7].reshape(2, 3, -1)
    assert found.floors["future"] == pytest.approx(
        outputs.get("logistic").floors(past, truth, model.mean_frame)
    )
    assert found.scored == {"future": 6, "reconstruction": 8}


def test_any_horizon_and_what_is_known_of_it(model):
    found = own_clips.run(model, ["a", "b", "c"], [CLIPS[0], CLIPS[1, :5], CLIPS[1, :4]], 20)
    assert found.future.shape == (3, 20, 32, 32)
    assert [len(clip) for clip in found.truth] == [5, 1, 0]
    assert found.scored["future"] == 6
    # The first three steps are those of a shorter prediction.
    short = own_clips.run(model, ["a"], CLIPS[:1], 3)
    np.testing.assert_allclose(found.future[:1, :3], short.future, atol=1e-6)
    one, other = (
        outputs.get("logistic").frame_scores(clip[4 : 4 + n], future[:n])
        for clip, future, n in ((CLIPS[0], found.future[0], 5), (CLIPS[1], found.future[1], 1))
    )
    total = one.sum() + other.sum()
    assert found.scores["future"] == pytest.approx(total / 6, rel=1e-4)
    alone = own_clips.run(model, ["c"], [CLIPS[1, :4]], 2)
    assert "future" not in alone.scores and "reconstruction" in alone.scores


def test_too_few_frames_and_values_out_of_range(model):
    with pytest.raises(ValueError, match="b: 3 frames, but .* reads 4 before it predicts"):
        own_clips.run(model, ["a", "b"], [CLIPS[0], CLIPS[1, :3]], 3)
    with pytest.raises(ValueError, match="a: values from .* was trained on values in .0, 1."):
        own_clips.run(model, ["a"], 2 * CLIPS[:1], 3)


def test_what_is_written(model, tmp_path):
    found = own_clips.run(model, ["a", "b"], [CLIPS[0], CLIPS[1, :5]], 6)
    for suffix in ("gif", "png", "npz"):
        own_clips.write(found, tmp_path / f"x.{suffix}")
    arrays = np.load(tmp_path / "x.npz")
    assert arrays["name"].tolist() == ["a", "b"]
    np.testing.assert_array_equal(arrays["future"], found.future)
    np.testing.assert_array_equal(arrays["past"], CLIPS[:, :4])
    np.testing.assert_array_equal(arrays["truth"][0], CLIPS[0, 4:])
    np.testing.assert_array_equal(arrays["truth"][1, :1], CLIPS[1, 4:5])
    assert np.isnan(arrays["truth"][1, 1:]).all() and arrays["truth"].shape[1] == 5
    animation = Image.open(tmp_path / "x.gif")
    assert animation.n_frames == 10
    # Two clips side by side, each with the truth over the model: at the eighth step the first has
    # a truth, and the second has none any more.
    animation.seek(7)
    picture = np.asarray(animation.convert("L"), int)
    width, height = 4 * 32, 4 * 32
    left = 12 + width + 12
    truth = [picture[30 : 30 + height, x : x + width] for x in (12, left)]
    shown = np.kron(np.rint(255 * CLIPS[0, 7]), np.ones((4, 4)))
    assert np.abs(truth[0] - shown).mean() < 12 and not truth[1].any()
    strip = np.asarray(Image.open(tmp_path / "x.png").convert("L"))
    assert strip.shape[1] > 10 * 64 and strip.shape[0] > 4 * 64


def test_pictures_of_vectors_are_refused(tmp_path):
    with pytest.raises(ValueError, match="frames of shape .7,. are no pictures; write a .npz"):
        own_clips.check_out(tmp_path / "a.gif", (7,))
    own_clips.check_out(tmp_path / "a.npz", (7,))
    with pytest.raises(ValueError, match="a.mp4: .gif or .png or .npz expected"):
        own_clips.check_out(tmp_path / "a.mp4")


def test_generated_clips_are_those_of_the_test(model):
    clips, notes = own_clips.generated(model, 2, 3)
    expected = testset.generated(model.config, 2).clips(0, 2)
    np.testing.assert_array_equal(np.reshape(clips, expected.shape), expected)
    assert not notes  # it was trained on other digits of the same source


@pytest.fixture(scope="module")
def command():
    """Runs eval.predict in this process, with errors as exceptions."""
    with command_flags.apart():
        module = importlib.import_module("eval.predict")

        def run(*arguments):
            with flagsaver.flagsaver():
                assert module.main(flags.FLAGS(["predict", *map(str, arguments)])) == 0

        yield run


def test_the_command_converts_and_says_so(command, run, tmp_path, capsys):
    (tmp_path / "in").mkdir()
    colours = np.uint8(255 * CLIPS[0, :, :, :, None] * [1, 0.5, 0])
    for t, frame in enumerate(np.repeat(colours, 2, 2)):
        Image.fromarray(frame).save(tmp_path / "in" / f"{t}.png")
    command(
        f"--workdir={run}",
        f"--input={tmp_path / 'in'}",
        "--steps=20",
        f"--out={tmp_path / 'a.gif'}",
        f"--out={tmp_path / 'a.npz'}",
    )
    printed = capsys.readouterr().out
    assert "reads 4 frames of 32x32, was trained to predict 3" in printed
    assert "in: 9 frames, frames of 32x64 cut to 32x32, made grey" in printed
    assert "future: " in printed and " nats/frame, of 5 frames" in printed
    assert ": the last input frame repeated" in printed
    assert np.load(tmp_path / "a.npz")["future"].shape == (1, 20, 32, 32)
    assert Image.open(tmp_path / "a.gif").n_frames == 24


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--input="], "--input is empty"),
        (["--input=nowhere.mp4"], "nowhere.mp4: there is no such file or folder"),
        (["--fps=3"], "--fps goes with --input"),
        (["--out=a.txt"], "a.txt: .gif or .png or .npz expected"),
        (["--recompute"], "--recompute has no meaning here"),
        (["--digits_dir=x", "--input=y"], "--digits_dir is for generated clips"),
        (["--model=x"], "--workdir and --model: give a single model"),
    ],
)
def test_bad_flags(command, run, tmp_path, monkeypatch, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises((ValueError, OSError), match=message):
        command(f"--workdir={run}", *arguments)


def test_the_shipped_model_needs_no_file(command, tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    command(f"--model={ROOT / 'saved_models' / 'moving_mnist'}", "--steps=12")
    printed = capsys.readouterr().out
    assert "4 generated clips" in printed and "may have seen these digits" in printed
    assert Image.open(tmp_path / "future.gif").n_frames == 22
    future = float(printed.split("future: ")[1].split(" nats")[0])
    mean = float(printed.split("future: ")[1].split(": always the mean frame")[0].split()[-1])
    assert 98 < future < 0.8 * mean
