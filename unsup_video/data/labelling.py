"""Labels as text files and arrays give them: names of classes, or numbers."""

import re
from collections.abc import Container, Iterable

NONE = "-1"  # the label of a video without one

_NUMBER = re.compile(r"-?[0-9]+")
_NUMERIC = re.compile(r"[-+]?([0-9]+\.?[0-9]*|\.[0-9]+)")
_SEPARATOR = re.compile(r"[\s,;]+")


def check(label: str, known: Container[str] = ()) -> str:
    """Returns a label as it is.

    Raises ValueError where one of several fields is a number, unless the label is in `known`: it
    may be a column of an annotation list, such as `PATH FRAMES LABEL` or `PATH START END LABEL`,
    of which each line would become a class of its own. White space, "," and ";" separate fields.
    """
    fields = _SEPARATOR.split(label)
    if len(fields) > 1 and label not in known and any(map(_NUMERIC.fullmatch, fields)):
        raise ValueError(
            f"{label!r}, a number beside another field, where one label is expected: of lines such "
            "as PATH FRAMES LABEL keep the path and the label; in the name of a class, join them "
            "with _"
        )
    return label


def numbers(labels: Iterable[str], known: Container[str] = ()) -> dict[str, int] | None:
    """The number of each label where all of them are numbers, `-?[0-9]+`; else None.

    Raises ValueError: as of `check`; a negative number, since `NONE` is no class; or two spellings
        of one number, such as 01 and 1, of which nobody knows whether they are one class.
    """
    labels = sorted(check(label, known) for label in labels)
    if not all(map(_NUMBER.fullmatch, labels)):
        return None
    spelled: dict[int, str] = {}
    for label in labels:
        other = spelled.setdefault(int(label), label)
        if other != label:
            raise ValueError(f"labels {other} and {label} are one number: write them alike")
    if spelled and min(spelled) < 0:
        raise ValueError(f"label {min(spelled)}, {NONE} (none) or more expected")
    return {label: number for number, label in spelled.items()}
