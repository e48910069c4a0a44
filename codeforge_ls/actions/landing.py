"""Single changes below a root, each whole or not at all, and none through a link that appeared meanwhile.

What a path holds is described by a short text, so that a plan can be written down and checked again later.
"""

from __future__ import annotations

import contextlib
import os
import stat
from collections.abc import Iterator
from dataclasses import dataclass

from codeforge_ls.checkpoints.folders import open_parent
from codeforge_ls.model.actions import content_hash

ABSENT = ""
FOLDER = "folder"
OTHER = "other"  # a pipe, socket or device
MAX_MERGED = 256 << 20  # bytes of one file that is merged; it is held in memory
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_FILE = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC


@dataclass(frozen=True)
class Held:
    """What a path holds. ``data`` are a file's bytes or a link's target; ``changed_ns`` its change time, of the
    nearest folder above where there is nothing; ``mode`` the permission bits of a file."""

    kind: str
    data: bytes = b""
    mode: int = 0
    changed_ns: int = 0

    @property
    def text(self) -> str:
        """The description: equal for equal kind, content and permission bits."""
        if self.kind in (ABSENT, FOLDER, OTHER):
            return self.kind
        return f"{self.kind}:{self.mode:o}:{content_hash(self.data)}"


class Ground:
    """A root whose paths are looked at and changed. ``temporary`` is the file beside while one is written."""

    def __init__(self, root: str, temporary: str) -> None:
        self._root, self._temporary = root, temporary

    def held(self, path: str) -> Held:
        """What is there now. Raises ``OSError`` for what cannot be read or has more than ``MAX_MERGED`` bytes."""
        above = 0
        folder = os.open(self._root, _FOLDER)
        try:
            *parts, name = path.split("/")
            for part in parts:
                above = os.fstat(folder).st_ctime_ns
                try:
                    inner = os.open(part, _FOLDER, dir_fd=folder)
                except (FileNotFoundError, NotADirectoryError):
                    return Held(ABSENT, changed_ns=above)
                os.close(folder)
                folder = inner
            above = os.fstat(folder).st_ctime_ns
            try:
                return _look(folder, name)
            except FileNotFoundError:
                return Held(ABSENT, changed_ns=above)
        finally:
            os.close(folder)

    def put(self, path: str, data: bytes, mode: int | None, expected: str) -> bool:
        """Put a file (``mode`` None: a link to ``data``) where ``expected`` is; False when something else is there."""
        with self._parent(path, create=True) as (folder, name):
            try:
                if mode is None:
                    os.symlink(data, os.fsencode(self._temporary), dir_fd=folder)
                else:
                    descriptor = os.open(self._temporary, _NEW, 0o600, dir_fd=folder)
                    with os.fdopen(descriptor, "wb") as file:
                        file.write(data)
                        file.flush()
                        os.fchmod(descriptor, mode)
                        os.fsync(descriptor)
                if _text(folder, name) != expected:
                    return False
                os.rename(self._temporary, name, src_dir_fd=folder, dst_dir_fd=folder)
                return True
            finally:
                with contextlib.suppress(FileNotFoundError):
                    os.unlink(self._temporary, dir_fd=folder)

    def delete(self, path: str, expected: str) -> bool:
        """Remove a file or link that is as ``expected``; False when it is not."""
        with self._parent(path) as (folder, name):
            if _text(folder, name) != expected:
                return False
            os.unlink(name, dir_fd=folder)
            return True

    def make_folder(self, path: str, mode: int) -> None:
        """Make a folder; one that is there stays as it is."""
        with self._parent(path, create=True) as (folder, name), contextlib.suppress(FileExistsError):
            os.mkdir(name, mode, dir_fd=folder)

    def remove_folder(self, path: str) -> None:
        """Remove a folder if it is empty."""
        with contextlib.suppress(OSError), self._parent(path) as (folder, name):
            os.rmdir(name, dir_fd=folder)

    def sweep(self, path: str) -> None:
        """Remove the file beside that a killed ``put`` of this path left."""
        with contextlib.suppress(OSError), self._parent(path) as (folder, _):
            os.unlink(self._temporary, dir_fd=folder)

    @contextlib.contextmanager
    def _parent(self, path: str, *, create: bool = False) -> Iterator[tuple[int, str]]:
        folder, name = open_parent(self._root, path, create=create)
        try:
            yield folder, name
        finally:
            os.close(folder)


def _text(folder: int, name: str) -> str:
    try:
        return _look(folder, name).text
    except FileNotFoundError:
        return ABSENT


def _look(folder: int, name: str) -> Held:
    status = os.stat(name, dir_fd=folder, follow_symlinks=False)
    changed = status.st_ctime_ns
    if stat.S_ISLNK(status.st_mode):
        return Held("link", os.readlink(os.fsencode(name), dir_fd=folder), 0, changed)
    if stat.S_ISDIR(status.st_mode):
        return Held(FOLDER, changed_ns=changed)
    if not stat.S_ISREG(status.st_mode):
        return Held(OTHER, changed_ns=changed)
    descriptor = os.open(name, _FILE, dir_fd=folder)
    with os.fdopen(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        data = file.read(MAX_MERGED + 1)
    if len(data) > MAX_MERGED:
        raise OSError(f"it has more than {MAX_MERGED >> 20} MiB")
    return Held("file", data, stat.S_IMODE(status.st_mode), status.st_ctime_ns)
