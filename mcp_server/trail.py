"""What audit_list answers: lines of the audit trail, each on one line whatever a command or a file is called."""

from __future__ import annotations

from datetime import UTC, datetime

from codeforge_ls import redaction
from codeforge_ls.model.audit import AuditEntry
from codeforge_ls.model.base import Frozen, JsonObject
from mcp_server.shown import LIST_CHARS, Shown, within


class LineFacts(Frozen):
    """Who did what, when and why. ``time`` is seconds since the epoch; ``subject`` an approval, checkpoint or file."""

    time: float
    action: str
    who: str
    what: str
    why: str
    subject: str
    stream: str


class TrailFacts(Frozen):
    """A page of the trail, newest first. ``next_cursor`` is null after the last one."""

    entries: list[LineFacts]
    next_cursor: int | None


def show_trail(raw: JsonObject) -> Shown:
    """One line each: when, which kind, who, what, why."""
    found, following = raw.get("entries"), raw.get("next_cursor")
    every = [AuditEntry.model_validate(one) for one in found] if isinstance(found, list) else []
    shown = within([_line(entry) for entry in every], LIST_CHARS)
    if len(shown) < len(every):
        following = every[len(shown) - 1].position
    facts = TrailFacts(entries=shown, next_cursor=following if isinstance(following, int) else None)
    lines = [f"{_moment(e.time)} {e.action} {e.who}: {e.what} ({e.subject}; {e.why})" for e in shown]
    end = [f"next_cursor {facts.next_cursor}"] if facts.next_cursor is not None else []
    return Shown("\n".join([*(lines or ["nothing"]), *end]), facts)


def _line(entry: AuditEntry) -> LineFacts:
    return LineFacts(
        time=entry.time,
        action=entry.action.value,
        who=_plain(entry.who),
        what=_plain(entry.what),
        why=_plain(entry.why),
        subject=_plain(entry.subject),
        stream=_plain(entry.stream),
    )


def _plain(text: str) -> str:
    """Without what could pass for another line, and without what looks like a secret: others wrote some of it."""
    hidden = redaction.scrub(text)
    return "".join(char if char.isprintable() else f"\\u{ord(char):04x}" for char in hidden)


def _moment(seconds: float) -> str:
    return datetime.fromtimestamp(seconds, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
