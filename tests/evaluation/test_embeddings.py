"""eval.embed: rows against numpy and the served signature, resuming, neighbours, bad input."""

import dataclasses
import json

import numpy as np
import pytest
import tensorflow as tf
from absl import flags
from PIL import Image
from sklearn.neighbors import NearestNeighbors

import command_flags
import labelled
from unsup_video.data import records
from unsup_video.evaluation import embedding_inputs, embeddings, neighbours, own_clips
from unsup_video.serving import classifier_signatures, export

RNG = np.random.default_rng(0)
# `model`, of tests/conftest.py, reads 4 frames of 32x32 into h and c of 8 units.
CLIPS = [RNG.random((length, 32, 32)).astype(np.float32) for length in (4, 9, 13, 8, 5)]
NAMES = [f"clip {i}" for i in range(len(CLIPS))]
COLUMNS = ["name", "label", "group", "split", "start", "frames", "seconds", "embedding"]


def embedded(model, sequences, path, **settings):
    """The arrays that are written to `path`.npz."""
    out = path.with_suffix(".npz")
    working = path.with_name(f".parts-{path.name}")
    with embeddings.computed(model, sequences, embeddings.Settings(**settings), working) as rows:
        embeddings.write(rows, out)
    assert not working.exists()
    return dict(np.load(out))


def windows(clip, length, stride):
    return np.stack([clip[t : t + length] for t in range(0, len(clip) - length + 1, stride)])


def states(cell, clip):
    """h and c after a clip (T, H, W), side by side: the LSTM's equations in float64."""
    kernel, recurrent, peepholes, bias = (
        np.float64(getattr(cell, name))
        for name in ("kernel", "recurrent_kernel", "peepholes", "bias")
    )
    h = c = np.zeros(cell.units)
    for x in np.float64(clip).reshape(len(clip), -1):
        i, f, g, o = np.split(x @ kernel + h @ recurrent + bias, 4)
        i, f = sigmoid(i + peepholes[0] * c), sigmoid(f + peepholes[1] * c)
        c = f * c + i * np.tanh(g)
        h = sigmoid(o + peepholes[2] * c) * np.tanh(c)
    return np.concatenate([h, c])


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


def test_a_row_per_video_is_the_mean_over_its_windows(model, tmp_path):
    found = embedded(model, embedding_inputs.Clips(NAMES, CLIPS), tmp_path / "a", stride=2)
    assert list(found) == [*COLUMNS, "settings"]
    for row, clip in zip(found["embedding"], CLIPS, strict=True):
        each = [states(model.model.cells[0], window) for window in windows(clip, 4, 2)]
        np.testing.assert_allclose(row, np.mean(each, axis=0), atol=1e-5)
    assert found["name"].tolist() == NAMES and found["group"].tolist() == NAMES
    assert found["frames"].tolist() == [4, 8, 12, 8, 4] and not found["start"].any()
    assert np.isnan(found["seconds"]).all() and found["split"].shape == (5, 0)
    settings = json.loads(str(found["settings"]))
    assert settings["columns"] == {"h_1": [0, 8], "c_1": [8, 16]}
    assert settings["model"]["sha256"] == model.sha256


def test_a_row_per_window_of_chosen_states(model, tmp_path):
    clips = embedding_inputs.Clips(NAMES, CLIPS)
    options = {"per": "window", "states": ("c",), "frames": 3}
    found = embedded(model, clips, tmp_path / "a", **options)
    expected = [
        (NAMES[i], 3 * k, states(model.model.cells[0], window)[8:])
        for i, clip in enumerate(CLIPS)
        for k, window in enumerate(windows(clip, 3, 3))
    ]
    assert found["name"].tolist() == [name for name, _, _ in expected]
    assert found["start"].tolist() == [start for _, start, _ in expected]
    assert (found["frames"] == 3).all()
    np.testing.assert_allclose(found["embedding"], [c for _, _, c in expected], atol=1e-5)


@pytest.mark.slow
def test_it_is_what_the_served_signature_answers(model, run, tmp_path):
    folder = export.write(model, tmp_path / "export")
    served = tf.saved_model.load(str(folder)).signatures["encode_uint8"]
    pixels = RNG.integers(0, 256, (3, 4, 32, 32), np.uint8)
    np.save(tmp_path / "clips.npy", pixels)
    with command_flags.command("eval.embed") as command:
        out = tmp_path / "e.npz"
        given = [f"--workdir={run}", f"--input={tmp_path / 'clips.npy'}", f"--out={out}"]
        assert command.main(flags.FLAGS(["embed", *given])) == 0
    answer = served(frames=tf.constant(pixels))
    expected = np.concatenate([answer["h_1"], answer["c_1"]], axis=1)
    np.testing.assert_allclose(np.load(out)["embedding"], expected, rtol=0, atol=1e-6)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return labelled.write(tmp_path_factory.mktemp("data") / "percepts", labelled.videos())


@pytest.fixture(scope="module")
def classifier(data, tmp_path_factory):
    config = labelled.a_config(data, layers=2)
    return labelled.untrained(config, tmp_path_factory.mktemp("runs") / "classifier")


def test_records_and_the_layers_of_a_classifier(classifier, data, tmp_path):
    everything = labelled.videos()
    long = [video for video in everything if len(video.frames) >= 4]
    found = embedded(classifier, embedding_inputs.Records(data), tmp_path / "a", layers="top")
    assert found["name"].tolist() == [video.name for video in long]
    assert found["label"].tolist() == [labelled.CLASSES[video.label] for video in long]
    assert found["group"].tolist() == [video.group for video in long]
    assert found["split"].tolist() == [list(video.splits) for video in long]
    encode = classifier_signatures.build(classifier.model, (labelled.DIM,))["encode"]
    for row, video in zip(found["embedding"], long, strict=True):
        clips = windows(video.frames.astype(np.float32), 4, 4)
        answer = encode(frames=tf.constant(clips))
        expected = np.concatenate([answer["h_2"], answer["c_2"]], axis=1).mean(0)
        np.testing.assert_allclose(row, expected, atol=1e-5)


def test_the_rate_of_the_training_videos_is_known_of_every_model(model):
    for data, fps in (
        ({"made_of": {"settings": {"fps": 5}}}, 5),
        ({"made": {"settings": {"fps": 7}}}, 7),  # a classifier of an earlier version
        ({"made_of": {"settings": {"fps": None}}}, None),
        ({}, None),
    ):
        assert own_clips.trained_fps(dataclasses.replace(model, data=data)) == fps


def test_frame_rates_are_times(model, tmp_path):
    folder = tmp_path / "data"
    frames = [np.uint8(255 * clip) for clip in CLIPS]
    sequences = [records.Record(f, name=n) for f, n in zip(frames, NAMES, strict=True)]
    records.write(folder, sequences, len(sequences), "frames", {"settings": {"fps": 5}})
    found = embedded(model, embedding_inputs.Records(folder), tmp_path / "a", per="window")
    assert found["start"].tolist() == [0, 0, 4, 0, 4, 8, 0, 4, 0]
    np.testing.assert_allclose(found["seconds"], found["start"] / 5)


def test_parquet_has_the_same_rows(model, tmp_path):
    parquet = pytest.importorskip("pyarrow.parquet")
    clips = embedding_inputs.Clips(NAMES, CLIPS)
    with embeddings.computed(model, clips, embeddings.Settings(), tmp_path / "parts") as rows:
        for suffix in ("npz", "parquet"):
            embeddings.write(rows, tmp_path / f"e.{suffix}")
    table, arrays = parquet.read_table(tmp_path / "e.parquet"), np.load(tmp_path / "e.npz")
    assert table.column_names == COLUMNS
    assert table["name"].to_pylist() == arrays["name"].tolist()
    assert table["frames"].to_pylist() == arrays["frames"].tolist()
    np.testing.assert_array_equal(
        np.stack(table["embedding"].to_numpy()), arrays["embedding"], strict=True
    )
    assert table.schema.metadata[b"settings"].decode() == str(arrays["settings"])


def test_parquet_without_its_package(tmp_path, monkeypatch):
    monkeypatch.setattr("importlib.util.find_spec", lambda name: None)
    with pytest.raises(ValueError, match=r"e.parquet: Parquet needs the package pyarrow"):
        embeddings.check_out(tmp_path / "e.parquet")
    embeddings.check_out(tmp_path / "e.npz")


class Killed(Exception):
    pass


class Interrupted(embedding_inputs.Clips):
    """Clips that are read up to one of them, and count what is read."""

    def __init__(self, last=None):
        super().__init__(NAMES, CLIPS)
        self.last, self.asked = last, []

    def read(self, numbers):
        for number, frames in super().read(numbers):
            if number == self.last:
                raise Killed
            self.asked.append(number)
            yield number, frames


@pytest.mark.parametrize("per", ["video", "window"])
def test_a_killed_job_resumes(model, tmp_path, monkeypatch, per):
    monkeypatch.setattr(embeddings, "_SEQUENCES", 2)
    expected = embedded(model, Interrupted(), tmp_path / "whole", per=per)
    with pytest.raises(Killed):
        embedded(model, Interrupted(3), tmp_path / "a", per=per)
    with pytest.raises(ValueError, match=r"another job that did not finish(.|\n)*states"):
        embedded(model, Interrupted(), tmp_path / "a", per=per, states=("h",))
    again = Interrupted()
    found = embedded(model, again, tmp_path / "a", per=per)
    assert again.asked == [2, 3, 4]
    assert found.keys() == expected.keys()
    for name in found:
        np.testing.assert_array_equal(found[name], expected[name])


def test_rows_that_could_not_be_written_are_not_computed_again(model, tmp_path):
    working, clips = tmp_path / "parts", Interrupted()
    with pytest.raises(Killed):
        with embeddings.computed(model, clips, embeddings.Settings(), working):
            raise Killed
    with embeddings.computed(model, clips, embeddings.Settings(), working) as rows:
        assert rows.count == 5 and clips.asked == [0, 1, 2, 3, 4]


def test_sequences_that_cannot_be_embedded_are_named(model, tmp_path):
    bad = CLIPS[2].copy()
    bad[9, 0, 0] = np.nan  # of its third window
    clips = embedding_inputs.Clips("abcd", [CLIPS[0][:3], 2 * CLIPS[1], bad, CLIPS[3]])
    settings = embeddings.Settings(per="window")
    with embeddings.computed(model, clips, settings, tmp_path / "parts") as rows:
        problems = dict(rows.problems)
        assert rows.count == 2
    assert problems["a"] == "3 frames, but a window has 4"
    assert "was trained on values in [0, 1]" in problems["b"]
    assert problems["c"] == "a value is not finite" and "d" not in problems
    none = embedding_inputs.Clips("ab", [CLIPS[0][:3], CLIPS[0][:2]])
    with pytest.raises(ValueError, match="none of 2 sequences can be embedded: a: 3 frames"):
        with embeddings.computed(model, none, settings, tmp_path / "parts"):
            pass
    assert not (tmp_path / "parts").exists()


def test_what_does_not_fit_is_refused(model, data, tmp_path):
    with pytest.raises(ValueError, match=r"frames of .7,., but .* reads frames of .32, 32."):
        embedded(model, embedding_inputs.Records(data), tmp_path / "a")
    clips = embedding_inputs.Clips(NAMES, CLIPS)
    with pytest.raises(ValueError, match="states x: the layers of .* have h,c"):
        embedded(model, clips, tmp_path / "a", states=("x",))
    with pytest.raises(ValueError, match="the stride of a window must be at least 1"):
        embedded(model, clips, tmp_path / "a", stride=0)
    with pytest.raises(ValueError, match=r"clips of shape .2, 4, 7.; .* reads frames of .32, 32."):
        embeddings.encode(model, np.zeros((2, 4, 7)))
    config = labelled.a_config(data, kind="single_frame")
    single = labelled.untrained(config, tmp_path / "single")
    with pytest.raises(ValueError, match="is a single_frame classifier, which has no encoder"):
        embeddings.encode(single, np.zeros((2, 4, labelled.DIM)))


# ---------------------------------------------------------------------- neighbours


@pytest.mark.parametrize("per", ["video", "window"])
def test_nearest_neighbours_are_those_of_scikit_learn(model, tmp_path, monkeypatch, per):
    monkeypatch.setattr(embeddings, "_SEQUENCES", 2)
    clips, settings = embedding_inputs.Clips(NAMES, CLIPS), embeddings.Settings(per=per)
    with embeddings.computed(model, clips, settings, tmp_path / "parts") as rows:
        found = neighbours.nearest(rows, 3, queries=4)
        parts = list(rows.parts())
    whole = {name: np.concatenate([part[name] for part in parts]) for name in parts[0]}
    fitted = NearestNeighbors(n_neighbors=rows.count, metric="cosine").fit(whole["embedding"])
    assert len(found) == 4
    for query, line in zip(np.arange(4) * rows.count // 4, found, strict=True):
        distances, order = fitted.kneighbors(whole["embedding"][query : query + 1])
        others = whole["sequence"][order[0]] != whole["sequence"][query]
        places = [(whole["sequence"][i], whole["start"][i]) for i in (query, *order[0][others][:3])]
        assert [(hit.sequence, hit.start) for hit in line] == places
        cosines = [hit.similarity for hit in line[1:]]
        np.testing.assert_allclose(cosines, 1 - distances[0][others][:3], atol=1e-6)


def test_a_picture_of_neighbours_has_their_frames(model, tmp_path):
    """Two clips of one grey level each: both levels are in the picture, in the right places."""
    levels = [np.full((5, 32, 32), level, np.float32) for level in (0.25, 0.75)]
    clips = embedding_inputs.Clips(["dark", "bright"], levels)
    with embeddings.computed(model, clips, embeddings.Settings(), tmp_path / "parts") as rows:
        found = neighbours.nearest(rows, 1)
        neighbours.draw(rows, found, tmp_path / "n.png")
        assert neighbours.lines(rows, found)[0].startswith("dark: bright 0.")
    picture = np.asarray(Image.open(tmp_path / "n.png").convert("L"))
    upper, lower = np.array_split(picture, 2)
    for half, (left, right) in ((upper, (64, 191)), (lower, (191, 64))):
        for level, part in zip((left, right), np.array_split(half, 2, axis=1), strict=True):
            other = left + right - level  # the edges of letters have any level
            assert (part == level).mean() > 0.4 and (part == other).mean() < 0.01
    with pytest.raises(ValueError, match="all rows are of one group"):
        only = embedding_inputs.Clips(["dark"], levels[:1])
        with embeddings.computed(model, only, embeddings.Settings(), tmp_path / "parts") as rows:
            neighbours.nearest(rows, 1)


# ---------------------------------------------------------------------- the command


@pytest.fixture
def command(tmp_path, monkeypatch):
    """Runs eval.embed in this process, in an empty folder, with errors as exceptions."""
    monkeypatch.chdir(tmp_path)
    with command_flags.command("eval.embed") as module:
        yield lambda *arguments: module.main(flags.FLAGS(["embed", *map(str, arguments)]))


def test_files_that_fit_and_others(command, run, tmp_path, capsys):
    for name, clip in (("walk/1.npy", CLIPS[1]), ("walk/2.npy", CLIPS[0][:2]), ("3.npy", CLIPS[3])):
        (tmp_path / "in" / name).parent.mkdir(parents=True, exist_ok=True)
        np.save(tmp_path / "in" / name, np.repeat(clip, 2, 2))
    flags = [f"--workdir={run}", "--input=in", "--out=e.npz", "--neighbours=1"]
    assert command(*flags) == 1
    printed = capsys.readouterr().out
    assert "frames of 32x64 cut to 32x32 (and so are others like it)" in printed
    assert printed.count("cut to") == 1
    assert "2 rows of 16 numbers, h_1 0:8, c_1 8:16" in printed
    assert "NOT embedded, 1 of 3:\n  walk/2.npy: 2 frames, but a window has 4" in printed
    found = np.load("e.npz")
    assert found["name"].tolist() == ["3.npy", "walk/1.npy"]
    assert found["label"].tolist() == ["", "walk"]
    assert Image.open("e_neighbours.png").width > 300


def test_percepts_have_neighbours_by_name(command, classifier, data, capsys):
    assert command(f"--workdir={classifier.path}", f"--records={data}", "--neighbours=2") == 1
    printed = capsys.readouterr().out
    assert "frames of shape (7,) are no pictures; the nearest neighbours by name" in printed
    assert "\n  archery/00: " in printed and "NOT embedded, " in printed


def test_generated_clips(command, run, capsys):
    assert command(f"--workdir={run}", "--clips=3") == 0
    assert "3 generated clips of handwritten digits" in capsys.readouterr().out
    assert np.load("embeddings.npz")["name"].tolist() == ["clip 1", "clip 2", "clip 3"]


@pytest.mark.parametrize(
    "arguments, message",
    [
        (["--input="], "--input is empty"),
        (["--input=a", "--records=b"], "give either --input or --records"),
        (["--input=nowhere.mp4"], "nowhere.mp4: there is no such file or folder"),
        (["--records=nowhere"], "nowhere is no data set of data_prep"),
        (["--fps=3"], "--fps goes with --input of pictures"),
        (["--out=a.txt"], "a.txt: .npz or .parquet expected"),
        (["--states=h,x"], "states h,x: the layers of .* have h,c"),
        (["--recompute"], "--recompute has no meaning here"),
        (["--digits_dir=x", "--input=y.npy"], "--digits_dir is for generated clips"),
        (["--model=x"], "--workdir and --model: give a single model"),
    ],
)
def test_bad_flags(command, run, arguments, message):
    with pytest.raises((ValueError, OSError), match=message):
        command(f"--workdir={run}", *arguments)


def test_an_empty_folder(command, run, tmp_path):
    (tmp_path / "in").mkdir()
    with pytest.raises(ValueError, match="in: no sequence of frames"):
        command(f"--workdir={run}", "--input=in")
