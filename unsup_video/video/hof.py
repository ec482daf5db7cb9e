"""Histograms of oriented flow and statistics of it, by cells of a grid: motion without a CNN.

The descriptor of flows w_t, (u, v) in pixels per frame, is made as follows. Flow is averaged over
blocks of 2x2 pixels, which are the places x below. Its median over the frame, most of which camera
motion causes, is subtracted:

    c_t = median_x w_t(x)          r_t(x) = w_t(x) - c_t          s_t(x) = |r_t(x)|

A place rests if s_t(x) < rest. Otherwise it has one of 8 directions: number k is within 22.5
degrees of 45 k degrees, so that 0 is to the right, 2 down, 4 to the left, and 6 up. Every cell C of
the grid, and the whole frame, has the values

    share          sqrt(n_k / |C|), n_k of the |C| places have direction k, and n_8 rest
    speed          log(1 + z), z the mean, standard deviation, maximum and quantiles of s_t over C
    acceleration   log(1 + z), z the same of |r_t(x) - r_{t-1}(x)|
    deformation    log(1 + 10 z), z the root of the mean square over C of the divergence
                   du/dx + dv/dy, of the curl dv/dx - du/dy, and of the shear
                   (du/dx - dv/dy, du/dy + dv/dx), by central differences of r_t, per frame

and the frame has the values asinh(c_t) as well. The roots and logarithms make few large values
comparable with many small ones. Quantile q of n sorted values is number ceil(q n). For every value
f_t there is also its change |f_t - f_{t-1}|. The first flow has the accelerations and changes of
the second; they are 0 if it is alone.
"""

import dataclasses

import numpy as np

DIRECTIONS = 8
QUANTILES = (0.25, 0.5, 0.75, 0.9, 0.99)
BLOCK = 2  # pixels
_STATISTICS = 3 + len(QUANTILES)
PER_CELL = DIRECTIONS + 1 + 2 * _STATISTICS + 3


@dataclasses.dataclass(frozen=True)
class Hof:
    """Describes flow by (T, D) values.

    The D = 2 * (2 + cells * PER_CELL) values are those of the camera, (2,), and of the cells,
    (cells, PER_CELL), row by row, the whole frame last, each in the order of the module's
    docstring; then the changes of all of these.

    Attributes:
        grid: rows and columns of cells, (1, 1) for the whole frame alone.
        rest: speed in pixels per frame below which a place rests.

    Raises:
        ValueError: a bad value.
    """

    grid: tuple[int, int] = (3, 3)
    rest: float = 0.5

    def __post_init__(self):
        if min(self.grid) < 1:
            raise ValueError(f"grid must be at least 1x1, got {self.grid}")
        if not 0 < self.rest < np.inf:
            raise ValueError(f"rest must be above 0, got {self.rest}")

    @property
    def settings(self) -> dict:
        """The name of the descriptor and its fields."""
        return {"name": "hof"} | dataclasses.asdict(self)

    @property
    def cells(self) -> int:
        """The number of cells, including the whole frame."""
        rows, columns = self.grid
        return rows * columns + (rows * columns > 1)

    @property
    def dim(self) -> int:
        """The number of values per flow, D."""
        return 2 * (2 + self.cells * PER_CELL)

    def check_size(self, height: int, width: int) -> None:
        """Raises ValueError if flow of this size in pixels has fewer places than cells each way."""
        places = (height // BLOCK, width // BLOCK)
        if any(n < max(2, cells) for n, cells in zip(places, self.grid, strict=True)):
            rows, columns = self.grid
            raise ValueError(
                f"flow of {height}x{width} is too small for a grid of {rows}x{columns}: a cell has "
                f"at least one block of {BLOCK}x{BLOCK} pixels"
            )

    def __call__(self, codes: np.ndarray, scale: float) -> np.ndarray:
        """Computes (T, D) float32 from flow, (T, H, W, 2) int8 times scale pixels per frame."""
        values, accelerations, last = [], [], None
        for flow in codes:
            camera, relative = _without_camera(_averaged(flow) * np.float32(scale))
            speed = np.hypot(*relative)
            if last is not None:
                accelerations.append(self._statistics(np.hypot(*(relative - last))))
            last = relative
            values.append(
                (
                    np.arcsinh(camera),
                    self._shares(relative, speed),
                    self._statistics(speed),
                    self._deformation(relative),
                )
            )
        cameras, shares, speeds, deformations = (
            np.stack(part) for part in zip(*values, strict=True)
        )
        accelerations = _from_the_second(accelerations, speeds)
        cells = np.concatenate([shares, speeds, accelerations, deformations], axis=-1)
        values = np.concatenate([cameras, cells.reshape(len(cells), -1)], axis=-1)
        changes = _from_the_second(np.abs(np.diff(values, axis=0)), values)
        return np.concatenate([values, changes], axis=-1).astype(np.float32)

    def _split(self, places):
        """Yields the cells of (H, W) places, row by row, and all of them."""
        rows, columns = self.grid
        if self.cells > 1:
            for row in np.array_split(places, rows):
                yield from np.array_split(row, columns, axis=1)
        yield places

    def _shares(self, relative, speed):
        u, v = relative
        turns = np.arctan2(v, u) * np.float32(DIRECTIONS / (2 * np.pi))  # -4 to 4
        number = np.rint(turns).astype(np.int64) % DIRECTIONS
        number[speed < self.rest] = DIRECTIONS
        return np.sqrt(
            [
                np.bincount(cell.ravel(), minlength=DIRECTIONS + 1) / cell.size
                for cell in self._split(number)
            ]
        )

    def _statistics(self, lengths):
        return np.log1p([_statistics(cell.ravel()) for cell in self._split(lengths)])

    def _deformation(self, relative):
        (du_dy, du_dx), (dv_dy, dv_dx) = (np.gradient(part, BLOCK) for part in relative)
        squares = (
            (du_dx + dv_dy) ** 2,
            (dv_dx - du_dy) ** 2,
            (du_dx - dv_dy) ** 2 + (du_dy + dv_dx) ** 2,
        )
        means = [[cell.mean() for cell in self._split(square)] for square in squares]
        return np.log1p(10 * np.sqrt(means)).T


def _averaged(flow):
    """Averages over blocks: (H, W, 2) int8 -> (2, H // BLOCK, W // BLOCK) float32."""
    height, width = (n // BLOCK for n in flow.shape[:2])
    total = np.zeros((height, width, 2), np.float32)
    for i in range(BLOCK):
        for j in range(BLOCK):
            total += flow[i::BLOCK, j::BLOCK][:height, :width]
    return np.moveaxis(total, -1, 0) / np.float32(BLOCK**2)


def _without_camera(flow):
    """Returns the median of (2, H, W) over H and W, (2,), and the flow without it."""
    camera = np.median(flow.reshape(2, -1), axis=-1)
    return camera, flow - camera[:, None, None]


def _statistics(values):
    """Returns mean, standard deviation, maximum and quantiles of (n,) values."""
    ranks = np.ceil(np.array([*QUANTILES, 1.0]) * len(values)).astype(int) - 1
    *quantiles, largest = np.partition(values, ranks)[ranks]
    return [values.mean(), values.std(), largest, *quantiles]


def _from_the_second(values, like):
    """Repeats the first of T - 1 values, which are of the second flow; 0 if T, len(like), is 1."""
    if len(like) == 1:
        return np.zeros_like(like)
    return np.stack([values[0], *values])
