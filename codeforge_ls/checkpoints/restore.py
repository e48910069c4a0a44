"""Bring the workspace back to a checkpoint: only what differs, never over an edit made meanwhile, never half.

A journal is written before the first change. When the process dies, ``finish`` completes what it says: each path
then still equals the safety checkpoint (to do), or the target (done), or neither (somebody's edit: a conflict).
"""

from __future__ import annotations

import contextlib
import logging
import os
import secrets
from collections.abc import Callable, Collection
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import ValidationError

from codeforge_ls.checkpoints import history
from codeforge_ls.checkpoints.capture import LINK, capture
from codeforge_ls.checkpoints.changes import Change, changes, state_in
from codeforge_ls.checkpoints.history import Purpose, Stored
from codeforge_ls.checkpoints.names import quoted, shown, unquoted
from codeforge_ls.checkpoints.placing import ABSENT, Blocked, FileState, Placing, emptied_by
from codeforge_ls.checkpoints.shadow import Contents, Shadow
from codeforge_ls.model.base import Frozen
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind, Restored
from codeforge_ls.model.errors import NotFound, Unavailable

log = logging.getLogger(__name__)

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
    shadow: Shadow,
    root: bytes,
    target: Checkpoint,
    stream: str,
    forced: Collection[bytes],
    only: Collection[bytes] | None,
    ask: Ask | None,
) -> Restored:
    """Restore ``target``; under the lock. The safety checkpoint goes to ``stream``.

    Can be cancelled until the first change, then runs to its end. Raises NotFound when the target is not stored.
    """
    wanted = history.load(shadow, target.commit)
    picture = capture(shadow, root, forced)
    purpose = Purpose(stream, f"Before the restore of {target.label or target.id}", CheckpointKind.SAFETY)
    safety = history.record(shadow, root, picture, purpose)
    before = history.load(shadow, safety.commit)
    todo = _todo(shadow, before, wanted, only)
    journal = Journal(
        checkpoint_id=target.id,
        target=target.commit,
        safety=safety.commit,
        only=None if only is None else tuple(quoted(path) for path in only),
        temporary=f".codeforge-{secrets.token_hex(8)}.tmp",
    )
    shadow.cancellation.seal()
    _save(_file(shadow), journal)
    return _apply(shadow, root, journal, safety, todo, ask, _in_the_way(shadow, before, wanted, only))


def finish(shadow: Shadow, root: bytes) -> Restored | None:
    """Complete a restore that a killed process left; None when there is none. Under the lock."""
    file = _file(shadow)
    if not file.exists():
        return None
    try:
        journal = Journal.model_validate_json(file.read_bytes())
        safety = history.load(shadow, journal.safety)
        wanted = history.load(shadow, journal.target)
    except (ValidationError, NotFound, Unavailable) as error:
        log.warning("An unfinished restore cannot be completed: %s", error)
        file.replace(file.with_suffix(".broken"))
        return None
    only = None if journal.only is None else {unquoted(path) for path in journal.only}
    todo = _todo(shadow, safety, wanted, only)
    placing = Placing(root, journal.temporary.encode())
    for change in todo:
        placing.sweep(change.path)
    log.info("Completing the restore of %s that was cut short.", journal.checkpoint_id)
    shadow.cancellation.seal()
    odd = _in_the_way(shadow, safety, wanted, only)
    return _apply(shadow, root, journal, safety.meta.checkpoint(safety.commit), todo, None, odd)


def _todo(shadow: Shadow, safety: Stored, wanted: Stored, only: Collection[bytes] | None) -> list[Change]:
    """What is to be done. An ignored file that the target lacks because nobody had named it yet was there all the
    same: it goes back to what it was when it first came along, not away."""
    todo = _chosen(changes(shadow, safety, wanted), only)
    missing = [change.path for change in todo if change.then.absent]
    first = history.first_forced(shadow, missing) if missing else {}
    since = wanted.meta.created_at
    later = {path: stored for path, stored in first.items() if stored.meta.created_at > since}
    settled = [
        replace(change, then=state_in(shadow, later[change.path], change.path))
        if change.path in later
        else change
        for change in todo
    ]
    return [change for change in settled if change.now != change.then]


def _in_the_way(
    shadow: Shadow, safety: Stored, wanted: Stored, only: Collection[bytes] | None
) -> list[Change]:
    """Files of the target where there is now something that no checkpoint can hold: a FIFO, or a file too large."""
    found = []
    for entry in safety.meta.skipped:
        then = state_in(shadow, wanted, unquoted(entry.path))
        if not then.absent:
            found.append(Change(unquoted(entry.path), ABSENT, then))
    return _chosen(found, only)


def _chosen(todo: list[Change], only: Collection[bytes] | None) -> list[Change]:
    if only is None:
        return todo
    # A path that is not UTF-8 can be named by what was shown for it.
    return [change for change in todo if change.path in only or shown(change.path).encode() in only]


def _apply(
    shadow: Shadow,
    root: bytes,
    journal: Journal,
    safety: Checkpoint,
    todo: list[Change],
    ask: Ask | None,
    odd: list[Change],
) -> Restored:
    work = _Work(Placing(root, journal.temporary.encode()), ask)
    with shadow.contents() as contents:
        for change in odd:
            work.replace_odd(change, contents)
        for change in sorted(todo, key=lambda change: (not change.then.absent, change.path)):
            work.one(change, contents)
    work.remove_emptied()
    _file(shadow).unlink()
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
