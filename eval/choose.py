"""Chooses percepts and a classifier for your own labelled videos, by cross-validation.

    python -m eval.choose --videos=my_videos --cnn=EfficientNetV2B0 --out=results/choose

makes percepts of the videos of a folder, whose sub-folders are the classes, in --out: of the
frames, of optical flow drawn as images (these two need --cnn), and histograms of flow. For sets of
percepts that exist, which may have groups of videos and official splits:

    python -m eval.choose --percepts=rgb=data/rgb,hof=data/hof --out=results/choose

Every set of percepts, and the late fusion of several, is tried with every classifier: statistics
over time with logistic regression or a random forest, regression on single frames, an LSTM from
random weights, and one from an encoder that is pretrained on the training videos of each fold. The
command prints one table, what it recommends, how sure that is, and how to train and use it. The
same command resumes, also with more --minutes or --repeats.

    python -m eval.choose --out=results/choose --predict=new_videos --cnn=EfficientNetV2B0
    python -m eval.choose --out=results/choose --predict=rgb=data/new_rgb,hof=data/new_hof

name the actions in new videos, or in their percepts, with a recommended classifier of statistics.
Videos that cannot be classified are named at the end, and the exit status is 1.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import csv
from pathlib import Path

from absl import flags

from data_prep import cnn_flags
from unsup_video.evaluation.choosing import advice, model, sets, statistics, study, videos
from unsup_video.utils import cli, files
from unsup_video.video import listing, percepts

_VIDEOS = flags.DEFINE_string("videos", None, "Folder of videos; its sub-folders are classes.")
_cnn = cnn_flags.define()
flags.adopt_module_key_flags(cnn_flags)  # so that --help shows them
_PERCEPTS = flags.DEFINE_list(
    "percepts", None, "Data sets of percepts of the same videos, as NAME=FOLDER,NAME=FOLDER."
)
_OUT = flags.DEFINE_string("out", None, "Folder of the study.")
_SPLIT = flags.DEFINE_integer(
    "split",
    None,
    "Official split whose test videos are left alone; 0 for all videos.",
    lower_bound=0,
)
_FOLDS = flags.DEFINE_integer("folds", 5, "Number of folds of the cross-validation.")
_REPEATS = flags.DEFINE_integer("repeats", 10, "Number of cross-validations, with other folds.")
_MINUTES = flags.DEFINE_float("minutes", 30.0, "Minutes for the trainings of this call.")
_SEED = flags.DEFINE_integer("seed", 0, "Seed of the folds and of the classifiers.")
_CLASSIFIERS = flags.DEFINE_list(
    "classifiers", list(study.CLASSIFIERS), "Classifiers to try, cheapest first."
)
_PREDICT = flags.DEFINE_list(
    "predict", None, "Folder of new videos to name the actions in, or their sets of percepts."
)
_STUDY_ONLY = (_VIDEOS, _PERCEPTS, _SPLIT, _FOLDS, _REPEATS, _MINUTES, _SEED, _CLASSIFIERS)
_MODEL, _PREDICTIONS = "model.npz", "predictions.csv"


def main(argv):
    cli.check_arguments(argv)
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder of the study")
    if _PREDICT.value is not None:
        return _predict(Path(_OUT.value))
    return _choose(Path(_OUT.value))


def _choose(out):
    if (_VIDEOS.value is None) == (_PERCEPTS.value is None):
        raise ValueError(
            "give one of --videos=FOLDER, whose sub-folders are classes, and "
            "--percepts=NAME=FOLDER, what data_prep.percepts and the like wrote"
        )
    if _PERCEPTS.value is not None:
        _refuse_cnn("percepts")
        folders = _folders(_PERCEPTS)
        study.check(folders, _CLASSIFIERS.value, _REPEATS.value, _MINUTES.value)
    else:
        if _SPLIT.value:
            raise ValueError("--split goes with --percepts: a folder of videos has no splits")
        listed = listing.folder(_VIDEOS.value)
        videos.check(listed, _FOLDS.value)
        cnn, fps = _cnn_job()
        names = videos.available(cnn)
        study.check(names, _CLASSIFIERS.value, _REPEATS.value, _MINUTES.value)
        folders = videos.make(listed, out / "percepts", names, cnn, fps)
        if cnn is None:
            print("without --cnn, only percepts that need none are tried")
    data = sets.load(folders, _SPLIT.value)
    print(
        f"{len(data):,} videos of {len(data.classes)} classes, {len(set(data.groups.tolist())):,} "
        f"groups; percepts: {', '.join(folders)}"
    )
    for name, count in data.left_out.items():
        if count:
            print(f"  {name}: {count:,} videos are not used, another set lacks them")
    settings = study.Settings(
        data.fingerprint, data.fingerprints, _SPLIT.value or 0, _FOLDS.value, _SEED.value
    )
    result = study.run(settings, data, out, _CLASSIFIERS.value, _REPEATS.value, _MINUTES.value)
    print(f"\n{study.markdown(result)}\n\n{study.verdict(result)}\n")
    print(f"written: {out}/ table.md, results.csv, results.json")
    best = result.rows[0]
    if best.classifier in statistics.KINDS:
        model.train(data, best.percepts, best.classifier, settings.seed).save(out / _MODEL)
        print(f"trained on these {len(data):,} videos: {out / _MODEL}")
        new = ",".join(f"{name}=NEW_{name.upper()}" for name in best.percepts)
        given = [f"--predict={new}"]
        if _VIDEOS.value is not None:
            needs_cnn = set(best.percepts) != {videos.HOF}
            given = ["--predict=NEW_VIDEOS", *_cnn_arguments(None if needs_cnn else ("fps",))]
        cli.print_next(cli.command("eval.choose", f"--out={out}", *given))
    else:
        (out / _MODEL).unlink(missing_ok=True)  # of an earlier call that recommended another one
        split, cnn = settings.split, _cnn_arguments(renamed={"weights": "cnn_weights"})
        cli.print_next(
            *advice.trainings(out, data, best, split), *advice.uses(out, data, best, split, cnn)
        )
        if note := advice.note(data, best):
            print(note)
    return 0


def _cnn_job():
    """Returns (the job of the CNN that the flags describe, None without --cnn; --fps)."""
    arguments = _cnn()
    fps = arguments.get("fps")
    if "cnn" in arguments:
        return percepts.job(**arguments), fps
    if others := {flag.name for flag in cnn_flags.given()} - {"fps"}:
        raise ValueError(f"--{min(others)} goes with --cnn")
    return None, fps


def _refuse_cnn(flag):
    if given := cnn_flags.given():
        raise ValueError(f"--{given[0].name} does not go with --{flag}=NAME=FOLDER")


def _cnn_arguments(names=None, renamed=None):
    """Returns the given flags of the CNN again: these, None for all, with other names."""
    return [
        f"--{(renamed or {}).get(flag.name, flag.name)}="
        f"{','.join(flag.value) if isinstance(flag.value, list) else flag.value}"
        for flag in cnn_flags.given()
        if names is None or flag.name in names
    ]


def _predict(out):
    if not (out / _MODEL).exists():
        raise FileNotFoundError(
            f"{out / _MODEL} does not exist: eval.choose writes it if it recommends a classifier "
            "of statistics. eval.action_recognition --predict is for runs of train.finetune"
        )
    for flag in _STUDY_ONLY:
        if flag.present:
            raise ValueError(f"--{flag.name} does not go with --predict")
    own = model.load(out / _MODEL)
    listed_names = []
    if len(_PREDICT.value) == 1 and "=" not in _PREDICT.value[0]:
        (new,) = _PREDICT.value
        listed = listing.folder(new)
        stamp = listing.stamp(listed.videos)[:10]
        made = out / f"percepts-{Path(new).resolve().name}-{stamp}"
        folders = videos.make(listed, made, own.percepts, *_cnn_job())
        listed_names = [video.name for video in listed.videos]
    else:
        _refuse_cnn("predict")
        folders = _folders(_PREDICT)
    predictions, left_out = model.predict(own, folders)
    with files.atomic_write(out / _PREDICTIONS) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["video", "class", "probability"])
            for video in predictions:
                table.writerow([video.name, video.label, f"{video.probability:.6f}"])
                print(f"{video.name}: {video.label} {video.probability:.3f}")
    print(f"written: {out / _PREDICTIONS}")
    named = {video.name for video in predictions}
    left_out = sorted({*left_out, *listed_names} - named)
    if left_out:
        print(
            f"NOT classified, {len(left_out):,} of {len(left_out) + len(named):,}, since a set of "
            "percepts lacks them; quarantine.jsonl says why, in "
            + ", ".join(map(str, folders.values())),
            *left_out,
            sep="\n  ",
        )
    return int(bool(left_out))


def _folders(flag):
    """Returns {name: folder} of a flag NAME=FOLDER,NAME=FOLDER."""
    folders = {}
    for text in flag.value:
        name, equals, folder = text.partition("=")
        if not (name and equals and folder):
            raise ValueError(f"--{flag.name}: NAME=FOLDER expected, got {text!r}")
        if name in folders:
            raise ValueError(f"--{flag.name}: two sets of percepts are called {name}")
        folders[name] = folder
    return folders


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
