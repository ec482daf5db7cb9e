"""Which sequences of a data set are for training, for validation and for testing."""

import hashlib
import math
from collections.abc import Sequence

import numpy as np

from unsup_video.data.records import Entry

PARTS = ("train", "validation", "test")
_TRAIN, _TEST = 1, 2  # in `Entry.splits`


def choose(
    entries: Sequence[Entry], part: str, split: int = 0, fraction: float = 0.1
) -> np.ndarray:
    """(len(entries),) bool: the sequences of a part.

    With an official split, test is its test list, and the training list gives validation and
    training. Without one, all sequences are divided, in the same way. A group is never divided:
    of every class, groups in an order that looks random, but is a function of their names alone,
    go to testing (without an official split) and then to validation, until that part has
    `fraction` of the class's groups, at least one; but the last one is left for training.

    Args:
        part: "train", "validation" or "test".
        split: number of the official split, from 1; 0 for none.
        fraction: of the groups of a class.

    Raises:
        ValueError: an unknown part; a split that the data set does not have; a fraction outside of
            (0, 0.5).
    """
    if part not in PARTS:
        raise ValueError(f"unknown part {part!r}: one of {', '.join(PARTS)}")
    if not 0 < fraction < 0.5:
        raise ValueError(f"fraction must be between 0 and 0.5, got {fraction}")
    count = min((len(entry.splits) for entry in entries), default=0)
    if not 0 <= split <= count:
        raise ValueError(
            f"split {split} is asked for, the data set has "
            + (f"1 to {count}" if count else "no official splits; 0 divides it by groups")
        )
    if split:
        official = np.array([entry.splits[split - 1] for entry in entries])
        if part == "test":
            return official == _TEST
        pool, held_out = np.flatnonzero(official == _TRAIN), ("validation",)
    else:
        pool, held_out = np.arange(len(entries)), ("test", "validation")

    groups_of = {}
    for i in pool:
        groups_of.setdefault(entries[i].label, set()).add(_group(entries[i]))
    part_of = {}
    for label in sorted(groups_of):
        groups = sorted(groups_of[label], key=lambda group: hashlib.sha256(group.encode()).digest())
        size = math.ceil(fraction * len(groups))
        for name in held_out:
            free = [group for group in groups if group not in part_of]  # of no earlier class
            has = sum(part_of.get(group) == name for group in groups)
            has_training = any(part_of.get(group) == "train" for group in groups)
            most = len(free) if has_training else len(free) - 1
            for group in free[: max(0, min(size - has, most))]:
                part_of[group] = name
        for group in groups:
            part_of.setdefault(group, "train")
    chosen = np.zeros(len(entries), bool)
    chosen[[i for i in pool if part_of[_group(entries[i])] == part]] = True
    return chosen


def _group(entry):
    return entry.group or entry.name
