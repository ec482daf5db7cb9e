"""Evaluations that several processes share, which are threads here."""

from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from types import SimpleNamespace

import numpy as np

from unsup_video.training import distribution, evaluating


def divided(processes):
    """What `Trainer` gives to a task, with an exchange of arrays among threads."""

    def shared(evaluate, count):
        barrier, arrays = Barrier(processes, timeout=60), [None] * processes

        def process(index):
            def gathered(array):
                barrier.wait()  # until all have read what was exchanged before
                arrays[index] = array
                barrier.wait()
                return np.stack(arrays)

            return evaluating.joined(results[index], gathered)

        results = []
        for index in range(processes):
            resolver = SimpleNamespace(
                task_id=index,
                cluster_spec=lambda: SimpleNamespace(job_tasks=lambda job: range(processes)),
            )
            own = distribution.part_of(range(count), SimpleNamespace(cluster_resolver=resolver))
            assert count // processes <= len(own) <= -(-count // processes)
            results.append(list(evaluate(own)))
        with ThreadPoolExecutor(processes) as pool:
            first, *others = pool.map(process, range(processes))
        for other in others:
            assert [*map(sorted, other)] == [*map(sorted, first)]
        return first

    return shared


def assert_shared_exactly(validate):
    expected = validate(evaluating.alone)
    assert all(np.isfinite(value) for value in expected.values())
    for processes in (2, 3, 20):  # more than batches
        assert validate(divided(processes)) == expected
