"""Puts questions to the query worker: what is asked is checked, and what it reports unusable is written anew."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable

from codeforge_ls.index.changes import lone_surrogate
from codeforge_ls.index.feed import Feed
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.index import IndexState, IndexStatus
from codeforge_ls.workers import Worker

log = logging.getLogger(__name__)

# So long after the start a question about definitions waits for the first build: half of a map helps nobody.
FIRST_BUILD_SECONDS, LOOK_SECONDS = 4.0, 0.02
BEFORE_READY = {IndexState.EMPTY, IndexState.BUILDING}
# A question waits this long for changes on their way, if they are few: it should know the last key stroke.
SETTLE_SECONDS, SETTLE_CHANGES = 0.25, 20
MAX_QUERY, MAX_NAME = 10_000, 500
# Answers pass through the event loop: these keep each under a few milliseconds of decoding.
MAX_LIMIT, MAX_SYMBOLS, MAX_BUDGET = 200, 5_000, 100_000


class Asking:
    """The way to the query worker (``reader``), beside the ``feed`` of the index worker; ``status`` is the index's."""

    def __init__(self, reader: Worker, feed: Feed, status: Callable[[], IndexStatus]) -> None:
        self.reader, self.feed, self._status = reader, feed, status
        self._writing_graph: asyncio.Task[bool] | None = None
        self._patience_ends = time.monotonic() + FIRST_BUILD_SECONDS

    def stop(self) -> None:
        """Nobody waits for a new graph any more."""
        if self._writing_graph is not None:
            self._writing_graph.cancel()

    async def ask(self, method: str, params: JsonObject, *, patient: bool = True) -> JsonObject:
        """The answer. What the query worker finds unusable is written anew meanwhile. Raises ``Unavailable``.

        When ``patient``, a question about definitions waits for the first build if that is a short one.
        """
        if not self.feed.is_settled and self.feed.pending <= SETTLE_CHANGES:
            await self.feed.settled(SETTLE_SECONDS)
        raw = await (self._answer_of_definitions if patient else self._answer)(method, params)
        if raw.get("bad_segment"):
            log.warning("the base segment is unusable: %s", raw["bad_segment"])
            await self.feed.tried(self.feed.worker.call("drop_segment", {}))
        if raw.get("bad_vectors"):
            log.warning("vectors of segments are unusable: %s", raw["bad_vectors"])
            await self.feed.tried(self.feed.worker.call("drop_vectors", {"segments": raw["bad_vectors"]}))
        if raw.get("graph_stale"):
            self._renew_graph(damaged=raw["graph_stale"] == "damaged")
        return raw

    async def _answer(self, method: str, params: JsonObject) -> JsonObject:
        raw = await self.reader.call(method, params, repeat=True)
        if not isinstance(raw, dict):
            raise Unavailable("The query worker gave no answer.", hint="Try again.")
        return raw

    async def _answer_of_definitions(self, method: str, params: JsonObject) -> JsonObject:
        """The same; where the graph was missing, once more at the end of a short first build."""
        try:
            raw = await self._answer(method, params)
        except Unavailable:  # there was not even a database
            if not await self._built_soon():
                raise
        else:
            if not raw.get("graph_stale") or not await self._built_soon():
                return raw
        return await self._answer(method, params)

    async def _built_soon(self) -> bool:
        """Wait for the first build, but not for a long one; False when there is nothing to wait for."""
        waited = False
        while time.monotonic() < self._patience_ends and (status := self._status()).state in BEFORE_READY:
            if status.percent >= 100 and status.generation > 0:
                return True  # all is parsed; the rest is writing
            waited = True
            await asyncio.sleep(LOOK_SECONDS)
        return waited

    def _renew_graph(self, *, damaged: bool) -> None:
        """Have the code graph written again, once at a time, and not while a build will do it anyway."""
        idle = self._writing_graph is None or self._writing_graph.done()
        if idle and self._status().state is IndexState.READY:
            self._writing_graph = asyncio.create_task(
                self.feed.tried(self.feed.worker.call("write_graph", {"damaged": damaged}))
            )

    def condition(self, raw: JsonObject) -> IndexStatus:
        """The status for an answer: files the reader has not taken in yet are stale too."""
        status, unread = self._status(), raw.get("unread")
        if isinstance(unread, int) and unread:
            status = status.model_copy(update={"stale_files": status.stale_files + unread})
        return status


def only(raw: JsonObject, model: type[Frozen]) -> JsonObject:
    """The fields of a model out of an answer that carries more."""
    return {name: value for name, value in raw.items() if name in model.model_fields}


def items(raw: JsonObject, key: str) -> list[JsonValue]:
    """The list under a key; empty where there is none."""
    value = raw.get(key)
    return value if isinstance(value, list) else []


def text(field: str, value: object, most: int) -> str:
    """What was given for a field, if it is text of at most so many characters. Raises ``InvalidInput``."""
    if not isinstance(value, str) or not value.strip():
        raise InvalidInput(f"{field} must be text.", data={"field": field})
    if lone_surrogate(value):
        raise InvalidInput(f"{field} has half of a surrogate pair, which is no text.", data={"field": field})
    if len(value) > most:
        raise InvalidInput(f"{field} is longer than {most} characters.", data={"field": field})
    return value


def within(field: str, value: object, least: int, most: int) -> int:
    """What was given for a field, if it is a whole number in this range. Raises ``InvalidInput``."""
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidInput(f"{field} must be a whole number from {least} to {most}.", data={"field": field})
    return value
