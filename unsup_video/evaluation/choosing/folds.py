"""Folds of a repeated cross-validation, stratified by class; no fold divides a group of videos."""

import numpy as np
from sklearn.model_selection import StratifiedGroupKFold


def check(labels: np.ndarray, groups: np.ndarray, count: int, classes: tuple[str, ...]) -> None:
    """Raises ValueError unless there are two classes, and `count` groups of each class.

    Args:
        labels, groups: (N,) int, of the videos. classes: names of the classes.
    """
    if count < 2:
        raise ValueError(f"cross-validation needs at least 2 folds, got {count}")
    if len(np.unique(labels)) < 2:
        raise ValueError(
            f"all {len(labels)} videos are of one class, {classes[labels[0]]}: a classifier needs "
            "at least two. Sub-folders of videos are classes"
        )
    for label, name in enumerate(classes):
        has = len(np.unique(groups[labels == label]))
        if has < count:
            raise ValueError(
                f"{count} folds need {count} groups of videos of each class, and there "
                f"{'is' if has == 1 else 'are'} {has} of {name} (a video without a group is one by "
                "itself): use fewer --folds, or more videos"
            )


def draw(labels: np.ndarray, groups: np.ndarray, count: int, seed: int) -> np.ndarray:
    """Returns the fold of each video, (N,) int from 0 to `count` - 1.

    Raises:
        ValueError: groups are so large that the videos outside of a fold lack a class.
    """
    folds = np.empty(len(labels), int)
    divided = StratifiedGroupKFold(count, shuffle=True, random_state=seed)
    for fold, (train, test) in enumerate(divided.split(labels, labels, groups)):
        if len(np.unique(labels[train])) < len(np.unique(labels)):
            raise ValueError(
                f"the groups of videos are too large for {count} folds: outside of one of them a "
                "class has no video"
            )
        folds[test] = fold
    return folds
