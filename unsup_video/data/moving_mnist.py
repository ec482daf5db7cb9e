"""Generates Moving MNIST: digits that bounce in a box (the paper's section 3.1).

Every digit starts anywhere in the unit box, in any direction, and moves in a straight line; a
coordinate that leaves the box is set back to the wall and its velocity changes sign ("clamp", as in
the authors' code), or it is reflected exactly ("reflect"), or it enters again from the opposite
wall with the same velocity ("wrap"). Positions are scaled by frame size - 28 and truncated to whole
pixels; overlapping digits take the pixel-wise maximum.

Sequence i of seed s is a pure function of (s, i): random bits come from the counter-based Philox
generator, and positions and velocities are integers, so that it is the same on every machine.
"""

import dataclasses
import functools

import numpy as np
import tensorflow as tf

from unsup_video.data import digits
from unsup_video.data.shares import WHOLE, Share

_DIGIT = 28  # pixels
_ONE = 1 << 24  # fixed-point 1.0: the side of the box
_DIRECTIONS = 1 << 16
BOUNCES = ("clamp", "reflect", "wrap")
# cos and sin of the directions in fixed point. They are computed in float64 and rounded to 24 bits,
# so that differences between libraries do not matter.
_ANGLES = 2 * np.pi * np.arange(_DIRECTIONS) / _DIRECTIONS
_CIRCLE = np.rint(_ONE * np.stack([np.sin(_ANGLES), np.cos(_ANGLES)], -1)).astype(np.int64)


@dataclasses.dataclass(frozen=True)
class MovingMnist:
    """The parameters of the generator.

    Attributes:
        num_digits: at least 1. frame_size: H = W in pixels, at least 28. num_frames: T.
        speed: (lowest, highest) step per frame, as a fraction of the box, drawn uniformly for each
            digit; the paper's releases use 0.1 for all.
        bounce: "clamp", "reflect" or "wrap".
        directions: number of evenly spaced directions in which digits may move.
    """

    num_digits: int = 2
    frame_size: int = 64
    num_frames: int = 20
    speed: tuple[float, float] = (0.1, 0.1)
    bounce: str = "clamp"
    directions: int = _DIRECTIONS

    def __post_init__(self):
        if self.num_digits < 1:
            raise ValueError(f"num_digits must be at least 1, got {self.num_digits}")
        if self.num_frames < 1:
            raise ValueError(f"num_frames must be at least 1, got {self.num_frames}")
        if self.frame_size < _DIGIT:
            raise ValueError(f"frame_size must be at least {_DIGIT}, got {self.frame_size}")
        low, high = self.speed
        if not 0 <= low <= high <= 1:
            raise ValueError(f"speed must be 0 <= lowest <= highest <= 1, got {low}, {high}")
        if self.bounce not in BOUNCES:
            raise ValueError(f"unknown bounce {self.bounce!r}: one of {', '.join(BOUNCES)}")
        if not 1 <= self.directions <= _DIRECTIONS:
            raise ValueError(
                f"directions must be at least 1 and at most {_DIRECTIONS}, got {self.directions}"
            )


def stream_seed(seed: int, split: str) -> int:
    """Returns the stream of a split under `seed`; no two splits or seeds share one."""
    return len(digits.SPLITS) * seed + digits.SPLITS.index(split)


# ---------------------------------------------------------------------- random numbers


_LOW = np.uint64(0xFFFFFFFF)
_MULTIPLIERS = np.array([0xD2511F53, 0xCD9E8D57], np.uint64)
_WEYL = np.array([0x9E3779B9, 0xBB67AE85], np.uint64)
_SCRAMBLE = np.array([0x3EC8F720, 0x02461E29], np.uint64)


def _high(x):
    return tf.bitwise.right_shift(x, np.uint64(32))


def _philox(even, odd, key):
    """Computes Philox 4x32-10 (Salmon et al., SC 2011).

    All arguments are uint64 tensors (B, n, 2) that hold 32 bits, and broadcast: numbers 0 and 2 of
    the counter, numbers 1 and 3, the key. Returns the random numbers as (even, odd).
    """
    for i in range(10):
        product = tf.reverse(even * _MULTIPLIERS, [-1])
        even, odd = _high(product) ^ odd ^ (key + i * _WEYL & _LOW), product & _LOW
    return even, odd


def _random_bits(seed, indices, count):
    """Returns (B, count) int64 in [0, 2**32), one row for each of `indices`, (B,) int64.

    A row equals `tf.random.stateless_uniform(.., seed=(seed, index), alg="philox")`, which draws
    one row per call, at several times the cost.
    """
    index = tf.bitcast(indices, tf.uint64)
    seed = tf.zeros_like(index) + tf.bitcast(tf.cast(seed, tf.int64), tf.uint64)
    pair = tf.stack([seed, index], axis=-1)[:, None]
    even, odd = _philox(pair & _LOW, _high(pair), _SCRAMBLE)
    # The result is a key and the upper half of a counter; the lower half counts blocks of four.
    key = tf.stack([even[..., 0], odd[..., 0]], axis=-1)
    blocks = -(-count // 4)
    block = np.array([[i, 0] for i in range(blocks)], np.uint64)
    upper = np.array([0, 1], np.uint64)
    bits = tf.stack(_philox(block + even * upper, odd * upper, key), axis=-1)
    return tf.cast(tf.reshape(bits, (-1, 4 * blocks))[:, :count], tf.int64)


# ---------------------------------------------------------------------- sequences


def draw(params: MovingMnist, num_images: int, seed, indices):
    """Draws the random values of sequences `indices`, (B,) int64, of stream `seed`, an integer.

    Returns:
        which: (B, num_digits) int64, the images. start, velocity: (B, num_digits, 2) int64, y and
        x as fractions of the box in units of 2**-24; the velocity is per frame.
    """
    bits = _bits_of_digits(params, seed, indices)
    which = bits[..., 0] * num_images // (1 << 32)
    # Opposite walls are one position if digits "wrap", and two otherwise.
    positions = _ONE if params.bounce == "wrap" else _ONE + 1
    start = bits[..., 1:3] * positions // (1 << 32)
    angle = _directions(params, bits) * _DIRECTIONS // params.directions
    direction = tf.gather(tf.constant(_CIRCLE), angle)
    low, high = (round(s * _ONE) for s in params.speed)
    speed = low + bits[..., 4:] * (high - low + 1) // (1 << 32)
    return which, start, direction * speed // _ONE


def directions(params: MovingMnist, seed, indices):
    """Returns the initial directions of the digits of sequences `indices`, as classes.

    Digits that "wrap" keep their direction, and no single frame contains any information about it.
    The reason: the position at frame t is (start + t * velocity) modulo the box, in integers.
    `draw` makes every start equally likely, independent of direction, speed and digit, and adding a
    constant modulo the box only permutes the positions. So at every frame every position is exactly
    equally likely for every direction. All frames without their order show the line of the motion,
    but not its sign: a clip that is played backwards is equally likely, and has the opposite
    direction.

    The direction of digits that bounce is no such class: at a speed of 0.1, a digit that moves to
    the right was in the left half of the box five frames before.

    Returns:
        (B, num_digits) int64, from 0. Number k is 360 k / params.directions degrees from right (x)
        towards down (y).
    """
    return _directions(params, _bits_of_digits(params, seed, indices))


def _bits_of_digits(params, seed, indices):
    """Draws (B, num_digits, 5) int64 in [0, 2**32), to be scaled to their ranges.

    They are for the digit's image, y, x, direction and speed.
    """
    bits = _random_bits(seed, indices, 5 * params.num_digits)
    return tf.reshape(bits, (-1, params.num_digits, 5))


def _directions(params, bits):
    return bits[..., 3] * params.directions // (1 << 32)


def trajectory(params: MovingMnist, start, velocity):
    """Returns positions and velocities at every frame, from `draw`'s start and velocity.

    Both are (B, T, num_digits, 2) int64, in `draw`'s units. A velocity is the digit's step to the
    next frame.
    """
    x, v = start, velocity
    path = []
    for _ in range(params.num_frames):
        path.append((x, v))
        x = x + v
        if params.bounce == "wrap":
            x = x % _ONE
            continue
        wall = tf.clip_by_value(x, 0, _ONE)
        v = tf.where(x != wall, -v, v)
        x = wall if params.bounce == "clamp" else 2 * wall - x
    positions, velocities = zip(*path, strict=True)
    return tf.stack(positions, axis=1), tf.stack(velocities, axis=1)


def corners(params: MovingMnist, positions):
    """Converts positions in `draw`'s units to int32 y, x of upper left corners in pixels."""
    return tf.cast(positions * (params.frame_size - _DIGIT) // _ONE, tf.int32)


def _frames(images, corner, size):
    """Draws (B, 28, 28) uint8 digits at (B, T, 2) corners: (B, T, size, size) uint8.

    TensorFlow cannot copy a batch of windows at once, but it gathers rows fast. So each digit is
    stored in all horizontal shifts, and the rows of a frame are gathered from the right one.
    """
    shifts, rows = size - _DIGIT + 1, _DIGIT + 1  # the last row is empty
    sheet = tf.pad(images, [[0, 0], [0, 1], [0, shifts - 1]])
    # One pixel more than a sheet has, so that every repetition is shifted by one more.
    line = tf.pad(tf.reshape(sheet, (-1, rows * size)), [[0, 0], [0, 1]])
    shifted = tf.concat([line] * (shifts - 1) + [line[:, : rows * size - shifts + 1]], axis=1)

    y, x = corner[..., :1], corner[..., 1:]
    row = tf.range(size) - y
    row = tf.where((row >= 0) & (row < _DIGIT), row, _DIGIT)
    sequence = tf.range(tf.shape(corner)[0])[:, None, None]
    return tf.gather(tf.reshape(shifted, (-1, size)), (sequence * shifts + x) * rows + row)


def generate(images, params: MovingMnist, seed, indices):
    """Generates sequences `indices`, (B,) int64, of stream `seed`.

    Args:
        images: (N, 28, 28) uint8. seed: an integer.

    Returns:
        (B, T, frame_size, frame_size) uint8.
    """
    images, indices = tf.convert_to_tensor(images), tf.convert_to_tensor(indices, tf.int64)
    which, start, velocity = draw(params, tf.shape(images, tf.int64)[0], seed, indices)
    positions, _ = trajectory(params, start, velocity)
    return _render(images, params, which, positions)


def constant_velocity(images, params: MovingMnist, seed, indices, frames_in: int):
    """Predicts sequences `indices` after `frames_in` frames by straight motion.

    The prediction knows the images, positions and velocities of the digits at the last frame that
    is read. They move on in a straight line, and stop at the walls. Arguments: see `generate`.

    Returns:
        (B, num_frames - frames_in, frame_size, frame_size) uint8.
    """
    images, indices = tf.convert_to_tensor(images), tf.convert_to_tensor(indices, tf.int64)
    which, start, velocity = draw(params, tf.shape(images, tf.int64)[0], seed, indices)
    positions, velocities = trajectory(params, start, velocity)
    last = slice(frames_in - 1, frames_in)
    steps = tf.range(1, params.num_frames - frames_in + 1, dtype=tf.int64)[:, None, None]
    ahead = positions[:, last] + steps * velocities[:, last]
    return _render(images, params, which, tf.clip_by_value(ahead, 0, _ONE))


def _render(images, params, which, positions):
    corner = corners(params, positions)
    frames = [
        _frames(tf.gather(images, which[:, k]), corner[:, :, k], params.frame_size)
        for k in range(params.num_digits)
    ]
    return functools.reduce(tf.maximum, frames)


def batches(
    images: np.ndarray,
    params: MovingMnist,
    seed: int,
    batch_size: int,
    start: int = 0,
    count: int | None = None,
    share: Share = WHOLE,
) -> tf.data.Dataset:
    """Returns sequences start, start + 1, .. of stream `seed` in batches (B, T, H, W) uint8.

    Args:
        images: (N, 28, 28) uint8. count: number of sequences, the last batch may be smaller; None
            for an endless data set. share: of every batch, the rows to generate.

    Raises:
        ValueError: the images have another dtype or shape, or there are none; the batch cannot be
            divided into such shares.
    """
    if images.dtype != np.uint8 or images.shape[1:] != (_DIGIT, _DIGIT) or not len(images):
        raise ValueError(
            f"digits must be (N, 28, 28) uint8, N at least 1, got {images.shape} {images.dtype}"
        )
    images, seed = tf.constant(images), tf.constant(seed, tf.int64)
    indices = share.numbers(batch_size, start, None if count is None else start + count)
    make, shape = _graph(params), (params.num_frames, params.frame_size, params.frame_size)
    # Autograph has no control flow to convert here, and searching for it takes half a second.
    generated = tf.autograph.experimental.do_not_convert(
        lambda i: tf.ensure_shape(make(images, seed, i), (i.shape[0], *shape))
    )
    return indices.map(generated, num_parallel_calls=tf.data.AUTOTUNE).prefetch(2)


@functools.cache
def _graph(params):
    """Builds the graph of `generate` once, for all images, streams and batch sizes."""
    return tf.function(
        lambda images, seed, indices: generate(images, params, seed, indices),
        input_signature=[
            tf.TensorSpec((None, _DIGIT, _DIGIT), tf.uint8),
            tf.TensorSpec((), tf.int64),
            tf.TensorSpec((None,), tf.int64),
        ],
        autograph=False,
    )
