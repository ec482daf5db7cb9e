import io

import numpy as np
import pytest
from PIL import Image

from unsup_video.pictures import visualize


@pytest.fixture
def clip():
    rng = np.random.default_rng(0)
    return {
        "past": rng.random((3, 16, 16)),
        "future": rng.random((2, 16, 16)),
        "reconstruction": rng.random((3, 16, 16)),
        "prediction": rng.random((2, 16, 16)),
    }


def contains(picture, frame):
    """Returns True if the frame, enlarged four times, is somewhere in the picture."""
    wanted = np.kron(np.rint(frame * 255).astype(np.uint8), np.ones((4, 4), np.uint8))
    grey = np.asarray(picture.convert("RGB"))[..., 0]
    first = np.argwhere(grey == wanted[0, 0])
    height, width = wanted.shape
    return [(y, x) for y, x in first if np.array_equal(grey[y : y + height, x : x + width], wanted)]


def test_the_strip_shows_every_frame_in_the_order_of_time(clip, tmp_path):
    visualize.sample_figure(**clip, path=tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png")
    truth = [contains(picture, f) for f in [*clip["past"], *clip["future"]]]
    # The reconstruction comes last frame first and is shown under the frames it reconstructs.
    model = [contains(picture, f) for f in [*clip["reconstruction"][::-1], *clip["prediction"]]]
    assert all(len(places) == 1 for places in truth + model)
    for row in (truth, model):
        assert len({y for ((y, _),) in row}) == 1
        xs = [x for ((_, x),) in row]
        assert xs == sorted(xs)
    assert [x for ((_, x),) in truth] == [x for ((_, x),) in model]
    assert truth[0][0][0] < model[0][0][0]


def test_a_decoder_that_is_missing_leaves_a_gap(clip, tmp_path):
    visualize.sample_figure(**{**clip, "reconstruction": None}, path=tmp_path / "a.png")
    picture = Image.open(tmp_path / "a.png")
    assert contains(picture, clip["prediction"][0])
    assert not contains(picture, clip["reconstruction"][0])


def test_the_animation_has_one_frame_a_step_even_where_nothing_moves(clip, tmp_path):
    still = {name: np.repeat(frames[:1], len(frames), 0) for name, frames in clip.items()}
    data = visualize.sample_gif(**still, path=tmp_path / "a.gif", fps=5)
    assert (tmp_path / "a.gif").read_bytes() == data
    picture = Image.open(io.BytesIO(data))
    assert picture.n_frames == 5
    assert picture.info["duration"] == 200
    assert picture.info["loop"] == 0  # for ever


def test_colour_frames(clip, tmp_path):
    rng = np.random.default_rng(1)
    colour = {name: rng.random((*f.shape, 3)) for name, f in clip.items()}
    visualize.sample_figure(**colour, path=tmp_path / "a.png")
    assert contains(Image.open(tmp_path / "a.png"), colour["future"][1][..., 0])


def test_to_uint8_clips_and_rounds():
    frames = visualize.to_uint8(np.array([-1.0, 0.0, 0.5, 1.0, 2.0]))
    assert frames.tolist() == [0, 0, 128, 255, 255]
    assert visualize.to_uint8(np.array([7], np.uint8)).tolist() == [7]
