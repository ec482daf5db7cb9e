"""Reads text files that people write: lists of videos, labels, names and frame counts."""

import os
from collections.abc import Callable, Collection
from pathlib import Path

_LIMIT = 256 << 20  # bytes


def lines(path: str | os.PathLike) -> list[tuple[int, str]]:
    r"""Reads the lines of a text file that are not empty, as (number from 1, text).

    The file is UTF-8, with or without a byte order mark. Lines end with \n or \r\n only, so names
    may contain any other character. White space around a line is removed.

    Raises:
        FileNotFoundError: the file does not exist. ValueError: it is not UTF-8 (the message names
            the line), or has more than 256 MiB. OSError: it cannot be read.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: there is no such file")
    with open(path, "rb") as file:  # may be a pipe, or a device that never ends
        data = file.read(_LIMIT + 1)
    if len(data) > _LIMIT:
        raise ValueError(f"{path}: more than {_LIMIT >> 20} MiB: a text file of lines is expected")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        number = data.count(b"\n", 0, error.start) + 1
        raise ValueError(
            f"{path}, line {number}: not a text file in UTF-8 (byte 0x{data[error.start]:02x}): "
            "save it in UTF-8"
        ) from None
    stripped = ((number, line.strip()) for number, line in enumerate(text.split("\n"), 1))
    return [(number, line) for number, line in stripped if line]


def values(
    path: str | os.PathLike, names: Collection[str], what: str, key: Callable[[str], str] = str
) -> dict[str, tuple[int, str]]:
    """Returns {name: (line number, value)} for `names`, from lines `NAME VALUE` in any order.

    A NAME may have spaces, a VALUE has none.

    Args:
        what: name of VALUE in messages, such as "LABEL". key: turns a NAME into one of `names`.

    Raises:
        ValueError: a bad line, with its number; a repeated name; a name that is missing or
            unknown. The errors of `lines`.
    """
    values = {}
    for number, line in lines(path):
        name, *value = line.rsplit(maxsplit=1)
        if not value:
            raise ValueError(f"{path}, line {number}: {line!r}, NAME {what} expected, one per line")
        if (name := key(name)) in values:
            raise ValueError(f"{path}, line {number}: {name} is there twice")
        values[name] = number, value[0]
    known = set(names)
    if values.keys() != known:
        unknown, without = sorted(values.keys() - known), sorted(known - values.keys())
        problems = []
        if unknown:
            problems.append(f"{len(unknown)} unknown names, such as {unknown[0]}")
        if without:
            problems.append(f"no {what.lower()} for {len(without)} names, such as {without[0]}")
        raise ValueError(f"{path}: {'; '.join(problems)}")
    return values
