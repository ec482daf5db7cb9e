"""Whole files or none: everything is written under a temporary name and then renamed.

What is written lies in a folder `.partial-WRITER-NAME` beside `NAME`, as `new/NAME`. A folder that
it replaces is moved there first, to `old/NAME`. While both are there, the old one can have its name
back, which is what `recover` does; once the new one has the name, the rest is garbage. So wherever
the process is killed, one of the two is there whole, and the next call finds it.
"""

import contextlib
import errno
import fcntl
import gzip
import hashlib
import io
import math
import os
import re
import secrets
import shutil
import socket
import stat
import zipfile
import zlib
from collections.abc import Callable, Container, Iterable, Iterator, Sequence
from pathlib import Path
from typing import BinaryIO

import numpy as np

_MARK = ".partial-"  # then who writes it, "-" and the name
_NEW, _OLD = "new", "old"
_LONGEST = 255  # bytes of a file's name
LOCK = ".lock"
REPLACED = ".replaced"  # what `set_aside` moved
MOVING = ".replacing"  # what `set_aside` is moving


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Waits until a file, or a folder with all that it holds, is on disk."""
    for file in sorted(path.rglob("*")) if path.is_dir() else []:
        if not file.is_symlink() and (file.is_file() or file.is_dir()):  # not a user's pipe
            _sync(file)
    _sync(path)


def _short(name: str, room: int) -> str:
    """A name of at most `room` bytes that ends in the same way, and differs for another name."""
    data = os.fsencode(name)
    if len(data) <= room:
        return name
    digest = hashlib.sha256(data).hexdigest()[:16]
    tail = data[-(room - len(digest) - 1) :].decode(errors="ignore")
    return f"{digest}~{tail}"


def _beside(path: Path, mark: str, writer: str = "") -> Path:
    start = f"{mark}{writer}-"
    return path.with_name(start + _short(path.name, _LONGEST - len(start)))


def _temporary(path: Path) -> Path:
    """A name that no other process takes: not one of this machine, nor of others on its disks."""
    host = re.sub("[^A-Za-z0-9]", "_", socket.gethostname())[:32]
    return _beside(path, _MARK, f"{host}_{os.getpid()}_{secrets.token_hex(8)}")


def _target(path: str | os.PathLike) -> Path:
    """The path to write: that of its target for a link, unless that is a file."""
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() and not path.is_file() else path


@contextlib.contextmanager
def whole(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary path to write the file or folder `path` at; it gets its name at the end.

    A file takes the place of one that is there. A link to a folder stays, and the folder is written
    where it points to. After an error `path` is as it was; so it is after a crash, or else it is
    the new one, once `recover` was called.

    Args:
        replace: a folder takes the place of one that is there by then, too.

    Raises:
        FileExistsError: a folder is there, and `replace` is false. What the writing raises, with
        the temporary removed; an `OSError` such as a full disk's, which knows no file, names
        `path`.
    """
    target = _target(path)
    leftover = _temporary(target)
    temporary = leftover / _NEW / target.name
    try:
        leftover.mkdir()
        temporary.parent.mkdir()
        yield temporary
        sync(temporary)
        if temporary.is_dir():
            _publish(temporary, target, replace)
        else:
            os.replace(temporary, target)
        _sync(target.parent)
        if replace:
            _delete_replaced(target)
    except OSError as error:
        if error.errno is None:
            raise  # with a text of its own
        if error.filename is not None and not str(error.filename).startswith(str(leftover)):
            raise  # about another file
        raise OSError(error.errno, f"{path}: cannot be written ({error.strerror})") from error
    finally:
        _end(leftover)


def _publish(new: Path, path: Path, replace: bool) -> None:
    """Gives the folder `new` of a `whole` the name `path`."""
    old = new.parent.with_name(_OLD) / path.name
    old.parent.mkdir()
    while True:
        if replace and path.is_dir():
            with contextlib.suppress(FileNotFoundError):  # another process has just replaced it
                os.replace(path, old)
        elif os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            os.replace(new, path)  # fails where a folder is there that is not empty
            return
        except OSError as error:
            if not replace or error.errno not in _THERE:
                raise
            # A reader has given the old one its name back, or another process has written it.
            if old.exists():
                discard(old)


_THERE = (errno.ENOTEMPTY, errno.EEXIST)


def _delete_replaced(path: Path) -> None:
    """Deletes what this process replaced, and others that were killed while deleting it."""
    for leftover in leftovers(path.parent, path.name):
        if (leftover / _OLD).is_dir() and not (leftover / _NEW / path.name).exists():
            _remove(leftover)


def recover(path: str | os.PathLike) -> None:
    """Gives the folder `path` its name back where a process was killed while replacing it.

    Does nothing where `path` is there, or nothing was moved. Readers may call it, too.
    """
    path = _target(path)
    if not path.exists():
        for leftover in leftovers(path.parent, path.name):
            _give_back(leftover)


def _give_back(leftover: Path) -> None:
    """Moves the old folder of a `whole` back to its name if the new one never had it."""
    with contextlib.suppress(FileNotFoundError):  # another process did
        for name in os.listdir(leftover / _OLD) if (leftover / _OLD).is_dir() else []:
            if not (leftover / _NEW / name).exists():
                continue
            try:
                os.replace(leftover / _OLD / name, leftover.with_name(name))
            except OSError as error:
                if error.errno not in (*_THERE, errno.ENOENT, errno.ENOTDIR):
                    raise


def _end(leftover: Path) -> None:
    """Removes what a `whole` left, but gives its name back to what belongs there."""
    _give_back(leftover)
    # The new one first: an old one without it is never given back.
    shutil.rmtree(leftover / _NEW, ignore_errors=True)
    _remove(leftover)


def keep_foreign(old: Path, new: Path, own: Container[str]) -> None:
    """Links into `new` what is in the folder `old` that it is to replace, but not in `own`.

    So nothing of the user's goes with the old one. What NFS keeps of deleted files is left out.
    """
    for path in sorted(old.iterdir()):
        if path.name in own or path.name.startswith(".nfs") or (new / path.name).exists():
            continue
        if path.is_dir() and not path.is_symlink():
            shutil.copytree(path, new / path.name, symlinks=True, copy_function=_link)
        else:
            _link(path, new / path.name)


def _link(source, target):
    try:
        os.link(source, target, follow_symlinks=False)
    except OSError:  # a file system without links
        shutil.copy2(source, target, follow_symlinks=False)


def set_aside(folder: Path, names: Iterable[str], keep_earlier: bool = False) -> None:
    """Moves what a folder holds of `names` into its `.replaced`.

    Wherever this is killed, `put_back` moves all of it back, or else all of it was moved. Keep
    other processes out.

    Args:
        keep_earlier: where `.replaced` is there already, delete what is moved, and else that.
    """
    moving, aside = folder / MOVING, folder / REPLACED
    moving.mkdir()
    for name in names:
        if (folder / name).exists():
            os.replace(folder / name, moving / name)
    if aside.exists():
        discard(moving if keep_earlier else aside)
    if moving.exists():
        os.replace(moving, aside)
    _sync(folder)


def put_back(folder: Path) -> None:
    """Moves back what a killed `set_aside` had moved."""
    moving = folder / MOVING
    if moving.is_dir():
        for path in moving.iterdir():
            os.replace(path, folder / path.name)
        moving.rmdir()


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)


def write_text(path: str | os.PathLike, text: str) -> None:
    """Writes a whole text file, or leaves `path` as it was."""
    with whole(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def leftovers(folder: str | os.PathLike, name: str | None = None) -> list[Path]:
    """What processes that were killed while writing `folder`/`name` left there; None: any name."""
    if name is not None:
        folder, name = os.path.split(_target(Path(folder) / name))
    found = []
    for path in Path(folder).glob(f"{_MARK}*"):
        writer, _, of = path.name.removeprefix(_MARK).partition("-")
        room = _LONGEST - len(f"{_MARK}{writer}-")
        if name is None or of == _short(name, room):
            found.append(path)
    return found


def remove_leftovers(folder: str | os.PathLike, name: str | None = None) -> None:
    """Removes `leftovers`, after it gave folders that were being replaced their names back.

    It removes what is being written, too, so keep other processes out of these names.
    """
    for path in leftovers(folder, name):
        _end(path)


def discard(folder: Path) -> None:
    """Removes a folder: under its name it is whole, or not there, also where this is killed.

    What cannot be deleted, such as files on NFS that a process has open, is left to
    `remove_leftovers`.
    """
    leftover = _temporary(folder)
    os.replace(folder, leftover)
    _remove(leftover)


# ---------------------------------------------------------------------- names


def derived(name: str, suffix: str) -> Path:
    """The path, relative and below a folder, of what is made of `name`: `name` + `suffix`.

    Parts between slashes stay as they are where they are names of files. Others, such as "..", are
    made so, and cut; a part of their sha256 is added, so that no two names give the same path.
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


# ---------------------------------------------------------------------- locks


def lock(folder: str | os.PathLike) -> io.TextIOBase:
    """Keeps other processes out of a folder until the file that is returned is closed.

    The system closes it when the process ends, also when it is killed.

    Raises:
        ValueError: another process is in it. OSError: its file system has no locks.
    """
    held = open(Path(folder) / LOCK, "w", encoding="utf-8")
    if not _take(held, Path(folder), wait=False):
        held.close()
        raise ValueError(f"{folder}: another process is at work there now")
    return held


def _take(held, path, wait):
    """Locks an open file; False where another process has it and `wait` is False."""
    try:
        fcntl.flock(held, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
    except BlockingIOError:
        return False
    except OSError as error:
        held.close()
        raise OSError(
            error.errno,
            f"{path}: its file system has no locks ({error.strerror}), without which "
            "two processes could write there at once; use a folder on another one",
        ) from None
    return True


@contextlib.contextmanager
def locked(path: str | os.PathLike, waiting: Callable[[], None] = lambda: None) -> Iterator[None]:
    """Lets one process after the other work on `path`, which need not be there.

    Args:
        waiting: is called where another process is at work on it, before this one waits for it;
            it may raise an error instead.

    Raises OSError: its file system has no locks.
    """
    path = Path(path)
    file = _beside(path, LOCK)
    while True:
        held = open(file, "w", encoding="utf-8")
        try:
            if not _take(held, path, wait=False):
                waiting()
                _take(held, path, wait=True)
        except BaseException:
            held.close()
            raise
        # The one before has deleted the file: a third one may have made, and locked, a new one.
        with contextlib.suppress(FileNotFoundError):
            if os.path.samestat(os.stat(file), os.fstat(held.fileno())):
                break
        held.close()
    try:
        yield
    finally:
        file.unlink(missing_ok=True)
        held.close()


# ---------------------------------------------------------------------- reading


def check_place(path: str | os.PathLike, suffixes: Sequence[str]) -> None:
    """Raises ValueError or OSError where a file could not be written to `path`.

    Args:
        suffixes: that its name may end with, in lower case, such as ".gif".
    """
    path = Path(path)
    if path.suffix.lower() not in suffixes:
        raise ValueError(f"{path}: {' or '.join(suffixes)} expected")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder, the name of a file is expected")
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path}: the folder {path.parent} does not exist; make it first")
    if not os.access(path.parent, os.W_OK | os.X_OK):
        raise PermissionError(f"{path}: the folder {path.parent} cannot be written")


def check_regular(path: str | os.PathLike) -> None:
    """Raises ValueError for what has no end, such as a device or a pipe; OSError if not there."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path}: not a regular file")


def sha256(path: str | os.PathLike) -> str:
    """Hexadecimal sha256 of a file. Errors as of `check_regular`."""
    check_regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | os.PathLike, limit: int) -> bytes:
    """The first bytes of a file, at most `limit`; what ends in .gz is decompressed, no further.

    Raises:
        EOFError, zlib.error, gzip.BadGzipFile: it is damaged. Errors as of `check_regular`.
    """
    check_regular(path)
    opened = gzip.open if Path(path).suffix == ".gz" else open
    with opened(path, "rb") as file:
        return file.read(limit)


@contextlib.contextmanager
def damage_named(path: str | os.PathLike) -> Iterator[None]:
    """Raises ValueError, which names `path`, for all that reading a damaged .npz or .npy raises."""
    check_regular(path)
    try:
        yield
    except (ValueError, EOFError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # of a place outside of it
            raise
        raise ValueError(
            f"{path}: truncated, damaged, or not of NumPy's ({str(error) or type(error).__name__})"
        ) from None


def read_arrays(
    path: str | os.PathLike, names: Container[str] | None = None, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Arrays of a .npz file by name, without pickles.

    Args:
        names: which, where they are there; None for all.
        limit: bytes that they may have together; None for the size of the file, which those that
            `np.savez` wrote never exceed, since it does not compress.

    Raises:
        ValueError: they are larger, or the file is damaged. OSError: it cannot be read.
    """
    with damage_named(path), zipfile.ZipFile(path) as archive:
        limit = os.path.getsize(path) if limit is None else limit
        found = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is compressed in a way that NumPy has not")
            limit -= info.file_size
            if limit < 0:
                raise ValueError(f"{name} makes it larger than it may be when it is decompressed")
            with archive.open(info) as member:  # gives no more than `file_size`
                file = io.BytesIO(member.read())
            shape, _, dtype = read_header(file)
            if math.prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError(f"{name} is cut short")
            file.seek(0)
            found[name] = np.lib.format.read_array(file, allow_pickle=False)
    return found


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """(shape, whether it is in Fortran's order, dtype) of what a .npy file holds, read up to there.

    Raises ValueError where it is none.
    """
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)
