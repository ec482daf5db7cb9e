"""Reads sequences of frames in all common forms, for all commands.

    a video                  with an extension of `decoding.EXTENSIONS`
    an animation             .gif or .apng; by itself also .png, .webp or .tif of several pictures
    a folder of images       one sequence, in the natural order of their names: 2 before 10
    an array, .npy or .npz   (T, H, W), (T, H, W, C), (N, T, H, W) or (N, T, H, W, C), C 1 or 3; of
                             four axes the last one is C if it has 1 or 3 values
    a folder of all these    every file, and every folder that directly holds images, is a sequence

Frames are uint8, or float32 in [0, 1]. Floating-point numbers must be in [0, 1], or in a given
range; integers of other sizes, such as 16-bit images, need a range. Transparent pixels are blended
with black. All frames of a sequence have one size, and there are at least two of them.
"""

import contextlib
import dataclasses
import functools
import itertools
import math
import os
import re
from collections.abc import Iterable, Iterator
from pathlib import Path

import cv2
import numpy as np
from PIL import ExifTags, Image

from unsup_video.data import convert, folders
from unsup_video.pictures import visualize
from unsup_video.utils import files
from unsup_video.video import decoding
from unsup_video.video import listing as listings
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Listing, Video

IMAGES = (".avif", ".bmp", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")
ANIMATIONS = (".apng", ".gif")
ARRAYS = (".npy", ".npz")
EXTENSIONS = (*decoding.EXTENSIONS, *ANIMATIONS, *ARRAYS, *IMAGES)

# Pillow's names of the formats of `IMAGES` and `ANIMATIONS`; others, such as EPS, run programs.
_FORMATS = ("AVIF", "BMP", "GIF", "JPEG", "PNG", "PPM", "TIFF", "WEBP")
_MAX_PIXELS = 1 << 26  # of an image; a larger size means a damaged header
_NPZ_LIMIT = 4 << 30  # bytes of a .npz, which is read into memory
_LONGEST_SIDE = 10  # maximum ratio of the sides of frames in an array of three axes
_ROUNDING = 1e-6  # fraction of a range by which a value may lie outside
_STILL = 0.1  # seconds; duration of an animation's picture without one, as in browsers


# ---------------------------------------------------------------------- sequences


def listing(path: str | os.PathLike) -> Listing:
    """Lists the sequences of a file or a folder, in the natural order of their names.

    In a folder, as `folders.files` lists it, every file is a sequence, or, if it is an array,
    several, NAME#0, NAME#1, ..; the images of a folder are one sequence, named after the folder.
    The class of a sequence is the sub-folder of `path` that it is in, if any. A .npz may have
    `label`, `group`, `name` and `split` of its N sequences, as for `data.convert`.

    A damaged file is listed, too; `read` says what is wrong with it.

    Raises:
        FileNotFoundError, OSError: nothing is there, or a folder cannot be read. ValueError: there
            is no sequence, `labelling.numbers` refuses the labels, or two sequences share a name.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file or folder")
    named, ignored = folders.files(path, EXTENSIONS) if path.is_dir() else ({path.name: path}, ())
    sequences = {}  # (path, name) of each, once
    for name, file in named.items():
        suffix = file.suffix.lower()
        if path.is_dir() and suffix in IMAGES:
            name, file = name.rpartition("/")[0] or path.resolve().name, file.parent
        elif suffix not in EXTENSIONS:
            break
        sequences[file] = name
    if not sequences:
        unused = f" (not used: {folders.shown(ignored)})" if ignored else ""
        raise ValueError(
            f"{path}: no sequence of frames{unused}; extensions known: {' '.join(EXTENSIONS)}"
        )
    labelled, numbered = [], False  # (Video, its label or None)
    for file, name in sorted(sequences.items(), key=lambda item: natural(item[1])):
        of_folder = name.split("/")[0] if "/" in name else None
        several = _of_array(file, name, of_folder)
        numbered |= any(label not in (None, of_folder) for _, label in several)
        labelled += several or [(Video(str(file), name), of_folder)]
    names = [video.name for video, _ in labelled]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise ValueError(f"{path}: two sequences are named {twice}; rename one of them")
    videos = tuple(video for video, _ in labelled)
    listed = Listing("input", videos, (), (), {"videos": str(path)}, ignored)
    labels = {video.name: label for video, label in labelled}
    return listings.labelled(listed, labels, path, numbered)


def natural(name: str) -> tuple:
    """Returns a sort key that compares numbers in names by value: 2 before 10."""
    parts = re.split("([0-9]+)", name)
    return tuple(int(part) if i % 2 else part for i, part in enumerate(parts)), name


def _of_array(file, name, of_folder):
    """Returns [(Video, label)] of an array of several sequences; [] for anything else."""
    if file.suffix.lower() not in ARRAYS or file.is_dir():
        return []
    try:
        array, known = _array(file)
        if not _holds_several(file, array, known):
            return []
    except (OSError, ValueError):
        return []
    count = len(array)
    names = known.names or [f"{name}#{i}" for i in range(count)]
    labels = known.labels or [of_folder] * count
    groups = [""] * count if known.groups is None else [str(group) for group in known.groups]
    splits = [()] * count if known.splits is None else known.splits
    return [
        (Video(str(file), names[i], -1, groups[i], splits[i], number=i), labels[i])
        for i in range(count)
    ]


# ---------------------------------------------------------------------- frames


def read(
    video: Video, fps: float | None = None, value_range: tuple[float, float] | None = None
) -> Iterator[np.ndarray]:
    """Yields the frames of a sequence, one by one.

    Args:
        video: of `listing`; its part `start`, `seconds` only where it is a video or an animation.
        fps: the rate to which a video or an animation is resampled, in frames per second; None for
            its own frames.
        value_range: (lowest, highest) of floating-point numbers and of integers that are not
            uint8, which are mapped to [0, 1]. None for [0, 1] of floating-point numbers.

    Yields:
        (H, W) grey or (H, W, 3) RGB, uint8 or float32 in [0, 1], all of one size.

    Raises:
        VideoError: it is missing or damaged, has a single frame or frames of several sizes, or a
            value that is not finite or outside of the range; a range is given for uint8, or none
            for other integers; `fps` or a part is given where there are no times. ValueError: the
            range or `fps` is bad. OSError: it cannot be read.
    """
    decoding.check_fps(fps)
    if value_range is not None:
        check_range(value_range)
    path = Path(video.path)
    size, count = None, 0
    for where, frame in _frames(path, video, fps):
        frame = _in_unit_range(frame, value_range, path, where, count)
        if frame.shape[2:] == (1,):
            frame = frame[..., 0]
        if (size := size or frame.shape[:2]) != frame.shape[:2]:
            raise VideoError(
                path,
                f"{where} has {frame.shape[0]}x{frame.shape[1]} pixels, those before it "
                f"{size[0]}x{size[1]}: all frames of a sequence have one size",
                count,
            )
        count += 1
        yield frame
    if count < 2:
        raise VideoError(path, "one frame is no sequence", count)


def check_range(value_range: tuple[float, float]) -> None:
    """Raises ValueError unless the range is (lowest, highest), two finite numbers."""
    low, high = value_range
    if not -math.inf < low < high < math.inf:
        raise ValueError(f"a range is two numbers, LOWEST,HIGHEST, got {low:g},{high:g}")


def _frames(path, video, fps):
    """Yields (description, frame) of every frame, with the dtype of the file."""
    suffix = path.suffix.lower()
    if not path.exists():
        raise VideoError(path, "missing")
    if not has_times(path) and (fps or video.start or video.seconds):
        raise VideoError(path, "its frames have no times: leave out the frame rate and the start")
    if path.is_dir():
        yield from _images(path)
    elif suffix in ARRAYS:
        yield from _array_frames(path, video.number)
    elif suffix in (*ANIMATIONS, *IMAGES):
        yield from _animation(path, fps, video.start, video.seconds)
    else:
        decoded = decoding.frames(path, fps, start=video.start, seconds=video.seconds)
        yield from ((f"frame {number}", frame) for number, frame in enumerate(decoded, 1))


def has_times(path: Path) -> bool:
    """Returns True if the frames of a sequence have times, as those of videos and animations."""
    return not path.is_dir() and path.suffix.lower() not in (*ARRAYS, ".tif", ".tiff")


def _in_unit_range(frame, value_range, path, where, count):
    """Returns a frame as uint8, or as float32 in [0, 1]."""
    if frame.dtype == bool:
        frame = np.uint8(255) * frame
    if frame.dtype == np.uint8:
        if value_range is not None:
            raise VideoError(
                path, f"{where} has 8 bits, 0 to 255, and needs no range: leave it out"
            )
        return frame
    if value_range is None and frame.dtype.kind != "f":
        raise VideoError(
            path,
            f"{where} holds {frame.dtype}, {frame.min()} to {frame.max()}: say the range of all "
            "values, LOWEST,HIGHEST, such as 0,65535",
        )
    low, high = value_range or (0.0, 1.0)
    smallest, largest = float(frame.min()), float(frame.max())
    if not math.isfinite(smallest) or not math.isfinite(largest):  # NaN if the frame holds a NaN
        raise VideoError(path, f"{where} holds a value that is not finite", count)
    margin = _ROUNDING * (high - low)
    if smallest < low - margin or largest > high + margin:
        value = largest if largest > high + margin else smallest
        raise VideoError(
            path,
            f"{where} holds {value:g}, outside of the range {low:g} to {high:g}: say the range of "
            "all values, LOWEST,HIGHEST",
            count,
        )
    unit = (frame.astype(np.float64) - low) / (high - low)
    return unit.clip(0, 1).astype(np.float32)


# ---------------------------------------------------------------------- images


_UPRIGHT = {  # EXIF's orientation -> a function that turns pixels (H, W, ..) upright
    2: lambda pixels: pixels[:, ::-1],
    3: lambda pixels: pixels[::-1, ::-1],
    4: lambda pixels: pixels[::-1],
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: pixels[::-1, ::-1].swapaxes(0, 1),
    8: np.rot90,
}


def _images(folder):
    """Yields (name, pixels) of the images directly in a folder."""
    names = [
        entry.name
        for entry in os.scandir(folder)
        if Path(entry.name).suffix.lower() in IMAGES
        and not entry.name.startswith(".")
        and entry.is_file()
    ]
    for name in sorted(names, key=natural):
        with _opened(folder / name, folder) as image:
            # The other pictures of a camera's MPO file show the same scene.
            if getattr(image, "n_frames", 1) > 1 and image.format != "MPO":
                raise VideoError(
                    folder,
                    f"{name} holds {image.n_frames} pictures: give such a file by itself, or save "
                    "it as .gif",
                )
            has_16_bits = _has_16_bits(image)  # unknown after loading
            image.load()  # Pillow turns TIFFs here, and drops the tag; OpenCV turns them, too
            orientation = image.getexif().get(ExifTags.Base.Orientation)
            turn = _UPRIGHT.get(orientation, np.asarray)
            yield name, turn(_pixels(image, folder / name, has_16_bits))


def _animation(path, fps, start, seconds):
    """Yields the pictures of a file, resampled by time as `decoding.frames` does for videos."""
    end = math.inf if seconds is None else start + seconds
    until = given = 0
    with _opened(path, path) as image:
        count = getattr(image, "n_frames", 1)
        if count == 1 and path.suffix.lower() in IMAGES:
            raise VideoError(path, "one picture: a folder of images is a sequence")
        for index in range(count):
            image.seek(index)
            has_16_bits = _has_16_bits(image)  # unknown after loading
            if index == 0 and getattr(image, "default_image", False):
                continue  # an APNG's picture for programs that show no animations
            frame = _pixels(image, path, has_16_bits, index)
            begin, until = until, until + (image.info.get("duration") or 1000 * _STILL) / 1000
            if fps:
                while start + given / fps < min(until, end) - 1e-9:
                    yield f"picture {index + 1}", frame
                    given += 1
            elif start <= begin < end:
                yield f"picture {index + 1}", frame
                given += 1
    if not given:
        raise VideoError(path, f"no picture from {start:g} to {end:g} s, of {until:g} s")


@contextlib.contextmanager
def _opened(path, sequence):
    """Yields the PIL.Image.Image of a file. Raises VideoError for damage, naming `sequence`."""
    where = "" if path == sequence else f"{path.name} is "
    try:
        with Image.open(path, formats=_FORMATS) as image:
            width, height = image.size
            if width * height > _MAX_PIXELS:
                raise ValueError(f"it claims {height} x {width} pixels")
            yield image
    except (VideoError, GeneratorExit):
        raise
    except OSError as error:
        if error.errno is not None:
            raise
        raise VideoError(sequence, f"{where}damaged, or no image ({error})") from None
    except Exception as error:  # Pillow raises errors of many kinds
        raise VideoError(sequence, f"{where}damaged ({type(error).__name__}: {error})") from None


def _has_16_bits(image):
    """Returns True if colours have 16 bits in the file, of which Pillow would read only 8."""
    # The last item of a tile is the mode in the file, or a tuple that begins with it.
    modes = [tile[3] if isinstance(tile[3], str) else tile[3][0] for tile in image.tile]
    return image.mode.startswith("RGB") and any("16" in str(mode) for mode in modes)


def _pixels(image, path, has_16_bits, index=0):
    """Returns (H, W) or (H, W, 3) with the values of the file: uint8, uint16, int32 or float32.

    `index` is that of the picture in its file.
    """
    image.load()
    if has_16_bits:  # OpenCV reads all bits; Pillow has checked the file for damage
        _, pictures = cv2.imreadmulti(str(path), index, 1, flags=cv2.IMREAD_UNCHANGED)
        values = pictures[0]
        colours = values[..., 2::-1]
        if values.shape[2] == 4:
            colours = (colours * (values[..., 3:] / 65535)).astype(np.uint16)
        return colours
    if image.mode[:1] in ("I", "F"):
        return np.asarray(image)
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return np.asarray(Image.alpha_composite(Image.new("RGBA", image.size, "black"), image))[
            ..., :3
        ]
    return np.asarray(image.convert("L" if image.mode in ("1", "L") else "RGB"))


# ---------------------------------------------------------------------- arrays


def _array(path):
    """Returns (values, `convert.Annotations`) of a .npy, as a memory map, or a .npz file."""
    if path.suffix.lower() == ".npy":
        with files.damage_as_value_error(path):
            # A memory map refuses pickles and checks the header against the size of the file.
            return np.lib.format.open_memmap(path, mode="r"), convert.Annotations()
    stat = os.stat(path)
    return _npz(path, stat.st_size, stat.st_mtime_ns)


@functools.lru_cache(1)
def _npz(path, size, changed):
    """Does the same for a .npz file; `size` and `changed` make the cache notice a new file."""
    arrays = files.read_arrays(path, limit=_NPZ_LIMIT)
    key = "X" if "X" in arrays or len(arrays) != 1 else next(iter(arrays))
    if key not in arrays:
        raise ValueError(f"{path}: no array X, but {', '.join(arrays) or 'nothing'}")
    values = arrays.pop(key)
    if unknown := [name for name in arrays if name not in convert.ANNOTATIONS]:
        raise ValueError(
            f"{path}: arrays {', '.join(unknown)} are not known, only {key}, "
            f"{', '.join(convert.ANNOTATIONS)}: rename them, or save the file without them"
        )
    known = convert.annotations(path, arrays)
    for name, entries in dataclasses.asdict(known).items():
        if entries is not None and len(entries) != len(values):
            raise ValueError(f"{path}: {len(values)} sequences, but {len(entries)} {name}")
    return values, known


def _holds_several(path, array, known):
    """Returns True if an array has N sequences, which may have annotations, `known`.

    Raises ValueError if it has no frames, or is one sequence with annotations.
    """
    shape = array.shape
    if array.dtype.kind not in "biuf":
        raise ValueError(f"{path}: {array.dtype}, numbers expected")
    has_channels = len(shape) == 5 or (len(shape) == 4 and shape[-1] in (1, 3))
    several = len(shape) - has_channels == 4
    if len(shape) not in (3, 4, 5) or not all(shape) or (has_channels and shape[-1] not in (1, 3)):
        raise ValueError(
            f"{path}: shape {shape}; (T, H, W), (T, H, W, C), (N, T, H, W) or (N, T, H, W, C) "
            "expected, C 1 or 3"
        )
    short, long = sorted(shape[1:]) if len(shape) == 3 else (1, 1)
    if long > _LONGEST_SIDE * short:
        raise ValueError(
            f"{path}: shape {shape} would be one sequence of {shape[0]:,} frames of {shape[1]}x"
            f"{shape[2]} pixels. If it is (N, T, D), vectors over time, data_prep.convert takes "
            "it; if the frames are that long, save it as (1, T, H, W)"
        )
    given = [name for name, entries in dataclasses.asdict(known).items() if entries is not None]
    if given and not several:
        raise ValueError(
            f"{path}: shape {shape} is one sequence, and {', '.join(given)} are for N sequences, "
            "(N, T, H, W) or (N, T, H, W, C): leave them out, or save it as (1, T, H, W)"
        )
    return several


def _array_frames(path, number):
    try:
        array, known = _array(path)
        several = _holds_several(path, array, known)
    except ValueError as error:
        raise VideoError(path, str(error).removeprefix(f"{path}: ")) from None
    if several != (number is not None) or (several and number >= len(array)):
        raise VideoError(path, f"shape {array.shape}: it was another file when it was listed")
    prefix = "" if number is None else f"sequence {number}, "
    for index, frame in enumerate(array if number is None else array[number], 1):
        yield f"{prefix}frame {index}", np.asarray(frame)


# ---------------------------------------------------------------------- frames for a model


def fitted(frames: Iterable[np.ndarray], shape: tuple[int, ...]) -> Iterator[np.ndarray]:
    """Converts frames of `read` to the shape of a data set or a model; the dtype stays.

    Colours become grey, or grey levels RGB. Each frame is cut to the proportions of `shape` around
    its centre, and resized.

    Args:
        shape: (H, W), (H, W, 1) or (H, W, 3).
    """
    height, width = shape[:2]
    for frame in frames:
        if frame.ndim == 3 and shape[2:] != (3,):
            frame = cv2.cvtColor(frame, cv2.COLOR_RGB2GRAY)
        elif frame.ndim == 2 and shape[2:] == (3,):
            frame = cv2.cvtColor(frame, cv2.COLOR_GRAY2RGB)
        frame = decoding.centre_crop(frame, *_part(frame.shape, height, width))
        yield decoding.resize(frame, height, width).reshape(shape)


def changes(original: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Describes how `fitted` changes frames of the shape `original`; "" if it does not."""
    height, width = shape[:2]
    part = _part(original, height, width)
    done = []
    if part != original[:2]:
        done.append(f"cut to {part[0]}x{part[1]}")
    if part != (height, width):
        done.append(f"resized to {height}x{width}")
    if len(original) == 3 and shape[2:] != (3,):
        done.append("made grey")
    elif len(original) == 2 and shape[2:] == (3,):
        done.append("grey repeated as RGB")
    return f"frames of {original[0]}x{original[1]} {', '.join(done)}" if done else ""


def _part(shape, height, width):
    """Returns the size of the largest part of a frame with the proportions of (height, width)."""
    scale = min(shape[0] / height, shape[1] / width)
    return (
        min(shape[0], max(1, round(height * scale))),
        min(shape[1], max(1, round(width * scale))),
    )


@dataclasses.dataclass(frozen=True)
class Clip:
    """A sequence as a model reads it.

    Attributes:
        name: of the sequence. frames: (T, *shape), uint8 or float32. changed: a description of the
            changes that made it fit; "" for none.
    """

    name: str
    frames: np.ndarray
    changed: str = ""


def clips(
    path: str | os.PathLike,
    shape: tuple[int, ...],
    length: int | None = None,
    fps: float | None = None,
    start: float = 0.0,
    value_range: tuple[float, float] | None = None,
    max_clips: int | None = None,
    usual_fps: float | None = None,
) -> list[Clip]:
    """Reads the first frames of the sequences of a file or a folder, as frames of a model.

    Args:
        shape: (H, W), (H, W, 1) or (H, W, 3), to which frames are `fitted`; or (D,) of vectors: a
            .npy or .npz file of (T, D) or (N, T, D), which is taken as it is, as float32.
        length: at most so many frames; None for all. fps, value_range: as of `read`.
        start: seconds, of videos and animations.
        max_clips: the largest number of sequences, the first ones; None for all.
        usual_fps: `fps` of videos and animations where that is None; of others it is only noted.

    Raises:
        ValueError, OSError: see `listing` and `read`, which name the file; or frames of `shape` are
            no pictures.
    """
    if len(shape) == 1:
        if fps is not None or start or value_range:
            raise ValueError(f"{path}: vectors have no frame rate, start or range: leave them out")
        return _vectors(Path(path), shape[0], length)[:max_clips]
    if not visualize.drawable(shape):
        raise ValueError(f"{path}: the model takes frames of shape {shape}, which are no pictures")
    result = []
    for video in listing(path).videos[:max_clips]:
        video = dataclasses.replace(video, start=start)
        rate, changed = fps, []
        if fps is None and usual_fps and has_times(Path(video.path)):
            rate = usual_fps
            changed = [f"resampled to {usual_fps:g} frames per second, as the training data"]
        elif fps is None and usual_fps:
            changed = [f"taken as {usual_fps:g} frames per second, which the training data have"]
        frames = itertools.islice(read(video, rate, value_range), length)
        first = next(frames)
        kept = np.stack(list(fitted(itertools.chain([first], frames), shape)))
        changed += filter(None, [changes(first.shape, shape)])
        result.append(Clip(video.name, kept, "; ".join(changed)))
    return result


def _vectors(path, dim, length):
    if path.suffix.lower() not in ARRAYS:
        raise ValueError(
            f"{path}: the model takes vectors of {dim} numbers, no pictures: give a .npy file of "
            "such vectors (python -m data_prep.percepts makes percepts)"
        )
    array, known = _array(path)
    clips = array[None] if array.ndim == 2 else array
    if clips.ndim != 3 or clips.shape[2] != dim or not all(clips.shape):
        raise ValueError(
            f"{path}: shape {array.shape}; the model takes (T, {dim}) or (N, T, {dim})"
        )
    if array.dtype.kind not in "iuf":
        raise ValueError(f"{path}: {array.dtype}, numbers expected")
    clips = np.array(clips[:, :length], np.float32)
    if not np.isfinite(clips).all():
        raise ValueError(f"{path}: it holds NaN or infinity")
    names = known.names or [
        path.name if array.ndim == 2 else f"{path.name}#{i}" for i in range(len(clips))
    ]
    return [Clip(name, frames) for name, frames in zip(names, clips, strict=True)]
