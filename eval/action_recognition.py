"""Tests finetuned classifiers of actions on videos, and predicts the actions in new files.

    python -m eval.action_recognition --workdir=runs/finetune
    python -m eval.action_recognition --workdir=runs/finetune --split=2 --part=validation --topk=1,5

Prints accuracies with 95% intervals, of videos (the mean over their blocks of 16 frames, one every
8), of windows, over time steps and per class, and draws the confusion matrix. Without --records the
command uses the test split of the data that the run was trained on.

Several classifiers are evaluated one by one, followed by their late fusion: the weighted mean of
their probabilities for the same videos. Each reads its own data; give --records once per model, in
the order of the models, those of --workdir first:

    python -m eval.action_recognition --workdir=runs/rgb --workdir=runs/flow --weights=1,2

Each classifier of a cross-validation is tested on the videos of its own fold, and all videos are
then counted together:

    python -m eval.action_recognition --cross_validation --workdir=runs/fold1 --workdir=runs/fold2

With --predict the command names the actions in your own files, videos or .npy files (T, D) of
percepts, and draws their probabilities over time:

    python -m eval.action_recognition --workdir=runs/finetune --predict=my_videos --cnn=mine.keras
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import functools
import sys
from pathlib import Path

from absl import flags

from data_prep import cnn_flags
from eval import common
from unsup_video.data import folders, splits
from unsup_video.evaluation import action_recognition, naming, predictions, results, testvideos
from unsup_video.utils import cli

_RECORDS = flags.DEFINE_multi_string(
    "records",
    None,
    "Labelled data set of data_prep's to test on, or a folder of three; default: that of the run.",
)
_SPLIT = flags.DEFINE_integer(
    "split",
    None,
    "Number of the official split, 0 to divide by groups; default: the run's own.",
    lower_bound=0,
)
_PART = flags.DEFINE_enum("part", "test", splits.SPLITS, "Split to evaluate.")
_TOPK = flags.DEFINE_list("topk", None, "The k of top-k accuracies; default: 1,5.")
_cnn = cnn_flags.define(weights="cnn_weights")
flags.adopt_module_key_flags(cnn_flags)  # so that --help shows them
_WEIGHTS = flags.DEFINE_list(
    "weights", None, "Weights of the models in the fusion; default: equal."
)
_CROSS_VALIDATION = flags.DEFINE_bool(
    "cross_validation", False, "Count the test videos of all models, one per fold, together."
)
_PREDICT = flags.DEFINE_string(
    "predict", None, "Predict for this video or .npy file, or for a folder of them."
)
_OUT = flags.DEFINE_string(
    "out",
    None,
    "Folder for the results of --predict; default: predictions-NAME beside the evaluations.",
)
_FLAGS = (_RECORDS, _SPLIT, _PART, _TOPK)


def main(argv):
    cli.check_arguments(argv)
    models = common.classifiers()
    topk = cli.numbers(_TOPK, int)
    if _PREDICT.value is not None:
        return _predict(models, topk)
    if given := [*cnn_flags.given(), *([_OUT] if _OUT.present else [])]:
        raise ValueError(f"--{given[0].name} goes with --predict")
    return _evaluate(models, topk)


def _evaluate(models, topk):
    if _CROSS_VALIDATION.value and _WEIGHTS.present:
        raise ValueError("--weights does not go with --cross_validation: no video has two models")
    weights = action_recognition.check_weights(cli.numbers(_WEIGHTS, float), len(models))
    naming.names([model.path for model in models])  # fails before minutes of evaluations
    folders = _RECORDS.value or [None] * len(models)
    if len(folders) != len(models):
        raise ValueError(
            f"--records is given {len(folders)} times for {len(models)} models: give it once per "
            "model, in their order, or not at all"
        )
    tests = []
    for model, folder in zip(models, folders, strict=True):
        test = testvideos.select(model, folder, _SPLIT.value, _PART.value)
        print(
            f"{model.name} (step {model.step}): {len(test.videos):,} videos of "
            f"{test.videos.folder}, part {test.part}, "
            + (f"official split {test.split}" if test.split else "divided by groups")
        )
        tests.append(test)
    for test, folder in zip(tests, folders, strict=True):
        given = {f.name: _text(f) for f in _FLAGS if f.present} | {"records": folder}
        command = results.command(test.trained, action_recognition.KIND, given)
        _show(
            test.trained.name,
            [test],
            action_recognition.evaluate(test, command, topk, common.recompute()),
        )
    if len(tests) > 1 or _CROSS_VALIDATION.value:
        _show(*_together(models, tests, weights, topk))
    return 0


def _together(models, tests, weights, topk):
    """Evaluates the models together and returns (title, tests, evaluation)."""
    given = {f.name: _text(f) for f in (*_FLAGS, _WEIGHTS) if f.present}
    if _CROSS_VALIDATION.value:
        given["cross_validation"] = True
    others = [model.flag for model in models[1:]]
    command = results.command(models[0], action_recognition.KIND, given, others)
    if _CROSS_VALIDATION.value:
        return (
            "cross-validation: all test videos",
            tests,
            action_recognition.cross_validate(tests, command, topk, common.recompute()),
        )
    shares = ", ".join(
        f"{model.name} {weight:.3g}" for model, weight in zip(models, weights, strict=True)
    )
    return (
        f"late fusion: {shares}",
        tests,
        action_recognition.fuse(tests, command, weights, topk, common.recompute()),
    )


def _show(title, tests, evaluation):
    print(f"\n{title}\n{action_recognition.table(evaluation, tests[0].trained.classes)}\n")
    for note in dict.fromkeys(note for test in tests for note in test.notes()):
        print(note)
    common.show(evaluation)


def _predict(models, topk):
    for flag in (_RECORDS, _SPLIT, _PART, _WEIGHTS, _CROSS_VALIDATION):
        if flag.present:
            raise ValueError(f"--{flag.name} does not go with --predict")
    common.refuse("does not go with --predict", "recompute")
    if len(models) > 1:
        raise ValueError(f"--predict takes one model, {len(models)} are given")
    (model,) = models
    largest = max(topk or (min(5, len(model.classes)),))
    if not 1 <= largest <= len(model.classes):
        raise ValueError(f"--topk={largest}: {model.path} has {len(model.classes)} classes")
    paths, ignored = predictions.find(_PREDICT.value)
    print(f"{len(paths):,} files of {_PREDICT.value}")
    if ignored:
        print(f"  files not used: {len(ignored):,}: {folders.shown(ignored)}")
    arguments = _cnn()
    job = functools.cache(lambda: predictions.percepts_job(model, arguments))
    if any(map(predictions.is_video, paths)):
        print(f"percepts: {job().cnn}, layer {job().layer or 'of the last global pooling'}")
    elif given := cnn_flags.given():
        raise ValueError(f"--{given[0].name} is for videos, and {_PREDICT.value} holds none")
    out = _OUT.value or model.evaluations / f"predictions-{Path(_PREDICT.value).resolve().name}"
    results.check_writable(out, "choose another folder with --out=FOLDER")
    names = predictions.names(_PREDICT.value, paths)
    problems = predictions.run(model, paths, names, out, job, largest)
    print(f"written: {out}/{predictions.TABLE}, and a picture of each file")
    for problem in problems:
        print(f"error: {problem}", file=sys.stderr)
    return 1 if problems else 0


def _text(flag):
    """Returns a flag's value as on a command line; a list for a flag that is repeated."""
    lists = flag is not _RECORDS and isinstance(flag.value, list)
    return ",".join(flag.value) if lists else flag.value


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
