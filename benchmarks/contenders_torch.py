"""PyTorch, op by op: a contender of `train_step`, and on a GPU of `keras_jax bench`.

Its interpreter needs torch and nothing else.
"""

import contextlib

import torch
from torch import nn

from benchmarks._common import Size, timed

GPU_STEPS = 20  # in one measurement


class Composite(nn.Module):
    """The composite from stock LSTMs; the decoders get zeros of width 1 for input."""

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
    step = _step(model, optimizer, size)
    return lambda: timed(step), _info(model, "")


def _on_gpu(precision):
    """As `_build`, on a GPU, with Adam; measured over several steps that follow one another."""

    def build(size):
        torch.backends.cuda.matmul.allow_tf32 = torch.backends.cudnn.allow_tf32 = (
            precision == "tf32"
        )
        mixed = precision == "bfloat16"
        model = Composite(size).cuda()
        optimizer = torch.optim.Adam(model.parameters(), lr=1e-5, betas=(0.9, 0.95), fused=True)
        steps = [_step(model, optimizer, size, "cuda", mixed) for _ in range(4)]  # clips of its own

        def burst():
            for k in range(GPU_STEPS):
                steps[k % len(steps)]()
            torch.cuda.synchronize()

        # Autocast runs cuDNN's LSTMs in float16, whatever type it is asked for.
        how = ", float16 LSTMs by autocast" if mixed else ", cuDNN's LSTM"
        return lambda: timed(burst) / GPU_STEPS, _info(model, how)

    return build


def _step(model, optimizer, size, device="cpu", mixed=False):
    past, future = (
        (torch.rand(size.batch, size.frames, size.frame_dim, device=device) < 0.1).float()
        for _ in range(2)
    )
    clock = torch.zeros(size.batch, size.frames, 1, device=device)
    targets = (past.flip(1), future)

    def step():
        # Around a single forward pass: it keeps casts of the weights until it ends.
        autocast = torch.autocast(device, torch.bfloat16) if mixed else contextlib.nullcontext()
        with autocast:
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

    return step


def _info(model, how):
    version = f"PyTorch {torch.__version__}"
    return {
        "parameters": sum(p.numel() for p in model.parameters()),
        "version": version,
        "ran": f"{version}, eager{how}",
    }


CONTENDERS = {
    "torch": _build,
    **{f"gpu_{name}": _on_gpu(name) for name in ("float32", "tf32", "bfloat16")},
}
