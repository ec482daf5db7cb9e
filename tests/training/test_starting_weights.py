"""Pretraining that starts from the weights of another run: `train.pretrain --init`."""

import dataclasses
import json
import signal

import numpy as np
import pytest

import labelled
from runs import Run, SignalIn, assert_bit_identical, what_training_left
from unsup_video import configs
from unsup_video.configs import percepts_small
from unsup_video.data import overlap, sources
from unsup_video.training import checkpoints, experiment, fields, trained, unread, workdir
from unsup_video.training.tasks import pretraining


def a_config(records, **model):
    config = percepts_small.get_config()
    config.model.update({"units": 5, "layers": 1, "frame_scaling": True, **model})
    config.data.update({"records": str(records), "frames_in": 2, "frames_out": 1})
    config.recipe.batch_size = 4
    config.train.update({"steps": 3, "log_every": 1})
    return config


def built(config):
    source = sources.build(config)
    return source, experiment.build_model(
        config, source.frame_shape, source.mean_frame, source.standard_deviation
    )


@pytest.fixture(scope="module")
def records(tmp_path_factory):
    return labelled.write(tmp_path_factory.mktemp("data") / "percepts", labelled.videos())


@pytest.fixture(scope="module")
def init(records, tmp_path_factory):
    path = tmp_path_factory.mktemp("runs") / "first"
    return trained.load(labelled.pretrained(a_config(records), path))


def test_all_weights_are_copied(records, init, tmp_path):
    other = labelled.write(tmp_path / "other", labelled.videos(seed=1))
    config = a_config(other, init=str(init.path))
    source, model = built(config)
    assert float(model.frame_scale.scale) != float(init.model.frame_scale.scale)
    pretraining.start_from(init, config, source, model)
    copied = checkpoints.weights(model.network)
    for name, expected in checkpoints.weights(init.model.network).items():
        np.testing.assert_array_equal(copied[name], expected, err_msg=name)


def test_another_architecture_and_other_frames_are_refused(records, init, tmp_path):
    config = a_config(records, units=6, init=str(init.path))
    source, model = built(config)
    with pytest.raises(ValueError, match=r"config\.model\.units: 5 there, 6 here\nGive the values"):
        pretraining.start_from(init, config, source, model)
    config = a_config(labelled.write(tmp_path / "wide", labelled.videos(dim=9)))
    source, model = built(config)
    with pytest.raises(ValueError, match=r"reads frames of \(7,\), those of .* are \(9,\)"):
        pretraining.start_from(init, config, source, model)


def test_a_field_that_neither_model_reads_may_differ(records, init):
    config = a_config(records, init=str(init.path), output_reconstruction="linear")
    config.model.update({"output_future": "linear", "output": "relu"})
    ignored = unread.of_pretraining(config)
    assert "model.output" in ignored
    parent = dataclasses.replace(init, config=init.config.copy_and_resolve_references())
    parent.config.model.update({"output_reconstruction": "linear", "output_future": "linear"})
    source, model = built(config)
    pretraining.start_from(parent, config, source, model)


def test_a_start_that_is_empty_is_refused(records):
    with pytest.raises(ValueError, match="--init is empty: give a run or a SavedModel, or none"):
        pretraining.check(a_config(records, init=""))


def test_settings_of_initial_weights_would_be_ignored(records):
    config = a_config(records)
    named = config.copy_and_resolve_references()
    config.model.init = "runs/first"
    config.recipe.init.forget_bias = 2.0
    with pytest.raises(ValueError, match=r"init\.forget_bias=2.* are those of --init"):
        unread.check(config, named, unread.of_pretraining(config))


def test_a_run_is_not_resumed_from_another_start(records, tmp_path):
    config = a_config(records, init="runs/first").to_dict()
    begun = workdir.Workdir.open(tmp_path / "run", config)
    begun.append_metrics({"step": 1})
    begun.lock.close()
    with pytest.raises(ValueError, match="model.init: runs/first there, none here"):
        workdir.Workdir.open(tmp_path / "run", a_config(records).to_dict())


def test_a_config_without_the_field_starts_from_initial_weights(records):
    config = a_config(records).to_dict()
    del config["model"]["init"]
    assert fields.completed(config)["model"]["init"] == configs.NO_INIT


@pytest.mark.slow
def test_a_run_trains_on_from_another_one(tmp_path):
    first, second = tmp_path / "first", tmp_path / "second"
    assert Run(first).finish()[0] == 0
    more = (f"--init={first}", "--config.seed=1", "--config.train.steps=8")
    status, output = Run(second, *more).finish()
    assert status == 0, output
    assert "initial weights: those of first (step" in output and "CAUTION" not in output

    info = json.loads((second / "run.json").read_text())
    assert info["data"]["sha256"]["init"] == trained.load(first).sha256
    config = experiment.read_config(second)
    assert overlap.seen_in_own_test(second, config) == {
        "train": 0,
        "validation": 0,
        overlap.PRETRAINING: 0,
    }
    # It begins with the best weights of the first run, in all kernels and biases.
    still = tmp_path / "still"
    steps = ("--config.train.steps=1", "--config.recipe.learning_rate=1e-12")
    assert Run(still, f"--init={first}", *steps).finish()[0] == 0
    begun, best = (what_training_left(path)["best"] for path in (still, first))
    weights = [name for name in best if name.startswith("model/")]
    assert len(weights) > 5
    for name in weights:
        np.testing.assert_allclose(begun[name], best[name], rtol=0, atol=1e-9, err_msg=name)

    # A run that was killed ends bit-identical.
    killed = tmp_path / "killed"
    Run(killed, *more, before=SignalIn(signal.SIGKILL, "train_step", 6)).finish()
    status, output = Run(killed, *more).finish()
    assert status == 0 and "resumed from" in output
    assert_bit_identical(what_training_left(second), what_training_left(killed))

    # The folder of the first run is no place for the second one.
    status, output = Run(first, f"--init={first}", "--overwrite").finish()
    assert status == 1 and "the folder of the new run: give it another --workdir" in output
    assert (first / "results.json").exists() and not (first / ".replaced").exists()
