"""Labels as text files and arrays give them: names of classes, or numbers."""

import re
from collections.abc import Iterable

NONE = "-1"  # the label of a video without one

_NUMBER = re.compile(r"-?[0-9]+")
_NUMBERS = re.compile(r"-?[0-9.]+(\s+-?[0-9.]+)+")
_NUMBER_IN_FRONT = re.compile(r"[0-9.]+\s+(.+)")


def check(label: str) -> str:
    """Returns a label as it is.

    Raises ValueError where it holds several numbers: what many annotation lists have, such as
    `PATH FRAMES LABEL`, is not read as a class of its own.
    """
    if _NUMBERS.fullmatch(label):
        raise ValueError(
            f"several numbers, {label}, where one label is expected: of lines such as PATH FRAMES "
            "LABEL keep the path and the label"
        )
    return label


def numbers(labels: Iterable[str]) -> dict[str, int] | None:
    """The number of each label where all of them are numbers, `-?[0-9]+`; else None.

    Raises ValueError: as of `check`; a negative number, since `NONE` is no class; two spellings of
        one number, such as 01 and 1, of which nobody knows whether they are one class; or names
        that all have a number in front, which is not the same for the same name: `120 jump` and
        `95 jump`.
    """
    labels = sorted(map(check, labels))
    if not all(map(_NUMBER.fullmatch, labels)):
        _refuse_numbers_in_front(labels)
        return None
    spelled = {}
    for label in labels:
        other = spelled.setdefault(int(label), label)
        if other != label:
            raise ValueError(f"labels {other} and {label} are one number: write them alike")
    if spelled and min(spelled) < 0:
        raise ValueError(f"label {min(spelled)}, {NONE} (none) or more expected")
    return {label: number for number, label in spelled.items()}


def _refuse_numbers_in_front(labels):
    found = [_NUMBER_IN_FRONT.fullmatch(label) for label in labels]
    if not all(found):
        return
    first = {}
    for match in found:
        other = first.setdefault(match[1], match[0])
        if other != match[0]:
            raise ValueError(
                f"labels {other} and {match[0]} differ in a number in front of the name: of lines "
                "such as PATH FRAMES LABEL keep the path and the label"
            )
