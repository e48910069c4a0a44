"""Operations that change the tree: edits of foreign agents, and going back to checkpoints."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from codeforge_ls.actions.multi_edit import OneEdit
from codeforge_ls.model.actions import Action, Applied, Outcome, Tool
from codeforge_ls.model.base import Frozen, JsonObject, new_id
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from codeforge_ls.model.errors import Conflict, InvalidInput, NotFound
from codeforge_ls.model.events import Event, EventType
from codeforge_ls.operations.operation import Call, Operation, through_gate

ALL = 1_000_000  # checkpoints of one run


class Edits(Frozen):
    """Edits of one or more files: all of them or none."""

    edits: tuple[OneEdit, ...] = Field(min_length=1, max_length=100)
    dry_run: bool = False


async def edits_apply(call: Call, arguments: Edits) -> JsonObject:
    """Propose edits. ``status`` is applied, denied, conflict, failed, or pending (then call again)."""
    action = Action(
        id=new_id("action"),
        actor=call.actor,
        tool=Tool.MULTI_EDIT,
        arguments=arguments.model_dump(mode="json", include={"edits"}),
        stream=call.stream,
    )
    if arguments.dry_run:
        layers = call.workspace.authority.layers(call.actor)
        return _report(await call.workspace.gate.perform(action, layers, dry_run=True), dry_run=True)
    layers = call.workspace.authority.layers(call.actor)
    key = f"{call.stream}:{arguments.model_dump_json()}"
    with call.workspace.checkpoints.telling(call.progress):
        applied = await call.workspace.pending.perform(
            key, lambda: call.workspace.gate.perform(action, layers)
        )
    if applied is not None:
        return _report(applied)
    waiting = next((a for a in call.workspace.approvals.open() if a.stream == call.stream), None)
    return {
        "status": Outcome.PENDING.value,
        "approval_id": waiting.id if waiting else None,
        "checkpoint_id": None,
        "files": [],
        "message": "A person has not answered yet. Call again with the same edits to get the result.",
    }


def _report(applied: Applied, *, dry_run: bool = False) -> JsonObject:
    previewed = dry_run and applied.outcome is Outcome.APPLIED
    return {
        "status": applied.outcome.value,
        "approval_id": applied.approval_id,
        "checkpoint_id": applied.checkpoint_id,
        "files": [change.model_dump(mode="json") for change in applied.files],
        "message": "Dry run: nothing was changed." if previewed else applied.output,
        "diff": applied.output if previewed else "",
        "error": applied.data.get("error"),
    }


class CheckpointFilter(Frozen):
    """Those of one run, or the newest of all."""

    run_id: str | None = Field(default=None, max_length=100)
    limit: int = Field(default=50, ge=1, le=1000)


async def checkpoint_list(call: Call, arguments: CheckpointFilter) -> JsonObject:
    """Checkpoints, newest first."""
    stream = None
    if arguments.run_id is not None:
        stream = (await call.workspace.store.run(arguments.run_id)).stream
    found = await call.workspace.store.checkpoints(stream, arguments.limit)
    return {"checkpoints": [checkpoint.model_dump(mode="json") for checkpoint in found]}


class RestoreRequest(Frozen):
    """A checkpoint by id, or the first or last of a run. ``scope`` run: only what that run or session changed."""

    checkpoint_id: str | None = Field(default=None, max_length=100)
    run_id: str | None = Field(default=None, max_length=100)
    to: Literal["first", "last"] = "first"
    scope: Literal["run", "all"] = "run"


async def checkpoint_restore(call: Call, arguments: RestoreRequest) -> JsonObject:
    """Go back. A safety checkpoint is taken first, so that this can be undone too."""
    checkpoint = await _wanted(call, arguments)
    if checkpoint.stream.removeprefix("run:") in call.workspace.runs.active():
        raise Conflict("The run is still at work.", hint="Cancel it first: `codeforge runs cancel ID`.")
    only = await _changed_since(call, checkpoint) if arguments.scope == "run" else None
    wanted: JsonObject = {"checkpoint_id": checkpoint.id, "only": list(only) if only is not None else None}
    with call.workspace.checkpoints.telling(call.progress):
        applied = await through_gate(call, Tool.RESTORE, wanted, stream=checkpoint.stream)
    restored = applied.data.get("restored")
    facts = restored if isinstance(restored, dict) else {}
    return {
        "status": applied.outcome.value,
        "checkpoint_id": checkpoint.id,
        "safety_checkpoint_id": applied.checkpoint_id,
        "changed": facts.get("changed", []),
        "conflicts": facts.get("conflicts", []),
        "message": applied.output,
    }


async def _wanted(call: Call, arguments: RestoreRequest) -> Checkpoint:
    store = call.workspace.store
    if (arguments.checkpoint_id is None) == (arguments.run_id is None):
        raise InvalidInput("Give either checkpoint_id or run_id.", data={"field": "checkpoint_id"})
    if arguments.checkpoint_id is not None:
        return await store.checkpoint(arguments.checkpoint_id)
    run = await store.run(arguments.run_id or "")
    found = [c for c in await store.checkpoints(run.stream, ALL) if c.kind is CheckpointKind.ACTION]
    if not found:
        raise NotFound(f"Run {run.id} has no checkpoint: it changed nothing.")
    return found[-1] if arguments.to == "first" else found[0]


async def _changed_since(call: Call, checkpoint: Checkpoint) -> tuple[str, ...]:
    """The paths that this stream changed after the checkpoint was taken."""
    changed: dict[str, None] = {}
    after, reached = 0, False
    while events := await call.workspace.store.events(checkpoint.stream, after=after):
        for event in events:
            if reached:
                changed.update(dict.fromkeys(_paths(event)))
            elif event.type == EventType.CHECKPOINT_CREATED:
                created = event.payload.get("checkpoint")
                reached = isinstance(created, dict) and created.get("id") == checkpoint.id
        after = events[-1].seq
    return tuple(changed)


def _paths(event: Event) -> list[str]:
    """The paths an event says were changed."""
    if event.type == EventType.TOOLCALL_RESULT:
        applied = event.payload.get("applied")
        files = applied.get("files") if isinstance(applied, dict) else None
        return [str(f["path"]) for f in files if isinstance(f, dict)] if isinstance(files, list) else []
    if event.type == EventType.CHECKPOINT_RESTORED:
        restored = event.payload.get("restored")
        changed = restored.get("changed") if isinstance(restored, dict) else None
        return [str(path) for path in changed] if isinstance(changed, list) else []
    return []


class DiffRequest(Frozen):
    """A checkpoint, and another one to compare with; without it the tree as it is now."""

    checkpoint_id: str = Field(min_length=1, max_length=100)
    other: str | None = Field(default=None, max_length=100)


async def checkpoint_diff(call: Call, arguments: DiffRequest) -> JsonObject:
    """The unified diff from a checkpoint to another or to now."""
    store = call.workspace.store
    other = await store.checkpoint(arguments.other) if arguments.other else None
    checkpoint = await store.checkpoint(arguments.checkpoint_id)
    with call.workspace.checkpoints.telling(call.progress):
        diff = await call.workspace.checkpoints.diff(checkpoint, other)
    return {"diff": diff}


OPERATIONS = (
    Operation(
        "edits.apply",
        "Propose edits",
        Edits,
        edits_apply,
        changes=True,
        only_looks=lambda edits: edits.dry_run,
    ),
    Operation("checkpoint.list", "List checkpoints", CheckpointFilter, checkpoint_list),
    Operation(
        "checkpoint.restore", "Go back to a checkpoint", RestoreRequest, checkpoint_restore, changes=True
    ),
    Operation(
        "checkpoint.diff", "What changed since a checkpoint", DiffRequest, checkpoint_diff, persons_only=True
    ),
)
