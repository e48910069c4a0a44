"""Calls of one MCP connection: who asks, one operation at a time limit, progress, cancel, errors for the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, InputRequiredResult, TextContent

from codeforge_ls import redaction
from codeforge_ls.logs import request_id
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.base import JsonObject, new_id
from codeforge_ls.model.errors import CodeForgeError, LimitReached, Unavailable
from codeforge_ls.model.events import EventDraft, EventType
from mcp_server.elicitation import (
    CallQuestions,
    Parked,
    ParkedCalls,
    can_ask_its_person,
    fingerprint,
    refuse_answer,
)
from mcp_server.run_questions import RunQuestions

if TYPE_CHECKING:
    from codeforge_ls.approvals.broker import ApprovalChannel
    from codeforge_ls.operations import Operations
    from codeforge_ls.operations.host import WorkspaceHost

CALL_SECONDS = 50.0  # many clients give a call up after 60; a pending edit answers by itself after 45
PROGRESS_SECONDS = 4.0  # clients are promised a sign of life at least every 5
TICK_SECONDS = 0.5  # how often new progress is passed on
PIPE = "mcp"  # the front end of who comes by ``codeforge-mcp``
STARTS_RUN, SHOWS_RUN = "run.start", "run.get"  # the operations whose client is asked what the run may do
MAX_CALLS = 32  # calls under way on one connection; an agent that sends more is told so
MAX_NAME = 80  # characters of what a client calls itself
ERROR_META = "codeforge/error"
KEY_META = "codeforge/idempotencyKey"  # of a request: at most one call with it has an effect
REPLAYED_META = "codeforge/replayed"  # of a result: it is that of an earlier call with the same key
UNTRUSTED_META = (
    "codeforge/untrusted"  # of a result: it holds text of the repository, which nobody vouches for
)
MAX_TEXT = 40_000  # characters of one result: clients cut or hide longer ones

ToolCallContext: TypeAlias = Context[Any, Any]  # the SDK's own types of a lifespan and a transport request

log = logging.getLogger(__name__)


class Connection:
    """One client's connection. ``session`` is our id of it, ``front_end`` the door it came in by; the workspace is
    opened by its first call."""

    def __init__(self, host: WorkspaceHost, session: str, front_end: str = PIPE) -> None:
        self._host, self.session, self.front_end = host, session, front_end
        self._calls: set[asyncio.Task[JsonObject]] = set()
        self._parked = ParkedCalls()
        self._run_questions: RunQuestions | None = None
        self._attached_questions: set[Callable[[], None]] = set()
        self._attached: asyncio.Task[Actor] | None = None

    async def call(
        self,
        operation: str,
        arguments: JsonObject,
        context: ToolCallContext,
        on_replay: Callable[[], None] = lambda: None,
    ) -> JsonObject | InputRequiredResult:
        """Run one operation, under the idempotency key of the request if it has one; ``on_replay`` is called when the
        answer was given before. The answer may be a question to the client's person, who answers by the next call.
        Raises ``CodeForgeError``; ``LimitReached`` after ``CALL_SECONDS``."""
        if len(self._calls) >= MAX_CALLS:
            raise LimitReached(f"{MAX_CALLS} calls are under way.", hint="Wait for their answers first.")
        news, key, call = _News(), _key(context), fingerprint(operation, arguments)
        if operation == SHOWS_RUN and (question := self._of_run(str(arguments.get("run_id")), context)):
            return question
        if context.request_state is not None and operation != SHOWS_RUN:
            parked = self._parked.resume(context.request_state, call, context.input_responses)
        elif (waiting := self._parked.asked_already(call)) is not None:
            return waiting
        else:
            actor = Actor(kind=ActorKind.MCP, name=_client_name(context), session=self.session)
            request = new_id("req")
            request_id.set(request)
            questions = CallQuestions(context, request, actor.name)
            parked = Parked(call, actor, questions)
        if parked.is_over:  # the first time, or when it has answered by now that it still waits
            work = self._run(operation, {**arguments, **key}, news, on_replay, parked)
            parked.task = asyncio.create_task(work, name=f"mcp-{operation}")
            self._calls.add(parked.task)
            parked.task.add_done_callback(self._calls.discard)
        waits_for_client = False
        try:
            answer = await _watch(parked, news, context, goes_on=bool(key))
            if answer is None:
                waits_for_client = True
                return self._parked.park(parked)
            return answer
        finally:
            if not waits_for_client and parked.task is not None:
                parked.task.cancel()  # no effect on a finished one; else a cancelled call or one out of time

    async def end(self) -> None:
        """Record that the client has left, if it was ever attached."""
        self._parked.end()
        for detach in list(self._attached_questions):
            detach()
        if self._attached is not None and self._attached.done() and self._attached.exception() is None:
            await self._record(EventType.SESSION_DETACHED, self._attached.result())

    async def _run(
        self,
        operation: str,
        arguments: JsonObject,
        news: _News,
        on_replay: Callable[[], None],
        parked: Parked,
    ) -> JsonObject:
        actor = parked.actor
        operations: Operations = await self._host.operations()
        if self._attached is None or (self._attached.done() and self._attached.exception()):
            self._attached = asyncio.create_task(self._record(EventType.SESSION_ATTACHED, actor))
        await asyncio.shield(self._attached)  # what this client does next is on record after its coming
        # Over HTTP an answer is one step further away from a person: no question goes there.
        if self.front_end == PIPE and can_ask_its_person(parked.questions.context):
            if operation == STARTS_RUN:
                await self._ask_for_run(parked)
            elif not parked.is_attached:
                parked.detach = await self._attach(parked.questions)
        try:
            return await operations.call(operation, arguments, actor, news, on_replay=on_replay)
        finally:
            if parked.detach is not None:  # not before an answer that is still to come
                parked.questions.when_settled(parked.detach)

    async def _attach(self, channel: ApprovalChannel) -> Callable[[], None]:
        """Let questions reach the client's person, until the function is called that this returns."""
        leave = (await self._host.workspace()).approvals.attach(channel)

        def detach() -> None:
            self._attached_questions.discard(detach)
            leave()

        self._attached_questions.add(detach)
        return detach

    async def _ask_for_run(self, parked: Parked) -> None:
        """What the run that is about to start wants is asked here too, until the client leaves."""
        if self._run_questions is None:
            self._run_questions = RunQuestions(parked.questions.context.session, parked.actor.name)
            await self._attach(self._run_questions)
        self._run_questions.started_by(request_id.get())

    def _of_run(self, run_id: str, context: ToolCallContext) -> InputRequiredResult | None:
        """What a run of this client asks its person. Takes the answer, if this call brings it."""
        questions, state = self._run_questions, context.request_state
        if state is not None:
            if questions is None:
                raise refuse_answer()
            questions.answered(run_id, state, context.input_responses)
            return None
        return questions.asked_by(run_id) if questions and can_ask_its_person(context) else None

    async def _record(self, kind: EventType, actor: Actor) -> Actor:
        workspace = await self._host.workspace()
        payload: JsonObject = {"client": actor.name, "front_end": self.front_end}
        draft = EventDraft(stream=f"session:{self.session}", type=kind, payload=payload, actor=actor.label)
        await workspace.store.append(draft)
        return actor


class _News:
    """The latest progress of a call: told by the operation, passed on by the watcher."""

    def __init__(self) -> None:
        self.percent: float | None = None
        self.message = "working"
        self.fresh = False

    def __call__(self, percent: float | None, message: str) -> None:
        self.percent = percent if percent is not None else self.percent
        self.message, self.fresh = message or self.message, True


async def _watch(
    parked: Parked, news: _News, context: ToolCallContext, *, goes_on: bool
) -> JsonObject | None:
    """Wait for the operation; pass its progress on, and make some when there is none. None: a question waits, which
    the client is to answer by its next call. ``goes_on``: it has a key and ends by itself, whoever waits."""
    task, questions = parked.task, parked.questions
    assert task is not None  # noqa: S101 - started by the caller
    loop = asyncio.get_running_loop()
    start = told = loop.time()
    sent = 0.0
    while not task.done():
        asked = asyncio.ensure_future(questions.asked.wait())
        await asyncio.wait({task, asked}, timeout=TICK_SECONDS, return_when=asyncio.FIRST_COMPLETED)
        asked.cancel()
        now = loop.time()
        if task.done():
            break
        if questions.question is not None:
            return None
        questions.asked.clear()
        if now - start >= CALL_SECONDS:
            if goes_on:
                raise LimitReached(
                    f"The call takes longer than {CALL_SECONDS:g} s and goes on.",
                    hint="Repeat it with the same key to get its answer.",
                )
            raise LimitReached(
                f"The call took longer than {CALL_SECONDS:g} s and was stopped.",
                hint="Ask for less, or use start_run for long work.",
            )
        if news.fresh or now - told >= PROGRESS_SECONDS:
            news.fresh, told = False, now
            sent = max(sent + 0.01, news.percent or 0.0)  # the protocol wants it to increase
            total = 100.0 if news.percent is not None else None
            with anyio.move_on_after(TICK_SECONDS):  # a client that does not read must not hold the call
                await context.report_progress(sent, total, news.message)
    if task.cancelled():
        raise Unavailable("The call was stopped: the workspace is closing.", hint="Connect again.")
    return task.result()


def connection_of(context: ToolCallContext) -> Connection:
    """The connection that a request came in by. Raises ``Unavailable`` where there is no workspace behind it."""
    connection = context.request_context.lifespan_context
    if not isinstance(connection, Connection):
        raise Unavailable("No workspace is attached to this server.", hint="Start it with `codeforge-mcp`.")
    return connection


def _key(context: ToolCallContext) -> JsonObject:
    """The idempotency key of the request, as operations take it; empty without one."""
    meta = context.request_context.meta
    given: object = meta.get(KEY_META) if meta else None
    if given is None:
        return {}
    return {"idempotencyKey": given if isinstance(given, str) else ""}  # what is no text is refused there


def _client_name(context: ToolCallContext) -> str:
    """What the client claims to be, as ``name/version``, without characters that could fool a prompt."""
    client = context.session.client_params
    if client is None:
        return "unnamed"
    claimed = f"{client.client_info.name}/{client.client_info.version}"
    return "".join(c for c in claimed if c.isprintable())[:MAX_NAME].strip("/ ") or "unnamed"


def error_result(error: CodeForgeError) -> CallToolResult:
    """An error as the model sees it, ``code: message hint``; programs find it whole in ``_meta``."""
    text = redaction.hide(f"{error.code}: {error.text}")[:MAX_TEXT]
    facts = redaction.hide_all(error.as_json())
    return CallToolResult(
        content=[TextContent(type="text", text=text)], is_error=True, _meta={ERROR_META: facts}
    )


def unexpected(error: BaseException) -> CodeForgeError:
    """Any other exception as an error without its text, which may hold what is no client's business."""
    log.error("an MCP call failed unexpectedly", exc_info=error)
    return CodeForgeError(
        "The call failed unexpectedly.", hint="The daemon's log says why: `codeforge logs`."
    )
