import copy
import dataclasses
import os
import shutil
from multiprocessing import forkserver
from pathlib import Path

import pytest

import commands  # noqa: F401, which says what a server of processes imports
from unsup_video.training import precision

# Tests hold figures of float32 to each other: "auto" means float32 on every CPU.
precision._cpu = dict


# Each is a training, an evaluation, an export or a server, and takes more than three seconds.
SLOW_FIXTURES = {
    "evaluation",
    "exported",
    "percepts",
    "pretrained",
    "server",
    "study",
    "tensorboard",
    "uninterrupted",
}


@pytest.hookimpl(tryfirst=True)  # before `-m` selects
def pytest_collection_modifyitems(items):
    """A test is as slow as its fixtures."""
    for item in items:
        if SLOW_FIXTURES.intersection(item.fixturenames):
            item.add_marker(pytest.mark.slow)


@pytest.fixture(scope="session", autouse=True)
def server_of_processes():
    """Starts it, before code under test does so with fewer imports."""
    forkserver.ensure_running()


@pytest.fixture(scope="session")
def real_data():
    """Folder of real data sets: $UNSUP_VIDEO_TEST_DATA, or ../shared/data next to the checkout."""
    default = Path(__file__).parents[2] / "shared" / "data"
    path = Path(os.environ.get("UNSUP_VIDEO_TEST_DATA") or default)
    if not path.is_dir():
        pytest.skip(f"no real data at {path} (set UNSUP_VIDEO_TEST_DATA)")
    return path


@pytest.fixture
def killed_while_replaced():
    """A function that leaves a folder as a process does that is killed while replacing it."""

    def leave(folder):
        left = folder.with_name(f".partial-1-{folder.name}")
        (left / "new" / folder.name).mkdir(parents=True)
        (left / "old").mkdir()
        folder.rename(left / "old" / folder.name)

    return leave


@pytest.fixture(scope="session")
def run(tmp_path_factory):
    """Folder of a composite that was saved without training: 2 digits of 28x28 in 32x32."""
    import labelled  # seconds, which other tests do without
    from unsup_video.configs import quickstart

    config = quickstart.get_config()
    config.model.units = 8
    config.model.conditional_future = True
    config.data.frame_size = 32
    config.data.frames_in, config.data.frames_out = 4, 3
    config.train.steps = 1
    config.eval.validation_clips = config.eval.test_clips = 5
    return labelled.pretrained(config, tmp_path_factory.mktemp("runs") / "tiny")


@pytest.fixture(scope="session")
def model(run):
    """The trained model of `run`."""
    from unsup_video.training import trained

    return trained.load(run)


@pytest.fixture
def fresh(model, tmp_path):
    """`model` with a folder of its own, that nothing was evaluated in, and a config of its own.

    The weights are those of all tests: who changes them loads his own from the folder.
    """
    path = tmp_path / "run"
    shutil.copytree(model.path, path, ignore=shutil.ignore_patterns("eval"))
    return dataclasses.replace(model, path=path, config=copy.deepcopy(model.config))
