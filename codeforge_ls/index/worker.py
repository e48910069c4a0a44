"""The index worker: the only writer of index.db. It lists, has files parsed, stores, and has the rest written."""

from __future__ import annotations

import asyncio
import logging
import os
import sqlite3
import sys
import time
from collections.abc import Coroutine
from pathlib import Path

from codeforge_ls.child import give_back_memory
from codeforge_ls.index.database import Counts, IndexDatabase, put_aside
from codeforge_ls.index.embedding_cache import EmbeddingCache
from codeforge_ls.index.explain import explain
from codeforge_ls.index.files import IGNORE_FILE, ignored_paths, list_files
from codeforge_ls.index.graph_keeper import GraphKeeper
from codeforge_ls.index.intake import Intake
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.parser_pool import ParserPool
from codeforge_ls.index.segment_keeper import SegmentKeeper
from codeforge_ls.index.vector_job import VectorJob
from codeforge_ls.logs import stop_logging
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.index import IndexState, IndexStatus, LegState
from codeforge_ls.workers import Emit, Handler, serve

log = logging.getLogger(__name__)

COUNT_SECONDS = 2.0  # while building, files and symbols are counted so often
STATUS_SECONDS = 0.2  # status notices come no closer together than this
SIDE_BY_SIDE = 32  # files on their way at once while building
MANY_CHANGES = 2_000  # from here on listing the workspace again is cheaper than looking at each path


class IndexWorker:
    """One workspace's index. ``notify`` sends notices to the daemon."""

    def __init__(self, root: Path, state: Path, limits: Limits, notify: Emit) -> None:
        self._root, self._state, self._limits, self._notify = root, state, limits, notify
        self._db = _open(state / "index.db")
        self._pool = ParserPool(root, limits)
        self._intake = Intake(root, limits, self._db, self._pool)
        self._graph = GraphKeeper(self._db, state)
        self._building = asyncio.Lock()
        self._state_now = IndexState.READY if self._db.segments() else IndexState.EMPTY
        self._found, self._left, self._not_listed = len(self._intake.files), 0, 0
        self._rate = 0.0
        self._counted: tuple[int, float, Counts] = (-1, 0.0, (0, 0, 0, {}, 0))
        self._status_task: asyncio.Task[None] | None = None
        self._background: set[asyncio.Task[None]] = set()
        self._rebuild_waiting = False
        self.embeddings = EmbeddingCache(state)
        folder = state / "segments"
        self._vectors = VectorJob(folder, self._db.segments, self._send_status)
        self._segments = SegmentKeeper(
            self._db, state, folder, lambda: self._spawn(self._vectors.write_missing())
        )
        self._reset_overlays()

    def _reset_overlays(self) -> None:
        """Unsaved texts belong to editors: whoever starts this worker sends the ones that are still open."""
        gone = self._db.overlays()
        if gone:
            self._db.begin()
            for path in gone:
                self._db.set_overlay(path, None)
            self._db.drop_content(gone.values())
            self._db.commit(gone)

    async def close(self) -> None:
        """End the parsers and close the database, so that its journal is written back."""
        await self._pool.close()
        self.embeddings.close()
        self._db.close()

    # -- requests

    async def build(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Bring the index up to date with the disk; ``force`` parses everything again. Returns the status."""
        async with self._building:
            self._state_now = IndexState.BUILDING
            self._send_status()
            try:
                await self._build(force=bool(params.get("force")))
                self._state_now = IndexState.READY
            except BaseException:
                self._state_now = IndexState.ERROR
                raise
            finally:
                self._send_status()
        return self._status_json()

    async def change(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Take in unsaved texts, closed documents and changed paths; returns the generation that has them."""
        overlays = dict(_pairs(params.get("overlays")))
        closed, paths = _strings(params.get("closed")), set(_strings(params.get("paths")))
        if await asyncio.to_thread(self._needs_listing, paths):
            self._spawn(self._rebuild())
            paths = set()
        fresh = {path for path in (*paths, *overlays) if not self._intake.knows(path)}
        if fresh:
            ignored = await asyncio.to_thread(ignored_paths, self._root, fresh, self._limits.exclude)
            paths -= ignored
            overlays = {path: text for path, text in overlays.items() if path not in ignored}
        self._intake.close_overlays(closed)
        await asyncio.gather(
            *(self._intake.take_text(path, text) for path, text in overlays.items()),
            *(self._intake.take_file(path, urgent=True) for path in sorted(paths)),
        )
        generation = self._intake.commit()
        self._send_status()
        self._spawn(self._segments.refresh())
        return {"generation": generation}

    async def skipped(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The files that are left out: ``[[path, reason, size], ...]``."""
        limit = params.get("limit")
        return [list(row) for row in self._db.skips(int(limit) if isinstance(limit, int) else 1000)]

    async def status(self, _params: JsonObject, _emit: Emit) -> JsonValue:
        """The present status, and how many files this process has had parsed."""
        return {
            "status": self._status_json(),
            "parses": self._pool.parses,
            "killed": self._pool.killed,
            "tag_seconds": round(self._pool.tag_seconds, 3),
            "word_seconds": round(self._pool.word_seconds, 3),
            "segment_seconds": round(self._segments.seconds, 3),
        }

    # -- building

    async def _build(self, *, force: bool) -> None:
        if force:
            self._db.begin()
            self._db.forget_contents()
            self._db.set_meta("segments", "[]")
            self._db.set_meta("segment_sizes", "[]")
            self._db.commit(self._intake.files)
            self._intake.reload()
        listing = await asyncio.to_thread(list_files, self._root, self._limits)
        self._not_listed = listing.not_listed
        todo = self._intake.compare(listing)
        self._found, self._left = len(listing.files), len(todo)
        self._send_status()
        await self._take_all(todo)
        self._intake.end_build()
        self._db.begin()
        self._db.drop_old_contents()
        self._db.commit()
        self._db.forget_names()
        self._db.write_back()
        # One after the other: together they would make the peak of memory, and the scan answers meanwhile.
        await self._graph.write_if_missing()
        await self._segments.refresh()
        if todo:
            give_back_memory()
            log.info(
                "looked at %d files; CPU seconds so far: symbols %.2f, words %.2f, segments %.2f",
                len(todo), self._pool.tag_seconds, self._pool.word_seconds, self._segments.seconds,
            )  # fmt: skip

    async def _take_all(self, todo: list[str]) -> None:
        started, total, queue = time.monotonic(), len(todo), iter(todo)

        async def lane() -> None:
            for path in queue:
                await self._intake.take_file(path, urgent=False)
                self._left -= 1
                self._rate = (total - self._left) / max(time.monotonic() - started, 1e-3)
                self._send_status()

        await asyncio.gather(*(lane() for _ in range(SIDE_BY_SIDE)))

    async def _rebuild(self) -> None:
        """List the workspace again; one such wish in waiting stands for all."""
        if not self._rebuild_waiting:
            self._rebuild_waiting = True
            async with self._building:
                self._rebuild_waiting = False
            await self.build({}, lambda _event: None)

    def _needs_listing(self, paths: set[str]) -> bool:
        """Whether these changes are better answered by listing the workspace: many, ignore rules, or folders."""
        if len(paths) > MANY_CHANGES:
            return True
        for path in paths:
            if path in {"", "."} or path.rpartition("/")[2] in {".gitignore", IGNORE_FILE}:
                return True
            if (self._root / path).is_dir() or (
                path not in self._intake.files and self._intake.has_below(path)
            ):
                return True
        return False

    # -- segments

    async def drop_segment(self, _params: JsonObject, _emit: Emit) -> JsonValue:
        """A reader found a segment unusable: forget them all and write others."""
        self._segments.forget()
        self._spawn(self._segments.refresh())
        return None

    async def drop_vectors(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """A reader found the vectors of some segments unusable: write those anew."""
        self._vectors.forget(_strings(params.get("segments")))
        self._spawn(self._vectors.write_missing())
        return None

    async def explain(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Why a file is, or is not, in the index."""
        database = self._state / "index.db"
        return await asyncio.to_thread(explain, self._root, self._limits, database, str(params["path"]))

    async def write_graph(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """A reader finds the code graph damaged or too old: have it written again."""
        await self._graph.write(damaged=bool(params.get("damaged")))
        return None

    # -- status

    def _send_status(self) -> None:
        """Send the status soon: at once, then at most every ``STATUS_SECONDS``."""
        if self._status_task is None or self._status_task.done():
            self._notify({"status": self._status_json()})
            self._status_task = asyncio.create_task(self._later_status())

    async def _later_status(self) -> None:
        before = self._fingerprint()
        await asyncio.sleep(STATUS_SECONDS)
        while self._fingerprint() != before:
            before = self._fingerprint()
            self._notify({"status": self._status_json()})
            await asyncio.sleep(STATUS_SECONDS)

    def _fingerprint(self) -> tuple[object, ...]:
        return self._state_now, self._left, self._found, self._db.generation, *self._legs()

    def _legs(self) -> tuple[LegState, ...]:
        lexical = self._db.segments()
        words = LegState(name="bm25", state="ready" if lexical else "building", percent=100 if lexical else 0)
        return words, self._vectors.state()

    def _status_json(self) -> JsonObject:
        files, symbols, chunks, languages, skipped = self._counts()
        percent = 100.0 if not self._found else 100.0 * (self._found - self._left) / self._found
        notes = [*sorted(self._intake.missing), *self._intake.quarantine_note()]
        status = IndexStatus(
            state=self._state_now,
            percent=round(max(0.0, min(100.0, percent)), 1),
            files=files,
            symbols=symbols,
            chunks=chunks,
            stale_files=self._left if self._state_now is IndexState.BUILDING else 0,
            skipped=skipped + self._not_listed,
            languages=languages,
            files_per_second=round(self._rate, 1),
            generation=self._db.generation,
            message="; ".join(notes),
            legs=self._legs(),
        )
        return status.model_dump(mode="json")

    def _counts(self) -> Counts:
        """The counts of the present generation; a little behind while building, for counting takes time too."""
        now = time.monotonic()
        building = self._state_now is IndexState.BUILDING
        if self._counted[0] != self._db.generation and not (building and now < self._counted[1]):
            self._counted = self._db.generation, now + COUNT_SECONDS, self._db.counts()
        return self._counted[2]

    def _spawn(self, work: Coroutine[None, None, None]) -> None:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._finished)

    def _finished(self, task: asyncio.Task[None]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()):
            _end_if_damaged(error)
            log.error("background work of the index failed", exc_info=error)


def _open(path: Path) -> IndexDatabase:
    """Open index.db; a damaged or older one is put aside, for everything in it can be rebuilt."""
    try:
        return IndexDatabase(path)
    except sqlite3.DatabaseError as error:
        if isinstance(error, sqlite3.OperationalError) and "locked" in str(error):
            raise
        log.warning("index.db is unusable (%s); moved to %s", error, put_aside(path))
        return IndexDatabase(path)


def _end_if_damaged(error: BaseException) -> None:
    """A database found damaged at work: end here. The next start puts it aside, and the daemon sends all again."""
    if isinstance(error, sqlite3.DatabaseError) and not isinstance(error, sqlite3.OperationalError):
        log.critical("index.db is damaged: %s", error)
        stop_logging()
        os._exit(3)


def _strings(value: JsonValue) -> list[str]:
    return [str(one) for one in value] if isinstance(value, list) else []


def _pairs(value: JsonValue) -> list[tuple[str, str]]:
    """``{path: text}`` as pairs."""
    return [(path, str(text)) for path, text in value.items()] if isinstance(value, dict) else []


async def main() -> None:
    """Arguments: workspace root, state folder, limits as JSON."""
    root, state, limits = Path(sys.argv[1]), Path(sys.argv[2]), Limits.from_json(sys.argv[3])
    notices: asyncio.Queue[JsonObject] = asyncio.Queue()
    worker = IndexWorker(root, state, limits, notices.put_nowait)

    async def background(send: Emit) -> None:
        while True:
            send(await notices.get())

    handlers = {
        "build": worker.build,
        "change": worker.change,
        "skipped": worker.skipped,
        "status": worker.status,
        "drop_segment": worker.drop_segment,
        "drop_vectors": worker.drop_vectors,
        "write_graph": worker.write_graph,
        "explain": worker.explain,
        "embed_next": worker.embeddings.next,
        "embed_put": worker.embeddings.take,
    }
    try:
        await serve(
            "index-worker", {name: _guarded(handler) for name, handler in handlers.items()}, background
        )
    finally:
        await worker.close()


def _guarded(handler: Handler) -> Handler:
    async def call(params: JsonObject, emit: Emit) -> JsonValue:
        try:
            return await handler(params, emit)
        except sqlite3.DatabaseError as error:
            _end_if_damaged(error)
            raise

    return call


if __name__ == "__main__":
    asyncio.run(main())
