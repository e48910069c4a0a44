"""What a sandbox has to hide from a command and to keep as it is: a command can read anything that is mounted."""

from __future__ import annotations

import os
import stat
import threading
import time
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from codeforge_ls.model.policy import ANY_TOOL, Decision, PolicyLayer
from codeforge_ls.policy.change_times import COARSE_NS, trusted_device
from codeforge_ls.policy.evaluate import Evaluator
from codeforge_ls.policy.globs import fold, matches_any_folded, needle
from codeforge_ls.policy.guard import Access, may_be_special, protected

# ruff: noqa: PTH116  thousands of folders for each command

_SKIPPED = frozenset({".git", "node_modules", "__pycache__", ".tox", ".mypy_cache"})
_MAX_ENTRIES = 200_000
_MAX_POLICIES = 4  # of runs side by side; about 1 MB each for 3,000 folders


class Shielded(NamedTuple):
    """Existing files and folders (which are not entered further): ``hidden`` to be masked, ``fixed`` read-only."""

    hidden: tuple[Path, ...]
    fixed: tuple[Path, ...]


@dataclass(frozen=True, slots=True)
class _Folder:
    """What one folder holds, as it was read under ``stamp`` (change time, inode, device)."""

    stamp: tuple[int, int, int]
    entries: int = 0
    hidden: tuple[Path, ...] = ()
    fixed: tuple[Path, ...] = ()
    below: tuple[str, ...] = ()


class Masks:
    """What is to be shielded below one root, for command after command.

    A folder is read again when its change time, inode or device is another, when that time was too near to the last
    look to tell, and always on a file system whose times are not known to tell. So each look costs a ``stat`` for each
    folder, and a file that was made a moment before the command is seen.
    """

    def __init__(self, root: Path) -> None:
        self._root = root
        self._lock = threading.Lock()
        self._known: dict[tuple[int, ...], tuple[Sequence[PolicyLayer], dict[str, _Folder]]] = {}

    def shielded(self, layers: Sequence[PolicyLayer] = ()) -> Shielded:
        """What a command must not see or change: secrets, what a rule closes to reading, rc files.

        Walks the tree (blocking; call it in a thread), at most 200,000 entries; links to other places are not followed,
        and ``.git`` is not entered: the sandbox itself knows what to pin there.
        """
        with self._lock:
            key = tuple(id(layer) for layer in layers)
            known = self._known.pop(key, (layers, {}))[1]
            found, kept = _walk(str(self._root), known, _Eye(self._root, layers))
            self._known[key] = layers, kept  # the layers too: their ids are theirs as long as they live
            while len(self._known) > _MAX_POLICIES:
                del self._known[next(iter(self._known))]
        return Shielded(
            tuple(path for folder in found for path in folder.hidden),
            tuple(path for folder in found for path in folder.fixed),
        )


def _walk(root: str, known: dict[str, _Folder], eye: _Eye) -> tuple[list[_Folder], dict[str, _Folder]]:
    """Every folder, and those that need not be read again as long as their stamp is the same."""
    device, settled = trusted_device(os.path.realpath(root)), time.time_ns() - COARSE_NS
    found: list[_Folder] = []
    kept: dict[str, _Folder] = {}
    stack, seen = [root], 0
    while stack and seen < _MAX_ENTRIES:
        path = stack.pop()
        try:
            now = os.stat(path) if path == root else os.lstat(path)
        except OSError:
            continue
        changed, _, on = stamp = (now.st_ctime_ns, now.st_ino, now.st_dev)
        folder = known.get(path)
        if folder is None or folder.stamp != stamp:
            # another thing may have taken its place
            folder = eye.read(path, stamp) if stat.S_ISDIR(now.st_mode) else None
            if folder is None:
                continue
        if on == device and changed < settled:
            kept[path] = folder
        found.append(folder)
        seen += folder.entries
        if folder.below:
            stack += folder.below
    return found, kept


class _Eye:
    """Looks at folders under one policy; for one walk."""

    def __init__(self, root: Path, layers: Sequence[PolicyLayer]) -> None:
        self._root = str(root)
        self._evaluator = Evaluator(layers, root)
        self._extra = tuple(glob for layer in layers for glob in layer.profile.protected_paths)
        self._closed = tuple(_closed_to_reading(layers))
        self._needles = {needle(glob.casefold()) for glob in (*self._extra, *self._closed)}

    def read(self, path: str, stamp: tuple[int, int, int]) -> _Folder | None:
        """What the folder holds now; None if it cannot be read."""
        try:
            with os.scandir(path) as listing:
                entries = list(listing)
        except OSError:
            return None
        inside = path[len(self._root) :].strip("/")
        shown = [entry for entry in entries if entry.name not in _SKIPPED and not entry.is_symlink()]
        near = self._needs_a_close_look(inside, shown)
        hidden, fixed, below = [], [], []
        for entry in shown:
            relative = f"{inside}/{entry.name}" if inside else entry.name
            if near and self._must_be_hidden(relative):
                hidden.append(Path(entry.path))
            elif near and protected(relative, Access.READ):
                fixed.append(Path(entry.path))
            elif entry.is_dir(follow_symlinks=False):
                below.append(entry.path)
        return _Folder(stamp, len(entries), tuple(hidden), tuple(fixed), tuple(below))

    def _needs_a_close_look(self, inside: str, entries: Sequence[os.DirEntry[str]]) -> bool:
        """Whether any of the globs may match in this folder: one look at all its names spares most folders the rest."""
        text = "/".join((inside, *(entry.name for entry in entries)))
        # what the fold drops of plain text only makes it shorter, so that it need not be folded to look for pieces
        low = text.casefold() if text.isascii() else f"{text.casefold()}\0{fold.__wrapped__(text)}"
        return may_be_special(low) or any(piece in low for piece in self._needles)

    def _must_be_hidden(self, path: str) -> bool:
        if protected(path, Access.NAME, self._extra):
            return True
        return (
            matches_any_folded(self._closed, path) and self._evaluator.of_path("Read", path) is Decision.DENY
        )


def _closed_to_reading(layers: Sequence[PolicyLayer]) -> Iterator[str]:
    """The globs of rules that refuse a read; which of them hold, the evaluator says."""
    for layer in layers:
        for rule in layer.profile.rules:
            if rule.decision is Decision.DENY and rule.specifier.tool in ("Read", ANY_TOOL):
                yield from rule.path_allow
