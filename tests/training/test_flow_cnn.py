"""The temporal-stream CNN, its data and its percepts: against NumPy, TensorFlow's own operations,
OpenCV, and the shapes of the papers."""

import dataclasses
import json
import math

import cv2
import keras
import numpy as np
import pytest
import tensorflow as tf

import commands
from processes import assert_shared_exactly
from unsup_video.configs import flow_cnn as flow_cnn_config
from unsup_video.configs import flow_cnn_small, flow_cnn_stack10
from unsup_video.data import flow_stacks, records, splits, windows
from unsup_video.data.frames import Frames
from unsup_video.models import flow_cnn
from unsup_video.training import loop, optimizers, trained, workdir
from unsup_video.training.tasks import base, flow_classification
from unsup_video.video import flow, flow_percepts, jobs, stored_flow
from unsup_video.video.decoding import VideoError

TINY = dict(filters=(4,), kernels=(3,), strides=(1,), paddings=(1,), norm_after=(), full=(6,))


def tiny(**fields):
    return flow_cnn.build(
        **{
            **TINY,
            "channels": 2,
            "classes": 3,
            "size": 6,
            "pool_after": (1,),
            "dropout": 0.5,
            **fields,
        }
    )


# ---------------------------------------------------------------------- the network


def test_shapes_and_parameters_are_the_papers():
    """CNN-M of Chatfield et al. reduces 224 to 109, 54, 26, 13 and 6 pixels."""
    config = flow_cnn_stack10.get_config().model.to_dict()
    assert config.pop("full") == (4096, 2048) and config["dropout"] == 0.9
    network = flow_cnn.build(channels=20, classes=101, full=(8, 4), **config)
    sizes = {layer.name: layer.output.shape[1:] for layer in network.layers}
    assert [sizes[f"conv{i}"] for i in range(1, 6)] == [
        (109, 109, 96),
        (26, 26, 256),
        (13, 13, 512),
        (13, 13, 512),
        (13, 13, 512),
    ]
    assert [sizes[f"pool{i}"][0] for i in (1, 2, 5)] == [54, 13, 6]
    assert "norm1" in sizes and "norm2" not in sizes
    convolutions = [
        7 * 7 * 20 * 96 + 96,
        5 * 5 * 96 * 256 + 256,
        3 * 3 * 256 * 512 + 512,
        3 * 3 * 512 * 512 + 512,
        3 * 3 * 512 * 512 + 512,
    ]
    full = [6 * 6 * 512 * 8 + 8, 8 * 4 + 4, 4 * 101 + 101]
    assert network.count_params() == sum(convolutions) + sum(full)
    assert network.output_shape == (None, 101)


def test_local_response_normalisation_is_tensorflows():
    x = 200 * np.random.default_rng(0).normal(size=(2, 3, 3, 7)).astype("float32")
    x[1, 0] = 0  # as behind a ReLU
    layer = flow_cnn.LocalResponseNormalization()

    def theirs(x):
        return tf.nn.local_response_normalization(x, depth_radius=2, bias=2, alpha=1e-4, beta=0.75)

    def with_gradient(function):
        tensor = tf.constant(x)
        with tf.GradientTape() as tape:
            tape.watch(tensor)
            y = function(tensor)
        return y, tape.gradient(y, tensor, output_gradients=tf.constant(x + 1))

    found, gradient = with_gradient(layer)
    wanted, wanted_gradient = with_gradient(theirs)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    np.testing.assert_allclose(gradient, wanted_gradient, rtol=1e-4, atol=1e-5)
    x = x[x != 0]
    found = np.asarray(found)[np.asarray(found) != 0]
    assert np.abs(found * 2**0.75 / x).min() < 0.5  # the channels do count


@pytest.mark.parametrize("size", [5, 6, 8])
def test_pooling_keeps_the_last_row_and_column(size):
    network = tiny(size=size, filters=(1,), kernels=(1,), paddings=(0,))
    network.get_layer("conv1").set_weights([np.array([[[[1.0], [0.0]]]]), np.zeros(1)])
    x = np.random.default_rng(size).random((1, size, size, 2)).astype("float32")
    found = keras.Model(network.input, network.get_layer("pool1").output)(x)[0, ..., 0]
    starts = range(0, size - 2 + (size - 3) % 2, 2)  # so that the windows reach the end
    wanted = [[x[0, i : i + 3, j : j + 3, 0].max() for j in starts] for i in starts]
    assert (starts[-1] + 3) in (size, size + 1)
    np.testing.assert_array_equal(found, wanted)


def test_percepts_are_fc6_after_its_relu():
    network = tiny()
    x = np.random.default_rng(0).normal(size=(5, 6, 6, 2)).astype("float32")
    before = keras.Model(network.input, network.get_layer("flatten").output)(x).numpy()
    kernel, bias = network.get_layer("fc6").get_weights()
    found = flow_cnn.percepts(network)(x, training=False).numpy()
    np.testing.assert_allclose(found, np.maximum(before @ kernel + bias, 0), rtol=1e-4, atol=1e-5)
    assert found.shape == (5, 6) and (found == 0).any() and (found > 0).any()


def test_bfloat16_leaves_weights_and_results_in_float32():
    networks = []
    for gemm_dtype in ("float32", "bfloat16"):
        keras.utils.set_random_seed(0)
        networks.append(tiny(gemm_dtype=gemm_dtype, norm_after=(1,)))
    assert {w.dtype for w in networks[1].weights} == {"float32"}
    x = np.random.default_rng(0).normal(size=(50, 6, 6, 2)).astype("float32")
    exact, rounded = (network(x, training=False).numpy() for network in networks)
    assert rounded.dtype == np.float32
    error = np.abs(exact - rounded).max() / np.abs(exact).max()
    assert 1e-4 < error < 0.03  # 8 bits


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"kernels": (3, 3)}, "a value each for every convolution, got 1, 2, 1, 1"),
        ({"pool_after": (2,)}, "no convolution 2 of 1"),
        ({"full": ()}, "full is empty"),
        ({"size": 2}, "2x2 is too small for the flow CNN: pool1 looks at 3 pixels each way, and 2"),
    ],
)
def test_a_network_that_cannot_be_is_an_error(fields, message):
    with pytest.raises(ValueError, match=message):
        tiny(**fields)


def test_the_papers_recipe():
    config = flow_cnn_config.get_config()
    recipe, data = config.recipe, config.data
    assert (recipe.batch_size, recipe.momentum, config.train.steps) == (256, 0.9, 80_000)
    assert (data.stack, flow_cnn_stack10.get_config().data.stack) == (1, 10)
    assert data.subtract_mean and config.eval.stacks_per_video == 25
    rate = optimizers.learning_rate(recipe, config.train.steps)
    for step, expected in {0: 1e-2, 49_999: 1e-2, 50_001: 1e-3, 69_999: 1e-3, 70_001: 1e-4}.items():
        assert float(rate(step)) == pytest.approx(expected)
    optimizers.optimizer(recipe, rate)


# ---------------------------------------------------------------------- stacks


def test_mirrored_flow_is_that_of_the_mirrored_video():
    rng = np.random.default_rng(0)
    a = cv2.GaussianBlur(rng.integers(0, 256, (60, 80), np.uint8), (0, 0), 2)
    b = np.roll(a, (2, 3), axis=(0, 1))
    estimate = flow.estimator("farneback")
    found = flow_stacks.mirrored(tf.constant(estimate(a, b))).numpy()
    wanted = estimate(a[:, ::-1].copy(), b[:, ::-1].copy())
    inside = (slice(15, -15), slice(15, -15))
    np.testing.assert_allclose(found[inside], wanted[inside], atol=0.05)
    np.testing.assert_allclose(found[inside].mean((0, 1)), [-3, 2], atol=0.2)


def test_channels_are_those_of_stored_stacks():
    flows = np.random.default_rng(0).normal(size=(5, 3, 4, 2)).astype("float32")
    found = flow_stacks.stacked(tf.constant(np.stack([flows[1:4], flows[2:5]])))
    np.testing.assert_array_equal(found, flow.stacks(flows, 3, 1)[1:])
    np.testing.assert_array_equal(found[0, ..., 3], flows[2, ..., 1])  # v2


def test_the_mean_is_that_of_the_whole_field():
    flows = np.random.default_rng(0).normal(size=(2, 5, 7, 4)).astype("float32") + 3
    shape = flow_stacks.Form(size=3, stack=2, subtract_mean=True)
    for place, top, left in (((), 1, 2), ((2, 0), 2, 0)):
        found = flow_stacks.cropped(tf.constant(flows), shape, *place)
        wanted = flows - flows.mean(axis=(1, 2), keepdims=True)
        np.testing.assert_allclose(
            found, wanted[:, top : top + 3, left : left + 3], rtol=1e-4, atol=1e-5
        )


HEIGHT, WIDTH, FLOWS, SIZE = 8, 9, 12, 4


def video(label, frames=FLOWS):
    """Flow of which u says where, and v when and of which class: 10 * t + label."""
    codes = np.zeros((frames, HEIGHT, WIDTH, 2), np.int8)
    codes[..., 0] = np.arange(HEIGHT * WIDTH).reshape(HEIGHT, WIDTH)
    codes[..., 1] = 10 * np.arange(frames)[:, None, None] + label
    return codes


def write(folder, count=24, labels=lambda v: v % 2, stack=1, **fields):
    """Videos in groups of two classes, of FLOWS flows but one of 2; every 4th is for testing."""
    found = []
    for v in range(count):
        codes = video(max(labels(v), 0), 2 if v == 3 else FLOWS)
        if stack > 1:
            codes = flow.stacks(codes, stack, 1)
        if len(codes):
            split = 2 if v % 4 == 0 else 1
            found.append(records.Record(codes, None, f"v{v}", labels(v), f"g{v // 4}", (split,)))
    fields = {"kind": "flow", "classes": ("a", "b"), "scale": 1.0, "dtype": "int8", **fields}
    records.write(folder, found, len(found), source={}, shards=2, **fields)
    return folder


def a_config(folder, **fields):
    config = flow_cnn_small.get_config()
    config.precision = "float32"
    config.model.update({**TINY, "size": SIZE, "pool_after": (), "kernels": (3,), "dropout": 0.2})
    config.data.records = str(folder)
    config.data.subtract_mean = False
    config.data.split = 1
    config.data.stack = 3
    config.eval.stacks_per_video = 4
    config.eval.batch_size = 7
    config.update_from_flattened_dict(fields)
    return config


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return write(tmp_path_factory.mktemp("flow") / "flow")


def read(stack):
    """(row, column, mirrored, time, label) of what `video` says, the same in all of a stack."""
    u, v = stack[..., 0::2], stack[..., 1::2]
    mirrored = bool((u <= 0).all())
    where = -u[:, ::-1] if mirrored else u
    first = int(where[0, 0, 0])
    rows, columns = np.meshgrid(np.arange(SIZE), np.arange(SIZE), indexing="ij")
    np.testing.assert_array_equal(
        where, np.repeat((first + rows * WIDTH + columns)[..., None], u.shape[-1], -1)
    )
    times, labels = v // 10, v % 10
    assert len(np.unique(labels)) == 1
    np.testing.assert_array_equal(
        times, np.broadcast_to(times[0, 0, 0] + np.arange(u.shape[-1]), v.shape)
    )
    return first // WIDTH, first % WIDTH, mirrored, int(times[0, 0, 0]), int(labels.flat[0])


def test_a_training_stack_is_one_crop_of_consecutive_flows_of_its_class(folder):
    stacks = flow_stacks.Stacks(a_config(folder))
    assert stacks.classes == ("a", "b")
    found = []
    for batch in stacks.train(16, start=0).take(12).as_numpy_iterator():
        for stack, label in zip(batch["stack"], batch["label"], strict=True):
            assert stack.shape == (SIZE, SIZE, 6)
            found.append(read(stack))
            assert found[-1][-1] == label
    rows, columns, _, times, labels = (set(values) for values in zip(*found, strict=True))
    assert rows == set(range(HEIGHT - SIZE + 1)) and columns == set(range(WIDTH - SIZE + 1))
    assert labels == {0, 1} and times == set(range(FLOWS - 2))
    assert 60 < sum(found[i][2] for i in range(192)) < 132  # 96 expected, 7 the standard deviation


def test_training_goes_on_where_it_was(folder):
    config = a_config(folder)
    stacks = flow_stacks.Stacks(config)
    whole = list(stacks.train(5, start=0).take(30).as_numpy_iterator())
    again = list(flow_stacks.Stacks(config).train(5, start=5 * 27).take(3).as_numpy_iterator())
    for a, b in zip(whole[27:], again, strict=True):
        np.testing.assert_array_equal(a["stack"], b["stack"])
        np.testing.assert_array_equal(a["label"], b["label"])
    config.seed = 1
    other = next(flow_stacks.Stacks(config).train(5, start=0).as_numpy_iterator())
    assert (other["stack"] != whole[0]["stack"]).any()


def test_stacks_per_video_bounds_an_epoch(folder):
    """12 flows hold 10 stacks of 3; of the 24 videos 16 are to train on, one of them too short."""
    chosen = splits.choose(records.load_index(folder), "train", 1)
    chosen[3] = False
    epoch = 2 * int(chosen.sum())
    found = (
        windows.training(Frames(folder, chosen), 3, 0, max_per_video=2)
        .take(epoch)
        .as_numpy_iterator()
    )
    sequences = np.array([window["sequence"] for window in found])
    np.testing.assert_array_equal(np.bincount(sequences, minlength=24), 2 * chosen)
    stacks = flow_stacks.Stacks(a_config(folder, **{"data.stacks_per_video": 2}))
    labels = next(stacks.train(epoch, 0).as_numpy_iterator())["label"]
    np.testing.assert_array_equal(labels, sequences % 2)


def test_evaluation_is_evenly_spread_centre_crops(folder):
    stacks = flow_stacks.Stacks(a_config(folder))
    entries = records.load_index(folder)
    for part in ("validation", "test"):
        chosen = np.flatnonzero(splits.choose(entries, part, 1))
        found = list(stacks.evaluation(part, 7).unbatch().as_numpy_iterator())
        assert [window["sequence"] for window in found] == list(np.repeat(chosen, 4))
        for window, first in zip(found, [0, 2, 5, 7] * len(chosen), strict=True):  # of 10 places
            assert window["first"] == first
            assert read(window["stack"]) == (2, 2, False, first, entries[window["sequence"]].label)
        np.testing.assert_array_equal(stacks.labels[part], [entries[i].label for i in chosen])
    assert stacks.description["parts"]["train"]["too_short"] == 1


def test_no_group_is_divided(folder):
    stacks = flow_stacks.Stacks(a_config(folder, **{"data.split": 0}))
    entries = records.load_index(folder)
    groups = {
        part: {
            entries[i].group
            for batch in stacks.evaluation(part, 9)
            for i in batch["sequence"].numpy()
        }
        for part in splits.SPLITS
    }
    assert all(groups.values())
    assert sum(map(len, groups.values())) == len(set.union(*groups.values()))


def test_stored_stacks_are_read_as_those_made_of_single_flows(folder, tmp_path):
    stored = write(tmp_path / "stacks", stack=3)
    config = a_config(folder, **{"eval.stacks_per_video": 100, "data.subtract_mean": True})
    both = []
    for path in (folder, stored):
        config.data.records = str(path)
        both.append(
            list(flow_stacks.Stacks(config).evaluation("test", 50).unbatch().as_numpy_iterator())
        )
    assert len(both[0]) == 6 * 10
    for a, b in zip(*both, strict=True):
        np.testing.assert_allclose(a["stack"], b["stack"], rtol=1e-5)


@pytest.mark.parametrize(
    "fields, config, message",
    [
        ({}, {"data.records": ""}, "config.data.records is missing"),
        (
            {},
            {"model.size": 9},
            "flow of 8x9 is smaller than the CNN's input of 9x9; write it larger",
        ),
        ({"stack": 2}, {}, "holds stacks of 2 flows, the CNN reads 3: give config.data.stack=2"),
        ({"kind": "patches"}, {}, "holds patches of .* no optical flow"),
        ({"classes": (), "labels": lambda v: -1}, {}, "have no label, such as|has 0 classes"),
        ({"classes": ("a",), "labels": lambda v: 0}, {}, "has 1 classes, two at least are needed"),
        ({"labels": lambda v: -1 if v == 8 else v % 2}, {}, "1 videos have no label, such as v8"),
        ({}, {"data.stack": 13}, "windows of 13 frames are wanted, the longest sequence has 12"),
    ],
)
def test_data_that_cannot_be_used_is_an_error(tmp_path, fields, config, message):
    folder = write(tmp_path / "flow", **fields)
    with pytest.raises(ValueError, match=message):
        flow_stacks.Stacks(a_config(folder, **config))


@pytest.mark.parametrize(
    "fields, message",
    [
        ({"data.stack": 0}, "config.data.stack must be at least 1, got 0"),
        ({"eval.stacks_per_video": 0}, "config.eval.stacks_per_video must be at least 1"),
        ({"data.stacks_per_video": -1}, "stacks_per_video must be at least 0"),
        ({"model.dropout": 1.0}, r"config.model.dropout must be in \[0, 1\), got 1.0"),
    ],
)
def test_numbers_out_of_range_are_an_error(fields, message):
    flow_classification.check(a_config("x"))
    with pytest.raises(ValueError, match=message):
        flow_classification.check(a_config("x", **fields))


# ---------------------------------------------------------------------- a run


def test_a_videos_prediction_is_the_mean_over_its_stacks():
    probabilities = np.array([[0.6, 0.4], [0.1, 0.9], [0.8, 0.2], [0.7, 0.3]], "float32")
    stacks = dataclasses.make_dataclass("Stacks", ["evaluation", "evaluation_batches", "labels"])(
        lambda part, size, batches: tf.data.Dataset.from_tensor_slices(
            {"stack": np.log(probabilities), "sequence": [7, 7, 9, 9], "first": [0, 1, 0, 4]}
        ).batch(size),
        lambda part, size: -(-len(probabilities) // size),
        {"test": np.array([1, 1])},
    )
    network = keras.Sequential([keras.Input((2,)), keras.layers.Activation("linear")])
    found = flow_classification.figures(flow_classification.classifier(network, 3), stacks, "test")
    # Means: (0.35, 0.65), which is right, and (0.75, 0.25).
    assert found["video_accuracy"] == 50 and found["window_accuracy"] == 25
    assert found["video_cross_entropy"] == pytest.approx(-(math.log(0.65) + math.log(0.25)) / 2)


@pytest.mark.slow
def test_validation_is_scored_the_same_by_any_number_of_processes(folder):
    config = a_config(folder)
    config.eval.batch_size = 5
    stacks = flow_stacks.Stacks(config)
    network = flow_classification.build_network(config, len(stacks.classes))
    task = flow_classification.FlowClassification(config, network, stacks)
    assert_shared_exactly(task.validate)


def moving(label, rng, frames=11, height=12, width=14):
    """Expansion or contraction, with noise, of a camera that pans more than anything moves."""
    v, u = np.meshgrid(np.linspace(-1, 1, height), np.linspace(-1, 1, width), indexing="ij")
    sign = 1 - 2 * label
    flows = sign * np.stack([u, v], -1) + rng.normal(0, 3, (frames, 1, 1, 2))
    return flow.quantise(flows + rng.normal(0, 0.5, (frames, height, width, 2)), 10)


@pytest.fixture(scope="module")
def motion(tmp_path_factory):
    """40 videos of two classes, one of them too short for a stack."""
    folder, rng = tmp_path_factory.mktemp("motion") / "flow", np.random.default_rng(0)
    found = [
        records.Record(
            moving(v % 2, rng, 1 if v == 7 else 11),
            None,
            f"v{v}",
            v % 2,
            f"g{v // 4}",
            (1 + (v % 4 < 2),),
        )
        for v in range(40)
    ]
    records.write(
        folder,
        found,
        40,
        "flow",
        {},
        shards=3,
        compression="GZIP",
        dtype="int8",
        scale=10 / 127,
        classes=("out", "in"),
    )
    return folder


def motion_config(folder):
    config = a_config(folder, **{"data.subtract_mean": True, "data.split": 1, "data.stack": 2})
    config.model.size = 8
    config.recipe.learning_rate = 0.05
    config.train.update(dict(steps=40, log_every=20, eval_every=20, checkpoint_every=20))
    return config


@pytest.fixture(scope="module")
def run(motion):
    """(folder of a run that was trained, its results, what it logged)."""
    config, lines = motion_config(motion), []
    keras.utils.set_random_seed(0)
    stacks = flow_stacks.Stacks(config)
    network = flow_classification.build_network(config, len(stacks.classes))
    task = flow_classification.FlowClassification(config, network, stacks)
    opened = workdir.Workdir.open(motion.parent / "run", config.to_dict())
    loop.run(loop.Trainer(config, task), opened, {"data": stacks.description}, log=lines.append)
    results = base.score_best(task, opened)
    opened.lock.close()
    return opened.path, results, "\n".join(lines)


@pytest.mark.slow
def test_it_learns_what_moves_and_not_how_the_camera_does(run):
    path, results, log = run
    assert results["videos"] == 20 and results["stacks"] == 20 * 4
    assert results["scores"]["video_accuracy"] == 100
    assert results["scores"]["window_accuracy"] > 85
    assert results["most_frequent_class"] == 50
    assert "window_accuracy" in log and "(nats/stack, %)" in log
    assert json.loads((path / "results.json").read_text()) == results
    text = flow_classification.table(motion_config("x"), results)
    assert "20 videos, 80 stacks" in text and "100.0" in text and "50.0" in text


def test_a_run_is_loaded_with_its_classes_and_weights(run, motion):
    found = flow_classification.load(run[0])
    assert found.classes == ("out", "in") and found.form == flow_stacks.Form(8, 2, True)
    stacks = flow_stacks.Stacks(motion_config(motion))
    classify = flow_classification.classifier(found.network, 11)
    scores = flow_classification.figures(classify, stacks, "test")
    # All are right, so that the cross entropy is that of rounding.
    assert scores == pytest.approx(run[1]["scores"], rel=1e-4, abs=1e-6)


def test_what_is_no_run_of_the_cnn_is_an_error(run, tmp_path):
    with pytest.raises(FileNotFoundError, match="config.json is missing; python -m train.flow_cnn"):
        flow_classification.load(tmp_path)
    (tmp_path / "config.json").write_text('{"data": {"frames_in": 3}}')
    with pytest.raises(ValueError, match="not of train.flow_cnn"):
        flow_classification.load(tmp_path)


def test_a_flow_cnn_is_no_video_model(run):
    with pytest.raises(
        ValueError, match="is a CNN of train.flow_cnn; python -m data_prep.flow_per"
    ):
        trained.load(run[0])


# ---------------------------------------------------------------------- percepts


@pytest.fixture(scope="module")
def wanted(run):
    """A function of a video's codes: its percepts, from the run's network and stacks of NumPy's."""
    network = flow_classification.load(run[0]).network
    fc6 = keras.Model(network.input, network.get_layer("fc6").output)

    def percepts(codes):
        flows = codes.astype(np.float64) * 10 / 127
        flows = (flows - flows.mean(axis=(1, 2), keepdims=True))[:, 2:10, 3:11]  # the centre
        stacks = [np.concatenate([flows[t], flows[t + 1]], axis=-1) for t in range(len(flows) - 1)]
        return fc6(np.float32(stacks), training=False).numpy()

    return percepts


@pytest.fixture(scope="module")
def percepts(run, motion):
    out = motion.parent / "percepts"
    manifest = jobs.run(
        flow_percepts.trained(run[0], motion, batch_size=4), stored_flow.listing(motion), out
    )
    return out, manifest


def test_percepts_are_a_data_set_like_that_of_pictures(percepts, motion):
    out, manifest = percepts
    assert records.verify(out) == []
    assert (manifest.kind, manifest.dtype, manifest.shape) == ("percepts", "float16", (10, 6))
    assert manifest.classes == ("out", "in")
    flows = [entry for entry in records.load_index(motion) if entry.name != "v7"]
    wanted = [dataclasses.replace(entry, frames=entry.frames - 1) for entry in flows]
    assert list(records.load_index(out)) == wanted
    (line,) = (out / records.QUARANTINE).read_text().splitlines()
    assert "v7: 1 flows, percepts are of stacks of 2" in json.loads(line)["reason"]
    window = next(windows.at(out, 5, windows.starts(out, 5)).as_numpy_iterator())["frames"]
    assert window.shape == (5, 6) and (window >= 0).all()


def test_percepts_are_what_the_network_makes_of_stacks(percepts, wanted, motion):
    stored = {record.name: record for record in records.pick(motion, range(40))}
    for record in records.pick(percepts[0], [0, 8, 38]):
        expected = wanted(stored[record.name].frames)
        assert record.frames.shape == (10, 6) and expected.max() > 0.1
        np.testing.assert_allclose(record.frames, expected, rtol=2e-3, atol=1e-3)


def test_videos_may_come_in_any_order_and_in_8_bits(run, wanted, motion):
    job = flow_percepts.trained(run[0], motion, "uint8", batch_size=3)
    videos = stored_flow.listing(motion).videos
    stored = records.pick(motion, range(40))
    for i in (39, 14, 15, 2, 2):
        (record,) = job.records(videos[i])
        expected = wanted(stored[i].frames)
        values = record.frames.astype(np.float32) * record.scale
        np.testing.assert_allclose(values, expected, atol=expected.max() / 500)
        assert (record.name, record.label, record.group, record.splits) == (
            stored[i].name,
            stored[i].label,
            stored[i].group,
            stored[i].splits,
        )


def test_percepts_of_unlabelled_flow(run, tmp_path):
    flows = [records.Record(moving(0, np.random.default_rng(0)), None, "x")]
    records.write(tmp_path / "flow", flows, 1, "flow", {}, dtype="int8", scale=10 / 127)
    manifest = jobs.run(
        flow_percepts.trained(run[0], tmp_path / "flow"),
        stored_flow.listing(tmp_path / "flow"),
        tmp_path / "out",
    )
    assert manifest.classes == () and records.load_index(tmp_path / "out")[0].label == -1


def test_flow_that_the_cnn_does_not_read_is_an_error(run, motion, tmp_path):
    stacks = write(tmp_path / "stacks", stack=3)
    with pytest.raises(ValueError, match="stacks of 3 flows, the CNN reads 2"):
        flow_percepts.trained(run[0], stacks)
    small = tmp_path / "small"
    codes = [records.Record(video(0)[:, :7], None, "x", 0)]
    records.write(small, codes, 1, "flow", {}, dtype="int8", classes=("a",))
    with pytest.raises(ValueError, match="flow of 7x9 is smaller than the CNN's input of 8x8"):
        flow_percepts.trained(run[0], small)
    with pytest.raises(ValueError, match="batch_size must be at least 1"):
        flow_percepts.trained(run[0], motion, batch_size=0)


@pytest.mark.parametrize(
    "change, message",
    [({"cnn": "gone"}, "gone"), ({"sha256": "0"}, "other weights than when the job began")],
)
def test_a_cnn_that_is_missing_or_has_changed_ends_the_job(run, motion, tmp_path, change, message):
    job = dataclasses.replace(flow_percepts.trained(run[0], motion), **change)
    with pytest.raises(jobs.JobError, match=f"^the CNN cannot be loaded: .*{message}"):
        jobs.run(job, stored_flow.listing(motion), tmp_path / "out", max_bad_fraction=1)


def test_a_damaged_file_of_flow_is_named(run, motion, tmp_path):
    flows = [records.Record(moving(0, np.random.default_rng(v)), None, f"x{v}") for v in range(3)]
    records.write(tmp_path / "flow", flows, 3, "flow", {}, shards=1, dtype="int8")
    (shard,) = (tmp_path / "flow").glob("*.tfrecord")
    data = bytearray(shard.read_bytes())
    data[len(data) // 2] ^= 255
    shard.write_bytes(data)
    job = flow_percepts.trained(run[0], tmp_path / "flow")
    videos = stored_flow.listing(tmp_path / "flow").videos
    assert list(job.records(videos[0]))
    with pytest.raises(VideoError, match=f"{shard.name}: x1: the file is damaged"):
        list(job.records(videos[1]))
    shard.write_bytes(data[:-1])
    with pytest.raises(ValueError, match=f"{shard.name}: .* bytes, .* expected"):
        flow_percepts.trained(run[0], tmp_path / "flow")


# ---------------------------------------------------------------------- the commands


@pytest.mark.slow
def test_as_commands(run, motion, tmp_path):
    tiny = dict(
        size=8,
        filters="(4,)",
        kernels="(3,)",
        strides="(1,)",
        paddings="(1,)",
        pool_after="()",
        full="(5,)",
    )
    own = tmp_path / "own.py"  # a user's, from before there was data.split
    own.write_text(
        "from unsup_video.configs import flow_cnn_small\n"
        "def get_config():\n"
        "    config = flow_cnn_small.get_config()\n"
        "    with config.unlocked():\n"
        "        del config.data['split']\n"
        "    return config\n"
    )
    trained = commands.run(
        "train.flow_cnn",
        f"--config={own}",
        f"--config.data.records={motion}",
        f"--workdir={tmp_path / 'run'}",
        "--config.train.steps=3",
        *(f"--config.model.{k}={v}" for k, v in tiny.items()),
    )
    assert trained.returncode == 0, trained.stderr
    written = commands.run(
        "data_prep.flow_percepts",
        f"--workdir={run[0]}",
        f"--flow={motion}",
        "--storage=uint8",
        f"--out={tmp_path / 'percepts'}",
    )
    assert written.returncode == 0, written.stderr
    assert "test set, 4 videos" in trained.stdout and "step 3/3" in trained.stdout
    assert flow_classification.load(tmp_path / "run").classes == ("out", "in")
    assert "39 sequences of (10, 6) uint8, 2 classes" in written.stdout
    assert records.verify(tmp_path / "percepts") == []
