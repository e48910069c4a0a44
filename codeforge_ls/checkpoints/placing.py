"""Change files in the workspace so that nobody ever sees half a file and no link leads us elsewhere.

Every operation opens the parent folder without following a link (``folders.open_parent``) and works relative to it.
"""

from __future__ import annotations

import contextlib
import errno
import os
import stat
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from codeforge_ls.checkpoints.folders import open_parent
from codeforge_ls.checkpoints.meta import standard_bits
from codeforge_ls.checkpoints.names import parents
from codeforge_ls.checkpoints.reading import EXECUTABLE, LINK
from codeforge_ls.checkpoints.shadow import blob_id

ABSENT_MODE = "000000"


@dataclass(frozen=True)
class FileState:
    """What a path is in a checkpoint: git's mode, the object, and the permission bits of a regular file."""

    mode: str = ABSENT_MODE
    name: str = ""
    bits: int = 0

    @property
    def absent(self) -> bool:
        """There is nothing at this path."""
        return self.mode == ABSENT_MODE

    @property
    def link(self) -> bool:
        """It is a symbolic link, whose object is its target."""
        return self.mode == LINK


ABSENT = FileState()


class Blocked(Exception):
    """The path cannot be changed without harm: its parent is a link, a folder is in the way, it changed."""


class Placing:
    """Operations on paths below one root. ``temporary`` is the name of the one temporary file it uses."""

    def __init__(self, root: bytes, temporary: bytes) -> None:
        self._root = root
        self._temporary = temporary

    def holds(self, path: bytes, state: FileState) -> bool:
        """Whether the disk holds exactly ``state`` at ``path``; a folder counts as absent."""
        try:
            with self._parent(path) as (folder, name):
                return _state_at(folder, name, state)
        except FileNotFoundError:
            return state.absent
        except (OSError, Blocked):
            return False

    def write(self, path: bytes, state: FileState, content: bytes, still: Callable[[], bool]) -> None:
        """Put ``content`` at ``path`` by a rename, if ``still()`` then. After Blocked or OSError nothing changed."""
        with self._parent(path, create=True) as (folder, name):
            try:
                if state.link:
                    os.symlink(content, self._temporary, dir_fd=folder)
                else:
                    self._write_temporary(folder, content, state.bits)
                if not still():
                    raise Blocked
                with contextlib.suppress(FileNotFoundError, NotADirectoryError):
                    os.rmdir(name, dir_fd=folder)  # an empty folder gives way, a full one raises
                os.rename(self._temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=folder)

    def _write_temporary(self, folder: int, content: bytes, bits: int) -> None:
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self._temporary, flags, 0o600, dir_fd=folder)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
            handle.flush()
            os.fchmod(descriptor, bits)
            os.fsync(descriptor)

    def set_bits(self, path: bytes, bits: int) -> None:
        """Change only the permission bits of a regular file."""
        with self._parent(path) as (folder, name):
            descriptor = os.open(
                name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder
            )
            try:
                os.fchmod(descriptor, bits)
            finally:
                os.close(descriptor)

    def delete(self, path: bytes) -> None:
        """Remove a file or link."""
        with self._parent(path) as (folder, name):
            os.unlink(name, dir_fd=folder)

    def delete_special(self, path: bytes) -> None:
        """Remove a FIFO, socket or device. Raises Blocked for anything else."""
        with self._parent(path) as (folder, name):
            mode = os.stat(name, dir_fd=folder, follow_symlinks=False).st_mode
            if stat.S_ISREG(mode) or stat.S_ISDIR(mode) or stat.S_ISLNK(mode):
                raise Blocked("it is in no checkpoint")
            os.unlink(name, dir_fd=folder)

    def remove_empty(self, path: bytes) -> bool:
        """Remove a folder if nothing is in it; whether it is gone."""
        try:
            with self._parent(path) as (folder, name):
                os.rmdir(name, dir_fd=folder)
        except (OSError, Blocked):
            return False
        return True

    def sweep(self, path: bytes) -> None:
        """Remove the temporary file that a killed ``write`` of this path left."""
        with contextlib.suppress(OSError, Blocked), self._parent(path) as (folder, _):
            os.unlink(self._temporary, dir_fd=folder)

    @contextlib.contextmanager
    def _parent(self, path: bytes, *, create: bool = False) -> Iterator[tuple[int, bytes]]:
        try:
            folder, name = open_parent(os.fsdecode(self._root), os.fsdecode(path), create=create)
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENOTDIR):
                raise Blocked from error  # a link or a file where the folder was
            raise
        try:
            yield folder, os.fsencode(name)
        finally:
            os.close(folder)


def _state_at(folder: int, name: bytes, state: FileState) -> bool:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    if state.absent:
        return stat.S_ISDIR(status.st_mode)
    if state.link:
        return stat.S_ISLNK(status.st_mode) and blob_id(os.readlink(name, dir_fd=folder)) == state.name
    if not stat.S_ISREG(status.st_mode) or status.st_mode & 0o777 != state.bits:
        return False
    descriptor = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as handle:
        return not state.name or blob_id(handle.read()) == state.name


def emptied_by(deleted: list[bytes]) -> list[bytes]:
    """The folders that may now be empty because of these deletions, deepest first."""
    folders = {folder for path in deleted for folder in parents(path)}
    return sorted(folders, key=lambda folder: (-folder.count(b"/"), folder))


def bits_for(mode: str, odd: int | None) -> int:
    """The permission bits of a file: what was written down, else what git's mode means."""
    return odd if odd is not None else standard_bits(mode == EXECUTABLE)
