"""One page about trained models: the paper's Table 2 and figures 5, 7, 8, 9 and 10.

    python -m eval.report --workdir=runs/quickstart --out=report
    python -m eval.report --workdir=runs/a --workdir=runs/b --out=report --overwrite

report/index.html holds all that it shows, so that it can be sent as it is. Evaluations that a run
does not have yet are made first, which takes minutes; fewer --clips take less.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

import datetime
import shlex
import sys

from absl import flags

from eval import common
from unsup_video import cli, metrics
from unsup_video.evaluation import report

_OUT = flags.DEFINE_string("out", None, "Folder for index.html, results.json and results.csv.")
_CLIPS = flags.DEFINE_integer(
    "clips", None, "Test clips of Table 2; default: 10,000, or all of the data set."
)
_RECORDS = flags.DEFINE_string(
    "records", None, "A data set of data_prep's to test all runs on."
)
_CONVENTION = flags.DEFINE_enum(
    "metric_convention", None, metrics.CONVENTIONS,
    "How MSE, SSIM and PSNR are computed, see docs/evaluation.md; default: correct.",
)
_OVERWRITE = flags.DEFINE_bool("overwrite", False, "Replace a page that is there.")


def main(argv):
    common.check_arguments(argv)
    if not _OUT.value:
        raise ValueError("--out=FOLDER is missing: where the page is written")
    report.check_folder(_OUT.value, _OVERWRITE.value)
    models = common.models()
    report.names([model.path for model in models])  # before hours of evaluations
    found = []
    for model in models:
        print(f"{model.name}: evaluations")
        found.append(report.evaluate(
            model, _CLIPS.value, _RECORDS.value, _CONVENTION.value, common.recompute()
        ))
    command = shlex.join(["python", "-m", "eval.report", *sys.argv[1:]])
    time = datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds")
    runs = report.collect(models, found)
    for path in report.write(runs, _OUT.value, command, time, _OVERWRITE.value):
        print(f"written: {path}")
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
