"""Whole frames as records: the job, and its command."""

import importlib
import json

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

import command_flags
from unsup_video.data import records
from unsup_video.video import frames, inputs, jobs
from unsup_video.video.decoding import VideoError

CLIPS = np.random.default_rng(0).integers(0, 256, (4, 11, 12, 16)).astype(np.uint8)


def made(job, path, out, **options):
    manifest = jobs.run(job, inputs.listing(path), out, **options)
    assert records.verify(out) == []
    return manifest, list(records.sequences(out).as_numpy_iterator()), records.load_index(out)


def test_whole_sequences(tmp_path):
    np.save(tmp_path / "clips.npy", CLIPS)
    manifest, found, entries = made(
        frames.Frames(size=(12, 16), colour=False), tmp_path / "clips.npy", tmp_path / "out"
    )
    np.testing.assert_array_equal(found, CLIPS)
    assert (manifest.kind, manifest.shape, manifest.scale) == ("frames", (11, 12, 16), 1 / 255)
    stored = json.loads((tmp_path / "out" / records.MANIFEST).read_text())["source"]["settings"]
    assert stored == {
        "size": [12, 16], "colour": False, "frames": None, "fps": None, "value_range": None,
    }  # fmt: skip
    assert [entry.name for entry in entries] == [f"clips.npy#{i}" for i in range(4)]
    assert {entry.group for entry in entries} == {""}  # each is a group of its own


def test_windows_of_a_sequence_are_one_group(tmp_path):
    np.save(tmp_path / "a.npy", CLIPS[0])
    np.save(tmp_path / "b.npy", CLIPS[:2, :3])  # too short
    _manifest, found, entries = made(
        frames.Frames(size=(12, 16), colour=False, frames=5),
        tmp_path,
        tmp_path / "out",
        max_bad_fraction=0.7,
    )
    np.testing.assert_array_equal(found, CLIPS[0, :10].reshape(2, 5, 12, 16))
    assert [(entry.name, entry.group) for entry in entries] == [
        ("a.npy#0", "a.npy"), ("a.npy#1", "a.npy"),
    ]  # fmt: skip
    quarantine = (tmp_path / "out" / records.QUARANTINE).read_text().splitlines()
    assert [json.loads(line)["reason"] for line in quarantine] == [
        "too short: 3 frames, 5 are wanted"
    ] * 2


def test_floats_become_8_bits_and_grey_becomes_rgb(tmp_path):
    np.savez(tmp_path / "a.npz", X=CLIPS / 255 * 6 - 2)
    job = frames.Frames(size=(12, 16), value_range=(-2, 4))
    manifest, found, _ = made(job, tmp_path / "a.npz", tmp_path / "out")
    assert manifest.shape == (11, 12, 16, 3)
    np.testing.assert_array_equal(found, np.repeat(CLIPS[..., None], 3, -1))


def test_a_job_goes_on_where_it_was(tmp_path, monkeypatch):
    np.save(tmp_path / "clips.npy", CLIPS)
    read, calls = inputs.read, []

    def killed(video, *arguments):
        calls.append(video.number)
        if len(calls) == 3:
            raise KeyboardInterrupt
        return read(video, *arguments)

    monkeypatch.setattr(inputs, "read", killed)
    job = frames.Frames(size=(12, 16), colour=False)
    with pytest.raises(KeyboardInterrupt):
        made(job, tmp_path / "clips.npy", tmp_path / "out")
    _, found, _ = made(job, tmp_path / "clips.npy", tmp_path / "out")
    np.testing.assert_array_equal(found, CLIPS)
    assert calls == [0, 1, 2, 2, 3]


def test_a_sequence_too_large_for_a_record(tmp_path, monkeypatch):
    monkeypatch.setattr(frames, "_MAX_BYTES", 7 * 12 * 16)
    np.save(tmp_path / "a.npy", CLIPS[0])
    [video] = inputs.listing(tmp_path / "a.npy").videos
    with pytest.raises(VideoError, match="a.npy: its frames take more than .* by `frames`"):
        list(frames.Frames(size=(12, 16), colour=False).records(video))
    assert len(list(frames.Frames(size=(12, 16), colour=False, frames=2).records(video))) == 5


@pytest.mark.parametrize(
    "options, message",
    [
        ({"size": (0, 4)}, "size must be at least 1x1, got 0x4"),
        ({"frames": 1}, "frames must be at least 2"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"value_range": (1, 0)}, "a range is two numbers"),
    ],
)
def test_bad_arguments(options, message):
    with pytest.raises(ValueError, match=message):
        frames.Frames(**options)


@pytest.fixture(scope="module")
def command():
    """Runs data_prep.frames in this process, with errors as exceptions."""
    with command_flags.apart():
        module = importlib.import_module("data_prep.frames")

        def run(*arguments):
            with flagsaver.flagsaver():
                assert module.main(flags.FLAGS(["frames", *map(str, arguments)])) == 0

        yield run


def test_the_command(tmp_path, command, capsys):
    for name in ("a", "b", "c"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for t in range(11):
            Image.fromarray(CLIPS[0, t]).save(tmp_path / "in" / name / f"{t}.png")
    (tmp_path / "labels").write_text("a jump\nb run\nc -1\n")
    (tmp_path / "groups").write_text("a g\nb g\nc h\n")
    out = tmp_path / "a name"
    arguments = [f"--input={tmp_path / 'in'}", "--size=6x8", "--grey", f"--out={out}"]
    command(
        *arguments,
        "--frames=5",
        f"--labels={tmp_path / 'labels'}",
        f"--groups={tmp_path / 'groups'}",
    )
    printed = capsys.readouterr().out
    assert f"input: 3 sequences of {tmp_path / 'in'}, 2 classes\n  without a label: 1" in printed
    notes, suggested = printed.split("next:\n")
    assert "windows of 5 frames: remaining frames at the end of a sequence" in notes
    assert suggested.splitlines()[-1] == (
        f"  python -m train.pretrain --config=frames_small '--config.data.records={out}'"
    )
    manifest = records.Manifest.load(out)
    assert (manifest.shape, manifest.count, manifest.classes) == ((5, 6, 8), 6, ("jump", "run"))
    assert [(e.name, e.label, e.group) for e in records.load_index(out)][::2] == [
        ("a#0", 0, "g"), ("b#0", 1, "g"), ("c#0", -1, "h"),
    ]  # fmt: skip
    for wrong, message in (
        (["--size=6"], "--size must be HEIGHTxWIDTH"),
        (["--list=x"], "--list does not go with --input"),
        (["--range=1"], "--range must be LOWEST,HIGHEST"),
        (["--labels=nowhere"], "nowhere: there is no such file"),
        ([f"--groups={tmp_path / 'in' / 'a' / '0.png'}"], "not a text file in UTF-8"),
        (["--input="], "--input is empty"),
    ):
        with pytest.raises((ValueError, OSError), match=message):
            command(*arguments, "--overwrite", *wrong)
    (tmp_path / "groups").write_text("a g\nb g\n")
    with pytest.raises(ValueError, match="groups: no group for 1 names, such as c"):
        command(*arguments, "--overwrite", f"--groups={tmp_path / 'groups'}")


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--out=x"], "--size=HEIGHTxWIDTH .* is missing"),
        (["--out=x", "--size=4x4"], "--videos is missing: .*or --list=FILE or --input"),
        (["--size=4x4"], "--out=FOLDER is missing"),
    ],
)
def test_missing_flags(tmp_path, monkeypatch, command, arguments, message):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ValueError, match=message):
        command(*arguments)
