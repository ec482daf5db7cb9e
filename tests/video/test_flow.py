"""Optical flow: against known motion, and the command against the library."""

import colorsys
import dataclasses
import io
import itertools

import cv2
import numpy as np
import pytest
from PIL import Image

import commands
from unsup_video.data import records, windows
from unsup_video.video import flow, jobs
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Listing, Video

METHODS = [
    method
    if method != "tvl1" or hasattr(cv2, "optflow")
    else pytest.param(method, marks=pytest.mark.skip("OpenCV without contrib modules"))
    for method in flow.METHODS
]
HEIGHT, WIDTH = 96, 128
SCALE = 20 / 127
BORDER = 24  # pixels in which what has come into view is guessed


def texture(seed=0, height=HEIGHT, width=WIDTH):
    """Noise with fine and coarse structure, as natural images have, 0 to 255."""
    noise = np.random.default_rng(seed).normal(size=(height, width)).astype(np.float32)
    smooth = sum(sigma * cv2.GaussianBlur(noise, (0, 0), sigma) for sigma in (2, 4, 8))
    return (smooth - smooth.min()) / np.ptp(smooth) * 255


def moved(image, matrix):
    """`image` after the affine motion `matrix`, (2, 3), as uint8."""
    height, width = image.shape
    found = cv2.warpAffine(
        image,
        np.float32(matrix),
        (width, height),
        flags=cv2.INTER_CUBIC,
        borderMode=cv2.BORDER_REFLECT,
    )
    return np.rint(np.clip(found, 0, 255)).astype(np.uint8)


def shifted(image, dx, dy):
    return moved(image, [[1, 0, dx], [0, 1, dy]])


def middle(values):
    return values[..., BORDER:-BORDER, BORDER:-BORDER, :]


def write_video(path, frames, fps=10):
    """Without loss, so that the frames of the file are these: (T, H, W) or (T, H, W, 3) uint8."""
    height, width = frames[0].shape[:2]
    writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), fps, (width, height))
    for frame in frames:
        writer.write(
            cv2.cvtColor(frame, cv2.COLOR_GRAY2BGR)
            if frame.ndim == 2
            else cv2.cvtColor(frame, cv2.COLOR_RGB2BGR)
        )
    writer.release()
    return Video(str(path), path.stem)


def panning(count, dx, dy):
    return [shifted(texture(), t * dx, t * dy) for t in range(count)]


def a_job(**options):
    return flow.Flow(**{"size": (HEIGHT, WIDTH), **options})


def stored(job, video):
    (record,) = job.records(video)
    return record.frames


# ---------------------------------------------------------------------- the estimate


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize(
    "dx, dy", [(3, 0), (-3, 0), (0, 4), (0, -4), (0.5, -0.25), (-1.3, 0.7), (6, -4), (0, 0)]
)
def test_flow_of_a_translated_image_is_the_translation(method, dx, dy):
    estimate = flow.estimator(method)
    found = estimate(shifted(texture(), 0, 0), shifted(texture(), dx, dy))
    assert found.shape == (HEIGHT, WIDTH, 2) and found.dtype == np.float32
    error = np.abs(middle(found) - [dx, dy])
    assert error.mean() < 0.1 and np.percentile(error, 99) < 0.3


@pytest.mark.parametrize("method", METHODS)
def test_flow_of_a_rotated_image_is_the_rotation(method):
    image, centre = texture(), (WIDTH / 2, HEIGHT / 2)
    matrix = cv2.getRotationMatrix2D(centre, -3, 1)  # clockwise
    found = flow.estimator(method)(moved(image, np.eye(2, 3)), moved(image, matrix))
    y, x = np.mgrid[:HEIGHT, :WIDTH]
    expected = np.stack([x, y, np.ones_like(x)], -1) @ matrix.T - np.stack([x, y], -1)
    np.testing.assert_allclose(middle(found), middle(expected), atol=0.5)
    assert (middle(found)[0, :, 0] > 0).all() and (middle(found)[:, -1, 1] > 0).all()


@pytest.mark.parametrize("method", METHODS)
def test_a_still_image_has_no_flow(method):
    for image in (shifted(texture(), 0, 0), np.full((HEIGHT, WIDTH), 7, np.uint8)):
        assert not flow.quantise(middle(flow.estimator(method)(image, image)), 20).any()


@pytest.mark.parametrize("method", METHODS)
def test_the_smallest_frames(method):
    image = shifted(texture(1, flow.MIN_SIZE, flow.MIN_SIZE), 0, 0)
    assert np.isfinite(flow.estimator(method)(image, image[::-1].copy())).all()


def test_unknown_and_missing_methods(monkeypatch):
    with pytest.raises(ValueError, match="unknown method 'brox': one of dis, farneback, tvl1"):
        flow.estimator("brox")
    monkeypatch.delattr(cv2, "optflow", raising=False)
    with pytest.raises(ValueError, match="pip install opencv-contrib-python-headless"):
        flow.Flow(method="tvl1")


# ---------------------------------------------------------------------- codes


@pytest.mark.parametrize("bound", [20, 7.5])
def test_codes_are_within_half_a_step(bound):
    values = np.random.default_rng(0).uniform(-bound, bound, (5, 40, 30, 2)).astype(np.float32)
    codes = flow.quantise(values, bound)
    assert codes.dtype == np.int8
    error = np.abs(flow.dequantise(codes, bound) - values)
    assert bound / 254 * 0.99 < error.max() <= bound / 254 * 1.0001


def test_codes_by_hand():
    values = np.float32([0, -0.0, 20, -20, 20 / 127, -20 / 127, 0.07, 0.08, 21, -1e9, np.inf])
    assert flow.quantise(values, 20).tolist() == [0, 0, 127, -127, 1, -1, 0, 1, 127, -127, 127]
    assert flow.dequantise(np.int8([0, 127, -127]), 20).tolist() == [0, 20, -20]


@pytest.mark.parametrize("compression", ["", "GZIP"])
def test_the_share_at_the_bound_is_counted(tmp_path, compression):
    codes = np.zeros((4, 2, 5, 2), np.int8)
    codes[0, 0, :3, 0], codes[3, 1, 4, 1], codes[2, 0, 0] = 127, -127, (126, -126)
    records.write(
        tmp_path / "x",
        [codes[:2], codes[2:], codes[:2]],
        3,
        "flow",
        {},
        dtype="int8",
        scale=SCALE,
        shards=2,
        compression=compression,
    )
    assert flow.share_at_bound(tmp_path / "x") == 7 / 120


# ---------------------------------------------------------------------- the job


def test_records_hold_the_flow_between_consecutive_frames(tmp_path):
    frames = panning(5, 2, -1)
    video = write_video(tmp_path / "pan.avi", frames)
    video = dataclasses.replace(video, label=3, group="g", splits=(1, 2))
    (record,) = a_job().records(video)
    estimate = flow.estimator("dis")
    expected = [flow.quantise(estimate(a, b), 20) for a, b in itertools.pairwise(frames)]
    np.testing.assert_array_equal(record.frames, expected)
    assert (record.name, record.label, record.group, record.splits) == ("pan", 3, "g", (1, 2))
    assert np.abs(middle(record.frames) * SCALE - [2, -1]).mean() < 0.1


@pytest.mark.parametrize("method", ["dis", "farneback"])
def test_a_still_video_is_stored_as_zeros(tmp_path, method):
    frames = np.repeat(shifted(texture(), 0, 0)[None], 4, axis=0)
    codes = stored(a_job(method=method), write_video(tmp_path / "still.avi", frames))
    assert codes.shape == (3, HEIGHT, WIDTH, 2) and not codes.any()


def test_flow_beyond_the_bound_is_clipped(tmp_path):
    video = write_video(tmp_path / "pan.avi", panning(3, 6, 0))
    codes = middle(stored(a_job(bound=2.0), video))
    assert (codes[..., 0] == 127).mean() > 0.99
    assert a_job(bound=2.0).scale == 2 / 127


def test_the_mean_is_that_of_the_camera(tmp_path):
    frames = panning(4, 2, -3)
    for t, frame in enumerate(frames):  # a patch that goes its own way
        frame[40:56, 40 + 2 * t : 56 + 2 * t] = shifted(texture(5, 16, 16), 0, 0)
    video = write_video(tmp_path / "pan.avi", frames)
    job = a_job(subtract_mean=True)
    for plain, found in zip(a_job().flows(video), job.flows(video), strict=True):
        np.testing.assert_allclose(found.mean(axis=(0, 1)), 0, atol=1e-4)
        np.testing.assert_allclose(found, plain - plain.mean(axis=(0, 1)), atol=1e-6)
    still = (middle(stored(a_job(), video)) * SCALE).mean(axis=(0, 1, 2))
    assert np.abs((middle(stored(job, video)) * SCALE).mean(axis=(0, 1, 2))).max() < 0.5
    assert np.abs(still - [2, -3]).max() < 0.5


@pytest.mark.parametrize(
    "stack, stride, firsts", [(3, 1, [0, 1, 2, 3]), (3, 3, [0, 3]), (6, 1, [0])]
)
def test_stacks_are_made_of_the_single_flows(tmp_path, stack, stride, firsts):
    video = write_video(tmp_path / "pan.avi", [shifted(texture(), t * t, -t) for t in range(7)])
    single = stored(a_job(), video)
    found = stored(a_job(stack=stack, stack_stride=stride), video)
    assert found.shape == (len(firsts), HEIGHT, WIDTH, 2 * stack)
    for stacked, first in zip(found, firsts, strict=True):
        for k in range(stack):
            np.testing.assert_array_equal(stacked[..., 2 * k], single[first + k, ..., 0])
            np.testing.assert_array_equal(stacked[..., 2 * k + 1], single[first + k, ..., 1])


def test_frames_are_grey_and_of_the_size(tmp_path):
    colours = np.random.default_rng(0).integers(0, 256, (3, 60, 80, 3)).astype(np.uint8)
    video = write_video(tmp_path / "noise.avi", colours)
    grey = list(a_job(size=(60, 80)).frames(video, colour=False))
    np.testing.assert_array_equal(grey, [cv2.cvtColor(c, cv2.COLOR_RGB2GRAY) for c in colours])
    np.testing.assert_array_equal(list(a_job(size=(60, 80)).frames(video, colour=True)), colours)
    assert [f.shape for f in a_job(size=(32, 40)).frames(video, colour=False)] == [(32, 40)] * 3
    # A motion of 4 pixels is one of 2 in frames of half the size.
    video = write_video(tmp_path / "pan.avi", panning(3, 4, 0))
    codes = stored(a_job(size=(HEIGHT // 2, WIDTH // 2)), video)
    assert abs(np.median(codes[..., 0]) * SCALE - 2) < 0.2


def test_another_frame_rate(tmp_path):
    video = write_video(tmp_path / "pan.avi", panning(9, 1, 0), fps=20)
    codes = stored(a_job(fps=10), video)
    assert len(codes) == 4
    assert abs(np.median(codes[..., 0]) * SCALE - 2) < 0.2


def test_too_few_and_too_many_frames(tmp_path, monkeypatch):
    one = write_video(tmp_path / "one.avi", panning(1, 0, 0))
    with pytest.raises(VideoError, match="one.avi: 2 frames at least are needed") as error:
        stored(a_job(), one)
    assert error.value.frame == 1
    four = write_video(tmp_path / "four.avi", panning(4, 0, 0))
    with pytest.raises(VideoError, match="four.avi: 5 frames at least"):
        stored(a_job(stack=4), four)
    assert len(stored(a_job(stack=3), four)) == 1
    monkeypatch.setattr(flow, "_MAX_BYTES", 2 * HEIGHT * WIDTH * 2)
    with pytest.raises(VideoError, match="cut it into shorter files"):
        stored(a_job(), four)
    with pytest.raises(VideoError, match="cut it"):
        stored(a_job(stack=2, stack_stride=1), four)


@pytest.mark.parametrize(
    "options, message",
    [
        ({"method": "brox"}, "unknown method"),
        ({"size": (15, 40)}, "size must be 16 to 4096"),
        ({"size": (40, 5000)}, "size must be 16 to 4096"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"bound": 0.0}, "bound must be above 0"),
        ({"bound": float("nan")}, "bound must be above 0"),
        ({"stack": 0}, "stack and stack_stride"),
        ({"stack": 10, "stack_stride": 0}, "stack and stack_stride"),
    ],
)
def test_bad_jobs(options, message):
    with pytest.raises(ValueError, match=message):
        flow.Flow(**options)


def test_what_a_model_reads_is_pixels_a_frame(tmp_path):
    codes = np.random.default_rng(0).integers(-127, 128, (2, 6, 3, 4, 2)).astype(np.int8)
    named = [records.Record(c, name=f"v{i}") for i, c in enumerate(codes)]
    records.write(tmp_path / "x", named, 2, "flow", {}, dtype="int8", scale=SCALE)
    assert records.verify(tmp_path / "x") == []
    for window in windows.at(
        tmp_path / "x", 3, windows.starts(tmp_path / "x", 3)
    ).as_numpy_iterator():
        expected = codes[window["sequence"], window["first"] : window["first"] + 3]
        np.testing.assert_allclose(
            window["frames"], flow.dequantise(expected, 20).reshape(3, 24), rtol=1e-6
        )


# ---------------------------------------------------------------------- colours


def test_colours_by_hand():
    u, v = np.float32([[1, 0, -1, 0, 0, 5]]), np.float32([[0, 1, 0, -1, 0, 0]])
    expected = [(255, 0, 0), (128, 255, 0), (0, 255, 255), (127, 0, 255), (255,) * 3, (255, 0, 0)]
    found = flow.to_colour(u, v, 1.0)
    assert found.shape == (1, 6, 3) and found.dtype == np.uint8
    assert np.abs(found[0].astype(int) - expected).max() <= 1


def test_opposite_directions_have_opposite_hues():
    angles = np.random.default_rng(0).uniform(0, 2 * np.pi, (1, 50))
    speeds = np.random.default_rng(1).uniform(0.3, 1, (1, 50))

    def hues(sign):
        rgb = flow.to_colour(sign * speeds * np.cos(angles), sign * speeds * np.sin(angles), 1.0)
        return np.array([colorsys.rgb_to_hsv(*pixel / 255) for pixel in rgb[0]])

    there, back = hues(1), hues(-1)
    np.testing.assert_allclose((there[:, 0] - back[:, 0]) % 1, 0.5, atol=0.02)
    np.testing.assert_allclose(there[:, 1], speeds[0], atol=0.01)
    np.testing.assert_allclose(there[:, 1:], back[:, 1:], atol=0.01)


def test_the_wheel_is_a_disc():
    disc = flow.wheel(31)
    assert disc[15, 15].tolist() == [255] * 3 and not disc[0, 0].any()
    assert disc[15, 30].tolist() == [255, 0, 0]


def test_preview_shows_the_motion(tmp_path):
    flows = np.zeros((4, HEIGHT, WIDTH, 2), np.float32)
    flows[:2, ..., 0], flows[2:, ..., 0] = 3, -3
    frames = [np.zeros((HEIGHT, WIDTH, 3), np.uint8)] * 4
    picture = Image.open(io.BytesIO(flow.preview(frames, flows)))
    assert picture.n_frames == 4
    for t, colour in [(0, (255, 0, 0)), (3, (0, 255, 255))]:
        picture.seek(t)
        shown = np.asarray(picture.convert("RGB"), int)
        place = shown[shown.shape[0] // 2, shown.shape[1] * 3 // 4]
        assert np.abs(place - colour).max() < 20


def test_previews_have_names_of_their_own_and_one_that_fails_is_told(tmp_path):
    write_video(tmp_path / "a.avi", panning(4, 3, 0))
    names = ["a#1", "a&1", "$(1", "b/" + "x" * 240, "gone"]
    videos = [Video(str(tmp_path / "a.avi"), name) for name in names]
    job = flow.Flow(size=(HEIGHT, WIDTH))
    listing = Listing("folder", videos, (), (), {})
    jobs.run(job, listing, tmp_path / "flow")
    videos[-1] = Video(str(tmp_path / "absent.avi"), "gone")
    lines, folder = [], tmp_path / "previews"
    paths = flow.write_previews(folder, 5, job, listing, tmp_path / "flow", lines.append)
    assert sorted(paths) == sorted(folder.rglob("*.gif")) and len(set(paths)) == 4
    assert all(Image.open(path).n_frames == 3 for path in paths)
    (line,) = lines
    assert line.startswith("no preview of gone: ") and "absent.avi" in line


# ---------------------------------------------------------------------- the command


@pytest.mark.slow
def test_as_a_command(tmp_path):
    for name in ("left", "right"):
        (tmp_path / "videos" / name).mkdir(parents=True)
    write_video(tmp_path / "videos" / "right" / "a.avi", panning(8, 3, 0))
    write_video(tmp_path / "videos" / "left" / "b.avi", panning(6, -3, 0))
    write_video(tmp_path / "videos" / "left" / "one.avi", panning(1, 0, 0))
    out = tmp_path / "flow"
    done = commands.run(
        "data_prep.flow",
        f"--videos={tmp_path / 'videos'}",
        f"--out={out}",
        f"--size={HEIGHT}x{WIDTH}",
        "--bound=2",
        "--stack=2",
        "--stack_stride=1",
        "--previews=1",
        "--max_bad_fraction=0.5",
    )
    assert done.returncode == 0, done.stderr
    assert records.verify(out) == []
    manifest = records.Manifest.load(out)
    assert (manifest.kind, manifest.dtype, manifest.scale) == ("flow", "int8", 2 / 127)
    assert manifest.shape == (None, HEIGHT, WIDTH, 4) and manifest.classes == ("left", "right")
    assert manifest.source["settings"]["bound"] == 2 and manifest.source["unused"] == 1
    assert [entry.frames for entry in records.load_index(out)] == [4, 6]
    share = flow.share_at_bound(out)
    assert share > 0.4 and f"{share:.2%} of a sample of the values are at the bound" in done.stdout
    found = next(windows.at(out, 3, windows.starts(out, 3)).as_numpy_iterator())["frames"]
    assert abs(np.median(found.reshape(3, HEIGHT, WIDTH, 4)[..., 0]) + 2) < 1e-6
    previews = list((tmp_path / "flow-previews").rglob("*.gif"))
    assert len(previews) == 1 and Image.open(previews[0]).n_frames == 4
    assert "one.avi" in (out / "quarantine.jsonl").read_text()


@pytest.mark.slow
def test_an_error_of_the_command_is_one_line():
    done = commands.run("data_prep.flow", "--size=240", "--videos=x", "--out=y")
    assert done.returncode == 1 and "Traceback" not in done.stderr
    assert done.stderr.splitlines()[-1] == (
        "error: --size must be HEIGHTxWIDTH, such as 240x320, got '240'"
    )


def test_a_real_clip_equals_direct_calls(real_data):
    path = real_data / "clips" / "ucf101" / "v_Biking_g05_c02.avi"
    capture = cv2.VideoCapture(str(path))
    grey = [cv2.cvtColor(capture.read()[1], cv2.COLOR_BGR2GRAY) for _ in range(6)]
    expected = []
    for a, b in itertools.pairwise(grey):
        search = cv2.DISOpticalFlow_create(cv2.DISOPTICAL_FLOW_PRESET_MEDIUM)
        found = cv2.VariationalRefinement_create().calc(a, b, search.calc(a, b, None))
        expected.append(np.clip(np.round(found / 20 * 127), -127, 127))
    codes = stored(flow.Flow(), Video(str(path), "biking", seconds=0.2))[:5]
    np.testing.assert_allclose(codes, expected, atol=1)
    assert (codes == expected).mean() > 0.999 and np.abs(codes).max() > 20
