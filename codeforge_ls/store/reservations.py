"""Reservations: which idempotency keys were used for which call, and what the finished ones were answered.

They are about calls, not about the workspace: no event tells of them, no fold makes them anew, and after a day they
are gone. An answer holds what the log holds of the same call, no more.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Coroutine
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass
from typing import Protocol, TypeVar

import aiosqlite

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.events import Event

KEEP_SECONDS = 86_400.0
MAX_ANSWER = 1_000_000  # bytes; of a larger one only the size is kept

PURGE = "DELETE FROM reservations WHERE created_at < ?"
FIND = """
SELECT arguments, state, answer, bytes FROM reservations WHERE operation = ? AND caller = ? AND key = ?
"""
RESERVE = """
INSERT INTO reservations (operation, caller, key, arguments, state, created_at)
VALUES (?, ?, ?, ?, 'reserved', ?)
"""
FINISH = """
UPDATE reservations SET state = 'done', answer = ?, bytes = ? WHERE operation = ? AND caller = ? AND key = ?
"""
RELEASE = "DELETE FROM reservations WHERE operation = ? AND caller = ? AND key = ?"

T = TypeVar("T")
Transaction = Callable[[], AbstractAsyncContextManager[list[Event]]]


class Whole(Protocol):
    """Runs a transaction to its end even when the caller is cancelled."""

    async def __call__(self, work: Coroutine[object, object, T]) -> T: ...


@dataclass(frozen=True)
class Scope:
    """What a key belongs to: two callers, or two operations, may use the same one."""

    operation: str
    caller: str
    key: str


@dataclass(frozen=True)
class Reservation:
    """A key that was used. ``arguments`` is the hash of what it was used for.

    ``answer`` is None while it is not ``done``, and where it was too large to be kept; then ``bytes`` is its size.
    """

    arguments: str
    done: bool
    answer: JsonObject | None
    bytes: int


class Reservations:
    """The table of a store. Every method may raise Unavailable, as the store's do."""

    def __init__(self, writer: aiosqlite.Connection, transaction: Transaction, whole: Whole) -> None:
        self._writer, self._transaction, self._whole = writer, transaction, whole

    async def reserve(self, scope: Scope, arguments: str) -> Reservation | None:
        """Reserves the key and returns None, or returns who has it. Forgets first what is older than a day."""
        return await self._whole(self._reserve(scope, arguments))

    async def finish(self, scope: Scope, answer: JsonObject) -> None:
        """Keeps the answer of a reserved call."""
        text = json.dumps(answer, separators=(",", ":"))
        kept = text if len(text) <= MAX_ANSWER else None
        await self._whole(self._write(FINISH, kept, len(text), *vars(scope).values()))

    async def release(self, scope: Scope) -> None:
        """Forgets the key: the call came to nothing."""
        await self._whole(self._write(RELEASE, *vars(scope).values()))

    async def purge(self) -> None:
        """Forgets what is older than a day."""
        await self._whole(self._write(PURGE, time.time() - KEEP_SECONDS))

    async def _reserve(self, scope: Scope, arguments: str) -> Reservation | None:
        now = time.time()
        async with self._transaction():
            await self._writer.execute(PURGE, (now - KEEP_SECONDS,))
            for row in await self._writer.execute_fetchall(FIND, tuple(vars(scope).values())):
                answer = json.loads(row["answer"]) if row["answer"] is not None else None
                done = row["state"] == "done"
                return Reservation(row["arguments"], done, answer, row["bytes"])
            await self._writer.execute(RESERVE, (*vars(scope).values(), arguments, now))
        return None

    async def _write(self, sql: str, *values: str | int | float | None) -> None:
        async with self._transaction():
            await self._writer.execute(sql, values)
