"""The floating-point operations of a training step, of its matrix products alone."""

from collections.abc import Sequence
from typing import NamedTuple


class DecoderSize(NamedTuple):
    """A decoder of `frames` frames.

    Attributes:
        conditional: "" if it reads nothing; otherwise the previous frames that it reads in
            training, "truth" or "own" as in `video_models.build`.
    """

    frames: int
    conditional: str = ""


def flop(
    units: int,
    layers: int,
    batch: int,
    frame_dim: int,
    encoder_frames: int,
    decoders: Sequence[DecoderSize],
    gates: int = 4,
) -> int:
    """Returns the floating-point operations of a step: 2 per weight and row of a product.

    Every product occurs three times: forward, for the gradient of its weights, and for the gradient
    of its input. The encoder's first input and true frames need no gradient. Products with zeros do
    not count, though the code may compute them: the recurrent one of the encoder's first frame,
    whose state is zero, and a conditional decoder's product with its first frame, which is zero,
    too. An unconditional decoder's first layer has no input product.

    With 2048 units, a batch of 100 and two decoders of 10 frames of 4096 pixels, in weights x
    frames x passes: encoder 4096 x 8192 x 10 x 2 + 2048 x 8192 x 9 x 3; each decoder
    2048 x 8192 x 10 x 3 + 2048 x 4096 x 10 x 3; times 2 x 100: 527 GFLOP.

    Args:
        gates: kernels of a cell, 4 of an LSTM and 3 of a GRU.
    """
    recurrent = units * gates * units  # weights, also of the products between layers
    frame, output = frame_dim * gates * units, units * frame_dim
    between = recurrent * (layers - 1) * 3
    total = encoder_frames * (frame * 2 + between) + (encoder_frames - 1) * recurrent * layers * 3
    for frames, conditional in decoders:
        total += frames * (recurrent * layers * 3 + between + output * 3)
        if conditional:
            total += (frames - 1) * frame * {"truth": 2, "own": 3}[conditional]
    return 2 * batch * total
