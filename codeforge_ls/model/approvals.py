"""Approvals: a question to a person, bound to exactly one action, used at most once."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.policy import PolicyDecision


class ApprovalState(StrEnum):
    """pending -> allowed -> consumed, or pending -> denied."""

    PENDING = "pending"
    ALLOWED = "allowed"
    DENIED = "denied"
    CONSUMED = "consumed"


class Approval(Frozen):
    """A question. ``preview`` is the unified diff or the command line, exactly as it would be carried out."""

    id: str
    action_hash: str
    tool: str
    title: str = Field(description="One line: who wants to do what")
    preview: str = ""
    paths: tuple[str, ...] = ()
    command: str | None = None
    actor: str = ""
    stream: str = ""
    decision: PolicyDecision
    state: ApprovalState = ApprovalState.PENDING
    answered_by: str = Field(
        default="", description="Session label, or why nobody did: timeout, dismissed, no client"
    )
    created_at: float
    expires_at: float
    answered_at: float | None = None


class Verdict(StrEnum):
    """What a person can say. ``dismissed`` counts as deny."""

    ALLOW_ONCE = "allow_once"
    DENY = "deny"
    DISMISSED = "dismissed"
