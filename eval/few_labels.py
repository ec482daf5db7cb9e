"""Figure 12 and table 3: compares pretrained encoders with baselines when labels are few.

    python -m eval.few_labels --workdir=runs/percepts_small --records=data/ucf101_fc6 \\
        --config.data.split=1 --out=results/few_labels

Classifiers are trained on the same random subsets of labelled videos: from every pretrained model
that --workdir or --model names, from random weights, and as regression on single frames, on the
mean frame, and on the state of each pretrained encoder after the last frame. The learning rate of
each is chosen on the validation split by the same search. The same command resumes a study that was
interrupted.
"""

import hashlib
import math
import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import numpy as np
from absl import flags
from ml_collections import config_flags

from eval import common
from unsup_video import configs
from unsup_video.data import overlap, records, splits
from unsup_video.evaluation import few_labels, naming
from unsup_video.training import fields, precision, unread
from unsup_video.training.tasks import finetuning
from unsup_video.utils import cli

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Config of the classifiers; default: finetune_few_labels."
)
_RECORDS = flags.DEFINE_string("records", None, "Data set of labelled percepts.")
_OUT = flags.DEFINE_string("out", None, "Folder of the study.")
_PER_CLASS = flags.DEFINE_list(
    "per_class", ["1", "2", "4", "10", "all"], "Numbers of labelled videos per class."
)
_SUBSETS = flags.DEFINE_integer("subsets", 10, "Number of random subsets of each size.")
_EPOCHS = flags.DEFINE_integer("epochs", 12, "Minimum number of passes over the labelled videos.")
_LEARNING_RATES = flags.DEFINE_list(
    "learning_rates",
    ["3e-4", "1e-3", "3e-3"],
    "Learning rates to search over; regression uses ten times these.",
)
_DROPOUTS = flags.DEFINE_list("dropouts", ["0.5"], "Rates of dropout to search over.")
_SEARCH_SUBSETS = flags.DEFINE_integer(
    "search_subsets",
    5,
    "Number of subsets in the search, and maximum number of seeds where all videos are labelled.",
)
_PROCESSES = flags.DEFINE_integer(
    "processes", 1, "Number of processes that train in parallel.", lower_bound=1
)


def main(argv):
    cli.check_arguments(argv)
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder of the study")
    if common.recompute():
        raise ValueError("--recompute: to repeat a study, choose another --out")
    config, named = _CONFIG.value, cli.config_from_file(_CONFIG)
    fields.complete(config)
    fields.complete(named)
    unread.check(config, named, unread.of_study(config) | _OWN)
    config.data.records = _RECORDS.value or config.data.records
    config.model.init = configs.NO_INIT  # each contender has its own
    finetuning.check(config)
    models = common.models()
    for model in models:
        finetuning.take_architecture(config, model)
    for model in models:
        if dict(config.model) != _architecture(config, model):
            raise ValueError(
                f"{model.path} has another architecture than {models[-1].path}: the baseline has "
                "one architecture, so all models must share it"
            )
    parts = {name: finetuning.videos(config, name) for name in splits.SPLITS}
    frames = records.Manifest.load(parts["train"].folder).frame_shape
    for model in models:
        if math.prod(model.frame_shape) != math.prod(frames):
            raise ValueError(
                f"{model.path} reads frames of {model.frame_shape}, those of "
                f"{parts['train'].folder} are {frames}"
            )
    for name, part in parts.items():
        print(f"{name}: {len(part):,} labelled videos of {part.folder}")
    names = naming.names([model.path for model in models])
    seen = _seen(config, models, names)
    # All classifiers of a study use one precision.
    config.precision = precision.gemm_dtype(common.wanted_precision() or config.precision)
    settings = few_labels.Settings(
        config=config.to_dict(),
        pretrained={name: _described(m) for name, m in zip(names, models, strict=True)},
        data=_fingerprint({part.folder for part in parts.values()}),
        per_class=tuple(0 if k == "all" else _integer(k) for k in _PER_CLASS.value),
        subsets=_SUBSETS.value,
        epochs=_EPOCHS.value,
        learning_rates=cli.numbers(_LEARNING_RATES, float),
        dropouts=cli.numbers(_DROPOUTS, float),
        search_subsets=_SEARCH_SUBSETS.value,
        seed=config.seed,
    )
    summaries = few_labels.run(
        settings, _OUT.value, _PROCESSES.value, seen=seen, classes=len(parts["test"].classes)
    )
    print(f"\n{few_labels.markdown(summaries)}\n")
    _warn(seen)
    print(f"written: {_OUT.value}/ table.md, figure_12.png, results.csv, results.json")
    cli.print_next(
        cli.command(
            "eval.report",
            f"--workdir={models[0].path}",
            f"--few_labels={_OUT.value}",
            "--out=report",
        )
    )
    return 0


def _fingerprint(folders):
    """Returns the fingerprint of one data set, or a digest of the fingerprints of several."""
    fingerprints = sorted(records.Manifest.load(folder).fingerprint for folder in folders)
    return (
        fingerprints[0]
        if len(fingerprints) == 1
        else hashlib.sha256("".join(fingerprints).encode()).hexdigest()
    )


def _described(model):
    kind = ("kind", "conditional_reconstruction", "conditional_future")
    return {
        "path": str(model.path),
        "sha256": model.sha256,
        **{name: model.config.model[name] for name in kind},
    }


# Fields that a study sets itself -> the reason why it would ignore a given value.
_OWN = {
    "model.kind": "a study has classifiers of every kind",
    "model.init": "use --workdir",
    "model.dropout": "use --dropouts",
    "recipe.learning_rate": "use --learning_rates",
    "data.videos_per_class": "use --per_class",
    "data.subset_seed": "use --config.seed",
    **dict.fromkeys(
        (f"model.{name}" for name in fields.OF_ENCODER),
        "the encoders of --workdir and --model have their own",
    ),
}


def _seen(config, models, names):
    """Returns {name: `overlap.seen` of the test split}, "" for the labelled videos.

    Raises:
        ValueError: a model was pretrained on videos of the test split that are not in the training
            list, too: some data sets hold a clip under two names.
    """
    own = overlap.read_contents(config)
    seen = {"": overlap.seen(own, own["test"])}
    twice = overlap.shared_sequences(own["train"], own["test"]) | overlap.shared_sequences(
        own["validation"], own["test"]
    )
    for name, model in zip(names, models, strict=True):
        run = overlap.run_contents(model.origin, model.config)
        seen[name] = overlap.seen(run, own["test"])
        others = np.zeros_like(twice)
        for part in seen[name]:
            if (shared := overlap.shared_sequences(run[part], own["test"])) is not None:
                others |= shared & ~twice
        if others.any():
            raise ValueError(
                f"{model.path} was pretrained on {others.sum():,} of the {len(others):,} videos of "
                "the test split: pretrain on the training split of the same --config.data.split"
            )
    _warn(seen)
    return seen


def _warn(seen):
    for name, parts in seen.items():
        for note in overlap.notes(parts, None):
            print(f"{name or 'labelled videos'}: {note}")


def _architecture(config, model):
    """Returns `config.model` with the architecture of that model's encoder."""
    changed = config.copy_and_resolve_references()
    finetuning.take_architecture(changed, model)
    return dict(changed.model)


def _integer(text):
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--per_class: a number or all, got {text!r}") from None


def run():
    sys.argv = configs.expand(sys.argv, default="finetune_few_labels", task="finetuning")
    cli.run(main)


if __name__ == "__main__":
    run()
