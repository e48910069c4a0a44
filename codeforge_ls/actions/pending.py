"""Calls that wait for a person longer than their client waits: the same call again joins the same action."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Coroutine

from codeforge_ls.model.actions import Applied

ANSWER_WITHIN = 45.0  # seconds; no call of an agent is to take longer than 50
KEEP_RESULT = 600.0  # seconds that the result of a pending call waits to be fetched


class PendingActions:
    """Actions by a key that the caller makes from who asks and what for."""

    def __init__(self) -> None:
        self._calls: dict[str, tuple[asyncio.Task[Applied], float]] = {}

    async def perform(self, key: str, start: Callable[[], Coroutine[None, None, Applied]]) -> Applied | None:
        """The result, or None while it is still open. A caller that is cancelled cancels the action."""
        now = time.monotonic()
        self._calls = {k: v for k, v in self._calls.items() if not v[0].done() or now - v[1] < KEEP_RESULT}
        if key not in self._calls:
            self._calls[key] = (asyncio.create_task(start()), now)
        task = self._calls[key][0]
        try:
            done, _ = await asyncio.wait({task}, timeout=ANSWER_WITHIN)
        except asyncio.CancelledError:
            self._calls.pop(key, None)
            task.cancel()
            raise
        if not done:
            return None
        self._calls.pop(key, None)
        return task.result()
