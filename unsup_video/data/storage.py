"""How real values are stored: as float16, or as uint8 with a scale for each video."""

import numpy as np

STORAGES = ("float16", "uint8")


def pack(values: np.ndarray, storage: str) -> tuple[np.ndarray, float | None]:
    """Values of one video as a data set stores them.

    float16 is right to 11 bits, a relative error of at most 0.05% from 6e-5 to 65504. uint8 is for
    values that are never negative, such as those after a ReLU: the video's largest is 255, and no
    error is above 1/510 of it.

    Args:
        values: any shape, real. storage: of `STORAGES`.

    Returns:
        The values as `storage`, and what a stored 1 stands for; None with float16, where that is 1.

    Raises:
        ValueError: a value is not finite, out of float16's range, or negative with uint8.
    """
    values = np.asarray(values, np.float32)
    low, high = values.min(), values.max()
    if not np.isfinite([low, high]).all():  # the extremes of what holds a NaN are NaN
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
