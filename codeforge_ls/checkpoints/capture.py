"""Take a picture of the workspace: which files there are, their exact bytes into the shadow repository.

In the picture: what is not ignored, what the user tracks though ignored, and ignored paths named by ``forced``.
Files are read here, never by git, so no filter, line-end or encoding rule can touch them.
"""

from __future__ import annotations

import logging
import os
import stat
import time
from collections.abc import Iterable
from dataclasses import dataclass, field

from codeforge_ls.checkpoints.meta import standard_bits
from codeforge_ls.checkpoints.names import joined, parent_of, quoted
from codeforge_ls.checkpoints.shadow import Shadow, blob_id
from codeforge_ls.checkpoints.stamps import Stamp, Stamps, stamp_of, trusted
from codeforge_ls.checkpoints.units import Unit
from codeforge_ls.git import GitFailed
from codeforge_ls.model.checkpoints import SkippedPath
from codeforge_ls.model.errors import LimitReached

log = logging.getLogger(__name__)

MAX_FILE_BYTES = 50 << 20  # larger files are skipped and listed
MAX_NEW_BYTES = 2 << 30  # more in one snapshot is a data set, not a project
MAX_NEW_FILES = 200_000
LINK, EXECUTABLE, PLAIN = "120000", "100755", "100644"


@dataclass
class Picture:
    """A captured workspace: a tree per unit, odd permission bits per file, and what was left out (quoted paths).

    ``by_force``: paths that come along from this picture on, only because they were named in ``forced``.
    """

    units: dict[bytes, str] = field(default_factory=dict)
    modes: dict[bytes, int] = field(default_factory=dict)
    skipped: list[SkippedPath] = field(default_factory=list)
    by_force: list[bytes] = field(default_factory=list)


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


def capture(shadow: Shadow, root: bytes, forced: Iterable[bytes]) -> Picture:
    """The picture of ``root`` now. Under the lock. A damaged index is rebuilt once by reading everything again.

    Raises LimitReached when it is too much to store, GitFailed when git fails twice.
    """
    wanted = set(forced)
    try:
        return _Capture(shadow, root).take(wanted)
    except GitFailed as error:
        log.warning("The snapshot index is rebuilt: %s", error.message)
    for leftover in (*shadow.own.glob("index-*"), *shadow.own.glob("stamps-*")):
        leftover.unlink(missing_ok=True)
    return _Capture(shadow, root).take(wanted)


class _Capture:
    """The state of one capture: the picture so far and the budget."""

    def __init__(self, shadow: Shadow, root: bytes) -> None:
        self._shadow = shadow
        self._root = root
        self._picture = Picture()
        self._new_bytes = 0

    def take(self, forced: set[bytes]) -> Picture:
        pending = [(b"", forced)]
        while pending:
            name, wanted = pending.pop()
            pending += self._take_unit(name, wanted)
        return self._picture

    def _take_unit(self, name: bytes, forced: set[bytes]) -> list[tuple[bytes, set[bytes]]]:
        """Capture one unit; returns the units found inside it with their forced paths."""
        unit = Unit(self._shadow, self._root, name)
        scan_started = time.time_ns()
        stamps, objects = unit.load()
        folders = _Folders(unit.folder)
        untracked = unit.untracked()
        user = unit.user_index()
        nested = {path.rstrip(b"/") for path in untracked if path.endswith(b"/")}
        nested |= {path for path in user.submodules if os.path.lexists(joined(unit.folder, path) + b"/.git")}
        nested = {path for path in nested if folders.real(path)}

        candidates = dict.fromkeys(path for path in untracked if not path.endswith(b"/"))
        candidates |= dict.fromkeys(self._changed(unit, stamps, folders))
        candidates |= dict.fromkeys(path for path in user.tracked if path not in stamps.entries)
        candidates |= dict.fromkeys(forced)
        inside = _paths_inside([*candidates, *stamps.entries] if nested else [], nested)
        wanted = [path for path in candidates if path not in inside]

        seen_anyway = {*untracked, *user.tracked, *stamps.entries, *inside}
        self._picture.by_force += [joined(name, path) for path in forced - seen_anyway]
        stored, gone = self._store(unit, wanted, folders, objects)
        gone += [path for path in inside if path in stamps.entries]
        for path in gone:
            stamps.entries.pop(path, None)
        unit.update(gone, {path: (mode, name) for path, (mode, name, _) in stored.items()})
        stamps.entries |= {path: trusted(stamp, scan_started) for path, (_, _, stamp) in stored.items()}
        self._picture.units[name] = unit.tree()
        unit.save(stamps)
        return [
            (joined(name, path), {wish[len(path) + 1 :] for wish in forced if wish.startswith(path + b"/")})
            for path in sorted(nested)
        ]

    def _changed(self, unit: Unit, stamps: Stamps, folders: _Folders) -> list[bytes]:
        """The known paths that are not surely as they were; notes the odd permission bits of the others."""
        changed = []
        prefix, modes = joined(unit.folder, b"") + b"/", self._picture.modes
        swapped = folders.swapped({parent_of(path) for path in stamps.entries})
        for path, stamp in stamps.entries.items():
            try:
                present = stamp_of(os.lstat(prefix + path))
            except OSError:
                changed.append(path)
                continue
            if present != stamp or (swapped and parent_of(path) in swapped):
                changed.append(path)
            elif _odd_bits(stamp):
                modes[joined(unit.name, path)] = stamp[4] & 0o777
        return changed

    def _store(
        self, unit: Unit, paths: list[bytes], folders: _Folders, objects: dict[bytes, str]
    ) -> tuple[dict[bytes, tuple[str, str, Stamp]], list[bytes]]:
        """Read and store paths: what is now stored as path -> (mode, object, stamp), and what is gone."""
        if len(paths) > MAX_NEW_FILES:
            raise _too_much(f"{len(paths)} new files")
        stored: dict[bytes, tuple[str, str, Stamp]] = {}
        gone: list[bytes] = []
        with self._shadow.importer() as importer:
            for path in paths:
                found = self._found(unit, path, folders)
                if found is None:
                    gone.append(path)
                    continue
                name = blob_id(found.content)
                if objects.get(path) != name:
                    self._spend(len(found.content))
                    importer.add(found.content)
                stored[path] = (found.mode, name, found.stamp)
                if _odd_bits(found.stamp):
                    self._picture.modes[joined(unit.name, path)] = found.stamp[4] & 0o777
            importer.finish()
        return stored, gone

    def _found(self, unit: Unit, path: bytes, folders: _Folders) -> Found | None:
        if not folders.real(parent_of(path)):
            return None  # a parent became a link: what lies behind it is not ours
        try:
            return read_file(joined(unit.folder, path))
        except Skip as skip:
            name = quoted(joined(unit.name, path))
            self._picture.skipped.append(SkippedPath(path=name, reason=skip.reason, size=skip.size))
            return None

    def _spend(self, size: int) -> None:
        self._shadow.cancellation.check()
        self._new_bytes += size
        if self._new_bytes > MAX_NEW_BYTES:
            raise _too_much("more than 2 GiB of new files")


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
        return _read_regular(full)
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise Skip("unreadable") from error


def _read_regular(full: bytes) -> Found:
    # Neither a link nor a pipe that took the file's place since lstat is followed or waited for.
    descriptor = os.open(full, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    with os.fdopen(descriptor, "rb", buffering=0) as handle:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise Skip("special")
        parts = []
        left = MAX_FILE_BYTES + 1
        while left > 0 and (part := handle.read(min(left, max(status.st_size + 1, 65536)))):
            parts.append(part)
            left -= len(part)
        if left <= 0:
            raise Skip("size", status.st_size)
    mode = EXECUTABLE if status.st_mode & stat.S_IXUSR else PLAIN
    return Found(mode, b"".join(parts), stamp_of(status))


class _Folders:
    """Which folders of a unit are real ones, with no link on the way to them. Asked once per folder."""

    def __init__(self, root: bytes) -> None:
        self._root = root
        self._known: dict[bytes, bool] = {b"": True}

    def real(self, folder: bytes) -> bool:
        known = self._known.get(folder)
        if known is None:
            known = self.real(parent_of(folder)) and self._is_folder(folder)
            self._known[folder] = known
        return known

    def swapped(self, folders: set[bytes]) -> set[bytes]:
        return {folder for folder in folders if not self.real(folder)}

    def _is_folder(self, folder: bytes) -> bool:
        try:
            return stat.S_ISDIR(os.lstat(joined(self._root, folder)).st_mode)
        except OSError:
            return False


def _odd_bits(stamp: Stamp) -> bool:
    mode = stamp[4]
    return stat.S_ISREG(mode) and mode & 0o777 != standard_bits(bool(mode & stat.S_IXUSR))


def _paths_inside(paths: Iterable[bytes], nested: set[bytes]) -> set[bytes]:
    prefixes = tuple(folder + b"/" for folder in nested)
    return {path for path in paths if path.startswith(prefixes)}


def _too_much(what: str) -> LimitReached:
    return LimitReached(
        f"The workspace cannot be snapshotted: {what}.",
        hint="Let .gitignore name the folders that hold data or build output.",
    )
