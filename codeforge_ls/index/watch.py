"""Watches the workspace for an editor that cannot: changed files, in batches, never from ignored folders."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import threading
from collections.abc import Awaitable, Callable, Sequence
from pathlib import Path

from codeforge_ls.index.files import ALWAYS_SKIPPED, ignored_paths

log = logging.getLogger(__name__)

DEBOUNCE_MS, STEP_MS = 100, 20
SETUP_SECONDS = 0.5  # within this time new watches are in place
MAX_FOLDERS = 50_000  # each is one inotify watch; the usual limit of a user is higher
RULE_FILES = {".gitignore", ".codeforgeignore"}


class Watcher:
    """Feeds ``on_changes`` with the paths of one batch, relative to the root. The waiting is done in a thread.

    Folders are chosen before they are watched: ignored ones cost no watch. New folders are watched too.
    """

    def __init__(self, root: Path, on_changes: Callable[[Sequence[str]], Awaitable[None]]) -> None:
        self._root, self._on_changes = root, on_changes
        self._stop = threading.Event()
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to watch in the background."""
        self._task = asyncio.create_task(self._run(), name="watch")

    async def stop(self) -> None:
        """Stop and let go of all watches."""
        self._stop.set()
        if self._task:
            with contextlib.suppress(TimeoutError, asyncio.CancelledError):
                await asyncio.wait_for(self._task, 2.0)

    async def _run(self) -> None:
        known: set[str] | None = None
        while not self._stop.is_set():
            try:
                folders = await asyncio.to_thread(watched_folders, self._root)
                fresh = [] if known is None else sorted(set(folders) - known)
                known = set(folders)
                # Files made in a new folder before its watch was set have no event of their own.
                look_again = asyncio.create_task(self._look_again(fresh))
                await self._watch_once(folders)
                await look_again
            except OSError as error:
                log.warning("watching %s: %s", self._root, error)
                await asyncio.sleep(2.0)

    async def _look_again(self, fresh: Sequence[str]) -> None:
        if fresh:
            await asyncio.sleep(SETUP_SECONDS)
            await self._on_changes(self._relative(fresh))

    async def _watch_once(self, folders: list[str]) -> None:
        """Watch these folders until a folder appears or goes, then return so that they are chosen again."""
        from watchfiles import awatch

        if not folders:
            await asyncio.sleep(2.0)  # the root is gone or not there yet
            await self._on_changes([""])
            return
        options = {"debounce": DEBOUNCE_MS, "step": STEP_MS, "recursive": False, "watch_filter": None}
        async for batch in awatch(*folders, stop_event=self._stop, rust_timeout=1000, **options):  # type: ignore[arg-type]
            paths = await asyncio.to_thread(self._relative, sorted({path for _, path in batch}))
            if paths:
                await self._on_changes(paths)
            if await asyncio.to_thread(self._folders_changed, paths, set(folders)):
                return

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


def watched_folders(root: Path) -> list[str]:
    """The folders of the workspace that are not ignored, at most ``MAX_FOLDERS``; none when the root is gone."""
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
        ignored = ignored_paths(root, probes) if probes else set()
        level = [folder for probe, folder in probes.items() if probe not in ignored]
        folders += [str(root / folder) for folder in level]
    return folders[:MAX_FOLDERS]
