"""Which sequences of a data set are for training, for validation and for testing."""

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # TensorFlow comes with it, and which sequences are which needs none
    from unsup_video.data.records import Entry

PARTS = ("train", "validation", "test")
_TRAIN, _TEST = 1, 2  # in `Entry.splits`


def choose(
    entries: "Sequence[Entry]", part: str, split: int = 0, fraction: float = 0.1
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
    held_out: tuple[str, ...]
    if split:
        official = np.array([entry.splits[split - 1] for entry in entries])
        if part == "test":
            return official == _TEST
        pool, held_out = np.flatnonzero(official == _TRAIN), ("validation",)
    else:
        pool, held_out = np.arange(len(entries)), ("test", "validation")

    groups_of: dict[int, set[str]] = {}
    for i in pool.tolist():
        groups_of.setdefault(entries[i].label, set()).add(group_of(entries[i]))
    part_of: dict[str, str] = {}
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
    chosen[[i for i in pool.tolist() if part_of[group_of(entries[i])] == part]] = True
    return chosen


def folds(labels: Sequence[int], groups: Sequence[str], count: int) -> list[tuple[int, ...]]:
    """Splits for cross-validation: for each sequence what `Entry.splits` holds, `count` numbers.

    Every sequence is for testing in one split and for training in the others. A group is never
    divided, and the groups of each class are dealt out evenly, in an order that looks random, but
    is a function of their names alone.

    Args:
        labels: -1 for a sequence without one. groups: names, none empty. count: at least 2.

    Raises:
        ValueError: count below 2, or more than there are groups of a class.
    """
    if count < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got {count}")
    groups_of: dict[int, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_of.setdefault(label, set()).add(group)
    fold_of, dealt = {}, 0
    for label in sorted(groups_of):
        found = sorted(groups_of[label], key=lambda group: hashlib.sha256(group.encode()).digest())
        if label >= 0 and len(found) < count:
            raise ValueError(
                f"{count} folds need as many groups of videos of each class; class {label} has "
                f"{len(found)}"
            )
        for group in found:
            if group not in fold_of:  # of no earlier class
                fold_of[group] = dealt % count
                dealt += 1
    return [
        tuple(_TEST if fold_of[group] == fold else _TRAIN for fold in range(count))
        for group in groups
    ]


def few(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """(len(labels),) bool: `per_class` sequences of each class at random, all where it has fewer.

    Those of a smaller number are among those of a larger one with the same seed.

    Args:
        labels: (N,) int, -1 for a sequence that is never chosen.
    """
    if per_class < 1:
        raise ValueError(f"at least 1 video of a class is needed, got {per_class}")
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels[labels >= 0]):
        order = np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
        chosen[order[:per_class]] = True
    return chosen


def group_of(entry: "Entry") -> str:
    """The name of the group that a sequence is of: it is one by itself where none is known."""
    return entry.group or entry.name


def numbered_groups(entries: "Sequence[Entry]", indices: np.ndarray) -> np.ndarray:
    """(N,) int64: the group of each of the sequences `indices`, (N,) int; equal numbers, one group.

    Args:
        entries: of the whole data set; () where its sequences have no names: each is a group then.
    """
    if not entries:
        return np.unique(indices, return_inverse=True)[1]
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group_of(entries[i]), len(numbers)) for i in indices])
