"""The one stream of events: what was written down, and what is about to be."""

from __future__ import annotations

from enum import StrEnum

from pydantic import Field

from codeforge_ls.model.base import Frozen, KnownJson

SCHEMA_VERSION = 1


class EventType(StrEnum):
    """Every kind of event. The names of row EVT-4, plus those that state needs to be a fold of the log."""

    WORKSPACE_OPENED = "workspace.opened"
    WORKSPACE_CLOSED = "workspace.closed"
    CONFIG_CHANGED = "config.changed"
    HTTP_DOOR_CHANGED = "http_door.changed"
    KEYS_CHANGED = "keys.changed"
    POLICY_CHANGED = "policy.changed"
    TRUST_CHANGED = "trust.changed"
    WORKER_CRASHED = "worker.crashed"
    STREAM_DROPPED = "stream.dropped"
    SESSION_ATTACHED = "session.attached"
    SESSION_DETACHED = "session.detached"

    RUN_CREATED = "run.created"
    RUN_STARTED = "run.started"
    RUN_SUSPENDED = "run.suspended"
    RUN_COMPLETED = "run.completed"
    RUN_MESSAGE = "run.message"
    RUN_STALL_DETECTED = "run.stall_detected"
    AGENT_STEP_DONE = "agent.step_done"
    AGENT_MODEL_CALLED = "agent.model_called"
    AGENT_ERROR = "agent.error"

    TOOLCALL_REQUESTED = "run.toolcall.requested"
    TOOLCALL_APPROVED = "run.toolcall.approved"
    TOOLCALL_DENIED = "run.toolcall.denied"
    TOOLCALL_RESULT = "run.toolcall.result"

    APPROVAL_REQUESTED = "approval.requested"
    APPROVAL_ANSWERED = "approval.answered"
    APPROVAL_CONSUMED = "approval.consumed"

    CHECKPOINT_CREATED = "checkpoint.created"
    CHECKPOINT_RESTORED = "checkpoint.restored"
    LAYER_MERGED = "layer.merged"

    PLAN_CREATED = "plan.created"
    PLAN_STARTED = "plan.started"
    PLAN_STEP_CHANGED = "plan.step_changed"
    PLAN_COMPLETED = "plan.completed"
    PLAN_FAILED = "plan.failed"
    PLAN_CANCELLED = "plan.cancelled"


class EventDraft(Frozen):
    """An event before it is stored. ``actor`` is ``Actor.label``; ``parent`` the id of the event it answers."""

    stream: str = Field(min_length=1, description="workspace, run:ID, plan:ID or session:ID")
    type: EventType
    payload: KnownJson = Field(default_factory=dict)
    actor: str = "system:codeforge"
    parent: str | None = None
    request_id: str | None = None
    id: str | None = Field(
        default=None, description="Given where live deltas must name it before it is stored"
    )


class Event(Frozen):
    """A stored event. ``position`` orders all streams, ``seq`` counts from 1 in its stream.

    ``hash`` is the hex digest over the event and ``hash`` of the one before it in the stream (``prev_hash``).
    ``time`` is seconds since the epoch. ``type`` is text, so that a log of a newer version can still be read.
    """

    position: int
    stream: str
    seq: int
    id: str
    parent: str | None
    type: str
    payload: KnownJson
    actor: str
    request_id: str | None
    time: float
    schema_version: int
    prev_hash: str
    hash: str


PROGRESS = "progress"


class Delta(Frozen):
    """A live piece of an event that is still open: model text or command output. Sent, never stored.

    ``event_id`` is the id the closing event will have, ``offset`` counts characters from its start.
    """

    stream: str
    event_id: str
    channel: str = Field(description="text, reasoning, output, or progress: how far it is")
    offset: int
    text: str
