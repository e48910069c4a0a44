"""Approvals: a question to a person, bound to exactly one action under one policy, used at most once."""

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


class Verdict(StrEnum):
    """What a person can say. ``dismissed`` counts as deny.

    ``allow_run`` also answers the same question for the rest of this run or session, ``allow_always`` for good in this
    workspace: a narrow rule in the person's own policy file.
    """

    ALLOW_ONCE = "allow_once"
    ALLOW_RUN = "allow_run"
    ALLOW_ALWAYS = "allow_always"
    DENY = "deny"
    DISMISSED = "dismissed"

    @property
    def allows(self) -> bool:
        """Whether the action may go on."""
        return self in (Verdict.ALLOW_ONCE, Verdict.ALLOW_RUN, Verdict.ALLOW_ALWAYS)


class Approval(Frozen):
    """A question. ``preview`` is the unified diff or the command line, exactly as it would be carried out.

    ``base_hashes`` are those of the files it was proposed against, by path (None: no such file); ``policy_revision``
    the digest then of all policies that can ask or refuse. Where one of them, or the action, is another when it is to
    be carried out, the approval is refused.
    """

    id: str
    action_hash: str
    tool: str
    title: str = Field(description="One line: who wants to do what")
    preview: str = ""
    paths: tuple[str, ...] = ()
    base_hashes: dict[str, str | None] = Field(default_factory=dict)
    policy_revision: str = ""
    command: str | None = None
    offers: tuple[Verdict, ...] = Field(
        default=(Verdict.ALLOW_ONCE, Verdict.DENY), description="What may be answered"
    )
    elicitable: bool = Field(
        default=False,
        description="Whether a foreign agent's own client may answer, where no editor is attached",
    )
    request_id: str = Field(default="", description="The request that raised it")
    actor: str = ""
    stream: str = ""
    decision: PolicyDecision
    state: ApprovalState = ApprovalState.PENDING
    answered_by: str = Field(
        default="", description="Session label, or why nobody did: timeout, dismissed, no client"
    )
    created_at: float
    expires_at: float = Field(description="Until when it can be answered")
    answered_at: float | None = None

    @property
    def why(self) -> str:
        """Why it is asked: the reason, the profile, and where the rule stands."""
        place = f", {self.decision.place}" if self.decision.place else ""
        return f"{self.decision.reason} (profile {self.decision.profile}{place})"
