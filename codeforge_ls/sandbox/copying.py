"""The other way to hybrid mode: a command works on a copy of the workspace, and what it did to the copy is found after.

For where no overlay can be mounted: in containers, with bubblewrap before 0.11, and over files of other owners. Blocks
are shared where the file system can; never names, as a program that writes in place would write into the workspace.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import os
import stat
import tempfile
import threading
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeAlias

from codeforge_ls.model.errors import LimitReached
from codeforge_ls.sandbox.layer import ChangeKind, Layer, LayerChange

MOST_BYTES, MOST_FILES = 2 << 30, 200_000  # as for checkpoints: more is a data set, not a project
TICK_SECONDS = 0.02  # file times stand still for so long
PIECE = 1 << 20  # bytes of one call
_CLONE = 0x40049409  # FICLONE, linux/fs.h
_READ = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_CANNOT_CLONE = (errno.EOPNOTSUPP, errno.EXDEV, errno.EINVAL, errno.ENOTTY, errno.ENOSYS)
Stamp: TypeAlias = tuple[int, int, int, int]  # change time ns, inode, size, mode


@dataclass(frozen=True)
class Copy(Layer):
    """A copy of a workspace, without what is in its ``.git`` and in files that are masked, and what it was like."""

    known: dict[str, Stamp] = field(default_factory=dict)

    @classmethod
    def of(cls, workspace: Path, within: Path, masked: Collection[Path], stop: threading.Event) -> Copy:
        """Copy a workspace into a new folder of ours, unless ``stop`` is set meanwhile.

        Raises ``OSError``, ``LimitReached`` for what is too large.
        """
        within.mkdir(mode=0o700, parents=True, exist_ok=True)
        copy = cls(Path(tempfile.mkdtemp(prefix="layer-", dir=within)))
        top = os.path.realpath(workspace)
        hidden = {str(workspace / ".git"), f"{top}/.git", *map(os.path.realpath, masked)}
        try:
            copy.upper.mkdir(mode=0o755)
            _Copying(hidden, stop).folder(top, str(copy.upper))
            time.sleep(TICK_SECONDS)  # whatever is changed from now on gets another time
            copy.known.update(_stamps(str(copy.upper)))
        except BaseException:
            copy.remove()
            raise
        return copy

    def changes(self, workspace: Path) -> list[LayerChange]:  # noqa: ARG002 - what it is compared with is known
        """What differs from when it was made: deletions first, the deepest folder before what holds it."""
        now = dict(_stamps(str(self.upper)))
        gone, new = list[LayerChange](), list[LayerChange]()
        for path, stamp in self.known.items():
            if path not in now or stat.S_IFMT(now[path][3]) != stat.S_IFMT(stamp[3]):
                kind = ChangeKind.REMOVE_FOLDER if stat.S_ISDIR(stamp[3]) else ChangeKind.DELETE
                gone.append(LayerChange(path, kind))
        for path, stamp in now.items():
            before, mode = self.known.get(path), stamp[3]
            if stat.S_ISDIR(mode):
                if before is None or not stat.S_ISDIR(before[3]):
                    new.append(LayerChange(path, ChangeKind.FOLDER, stat.S_IMODE(mode)))
            elif before == stamp:
                continue
            elif stat.S_ISREG(mode):
                new.append(LayerChange(path, ChangeKind.FILE, stat.S_IMODE(mode)))
            else:
                new.append(LayerChange(path, ChangeKind.LINK if stat.S_ISLNK(mode) else ChangeKind.SPECIAL))
        gone.sort(key=lambda one: (one.kind is ChangeKind.REMOVE_FOLDER, -one.path.count("/"), one.path))
        return gone + sorted(new, key=lambda one: one.path)


class _Copying:
    """One copy on its way. ``hidden`` are places whose content is left out: their name alone is copied."""

    def __init__(self, hidden: Collection[str], stop: threading.Event) -> None:
        self._hidden, self._stop = hidden, stop
        self._clones = True
        self._bytes = self._files = 0

    def folder(self, source: str, target: str) -> None:
        """What is in a folder, into one that is there; pipes, sockets and devices are left out."""
        pending = [(source, target)]
        folders = []
        while pending:
            source, target = pending.pop()
            folders.append((source, target))
            try:
                entries = list(os.scandir(source))
            except PermissionError:
                continue
            for entry in entries:
                inner = f"{target}/{entry.name}"
                if entry.is_symlink():
                    Path(inner).symlink_to(Path(entry.path).readlink())
                elif entry.is_dir(follow_symlinks=False):
                    Path(inner).mkdir(0o700)
                    if entry.path not in self._hidden:
                        pending.append((entry.path, inner))
                elif entry.is_file(follow_symlinks=False):
                    self._file(entry.path, inner)
        for source, target in reversed(folders):  # last: writing into a folder changes its time
            status = Path(source).lstat()
            Path(target).chmod(stat.S_IMODE(status.st_mode) | stat.S_IRWXU)
            os.utime(target, ns=(status.st_atime_ns, status.st_mtime_ns))

    def _file(self, source: str, target: str) -> None:
        new = os.open(target, _NEW, 0o600)
        try:
            if source in self._hidden:
                return
            try:
                old = os.open(source, _READ)
            except PermissionError:
                os.fchmod(new, 0)  # there, and as closed as it was
                return
            try:
                status = os.fstat(old)
                self._count(status.st_size)
                self._bytes_of(old, new, status.st_size)
                os.fchmod(new, stat.S_IMODE(status.st_mode))
                os.utime(new, ns=(status.st_atime_ns, status.st_mtime_ns))
            finally:
                os.close(old)
        finally:
            os.close(new)

    def _bytes_of(self, old: int, new: int, size: int) -> None:
        if self._clones and size:
            try:
                fcntl.ioctl(new, _CLONE, old)
            except OSError as error:
                if error.errno not in _CANNOT_CLONE:
                    raise
                self._clones = False
            else:
                return
        while piece := os.read(old, PIECE):
            os.write(new, piece)

    def _count(self, size: int) -> None:
        if self._stop.is_set():
            raise InterruptedError(errno.EINTR, "nobody waits for it any more")
        self._files += 1
        self._bytes += 0 if self._clones else size
        if self._files > MOST_FILES or self._bytes > MOST_BYTES:
            raise LimitReached(
                f"The workspace is too large to be copied for a command in hybrid mode (more than "
                f"{MOST_FILES:,} files or {MOST_BYTES >> 30} GiB).",
                hint="Use the mode mount or sandbox.",
            )


def has_foreign(workspace: Path) -> bool:
    """Whether something in it belongs to others: an overlay of an unprivileged user cannot change that (EOVERFLOW)."""
    mine, pending = (os.geteuid(), os.getegid()), [os.fspath(workspace)]
    while pending:
        with contextlib.suppress(OSError), os.scandir(pending.pop()) as entries:
            for entry in entries:
                status = entry.stat(follow_symlinks=False)
                if (status.st_uid, status.st_gid) != mine and entry.name != ".git":
                    return True
                if stat.S_ISDIR(status.st_mode) and entry.name != ".git":
                    pending.append(entry.path)
    return False


def _stamps(top: str) -> Iterator[tuple[str, Stamp]]:
    """Everything below a folder, by path. A folder that may not be entered is opened for us: it is our copy."""
    pending = [""]
    while pending:
        folder = pending.pop()
        place = f"{top}/{folder}" if folder else top
        try:
            entries = list(os.scandir(place))
        except PermissionError:
            Path(place).chmod(0o700)
            entries = list(os.scandir(place))
        for entry in entries:
            path = f"{folder}/{entry.name}" if folder else entry.name
            status = entry.stat(follow_symlinks=False)
            yield path, (status.st_ctime_ns, status.st_ino, status.st_size, status.st_mode)
            if stat.S_ISDIR(status.st_mode):
                pending.append(path)
