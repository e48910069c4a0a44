"""The life of runs: start, resume, cancel, suspend, and the one way in which every run ends."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence

from pydantic import Field

from codeforge_ls.actions.executions import Executions
from codeforge_ls.logs import task_id
from codeforge_ls.model.actions import Actor
from codeforge_ls.model.base import Frozen, new_id
from codeforge_ls.model.errors import CodeForgeError, Conflict, Unavailable
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.limits import ExecMode, ResourceLimits
from codeforge_ls.model.modes import DEFAULT_MODE, mode_named
from codeforge_ls.model.policy import PolicyLayer
from codeforge_ls.model.runs import Run, RunStatus
from codeforge_ls.model.tightening import Tightening
from codeforge_ls.runs.clock import RunClock
from codeforge_ls.runs.limits import RunEnded, limits_of
from codeforge_ls.runs.loop import AgentLoop
from codeforge_ls.store import Store

log = logging.getLogger(__name__)

UNFINISHED = (RunStatus.PENDING, RunStatus.RUNNING, RunStatus.QUALITY_GATE)
LOST = "the daemon ended while this run was at work; `codeforge run --resume ID` goes on"


class RunRequest(Frozen):
    """What is wanted of a run."""

    task: str = Field(min_length=1, max_length=100_000)
    profile: str | None = Field(default=None, max_length=100)
    tighten: Tightening | None = None
    mode: str = DEFAULT_MODE
    model: str | None = Field(default=None, max_length=200)
    exec_mode: ExecMode | None = None
    limits: ResourceLimits | None = None
    plan_id: str | None = None
    plan_step: int | None = None


class Runs:
    """All runs of one workspace.

    ``layers`` resolves the policy for an actor and a profile name; ``model`` the name of the model to use, and
    raises ``Unavailable`` with the way to set one; ``loop`` builds the agent loop of a run; ``executions`` say how its
    commands run. More than ``max_concurrent`` runs wait for their turn.
    """

    def __init__(
        self,
        store: Store,
        layers: Callable[[Actor, str | None], Sequence[PolicyLayer]],
        model: Callable[[str | None], str],
        loop: Callable[[Run], AgentLoop],
        executions: Executions,
        max_concurrent: int,
    ) -> None:
        self._store, self._layers, self._model, self._loop = store, layers, model, loop
        self._executions = executions
        self._tasks: dict[str, asyncio.Task[None]] = {}
        self._stops: dict[str, tuple[RunStatus, str]] = {}
        self._slots = asyncio.Semaphore(max_concurrent)
        self._closed = False

    def active(self) -> list[str]:
        """Ids of the runs that are at work now."""
        return list(self._tasks)

    async def start(self, request: RunRequest, actor: Actor) -> Run:
        """Record the run and set it to work in the background. Returns at once.

        Raises ``InvalidInput`` or ``NotFound`` for a bad mode or profile, ``Unavailable`` without a model.
        """
        run = self.draw_up(request, actor)
        await self._store.append(
            EventDraft(
                stream=run.stream,
                type=EventType.RUN_CREATED,
                payload={"run": run.model_dump(mode="json")},
                actor=actor.label,
            )
        )
        self._launch(run, actor)
        return run

    def draw_up(self, request: RunRequest, actor: Actor) -> Run:
        """The run that this request would start, with what is in force now. Raises what ``start`` raises."""
        self._refuse_when_closed()
        mode = mode_named(request.mode)
        layers = tuple(self._layers(actor, request.profile))
        if request.tighten is not None:
            layers += (request.tighten.as_layer(),)
        return Run(
            id=new_id("run"),
            task=request.task,
            profile=layers[0].profile.name if layers else "",
            layers=layers,
            mode=mode.id,
            execution=self._executions.wished(actor, layers, request.exec_mode, request.limits),
            model=self._model(request.model),
            started_by=actor.label,
            plan_id=request.plan_id,
            plan_step=request.plan_step,
            created_at=time.time(),
        )

    async def resume(self, run_id: str, actor: Actor) -> Run:
        """Go on with a suspended run from what the log holds. Raises ``Conflict`` for any other state."""
        self._refuse_when_closed()
        run = await self._store.run(run_id)
        if run.status is not RunStatus.SUSPENDED or run_id in self._tasks:
            raise Conflict(f"Run {run_id} is {run.status.value}; only a suspended run can be resumed.")
        self._launch(run, actor)
        return run

    async def cancel(self, run_id: str, reason: str = "cancelled") -> Run:
        """Stop a run, its model call and its command. Raises ``Conflict`` when it has ended already."""
        run = await self._store.run(run_id)
        if run.status.is_terminal:
            raise Conflict(f"Run {run_id} is {run.status.value} already.")
        if run_id in self._tasks:
            await self._stop(run_id, RunStatus.CANCELLED, reason)
        else:
            await self._finalize(run_id, RunStatus.CANCELLED, reason)
        return await self._store.run(run_id)

    async def wait(self, run_id: str) -> Run:
        """Wait until the run is not at work any more and return it."""
        if task := self._tasks.get(run_id):
            await asyncio.wait({task})
        return await self._store.run(run_id)

    async def reconcile(self) -> None:
        """At start-up: runs that a dead daemon left at work become suspended."""
        for run in await self._store.runs(limit=10_000, statuses=UNFINISHED):
            if run.id not in self._tasks:
                await self._end(run.id, RunStatus.SUSPENDED, LOST)

    async def suspend_all(self, reason: str) -> None:
        """At shutdown: stop taking runs in and stop those at work so that they can be resumed."""
        self._closed = True
        await asyncio.gather(
            *(self._stop(run_id, RunStatus.SUSPENDED, reason) for run_id in list(self._tasks))
        )

    def _launch(self, run: Run, actor: Actor) -> None:
        task = asyncio.create_task(self._drive(run, actor), name=run.id)
        self._tasks[run.id] = task

    async def _stop(self, run_id: str, status: RunStatus, reason: str) -> None:
        task = self._tasks.get(run_id)
        if task is None:
            return
        self._stops.setdefault(run_id, (status, reason))
        task.cancel()
        await asyncio.wait({task})
        # A task that is cancelled before its first step never reaches its own ending.
        await self._end(run_id, status, reason)
        self._forget(run_id)

    async def _drive(self, run: Run, actor: Actor) -> None:
        """Work, and end in exactly one way, whatever happens."""
        status, reason, output = RunStatus.FAILED, "internal error; see `codeforge logs errors`", ""
        task_id.set(run.id)
        try:
            async with self._slots:
                await self._store.append(
                    EventDraft(stream=run.stream, type=EventType.RUN_STARTED, actor=actor.label)
                )
                async with RunClock(self._store, run.stream, limits_of(run).timeout_seconds).running():
                    output = await self._loop(run).work()
            status, reason = RunStatus.COMPLETED, ""
        except RunEnded as end:
            status, reason, output = end.status, end.reason, end.output
        except TimeoutError:
            status, reason = RunStatus.TIMEOUT, "context-level timeout"
        except asyncio.CancelledError:
            status, reason = self._stops.get(run.id, (RunStatus.SUSPENDED, "shutdown"))
        except CodeForgeError as error:
            reason = error.text
        except Exception:
            log.exception("run %s failed", run.id)
        finally:
            await asyncio.shield(asyncio.ensure_future(self._end(run.id, status, reason, output)))
            self._forget(run.id)

    def _forget(self, run_id: str) -> None:
        self._stops.pop(run_id, None)
        self._tasks.pop(run_id, None)

    async def _end(self, run_id: str, status: RunStatus, reason: str, output: str = "") -> None:
        """Suspend the run or finalize it."""
        if status is not RunStatus.SUSPENDED:
            await self._finalize(run_id, status, reason, output)
        elif (await self._store.run(run_id)).status in UNFINISHED:
            await self._store.append(
                EventDraft(stream=f"run:{run_id}", type=EventType.RUN_SUSPENDED, payload={"reason": reason})
            )

    async def _finalize(self, run_id: str, status: RunStatus, reason: str, output: str = "") -> None:
        """The one ending of a run: recorded once; a run that has ended stays as it is."""
        if (await self._store.run(run_id)).status.is_terminal:
            return
        await self._store.append(
            EventDraft(
                stream=f"run:{run_id}",
                type=EventType.RUN_COMPLETED,
                payload={"status": status.value, "reason": reason, "output": output[:1_000_000]},
            )
        )

    def _refuse_when_closed(self) -> None:
        if self._closed:
            raise Unavailable("CodeForge is shutting down.", hint="Try again in a moment.")
