"""Take a picture of the workspace: which files there are, their exact bytes into the shadow repository.

In the picture: what is not ignored, what the user tracks though ignored, and ignored paths named by ``forced``.
"""

from __future__ import annotations

import os
import stat
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, field
from typing import TypeAlias

from codeforge_ls.checkpoints.meta import standard_bits
from codeforge_ls.checkpoints.names import joined, parent_of, quoted, unquoted
from codeforge_ls.checkpoints.reading import MAX_FILE_BYTES, Folders, Found, Skip, read_file
from codeforge_ls.checkpoints.shadow import Shadow
from codeforge_ls.checkpoints.stamps import Stamp, Stamps, permissions, stamp_of, trusted
from codeforge_ls.checkpoints.units import Cache, Unit
from codeforge_ls.checkpoints.writing import Writer
from codeforge_ls.model.checkpoints import SkippedPath

MAX_NEW_BYTES = 2 << 30  # more in one snapshot is a data set, not a project
MAX_NEW_FILES = 200_000
USUAL_MODES = frozenset({0o100644, 0o100755, 0o120777})

Progress: TypeAlias = Callable[[int, int], None]
"""Told how many files of how many are read, now and then, from the thread that does it."""


@dataclass
class Picture:
    """A captured workspace: a tree per unit, odd permission bits per file, and what was left out (quoted paths).

    ``by_force``: paths that come along from this picture on, only because they were named in ``forced``.
    ``looked_at``: the only paths that were looked at; all others are as in the picture before. None: all were.
    ``too_much``: why nothing but ``looked_at`` is in the picture at all; empty when everything is.
    """

    units: dict[bytes, str] = field(default_factory=dict)
    modes: dict[bytes, int] = field(default_factory=dict)
    skipped: list[SkippedPath] = field(default_factory=list)
    by_force: list[bytes] = field(default_factory=list)
    looked_at: frozenset[bytes] | None = None
    too_much: str = ""


class TooMuch(Exception):
    """It is a data set, or a disk, and not a project; the text says what there is too much of."""


class Capture:
    """Takes one picture through ``writing``; ``save`` is for when that has finished."""

    def __init__(
        self, shadow: Shadow, root: bytes, writing: Writer, cache: Cache, progress: Progress
    ) -> None:
        self._shadow = shadow
        self._root = root
        self._writing = writing
        self._cache = cache
        self._progress = progress
        self._picture = Picture()
        self._new_bytes = 0
        self._stored = 0  # files of the units before
        self._seen: list[tuple[Unit, Stamps]] = []

    def everything(self, forced: Collection[bytes]) -> Picture:
        """All units. Raises TooMuch before anything is stored, GitFailed when git fails."""
        pending = [(b"", set(forced))]
        while pending:
            name, wanted = pending.pop()
            pending += self._unit(name, wanted)
        return self._picture

    def known(self, before: Picture, paths: Collection[bytes], new: Collection[bytes]) -> Picture:
        """Only these paths, on top of the picture before; nothing else is. ``new`` were never named before."""
        picture = self._picture = Picture(
            units=dict(before.units),
            modes={path: bits for path, bits in before.modes.items() if path not in paths},
            skipped=[entry for entry in before.skipped if unquoted(entry.path) not in paths],
            looked_at=frozenset(paths),
        )
        owners: dict[bytes, list[bytes]] = {}
        for path in sorted(paths):
            owner = max((name for name in picture.units if not name or path.startswith(name + b"/")), key=len)
            owners.setdefault(owner, []).append(path[len(owner) + 1 :] if owner else path)
        for name, inside in owners.items():
            unit = Unit(self._shadow, self._root, name)
            folders = Folders(unit.folder)
            tree = self._writing.tree(f"{unit.reference}-known", picture.units[name])
            for path in inside:
                found = self._found(unit, path, folders)
                if joined(name, path) in new and not tree.holds(path):
                    picture.by_force.append(joined(name, path))
                if found is None:
                    tree.delete(path)
                    continue
                tree.put(path, found.mode, found.content)
                self._note_bits(unit, path, found.stamp)
            picture.units[name] = tree.end()
        return picture

    def touched(self, forced: Collection[bytes], too_much: str) -> Picture:
        """Nothing but the files that were ever named: the folder holds too much for a picture of the whole."""
        self._picture = Picture(looked_at=frozenset(forced), too_much=too_much)
        unit = Unit(self._shadow, self._root, b"", part="-touched")
        scan_started = time.time_ns()
        stamps, folders = unit.take(self._cache), Folders(unit.folder)
        self._picture.by_force = [path for path in forced if path not in stamps.entries]
        changed = self._changed(unit, stamps, folders, stamps.entries)
        self._store(unit, stamps, {*changed, *self._picture.by_force}, (), folders, scan_started)
        return self._picture

    def save(self) -> None:
        """Remember what was seen, once all is written."""
        for unit, stamps in self._seen:
            unit.keep(stamps, self._cache)

    def _unit(self, name: bytes, forced: set[bytes]) -> list[tuple[bytes, set[bytes]]]:
        """Capture one unit; returns the units found inside it with their forced paths."""
        unit = Unit(self._shadow, self._root, name)
        scan_started = time.time_ns()
        stamps, folders = unit.take(self._cache), Folders(unit.folder)
        entries, listed = stamps.entries, unit.listed()
        user = unit.user_index(self._cache)
        nested = {path.rstrip(b"/") for path in listed if path.endswith(b"/")}
        nested |= {path for path in user.submodules if os.path.lexists(joined(unit.folder, path) + b"/.git")}
        nested = {path for path in nested if folders.real(path)}

        candidates = {path for path in listed if path not in entries and not path.endswith(b"/")}
        candidates |= {path for path in user.tracked if path not in entries}
        named = {path for path in forced if path not in entries}
        self._picture.by_force += [
            joined(name, path) for path in named - candidates if not _inside(path, nested)
        ]
        candidates |= named
        # git walks through no link: what it no longer lists may be a file that is only seen through one.
        candidates.update(self._changed(unit, stamps, folders, entries.keys() - frozenset(listed)))
        left = [path for path in entries if _inside(path, nested)] if nested else []
        self._store(
            unit, stamps, {path for path in candidates if not _inside(path, nested)}, left, folders, scan_started
        )  # fmt: skip
        return [
            (joined(name, path), {wish[len(path) + 1 :] for wish in forced if wish.startswith(path + b"/")})
            for path in sorted(nested)
        ]

    def _changed(
        self, unit: Unit, stamps: Stamps, folders: Folders, unsure: Collection[bytes]
    ) -> list[bytes]:
        """The known paths that are not surely as they were; notes the odd permission bits of the others.

        ``unsure`` are those whose folders are looked at too.
        """
        changed = [path for path in unsure if not folders.real(parent_of(path))]
        prefix, lstat, usual = joined(unit.folder, b"") + b"/", os.lstat, USUAL_MODES
        for path, stamp in stamps.entries.items():
            try:
                present = stamp_of(lstat(prefix + path))
            except OSError:
                changed.append(path)
                continue
            if present != stamp:
                changed.append(path)
            elif stamp[4] not in usual:
                self._note_bits(unit, path, stamp)
        return changed

    def _store(
        self,
        unit: Unit,
        stamps: Stamps,
        wanted: Collection[bytes],
        left: Collection[bytes],
        folders: Folders,
        scan_started: int,
    ) -> None:
        """Store the wanted paths and drop those that left, and bring the stamps and their tree up to date.

        In the order of their names: a parent that was a file is gone before its children come.
        """
        self._check_size(unit, wanted)
        tree = self._writing.tree(unit.reference, stamps.tree)
        for number, path in enumerate(sorted({*wanted, *left})):
            if number % 64 == 0:
                self._shadow.cancellation.check()
                self._progress(self._stored + number, self._stored + len(wanted))
            found = None if path in left else self._found(unit, path, folders)
            if found is not None:
                tree.put(path, found.mode, found.content)
                stamps.entries[path] = trusted(found.stamp, scan_started)
                self._note_bits(unit, path, found.stamp)
                stamps.unsaved += 1
            elif stamps.entries.pop(path, None) is not None:
                tree.delete(path)
                stamps.unsaved += 1
        self._stored += len(wanted)
        stamps.tree = self._picture.units[unit.name] = tree.end()
        self._seen.append((unit, stamps))

    def _found(self, unit: Unit, path: bytes, folders: Folders) -> Found | None:
        if not folders.real(parent_of(path)):
            return None  # a parent became a link: what lies behind it is not ours
        try:
            return read_file(joined(unit.folder, path))
        except Skip as skip:
            name = quoted(joined(unit.name, path))
            self._picture.skipped.append(SkippedPath(path=name, reason=skip.reason, size=skip.size))
            return None

    def _note_bits(self, unit: Unit, path: bytes, stamp: Stamp) -> None:
        mode = stamp[4]
        if stat.S_ISREG(mode) and permissions(stamp) != standard_bits(bool(mode & stat.S_IXUSR)):
            self._picture.modes[joined(unit.name, path)] = permissions(stamp)

    def _check_size(self, unit: Unit, wanted: Collection[bytes]) -> None:
        """Before anything is stored: what is too much would only fill the disk."""
        if len(wanted) > MAX_NEW_FILES:
            raise TooMuch(f"{len(wanted):,} files that are not ignored")
        prefix = joined(unit.folder, b"") + b"/"
        for path in wanted:
            try:
                size = os.lstat(prefix + path).st_size
            except OSError:
                continue
            self._new_bytes += size if size <= MAX_FILE_BYTES else 0
        if self._new_bytes > MAX_NEW_BYTES:
            raise TooMuch(f"{self._new_bytes / 2**30:.1f} GiB in files that are not ignored")


def _inside(path: bytes, nested: Collection[bytes]) -> bool:
    return any(path.startswith(folder + b"/") for folder in nested)
