"""The one stream of events as an editor sees it: notifications of runs, plans and approvals, and a bar for each."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from codeforge_ls.lsp.progress import Bar, ProgressBars, Token
from codeforge_ls.model.approvals import Approval
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.events import PROGRESS, Delta, Event, EventType
from codeforge_ls.model.runs import Plan, PlanStep, Run, StepStatus

if TYPE_CHECKING:
    from codeforge_ls.lsp.protocol import SessionProtocol

RUN_EVENT, RUN_DELTA, PLAN_EVENT = "codeforge/run/event", "codeforge/run/delta", "codeforge/plan/event"
APPROVAL = "codeforge/approval"
TITLE_LENGTH = 60
ENDINGS = frozenset(
    {
        EventType.RUN_COMPLETED,
        EventType.RUN_SUSPENDED,
        EventType.PLAN_COMPLETED,
        EventType.PLAN_FAILED,
        EventType.PLAN_CANCELLED,
    }
)
ENDED_STEPS = frozenset({StepStatus.COMPLETED, StepStatus.FAILED, StepStatus.SKIPPED, StepStatus.CANCELLED})

Cancel = Callable[[str, JsonObject], None]


@dataclass
class Followed:
    """A run or a plan at work: its bar, and for a plan how many of its steps have ended."""

    bar: Bar
    owns_bar: bool = True
    steps: int = 0
    ended: int = 0


class EventFeed:
    """Turns events and deltas into what one editor gets. ``cancel`` calls an operation in the background."""

    def __init__(
        self, protocol: SessionProtocol, bars: ProgressBars, cancel: Cancel, *, deltas: bool
    ) -> None:
        self._protocol, self._bars, self._cancel, self._deltas = protocol, bars, cancel, deltas
        self._followed: dict[str, Followed] = {}

    def show_at_work(self, plans: list[Plan], runs: list[Run], approvals: list[Approval]) -> None:
        """Bars for what is at work already, and the questions that wait."""
        for plan in plans:
            self._begin_plan(plan)
        for run in runs:
            self._begin_run(run)
        for approval in approvals:
            self._pending(approval.model_dump(mode="json"))

    def follow(self, stream: str, token: Token) -> None:
        """Show a run or plan under the token of the request that started it."""
        followed = self._followed.get(stream)
        if followed is not None:
            self._bars.adopt(followed.bar, token)
        else:  # it is over already
            self._bars.start("CodeForge", token=token).end("done")

    def on_event(self, event: Event) -> None:
        """A stored event. When the editor does not keep up it is left out: ``codeforge/run/events`` has it."""
        kind, _, name = event.stream.partition(":")
        if kind == "run":
            params: JsonObject = {"run_id": name, "seq": event.seq, "event": event.model_dump(mode="json")}
            self._protocol.notify(RUN_EVENT, params, droppable=True)
        elif kind == "plan":
            params = {"plan_id": name, "seq": event.seq, "event": event.model_dump(mode="json")}
            self._protocol.notify(PLAN_EVENT, params, droppable=True)
        self._approval(event)
        if kind in ("run", "plan"):
            self._progress(event)

    def on_delta(self, delta: Delta) -> None:
        """A live piece of text; sent only while the editor keeps up."""
        kind, _, run_id = delta.stream.partition(":")
        if delta.channel == PROGRESS:
            if followed := self._followed.get(delta.stream):
                followed.bar.report(followed.bar.percent, delta.text)
        elif self._deltas and kind == "run":
            params: JsonObject = {"run_id": run_id, **delta.model_dump(mode="json", exclude={"stream"})}
            self._protocol.notify(RUN_DELTA, params, droppable=True)

    # -- approvals ------------------------------------------------------------------------------------

    def _approval(self, event: Event) -> None:
        if event.type == EventType.APPROVAL_REQUESTED:
            self._pending(event.payload.get("approval"))
        elif event.type == EventType.APPROVAL_ANSWERED:
            payload = event.payload
            params: JsonObject = {
                "state": "answered",
                "approval_id": payload.get("approval_id"),
                "outcome": payload.get("state"),
                "answered_by": payload.get("answered_by"),
            }
            self._protocol.notify(APPROVAL, params)

    def _pending(self, approval: JsonValue) -> None:
        found = approval.get("id") if isinstance(approval, dict) else None
        self._protocol.notify(APPROVAL, {"state": "pending", "approval_id": found, "approval": approval})

    # -- progress -------------------------------------------------------------------------------------

    def _progress(self, event: Event) -> None:
        if event.type == EventType.RUN_CREATED:
            self._begin_run(Run.model_validate(event.payload["run"]))
        elif event.type == EventType.PLAN_CREATED:
            self._begin_plan(Plan.model_validate(event.payload["plan"]))
        elif followed := self._followed.get(event.stream):
            if event.type in ENDINGS:
                self._end(event, followed)
            elif event.type == EventType.PLAN_STEP_CHANGED:
                self._step(PlanStep.model_validate(event.payload["step"]), followed)
            elif message := _message(event):
                followed.bar.report(followed.bar.percent, message)

    def _begin_run(self, run: Run) -> None:
        plan = self._followed.get(f"plan:{run.plan_id}")
        if plan is not None:
            self._followed[run.stream] = Followed(plan.bar, owns_bar=False)
        elif run.stream not in self._followed:
            self._begin(run.stream, run.task, lambda: self._cancel("run.cancel", {"run_id": run.id}))

    def _begin_plan(self, plan: Plan) -> None:
        self._begin(plan.stream, plan.name, lambda: self._cancel("plan.cancel", {"plan_id": plan.id}))
        followed = self._followed[plan.stream]
        followed.steps = len(plan.steps)
        followed.ended = sum(step.status in ENDED_STEPS for step in plan.steps)
        followed.bar.percent = _percent(followed)

    def _begin(self, stream: str, title: str, on_cancel: Callable[[], None]) -> None:
        line = title.strip().split("\n", 1)[0]
        short = line if len(line) <= TITLE_LENGTH else line[: TITLE_LENGTH - 1] + "…"
        self._followed[stream] = Followed(self._bars.start(f"CodeForge: {short}", on_cancel=on_cancel))

    def _step(self, step: PlanStep, followed: Followed) -> None:
        followed.ended += step.status in ENDED_STEPS
        message = f"step {step.index + 1} of {followed.steps}: {step.status.value}"
        followed.bar.report(_percent(followed), message)

    def _end(self, event: Event, followed: Followed) -> None:
        del self._followed[event.stream]
        if followed.owns_bar:
            word = str(event.payload.get("status") or event.type.rpartition(".")[2])
            reason = str(event.payload.get("reason") or "")
            followed.bar.end(f"{word}: {reason}"[:300] if reason else word)


def _percent(plan: Followed) -> float:
    return 100 * plan.ended / max(1, plan.steps)


def _message(event: Event) -> str:
    """What a run is doing, in a few words."""
    payload = event.payload
    if event.type == EventType.TOOLCALL_REQUESTED:
        arguments = payload.get("arguments")
        given = arguments if isinstance(arguments, dict) else {}
        names = ("command", "file_path", "path", "pattern", "query")
        subject = next((str(given[name]) for name in names if given.get(name)), "")
        return f"{payload.get('tool')} {subject}"[:120].split("\n", 1)[0]
    if event.type == EventType.APPROVAL_REQUESTED:
        return "waits for your approval"
    if event.type == EventType.AGENT_STEP_DONE:
        return "thinking"
    return ""
