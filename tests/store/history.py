"""Real histories for the tests of the store: drafts as the rooms above emit them."""

from __future__ import annotations

import random

from codeforge_ls.model.approvals import Approval
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.checkpoints import Checkpoint, Restored
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.llm import Message, Usage
from codeforge_ls.model.policy import Decision, PolicyDecision, PolicyScope
from codeforge_ls.model.runs import Plan, PlanStep, Run, StepStatus

DECISION = PolicyDecision(
    decision=Decision.ASK,
    profile="editor-interactive",
    scope=PolicyScope.PRESET,
    rule_index=0,
    reason="edits ask",
)


def draft(stream: str, kind: EventType, payload: JsonObject | None = None) -> EventDraft:
    return EventDraft(stream=stream, type=kind, payload=payload or {}, actor="cli:test")


def run_created(run_id: str) -> EventDraft:
    run = Run(id=run_id, task=f"task of {run_id}", profile="editor-interactive", created_at=1000.5)
    return draft(run.stream, EventType.RUN_CREATED, {"run": run.model_dump(mode="json")})


def run_completed(run_id: str, status: str = "completed") -> EventDraft:
    return draft(f"run:{run_id}", EventType.RUN_COMPLETED, {"status": status, "reason": "", "output": "done"})


def model_called(run_id: str, cost: int | None = 700) -> EventDraft:
    usage = Usage(tokens_in=10, tokens_out=3, source="provider", cost_nano_usd=cost)
    payload = {"usage": usage.model_dump(mode="json"), "model": "m", "finish_reason": "stop", "attempts": 1}
    return draft(f"run:{run_id}", EventType.AGENT_MODEL_CALLED, payload)


def checkpoint(run_id: str, name: str) -> Checkpoint:
    return Checkpoint(
        id=name, stream=f"run:{run_id}", commit="c0ffee", label="before Edit", created_at=1001.25
    )


def tool_call(run_id: str, call: str, *, answer: str = "allowed") -> list[EventDraft]:
    """A tool call through ask, approval, checkpoint and result; ``answer``: allowed, denied, or open (no answer)."""
    stream = f"run:{run_id}"
    approval = Approval(
        id=f"ap-{run_id}-{call}",
        action_hash="ab" * 32,
        tool="Edit",
        title="Edit a.py",
        stream=stream,
        decision=DECISION,
        created_at=1000.0,
        expires_at=1060.0,
    )
    decision = DECISION.model_dump(mode="json")
    drafts = [
        draft(
            stream,
            EventType.TOOLCALL_REQUESTED,
            {"call_id": call, "tool": "Edit", "arguments": {"path": "a.py"}, "action_id": f"act-{call}"},
        ),
        draft(stream, EventType.APPROVAL_REQUESTED, {"approval": approval.model_dump(mode="json")}),
    ]
    if answer == "open":
        return drafts
    said = {"approval_id": approval.id, "state": answer, "answered_by": "editor"}
    drafts.append(draft(stream, EventType.APPROVAL_ANSWERED, said))
    if answer == "denied":
        refusal = {"call_id": call, "decision": decision, "reason": "no"}
        return [*drafts, draft(stream, EventType.TOOLCALL_DENIED, refusal)]
    picture = checkpoint(run_id, f"cp-{run_id}-{call}").model_dump(mode="json")
    return [
        *drafts,
        draft(stream, EventType.APPROVAL_CONSUMED, {"approval_id": approval.id}),
        draft(stream, EventType.CHECKPOINT_CREATED, {"checkpoint": picture}),
        draft(
            stream,
            EventType.TOOLCALL_APPROVED,
            {"call_id": call, "decision": decision, "approval_id": approval.id},
        ),
        draft(
            stream,
            EventType.TOOLCALL_RESULT,
            {"call_id": call, "applied": {"outcome": "applied", "output": "ok"}, "duration": 0.25},
        ),
    ]


def message(run_id: str, role: str, text: str) -> EventDraft:
    said = Message(role=role, content=text).model_dump(mode="json")
    return draft(f"run:{run_id}", EventType.RUN_MESSAGE, {"message": said})


def restored(run_id: str, name: str) -> EventDraft:
    safety = checkpoint(run_id, f"safety-{name}")
    what = Restored(checkpoint_id=name, safety=safety, changed=("a.py",))
    return draft(f"run:{run_id}", EventType.CHECKPOINT_RESTORED, {"restored": what.model_dump(mode="json")})


def plan(plan_id: str, ending: EventType = EventType.PLAN_COMPLETED) -> list[EventDraft]:
    steps = tuple(PlanStep(index=i, task=f"step {i}") for i in range(2))
    whole = Plan(id=plan_id, name="two things", steps=steps, created_at=1002.0)
    stream = whole.stream
    changes = [
        PlanStep(index=0, task="step 0", status=StepStatus.RUNNING, run_id="r-x"),
        PlanStep(index=0, task="step 0", status=StepStatus.COMPLETED, run_id="r-x"),
        PlanStep(index=1, task="step 1", status=StepStatus.FAILED, error="it broke"),
    ]
    return [
        draft(stream, EventType.PLAN_CREATED, {"plan": whole.model_dump(mode="json")}),
        draft(stream, EventType.PLAN_STARTED),
        *(draft(stream, EventType.PLAN_STEP_CHANGED, {"step": s.model_dump(mode="json")}) for s in changes),
        draft(stream, ending, {"reason": "as told"}),
    ]


def whole_run(run_id: str) -> list[EventDraft]:
    """One run from its creation to its end, with every event a run can have."""
    stream = f"run:{run_id}"
    return [
        run_created(run_id),
        draft(stream, EventType.RUN_STARTED),
        message(run_id, "user", "please"),
        model_called(run_id),
        message(run_id, "assistant", "I will"),
        *tool_call(run_id, "c1"),
        *tool_call(run_id, "c2", answer="denied"),
        draft(stream, EventType.AGENT_STEP_DONE, {"step": 1}),
        draft(stream, EventType.RUN_SUSPENDED, {"reason": "shutdown"}),
        draft(stream, EventType.RUN_STARTED),
        model_called(run_id, None),
        draft(stream, EventType.AGENT_STEP_DONE, {}),
        restored(run_id, f"cp-{run_id}-c1"),
        draft(stream, EventType.RUN_STALL_DETECTED, {"tool": "Edit"}),
        draft(stream, EventType.AGENT_ERROR, {"message": "rate limit"}),
        run_completed(run_id),
    ]


def random_history(seed: int, runs: int) -> list[EventDraft]:
    """Many runs and plans whose events are shuffled into each other, each in its own order; some do not end."""
    chance = random.Random(seed)
    feeds = [whole_run(f"r{number}") for number in range(runs)]
    feeds += [plan(f"p{n}", chance.choice(list(ENDINGS))) for n in range(runs // 2)]
    feeds = [feed if chance.random() < 0.7 else feed[: chance.randrange(1, len(feed))] for feed in feeds]
    mixed: list[EventDraft] = []
    while feeds := [feed for feed in feeds if feed]:
        mixed.append(chance.choice(feeds).pop(0))
        if chance.random() < 0.1:
            mixed.append(draft("workspace", EventType.CONFIG_CHANGED, {"n": len(mixed)}))
    return mixed


ENDINGS = (EventType.PLAN_COMPLETED, EventType.PLAN_FAILED, EventType.PLAN_CANCELLED)
