import errno
import hashlib
import os

import pytest

from unsup_video import files


def test_a_file_appears_whole_and_replaces_the_old_one(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with files.whole(path) as temporary:
        temporary.write_text("new")
        assert path.read_text() == "old"
    assert path.read_text() == "new"
    assert list(tmp_path.iterdir()) == [path]


def test_after_an_error_the_old_file_stands_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")
    with pytest.raises(RuntimeError, match="halfway"), files.whole(path) as temporary:
        temporary.write_text("half")
        raise RuntimeError("halfway")
    assert path.read_text() == "old"
    assert list(tmp_path.iterdir()) == [path]


def test_a_full_disk_names_the_file_and_other_errors_their_own(tmp_path):
    full = OSError(errno.ENOSPC, "No space left on device")
    with pytest.raises(OSError, match=r"a\.txt: cannot be written \(No space left"):
        with files.whole(tmp_path / "a.txt"):
            raise full
    with pytest.raises(FileNotFoundError, match="other"), files.whole(tmp_path / "a.txt"):
        open(tmp_path / "other")


def test_a_folder_appears_whole_or_not_at_all(tmp_path):
    with pytest.raises(RuntimeError), files.whole(tmp_path / "bad") as temporary:
        temporary.mkdir()
        (temporary / "x").write_text("1")
        raise RuntimeError
    with files.whole(tmp_path / "good") as temporary:
        (temporary / "deep").mkdir(parents=True)
        (temporary / "deep" / "x").write_text("1")
    assert [p.name for p in tmp_path.iterdir()] == ["good"]
    assert (tmp_path / "good" / "deep" / "x").read_text() == "1"


def test_leftovers_of_a_killed_process_are_removed(tmp_path):
    writing = files.whole(tmp_path / "a.txt")
    temporary = writing.__enter__()
    temporary.write_text("half")  # and the process dies here
    (tmp_path / "b.txt").write_text("mine")
    files.remove_leftovers(tmp_path)
    assert [p.name for p in tmp_path.iterdir()] == ["b.txt"]


def test_leftovers_are_told_apart_by_name(tmp_path):
    for name in (".partial-7-a", ".partial-8-b-a", ".partial-9-a-b"):
        (tmp_path / name).touch()
    assert files.leftovers(tmp_path, "a") == [tmp_path / ".partial-7-a"]


def test_a_leftover_of_the_same_process_number_is_no_obstacle(tmp_path):
    leftover = tmp_path / f".partial-{os.getpid()}-a"
    (leftover / "deep").mkdir(parents=True)
    with files.whole(tmp_path / "a") as temporary:
        temporary.mkdir()
    assert list(tmp_path.rglob("*")) == [tmp_path / "a"]


def test_sha256(tmp_path):
    (tmp_path / "a").write_bytes(b"some bytes" * 1000)
    assert files.sha256(tmp_path / "a") == hashlib.sha256(b"some bytes" * 1000).hexdigest()


def test_names_of_what_is_made_are_legal_and_differ(tmp_path):
    assert files.derived("archery/my video (1).avi#3", ".gif").as_posix() == (
        "archery/my video (1).avi#3.gif"
    )
    names = ["a#1", "a&1", "a(1", "a/1", "a_1", "x" * 240, "x" * 239 + "y", "x" * 240 + "/z",
             "日" * 80, "../a", "/a", "a", "a//b", "", ".a", "a\nb", "a\tb", "\udce9", "\udcea", "..",
             "b/.."]
    paths = [files.derived(name, ".png") for name in names]
    assert len(set(paths)) == len(names)
    for path in paths:
        assert (tmp_path / path).resolve().is_relative_to(tmp_path) and path.suffix == ".png"
        (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
        files.write_text(tmp_path / path, "")
    assert len([path for path in tmp_path.rglob("*") if path.is_file()]) == len(names)
