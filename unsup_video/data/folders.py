"""Lists the files of a folder, in the same way for every command that takes a folder."""

import os
from collections.abc import Collection, Sequence
from pathlib import Path

_SHOWN = 5  # names in a message


def files(
    folder: str | os.PathLike, suffixes: Collection[str]
) -> tuple[dict[str, Path], tuple[str, ...]]:
    """Finds the files with one of `suffixes`, in any case, in a folder and all folders below it.

    Links to files and folders are followed, except links to a folder that contains them. Files and
    folders whose name begins with a dot are ignored.

    Args:
        suffixes: in lower case, such as ".avi".

    Returns:
        The files as {name: path}, and the names of everything ignored, some with a reason; both
        sorted. Names are relative to the folder, with "/" on every system; the name of a folder
        ends with "/". In the names of ignored files, bytes that are not UTF-8 are escaped.

    Raises:
        FileNotFoundError: the folder does not exist. OSError: the folder, or one below it, cannot
            be read. ValueError: the name of a file that would be used is not UTF-8.
    """
    folder = Path(folder)
    if not folder.is_dir():
        problem = "this is a file, a folder is expected" if folder.exists() else "no such folder"
        raise FileNotFoundError(f"{folder}: {problem}")
    used, unused = {}, []

    def walk(path, prefix, above):
        above = above | {_identity(path)}
        for name in _names(path):
            file, relative = path / name, prefix + name
            if os.path.isdir(file):
                if name.startswith("."):
                    unused.append(f"{relative}/")
                elif _identity(file) in above:
                    unused.append(f"{relative}/ (a link to a folder that it is in)")
                else:
                    walk(file, f"{relative}/", above)
            elif name.startswith(".") or file.suffix.lower() not in suffixes:
                unused.append(relative)
            elif os.path.isfile(file):
                used[relative] = file
            else:
                reason = "a link to nothing" if os.path.islink(file) else "no file"
                unused.append(f"{relative} ({reason})")

    walk(folder, "", frozenset())
    for name, file in used.items():
        if not _is_utf8(name):
            raise ValueError(f"{str(file)!r}: its name is not UTF-8; rename it")
    escaped = (name.encode(errors="backslashreplace").decode() for name in unused)
    return dict(sorted(used.items())), tuple(sorted(escaped))


def _is_utf8(name):
    try:
        name.encode()
    except UnicodeError:
        return False
    return True


def _names(path):
    try:
        return os.listdir(path)
    except OSError as error:
        raise OSError(
            f"{path}: the folder cannot be read ({error.strerror}): make it readable, or move it "
            "elsewhere"
        ) from None


def _identity(path):
    status = os.stat(path)
    return status.st_dev, status.st_ino


def shown(names: Sequence[str]) -> str:
    """Formats the first few of many names, and the number of the others."""
    more = f" and {len(names) - _SHOWN:,} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
