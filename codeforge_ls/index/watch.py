"""Watches the workspace for an editor that cannot: changed files, in batches, never from ignored folders."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections import deque
from collections.abc import Awaitable, Callable, Iterable, Iterator, Sequence, Set
from itertools import islice
from operator import attrgetter
from pathlib import Path
from typing import TYPE_CHECKING

from anyio import to_thread

from codeforge_ls.index.files import ALWAYS_SKIPPED, IgnoreFiles, ignored_folders, ignored_paths
from codeforge_ls.model.base import JsonObject

if TYPE_CHECKING:
    from watchfiles import Change

log = logging.getLogger(__name__)

DEBOUNCE_MS, STEP_MS = 100, 10
SETUP_SECONDS = 0.5  # within this time new watches are in place
POLL_SECONDS, POLLS = (
    3.0,
    20,
)  # without events the disk is looked at so often, so many times; then events are tried
STOP_SECONDS = 2.0
STAMP_SECONDS = 0.05  # time stamps of files lag behind the clock by one of its ticks
MAX_FOLDERS = 50_000  # each is one inotify watch; the usual limit of a user is higher
# The library holds the interpreter while it sets a group's watches, 30 microseconds each; others run between them.
GROUPS, FEW_FOLDERS, GROUP_SECONDS = 4, 200, 0.03
RULE_FILES = {".gitignore", ".codeforgeignore"}

Batch = set[tuple["Change", str]]


class Watcher:
    """Feeds ``on_changes`` with the paths of one batch, relative to the root. The waiting is done in a thread.

    Folders are chosen before they are watched: ignored ones cost no watch. New folders are watched too. Where events
    fail (a name that is not UTF-8, no more watches), the whole disk is looked at every few seconds instead: a batch
    of the one path ``""``.
    """

    def __init__(
        self,
        root: Path,
        on_changes: Callable[[Sequence[str]], Awaitable[None]],
        exclude: Sequence[str] = (),
        *,
        since: float | None = None,
    ) -> None:
        """What changed after ``since`` (seconds since the epoch) is reported once the first watches are in place."""
        self._exclude = tuple(exclude)
        self._root, self._on_changes, self._since = root, on_changes, since
        self._stop, self._over = asyncio.Event(), threading.Event()
        self._task: asyncio.Task[None] | None = None
        self._failure = self._last_failure = ""
        self._in_place = False

    def report(self) -> JsonObject:
        """How changes are seen now, for ``health``: ``by`` events or polling, and the ``reason`` for polling; ``none``
        before the first watches are in place, after which what changed until then is looked for."""
        if self._failure:
            return {"by": "polling", "reason": self._failure}
        return {"by": "events" if self._in_place else "none"}

    async def start(self) -> None:
        """Begin to watch in the background."""
        self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """Stop and let go of all watches. Takes at most a few seconds and never raises."""
        self._stop.set()
        self._over.set()
        if self._task is None:
            return
        await asyncio.wait({self._task}, timeout=STOP_SECONDS)
        if self._task.cancel():
            await asyncio.wait({self._task}, timeout=STOP_SECONDS / 2)

    async def _run(self) -> None:
        known: set[str] | None = None
        again: list[str] = []
        while not self._stop.is_set():
            try:
                folders = await asyncio.to_thread(watched_folders, self._root, self._exclude)
                # Files made in a new folder before its watch was set have no event of their own.
                again += [] if known is None else self._relative(sorted(set(folders) - known))
                known = set(folders)
                await self._watch_once(folders, again)
                again = []
            except FileNotFoundError:  # a folder went away before its watch was set
                await self._poll(1)
                again = [""]
            except Exception as error:  # noqa: BLE001 - the thread of watchfiles fails with groups and types of its own
                self._fall_back(error)
                await self._poll(POLLS)
                again = [""]  # for what happens between the last look and the first event

    def _fall_back(self, error: Exception) -> None:
        while isinstance(error, ExceptionGroup):
            error = error.exceptions[0]
        self._failure = f"{type(error).__name__}: {error}"[:300]
        if self._failure != self._last_failure:  # else it is the same again a minute later
            log.warning("watching %s: polling, because of %s", self._root, self._failure)
        self._last_failure = self._failure

    async def _poll(self, times: int) -> None:
        """Have the whole disk looked at, now and then every few seconds; what was lost with an error is found."""
        for _ in range(times):
            try:
                await self._on_changes([""])
            except Exception:
                log.exception("looking at %s failed", self._root)
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), POLL_SECONDS)
            if self._stop.is_set():
                return

    async def _look_again(self, folders: Sequence[str], paths: Sequence[str]) -> None:
        await asyncio.sleep(SETUP_SECONDS)
        self._failure, self._in_place = "", True
        if self._since is not None:
            since, self._since = self._since - STAMP_SECONDS, None
            paths = [*paths, *await asyncio.to_thread(self._newer, folders, since)]
        if paths:
            await self._on_changes(paths)

    async def _watch_once(self, folders: list[str], again: Sequence[str]) -> None:
        """Watch these folders until a folder appears or goes, then return so that they are chosen again.

        ``again`` is looked at once the watches are in place.
        """
        if not folders:
            await self._poll(1)  # the root is gone or not there yet: look once, then wait for it
            while not self._stop.is_set() and not await asyncio.to_thread(self._root.is_dir):
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), POLL_SECONDS)
            return
        looking = asyncio.create_task(self._look_again(folders, again))
        try:
            await self._follow(folders)
            await looking
        finally:
            looking.cancel()

    async def _follow(self, folders: list[str]) -> None:
        self._over, batches = threading.Event(), asyncio.Queue[Batch | Exception | None]()
        if self._stop.is_set():
            return
        size = max(FEW_FOLDERS, -(-len(folders) // GROUPS))
        listening: list[asyncio.Task[None]] = []
        try:
            for at in range(0, len(folders), size):
                group = _listen(folders[at : at + size], self._over, batches.put_nowait)
                listening.append(asyncio.create_task(group))
                await asyncio.sleep(GROUP_SECONDS)
            while batch := await batches.get():
                if isinstance(batch, Exception):
                    raise batch
                paths = await asyncio.to_thread(self._relative, sorted({path for _, path in batch}))
                if paths:
                    await self._on_changes(paths)
                if await asyncio.to_thread(self._folders_changed, paths, set(folders)):
                    return
        finally:
            self._over.set()
            await asyncio.gather(*listening)

    def _newer(self, folders: Iterable[str], since: float) -> list[str]:
        """What was changed after that moment; the whole workspace, ``""``, when something came or went."""
        found: list[str] = []
        for folder in folders:
            with contextlib.suppress(OSError), os.scandir(folder) as entries:
                # The time of the change itself: copying can give a file an old time of its content.
                if os.stat(folder).st_ctime >= since:  # noqa: PTH116 - thousands of folders
                    return [""]
                found += [
                    entry.path for entry in entries if entry.stat(follow_symlinks=False).st_ctime >= since
                ]
        return self._relative(found)

    def _relative(self, paths: Sequence[str]) -> list[str]:
        root = str(self._root).rstrip("/") + "/"
        inside = (path.removeprefix(root) for path in paths if path.startswith(root))
        return [path for path in inside if ALWAYS_SKIPPED.isdisjoint(path.split("/"))]

    def _folders_changed(self, paths: Sequence[str], watched: set[str]) -> bool:
        for path in paths:
            full = str(self._root / path)
            if path.rpartition("/")[2] in RULE_FILES or (full in watched) != Path(full).is_dir():
                return True
        return not self._root.is_dir()


async def _listen(
    folders: Sequence[str], over: threading.Event, tell: Callable[[Batch | Exception | None], None]
) -> None:
    """Tell of each batch of changes, and at the end of the error, or of nothing when it is over."""
    from watchfiles import watch

    options = {"debounce": DEBOUNCE_MS, "step": STEP_MS, "recursive": False, "watch_filter": None}
    try:
        # In a thread, and not by ``awatch``, which sets the watches on the event loop.
        batches = watch(*folders, stop_event=over, rust_timeout=1000, **options)  # type: ignore[arg-type]
        while batch := await to_thread.run_sync(next, batches, None):
            tell(batch)
        tell(None)
    except Exception as error:  # noqa: BLE001 - whoever waits gets it
        tell(error)


def watched_folders(root: Path, exclude: Sequence[str] = ()) -> list[str]:
    """The folders of the workspace that are not ignored, at most ``MAX_FOLDERS``; none when the root is gone."""
    if (ignored := ignored_folders(root)) is not None:
        return list(islice(_walk(root, ignored, IgnoreFiles(root, exclude)), MAX_FOLDERS))
    folders, level = [str(root)] if root.is_dir() else [], [""]
    while level and len(folders) < MAX_FOLDERS:
        below: list[str] = []
        for parent in level:
            with contextlib.suppress(OSError), os.scandir(root / parent) as entries:
                below += [
                    f"{parent}/{entry.name}".lstrip("/")
                    for entry in entries
                    if entry.name not in ALWAYS_SKIPPED and entry.is_dir(follow_symlinks=False)
                ]
        # A folder is ignored if anything in it would be.
        probes = {f"{folder}/x": folder for folder in below}
        hidden = ignored_paths(root, probes, exclude) if probes else set()
        level = [folder for probe, folder in probes.items() if probe not in hidden]
        folders += [str(root / folder) for folder in level]
    return folders[:MAX_FOLDERS]


def _walk(root: Path, ignored: Set[str], rules: IgnoreFiles) -> Iterator[str]:
    """The folders below a git worktree, itself first, that neither git nor our own rules leave out.

    Other repositories inside are none of this workspace.
    """
    level = deque([""])
    while level:
        parent = level.popleft()
        yield f"{root}/{parent}".rstrip("/")
        with contextlib.suppress(OSError), os.scandir(root / parent) as entries:
            below = [entry for entry in entries if entry.name not in ALWAYS_SKIPPED]
            for entry in sorted(below, key=attrgetter("name")):
                path = f"{parent}/{entry.name}".lstrip("/")
                if path in ignored or not entry.is_dir(follow_symlinks=False):
                    continue
                if not rules.matches(f"{path}/x") and not os.path.lexists(f"{entry.path}/.git"):
                    level.append(path)
