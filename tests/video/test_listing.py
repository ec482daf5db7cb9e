import importlib
import os
import sys
from collections import Counter
from pathlib import Path

import cv2
import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver

from unsup_video.video import listing
from unsup_video.video.decoding import VideoError, frames
from unsup_video.video.listing import TEST, TRAIN, Video


def touch(folder, *names):
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.touch()
    return folder


def text(path, *lines, end="\n"):
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes("".join(line + end for line in lines).encode())
    return path


def names(found):
    return [video.name for video in found.videos]


def test_a_stamp_changes_with_an_image_of_a_folder(tmp_path):
    folder = touch(tmp_path, "clip/1.png", "clip/2.png", "clip/.hidden", "empty/.hidden") / "clip"
    for number in (1, 2):
        (folder / f"{number}.png").write_bytes(bytes(10 * number))
        os.utime(folder / f"{number}.png", ns=(0, number))
    os.utime(folder, ns=(0, 1))
    assert listing.last_change(folder) == (30, 2)
    assert listing.last_change(folder / "1.png") == (10, 1)
    stamps = [listing.stamp([Video(str(folder), "clip")])]
    os.utime(folder / "1.png", ns=(0, 3))  # overwritten, which changes nothing of the folder
    assert os.stat(folder).st_mtime_ns == 1
    stamps.append(listing.stamp([Video(str(folder), "clip")]))
    (folder / "1.png").rename(folder / "3.png")  # which changes no file
    stamps.append(listing.stamp([Video(str(folder), "clip")]))
    assert len(set(stamps)) == 3
    with pytest.raises(FileNotFoundError, match="no files in it"):
        listing.last_change(tmp_path / "empty")


# ---------------------------------------------------------------------- folders


def test_folder(tmp_path):
    touch(
        tmp_path,
        "b/2.avi",
        "b/1.MP4",
        "a c/x/deep.webm",
        "top.mov",
        "b/notes.txt",
        "b/._1.mp4",
        ".DS_Store",
    )
    found = listing.folder(tmp_path)
    assert found.classes == ("a c", "b")
    assert found.videos == tuple(
        Video(str(tmp_path / name), name, label)
        for name, label in [("a c/x/deep.webm", 0), ("b/1.MP4", 1), ("b/2.avi", 1), ("top.mov", -1)]
    )
    assert found.ignored == (".DS_Store", "b/._1.mp4", "b/notes.txt") and found.missing == ()
    assert (found.kind, found.source) == ("folder", {"videos": str(tmp_path)})


def test_folder_without_labels(tmp_path):
    found = listing.folder(touch(tmp_path, "b.avi", "a.avi"))
    assert names(found) == ["a.avi", "b.avi"] and found.classes == ()
    assert [video.label for video in found.videos] == [-1, -1]


def test_folder_with_links(tmp_path):
    touch(tmp_path / "real", "1.avi")
    (tmp_path / "data").mkdir()
    (tmp_path / "data" / "a").symlink_to(tmp_path / "real")
    (tmp_path / "data" / "b").symlink_to(tmp_path / "real")
    (tmp_path / "real" / "loop").symlink_to(tmp_path / "data" / "a")
    (tmp_path / "real" / "up").symlink_to(tmp_path / "data")
    assert names(listing.folder(tmp_path / "data")) == ["a/1.avi", "b/1.avi"]


def test_folders_that_hold_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        listing.folder(tmp_path / "nowhere")
    with pytest.raises(ValueError, match=r"no video \(extensions known: .*\.avi"):
        listing.folder(tmp_path)
    with pytest.raises(ValueError, match=r"no video \(not used: a.txt, b.jpg; extensions known"):
        listing.folder(touch(tmp_path, "a.txt", "b.jpg"))


def test_names_that_cannot_be_stored(tmp_path):
    os.mkdir(tmp_path / "a")
    open(os.fsencode(tmp_path / "a") + b"/\xe9.avi", "w").close()
    with pytest.raises(ValueError, match="not UTF-8; rename it"):
        listing.folder(tmp_path)


# ---------------------------------------------------------------------- lists


def test_text_list(tmp_path):
    touch(tmp_path / "v", "b.avi", "a b.mp4", "c.avi d.avi", "#1.mov", "e.avi")
    path = text(
        tmp_path / "v" / "list.txt",
        "b.avi jump",
        "",
        "a b.mp4   long jump ",
        "c.avi d.avi",
        "#1.mov\tjump",
        str(tmp_path / "v" / "e.avi") + " run",
        end="\r\n",
    )
    found = listing.text_list(path)
    assert found.classes == ("jump", "long jump", "run")
    assert [(video.name, video.label) for video in found.videos] == [
        ("b.avi", 0),
        ("a b.mp4", 1),
        ("c.avi d.avi", -1),
        ("#1.mov", 0),
        (str(tmp_path / "v" / "e.avi"), 2),
    ]
    assert all(Path(video.path).is_file() for video in found.videos)


def test_numbers_as_labels_are_sorted_as_numbers(tmp_path):
    touch(tmp_path, "a.avi", "b.avi", "c.avi")
    found = listing.text_list(text(tmp_path / "l", "a.avi 10", "b.avi 9", "c.avi 0"))
    assert found.classes == ("0", "9", "10")
    assert [video.label for video in found.videos] == [2, 1, 0]


@pytest.mark.parametrize(
    "line, message",
    [
        ("a.txt 1", "line 3: PATH or PATH LABEL expected"),
        ("a.avilabel", "line 3: PATH or PATH LABEL expected"),
        ("./a.avi 1", "line 3: ./a.avi is there already, on line 1"),
        ("gone.avi 1", "1 of 2 videos are missing: gone.avi"),
    ],
)
def test_bad_lines(tmp_path, line, message):
    touch(tmp_path, "a.avi")
    with pytest.raises(ValueError, match=message):
        listing.text_list(text(tmp_path / "l", "a.avi 0", "", line))


def test_lists_that_are_none(tmp_path):
    with pytest.raises(FileNotFoundError, match="no such file"):
        listing.text_list(tmp_path / "l")
    (tmp_path / "l").write_bytes(b"\xff\xfe\x00")
    with pytest.raises(ValueError, match="not a text file"):
        listing.text_list(tmp_path / "l")
    with pytest.raises(ValueError, match="no video"):
        listing.text_list(text(tmp_path / "l", ""))


def test_missing_videos_of_a_list_are_listed(tmp_path):
    touch(tmp_path, "a.avi")
    path = text(tmp_path / "l", *(f"{i}.avi 7" for i in range(9)), "a.avi 3")
    with pytest.raises(ValueError, match="9 of 10 .*: 0.avi, 1.avi, .*, 4.avi and 4 more"):
        listing.text_list(path)
    found = listing.text_list(path, allow_missing=True)
    assert names(found) == ["a.avi"] and found.missing == tuple(f"{i}.avi" for i in range(9))


# ---------------------------------------------------------------------- UCF-101

UCF = [
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g01_c01",
    "ApplyEyeMakeup/v_ApplyEyeMakeup_g02_c01",
    "HandstandPushups/v_HandStandPushups_g01_c01",
    "HandstandPushups/v_HandStandPushups_g02_c03",
]
UCF_NAMES = [name.replace("HandStand", "Handstand") + ".avi" for name in UCF]


@pytest.fixture
def ucf(tmp_path, monkeypatch):
    """Folder of split files that are small, but official."""
    monkeypatch.setattr(listing, "UCF101_CLASSES", 2)
    monkeypatch.setattr(listing, "UCF101_COUNTS", ((2, 2), (3, 1), (3, 1)))
    folder = tmp_path / "splits"
    text(folder / "classInd.txt", "1 ApplyEyeMakeup", "2 HandstandPushups", end="\r\n")
    for k, test in enumerate([(0, 2), (1,), (3,)], 1):
        text(
            folder / f"trainlist0{k}.txt",
            *(f"{name}.avi {1 + (i > 1)}" for i, name in enumerate(UCF) if i not in test),
            end="\r\n",
        )
        text(folder / f"testlist0{k}.txt", *(f"{UCF[i]}.avi" for i in test))
    return folder


@pytest.mark.parametrize(
    "where",
    [
        UCF_NAMES,  # as extracted
        [Path(name).name for name in UCF_NAMES],  # as TFDS extracts them
        [name + ".avi" for name in UCF],  # spelled as in the lists
        [str(Path(name).with_suffix(".mp4")) for name in UCF_NAMES],  # written anew
    ],
)
def test_ucf101(tmp_path, ucf, where):
    touch(tmp_path / "videos", *where, "readme.txt", "v_Extra_g01_c01.avi")
    found = listing.ucf101(tmp_path / "videos", ucf)
    assert names(found) == UCF_NAMES
    assert [video.path for video in found.videos] == [str(tmp_path / "videos" / p) for p in where]
    assert found.classes == ("ApplyEyeMakeup", "HandstandPushups")
    assert [video.label for video in found.videos] == [0, 0, 1, 1]
    assert [video.group for video in found.videos] == [
        "ApplyEyeMakeup_g01",
        "ApplyEyeMakeup_g02",
        "HandstandPushups_g01",
        "HandstandPushups_g02",
    ]
    assert [video.splits for video in found.videos] == [(2, 1, 1), (1, 2, 1), (2, 1, 1), (1, 1, 2)]
    assert sorted(found.ignored) == ["readme.txt", "v_Extra_g01_c01.avi"]


def test_ucf101_agrees_with_tfds(tmp_path, ucf):
    """The very generator of TFDS' data set reads the same folders."""
    from tensorflow_datasets.video import ucf101

    extracted = tmp_path / "tfds" / "downloads" / "extracted"
    videos = touch(
        extracted / "ZIP.UCF101_videos.zip", *(f"UCF101/{Path(name).name}" for name in UCF_NAMES)
    )
    splits = extracted / "ZIP.UCF101TrainTestSplits-RecognitionTask.zip"
    splits.mkdir()
    ucf.rename(splits / "ucfTrainTestlist")
    found = listing.tfds_ucf101(tmp_path / "tfds")
    for k in range(3):
        for part, code in ("train", TRAIN), ("test", TEST):
            examples = ucf101.Ucf101._generate_examples(
                None, str(videos), str(splits), f"ucfTrainTestlist/{part}list{k + 1:02d}.txt"
            )
            assert {(e["video"], e["label"]) for _, e in examples} == {
                (video.path, found.classes[video.label])
                for video in found.videos
                if video.splits[k] == code
            }


def test_tfds_that_downloaded_nothing(tmp_path):
    with pytest.raises(FileNotFoundError, match="`tfds build ucf101/ucf101_1 --data_dir="):
        listing.tfds_ucf101(tmp_path)


def test_missing_videos_of_ucf101(tmp_path, ucf):
    touch(tmp_path / "videos", UCF_NAMES[0])
    with pytest.raises(ValueError, match=f"3 of 4 videos are missing: {UCF_NAMES[1]}, .*--allow"):
        listing.ucf101(tmp_path / "videos", ucf)
    found = listing.ucf101(tmp_path / "videos", ucf, allow_missing=True)
    assert names(found) == UCF_NAMES[:1] and found.missing == tuple(UCF_NAMES[1:])


def test_lists_that_are_not_the_official_ones(tmp_path, ucf):
    touch(tmp_path / "videos", *UCF_NAMES)
    text(ucf / "testlist01.txt", UCF[0] + ".avi")
    with pytest.raises(ValueError, match="testlist01.txt: 1 videos, not 2"):
        listing.ucf101(tmp_path / "videos", ucf)
    found = listing.ucf101(tmp_path / "videos", ucf, allow_missing=True)
    assert found.missing == ("testlist01.txt: 1 videos, not 2",)
    assert found.videos[2].splits == (0, 1, 1)


@pytest.mark.parametrize(
    "name, lines, message",
    [
        (
            "trainlist02.txt",
            [UCF[0] + ".avi 1", "nonsense"],
            "trainlist02.txt, line 2: CLASS/v_CLASS",
        ),
        (
            "trainlist02.txt",
            ["Archery/v_Archery_g01_c01.avi 1"],
            "line 1: .* with a class of classInd",
        ),
        ("trainlist02.txt", [UCF[0] + ".avi 2"], "line 1: class 2, but ApplyEyeMakeup has 1"),
        ("testlist02.txt", [UCF[0] + ".avi"], "line 1: ApplyEyeMakeup/.* is in split 2 already"),
        ("classInd.txt", ["1 ApplyEyeMakeup", "3 HandstandPushups"], "line 2: `2 CLASS` expected"),
    ],
)
def test_bad_split_files(tmp_path, ucf, name, lines, message):
    touch(tmp_path / "videos", *UCF_NAMES)
    text(ucf / name, *lines)
    with pytest.raises(ValueError, match=message):
        listing.ucf101(tmp_path / "videos", ucf, allow_missing=True)


def test_two_files_for_one_video_and_missing_lists(tmp_path, ucf):
    touch(tmp_path / "videos", *UCF_NAMES, Path(UCF_NAMES[0]).name)
    with pytest.raises(ValueError, match="two files for one video: ApplyEyeMakeup/v_"):
        listing.ucf101(tmp_path / "videos", ucf)
    (ucf / "testlist03.txt").unlink()
    with pytest.raises(FileNotFoundError, match="testlist03.txt: there is no such file"):
        listing.ucf101(tmp_path / "videos", ucf)


def test_official_ucf101(tmp_path, real_data):
    """All official lists, over files as the archive has them; and the percepts' own splits."""
    splits = real_data / "splits" / "ucf101"
    lines = [
        line
        for part in ("train", "test")
        for line in (splits / f"{part}list01.txt").read_text().split("\n")
        if line.strip()
    ]
    for line in lines:
        (tmp_path / line.split()[0].split("/")[1].replace("HandStand", "Handstand")).touch()
    found = listing.ucf101(tmp_path, splits)
    assert len(found.videos) == 13320 and not found.missing and not found.ignored
    assert [Counter(v.splits[k] for v in found.videos) for k in range(3)] == [
        {TRAIN: 9537, TEST: 3783},
        {TRAIN: 9586, TEST: 3734},
        {TRAIN: 9624, TEST: 3696},
    ]
    assert len(found.classes) == 101 and {v.label for v in found.videos} == set(range(101))
    for k in range(3):  # no group is on both sides
        sides = [{v.group for v in found.videos if v.splits[k] == code} for code in (TRAIN, TEST)]
        assert not sides[0] & sides[1]
    percepts = np.load(real_data / "percepts" / "ucf101_8classes_vgg16_fc6_uint8.npz")
    known = {video.name: video for video in found.videos}
    for name, row in zip(percepts["name"], percepts["split"], strict=True):
        assert known[name].splits == tuple(row)


def test_real_ucf101_clips(real_data):
    clips, splits = real_data / "clips" / "ucf101", real_data / "splits" / "ucf101"
    with pytest.raises(ValueError, match="13,297 of 13,320 videos are missing"):
        listing.ucf101(clips, splits)
    found = listing.ucf101(clips, splits, allow_missing=True)
    assert len(found.videos) == 23 and len(found.missing) == 13297 and not found.ignored
    assert all(len(list(frames(video.path))) > 80 for video in found.videos[:3])


# ---------------------------------------------------------------------- HMDB-51

HMDB = {
    "hug": [
        "A_(b)_[c]!_#1_hug_u_cm_np2_ba_goo_0",
        "A_(b)_[c]!_#1_hug_f_nm_np10_fr_bad_1",
        "Other_hug_u_cm_np2_ba_med_0",
    ],
    "run": ["A_(b)_[c]!_#1_run_f_cm_np1_le_med_4", "oddname"],
}


@pytest.fixture
def hmdb(tmp_path, monkeypatch):
    monkeypatch.setattr(listing, "HMDB51_CLASSES", 2)
    monkeypatch.setattr(listing, "HMDB51_COUNTS", (1, 1))
    for label, clips in HMDB.items():
        for k in range(3):
            codes = [1, 2, 0] if len(clips) == 3 else [1, 2]
            text(
                tmp_path / "splits" / f"{label}_test_split{k + 1}.txt",
                *(f"{clip}.avi {codes[(i + k) % len(codes)]} " for i, clip in enumerate(clips)),
            )
    return text(tmp_path / "splits" / "class_list.txt", "hug", "run").parent


def test_hmdb51(tmp_path, hmdb):
    files = sorted(f"{label}/{clip}.avi" for label, clips in HMDB.items() for clip in clips)
    found = listing.hmdb51(touch(tmp_path / "videos", *files), hmdb)
    assert names(found) == files and found.classes == ("hug", "run")
    by_name = {video.name: video for video in found.videos}
    assert [by_name[f"hug/{clip}.avi"].splits for clip in HMDB["hug"]] == [
        (1, 2, 0),
        (2, 0, 1),
        (0, 1, 2),
    ]
    assert [by_name[f"hug/{clip}.avi"].group for clip in HMDB["hug"]] == [
        "A_(b)_[c]!_#1",
        "A_(b)_[c]!_#1",
        "Other",
    ]
    assert [by_name[f"run/{clip}.avi"].group for clip in HMDB["run"]] == ["A_(b)_[c]!_#1", ""]
    (tmp_path / "videos" / files[0]).unlink()
    with pytest.raises(ValueError, match="1 of 5 videos are missing: hug/A_"):
        listing.hmdb51(tmp_path / "videos", hmdb)


@pytest.mark.parametrize(
    "lines, message",
    [
        ([f"{HMDB['hug'][0]}.avi 3"], "line 1: NAME.avi and 0, 1 or 2 expected"),
        (
            [f"{HMDB['hug'][0]}.avi 1"],
            "hug_test_split2.txt: 1 for training and 0 for testing, not 1",
        ),
        ([f"{HMDB['hug'][0]}.avi 1"] * 2, "line 2: hug/A.* is in split 2 already"),
    ],
)
def test_bad_split_files_of_hmdb51(tmp_path, hmdb, lines, message):
    touch(tmp_path / "videos", "hug/x.avi")
    text(hmdb / "hug_test_split2.txt", *lines)
    with pytest.raises(ValueError, match=message):
        listing.hmdb51(tmp_path / "videos", hmdb)


def test_missing_lists_of_hmdb51(tmp_path, hmdb):
    touch(tmp_path / "videos", "hug/x.avi")
    with pytest.raises(FileNotFoundError, match="no CLASS_test_splitN.txt"):
        listing.hmdb51(tmp_path / "videos", tmp_path / "videos")
    (hmdb / "run_test_split3.txt").unlink()
    with pytest.raises(FileNotFoundError, match="run_test_split3.txt: there is no such file"):
        listing.hmdb51(tmp_path / "videos", hmdb)


def test_official_hmdb51(tmp_path, real_data):
    splits = real_data / "splits" / "hmdb51"
    for path in splits.glob("*_test_split1.txt"):
        folder = tmp_path / path.name.removesuffix("_test_split1.txt")
        touch(folder, *(line.split()[0] for line in path.read_text().split("\n") if line.strip()))
    found = listing.hmdb51(tmp_path, splits)
    assert len(found.videos) == 6766 and len(found.classes) == 51 and not found.missing
    for k in range(3):
        counts = Counter((video.label, video.splits[k]) for video in found.videos)
        assert all((counts[c, TRAIN], counts[c, TEST]) == (70, 30) for c in range(51))
        # The lists keep the clips of a class from one video on one side: so our groups are right.
        sides = [
            {(v.label, v.group) for v in found.videos if v.splits[k] == code}
            for code in (TRAIN, TEST)
        ]
        assert all(v.group for v in found.videos) and not sides[0] & sides[1]


# ---------------------------------------------------------------------- Sports-1M


def clip(path, count, rate=10):
    writer = cv2.VideoWriter(
        str(path), cv2.CAP_FFMPEG, cv2.VideoWriter_fourcc(*"MJPG"), rate, (16, 16)
    )
    for i in range(count):
        writer.write(np.full((16, 16, 3), i % 256, np.uint8))
    writer.release()


@pytest.fixture(scope="module")
def sports(tmp_path_factory):
    """20 videos of 15 s, one of 5 s, a damaged one, one that is in no list; two are missing."""
    folder = tmp_path_factory.mktemp("sports")
    (folder / "videos").mkdir()
    ids = [f"-a_{i:02d}B" for i in range(20)]
    clip(folder / "videos" / f"{ids[0]}.avi", 150)
    for name in ids[1:]:
        (folder / "videos" / f"{name}.avi").symlink_to(folder / "videos" / f"{ids[0]}.avi")
    clip(folder / "videos" / "short.avi", 50)
    (folder / "videos" / "damaged.mp4").write_text("hello")
    touch(folder / "videos", "extra.mp4", "gone1.mp4.part")
    text(
        folder / "partition.txt",
        *(
            f"https://www.youtube.com/watch?v={name} {labels}"
            for name, labels in [
                *((name, f"{i},486" if i % 2 else str(i)) for i, name in enumerate(ids)),
                ("short", "3"),
                ("damaged", "4"),
                ("gone1", "5"),
                ("gone2", "6,7"),
            ]
        ),
    )
    return folder


def test_sports1m(sports):
    found = listing.sports1m(sports / "partition.txt", sports / "videos")
    assert len(found.videos) == 22 and found.missing == ("gone1", "gone2")
    assert set(found.ignored) == {"extra.mp4", "gone1.mp4.part"}
    assert len(found.classes) == 487
    by_name = {video.name: video for video in found.videos}
    assert (by_name["short"].start, by_name["short"].seconds) == (0, None)
    assert by_name["-a_04B"].label == 4 and by_name["-a_05B"].label == -1
    assert found.source["clips_hours"] == round((20 * 10 + 5) / 3600, 4)
    starts = [video.start for video in found.videos if video.name.startswith("-a")]
    assert len(set(starts)) > 10 and 0 <= min(starts) < 2 and 3 < max(starts) <= 5
    for video in found.videos[:8]:
        if video.name == "damaged":
            continue
        numbers = [
            round(float(frame.mean()))
            for frame in frames(video.path, start=video.start, seconds=video.seconds)
        ]
        first = round(10 * video.start)
        expected = np.arange(first, first + (100 if video.seconds else 50))
        np.testing.assert_allclose(numbers, expected, atol=2)
        assert len(set(numbers)) > 40
    with pytest.raises(VideoError):
        list(frames(by_name["damaged"].path, seconds=by_name["damaged"].seconds))


def test_the_hours_of_sports1m_are_a_limit(sports, tmp_path):
    every = listing.sports1m(sports / "partition.txt", sports / "videos")
    few = listing.sports1m(sports / "partition.txt", sports / "videos", hours=75 / 3600)
    n = len(few.videos)
    assert few.videos == every.videos[:n] and 7 <= n <= 9
    assert 65 <= few.source["clips_hours"] * 3600 <= 75.01
    other = listing.sports1m(sports / "partition.txt", sports / "videos", seed=1)
    assert names(other) != names(every) and sorted(names(other)) == sorted(names(every))
    again = {video.name: video.start for video in other.videos}
    assert sum(again[video.name] != video.start for video in every.videos) > 15
    # Other lines of the list change nothing about a clip.
    lines = (sports / "partition.txt").read_text().splitlines()
    half = listing.sports1m(text(tmp_path / "half", *lines[1::2][::-1]), sports / "videos")
    assert half.videos == tuple(video for video in every.videos if video.name in names(half))


@pytest.mark.parametrize(
    "line",
    [
        "https://www.youtube.com/watch?v=abc",
        "https://www.youtube.com/watch?w=abc 1",
        "abc 1",
        "https://www.youtube.com/watch?v=abc 1,x",
        "https://www.youtube.com/watch?v=abc 487",
    ],
)
def test_bad_lines_of_sports1m(tmp_path, sports, line):
    with pytest.raises(ValueError, match="line 2: an address with v=ID and classes below 487"):
        listing.sports1m(text(tmp_path / "p", "", line), sports / "videos")


def test_bad_arguments_of_sports1m(sports):
    for hours, seconds in ((0, 10), (300, 0), (0.001, 10), (float("nan"), 10)):
        with pytest.raises(ValueError, match="do not fit"):
            listing.sports1m(sports / "partition.txt", sports / "videos", hours, 0, seconds)


# ---------------------------------------------------------------------- flags


@pytest.fixture(scope="module")
def source_flags():
    """The module; its flags are defined only as long as these tests run."""
    if "videos" in flags.FLAGS:
        yield importlib.import_module("data_prep.source_flags")
        return
    sys.modules.pop("data_prep.source_flags", None)
    known = set(flags.FLAGS)
    yield importlib.import_module("data_prep.source_flags")
    for name in set(flags.FLAGS) - known:
        delattr(flags.FLAGS, name)
    del sys.modules["data_prep.source_flags"]


@pytest.fixture
def by_flags(source_flags):
    """The Listing of flags."""

    def run(*arguments):
        with flagsaver.flagsaver():
            flags.FLAGS(["command", *map(str, arguments)])
            return source_flags.listing()

    return run


def test_flags_of_a_folder(tmp_path, by_flags, capsys):
    touch(tmp_path, *(f"a/{i}.avi" for i in range(7)), "b.avi", "c.txt")
    assert by_flags(f"--videos={tmp_path}") == listing.folder(tmp_path)
    out = capsys.readouterr().out
    assert f"folder: 8 videos of {tmp_path}, 1 classes" in out
    assert "without a label: 1" in out and "files not used: 1: c.txt" in out
    few = by_flags(f"--videos={tmp_path}", "--limit=2")
    assert names(few) == ["a/0.avi", "a/4.avi"] and few.source["limit"] == 2


def test_flags_of_the_others(tmp_path, ucf, hmdb, sports, by_flags, capsys):
    touch(tmp_path / "u", *UCF_NAMES)
    folder = f"--videos={tmp_path / 'u'}"
    assert by_flags("--layout=ucf101", folder, f"--splits_dir={ucf}") == listing.ucf101(
        tmp_path / "u", ucf
    )
    path = text(tmp_path / "l", "u/gone.avi 1", f"u/{UCF_NAMES[0]} 2")
    assert by_flags(f"--list={path}", "--allow_missing") == listing.text_list(path, True)
    assert "missing: 1: u/gone.avi" in capsys.readouterr().out
    touch(tmp_path / "h", "hug/A_(b)_[c]!_#1_hug_u_cm_np2_ba_goo_0.avi")
    assert (
        len(
            by_flags(
                "--layout=hmdb51",
                f"--videos={tmp_path / 'h'}",
                f"--splits_dir={hmdb}",
                "--allow_missing",
            ).videos
        )
        == 1
    )
    assert by_flags(
        "--layout=sports1m",
        f"--videos={sports / 'videos'}",
        "--clip_seed=3",
        "--hours=0.01",
        f"--partition={sports / 'partition.txt'}",
        "--clip_seconds=7",
    ) == listing.sports1m(sports / "partition.txt", sports / "videos", 0.01, 3, 7)
    with pytest.raises(FileNotFoundError, match="tfds build"):
        by_flags("--layout=tfds_ucf101", folder)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "--videos is missing: the folder of the videos; or --list=FILE"),
        (["--videos="], "--videos is missing"),
        (["--videos=x", "--list=y"], "--list does not go with --videos"),
        (["--list=y", "--layout=folder"], "--list does not go with --videos or --layout"),
        (["--videos=x", "--layout=ucf101"], "--splits_dir is missing: --layout=ucf101 needs it"),
        (["--videos=x", "--layout=sports1m"], "--partition is missing"),
        (["--videos=x", "--allow_missing"], "--allow_missing does not go with --layout=folder"),
        (
            ["--videos=x", "--layout=hmdb51", "--hours=3"],
            "--hours does not go with --layout=hmdb51",
        ),
        (["--videos=x", "--splits_dir=y"], "--splits_dir does not go with --layout=folder"),
    ],
)
def test_bad_flags(by_flags, arguments, message):
    with pytest.raises(ValueError, match=message):
        by_flags(*arguments)
