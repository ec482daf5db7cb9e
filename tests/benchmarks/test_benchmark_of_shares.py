"""What `benchmarks.shares` counts, by hand, in one process that plays both of two."""

from pathlib import Path

import pytest
import tensorflow as tf

from benchmarks import shares
from unsup_video.data import frames, moving_mnist


@pytest.fixture
def counts(monkeypatch):
    for module, name in (moving_mnist, "_graph"), (frames, "_MEMORY"), (frames.Frames, "read"):
        monkeypatch.setattr(module, name, getattr(module, name))  # restores what `shares` replaces
    monkeypatch.setattr(shares, "_BATCH", 8)
    return shares.Counts()


def measured(kind, folder, counts, processes, index):
    context = tf.distribute.InputContext(processes, index, num_replicas_in_sync=processes)
    return shares.measure(kind, str(folder), 3, context, counts)


@pytest.mark.slow
@pytest.mark.skipif(not Path("/proc/self/io").exists(), reason="no /proc/self/io")
def test_a_process_of_two_makes_and_reads_half_of_each_batch(tmp_path, counts):
    shares.store(str(tmp_path), 40)
    # The pipeline may work further ahead at the end than at the start.
    assert measured("generated", tmp_path, counts, 2, 1)["clips"] == pytest.approx(4, abs=1.5)
    whole = measured("records raw", tmp_path, counts, 1, 0)
    half = measured("records raw", tmp_path, counts, 2, 0)
    assert whole["clips"] == pytest.approx(8, abs=1.5)
    assert half["clips"] == pytest.approx(4, abs=1.5)
    clip = 20 * 64 * 64  # bytes of frames that a window takes from its record
    assert 8 * clip <= whole["bytes"] < 2 * 8 * clip and 4 * clip <= half["bytes"] < whole["bytes"]
    held = measured("records GZIP, held in memory", tmp_path, counts, 1, 0)
    assert held["bytes"] < clip < held["first"]
