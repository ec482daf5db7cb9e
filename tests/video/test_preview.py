import importlib
import json
import sys

import numpy as np
import pytest
from absl import flags
from absl.testing import flagsaver
from PIL import Image

from unsup_video.data import records
from unsup_video.video import flow, preview


@pytest.fixture
def show():
    """Runs data_prep.show in this process, with errors as exceptions."""
    module = importlib.import_module("data_prep.show")

    def run(*arguments):
        with flagsaver.flagsaver():
            assert module.main(flags.FLAGS(["show", *map(str, arguments)])) == 0

    yield run
    for flag in list(flags.FLAGS.flags_by_module_dict()["data_prep.show"]):
        delattr(flags.FLAGS, flag.name)
    del sys.modules["data_prep.show"]


def write(folder, frames, kind="patches", **arguments):
    """A data set of named sequences, of two classes in turn."""
    found = [
        records.Record(f, name=f"video {i}", label=i % 2 - (i == 4), group=f"g{i}", splits=(i % 3,))
        for i, f in enumerate(frames)
    ]
    records.write(folder, found, len(found), kind, {}, classes=("run", "jump"), **arguments)
    return folder


def colours(count, length=4, size=64):
    """Sequences of plain colours: red is the sequence, green the frame."""
    frames = np.zeros((count, length, size, size, 3), np.uint8)
    frames[..., 0] = 10 + 20 * np.arange(count)[:, None, None, None]
    frames[..., 1] = 50 * np.arange(length)[:, None, None]
    return frames


def pixels(path):
    return set(map(tuple, np.unique(np.array(Image.open(path)).reshape(-1, 3), axis=0).tolist()))


def test_summary(tmp_path):
    frames = [np.zeros((length, 2, 2), np.uint8) for length in (3, 3, 3, 3, 14, 20)]
    folder = write(tmp_path / "a", frames, compression="GZIP")
    lines = [{"path": "x", "reason": "broken", "frame": 3, "used": False}] * 2 + [
        {"path": "y", "reason": "shorter than it claims", "frame": None, "used": True}
    ]
    (folder / "quarantine.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    text = preview.summary(folder)
    assert text[0].startswith("patches: 6 sequences of (T, 2, 2) uint8, 1 files")
    assert text[1] == "frames: 46 in all, 3 to 20 per sequence, median 3"
    bars = {line.split(":")[0].strip(): line.split(":")[1].split() for line in text[2:8]}
    assert bars["3 to      5"] == ["4", "#" * 30] and bars["12 to     14"] == ["1", "#" * 8]
    assert bars["18 to     20"] == ["1", "#" * 8] and bars["6 to      8"] == ["0"]
    assert text[8:10] == ["2 classes of 2 to 3 sequences: jump 3, run 2", "without a label: 1"]
    assert text[10] == "official split 1: 2 for training, 2 for testing, 2 unused"
    assert text[11:] == [
        f"not used: 2, see {folder / 'quarantine.jsonl'}",
        "  broken: 2",
        f"used, but doubtful: 1, see {folder / 'quarantine.jsonl'}",
        "  shorter than it claims: 1",
    ]


def test_sample_is_spread_over_the_data_set(tmp_path):
    folder = write(tmp_path / "a", colours(11), shards=3)
    sample = preview.sample(folder, 3)
    assert sample.indices == [0, 3, 7]
    assert sample.labels == ["run: video 0", "jump: video 3", "jump: video 7"]
    for index, found in zip(sample.indices, sample.records, strict=True):
        np.testing.assert_array_equal(found.frames, colours(11)[index])
    assert preview.sample(folder, 50).indices == list(range(11))
    assert preview.sample(folder, 1).indices == [0]


def test_statistics_are_in_the_models_units(tmp_path):
    found = [
        records.Record(np.array([[0, 100]], np.uint8), 0.5, "a"),
        records.Record(np.array([[0, 200]], np.uint8), None, "b"),
    ]
    records.write(tmp_path / "a", found, 2, "percepts", {}, scale=0.25)
    assert preview.statistics(preview.sample(tmp_path / "a", 2)) == (
        "values of these: 0 to 50, mean 25, 50.0% are 0"
    )


def test_pictures(tmp_path, show, capsys):
    folder = write(tmp_path / "a", colours(5))
    show(folder, "--count=2", f"--out={tmp_path / 'figures'}", "--columns=3")
    sheet = tmp_path / "figures" / "a-show.png"
    assert f"wrote {sheet} {sheet.with_suffix('.gif')}" in capsys.readouterr().out
    found = pixels(sheet)
    shown = {(red, green, 0) for red in (10, 50) for green in (0, 100, 150)}
    assert shown <= found
    assert not {(red, 50, 0) for red in (10, 50)} & found and (90, 0, 0) not in found
    with Image.open(sheet.with_suffix(".gif")) as gif:
        assert gif.n_frames == 4
        gif.seek(3)
        assert {(10, 150, 0), (50, 150, 0)} <= set(
            map(tuple, np.unique(np.array(gif.convert("RGB")).reshape(-1, 3), axis=0).tolist())
        )
    show(folder, "--nogif")
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a", "a-show.png", "figures"]


def test_the_clip_that_a_data_set_was_made_of_stays(tmp_path, show):
    (tmp_path / "ball.gif").write_bytes(b"the clip")
    show(write(tmp_path / "ball", colours(2)))
    assert (tmp_path / "ball.gif").read_bytes() == b"the clip"
    assert (tmp_path / "ball-show.gif").exists()


def test_sequences_of_several_lengths(tmp_path):
    folder = write(tmp_path / "a", [colours(1, length)[0] for length in (2, 5)])
    preview.sheet(preview.sample(folder, 2), tmp_path / "a.png", columns=5)
    assert {(10, green, 0) for green in (0, 50, 100, 150, 200)} <= pixels(tmp_path / "a.png")
    preview.animation(preview.sample(folder, 2), tmp_path / "a.gif")
    assert Image.open(tmp_path / "a.gif").n_frames == 2


def test_large_frames_are_drawn_small(tmp_path):
    folder = write(tmp_path / "a", colours(2, 3, 300))
    preview.sheet(preview.sample(folder, 2), tmp_path / "a.png")
    assert Image.open(tmp_path / "a.png").height < 300


def test_flow_is_drawn_in_colours(tmp_path):
    values = np.zeros((1, 2, 64, 64, 20), np.int8)
    values[..., 0] = 127  # to the right, in the first flow of the stack
    values[..., 3] = 127
    folder = write(tmp_path / "a", values, "flow", dtype="int8", scale=20 / 127)
    preview.sheet(preview.sample(folder, 1), tmp_path / "a.png")
    (right,) = flow.to_colour(np.full(1, 20.0), np.zeros(1), 20).tolist()
    assert tuple(right) in pixels(tmp_path / "a.png")


def test_animations_keep_rare_colours(tmp_path):
    """A point of colour before a picture of 64 levels of grey."""
    frames = np.empty((1, 2, 64, 64, 3), np.uint8)
    frames[:] = 4 * np.arange(64, dtype=np.uint8)[:, None]
    frames[:, :, 30:32, 30:32] = 255, 0, 0
    folder = write(tmp_path / "a", frames)
    preview.animation(preview.sample(folder, 1), tmp_path / "a.gif")
    found = np.array(Image.open(tmp_path / "a.gif").convert("RGB")).reshape(-1, 3).astype(int)
    assert (found[:, 0] - found[:, 1]).max() > 200


def test_pictures_of_real_values(tmp_path):
    frames = np.full((1, 2, 64, 64), 50, np.float16)
    folder = write(tmp_path / "a", frames, dtype="float16", scale=0.01)
    preview.sheet(preview.sample(folder, 1), tmp_path / "a.png")
    assert (128, 128, 128) in pixels(tmp_path / "a.png")


def test_vectors_are_plotted(tmp_path, show, capsys):
    values = np.random.default_rng(0).random((5, 7, 300)).astype(np.float16)
    folder = write(tmp_path / "a", values, "percepts", dtype="float16", scale=1.0)
    show(folder, "--count=3")
    assert f"wrote {tmp_path / 'a-show.png'}\n" in capsys.readouterr().out
    with Image.open(tmp_path / "a-show.png") as picture:
        assert picture.format == "PNG" and picture.width > picture.height
    assert not (tmp_path / "a-show.gif").exists()


def test_what_cannot_be_shown(tmp_path, show):
    with pytest.raises(FileNotFoundError, match="is missing"):
        show(tmp_path / "nowhere")
    write(tmp_path / "a", np.zeros((1, 2, 8, 8, 4), np.uint8))
    with pytest.raises(ValueError, match=r"frames of \(8, 8, 4\) are no pictures"):
        show(tmp_path / "a")
    with pytest.raises(ValueError, match="which data set"):
        show()
