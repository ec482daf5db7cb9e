"""Divides the sequences of a data set into training, validation and test splits."""

import hashlib
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:  # importing `records` would import TensorFlow, which nothing here needs
    from unsup_video.data.records import Entry

SPLITS = ("train", "validation", "test")
TRAIN, TEST = 1, 2  # in `Entry.splits`; 0 is unused


def choose(
    entries: "Sequence[Entry]", split: str, official: int = 0, fraction: float = 0.1
) -> np.ndarray:
    """Returns the sequences of a split as (len(entries),) bool.

    With an official split, its test list is the test split, and its training list is divided into
    training and validation. Without one, all sequences are divided. Here, a group is never divided;
    whether it is in both lists of an official split is up to these lists. The groups of each class
    are put into an order that looks random, but depends on their names alone. From that order,
    groups go to the test split (without an official split) and then to the validation split, until
    each has `fraction` of the groups of the class, at least one if there are enough. The last group
    of a class is left for training, unless an earlier class has put all its groups elsewhere.

    Args:
        split: "train", "validation" or "test".
        official: number of the official split, from 1; 0 for none.
        fraction: share of the groups of a class that validation and test get each.

    Raises:
        ValueError: an unknown split; an official split that the data set does not have; a fraction
            outside (0, 0.5).
    """
    if split not in SPLITS:
        raise ValueError(f"unknown split {split!r}: one of {', '.join(SPLITS)}")
    if not 0 < fraction < 0.5:
        raise ValueError(f"fraction must be between 0 and 0.5, got {fraction}")
    count = min((len(entry.splits) for entry in entries), default=0)
    if not 0 <= official <= count:
        raise ValueError(
            f"official split {official} was asked for, but the data set has "
            + (f"1 to {count}" if count else "no official splits; 0 divides it by groups")
        )
    held_out: tuple[str, ...]
    if official:
        codes = np.array([entry.splits[official - 1] for entry in entries])
        if split == "test":
            return codes == TEST
        pool, held_out = np.flatnonzero(codes == TRAIN), ("validation",)
    else:
        pool, held_out = np.arange(len(entries)), ("test", "validation")

    groups_of: dict[int, set[str]] = {}
    for i in pool.tolist():
        groups_of.setdefault(entries[i].label, set()).add(group_of(entries[i]))
    split_of: dict[str, str] = {}
    for label in sorted(groups_of):
        groups = sorted(groups_of[label], key=lambda group: hashlib.sha256(group.encode()).digest())
        size = math.ceil(fraction * len(groups))
        for name in held_out:
            free = [group for group in groups if group not in split_of]  # in no earlier class
            has = sum(split_of.get(group) == name for group in groups)
            has_training = any(split_of.get(group) == "train" for group in groups)
            spare = len(free) if has_training else len(free) - 1
            for group in free[: max(0, min(size - has, spare))]:
                split_of[group] = name
        for group in groups:
            split_of.setdefault(group, "train")
    chosen = np.zeros(len(entries), bool)
    chosen[[i for i in pool.tolist() if split_of[group_of(entries[i])] == split]] = True
    return chosen


def folds(labels: Sequence[int], groups: Sequence[str], count: int) -> list[tuple[int, ...]]:
    """Makes splits for cross-validation: `count` numbers for each sequence, as in `Entry.splits`.

    Every sequence is in the test list of one split and in the training lists of the others. A group
    is never divided. The groups of each class are dealt out evenly, in an order that looks random,
    but depends on their names alone.

    Args:
        labels: -1 for a sequence without one. groups: names, none empty. count: at least 2.

    Raises:
        ValueError: count is below 2, or exceeds the number of groups of a class.
    """
    if count < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got {count}")
    groups_of: dict[int, set[str]] = {}
    for label, group in zip(labels, groups, strict=True):
        groups_of.setdefault(label, set()).add(group)
    fold_of, dealt = {}, 0
    for label in sorted(groups_of):
        order = sorted(groups_of[label], key=lambda group: hashlib.sha256(group.encode()).digest())
        if label >= 0 and len(order) < count:
            raise ValueError(
                f"{count} folds need at least {count} groups of each class, class {label} has "
                f"{len(order)}"
            )
        for group in order:
            if group not in fold_of:  # in no earlier class
                fold_of[group] = dealt % count
                dealt += 1
    return [
        tuple(TEST if fold_of[group] == fold else TRAIN for fold in range(count))
        for group in groups
    ]


def few(labels: np.ndarray, per_class: int, seed: int) -> np.ndarray:
    """Chooses `per_class` sequences of each class at random, or all if a class has fewer.

    With the same seed, a smaller choice is a subset of a larger one.

    Args:
        labels: (N,) int, -1 for a sequence that is never chosen.

    Returns:
        (N,) bool.
    """
    if per_class < 1:
        raise ValueError(f"at least 1 video per class is needed, got {per_class}")
    chosen = np.zeros(len(labels), bool)
    for label in np.unique(labels[labels >= 0]):
        order = np.random.default_rng((seed, label)).permutation(np.flatnonzero(labels == label))
        chosen[order[:per_class]] = True
    return chosen


def group_of(entry: "Entry") -> str:
    """Returns the name of an entry's group; a sequence without a group is its own group."""
    return entry.group or entry.name


def numbered_groups(entries: "Sequence[Entry]", indices: np.ndarray) -> np.ndarray:
    """Numbers the groups of the sequences `indices`, (N,) int; returns (N,) int64.

    Args:
        entries: those of the whole data set; () if its sequences have no names, in which case each
            sequence is a group.
    """
    if not entries:
        return np.unique(indices, return_inverse=True)[1]
    numbers: dict[str, int] = {}
    return np.array([numbers.setdefault(group_of(entries[i]), len(numbers)) for i in indices])
