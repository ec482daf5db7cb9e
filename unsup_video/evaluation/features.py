"""Draws and measures the weights: input features (figure 9) and output features (figure 10)."""

import functools
from collections.abc import Callable

import cv2
import numpy as np

from unsup_video.evaluation import results
from unsup_video.models.video_models import VideoModel
from unsup_video.pictures import visualize
from unsup_video.training import trained as trained_module
from unsup_video.training.trained import TrainedModel

KIND = "features"
_INK = 0.05  # a pixel counts as used from this fraction of the mean frame's brightest pixel on
_STEP = 0.25  # pixels between samples along a direction
_UNITS = {
    "strip_length": "pixels",
    "strip_width": "pixels",
    "elongation": "",
    "effective_area": "of the used pixels",
    "spatial_frequency": "cycles/pixel",
}


def evaluate(
    trained: TrainedModel,
    count: int = 200,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Draws and measures the features with the largest L2 norm.

    Rows: the median of each measure of `measure` over the features of a set, and its quartiles as
    "MEASURE_q25" and "MEASURE_q75", for the trained model and for random weights of its recipe.

    Args:
        count: number of features of each set; a model with fewer units shows all of them.

    Raises:
        ValueError: count is below 1. results.Unsuitable: the frames are no pictures.
    """
    shape = trained.frame_shape
    if count < 1:
        raise ValueError(f"the number of features must be at least 1, got {count}")
    if len(shape) < 2 or shape[2:] > (3,):
        raise results.Unsuitable(
            f"{trained.name} reads frames of {shape}, so its features are no pictures"
        )
    units = trained.config.model.units
    shown = min(count, units)
    if shown < count:
        log(f"{trained.name} has {units} units: all of them are shown")

    def compute(folder):
        sets = {
            subject: feature_sets(model, shape, shown)
            for subject, model in {
                "model": trained.model,
                "untrained": trained_module.untrained(trained),
            }.items()
        }
        inputs, outputs = _draw(sets["model"], folder)
        pictures = [
            results.Picture(
                inputs,
                f"Input features: the {shown} units of the encoder with the "
                "largest weights; a unit is at the same place in each set",
            ),
            results.Picture(
                outputs,
                f"Output features: the {shown} units of each decoder with the "
                "largest output weights",
            ),
        ]
        used = used_pixels(trained.mean_frame, shape)
        rows = [row for subject, matrices in sets.items() for row in _rows(subject, matrices, used)]
        return results.Outcome(rows, pictures)

    command = results.command(trained, KIND, {"count": count})
    return results.run(trained, KIND, {"count": shown}, command, compute, recompute, log)


def feature_sets(model: VideoModel, shape: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    """Returns {set: (count, *shape) float32}, the features with the largest L2 norm.

    "encoder/input" and those of the gates, "encoder/input_gate", .. of an LSTM, are ranked
    together, by the norm over all of them, so that a unit has the same position in each set;
    "future/output" and "reconstruction/output" are ranked separately.
    """
    cell = model.cells[0]
    kernel = cell.kernel.numpy()  # (D, N units)
    parts = kernel.reshape(len(kernel), -1, cell.units).transpose(1, 2, 0)  # (N, units, D)
    top = np.argsort(-np.square(parts).sum((0, 2)), kind="stable")[:count]
    sets = {
        f"encoder/{name}": part[top]
        for name, part in sorted(
            zip(cell.kernel_parts, parts, strict=True), key=lambda pair: pair[0].endswith("_gate")
        )
    }
    for name, decoder in model.decoder_layers.items():
        weights = decoder.kernel.numpy()  # (units, D)
        top = np.argsort(-np.square(weights).sum(1), kind="stable")[:count]
        sets[f"{name}/output"] = weights[top]
    return {name: features.reshape(-1, *shape) for name, features in sets.items()}


_TITLES = {"reconstruction/output": "Input reconstruction", "future/output": "Future prediction"}


def _draw(sets, folder):
    pictures = {"input_features.png": {}, "output_features.png": {}}
    for name, features in sets.items():
        if name in _TITLES:
            file, title = "output_features.png", _TITLES[name]
        else:  # "encoder/input_gate" becomes "Input gates"
            part = name.removeprefix("encoder/").replace("_", " ")
            file, title = "input_features.png", f"{part.capitalize()}s"
        pictures[file] |= _panels(title, features)
    for file, titled in pictures.items():
        visualize.mosaic(titled, folder / file)
    return tuple(pictures)


def _panels(title, features):
    """Returns {title: features}; channels that are no picture, such as flow's, separately."""
    if visualize.drawable(features.shape[1:]):
        return {title: features}
    return {f"{title}, channel {k + 1}": features[..., k] for k in range(features.shape[3])}


def used_pixels(mean_frame: np.ndarray, shape: tuple[int, ...]) -> np.ndarray:
    """Returns (H, W) bool, True for the pixels that are used; True everywhere without pictures.

    Digits hardly ever reach the border of their frame. The weights there have no effect on the
    loss, and an optimiser such as Adam can make them the largest of all.
    """
    if not visualize.drawable(shape):
        return np.ones(shape[:2], bool)
    brightness = mean_frame.reshape(*shape[:2], -1).mean(-1)
    return brightness >= _INK * brightness.max()


def _rows(subject, sets, used):
    rows = []
    for part, features in sets.items():
        measured = [measurement for f in features if (measurement := measure(f, used))]
        if not measured:
            raise ValueError(f"all features of {part} are constant: nothing was trained")
        for name, unit in _UNITS.items():
            q25, median, q75 = np.quantile([m[name] for m in measured], (0.25, 0.5, 0.75))
            for metric, value in {name: median, f"{name}_q25": q25, f"{name}_q75": q75}.items():
                rows.append(
                    results.row(
                        subject, "weights", part, metric, value, unit=unit, count=len(measured)
                    )
                )
    return rows


def measure(feature: np.ndarray, used: np.ndarray) -> dict[str, float]:
    """Measures the shape of one feature, (H, W) or (H, W, C), at the pixels `used`, (H, W) bool.

    f is a channel minus its mean over these pixels, and 0 at all others: a constant offset has no
    shape, and would hide the rest. Measures are averaged over the channels that are not constant;
    the result is {} if all are.

    strip_length, strip_width: those of the peak of the autocorrelation
        a(d) = sum_x f(x) f(x + d), f = 0 outside of the frame:
        its full width at half maximum in the direction where it is largest, and perpendicular to
        that. Between whole lags, a is interpolated bicubically. A bar of length L and width W has
        a(d) = (1 - |d_1| / L) (1 - |d_2| / W) a(0), so its length is L and its width W.
    elongation: length / width.
    effective_area: (sum f^2)^2 / (D sum f^4) of the D used pixels, the share of them that holds the
        weights: 1 for weights of equal size, 1 / D for a single pixel.
    spatial_frequency: the mean radial frequency in cycles per pixel, weighted with the power of f.
    """
    channels = feature.reshape(*feature.shape[:2], -1).astype(np.float64).transpose(2, 0, 1)
    each = [
        _measure_plane(np.where(used, plane - plane[used].mean(), 0), used.sum())
        for plane in channels
        if np.ptp(plane[used])
    ]
    return {name: float(np.mean([m[name] for m in each])) for name in each[0]} if each else {}


def _measure_plane(f, pixels):
    height, width = f.shape
    power = np.abs(np.fft.fft2(f, (2 * height, 2 * width))) ** 2  # padded: lags do not wrap around
    lags = np.fft.fftshift(np.fft.ifft2(power).real)
    widths = _widths(lags / lags[height, width])
    longest = widths.argmax()
    length, breadth = widths[longest], widths[(longest + 90) % 180]

    spectrum = np.abs(np.fft.fft2(f)) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    square = np.square(f)
    return {
        "strip_length": length,
        "strip_width": breadth,
        "elongation": length / breadth,
        "effective_area": square.sum() ** 2 / (pixels * np.square(square).sum()),
        "spatial_frequency": (spectrum * radius).sum() / spectrum.sum(),
    }


def _widths(a):
    """Returns (180,), the full width at half maximum of the central peak of `a` per direction.

    The directions are one degree apart. The peak is 1, and `a` is symmetric about it.
    """
    heights = cv2.remap(np.float32(a), *_rays(a.shape), cv2.INTER_CUBIC)  # 0 outside
    beyond = (heights <= 0.5).argmax(1)  # the first sample below half the maximum
    direction = np.arange(180)
    above, below = heights[direction, beyond - 1], heights[direction, beyond]
    return 2 * _STEP * (beyond - 1 + (above - 0.5) / (above - below))


@functools.cache
def _rays(shape):
    """Returns x and y, (180, samples) each, on rays from the centre of an array of `shape`."""
    distance = np.arange(0, max(shape) / 2 + 1, _STEP)
    angle = np.deg2rad(np.arange(180))
    return tuple(
        np.float32(size // 2 + np.outer(part, distance))
        for size, part in ((shape[1], np.cos(angle)), (shape[0], np.sin(angle)))
    )


def table(evaluation: results.Evaluation) -> str:
    """Returns the medians as text, one line per set: trained (untrained)."""
    lines = [f"{'median over features':<24}" + "".join(f"{name:>24}" for name in _UNITS)]
    for part in dict.fromkeys(row.part for row in evaluation.rows):
        cells = []
        for name in _UNITS:
            model, untrained = (
                evaluation.find(subject=s, part=part, metric=name)[0].value
                for s in ("model", "untrained")
            )
            cells.append(f"{f'{model:.3g} ({untrained:.3g})':>24}")
        lines.append(f"{part:<24}" + "".join(cells))
    return "\n".join(lines)
