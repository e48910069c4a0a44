"""Read one file or link of the workspace: its exact bytes, or why it stays out of the picture.

Files are read here, never by git, so no filter, line-end or encoding rule can touch them.
"""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass

from codeforge_ls.checkpoints.names import joined, parent_of
from codeforge_ls.checkpoints.stamps import Stamp, stamp_of

MAX_FILE_BYTES = 50 << 20  # larger files are skipped and listed
LINK, EXECUTABLE, PLAIN = "120000", "100755", "100644"


@dataclass(frozen=True)
class Found:
    """A file or link as it was read."""

    mode: str
    content: bytes
    stamp: Stamp


class Skip(Exception):
    """This path stays out of the picture."""

    def __init__(self, reason: str, size: int = 0) -> None:
        super().__init__(reason)
        self.reason = reason
        self.size = size


def read_file(full: bytes) -> Found | None:
    """A regular file or a link itself; None when there is neither. Raises Skip for what cannot be stored."""
    try:
        status = os.lstat(full)
        if stat.S_ISLNK(status.st_mode):
            return Found(LINK, os.readlink(full), stamp_of(status))  # noqa: PTH115 - bytes
        if stat.S_ISDIR(status.st_mode):
            return None
        if not stat.S_ISREG(status.st_mode):
            raise Skip("special")
        if status.st_size > MAX_FILE_BYTES:
            raise Skip("size", status.st_size)
        # Neither a link nor a pipe that took the file's place since lstat is followed or waited for.
        descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        try:
            return _read_regular(descriptor)
        finally:
            os.close(descriptor)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Skip("unreadable") from error


def _read_regular(descriptor: int) -> Found:
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        raise Skip("special")
    content = os.read(descriptor, status.st_size + 1)
    if len(content) != status.st_size:  # it is being written, or a read comes in parts
        parts = [content]
        while part := os.read(descriptor, 1 << 20):
            parts.append(part)
            if sum(map(len, parts)) > MAX_FILE_BYTES:
                raise Skip("size", status.st_size)
        content = b"".join(parts)
    mode = EXECUTABLE if status.st_mode & stat.S_IXUSR else PLAIN
    return Found(mode, content, stamp_of(status))


class Folders:
    """Which folders below ``root`` are real ones, with no link on the way to them. Asked once per folder."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._known: dict[bytes, bool] = {b"": True}

    def real(self, folder: bytes) -> bool:
        """Whether it is a folder, and each above it too."""
        unknown = []
        while folder not in self._known:
            unknown.append(folder)
            folder = parent_of(folder)
        real = self._known[folder]
        for inner in reversed(unknown):
            real = self._known[inner] = real and self._is_folder(inner)
        return real

    def _is_folder(self, folder: bytes) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(joined(self._root, folder)).st_mode)
        except OSError:
            return False
