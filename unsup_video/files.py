"""Whole files or none: everything is written under a temporary name and then renamed."""

import contextlib
import fcntl
import fnmatch
import hashlib
import io
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

_MARK = ".partial-"
LOCK = ".lock"
_LONGEST = 160  # bytes, of a derived name: file systems allow 255, and temporary names are longer


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


@contextlib.contextmanager
def whole(path: str | os.PathLike) -> Iterator[Path]:
    """Yields a temporary path to write the file or folder `path` at; it gets its name at the end.

    A folder must not exist yet; a file is replaced. After an error, or a crash, `path` is as it
    was. Raises what the writing raises, with the temporary removed; an `OSError` such as a full
    disk's, which knows no file, names `path`.
    """
    path = Path(path)
    temporary = path.with_name(f"{_MARK}{os.getpid()}-{path.name}")
    _remove(temporary)  # of one that was killed and had the same number, as in containers
    try:
        yield temporary
        for file in sorted(temporary.rglob("*")) if temporary.is_dir() else []:
            _sync(file)
        _sync(temporary)
        os.replace(temporary, path)
        _sync(path.parent)
    except OSError as error:
        if error.errno is None:
            raise  # with a text of its own
        if error.filename is not None and not str(error.filename).startswith(str(temporary)):
            raise  # about another file
        raise OSError(error.errno, f"{path}: cannot be written ({error.strerror})") from error
    finally:
        _remove(temporary)


def _remove(path: Path) -> None:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a whole text file, or leaves `path` as it was."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def leftovers(folder: str | os.PathLike, name: str = "*") -> list[Path]:
    """What processes that were killed while writing `folder`/`name`, a pattern, left there."""
    return [
        path for path in Path(folder).glob(f"{_MARK}*")
        if fnmatch.fnmatchcase(path.name.removeprefix(_MARK).partition("-")[2], name)
    ]


def remove_leftovers(folder: str | os.PathLike, name: str = "*") -> None:
    """Removes `leftovers`; and what is being written, so keep other processes out of these."""
    for path in leftovers(folder, name):
        _remove(path)


def discard(folder: Path) -> None:
    """Removes a folder: under its name it is whole, or not there, also where this is killed."""
    leftover = folder.with_name(f"{_MARK}{os.getpid()}-{folder.name}")
    os.replace(folder, leftover)
    shutil.rmtree(leftover)


def lock(folder: str | os.PathLike) -> io.TextIOBase:
    """Keeps other processes out of a folder until the file that is returned is closed.

    Raises ValueError where another one is in it.
    """
    held = open(Path(folder) / LOCK, "w", encoding="utf-8")
    try:
        fcntl.flock(held, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        held.close()
        raise ValueError(f"{folder}: another process is at work there now") from None
    return held


def derived(name: str, suffix: str) -> Path:
    """The path, relative and below a folder, of what is made of `name`: `name` + `suffix`.

    Parts between slashes stay as they are where they are names of files that leave room for a
    temporary name. Others, such as "..", are made so, and cut; a part of their sha256 is added, so
    that no two names give the same path.
    """
    parts = name.split("/")
    made = [_legal("/".join(parts[: k + 1]), parts[k]) for k in range(len(parts) - 1)]
    return Path(*made, _legal(name, parts[-1], suffix))


def _legal(name, part, suffix=""):
    """`part`, the last one of `name`, as the name of a file or folder."""
    legal = "".join(c if c.isprintable() else "_" for c in part)
    room = _LONGEST - len(suffix)
    if legal == part and part and not part.startswith(".") and len(part.encode()) <= room:
        return part + suffix
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    cut = legal.lstrip(".").encode()[: room - len(digest) - 1].decode(errors="ignore")
    return f"{cut}-{digest}{suffix}"


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a file."""
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()
