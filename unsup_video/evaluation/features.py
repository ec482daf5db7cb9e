"""What the weights look like: input features (figure 9) and output features (figure 10)."""

from collections.abc import Callable

import cv2
import numpy as np

from unsup_video import visualize
from unsup_video.evaluation import results
from unsup_video.evaluation import trained as trained_module
from unsup_video.evaluation.trained import Trained
from unsup_video.models import VideoModel

KIND = "features"
# The four sets of weights from the input to a unit, by their place in the kernel (i, f, g, o).
_INPUT_SETS = {"input": 2, "input_gate": 0, "forget_gate": 1, "output_gate": 3}
_UNITS = {
    "strip_length": "pixels", "strip_width": "pixels", "elongation": "",
    "effective_area": "of the frame", "spatial_frequency": "cycles/pixel",
}


def evaluate(
    trained: Trained,
    count: int = 200,
    recompute: bool = False,
    log: Callable[[str], None] = print,
) -> results.Evaluation:
    """Draws and measures the features with the largest L2 norm.

    Rows: the median of each measure of `measure` over the features of a set, and its quartiles as
    "MEASURE_q25" and "MEASURE_q75", for the trained model and for its untrained beginning.

    Args:
        count: of features, of each set; a model with fewer units shows all of them.

    Raises:
        ValueError: count below 1, or frames that are no pictures.
    """
    shape = trained.frame_shape
    if count < 1:
        raise ValueError(f"the number of features must be at least 1, got {count}")
    if len(shape) < 2:
        raise ValueError(f"{trained.name} reads frames of {shape}: features that are no pictures")
    units = trained.config.model.units
    shown = min(count, units)
    if shown < count:
        log(f"{trained.name} has {units} units: all of them are shown")

    def compute(folder):
        sets = {
            subject: feature_sets(model, shape, shown)
            for subject, model in {
                "model": trained.model, "untrained": trained_module.untrained(trained)
            }.items()
        }
        inputs, outputs = _draw(sets["model"], folder)
        pictures = [
            results.Picture(inputs, f"Input features: the {shown} units of the encoder with the "
                                    "largest weights; a unit is at the same place in each set"),
            results.Picture(outputs, f"Output features: the {shown} units of each decoder with the "
                                     "largest output weights"),
        ]
        rows = [row for subject, of in sets.items() for row in _rows(subject, of)]
        return results.Found(rows, pictures)

    command = results.command(trained, KIND, {"count": count})
    return results.run(trained, KIND, {"count": shown}, command, compute, recompute, log)


def feature_sets(model: VideoModel, shape: tuple[int, ...], count: int) -> dict[str, np.ndarray]:
    """The features with the largest L2 norm, by set, each (count, *shape) float32.

    "encoder/input", "encoder/input_gate", .. are ranked together, by the norm over all four, so
    that a unit has one place; "future/output" and "reconstruction/output" each by their own.
    """
    kernel = model.encoder.get_layer("encoder_lstm_1").kernel.numpy()  # (D, 4 units)
    gates = kernel.reshape(len(kernel), 4, -1).transpose(1, 2, 0)  # (4, units, D)
    top = np.argsort(-np.square(gates).sum((0, 2)), kind="stable")[:count]
    sets = {f"encoder/{name}": gates[k, top] for name, k in _INPUT_SETS.items()}
    for name, decoder in model.decoder_layers.items():
        weights = decoder.kernel.numpy()  # (units, D)
        top = np.argsort(-np.square(weights).sum(1), kind="stable")[:count]
        sets[f"{name}/output"] = weights[top]
    return {name: features.reshape(-1, *shape) for name, features in sets.items()}


_TITLES = {
    "encoder/input": "Inputs", "encoder/input_gate": "Input gates",
    "encoder/forget_gate": "Forget gates", "encoder/output_gate": "Output gates",
    "reconstruction/output": "Input reconstruction", "future/output": "Future prediction",
}


def _draw(sets, folder):
    pictures = {"input_features.png": {}, "output_features.png": {}}
    for name, features in sets.items():
        file = "input_features.png" if name.startswith("encoder/") else "output_features.png"
        pictures[file][_TITLES[name]] = features
    for file, titled in pictures.items():
        visualize.mosaic(titled, folder / file)
    return tuple(pictures)


def _rows(subject, sets):
    rows = []
    for part, features in sets.items():
        measured = [measure(feature) for feature in features if feature.any()]
        if not measured:
            raise ValueError(f"all weights of {part} are zero: nothing was trained")
        for name, unit in _UNITS.items():
            q25, median, q75 = np.quantile([m[name] for m in measured], (0.25, 0.5, 0.75))
            for metric, value in {name: median, f"{name}_q25": q25, f"{name}_q75": q75}.items():
                rows.append(results.row(
                    subject, "weights", part, metric, value, unit=unit, count=len(measured)
                ))
    return rows


def measure(feature: np.ndarray) -> dict[str, float]:
    """The shape of one feature f, (H, W) or (H, W, C), not all zero.

    Measures are averaged over the channels that are not all zero.

    strip_length, strip_width, elongation: of the autocorrelation's peak,
        a(d) = sum_x f(x) f(x + d); P = the connected lags d around 0 where a(d) > a(0) / 2.
        With C the mean of d d^T over P and the eigenvalues l1 >= l2 of C + I / 12 (a lag stands
        for a whole pixel), the length is 4 sqrt(l1) and the width 4 sqrt(l2), the axes of an
        ellipse with these moments; elongation is their quotient. A bar of length L and width W
        has a peak of about L x W.
    effective_area: (sum f^2)^2 / (D sum f^4), the share of the frame that holds the weights: 1 for
        equal weights, 1 / D for a single pixel.
    spatial_frequency: the mean radial frequency in cycles a pixel, weighted with the power of f
        less its mean.
    """
    channels = feature.reshape(*feature.shape[:2], -1).astype(np.float64).transpose(2, 0, 1)
    each = [_measure_plane(plane) for plane in channels if plane.any()]
    return {name: float(np.mean([m[name] for m in each])) for name in each[0]}


def _measure_plane(f):
    height, width = f.shape
    power = np.abs(np.fft.fft2(f, (2 * height, 2 * width))) ** 2  # padded: lags do not wrap around
    lags = np.fft.fftshift(np.fft.ifft2(power).real)
    peak = np.uint8(lags > lags[height, width] / 2)
    _, labels = cv2.connectedComponents(peak, connectivity=4)
    lag = np.argwhere(labels == labels[height, width]) - (height, width)
    minor, major = np.linalg.eigvalsh(lag.T @ lag / len(lag) + np.eye(2) / 12)
    length, breadth = 4 * np.sqrt(major), 4 * np.sqrt(minor)

    spectrum = np.abs(np.fft.fft2(f - f.mean())) ** 2
    radius = np.hypot(np.fft.fftfreq(height)[:, None], np.fft.fftfreq(width)[None])
    square = np.square(f)
    return {
        "strip_length": length,
        "strip_width": breadth,
        "elongation": length / breadth,
        "effective_area": square.sum() ** 2 / (f.size * np.square(square).sum()),
        "spatial_frequency": (spectrum * radius).sum() / max(spectrum.sum(), 1e-300),
    }


def table(evaluation: results.Evaluation) -> str:
    """The medians, a line a set, trained (untrained), as text."""
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
