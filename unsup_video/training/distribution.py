"""Over which devices and processes training is spread: TensorFlow's own strategies.

Every batch is divided evenly among the replicas, one for each device, in the order of its examples.
Gradients and figures are reduced over all of them before anything is done with them, so that a run
is the same however many share the work, but for the order in which numbers are added up.
"""

import json
import os

import tensorflow as tf

STRATEGIES = ("none", "mirrored", "multiworker")


def strategy(name: str) -> tf.distribute.Strategy:
    """The strategy of that name.

    - none: one device, the first GPU or the CPU.
    - mirrored: all GPUs of this machine, or all its logical CPUs where there is none.
    - multiworker: all GPUs (or the CPU) of every process that the variable TF_CONFIG lists. It has
      to be made before TensorFlow does anything else.

    Raises:
        ValueError: an unknown name, or a TF_CONFIG that is missing or says nothing of workers.
    """
    if name == "none":
        return tf.distribute.get_strategy()
    if name == "mirrored":
        return tf.distribute.MirroredStrategy(
            tf.config.list_logical_devices("GPU") or tf.config.list_logical_devices("CPU")
        )
    if name == "multiworker":
        _check_tf_config(os.environ.get("TF_CONFIG", ""))
        # A thread waits in each of the few reductions that a step has under way. With one for each
        # of two cores all do, none is left to serve the other process, and a step takes half a
        # minute; with eight it did not any more.
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
        found = json.loads(text)
        workers, task = found["cluster"]["worker"], found["task"]
        if others := found["cluster"].keys() - {"worker"}:
            raise ValueError(f"all processes are workers here, and there is a {min(others)}")
        if task["type"] != "worker" or not 0 <= int(task["index"]) < len(workers):
            raise ValueError(f"no worker of {len(workers)} is {task['type']} {task['index']}")
    except (ValueError, TypeError, KeyError) as error:
        raise ValueError(
            f"TF_CONFIG={text} cannot be used ({type(error).__name__}: {error}); "
            f"it has to be like {_EXAMPLE}"
        ) from None


def is_chief(strategy: tf.distribute.Strategy) -> bool:
    """Whether this process writes the run's folder: the first one of those that train together."""
    return strategy.cluster_resolver is None or strategy.cluster_resolver.task_id == 0


def processes(strategy: tf.distribute.Strategy) -> int:
    """How many processes train together."""
    resolver = strategy.cluster_resolver
    return 1 if resolver is None else len(resolver.cluster_spec().job_tasks("worker"))


def describe(strategy: tf.distribute.Strategy) -> str:
    """What shares the work, for people."""
    text = f"{strategy.num_replicas_in_sync} devices"
    if processes(strategy) == 1:
        return text
    return (
        f"{text} in {processes(strategy)} processes, "
        f"this is number {strategy.cluster_resolver.task_id}"
    )


def check_batch_size(strategy: tf.distribute.Strategy, batch_size: int) -> None:
    """Raises ValueError for a batch that cannot be divided evenly."""
    replicas = strategy.num_replicas_in_sync
    if batch_size % replicas:
        raise ValueError(
            f"a batch of {batch_size} cannot be divided among {replicas} devices: set "
            "--config.recipe.batch_size to a multiple of that"
        )


def shares(batches: tf.data.Dataset, context: tf.distribute.InputContext) -> tf.data.Dataset:
    """What one process trains on: each whole batch's parts for its replicas, one after the other.

    Args:
        batches: of (B, ...) tensors, the same in every process.
    """
    replicas = context.num_replicas_in_sync
    if replicas == 1:
        return batches
    here = replicas // context.num_input_pipelines
    first = here * context.input_pipeline_id

    def parts(batch):
        def part(x):
            return tf.reshape(x, (replicas, -1, *x.shape[1:]))[first : first + here]

        return tf.data.Dataset.from_tensor_slices(tf.nest.map_structure(part, batch))

    # Without end: else all processes would ask each other before every step whether one is there.
    endless = tf.data.experimental.assert_cardinality(tf.data.INFINITE_CARDINALITY)
    return batches.flat_map(parts).apply(endless).prefetch(2 * here)


def reduce(value, how: str = "mean"):
    """The mean or the sum over all replicas of tensors; called inside of `Strategy.run`."""
    op = {"mean": tf.distribute.ReduceOp.MEAN, "sum": tf.distribute.ReduceOp.SUM}[how]
    # A copy, since what was made outside of `run` is one tensor for all, which none can reduce.
    here = tf.nest.map_structure(tf.identity, value)
    return tf.distribute.get_replica_context().all_reduce(op, here)


def gather(value):
    """The values that all replicas have, (replicas, ...); called inside of `Strategy.run`."""
    return tf.distribute.get_replica_context().all_gather(tf.identity(value)[None], axis=0)
