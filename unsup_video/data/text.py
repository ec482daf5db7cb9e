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
    """A value for each of `names`, from lines `NAME VALUE` in any order: (line number, value).

    A NAME may have spaces, a VALUE has none.

    Args:
        what: VALUE, for messages, such as "LABEL". key: makes one of `names` of a NAME.

    Raises:
        ValueError: a bad line, with its number; a name twice; another name, or one that is not
            there. Others as of `lines`.
    """
    values = {}
    for number, line in lines(path):
        name, *value = line.rsplit(maxsplit=1)
        if not value:
            raise ValueError(f"{path}, line {number}: {line!r}, NAME {what} expected, one a line")
        if (name := key(name)) in values:
            raise ValueError(f"{path}, line {number}: {name} is there twice")
        values[name] = number, value[0]
    if differing := sorted(values.keys() ^ set(names)):
        problem = "is not there" if differing[0] in values else f"has no {what.lower()}"
        raise ValueError(f"{path}: {differing[0]} {problem} ({len(differing)} in all)")
    return values
