"""The time limit of a run: seconds of its own work. While a question waits for a person the clock stands still."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator

from codeforge_ls.model.events import Event, EventType
from codeforge_ls.store import Store


class RunClock:
    """Ends the work of one run with ``TimeoutError`` after so many seconds (0: never)."""

    def __init__(self, store: Store, stream: str, seconds: float) -> None:
        self._store, self._stream, self._seconds = store, stream, seconds
        self._limit = asyncio.timeout(None)
        self._waiting = 0
        self._left = seconds

    @contextlib.asynccontextmanager
    async def running(self) -> AsyncIterator[None]:
        """The time in which the run works."""
        leave = self._store.subscribe(self._hear)
        self._limit = asyncio.timeout(self._seconds or None)
        try:
            async with self._limit:
                yield
        finally:
            leave()

    def _hear(self, event: Event) -> None:
        if event.stream != self._stream or not self._seconds:
            return
        now = asyncio.get_running_loop().time()
        if event.type == EventType.APPROVAL_REQUESTED:
            if not self._waiting and (end := self._limit.when()) is not None:
                self._left = end - now
                self._limit.reschedule(None)
            self._waiting += 1
        elif event.type == EventType.APPROVAL_ANSWERED and self._waiting:
            self._waiting -= 1
            if not self._waiting and not self._limit.expired():
                self._limit.reschedule(now + self._left)
