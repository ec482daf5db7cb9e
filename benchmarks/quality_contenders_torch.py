"""PyTorch's contender of `time_to_quality`: stock LSTMs with Adam, executed eagerly.

Its interpreter needs only torch and NumPy.
"""

import math

import numpy as np
import torch
from torch import nn

from benchmarks import _moving_mnist
from benchmarks._common import Size, timed
from benchmarks._quality import Run
from benchmarks.contenders_torch import Composite

_CLIPS = 100  # per call of `predict`
_ROUND = 12  # steps of a round
_LONG = 100_000  # steps of the schedule while the time of a step is measured


class StockLstm:
    """The composite of `nn.LSTM` and Adam, with PyTorch's defaults otherwise.

    Args:
        stream: the arrays of `quality_contenders.write_stream`, the clips before they are drawn.
    """

    def __init__(self, size: Size, run: Run, stream: dict[str, np.ndarray]):
        torch.manual_seed(run.seed)
        self.size, self.stream, self.step = size, stream, 0
        self.model = Composite(size)
        self.optimizer = torch.optim.Adam(self.model.parameters(), lr=run.rate)
        end = 0.0 if run.schedule == "linear" else 1.0
        self.schedule = torch.optim.lr_scheduler.LinearLR(self.optimizer, 1.0, end, run.steps)
        self.clock = torch.zeros(size.batch, size.frames, 1)
        self.info = {
            "parameters": sum(p.numel() for p in self.model.parameters()),
            "version": f"PyTorch {torch.__version__}",
        }

    def train(self, steps: int) -> float:
        """Does the next steps; the seconds it returns are without the drawing of clips."""
        seconds = 0.0
        for _ in range(steps):
            clips = _moving_mnist.drawn(
                self.stream,
                self.step * self.size.batch,
                self.size.batch,
                2 * self.size.frames,
                math.isqrt(self.size.frame_dim),
            )
            seconds += timed(self.train_step, torch.from_numpy(clips))
            self.step += 1
        return seconds

    def train_step(self, clips: torch.Tensor) -> None:
        """Does a step on clips (B, 2 T, D) uint8."""
        past, future = (clips.float() / 255).split(self.size.frames, dim=1)
        targets = past.flip(1), future
        loss = (
            sum(
                nn.functional.binary_cross_entropy_with_logits(x, target, reduction="sum")
                for x, target in zip(self.model(past, self.clock), targets, strict=True)
            )
            / self.size.batch
        )
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.schedule.step()

    def predict(self, past: np.ndarray) -> np.ndarray:
        parts = []
        with torch.no_grad():
            for start in range(0, len(past), _CLIPS):
                x = torch.from_numpy(past[start : start + _CLIPS])
                parts.append(self.model(x, x[:, :, :1] * 0)[1].numpy())
        return np.concatenate(parts)


def _rounds(size):
    trained = StockLstm(size, Run("torch", 1e-3, "linear", _LONG, 0), stream={})
    clips = 255 * (torch.rand(size.batch, 2 * size.frames, size.frame_dim) < 0.1).byte()

    def step():
        return sum(timed(trained.train_step, clips) for _ in range(_ROUND)) / _ROUND

    return step, trained.info


TRAINED = {"torch": lambda size, run, path: StockLstm(size, run, dict(np.load(path)))}
CONTENDERS = {"torch": _rounds}  # for `_workers`, which measures the seconds per step
