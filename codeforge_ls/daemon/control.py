"""One terminal's session: JSON lines in, operations and events out, and a way to ask the person there.

In: ``{"id", "op", "arguments"}``, ``{"answer": {"approval_id", "verdict"}}``.
Out: ``{"id", "progress"}``, ``{"id", "event"}``, then ``{"id", "result"}`` or ``{"id", "error"}``; a result that was
given before to the same idempotency key has ``"replayed": true``;
``{"ask": Approval}`` and ``{"withdraw": approval_id}`` once the terminal has attached.
Besides the operations there are ``attach``, ``watch``, ``cancel``, ``daemon.status``, ``daemon.stop``, ``mcp.http``
and ``mcp.rotate``.
A terminal that a foreign agent has started speaks for the agent: what is for people is refused, the rest is
judged as the agent's.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Protocol

from codeforge_ls.daemon.feed import watch
from codeforge_ls.daemon.terminal_channel import TerminalChannel
from codeforge_ls.logs import request_id
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.base import JsonObject, JsonValue, new_id
from codeforge_ls.model.errors import CodeForgeError, Conflict, Denied, Unavailable
from codeforge_ls.model.events import EventDraft, EventType

if TYPE_CHECKING:
    from codeforge_ls.daemon.http_door import HttpDoor
    from codeforge_ls.operations import Operations
    from codeforge_ls.workspace import Workspace

MAX_LINE = 4 << 20
MAX_AT_ONCE = 64
MAX_RECORDED = 2000  # characters of the arguments of a refused request
OWN_TERMINAL = "Answer in the editor, or use a terminal that the agent did not start."
PERSONS_ONLY = frozenset(
    {"attach", "daemon.stop", "mcp.rotate"}
)  # besides the operations that say so themselves
AGENTS_MAY_WATCH = ("run:", "plan:")
STARTERS = frozenset({"run.start", "run.resume", "plan.start"})

log = logging.getLogger(__name__)


class Host(Protocol):
    """What a terminal's session needs of the daemon."""

    async def workspace(self) -> Workspace: ...

    async def operations(self) -> Operations: ...

    def close_soon(self, reason: str) -> None: ...

    def report(self) -> JsonValue: ...

    @property
    def http_door(self) -> Callable[[], HttpDoor] | None: ...


async def serve_cli(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: Host, hello: dict[str, Any]
) -> int:
    """Serve one terminal until it closes; what it asked for and did not wait for is cancelled. Returns 0."""
    name, pid, agent = str(hello.get("session", "")), str(hello.get("pid", "")), hello.get("agent")
    session = TerminalSession(writer, host, name, pid, agent if callable(agent) else str)
    try:
        while line := await session.next_line(reader):
            session.take(line)
    except ConnectionError:
        pass  # the terminal is gone
    finally:
        await session.close()
    return 0


class TerminalSession:
    """The state of one terminal's connection. ``agent`` names the agent that it belongs to; empty for a person's."""

    def __init__(
        self, writer: asyncio.StreamWriter, host: Host, name: str, pid: str, agent: Callable[[], str]
    ) -> None:
        self._writer, self._host, self._name, self._pid, self._agent = writer, host, name, pid, agent
        self._sending = asyncio.Lock()
        self._tasks: dict[JsonValue, asyncio.Task[None]] = {}
        self._detach: Callable[[], None] | None = None
        self._channel: TerminalChannel | None = None

    async def next_line(self, reader: asyncio.StreamReader) -> bytes:
        """The next line; empty at the end. A line that is too long ends the session with an error."""
        while len(self._tasks) > 2 * MAX_AT_ONCE:
            await asyncio.wait(self._tasks.values(), return_when=asyncio.FIRST_COMPLETED)
        try:
            return await reader.readuntil(b"\n")
        except asyncio.IncompleteReadError as end:
            return end.partial
        except asyncio.LimitOverrunError:
            await self._fail(None, "limit_reached", f"A line is longer than {MAX_LINE >> 20} MiB.")
            return b""

    def take(self, line: bytes) -> None:
        """Begin what a line asks for."""
        try:
            message = json.loads(line)
        except (ValueError, RecursionError):
            message = None
        if not isinstance(message, dict):
            self._spawn(None, self._fail(None, "invalid_input", "A line is not a JSON object."))
        elif isinstance(message.get("answer"), dict):
            if self._channel is not None:
                self._channel.answered(message["answer"])
        elif message.get("op") == "cancel":
            self._cancel(message)
        else:
            self._begin(message)

    def _begin(self, message: dict[str, Any]) -> None:
        call, op, arguments = message.get("id"), message.get("op"), message.get("arguments", {})
        if not isinstance(call, int | str) or call in self._tasks:
            self._spawn(None, self._fail(None, "invalid_input", "A request needs an id that is not in use."))
        elif not isinstance(op, str):
            self._spawn(call, self._fail(call, "invalid_input", "A request needs an op."))
        elif len(self._tasks) >= MAX_AT_ONCE:
            self._spawn(None, self._fail(call, "limit_reached", f"More than {MAX_AT_ONCE} requests at once."))
        else:
            self._spawn(call, self._answer(call, op, arguments))

    def _spawn(self, call: JsonValue, work: Any) -> None:
        task = asyncio.ensure_future(work)
        key = call if call is not None else id(task)
        self._tasks[key] = task
        task.add_done_callback(lambda _: self._tasks.pop(key, None))

    def _cancel(self, message: dict[str, Any]) -> None:
        arguments = message.get("arguments")
        target = arguments.get("id") if isinstance(arguments, dict) else None
        task = self._tasks.get(target) if isinstance(target, int | str) else None
        if task is not None:
            task.cancel()

    async def _answer(self, call: int | str, op: str, arguments: JsonValue) -> None:
        request_id.set(f"{self._name}-{call}")
        marks: JsonObject = {}
        try:
            result = await self._perform(call, op, arguments, lambda: marks.update(replayed=True))
        except asyncio.CancelledError:
            with contextlib.suppress(ConnectionError):
                await self._fail(call, "cancelled", "The request was cancelled.")
            raise
        except ConnectionError:
            raise
        except CodeForgeError as error:
            await self.send({"id": call, "error": error.as_json()})
        except Exception as error:
            log.exception("operation %s failed", op)
            await self._fail(
                call, "internal", f"{type(error).__name__}: {error}", "See `codeforge logs errors`."
            )
        else:
            await self.send({"id": call, "result": result, **marks})

    async def _perform(
        self, call: int | str, op: str, arguments: JsonValue, on_replay: Callable[[], None]
    ) -> JsonValue:
        await self._check_allowed(op, arguments)
        match op:
            case "daemon.status":
                return self._host.report()
            case "daemon.stop":
                self._host.close_soon("asked by a terminal")
                return {"stopping": True}
            case "mcp.http" | "mcp.rotate":
                return await self._http_door(op)
            case "attach":
                return await self._attach(arguments)
            case "watch":
                store = (await self._host.workspace()).store
                return await watch(store, arguments, lambda event: self.send({"id": call, "event": event}))
        operations, actor, progress = await self._host.operations(), self._actor(), self._progress(call)
        if op in STARTERS and self._channel is not None:
            async with self._channel.starting:
                result = await operations.call(op, arguments, actor, progress, on_replay=on_replay)
                self._channel.adopt(result)
                return result
        return await operations.call(op, arguments, actor, progress, on_replay=on_replay)

    async def _http_door(self, op: str) -> JsonValue:
        await self._host.workspace()
        if self._host.http_door is None:
            raise Unavailable("An embedded session has no HTTP door.", hint="Use a daemon.")
        door = self._host.http_door()
        return await (door.facts() if op == "mcp.http" else door.rotate(self._actor().label))

    async def _attach(self, arguments: JsonValue) -> JsonValue:
        """Become a way to reach a person. ``{"scope": "mine"}``: only for runs that this session starts."""
        if self._detach is not None:
            raise Conflict("This session is attached already.")
        workspace = await self._host.workspace()
        mine = isinstance(arguments, dict) and arguments.get("scope") == "mine"
        self._channel = TerminalChannel(
            f"terminal:{self._pid}", workspace.store, self.send, self._agent, mine_only=mine
        )
        self._detach = workspace.approvals.attach(self._channel)
        return {"attached": True}

    async def _check_allowed(self, op: str, arguments: JsonValue) -> None:
        """Raise ``Denied``, and record it, when an agent's terminal wants what is for people."""
        agent = self._agent()
        if not agent:
            return
        if op == "watch":
            stream = arguments.get("stream") if isinstance(arguments, dict) else None
            allowed = isinstance(stream, str) and stream.startswith(AGENTS_MAY_WATCH)
        else:
            allowed = op not in PERSONS_ONLY and not await self._is_for_persons(op)
        if allowed:
            return
        reason = (
            f"{op} is for people, and this terminal belongs to {agent}, which CodeForge serves as an agent."
        )
        log.warning("refused: %s", reason)
        await self._record_refusal(op, arguments, reason)
        raise Denied(reason, hint=OWN_TERMINAL)

    async def _is_for_persons(self, op: str) -> bool:
        if op in ("daemon.status", "mcp.http"):
            return False
        await self._host.operations()  # its code is imported beside the loop
        from codeforge_ls.operations.catalogue import ALL

        return op in ALL and ALL[op].persons_only

    async def _record_refusal(self, op: str, arguments: JsonValue, reason: str) -> None:
        call, stream, label = new_id("call"), f"session:{self._name}", self._actor().label
        may_show = op != "keys.set" and len(json.dumps(arguments)) <= MAX_RECORDED
        shown = arguments if may_show else {}
        requested: JsonObject = {"call_id": call, "tool": op, "arguments": shown, "action_id": None}
        denied: JsonObject = {"call_id": call, "reason": reason}
        store = (await self._host.workspace()).store
        await store.append(
            EventDraft(stream=stream, type=EventType.TOOLCALL_REQUESTED, payload=requested, actor=label),
            EventDraft(stream=stream, type=EventType.TOOLCALL_DENIED, payload=denied, actor=label),
        )

    def _actor(self) -> Actor:
        if agent := self._agent():
            return Actor(kind=ActorKind.MCP, name=f"terminal of {agent}", session=self._name)
        return Actor(kind=ActorKind.CLI, name="terminal", session=self._name)

    def _progress(self, call: int | str) -> Callable[[float | None, str], None]:
        """Progress is news, not history: a report is dropped while the one before it is still being sent."""
        sending: list[asyncio.Task[None]] = []

        def report(percent: float | None, message: str) -> None:
            if not sending or sending[0].done():
                news: JsonObject = {"id": call, "progress": {"percent": percent, "message": message}}
                sending[:] = [asyncio.ensure_future(self._send_quietly(news))]

        return report

    async def _send_quietly(self, message: JsonObject) -> None:
        with contextlib.suppress(ConnectionError):
            await self.send(message)

    async def _fail(self, call: int | str | None, code: str, message: str, hint: str = "") -> None:
        await self.send({"id": call, "error": {"code": code, "message": message, "hint": hint, "data": {}}})

    async def send(self, message: JsonObject) -> None:
        """Send one line; waits while the terminal does not read. ``ConnectionError``: it is gone."""
        data = json.dumps(message, separators=(",", ":")).encode() + b"\n"
        async with self._sending:
            self._writer.write(data)
            await self._writer.drain()

    async def close(self) -> None:
        """Withdraw the person and cancel what is under way."""
        if self._detach is not None:
            self._detach()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
