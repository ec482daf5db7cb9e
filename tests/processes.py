"""Evaluations that several processes share, which take turns here in one process."""

from types import SimpleNamespace

import numpy as np

from unsup_video.training import distribution, evaluating


def divided(processes):
    """What `Trainer` gives to a task, with the processes one after the other."""

    def shared(evaluate, count):
        packed = []
        for index in range(processes):
            resolver = SimpleNamespace(
                task_id=index,
                cluster_spec=lambda: SimpleNamespace(job_tasks=lambda job: range(processes)),
            )
            own = distribution.part_of(range(count), SimpleNamespace(cluster_resolver=resolver))
            assert count // processes <= len(own) <= -(-count // processes)
            packed.append(evaluating.pack(list(evaluate(own))))
        longest = max(map(len, packed))
        padded = [np.pad(array, (0, longest - len(array))) for array in packed]
        return [result for array in padded for result in evaluating.unpack(array)]

    return shared


def assert_shared_exactly(validate):
    expected = validate(evaluating.alone)
    assert all(np.isfinite(value) for value in expected.values())
    for processes in (2, 3, 20):  # more than batches
        assert validate(divided(processes)) == expected
