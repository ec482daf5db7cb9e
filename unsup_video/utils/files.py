"""Atomic writes: files and folders are written under a temporary name and then renamed.

A writer works in a folder `.partial-WRITER-NAME` beside `NAME` and writes to `new/NAME` in it. If
it replaces a folder, it first moves the old one to `old/NAME`. If the process is killed between
the two renames, `recover` gives the old folder its name back. Once the new folder has the name,
the rest is garbage. So wherever the process is killed, either the old or the new folder is
complete, and the next call finds it.
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

_MARK = ".partial-"  # followed by the writer, "-" and the name
_NEW, _OLD = "new", "old"
_LONGEST = 255  # maximum length of a file name in bytes
LOCK = ".lock"
REPLACED = ".replaced"  # the folder that `set_aside` moves files into
MOVING = ".replacing"  # the same folder while `set_aside` is still moving


def _sync(path: Path) -> None:
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def sync(path: Path) -> None:
    """Waits until a file, or a folder and everything in it, is on disk."""
    for file in sorted(path.rglob("*")) if path.is_dir() else []:
        if not file.is_symlink() and (file.is_file() or file.is_dir()):  # skips pipes
            _sync(file)
    _sync(path)


def _short(name: str, room: int) -> str:
    """Shortens a name to `room` bytes: keeps its end, and maps different names differently."""
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
    """Returns a name that no other process uses, neither here nor on hosts that share the disk."""
    host = re.sub("[^A-Za-z0-9]", "_", socket.gethostname())[:32]
    return _beside(path, _MARK, f"{host}_{os.getpid()}_{secrets.token_hex(8)}")


def _target(path: str | os.PathLike) -> Path:
    """Returns the path to write: for a link to anything but a file, the target of the link."""
    path = Path(path)
    return Path(os.path.realpath(path)) if path.is_symlink() and not path.is_file() else path


@contextlib.contextmanager
def atomic_write(path: str | os.PathLike, replace: bool = False) -> Iterator[Path]:
    """Yields a temporary path to write a file or folder at, and renames it to `path` at the end.

    A file replaces an existing file. A link to a folder stays, and its target is written. After
    an error, `path` is unchanged. After a crash, `path` is either unchanged or the new version,
    once `recover` has been called.

    Args:
        replace: also replace a folder that exists by then.

    Raises:
        FileExistsError: the folder exists, and `replace` is false.
        OSError: the file cannot be written, for example because the disk is full. An error that
            names no file is raised again with the name of `path`.

    Any error raised by the writer is passed on, after the temporary files have been removed.
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
            raise  # it has a message of its own
        if error.filename is not None and not str(error.filename).startswith(str(leftover)):
            raise  # it concerns another file
        raise OSError(error.errno, f"{path}: cannot be written ({error.strerror})") from error
    finally:
        _end(leftover)


def _publish(new: Path, path: Path, replace: bool) -> None:
    """Renames the folder `new` of an `atomic_write` to `path`."""
    old = new.parent.with_name(_OLD) / path.name
    old.parent.mkdir()
    while True:
        if replace and path.is_dir():
            with contextlib.suppress(FileNotFoundError):  # another process has just replaced it
                os.replace(path, old)
        elif os.path.lexists(path):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(path))
        try:
            os.replace(new, path)  # fails if a folder exists there that is not empty
            return
        except OSError as error:
            if not replace or error.errno not in _THERE:
                raise
            # A reader has moved the old folder back, or another process has written a new one.
            if old.exists():
                discard(old)


_THERE = (errno.ENOTEMPTY, errno.EEXIST)


def _delete_replaced(path: Path) -> None:
    """Deletes the folders that this process, or one killed while deleting, has replaced."""
    for leftover in leftovers(path.parent, path.name):
        if (leftover / _OLD).is_dir() and not (leftover / _NEW / path.name).exists():
            _remove(leftover)


def recover(path: str | os.PathLike) -> None:
    """Moves the old folder `path` back if a process was killed while replacing it.

    Does nothing if `path` exists or nothing was moved. Readers may call it, too.
    """
    path = _target(path)
    if not path.exists():
        for leftover in leftovers(path.parent, path.name):
            _give_back(leftover)


def _give_back(leftover: Path) -> None:
    """Moves the old folder of an `atomic_write` back, unless the new one ever had its name."""
    with contextlib.suppress(FileNotFoundError):  # another process has moved it
        for name in os.listdir(leftover / _OLD) if (leftover / _OLD).is_dir() else []:
            if not (leftover / _NEW / name).exists():
                continue
            try:
                os.replace(leftover / _OLD / name, leftover.with_name(name))
            except OSError as error:
                if error.errno not in (*_THERE, errno.ENOENT, errno.ENOTDIR):
                    raise


def _end(leftover: Path) -> None:
    """Removes the temporary files of an `atomic_write`, after moving an old folder back."""
    _give_back(leftover)
    # Remove the new folder first: without it, the old one is never moved back.
    shutil.rmtree(leftover / _NEW, ignore_errors=True)
    _remove(leftover)


def keep_foreign(old: Path, new: Path, own: Container[str]) -> None:
    """Links files that are not in `own` from the folder `old` into `new`, which replaces it.

    This preserves the user's own files. Files that NFS keeps after deletion are left out.
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
    except OSError:  # the file system has no links
        shutil.copy2(source, target, follow_symlinks=False)


def set_aside(folder: Path, names: Iterable[str], keep_earlier: bool = False) -> None:
    """Moves those of `names` that exist in a folder into its sub-folder `.replaced`.

    If this is killed, either everything has been moved, or `put_back` moves everything back. The
    caller must keep other processes out.

    Args:
        keep_earlier: if `.replaced` exists, delete the files being moved instead of its contents.
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
    """Moves files back after `set_aside` was killed."""
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
    """Writes a text file atomically, in UTF-8."""
    with atomic_write(path) as temporary:
        temporary.write_text(text, encoding="utf-8")


def leftovers(folder: str | os.PathLike, name: str | None = None) -> list[Path]:
    """Lists the folders that killed writers of `folder`/`name` left; of any name if it is None."""
    if name is not None:
        folder, name = os.path.split(_target(Path(folder) / name))
    paths = []
    for path in Path(folder).glob(f"{_MARK}*"):
        writer, _, short_name = path.name.removeprefix(_MARK).partition("-")
        room = _LONGEST - len(f"{_MARK}{writer}-")
        if name is None or short_name == _short(name, room):
            paths.append(path)
    return paths


def remove_leftovers(folder: str | os.PathLike, name: str | None = None) -> None:
    """Removes `leftovers`, after moving folders that were being replaced back to their names.

    This also removes what another process is writing, so keep other processes out.
    """
    for path in leftovers(folder, name):
        _end(path)


def discard(folder: Path) -> None:
    """Removes a folder atomically: if this is killed, it is either complete or gone.

    Files that cannot be deleted, such as files on NFS that a process has open, are left for
    `remove_leftovers`.
    """
    leftover = _temporary(folder)
    os.replace(folder, leftover)
    _remove(leftover)


# ---------------------------------------------------------------------- names


def safe_path(name: str, suffix: str) -> Path:
    """Returns `name` + `suffix` as a relative path that stays below the folder it is used in.

    Parts between slashes that are legal file names are kept. Other parts, such as "..", are made
    legal and shortened, and get a part of the sha256 of the name, so that different names give
    different paths.
    """
    parts = name.split("/")
    folders = [_legal("/".join(parts[: k + 1]), parts[k]) for k in range(len(parts) - 1)]
    return Path(*folders, _legal(name, parts[-1], suffix))


def _legal(name, part, suffix=""):
    """Returns `part`, the last part of `name`, as a legal name of a file or folder."""
    legal = "".join(c if c.isprintable() else "_" for c in part)
    room = _LONGEST - len(suffix)
    if legal == part and part and not part.startswith(".") and len(part.encode()) <= room:
        return part + suffix
    digest = hashlib.sha256(name.encode("utf-8", "surrogatepass")).hexdigest()[:10]
    cut = legal.lstrip(".").encode()[: room - len(digest) - 1].decode(errors="ignore")
    return f"{cut}-{digest}{suffix}"


# ---------------------------------------------------------------------- locks


def lock(folder: str | os.PathLike) -> io.TextIOBase:
    """Keeps other processes out of a folder until the returned file is closed.

    The system closes it when the process ends, even if the process is killed.

    Raises:
        ValueError: another process holds the lock. OSError: the file system has no locks.
    """
    held = open(Path(folder) / LOCK, "w", encoding="utf-8")
    if not _take(held, Path(folder), wait=False):
        held.close()
        raise ValueError(f"{folder}: another process is at work there now")
    return held


def _take(held, path, wait):
    """Locks an open file; returns False if another process holds the lock and `wait` is False."""
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
    """Lets one process at a time work on `path`, which need not exist.

    Args:
        waiting: a function called before waiting for another process; it may raise an error
            instead of waiting.

    Raises OSError if the file system has no locks.
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
        # The previous holder has deleted the file, so a third process may have locked a new one.
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
    """Raises ValueError unless a path is a regular file; a device or a pipe may never end."""
    if not stat.S_ISREG(os.stat(path).st_mode):
        raise ValueError(f"{path}: not a regular file")


def sha256(path: str | os.PathLike) -> str:
    """Returns the hexadecimal sha256 of a file. Raises the errors of `check_regular`."""
    check_regular(path)
    with open(path, "rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def read(path: str | os.PathLike, limit: int) -> bytes:
    """Returns at most the first `limit` bytes of a file; decompresses a .gz file up to there.

    Raises:
        EOFError, zlib.error, gzip.BadGzipFile: the file is damaged.
        OSError, ValueError: as `check_regular`.
    """
    check_regular(path)
    open_file = gzip.open if Path(path).suffix == ".gz" else open
    with open_file(path, "rb") as file:
        return file.read(limit)


@contextlib.contextmanager
def damage_as_value_error(path: str | os.PathLike) -> Iterator[None]:
    """Turns every error of reading a damaged .npz or .npy file into a ValueError naming `path`."""
    check_regular(path)
    try:
        yield
    except (ValueError, EOFError, RuntimeError, OSError, zipfile.BadZipFile, zlib.error) as error:
        if isinstance(error, OSError) and error.errno != errno.EINVAL:  # EINVAL: a bad offset
            raise
        raise ValueError(
            f"{path}: truncated, damaged, or not a NumPy file "
            f"({str(error) or type(error).__name__})"
        ) from None


def read_arrays(
    path: str | os.PathLike, names: Container[str] | None = None, limit: int | None = None
) -> dict[str, np.ndarray]:
    """Returns arrays of a .npz file by name, without unpickling.

    Args:
        names: the arrays to read, if they exist; None for all.
        limit: maximum total size of the arrays in bytes; None for the size of the file, which is
            enough for files from `np.savez`, since it does not compress.

    Raises:
        ValueError: the arrays are larger, or the file is damaged. OSError: it cannot be read.
    """
    with damage_as_value_error(path), zipfile.ZipFile(path) as archive:
        limit = os.path.getsize(path) if limit is None else limit
        arrays = {}
        for info in archive.infolist():
            name = info.filename.removesuffix(".npy")
            if names is not None and name not in names:
                continue
            if info.compress_type not in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
                raise ValueError(f"{name} is compressed with a method that NumPy does not use")
            limit -= info.file_size
            if limit < 0:
                raise ValueError(f"{name} makes it larger than it may be when it is decompressed")
            with archive.open(info) as member:  # returns at most `file_size` bytes
                file = io.BytesIO(member.read())
            shape, _, dtype = read_header(file)
            if math.prod(shape) * dtype.itemsize > info.file_size:
                raise ValueError(f"{name} is cut short")
            file.seek(0)
            arrays[name] = np.lib.format.read_array(file, allow_pickle=False)
    return arrays


def read_header(file: BinaryIO) -> tuple[tuple[int, ...], bool, np.dtype]:
    """Reads the header of a .npy file: (shape, is it in Fortran order, dtype).

    Raises ValueError if the file does not start with such a header.
    """
    version = np.lib.format.read_magic(file)
    read = (
        np.lib.format.read_array_header_1_0
        if version == (1, 0)
        else np.lib.format.read_array_header_2_0
    )
    return read(file)
