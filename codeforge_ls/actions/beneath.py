"""Reading and writing one file below a root, never through a link that appeared meanwhile.

The policy has judged the real path; its folder is opened by ``folders.open_parent``.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path

from codeforge_ls.checkpoints.folders import open_parent
from codeforge_ls.model.actions import content_hash
from codeforge_ls.model.errors import Conflict, InvalidInput, LimitReached

MAX_FILE = 8 << 20  # bytes; a larger file is not read or edited by a tool
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


def read_file(root: str, path: str) -> bytes | None:
    """The bytes at ``path`` (relative, without links); None when there is nothing.

    Raises ``InvalidInput`` for what is no regular file, ``LimitReached`` for one that is too large.
    """
    try:
        with _parent(root, path) as (folder, name):
            return _read(folder, name, path)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise InvalidInput(f"{path} cannot be read: {error.strerror}.") from error


def write_file(root: str, path: str, data: bytes | None, base_hash: str | None, journal: Path) -> None:
    """Write beside and rename, so that a reader sees the old or the new file and never a torn one; None deletes.

    ``journal`` is told the name of the file beside, for ``sweep``. Raises ``Conflict`` when the file is not the one
    of ``base_hash`` any more, or cannot be written.
    """
    try:
        with _parent(root, path, create=data is not None) as (folder, name):
            present = _present(folder, name, path)
            if (None if present is None else content_hash(present)) != base_hash:
                raise Conflict(
                    f"{path} changed meanwhile; nothing was written.", hint="Read it again and retry."
                )
            if data is not None:
                temporary = f".{secrets.token_hex(8)}.codeforge"
                journal.write_bytes(os.fsencode(f"{path.removesuffix(name)}{temporary}"))
                _replace(folder, name, data, temporary, keep_mode=present is not None)
            elif present is not None:
                os.unlink(name, dir_fd=folder)
            _sync(folder)
    except OSError as error:
        raise Conflict(
            f"{path} could not be written: {error.strerror}.", hint="Nothing was changed."
        ) from error


def sweep(root: str, journal: Path) -> None:
    """Remove the file beside that a killed ``write_file`` left. What cannot be removed stays."""
    with contextlib.suppress(OSError, ValueError):
        left = os.fsdecode(journal.read_bytes())
        if left.endswith(".codeforge"):
            with _parent(root, left) as (folder, name):
                os.unlink(name, dir_fd=folder)


def _sync(folder: int) -> None:
    """Names in a folder on disk. One that may be crossed but not listed has no such call."""
    with contextlib.suppress(PermissionError):
        descriptor = os.open(".", os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC, dir_fd=folder)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)


def _present(folder: int, name: str, shown: str) -> bytes | None:
    try:
        return _read(folder, name, shown)
    except FileNotFoundError:
        return None


def _read(folder: int, name: str, shown: str) -> bytes:
    descriptor = os.open(name, _FILE, dir_fd=folder)
    try:
        _refuse_odd(os.fstat(descriptor), shown)  # first: a directory cannot even be opened as a file object
        with os.fdopen(descriptor, "rb", closefd=False) as file:
            return file.read(MAX_FILE + 1)
    finally:
        os.close(descriptor)


def _refuse_odd(status: os.stat_result, shown: str) -> None:
    if not stat.S_ISREG(status.st_mode):
        raise InvalidInput(f"{shown} is not a regular file.", hint="Only files can be read and edited.")
    if status.st_size > MAX_FILE:
        raise LimitReached(
            f"{shown} has {status.st_size:,} bytes; the limit is {MAX_FILE:,}.",
            hint="Use Grep or Search on it.",
        )


def _replace(folder: int, name: str, data: bytes, temporary: str, *, keep_mode: bool) -> None:
    mode = stat.S_IMODE(os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode) if keep_mode else None
    descriptor = os.open(temporary, _NEW, 0o666, dir_fd=folder)
    try:
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            if mode is not None:
                os.fchmod(descriptor, mode)
            os.fsync(descriptor)
        os.rename(temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
    except BaseException:
        with contextlib.suppress(OSError):
            os.unlink(temporary, dir_fd=folder)
        raise


@contextlib.contextmanager
def _parent(root: str, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
    """The open folder that holds ``path``, and its last part; with ``create`` missing folders are made."""
    if path.rpartition("/")[2] in ("", ".", ".."):
        raise InvalidInput(f"{path!r} names no file.", data={"field": "path"})
    folder, name = open_parent(root, path, create=create)
    try:
        yield folder, name
    finally:
        os.close(folder)
