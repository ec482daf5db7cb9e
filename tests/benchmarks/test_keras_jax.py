"""`benchmarks.keras_jax` and `keras_jax_few_labels`: what they draw, against the package.

Whole commands run in subprocesses, where there is JAX, which is no dependency of this project:

    pip install jax && python -m pytest tests/benchmarks/test_keras_jax.py
"""

import importlib.util
import itertools
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from benchmarks import _jax, _moving_mnist, keras_jax_few_labels
from unsup_video.configs import recipes
from unsup_video.data import convert, moving_mnist, records, splits
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.evaluation import few_labels

ROOT = Path(__file__).parents[2]


def needs_jax(test):
    missing = importlib.util.find_spec("jax") is None
    skip = pytest.mark.skipif(missing, reason="needs JAX: pip install jax")
    return pytest.mark.slow(skip(test))


@pytest.mark.parametrize("bounce", ["clamp", "reflect"])
def test_clips_follow_the_rules_of_the_package(bounce):
    params = moving_mnist.MovingMnist(num_frames=25, bounce=bounce)
    images = np.random.default_rng(0).integers(0, 256, (7, 28, 28), np.uint8)
    indices = np.arange(20)
    which, start, velocity = (x.numpy() for x in moving_mnist.draw(params, len(images), 3, indices))
    assert {tuple(v) for v in velocity.reshape(-1, 2)} <= {
        tuple(v) for v in _moving_mnist.velocities(0.1)
    }
    positions = _moving_mnist.trajectory(
        start.astype(np.int32), velocity.astype(np.int32), 25, bounce
    )
    expected, _ = moving_mnist.trajectory(params, start, velocity)
    np.testing.assert_array_equal(positions, expected)
    frames = _moving_mnist.render(images, which, positions, 64)
    assert frames.dtype == np.uint8
    np.testing.assert_array_equal(frames, moving_mnist.generate(images, params, 3, indices))


def test_positions_that_overflow_are_refused():
    images, which = np.ones((1, 28, 28), np.uint8), np.zeros((1, 1), np.int32)
    corner = np.full((1, 1, 1, 2), 1 << 24, np.int32)
    frame = _moving_mnist.render(images, which, corner, 155)[0, 0]
    assert frame[-28:, -28:].all() and frame.sum() == 28 * 28
    with pytest.raises(ValueError, match="155"):
        _moving_mnist.render(images, which, corner, 156)


def test_sums_over_the_batch_are_refused():
    with pytest.raises(ValueError, match="batch_reduction"):
        _jax.Training(None, recipes.github(), None)


# ---------------------------------------------------------------------- few labels


@pytest.fixture(scope="module")
def percepts(tmp_path_factory):
    """Path of 40 percepts of two classes, in 10 groups of two videos each; 14 for training."""
    path = tmp_path_factory.mktemp("percepts") / "percepts.npz"
    rng = np.random.default_rng(0)
    labels = np.repeat([2, 5], 20)
    values = rng.integers(0, 50, (40, 25, 6)) + 20 * (labels[:, None, None] == 5)
    np.savez(
        path,
        X=values.astype(np.uint8),
        scale=np.float32(0.02),
        label=labels,
        split=np.where(np.arange(40) % 20 < 14, 1, 2)[:, None],
        name=[f"v_{'AB'[k // 20]}_g{k // 2 % 10:02d}_c{k % 2:02d}" for k in range(40)],
    )
    return path


@pytest.fixture(scope="module")
def stored(percepts, tmp_path_factory):
    """Folder of the same percepts, as the package has them."""
    folder, found = tmp_path_factory.mktemp("data") / "percepts", convert.read(percepts)
    records.write(
        folder,
        found.records,
        found.count,
        "percepts",
        {},
        dtype=found.dtype,
        scale=found.scale,
        classes=found.classes,
    )
    return folder


def test_parts_and_pools_are_the_packages(percepts, stored):
    data, entries = keras_jax_few_labels.load(percepts, 1), records.load_index(stored)
    for part in splits.SPLITS:
        expected = np.flatnonzero(splits.choose(entries, part, 1))
        np.testing.assert_array_equal(data.parts[part], expected)
    assert set(data.labelled) == {*data.parts["train"], *data.parts["validation"]}
    assert not set(data.labelled) & set(data.parts["test"])


@pytest.mark.parametrize("seed", [0, 3])
def test_windows_are_the_packages(percepts, stored, seed):
    data, length, batch = keras_jax_few_labels.load(percepts, 1), 8, 5
    videos = data.parts["train"][::3]
    found = keras_jax_few_labels.windows(data, videos, 7, batch, length, seed)
    expected = LabelledVideos(stored, np.isin(np.arange(40), videos)).training(length, batch, seed)
    for video, first, label, window in zip(*found, itertools.islice(expected, 7), strict=True):
        frames = data.x[video[:, None], first[:, None] + np.arange(length)]
        np.testing.assert_array_equal(frames * np.float32(data.scale), window["frames"])
        np.testing.assert_array_equal(label == 1, window["label"] == window["label"].numpy().max())


def test_labels_that_there_are_not_are_refused(percepts, tmp_path):
    data = keras_jax_few_labels.load(percepts, 1)
    keras_jax_few_labels.check(data, [0, 1, 12])
    for per_class in ([-1, 1], [13]):
        with pytest.raises(ValueError, match="per_class: from 1 to 12"):
            keras_jax_few_labels.check(data, per_class)
    with np.load(percepts) as arrays:
        fields = dict(arrays)
    fields["label"][3] = -1
    np.savez(tmp_path / "unlabelled.npz", **fields)
    with pytest.raises(ValueError, match="v_A_g01_c01 has no label"):
        keras_jax_few_labels.load(tmp_path / "unlabelled.npz", 1)


# ---------------------------------------------------------------------- whole commands


def run(backend, *arguments, module="keras_jax", status=0):
    environment = {**os.environ, "KERAS_BACKEND": backend, "JAX_PLATFORMS": "cpu"}
    result = subprocess.run(
        [sys.executable, "-m", f"benchmarks.{module}", *map(str, arguments)],
        timeout=900,
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == status, result.stderr
    return result.stdout


@needs_jax
def test_jax_computes_what_tensorflow_does(tmp_path):
    run("tensorflow", "reference", f"--out={tmp_path}")
    reference = tmp_path / "reference.npz"
    arguments = ["check", f"--reference={reference}", f"--out={tmp_path}", "--precisions=float32"]
    found = run("jax", *arguments)
    assert found.count("| ok |") == 12 and "TOO FAR" not in found
    with np.load(reference) as arrays:
        fields = dict(arrays)
    name = "composite/modern/encoder_lstm_1/bias"  # which moves less far than others
    fields[name] += 0.02 * np.abs(fields[name] - fields[name.replace("modern", "start")]).max()
    np.savez(reference, **fields)
    assert run("jax", *arguments, status=1).count("TOO FAR") == 1


@needs_jax
def test_train(tmp_path):
    rng = np.random.default_rng(0)
    digits = {
        name: rng.integers(0, 256, (count, 28, 28), np.uint8)
        for name, count in (("train", 5020), ("test", 20))
    }
    np.savez(tmp_path / "digits.npz", **digits)
    run(
        "jax",
        "train",
        f"--digits={tmp_path}/digits.npz",
        "--steps=20",
        "--units=4",
        "--batch=2",
        "--clips=20",
        "--seeds=0,1",
        "--precisions=bfloat16",
        f"--out={tmp_path}",
    )
    runs = json.loads((tmp_path / "results.json").read_text())["runs"]
    assert [run["seed"] for run in runs] == [0, 1] and all(run["step"] == 20 for run in runs)
    assert all(run["step_seconds"] > 0 and run["test/future"] > 0 for run in runs)
    lines = (tmp_path / "metrics.jsonl").read_text().splitlines()
    assert len(lines) == 20 and not any("test/" in line for line in lines)
    assert len(list(tmp_path.glob("*.png"))) == 2


@needs_jax
def test_few_labels(percepts, tmp_path):
    run(
        "jax",
        f"--percepts={percepts}",
        "--units=4",
        "--subsets=2",
        "--per_class=1,2",
        "--pretrain_steps=2,3",
        f"--out={tmp_path}",
        module="keras_jax_few_labels",
    )
    summaries = few_labels.load(tmp_path)[1]
    names = ["single frame", "mean frame", "LSTM", "composite 2", "composite 3"]
    names += ["state of composite 2", "state of composite 3"]
    assert [s.contender for s in summaries] == 2 * names
    assert all(0 <= value <= 100 for s in summaries for value in s.accuracies)
    assert all(len(s.accuracies) == 2 and not s.diverged for s in summaries)
    lines = (tmp_path / "fits" / "LSTM-2.jsonl").read_text().splitlines()
    assert len(lines) == 2 * 3 + 2  # of two subsets each rate of the search, and the one chosen
    assert {json.loads(line)["videos"] for line in lines} == {4}


@needs_jax
def test_no_tensorflow_is_needed():
    blocked = "import sys; sys.modules['tensorflow'] = None; "
    modules = "from benchmarks import keras_jax, keras_jax_few_labels"
    environment = {**os.environ, "KERAS_BACKEND": "jax", "JAX_PLATFORMS": "cpu"}
    done = subprocess.run(
        [sys.executable, "-c", blocked + modules],
        cwd=ROOT,
        env=environment,
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
