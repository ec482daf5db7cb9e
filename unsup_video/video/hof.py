"""Histograms of oriented flow and statistics of it, by cells of a grid: motion without a CNN.

The descriptor of flows w_t, (u, v) in pixels per frame, is made as follows. Flow is averaged over
blocks of 4x4 pixels, which are the places x below. Its median over the frame, most of which camera
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
BLOCK = 4  # pixels
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
    rest: float = 1.0

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
        flows = _averaged(codes) * np.float32(scale)
        cameras = np.median(flows.reshape(2, len(codes), -1), axis=-1)
        relative = flows - cameras[..., None, None]
        speeds = np.hypot(*relative)
        cells = np.concatenate(
            [
                self._shares(relative, speeds),
                self._statistics(speeds),
                _from_the_second(self._statistics(np.hypot(*np.diff(relative, axis=1)))),
                self._deformation(relative),
            ],
            axis=-1,
        )
        values = np.concatenate([np.arcsinh(cameras.T), cells.reshape(len(codes), -1)], axis=-1)
        changes = _from_the_second(np.abs(np.diff(values, axis=0)))
        return np.concatenate([values, changes], axis=-1).astype(np.float32)

    def _of_cells(self, function, places):
        """Applies a function of (T, n) to the n places of each cell of (T, H, W), row by row."""
        rows, columns = self.grid
        cells = [places]
        if self.cells > 1:
            bands = np.array_split(places, rows, axis=1)
            cells = [c for band in bands for c in np.array_split(band, columns, axis=2)] + cells
        flat = [cell.reshape(len(cell), cell.shape[1] * cell.shape[2]) for cell in cells]
        return np.stack([function(cell) for cell in flat], axis=1)

    def _shares(self, relative, speeds):
        u, v = relative
        turns = np.arctan2(v, u) * np.float32(DIRECTIONS / (2 * np.pi))  # -4 to 4
        numbers = np.rint(turns).astype(np.int8) % DIRECTIONS
        numbers[speeds < self.rest] = DIRECTIONS
        return np.sqrt(self._of_cells(_shares, numbers))

    def _statistics(self, lengths):
        return np.log1p(self._of_cells(_statistics, lengths))

    def _deformation(self, relative):
        (du_dy, du_dx), (dv_dy, dv_dx) = (np.gradient(p, BLOCK, axis=(1, 2)) for p in relative)
        squares = (
            (du_dx + dv_dy) ** 2,
            (dv_dx - du_dy) ** 2,
            (du_dx - dv_dy) ** 2 + (du_dy + dv_dx) ** 2,
        )
        means = [self._of_cells(lambda cell: cell.mean(axis=1), square) for square in squares]
        return np.log1p(10 * np.sqrt(np.stack(means, axis=-1)))


def _averaged(codes):
    """Averages over blocks: (T, H, W, 2) int8 -> (2, T, H // BLOCK, W // BLOCK) float32."""
    height, width = (n // BLOCK for n in codes.shape[1:3])
    total = np.zeros((len(codes), height, width, 2), np.int16)
    for i in range(BLOCK):
        for j in range(BLOCK):
            total += codes[:, i::BLOCK, j::BLOCK][:, :height, :width]
    return np.moveaxis(total, -1, 0).astype(np.float32) / np.float32(BLOCK**2)


def _shares(numbers):
    """Returns the share of each number from 0 to DIRECTIONS: (T, n) -> (T, DIRECTIONS + 1)."""
    return np.stack([(numbers == k).mean(axis=1) for k in range(DIRECTIONS + 1)], axis=-1)


def _statistics(values):
    """Returns mean, standard deviation, maximum and quantiles: (T, n) -> (T, number)."""
    ranks = np.ceil(np.array([*QUANTILES, 1.0]) * values.shape[1]).astype(int) - 1
    ordered = np.partition(values, ranks, axis=1)
    moments = [values.mean(axis=1), values.std(axis=1), ordered[:, -1]]
    return np.stack([*moments, *ordered[:, ranks[:-1]].T], axis=-1)


def _from_the_second(values):
    """Prepends the first of T - 1 values, (T - 1, ..), or 0 if there is none."""
    first = values[:1] if len(values) else np.zeros((1, *values.shape[1:]), values.dtype)
    return np.concatenate([first, values])
