"""Table 2 and more: scores the predictions of models on test clips.

    python -m eval.future_prediction --workdir=runs/quickstart
    python -m eval.future_prediction --workdir=runs/a --workdir=runs/b --records=data/published/test

Computes cross entropy, MSE, MAE, SSIM and PSNR of every predicted frame, and the floors to compare
with. Without --records the test data are those of the run's config. Every run's figures are stored
in its folder eval/; a second call reads them.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # TensorFlow's start-up notes hide ours

from absl import flags

from eval import common
from unsup_video.evaluation import future_prediction, metrics, naming, results, testset
from unsup_video.utils import cli

_RECORDS = flags.DEFINE_string("records", None, "A data set of data_prep's to test on.")
_CLIPS = flags.DEFINE_integer(
    "clips", None, "Number of test clips; default: 10,000, or all of the data set."
)
_CONVENTION = flags.DEFINE_enum(
    "metric_convention",
    "correct",
    metrics.CONVENTIONS,
    "Convention of MSE, SSIM, PSNR and LPIPS; docs/evaluation.md lists the differences.",
)
_LPIPS = flags.DEFINE_bool("lpips", False, "Compute LPIPS, too; needs the package lpips.")
_FLAGS = (_RECORDS, _CLIPS, _CONVENTION, _LPIPS)


def main(argv):
    cli.check_arguments(argv)
    lpips = _load_lpips() if _LPIPS.value else None
    evaluations, notes = [], []
    models = common.models()
    names = naming.names([model.path for model in models])  # fails before minutes of evaluations
    for name, model in zip(names, models, strict=True):
        test_set = testset.of_model(model, _RECORDS.value, _CLIPS.value)
        digits = test_set.description.get("digits", {}).get("source")
        print(
            f"{name}: {test_set.count:,} test clips, {test_set.description['kind']}"
            f"{f' of {digits}' if digits else ''}; metrics: {_CONVENTION.value}"
        )
        notes += [f"{name}: {note}" for note in test_set.notes()]
        flags_given = {f.name: f.value for f in _FLAGS if f.present}
        evaluations.append(
            future_prediction.evaluate(
                model,
                test_set,
                results.command(model, future_prediction.KIND, flags_given),
                _CONVENTION.value,
                lpips,
                common.recompute(),
            )
        )
    print(f"\n{future_prediction.table(evaluations, names)}\n")
    print(
        f"metric convention: {_CONVENTION.value}; +- is the 95% confidence interval, for which "
        "clips of one video, or of one group of videos, count together"
    )
    if any(e.settings["data"]["kind"] == "patches" for e in evaluations):
        print("paper: it does not give the range of its patches; compare only its own rows")
    if len({str(e.settings["data"]) for e in evaluations}) > 1:
        print("CAUTION: these runs were tested on different data")
    print(*notes, sep="\n", end="\n" if notes else "")
    for evaluation in evaluations:
        common.show(evaluation)
    return 0


def _load_lpips():
    try:
        return metrics.Lpips(_CONVENTION.value)
    except ImportError as error:
        raise ValueError(f"--lpips needs the package lpips: pip install lpips ({error})") from None


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
