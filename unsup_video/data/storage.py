"""Packs real values for storage: as float16, or as uint8 with a scale per video."""

import numpy as np

STORAGES = ("float16", "uint8")


def pack(values: np.ndarray, storage: str) -> tuple[np.ndarray, float | None]:
    """Packs the values of one video for storage.

    float16 has 11 significant bits: a relative error of at most 0.05% between 6e-5 and 65504.
    uint8 is for values that are never negative, such as those after a ReLU: 255 stands for the
    largest value of the video, and no error exceeds 1/510 of it.

    Args:
        values: real, of any shape. storage: one of `STORAGES`.

    Returns:
        The values as `storage`, and the value that a stored 1 stands for; None with float16,
        where that is 1.

    Raises:
        ValueError: a value is not finite, is out of float16's range, or is negative with uint8.
    """
    values = np.asarray(values, np.float32)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():  # the extremes are NaN if any value is NaN
        raise ValueError("a value is not finite")
    if storage == "float16":
        limit = np.finfo(np.float16).max
        if max(-low, high) > limit:
            raise ValueError(f"a value of {max(-low, high):.4g} is beyond float16's {limit:.0f}")
        return values.astype(np.float16), None
    if low < 0:
        raise ValueError(
            f"a value is {low:.4g}: uint8 is for values that are never negative, as after a ReLU; "
            "store these as float16"
        )
    scale = high / np.float32(255) or np.float32(1)
    return np.rint(values / scale).astype(np.uint8), float(scale)
