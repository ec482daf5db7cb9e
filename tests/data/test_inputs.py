"""Files that other people made: text files, labels, and folders with all that is in them."""

import os
import threading
from pathlib import Path

import h5py
import numpy as np
import pytest

from unsup_video.data import convert, folders, labelling, text
from unsup_video.evaluation import predictions
from unsup_video.serving import client
from unsup_video.video import inputs, listing

# ---------------------------------------------------------------------- text files


@pytest.mark.parametrize(
    "data, expected",
    [
        (b"\xef\xbb\xbfa b\r\n\r\n  c \r\n", [(1, "a b"), (3, "c")]),
        ("a\u2028b\x0bc\x85d\re\nf".encode(), [(1, "a\u2028b\x0bc\x85d\re"), (2, "f")]),
        (b"", []),
        (b"\n \t\n", []),
    ],
)
def test_lines(tmp_path, data, expected):
    (tmp_path / "a.txt").write_bytes(data)
    assert text.lines(tmp_path / "a.txt") == expected


@pytest.mark.parametrize(
    "data, line, byte", [(b"a\nb\nc\xe9 d\n", 3, "e9"), ("a\n".encode("utf-16"), 1, "ff")]
)
def test_what_is_not_utf_8_is_named_with_its_line(tmp_path, data, line, byte):
    path = tmp_path / "a.txt"
    path.write_bytes(data)
    np.save(tmp_path / "a.npy", np.ones((3, 2, 2), np.float32))
    readers = [
        lambda: text.lines(path),
        lambda: listing.text_list(path),
        *(
            lambda key=key: convert.read(tmp_path / "a.npy", **{key: path})
            for key in ("labels", "names")
        ),
    ]
    for read in readers:
        with pytest.raises(ValueError, match=f"a.txt, line {line}: not a text .*0x{byte}"):
            read()


def test_every_reader_takes_a_byte_order_mark(tmp_path):
    np.save(tmp_path / "a.npy", np.ones((2, 2, 2), np.float32))

    def marked(name, content):
        (tmp_path / name).write_text(content, encoding="utf-8-sig")
        return tmp_path / name

    found = convert.read(
        tmp_path / "a.npy",
        labels=marked("labels", "run\nhop\n"),
        names=marked("names", "v\nw\n"),
        classes=marked("classes", "run\nhop\n"),
    )
    assert [(r.name, found.classes[r.label]) for r in found.records] == [("v", "run"), ("w", "hop")]


def test_a_pipe_is_a_text_file(tmp_path):
    os.mkfifo(tmp_path / "pipe")
    writer = threading.Thread(target=lambda: (tmp_path / "pipe").write_text("a\nb\n"))
    writer.start()
    assert text.lines(tmp_path / "pipe") == [(1, "a"), (2, "b")]
    writer.join()


def test_a_text_file_without_an_end(tmp_path, monkeypatch):
    np.save(tmp_path / "a.npy", np.ones((2, 2, 2), np.float32))
    monkeypatch.setattr(text, "_LIMIT", 3 << 20, raising=False)
    monkeypatch.setattr(Path, "read_bytes", lambda path: pytest.fail("reads without a limit"))
    for read in (
        text.lines,
        listing.text_list,
        *(
            lambda path, key=key: convert.read(tmp_path / "a.npy", **{key: path})
            for key in ("labels", "names", "classes")
        ),
    ):
        with pytest.raises(ValueError, match="/dev/zero: more than 3 MiB: a text file of lines is"):
            read("/dev/zero")


# ---------------------------------------------------------------------- labels


@pytest.mark.parametrize(
    "labels, expected",
    [
        (["10", "9", "0"], {"0": 0, "9": 9, "10": 10}),
        (["01", "02"], {"01": 1, "02": 2}),
        ([], {}),
        (["1_2", "3_4"], None),
        (["2020_01_02"], None),
        (["+1"], None),
        (["\u0661"], None),
        (["1", "a"], None),
        (["1e3"], None),
        (["\uff11"], None),
        (["10_m_run", "high jump"], None),
    ],
)
def test_numbers(labels, expected):
    assert labelling.numbers(labels) == expected


@pytest.mark.parametrize(
    "labels, message",
    [
        (["1", "01", "2"], "labels 01 and 1 are one number"),
        (["0", "-0"], "-0 and 0 are one number"),
        (["3", "-2"], "label -2, -1 .none. or more"),
        *(
            ([label], f"{label}', a number beside another field, .* PATH FRAMES LABEL")
            for label in (
                "120 jump",
                "jump 120",
                "0.5 3.2 jump",
                "120,3",
                "120, 3",
                "120;jump",
                "-1 .5",
                "3,",
                " 3",
            )
        ),
    ],
)
def test_numbers_that_are_refused(labels, message):
    with pytest.raises(ValueError, match=message):
        labelling.numbers(labels)


@pytest.mark.parametrize(
    "first, second",
    [
        ("jump 120", "jump 95"),
        ("0.5 3.2 jump", "0.1 3.1 jump"),
        ("120 jump", "95 run"),
        ("120,3", "95,1"),
        ("3 0", "1 0"),
    ],
)
def test_annotation_lists_are_no_classes(tmp_path, first, second):
    """Whatever the column is that is no label, and whatever file they are in."""
    for name in "ab":
        (tmp_path / f"{name}.avi").touch()
    (tmp_path / "list").write_text(f"a.avi {first}\nb.avi {second}\n")
    with pytest.raises(ValueError, match=f"list, line 1: '{first}', a number beside"):
        listing.text_list(tmp_path / "list")
    videos = np.ones((2, 2, 2), np.float32)
    np.save(tmp_path / "a.npy", videos)
    labels = tmp_path / "labels"
    labels.write_text(f"{first}\n{second}\n")
    with pytest.raises(ValueError, match=f"labels, line 1: '{first}', a number beside"):
        convert.read(tmp_path / "a.npy", labels=labels)
    np.savez(tmp_path / "a.npz", X=videos, label=[first, second])
    with pytest.raises(ValueError, match="a.npz: '.*', a number beside"):
        convert.read(tmp_path / "a.npz")
    (tmp_path / "classes").write_text(f"0 {first}\n1 {second}\n")  # which says that they are
    for path, more in ((tmp_path / "a.npy", {"labels": labels}), (tmp_path / "a.npz", {})):
        found = convert.read(path, classes=tmp_path / "classes", **more)
        assert found.classes == (first, second)
        assert [record.label for record in found.records] == [0, 1]


def test_labels_of_arrays_are_numbers_only_where_they_look_so(tmp_path):
    def classes_of(*labels):
        np.savez(
            tmp_path / "a.npz", X=np.ones((len(labels), 2, 2), np.float32), label=np.array(labels)
        )
        found = convert.read(tmp_path / "a.npz")
        return found.classes, [record.label for record in found.records]

    assert classes_of("1_2", "3_4") == (("1_2", "3_4"), [0, 1])
    assert classes_of("-1", "2020_01_02") == (("2020_01_02",), [-1, 0])
    assert classes_of("2", "0", "-1") == (("0", "1", "2"), [2, 0, -1])
    assert classes_of(2, 0, -1) == (("0", "1", "2"), [2, 0, -1])
    with pytest.raises(ValueError, match="01 and 1 are one number"):
        classes_of("01", "1")
    with pytest.raises(ValueError, match="label 20200102: .* 20,200,103 of them, .* only 2 are"):
        classes_of(20200102, 3)


def test_numbers_that_are_names_make_no_empty_classes(tmp_path):
    """Years, for example: all numbers from 0 on would be classes."""
    videos = np.ones((2, 2, 2), np.float32)
    np.save(tmp_path / "a.npy", videos)
    np.savez(tmp_path / "text.npz", X=videos, label=["2020", "2019"])
    np.savez(tmp_path / "numbers.npz", X=videos, label=[2020, 2019])
    (tmp_path / "labels").write_text("2020\n2019\n")
    (tmp_path / "classes").write_text("2019 2019\n2020 2020\n")
    for name, more in (
        ("a.npy", {"labels": tmp_path / "labels"}),
        ("text.npz", {}),
        ("numbers.npz", {}),
    ):
        with pytest.raises(ValueError, match="2,021 of them, of which only 2 are .*--classes"):
            convert.read(tmp_path / name, **more)
        found = convert.read(tmp_path / name, classes=tmp_path / "classes", **more)
        assert found.classes == ("2019", "2020")
        assert [record.label for record in found.records] == [1, 0]


def test_names_of_folders_are_names(tmp_path):
    names = ["01", "1", "1_2", "2019", "2020", "-1"]
    for name in names:
        (tmp_path / name).mkdir()
        np.save(tmp_path / name / "a.npy", np.ones((2, 2), np.float32))
        (tmp_path / name / "a.avi").touch()
    found = convert.read(tmp_path)
    assert found.classes == listing.folder(tmp_path).classes == tuple(sorted(names))
    assert [found.classes[r.label] for r in found.records] == sorted(names)
    assert [v.label for v in listing.folder(tmp_path).videos] == list(range(6))


def test_lists_with_other_columns_are_refused_with_the_line(tmp_path):
    for name in "ab":
        (tmp_path / f"{name}.avi").touch()
    (tmp_path / "list").write_text("a.avi 0\nb.avi 120 3\n")
    with pytest.raises(ValueError, match="list, line 2: '120 3', .*PATH FRAMES"):
        listing.text_list(tmp_path / "list")
    (tmp_path / "list").write_text("a.avi high jump\nb.avi -1\n")  # a name may have spaces
    found = listing.text_list(tmp_path / "list")
    assert found.classes == ("high jump",) and [v.label for v in found.videos] == [0, -1]
    np.save(tmp_path / "a.npy", np.ones((2, 2, 2), np.float32))
    (tmp_path / "labels").write_text("3\n120 3\n")
    with pytest.raises(ValueError, match="labels, line 2: '120 3', a number beside"):
        convert.read(tmp_path / "a.npy", labels=tmp_path / "labels")


def test_two_spellings_of_a_number_in_a_list(tmp_path):
    for name in "abcd":
        (tmp_path / f"{name}.avi").touch()
    (tmp_path / "list").write_text("a.avi 01\nb.avi 1\nc.avi 2\nd.avi 02\n")
    with pytest.raises(ValueError, match="list: labels 01 and 1 are one number"):
        listing.text_list(tmp_path / "list")
    (tmp_path / "list").write_text("a.avi 01\nb.avi 10\nc.avi 02\nd.avi -1\n")
    found = listing.text_list(tmp_path / "list")
    assert found.classes == ("01", "02", "10")
    assert [v.label for v in found.videos] == [0, 2, 1, -1]


@pytest.mark.parametrize("lines", ["1 a\n01 b\n", "1 a\n2 a\n", "a\nb\na\n"])
def test_class_files_that_name_one_class_twice(tmp_path, lines):
    np.save(tmp_path / "a.npy", np.ones((1, 2, 2), np.float32))
    (tmp_path / "classes").write_text(lines)
    (tmp_path / "labels").write_text("1\n")
    with pytest.raises(ValueError, match=r"classes, line [23]: .* is there twice"):
        convert.read(tmp_path / "a.npy", labels=tmp_path / "labels", classes=tmp_path / "classes")


def test_unknown_arrays_are_refused_by_name(tmp_path):
    np.savez(tmp_path / "a.npz", X=np.ones((2, 2, 2), np.float32), labels=[0, 1], fps=25)
    with pytest.raises(ValueError, match="arrays labels, fps are not known, only X, .*label"):
        convert.read(tmp_path / "a.npz")


# ---------------------------------------------------------------------- folders


@pytest.fixture
def folder(tmp_path):
    """A folder as other programs leave them: hidden files and folders, links, other files."""
    for name in (
        "in/a/1.npy",
        "in/a/2.NPY",
        "in/a/._1.npy",
        "in/.ipynb_checkpoints/1.npy",
        "in/notes.txt",
        "elsewhere/b/3.npy",
    ):
        path = tmp_path / name
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(path, "wb") as file:
            np.save(file, np.ones((2, 2), np.float32))
    (tmp_path / "in" / "linked").symlink_to(tmp_path / "elsewhere")
    (tmp_path / "elsewhere" / "back").symlink_to(tmp_path / "in")
    (tmp_path / "in" / "gone.npy").symlink_to(tmp_path / "nothing")
    (tmp_path / "in" / "loop.npy").symlink_to(tmp_path / "in" / "loop.npy")
    os.mkfifo(tmp_path / "in" / "pipe.npy")
    return tmp_path / "in"


USED = ["a/1.npy", "a/2.NPY", "linked/b/3.npy"]
UNUSED = (
    ".ipynb_checkpoints/",
    "a/._1.npy",
    "gone.npy (a link to nothing)",
    "linked/back/ (a link to a folder that it is in)",
    "loop.npy (a link to nothing)",
    "notes.txt",
    "pipe.npy (no file)",
)


def test_one_listing_for_all_commands(folder):
    found, unused = folders.files(folder, (".npy",))
    assert list(found) == USED and unused == UNUSED
    assert [str(path) for path in found.values()] == [str(folder / name) for name in USED]
    converted = convert.read(folder)
    assert [record.name for record in converted.records] == ["a/1", "a/2", "linked/b/3"]
    assert converted.classes == ("a", "linked") and converted.ignored == UNUSED
    paths, unused = predictions.find(folder)
    assert paths == list(found.values()) and unused == UNUSED
    for path in found.values():
        path.rename(path.with_suffix(".AVI"))
    listed = listing.folder(folder)
    assert [video.name for video in listed.videos] == ["a/1.AVI", "a/2.AVI", "linked/b/3.AVI"]
    assert set(UNUSED) - set(listed.ignored) == {
        "gone.npy (a link to nothing)",
        "loop.npy (a link to nothing)",
        "pipe.npy (no file)",
    }  # which are no videos by their name


def test_a_folder_that_cannot_be_read_is_named(folder, monkeypatch):
    listdir = os.listdir

    def refusing(path):
        if str(path).endswith("linked"):
            raise PermissionError(13, "Permission denied", str(path))
        return listdir(path)

    monkeypatch.setattr(os, "listdir", refusing)  # the tests may run as root, whom all is open to
    for read in (convert.read, predictions.find, listing.folder):
        with pytest.raises(OSError, match="linked: the folder cannot be read .Permission denied"):
            read(folder)


def test_names_that_are_not_utf_8(tmp_path):
    open(os.fsencode(tmp_path) + b"/\xe9.txt", "w").close()
    assert folders.files(tmp_path, (".npy",)) == ({}, ("\\udce9.txt",))  # and it can be printed
    open(os.fsencode(tmp_path) + b"/\xe9.npy", "w").close()
    for read in (convert.read, predictions.find):
        with pytest.raises(ValueError, match=r"udce9.npy': its name is not UTF-8; rename it"):
            read(tmp_path)


def test_hidden_split_files_are_no_classes(tmp_path):
    (tmp_path / "v").mkdir()
    (tmp_path / "v" / "A_run_f_cm_np1_le_med_4.avi").touch()
    for k in (1, 2, 3):
        for name in ("run", "._run"):
            (tmp_path / f"{name}_test_split{k}.txt").write_text("A_run_f_cm_np1_le_med_4.avi 1\n")
    found = listing.hmdb51(tmp_path / "v", tmp_path, allow_missing=True)
    assert found.classes == ("run",)


def test_suffixes_in_upper_case(tmp_path):
    with open(tmp_path / "A.NPY", "wb") as file:
        np.save(file, np.ones((3, 2, 2), np.float32))
    with open(tmp_path / "A.NPZ", "wb") as file:
        np.savez(file, X=np.ones((3, 2, 2), np.float32))
    with h5py.File(tmp_path / "A.H5", "w") as file:
        file["x"] = np.ones((3, 2), np.float32)
    (tmp_path / "A.TXT").write_text("A.H5\n")
    (tmp_path / "counts").write_text("2\n1\n")
    for name, count, more in (
        ("A.NPY", 3, {}),
        ("A.NPZ", 3, {}),
        ("A.TXT", 1, {}),
        ("A.H5", 2, {"num_frames": tmp_path / "counts"}),
    ):
        assert len(list(convert.read(tmp_path / name, **more).records)) == count
    clips = client.stacked(inputs.clips(tmp_path / "A.NPY", (2,)))
    assert clips.shape == (3, 2, 2)
    client.write(tmp_path / "B.NPZ", {"states": clips}, clips, clips)
    np.testing.assert_array_equal(np.load(tmp_path / "B.NPZ")["states"], clips)
