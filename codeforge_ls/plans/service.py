"""The life of plans: steps run in order; the first that does not complete ends the plan, the rest is skipped."""

from __future__ import annotations

import asyncio
import logging
import time
from typing import Annotated

from pydantic import Field

from codeforge_ls.model.actions import Actor
from codeforge_ls.model.base import Frozen, JsonObject, new_id
from codeforge_ls.model.errors import CodeForgeError, Conflict
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.limits import ExecMode
from codeforge_ls.model.runs import Plan, PlanStep, RunStatus, StepStatus
from codeforge_ls.model.tightening import Tightening
from codeforge_ls.runs.service import RunRequest, Runs
from codeforge_ls.store import Store

log = logging.getLogger(__name__)

STEP_OF_RUN = {
    RunStatus.COMPLETED: StepStatus.COMPLETED,
    RunStatus.CANCELLED: StepStatus.CANCELLED,
}


class PlanRequest(Frozen):
    """What is wanted of a plan."""

    tasks: tuple[Annotated[str, Field(min_length=1, max_length=100_000)], ...] = Field(
        min_length=1, max_length=100, description="Tasks, in the order to be done"
    )
    name: str = Field(default="", max_length=200)
    profile: str | None = Field(default=None, max_length=100)
    mode: str = Field(default="coder", max_length=100)
    model: str | None = Field(default=None, max_length=200)
    exec_mode: ExecMode | None = None
    tighten: Tightening | None = Field(default=None, description="Rules and limits for each of its runs")


class Plans:
    """All plans of one workspace."""

    def __init__(self, store: Store, runs: Runs) -> None:
        self._store, self._runs = store, runs
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._cancelled: dict[str, str] = {}

    def active(self) -> list[str]:
        """Ids of the plans that are at work now."""
        return list(self._tasks)

    async def start(self, request: PlanRequest, actor: Actor) -> Plan:
        """Record the plan and set it to work in the background. Returns at once.

        Raises what the start of its runs would raise: a plan whose steps cannot even start is not begun.
        """
        plan = Plan(
            id=new_id("plan"),
            name=request.name or request.tasks[0][:80],
            profile=request.profile or "",
            steps=tuple(PlanStep(index=index, task=task) for index, task in enumerate(request.tasks)),
            started_by=actor.label,
            created_at=time.time(),
        )
        for step in plan.steps:
            self._runs.draw_up(_run_of(plan, step, request), actor)
        await self._record(plan, EventType.PLAN_CREATED, {"plan": plan.model_dump(mode="json")})
        self._tasks[plan.id] = asyncio.create_task(self._drive(plan, request, actor), name=plan.id)
        return plan

    async def cancel(self, plan_id: str, reason: str = "cancelled") -> Plan:
        """Cancel the run at work and skip what is left. Raises ``Conflict`` when the plan has ended."""
        plan = await self._store.plan(plan_id)
        if plan.status.is_terminal:
            raise Conflict(f"Plan {plan_id} is {plan.status.value} already.")
        self._cancelled[plan_id] = reason
        for step in plan.steps:
            if step.status is StepStatus.RUNNING and step.run_id in self._runs.active():
                await self._runs.cancel(step.run_id, f"plan {plan_id} was cancelled")
        if task := self._tasks.get(plan_id):
            await asyncio.wait({task})
        else:
            await self._end(plan, EventType.PLAN_CANCELLED, reason)
        return await self._store.plan(plan_id)

    async def reconcile(self) -> None:
        """At start-up: a plan that a dead daemon left at work has failed; its run is suspended and can be resumed."""
        for plan in await self._store.plans(limit=10_000):
            if not plan.status.is_terminal and plan.id not in self._tasks:
                await self._end(plan, EventType.PLAN_FAILED, "the daemon ended while this plan was at work")

    async def close(self) -> None:
        """At shutdown, after the runs were suspended: wait for the endings to be written."""
        if self._tasks:
            await asyncio.wait(set(self._tasks.values()), timeout=5)

    async def _drive(self, plan: Plan, request: PlanRequest, actor: Actor) -> None:
        ending, reason = EventType.PLAN_FAILED, "internal error; see `codeforge logs errors`"
        try:
            await self._record(plan, EventType.PLAN_STARTED, {})
            ending, reason = await self._in_order(plan, request, actor)
        except CodeForgeError as error:
            reason = error.text
        except Exception:
            log.exception("plan %s failed", plan.id)
        finally:
            await asyncio.shield(asyncio.ensure_future(self._end(plan, ending, reason)))
            self._tasks.pop(plan.id, None)
            self._cancelled.pop(plan.id, None)

    async def _in_order(self, plan: Plan, request: PlanRequest, actor: Actor) -> tuple[EventType, str]:
        for step in plan.steps:
            if plan.id in self._cancelled:
                return EventType.PLAN_CANCELLED, self._cancelled[plan.id]
            status, error = await self._one(plan, step, request, actor)
            if status is not StepStatus.COMPLETED:
                cancelled = plan.id in self._cancelled or status is StepStatus.CANCELLED
                kind = EventType.PLAN_CANCELLED if cancelled else EventType.PLAN_FAILED
                return kind, self._cancelled.get(plan.id) or f"step {step.index + 1}: {error}"
        return EventType.PLAN_COMPLETED, ""

    async def _one(
        self, plan: Plan, step: PlanStep, request: PlanRequest, actor: Actor
    ) -> tuple[StepStatus, str]:
        run = await self._runs.start(_run_of(plan, step, request), actor)
        running = step.model_copy(update={"status": StepStatus.RUNNING, "run_id": run.id})
        await self._step(plan, running)
        run = await self._runs.wait(run.id)
        status = STEP_OF_RUN.get(run.status, StepStatus.FAILED)
        error = "" if status is StepStatus.COMPLETED else run.reason or run.status.value
        await self._step(plan, running.model_copy(update={"status": status, "error": error}))
        return status, error

    async def _end(self, plan: Plan, ending: EventType, reason: str) -> None:
        """The one ending of a plan: pending steps are skipped, then the plan is closed."""
        current = await self._store.plan(plan.id)
        if current.status.is_terminal:
            return
        for step in current.steps:
            if step.status is StepStatus.PENDING:
                await self._step(plan, step.model_copy(update={"status": StepStatus.SKIPPED}))
            elif step.status is StepStatus.RUNNING:
                await self._step(plan, step.model_copy(update={"status": StepStatus.FAILED, "error": reason}))
        await self._record(plan, ending, {"reason": reason})

    async def _step(self, plan: Plan, step: PlanStep) -> None:
        await self._record(plan, EventType.PLAN_STEP_CHANGED, {"step": step.model_dump(mode="json")})

    async def _record(self, plan: Plan, kind: EventType, payload: JsonObject) -> None:
        await self._store.append(
            EventDraft(
                stream=plan.stream, type=kind, payload=payload, actor=plan.started_by or "system:codeforge"
            )
        )


def _run_of(plan: Plan, step: PlanStep, request: PlanRequest) -> RunRequest:
    return RunRequest(
        task=step.task,
        profile=request.profile,
        mode=request.mode,
        model=request.model,
        exec_mode=request.exec_mode,
        tighten=request.tighten,
        plan_id=plan.id,
        plan_step=step.index,
    )
