"""Exports a trained model as a SavedModel, the format that TensorFlow Serving reads.

    python -m unsup_video.export --workdir=runs/quickstart --out=saved_models/quickstart
    python -m unsup_video.export --workdir=RUN --out=saved_models/NAME --kernel_dtype=int8

It writes saved_models/quickstart/VERSION, with the next free number; `serving/export.py` describes
its files.
"""

import os

os.environ.setdefault("TF_CPP_MIN_LOG_LEVEL", "2")  # hides TensorFlow's messages at start-up

from absl import flags

from unsup_video.models import quantization
from unsup_video.serving import export
from unsup_video.training import trained
from unsup_video.utils import cli

_WORKDIR = flags.DEFINE_string("workdir", None, "Run whose best checkpoint to export.")
_OUT = flags.DEFINE_string("out", None, "Folder for the versions, such as saved_models/NAME.")
_PRECISION = flags.DEFINE_enum(
    "precision",
    None,
    ("float32", "bfloat16"),
    "Dtype of the matrix products; default: that of the run or SavedModel. On a CPU, float32 is "
    "faster for requests of single clips (docs/results/serving.md).",
)
_KERNEL_DTYPE = flags.DEFINE_enum(
    "kernel_dtype",
    "float32",
    quantization.DTYPES,
    "Dtype in which to store kernels: float16 halves the size of the export, int8 reduces it to "
    "30%. The model card states the effect on the outputs.",
)


def main(argv):
    cli.check_arguments(argv)
    for flag, example in ((_WORKDIR, "runs/quickstart"), (_OUT, "saved_models/quickstart")):
        if not flag.value:
            raise ValueError(f"--{flag.name} is missing, such as --{flag.name}={example}")
    model = trained.load(_WORKDIR.value, _PRECISION.value)
    version = export.write(model, _OUT.value, _KERNEL_DTYPE.value)
    print(f"written: {version}")
    for path in sorted(p for p in version.rglob("*") if p.is_file()):
        print(f"  {path}")
    evaluation = "action_recognition" if model.task == "finetuning" else "future_prediction"
    cli.print_next(cli.command(f"eval.{evaluation}", f"--model={version}"))
    return 0


def run():
    cli.run(main)


if __name__ == "__main__":
    run()
