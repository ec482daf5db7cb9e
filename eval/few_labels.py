"""Figure 12 and table 3: pretrained encoders against baselines, where labels are few.

    python -m eval.few_labels --workdir=runs/percepts_small --records=data/ucf101_fc6 \\
        --config.data.split=1 --out=results/few_labels

Classifiers are trained on the same random subsets of labelled videos: from every pretrained model
that --workdir or --model names, from random weights, and as regression on single frames and on the
mean frame. The learning rate of each is chosen on a validation part of the training groups, by the
same search. The same command goes on with a study that was interrupted.
"""

import os
import sys

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags
from ml_collections import config_flags

from eval import common
from unsup_video import cli, configs
from unsup_video.data import records, sources
from unsup_video.evaluation import few_labels
from unsup_video.training import finetuning

_CONFIG = config_flags.DEFINE_config_file(
    "config", None, "Of the classifiers; default: finetune_few_labels."
)
_RECORDS = flags.DEFINE_string("records", None, "The labelled percepts.")
_OUT = flags.DEFINE_string("out", None, "Folder of the study.")
_PER_CLASS = flags.DEFINE_list("per_class", ["1", "2", "4", "10", "all"], "Labelled videos a class.")
_SUBSETS = flags.DEFINE_integer("subsets", 10, "Random subsets of each number.")
_EPOCHS = flags.DEFINE_integer("epochs", 12, "Passes over the labelled videos, at least.")
_LEARNING_RATES = flags.DEFINE_list(
    "learning_rates", ["1e-4", "3e-4", "1e-3"], "What is searched over."
)
_DROPOUTS = flags.DEFINE_list("dropouts", ["0.5"], "What is searched over.")
_SEARCH_SUBSETS = flags.DEFINE_integer(
    "search_subsets", 3, "Subsets of the search; and seeds where all videos are labelled, at most."
)
_PROCESSES = flags.DEFINE_integer("processes", 1, "How many work side by side.", lower_bound=1)


def main(argv):
    common.check_arguments(argv)
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder of the study")
    config = _CONFIG.value
    config.data.records = _RECORDS.value or config.data.records
    config.model.init = finetuning.NO_INIT  # each contender has its own
    finetuning.check(config)
    models = common.models()
    for model in models:
        finetuning.take_architecture(config, model)
    for model in models:
        if dict(config.model) != _architecture(config, model):
            raise ValueError(
                f"{model.path} has another architecture than {models[-1].path}: the baseline is of "
                "one architecture, so give models of one"
            )
    names = [model.name for model in models]
    if len(set(names) | set(few_labels.LINEAR) | {few_labels.BASELINE}) < len(names) + 3:
        raise ValueError(f"two contenders have one name: {', '.join(names)}; rename the folders")
    folder = sources.part(config, "test").folder
    settings = few_labels.Settings(
        config=config.to_dict(),
        pretrained={m.name: {"path": str(m.path), "sha256": m.sha256} for m in models},
        data=records.Manifest.load(folder).fingerprint,
        per_class=tuple(0 if k == "all" else _integer(k) for k in _PER_CLASS.value),
        subsets=_SUBSETS.value,
        epochs=_EPOCHS.value,
        learning_rates=_floats(_LEARNING_RATES),
        dropouts=_floats(_DROPOUTS),
        search_subsets=_SEARCH_SUBSETS.value,
        seed=config.seed,
    )
    summaries = few_labels.run(settings, _OUT.value, _PROCESSES.value)
    print(f"\n{few_labels.markdown(summaries)}\n")
    print(f"written: {_OUT.value}/ table.md, figure_12.png, results.csv, results.json")
    print("next:")
    print(f"  python -m eval.report --workdir={models[0].path} --few_labels={_OUT.value} "
          "--out=report")
    return 0


def _architecture(config, model):
    """`config.model` as it is with that model's encoder."""
    changed = config.copy_and_resolve_references()
    finetuning.take_architecture(changed, model)
    return dict(changed.model)


def _integer(text):
    try:
        return int(text)
    except ValueError:
        raise ValueError(f"--per_class: a number or all, got {text!r}") from None


def _floats(flag):
    try:
        return tuple(float(text) for text in flag.value)
    except ValueError:
        raise ValueError(f"--{flag.name}: numbers, got {','.join(flag.value)!r}") from None


def run():
    sys.argv = configs.expand(sys.argv, default="finetune_few_labels", command="finetune")
    cli.run(main)


if __name__ == "__main__":
    run()
