"""The audit trail read from the log, in a thread: lines about consent, policy, delivery and going back."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Callable, Iterable
from pathlib import Path

from codeforge_ls.model.audit import AuditAction, AuditEntry, AuditFilter
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, NotFound
from codeforge_ls.model.events import Event, EventType
from codeforge_ls.store.chain import COLUMNS, StoredEvent
from codeforge_ls.store.database import connect
from codeforge_ls.store.fold import told

MAX_TEXT = 500  # characters of one column
MAX_BROKEN = 100  # places that a comparison names
ACTIONS: dict[str, AuditAction] = {
    EventType.APPROVAL_REQUESTED: AuditAction.APPROVAL,
    EventType.APPROVAL_ANSWERED: AuditAction.APPROVAL,
    EventType.APPROVAL_CONSUMED: AuditAction.APPROVAL,
    EventType.TOOLCALL_DENIED: AuditAction.DENIAL,
    EventType.POLICY_CHANGED: AuditAction.POLICY,
    EventType.TRUST_CHANGED: AuditAction.TRUST,
    EventType.KEYS_CHANGED: AuditAction.KEYS,
    EventType.CONFIG_CHANGED: AuditAction.SETTINGS,
    EventType.HTTP_DOOR_CHANGED: AuditAction.SETTINGS,
    EventType.CHECKPOINT_RESTORED: AuditAction.REWIND,
    EventType.STREAM_DROPPED: AuditAction.DROP,
}
DELIVERY = "delivery."  # how the types of events about deliveries begin
# The last action that was let through in this stream before an event: the gate lets one through at a time.
LET_THROUGH = """
SELECT payload FROM events WHERE stream = ? AND seq < ? AND type = 'run.toolcall.approved' ORDER BY seq DESC LIMIT 1
"""
CALLED = "SELECT tool, arguments FROM tool_calls WHERE stream = ? AND call_id = ? ORDER BY seq DESC LIMIT 1"
ASKED = "SELECT base FROM approvals WHERE id = ?"


def trail(path: Path, wanted: AuditFilter) -> list[AuditEntry]:
    """The lines that fit, in the order asked for. ``Unavailable``: the log cannot be read."""
    if wanted.run_id is not None and wanted.stream is not None:
        raise InvalidInput("Give either run_id or stream.", data={"field": "stream"})
    where, values = _conditions(wanted)
    direction = "DESC" if wanted.order == "newest" else "ASC"
    query = f"SELECT {COLUMNS} FROM events WHERE {where} ORDER BY position {direction} LIMIT ?"  # noqa: S608 - our own words
    with connect(path, read_only=True) as connection:
        connection.execute("BEGIN")  # one snapshot for events and what they name
        events = [told(StoredEvent(*row)) for row in connection.execute(query, (*values, wanted.limit))]
        return [_entry(connection, event, full=wanted.full) for event in events]


def compared(path: Path, export: Path) -> list[str]:
    """Sentences that name events of an earlier export which the log does not hold any more, or holds otherwise.

    Who can write the database can make its chains anew; an export that was kept elsewhere shows it.
    """
    broken: list[str] = []
    with connect(path, read_only=True) as connection:
        for number, hashed in _exported(export):
            stream, seq, digest = hashed
            row = connection.execute(
                "SELECT hash FROM events WHERE stream = ? AND seq = ?", (stream, seq)
            ).fetchone()
            if row is None:
                dropped = connection.execute(
                    "SELECT 1 FROM events WHERE stream = 'workspace' AND type = 'stream.dropped'"
                    " AND json_extract(payload, '$.stream') = ?",
                    (stream,),
                ).fetchone()
                if dropped is None:
                    broken.append(f"{stream} #{seq} (line {number}): is not in the log any more")
            elif row[0] != digest:
                broken.append(f"{stream} #{seq} (line {number}): is another event in the log")
            if len(broken) >= MAX_BROKEN:
                break
    return broken


def _exported(export: Path) -> Iterable[tuple[int, tuple[str, int, str]]]:
    try:
        with export.open("rb") as lines:
            for number, line in enumerate(lines, 1):
                entry = json.loads(line)
                yield number, (str(entry["stream"]), int(entry["seq"]), str(entry["hash"]))
    except OSError as error:
        raise NotFound(f"{export} cannot be read: {error.strerror or error}.") from error
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInput(f"{export} is no export of the audit trail.", data={"field": "against"}) from error


def _conditions(wanted: AuditFilter) -> tuple[str, list[str | int | float]]:
    actions = set(wanted.actions or AuditAction)
    types = [kind for kind, action in ACTIONS.items() if action in actions]
    kinds = [f"type IN ({', '.join('?' * len(types))})"] if types else []
    values: list[str | int | float] = [*types]
    if AuditAction.DELIVERY in actions:
        kinds.append("(type >= ? AND type < ?)")
        values += [DELIVERY, DELIVERY[:-1] + chr(ord(DELIVERY[-1]) + 1)]
    parts = [f"({' OR '.join(kinds)})"]
    stream = f"run:{wanted.run_id}" if wanted.run_id is not None else wanted.stream
    if stream is not None:
        parts.append("stream = ?")
        values.append(stream)
    if wanted.who is not None:
        parts.append("instr(actor, ?) > 0")
        values.append(wanted.who)
    for condition, value in (("time >= ?", wanted.since), ("time < ?", wanted.until)):
        if value is not None:
            parts.append(condition)
            values.append(value)
    if wanted.cursor is not None:
        parts.append("position < ?" if wanted.order == "newest" else "position > ?")
        values.append(wanted.cursor)
    return " AND ".join(parts), values


def _entry(connection: sqlite3.Connection, event: Event, *, full: bool) -> AuditEntry:
    say = SAYINGS.get(event.type, _delivery)
    what, why, subject = say(connection, event)
    return AuditEntry(
        position=event.position,
        time=event.time,
        action=ACTIONS.get(event.type, AuditAction.DELIVERY),
        who=event.actor,
        what=what[:MAX_TEXT],
        why=why[:MAX_TEXT],
        subject=subject[:MAX_TEXT],
        stream=event.stream,
        seq=event.seq,
        hash=event.hash,
        event=event if full else None,
    )


Said = tuple[str, str, str]


def _asked(_connection: sqlite3.Connection, event: Event) -> Said:
    approval = _object(event.payload.get("approval"))
    return (
        f"asked: {approval.get('title', '')}",
        _reason(approval.get("decision")),
        str(approval.get("id", "")),
    )


def _answered(connection: sqlite3.Connection, event: Event) -> Said:
    payload, asked = event.payload, _approval(connection, event)
    verdict = payload.get("verdict") or payload.get("state")
    answer = f"answered {verdict}: {asked.get('title', '')}"
    return (
        answer,
        f"{payload.get('answered_by', '')}; {_reason(asked.get('decision'))}",
        str(asked.get("id", "")),
    )


def _used(connection: sqlite3.Connection, event: Event) -> Said:
    asked = _approval(connection, event)
    return f"used: {asked.get('title', '')}", "it was allowed", str(event.payload.get("approval_id", ""))


def _denied(connection: sqlite3.Connection, event: Event) -> Said:
    call = str(event.payload.get("call_id", ""))
    row = connection.execute(CALLED, (event.stream, call)).fetchone()
    tool, arguments = (row[0], _object(_parsed(row[1]))) if row else ("a tool call", {})
    names = ("command", "path", "approval_id", "checkpoint_id", "query", "pattern")
    about = next((str(arguments[name]) for name in names if arguments.get(name)), "")
    return f"denied: {tool} {about}".rstrip(), str(event.payload.get("reason", "")), call


def _policy(_connection: sqlite3.Connection, event: Event) -> Said:
    payload = event.payload
    what = f"policy {payload.get('name', '')}: {payload.get('change', '')}"
    return what, "a person's order", str(payload.get("file", ""))


def _trust(_connection: sqlite3.Connection, event: Event) -> Said:
    facts = ", ".join(
        f"{name} {value}" for name, value in event.payload.items() if not isinstance(value, dict)
    )
    return f"trust: {facts}", "a person's order", str(event.payload.get("file", ""))


def _keys(_connection: sqlite3.Connection, event: Event) -> Said:
    parts = [
        f"{word} {', '.join(map(str, names))}"
        for word, key in (("given", "given"), ("taken back", "taken_back"))
        if isinstance(names := event.payload.get(key), list) and names
    ]
    return f"keys: {'; '.join(parts)}", "a person's order", ""


def _settings(_connection: sqlite3.Connection, event: Event) -> Said:
    outcome = _object(event.payload.get("outcome"))
    changed = outcome.get("changed")
    listed = ", ".join(map(str, changed)) if isinstance(changed, list) else ""
    return f"settings: {listed or 'not applied'}", "a file or an editor's options changed", ""


def _http_door(_connection: sqlite3.Connection, event: Event) -> Said:
    if "token" in event.payload:
        return "MCP over HTTP: a new token", "a person's order", ""
    is_open = event.payload.get("open") is True
    return f"MCP over HTTP: {'open' if is_open else 'shut'}", "a setting", str(event.payload.get("port", ""))


def _rewound(connection: sqlite3.Connection, event: Event) -> Said:
    restored = _object(event.payload.get("restored"))
    changed, conflicts = restored.get("changed"), restored.get("conflicts")
    counts = [len(one) if isinstance(one, list) else 0 for one in (changed, conflicts)]
    target = restored.get("checkpoint_id")
    row = connection.execute(LET_THROUGH, (event.stream, event.seq)).fetchone()
    why = _reason(_object(_parsed(row[0])).get("decision")) if row else ""
    safety = str(_object(restored.get("safety")).get("id", ""))
    what = (
        f"went back to {target or 'a checkpoint'}: {counts[0]} paths, {counts[1]} conflicts; undo: {safety}"
    )
    return what, why, str(target or safety)


def _dropped(_connection: sqlite3.Connection, event: Event) -> Said:
    payload = event.payload
    return (
        f"dropped {payload.get('stream')} ({payload.get('events')} events)",
        "retention",
        str(payload.get("file")),
    )


def _delivery(_connection: sqlite3.Connection, event: Event) -> Said:
    facts = {name: value for name, value in event.payload.items() if isinstance(value, str | int)}
    what = f"{event.type}: {', '.join(f'{name} {value}' for name, value in facts.items())}"
    return what, str(event.payload.get("reason", "")), event.stream


SAYINGS: dict[str, Callable[[sqlite3.Connection, Event], Said]] = {
    EventType.APPROVAL_REQUESTED: _asked,
    EventType.APPROVAL_ANSWERED: _answered,
    EventType.APPROVAL_CONSUMED: _used,
    EventType.TOOLCALL_DENIED: _denied,
    EventType.POLICY_CHANGED: _policy,
    EventType.TRUST_CHANGED: _trust,
    EventType.KEYS_CHANGED: _keys,
    EventType.CONFIG_CHANGED: _settings,
    EventType.HTTP_DOOR_CHANGED: _http_door,
    EventType.CHECKPOINT_RESTORED: _rewound,
    EventType.STREAM_DROPPED: _dropped,
}


def _approval(connection: sqlite3.Connection, event: Event) -> JsonObject:
    name = str(event.payload.get("approval_id", ""))
    row = connection.execute(ASKED, (name,)).fetchone()
    return {**(_object(_parsed(row[0])) if row else {}), "id": name}


def _reason(decision: JsonValue) -> str:
    facts = _object(decision)
    return f"{facts.get('reason', '')} (profile {facts.get('profile', '')})" if facts else ""


def _object(value: JsonValue) -> JsonObject:
    return value if isinstance(value, dict) else {}


def _parsed(text: str) -> JsonValue:
    value: JsonValue = json.loads(text)
    return value
