"""The audit trail: who did what, when and why, as a view of the log of events."""

from __future__ import annotations

from enum import StrEnum
from typing import Literal

from pydantic import Field

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.events import Event


class AuditAction(StrEnum):
    """What the trail tells of."""

    APPROVAL = "approval"
    DENIAL = "denial"
    POLICY = "policy"
    TRUST = "trust"
    KEYS = "keys"
    SETTINGS = "settings"
    DELIVERY = "delivery"
    REWIND = "rewind"
    DROP = "drop"


class AuditEntry(Frozen):
    """One line of the trail. ``position`` is the cursor; ``stream``, ``seq`` and ``hash`` name the event behind it."""

    position: int
    time: float
    action: AuditAction
    who: str
    what: str
    why: str
    subject: str = Field(
        default="", description="What it is about: an approval, a checkpoint, a file, a tool call"
    )
    stream: str
    seq: int
    hash: str
    event: Event | None = Field(default=None, description="The event itself, where it was asked for")


class AuditFilter(Frozen):
    """Which lines. Times are seconds since the epoch; ``cursor`` is the ``position`` of the last line seen."""

    run_id: str | None = Field(default=None, max_length=100)
    stream: str | None = Field(default=None, max_length=200)
    actions: tuple[AuditAction, ...] = ()
    who: str | None = Field(default=None, max_length=200, description="Part of the actor's label")
    since: float | None = Field(default=None, ge=0)
    until: float | None = Field(default=None, ge=0)
    cursor: int | None = Field(default=None, ge=0, le=2**53)
    order: Literal["newest", "oldest"] = "newest"
    limit: int = Field(default=50, ge=1, le=1000)
    full: bool = Field(default=False, description="With the events themselves")


class AuditPage(Frozen):
    """Which lines an agent wants to see, newest first, without the events behind them."""

    run_id: str | None = Field(default=None, max_length=100)
    action: AuditAction | None = None
    cursor: int | None = Field(default=None, ge=0, le=2**53)
