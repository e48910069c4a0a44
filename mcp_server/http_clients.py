"""The clients of the HTTP door: each program has a room of its own, with its sessions, and loses it when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from mcp.server.lowlevel import Server
from mcp.server.streamable_http_manager import StreamableHTTPSessionManager
from starlette.types import Receive, Scope, Send

from codeforge_ls.model.errors import LimitReached

MAX_CLIENTS = 32  # programs at a time
MAX_SESSIONS = 16  # of one program: those of the older protocol era, and each may have calls under way
MAX_BODY = 1 << 20  # bytes of one message
END_SECONDS = 1.0

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Peer:
    """Who connects. ``key`` is the same for all connections of one program, ``name`` says it in words;
    ``attached`` is called when it has shown the token."""

    key: str
    name: str
    is_alive: Callable[[], bool]
    attached: Callable[[], None]


class Client:
    """One program. The SDK's sessions of one know nothing of another's, so an id of a session is worth nothing there.

    The SDK's lifespan makes the connection that actions are recorded under, one for each room.
    """

    def __init__(self, server: Server[Any], peer: Peer, session_seconds: float) -> None:
        self.peer = peer
        self._session_seconds = session_seconds
        self._manager = StreamableHTTPSessionManager(
            server,
            session_idle_timeout=session_seconds,
            max_request_body_size=MAX_BODY,
            max_sessions=MAX_SESSIONS,
        )
        self._under_way = 0
        self._last = asyncio.get_running_loop().time()
        self._begun, self._ended = asyncio.Event(), asyncio.Event()
        self._task = asyncio.create_task(self._live(), name=f"mcp-http {peer.name}")

    async def serve(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request that was found in order."""
        self._under_way += 1
        try:
            await self._begun.wait()
            await self._manager.handle_request(scope, receive, send)
        finally:
            self._under_way -= 1
            self._last = asyncio.get_running_loop().time()

    @property
    def is_over(self) -> bool:
        """Whether the program has ended, or has neither called nor listened for the time a session lasts."""
        idle = asyncio.get_running_loop().time() - self._last
        return not self.peer.is_alive() or (not self._under_way and idle >= self._session_seconds)

    async def end(self) -> None:
        """End its sessions, and what they asked for."""
        self._ended.set()
        done, _ = await asyncio.wait({self._task}, timeout=END_SECONDS)
        if not done:
            self._task.cancel()

    async def _live(self) -> None:
        try:
            async with self._manager.run():
                self._begun.set()
                await self._ended.wait()
        except Exception:
            log.exception("the sessions of %s failed", self.peer.name)
        finally:
            self._begun.set()


class Clients:
    """All of them, by program."""

    def __init__(self, server: Server[Any], session_seconds: float) -> None:
        self._server, self._session_seconds = server, session_seconds
        self._rooms: dict[str, Client] = {}
        self._ending: set[asyncio.Task[None]] = set()

    def __len__(self) -> int:
        return len(self._rooms)

    def of(self, peer: Peer) -> Client:
        """The room of a program. Raises ``LimitReached`` when there are too many."""
        client = self._rooms.get(peer.key)
        if client is None:
            if len(self._rooms) >= MAX_CLIENTS:
                self.sweep()
            if len(self._rooms) >= MAX_CLIENTS:
                raise LimitReached(f"{MAX_CLIENTS} programs are connected.", hint="End one of them first.")
            client = self._rooms[peer.key] = Client(self._server, peer, self._session_seconds)
            peer.attached()
            log.info("a client over HTTP: %s", peer.name)
        return client

    def sweep(self) -> None:
        """Let go of those that are over; a look at each is cheap."""
        for key, client in list(self._rooms.items()):
            if client.is_over:
                log.info("a client over HTTP is gone: %s", client.peer.name)
                del self._rooms[key]
                ending = asyncio.create_task(client.end())
                self._ending.add(ending)
                ending.add_done_callback(self._ending.discard)

    async def close(self) -> None:
        """End all of them."""
        rooms, self._rooms = list(self._rooms.values()), {}
        with contextlib.suppress(Exception):
            await asyncio.gather(*(client.end() for client in rooms), *self._ending)
