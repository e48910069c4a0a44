"""The agent loop: ask the model, pass its tool calls through the gate, until it has nothing more to do."""

from __future__ import annotations

import contextlib
import json
import time
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, field

from codeforge_ls.actions.consent import UNANSWERED
from codeforge_ls.actions.gate import Gate
from codeforge_ls.actions.tool import ToolKind
from codeforge_ls.config import LlmSettings
from codeforge_ls.llm.backend import ModelBackend
from codeforge_ls.model.actions import Action, Actor, Applied, Tool
from codeforge_ls.model.base import Frozen, JsonObject, new_id
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.llm import (
    Message,
    ModelRequest,
    TextDelta,
    ToolRequest,
    TurnDone,
    TurnFailed,
    TurnRetry,
)
from codeforge_ls.model.modes import mode_named
from codeforge_ls.model.policy import Termination
from codeforge_ls.model.runs import Run, RunStatus
from codeforge_ls.runs.limits import RunEnded, StallTracker, check, limits_of
from codeforge_ls.runs.live import LiveText
from codeforge_ls.runs.provenance import as_text, mark_of
from codeforge_ls.store import Store

ERRORS_IN_A_ROW = 8  # tool calls that could not even be understood
INCOMPLETE_TURNS = 3  # cut streams before the run gives up
UNANSWERED_IN_A_ROW = 3  # questions that nobody answered: nobody is there, and the run waits for somebody
STALLED = (
    "You repeat the same calls with the same results. Try another way, or finish and say what is in the way."
)
EMPTY = "Your answer was empty. Call a tool, or answer with a summary of what was done."
NOT_DONE = "Not done: nobody answers questions, so the run is suspended."
LOST = (
    "Unknown outcome: CodeForge ended while this call was in flight, and it was not repeated. "
    "Look at the state of the workspace before you try it again."
)


@dataclass
class AgentLoop:
    """One run at work. ``settings`` are those of the model, as they are at each call."""

    run: Run
    store: Store
    gate: Gate
    backend: ModelBackend
    tools: Sequence[ToolKind[Frozen]]
    settings: Callable[[], LlmSettings]
    opening: Callable[[Run], Awaitable[Sequence[Message]]]
    max_result: Callable[[], int]
    messages: list[Message] = field(default_factory=list)

    def __post_init__(self) -> None:
        allowed = mode_named(self.run.mode).tools
        self._tools = [kind for kind in self.tools if kind.tool in allowed]
        self._limits: Termination = limits_of(self.run)
        self._stall = StallTracker(self._limits.stall_threshold if self._limits.stall_detection else 0)
        self._actor = Actor(
            kind="agent", name=self.run.task.strip().split("\n", 1)[0][:80], run_id=self.run.id
        )
        self._bad_calls = 0
        self._unanswered = 0

    async def work(self) -> str:
        """Run to the end and return the model's last words. Raises ``RunEnded`` at a limit or a failure, and to be
        suspended when nobody answers."""
        self.messages = await self.store.messages(self.run.id)
        if not self.messages:
            await self._say(*await self.opening(self.run))
        await self._answer_lost_calls()
        nudged = False
        while True:
            turn = await self._turn()
            if turn.tool_calls:
                await self._step(turn.tool_calls)
            elif turn.text.strip():
                return turn.text
            elif nudged:
                raise RunEnded(RunStatus.FAILED, "the model answered with nothing, twice")
            else:
                nudged = True
                await self._say(Message(role="user", content=EMPTY))

    async def _turn(self) -> TurnDone:
        """One complete answer of the model, recorded with its usage. A cut stream is thrown away and asked again."""
        for _ in range(INCOMPLETE_TURNS):
            self.run = await self.store.run(self.run.id)
            check(self.run, self._limits)
            event_id, started = new_id("event"), time.monotonic()
            done = await self._stream(event_id)
            called: JsonObject = {
                "usage": done.usage.model_dump(mode="json"),
                "model": done.model,
                "finish_reason": done.finish_reason,
                "complete": done.complete,
                "attempts": done.attempts,
                "duration": round(time.monotonic() - started, 3),
            }
            drafts = [self._draft(EventType.AGENT_MODEL_CALLED, called)]
            if not done.complete:
                await self.store.append(*drafts)
                continue
            message = Message(role="assistant", content=done.text, tool_calls=done.tool_calls)
            if done.text or done.tool_calls:
                drafts.append(self._message(message, event_id))
                self.messages.append(message)
            await self.store.append(*drafts)
            return done
        raise RunEnded(RunStatus.FAILED, f"the model's answer was cut off {INCOMPLETE_TURNS} times")

    def _request(self) -> ModelRequest:
        llm = self.settings()
        return ModelRequest(
            model=self.run.model,
            messages=tuple(self.messages),
            tools=tuple(kind.schema() for kind in self._tools),
            api_base=llm.api_base,
            temperature=llm.temperature,
            max_output_tokens=llm.max_output_tokens,
            first_token_timeout=llm.first_token_timeout,
            idle_timeout=llm.idle_timeout,
            total_timeout=llm.total_timeout,
            request_id=self.run.id,
        )

    async def _stream(self, event_id: str) -> TurnDone:
        said, thought = self._live(event_id)
        async with contextlib.aclosing(self.backend.stream(self._request())) as turn:
            async for event in turn:
                match event:
                    case TextDelta():
                        (thought if event.reasoning else said).add(event.text)
                    case TurnRetry():
                        said, thought = self._live(event_id)
                        retry: JsonObject = {**event.model_dump(mode="json"), "retry": True}
                        await self.store.append(self._draft(EventType.AGENT_ERROR, retry))
                    case TurnFailed():
                        await self.store.append(
                            self._draft(EventType.AGENT_ERROR, event.model_dump(mode="json"))
                        )
                        raise RunEnded(RunStatus.FAILED, f"model: {event.kind}: {event.message}")
                    case TurnDone():
                        said.end()
                        thought.end()
                        return event
        raise RunEnded(RunStatus.FAILED, "model: the answer ended without an ending")

    def _live(self, event_id: str) -> tuple[LiveText, LiveText]:
        stream = self.run.stream
        return (
            LiveText(self.store, stream, event_id, "text"),
            LiveText(self.store, stream, event_id, "reasoning"),
        )

    async def _step(self, calls: Sequence[ToolRequest]) -> None:
        """Carry out the calls in order; every call gets a result message, also one that was not understood."""
        for call in calls:
            text = NOT_DONE if self._is_alone else await self._call(call)
            await self._say(Message(role="tool", content=text, tool_call_id=call.id, name=call.name))
            if self._stall.note(call.name, call.arguments, text):
                await self.store.append(
                    self._draft(EventType.RUN_STALL_DETECTED, {"tool": call.name, "warned": True})
                )
                await self._say(Message(role="user", content=STALLED))
        await self.store.append(self._draft(EventType.AGENT_STEP_DONE, {"calls": len(calls)}))
        if self._is_alone:
            raise RunEnded(
                RunStatus.SUSPENDED,
                f"nobody answered {self._unanswered} questions in a row; "
                f"`codeforge run --resume {self.run.id}` goes on",
            )

    @property
    def _is_alone(self) -> bool:
        return self._unanswered >= UNANSWERED_IN_A_ROW

    async def _call(self, call: ToolRequest) -> str:
        arguments = _arguments(call)
        kind = next((kind for kind in self._tools if kind.tool.value == call.name), None)
        if kind is None or isinstance(arguments, str):
            self._bad_calls += 1
            if self._bad_calls >= ERRORS_IN_A_ROW:
                raise RunEnded(
                    RunStatus.FAILED, f"{ERRORS_IN_A_ROW} tool calls in a row could not be understood"
                )
            names = ", ".join(kind.tool.value for kind in self._tools)
            reason = (
                arguments
                if isinstance(arguments, str)
                else f"no tool {call.name!r} in this mode; there are: {names}"
            )
            return f"ERROR: {reason}"
        self._bad_calls = 0
        applied = await self._perform(kind.tool, call.id, arguments)
        return as_text(applied, self.max_result(), kind.tool.value, mark_of(self.run.id))

    async def _perform(self, tool: Tool, call_id: str, arguments: JsonObject) -> Applied:
        action = Action(
            id=new_id("action"),
            actor=self._actor,
            tool=tool,
            arguments=arguments,
            stream=self.run.stream,
            call_id=call_id,
            execution=self.run.execution,
        )
        output = LiveText(self.store, self.run.stream, action.id, "output")
        applied = await self.gate.perform(action, self.run.layers, on_output=output.add)
        output.end()
        if applied.approval_id is not None:  # somebody was to be asked
            error = applied.data.get("error")
            facts = error.get("data") if isinstance(error, dict) else None
            alone = isinstance(facts, dict) and bool(facts.get(UNANSWERED))
            self._unanswered = self._unanswered + 1 if alone else 0
        return applied

    async def _answer_lost_calls(self) -> None:
        """After a resume: give every call of the last turn that has no result the answer that it is unknown."""
        answered = {message.tool_call_id for message in self.messages if message.role == "tool"}
        lost = [call for message in self.messages for call in message.tool_calls if call.id not in answered]
        if lost:
            await self._say(
                *(Message(role="tool", content=LOST, tool_call_id=c.id, name=c.name) for c in lost)
            )

    async def _say(self, *messages: Message) -> None:
        await self.store.append(*(self._message(message) for message in messages))
        self.messages.extend(messages)

    def _message(self, message: Message, event_id: str | None = None) -> EventDraft:
        draft = self._draft(EventType.RUN_MESSAGE, {"message": message.model_dump(mode="json")})
        return draft.model_copy(update={"id": event_id})

    def _draft(self, kind: EventType, payload: JsonObject) -> EventDraft:
        return EventDraft(stream=self.run.stream, type=kind, payload=payload, actor=self._actor.label)


def _arguments(call: ToolRequest) -> JsonObject | str:
    """The arguments as an object, or a sentence that says why they are none."""
    try:
        value = json.loads(call.arguments or "{}")
    except ValueError:
        return "the arguments are not valid JSON (were they cut off?); use smaller steps"
    return value if isinstance(value, dict) else "the arguments must be a JSON object"
