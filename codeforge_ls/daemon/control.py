"""One terminal's session: JSON lines in, operations and events out, and a way to ask the person there.

In: ``{"id", "op", "arguments"}``, ``{"answer": {"approval_id", "verdict"}}``.
Out: ``{"id", "progress"}``, ``{"id", "event"}``, then ``{"id", "result"}`` or ``{"id", "error"}``;
``{"ask": Approval}`` and ``{"withdraw": approval_id}`` once the terminal has attached.
Besides the operations there are ``attach``, ``watch``, ``cancel``, ``daemon.status`` and ``daemon.stop``.
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
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, Conflict

if TYPE_CHECKING:
    from codeforge_ls.operations import Operations
    from codeforge_ls.workspace import Workspace

MAX_LINE = 4 << 20
MAX_AT_ONCE = 64
STARTERS = frozenset({"run.start", "run.resume", "plan.start"})

log = logging.getLogger(__name__)


class Host(Protocol):
    """What a terminal's session needs of the daemon."""

    async def workspace(self) -> Workspace: ...

    async def operations(self) -> Operations: ...

    def close_soon(self, reason: str) -> None: ...

    def report(self) -> JsonValue: ...


async def serve_cli(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter, host: Host, hello: dict[str, Any]
) -> int:
    """Serve one terminal until it closes; what it asked for and did not wait for is cancelled. Returns 0."""
    session = TerminalSession(writer, host, str(hello.get("session", "")), str(hello.get("pid", "")))
    try:
        while line := await session.next_line(reader):
            session.take(line)
    except ConnectionError:
        pass  # the terminal is gone
    finally:
        await session.close()
    return 0


class TerminalSession:
    """The state of one terminal's connection."""

    def __init__(self, writer: asyncio.StreamWriter, host: Host, name: str, pid: str) -> None:
        self._writer, self._host, self._name, self._pid = writer, host, name, pid
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
        try:
            result = await self._perform(call, op, arguments)
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
            await self.send({"id": call, "result": result})

    async def _perform(self, call: int | str, op: str, arguments: JsonValue) -> JsonValue:
        match op:
            case "daemon.status":
                return self._host.report()
            case "daemon.stop":
                self._host.close_soon("asked by a terminal")
                return {"stopping": True}
            case "attach":
                return await self._attach(arguments)
            case "watch":
                store = (await self._host.workspace()).store
                return await watch(store, arguments, lambda event: self.send({"id": call, "event": event}))
        operations = await self._host.operations()
        if op in STARTERS and self._channel is not None:
            async with self._channel.starting:
                result = await operations.call(op, arguments, self._actor(), self._progress(call))
                self._channel.adopt(result)
                return result
        return await operations.call(op, arguments, self._actor(), self._progress(call))

    async def _attach(self, arguments: JsonValue) -> JsonValue:
        """Become a way to reach a person. ``{"scope": "mine"}``: only for runs that this session starts."""
        if self._detach is not None:
            raise Conflict("This session is attached already.")
        workspace = await self._host.workspace()
        mine = isinstance(arguments, dict) and arguments.get("scope") == "mine"
        self._channel = TerminalChannel(f"terminal:{self._pid}", workspace.store, self.send, mine_only=mine)
        self._detach = workspace.approvals.attach(self._channel)
        return {"attached": True}

    def _actor(self) -> Actor:
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
