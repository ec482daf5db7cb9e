"""Finetuning: runs on tiny records, resuming, encoders from runs and SavedModels, errors."""

import json

import numpy as np
import pytest

import labelled
from unsup_video.configs import percepts_small
from unsup_video.data import records
from unsup_video.data.labelled_videos import LabelledVideos
from unsup_video.serving import export
from unsup_video.training import checkpoints, trained
from unsup_video.training.tasks import finetuning


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return labelled.write(tmp_path_factory.mktemp("data") / "percepts", labelled.videos())


@pytest.fixture(scope="module")
def pretrained(folder, tmp_path_factory):
    """The run of an autoencoder of two steps."""
    config = percepts_small.get_config()
    config.model.update({"kind": "autoencoder", "units": 5, "layers": 1})
    config.data.update({"records": str(folder), "frames_in": 2, "frames_out": 1})
    config.recipe.batch_size = 4
    config.train.steps = 2
    return labelled.pretrained(config, tmp_path_factory.mktemp("runs") / "pretrained")


@pytest.fixture(scope="module")
def run(folder, pretrained):
    """A classifier that started from that run."""
    path = pretrained.with_name("finetuned")
    return labelled.finetuned(labelled.a_config(folder, str(pretrained)), path)


def last(path):
    """All that the last checkpoint of a run holds."""
    return checkpoints.restore(checkpoints.latest(path / "checkpoints"))[1]


def assert_equal(a, b):
    assert a.keys() == b.keys()
    for name, array in a.items():
        np.testing.assert_array_equal(array, b[name], err_msg=name)


@pytest.mark.slow
def test_a_run_starts_from_the_encoder_and_leaves_what_evaluations_need(folder, pretrained, run):
    assert run.classes == labelled.CLASSES and run.frame_shape == (labelled.DIM,)
    info = json.loads((run.path / "run.json").read_text())["data"]
    init = trained.load(pretrained)
    assert info["sha256"]["init"] == init.sha256
    assert info["made_of"] == records.Manifest.load(folder).source
    results = json.loads((run.path / "results.json").read_text())
    assert results["videos"] == 12 and results["step"] == run.step

    # At step 0 its LSTMs are the encoder's, and the scale is.
    data = finetuning.data(run.config, log=lambda line: None)
    classifier, copied = finetuning.start(run.config, data, init)
    arrays = {v.path: v.numpy() for v in classifier.network.weights}
    assert len(copied) == 5 and arrays["frame_scale/scale"] not in (0, 1)
    encoder = {v.path: v.numpy() for v in init.model.encoder.weights}
    assert_equal({name: arrays[name] for name in copied}, {name: encoder[name] for name in copied})
    name = "encoder_lstm_1/kernel"
    assert (last(run.path)[f"model/{name}"] != encoder[name]).any()  # and then they are trained


@pytest.mark.slow
def test_a_run_that_was_killed_ends_with_the_very_bits(folder, tmp_path):
    config = labelled.a_config(folder, layers=2)
    labelled.finetuned(config, tmp_path / "whole")
    whole = last(tmp_path / "whole")
    seeds = [name for name in whole if name.startswith("seed/")]
    assert len(seeds) == 2  # of the dropout, which is on
    with pytest.raises(labelled.Stopped):
        labelled.finetuned(config, tmp_path / "killed", stop_after=3)  # one after a checkpoint
    assert (last(tmp_path / "killed")[seeds[0]] != whole[seeds[0]]).any()
    labelled.finetuned(config, tmp_path / "killed")
    assert_equal(last(tmp_path / "killed"), whole)
    scores = [
        json.loads((tmp_path / name / "results.json").read_text()) for name in ("whole", "killed")
    ]
    assert scores[0] == scores[1]


@pytest.mark.slow
def test_a_saved_model_is_as_good_a_start_as_its_run(folder, pretrained, run, tmp_path):
    saved = export.write(trained.load(pretrained), tmp_path / "saved")
    labelled.finetuned(labelled.a_config(folder, str(saved)), tmp_path / "from-saved")
    assert_equal(last(tmp_path / "from-saved"), last(run.path))


def test_a_small_saved_model_is_a_start(folder, pretrained, tmp_path):
    run = trained.load(pretrained)
    saved = trained.load(export.write(run, tmp_path / "saved", "int8"))
    config = labelled.a_config(folder, str(saved.path))
    finetuning.take_architecture(config, saved)
    data = finetuning.data(config, log=lambda line: None)
    classifier, copied = finetuning.start(config, data, saved)
    here, there, own = (
        {v.path: v.numpy() for v in network.weights}
        for network in (classifier.network, saved.model.network, run.model.network)
    )
    assert "encoder_lstm_1/kernel" in copied
    for name in copied:
        np.testing.assert_array_equal(here[name], there[name], err_msg=name)
    assert (here["encoder_lstm_1/kernel"] != own["encoder_lstm_1/kernel"]).any()
    # A run that is resumed takes no other encoder for it.
    of_run, of_saved = (trained.with_init(data.description, init) for init in (run, saved))
    assert of_run["sha256"]["init"] != of_saved["sha256"]["init"]


def test_a_finetuned_saved_model_is_its_run(run, tmp_path):
    saved = trained.load(export.write(run, tmp_path / "saved"))
    assert saved.saved_model and saved.sha256 == run.sha256 and saved.classes == run.classes
    assert_equal(
        *({v.path: v.numpy() for v in model.model.network.weights} for model in (run, saved))
    )


def test_few_labels_are_so_many_of_each_class(folder):
    config = labelled.a_config(folder)
    config.data.videos_per_class = 2
    few = finetuning.data(config, log=lambda line: None)
    assert np.bincount(few.train.labels).tolist() == [2, 2, 2]
    config.data.videos_per_class = 1000
    with pytest.raises(ValueError, match="1000 labelled videos of each class are needed, but"):
        finetuning.data(config, log=lambda line: None)
    config.data.videos_per_class = 0
    every = finetuning.data(config, log=lambda line: None)
    assert set(few.train.names) < set(every.train.names)
    assert few.validation.names == every.validation.names


@pytest.mark.parametrize(
    "change, message",
    [
        ({"model": {"init": ""}}, "--init=RUN_OR_SAVED_MODEL is missing"),
        ({"data": {"records": ""}}, "--records=FOLDER is missing"),
        ({"model": {"kind": "single_frame", "init": "runs/x"}}, "has no encoder: --init=none"),
        ({"data": {"frames": 0}}, "config.data.frames must be at least 1"),
        ({"data": {"videos_per_class": -1}}, "videos_per_class must be at least 0"),
        ({"data": {"subset_seed": -1}}, "subset_seed must be at least 0"),
        ({"model": {"kind": "ltsm"}}, "unknown config.model.kind 'ltsm'.*: one of lstm, "),
    ],
)
def test_configs_that_cannot_be_trained(folder, change, message):
    config = labelled.a_config(folder)
    for section, values in change.items():
        config[section].update(values)
    with pytest.raises(ValueError, match=message):
        finetuning.check(config)


def test_data_that_do_not_fit_are_named(folder, pretrained, run, tmp_path):
    config = labelled.a_config(folder, str(pretrained))
    init = trained.load(pretrained)
    other = labelled.write(tmp_path / "other", labelled.videos(dim=9))
    config.data.records = str(other)
    data = finetuning.data(config, log=lambda line: None)
    with pytest.raises(ValueError, match=r"reads frames of \(7,\), those of .*other are \(9,\)"):
        finetuning.start(config, data, init)

    with pytest.raises(ValueError, match="finetuned is a classifier; --init takes"):
        trained.load_init(str(run.path))
    every = np.ones(len(labelled.videos()), bool)
    with pytest.raises(ValueError, match="percepts of 7 numbers"):
        finetuning.check_fits(run.model, LabelledVideos(other, every))

    config.data.update({"records": str(folder), "frames": 10})
    with pytest.raises(ValueError, match="none has a label and 10 frames"):
        finetuning.data(config, log=lambda line: None)
    without = [r for r in labelled.videos() if r.label < 2]
    config.data.update({"records": str(labelled.write(tmp_path / "two", without)), "frames": 4})
    with pytest.raises(ValueError, match="no video to train on of diving"):
        finetuning.data(config, log=lambda line: None)
