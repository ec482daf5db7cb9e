"""Writes a page about trained models: the paper's tables and figures 5, 7 to 10 and 12.

    python -m eval.report --workdir=runs/quickstart --out=report
    python -m eval.report --workdir=runs/a --workdir=runs/b --out=report --overwrite
    python -m eval.report --workdir=runs/finetune --few_labels=results/few_labels --out=report

The page shows runs of train.pretrain (table 2, figures 5 and 7 to 10) and of train.finetune (tables
1 and 4), and studies of eval.few_labels (figure 12, tables 3 and 4). report/index.html is
self-contained, so that it can be sent as a single file. Evaluations that a run lacks are computed
first, which takes minutes; fewer --clips take less time.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import datetime
import shlex
import sys

from absl import flags

from eval import common
from unsup_video.evaluation import metrics
from unsup_video.report import report
from unsup_video.utils import cli

_FEW_LABELS = flags.DEFINE_multi_string(
    "few_labels", [], "Folder of a study of eval.few_labels; repeat the flag for several studies."
)
_OUT = flags.DEFINE_string("out", None, "Folder for index.html, results.json and results.csv.")
_CLIPS = flags.DEFINE_integer(
    "clips", None, "Number of test clips for Table 2; default: 10,000, or all of the data set."
)
_RECORDS = flags.DEFINE_string("records", None, "A data set of data_prep's to test all runs on.")
_CONVENTION = flags.DEFINE_enum(
    "metric_convention",
    None,
    metrics.CONVENTIONS,
    "Convention of MSE, SSIM and PSNR, see docs/evaluation.md; default: correct.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace an existing page.")


def main(argv):
    cli.check_arguments(argv)
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: the folder to write the page to")
    report.check_folder(_OUT.value, _OVERWRITE.value)
    studies = report.studies(_FEW_LABELS.value)
    models = _models()
    report.names([model.path for model in models])  # fails before hours of evaluations
    options = report.Options(_CLIPS.value, _RECORDS.value, _CONVENTION.value, common.recompute())
    evaluations = []
    for model in models:
        print(f"{model.name}: evaluations")
        evaluations.append(report.evaluate(model, options))
    command = shlex.join(["python", "-m", "eval.report", *sys.argv[1:]])
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    runs = report.collect(models, evaluations)
    for path in report.write(runs, _OUT.value, command, time, _OVERWRITE.value, studies):
        print(f"written: {path}")
    return 0


def _models():
    """Loads the models that the flags name, of both kinds.

    Raises:
        ValueError: neither models nor studies are given, or a flag needs models of a kind that is
            not given; other errors as in `trained.load`.
    """
    paths = common.paths()
    if not paths and not _FEW_LABELS.value:
        raise ValueError(
            "--workdir=RUN is missing: the folder that train.pretrain or train.finetune wrote; or "
            "--model=SAVED_MODEL: the folder that unsup_video.export wrote; or --few_labels=STUDY"
        )
    models = common.loaded()
    for flag in (_RECORDS, _CLIPS, _CONVENTION):
        wanted = models if flag is _RECORDS else [m for m in models if m.task == "pretraining"]
        if flag.present and not wanted:
            kind = "" if flag is _RECORDS else " of train.pretrain"
            raise ValueError(f"--{flag.name} is for runs{kind}, and none is given")
    return models


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
