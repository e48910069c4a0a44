"""A terminal's view of one stream of events: the past from the store, then the present as it happens."""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.events import Delta, Event

if TYPE_CHECKING:
    from codeforge_ls.store import Store

WAITING = (
    10_000  # events and deltas kept for a terminal that does not read; then deltas go, events are read again
)
PAGE = 500


async def watch(
    store: Store, arguments: JsonValue, send: Callable[[JsonObject], Awaitable[None]]
) -> JsonObject:
    """Send the events of ``{"stream", "after"}`` in order, each once, and live deltas between them.

    It ends only when it is cancelled. Raises ``InvalidInput`` for wrong arguments.
    """
    stream, after = _checked(arguments)
    feed = _Feed(stream)
    leave_events, leave_deltas = store.subscribe(feed.event), store.subscribe_deltas(feed.delta)
    try:
        last = await _send_stored(store, stream, after, send)
        while True:
            item = await feed.next()
            if item is None or (item.seq is not None and item.seq > last + 1):
                last = await _send_stored(store, stream, last, send)
            elif item.seq is None or item.seq == last + 1:
                await send(item.content.model_dump(mode="json"))
                last = item.seq or last
    finally:
        leave_events()
        leave_deltas()


def _checked(arguments: JsonValue) -> tuple[str, int]:
    stream = arguments.get("stream") if isinstance(arguments, dict) else None
    after = arguments.get("after", 0) if isinstance(arguments, dict) else None
    if not isinstance(stream, str) or not stream:
        raise InvalidInput("watch needs the name of a stream, such as run:ID.", data={"field": "stream"})
    if not isinstance(after, int) or isinstance(after, bool) or not 0 <= after < 1 << 53:
        raise InvalidInput("after is the last known seq, 0 for all.", data={"field": "after"})
    return stream, after


async def _send_stored(
    store: Store, stream: str, after: int, send: Callable[[JsonObject], Awaitable[None]]
) -> int:
    last = after
    while page := await store.events(stream, last, PAGE):
        for event in page:
            await send(event.model_dump(mode="json"))
        last = page[-1].seq
    return last


class _Item:
    """An event with its seq, or a delta, which has none."""

    def __init__(self, content: Event | Delta, seq: int | None) -> None:
        self.content, self.seq = content, seq


class _Feed:
    """What waits for one terminal. ``None`` stands for events that were dropped and must be read again."""

    def __init__(self, stream: str) -> None:
        self._stream = stream
        self._items: deque[_Item] = deque()
        self._missed = False
        self._news = asyncio.Event()

    def event(self, event: Event) -> None:
        if event.stream == self._stream:
            self._put(_Item(event, event.seq))

    def delta(self, delta: Delta) -> None:
        if delta.stream == self._stream:
            self._put(_Item(delta, None))

    def _put(self, item: _Item) -> None:
        if len(self._items) < WAITING:
            self._items.append(item)
        elif item.seq is not None:
            self._missed = True
        self._news.set()

    async def next(self) -> _Item | None:
        while not self._items and not self._missed:
            self._news.clear()
            await self._news.wait()
        if self._items:
            return self._items.popleft()
        self._missed = False
        return None
