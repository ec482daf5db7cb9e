"""Generates Moving MNIST in plain array arithmetic, so that JAX can run it on the training device.

The rules, and the integers in fixed point, are those of `unsup_video.data.moving_mnist`, for one
speed; only the random numbers differ. All functions take arrays of NumPy or of JAX.
"""

import numpy as np

_DIGIT = 28  # pixels
_ONE = 1 << 24  # fixed-point 1.0: the side of the box
_DIRECTIONS = 1 << 16


def velocities(speed: float) -> np.ndarray:
    """Returns (65536, 2) int32: y and x of the step per frame in every direction."""
    angles = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
    circle = np.rint(_ONE * np.stack([np.sin(angles), np.cos(angles)], -1)).astype(np.int64)
    return (circle * round(speed * _ONE) // _ONE).astype(np.int32)


def trajectory(start, velocity, frames: int, bounce: str = "clamp"):
    """Returns positions (B, frames, n, 2) int32 from start and velocity (B, n, 2) int32.

    Raises:
        ValueError: `bounce` is neither "clamp" nor "reflect".
    """
    if bounce not in ("clamp", "reflect"):
        raise ValueError(f"data.bounce={bounce}: only clamp and reflect are known here")
    xp = start.__array_namespace__()
    x, v = start, velocity
    path = []
    for _ in range(frames):
        path.append(x)
        x = x + v
        wall = xp.clip(x, 0, _ONE)
        v = xp.where(x != wall, -v, v)
        x = wall if bounce == "clamp" else 2 * wall - x
    return xp.stack(path, axis=1)


def render(images, which, positions, size: int):
    """Draws digits `which`, (B, n), of (N, 28, 28) uint8 at positions (B, T, n, 2).

    Returns:
        (B, T, size, size) uint8.

    Raises:
        ValueError: the frames are so large that int32 positions, JAX's integers, overflow.
    """
    if _ONE * (size - _DIGIT) > np.iinfo(np.int32).max:
        raise ValueError(f"frame_size {size}: at most 155 pixels")
    xp = positions.__array_namespace__()
    corner = positions * (size - _DIGIT) // _ONE
    place = xp.arange(size)[:, None] - corner[..., None, :]  # (B, T, n, size, 2), in the digit
    inside = (place >= 0) & (place < _DIGIT)
    place = xp.clip(place, 0, _DIGIT - 1)
    pixels = images[which[:, None, :, None, None], place[..., :, None, 0], place[..., None, :, 1]]
    drawn = inside[..., :, None, 0] & inside[..., None, :, 1]
    return xp.max(xp.where(drawn, pixels, xp.zeros_like(pixels)), axis=2)


def drawn(stream, first: int, count: int, frames: int, size: int) -> np.ndarray:
    """Draws clips of a stream of `quality_contenders.write_stream`: (count, frames, D) uint8."""
    which, start, velocity = (
        stream[name][first : first + count] for name in ("which", "start", "velocity")
    )
    positions = trajectory(start, velocity, frames)
    return render(stream["images"], which, positions, size).reshape(count, frames, -1)


def clips(key, images, data, count: int):
    """Generates `count` clips for a config's `data` section by JAX: (count, T, D) uint8."""
    import jax
    from jax import numpy as jnp

    if data.speed_min != data.speed_max:
        raise ValueError("digits of one speed only: data.speed_min and data.speed_max differ")
    keys = jax.random.split(key, 3)
    shape, frames = (count, data.num_digits), data.frames_in + data.frames_out
    which = jax.random.randint(keys[0], shape, 0, len(images))
    start = jax.random.randint(keys[1], (*shape, 2), 0, _ONE + 1)
    direction = jax.random.randint(keys[2], shape, 0, _DIRECTIONS)
    velocity = jnp.asarray(velocities(data.speed_min))[direction]
    positions = trajectory(start, velocity, frames, data.bounce)
    return render(images, which, positions, data.frame_size).reshape(count, frames, -1)
