"""PyTorch's contender of `train_step`, executed eagerly.

Its interpreter needs only torch and NumPy.
"""

import torch
from torch import nn

from benchmarks._common import Size, timed


class Composite(nn.Module):
    """The composite from stock LSTMs; the decoders' inputs are zeros of width 1."""

    def __init__(self, size: Size):
        super().__init__()

        def lstm(width):
            return nn.LSTM(width, size.units, size.layers, batch_first=True)

        self.encoder = lstm(size.frame_dim)
        self.decoders = nn.ModuleList(lstm(1) for _ in range(2))
        self.outputs = nn.ModuleList(nn.Linear(size.units, size.frame_dim) for _ in range(2))

    def forward(self, past, clock):
        _, state = self.encoder(past)
        decoders = zip(self.decoders, self.outputs, strict=True)
        return [output(decoder(clock, state)[0]) for decoder, output in decoders]


def _build(size: Size):
    model = Composite(size)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-6, momentum=0.9)
    past, future = (
        (torch.rand(size.batch, size.frames, size.frame_dim) < 0.1).float() for _ in range(2)
    )
    clock, targets = torch.zeros(size.batch, size.frames, 1), (past.flip(1), future)

    def step():
        loss = (
            sum(
                nn.functional.binary_cross_entropy_with_logits(x, target, reduction="sum")
                for x, target in zip(model(past, clock), targets, strict=True)
            )
            / size.batch
        )
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    info = {
        "parameters": sum(p.numel() for p in model.parameters()),
        "version": f"PyTorch {torch.__version__}",
    }
    return lambda: timed(step), info


CONTENDERS = {"torch": _build}
