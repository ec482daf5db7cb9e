"""Training on several devices and processes, with TensorFlow's own strategies.

Every batch is divided evenly among the replicas, one per device, in the order of its examples.
Gradients and figures are reduced over all replicas before they are used, so that the number of
devices does not change a run, apart from the order in which numbers are added up.
"""

import json
import os

import tensorflow as tf

from unsup_video.data.shares import Share

STRATEGIES = ("none", "mirrored", "multiworker")


def strategy(name: str) -> tf.distribute.Strategy:
    """Returns the strategy with this name.

    - none: one device, the first GPU or the CPU.
    - mirrored: all GPUs of this machine, or all its logical CPUs if it has no GPU.
    - multiworker: all GPUs (or the CPU) of every process that the variable TF_CONFIG lists. It must
      be created before TensorFlow does anything else.

    Raises:
        ValueError: the name is unknown, or TF_CONFIG is missing or lists no workers.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(
            tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        )
    if name == "multiworker":
        _check_tf_config(os.environ.get("TF_CONFIG", ""))
        # Every reduction in progress blocks a thread. With one thread per core on two cores all of
        # them wait, none is left to answer the other process, and a step takes half a minute; with
        # eight threads this did not happen any more.
        tf.config.threading.set_inter_op_parallelism_threads(max(32, os.cpu_count() or 1))
        return tf.distribute.MultiWorkerMirroredStrategy()
    raise ValueError(f"unknown strategy {name!r}: one of {', '.join(STRATEGIES)}")


_EXAMPLE = (
    'TF_CONFIG=\'{"cluster": {"worker": ["host0:12345", "host1:12345"]}, '
    '"task": {"type": "worker", "index": 0}}\', with another index in each process'
)


def _check_tf_config(text):
    if not text:
        raise ValueError(f"--strategy=multiworker needs the environment variable {_EXAMPLE}")
    try:
        config = json.loads(text)
        workers, task = config["cluster"]["worker"], config["task"]
        if others := config["cluster"].keys() - {"worker"}:
            raise ValueError(f"all processes are workers here, and there is a {min(others)}")
        if task["type"] != "worker" or not 0 <= int(task["index"]) < len(workers):
            raise ValueError(f"no worker of {len(workers)} is {task['type']} {task['index']}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"TF_CONFIG={text} cannot be used ({type(error).__name__}: {error}); "
            f"it has to be like {_EXAMPLE}"
        ) from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Returns True in the first of the processes that train together, which writes the run."""
    return strategy.cluster_resolver is None or strategy.cluster_resolver.task_id == 0


def processes(strategy: tf.distribute.Strategy) -> int:
    """Returns the number of processes that train together."""
    resolver = strategy.cluster_resolver
    return 1 if resolver is None else len(resolver.cluster_spec().job_tasks("worker"))


def part_of(numbers: range, strategy: tf.distribute.Strategy) -> range:
    """Returns the part of the numbers that falls to this process; the parts are about equal."""
    count, index = processes(strategy), strategy.cluster_resolver.task_id
    return numbers[len(numbers) * index // count : len(numbers) * (index + 1) // count]


def describe(strategy: tf.distribute.Strategy) -> str:
    """Returns a line for people about the devices and processes that share the work."""
    count = strategy.num_replicas_in_sync
    text = f"{count} device{'s' * (count > 1)}"
    if processes(strategy) == 1:
        return text
    return (
        f"{text} in {processes(strategy)} processes, "
        f"this is number {strategy.cluster_resolver.task_id}"
    )


def check_batch_size(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises ValueError for a batch that cannot be divided evenly among the devices."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"a batch of {batch_size} cannot be divided among {replicas} devices: set "
            "--config.recipe.batch_size to a multiple of that"
        )


def share(context: tf.distribute.InputContext) -> Share:
    """Returns the share of every batch that the replicas of this process train on."""
    return Share(context.input_pipeline_id, context.num_input_pipelines)


def parts(
    batches: tf.data.Dataset, batch_size: int, context: tf.distribute.InputContext
) -> tf.data.Dataset:
    """Divides the batches of one process among its replicas, one after the other.

    Args:
        batches: the process's share of batches of `batch_size` examples.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return batches
    divided = batches.rebatch(batch_size // replicas, drop_remainder=True)
    # Infinite: otherwise all processes would agree before every step on whether a batch is left.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return divided.apply(endless).prefetch(2 * replicas // context.num_input_pipelines)


def reduce(value, how: str = "mean"):
    """Returns the mean or the sum of tensors over all replicas; call it inside `Strategy.run`."""
    op = {"mean": tf.distribute.ReduceOp.MEAN, "sum": tf.distribute.ReduceOp.SUM}[how]
    # A copy, since a tensor made outside of `run` is shared by all replicas and cannot be reduced.
    here = tf.nest.map_structure(tf.identity, value)
    return tf.distribute.get_replica_context().all_reduce(op, here)


def gather(value):
    """Returns the values of all replicas, (replicas, ...); call it inside `Strategy.run`."""
    return tf.distribute.get_replica_context().all_gather(tf.identity(value)[None], axis=0)
