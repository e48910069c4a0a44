"""From rows of the state tables to models."""

from __future__ import annotations

import json
import sqlite3
from collections.abc import Iterable

from codeforge_ls.model.approvals import Approval
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.checkpoints import Checkpoint
from codeforge_ls.model.runs import Plan, PlanStep, Run
from codeforge_ls.store.projections import APPROVAL_COLUMNS, PLAN_COLUMNS, RUN_COLUMNS

RUNS = f"SELECT base, id, version, {', '.join(RUN_COLUMNS)} FROM runs"  # noqa: S608 - our own words
PLANS = f"SELECT base, id, version, {', '.join(PLAN_COLUMNS)} FROM plans"  # noqa: S608 - our own words
STEPS = "SELECT step FROM plan_steps WHERE plan_id = ? ORDER BY idx"
APPROVALS = f"SELECT base, id, {', '.join(APPROVAL_COLUMNS)} FROM approvals"  # noqa: S608 - our own words
CHECKPOINTS = "SELECT base FROM checkpoints"
OPEN_CALLS = (
    "SELECT call_id, tool, arguments, action_id, status, approval_id, seq FROM tool_calls"
    " WHERE stream = ? AND status IN ('requested', 'approved') ORDER BY seq"
)
VERSIONS = {
    "run": "SELECT version FROM runs WHERE id = ?",
    "plan": "SELECT version FROM plans WHERE id = ?",
    "approval": "SELECT version FROM approvals WHERE id = ?",
}


class OpenToolCall(Frozen):
    """A tool call that was requested, perhaps approved, and has no result. ``seq`` is that of the request."""

    call_id: str
    tool: str
    arguments: JsonObject
    action_id: str | None
    status: str
    approval_id: str | None
    seq: int


def _whole(row: sqlite3.Row, columns: Iterable[str]) -> JsonObject:
    base: JsonObject = json.loads(row["base"])
    return base | {name: row[name] for name in columns}


def run_of(row: sqlite3.Row) -> Run:
    """A row of ``RUNS``."""
    return Run.model_validate(_whole(row, ("id", "version", *RUN_COLUMNS)))


def plan_of(row: sqlite3.Row, steps: Iterable[sqlite3.Row]) -> Plan:
    """A row of ``PLANS`` and those of ``STEPS``."""
    listed = [PlanStep.model_validate_json(step["step"]) for step in steps]
    return Plan.model_validate({**_whole(row, ("id", "version", *PLAN_COLUMNS)), "steps": listed})


def approval_of(row: sqlite3.Row) -> Approval:
    """A row of ``APPROVALS``."""
    return Approval.model_validate(_whole(row, ("id", *APPROVAL_COLUMNS)))


def checkpoint_of(row: sqlite3.Row) -> Checkpoint:
    """A row of ``CHECKPOINTS``."""
    return Checkpoint.model_validate_json(row["base"])


def open_call_of(row: sqlite3.Row) -> OpenToolCall:
    """A row of ``OPEN_CALLS``."""
    values = {name: row[name] for name in OpenToolCall.model_fields}
    arguments = json.loads(row["arguments"])
    return OpenToolCall.model_validate(
        values | {"arguments": arguments if isinstance(arguments, dict) else {"raw": arguments}}
    )
