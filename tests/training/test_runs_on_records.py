"""Training and evaluating on data sets of data_prep's that hold no digits."""

import dataclasses

import numpy as np
import pytest

from unsup_video.configs import patches_small, table2_composite
from unsup_video.configs import table2_patches_composite as patches_config
from unsup_video.data import records, sources, splits, windows
from unsup_video.evaluation import future_prediction, paper, testset
from unsup_video.training import experiment, loop, trained, workdir
from unsup_video.training.tasks import base, pretraining

VIDEOS = 30


def write(folder, shape, dtype="float16", scale=1.0):
    """Videos of 5 to 9 frames, in groups of 2, values up to about 4 times `scale`."""
    rng = np.random.default_rng(0)
    videos = [
        records.Record(
            (4 * rng.random((5 + v % 5, *shape))).astype(dtype), None, f"v{v}", 0, f"g{v // 2}"
        )
        for v in range(VIDEOS)
    ]
    records.write(folder, videos, VIDEOS, "percepts", {}, dtype=dtype, scale=scale, classes=("a",))


def a_config(folder):
    config = patches_small.get_config()
    config.model.units = 4
    config.data.records = str(folder)
    config.data.frames_in, config.data.frames_out = 3, 2
    config.train.steps = 2
    config.recipe.batch_size = 4
    return config


def trained_on(folder, path):
    """(the model, what was logged) of a run of two steps."""
    config, lines = a_config(folder), []
    source = sources.build(config)
    model = experiment.build_model(config, source.frame_shape, source.mean_frame)
    opened = workdir.Workdir.open(path, config.to_dict())
    info = {"data": source.description, "frame_shape": source.frame_shape}
    task = pretraining.Pretraining(config, model, source)
    loop.run(loop.Trainer(config, task), opened, info, log=lines.append)
    results = base.score_best(task, opened)
    opened.lock.close()
    return trained.load(path), "\n".join(lines), results


@pytest.fixture(scope="module")
def percepts(tmp_path_factory):
    folder = tmp_path_factory.mktemp("data") / "percepts"
    write(folder, (7,))
    return folder, *trained_on(folder, folder.parent / "run")


@pytest.mark.slow
def test_frames_that_are_no_pictures(percepts):
    folder, model, log, results = percepts
    assert "frames of shape (7,) are no pictures: no samples are drawn" in log
    assert not any((folder.parent / "run" / "samples").glob("*"))
    assert model.frame_shape == (7,) and model.mean_frame.shape == (7,)
    bias = model.model.decoder_layers["future"].bias.numpy()
    assert np.abs(bias - 2).max() < 0.5  # the mean frame, as it is stored
    # 0.5 * 7 * Var[U(0, 4)] = 4.67
    assert results["floors"]["future"]["mean_frame"] == pytest.approx(4.67, rel=0.2)


def test_a_divided_data_set_is_tested_on_its_test_part(percepts):
    folder, model, _, results = percepts
    chosen = splits.choose(records.load_index(folder), "test")
    test_set = testset.of_model(model, None, None)
    expected = sources.read(folder, 5, windows.starts(folder, 5, chosen=chosen))
    assert test_set.count == results["clips"] == len(expected) == chosen.sum()
    np.testing.assert_array_equal(test_set.clips(0, test_set.count), expected)
    np.testing.assert_array_equal(test_set.clips(1, 2), expected[1:3])
    few = testset.of_model(model, None, 2)
    np.testing.assert_array_equal(few.clips(0, 2), expected[[0, len(expected) // 2]])
    assert few.description == test_set.description
    with pytest.raises(
        ValueError, match="data that this run was trained on: .*; leave out --records"
    ):
        testset.of_model(model, str(folder), None)
    with pytest.raises(ValueError, match=f"the number of clips must be 1 to {chosen.sum()}"):
        testset.of_model(model, None, 100)


def test_longer_clips_are_as_long_as_all_sequences_allow(percepts, tmp_path):
    model = percepts[1]
    rng = np.random.default_rng(0)
    videos = [
        records.Record(rng.random((n, 7)).astype("float16"), name=f"v{n}") for n in (4, 8, 6, 12)
    ]
    records.write(tmp_path / "x", videos, 4, "percepts", {}, dtype="float16")
    for longest, length, count in ((None, 5, 4), (6, 6, 4), (7, 6, 4), (100, 6, 4)):
        test_set = testset.of_model(model, str(tmp_path / "x"), None, longest)
        assert (test_set.num_frames, test_set.count) == (length, count)


def test_figures_of_percepts_are_stored_without_those_of_pictures(percepts):
    _, model, _, results = percepts
    evaluation = future_prediction.evaluate(
        model, testset.of_model(model, None, None), "the command", log=print
    )
    found = evaluation.find(
        subject="model", part="future", metric="squared_loss", frame=None, mode="free_running"
    )
    assert found[0].value == pytest.approx(results["scores"]["free_running/future"], rel=1e-5)
    assert {row.metric for row in evaluation.rows} == {"squared_loss", "mse", "mae"}
    assert "the last input frame repeated" in future_prediction.table([evaluation])
    assert future_prediction.reference(evaluation) is None


def test_the_papers_column_is_that_of_the_data(percepts):
    evaluation = future_prediction.evaluate(
        percepts[1], testset.of_model(percepts[1], None, None), "the command"
    )

    def reference(data, **model):
        config = configs_of[data["kind"]].get_config()
        return future_prediction.reference(
            dataclasses.replace(
                evaluation,
                model={
                    **config.model.to_dict(),
                    "data": config.data.to_dict(),
                    "trained_on": trained_on[data["kind"]],
                    **model,
                },
                settings={**evaluation.settings, "data": data},
            )
        )

    configs_of = {"patches": patches_config, "moving_mnist": table2_composite}
    trained_on = {
        "patches": {"kind": "records, patches"},
        "moving_mnist": {"source": "MNIST, tensorflow_datasets"},
    }
    patches = {"kind": "patches", "frames": 29, "frame_shape": [32, 32, 3]}
    assert (
        reference(patches, output="linear")
        == 210.7
        == paper.table_2("patches", "composite", 2, False)
    )
    assert reference(patches, output="linear", conditional_future=True) == 208.1
    assert reference(patches, output="linear", layers=1) is None
    assert reference(patches, output="logistic") is None
    assert reference({**patches, "frame_shape": [32, 32]}, output="linear") is None
    published = {"kind": "moving_mnist", "source": {"published_test_file": True}}
    assert reference(published, output="logistic") == 344.9
    assert reference(published, output="linear") is None


@pytest.mark.slow
def test_samples_of_colour(tmp_path):
    write(tmp_path / "colour", (8, 8, 3), "uint8", records.UNIT)
    trained_on(tmp_path / "colour", tmp_path / "run")
    names = {path.suffix for path in (tmp_path / "run" / "samples").iterdir()}
    assert names == {".png", ".gif"}
