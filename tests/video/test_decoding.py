import pickle
import re
import struct
import subprocess
import sys
import warnings
import wave

import cv2
import numpy as np
import pytest

from unsup_video.video import decoding
from unsup_video.video.decoding import VideoError

COUNT, RATE, SHAPE = 30, 25.0, (48, 64)
BITS = 12
# Codecs that OpenCV can write and that have no, little and much loss.
CODECS = {
    "ffv1.mkv": "FFV1",
    "ffv1.avi": "FFV1",
    "mjpg.avi": "MJPG",
    "xvid.avi": "XVID",
    "mp4v.mp4": "mp4v",
    "mp4v.mov": "mp4v",
    "vp8.webm": "VP80",
}


def numbered(number, shape=SHAPE):
    """(H, W, 3) BGR whose 12 blocks, 3 rows of 4, are the bits of `number`; grey, to survive."""
    bits = np.array([number >> i & 1 for i in range(BITS)]).reshape(3, 4)
    rows, columns = (np.arange(n) * k // n for n, k in zip(shape, bits.shape, strict=True))
    return np.repeat(np.uint8(40 + 170 * bits[rows][:, columns])[..., None], 3, axis=2)


def number_of(frame):
    grey = frame if frame.ndim == 2 else frame.mean(axis=2)
    h, w = grey.shape
    blocks = grey[: h // 3 * 3, : w // 4 * 4].reshape(3, h // 3, 4, w // 4)
    bits = np.median(blocks, axis=(1, 3)).ravel() > 125
    return int((bits << np.arange(BITS)).sum())


def write(path, codec="FFV1", count=COUNT, rate=RATE, shape=SHAPE, frame=numbered):
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*codec), rate, shape[::-1]
    )
    assert writer.isOpened()
    for i in range(count):
        writer.write(frame(i, shape))
    writer.release()
    return path


def numbers(path, **arguments):
    return [number_of(frame) for frame in decoding.frames(path, **arguments)]


def reason(path, **arguments):
    """(reason, frame) of the VideoError, which names the path."""
    with pytest.raises(VideoError) as caught:
        list(decoding.frames(path, **arguments))
    assert caught.value.path == str(path) and str(path) in str(caught.value)
    return caught.value.reason, caught.value.frame


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    folder = tmp_path_factory.mktemp("videos")
    return {name: write(folder / name, codec) for name, codec in CODECS.items()}


@pytest.fixture(autouse=True)
def no_warning():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        yield


# ---------------------------------------------------------------------- whole videos


@pytest.mark.parametrize("name", CODECS)
def test_every_frame_once_and_in_order(videos, name):
    found = list(decoding.frames(videos[name]))
    assert [number_of(frame) for frame in found] == list(range(COUNT))
    assert {(frame.shape, frame.dtype) for frame in found} == {((*SHAPE, 3), np.dtype(np.uint8))}
    claims = decoding.info(videos[name])
    assert claims == decoding.Info(*SHAPE, RATE, COUNT)


def test_colours_are_rgb_and_grey_is_luma(tmp_path):
    rgb = np.array([(200, 30, 90), (10, 250, 60), (0, 0, 255)], np.uint8)
    path = write(
        tmp_path / "colours.avi",
        count=3,
        frame=lambda i, shape: np.broadcast_to(rgb[i, ::-1], (*shape, 3)).copy(),
    )
    for i, frame in enumerate(decoding.frames(path)):
        np.testing.assert_array_equal(frame, np.broadcast_to(rgb[i], (*SHAPE, 3)))
    luma = rgb @ np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
    for i, frame in enumerate(decoding.frames(path, colour=False)):
        assert frame.shape == SHAPE and frame.dtype == np.uint8
        np.testing.assert_allclose(frame, luma[i], atol=0.51)


def test_a_grey_video_is_one_of_three_equal_channels(tmp_path):
    writer = cv2.VideoWriter(
        str(tmp_path / "g.avi"),
        cv2.CAP_FFMPEG,
        cv2.VideoWriter_fourcc(*"FFV1"),
        RATE,
        SHAPE[::-1],
        isColor=False,
    )
    for i in range(3):
        writer.write(np.full(SHAPE, 80 * i, np.uint8))
    writer.release()
    for i, frame in enumerate(decoding.frames(tmp_path / "g.avi")):
        np.testing.assert_array_equal(frame, np.full((*SHAPE, 3), 80 * i))


@pytest.mark.parametrize("shape", [(34, 50), (120, 18), (240, 320)])
def test_sizes(tmp_path, shape):
    path = write(tmp_path / "a.mkv", shape=shape, count=5)
    assert numbers(path) == list(range(5))
    assert next(decoding.frames(path)).shape == (*shape, 3)


def test_frames_that_change_their_size_get_that_of_the_first(tmp_path):
    path = tmp_path / "sizes.mjpeg"  # JPEG files in a row
    shapes = [(48, 64)] * 3 + [(96, 64)] * 2 + [(24, 100)]
    path.write_bytes(
        b"".join(
            cv2.imencode(".jpg", numbered(i, shape))[1].tobytes() for i, shape in enumerate(shapes)
        )
    )
    found = list(decoding.frames(path))
    assert [number_of(frame) for frame in found] == list(range(6))
    assert {frame.shape for frame in found} == {(48, 64, 3)}


@pytest.mark.parametrize("angle, cosine, sine", [(90, 0, 1), (180, -1, 0), (270, 0, -1)])
def test_rotated_videos_are_upright(videos, tmp_path, angle, cosine, sine):
    data = bytearray(videos["mp4v.mp4"].read_bytes())
    matrix = data.index(b"tkhd") + 4 + 40  # ISO/IEC 14496-12, 8.3.2, version 0
    assert struct.unpack(">9i", data[matrix : matrix + 36])[::4] == (1 << 16, 1 << 16, 1 << 30)
    data[matrix : matrix + 36] = struct.pack(
        ">9i", *(int(x * 65536) for x in (cosine, sine, 0, -sine, cosine, 0, 0, 0, 16384))
    )
    path = tmp_path / "rotated.mp4"
    path.write_bytes(data)
    turns = -angle // 90  # numpy turns the other way
    stored = list(decoding.frames(videos["mp4v.mp4"]))
    for frame, plain in zip(decoding.frames(path), stored, strict=True):
        np.testing.assert_array_equal(frame, np.rot90(plain, turns))
    assert (decoding.info(path).height, decoding.info(path).width) == frame.shape[:2]


# ---------------------------------------------------------------------- time


@pytest.mark.parametrize("name", ["ffv1.mkv", "mjpg.avi", "mp4v.mp4", "vp8.webm"])
@pytest.mark.parametrize("fps", [25, 12.5, 50, 5, 10, 30, 29.97, 7.3])
def test_resampling_shows_the_frame_on_the_screen(videos, name, fps):
    # In whole microseconds, a thousandth of what the time stamps are good to.
    expected, k = [], 0
    while (time := round(k * 1e6 / fps)) < COUNT * 40_000 - 1000:
        expected.append((time + 1000) // 40_000)
        k += 1
    assert numbers(videos[name], fps=fps) == expected


def test_resampling_at_a_broken_rate(tmp_path):
    path = write(tmp_path / "ntsc.mkv", rate=30000 / 1001, count=300)
    assert numbers(path, fps=30000 / 1001) == list(range(300))
    assert numbers(path, fps=15000 / 1001) == list(range(0, 300, 2))


@pytest.mark.parametrize("name", ["ffv1.mkv", "mjpg.avi", "mp4v.mp4"])
@pytest.mark.parametrize(
    "start, seconds, first, end",
    [
        (0, 0.4, 0, 10),
        (0.2, 0.4, 5, 15),
        (0.28, None, 7, 30),
        (0.56, 0.64, 14, 30),
        (1.16, 0.04, 29, 30),
        (0.2, 0.05, 5, 7),
    ],
)
def test_parts(videos, name, start, seconds, first, end):
    expected = list(range(first, end))
    assert numbers(videos[name], start=start, seconds=seconds) == expected
    assert numbers(videos[name], start=start, seconds=seconds, fps=RATE) == expected
    twice = numbers(videos[name], start=start, seconds=seconds, fps=2 * RATE)
    if seconds != 0.05:
        assert twice == [i for i in expected for _ in range(2)]


@pytest.mark.parametrize("fps, converted", [(None, 5), (25, 25)])
def test_what_comes_before_a_part_is_converted_where_it_may_be_shown(
    videos, monkeypatch, fps, converted
):
    """Without resampling only frames that appear in the part are."""
    calls, convert = [], cv2.cvtColor
    monkeypatch.setattr(decoding.cv2, "cvtColor", lambda *args: calls.append(1) or convert(*args))
    found = numbers(videos["ffv1.mkv"], fps=fps, start=0.8, seconds=0.2)
    assert found == [20, 21, 22, 23, 24]
    assert converted <= len(calls) <= converted + 1  # what follows says when the part ends


@pytest.mark.parametrize("start", [i / 25 for i in range(0, 30, 7)] + [1.0])
def test_parts_that_begin_at_any_frame(videos, start):
    assert numbers(videos["mp4v.mp4"], start=start, seconds=0.08) == [
        round(start * 25),
        round(start * 25) + 1,
    ]


@pytest.mark.parametrize("fps", [None, 25, 10])
@pytest.mark.parametrize("start, seconds", [(0, 1.3), (1, 0.3), (1.2, None), (500, 1), (500, None)])
def test_parts_beyond_the_end(videos, fps, start, seconds):
    text, frame = reason(videos["mjpg.avi"], fps=fps, start=start, seconds=seconds)
    assert "beyond its 1.2 s" in text and frame == COUNT


def block(data, i, start=0):
    """Returns where the data of frame i begin in a Matroska file at 25 frames per second."""
    header = re.compile(re.escape(b"\x81" + struct.pack(">h", 40 * i)) + b"[\\x00\\x80]")
    return header.search(data, start).end()


def matroska_with_times(path, times):
    """Moves the frames of a Matroska file of one cluster to `times`, in milliseconds."""
    data, at = bytearray(path.read_bytes()), 0
    for i, time in enumerate(times):
        at = block(data, i, at)
        data[at - 3 : at - 1] = struct.pack(">h", time)
    path.write_bytes(data)
    return path


def test_a_variable_rate_is_that_of_the_time_stamps(tmp_path):
    times = [0, 40, 80, 480, 520, 900, 1000, 1040]
    path = matroska_with_times(write(tmp_path / "variable.mkv", count=8), times)
    assert numbers(path) == list(range(8))
    ticks = range(0, 1080, 20)
    assert numbers(path, fps=50) == [int(np.searchsorted(times, t + 1) - 1) for t in ticks]
    assert numbers(path, start=0.4, seconds=0.2) == [3, 4]  # those that appear meanwhile
    assert numbers(path, start=0.4, seconds=0.2, fps=25) == [2, 2, 3, 4, 4]


def still(path, gap):
    """8 frames, one each 40 ms, the last `gap` seconds after the one before."""
    return matroska_with_times(write(path, count=8), [*range(0, 280, 40), 240 + round(1000 * gap)])


def test_a_still_of_more_than_10_seconds_is_doubtful_and_used(tmp_path):
    path = still(tmp_path / "still.mkv", 25)
    with decoding.collect_notes() as notes:
        assert numbers(path, fps=5) == [0, 5] + [6] * 125
    (note,) = notes
    assert note == f"{path}: a frame stays for 25.0 s: a still, or a damaged time stamp"
    with decoding.collect_notes() as notes:
        assert numbers(path) == list(range(8))
    assert len(notes) == 1
    with (
        decoding.collect_notes() as notes
    ):  # the frame on the screen at the start appeared long before
        assert numbers(path, fps=1, start=20, seconds=2) == [6, 6]
    assert len(notes) == 1
    with decoding.collect_notes() as notes:  # a part without it
        assert numbers(path, seconds=0.2) == list(range(5))
        numbers(still(tmp_path / "short.mkv", 9.9), fps=5)
    assert notes == []


def test_a_still_of_more_than_an_hour_is_not_resampled(tmp_path, monkeypatch):
    monkeypatch.setattr(decoding, "_LONGEST_STILL", 20.0)  # blocks of this container end at 32 s
    path = still(tmp_path / "still.mkv", 25)
    text, frame = reason(path, fps=25)
    assert "no frame for 25 s" in text and frame == 7
    with decoding.collect_notes() as notes:
        assert numbers(path) == list(range(8))  # each frame once, however long it is shown
        assert numbers(path, fps=1, start=8, seconds=3) == [6] * 3
    assert len(notes) == 2


@pytest.mark.parametrize(
    "name, codec, rate",
    [
        ("fast.avi", "FFV1", 1000),
        ("fast.mp4", "mp4v", 2000),
        ("fast.mkv", "FFV1", 1000),
        ("faster.mp4", "mp4v", 20_000),
    ],
)
def test_high_speed_cameras(tmp_path, name, codec, rate):
    path = write(tmp_path / name, codec, rate=rate)
    assert decoding.info(path).fps == pytest.approx(rate)
    assert numbers(path) == list(range(COUNT))
    assert numbers(path, fps=rate) == list(range(COUNT))
    assert numbers(path, fps=rate / 2) == list(range(0, COUNT, 2))
    assert numbers(path, start=10 / rate, seconds=5 / rate) == list(range(10, 15))
    assert numbers(path, start=10 / rate, seconds=5 / rate, fps=rate) == list(range(10, 15))


@pytest.mark.parametrize(
    "name, codec",
    [
        ("a.mpg", "MPG1"),
        ("a.ts", "MPG2"),
        ("a.m2ts", "mp4v"),
        ("a.vob", "MPG2"),
        ("a.flv", "FLV1"),
        ("a.wmv", "WMV2"),
        ("a.asf", "MJPG"),
        ("a.mjpeg", "MJPG"),
        ("a.3gp", "mp4v"),
    ],
)
def test_other_containers_are_allowed(tmp_path, name, codec):
    assert len(numbers(write(tmp_path / name, codec, shape=(144, 176)))) == COUNT


PLAYLISTS = {
    "ffconcat": "ffconcat version 1.0\nfile whole.mp4\n",
    "m3u8": "#EXTM3U\n#EXT-X-TARGETDURATION:9\n#EXTINF:9,\nwhole.mp4\n#EXT-X-ENDLIST\n",
    "sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nt=0 0\nm=video 9 RTP/AVP 96\n",
    "dash": '<?xml version="1.0"?><MPD xmlns="urn:mpeg:dash:schema:mpd:2011" type="static" '
    'profiles="urn:mpeg:dash:profile:isoff-live:2011"></MPD>\n',
}


@pytest.mark.parametrize("extension", [".avi", ".mp4", ".ts", ".mkv"])
@pytest.mark.parametrize("kind", PLAYLISTS)
def test_a_text_does_not_open_other_files(videos, tmp_path, kind, extension):
    (tmp_path / "whole.mp4").write_bytes(videos["mp4v.mp4"].read_bytes())
    path = tmp_path / f"list{extension}"
    path.write_text(PLAYLISTS[kind])
    assert "no video that can be opened" in reason(path)[0]


def test_a_picture_with_the_extension_of_a_video_is_none(tmp_path):
    cv2.imwrite(str(tmp_path / "a.png"), numbered(1))
    path = (tmp_path / "a.png").rename(tmp_path / "a.avi")
    assert "no video that can be opened" in reason(path)[0]


def test_options_of_the_environment_are_kept():
    code = (
        "import os; os.environ['OPENCV_FFMPEG_CAPTURE_OPTIONS'] = 'hwaccel;none|threads;1'; "
        "from unsup_video.video import decoding; "
        "print(os.environ['OPENCV_FFMPEG_CAPTURE_OPTIONS'])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("hwaccel;none|threads;1|format_whitelist;asf,avi,")


@pytest.mark.parametrize("start, seconds", [(0.01, 0.02), (1.17, 0.01), (1.17, None)])
def test_parts_between_two_frames(videos, start, seconds):
    text, _ = reason(videos["mjpg.avi"], start=start, seconds=seconds)
    assert "no frame appears" in text or "beyond its 1.2 s" in text
    if seconds:  # but there is one on the screen
        found = numbers(videos["mjpg.avi"], start=start, seconds=seconds, fps=50)
        assert found == [int(start * 25)]


@pytest.mark.parametrize(
    "arguments",
    [
        {"fps": 0},
        {"fps": -1},
        {"fps": float("nan")},
        {"fps": float("inf")},
        {"start": -1},
        {"start": float("nan")},
        {"seconds": 0},
        {"seconds": float("inf")},
    ],
)
def test_bad_arguments(videos, arguments):
    with pytest.raises(ValueError, match="expected, got|fps must be above 0, got") as caught:
        next(decoding.frames(videos["mjpg.avi"], **arguments))
    assert not isinstance(caught.value, VideoError)


# ---------------------------------------------------------------------- what is no video


def audio(path):
    with wave.open(str(path), "wb") as file:
        file.setparams((1, 2, 8000, 0, "NONE", ""))
        file.writeframes(bytes(16000))


def no_frames(path):
    write(path, count=0)


OTHERS = {
    "missing.avi": (lambda path: None, "missing"),
    "folder.avi": (lambda path: path.mkdir(), "is no file"),
    "empty.avi": (lambda path: path.touch(), "no video that can be opened"),
    "text.mp4": (lambda path: path.write_text("hello\n" * 100), "no video that can be opened"),
    "text.txt": (lambda path: path.write_text("\x1b[31mhello\n" * 100), ".txt extension"),
    "none": (lambda path: path.write_text("hello"), "no extension"),
    "image.png": (lambda path: cv2.imwrite(str(path), numbered(1)), ".png extension"),
    "audio.avi": (audio, "no video that can be opened"),
    "zero.mp4": (no_frames, "no "),
    "zero.avi": (no_frames, "no "),
    "zero.mkv": (no_frames, "no "),
    "random.mp4": (lambda path: path.write_bytes(np.random.default_rng(0).bytes(50_000)), "no "),
}


@pytest.mark.parametrize("name", OTHERS)
def test_what_is_no_video(tmp_path, name):
    make, expected = OTHERS[name]
    make(tmp_path / name)
    text, frame = reason(tmp_path / name)
    assert expected in text and not frame
    if expected != "no ":
        with pytest.raises(VideoError):
            decoding.info(tmp_path / name)


def test_odd_names(videos, tmp_path, monkeypatch):
    data = videos["mjpg.avi"].read_bytes()
    for name in ("ünïcode, with a space.avi", "concat:a|b.avi", "%05d.avi", "-i.AVI", "#[]!;.avi"):
        (tmp_path / name).write_bytes(data)
        assert numbers(tmp_path / name) == list(range(COUNT))
        monkeypatch.chdir(tmp_path)
        assert numbers(name) == list(range(COUNT))
    bad = tmp_path / "latin\udce9.avi"
    bad.write_bytes(data)
    assert reason(bad) == ("its name is not UTF-8", None)


def test_errors_travel_between_processes():
    error = pickle.loads(pickle.dumps(VideoError("a.avi", "damaged", 3)))
    assert (error.path, error.reason, error.frame) == ("a.avi", "damaged", 3)
    assert str(error) == "a.avi: damaged (after 3 frames)"


# ---------------------------------------------------------------------- damage


@pytest.mark.parametrize("name", ["mjpg.avi", "ffv1.mkv", "mp4v.mp4", "vp8.webm", "mp4v.mov"])
def test_truncated_anywhere(videos, tmp_path, name):
    data = videos[name].read_bytes()
    path = tmp_path / name
    for size in {*np.linspace(1, len(data) - 10, 40).astype(int).tolist(), 8, 12, 40, 64}:
        path.write_bytes(data[:size])
        text, frame = reason(path)
        assert frame is None and ("truncated" in text or "opened" in text)
    path.write_bytes(data + bytes(100))  # more than there should be does no harm
    assert numbers(path) == list(range(COUNT))


def test_truncated_behind_the_index(videos, tmp_path):
    """An MP4 file whose index comes first opens, and just ends early."""
    data = videos["mp4v.mp4"].read_bytes()
    boxes, at = {}, 0
    while at < len(data):
        size, kind = struct.unpack(">I4s", data[at : at + 8])
        boxes[kind], at = (at, size), at + size
    begin, size = boxes[b"moov"]
    moov, at = bytearray(data[begin : begin + size]), boxes[b"mdat"][0]
    offsets = moov.index(b"stco")
    (entries,) = struct.unpack(">I", moov[offsets + 8 : offsets + 12])
    for i in range(offsets + 12, offsets + 12 + 4 * entries, 4):
        moov[i : i + 4] = struct.pack(">I", struct.unpack(">I", moov[i : i + 4])[0] + size)
    whole = data[:at] + moov + data[at:begin]
    path = tmp_path / "first.mp4"
    path.write_bytes(whole)
    assert numbers(path) == list(range(COUNT))
    path.write_bytes(whole[: -boxes[b"mdat"][1] // 2])
    assert reason(path) == (f"truncated: {path.stat().st_size:,} bytes of {len(whole):,}", None)


def test_a_frame_that_cannot_be_decoded(videos, tmp_path):
    data = bytearray(videos["ffv1.mkv"].read_bytes())
    begin = block(data, 12)
    data[begin : begin + 40] = b"\xff" * 40
    path = tmp_path / "damaged.mkv"
    path.write_bytes(data)
    text, frame = reason(path)
    assert "damaged" in text and frame == 12


def test_fewer_frames_than_claimed_are_noted(videos, tmp_path):
    data = bytearray(videos["mjpg.avi"].read_bytes())
    for key, offset in ((b"avih", 8 + 16), (b"strh", 8 + 32)):  # dwTotalFrames, dwLength
        at = data.index(key) + offset
        assert struct.unpack("<I", data[at : at + 4]) == (COUNT,)
        data[at : at + 4] = struct.pack("<I", COUNT + 7)
    path = tmp_path / "claims.avi"
    path.write_bytes(data)
    assert decoding.info(path).frames == COUNT + 7
    with decoding.collect_notes() as notes:
        assert numbers(path) == list(range(COUNT))
        assert numbers(videos["mjpg.avi"]) == list(range(COUNT))
        assert numbers(path, seconds=0.4) == list(range(10))  # nothing is short about that
    assert len(notes) == 1 and "30 frames can be decoded" in notes[0] and "37" in notes[0]
    with pytest.warns(UserWarning, match="claims.avi: 30 frames"):
        numbers(path)


def fuzz(path, originals, seed, rounds):
    """Writes damaged files to `path`; yields after each. All of them must end, well or not."""
    random = np.random.default_rng(seed)
    for data in originals:
        for kind in range(rounds):
            damaged = np.frombuffer(data, np.uint8).copy()
            if kind % 3 == 0:
                where = random.integers(0, len(damaged), 1 + len(damaged) // 500)
                damaged[where] ^= np.uint8(1) << random.integers(0, 8, len(where)).astype(np.uint8)
            elif kind % 3 == 1:
                begin = random.integers(0, len(damaged))
                length = random.integers(1, 1 + len(damaged) // 4)
                damaged[begin : begin + length] = random.integers(0, 256)
            else:
                begin, end = np.sort(random.integers(0, len(damaged), 2))
                damaged = np.concatenate([damaged[:begin], damaged[end:]])
            path.write_bytes(damaged.tobytes())
            yield


def outcome(path, **arguments):
    """(number of frames, notes, error): and never a wrong kind of either."""
    count, shapes = 0, set()
    with decoding.collect_notes() as notes:
        try:
            for frame in decoding.frames(path, **arguments):
                assert frame.dtype == np.uint8
                shapes.add(frame.shape)
                count += 1
                if count == 3000:
                    break
        except VideoError as error:
            assert error.frame is None or error.frame >= 0
            return count, notes, str(error)
    assert len(shapes) == 1
    return count, notes, None


@pytest.mark.parametrize("name", CODECS)
def test_fuzz_generated(videos, tmp_path, name):
    path = tmp_path / name
    told = 0
    for _ in fuzz(path, [videos[name].read_bytes()], 1, 24):
        count, notes, error = outcome(path)
        # A lost frame shows, unless the claim was what was damaged.
        assert error or notes or count >= min(COUNT, decoding.info(path).frames) - 1
        told += bool(error or notes)
        assert outcome(path)[:2] == (count, notes)  # the same again
        outcome(path, fps=10, colour=False)
    assert told


# ---------------------------------------------------------------------- real videos


def test_real_clips(real_data):
    """Most are as they say; what the others are was found out by other means."""
    odd = {
        # Its edit list hides the first 2.94 s of 265 frames; the rest is at 29.97.
        "basketball.mp4": (214, 1),
        "tree.avi": (68, 1),  # most frames are empty: repeats
        "brush_hair_1.avi": (408, 0),
        "cartwheel_1.avi": (84, 0),
        "catch_1.avi": (61, 0),
    }
    paths = sorted(p for p in real_data.glob("clips/**/*") if p.suffix in decoding.EXTENSIONS)
    paths = [path for i, path in enumerate(paths) if path.name in odd or i % 5 == 0]
    assert len(paths) > 20
    for path in paths:
        count, notes, error = outcome(path, colour=False)
        claims = decoding.info(path)
        expected = odd.get(path.name, (claims.frames, 0))
        assert (count, len(notes), error) == (*expected, None), path
        if "ucf101" in path.parts:
            assert (claims.height, claims.width) == (240, 320)
    with decoding.collect_notes():
        # 444 frames at 15 a second, says the index: that is how long it is shown.
        tree = sum(1 for _ in decoding.frames(real_data / "clips/other/tree.avi", fps=15))
        assert abs(tree - 444) <= 1


def test_fuzz_real(real_data, tmp_path):
    for name in ("ucf101/v_Punch_g03_c01.avi", "fight/fight/fi136.mp4", "other/tree.avi"):
        source = real_data / "clips" / name
        path = tmp_path / source.name
        whole, _, error = outcome(source)
        assert error is None
        told = 0
        for _ in fuzz(path, [source.read_bytes()], 2, 9):
            count, notes, error = outcome(path)
            # A lost frame shows, unless the claim was what was damaged.
            assert error or notes or count >= min(whole, decoding.info(path).frames) - 1
            told += bool(error or notes)
        assert told >= 3  # those at least that were cut short


def test_nothing_is_written_to_the_terminal(videos, tmp_path):
    path = tmp_path / "damaged.avi"
    for _ in fuzz(path, [videos["xvid.avi"].read_bytes()], 3, 1):
        pass
    code = (
        "import sys, warnings; warnings.simplefilter('ignore')\n"
        "from unsup_video.video import decoding\n"
        "for path in sys.argv[1:]:\n"
        "    try: sum(1 for _ in decoding.frames(path))\n"
        "    except decoding.VideoError: pass\n"
    )
    text = tmp_path / "text.avi"
    text.write_text("hello")
    done = subprocess.run(
        [sys.executable, "-c", code, path, text], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


# ---------------------------------------------------------------------- crops


def test_centre_crop():
    frame = np.arange(5 * 8 * 3).reshape(5, 8, 3)
    np.testing.assert_array_equal(decoding.centre_crop(frame, 3, 4), frame[1:4, 2:6])
    np.testing.assert_array_equal(decoding.centre_crop(frame, 5, 8), frame)
    assert decoding.centre_crop(np.zeros((240, 320)), 224, 224).shape == (224, 224)
    with pytest.raises(ValueError, match="no 6 x 4 in a frame of 5 x 8"):
        decoding.centre_crop(frame, 6, 4)


def test_resize():
    frame = np.random.default_rng(0).integers(0, 256, (40, 60, 3)).astype(np.uint8)
    half = decoding.resize(frame, 20, 30)
    means = frame.reshape(20, 2, 30, 2, 3).mean(axis=(1, 3))
    np.testing.assert_allclose(half, means, atol=0.51)
    assert decoding.resize(frame[..., 0], 80, 45).shape == (80, 45)
    np.testing.assert_array_equal(decoding.resize(frame, 40, 60), frame)
    flat = np.full((10, 10, 3), 77, np.uint8)
    assert (decoding.resize(flat, 31, 7) == 77).all()
