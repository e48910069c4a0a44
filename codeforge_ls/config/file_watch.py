"""A watch on a few files that people edit, by their times and sizes: settings, policies, keys."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path

WATCH_SECONDS = 2.0  # how often they are looked at


async def watch_files(files: Callable[[], Iterable[Path]], changed: Callable[[], Awaitable[object]]) -> None:
    """For ever: call ``changed`` when one of the files comes, goes or is another one. ``files`` is asked each time, in
    a thread; a failure of ``changed`` does not end the watch."""
    known = await asyncio.to_thread(_stamps, files)
    while True:
        await asyncio.sleep(WATCH_SECONDS)
        now = await asyncio.to_thread(_stamps, files)
        if now != known:
            known = now
            with contextlib.suppress(Exception):
                await changed()


def _stamps(files: Callable[[], Iterable[Path]]) -> dict[Path, tuple[int, int]]:
    found: dict[Path, tuple[int, int]] = {}
    for path in files():
        with contextlib.suppress(OSError):
            status = path.stat()
            found[path] = (status.st_mtime_ns, status.st_size)
    return found
