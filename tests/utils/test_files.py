import errno
import fcntl
import gzip
import hashlib
import io
import multiprocessing
import os
import signal
import socket
import zipfile
from pathlib import Path

import numpy as np
import pytest

from unsup_video.utils import files


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.atomic_write(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_stands_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), files.atomic_write(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_and_other_errors_their_own(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"a\.txt: cannot be written \(No space left"):
        with files.atomic_write(tmp_path / "a.txt"):
            raise full
    with pytest.raises(FileNotFoundError, match="other"), files.atomic_write(tmp_path / "a.txt"):
        open(tmp_path / "other")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), files.atomic_write(tmp_path / "bad") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("1")
        raise RuntimeError
    with files.atomic_write(tmp_path / "good") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "x").write_text("1")
    assert [p.name for p in tmp_path.iterdir()] == ["good"]
    assert (tmp_path / "good" / "deep" / "x").read_text() == "1"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    writing = files.atomic_write(tmp_path / "a.txt")
    temporary = writing.__enter__()
    temporary.write_text("half")  # and the process dies here
    (tmp_path / "b.txt").write_text("mine")
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_leftovers_are_told_apart_by_name(tmp_path):
    for name in (".partial-7-a", ".partial-8-b-a", ".partial-9-a-b"):
        (tmp_path / name).touch()
    assert files.leftovers(tmp_path, "a") == [tmp_path / ".partial-7-a"]


def test_temporary_names_differ_between_machines_and_calls_with_one_process_number(
    tmp_path, monkeypatch
):
    monkeypatch.setattr(os, "getpid", lambda: 1)  # as in containers
    names = set()
    for host in ("one", "two.example-net.org"):
        monkeypatch.setattr(socket, "gethostname", lambda host=host: host)
        for _ in range(2):
            with files.atomic_write(tmp_path / "a-b") as temporary:
                temporary.write_text("x")
                [leftover] = files.leftovers(tmp_path, "a-b")
                assert temporary.is_relative_to(leftover)
                names.add(leftover.name)
                assert not files.leftovers(tmp_path, "b")
    assert len(names) == 4
    assert len({name.split("_1_")[0] for name in names}) == 2  # the hosts


def test_two_writers_at_once_leave_one_whole_file(tmp_path):
    with files.atomic_write(tmp_path / "a") as first:
        first.write_text("first")
        with files.atomic_write(tmp_path / "a") as second:
            second.write_text("second")
        assert (tmp_path / "a").read_text() == "second"
    assert [(p.name, p.read_text()) for p in tmp_path.iterdir()] == [("a", "first")]


@pytest.mark.parametrize("name", ["n" * 255, "ä" * 127 + "n", "n" * 251 + ".png"])
def test_the_longest_legal_name_can_be_written_and_its_leftovers_are_found(tmp_path, name):
    with files.atomic_write(tmp_path / name) as temporary:
        temporary.mkdir()
        assert temporary.suffix == Path(name).suffix
        [leftover] = files.leftovers(tmp_path, name)
        assert temporary.is_relative_to(leftover)
        assert not files.leftovers(tmp_path, "m" + name[1:])
    with (
        files.atomic_write(tmp_path / name, replace=True) as temporary,
        files.locked(tmp_path / name),
    ):
        temporary.mkdir()  # and replaced
    assert [p.name for p in tmp_path.iterdir()] == [name]


# ---------------------------------------------------------------------- replacing


def tree(folder):
    return {str(p.relative_to(folder)): p.read_text() for p in folder.rglob("*") if p.is_file()}


OLD, NEW = {"x": "old", "deep/y": "old"}, {"x": "new", "deep/z": "new"}


def fill(folder, content):
    for name, text in content.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(text)


def replace(path):
    with files.atomic_write(path, replace=True) as temporary:
        fill(temporary, NEW)


STEPS = ("fsync", "replace", "rename", "unlink", "rmdir", "mkdir")  # of os, that change the disk


def in_a_child_killed_at(step, function, *arguments):
    """Returns True if `function` ended before its `step`th change of the disk, which kills it."""

    def child():
        done = 0

        def counted(original):
            def call(*args, **kwargs):
                nonlocal done
                if done == step:
                    os.kill(os.getpid(), signal.SIGKILL)
                done += 1
                return original(*args, **kwargs)

            return call

        for name in STEPS:
            setattr(os, name, counted(getattr(os, name)))
        function(*arguments)

    process = multiprocessing.get_context("fork").Process(target=child)
    process.start()
    process.join()
    assert process.exitcode in (0, -signal.SIGKILL)
    return process.exitcode == 0


def test_wherever_a_replacement_is_killed_one_folder_is_whole_and_the_next_run_finds_it(tmp_path):
    found = []
    for step in range(100):
        folder = tmp_path / f"{step}" / "set"
        fill(folder, OLD)
        ended = in_a_child_killed_at(step, replace, folder)
        appeared = folder.exists() and tree(folder) == NEW
        files.recover(folder)
        found.append(tree(folder))
        assert found[-1] in (OLD, NEW)
        if appeared:  # the old one never comes back, also where the user deletes the new one
            files.shutil.move(folder, tmp_path / f"{step}" / "moved")
            files.recover(folder)
            assert not folder.exists()
            replace(folder)  # deletes what the process would have
            assert tree(folder.parent) == {
                f"{name}/{file}": text for name in ("moved", "set") for file, text in NEW.items()
            }
            files.shutil.rmtree(tmp_path / f"{step}" / "moved")
        files.remove_leftovers(folder.parent, "set")  # and nothing is left for ever
        assert [p.name for p in folder.parent.iterdir()] == ["set"] and tree(folder) == found[-1]
        if ended:
            break
    assert ended and OLD in found and NEW in found


@pytest.mark.parametrize("function", ["fsync", "replace"])
def test_wherever_a_replacement_fails_one_folder_is_whole(tmp_path, monkeypatch, function):
    original, failures = getattr(os, function), 0
    for step in range(100):
        folder = tmp_path / f"{step}" / "set"
        fill(folder, OLD)
        calls = iter(range(100))

        def failing(*arguments):
            if next(calls) == step:
                raise OSError(errno.ENOSPC, "No space left on device")
            return original(*arguments)

        with monkeypatch.context() as patch:
            patch.setattr(os, function, failing)
            try:
                replace(folder)
            except OSError as error:
                assert "set: cannot be written (No space" in error.strerror
                failures += 1
        assert tree(folder) in (OLD, NEW)
        if next(calls) <= step:
            break
    assert failures >= 2 and tree(folder) == NEW


def replace_with_an_interruption(folder, monkeypatch, interrupt):
    """Replaces `folder`; `interrupt()` is called once, while the old one has no name."""
    original, interrupted = os.replace, []

    def renaming(source, target):
        original(source, target)
        if Path(source) == folder and not interrupted:
            interrupted.append(True)
            interrupt()

    fill(folder, OLD)
    monkeypatch.setattr(os, "replace", renaming)
    replace(folder)
    assert interrupted


def test_a_reader_that_recovers_while_a_folder_is_replaced_does_no_harm(tmp_path, monkeypatch):
    def recover():
        files.recover(tmp_path / "set")
        assert tree(tmp_path / "set") == OLD

    replace_with_an_interruption(tmp_path / "set", monkeypatch, recover)
    assert tree(tmp_path) == {f"set/{name}": text for name, text in NEW.items()}


def killed_halfway(folder):
    """The temporary folder of a process that was killed when the old folder had no name."""
    for step in range(100):
        fill(folder, OLD)
        in_a_child_killed_at(step, replace, folder)
        if not folder.exists():
            [leftover] = files.leftovers(folder.parent, folder.name)
            return leftover / "new" / folder.name
        files.remove_leftovers(folder.parent, folder.name)
    raise AssertionError("it was never without a name")


def test_a_reader_that_recovers_too_late_does_no_harm(tmp_path, monkeypatch):
    new, original = killed_halfway(tmp_path / "set"), os.replace

    def late(source, target):
        original(new, tmp_path / "set")  # by the writer, which was not killed after all
        original(source, target)

    monkeypatch.setattr(os, "replace", late)
    files.recover(tmp_path / "set")
    assert tree(tmp_path / "set") == NEW


def test_of_two_that_replace_a_folder_at_once_the_last_one_stays(tmp_path, monkeypatch):
    replace_with_an_interruption(
        tmp_path / "set", monkeypatch, lambda: fill(tmp_path / "set", {"x": "another one's"})
    )
    assert tree(tmp_path) == {f"set/{name}": text for name, text in NEW.items()}


@pytest.mark.parametrize("moment", ["fsync", "replace"])
def test_a_folder_that_appears_meanwhile_is_kept(tmp_path, monkeypatch, moment):
    original = getattr(os, moment)

    def late(*arguments):
        fill(tmp_path / "set", OLD)
        return original(*arguments)

    with pytest.raises(OSError, match="set"), files.atomic_write(tmp_path / "set") as temporary:
        fill(temporary, NEW)
        monkeypatch.setattr(os, moment, late)
    assert tree(tmp_path) == {f"set/{name}": text for name, text in OLD.items()}


def test_a_folder_that_is_there_is_not_replaced_unasked(tmp_path):
    (tmp_path / "set").mkdir()
    with pytest.raises(FileExistsError), files.atomic_write(tmp_path / "set") as temporary:
        fill(temporary, NEW)
    assert tree(tmp_path) == {}


def test_what_cannot_be_deleted_does_not_hinder_later_ones(tmp_path, monkeypatch):
    """NFS renames a file that is deleted while a process has it open to .nfs.."""
    remove = files.shutil.rmtree

    def leaving(folder, ignore_errors=False):
        for path in Path(folder).rglob("x"):
            path.rename(path.with_name(".nfs0001"))
        if not list(Path(folder).rglob(".nfs*")):
            return remove(folder, ignore_errors)
        if not ignore_errors:
            raise OSError(errno.EBUSY, "Device or resource busy", folder)

    monkeypatch.setattr(files.shutil, "rmtree", leaving)
    fill(tmp_path / "set", OLD)
    for _ in range(3):
        replace(tmp_path / "set")
        assert tree(tmp_path / "set") == NEW
    files.discard(tmp_path / "set")
    assert not (tmp_path / "set").exists()
    monkeypatch.undo()
    files.remove_leftovers(tmp_path, "set")
    assert not list(tmp_path.iterdir())


@pytest.mark.parametrize("named", [True, False])
def test_a_folder_with_the_longest_name_gets_it_back(tmp_path, named):
    name = "n" * 255
    killed_halfway(tmp_path / name)
    files.remove_leftovers(tmp_path, name if named else None)
    assert tree(tmp_path) == {f"{name}/{file}": text for file, text in OLD.items()}


def test_a_linked_folder_is_written_and_replaced_where_it_is(tmp_path):
    disk = tmp_path / "disk"
    disk.mkdir()
    (tmp_path / "set").symlink_to(disk / "folder")  # to nothing yet
    for _ in range(2):
        with files.atomic_write(tmp_path / "set", replace=True) as temporary:
            fill(temporary, NEW)
            assert temporary.is_relative_to(disk)  # which may be another one
            assert files.leftovers(tmp_path, "set")
        assert (tmp_path / "set").is_symlink() and tree(disk) == {
            f"folder/{name}": text for name, text in NEW.items()
        }
    files.shutil.rmtree(disk / "folder")
    killed_halfway(disk / "folder")
    files.recover(tmp_path / "set")
    files.remove_leftovers(tmp_path, "set")
    assert tree(disk) == {f"folder/{name}": text for name, text in OLD.items()}


def test_a_link_to_a_file_is_replaced_and_not_the_file(tmp_path):
    (tmp_path / "a").write_text("mine")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    files.write_text(tmp_path / "b", "new")
    assert tree(tmp_path) == {"a": "mine", "b": "new"} and not (tmp_path / "b").is_symlink()


def test_foreign_files_go_on_in_the_folder_that_takes_the_place(tmp_path):
    fill(tmp_path / "old", {"x": "old", "log": "line", ".nfs01": "", "notes/a": "b"})
    fill(tmp_path / "new", {"x": "new"})
    os.mkfifo(tmp_path / "old" / "notes" / "pipe")
    (tmp_path / "old" / "link").symlink_to("nowhere")
    with open(tmp_path / "old" / "log", "a") as log:  # as a running job's
        files.keep_foreign(tmp_path / "old", tmp_path / "new", {"x"})
        log.write(" more")
    assert tree(tmp_path / "new") == {"x": "new", "log": "line more", "notes/a": "b"}
    assert os.readlink(tmp_path / "new" / "link") == "nowhere"
    with files.atomic_write(tmp_path / "again") as temporary:
        os.replace(tmp_path / "new", temporary)
    assert (tmp_path / "again" / "notes" / "pipe").is_fifo()


def test_wherever_setting_aside_is_killed_everything_is_there_or_all_of_it_aside(tmp_path):
    found = []
    aside = {"foreign": "mine", **{f".replaced/{name}": text for name, text in OLD.items()}}
    for step in range(100):
        folder = tmp_path / str(step)
        fill(folder, {**OLD, "foreign": "mine", ".replaced/z": "older"})
        ended = in_a_child_killed_at(step, files.set_aside, folder, ["x", "deep", "missing"])
        files.remove_leftovers(folder)
        files.put_back(folder)
        found.append(tree(folder))
        found[-1].pop(".replaced/z", None)
        assert found[-1] in ({**OLD, "foreign": "mine"}, aside)
        assert not (folder / ".replacing").exists()
        if ended:
            break
    assert ended and found[-1] == aside and found[0] != aside


def test_what_was_aside_before_is_kept_on_request(tmp_path):
    fill(tmp_path, {**OLD, "foreign": "mine", ".replaced/z": "older"})
    files.set_aside(tmp_path, ["x", "deep"], keep_earlier=True)
    assert tree(tmp_path) == {"foreign": "mine", ".replaced/z": "older"}
    fill(tmp_path, {"x": "newer"})
    files.set_aside(tmp_path, ["x"])
    assert tree(tmp_path) == {"foreign": "mine", ".replaced/x": "newer"}


# ---------------------------------------------------------------------- locks


def test_one_process_waits_for_the_other_and_no_lock_is_left(tmp_path):
    path = tmp_path / "result"
    context = multiprocessing.get_context("fork")
    inside, waited = context.Event(), context.Event()

    def first():
        with files.locked(path):
            inside.set()
            assert waited.wait(60)
            path.write_text("first")

    process = context.Process(target=first)
    process.start()
    assert inside.wait(60)
    with files.locked(path, waited.set):
        assert path.read_text() == "first"
    process.join()
    assert waited.is_set() and process.exitcode == 0
    assert list(tmp_path.iterdir()) == [path]


def test_a_killed_process_holds_no_lock(tmp_path):
    context = multiprocessing.get_context("fork")
    inside = context.Event()

    def hold():
        held = files.lock(tmp_path), files.locked(tmp_path / "a")
        held[1].__enter__()
        inside.set()
        signal.pause()

    process = context.Process(target=hold)
    process.start()
    assert inside.wait(60)
    with pytest.raises(ValueError, match="another process is at work there now"):
        files.lock(tmp_path)
    process.kill()
    process.join()
    files.lock(tmp_path).close()
    with files.locked(tmp_path / "a", lambda: pytest.fail("waits for a dead process")):
        assert True


def test_a_file_system_without_locks_is_named(tmp_path, monkeypatch):
    def refused(file, operation):
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", refused)
    for function in (lambda: files.lock(tmp_path), lambda: files.locked(tmp_path).__enter__()):
        with pytest.raises(OSError) as error:
            function()
        assert f"{tmp_path}: its file system has no locks (No locks av" in error.value.strerror


# ---------------------------------------------------------------------- reading


def test_what_has_no_end_is_not_read(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    for path in ("/dev/zero", tmp_path / "pipe"):
        for function in (files.sha256, lambda p: files.read(p, 1), files.read_arrays):
            with pytest.raises(ValueError, match=f"{path}: not a regular file"):
                function(path)


def test_a_compressed_file_is_read_up_to_the_limit(tmp_path):
    (tmp_path / "a.gz").write_bytes(gzip.compress(bytes(1 << 20)))
    assert files.read(tmp_path / "a.gz", 1000) == bytes(1000)
    assert len(files.read(tmp_path / "a.gz", 1 << 30)) == 1 << 20


def test_arrays_are_read_up_to_the_limit(tmp_path):
    small, large = np.arange(5), np.zeros((1 << 17,))
    np.savez(tmp_path / "stored.npz", small=small, large=large, names=np.array(["a", ""]))
    found = files.read_arrays(tmp_path / "stored.npz")
    np.testing.assert_array_equal(found["large"], large)
    assert found["names"].tolist() == ["a", ""] and list(found) == ["small", "large", "names"]
    np.savez_compressed(tmp_path / "a.npz", small=small, large=large)
    with pytest.raises(ValueError, match="large makes it larger than it may be"):
        files.read_arrays(tmp_path / "a.npz")
    assert list(files.read_arrays(tmp_path / "a.npz", {"small"}, 1000)) == ["small"]
    assert len(files.read_arrays(tmp_path / "a.npz", None, 2 << 20)) == 2


def test_an_array_whose_header_claims_too_much_is_not_allocated(tmp_path):
    header = io.BytesIO()
    fields = {"descr": "<f8", "fortran_order": False, "shape": (1 << 45,)}
    np.lib.format.write_array_header_1_0(header, fields)
    with zipfile.ZipFile(tmp_path / "a.npz", "w") as archive:
        archive.writestr("x.npy", header.getvalue() + bytes(80))
    with pytest.raises(ValueError, match="x is cut short"):
        files.read_arrays(tmp_path / "a.npz")


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"some bytes" * 1000)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"some bytes" * 1000).hexdigest()


def test_names_of_what_is_made_are_legal_and_differ(tmp_path):
    assert files.safe_path("archery/my video (1).avi#3", ".gif").as_posix() == (
        "archery/my video (1).avi#3.gif"
    )
    names = [
        "a#1",
        "a&1",
        "a(1",
        "a/1",
        "a_1",
        "x" * 240,
        "x" * 239 + "y",
        "x" * 240 + "/z",
        "日" * 80,
        "../a",
        "/a",
        "a",
        "a//b",
        "",
        ".a",
        "a\nb",
        "a\tb",
        "\udce9",
        "\udcea",
        "..",
        "b/..",
    ]
    paths = [files.safe_path(name, ".png") for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        assert (tmp_path / path).resolve().is_relative_to(tmp_path) and path.suffix == ".png"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(tmp_path / path, "")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(names)
