"""The daemon's socket: who may connect, the hello, the sessions, idle exit and the end in order."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import logging
import os
import secrets
import signal
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import TYPE_CHECKING, Any

from codeforge_ls import __version__
from codeforge_ls.daemon.election import Claim
from codeforge_ls.daemon.host import SESSIONS, Host
from codeforge_ls.daemon.peer import Agents, Process, credentials, is_inside_tool, lineage
from codeforge_ls.daemon.processes import Reaper, kill_descendants, leave_within
from codeforge_ls.opening import imported
from codeforge_ls.rendezvous import INSIDE_TOOL, PROTOCOL

if TYPE_CHECKING:
    from codeforge_ls.daemon.http_door import HttpDoor

HELLO_SECONDS = 5.0
MAX_HELLO = 64 << 10
LEAVE_SECONDS = 10.0  # for all of it; a process that is still there then is ended by force
READ_LIMIT = 4 << 20  # bytes a session may look ahead for the end of a line; the cap of an MCP message
POSING = "This editor was started by a command of {agent}: it could approve the agent's own edits."
CLOSE_SECONDS = 8.0  # for the workspace; with the sessions' own second and the kills it stays under 10
KEPT_EXIT_CODES = 512

Serve = Callable[[asyncio.StreamReader, asyncio.StreamWriter, Host, dict[str, Any]], Awaitable[int]]

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A hello that is answered with no. ``retry``: the same hello may be right in a moment."""

    def __init__(self, error: str, *, code: str = "refused", retry: bool = False) -> None:
        super().__init__(error)
        self.code, self.retry = code, retry


def version_key(text: str) -> tuple[int, ...]:
    """Numbers of a version for comparing; what follows the first part that is no number is ignored."""
    numbers: list[int] = []
    for part in text.split("."):
        if not part.isdigit() or len(part) > 9:
            break
        numbers.append(int(part))
    return tuple(numbers)


async def entry_point(role: str) -> Serve:
    """The coroutine that serves a kind of session, imported beside the loop."""
    await imported(SESSIONS[role])
    serve: Serve = getattr(sys.modules[SESSIONS[role]], f"serve_{role}")
    return serve


class Server:
    """Accepts front ends on the claimed socket until it is told to stop or was not needed for a while."""

    def __init__(self, claim: Claim) -> None:
        self._claim = claim
        self._stopping = asyncio.Event()
        self._reason = ""
        self._sessions: dict[str, asyncio.Task[int]] = {}
        self._exit_codes: dict[str, int] = {}
        self._connections: set[asyncio.Task[None]] = set()
        self._agents = Agents()
        self._http: HttpDoor | None = None
        self._idle_since = time.monotonic()

    def stop(self, reason: str) -> None:
        """Begin the end; safe to call more than once."""
        if not self._stopping.is_set():
            self._reason = reason
            leave_within(LEAVE_SECONDS, reason)
            self._claim.remove_socket()
            self._stopping.set()

    async def serve(self, host: Host, on_listening: Callable[[], None]) -> str:
        """Serve until the end and return its reason. The workspace is closed, no child is left."""
        self._host = host
        host.http_door = self._door
        self._catch_signals()
        listening = await asyncio.start_unix_server(self._accept, sock=self._claim.socket, limit=READ_LIMIT)
        on_listening()
        await host.prepare()
        keeping_house = asyncio.create_task(self._keep_house(), name="housekeeping")
        await self._stopping.wait()
        log.info("leaving: %s", self._reason)
        listening.close()
        if self._http is not None:
            self._http.stop()
        keeping_house.cancel()
        await self._finish()
        return self._reason

    def _catch_signals(self) -> None:
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self.stop, f"signal {number.name}")
        loop.add_signal_handler(signal.SIGHUP, self._reload)

    def _reload(self) -> None:
        self._reloading = asyncio.create_task(self._host.reload(), name="reload-settings")

    async def _finish(self) -> None:
        try:
            await asyncio.wait_for(self._host.close(self._reason), CLOSE_SECONDS)
        except Exception:
            log.exception("the workspace did not close in order")
        if self._http is not None:
            await self._http.close()
        tasks = [*self._sessions.values(), *self._connections]
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=1.0)
        left = await asyncio.to_thread(kill_descendants)
        if left:
            log.warning("%d processes were still there and were killed", left)

    async def _keep_house(self) -> None:
        reaper = Reaper()
        while True:
            idle = self._host.idle_seconds()
            await asyncio.sleep(min(1.0, idle / 4))
            reaper.tick()
            if lost := self._host.lost():
                self.stop(lost)
            workspace = self._host.opened()
            if workspace is not None and (self._http is not None or workspace.settings.mcp.http):
                self._door().follow(workspace)
            called_on = self._http is not None and self._http.in_use()
            if self._connections or called_on or self._host.is_busy():
                self._idle_since = time.monotonic()
            elif time.monotonic() - self._idle_since >= idle:
                self.stop(f"idle for {idle:g} s")

    def _door(self) -> HttpDoor:
        """The HTTP door. Its code needs the model, which is imported when the workspace is opened."""
        if self._http is None:
            from codeforge_ls.daemon.http_door import HttpDoor

            self._http = HttpDoor(self._host, self._agents)
        return self._http

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None  # noqa: S101 - asyncio runs this callback as a task
        self._connections.add(task)
        try:
            await self._converse(reader, writer)
        except (ConnectionError, TimeoutError):
            pass  # the front end went away; its session has ended
        except asyncio.CancelledError:
            pass  # the daemon leaves; there is nobody above to tell
        finally:
            self._connections.discard(task)
            self._idle_since = time.monotonic()
            writer.close()

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            hello = await self._hear(reader)  # first, so that the peer is not still writing when we refuse
            peer = self._check_peer(writer)
            if hello.get("role") == "exit":
                code = self._exit_codes.get(str(hello.get("session")))
                await _answer(writer, {"ok": code is not None, "exit_code": code})
                return
            role = self._check_hello(hello)
            if role == "lsp" and (agent := self._agents.posing(peer)):
                raise Refusal(POSING.format(agent=agent), code="denied")
            serve = await self._find(role)
        except Refusal as no:
            log.info("refused: %s", no)
            await _answer(writer, {"ok": False, "error": str(no), "code": no.code, "retry": no.retry})
            return
        session = f"{role}-{secrets.token_hex(6)}"
        hello = {**hello, "session": session}
        self._agents.attached(role, peer)
        if role == "cli":  # asked again and again: the agent may attach later than its terminal
            hello["agent"] = functools.partial(self._agents.behind, peer)
        welcome = {
            "version": __version__,
            "pid": os.getpid(),
            "root": str(self._host.root),
            "session": session,
        }
        await _answer(writer, {"ok": True, **welcome})
        await self._run(session, serve(reader, writer, self._host, hello))

    async def _run(self, session: str, serving: Awaitable[int]) -> None:
        task = asyncio.ensure_future(serving)
        self._sessions[session] = task
        code = 1
        try:
            code = await task
        except Exception:
            log.exception("session %s failed", session)
        finally:
            del self._sessions[session]
            self._exit_codes[session] = code
            while len(self._exit_codes) > KEPT_EXIT_CODES:
                del self._exit_codes[next(iter(self._exit_codes))]

    @staticmethod
    def _check_peer(writer: asyncio.StreamWriter) -> tuple[Process, ...]:
        """The lineage of a peer that may connect."""
        try:
            pid, uid = credentials(writer.get_extra_info("socket"))
        except OSError as error:
            raise Refusal(f"The system does not say who connects: {error}") from error
        if uid != os.getuid():
            raise Refusal(f"This daemon serves user {os.getuid()} only, not {uid}.", code="denied")
        if is_inside_tool(pid):
            raise Refusal(INSIDE_TOOL, code="denied")
        return lineage(pid)

    @staticmethod
    async def _hear(reader: asyncio.StreamReader) -> dict[str, Any]:
        try:
            async with asyncio.timeout(HELLO_SECONDS):
                line = await reader.readuntil(b"\n")
        except TimeoutError:
            raise Refusal(f"No hello came within {HELLO_SECONDS:g} s.", code="invalid_input") from None
        except (asyncio.IncompleteReadError, asyncio.LimitOverrunError):
            raise Refusal("The connection did not begin with a hello line.", code="invalid_input") from None
        if len(line) > MAX_HELLO:
            raise Refusal("The hello line is too long.", code="invalid_input")
        try:
            hello = json.loads(line)
        except (ValueError, RecursionError):
            hello = None
        if not isinstance(hello, dict):
            raise Refusal("The hello line is not a JSON object.", code="invalid_input")
        return hello

    def _check_hello(self, hello: Mapping[str, Any]) -> str:
        role, protocol, version = hello.get("role"), hello.get("protocol"), hello.get("version")
        if not isinstance(role, str) or role not in SESSIONS:
            raise Refusal(f"There is no session of kind {str(role)[:40]!r}.", code="invalid_input")
        if not isinstance(protocol, int) or not isinstance(version, str):
            raise Refusal("The hello lacks protocol or version.", code="invalid_input")
        if self._stopping.is_set():
            raise Refusal(f"The daemon is leaving: {self._reason}.", code="closing", retry=True)
        if version_key(version) > version_key(__version__):
            self.stop(f"replaced by version {version[:40]}")
            raise Refusal(f"This is version {__version__}.", code="replaced", retry=True)
        if protocol != PROTOCOL:
            raise Refusal(f"This daemon speaks protocol {PROTOCOL}: update CodeForge.", code="outdated")
        return role

    @staticmethod
    async def _find(role: str) -> Serve:
        try:
            return await entry_point(role)
        except Exception as error:
            log.exception("no session of kind %s", role)
            raise Refusal(f"Sessions of kind {role} cannot be served: {error}", code="unavailable") from error


async def _answer(writer: asyncio.StreamWriter, answer: Mapping[str, Any]) -> None:
    with contextlib.suppress(ConnectionError):
        writer.write(json.dumps(answer).encode() + b"\n")
        await writer.drain()
