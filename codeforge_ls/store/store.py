"""The store of a workspace: one writer, one reader, events and state in one transaction, views told after commit."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import TypeVar

import aiosqlite

from codeforge_ls.model.approvals import Approval, ApprovalState
from codeforge_ls.model.audit import AuditEntry, AuditFilter
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.checkpoints import Checkpoint
from codeforge_ls.model.errors import Conflict, InvalidInput, NotFound, Unavailable
from codeforge_ls.model.events import Delta, Event, EventDraft, EventType
from codeforge_ls.model.llm import Message
from codeforge_ls.model.runs import Plan, Run, RunStatus
from codeforge_ls.store import audit, reading, trail
from codeforge_ls.store.chain import COLUMNS, Head, StoredEvent, seal
from codeforge_ls.store.database import BUSY_SECONDS, PRAGMAS, READER_PRAGMAS, translated
from codeforge_ls.store.fold import told
from codeforge_ls.store.migrate import migrate
from codeforge_ls.store.projections import Statement, project
from codeforge_ls.store.reservations import Reservations

log = logging.getLogger(__name__)
T = TypeVar("T")

MAX_PAGE = 5000
INSERT = f"INSERT INTO events ({COLUMNS}) VALUES ({', '.join('?' * 13)})"  # noqa: S608 - our own words
ADVANCE = """
INSERT INTO streams (stream, seq, hash, first_time, last_time) VALUES (?, ?, ?, ?, ?)
ON CONFLICT (stream) DO UPDATE SET seq = excluded.seq, hash = excluded.hash, last_time = excluded.last_time
"""


class Store:
    """SQLite behind ``EventStore`` and ``StateStore``. Every method may raise Unavailable (locked, full, damaged)."""

    def __init__(self, path: Path, writer: aiosqlite.Connection, reader: aiosqlite.Connection) -> None:
        self.path = path
        self._writer, self._reader = writer, reader
        self._lock = asyncio.Lock()
        self._writing: set[asyncio.Task[object]] = set()
        self._subscribers: list[Callable[[Event], None]] = []
        self._delta_subscribers: list[Callable[[Delta], None]] = []
        self._closed = False
        self.reservations = Reservations(writer, self._transaction, self._whole)

    @classmethod
    async def open(cls, path: Path) -> Store:
        """Opens the file, makes it where it is missing, and brings it to this program's version."""
        await asyncio.to_thread(migrate, path)
        writer = await _connected(path, PRAGMAS)
        try:
            return cls(path, writer, await _connected(path, READER_PRAGMAS))
        except BaseException:
            await writer.close()
            raise

    async def append(
        self, *drafts: EventDraft, expect: Mapping[str, tuple[str, int]] | None = None
    ) -> list[Event]:
        """Stores the drafts and what they do to the state, all or nothing, then tells the subscribers.

        ``expect`` maps run, plan or approval to (id, version) that must still hold. Conflict: it does not, the id
        is taken, or a terminal state would be left. NotFound: an event names an unknown row. InvalidInput: a
        payload or stream does not fit the type. A cancelled call is still written wholly or not at all.
        """
        return await self._whole(self._append(drafts, expect or {}))

    async def events(self, stream: str, after: int = 0, limit: int = 500) -> list[Event]:
        """Events of one stream with a larger ``seq`` than ``after``; at most 5000 at once."""
        query = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND seq > ? ORDER BY seq LIMIT ?"  # noqa: S608 - our own words
        return await _told(await self._read(query, stream, after, _page(limit)))

    async def events_of(
        self, types: Sequence[EventType], *, stream: str | None = None, after: int = 0, limit: int = 500
    ) -> list[Event]:
        """Events of these types with a larger ``position``, of one stream or of all; at most 5000 at once."""
        marks = ", ".join("?" * len(types))
        query = (
            f"SELECT {COLUMNS} FROM events WHERE type IN ({marks}) AND position > ?"  # noqa: S608 - our own words
            " AND (? IS NULL OR stream = ?) ORDER BY position LIMIT ?"
        )
        names = [kind.value for kind in types]
        return await _told(await self._read(query, *names, after, stream, stream, _page(limit)))

    async def all_events(self, after_position: int = 0, limit: int = 500) -> list[Event]:
        """Events of all streams with a larger ``position``; at most 5000 at once."""
        query = f"SELECT {COLUMNS} FROM events WHERE position > ? ORDER BY position LIMIT ?"  # noqa: S608 - our own words
        return await _told(await self._read(query, after_position, _page(limit)))

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        """Calls back on the loop after each commit, in order of ``position``. Returns how to leave."""
        return _join(self._subscribers, callback)

    def publish_delta(self, delta: Delta) -> None:
        """Tells a live piece of an event that is still open; it is not stored."""
        _tell(self._delta_subscribers, delta)

    def subscribe_deltas(self, callback: Callable[[Delta], None]) -> Callable[[], None]:
        """Calls back with each delta, at once. Returns how to leave."""
        return _join(self._delta_subscribers, callback)

    async def run(self, run_id: str) -> Run:
        """One run. Raises NotFound."""
        return reading.run_of(await self._one(f"{reading.RUNS} WHERE id = ?", run_id, "run"))

    async def runs(self, limit: int = 50, statuses: Sequence[RunStatus] | None = None) -> list[Run]:
        """Runs, newest first, of these statuses or of any."""
        wanted = [status.value for status in (RunStatus if statuses is None else statuses)]
        query = f"{reading.RUNS} WHERE status IN ({', '.join('?' * len(wanted))})"
        rows = await self._read(f"{query} ORDER BY created_at DESC, id DESC LIMIT ?", *wanted, _page(limit))
        return await _each(rows, reading.run_of)

    async def plan(self, plan_id: str) -> Plan:
        """One plan with its steps. Raises NotFound."""
        row = await self._one(f"{reading.PLANS} WHERE id = ?", plan_id, "plan")
        return reading.plan_of(row, await self._read(reading.STEPS, plan_id))

    async def plans(self, limit: int = 50) -> list[Plan]:
        """Plans with their steps, newest first."""
        query = f"{reading.PLANS} ORDER BY created_at DESC, id DESC LIMIT ?"
        rows = await self._read(query, _page(limit))
        return [reading.plan_of(row, await self._read(reading.STEPS, row["id"])) for row in rows]

    async def approval(self, approval_id: str) -> Approval:
        """One approval. Raises NotFound."""
        return reading.approval_of(
            await self._one(f"{reading.APPROVALS} WHERE id = ?", approval_id, "approval")
        )

    async def approvals(self, state: ApprovalState | None = None, limit: int = 50) -> list[Approval]:
        """Approvals, newest first, in this state or in any."""
        query = f"{reading.APPROVALS} WHERE ? IS NULL OR state = ? ORDER BY created_at DESC, id DESC LIMIT ?"
        return await _each(await self._read(query, state, state, _page(limit)), reading.approval_of)

    async def checkpoint(self, checkpoint_id: str) -> Checkpoint:
        """One checkpoint. Raises NotFound."""
        query = f"{reading.CHECKPOINTS} WHERE id = ?"
        return reading.checkpoint_of(await self._one(query, checkpoint_id, "checkpoint"))

    async def checkpoints(self, stream: str | None = None, limit: int = 200) -> list[Checkpoint]:
        """Checkpoints, newest first, of this stream or of all."""
        query = (
            f"{reading.CHECKPOINTS} WHERE ? IS NULL OR stream = ? ORDER BY created_at DESC, id DESC LIMIT ?"
        )
        return await _each(await self._read(query, stream, stream, _page(limit)), reading.checkpoint_of)

    async def messages(self, run_id: str) -> list[Message]:
        """The conversation of a run, in order."""
        query = f"SELECT {COLUMNS} FROM events WHERE stream = ? AND type = ? ORDER BY seq"  # noqa: S608 - our own words
        rows = await self._read(query, f"run:{run_id}", EventType.RUN_MESSAGE.value)
        return [Message.model_validate(event.payload["message"]) for event in await _told(rows)]

    async def open_tool_calls(self, run_id: str) -> list[reading.OpenToolCall]:
        """Tool calls of a run that were requested or approved and have no result, in order."""
        rows = await self._read(reading.OPEN_CALLS, f"run:{run_id}")
        return [reading.open_call_of(row) for row in rows]

    async def verify(self, stream: str | None = None) -> list[str]:
        """Sentences that name the broken places of one hash chain, or of all; empty when sound."""
        return await asyncio.to_thread(audit.verify, self.path, stream)

    async def audit_trail(self, wanted: AuditFilter) -> list[AuditEntry]:
        """Lines of the audit trail."""
        return await asyncio.to_thread(trail.trail, self.path, wanted)

    async def compared_with(self, export: Path) -> list[str]:
        """Sentences that name where the log is not what an earlier export of the trail holds; empty when it is."""
        return await asyncio.to_thread(trail.compared, self.path, export)

    async def refold(self) -> JsonObject:
        """How the state tables differ from a fresh fold of the log; empty when they are equal."""
        return await asyncio.to_thread(audit.refold, self.path)

    async def drop_streams(self, older_than: float, export_dir: Path, actor: str) -> list[str]:
        """Exports whole streams whose last event is older than that moment (seconds since the epoch), drops them
        with their state, and appends one ``stream.dropped`` each to ``workspace``. Returns their names.

        Never the workspace's own stream, never that of a run or plan that has not ended.
        """
        dropped: list[str] = []
        for stream in await asyncio.to_thread(audit.droppable, self.path, older_than):
            try:
                export = await asyncio.to_thread(audit.export, self.path, stream, export_dir)
            except OSError as error:
                raise Unavailable(
                    f"Stream {stream} cannot be exported to {export_dir}: {error.strerror or error}.",
                    hint="It was not dropped. Make room or name another folder.",
                ) from error
            if await self._whole(self._drop(export, older_than, actor)):
                dropped.append(stream)
        return dropped

    async def stats(self) -> JsonObject:
        """Counts and sizes for ``health``: streams, events, last position, runs by status, bytes."""
        counts = await self._read(
            "SELECT (SELECT count(*) FROM streams), count(*), max(position) FROM events"
        )
        streams, events, position = counts[0]
        statuses = await self._read("SELECT status, count(*) FROM runs GROUP BY status")
        wal = self.path.with_name(f"{self.path.name}-wal")
        return {
            "streams": streams,
            "events": events,
            "last_position": position or 0,
            "runs": {row[0]: row[1] for row in statuses},
            "bytes": self.path.stat().st_size,
            "wal_bytes": wal.stat().st_size if wal.exists() else 0,
        }

    async def close(self) -> None:
        """Waits for what is being written and closes the file; later calls raise Unavailable. Idempotent."""
        if self._closed:
            return
        self._closed = True
        if self._writing:
            await asyncio.gather(*self._writing, return_exceptions=True)
        async with self._lock:
            await self._reader.close()
            await self._writer.close()

    async def _whole(self, work: Coroutine[object, object, T]) -> T:
        """Runs a transaction to its end even when the caller is cancelled."""
        if self._closed:
            work.close()
            raise Unavailable("The store is closed.", hint="The workspace is shutting down; start it again.")
        task = asyncio.ensure_future(work)
        self._writing.add(task)
        task.add_done_callback(self._written)
        return await asyncio.shield(task)

    def _written(self, task: asyncio.Task[object]) -> None:
        self._writing.discard(task)
        if not task.cancelled():
            task.exception()  # looked at, so that the error of a cancelled caller is not reported as lost

    @asynccontextmanager
    async def _transaction(self) -> AsyncIterator[list[Event]]:
        """A write transaction; the events put into the list are told after the commit."""
        async with self._lock:
            stored: list[Event] = []
            try:
                await self._writer.execute("BEGIN IMMEDIATE")
                yield stored
                await self._writer.execute("COMMIT")
            except BaseException as error:
                if self._writer.in_transaction:
                    await self._writer.execute("ROLLBACK")
                if isinstance(error, sqlite3.Error):
                    raise translated(error, self.path) from error
                if isinstance(error, OverflowError):
                    raise InvalidInput(f"A number in the payload is too large: {error}.") from error
                raise
            for event in stored:  # still under the lock: the next commit is told later
                _tell(self._subscribers, event)

    async def _append(
        self, drafts: Sequence[EventDraft], expect: Mapping[str, tuple[str, int]]
    ) -> list[Event]:
        async with self._transaction() as stored:
            for kind, (name, version) in expect.items():
                await self._expect(kind, name, version)
            for draft in drafts:
                stored.append(await self._store(draft))
        return stored

    async def _store(self, draft: EventDraft) -> Event:
        rows = list(
            await self._writer.execute_fetchall(
                "SELECT seq, hash, (SELECT seq FROM sqlite_sequence WHERE name = 'events') FROM (SELECT 1)"
                " LEFT JOIN streams ON stream = ?",
                (draft.stream,),
            )
        )
        seq, digest, last = rows[0]
        head = Head(seq, digest) if seq is not None else Head()
        row, event, statements = await asyncio.to_thread(_sealed, draft, head, (last or 0) + 1)
        await self._writer.execute(INSERT, tuple(vars(row).values()))
        await self._writer.execute(ADVANCE, (row.stream, row.seq, row.hash, row.time, row.time))
        for statement in statements:
            cursor = await self._writer.execute(statement.sql, statement.values)
            if cursor.rowcount != 1:
                raise NotFound(f"There is no {statement.row}, which {event.type} names.")
        return event

    async def _expect(self, kind: str, name: str, version: int) -> None:
        if kind not in reading.VERSIONS:
            raise InvalidInput(f"Versions are kept of {', '.join(reading.VERSIONS)}, not of {kind!r}.")
        rows = list(await self._writer.execute_fetchall(reading.VERSIONS[kind], (name,)))
        if not rows:
            raise NotFound(f"There is no {kind} {name}.", data={"kind": kind, "id": name})
        if rows[0][0] != version:
            raise Conflict(
                f"The {kind} {name} changed meanwhile.",
                hint="Read it again and decide anew.",
                data={"kind": kind, "id": name, "expected": version, "actual": rows[0][0]},
            )

    async def _drop(self, export: audit.Export, older_than: float, actor: str) -> bool:
        async with self._transaction() as stored:
            still = await self._writer.execute_fetchall(
                f"SELECT 1 FROM streams WHERE stream = ? AND seq = ? AND stream IN ({audit.DROPPABLE})",  # noqa: S608 - our own words
                (export.stream, export.head.seq, older_than),
            )
            if not list(still):  # something was appended while it was exported
                await asyncio.to_thread(export.path.unlink)
                return False
            await self._writer.execute("INSERT INTO drop_grants VALUES (?)", (export.stream,))
            for table in audit.OWNED_TABLES:
                await self._writer.execute(f"DELETE FROM {table} WHERE stream = ?", (export.stream,))  # noqa: S608 - our own words
            await self._writer.execute("DELETE FROM drop_grants")
            draft = EventDraft(
                stream="workspace",
                type=EventType.STREAM_DROPPED,
                payload=export.payload(actor),
                actor=actor,
            )
            stored.append(await self._store(draft))
        return True

    async def _read(self, query: str, *values: str | int | float | None) -> list[sqlite3.Row]:
        if self._closed:
            raise Unavailable("The store is closed.", hint="The workspace is shutting down; start it again.")
        try:
            return list(await self._reader.execute_fetchall(query, values))
        except sqlite3.Error as error:
            raise translated(error, self.path) from error
        except (OverflowError, UnicodeEncodeError) as error:
            raise InvalidInput(f"A value cannot be looked up: {error}.") from error

    async def _one(self, query: str, name: str, kind: str) -> sqlite3.Row:
        rows = await self._read(query, name)
        if not rows:
            raise NotFound(f"There is no {kind} {name!r}.", data={"kind": kind, "id": name})
        return rows[0]


async def _connected(path: Path, pragmas: Sequence[str]) -> aiosqlite.Connection:
    try:
        connection = await aiosqlite.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
    except sqlite3.Error as error:
        raise translated(error, path) from error
    connection.row_factory = sqlite3.Row
    try:
        for pragma in pragmas:
            await connection.execute(f"PRAGMA {pragma}")
    except sqlite3.Error as error:
        await connection.close()
        raise translated(error, path) from error
    return connection


async def _each(rows: Sequence[sqlite3.Row], read: Callable[[sqlite3.Row], T]) -> list[T]:
    # In a thread: a page of large rows takes longer to parse than the loop may wait.
    return await asyncio.to_thread(lambda: [read(row) for row in rows])


async def _told(rows: Sequence[sqlite3.Row]) -> list[Event]:
    return await _each(rows, lambda row: told(StoredEvent(*row)))


def _sealed(draft: EventDraft, head: Head, position: int) -> tuple[StoredEvent, Event, list[Statement]]:
    row, event = seal(draft, head, position)
    return row, event, project(event)


def _page(limit: int) -> int:
    return max(1, min(limit, MAX_PAGE))


def _join(subscribers: list[Callable[[T], None]], callback: Callable[[T], None]) -> Callable[[], None]:
    subscribers.append(callback)

    def leave() -> None:
        if callback in subscribers:
            subscribers.remove(callback)

    return leave


def _tell(subscribers: list[Callable[[T], None]], message: T) -> None:
    for callback in list(subscribers):
        try:
            callback(message)
        except Exception:
            log.exception("a subscriber failed")
