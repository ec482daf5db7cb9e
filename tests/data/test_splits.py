import re

import numpy as np
import pytest

from unsup_video.data import splits
from unsup_video.data.records import Entry

PARTS = ("train", "validation", "test")


def entry(name, label=0, group="", official=()):
    return Entry(10, name, label, group, official)


def parts_of(entries, **options):
    """The part of every entry; each is in exactly one."""
    masks = np.array([splits.choose(entries, part, **options) for part in PARTS])
    assert masks.dtype == bool and (masks.sum(0) == 1).all()
    return [PARTS[k] for k in masks.argmax(0)]


def test_parts_are_disjoint_complete_and_stratified():
    entries = [
        entry(f"{label}/{g}/{k}", label, f"{label}/{g}")
        for label in range(3)
        for g in range(20)
        for k in range(g % 4 + 1)
    ]
    parts = parts_of(entries)
    for label in range(3):
        groups = {}
        for e, part in zip(entries, parts, strict=True):
            if e.label == label:
                groups.setdefault(part, set()).add(e.group)
        assert {part: len(g) for part, g in groups.items()} == {
            "train": 16,
            "validation": 2,
            "test": 2,
        }
    for group in {e.group for e in entries}:
        assert len({part for e, part in zip(entries, parts, strict=True) if e.group == group}) == 1


def test_a_group_is_not_divided_between_classes():
    entries = [
        entry(f"{label}/{g}", label, f"camera {g}") for label in range(4) for g in range(label, 12)
    ]
    parts = parts_of(entries)
    for group in {e.group for e in entries}:
        assert len({part for e, part in zip(entries, parts, strict=True) if e.group == group}) == 1
    assert set(parts) == set(PARTS)


def test_the_parts_depend_on_names_alone():
    entries = [entry(f"video {k}") for k in range(50)]
    parts = dict(zip((e.name for e in entries), parts_of(entries), strict=True))
    turned = entries[::-1]
    assert dict(zip((e.name for e in turned), parts_of(turned), strict=True)) == parts
    assert [parts[e.name] for e in entries] != sorted(parts.values())  # not the first ones
    assert sum(part == "test" for part in parts.values()) == 5


@pytest.mark.parametrize(
    "groups, expected",
    [(1, ["train"]), (2, ["test", "train"]), (3, ["test", "train", "validation"])],
)
def test_few_groups_leave_one_for_training(groups, expected):
    assert sorted(parts_of([entry(str(k)) for k in range(groups)])) == expected


def test_official_splits():
    entries = [
        entry(f"{g}/{k}", 0, str(g), (2 if g < 3 else 1, 1 if g < 10 else 2 if g < 12 else 0))
        for g in range(13)
        for k in range(2)
    ]
    for number, test in ((1, range(3)), (2, range(10, 12))):
        found = {part: splits.choose(entries, part, number) for part in PARTS}
        groups = {
            part: {int(entries[i].group) for i in np.flatnonzero(mask)}
            for part, mask in found.items()
        }
        assert groups["test"] == set(test)
        assert len(groups["validation"]) == 1 and not groups["validation"] & groups["train"]
        official = {int(e.group) for e in entries if e.splits[number - 1] == 1}
        assert groups["validation"] | groups["train"] == official


def test_real_official_lists(real_data):
    """Split 1 of UCF-101: training and validation are its training list, in whole groups."""

    def read(name):
        lines = (real_data / "splits" / "ucf101" / name).read_text().split("\n")
        return [line.split()[0] for line in lines if line.strip()]

    official = dict.fromkeys(read("trainlist01.txt"), 1)
    official |= dict.fromkeys(read("testlist01.txt"), 2)
    classes = sorted({path.split("/")[0] for path in official})
    entries = [
        entry(path, classes.index(path.split("/")[0]), re.match(r".*_g\d\d", path)[0], (part,))
        for path, part in official.items()
    ]
    assert (len(entries), len(classes)) == (13320, 101)
    counts = {part: splits.choose(entries, part, 1) for part in PARTS}
    assert counts["test"].sum() == 3783
    assert (counts["train"] | counts["validation"]).sum() == 9537
    labels = np.array([e.label for e in entries])
    assert all(len(set(labels[mask])) == 101 for mask in counts.values())
    held = {entries[i].group for i in np.flatnonzero(counts["validation"])}
    assert not held & {entries[i].group for i in np.flatnonzero(counts["train"])}


@pytest.mark.parametrize(
    "options, message",
    [
        ({"part": "dev"}, "unknown part 'dev': one of train, validation, test"),
        ({"split": 4}, "split 4 is asked for, the data set has 1 to 3"),
        ({"split": -1}, "split -1"),
        ({"fraction": 0.5}, "fraction must be between 0 and 0.5, got 0.5"),
        ({"fraction": 0.0}, "fraction"),
    ],
)
def test_bad_arguments(options, message):
    entries = [entry("a", official=(1, 1, 1)), entry("b", official=(2, 1, 1))]
    with pytest.raises(ValueError, match=message):
        splits.choose(entries, **{"part": "train", **options})
    with pytest.raises(ValueError, match="no official splits; 0 divides it by groups"):
        splits.choose([entry("a")], "train", 1)


def test_every_group_is_tested_in_one_fold():
    labels = [0] * 12 + [1] * 9 + [-1] * 4
    groups = [f"g{i // 2}" for i in range(12)] + [f"h{i}" for i in range(9)] + list("wxyz")
    dealt = np.array(splits.folds(labels, groups, 3))
    assert dealt.shape == (25, 3) and set(dealt.ravel()) == {1, 2}
    np.testing.assert_array_equal((dealt == 2).sum(1), 1)  # each is tested once
    for group in set(groups):
        assert len({tuple(d) for d, g in zip(dealt, groups, strict=True) if g == group}) == 1
    tested = dealt == 2
    np.testing.assert_array_equal(tested[:12].sum(0), 4)  # 6 groups of 2 videos
    np.testing.assert_array_equal(tested[12:21].sum(0), 3)
    # A function of names alone, whatever the order of the videos.
    order = np.random.default_rng(0).permutation(25)
    again = splits.folds([labels[i] for i in order], [groups[i] for i in order], 3)
    np.testing.assert_array_equal(again, dealt[order])


def test_folds_that_cannot_be():
    with pytest.raises(ValueError, match="at least 2 folds, got 1"):
        splits.folds([0, 0], ["a", "b"], 1)
    with pytest.raises(ValueError, match="class 1 has 2"):
        splits.folds([0, 0, 0, 1, 1, 1], list("abcdee"), 3)


def test_few_labels_of_every_class():
    labels = np.repeat([0, 1, -1, 2], [5, 2, 4, 9])
    one = splits.few(labels, 1, seed=3)
    assert sorted(labels[one]) == [0, 1, 2]
    four = splits.few(labels, 4, seed=3)
    assert [(labels[four] == k).sum() for k in (0, 1, 2, -1)] == [4, 2, 4, 0]  # all of class 1
    assert four[one].all()  # nested
    others = {tuple(np.flatnonzero(splits.few(labels, 1, seed))) for seed in range(20)}
    assert len(others) > 5
    with pytest.raises(ValueError, match="at least 1 video"):
        splits.few(labels, 0, 0)
