"""The descriptor of flow: against np.histogram, np.quantile, and flow of known derivatives."""

import numpy as np
import pytest

from unsup_video.video import hof
from unsup_video.video.hof import BLOCK, DIRECTIONS, PER_CELL, QUANTILES

STATISTICS = 3 + len(QUANTILES)
SPEED = slice(DIRECTIONS + 1, DIRECTIONS + 1 + STATISTICS)
ACCELERATION = slice(SPEED.stop, SPEED.stop + STATISTICS)
DEFORMATION = slice(ACCELERATION.stop, PER_CELL)
SCALE = 0.05


def described(flows, **fields):
    """{camera, cells, and the changes of both}, of flows in pixels per frame."""
    descriptor = hof.Hof(**fields)
    codes = np.rint(np.asarray(flows) / SCALE)
    assert np.abs(codes).max() <= 127
    found = descriptor(codes.astype(np.int8), SCALE)
    assert found.shape == (len(codes), descriptor.dim) and found.dtype == np.float32
    values, changes = np.split(found, 2, axis=1)

    def parts(part):
        return part[:, :2], part[:, 2:].reshape(len(part), descriptor.cells, PER_CELL)

    camera, cells = parts(values)
    of_camera, of_cells = parts(changes)
    return {"camera": camera, "cells": cells, "changes": (of_camera, of_cells)}


def still(frames=1, height=36, width=48):
    return np.zeros((frames, height, width, 2))


def places(height=36, width=48):
    """(x, y) of every pixel, from the centre."""
    y, x = np.indices((height, width), float)
    return x - (width - 1) / 2, y - (height - 1) / 2


def test_a_moving_camera_leaves_everything_at_rest():
    found = described(still() + [3, -2])
    np.testing.assert_allclose(found["camera"], [np.arcsinh([3, -2])], atol=1e-6)
    at_rest = np.zeros(PER_CELL)
    at_rest[DIRECTIONS] = 1
    np.testing.assert_allclose(found["cells"][0], np.tile(at_rest, (10, 1)), atol=1e-5)


@pytest.mark.parametrize("direction", range(DIRECTIONS))
def test_what_moves_in_one_cell_is_counted_there_and_in_the_whole(direction):
    angle = np.radians(45 * direction + 20)  # less than half a bin from its middle
    flows = still() + [1, 1]
    flows[:, 12:24, 32:] += 4 * np.array([np.cos(angle), np.sin(angle)])
    found = described(flows)["cells"][0]
    cell, other, whole = found[5], found[4], found[9]
    np.testing.assert_array_equal(np.flatnonzero(cell[: DIRECTIONS + 1]), [direction])
    np.testing.assert_array_equal(np.flatnonzero(other[: DIRECTIONS + 1]), [DIRECTIONS])
    assert whole[direction] ** 2 == pytest.approx(1 / 9)
    assert whole[DIRECTIONS] ** 2 == pytest.approx(8 / 9)
    mean, deviation, largest, *quantiles = np.expm1(whole[SPEED])
    assert mean == pytest.approx(4 / 9, rel=0.02) and largest == pytest.approx(4, rel=0.02)
    assert deviation == pytest.approx(4 * np.sqrt(1 / 9 * 8 / 9), rel=0.02)
    np.testing.assert_allclose(quantiles, [0, 0, 0, 4, 4], rtol=0.02, atol=1e-6)


def test_a_pixel_rests_below_the_given_speed():
    flows = still()
    flows[:, :, :12] = [0.4, 0]
    for rest, moving in ((0.5, 0), (0.3, 0.25)):
        whole = described(flows, grid=(1, 1), rest=rest)["cells"][0, 0]
        assert whole[0] ** 2 == pytest.approx(moving)
        assert whole[DIRECTIONS] ** 2 == pytest.approx(1 - moving)


def test_rotation_has_curl_and_expansion_has_divergence():
    x, y = places()
    for u, v, deformation in (
        (-0.2 * y, 0.2 * x, (0, 0.4, 0)),
        (0.2 * x, 0.2 * y, (0.4, 0, 0)),
        (0.2 * x, -0.2 * y, (0, 0, 0.4)),
        (0.2 * y, 0.2 * x, (0, 0, 0.4)),
    ):
        found = described([np.stack([u, v], -1)])["cells"][0]
        np.testing.assert_allclose(
            np.expm1(found[:, DEFORMATION]) / 10, [deformation] * 10, atol=0.03
        )


def test_clockwise_rotation_has_every_direction_in_its_place():
    x, y = places()
    found = described([np.stack([-0.2 * y, 0.2 * x], -1)], rest=0.01)["cells"][0]
    most = found[:9, :DIRECTIONS].argmax(axis=1)  # of the cells, row by row
    np.testing.assert_array_equal(np.delete(most, 4), [7, 0, 1, 6, 2, 5, 4, 3])
    size = 100
    x, y = places(size, size)
    inside = np.hypot(x, y) < size / 2 - 2
    ring = np.stack([-0.1 * y, 0.1 * x], -1) * inside[..., None]
    shares = described([ring], grid=(1, 1))["cells"][0, 0, :DIRECTIONS] ** 2
    np.testing.assert_allclose(shares / shares.sum(), np.full(DIRECTIONS, 1 / 8), atol=0.005)


def test_a_jerk_is_an_acceleration_and_a_change():
    flows = still(4)
    flows[2, 12:24, 32:] = [3, 0]
    found = described(flows)
    acceleration = np.expm1(found["cells"][:, 5, ACCELERATION])
    np.testing.assert_allclose(acceleration[:, 0], [0, 0, 3, 3], atol=0.01)
    cells, changes = found["cells"], found["changes"][1]
    np.testing.assert_allclose(changes[1:], np.abs(np.diff(cells, axis=0)), atol=1e-6)
    np.testing.assert_array_equal(changes[0], changes[1])
    assert changes[2, 5, 0] == 1 and changes[2, 5, DIRECTIONS] == 1


def reference(flows, grid, rest):
    """The values of the cells and the camera, by NumPy's own functions in float64."""
    frames, height, width, _ = flows.shape
    height, width = height // BLOCK, width // BLOCK
    means = flows[:, : BLOCK * height, : BLOCK * width]
    means = means.reshape(frames, height, BLOCK, width, BLOCK, 2).mean(axis=(2, 4))
    camera = np.median(means.reshape(frames, -1, 2), axis=1)
    relative = means - camera[:, None, None]
    speeds = np.hypot(relative[..., 0], relative[..., 1])
    jumps = np.diff(relative, axis=0)
    jumps = np.hypot(jumps[..., 0], jumps[..., 1])
    jumps = np.concatenate([jumps[:1], jumps])
    rows, columns = (
        np.array_split(np.arange(n), count) for n, count in zip((height, width), grid, strict=True)
    )
    cells = [np.ix_(row, column) for row in rows for column in columns]
    cells += [np.ix_(range(height), range(width))]

    def statistics(values):
        quantiles = np.quantile(values, QUANTILES, method="inverted_cdf")
        return np.log1p([values.mean(), values.std(), values.max(), *quantiles])

    found = []
    for t in range(frames):
        (uy, ux), (vy, vx) = (np.gradient(relative[t, ..., i], BLOCK) for i in range(2))
        for cell in cells:
            u, v = relative[t][cell][..., 0], relative[t][cell][..., 1]
            moves = speeds[t][cell] >= rest
            degrees = (np.degrees(np.arctan2(v, u)[moves]) + 22.5) % 360
            counts, _ = np.histogram(degrees, np.arange(0, 361, 45))
            shares = np.sqrt(np.array([*counts, (~moves).sum()]) / moves.size)
            squares = ((ux + vy) ** 2, (vx - uy) ** 2, (ux - vy) ** 2 + (uy + vx) ** 2)
            deformation = [np.log1p(10 * np.sqrt(square[cell].mean())) for square in squares]
            speed, jump = statistics(speeds[t][cell]), statistics(jumps[t][cell])
            found.append([*shares, *speed, *jump, *deformation])
    return np.arcsinh(camera), np.reshape(found, (frames, len(cells), -1))


@pytest.mark.parametrize("grid, size", [((3, 3), (32, 44)), ((2, 4), (37, 41)), ((1, 2), (16, 16))])
def test_every_value_is_numpys(grid, size):
    rng = np.random.default_rng(0)
    flows = SCALE * np.clip(np.rint(rng.normal(0, 30, (3, *size, 2))), -127, 127)
    found = described(flows, grid=grid, rest=0.8)
    camera, cells = reference(flows, grid, rest=0.8)
    np.testing.assert_allclose(found["camera"], camera, atol=1e-5)
    assert found["cells"].shape == cells.shape
    # float32 may put a place that is at the edge of a bin into the next one.
    edge = np.sqrt(1 / cells.shape[1])
    different = np.abs(found["cells"] - cells) > 1e-4
    assert different.sum() <= 2 and np.abs(found["cells"] - cells).max() < edge


def test_a_single_flow_has_no_change():
    found = described(still() + [[[1, 2]]])
    assert not found["cells"][..., ACCELERATION].any()
    assert not found["changes"][0].any() and not found["changes"][1].any()


def test_values_are_comparable():
    """Even the fastest flow leaves no value so large that one number as scale cannot fit all."""
    flows = np.random.default_rng(0).choice([-127, 127], (2, 24, 24, 2)).astype(np.int8)
    assert np.abs(hof.Hof()(flows, 20 / 127)).max() < 6


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"grid": (0, 3)}, r"grid must be at least 1x1, got \(0, 3\)"),
        ({"rest": 0.0}, "rest must be above 0, got 0.0"),
        ({"rest": np.nan}, "rest must be above 0, got nan"),
    ],
)
def test_bad_fields(fields, message):
    with pytest.raises(ValueError, match=message):
        hof.Hof(**fields)


def test_flow_smaller_than_the_grid():
    hof.Hof(grid=(4, 4)).check_size(16, 16)
    with pytest.raises(ValueError, match="flow of 16x40 is too small for a grid of 5x1"):
        hof.Hof(grid=(5, 1)).check_size(16, 40)
