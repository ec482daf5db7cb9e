"""Decodes video files with OpenCV's FFmpeg, without trusting the claims in their headers.

Time is counted from the first frame, by the time stamps of the frames. The average rate and the
number of frames in a header are not used, because both are wrong for files with edit lists,
variable rates or repeated frames. FFmpeg conceals damage as well as it can. Damage that can be
detected is treated as follows:

- A file is damaged if it is shorter than its container says, or if frames follow one that cannot be
  decoded: a `VideoError`.
- Fewer frames than the header claims may be damage or a wrong claim: a note, see `collect_notes`.
- A frame that stays for more than 10 s may be a still, as in a screen recording or from a camera
  that motion triggers, or have a damaged time stamp: a note. If frames are resampled, a frame that
  stays for more than an hour, and would be repeated many thousand times, is a `VideoError`.

FFmpeg opens only containers and streams that contain the frames themselves. Playlists and other
texts, with which a file could make it open other files, are no videos, whatever their extension.
"""

import contextlib
import contextvars
import dataclasses
import math
import os
import struct
import warnings
from collections.abc import Iterator
from pathlib import Path

import cv2
import numpy as np

EXTENSIONS = (
    ".3gp",
    ".asf",
    ".avi",
    ".divx",
    ".flv",
    ".m2ts",
    ".m4v",
    ".mjpeg",
    ".mkv",
    ".mov",
    ".mp4",
    ".mpeg",
    ".mpg",
    ".mts",
    ".ogv",
    ".ts",
    ".vob",
    ".webm",
    ".wmv",
)
# FFmpeg's names for the formats of `EXTENSIONS`; none of them refers to other files.
_FORMATS = (
    "asf",
    "avi",
    "flv",
    "h264",
    "hevc",
    "m4v",
    "matroska",
    "mjpeg",
    "mov",
    "mpeg",
    "mpegts",
    "mpegvideo",
    "ogg",
)
_LONGEST_FRAME = 10.0  # seconds that a frame may stay without a note
_LONGEST_STILL = 3600.0  # seconds that a frame may stay if frames are resampled
_TOLERANCE = 1e-3  # maximum in seconds; some containers round time stamps to it
_HIGHEST_RATE = 80_000  # frames per second; headers without a rate claim MPEG's clock, 90,000
_MOST_PIXELS = 1 << 26  # per frame; more is a damaged header
_MOST_FAILURES = 1000  # consecutive failed reads; each is a lost packet, or the end

# OpenCV passes these options to FFmpeg for all captures of the process: the user's options, and the
# formats that are allowed. Setting them for each capture would not be safe with threads.
_OPTIONS = "OPENCV_FFMPEG_CAPTURE_OPTIONS"
os.environ[_OPTIONS] = "|".join(
    [
        option
        for option in os.environ.get(_OPTIONS, "rtsp_flags;prefer_tcp").split("|")
        if option and not option.startswith("format_whitelist;")
    ]
    + [f"format_whitelist;{','.join(_FORMATS)}"]
)
# FFmpeg and OpenCV print messages about damaged files without naming them; we raise errors instead.
os.environ.setdefault("OPENCV_FFMPEG_LOGLEVEL", "-8")
if "OPENCV_LOG_LEVEL" not in os.environ:
    cv2.utils.logging.setLogLevel(cv2.utils.logging.LOG_LEVEL_SILENT)


class VideoError(ValueError):
    """A video that cannot be used.

    Attributes:
        path: the file. reason: what is wrong. frame: the number of frames decoded before, None if
        decoding did not start.
    """

    def __init__(self, path: str | os.PathLike, reason: str, frame: int | None = None):
        super().__init__(path, reason, frame)  # all arguments, so that it can be pickled
        self.path, self.reason, self.frame = os.fspath(path), reason, frame

    def __str__(self):
        after = "" if self.frame is None else f" (after {self.frame} frames)"
        return f"{self.path}: {self.reason}{after}"


def check_fps(fps: float | None) -> None:
    """Raises ValueError for a frame rate that cannot be; None stands for that of the file."""
    if fps is not None and not 0 < fps < math.inf:
        raise ValueError(f"fps must be above 0, got {fps}")


@dataclasses.dataclass(frozen=True)
class Info:
    """The claims in the header of a file.

    Attributes:
        height, width: upright, in pixels. fps: average rate, 0 if it is not known. frames: their
        number, 0 if it is not known.
    """

    height: int
    width: int
    fps: float
    frames: int


def info(path: str | os.PathLike) -> Info:
    """Reads the claims of a file without decoding it. Raises VideoError if it cannot be opened."""
    with _open(path) as (_, claims):
        return claims


_notes = contextvars.ContextVar("notes", default=None)


@contextlib.contextmanager
def collect_notes() -> Iterator[list[str]]:
    """Yields a list that gets a line for every doubtful video decoded in this context and thread.

    Outside such a context, the line becomes a Python warning.
    """
    notes = []
    token = _notes.set(notes)
    try:
        yield notes
    finally:
        _notes.reset(token)


def _note(line):
    notes = _notes.get()
    if notes is None:
        warnings.warn(line, stacklevel=2)
    else:
        notes.append(line)


def frames(
    path: str | os.PathLike,
    fps: float | None = None,
    colour: bool = True,
    start: float = 0.0,
    seconds: float | None = None,
) -> Iterator[np.ndarray]:
    """Decodes the frames of a video one by one.

    Args:
        fps: frames per second to resample to. Frame k is the one on the screen at
            `start` + k / fps, so frames are left out or repeated, and the duration stays. None for
            every frame once, however long it is shown.
        colour: True for RGB, (H, W, 3); False for luma, (H, W).
        start, seconds: the part to decode, in seconds; None to the end. Without `fps`, it has the
            frames that appear from `start` until before `start` + `seconds`. To find them exactly,
            everything from the beginning is decoded. With `fps` it is also converted, since any
            frame may still be on the screen at `start`.

    Yields:
        uint8 arrays, upright (the file's rotation is applied), all of the size of the first frame:
        OpenCV scales frames of another size. Pixels are assumed to be square.

    Raises:
        VideoError: on the first frame, if the file is missing, has an unknown extension, cannot be
            opened, has no video or no frame, or is shorter than its container says. Later, if it is
            damaged or ends before `start` + `seconds`; the frames before are good.
        ValueError: a bad argument.
    """
    check_fps(fps)
    if not start >= 0 or (seconds is not None and not 0 < seconds < math.inf):
        raise ValueError(f"start at least 0, seconds above 0 expected, got {start}, {seconds}")
    end = math.inf if seconds is None else start + seconds
    convert = cv2.COLOR_BGR2RGB if colour else cv2.COLOR_BGR2GRAY
    with _open(path) as (capture, claims):
        period = 1 / claims.fps if claims.fps else 0
        if not period and (fps or start or seconds):
            raise VideoError(path, "does not say its frame rate")
        tolerance = min(_TOLERANCE, period / 4) if period else _TOLERANCE
        # The frame on the screen at `start` may have appeared at any time before.
        since = 0.0 if fps else start - tolerance
        count, outputs, until, longest = 0, 0, 0.0, 0.0
        for begin, until, image in _show(capture, path, claims, period, since, convert):
            count += 1
            if until > start:
                longest = max(longest, until - begin)
            if fps:
                if (still := min(until, end) - max(begin, start)) > _LONGEST_STILL:
                    raise VideoError(path, f"damaged, or cut it: no frame for {still:g} s", count)
                while start + outputs / fps < min(until, end) - tolerance:
                    yield image
                    outputs += 1
            elif image is not None:
                yield image
                outputs += 1
            if until >= end - tolerance:
                break
        part = f"from {start:g} to {end:g} s"
        if not count:
            raise VideoError(path, "no frame can be decoded", 0)
        if start >= until - tolerance or until < end - period / 2 < math.inf:
            raise VideoError(path, f"the part {part} is beyond its {until:g} s", count)
        if not outputs:
            raise VideoError(path, f"no frame appears {part}", count)
        if longest > _LONGEST_FRAME:
            _note(f"{path}: a frame stays for {longest:.1f} s: a still, or a damaged time stamp")
        if seconds is None and claims.frames - count > 1:
            _note(
                f"{path}: {count} frames can be decoded, {until:.2f} s in all; its header "
                f"claims {claims.frames}: damage, or a wrong claim"
            )


@contextlib.contextmanager
def _open(path):
    """Yields (cv2.VideoCapture, Info), and turns OpenCV's own errors into VideoErrors."""
    file = Path(path).absolute()  # a relative path with a colon would be a protocol
    try:
        str(file).encode()
    except UnicodeError:  # OpenCV would crash
        raise VideoError(path, "its name is not UTF-8") from None
    if not file.exists():
        raise VideoError(path, "missing")
    if not file.is_file():
        raise VideoError(path, "is no file")
    if file.suffix.lower() not in EXTENSIONS:
        # FFmpeg accepts even text as video: it draws it.
        raise VideoError(path, f"{file.suffix or 'no'} extension: not that of a video")
    try:
        size, expected = file.stat().st_size, _expected_size(file)
    except OSError as error:
        raise VideoError(path, f"cannot be read ({error.strerror})") from None
    if size < expected:
        raise VideoError(path, f"truncated: {size:,} bytes of {expected:,}")
    capture = cv2.VideoCapture()
    try:
        # One thread, because the result for a damaged file depends on it; jobs use processes.
        if not capture.open(str(file), cv2.CAP_FFMPEG, [cv2.CAP_PROP_N_THREADS, 1]):
            raise VideoError(
                path, "no video that can be opened: damaged, or something else, such as a playlist"
            )
        capture.set(cv2.CAP_PROP_ORIENTATION_AUTO, 1)
        yield capture, _claims(capture, path)
    except cv2.error as error:
        raise VideoError(path, f"OpenCV fails ({error.err})") from None
    finally:
        capture.release()


def _claims(capture, path):
    width, height, fps, claimed = (
        value if math.isfinite(value) and value > 0 else 0
        for value in map(
            capture.get,
            (
                cv2.CAP_PROP_FRAME_WIDTH,
                cv2.CAP_PROP_FRAME_HEIGHT,
                cv2.CAP_PROP_FPS,
                cv2.CAP_PROP_FRAME_COUNT,
            ),
        )
    )
    if not 0 < width * height <= _MOST_PIXELS:
        raise VideoError(path, f"claims frames of {height:g} x {width:g} pixels")
    return Info(int(height), int(width), fps if fps <= _HIGHEST_RATE else 0.0, int(claimed))


def _show(capture, path, claims, period, since, convert):
    """Decodes; yields (begin, end, image) of each frame, with the seconds it is on the screen.

    The first frame begins at 0, and the last one stays for `period`. Before `since`, the image is
    None.
    """
    begin, image = None, None
    for count, stamp in enumerate(_grab(capture, path, claims)):
        if not count:
            first, time = stamp, 0.0
        else:
            # The last frames of an AVI file may have no time stamp; raw streams never have one.
            time = stamp - first if stamp - first > begin else begin + period
            yield begin, time, image
        begin, image = time, None
        if time >= since:
            good, image = capture.retrieve()
            if not good:
                raise VideoError(path, "damaged: a frame cannot be converted", count)
            image = cv2.cvtColor(image, convert)
    if begin is not None:
        yield begin, begin + period, image


def _grab(capture, path, claims):
    """Decodes frame by frame; yields the time stamp of each in seconds."""
    count = 0
    while True:
        failures = 0
        while not capture.grab():
            # Either the end, or a packet that cannot be decoded with more behind it.
            failures += 1
            if failures > min(max(claims.frames - count, 10), _MOST_FAILURES):
                return
        if failures:
            raise VideoError(path, "damaged: a frame cannot be decoded, later ones can", count)
        count += 1
        yield capture.get(cv2.CAP_PROP_POS_MSEC) / 1000


# ---------------------------------------------------------------------- containers


def _expected_size(path):
    """Returns the minimum size of a file in bytes, by its container; 0 if it is not known."""
    with open(path, "rb") as file:
        head = file.read(64)
        if head[:4] == b"RIFF":
            size = int.from_bytes(head[4:8], "little")
            # Some writers count the header, and streams never fill the size in.
            return size if size < 0xFFFFFFFF else 0
        if head[:4] == b"\x1aE\xdf\xa3":
            return _expected_matroska(head)
        return _expected_boxes(file)


_BOXES = (
    b"ftyp",
    b"mdat",
    b"moov",
    b"moof",
    b"free",
    b"skip",
    b"wide",
    b"sidx",
    b"styp",
    b"uuid",
    b"mfra",
)


def _expected_boxes(file):
    """Returns the end of the last of the boxes that make up an MP4 or MOV file."""
    end = 0
    while True:
        file.seek(end)
        head = file.read(16)
        if len(head) < 8 or head[4:8] not in _BOXES:
            return end
        (size,) = struct.unpack(">I", head[:4])
        if size == 1 and len(head) == 16:
            (size,) = struct.unpack(">Q", head[8:])
        if size < 8:  # 0 means to the end of the file
            return end
        end += size


def _expected_matroska(head):
    """Returns the end of the segment that follows the header of a Matroska or WebM file."""
    size, start = _variable_integer(head, 4)
    start += size
    if head[start : start + 4] != b"\x18S\x80g":
        return 0
    size, start = _variable_integer(head, start + 4)
    return start + size


def _variable_integer(data, at):
    """Reads an EBML number: (number, offset after it); the number is 0 if it is not known."""
    first = data[at] if at < len(data) else 0
    length = 9 - first.bit_length()
    mask = (1 << 7 * length) - 1
    value = int.from_bytes(data[at : at + length], "big") & mask
    return (0 if value == mask else value), at + length


# ---------------------------------------------------------------------- frames


def resize(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Stretches a frame, (H, W) or (H, W, 3) uint8, to (height, width)."""
    if frame.shape[:2] == (height, width):
        return frame
    shrinks = frame.shape[0] >= height and frame.shape[1] >= width
    return cv2.resize(
        frame, (width, height), interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    )


def centre_crop(frame: np.ndarray, height: int, width: int) -> np.ndarray:
    """Returns a view of the central (height, width) of a frame, (H, W, ..).

    Raises ValueError if the frame is smaller.
    """
    top, left = frame.shape[0] - height, frame.shape[1] - width
    if top < 0 or left < 0:
        raise ValueError(f"no {height} x {width} in a frame of {frame.shape[0]} x {frame.shape[1]}")
    return frame[top // 2 : top // 2 + height, left // 2 : left // 2 + width]
