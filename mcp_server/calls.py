"""Calls of one MCP connection: who asks, one operation at a time limit, progress, cancel, errors for the model."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeAlias

import anyio
from mcp.server.mcpserver import Context
from mcp.types import CallToolResult, TextContent

from codeforge_ls.logs import request_id
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.base import JsonObject, new_id
from codeforge_ls.model.errors import CodeForgeError, LimitReached, Unavailable
from codeforge_ls.model.events import EventDraft, EventType

if TYPE_CHECKING:
    from codeforge_ls.operations import Operations
    from codeforge_ls.operations.host import WorkspaceHost

CALL_SECONDS = 50.0  # many clients give a call up after 60; a pending edit answers by itself after 45
PROGRESS_SECONDS = 4.0  # clients are promised a sign of life at least every 5
TICK_SECONDS = 0.5  # how often new progress is passed on
MAX_CALLS = 32  # calls under way on one connection; an agent that sends more is told so
MAX_NAME = 80  # characters of what a client calls itself
ERROR_META = "codeforge/error"
KEY_META = "codeforge/idempotencyKey"  # of a request: at most one call with it has an effect
REPLAYED_META = "codeforge/replayed"  # of a result: it is that of an earlier call with the same key
MAX_TEXT = 40_000  # characters of one result: clients cut or hide longer ones

ToolCallContext: TypeAlias = Context[Any, Any]  # the SDK's own types of a lifespan and a transport request

log = logging.getLogger(__name__)


class Connection:
    """One client's connection. ``session`` is our id of it, ``front_end`` the door it came in by; the workspace is
    opened by its first call."""

    def __init__(self, host: WorkspaceHost, session: str, front_end: str = "mcp") -> None:
        self._host, self.session, self.front_end = host, session, front_end
        self._calls: set[asyncio.Task[JsonObject]] = set()
        self._attached: asyncio.Task[Actor] | None = None

    async def call(
        self,
        operation: str,
        arguments: JsonObject,
        context: ToolCallContext,
        on_replay: Callable[[], None] = lambda: None,
    ) -> JsonObject:
        """Run one operation, under the idempotency key of the request if it has one; ``on_replay`` is called when the
        answer was given before. Raises ``CodeForgeError``; ``LimitReached`` after ``CALL_SECONDS``."""
        if len(self._calls) >= MAX_CALLS:
            raise LimitReached(f"{MAX_CALLS} calls are under way.", hint="Wait for their answers first.")
        news = _News()
        actor = Actor(kind=ActorKind.MCP, name=_client_name(context), session=self.session)
        request_id.set(new_id("req"))
        key = _key(context)
        work = self._run(operation, {**arguments, **key}, actor, news, on_replay)
        task = asyncio.create_task(work, name=f"mcp-{operation}")
        self._calls.add(task)
        task.add_done_callback(self._calls.discard)
        try:
            return await _watch(task, news, context, goes_on=bool(key))
        finally:
            task.cancel()  # no effect on a finished one; the others are cancelled calls and those out of time

    async def end(self) -> None:
        """Record that the client has left, if it was ever attached."""
        if self._attached is not None and self._attached.done() and self._attached.exception() is None:
            await self._record(EventType.SESSION_DETACHED, self._attached.result())

    async def _run(
        self,
        operation: str,
        arguments: JsonObject,
        actor: Actor,
        news: _News,
        on_replay: Callable[[], None],
    ) -> JsonObject:
        operations: Operations = await self._host.operations()
        if self._attached is None or (self._attached.done() and self._attached.exception()):
            self._attached = asyncio.create_task(self._record(EventType.SESSION_ATTACHED, actor))
        await asyncio.shield(self._attached)  # what this client does next is on record after its coming
        return await operations.call(operation, arguments, actor, news, on_replay=on_replay)

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
    task: asyncio.Task[JsonObject], news: _News, context: ToolCallContext, *, goes_on: bool
) -> JsonObject:
    """Wait for the operation; pass its progress on, and make some when there is none. ``goes_on``: it has a key and
    ends by itself, whoever waits."""
    loop = asyncio.get_running_loop()
    start = told = loop.time()
    sent = 0.0
    while not task.done():
        await asyncio.wait({task}, timeout=TICK_SECONDS)
        now = loop.time()
        if task.done():
            break
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
    text = f"{error.code}: {error.text}"[:MAX_TEXT]
    return CallToolResult(
        content=[TextContent(type="text", text=text)], is_error=True, _meta={ERROR_META: error.as_json()}
    )


def unexpected(error: BaseException) -> CodeForgeError:
    """Any other exception as an error without its text, which may hold what is no client's business."""
    log.error("an MCP call failed unexpectedly", exc_info=error)
    return CodeForgeError(
        "The call failed unexpectedly.", hint="The daemon's log says why: `codeforge logs`."
    )
