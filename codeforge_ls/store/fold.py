"""Folding the log: state tables from events alone, and what differs from the tables that are there.

The tables of a passing migration (``reservations``) are neither log nor state: they are not folded or compared.
"""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterator

from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import NotFound, Unavailable
from codeforge_ls.model.events import Event
from codeforge_ls.store.chain import COLUMNS, StoredEvent
from codeforge_ls.store.projections import STATE_TABLES, project
from codeforge_ls.store.upcasters import upcast

MAX_DIFFERENCES = 20  # shown per table
HEADS = """
SELECT stream, max(seq), (SELECT hash FROM events AS last WHERE last.stream = events.stream ORDER BY seq DESC LIMIT 1),
    (SELECT time FROM events AS first WHERE first.stream = events.stream ORDER BY seq LIMIT 1),
    (SELECT time FROM events AS last WHERE last.stream = events.stream ORDER BY seq DESC LIMIT 1)
FROM events GROUP BY stream ORDER BY stream
"""


def told(row: StoredEvent) -> Event:
    """The event as readers see it: its payload in today's shape. Unavailable where somebody tampered with it."""
    try:
        payload = upcast(row.type, row.schema_version, json.loads(row.payload))
        return Event(**(vars(row) | {"payload": payload}))
    except ValueError as error:
        raise Unavailable(
            f"Event #{row.seq} of {row.stream} cannot be read: {str(error)[:200]}",
            hint="Its row was changed; `codeforge.events.verify` lists all such places.",
        ) from error


def stored_events(connection: sqlite3.Connection, order: str = "position") -> Iterator[StoredEvent]:
    """All rows of the log, in the order of ``position`` or of ``stream, seq``."""
    query = f"SELECT {COLUMNS} FROM events ORDER BY {order}"  # noqa: S608 - our own words
    for row in connection.execute(query):
        yield StoredEvent(*row)


def fold_into(source: sqlite3.Connection, target: sqlite3.Connection) -> None:
    """Applies every event of ``source`` to the (empty) state tables of ``target``."""
    for row in stored_events(source):
        for statement in project(told(row)):
            if target.execute(statement.sql, statement.values).rowcount != 1:
                raise NotFound(f"Event {row.id} ({row.type}) names an unknown {statement.row}.")


def differences(source: sqlite3.Connection, folded: sqlite3.Connection) -> JsonObject:
    """``{table: [{key, table, log}, ...]}`` for rows that differ; at most 20 a table, empty when all are equal."""
    found: JsonObject = {}
    for table in STATE_TABLES:
        here, there = _rows(source, table), _rows(folded, table)
        found |= _compared(table, here, there)
    heads = "SELECT stream, seq, hash, first_time, last_time FROM streams ORDER BY stream"
    found |= _compared("streams", _keyed(source, heads, 1), _keyed(source, HEADS, 1))
    return found


def _compared(name: str, here: dict[str, list[JsonValue]], there: dict[str, list[JsonValue]]) -> JsonObject:
    keys = sorted(key for key in here.keys() | there.keys() if here.get(key) != there.get(key))
    listed: list[JsonValue] = [
        {"key": key, "table": here.get(key), "log": there.get(key)} for key in keys[:MAX_DIFFERENCES]
    ]
    return {name: listed} if listed else {}


def _rows(connection: sqlite3.Connection, table: str) -> dict[str, list[JsonValue]]:
    keys = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if row[5]]
    columns = [row[1] for row in connection.execute(f"PRAGMA table_info({table})") if not row[5]]
    query = f"SELECT {', '.join(keys + columns)} FROM {table}"  # noqa: S608 - names out of the schema
    return _keyed(connection, query, len(keys))


def _keyed(connection: sqlite3.Connection, query: str, keys: int) -> dict[str, list[JsonValue]]:
    return {json.dumps(row[:keys]): list(row[keys:]) for row in connection.execute(query)}
