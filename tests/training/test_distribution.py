"""Training on several devices and in several processes, held to training on one."""

import json
import os
import re
import signal
import socket
import subprocess

import keras
import numpy as np
import pytest
import tensorflow as tf

import labelled
from commands import ROOT
from runs import TINY, Run, SignalIn, what_training_left
from unsup_video.configs import percepts_small
from unsup_video.models import layers
from unsup_video.training import checkpoints, distribution

QUICKSTART = ROOT / "unsup_video" / "configs" / "quickstart.py"


def two_cpus():
    """Makes this process see its CPU as two devices."""
    cpu = tf.config.list_physical_devices("CPU")[0]
    tf.config.set_logical_device_configuration(cpu, [tf.config.LogicalDeviceConfiguration()] * 2)


def assert_close(a, b, rtol):
    """What training left is the same but for the order in which numbers were added up."""
    assert a["best step"] == b["best step"] and a["results"]["step"] == b["results"]["step"]
    for line, other in zip(
        [*a["metrics"], a["results"]["scores"]],
        [*b["metrics"], b["results"]["scores"]],
        strict=True,
    ):
        assert line.keys() == other.keys()
        for key, value in line.items():
            assert value == other[key] or value == pytest.approx(other[key], rel=rtol), key
    for state in ("last", "best"):
        assert a[state].keys() == b[state].keys()
        for name, array in a[state].items():
            if array.dtype.kind != "f":  # counters, seeds
                np.testing.assert_array_equal(b[state][name], array, err_msg=name)
                continue
            largest = np.abs(array).max() + 1e-30
            np.testing.assert_allclose(
                b[state][name], array, rtol=0, atol=rtol * largest, err_msg=name
            )


# ---------------------------------------------------------------------- parts


def test_an_unknown_strategy_and_a_useless_tf_config_are_refused(monkeypatch):
    with pytest.raises(ValueError, match="unknown strategy 'ring': one of none, mirrored"):
        distribution.strategy("ring")
    monkeypatch.delenv("TF_CONFIG", raising=False)
    with pytest.raises(ValueError, match="multiworker needs the environment variable TF_CONFIG"):
        distribution.strategy("multiworker")
    hosts = {"worker": ["a:1", "b:2"]}
    for text, why in (
        ("{", "JSONDecodeError"),
        (json.dumps({"task": {"type": "worker", "index": 0}}), "KeyError: 'cluster'"),
        (
            json.dumps({"cluster": hosts, "task": {"type": "worker", "index": 2}}),
            "no worker of 2 is worker 2",
        ),
        (json.dumps({"cluster": hosts, "task": {"type": "ps", "index": 0}}), "is ps 0"),
        (
            json.dumps(
                {"cluster": {**hosts, "chief": ["c:3"]}, "task": {"type": "worker", "index": 0}}
            ),
            "all processes are workers here, and there is a chief",
        ),
    ):
        monkeypatch.setenv("TF_CONFIG", text)
        with pytest.raises(ValueError, match=f"TF_CONFIG=.*{why}.*like TF_CONFIG="):
            distribution.strategy("multiworker")


@pytest.mark.parametrize("pipelines", [1, 2, 4])
def test_every_replica_gets_its_part_of_each_batch(pipelines):
    batches = [{"x": np.arange(8) + 8 * k, "y": np.arange(16).reshape(8, 2)} for k in range(3)]
    found = []
    for number in range(pipelines):
        context = tf.distribute.InputContext(pipelines, number, num_replicas_in_sync=4)
        rows = distribution.share(context).rows(8)
        own = [{key: x[rows] for key, x in batch.items()} for batch in batches]
        dataset = tf.data.Dataset.from_generator(
            lambda own=own: iter(own),
            output_signature={
                "x": tf.TensorSpec((None,), tf.int64),
                "y": tf.TensorSpec((None, 2), tf.int64),
            },
        ).repeat()
        here = 4 // pipelines
        parts = distribution.parts(dataset, 8, context).take(here * len(batches))
        found.append(list(parts.as_numpy_iterator()))
    for step, batch in enumerate(batches):
        parts = [part for of in found for part in of[step * here : (step + 1) * here]]
        assert [len(part["x"]) for part in parts] == [2] * 4
        for key in batch:
            np.testing.assert_array_equal(np.concatenate([p[key] for p in parts]), batch[key])


def test_dropout_keeps_and_scales_as_keras_does():
    x = np.random.default_rng(0).normal(size=(40, 5, 50)).astype(np.float32)
    keras.utils.set_random_seed(1)
    layer = layers.Dropout(0.25)
    np.testing.assert_array_equal(layer(x), x)
    first, second = layer(x, training=True).numpy(), layer(x, training=True).numpy()
    assert ((first == 0) != (second == 0)).any()
    kept = first != 0
    assert kept.mean() == pytest.approx(0.75, abs=0.02)
    np.testing.assert_allclose(first[kept], x[kept] / 0.75, rtol=1e-6)
    assert (kept[0] != kept[1]).any() and (kept[:, 0] != kept[:, 1]).any()
    copy = layers.Dropout.from_config(layer.get_config())
    assert copy.rate == 0.25 and len(layer.variables) == 1 and not layer.weights


# ---------------------------------------------------------------------- commands


def with_sgd():
    """Adds a stock optimizer of Keras to the registry."""
    from unsup_video.training import optimizers

    optimizers.OPTIMIZERS["sgd"] = lambda recipe, rate: keras.optimizers.SGD(rate, recipe.momentum)


def two_cpus_with_sgd():
    two_cpus()
    with_sgd()


@pytest.mark.slow
@pytest.mark.parametrize(
    ("recipe", "optimizer", "rtol"),
    # Adam divides by the gradient's size, and so turns the rounding of tiny gradients into steps.
    [("toronto", "clipped_momentum", 2e-5), ("github", "sgd", 2e-5), ("modern", "adam", 1e-2)],
)
def test_two_devices_pretrain_as_one(recipe, optimizer, rtol, tmp_path):
    tiny = [f"--config={QUICKSTART}:{recipe}", *TINY, f"--config.recipe.optimizer={optimizer}"]
    one = Run(tmp_path / "one", before=with_sgd, tiny=tiny)
    two = Run(tmp_path / "two", "--strategy=mirrored", before=two_cpus_with_sgd, tiny=tiny)
    assert one.finish()[0] == 0, one.output
    assert two.finish()[0] == 0, two.output
    assert "mirrored: 2 devices" in two.output
    assert json.loads((tmp_path / "two" / "run.json").read_text())["replicas"] == 2
    found, other = what_training_left(tmp_path / "one"), what_training_left(tmp_path / "two")
    assert_close(found, other, rtol)
    for line, same in zip(found["metrics"], other["metrics"], strict=True):
        for key in line.keys() - {"split"}:
            assert line[key] == pytest.approx(same[key], rel=1e-4), key


@pytest.mark.slow
def test_the_flags_go_together_also_on_a_single_device(tmp_path):
    status, output = Run(
        tmp_path / "run",
        "--strategy=mirrored",
        "--precision=bfloat16",
        "--profile_steps=3,4",
        "--config.train.steps=6",
    ).finish()
    assert status == 0, output
    assert "mirrored: 1 device\n" in output and "matrix products in bfloat16" in output
    assert "profiling from step 3 to 4" in output
    assert list((tmp_path / "run" / "tb").glob("plugins/profile/*/*.xplane.pb"))
    assert json.loads((tmp_path / "run" / "config.json").read_text())["precision"] == "bfloat16"
    _, last, _ = checkpoints.restore(checkpoints.latest(tmp_path / "run" / "checkpoints"))
    weights = [array for name, array in last.items() if name.startswith("model/")]
    assert weights and all(array.dtype == np.float32 for array in weights)


@pytest.mark.slow
def test_two_devices_finetune_as_one_with_dropout(tmp_path):
    """Each device's dropout has the masks that its examples have on one device."""
    folder = labelled.write(tmp_path / "percepts", labelled.videos())
    config = percepts_small.get_config()
    config.model.update({"kind": "autoencoder", "units": 5})
    config.data.update({"records": str(folder), "split": 1, "frames_in": 2, "frames_out": 1})
    config.recipe.batch_size = 4
    config.train.steps = 1
    init = labelled.pretrained(config, tmp_path / "pretrained")
    flags = [
        f"--config={ROOT / 'unsup_video/configs/finetune.py'}:github",
        f"--init={init}",
        f"--records={folder}",
        "--config.data.split=1",
        "--config.data.frames=4",
        "--config.data.stride=2",
        "--precision=float32",
        "--config.model.input_dropout=0.2",
        "--config.recipe.batch_size=6",
        "--config.recipe.learning_rate=0.01",
        "--config.recipe.step_clip=0.1",
        "--config.train.steps=6",
        "--config.train.eval_every=3",
        "--config.train.log_every=1",
        "--config.train.checkpoint_every=3",
    ]
    running = [
        Run(
            tmp_path / name,
            *flags,
            f"--strategy={strategy}",
            command="train.finetune",
            before=before,
            tiny=[],
        )
        for name, strategy, before in (("one", "none", None), ("two", "mirrored", two_cpus))
    ]
    for run in running:
        status, output = run.finish()
        assert status == 0, output
    found = what_training_left(tmp_path / "one")
    assert sum(name.startswith("seed/") for name in found["last"]) == 3
    assert_close(found, what_training_left(tmp_path / "two"), rtol=2e-5)


@pytest.mark.slow
def test_a_batch_that_cannot_be_divided_is_refused(tmp_path):
    run = Run(
        tmp_path / "run", "--strategy=mirrored", "--config.recipe.batch_size=5", before=two_cpus
    )
    status, output = run.finish()
    assert status == 1
    assert re.search(
        "error: a batch of 5 cannot be divided among 2 devices: set "
        "--config.recipe.batch_size to a multiple",
        output,
    )


def free_ports(count):
    held = [socket.socket() for _ in range(count)]
    for one in held:
        one.bind(("localhost", 0))
    ports = [one.getsockname()[1] for one in held]
    for one in held:
        one.close()
    return ports


class Worker:
    """What makes a process one of two that train together, and calls `then`; picklable."""

    def __init__(self, ports, index, then=None):
        self.ports, self.index, self.then = ports, index, then

    def __call__(self):
        cluster = {"worker": [f"localhost:{port}" for port in self.ports]}
        os.environ["TF_CONFIG"] = json.dumps(
            {"cluster": cluster, "task": {"type": "worker", "index": self.index}}
        )
        if self.then is not None:
            self.then()


def workers(workdir, *flags, worker_flags=(), worker_then=None):
    """Two processes that train together; the first one is the chief."""
    ports = free_ports(2)
    tiny = [f"--config={QUICKSTART}:github", *TINY]
    return [
        Run(workdir, "--strategy=multiworker", *flags, *more, before=before, tiny=tiny)
        for more, before in (((), Worker(ports, 0)), (worker_flags, Worker(ports, 1, worker_then)))
    ]


@pytest.mark.slow
def test_two_processes_train_as_one_also_after_they_were_stopped_and_killed(tmp_path):
    longer = ["--config.train.steps=120", "--config.train.eval_every=40"]
    one = Run(tmp_path / "one", *longer, tiny=[f"--config={QUICKSTART}:github", *TINY])

    # SIGTERM to one of them: both save and stop after the same step.
    stop = SignalIn(signal.SIGTERM, "train_step", 4)
    chief, worker = workers(tmp_path / "two", *longer, worker_then=stop)
    assert chief.finish()[0] == worker.finish()[0] == 75, chief.output + worker.output
    assert "SIGTERM: saved step" in worker.output
    assert "another process stops: saved step" in chief.output
    step = int(re.search("saved step ([0-9]+) of 120", chief.output)[1])
    assert f"saved step {step} of" in worker.output
    saved = checkpoints.latest(tmp_path / "two" / "checkpoints")
    assert saved.name == f"step-{step:08d}"

    # SIGKILL to one of them: the other one says so.
    kill = SignalIn(signal.SIGKILL, "train_step", step + 8)
    chief, worker = workers(tmp_path / "two", *longer, worker_then=kill)
    status, output = chief.finish()
    assert status == 1 and "Traceback" not in output, output
    assert "error: another process of this run is gone" in output
    assert f"resumed from {saved}" in output

    chief, worker = workers(tmp_path / "two", *longer)
    assert chief.finish()[0] == 0, chief.output
    assert worker.finish()[0] == 0, worker.output
    assert "2 devices in 2 processes, this is number 1" in worker.output
    assert "the first process tests and exports" in worker.output
    assert one.finish()[0] == 0, one.output
    assert_close(
        what_training_left(tmp_path / "one"), what_training_left(tmp_path / "two"), rtol=2e-4
    )
    assert len(list((tmp_path / "two" / "tb").iterdir())) == 3  # one for each start, the chief's


@pytest.mark.slow
def test_processes_of_different_runs_are_refused(tmp_path):
    chief, worker = workers(tmp_path / "run", worker_flags=["--config.train.steps=11"])
    for process in (chief, worker):
        status, output = process.finish()
        assert status == 1 and "Traceback" not in output, output
        assert "the processes differ in their config" in output or "process of this run" in output


@pytest.mark.parametrize(("status", "requeued"), [(0, False), (75, True), (1, False)])
def test_the_slurm_script_of_the_docs(status, requeued, tmp_path):
    """With a cluster of two nodes that is three shell scripts."""
    page = (ROOT / "docs" / "scale.md").read_text()
    script = tmp_path / "train.sh"
    script.write_text(page[page.index("#!/bin/bash\n#SBATCH") :].partition("```")[0])
    for name, text in {
        "scontrol": '[ "$1" = show ] && printf "node1\\nnode2\\n" || echo "$@" >> requeued',
        "srun": 'for i in 0 1; do SLURM_PROCID=$i "$@" || status=$?; done; exit ${status:-0}',
        "python": f'echo "$TF_CONFIG" >> configs; exit {status}',
    }.items():
        (tmp_path / name).write_text(f"#!/bin/bash\n{text}\n")
        (tmp_path / name).chmod(0o755)
    found = subprocess.run(
        ["bash", script],
        cwd=tmp_path,
        check=False,
        timeout=60,
        env={
            **os.environ,
            "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}",
            "SLURM_JOB_NODELIST": "node[1-2]",
            "SLURM_JOB_ID": "7",
        },
    )
    assert found.returncode == status
    assert (tmp_path / "requeued").exists() == requeued
    for index, line in enumerate((tmp_path / "configs").read_text().splitlines()):
        config = json.loads(line)
        assert config["cluster"] == {"worker": ["node1:12345", "node2:12345"]}
        assert config["task"] == {"type": "worker", "index": index}
