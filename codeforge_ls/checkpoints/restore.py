"""Bring the workspace back to a checkpoint: only what differs, never over an edit made meanwhile, never half.

A journal is written before the first change. When the process dies, ``finish`` completes what it says: each path
then still equals the safety checkpoint (to do), or the target (done), or neither (somebody's edit: a conflict).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
import time
from collections.abc import Callable, Collection
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from codeforge_ls.checkpoints import history
from codeforge_ls.checkpoints.changes import Change, changes, state_in
from codeforge_ls.checkpoints.history import Purpose, Stored
from codeforge_ls.checkpoints.names import joined, parent_of, quoted, shown, unquoted
from codeforge_ls.checkpoints.placing import ABSENT, Blocked, FileState, Placing, emptied_by
from codeforge_ls.checkpoints.reading import LINK
from codeforge_ls.checkpoints.shadow import Contents, Shadow
from codeforge_ls.checkpoints.snapshot import Snapshots
from codeforge_ls.checkpoints.units import Unit
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind, Restored
from codeforge_ls.model.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

RULES = b".gitignore"
# Asked before the disk is touched: True = an editor has the file open and wrote it there.
Ask = Callable[[bytes, bytes | None], bool]


class Journal(Frozen):
    """A restore that has begun. ``only`` holds quoted paths."""

    version: Literal[1] = 1
    checkpoint_id: str
    target: str
    safety: str
    only: tuple[str, ...] | None
    temporary: str


def restore(
    shots: Snapshots,
    target: Checkpoint,
    stream: str,
    forced: Collection[bytes],
    only: Collection[bytes] | None,
    ask: Ask | None,
) -> Restored:
    """Restore ``target``; under the lock. The safety checkpoint goes to ``stream``.

    Can be cancelled until the first change, then runs to its end. Raises NotFound when the target is not stored.
    """
    shadow = shots.shadow
    with shadow.contents() as contents:
        wanted = history.load(contents, target.commit)
    purpose = Purpose(stream, f"Before the restore of {target.label or target.id}", CheckpointKind.SAFETY)
    _, safety = shots.whole(forced, purpose)
    if safety is None:
        raise Unavailable("The safety checkpoint was not taken, so nothing was restored.")
    # Another process: the one before does not see the new pack.
    with shadow.contents() as contents:
        plan = Plan(shots, contents, history.load(contents, safety.commit), wanted, only, forced)
        todo, odd = plan.todo(), plan.in_the_way()
        journal = Journal(
            checkpoint_id=target.id,
            target=target.commit,
            safety=safety.commit,
            only=None if only is None else tuple(quoted(path) for path in only),
            temporary=f".codeforge-{secrets.token_hex(8)}.tmp",
        )
        shadow.cancellation.seal()
        shots.memory.last = None  # what we write is nobody's to note
        _save(_file(shadow), journal)
        return _apply(shots, contents, journal, safety, todo, ask, odd)


def finish(shots: Snapshots, forced: Collection[bytes]) -> Restored | None:
    """Complete a restore that a killed process left; None when there is none. Under the lock."""
    shadow, file = shots.shadow, _file(shots.shadow)
    if not file.exists():
        return None
    with shadow.contents() as contents:
        try:
            journal = Journal.model_validate_json(file.read_bytes())
            safety = history.load(contents, journal.safety)
            wanted = history.load(contents, journal.target)
        except (ValidationError, NotFound, Unavailable) as error:
            log.warning("An unfinished restore cannot be completed: %s", error)
            file.replace(file.with_suffix(".broken"))
            return None
        only = None if journal.only is None else {unquoted(path) for path in journal.only}
        plan = Plan(shots, contents, safety, wanted, only, forced)
        todo, odd = plan.todo(), plan.in_the_way()
        placing = Placing(shots.root, journal.temporary.encode())
        for change in todo:
            placing.sweep(change.path)
        log.info("Completing the restore of %s that was cut short.", journal.checkpoint_id)
        shadow.cancellation.seal()
        return _apply(shots, contents, journal, safety.meta.checkpoint(safety.commit), todo, None, odd)


@dataclass(frozen=True)
class Plan:
    """What a restore is to do, from the two checkpoints alone, so that it can be made again after a crash."""

    shots: Snapshots
    contents: Contents
    safety: Stored
    wanted: Stored
    only: Collection[bytes] | None
    forced: Collection[bytes]

    def todo(self) -> list[Change]:
        """The changes. An ignored file that the target lacks because nobody had named it yet was there all the
        same: it goes back to what it was when it first came along, not away."""
        shadow = self.shots.shadow
        todo = _chosen(changes(shadow, self.safety, self.wanted), self.only)
        missing = {change.path for change in todo if change.then.absent} & set(self.forced)
        first = history.first_forced(shadow, self.contents, missing) if missing else {}
        since = self.wanted.meta.created_at
        later = {path: stored for path, stored in first.items() if stored.meta.created_at > since}
        return [
            change
            for change in (
                replace(change, then=state_in(shadow, later[change.path], change.path))
                if change.path in later
                else change
                for change in todo
                if change.path in later or self._told(change)
            )
            if change.now != change.then
        ]

    def _told(self, change: Change) -> bool:
        """Whether both checkpoints say something about the path. What one of them did not look at is as it was then
        if it has not been changed since; a folder too large for a picture says nothing of what was never named."""
        for stored in (self.wanted, self.safety):
            looked_at = stored.looked_at()
            if looked_at is None or change.path in looked_at:
                continue
            if stored.meta.too_much:
                return False
            if _unchanged_since(joined(self.shots.root, change.path), stored.meta.created_at):
                return False
        return True

    def in_the_way(self) -> list[Change]:
        """Files of the target where there is now something that no checkpoint can hold: a FIFO, or a file too large."""
        found = []
        for entry in self.safety.meta.skipped:
            then = state_in(self.shots.shadow, self.wanted, unquoted(entry.path))
            if not then.absent:
                found.append(Change(unquoted(entry.path), ABSENT, then))
        return _chosen(found, self.only)


def _unchanged_since(full: bytes, moment: float) -> bool:
    """Whether what is there, or that nothing is there, was so at ``moment`` (seconds since 1970) already."""
    if time.time() < moment:
        return False  # the clock was set back: times say nothing
    with contextlib.suppress(OSError):
        return os.lstat(full).st_ctime < moment
    with contextlib.suppress(OSError):
        return os.lstat(parent_of(full)).st_ctime < moment
    return False


def _chosen(todo: list[Change], only: Collection[bytes] | None) -> list[Change]:
    if only is None:
        return todo
    # A path that is not UTF-8 can be named by what was shown for it.
    return [change for change in todo if change.path in only or shown(change.path).encode() in only]


def _apply(
    shots: Snapshots,
    contents: Contents,
    journal: Journal,
    safety: Checkpoint,
    todo: list[Change],
    ask: Ask | None,
    odd: list[Change],
) -> Restored:
    work = _Work(Placing(shots.root, journal.temporary.encode()), ask)
    for change in odd:
        work.replace_odd(change, contents)
    rules = [change for change in todo if change.path.rpartition(b"/")[2] == RULES]
    for change in rules:
        work.one(change, contents)
    rest = [change for change in todo if change not in rules]
    if rules:
        # By the rules of then these were in no picture: that it lacks them does not mean that they were not there.
        absent = [change.path for change in rest if change.then.absent]
        unseen = Unit(shots.shadow, shots.root, b"").ignored(absent)
        rest = [change for change in rest if change.path not in unseen]
    for number, change in enumerate(sorted(rest, key=lambda change: (not change.then.absent, change.path))):
        shots.progress(number, len(rest))
        work.one(change, contents)
    work.remove_emptied()
    _file(shots.shadow).unlink()
    return Restored(
        checkpoint_id=journal.checkpoint_id,
        safety=safety,
        changed=tuple(shown(path) for path in sorted(work.changed)),
        conflicts=tuple(shown(path) for path in sorted(work.conflicts)),
    )


class _Work:
    """The paths done so far."""

    def __init__(self, placing: Placing, ask: Ask | None) -> None:
        self.changed: list[bytes] = []
        self.conflicts: list[bytes] = []
        self._placing = placing
        self._ask = ask
        self._deleted: list[bytes] = []

    def one(self, change: Change, contents: Contents) -> None:
        """Bring one path to its target, unless somebody changed it since the safety checkpoint."""
        path, now = change.path, change.now
        try:
            if self._placing.holds(path, change.then):
                self.changed.append(path)  # a cut-short restore got here already
                self._deleted += [path] if change.then.absent else []
                return
            if not self._placing.holds(path, now):
                raise Blocked
            self._bring(change, contents)
        except (Blocked, OSError, NotFound) as error:
            log.info("The restore leaves %s as it is: %s", shown(path), error or "it changed meanwhile")
            self.conflicts.append(path)
        else:
            self.changed.append(path)

    def replace_odd(self, change: Change, contents: Contents) -> None:
        """Put a file back where a FIFO, socket or device stands, which holds nothing that could be lost. A file that
        no checkpoint holds is left alone, and said."""
        try:
            self._placing.delete_special(change.path)
        except (Blocked, OSError) as error:
            log.info("The restore leaves %s as it is: %s", shown(change.path), error)
            self.conflicts.append(change.path)
        else:
            self.one(change, contents)

    def _bring(self, change: Change, contents: Contents) -> None:
        path, now, then = change.path, change.now, change.then
        if now.name == then.name and LINK not in (now.mode, then.mode):
            self._placing.set_bits(path, then.bits)
            return
        content = None if then.absent else contents.read(then.name)
        if content is None:
            self._deleted.append(path)
        if self._ask and not now.link and not then.link and self._ask(path, content):
            return
        if content is None:
            self._delete(path, now)
            return
        self._make_room(path)
        self._placing.write(path, then, content, lambda: self._placing.holds(path, now))

    def _delete(self, path: bytes, now: FileState) -> None:
        if not self._placing.holds(path, now):  # again: asking may have taken a while
            raise Blocked
        self._placing.delete(path)

    def _make_room(self, path: bytes) -> None:
        """Where the target has a file and the disk a folder, remove the folders that the deletions emptied."""
        for folder in emptied_by([gone for gone in self._deleted if gone.startswith(path + b"/")]):
            if folder.startswith(path + b"/"):
                self._placing.remove_empty(folder)  # path itself gives way in the write

    def remove_emptied(self) -> None:
        """Remove the folders that this restore emptied; others, even empty ones, are not ours."""
        for folder in emptied_by(self._deleted):
            self._placing.remove_empty(folder)


def _file(shadow: Shadow) -> Path:
    return shadow.own / "restore.json"


def _save(file: Path, journal: Journal) -> None:
    partial = file.with_suffix(".new")
    with partial.open("w") as handle:
        handle.write(journal.model_dump_json())
        handle.flush()
        os.fsync(handle.fileno())
    partial.replace(file)
    with contextlib.suppress(OSError):
        folder = os.open(file.parent, os.O_RDONLY)
        try:
            os.fsync(folder)
        finally:
            os.close(folder)
