import hashlib

import numpy as np
import pytest
import tensorflow as tf

from unsup_video.data import digits, moving_mnist
from unsup_video.data.moving_mnist import MovingMnist

ONE = 2**24
# 50 "digits" of all grey levels, the same on every machine.
IMAGES = (np.arange(50 * 28 * 28) * 7919 % 256).astype(np.uint8).reshape(50, 28, 28)

VARIANTS = {
    "default": MovingMnist(),
    "one slow": MovingMnist(num_digits=1, num_frames=40, speed=(0.01, 0.02)),
    "three in large frames": MovingMnist(3, 90, 30, (0.05, 0.4), "reflect"),
    "fast, clamp": MovingMnist(2, 64, 50, (0.0, 1.0), "clamp"),
    "fast, reflect": MovingMnist(2, 64, 50, (0.0, 1.0), "reflect"),
    "no room": MovingMnist(2, 28, 3),
    "a single frame": MovingMnist(4, 64, 1),
}


def generate(params, seed, indices, images=IMAGES):
    return moving_mnist.generate(images, params, seed, np.array(indices)).numpy()


def draw(params, seed, indices):
    return [x.numpy() for x in moving_mnist.draw(params, len(IMAGES), seed, np.array(indices))]


# ---------------------------------------------------------------------- the paper's generator


def path(x, v, params):
    """One coordinate, in the box, of every frame. Floats: 24-bit fractions are exact in them."""
    found = []
    for _ in range(params.num_frames):
        found.append(x)
        x += v
        if x < 0:
            x, v = (0.0 if params.bounce == "clamp" else -x), -v
        elif x > 1:
            x, v = (1.0 if params.bounce == "clamp" else 2 - x), -v
    return found


def reference(params, which, start, velocity):
    size = params.frame_size
    frames = np.zeros((params.num_frames, size, size), np.uint8)
    for digit, (y, x), (dy, dx) in zip(which, start / ONE, velocity / ONE, strict=True):
        for frame, top, left in zip(frames, path(y, dy, params), path(x, dx, params), strict=True):
            top, left = int(top * (size - 28)), int(left * (size - 28))
            for i in range(28):
                for j in range(28):
                    old = frame[top + i, left + j]
                    frame[top + i, left + j] = max(old, IMAGES[digit, i, j])
    return frames


@pytest.mark.parametrize("name", VARIANTS)
def test_sequences_are_the_papers(name):
    params, indices = VARIANTS[name], [0, 3]
    for found, *drawn in zip(generate(params, 5, indices), *draw(params, 5, indices), strict=True):
        np.testing.assert_array_equal(found, reference(params, *drawn))


def test_what_is_drawn_covers_its_range_evenly():
    params = MovingMnist(num_digits=2, speed=(0.05, 0.2))
    which, start, velocity = draw(params, 0, range(20_000))
    counts = np.bincount(which.ravel(), minlength=50)
    assert len(counts) == 50 and abs(counts / 800 - 1).max() < 0.2  # 800 each expected, sd 28
    for values in (start / ONE, (np.hypot(*np.moveaxis(velocity / ONE, -1, 0)) - 0.05) / 0.15):
        histogram, _ = np.histogram(values, 20, range=(-1e-6, 1 + 1e-6))
        assert histogram.sum() == values.size  # none outside
        assert abs(histogram * 20 / values.size - 1).max() < 0.1
    angles, _ = np.histogram(np.arctan2(velocity[..., 0], velocity[..., 1]), 16, (-np.pi, np.pi))
    assert abs(angles * 16 / 40_000 - 1).max() < 0.1
    # Two digits of a sequence, and neighbouring sequences, have nothing to do with each other.
    for a, b in ((start[:, 0], start[:, 1]), (start[1:, 0], start[:-1, 0])):
        assert abs(np.corrcoef(a[:, 0], b[:, 0])[0, 1]) < 0.03


def test_bits_are_those_of_tensorflows_philox():
    indices = [0, 1, 2**31, 2**32 + 7, 2**62, -1]
    for seed in (0, 1, -3, 2**40 + 5):
        for count in (1, 4, 10):
            bits = moving_mnist._random_bits(seed, tf.constant(indices, tf.int64), count)
            for index, row in zip(indices, bits.numpy(), strict=True):
                pair = tf.constant([seed, index], tf.int64)
                expected = tf.random.stateless_uniform(
                    [count], pair, None, None, tf.int32, alg="philox"
                )
                np.testing.assert_array_equal(row, expected.numpy().astype(np.int64) % 2**32)


def test_directions_are_far_from_where_rounding_could_differ():
    exact = ONE * np.sin(2 * np.pi * np.arange(2**16) / 2**16)
    np.testing.assert_array_equal(moving_mnist._CIRCLE[:, 0], np.rint(exact))
    np.testing.assert_array_equal(moving_mnist._CIRCLE[:, 1], np.roll(np.rint(exact), -(2**14)))
    assert abs(exact % 1 - 0.5).min() > 1e-7  # float64 is good to 4e-9 here


# ---------------------------------------------------------------------- what one sees


def test_digits_stay_whole_in_the_frame():
    for bounce in ("clamp", "reflect"):
        frames = generate(MovingMnist(1, 64, 60, (0.3, 0.3), bounce), 1, range(10))
        assert (
            np.sort(frames.reshape(600, -1))[:, -784:]
            == np.sort(np.repeat(frames[:, :1].reshape(10, -1), 60, 0))[:, -784:]
        ).all()
        assert frames[0, 0].sum() in IMAGES.sum(axis=(1, 2))


def test_speed_a_frame():
    pixel = np.zeros((1, 28, 28), np.uint8)
    pixel[0, 0, 0] = 255
    params = MovingMnist(1, 28 + 1000, 5, (0.1, 0.1))
    frames = generate(params, 0, range(10), pixel)
    places = np.argwhere(frames)[:, 2:].reshape(10, 5, 2)
    steps = np.diff(places, axis=1)
    away = ((places[:, 1:] > 0) & (places[:, 1:] < 1000)).all((1, 2))  # those that hit no wall
    assert away.sum() >= 3
    assert abs(np.hypot(*np.moveaxis(steps[away], -1, 0)) - 100).max() < 1.5
    still = generate(MovingMnist(1, 64, 5, (0, 0)), 0, [4])
    assert still.any() and (still == still[:, :1]).all()


def test_overlapping_digits_take_the_maximum():
    greys = np.full((2, 28, 28), 100, np.uint8)
    greys[1] = 200
    params = MovingMnist(num_digits=2, frame_size=32, num_frames=10)  # they always overlap
    found = set()
    for frames, which in zip(
        generate(params, 0, range(20), greys),
        moving_mnist.draw(params, 2, 0, np.arange(20))[0].numpy(),
        strict=True,
    ):
        area = (frames == greys[which.max(), 0, 0]).sum(axis=(1, 2))
        if which[0] != which[1]:
            assert (area == 784).all()  # the brighter digit is whole, whichever came first
            found.add(tuple(which))
        assert set(np.unique(frames)) <= {0, *greys[which, 0, 0]}
    assert found == {(0, 1), (1, 0)}


# ---------------------------------------------------------------------- streams


def stream(**arguments):
    batches = moving_mnist.batches(IMAGES, VARIANTS["default"], 7, 4, **arguments)
    assert batches.element_spec.dtype == tf.uint8
    assert batches.element_spec.shape[1:] == (20, 64, 64)
    return batches.as_numpy_iterator()


def test_a_sequence_is_a_function_of_seed_and_index_alone():
    params = VARIANTS["default"]
    together = generate(params, 7, range(12))
    np.testing.assert_array_equal(generate(params, 7, [11, 3, 3]), together[[11, 3, 3]])
    np.testing.assert_array_equal(generate(params, 7, [5])[0], together[5])
    endless = stream()
    np.testing.assert_array_equal(np.concatenate([next(endless) for _ in range(3)]), together)
    np.testing.assert_array_equal(next(stream(start=6)), together[6:10])
    assert len({sequence.tobytes() for sequence in together}) == 12
    assert next(stream(start=10**15)).shape == (4, 20, 64, 64)


def test_count_ends_a_stream_with_a_smaller_batch():
    found = list(stream(start=2, count=7))
    assert [len(batch) for batch in found] == [4, 3]
    expected = generate(VARIANTS["default"], 7, range(2, 9))
    np.testing.assert_array_equal(np.concatenate(found), expected)


def test_streams_of_seeds_and_splits_share_nothing():
    streams = [
        moving_mnist.stream_seed(seed, split)
        for seed in (-1, 0, 1, 2)
        for split in ("train", "validation", "test")
    ]
    assert len(set(streams)) == 12
    starts = [draw(VARIANTS["default"], seed, range(100))[1] for seed in streams]
    assert len(np.unique(np.concatenate(starts)[:, 0], axis=0)) == 1200


GOLDEN = {
    "default": "09db241d8fc6a9e59db38fd6342fc1373d0bd013796257e562bc23ad9eac0a5c",
    "three in large frames": "86d59c1e6ca3e439f202cd024b5b9154c2778ab1b2d221f39f9eb94b151058cb",
    "fast, clamp": "5a65e18d6074341bdad03adc009a9974a1ccad7d262a6fb8559bef6f0e388632",
}


@pytest.mark.parametrize("name", GOLDEN)
def test_sequences_never_change(name):
    found = generate(VARIANTS[name], 12345, [0, 1, 10**9])
    assert hashlib.sha256(found.tobytes()).hexdigest() == GOLDEN[name]


# ---------------------------------------------------------------------- bad input


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"num_digits": 0}, "num_digits"),
        ({"num_frames": 0}, "num_frames"),
        ({"frame_size": 27}, "frame_size must be at least 28"),
        ({"speed": (0.2, 0.1)}, "speed"),
        ({"speed": (-0.1, 0.1)}, "speed"),
        ({"speed": (0.1, 1.5)}, "speed"),
        ({"speed": (float("nan"), 0.1)}, "speed"),
        ({"bounce": "stop"}, "'stop': clamp or reflect"),
    ],
)
def test_bad_parameters(arguments, message):
    with pytest.raises(ValueError, match=message):
        MovingMnist(**arguments)


@pytest.mark.parametrize(
    "images",
    [
        IMAGES.astype("float32") / 255,
        IMAGES.astype("int64") * 2,
        IMAGES[:, :27],
        IMAGES[0],
        IMAGES[:0],
    ],
)
def test_bad_digits(images):
    with pytest.raises(ValueError, match=r"\(N, 28, 28\) uint8"):
        moving_mnist.batches(images, VARIANTS["default"], 0, 4)


def test_the_graph_is_built_once(monkeypatch):
    """For all streams and sizes of a batch, since it takes longer than small evaluations."""
    params = MovingMnist(1, 30, 2)
    images, whole, built = digits.load_digits("test").images, moving_mnist.generate, []
    monkeypatch.setattr(
        moving_mnist, "generate", lambda *arguments: (built.append(1), whole(*arguments))[1]
    )
    for seed, size, count in ((1, 4, None), (2, 3, 7)):
        found = moving_mnist.batches(images[seed:], params, seed, size, count=count)
        batch = next(iter(found)).numpy()
        np.testing.assert_array_equal(batch, whole(images[seed:], params, seed, np.arange(size)))
    assert len(built) == 1
