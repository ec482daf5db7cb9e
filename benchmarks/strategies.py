"""What sharing a step costs: `python -m benchmarks.strategies [--units=N] [--out=FILE.md]`.

Trains the quickstart for a few steps on one CPU device, on two that share the machine's cores
(mirrored), and in two processes that talk over loopback (multiworker). All have the same cores and
the same batch, so that sharing can only cost: what is above one device is its price. Whole runs of
the command, in turn; times are those of metrics.jsonl, without compilation and validation.
"""

import json
import os
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

from benchmarks import _common

ROOT = Path(__file__).resolve().parents[1]
WARM_UP, STEPS = 5, 25
# The strategy, processes, and devices that each process makes of its CPU.
CASES = {"none": (1, 1), "mirrored": (1, 2), "multiworker": (2, 1)}

_TRAIN = """
import sys, tensorflow as tf
device = tf.config.LogicalDeviceConfiguration
cpu = tf.config.list_physical_devices("CPU")[0]
tf.config.set_logical_device_configuration(cpu, [device() for _ in range(int(sys.argv.pop(1)))])
from train import pretrain
pretrain.run()
"""


def _free_ports(count):
    held = [socket.create_server(("localhost", 0)) for _ in range(count)]
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


def run(strategy: str, units: int, batch: int) -> tuple[float, float]:
    """(seconds a step, the highest memory of a process in GB) of one run."""
    processes, devices = CASES[strategy]
    ports = _free_ports(processes)
    with tempfile.TemporaryDirectory() as folder:
        command = [
            sys.executable,
            "-c",
            _TRAIN,
            str(devices),
            f"--strategy={strategy}",
            f"--workdir={folder}/run",
            "--noexport",
            f"--config.model.units={units}",
            f"--config.recipe.batch_size={batch}",
            f"--config.train.steps={WARM_UP + STEPS}",
            f"--config.train.log_every={WARM_UP}",
            f"--config.train.eval_every={WARM_UP + STEPS}",
            "--config.eval.validation_clips=10",
            "--config.eval.test_clips=10",
        ]
        running, peaks = [], []
        try:
            for index in range(processes):
                cluster = {"worker": [f"localhost:{port}" for port in ports]}
                task = {"type": "worker", "index": index}
                running.append(
                    subprocess.Popen(
                        command,
                        cwd=ROOT,
                        stdout=subprocess.DEVNULL,
                        env={
                            **os.environ,
                            "CUDA_VISIBLE_DEVICES": "-1",
                            "PYTHONPATH": str(ROOT),
                            "TF_CPP_MIN_LOG_LEVEL": "2",
                            "TF_CONFIG": json.dumps({"cluster": cluster, "task": task}),
                        },
                    )
                )
            for process in running:
                _, status, usage = os.wait4(process.pid, 0)
                process.returncode = os.waitstatus_to_exitcode(status)
                if process.returncode:
                    raise RuntimeError(
                        f"{strategy}: a run ended with status {process.returncode}; why is above"
                    )
                peaks.append(usage.ru_maxrss * 1024 / 1e9)
        finally:
            for process in running:
                if process.returncode is None:
                    process.kill()
                    process.wait()
        lines = (Path(folder) / "run" / "metrics.jsonl").read_text().splitlines()
    elapsed = {
        line["step"]: line["elapsed_s"]
        for line in map(json.loads, lines)
        if line["split"] == "train"
    }
    return (elapsed[WARM_UP + STEPS] - elapsed[WARM_UP]) / STEPS, max(peaks)


def main():
    parser = _common.flags(__doc__)
    parser.add_argument("--batch", type=int, default=64)
    parser.set_defaults(units=512, rounds=3)
    args = parser.parse_args()
    found = _common.interleave(
        {name: lambda name=name: run(name, args.units, args.batch) for name in CASES}, args.rounds
    )
    one = sorted(seconds for seconds, _ in found["none"])[len(found["none"]) // 2]
    rows = []
    for name, figures in found.items():
        seconds = sorted(figure[0] for figure in figures)
        processes, devices = CASES[name]
        rows.append(
            [
                f"`{name}`",
                f"{processes} x {devices}",
                _common.spread(seconds),
                f"{seconds[len(seconds) // 2] / one:.2f}",
                f"{max(peak for _, peak in figures):.2f}",
            ]
        )
    _common.report(
        "Sharing a training step",
        [
            f"The quickstart's composite with {args.units} units, a batch of {args.batch}; "
            f"{args.rounds} interleaved runs of {STEPS} steps after {WARM_UP}.",
            _common.table(
                [
                    "strategy",
                    "processes x devices",
                    "s/step: median (range)",
                    "times one device",
                    "peak GB of a process",
                ],
                rows,
            ),
        ],
        args.out,
    )


if __name__ == "__main__":
    main()
