"""One MCP session: JSON lines in and out of a pair of streams, in either protocol era."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import select
from typing import TYPE_CHECKING, Any

import anyio
from anyio.streams.memory import MemoryObjectReceiveStream, MemoryObjectSendStream
from mcp.server.runner import serve_dual_era_loop
from mcp.shared.message import SessionMessage
from mcp.types import JSONRPCError, JSONRPCMessage, JSONRPCNotification, JSONRPCRequest, JSONRPCResponse

from codeforge_ls.model.base import JsonObject, new_id
from mcp_server.app import build
from mcp_server.calls import Connection
from mcp_server.frames import messages, write

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from codeforge_ls.operations.host import WorkspaceHost

GRACE_SECONDS = 5.0  # for answers under way when the client has closed its side
LOOK_SECONDS = 0.05
FLUSH_SECONDS = 1.0  # for a client that does not read its last answers
END_SECONDS = 0.3  # to record that the client has left
ENDLESS = ("subscriptions/listen",)  # requests that only end with the connection
ANSWERS = (JSONRPCResponse, JSONRPCError)

log = logging.getLogger(__name__)


async def serve_mcp(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    host: WorkspaceHost,
    hello: JsonObject,
    begun: bytes = b"",
    greeted: bytes | None = None,
) -> int:
    """Serve one client until it leaves. Returns 0, or 1 when it went away in mid-answer.

    ``begun`` is what was read of the client already, ``greeted`` the answer that the request in it got already.
    """
    server = await asyncio.to_thread(_server)
    wire = _Wire(reader, writer, begun, greeted)
    connection = Connection(host, str(hello.get("session") or new_id("mcp")))
    try:
        async with anyio.create_task_group() as group:
            group.start_soon(wire.pump_in)
            group.start_soon(wire.pump_out, group.cancel_scope)
            group.start_soon(_warm_up, wire, host)
            # One server object serves all connections; what belongs to one of them travels in its state.
            await serve_dual_era_loop(server, wire.inbound, wire.outbound, lifespan_state=connection)
            with anyio.move_on_after(FLUSH_SECONDS):
                await wire.flushed.wait()
            group.cancel_scope.cancel()
    finally:
        with anyio.move_on_after(END_SECONDS, shield=True), contextlib.suppress(Exception):
            await connection.end()
    return 1 if wire.broken else 0


async def _warm_up(wire: _Wire, host: WorkspaceHost) -> None:
    """Open the workspace once the first answer is out, so that the first tool call need not wait for it."""
    await wire.answered.wait()
    try:
        await host.operations()
    except Exception as error:  # noqa: BLE001 - the first call will hit it too, and say so
        log.info("the workspace cannot be opened yet: %s", error)


@functools.cache
def _server() -> Server[Any]:
    # The stream loop takes the low-level server, which MCPServer has no public name for.
    return build()._lowlevel_server  # noqa: SLF001 - see above


class _Wire:
    """The two streams as the SDK wants them, and which requests are still to be answered."""

    def __init__(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, begun: bytes, greeted: bytes | None
    ) -> None:
        self._reader, self._writer = reader, writer
        self._begun, self._greeted = begun, greeted
        self._open: set[int | str] = set()
        self.broken = False
        self.answered, self.flushed = asyncio.Event(), asyncio.Event()
        self._to_server: MemoryObjectSendStream[SessionMessage | Exception]
        self.inbound: MemoryObjectReceiveStream[SessionMessage | Exception]
        self._to_server, self.inbound = anyio.create_memory_object_stream(0)
        self.outbound: MemoryObjectSendStream[SessionMessage]
        self._from_server: MemoryObjectReceiveStream[SessionMessage]
        self.outbound, self._from_server = anyio.create_memory_object_stream(0)

    async def pump_in(self) -> None:
        """Hand every message to the server; at the end of the input wait a little for the answers under way."""
        async with self._to_server:
            try:
                async for message in messages(self._reader, self._begun):
                    await self._take(message)
            except ConnectionError:
                return
            with anyio.move_on_after(GRACE_SECONDS):
                while self._open and not self._peer_is_gone():  # noqa: ASYNC110 - a hang-up is no event here
                    await asyncio.sleep(LOOK_SECONDS)

    async def _take(self, message: JSONRPCMessage | bytes) -> None:
        if isinstance(message, bytes):
            self._writer.write(message)
            await self._writer.drain()
            return
        if isinstance(message, JSONRPCRequest) and message.method not in ENDLESS:
            self._open.add(message.id)
        elif isinstance(message, JSONRPCNotification) and message.method == "notifications/cancelled":
            cancelled = (message.params or {}).get("requestId")
            if isinstance(cancelled, int | str):
                self._open.discard(cancelled)
        with contextlib.suppress(anyio.BrokenResourceError, anyio.ClosedResourceError):
            await self._to_server.send(SessionMessage(message))

    async def pump_out(self, all_of_it: anyio.CancelScope) -> None:
        """Write every message of the server; a client that is gone ends the session."""
        async with self._from_server:
            try:
                async for item in self._from_server:
                    line = write(item.message)
                    if self._greeted is not None and isinstance(item.message, ANSWERS):
                        # The first request has its answer, see handshake.py.
                        if line != self._greeted:
                            log.error("the greeting was %s, the SDK says %s", self._greeted, line)
                        line, self._greeted = b"", None
                    self._writer.write(line)
                    await self._writer.drain()
                    if isinstance(item.message, ANSWERS) and item.message.id is not None:
                        self._open.discard(item.message.id)
            except ConnectionError:
                self.broken = True
                all_of_it.cancel()
        self.flushed.set()

    def _peer_is_gone(self) -> bool:
        """Whether the client closed both directions, not only its own: nobody waits for answers any more."""
        sock = self._writer.get_extra_info("socket")
        if sock is None or sock.fileno() < 0:
            return self._writer.is_closing()
        poll = select.poll()
        poll.register(sock.fileno(), 0)
        return bool(poll.poll(0))  # nothing but a hang-up or an error is reported without being asked for
