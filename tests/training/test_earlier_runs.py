"""Runs that an earlier version began, in `earlier/`: this one goes on with them to the same end.

That version trained each for 4 steps. A folder holds what was left after step 2, the metrics of all
steps, and in at_the_end.npz what the checkpoint of step 4 held.
"""

import json
import shutil
from pathlib import Path

import keras
import numpy as np
import pytest
from ml_collections import ConfigDict

import labelled
from unsup_video.data import sources
from unsup_video.training import checkpoints, experiment, fields, loop
from unsup_video.training.tasks import finetuning, pretraining
from unsup_video.training.workdir import Workdir

RUNS = sorted(path for path in (Path(__file__).parent / "earlier").iterdir())


def task_of(config):
    """The task that a run's config describes, with starting weights."""
    if fields.completed(config)["task"] == "finetuning":
        data = finetuning.data(config, log=lambda line: None)
        classifier, _ = finetuning.start(config, data, None)
        return finetuning.Finetuning(config, classifier, data), data.description
    source = sources.build(config)
    model = experiment.build_model(
        config, source.frame_shape, source.mean_frame, source.standard_deviation
    )
    return pretraining.Pretraining(config, model, source), source.description


@pytest.mark.parametrize("earlier", RUNS, ids=lambda path: path.name)
def test_a_run_of_an_earlier_version_goes_on_to_the_same_end(earlier, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # the path of the data is a relative one
    labelled.write(Path("percepts"), labelled.videos())
    shutil.copytree(earlier, "run")
    config = ConfigDict(json.loads(Path("run/config.json").read_text()))
    keras.utils.set_random_seed(1)  # of starting weights, which the checkpoint replaces
    task, description = task_of(config)
    workdir = Workdir.open("run", config.to_dict())
    lines = []
    info = {"data": description, "gemm_dtype": "float32"}
    loop.run(loop.Trainer(config, task), workdir, info, log=lines.append)
    workdir.lock.close()
    assert any("step-00000002" in line for line in lines)  # resumed from

    step, arrays, _ = checkpoints.restore(checkpoints.latest("run/checkpoints"))
    wanted = dict(np.load(earlier / "at_the_end.npz"))
    assert step == 4 and list(arrays) == list(wanted)
    for name, array in wanted.items():
        # Equal but for what another processor rounds in another way.
        np.testing.assert_allclose(arrays[name], array, rtol=1e-4, atol=1e-6, err_msg=name)
    metrics, before = (
        [json.loads(line) for line in (path / "metrics.jsonl").read_text().splitlines()]
        for path in (Path("run"), earlier)
    )
    for line, wanted_line in zip(metrics, before, strict=True):
        assert list(line) == list(wanted_line)
        for key in line.keys() - {"split", "elapsed_s"}:
            assert line[key] == pytest.approx(wanted_line[key], rel=1e-4), key
