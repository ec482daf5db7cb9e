"""Percepts: against Keras called directly on frames that OpenCV prepared, and the command."""

import socket
import threading
import types
from pathlib import Path

import cv2
import keras
import numpy as np
import pytest

import commands
from unsup_video.data import records, windows
from unsup_video.video import decoding, jobs, listing, percepts
from unsup_video.video.decoding import VideoError
from unsup_video.video.listing import Video

HEIGHT, WIDTH = 24, 40  # of the videos
SIZE = (16, 20)  # of the CNN's input
MEAN, STD = (120.0, 110.0, 100.0), (60.0, 50.0, 40.0)
SCALED = {"mean": (127.0,), "std": (128.0,)}


@pytest.fixture(scope="module")
def cnn(tmp_path_factory):
    """A .keras file: layers conv (H, W, 6) and pool (6,) are not negative, head (3,) is."""
    keras.utils.set_random_seed(0)
    image = keras.Input((*SIZE, 3))
    x = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    x = keras.layers.BatchNormalization(name="norm")(x)  # as in training it would mix the batch
    x = keras.layers.ReLU(name="relu")(x)
    x = keras.layers.GlobalAveragePooling2D(name="pool")(x)
    x = keras.layers.Dense(3, bias_initializer=keras.initializers.Constant(-9), name="head")(x)
    path = tmp_path_factory.mktemp("cnn") / "small.keras"
    keras.Model(image, x).save(path)
    return str(path)


@pytest.fixture(scope="module")
def videos(tmp_path_factory):
    """Videos of 5 and 9 frames of noise, without loss."""
    folder = tmp_path_factory.mktemp("videos")
    for name, count in {"a": 5, "b": 9}.items():
        path = folder / f"{name}.avi"
        writer = cv2.VideoWriter(str(path), cv2.VideoWriter_fourcc(*"FFV1"), 10, (WIDTH, HEIGHT))
        noise = np.random.default_rng(count).integers(0, 256, (count, HEIGHT // 4, WIDTH // 4, 3))
        for image in noise.astype(np.uint8):
            writer.write(cv2.resize(image, (WIDTH, HEIGHT)))
        writer.release()
    return [Video(str(folder / "a.avi"), "a", 1, "g", (1, 2)), Video(str(folder / "b.avi"), "b")]


def decoded(path, count=None):
    """(T, H, W, 3) RGB of the first `count` frames."""
    capture, found = cv2.VideoCapture(str(path)), []
    while (read := capture.read())[0] and len(found) != count:
        found.append(read[1][..., ::-1])
    return np.stack(found)


def values(job, video):
    """(record, what it stands for)."""
    (record,) = job.records(video)
    return record, record.frames.astype(np.float32) * np.float32(record.scale or job.scale)


def assert_close(found, wanted, dtype):
    assert found.shape == wanted.shape and wanted.std() > 0
    error = wanted.max() / 509 if dtype == "uint8" else 2.0**-11 * np.abs(wanted).max()
    np.testing.assert_allclose(found, wanted, atol=error * 1.01 + 1e-5)


# ---------------------------------------------------------------------- against Keras


@pytest.mark.parametrize(
    "options",
    [
        {"layer": "pool", "batch_size": 4},
        {"layer": "pool", "dtype": "uint8", "batch_size": 32},
        {"batch_size": 1},
        {"layer": "head", "mean": MEAN, "std": STD, "bgr": True},
        {"layer": "conv", "dtype": "uint8", "mean": MEAN, "std": STD, "batch_size": 9},
        {"layer": "pool", "resize": SIZE},
        {"layer": "pool", "resize": (30, 21)},
    ],
)
def test_percepts_of_a_keras_file(cnn, videos, options):
    job = percepts.job(cnn, **{**SCALED, **options})
    model = keras.saving.load_model(cnn)
    layer = model.get_layer(options.get("layer", "pool"))
    for video in videos:
        record, found = values(job, video)
        assert (record.name, record.label, record.group, record.splits) == (
            video.name,
            video.label,
            video.group,
            video.splits,
        )
        assert record.frames.dtype == options.get("dtype", "float16")

        height, width = options.get("resize", (17, 29))  # 16 * 240 / 224, 20 * 320 / 224
        inputs = []
        for frame in decoded(video.path).astype(np.uint8):
            shrinks = height <= HEIGHT and width <= WIDTH
            frame = cv2.resize(
                frame,
                (width, height),
                interpolation=cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR,
            )
            top, left = (height - SIZE[0]) // 2, (width - SIZE[1]) // 2
            frame = frame[top : top + SIZE[0], left : left + SIZE[1]]
            inputs.append(frame[..., ::-1] if options.get("bgr") else frame)
        inputs = (np.float32(inputs) - options.get("mean", 127)) / options.get("std", 128)
        wanted = keras.Model(model.inputs, layer.output).predict(inputs, verbose=0)
        if wanted.ndim == 4:
            wanted = wanted.mean(axis=(1, 2))
        assert_close(found, wanted, options.get("dtype"))


@pytest.mark.slow
def test_a_cnn_of_keras_applications(tmp_path, videos):
    """With the weights of a file: its own size and preprocessing."""
    keras.utils.set_random_seed(0)
    model = keras.applications.MobileNet(weights=None, alpha=1.0)
    model.save_weights(tmp_path / "mobilenet.weights.h5")
    weights = (tmp_path / "mobilenet.weights.h5").rename(tmp_path / "MOBILENET.WEIGHTS.H5")
    job = percepts.job("MobileNet", weights=str(weights), batch_size=2)
    assert (job.size, job.resize, job.weights) == ((224, 224), (240, 320), str(weights))
    frames = [
        cv2.resize(frame, (320, 240), interpolation=cv2.INTER_LINEAR)[8:232, 48:272]
        for frame in decoded(videos[0].path).astype(np.uint8)
    ]
    inputs = keras.applications.mobilenet.preprocess_input(np.float32(frames))
    pooled = keras.Model(model.inputs, model.get_layer("conv_pw_13_relu").output)
    wanted = pooled.predict(inputs, verbose=0).mean(axis=(1, 2))
    assert_close(values(job, videos[0])[1], wanted, "float16")


def test_the_papers_cnn_is_the_default(videos, monkeypatch):
    """VGG-16's fc6 after its ReLU; of a smaller network of the same layers here."""
    asked = []

    def vgg16(weights):
        asked.append((weights, socket.getdefaulttimeout()))
        keras.utils.set_random_seed(0)
        image = keras.Input((224, 224, 3))
        x = keras.layers.AveragePooling2D(56, name="block5_pool")(image)
        x = keras.layers.Flatten(name="flatten")(x)
        x = keras.layers.Dense(7, "relu", name="fc1")(x)
        return keras.Model(image, keras.layers.Dense(5, "relu", name="fc2")(x))

    monkeypatch.setattr(keras.applications.vgg16, "VGG16", vgg16)
    percepts._model.cache_clear()
    job = percepts.job()
    assert (job.cnn, job.weights, job.layer) == ("VGG16", "imagenet", "fc1")
    assert asked == [("imagenet", percepts._TIMEOUT)] and socket.getdefaulttimeout() is None
    frames = [
        cv2.resize(frame, (320, 240), interpolation=cv2.INTER_LINEAR)[8:232, 48:272]
        for frame in decoded(videos[0].path).astype(np.uint8)
    ]
    # What VGG takes: blue, green, red less the mean of ImageNet.
    inputs = np.float32(frames)[..., ::-1] - np.float32([103.939, 116.779, 123.68])
    model = vgg16("imagenet")
    wanted = keras.Model(model.inputs, model.get_layer("fc1").output).predict(inputs, verbose=0)
    assert_close(values(job, videos[0])[1], wanted, "float16")
    percepts._model.cache_clear()


def test_real_clips(real_data):
    """An EfficientNet of ImageNet: equal to Keras, and clips of one class are nearest."""
    path = str(real_data / "cnn" / "efficientnet_lite0_imagenet.keras")
    clips = listing.folder(real_data / "clips" / "ucf101").videos
    job = percepts.job(path, **SCALED, batch_size=4, fps=0.5)
    model = keras.saving.load_model(path)
    means = []
    for video in clips:
        found = values(job, video)[1]
        means.append(found.mean(axis=0) / np.linalg.norm(found.mean(axis=0)))
        if video is clips[0]:
            first = cv2.resize(decoded(video.path, 1)[0], (320, 240))[8:232, 48:272]
            wanted = model.predict((np.float32(first)[None] - 127) / 128, verbose=0)[0]
            assert_close(found[:1], wanted, "float16")
            assert found.shape[1] == 1280

    classes = [video.name.split("_")[1] for video in clips]
    likeness = np.array(means) @ np.transpose(means)
    np.fill_diagonal(likeness, -1)
    nearest = likeness.argmax(axis=1)
    hits = [
        classes[i] == classes[k] for i, k in enumerate(nearest) if classes.count(classes[i]) > 1
    ]
    assert len(hits) >= 15 and np.mean(hits) > 0.9


# ---------------------------------------------------------------------- how it works


def test_one_load_one_trace_and_the_same_bytes(cnn, videos, monkeypatch):
    loads, load = [], keras.saving.load_model
    monkeypatch.setattr(
        keras.saving, "load_model", lambda *a, **k: loads.append(k) or load(*a, **k)
    )
    percepts._model.cache_clear()
    percepts._loaded.cache_clear()
    job = percepts.job(cnn, **SCALED, batch_size=4)
    first = [records.serialize(*job.records(video)) for video in videos]
    again = [records.serialize(*job.records(video)) for video in videos[::-1]][::-1]
    assert first == again
    assert loads == [{"compile": False, "safe_mode": True}]
    assert percepts._loaded(job).experimental_get_tracing_count() == 1


def test_decoding_goes_on_while_the_cnn_works(cnn, videos, monkeypatch):
    job = percepts.job(cnn, **SCALED, batch_size=3)
    decodes, function, batches = threading.Event(), percepts._loaded(job), percepts.Percepts.batches

    def watched(self, frames):
        for i, batch in enumerate(batches(self, frames)):
            if i == 1:
                decodes.set()
            yield batch

    def waits(frames):
        assert decodes.wait(60), "the second batch is not decoded before the first is done"
        return function(frames)

    monkeypatch.setattr(percepts.Percepts, "batches", watched)
    monkeypatch.setattr(percepts, "_loaded", lambda job: waits)
    assert job.percepts(videos[1]).shape == (9, 6)


def test_a_bad_video(cnn, videos, tmp_path, monkeypatch):
    job = percepts.job(cnn, **SCALED)
    with pytest.raises(VideoError, match="missing"):
        values(job, Video(str(tmp_path / "none.avi"), "none"))
    monkeypatch.setattr(percepts, "_MAX_BYTES", 6 * 4 * 5)
    assert values(job, videos[0])[1].shape == (5, 6)
    with pytest.raises(VideoError, match="shorter files"):
        values(job, videos[1])


def test_a_video_whose_values_cannot_be_stored(cnn, videos, monkeypatch):
    job = percepts.job(cnn, **SCALED)
    monkeypatch.setattr(percepts.Percepts, "percepts", lambda self, video: np.full((5, 6), 7e4))
    with pytest.raises(VideoError, match="of its percepts a value of 7e[+]04 is beyond float16"):
        list(job.records(videos[0]))


def test_a_worker_without_the_cnn_does_not_blame_the_video(videos, tmp_path, monkeypatch):
    def fails(job):
        raise OSError("the ImageNet weights are not here")

    monkeypatch.setattr(percepts, "_loaded", fails)
    job = percepts.Percepts("VGG16", "imagenet", "", "fc1", (224, 224), (240, 320))
    with pytest.raises(jobs.JobError, match="^the CNN cannot be loaded: the ImageNet"):
        jobs.run(job, listing.folder(Path(videos[0].path).parent), tmp_path / "out")


def test_settings_tell_jobs_apart(cnn, tmp_path):
    copy = tmp_path / "elsewhere" / Path(cnn).name
    copy.parent.mkdir()
    copy.write_bytes(Path(cnn).read_bytes())
    job = percepts.job(cnn, **SCALED)
    assert percepts.job(str(copy), **SCALED).settings == job.settings
    for other in (
        {"layer": "conv"},
        {"dtype": "uint8"},
        {"fps": 5.0},
        {"resize": SIZE},
        {"bgr": True},
        {"batch_size": 2},
        {"std": (1.0,)},
    ):
        assert percepts.job(cnn, **{**SCALED, **other}).settings != job.settings


# ---------------------------------------------------------------------- bad arguments


@pytest.mark.parametrize(
    "options, message",
    [
        ({"layer": "fc9"}, "no layer 'fc9'. It has input_layer.*, conv, norm, relu, pool, head"),
        ({"layer": "head", "dtype": "uint8"}, "layer head: a value is -.*never negative"),
        ({"mean": (), "std": ()}, "Give mean and std"),
        ({"std": ()}, "Give mean and std"),
        ({"mean": (1.0, 2.0)}, "one number, or three"),
        ({"std": (0.0,)}, "std not 0"),
        ({"weights": "imagenet"}, "contains its weights"),
        ({"resize": (10, 40)}, r"\(10, 40\) has no centre of \(16, 20\)"),
        ({"size": (18, 20)}, "size .18, 20.: .*small.keras takes frames of 16 x 20 pixels"),
        ({"size": (0, 20)}, "size .0, 20.: .*small.keras takes frames of 16 x 20 pixels"),
        ({"dtype": "int4"}, "unknown storage 'int4'"),
        ({"batch_size": 0}, "batch_size must be at least 1"),
        ({"fps": 0.0}, "fps must be above 0"),
        ({"fps": float("inf")}, "fps must be above 0"),
    ],
)
def test_bad_arguments(cnn, options, message):
    with pytest.raises(ValueError, match=message):
        percepts.job(cnn, **{**SCALED, **options})


def test_a_cnn_that_does_not_exist(tmp_path):
    with pytest.raises(ValueError, match="no CNN 'VGG17': a .keras file, or one of .*VGG16"):
        percepts.job("VGG17")
    with pytest.raises(OSError, match="none.keras"):
        percepts.job(str(tmp_path / "none.keras"))  # and not that mean and std are missing
    with pytest.raises(ValueError, match="bgr goes with mean and std: VGG16"):
        percepts.job("VGG16", bgr=True)


@pytest.mark.parametrize(
    "content, message",
    [
        (b"no archive", "it is no .keras file, or it is truncated"),
        (b"", "it is empty"),
        (b"\x89HDF\r\n\x1a\n" + bytes(99), "it is HDF5, the older format of Keras"),
    ],
)
def test_a_file_that_is_no_cnn_says_what_it_is(tmp_path, content, message):
    (tmp_path / "bad.keras").write_bytes(content)
    with pytest.raises(ValueError, match=f"bad.keras cannot be loaded: {message}"):
        percepts.job(str(tmp_path / "bad.keras"), **SCALED)


def functional(*inside):
    image = x = keras.Input((*SIZE, 3))
    for layer in inside:
        x = layer(x)
    return keras.Model(image, x)


@pytest.mark.parametrize(
    "outer", [functional, lambda *inside: keras.Sequential([keras.Input((*SIZE, 3)), *inside])]
)
@pytest.mark.parametrize(
    "options, wanted",
    [
        ({}, "pool"),
        ({"layer": "pool"}, "pool"),
        ({"layer": "conv"}, "conv"),
        ({"layer": "backbone"}, "norm"),
        ({"layer": "middle"}, "norm"),
    ],
)
def test_a_backbone_inside_of_a_cnn(videos, tmp_path, outer, options, wanted):
    """As transfer learning leaves it: the input is scaled, a model is a layer, a head follows."""
    image = keras.Input((*SIZE, 3))
    conv = keras.layers.Conv2D(6, 3, activation="relu", name="conv")(image)
    norm = keras.layers.LayerNormalization(name="norm")(conv)
    backbone = keras.Model(image, norm, name="backbone")
    middle = functional(backbone, keras.layers.GlobalAveragePooling2D(name="pool"))
    if options.get("layer") == "middle":
        middle = functional(backbone)
    middle.name = "middle"
    backbone(keras.Input((*SIZE, 3)))  # it was called elsewhere, too
    outer(
        keras.layers.Rescaling(1 / 50),
        middle,
        keras.layers.Flatten(),
        keras.layers.Dense(2, name="head"),
    ).save(tmp_path / "nested.KERAS.keras")
    (tmp_path / "nested.KERAS.keras").rename(tmp_path / "nested.KERAS")
    job = percepts.job(
        str(tmp_path / "nested.KERAS"), mean=(0.0,), std=(1.0,), resize=SIZE, **options
    )
    model = keras.Model(image, conv if wanted == "conv" else norm)
    (batch,) = job.batches(decoding.frames(videos[0].path))
    expected = model(np.float32(batch) / 50).numpy().mean(axis=(1, 2))
    assert_close(values(job, videos[0])[1], expected, "float16")


def test_a_backbone_that_is_called_by_the_name_of_its_argument(videos, tmp_path):
    image = keras.Input((*SIZE, 3))
    conv = keras.layers.Conv2D(6, 3, name="conv")
    backbone = keras.Model(image, conv(image), name="backbone")
    scaled = keras.layers.Rescaling(1 / 50)(image)
    head = keras.layers.Dense(2)(keras.layers.Flatten()(backbone(inputs=scaled, training=False)))
    keras.Model(image, head).save(tmp_path / "nested.keras")
    job = percepts.job(
        str(tmp_path / "nested.keras"), layer="conv", mean=(0.0,), std=(1.0,), resize=SIZE
    )
    (batch,) = job.batches(decoding.frames(videos[0].path))
    expected = backbone(np.float32(batch) / 50).numpy().mean(axis=(1, 2))
    assert_close(values(job, videos[0])[1], expected, "float16")


def test_an_empty_file_of_weights_is_named(tmp_path, monkeypatch):
    def small(weights):
        model = functional(keras.layers.Conv2D(2, 3))
        model.load_weights(weights)
        return model

    monkeypatch.setattr(percepts, "_application", lambda name: types.SimpleNamespace(Small=small))
    (tmp_path / "b.weights.h5").touch()
    with pytest.raises(ValueError, match="b.weights.h5 cannot be loaded"):
        percepts.job("Small", weights=str(tmp_path / "b.weights.h5"))


def test_a_file_with_code_in_it_is_refused(tmp_path):
    image = keras.Input((8, 8, 3))
    layer = keras.layers.Lambda(lambda x: x * 2)
    keras.Model(image, keras.layers.GlobalAveragePooling2D()(layer(image))).save(
        tmp_path / "code.keras"
    )
    with pytest.raises(ValueError, match="code.keras cannot be loaded.*safe_mode"):
        percepts.job(str(tmp_path / "code.keras"), **SCALED)


def test_weights_that_cannot_be_downloaded(monkeypatch):
    def fails(weights):
        raise Exception("URL fetch failure on https://somewhere: None -- Name not known")

    monkeypatch.setattr(keras.applications.vgg16, "VGG16", fails)
    percepts._model.cache_clear()
    with pytest.raises(OSError, match="VGG16 are not here and cannot be downloaded .URL fetch"):
        percepts.job()


# ---------------------------------------------------------------------- the command


@pytest.mark.slow
def test_flags_are_checked_before_the_cnn():
    done = commands.run("data_prep.percepts", "--videos=x", "--cnn=VGG17")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == "error: --out=FOLDER is missing: the folder to write"


@pytest.mark.slow
def test_as_a_command(cnn, videos, tmp_path):
    out = tmp_path / "out"
    done = commands.run(
        "data_prep.percepts",
        f"--videos={Path(videos[0].path).parent}",
        f"--cnn={cnn}",
        "--layer=conv",
        "--mean=120,110,100",
        "--std=60,50,40",
        "--size=16x20",
        "--storage=uint8",
        "--batch_size=4",
        f"--out={out}",
    )
    assert done.returncode == 0, done.stderr
    assert "layer conv: the central 16x20 of 17x29" in done.stdout
    assert records.verify(out) == []
    manifest = records.Manifest.load(out)
    assert (manifest.kind, manifest.dtype, manifest.shape) == ("percepts", "uint8", (None, 6))
    job = percepts.job(cnn, layer="conv", mean=MEAN, std=STD, dtype="uint8", batch_size=4)
    found = [
        window["frames"]
        for window in windows.at(out, 4, windows.starts(out, 4)).as_numpy_iterator()
    ]
    b = values(job, videos[1])[1]
    np.testing.assert_allclose(found, [values(job, videos[0])[1][:4], b[:4], b[4:8]], rtol=1e-6)
