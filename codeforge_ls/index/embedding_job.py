"""Has an embedding model say what chunks and queries mean: in batches, in the background, and never twice."""

from __future__ import annotations

import asyncio
import base64
import logging
import time
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, Unavailable
from codeforge_ls.model.index import IndexState, IndexStatus, LegState
from codeforge_ls.model.llm import Embeddings
from codeforge_ls.workers import Worker

log = logging.getLogger(__name__)

CHUNKS_AT_ONCE = 512  # that the index worker hands out; they are sent in batches
RETRY_SECONDS = 5.0  # after a failure
QUERY_PAUSE = 5.0  # after a query without an answer, so that not each one waits for its time-out
QUERIES = 256  # whose vectors are kept


class Embedder(Protocol):
    """A model of vectors. ``name`` tells its vector space from others."""

    name: str

    async def embed(self, texts: Sequence[str]) -> Embeddings:
        """The vectors of the texts, in order. Raises ``Unavailable``, which says why."""
        ...


@dataclass(frozen=True)
class EmbeddingService:
    """An embedder, how many texts it gets in one call, how long (seconds) a search waits for it; ``may_send`` gives the
    judge of which paths may be sent to it now."""

    embedder: Embedder
    may_send: Callable[[], Callable[[str], bool]]
    batch: int = 64
    query_seconds: float = 2.0


class EmbeddingJob:
    """``writer`` is the index worker, which keeps the vectors. ``on_progress`` is told when the state changes."""

    def __init__(self, writer: Worker, service: EmbeddingService, on_progress: Callable[[], None]) -> None:
        self._writer, self._service, self._embedder = writer, service, service.embedder
        self._on_progress = on_progress
        self._wake = asyncio.Event()
        self._seen = -1
        self._have, self._of, self._note = 0, 0, ""
        self._queries: OrderedDict[str, JsonObject] = OrderedDict()
        self._not_before = 0.0

    def look(self, status: IndexStatus) -> None:
        """The index has got this far; what is new is embedded once a build is over."""
        if status.state is IndexState.READY and status.generation != self._seen:
            self._seen = status.generation
            self._wake.set()

    def state(self) -> LegState:
        """How far it is, and why it does not go on."""
        percent = round(100.0 * self._have / self._of, 1) if self._of else 0.0
        state = "failed" if self._note else "ready" if self._of and self._have == self._of else "building"
        note = f"{self._note} Word vectors answer meanwhile." if self._note else ""
        return LegState(name="embedding", state=state, percent=percent, note=note)

    async def run(self) -> None:
        """Embed what lacks vectors, for ever."""
        while True:
            await self._wake.wait()
            self._wake.clear()
            try:
                while await self._some():
                    self._on_progress()
                continue
            except CodeForgeError as error:
                self._failed(error)
            except Exception:
                log.exception("embedding failed")
                self._note = "Internal error; see `codeforge logs errors`."
            self._on_progress()
            await asyncio.sleep(RETRY_SECONDS)
            self._wake.set()

    async def query(self, text: str) -> JsonObject | None:
        """The vector of a query for the query worker; None, and a note in the state, when there is none in time."""
        known = self._queries.get(text)
        if known is None and time.monotonic() >= self._not_before and self._have:
            seconds = self._service.query_seconds
            try:
                async with asyncio.timeout(seconds):  # the first call waits for litellm to be imported, too
                    found = await self._embedder.embed([text])
            except (CodeForgeError, TimeoutError) as error:
                self._not_before = time.monotonic() + QUERY_PAUSE
                late = Unavailable(f"The vector of a query was not there after {seconds:g} s.")
                self._failed(error if isinstance(error, CodeForgeError) else late)
                return None
            known = {
                "space": self._embedder.name, "dimensions": found.dimensions, "vector": found.vectors,
            }  # fmt: skip
            self._note = ""
            self._queries[text] = known
            if len(self._queries) > QUERIES:
                self._queries.popitem(last=False)
        return known

    async def _some(self) -> bool:
        """Embed the next chunks; whether there were any."""
        asked: JsonObject = {"space": self._embedder.name, "chunks": CHUNKS_AT_ONCE}
        raw = await self._writer.call("embed_next", asked, repeat=True)
        if not isinstance(raw, dict):
            return False
        self._have, self._of = int(str(raw["have"])), int(str(raw["of"]))
        items = [item for item in _list(raw["items"]) if isinstance(item, dict)]
        for put in await self._withheld(items):
            items.remove(put)
        texts = [str(text) for item in items for text in _list(item["texts"])]
        rows = bytearray()
        for start in range(0, len(texts), self._service.batch):
            found = await self._embedder.embed(texts[start : start + self._service.batch])
            rows += base64.b64decode(found.vectors)
            width = 4 * found.dimensions
            while items and len(rows) >= (need := width * len(_list(items[0]["texts"]))):
                await self._put(items.pop(0), found.dimensions, bytes(rows[:need]))
                del rows[:need]
            self._note = ""
            self._on_progress()
        return bool(_list(raw["items"]))

    async def _withheld(self, items: Sequence[JsonObject]) -> list[JsonObject]:
        """Put nothing for contents of protected files, and for those without chunks, so that they are not met again."""
        may_send = self._service.may_send()
        never = [
            item
            for item in items
            if not _list(item["texts"]) or not all(may_send(str(path)) for path in _list(item["paths"]))
        ]
        for item in never:
            await self._put(item, 0, b"")
        return never

    async def _put(self, item: JsonObject, dimensions: int, rows: bytes) -> None:
        done: JsonObject = {
            "space": self._embedder.name,
            "content": item["content"],
            "dimensions": dimensions,
            "vectors": base64.b64encode(rows).decode(),
        }
        await self._writer.call("embed_put", done, repeat=True)
        self._have += 1

    def _failed(self, error: CodeForgeError) -> None:
        if error.message != self._note:
            log.warning("embedding: %s", error.text)
        self._note = error.message


def _list(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []
