"""What the tools that change or run things answer: edits, runs, checkpoints."""

from __future__ import annotations

import json

from codeforge_ls.model.actions import FileChange, Outcome
from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.checkpoints import CheckpointKind
from codeforge_ls.model.errors import CodeForgeError, error_from_json
from codeforge_ls.model.limits import Execution
from codeforge_ls.model.runs import Run
from mcp_server.shown import LIST_CHARS, Shown, cut, head, omitted, within

EVENT_CHARS = 700  # of one event of a run
RUN_TEXT_CHARS = 8000  # of the task and of the output of a run


class EditFacts(Frozen):
    """What came of edits. ``diff`` is set by a dry run only."""

    status: str
    approval_id: str | None
    checkpoint_id: str | None
    files: list[FileChange]
    message: str
    diff: str


def show_edits(raw: JsonObject) -> Shown:
    """The outcome first. Edits that could not even be tried are an error."""
    error = raw.get("error")
    reason = error_from_json(error) if isinstance(error, dict) else CodeForgeError(str(raw.get("message")))
    if raw.get("status") == Outcome.FAILED:
        raise reason
    if isinstance(error, dict):
        raw = {**raw, "message": reason.text}
    changes = raw.get("files")
    every = [FileChange.model_validate(one) for one in changes] if isinstance(changes, list) else []
    facts = EditFacts(
        status=str(raw.get("status")),
        approval_id=_text_or_none(raw.get("approval_id")),
        checkpoint_id=_text_or_none(raw.get("checkpoint_id")),
        files=within(every, LIST_CHARS // 2),
        message=cut(str(raw.get("message") or ""), "fewer edits", RUN_TEXT_CHARS),
        diff=cut(str(raw.get("diff") or ""), "fewer edits", LIST_CHARS // 2),
    )
    marks = [
        f"{name} {value}" for name in ("approval_id", "checkpoint_id") if (value := getattr(facts, name))
    ]
    lines = [", ".join([facts.status, *marks])]
    lines += [f"{f.change} {f.path} +{f.added} -{f.removed} new_hash {f.new_hash}" for f in facts.files]
    return Shown("\n".join(filter(None, [*lines, facts.message, facts.diff])), facts)


class StartFacts(Frozen):
    """A run that was started. ``profiles`` are all in force: the strictest answer of them counts."""

    run_id: str
    profiles: list[str]
    mode: str
    model: str


def show_start(raw: JsonObject) -> Shown:
    """The id, and what to do with it."""
    profiles = _texts(raw.get("profiles"))
    given = {name: str(raw.get(name) or "") for name in ("run_id", "mode", "model")}
    facts = StartFacts(**given, profiles=profiles)
    tightened = f", tightened by {' and '.join(profiles[1:])}" if profiles[1:] else ""
    profile = f"profile {profiles[0] if profiles else ''}{tightened}"
    settings = f"{profile}, mode {facts.mode}, model {facts.model}"
    commands = raw.get("execution")
    how = f"; commands run in {Execution.model_validate(commands).text}" if isinstance(commands, dict) else ""
    return Shown(f"started {facts.run_id} ({settings}{how}); follow it with get_run", facts)


class RunFacts(Frozen):
    """A run, without its policy. Money is in nano-USD."""

    id: str
    status: str
    reason: str
    task: str
    output: str
    step_count: int
    tokens_in: int
    tokens_out: int
    cost_nano_usd: int


class EventFacts(Frozen):
    """An event of a run; ``summary`` is its payload, shortened."""

    seq: int
    type: str
    time: float
    summary: str


class ProgressFacts(Frozen):
    """A run and the events after a cursor."""

    run: RunFacts
    events: list[EventFacts]
    next_cursor: int


def show_run(raw: JsonObject) -> Shown:
    """The state of a run, then its new events."""
    run = _run(raw)
    events, cursor = raw.get("events"), raw.get("next_cursor")
    every = [_event(event) for event in events if isinstance(event, dict)] if isinstance(events, list) else []
    shown = within(every, LIST_CHARS)
    following = shown[-1].seq if shown else cursor if isinstance(cursor, int) else 0
    facts = ProgressFacts(run=run, events=shown, next_cursor=following)
    lines = [_run_line(run), *(f"{e.seq} {e.type} {e.summary}" for e in shown), f"next_cursor {following}"]
    return Shown("\n".join(lines), facts)


class RunAnswer(Frozen):
    """One run."""

    run: RunFacts


def show_cancel(raw: JsonObject) -> Shown:
    """The state it ended in."""
    run = _run(raw)
    return Shown(_run_line(run), RunAnswer(run=run))


class CheckpointFacts(Frozen):
    """A checkpoint. ``time`` is seconds since the epoch."""

    id: str
    label: str
    kind: CheckpointKind
    stream: str
    time: float


class CheckpointsFacts(Frozen):
    """Checkpoints, newest first."""

    checkpoints: list[CheckpointFacts]
    omitted: int


def show_checkpoints(raw: JsonObject) -> Shown:
    """One checkpoint a line."""
    found = raw.get("checkpoints")
    every = [
        CheckpointFacts.model_validate(
            {
                "time": one.get("created_at"),
                **{key: one.get(key) for key in ("id", "label", "kind", "stream")},
            }
        )
        for one in (found if isinstance(found, list) else [])
        if isinstance(one, dict)
    ]
    shown = within(every, LIST_CHARS)
    facts = CheckpointsFacts(checkpoints=shown, omitted=len(every) - len(shown))
    lines = [f"{c.id} {c.kind.value} {c.stream} {c.label}" for c in shown] or ["no checkpoints"]
    return Shown("\n".join([*lines, *omitted(facts.omitted)]), facts)


class RestoreFacts(Frozen):
    """What a restore did. ``safety_checkpoint_id`` undoes it; ``conflicts`` were left as they were."""

    status: str
    checkpoint_id: str
    safety_checkpoint_id: str | None
    changed: list[str]
    conflicts: list[str]
    message: str
    omitted: int


def show_restore(raw: JsonObject) -> Shown:
    """The outcome, and which files changed."""
    changed, conflicts = _texts(raw.get("changed")), _texts(raw.get("conflicts"))
    kept, left = within(changed, LIST_CHARS // 2), within(conflicts, LIST_CHARS // 2)
    facts = RestoreFacts(
        status=str(raw.get("status")),
        checkpoint_id=str(raw.get("checkpoint_id")),
        safety_checkpoint_id=_text_or_none(raw.get("safety_checkpoint_id")),
        changed=kept,
        conflicts=left,
        message=cut(str(raw.get("message") or ""), "list_checkpoints", RUN_TEXT_CHARS),
        omitted=len(changed) - len(kept) + len(conflicts) - len(left),
    )
    head = f"{facts.status}, checkpoint {facts.checkpoint_id}, undo with {facts.safety_checkpoint_id}"
    lines = [
        head,
        facts.message,
        *(f"changed {path}" for path in kept),
        *(f"conflict {path}" for path in left),
    ]
    return Shown("\n".join([*filter(None, lines), *omitted(facts.omitted)]), facts)


def _run(raw: JsonObject) -> RunFacts:
    run = Run.model_validate(raw["run"])
    return RunFacts(
        id=run.id,
        status=run.status.value,
        reason=run.reason,
        task=head(run.task, 500),
        output=cut(run.output, "`codeforge show`", RUN_TEXT_CHARS),
        step_count=run.step_count,
        tokens_in=run.tokens_in,
        tokens_out=run.tokens_out,
        cost_nano_usd=run.cost_nano_usd,
    )


def _run_line(run: RunFacts) -> str:
    spent = f"{run.step_count} steps, {run.tokens_in} tokens in, {run.tokens_out} out, {run.cost_nano_usd} nano-USD"
    lines = [f"{run.id} {run.status} {run.reason}".rstrip() + f" ({spent})", f"task: {run.task}", run.output]
    return "\n".join(filter(None, lines))


def _event(raw: JsonObject) -> EventFacts:
    payload = json.dumps(raw.get("payload"), ensure_ascii=False, separators=(",", ":"))
    short = payload if len(payload) <= EVENT_CHARS else f"{payload[:EVENT_CHARS]}…"
    return EventFacts.model_validate(
        {**{key: raw.get(key) for key in ("seq", "type", "time")}, "summary": short}
    )


def _texts(value: JsonValue) -> list[str]:
    return [str(item) for item in value] if isinstance(value, list) else []


def _text_or_none(value: JsonValue) -> str | None:
    return None if value is None else str(value)
