"""Metrics of predicted frames, in the conventions that papers use.

Papers compute their figures of Moving MNIST in different ways. Each convention here follows the
code behind published figures:

| | correct | openstl | predrnn |
|---|---|---|---|
| MSE, MAE | summed over a frame's pixels, in [0, 1] | the same | the same, predictions clipped |
| SSIM window | Gaussian, sigma 1.5, 11 wide (Wang et al. 2004) | flat, 7 wide | flat, 7 wide |
| SSIM covariance | of the window | sample covariance, 49 / 48 | sample covariance |
| SSIM data range | 1 | 2: that of floats in [-1, 1], though frames are in [0, 1] | 255 |
| input of SSIM and PSNR | the frames | clipped frames | frames truncated to uint8 |
| PSNR peak | 1; at most 100 dB | 1; infinite for equal frames | 255; infinite for equal frames |
| LPIPS input | [-1, 1], as the network wants it | [-1, 1] | [0, 1] |

openstl: `openstl/core/metrics.py` of github.com/chengtan9907/OpenSTL, with the scikit-image of
its time. predrnn: `core/trainer.py` of github.com/thuml/predrnn-pytorch; its "mse per seq" is
summed over the S frames, too: S times the mean over frames here.
"""

import cv2
import numpy as np

from unsup_video.pictures import visualize

CONVENTIONS = ("correct", "openstl", "predrnn")

# Every metric with the unit of a frame's figure.
UNITS = {"mse": "sum over pixels", "mae": "sum over pixels", "ssim": "", "psnr": "dB", "lpips": ""}

_PSNR_MAX = 100.0  # dB, in the "correct" convention, so that a mean over frames is finite

# Values of the frames that are compared at a time. Arrays of so few stay in the processor's cache,
# and in memory that the allocator has at hand: larger ones cost a page fault per 4 KiB.
_CHUNK = 1 << 17

_GAUSSIAN = cv2.getGaussianKernel(11, 1.5)[:, 0]
_UNIFORM = np.full(7, 1 / 7)


def check_convention(convention: str) -> None:
    """Raises ValueError for an unknown convention."""
    if convention not in CONVENTIONS:
        raise ValueError(
            f"unknown metric convention {convention!r}: one of {', '.join(CONVENTIONS)}"
        )


def frame_metrics(
    targets: np.ndarray, frames: np.ndarray, shape: tuple[int, ...], convention: str = "correct"
) -> dict[str, np.ndarray]:
    """Computes MSE, MAE, SSIM and PSNR of every frame.

    Args:
        targets, frames: (..., D) float32 or float64, the truth and the prediction; pixels are in
            [0, 1].
        shape: (H, W) or (H, W, C) of a frame, D its product. Frames that are no pictures, or are
            smaller than SSIM's window, get MSE and MAE only.
        convention: one of `CONVENTIONS`, see the module's table.

    Returns:
        {"mse", "mae", "ssim", "psnr"}, each (...) float64. SSIM of several channels is their mean.

    Raises:
        ValueError: the convention is unknown, or the shapes do not fit.
    """
    check_convention(convention)
    if targets.shape != frames.shape or targets.shape[-1] != np.prod(shape):
        raise ValueError(f"targets {targets.shape}, frames {frames.shape}: (.., {shape}) expected")
    flat = targets.reshape(-1, targets.shape[-1]), frames.reshape(-1, frames.shape[-1])
    size = max(_CHUNK // targets.shape[-1], 1)
    chunks = [
        _chunk_metrics(*(x[start : start + size] for x in flat), shape, convention)
        for start in range(0, len(flat[0]), size)
    ]
    return {
        name: np.concatenate([chunk[name] for chunk in chunks]).reshape(targets.shape[:-1])
        for name in chunks[0]
    }


def _chunk_metrics(targets, frames, shape, convention):
    """Computes `frame_metrics` of (N, D) frames."""
    if convention == "predrnn":
        frames = np.clip(frames, 0, 1)
    mse = _squared_error(targets, frames)
    results = {"mse": mse, "mae": np.abs(targets - frames).sum(-1, dtype=np.float64)}
    window = _GAUSSIAN if convention == "correct" else _UNIFORM
    if not visualize.drawable(shape) or min(shape[:2]) < len(window):
        return results

    data_range, peak = {"correct": (1, 1), "openstl": (2, 1), "predrnn": (255, 255)}[convention]
    if convention == "openstl":
        frames = np.clip(frames, 0, 1)
    if convention == "predrnn":
        targets, frames = np.floor(targets * 255), np.floor(frames * 255)
    if convention != "correct":
        mse = _squared_error(targets, frames)
    with np.errstate(divide="ignore"):
        psnr = 10 * np.log10(peak**2 / (mse / targets.shape[-1]))
    results["psnr"] = np.minimum(psnr, _PSNR_MAX) if convention == "correct" else psnr
    similarity = _ssim(
        _planes(targets, shape),
        _planes(frames, shape),
        window,
        data_range,
        sample_covariance=convention != "correct",
    )
    results["ssim"] = similarity.reshape(len(targets), -1).mean(-1)
    return results


def _squared_error(targets, frames):
    return np.square(targets - frames).sum(-1, dtype=np.float64)


def _planes(frames, shape):
    """Reshapes (..., D) to (N, H, W), the channels of a frame one after the other."""
    pictures = frames.reshape(-1, *shape[:2], *(shape[2:] or (1,)))
    return np.ascontiguousarray(np.moveaxis(pictures, -1, 1)).reshape(-1, *shape[:2])


def _ssim(x, y, window, data_range, sample_covariance):
    """Computes the structural similarity (Wang et al. 2004) of (N, H, W) pictures: (N,).

    It is the mean over the positions where the whole window fits. The pictures are filtered as one,
    in which they lie below one another: rows where a neighbour is in the window are cut off.
    """
    height, width = x.shape[1:]
    border = len(window) // 2
    x, y = (pictures.reshape(-1, width) for pictures in (x, y))

    def local_mean(z):
        return cv2.sepFilter2D(z, -1, window, window)

    mean_x, mean_y = local_mean(x), local_mean(y)
    factor = len(window) ** 2 / (len(window) ** 2 - 1) if sample_covariance else 1.0
    variances = factor * (local_mean(x * x + y * y) - mean_x**2 - mean_y**2)  # of x plus of y
    covariance = factor * (local_mean(x * y) - mean_x * mean_y)
    c1, c2 = (0.01 * data_range) ** 2, (0.03 * data_range) ** 2
    similarity = (2 * mean_x * mean_y + c1) * (2 * covariance + c2)
    similarity /= (mean_x**2 + mean_y**2 + c1) * (variances + c2)
    inner = similarity.reshape(-1, height, width)[:, border:-border, border:-border]
    return inner.mean((1, 2), dtype=np.float64)


class Lpips:
    """LPIPS (Zhang et al. 2018) with AlexNet, from the optional `lpips` package.

    Raises:
        ImportError: `lpips` or PyTorch is not installed. `lpips` raises its own errors when it
            cannot download AlexNet's weights.
    """

    def __init__(self, convention: str = "correct"):
        import lpips  # optional, requires PyTorch
        import torch

        check_convention(convention)
        self._torch = torch
        self._network = lpips.LPIPS(net="alex", verbose=False)
        self._signed = convention != "predrnn"

    def __call__(self, targets: np.ndarray, frames: np.ndarray, shape) -> np.ndarray:
        """Compares frames of `shape`, (..., D) in [0, 1]; returns (...) float64."""

        def tensor(x):
            x = np.clip(np.float32(x), 0, 1).reshape(-1, *shape[:2], *(shape[2:] or (1,)))
            x = np.broadcast_to(x, (*x.shape[:3], 3)).transpose(0, 3, 1, 2)
            return self._torch.from_numpy(np.ascontiguousarray(2 * x - 1 if self._signed else x))

        with self._torch.no_grad():
            distance = self._network(tensor(targets), tensor(frames))
        return np.float64(distance.numpy()).reshape(targets.shape[:-1])
