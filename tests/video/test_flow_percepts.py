"""Percepts of flow without training: images against arithmetic by hand, and the command."""

import json
import pickle

import keras
import numpy as np
import pytest

import command_flags
import commands
import labelled
from unsup_video.configs import percepts_small
from unsup_video.data import records, sources
from unsup_video.evaluation import action_recognition, testvideos
from unsup_video.video import flow_percepts, hof, jobs, percepts, stored_flow

HEIGHT, WIDTH, SCALE = 24, 32, 0.1
LENGTHS = (9, 12, 10, 12)


def moving(label, rng, frames):
    """Something that moves to the right, down or up, under a camera that pans: int8 codes."""
    u, v = ((30, 0), (0, 30), (0, -30))[label]
    codes = rng.integers(-5, 5, (frames, HEIGHT, WIDTH, 2)) + rng.integers(
        -40, 40, (frames, 1, 1, 2)
    )
    codes[:, 8:16, 4:12] += [u, v]
    return codes.astype(np.int8)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    """Flow of 36 videos of three classes, in groups and with two official splits."""
    folder, rng = tmp_path_factory.mktemp("motion") / "flow", np.random.default_rng(0)
    found = [
        records.Record(
            moving(label, rng, LENGTHS[i % 4]),
            None,
            f"{name}/{i}",
            label,
            f"{name}/{i // 2}",
            (2 if i < 4 else 1, 1),
        )
        for label, name in enumerate(labelled.CLASSES)
        for i in range(12)
    ]
    return write(folder, found)


def write(folder, found, **fields):
    fields = {"dtype": "int8", "scale": SCALE, "classes": labelled.CLASSES, **fields}
    records.write(folder, found, len(found), "flow", {}, shards=min(2, len(found)), **fields)
    return folder


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    """A .keras file of a CNN whose percept is the mean of each channel."""
    image = keras.Input((12, 16, 3))
    path = tmp_path_factory.mktemp("cnn") / "mean.keras"
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(image)).save(path)
    return str(path)


def images(cnn, folder, batch_size=4, **fields):
    """The job, whose CNN reads the whole flow, halved, with 0 at mid-grey and 1 at the bound."""
    network = percepts.job(
        cnn, size=(12, 16), resize=(12, 16), mean=(128,), std=(127,), batch_size=batch_size
    )
    return flow_percepts.of_images(network, folder, **fields)


# ---------------------------------------------------------------------- images of flow


def test_an_image_is_what_one_calculates_by_hand(cnn, motion):
    codes = np.zeros((1, HEIGHT, WIDTH, 2), np.int8)
    codes[0, 0, 0] = [30, -40]  # 3, -4 pixels: a speed of 5
    codes[0, 0, 1] = [-20, 0]
    codes[0, 0, 2] = [127, 0]  # beyond the bound
    image = images(cnn, motion, bound=8).image(codes, SCALE)
    assert image.dtype == np.uint8 and image.shape == (HEIGHT, WIDTH, 3)
    assert image[0, 0].tolist() == [176, 64, 207]  # 128 + 127 x / 8, rounded
    assert image[0, 1].tolist() == [96, 128, 160]
    assert image[0, 2].tolist() == [255, 128, 255]
    assert (image[1:] == 128).all()


def test_the_median_is_the_camera_and_can_be_kept(cnn, motion):
    codes = np.full((1, HEIGHT, WIDTH, 2), [20, -10], np.int8)
    codes[0, :3] += 10
    image = images(cnn, motion, bound=4).image(codes, SCALE)
    assert (image[3:] == 128).all()
    assert image[0, 0].tolist() == [160, 160, 173]  # 1, 1 and its length
    image = images(cnn, motion, bound=4, subtract_median=False).image(codes, SCALE)
    assert image[3, 0].tolist() == [192, 96, 199]  # 128 + 127 (2, -1, 2.236) / 4, half to even


def test_a_stack_is_the_mean_of_its_channels(cnn, motion):
    codes = np.zeros((2, HEIGHT, WIDTH, 2), np.int8)
    codes[0, 0, 0], codes[1, 0, 0] = [30, 40], [-30, 40]
    job = images(cnn, motion, stack=2, bound=10)
    assert job.image(codes, SCALE)[0, 0].tolist() == [128, 179, 192]  # 0, 4, a speed of 5
    as_channels = np.concatenate(list(codes), axis=-1)[None]  # a record of stacks
    np.testing.assert_array_equal(job.image(as_channels, SCALE), job.image(codes, SCALE))


@pytest.mark.parametrize("stack", [1, 3])
def test_percepts_are_the_cnns_of_these_images(cnn, motion, stack):
    job = images(cnn, motion, stack=stack, bound=4)
    (video, *_) = stored_flow.listing(motion).videos
    (record,) = job.records(video)
    (stored,) = records.pick(motion, [0])
    flows = stored.frames.astype(np.float64) * SCALE
    flows -= np.median(flows, axis=(1, 2), keepdims=True)
    channels = np.concatenate([flows, np.hypot(*np.moveaxis(flows, -1, 0))[..., None]], axis=-1)
    clipped = [channels[t : t + stack].mean(axis=0) for t in range(len(flows) - stack + 1)]
    wanted = np.clip(clipped, -4, 4).mean(axis=(1, 2)) / 4
    assert record.frames.shape == (LENGTHS[0] - stack + 1, 3) and wanted.max() > 0.1
    np.testing.assert_allclose(record.frames, wanted, atol=0.004)  # a level of 255 is 0.008
    assert (record.name, record.label, record.group, record.splits) == (
        "archery/0",
        0,
        "archery/0",
        (2, 1),
    )


def test_stored_stacks_give_one_percept_each(cnn, motion, tmp_path):
    (stored,) = records.pick(motion, [0])
    stacks = np.concatenate([stored.frames[:-1], stored.frames[1:]], axis=-1)
    folder = write(tmp_path / "stacks", [records.Record(stacks, None, "a", 0)])
    (video,) = stored_flow.listing(folder).videos
    (record,) = images(cnn, folder).records(video)
    (single,) = images(cnn, motion, stack=2).records(stored_flow.listing(motion).videos[0])
    np.testing.assert_array_equal(record.frames, single.frames)
    with pytest.raises(ValueError, match="1 for records of stacks, got 2; .* has 2 flows per rec"):
        images(cnn, folder, stack=2)
    with pytest.raises(ValueError, match="holds stacks of 2 flows, the descriptor is of single"):
        flow_percepts.described(hof.Hof(), folder)


def test_a_video_of_fewer_flows_than_a_stack_is_listed(cnn, motion, tmp_path):
    job = images(cnn, motion, stack=11)
    manifest = jobs.run(job, stored_flow.listing(motion), tmp_path / "out", max_bad_fraction=1)
    assert manifest.count == 18
    reasons = [json.loads(line)["reason"] for line in open(tmp_path / "out" / records.QUARANTINE)]
    assert len(reasons) == 18
    assert reasons[0] == "archery/0: 9 flows, percepts are of stacks of 11"


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"stack": 0}, "stack must be at least 1"),
        ({"bound": 0.0}, "bound must be above 0, got 0.0"),
        ({"bound": np.inf}, "bound must be above 0, got inf"),
    ],
)
def test_bad_fields(cnn, motion, fields, message):
    with pytest.raises(ValueError, match=message):
        images(cnn, motion, **fields)


# ---------------------------------------------------------------------- hof


@pytest.fixture(scope="module")
def described(motion):
    """The data set of descriptors, which the command wrote."""
    out = motion.parent / "hof"
    result = commands.run(
        "data_prep.flow_percepts",
        "--descriptor=hof",
        "--grid=2x2",
        f"--flow={motion}",
        f"--out={out}",
    )
    assert result.returncode == 0, result.stderr
    dim = hof.Hof((2, 2)).dim
    assert f"hof, {dim} values: 2x2 cells and the whole frame" in result.stdout
    return out


def test_records_are_descriptors_of_the_same_videos(described, motion):
    assert records.verify(described) == []
    manifest, settings = (
        records.Manifest.load(described),
        {"name": "hof", "grid": [2, 2], "rest": 1.0},
    )
    assert (manifest.kind, manifest.dtype, manifest.classes) == (
        "percepts",
        "float16",
        labelled.CLASSES,
    )
    assert manifest.source["settings"]["descriptor"] == settings
    assert list(records.load_index(described)) == list(records.load_index(motion))
    for flow, record in zip(
        records.pick(motion, range(3)), records.pick(described, range(3)), strict=True
    ):
        wanted = hof.Hof((2, 2))(flow.frames, SCALE)
        np.testing.assert_allclose(record.frames, wanted, rtol=1e-3, atol=1e-4)


@pytest.mark.slow
def test_they_are_percepts_like_any_others(described, motion, cnn, tmp_path):
    """Data to pretrain on, LSTMs, regression, and fusion with other percepts of the same videos."""
    config = percepts_small.get_config()
    config.data.update({"records": str(described), "split": 1, "frames_in": 4, "frames_out": 3})
    assert sources.build(config).evaluation("validation", 4).shape[:2] == (4, 7)
    lstm = labelled.untrained(labelled.a_config(described), tmp_path / "lstm")
    config = labelled.a_config(described, kind="mean_frame")
    config.train.update({"steps": 60, "eval_every": 20, "checkpoint_every": 20})
    regression = labelled.finetuned(config, tmp_path / "regression")
    jobs.run(images(cnn, motion, stack=2), stored_flow.listing(motion), tmp_path / "other")
    config = labelled.a_config(tmp_path / "other", kind="single_frame")
    of_images = labelled.untrained(config, tmp_path / "images")
    tests = [testvideos.select(model) for model in (regression, lstm, of_images)]
    figures = tests[0].classified.figures(tests[0].videos.labels)
    assert figures["video_accuracy"] > 90  # where a thing moves is all there is to know
    fused = action_recognition.fuse(tests, "the command", log=lambda line: None)
    subjects = {row.subject for row in fused.find(part="video")}
    assert subjects == {"fusion", "regression", "lstm", "images"}


def test_jobs_go_to_workers(motion, cnn):
    for job in (flow_percepts.described(hof.Hof(), motion), images(cnn, motion)):
        assert pickle.loads(pickle.dumps(job)) == job


def test_flow_that_was_written_again_is_not_mixed_up(tmp_path):
    codes = {name: np.full((3, HEIGHT, WIDTH, 2), n, np.int8) for n, name in enumerate("ab")}

    def write_flow(names):
        found = [records.Record(codes[name], None, name) for name in names]
        return records.write(
            tmp_path / "flow", found, 2, "flow", {}, dtype="int8", scale=SCALE, overwrite=True
        )

    def job():
        return flow_percepts.described(hof.Hof((1, 1)), tmp_path / "flow")

    def described(job):
        videos = stored_flow.listing(tmp_path / "flow").videos
        return {video.name: next(job.records(video)).frames for video in videos}

    write_flow("ab")
    first = job()
    before = described(first)
    write_flow("ba")
    with pytest.raises(jobs.JobError, match="is another data set than when the job began"):
        described(first)
    after = described(job())
    for name in "ab":
        np.testing.assert_array_equal(after[name], before[name])


def test_descriptors_are_not_stored_in_8_bits(motion):
    with pytest.raises(ValueError, match="negative values, which uint8 cannot store: float16"):
        flow_percepts.described(hof.Hof(), motion, "uint8")


# ---------------------------------------------------------------------- the command


@pytest.mark.parametrize(
    "arguments, message",
    [
        ([], "one of --workdir=RUN, .* --cnn=NAME_OR_FILE, .* --descriptor=hof, .* none of them"),
        (["--cnn=VGG16", "--descriptor=hof"], "got --cnn and --descriptor"),
        (["--workdir=x", "--stack=2"], "--stack goes with --cnn, not with --workdir"),
        (["--descriptor=hof", "--batch_size=2"], "goes with --workdir and --cnn, not with --desc"),
        (["--cnn=VGG16", "--grid=3x3"], "--grid goes with --descriptor, not with --cnn"),
        (["--descriptor=hof", "--nobgr"], "--bgr goes with --cnn, not with --descriptor"),
        (["--descriptor=hof", "--flow="], "--flow is missing"),
        (["--descriptor=hof", "--grid=20x3"], "flow of 24x32 is too small for a grid of 20x3"),
        (["--cnn=nowhere.keras"], "nowhere.keras does not exist"),
    ],
)
def test_bad_flags(motion, tmp_path, arguments, message):
    with command_flags.command("data_prep.flow_percepts") as command:
        with pytest.raises((ValueError, OSError), match=message):
            given = ["x", f"--flow={motion}", f"--out={tmp_path / 'out'}", *arguments]
            command.main(command.flags.FLAGS(given))


def test_the_command_passes_the_flags_of_the_cnn_on(cnn, motion, tmp_path, capsys):
    with command_flags.command("data_prep.flow_percepts") as command:
        given = [
            "x",
            f"--cnn={cnn}",
            "--mean=128",
            "--std=127",
            "--size=12x16",
            "--resize=12x16",
            "--stack=2",
            "--bound=6",
            "--nosubtract_median",
            "--batch_size=4",
            f"--flow={motion}",
            f"--out={tmp_path / 'out'}",
        ]
        assert command.main(command.flags.FLAGS(given)) == 0
    job = images(cnn, motion, stack=2, bound=6.0, subtract_median=False)
    assert "the central 12x16 of 12x16" in capsys.readouterr().out
    settings = records.Manifest.load(tmp_path / "out").source["settings"]
    assert settings == json.loads(json.dumps(job.settings))
