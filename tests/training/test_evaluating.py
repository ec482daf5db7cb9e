"""Evaluations that several processes share give exactly the figures of a single one."""

import numpy as np
import pytest

import labelled
from processes import assert_shared_exactly
from unsup_video.configs import base
from unsup_video.data import frames, sources
from unsup_video.training import evaluating, experiment
from unsup_video.training.tasks import finetuning, pretraining


def test_results_are_packed_exactly():
    rng = np.random.default_rng(0)
    results = [
        {"a/b": rng.normal(size=(3, 2)).astype(np.float32), "n": np.arange(5)},
        {"a/b": rng.normal(size=(1, 4)), "n": np.zeros(0, np.int64)},
    ]
    for packed in (results, []):
        array = np.pad(evaluating.pack(packed), (0, 3))
        assert array.dtype == np.int64
        found = evaluating.unpack(array)
        assert len(found) == len(packed)
        for mine, other in zip(found, packed, strict=True):
            assert mine.keys() == other.keys()
            for name, value in other.items():
                assert mine[name].dtype == value.dtype
                np.testing.assert_array_equal(mine[name], value)


@pytest.mark.slow
def test_pretraining_is_scored_the_same_by_any_number_of_processes():
    config = base.get_config()
    config.precision = "float32"
    config.model.units = 4
    config.data.update({"frame_size": 28, "num_digits": 1, "frames_in": 2, "frames_out": 2})
    config.eval.update({"validation_clips": 17, "batch_size": 3})
    source = sources.build(config)
    model = experiment.build_model(config, source.frame_shape, source.mean_frame, 1.0)
    task = pretraining.Pretraining(config, model, source)
    task.prepare(lambda line: None)
    assert_shared_exactly(task.validate)


@pytest.mark.parametrize("memory", [1 << 30, 0])
def test_classifiers_are_scored_the_same_by_any_number_of_processes(tmp_path, monkeypatch, memory):
    monkeypatch.setattr(frames, "_MEMORY", memory)
    folder = labelled.write(tmp_path / "percepts", labelled.videos())
    config = labelled.a_config(folder, kind="single_frame")
    config.eval.batch_size = 4
    data = finetuning.data(config, log=lambda line: None)
    assert data.validation._frames.is_held == bool(memory)
    classifier, _ = finetuning.start(config, data, None)
    assert_shared_exactly(finetuning.Finetuning(config, classifier, data).validate)
