"""One TCP connection of the HTTP door: uvicorn's protocol with deadlines, so that nobody holds it by being slow."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
import socket
from collections.abc import Awaitable, Callable
from typing import Any

import h11
from starlette.types import ASGIApp
from uvicorn import Config
from uvicorn.protocols.http.h11_impl import H11Protocol
from uvicorn.server import ServerState

from mcp_server.http_clients import Peer

BEGIN_SECONDS = 10.0  # from the connection to its first request
REQUEST_SECONDS = 10.0  # from the first byte of a request to its last
IDLE_SECONDS = 75.0  # between two requests; longer than clients keep what they do not use
MAX_HEAD = 16 << 10  # bytes of a request line and headers
MAX_SURPLUS = 4 << 20  # bytes of a body that was refused already and still comes
MAX_CONNECTIONS = 64  # with an answer to each; what comes above twice as many is hung up on

Admit = Callable[[tuple[str, int], tuple[str, int]], Awaitable[Peer]]

log = logging.getLogger(__name__)


class HttpWire(H11Protocol):
    """A connection. ``scope["state"]["peer"]`` of its requests is the task that finds out who connects."""

    def __init__(self, admit: Admit, config: Config, state: ServerState) -> None:
        super().__init__(config, state, {}, asyncio.get_running_loop())
        self._admit = admit
        self._due: asyncio.TimerHandle | None = None
        self._surplus = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override] # as the base class
        """Ask who it is, and expect a request soon."""
        super().connection_made(transport)
        if self.client is None or self.server is None or len(self.connections) > 2 * MAX_CONNECTIONS:
            transport.abort()
            return
        here = (self.server[0], int(self.server[1] or 0))
        asking = asyncio.ensure_future(self._admit(here, self.client))
        asking.add_done_callback(_retrieve)
        self.app_state = {"peer": asking}
        self._due = self.loop.call_later(BEGIN_SECONDS, self._too_slow)

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop the clock."""
        self._stop_clock()
        super().connection_lost(exc)

    def data_received(self, data: bytes) -> None:
        """Take it, unless the body of a request that was refused does not end."""
        self._surplus = self._surplus + len(data) if self._is_refused() else 0
        if self._surplus > MAX_SURPLUS:
            self.transport.abort()
            return
        super().data_received(data)
        self._watch()

    def on_response_complete(self) -> None:
        """Go on with the next request, which may have come already."""
        super().on_response_complete()
        self._watch()

    def send_400_response(self, msg: str) -> None:
        """What is no HTTP gets an answer where there can still be one, and no second chance."""
        with contextlib.suppress(h11.LocalProtocolError):  # an answer is under way: cut it
            super().send_400_response(msg)
        self.transport.close()

    def _is_refused(self) -> bool:
        answered = self.cycle is not None and self.cycle.response_complete
        return answered and self.conn.their_state is h11.SEND_BODY

    def _watch(self) -> None:
        """A clock runs exactly while a request is incomplete; it is not set back by pieces of it."""
        begun = self.conn.their_state is h11.IDLE and bool(self.conn.trailing_data[0])
        if self.conn.their_state is not h11.SEND_BODY and not begun:
            self._stop_clock()
        elif self._due is None:
            self._due = self.loop.call_later(REQUEST_SECONDS, self._too_slow)

    def _stop_clock(self) -> None:
        if self._due is not None:
            self._due.cancel()
            self._due = None

    def _too_slow(self) -> None:
        log.info("hung up on %s: its request did not come in time", self.client)
        self.transport.close()


def _retrieve(asking: asyncio.Future[Peer]) -> None:
    """A refusal is told with the answer to a request; who sends none is not told."""
    if not asking.cancelled():
        asking.exception()


class HttpListener:
    """A listening socket and the connections that came in by it."""

    def __init__(self, app: ASGIApp, admit: Admit) -> None:
        logging.getLogger("uvicorn").setLevel(logging.WARNING)
        self._config = Config(
            app=app,
            http=HttpWire,
            ws="none",
            lifespan="off",
            interface="asgi3",
            log_config=None,
            access_log=False,
            proxy_headers=False,
            server_header=False,
            date_header=False,
            limit_concurrency=MAX_CONNECTIONS,
            timeout_keep_alive=int(IDLE_SECONDS),
            h11_max_incomplete_event_size=MAX_HEAD,
        )
        self._config.load()
        self._state = ServerState()
        self._new: Callable[[], HttpWire] = functools.partial(HttpWire, admit, self._config, self._state)
        self._server: asyncio.Server | None = None

    @property
    def connections(self) -> int:
        """How many are open."""
        return len(self._state.connections)

    async def listen(self, sock: socket.socket) -> None:
        """Take connections of a bound socket from now on."""
        self._server = await asyncio.get_running_loop().create_server(self._new, sock=sock)

    def stop(self) -> None:
        """Take no more connections."""
        if self._server is not None:
            self._server.close()

    async def close(self) -> None:
        """Take no more connections and cut those that are open."""
        self.stop()
        await self.cut()

    async def cut(self) -> None:
        """Cut the open connections; what they asked for is cancelled."""
        for wire in list(self._state.connections):
            wire.transport.abort()
        tasks: list[asyncio.Task[Any]] = list(self._state.tasks)
        if tasks:  # they see the disconnect and end by themselves
            _, left = await asyncio.wait(tasks, timeout=0.5)
            for task in left:
                task.cancel()
