"""The checkpoints of one workspace as the rest of the product uses them: asynchronous, one at a time."""

from __future__ import annotations

import asyncio
import concurrent.futures
import contextlib
import logging
import os
import re
import time
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence
from pathlib import Path
from typing import TypeAlias, TypeVar

from codeforge_ls.checkpoints import changes, history, retention
from codeforge_ls.checkpoints import restore as restoring
from codeforge_ls.checkpoints.capture import Picture, Progress
from codeforge_ls.checkpoints.history import Purpose, Stored
from codeforge_ls.checkpoints.names import as_bytes, below, checked_root, lexical, quoted, shown
from codeforge_ls.checkpoints.placing import Blocked
from codeforge_ls.checkpoints.shadow import Shadow
from codeforge_ls.checkpoints.snapshot import Memory, Snapshots, remember
from codeforge_ls.git import Cancellation
from codeforge_ls.model.actions import FileChange
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind, Restored, SkippedPath
from codeforge_ls.model.errors import CodeForgeError, InvalidInput, LimitReached, NotFound, Unavailable

log = logging.getLogger(__name__)

WriteFile: TypeAlias = Callable[[str, bytes | None], Awaitable[bool]]
"""Asked for each file before the disk is touched (None = delete): True = an editor wrote it, False = write it to disk.

An exception or no answer within 30 s leaves the file as it is and makes it a conflict. Links and changes of
permission bits alone are not asked for.
"""

OnProgress: TypeAlias = Callable[[float | None, str], None]
"""Told the percent and a sentence."""

T = TypeVar("T")

# Beside a file that is about to be replaced, by the gate and by a restore.
OWN_TEMPORARY = re.compile(r"\.[0-9a-f]{16}\.codeforge|\.codeforge-[0-9a-f]{16}\.tmp")
PROGRESS_AFTER, PROGRESS_SECONDS = 0.5, 0.1  # what is over by then needs no progress
ASK_TIMEOUT = 30.0  # seconds an editor has for one file; then the file is left as it is


class Checkpoints:
    """Snapshots of the whole workspace and their exact restore.

    ``state`` is the state folder, outside ``root``; everything is kept in ``state/shadow.git``. The user's own
    repository is only read. Raises InvalidInput for a root that cannot be a workspace (``/``, the home folder).
    A caller may be cancelled at any time: a snapshot is then dropped, a restore that has begun runs to its end.
    """

    def __init__(self, root: Path, state: Path) -> None:
        self._root = checked_root(root)
        self._roots = (self._root, os.fsencode(Path(root).absolute()))
        self._folder = Path(os.path.realpath(state)) / "shadow.git"
        if os.fsencode(self._folder).startswith(self._root + b"/"):
            raise InvalidInput("The state folder must lie outside the workspace.", data={"field": "state"})
        self._one_at_a_time = asyncio.Lock()
        self._closed = False
        self._finished: Restored | None = None
        self._memory = Memory()
        self._watched = False
        self._background: dict[str, asyncio.Task[None]] = {}
        self._told: list[OnProgress] = []

    @property
    def too_much(self) -> str:
        """Why checkpoints hold only files that edits named, as far as is known; empty when they hold the workspace."""
        return self._memory.too_much

    def report(self) -> JsonObject:
        """For ``health``: whether checkpoints hold the whole workspace, and if they do not, why."""
        if self.too_much:
            return {"hold": "only files that edits named", "reason": self.too_much}
        return {"hold": "everything"}

    @contextlib.contextmanager
    def telling(self, on_progress: OnProgress) -> Iterator[None]:
        """Meanwhile tell how far it is: percent and a sentence, after half a second, then ten times a second."""
        self._told.append(on_progress)
        try:
            yield
        finally:
            self._told.remove(on_progress)

    def note(self, paths: Sequence[str]) -> None:
        """These paths of the workspace may have changed (an empty one: any). Whoever calls this once promises to tell
        of changes from then on, a little late perhaps: then an edit's checkpoint need not look at everything. A restore
        leaves alone what such a checkpoint did not look at and what has not been changed since."""
        self._watched = True
        if "" in paths:
            self._memory.last = None
        else:
            told = (
                os.fsencode(path) for path in paths if not OWN_TEMPORARY.fullmatch(path.rpartition("/")[2])
            )
            self._memory.noted.update(told)

    def prepare(self) -> None:
        """Look at everything in the background, so that the next checkpoint, which somebody waits for, has little to
        do. Nothing where the last look still holds."""
        if self._memory.last is None:
            self._begin("prepare-checkpoints", self._look)

    async def _look(self) -> None:
        await self._exclusive(lambda shots, forced: shots.whole(forced) and None)

    async def create(
        self,
        stream: str,
        *,
        label: str,
        kind: CheckpointKind,
        call_id: str | None = None,
        force: Iterable[str] = (),
        nothing_else: bool = False,
    ) -> Checkpoint:
        """Snapshot the whole workspace into ``stream``.

        ``force`` names ignored files to include, now and in every later snapshot; they need not exist yet. Paths
        outside the workspace are listed as skipped. ``nothing_else``: only the paths in ``force`` are about to
        change, so the rest need not be looked at where it is known. Raises GitFailed, LimitReached, Unavailable.
        """
        purpose = Purpose(stream, label, kind, call_id)
        named = _checked(force)

        def work(shots: Snapshots, forced: set[bytes]) -> Checkpoint:
            inside, outside = self._sorted_out(named)
            forced = remember(shots.shadow, inside, forced)
            if nothing_else and self._watched:
                _, checkpoint = shots.known(inside, forced, purpose, outside)
            else:
                _, checkpoint = shots.whole(forced, purpose, outside)
            shots.memory.expect(inside if nothing_else else None)
            if checkpoint is None:
                raise Unavailable("The checkpoint was not taken.")
            return checkpoint

        made = await self._exclusive(work)
        self._begin("pack-checkpoints", self._pack)
        return made

    async def restore(
        self,
        checkpoint: Checkpoint,
        stream: str,
        *,
        only: Iterable[str] | None = None,
        write: WriteFile | None = None,
    ) -> Restored:
        """Bring the workspace (or ``only`` some paths) to ``checkpoint``, after a safety checkpoint into ``stream``.

        A path that changes while this runs is left alone and listed in ``conflicts``. Redo = restore ``safety``.
        Raises NotFound when the checkpoint is no longer stored; then nothing was changed.
        """
        named = None if only is None else _checked(only)
        ask = self._asking(write) if write else None

        def work(shots: Snapshots, forced: set[bytes]) -> Restored:
            chosen = None if named is None else self._chosen(named)
            return restoring.restore(shots, checkpoint, stream, forced, chosen, ask)

        return await self._exclusive(work)

    async def recover(self) -> Restored | None:
        """Finish a restore that died with its process, once, and say what it did; None when there was none.

        To be called when a workspace is opened; ``create`` and ``restore`` do it too, then it is told here later.
        """
        if not await asyncio.to_thread(self._folder.exists):
            return None  # no checkpoint was ever taken
        await self._exclusive(lambda _shots, _forced: None)
        finished, self._finished = self._finished, None
        return finished

    async def diff(self, checkpoint: Checkpoint, other: Checkpoint | None = None) -> str:
        """A unified diff from ``checkpoint`` to ``other``, or to the workspace as it is now. Cut at 4 MiB."""

        def both(shadow: Shadow) -> str:
            with shadow.contents() as contents:
                old = history.load(contents, checkpoint.commit)
                new = old if other is None else history.load(contents, other.commit)
            return changes.unified_diff(shadow, old.units, new.units)

        def until_now(shots: Snapshots, forced: set[bytes]) -> str:
            old, picture = self._compared(shots, forced, checkpoint)
            if picture.too_much and not old.meta.too_much:
                raise LimitReached(
                    f"The workspace cannot be compared as a whole: {picture.too_much}.",
                    hint="Let .gitignore name the folders that hold data or build output.",
                )
            return changes.unified_diff(shots.shadow, old.units, picture.units)

        return await (self._exclusive(until_now) if other is None else self._reading(both))

    async def changed(self, checkpoint: Checkpoint) -> list[FileChange]:
        """The files that are not now what they were at ``checkpoint``, without hashes and line counts.

        Where checkpoints hold only files that were named, others that changed are not known.
        """

        def work(shots: Snapshots, forced: set[bytes]) -> list[FileChange]:
            then, picture = self._compared(shots, forced, checkpoint)
            modes = (then.modes, picture.modes)
            found = changes.changed_paths(shots.shadow, then.units, picture.units, modes)
            if not picture.too_much:
                return found
            return [change for change in found if os.fsencode(change.path) in forced]

        return await self._exclusive(work)

    def _compared(
        self, shots: Snapshots, forced: set[bytes], checkpoint: Checkpoint
    ) -> tuple[Stored, Picture]:
        picture, _ = shots.whole(forced)
        with shots.shadow.contents() as contents:
            return history.load(contents, checkpoint.commit), picture

    async def read(self, checkpoint: Checkpoint, path: str) -> bytes:
        """The bytes of one file in a checkpoint (of a link: its target). Raises NotFound when it holds none."""
        wanted = as_bytes(path)

        def work(shadow: Shadow) -> bytes:
            relative = lexical(self._roots, wanted)
            if relative is None:
                raise NotFound("The path is outside the workspace.", data={"path": path})
            return history.read(shadow, checkpoint.commit, relative)

        return await self._reading(work)

    async def known(self) -> list[Checkpoint]:
        """Every stored checkpoint, oldest first, read from the shadow repository alone."""
        return await self._reading(history.known)

    async def cleanup(self, keep_days: float, quota_bytes: int) -> None:
        """Drop streams older than ``keep_days``, the oldest above ``quota_bytes``, and pack what is scattered."""

        def work(shots: Snapshots, _forced: set[bytes]) -> None:
            shots.memory.cache.flush(shots.shadow)
            retention.cleanup(shots.shadow, keep_days, quota_bytes, time.time())

        await self._exclusive(work)

    async def _pack(self) -> None:
        """Join small packs when nobody waits: each snapshot adds one, and git looks through all of them."""
        if await asyncio.to_thread(retention.scattered, self._folder):
            await self._exclusive(lambda shots, _: retention.join_packs(shots.shadow))

    def _begin(self, name: str, work: Callable[[], Awaitable[None]]) -> None:
        """Do it in the background, once at a time. What fails there is tried again by the next who needs it."""
        running = self._background.get(name)
        if self._closed or (running is not None and not running.done()):
            return

        async def quietly() -> None:
            try:
                await work()
            except CodeForgeError as error:
                log.warning("%s: %s", name, error.message)

        self._background[name] = asyncio.create_task(quietly(), name=name)

    async def close(self) -> None:
        """End what runs in the background, write down what is not yet, and wait for the rest; later calls raise
        Unavailable."""
        for task in self._background.values():
            task.cancel()
        await asyncio.gather(*self._background.values(), return_exceptions=True)
        if any(stamps.unsaved for stamps in self._memory.cache.stamps.values()):
            with contextlib.suppress(CodeForgeError):
                await self._exclusive(lambda shots, _: shots.memory.cache.flush(shots.shadow))
        self._closed = True
        async with self._one_at_a_time:
            pass

    async def _exclusive(self, work: Callable[[Snapshots, set[bytes]], T]) -> T:
        """Run ``work`` alone, in this process and against others, after what a dead process left is finished.

        It is given the ignored files that are snapshotted all the same.
        """
        progress = self._progress()

        def alone(shadow: Shadow) -> T:
            shots = Snapshots(shadow, self._root, self._memory, progress)
            with shadow.locked():
                forced = remember(shadow)
                self._finished = restoring.finish(shots, forced) or self._finished
                return work(shots, forced)

        async with self._one_at_a_time:
            return await self._in_thread(alone)

    def _progress(self) -> Progress:
        """Progress from the thread to those who want to know, and no more than they can use."""
        loop, next_time = asyncio.get_running_loop(), time.monotonic() + PROGRESS_AFTER

        def tell(done: int, of: int) -> None:
            for told in list(self._told):
                told(100 * done / max(1, of), f"checkpoint: {done:,} of {of:,} files")

        def progress(done: int, of: int) -> None:
            nonlocal next_time
            if time.monotonic() >= next_time:
                next_time = time.monotonic() + PROGRESS_SECONDS
                with contextlib.suppress(RuntimeError):  # the loop has ended
                    loop.call_soon_threadsafe(tell, done, of)

        return progress

    async def _reading(self, work: Callable[[Shadow], T]) -> T:
        def ready(shadow: Shadow) -> T:
            shadow.ensure()
            return work(shadow)

        return await self._in_thread(ready)

    async def _in_thread(self, work: Callable[[Shadow], T]) -> T:
        """Run ``work`` in a thread. A cancelled caller waits until the thread has let go of lock and index."""
        if self._closed:
            raise Unavailable("The checkpoints of this workspace are closed.")
        cancellation = Cancellation()
        task = asyncio.create_task(asyncio.to_thread(work, Shadow(self._folder, cancellation)))
        try:
            return await asyncio.shield(task)
        except asyncio.CancelledError:
            cancellation.cancel()
            while not task.done():
                with contextlib.suppress(asyncio.CancelledError):
                    await asyncio.wait({task})
            if not task.cancelled():
                task.exception()  # seen: the caller has gone
            raise
        except OSError as error:
            raise Unavailable(
                f"The checkpoints in {self._folder} cannot be used: {error.strerror or error}.",
                hint="Look at the space and the permissions there.",
            ) from error

    def _asking(self, write: WriteFile) -> restoring.Ask:
        loop = asyncio.get_running_loop()

        async def asked(path: str, content: bytes | None) -> bool:
            return await write(path, content)

        def ask(path: bytes, content: bytes | None) -> bool:
            answer = asyncio.run_coroutine_threadsafe(asked(shown(path), content), loop)
            try:
                return answer.result(ASK_TIMEOUT)
            except (Exception, concurrent.futures.CancelledError) as error:  # an editor may fail in any way
                answer.cancel()
                raise Blocked(f"the editor did not take it: {error}") from error

        return ask

    def _sorted_out(self, paths: Iterable[str]) -> tuple[set[bytes], list[SkippedPath]]:
        inside: set[bytes] = set()
        outside = []
        for path in paths:
            found = below(self._roots, path)
            inside |= found
            if not found:
                outside.append(SkippedPath(path=quoted(as_bytes(path)), reason="outside"))
        return inside, outside

    def _chosen(self, paths: Iterable[str]) -> set[bytes]:
        chosen = set()
        for path in paths:
            raw = as_bytes(path)
            chosen |= below(self._roots, path) | {os.path.normpath(raw)}
        return chosen


def _checked(paths: Iterable[str]) -> list[str]:
    """The paths, before any work begins. Raises InvalidInput for what cannot be a path."""
    listed = list(paths)
    for path in listed:
        as_bytes(path)
    return listed
