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
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import csv
from pathlib import Path

from absl import flags

from data_prep import cnn_flags
from unsup_video.evaluation.choosing import model, sets, statistics, study, videos
from unsup_video.utils import cli, files
from unsup_video.video import percepts

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
_MODEL, _PREDICTIONS = "model.npz", "predictions.csv"


def main(argv):
    if len(argv) > 1:
        raise ValueError(f"unknown argument {argv[1]!r}: options start with --")
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
        folders = _folders(_PERCEPTS)
    else:
        videos.check(_VIDEOS.value, _FOLDS.value)
        cnn = _cnn_job()
        folders = videos.make(_VIDEOS.value, out / "percepts", videos.available(cnn), cnn)
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
        print(f"trained on all {len(data):,} videos: {out / _MODEL}")
        new = ",".join(f"{name}=NEW_{name.upper()}" for name in best.percepts)
        given = [f"--predict={new}"]
        if _VIDEOS.value is not None:
            given = ["--predict=NEW_VIDEOS", *_cnn_arguments(best.percepts)]
        cli.print_next(cli.command("eval.choose", f"--out={out}", *given))
    else:
        (out / _MODEL).unlink(missing_ok=True)  # of an earlier call that recommended another one
        if len(best.percepts) > 1:
            print(
                "the fusion is the mean of the probabilities of these runs, which "
                "eval.action_recognition computes for labelled videos only"
            )
        cli.print_next(*_trainings(out, data, best))
    return 0


def _cnn_job():
    """Returns the job of the CNN that the flags describe; None without --cnn."""
    given = _cnn()
    if "cnn" not in given:
        if given:
            raise ValueError(f"--{next(iter(given))} goes with --cnn")
        return None
    return percepts.job(**given)


def _cnn_arguments(names):
    """Returns the flags of the CNN again, if one of these percepts needs it."""
    if set(names) == {videos.HOF}:
        return []
    parsed = flags.FLAGS
    own = [flag for flag in parsed.get_key_flags_for_module(cnn_flags) if flag.present]
    return [
        f"--{flag.name}={','.join(flag.value) if isinstance(flag.value, list) else flag.value}"
        for flag in own
    ]


def _trainings(out, data, best):
    """Returns the commands that train a classifier of the package on all videos."""
    commands = []
    for name in best.percepts:
        run = out / "runs" / name
        if _SPLIT.value:
            records, split = data.videos[name].folder, [f"--config.data.split={_SPLIT.value}"]
        else:
            records, split = _undivided(out, name, data.videos[name].folder), []
        init = "none"
        if best.classifier == "pretrained":
            init = f"{run}-pretrained"
            commands.append(
                cli.command(
                    "train.pretrain",
                    "--config=percepts_small",
                    f"--config.data.records={records}",
                    *split,
                    f"--workdir={init}",
                )
            )
        kind = ["--config.model.kind=single_frame", "--config.recipe.learning_rate=1e-2"]
        commands.append(
            cli.command(
                "train.finetune",
                "--config=finetune_small",
                f"--init={init}",
                f"--records={records}",
                *split,
                *(kind if best.classifier == "single_frame" else []),
                f"--workdir={run}",
                note="" if _SPLIT.value else "on all videos: none are left for a test",
            )
        )
    runs = [f"--workdir={out / 'runs' / name}" for name in best.percepts]
    predict = ["--predict=NEW_VIDEOS"] if len(runs) == 1 else []
    return [*commands, cli.command("eval.action_recognition", *runs, *predict)]


def _undivided(out, name, folder):
    """Returns a folder in which a data set is training, validation and test split at once."""
    everything = out / "all_videos" / name
    everything.mkdir(parents=True, exist_ok=True)
    for part in ("train", "validation", "test"):
        link = everything / part
        link.unlink(missing_ok=True)
        link.symlink_to(folder.resolve(), target_is_directory=True)
    return everything


def _predict(out):
    if not (out / _MODEL).exists():
        raise FileNotFoundError(
            f"{out / _MODEL} does not exist: eval.choose writes it if it recommends a classifier "
            "of statistics. eval.action_recognition --predict is for runs of train.finetune"
        )
    own = model.load(out / _MODEL)
    if len(_PREDICT.value) == 1 and "=" not in _PREDICT.value[0]:
        (new,) = _PREDICT.value
        made = out / f"percepts-{Path(new).resolve().name}"
        folders = videos.make(new, made, own.percepts, _cnn_job())
    else:
        folders = _folders(_PREDICT)
    predictions = model.predict(own, folders)
    with files.atomic_write(out / _PREDICTIONS) as temporary:
        with open(temporary, "w", newline="", encoding="utf-8", errors="backslashreplace") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(["video", "class", "probability"])
            for video in predictions:
                table.writerow([video.name, video.label, f"{video.probability:.6f}"])
                print(f"{video.name}: {video.label} {video.probability:.3f}")
    print(f"written: {out / _PREDICTIONS}")
    return 0


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
