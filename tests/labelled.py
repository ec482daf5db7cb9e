"""Tiny labelled data, and classifiers of it, for tests."""

import keras
import numpy as np

from unsup_video import configs
from unsup_video.configs import finetune
from unsup_video.data import records, sources
from unsup_video.training import checkpoints, experiment, loop, trained, workdir
from unsup_video.training.tasks import base, finetuning, pretraining

CLASSES = ("archery", "biking", "diving")
DIM = 7
FRAMES, STRIDE = 4, 2  # of a window
LENGTHS = (4, 6, 3, 9)  # of a group's videos, in turn


def videos(dim=DIM, groups=6, seed=0):
    """Records of `groups` groups of 2 videos of each class; two official splits, by group."""
    rng = np.random.default_rng(seed)
    found = []
    for label, name in enumerate(CLASSES):
        for group in range(groups):
            for k in range(2):
                length = LENGTHS[(2 * group + k) % len(LENGTHS)]
                frames = rng.random((length, dim))
                frames[:, label] += 0.8
                found.append(
                    records.Record(
                        frames.astype(np.float16),
                        None,
                        f"{name}/{group}{k}",
                        label,
                        f"{name}/{group}",
                        (2 if group < 2 else 1, 2 if group in (2, 3) else 1),
                    )
                )
    return found


def write(folder, found, classes=CLASSES):
    """Writes `videos` as a data set; returns its folder."""
    records.write(
        folder,
        found,
        len(found),
        "percepts",
        {"settings": {}},
        dtype="float16",
        scale=1.0,
        classes=classes,
    )
    return folder


def a_config(folder, init=configs.NO_INIT, **model):
    """Returns the config of a run of four steps on official split 1."""
    config = finetune.get_config()
    config.model.update({"init": init, "units": 5, **model})
    config.data.update({"records": str(folder), "split": 1, "frames": FRAMES, "stride": STRIDE})
    config.recipe.batch_size = 6
    config.recipe.learning_rate = 0.03
    config.train.update({"steps": 4, "eval_every": 2, "checkpoint_every": 2, "log_every": 2})
    return config


def pretrained(config, path, log=lambda line: None):
    """The folder `path`, of a run of a video model without tests and export."""
    source = sources.build(config)
    model = experiment.build_model(
        config, source.frame_shape, source.mean_frame, source.standard_deviation
    )
    opened = workdir.Workdir.open(path, config.to_dict())
    info = {"data": source.description, "frame_shape": source.frame_shape}
    task = pretraining.Pretraining(config, model, source)
    loop.run(loop.Trainer(config, task), opened, info, log=log)
    opened.lock.close()
    return path


class Stopped(Exception):
    """A run that was killed."""


def finetuned(config, path, stop_after=None):
    """The classifier of a run in the folder `path`, as `train.finetune` makes it.

    With `stop_after` it is killed after so many steps, and raises `Stopped`.
    """
    keras.utils.set_random_seed(config.seed)
    init = trained.load_init(config.model.init)
    finetuning.take_architecture(config, init)
    data = finetuning.data(config, log=lambda line: None)
    classifier, _ = finetuning.start(config, data, init)
    task = finetuning.Finetuning(config, classifier, data)
    if stop_after is not None:
        task.train = lambda *args, train=task.train: _stopping(train(*args), stop_after)
    trainer = loop.Trainer(config, task)
    opened = workdir.Workdir.open(path, config.to_dict())
    info = {
        "data": trained.with_init(data.description, init),
        "frame_shape": data.train.frame_shape,
    }
    try:
        loop.run(trainer, opened, info, log=lambda line: None)
        base.score_best(task, opened)
    finally:
        opened.lock.close()
    return trained.load(path)


def untrained(config, path, sharpness=3.0):
    """A classifier in the folder `path` of a run that never trained, which takes no time.

    `sharpness` widens its random softmax, so that it is sure of what it says.
    """
    keras.utils.set_random_seed(config.seed)
    data = finetuning.data(config, log=lambda line: None)
    classifier, _ = finetuning.start(config, data, None)
    classifier.head.kernel.assign(sharpness * classifier.head.kernel)
    opened = workdir.Workdir.open(path, config.to_dict())
    opened.write_run_info({"data": data.description, "frame_shape": data.train.frame_shape})
    finetuning.Finetuning(config, classifier, data).write(opened)
    arrays = {name: v.numpy() for name, v in checkpoints.weights(classifier.network).items()}
    checkpoints.save_best(opened.checkpoints, 0, arrays, {})
    opened.lock.close()
    return trained.load(path)


def _stopping(batches, count):
    yield from batches.take(count)
    raise Stopped
