"""Draws what a model reads, reconstructs and predicts, as strips and animations."""

import contextlib
import dataclasses
import io
import os
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from matplotlib.figure import Figure
from PIL import Image, ImageDraw

from unsup_video.pictures import fonts
from unsup_video.utils import files

_BACKGROUND = (24, 26, 30)
_TEXT = (225, 228, 232)
_FAINT = (130, 136, 144)
_PAST = (84, 132, 184)  # border colour of input frames
_FUTURE = (205, 133, 63)  # border colour of future frames
_GAP = 4  # pixels
_LABEL = 28  # characters of the name of a clip
_SHADES = 14  # grey levels above black in a mosaic; even, so that there is a middle one


@contextlib.contextmanager
def figure(
    path: str | os.PathLike, size: tuple[float, float], texts: Iterable[str] = (), dpi: float = 110
) -> Iterator[Figure]:
    """Yields a matplotlib figure to draw on, and writes it as a PNG at the end.

    Text is drawn literally: "$" starts no formula.

    Args:
        size: width and height in inches. texts: texts from users, such as names of classes, after
            `fonts.legible`; they may need another font.
        dpi: pixels per inch.
    """
    with fonts.literal(texts):
        drawn = Figure(size, layout="constrained")
        yield drawn
        with files.atomic_write(path) as temporary:
            drawn.savefig(temporary, format="png", dpi=dpi)


def to_uint8(frames: np.ndarray) -> np.ndarray:
    """Converts frames in [0, 1], which are clipped, to uint8; returns uint8 frames unchanged."""
    frames = np.asarray(frames)
    if frames.dtype == np.uint8:
        return frames
    return np.rint(np.clip(frames, 0.0, 1.0) * 255).astype(np.uint8)


def drawable(shape: tuple[int, ...]) -> bool:
    """Returns True if frames of that shape are pictures: (H, W), (H, W, 1) or (H, W, 3)."""
    return len(shape) == 2 or (len(shape) == 3 and shape[2] in (1, 3))


def _tile(frame, scale):
    if frame.shape[2:] == (1,):
        frame = frame[..., 0]
    image = Image.fromarray(to_uint8(frame)).convert("RGB")
    return image.resize((image.width * scale, image.height * scale), Image.Resampling.NEAREST)


def _scale(frame):
    """Returns the integer factor that makes a frame at least 64 pixels high."""
    return max(1, -(-64 // frame.shape[0]))


def strip(rows: list[tuple[str, list]], steps: list[int] | None = None) -> Image.Image:
    """Draws labelled rows of frames on a common time axis.

    Args:
        rows: (label, frames); every row has one entry per step: a frame (H, W) or (H, W, 3), in
            [0, 1] or uint8, or None for a gap.
        steps: the number above each column; default: 1, 2, ..
    """
    example = next(f for _, frames in rows for f in frames if f is not None)
    scale = _scale(example)
    height, width = example.shape[0] * scale, example.shape[1] * scale
    font, labels = fonts.pillow([label for label, _ in rows], 13)
    columns = max(len(frames) for _, frames in rows)
    left = 12 + max(round(font.getlength(label)) for label in labels) + 10
    top = 24
    picture = Image.new(
        "RGB",
        (left + columns * (width + _GAP) + 8, top + len(rows) * (height + _GAP) + 8),
        _BACKGROUND,
    )
    draw = ImageDraw.Draw(picture)
    for column in range(columns):
        middle = left + column * (width + _GAP) + width / 2
        step = column + 1 if steps is None else steps[column]
        draw.text((middle, 6), str(step), _FAINT, font, anchor="ma")
    for row, (label, (_, frames)) in enumerate(zip(labels, rows, strict=True)):
        y = top + row * (height + _GAP)
        draw.text((left - 10, y + height / 2), label, _TEXT, font, anchor="rm")
        for column, frame in enumerate(frames):
            if frame is not None:
                picture.paste(_tile(frame, scale), (left + column * (width + _GAP), y))
    return picture


@dataclasses.dataclass(frozen=True)
class Sample:
    """A clip, and what a model makes of it.

    Attributes:
        truth, model: a frame (H, W[, C]) for each step, in the order of time, None where there is
            none; the first one of the truth is there.
        past: how many steps the model read. name: of the clip.
    """

    truth: list[np.ndarray | None]
    model: list[np.ndarray | None]
    past: int
    name: str = ""


def sample_figure(past, future, reconstruction, prediction, path: str | os.PathLike) -> None:
    """Writes the rows of the paper's figure 5 as a PNG: the truth above, the model below.

    A blue bar marks the frames that the model read, an orange bar those that it did not.

    Args:
        past: (T, H, W[, C]). future: (S, H, W[, C]).
        reconstruction: (T, ..) in the model's order, last frame first, or None; it is shown in
            the order of time, below the frames it reconstructs. prediction: (S, ..) or None.
    """
    samples_figure([_in_order(past, future, reconstruction, prediction)], path)


def samples_figure(samples: Sequence[Sample], path: str | os.PathLike) -> None:
    """`sample_figure` of clips of one length, one below the other."""
    rows = []
    for sample in samples:
        label = fonts.shortened(sample.name, _LABEL) if len(samples) > 1 else "truth"
        rows += [(label, sample.truth), ("model", sample.model)]
    picture = strip(rows)
    draw = ImageDraw.Draw(picture)
    example = samples[0].truth[0]
    width = example.shape[1] * _scale(example) + _GAP
    right = picture.width - 8
    left = right - len(samples[0].truth) * width
    middle = left + samples[0].past * width
    draw.rectangle((left, 1, middle - _GAP, 3), _PAST)
    if middle < right:
        draw.rectangle((middle, 1, right - _GAP, 3), _FUTURE)
    with files.atomic_write(path) as temporary:
        picture.save(temporary, "PNG")


def sample_gif(
    past, future, reconstruction, prediction, path: str | os.PathLike, fps: float = 5
) -> bytes:
    """Writes an animation: the truth beside the model, which first reads and then predicts.

    Arguments as in `sample_figure`; `fps` is frames per second. Returns the bytes of the file.
    """
    return samples_gif([_in_order(past, future, reconstruction, prediction)], path, fps)


def samples_gif(samples: Sequence[Sample], path: str | os.PathLike, fps: float = 5) -> bytes:
    """`sample_gif` of clips of one length: of several, side by side, the truth over the model."""
    past, blank = samples[0].past, np.zeros_like(samples[0].truth[0])
    steps = len(samples[0].truth)
    captions = [f"input {t + 1}" for t in range(past)]
    captions += [f"future {t + 1}" for t in range(steps - past)]
    if len(samples) > 1:
        captions = [f"{caption}: truth above, model below" for caption in captions]

    def filled(frames):
        return [blank if frame is None else frame for frame in frames]

    if len(samples) == 1:
        panels = {"truth": filled(samples[0].truth), "model": filled(samples[0].model)}
    else:
        panels = {
            f"{number}: {fonts.shortened(sample.name, _LABEL // 2)}": [
                _over(*frames)
                for frames in zip(filled(sample.truth), filled(sample.model), strict=True)
            ]
            for number, sample in enumerate(samples, 1)
        }
    data = gif(panels, captions, past, fps, scale=2 * _scale(blank))
    with files.atomic_write(path) as temporary:
        temporary.write_bytes(data)
    return data


def _over(above, below):
    """Two frames as one picture, with a line between them."""
    line = np.full((2, *above.shape[1:]), 90, np.uint8)
    return np.concatenate([to_uint8(above), line, to_uint8(below)])


def _in_order(past, future, reconstruction, prediction):
    back = [None] * len(past) if reconstruction is None else list(reconstruction[::-1])
    ahead = [None] * len(future) if prediction is None else list(prediction)
    return Sample([*past, *future], back + ahead, len(past))


def mosaic(panels: dict[str, np.ndarray], path: str | os.PathLike, columns: int = 20) -> None:
    """Writes sets of weights as a PNG, as in the paper's figures 9 and 10.

    A weight w is drawn as (1 + w / m) / 2, where m is the largest |w| of its feature: zero is mid
    grey. Without colours, the picture has 15 shades of grey in 4 bits per pixel.

    Args:
        panels: title -> features (n, H, W[, C]), at least one, filled in row by row; all panels
            have one shape.
        columns: features per row of a panel; there are two panels per row.
    """
    example = next(iter(panels.values()))
    columns = min(columns, len(example))
    scale = _scale(example[0])
    height, width = example.shape[1] * scale + _GAP, example.shape[2] * scale + _GAP
    margin, top = 12, 40
    font, _ = fonts.pillow(panels, 24)
    widest_title = max(round(font.getlength(title)) for title in panels)
    panel_width = max(columns * width, widest_title) + 2 * margin
    panel_height = top + -(-len(example) // columns) * height + margin
    across = min(2, len(panels))
    size = (across * panel_width, -(-len(panels) // across) * panel_height)
    picture = Image.new("RGB", size, _BACKGROUND)
    draw = ImageDraw.Draw(picture)
    for k, (title, features) in enumerate(panels.items()):
        left, upper = k % across * panel_width, k // across * panel_height
        draw.text((left + panel_width / 2, upper + 6), title, _TEXT, font, anchor="ma")
        for n, feature in enumerate(features):
            largest = np.abs(feature).max() or 1.0
            position = (left + margin + n % columns * width, upper + top + n // columns * height)
            picture.paste(_tile((1 + feature / largest) / 2, scale), position)
    if example.shape[3:] != (3,):
        picture = picture.convert("L").point(lambda value: round(value * _SHADES / 255))
        picture.putpalette([round(k * 255 / _SHADES) for k in range(_SHADES + 1) for _ in "RGB"])
    with files.atomic_write(path) as temporary:
        picture.save(temporary, "PNG", optimize=True)


def gif(
    panels: dict[str, list],
    captions: list[str],
    past: int,
    fps: float = 5,
    colourful: bool = False,
    scale: int | None = None,
) -> bytes:
    """Returns a GIF that shows panels side by side.

    Args:
        panels: label -> frames (H, W[, 3]), all of one length. captions: one text per step.
        past: number of input steps; they have a blue border, later ones an orange border.
        colourful: keep rare colours, such as those of flow or of a video, instead of reducing the
            picture to its 64 most common colours.
        scale: factor by which frames are enlarged; None for a height of at least 128 pixels.
    """
    example = next(iter(panels.values()))[0]
    scale = scale or 2 * _scale(example)
    height, width = example.shape[0] * scale, example.shape[1] * scale
    font, texts = fonts.pillow([*panels, *captions], 14)
    labels, captions = texts[: len(panels)], texts[len(panels) :]
    size = (len(panels) * (width + 12) + 12, height + 56)
    palette = (256, Image.Quantize.FASTOCTREE) if colourful else (64, Image.Quantize.MEDIANCUT)
    pictures = []
    for t, caption in enumerate(captions):
        picture = Image.new("RGB", size, _BACKGROUND)
        draw = ImageDraw.Draw(picture)
        for k, (label, frames) in enumerate(zip(labels, panels.values(), strict=True)):
            x = 12 + k * (width + 12)
            draw.text((x + width / 2, 8), label, _TEXT, font, anchor="ma")
            colour = _PAST if t < past else _FUTURE
            draw.rectangle((x - 2, 28, x + width + 1, 31 + height), outline=colour, width=2)
            picture.paste(_tile(frames[t], scale), (x, 30))
        draw.text((size[0] / 2, height + 36), caption, _FAINT, font, anchor="ma")
        # Draw a mark that moves, because Pillow merges equal successive frames, which would shorten
        # the animation of a still picture.
        done = round((t + 1) / len(captions) * size[0])
        draw.rectangle((0, size[1] - 2, done, size[1] - 1), colour)
        pictures.append(picture.quantize(*palette, dither=Image.Dither.NONE))
    data = io.BytesIO()
    pictures[0].save(
        data, "GIF", save_all=True, append_images=pictures[1:], duration=round(1000 / fps), loop=0
    )
    return data.getvalue()
