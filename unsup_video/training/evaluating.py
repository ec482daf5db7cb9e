"""Evaluations whose batches several processes share."""

import io
from collections.abc import Callable, Iterable, Sequence

import numpy as np

Result = dict[str, np.ndarray]  # of a batch
Evaluate = Callable[[range], Iterable[Result]]  # the numbers of batches -> their results
Shared = Callable[[Evaluate, int], list[Result]]


def alone(evaluate: Evaluate, count: int) -> list[Result]:
    """Returns the results of batches 0 to `count`, all of which this process evaluates."""
    return list(evaluate(range(count)))


def joined(results: Sequence[Result], gathered: Callable[[np.ndarray], np.ndarray]) -> list[Result]:
    """Returns the results of all processes, in their order.

    Args:
        results: those of this process.
        gathered: an array -> those of all processes, (processes, ..); they have one shape.
    """
    packed = pack(results)
    longest = int(gathered(np.array(len(packed))).max())
    padded = np.pad(packed, (0, longest - len(packed)))
    return [result for part in gathered(padded) for result in unpack(part)]


def pack(results: Sequence[Result]) -> np.ndarray:
    """Returns the results as (n,) int64, which devices can exchange."""
    stream = io.BytesIO()
    arrays = {f"{i}/{name}": x for i, result in enumerate(results) for name, x in result.items()}
    np.savez(stream, allow_pickle=False, **arrays)
    data = stream.getvalue()
    words = np.frombuffer(data + bytes(-len(data) % 8), np.int64)
    return np.concatenate([[len(data)], words])


def unpack(packed: np.ndarray) -> list[Result]:
    """Returns what `pack` was given; more numbers may follow what it returned."""
    data = packed[1:].tobytes()[: packed[0]]
    results: list[Result] = []
    with np.load(io.BytesIO(data)) as arrays:
        for key in arrays:
            number, _, name = key.partition("/")
            if int(number) == len(results):
                results.append({})
            results[-1][name] = arrays[key]
    return results
