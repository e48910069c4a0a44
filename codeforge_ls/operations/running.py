"""Operations on runs and plans."""

from __future__ import annotations

from pydantic import Field

from codeforge_ls.model.base import Frozen, JsonObject, JsonValue
from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.model.runs import Plan, Run
from codeforge_ls.model.tightening import Tightening
from codeforge_ls.operations.operation import Call, Operation
from codeforge_ls.plans.service import PlanRequest
from codeforge_ls.runs.service import RunRequest


class RunStart(Frozen):
    """The task, and under which policy, mode and model."""

    task: str = Field(min_length=1, max_length=100_000)
    profile: str | None = Field(default=None, max_length=100)
    tighten: Tightening | None = Field(default=None, description="Rules and limits for this run alone")
    mode: str = Field(default="coder", max_length=100)
    model: str | None = Field(default=None, max_length=200)
    exec_mode: ExecMode | None = None
    limits: ResourceLimits | None = None


async def run_start(call: Call, arguments: RunStart) -> JsonObject:
    """Start a run; answers with its id at once. ``profiles`` are all in force: the one asked for, then those that
    tighten it."""
    run = await call.workspace.runs.start(RunRequest.model_validate(arguments.model_dump()), call.actor)
    profiles: list[JsonValue] = [*dict.fromkeys(layer.profile.name for layer in run.layers)]
    return {
        "run_id": run.id,
        "profile": run.profile,
        "profiles": profiles,
        "model": run.model,
        "mode": run.mode,
        "execution": run.execution.model_dump(mode="json"),
    }


class RunId(Frozen):
    """Which run."""

    run_id: str = Field(min_length=1, max_length=100)


class RunEvents(RunId):
    """Which run, and which part of its log: events with ``seq`` > ``after``."""

    after: int = Field(default=0, ge=0)
    limit: int = Field(default=200, ge=1, le=2000)


async def run_get(call: Call, arguments: RunEvents) -> JsonObject:
    """The run and a page of its events."""
    run = await call.workspace.store.run(arguments.run_id)
    return {"run": show_run(run), **await _events(call, run, arguments)}


async def run_events(call: Call, arguments: RunEvents) -> JsonObject:
    """A page of a run's events; ``next_cursor`` is the ``after`` of the next page."""
    return await _events(call, await call.workspace.store.run(arguments.run_id), arguments)


async def _events(call: Call, run: Run, page: RunEvents) -> JsonObject:
    events = await call.workspace.store.events(run.stream, after=page.after, limit=page.limit)
    dumped: list[JsonValue] = [event.model_dump(mode="json") for event in events]
    return {"events": dumped, "next_cursor": events[-1].seq if events else page.after}


class Listing(Frozen):
    """How many of the newest."""

    limit: int = Field(default=50, ge=1, le=1000)


async def run_list(call: Call, arguments: Listing) -> JsonObject:
    """The newest runs."""
    runs = await call.workspace.store.runs(limit=arguments.limit)
    return {"runs": [show_run(run) for run in runs]}


async def run_cancel(call: Call, arguments: RunId) -> JsonObject:
    """Cancel a run and wait until it has ended."""
    run = await call.workspace.runs.cancel(arguments.run_id, f"cancelled by {call.actor.label}")
    return {"run": show_run(run)}


async def run_resume(call: Call, arguments: RunId) -> JsonObject:
    """Go on with a suspended run."""
    run = await call.workspace.runs.resume(arguments.run_id, call.actor)
    return {"run_id": run.id}


def show_run(run: Run) -> JsonObject:
    """A run for a client: without the snapshot of the policy, which ``run.created`` holds."""
    return run.model_dump(mode="json", exclude={"layers"})


async def plan_start(call: Call, arguments: PlanRequest) -> JsonObject:
    """Start a plan; answers with its id at once."""
    plan = await call.workspace.plans.start(arguments, call.actor)
    return {"plan_id": plan.id}


class PlanId(Frozen):
    """Which plan."""

    plan_id: str = Field(min_length=1, max_length=100)


async def plan_get(call: Call, arguments: PlanId) -> JsonObject:
    """The plan with its steps."""
    return {"plan": show_plan(await call.workspace.store.plan(arguments.plan_id))}


async def plan_list(call: Call, arguments: Listing) -> JsonObject:
    """The newest plans."""
    plans = await call.workspace.store.plans(limit=arguments.limit)
    return {"plans": [show_plan(plan) for plan in plans]}


async def plan_cancel(call: Call, arguments: PlanId) -> JsonObject:
    """Cancel a plan and the run at work."""
    plan = await call.workspace.plans.cancel(arguments.plan_id, f"cancelled by {call.actor.label}")
    return {"plan": show_plan(plan)}


def show_plan(plan: Plan) -> JsonObject:
    """A plan for a client."""
    return plan.model_dump(mode="json")


OPERATIONS = (
    Operation("run.start", "Give an agent a task", RunStart, run_start, changes=True),
    Operation("run.get", "A run and its events", RunEvents, run_get),
    Operation("run.events", "Events of a run after a cursor", RunEvents, run_events),
    Operation("run.list", "The newest runs", Listing, run_list),
    Operation("run.cancel", "Cancel a run", RunId, run_cancel, changes=True, vital=True),
    Operation("run.resume", "Resume a suspended run", RunId, run_resume, persons_only=True, changes=True),
    Operation("plan.start", "Run several tasks in order", PlanRequest, plan_start, changes=True),
    Operation("plan.get", "A plan and its steps", PlanId, plan_get),
    Operation("plan.list", "The newest plans", Listing, plan_list),
    Operation("plan.cancel", "Cancel a plan", PlanId, plan_cancel, changes=True, vital=True),
)
