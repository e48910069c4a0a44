"""Event to SQL, and nothing else: what makes the state tables folds of the log.

Every statement that changes a row names the stream of the event, so that a row depends on its own stream only
and a dropped stream takes exactly its rows along.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from pydantic import ValidationError

from codeforge_ls.model.approvals import Approval, ApprovalState
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.checkpoints import Checkpoint, Restored
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.events import Event, EventType
from codeforge_ls.model.llm import Message, Usage
from codeforge_ls.model.runs import Plan, PlanStatus, PlanStep, Run, RunStatus
from codeforge_ls.store.chain import canonical

SqlValue = str | int | float | None

RUN_COLUMNS = (
    "status", "reason", "output", "step_count", "tokens_in", "tokens_out", "cost_nano_usd", "unpriced_calls",
    "created_at", "started_at", "ended_at",
)  # fmt: skip
PLAN_COLUMNS = ("status", "created_at", "ended_at")
APPROVAL_COLUMNS = ("state", "answered_by", "created_at", "answered_at")
# ``reservations`` is not among them: it is about calls, not about the workspace, and no event tells of it.
STATE_TABLES = ("runs", "plans", "plan_steps", "approvals", "checkpoints", "tool_calls")


@dataclass(frozen=True)
class Statement:
    """One SQL statement; ``row`` names the row it must touch, else NotFound."""

    sql: str
    values: tuple[SqlValue, ...]
    row: str


def project(event: Event) -> list[Statement]:
    """What the event does to the state tables. InvalidInput where payload or stream do not fit its type."""
    projection = PROJECTIONS.get(event.type)
    if projection is None:
        return []
    try:
        return projection(event)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False, include_context=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInput(
            f"The payload of {event.type} is wrong at {field or 'its top'}: {first['msg']}.",
            data={"field": field},
        ) from error


def _insert(table: str, row: str, values: Mapping[str, SqlValue]) -> Statement:
    names, marks = ", ".join(values), ", ".join("?" * len(values))
    sql = f"INSERT INTO {table} ({names}) VALUES ({marks})"  # noqa: S608 - names of ours, values are bound
    return Statement(sql, tuple(values.values()), row)


def _update(table: str, row: str, values: Sequence[SqlValue], assignments: str, where: str) -> Statement:
    comma = ", " if assignments else ""
    sql = f"UPDATE {table} SET {assignments}{comma}version = version + 1 WHERE {where}"  # noqa: S608 - as above
    return Statement(sql, tuple(values), row)


def _field(event: Event, name: str) -> JsonValue:
    if name not in event.payload:
        raise InvalidInput(f"The payload of {event.type} has no {name!r}.", data={"field": name})
    return event.payload[name]


def _text(event: Event, name: str, default: str | None = None) -> str:
    value = _field(event, name) if default is None else event.payload.get(name, default)
    return value if isinstance(value, str) else canonical(value)


def _number(event: Event, name: str) -> float | None:
    value = event.payload.get(name)
    return float(value) if isinstance(value, int | float) else None


def _owner(event: Event, kind: str) -> str:
    prefix, _, name = event.stream.partition(":")
    if prefix != kind or not name:
        raise InvalidInput(f"{event.type} belongs in a stream {kind}:ID, not in {event.stream!r}.")
    return name


def _run_created(event: Event) -> list[Statement]:
    run = Run.model_validate(_field(event, "run"))
    if run.stream != event.stream:
        raise InvalidInput(f"The run {run.id} belongs in the stream {run.stream}, not in {event.stream!r}.")
    return [_insert("runs", f"run {run.id}", _row(event, run.model_dump(mode="json"), RUN_COLUMNS))]


def _row(event: Event, whole: JsonObject, columns: Sequence[str]) -> dict[str, SqlValue]:
    """The row of a model: what changes later in columns, all the rest as the JSON it began with."""
    base = {name: value for name, value in whole.items() if name not in columns and name != "version"}
    row: dict[str, SqlValue] = {"id": str(whole["id"]), "stream": event.stream, "base": canonical(base)}
    for name in columns:
        value = whole[name]
        row[name] = canonical(value) if isinstance(value, dict | list) else value
    return row | {"version": 1}


def _change_run(event: Event, assignments: str, *values: SqlValue) -> list[Statement]:
    run_id = _owner(event, "run")
    return [_update("runs", f"run {run_id}", (*values, run_id), assignments, "id = ?")]


def _run_started(event: Event) -> list[Statement]:
    return _change_run(
        event, "status = ?, reason = '', started_at = coalesce(started_at, ?)", RunStatus.RUNNING, event.time
    )


def _run_suspended(event: Event) -> list[Statement]:
    return _change_run(event, "status = ?, reason = ?", RunStatus.SUSPENDED, _text(event, "reason", ""))


def _run_completed(event: Event) -> list[Statement]:
    status = _text(event, "status")
    if status not in [item.value for item in RunStatus if item.is_terminal]:
        raise InvalidInput(f"A run cannot end with the status {status!r}.", data={"field": "status"})
    values = (status, _text(event, "reason", ""), _text(event, "output", ""), event.time)
    return _change_run(event, "status = ?, reason = ?, output = ?, ended_at = ?", *values)


def _run_message(event: Event) -> list[Statement]:
    Message.model_validate(_field(event, "message"))
    _owner(event, "run")
    return []


def _model_called(event: Event) -> list[Statement]:
    usage = Usage.model_validate(_field(event, "usage"))
    unpriced = int(usage.cost_nano_usd is None)
    return _change_run(
        event,
        "tokens_in = tokens_in + ?, tokens_out = tokens_out + ?, cost_nano_usd = cost_nano_usd + ?,"
        " unpriced_calls = unpriced_calls + ?",
        *(usage.tokens_in, usage.tokens_out, usage.cost_nano_usd or 0, unpriced),
    )


def _step_done(event: Event) -> list[Statement]:
    step = event.payload.get("step")
    if isinstance(step, int):
        return _change_run(event, "step_count = max(step_count, ?)", step)
    return _change_run(event, "step_count = step_count + 1")


def _call_requested(event: Event) -> list[Statement]:
    call = _text(event, "call_id")
    action = event.payload.get("action_id")
    return [
        _insert(
            "tool_calls",
            f"tool call {call}",
            {
                "stream": event.stream,
                "seq": event.seq,
                "call_id": call,
                "tool": _text(event, "tool"),
                "arguments": canonical(event.payload.get("arguments", {})),
                "action_id": action if isinstance(action, str) else None,
                "status": "requested",
                "reason": "",
                "requested_at": event.time,
                "version": 1,
            },
        )
    ]


def _change_call(event: Event, assignments: str, *values: SqlValue) -> list[Statement]:
    call = _text(event, "call_id")
    # Some models use an id again in a later turn: the last call with that id is meant.
    last = "stream = ? AND seq = (SELECT max(seq) FROM tool_calls WHERE stream = ? AND call_id = ?)"
    bound = (*values, event.stream, event.stream, call)
    return [_update("tool_calls", f"tool call {call} in {event.stream}", bound, assignments, last)]


def _call_approved(event: Event) -> list[Statement]:
    approval = event.payload.get("approval_id")
    value = approval if isinstance(approval, str) else None
    return _change_call(event, "status = 'approved', approval_id = ?", value)


def _call_denied(event: Event) -> list[Statement]:
    reason = _text(event, "reason", "")
    return _change_call(event, "status = 'denied', reason = ?, ended_at = ?", reason, event.time)


def _call_result(event: Event) -> list[Statement]:
    applied = _field(event, "applied")
    outcome = applied.get("outcome") if isinstance(applied, dict) else None
    values = (outcome if isinstance(outcome, str) else None, _number(event, "duration"), event.time)
    return _change_call(event, "status = 'done', outcome = ?, duration = ?, ended_at = ?", *values)


def _approval_requested(event: Event) -> list[Statement]:
    approval = Approval.model_validate(_field(event, "approval"))
    return [
        _insert(
            "approvals",
            f"approval {approval.id}",
            _row(event, approval.model_dump(mode="json"), APPROVAL_COLUMNS),
        )
    ]


def _change_approval(event: Event, assignments: str, *values: SqlValue) -> list[Statement]:
    name = _text(event, "approval_id")
    row = f"approval {name} in {event.stream}"
    return [_update("approvals", row, (*values, name, event.stream), assignments, "id = ? AND stream = ?")]


def _approval_answered(event: Event) -> list[Statement]:
    state = _text(event, "state")
    if state not in (ApprovalState.ALLOWED, ApprovalState.DENIED):
        raise InvalidInput(f"An approval cannot be answered with {state!r}.", data={"field": "state"})
    answered_by = _text(event, "answered_by", "")
    return _change_approval(
        event, "state = ?, answered_by = ?, answered_at = ?", state, answered_by, event.time
    )


def _approval_consumed(event: Event) -> list[Statement]:
    return _change_approval(event, "state = ?", ApprovalState.CONSUMED)


def _checkpoint(event: Event, checkpoint: Checkpoint) -> Statement:
    # A restore tells of its safety checkpoint, which may be known already: the same row, in the same stream.
    return Statement(
        "INSERT INTO checkpoints (id, stream, base, created_at) VALUES (?, ?, ?, ?)"
        " ON CONFLICT (id) DO UPDATE SET base = base WHERE stream = excluded.stream",
        (checkpoint.id, event.stream, canonical(checkpoint.model_dump(mode="json")), checkpoint.created_at),
        f"checkpoint {checkpoint.id} in {event.stream}",
    )


def _checkpoint_created(event: Event) -> list[Statement]:
    return [_checkpoint(event, Checkpoint.model_validate(_field(event, "checkpoint")))]


def _checkpoint_restored(event: Event) -> list[Statement]:
    return [_checkpoint(event, Restored.model_validate(_field(event, "restored")).safety)]


def _plan_created(event: Event) -> list[Statement]:
    plan = Plan.model_validate(_field(event, "plan"))
    if plan.stream != event.stream:
        raise InvalidInput(
            f"The plan {plan.id} belongs in the stream {plan.stream}, not in {event.stream!r}."
        )
    row = _row(event, plan.model_dump(mode="json", exclude={"steps"}), PLAN_COLUMNS) | {"reason": ""}
    steps = [
        _insert("plan_steps", f"step {step.index}", {"plan_id": plan.id, **_step_columns(step), "version": 1})
        for step in plan.steps
    ]
    return [_insert("plans", f"plan {plan.id}", row), *steps]


def _step_columns(step: PlanStep) -> dict[str, SqlValue]:
    text = canonical(step.model_dump(mode="json"))
    return {"idx": step.index, "step": text, "status": step.status.value, "run_id": step.run_id}


def _change_plan(event: Event, assignments: str, *values: SqlValue) -> Statement:
    plan_id = _owner(event, "plan")
    return _update("plans", f"plan {plan_id}", (*values, plan_id), assignments, "id = ?")


def _plan_started(event: Event) -> list[Statement]:
    return [_change_plan(event, "status = ?", PlanStatus.RUNNING)]


def _plan_step_changed(event: Event) -> list[Statement]:
    columns = _step_columns(PlanStep.model_validate(_field(event, "step")))
    plan = _change_plan(event, "")
    plan_id, index = _owner(event, "plan"), columns.pop("idx")
    assignments = ", ".join(f"{name} = ?" for name in columns)
    bound = (*columns.values(), plan_id, index)
    step = _update(
        "plan_steps", f"step {index} of plan {plan_id}", bound, assignments, "plan_id = ? AND idx = ?"
    )
    return [step, plan]


def _plan_ended(event: Event) -> list[Statement]:
    status = event.type.partition(".")[2]  # plan.completed, plan.failed, plan.cancelled
    reason = _text(event, "reason", "")
    return [_change_plan(event, "status = ?, reason = ?, ended_at = ?", status, reason, event.time)]


PROJECTIONS: dict[str, Callable[[Event], list[Statement]]] = {
    EventType.RUN_CREATED: _run_created,
    EventType.RUN_STARTED: _run_started,
    EventType.RUN_SUSPENDED: _run_suspended,
    EventType.RUN_COMPLETED: _run_completed,
    EventType.RUN_MESSAGE: _run_message,
    EventType.AGENT_MODEL_CALLED: _model_called,
    EventType.AGENT_STEP_DONE: _step_done,
    EventType.TOOLCALL_REQUESTED: _call_requested,
    EventType.TOOLCALL_APPROVED: _call_approved,
    EventType.TOOLCALL_DENIED: _call_denied,
    EventType.TOOLCALL_RESULT: _call_result,
    EventType.APPROVAL_REQUESTED: _approval_requested,
    EventType.APPROVAL_ANSWERED: _approval_answered,
    EventType.APPROVAL_CONSUMED: _approval_consumed,
    EventType.CHECKPOINT_CREATED: _checkpoint_created,
    EventType.CHECKPOINT_RESTORED: _checkpoint_restored,
    EventType.PLAN_CREATED: _plan_created,
    EventType.PLAN_STARTED: _plan_started,
    EventType.PLAN_STEP_CHANGED: _plan_step_changed,
    EventType.PLAN_COMPLETED: _plan_ended,
    EventType.PLAN_FAILED: _plan_ended,
    EventType.PLAN_CANCELLED: _plan_ended,
}
