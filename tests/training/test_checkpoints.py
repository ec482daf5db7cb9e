import errno
import json
from pathlib import Path

import numpy as np
import pytest

from unsup_video.training import checkpoints
from unsup_video.utils import files


def arrays(value):
    return {"model/a": np.full((3, 2), value, "float32"), "optimizer/000/n": np.int64(value)}


def test_round_trip_is_exact(tmp_path):
    rng = np.random.default_rng(0)
    saved = {"model/w": rng.normal(size=(4, 5)).astype("float32"), "iteration": np.int64(7)}
    path = checkpoints.save(tmp_path, 7, saved, {"best": {"score": 0.1 + 0.2}, "sums": {}})
    step, loaded, meta = checkpoints.restore(path)
    assert step == 7 and meta == {"best": {"score": 0.1 + 0.2}, "sums": {}}
    assert loaded.keys() == saved.keys()
    for name, value in saved.items():
        np.testing.assert_array_equal(loaded[name], value)
        assert loaded[name].dtype == value.dtype


def test_the_newest_two_and_the_best_are_kept(tmp_path):
    for step in (1, 2, 3, 4):
        checkpoints.save(tmp_path, step, arrays(step), {})
    for step in (2, 3):
        checkpoints.save_best(tmp_path, step, arrays(step), {})
    names = sorted(p.name for p in tmp_path.iterdir())
    assert names == ["best-00000003", "step-00000003", "step-00000004"]
    assert checkpoints.latest(tmp_path).name == "step-00000004"
    assert checkpoints.best(tmp_path).name == "best-00000003"


def test_the_best_of_every_step_that_a_run_can_be_resumed_from_is_kept(tmp_path):
    def names():
        return sorted(p.name for p in tmp_path.iterdir())

    checkpoints.save_best(tmp_path, 2, arrays(2), {})
    checkpoints.save(tmp_path, 3, arrays(3), {})
    checkpoints.save_best(tmp_path, 4, arrays(4), {})
    checkpoints.save_best(tmp_path, 5, arrays(5), {})
    # A run that is killed now goes on from step 3, where 2 was the best; 4 is behind either.
    assert names() == ["best-00000002", "best-00000005", "step-00000003"]
    assert checkpoints.best(tmp_path).name == "best-00000005"
    checkpoints.discard_after(tmp_path, 3)
    assert checkpoints.best(tmp_path).name == "best-00000002"

    checkpoints.save_best(tmp_path, 4, arrays(4), {})
    checkpoints.save(tmp_path, 6, arrays(6), {})
    assert "best-00000002" in names()  # step 6 could be damaged
    checkpoints.save(tmp_path, 9, arrays(9), {})
    assert names() == ["best-00000004", "step-00000006", "step-00000009"]


def test_steps_are_numbers_and_other_files_are_left_alone(tmp_path):
    foreign = [".DS_Store", ".nfs0001", "step-00000005.tar", "step-final", "best-00000003 copy"]
    for name in foreign:
        (tmp_path / name).write_text("")
    (tmp_path / "step-00000009 copy").mkdir()
    for step in (99_999_999, 100_000_000, 100_000_001):
        checkpoints.save(tmp_path, step, arrays(step), {})
        checkpoints.save_best(tmp_path, step, arrays(step), {})
    assert checkpoints.latest(tmp_path).name == "step-100000001"
    assert checkpoints.best(tmp_path).name == "best-100000001"
    checkpoints.discard_after(tmp_path, 100_000_000)
    assert sorted(p.name for p in tmp_path.iterdir()) == sorted(
        [*foreign, "step-00000009 copy", "step-100000000", "best-100000000"]
    )


def flip_a_byte(path):
    data = bytearray(path.read_bytes())
    data[len(data) // 2] ^= 1
    path.write_bytes(data)


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: flip_a_byte(folder / "arrays.npz"),
        lambda folder: (folder / "arrays.npz").write_bytes(b"short"),
        lambda folder: (folder / "arrays.npz").unlink(),
        lambda folder: (folder / "checkpoint.json").write_text('{"step": 2, '),
        lambda folder: (folder / "checkpoint.json").unlink(),
    ],
)
def test_a_damaged_latest_checkpoint_falls_back_with_a_warning(tmp_path, damage):
    checkpoints.save(tmp_path, 1, arrays(1), {})
    damage(checkpoints.save(tmp_path, 2, arrays(2), {}))
    with pytest.warns(UserWarning, match="step-00000002.*trying the checkpoint before"):
        path = checkpoints.latest(tmp_path)
    assert checkpoints.restore(path)[0] == 1
    with pytest.raises(checkpoints.CheckpointError, match="step-00000002"):
        checkpoints.restore(tmp_path / "step-00000002")


def test_a_full_disk_keeps_the_previous_checkpoint(tmp_path, monkeypatch):
    checkpoints.save(tmp_path, 1, arrays(1), {})

    def full(path, **arrays):
        path.write_bytes(b"half of the da")
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(np, "savez", full)
    message = "step-00000002: cannot be written .*No space left.*kept: step-00000001"
    with pytest.raises(OSError, match=message):
        checkpoints.save(tmp_path, 2, arrays(2), {})
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]
    assert checkpoints.restore(checkpoints.latest(tmp_path))[0] == 1


@pytest.mark.parametrize("file", ["arrays.npz", "checkpoint.json"])
def test_a_file_that_cannot_be_read_now_does_not_count_as_damaged(tmp_path, monkeypatch, file):
    """`latest` would fall back, and a run that resumes removes what is newer."""
    for step in (1, 2):
        path = checkpoints.save(tmp_path, step, arrays(step), {})

    def stale(*arguments):
        raise OSError(errno.ESTALE, "Stale file handle", str(path / file))

    with monkeypatch.context() as patched:
        if file == "arrays.npz":
            patched.setattr(files, "sha256", stale)
        else:
            patched.setattr(Path, "read_text", stale)
        with pytest.raises(OSError, match="Stale file handle") as error:
            checkpoints.latest(tmp_path)
    assert not isinstance(error.value, checkpoints.CheckpointError)
    assert checkpoints.latest(tmp_path) == path


def test_all_damaged_is_an_error(tmp_path):
    flip_a_byte(checkpoints.save(tmp_path, 1, arrays(1), {}) / "arrays.npz")
    with (
        pytest.warns(UserWarning),
        pytest.raises(checkpoints.CheckpointError, match="every checkpoint is damaged"),
    ):
        checkpoints.latest(tmp_path)


def test_what_is_newer_than_the_resumed_step_goes(tmp_path):
    for step in (1, 2):
        checkpoints.save(tmp_path, step, arrays(step), {})
    checkpoints.save_best(tmp_path, 2, arrays(2), {})
    checkpoints.discard_after(tmp_path, 1)
    assert [p.name for p in tmp_path.iterdir()] == ["step-00000001"]


def test_no_checkpoints(tmp_path):
    assert checkpoints.latest(tmp_path / "none") is None
    with pytest.raises(FileNotFoundError, match="no best checkpoint"):
        checkpoints.best(tmp_path)


def test_the_stored_sum_is_that_of_the_file(tmp_path):
    path = checkpoints.save(tmp_path, 1, arrays(1), {})
    stored = json.loads((path / "checkpoint.json").read_text())
    from unsup_video.utils.files import sha256

    assert stored["sha256"] == sha256(path / "arrays.npz")
