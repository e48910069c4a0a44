"""The HTTP door of the daemon: closed unless a trusted setting opens it; nothing of it is imported before."""

from __future__ import annotations

import asyncio
import functools
import logging
import socket
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.daemon.http_token import TokenFile
from codeforge_ls.daemon.peer import Agents
from codeforge_ls.model.actions import SYSTEM
from codeforge_ls.model.errors import CodeForgeError, Unavailable
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.opening import imported

if TYPE_CHECKING:
    from codeforge_ls.config import McpSettings
    from codeforge_ls.daemon.tcp_peer import Address, TcpPeer
    from codeforge_ls.model.base import JsonObject
    from codeforge_ls.operations.host import WorkspaceHost
    from codeforge_ls.workspace import Workspace
    from mcp_server.http_clients import Peer
    from mcp_server.http_server import HttpServer

LOOPBACK = "127.0.0.1"
TOKEN_FILE = "mcp-http.token"  # noqa: S105 - the name of the file
HEALTH = "mcp_http"  # its part of the health report
PORTS = range(20_000, 32_000)  # below what systems hand out to outgoing connections
CLOSE_SECONDS = 0.5  # for the door to have turned, when the daemon leaves
TURN_SECONDS = 30.0  # for the door to turn, when somebody waits for it

log = logging.getLogger(__name__)


class HttpDoor:
    """Opens and closes with the settings, and knows how to get in. ``agents`` learns who came in by it."""

    def __init__(self, host: WorkspaceHost, agents: Agents) -> None:
        self._host, self._agents = host, agents
        self._server: HttpServer | None = None
        self._followed: McpSettings | None = None
        self._turning: asyncio.Task[None] | None = None
        self._error: CodeForgeError | None = None
        self._known: list[int] = []  # process ids of clients: most connections come from them
        self._ended = False

    def follow(self, workspace: Workspace) -> None:
        """Begin to open or close, when that is what the settings of the workspace ask for now."""
        if self._ended or (self._turning is not None and not self._turning.done()):
            return
        wanted = workspace.settings.mcp
        if wanted != self._followed and (wanted.http or self._server is not None):
            self._turning = asyncio.create_task(self._turn(workspace, wanted), name="turn-http-door")
        self._followed = wanted

    def in_use(self) -> bool:
        """Whether a client is there that the daemon must not leave."""
        return self._server is not None and self._server.in_use()

    async def facts(self) -> JsonObject:
        """Where it is and how to get in, when it is open; why it is not, when it should be."""
        workspace = await self._settled()
        facts: JsonObject = {
            "on": workspace.settings.mcp.http,
            "token_file": str(self._tokens(workspace).path),
        }
        if self._server is None:
            error = self._error.as_json() if self._error else None
            return {**facts, "open": False, "url": None, "error": error}
        url = f"http://{LOOPBACK}:{self._server.port}/mcp"
        return {**facts, "open": True, "url": url, "error": None, **self._server.report()}

    async def rotate(self, by: str) -> JsonObject:
        """Make a new token, by the order of ``by`` (a label). Whoever came in with the old one has to come again."""
        workspace = await self._settled()
        token = await asyncio.to_thread(self._tokens(workspace).replace)
        if self._server is not None:
            await self._server.retoken(token)
        elif self._error is not None:  # the old file may have been why it did not open
            self._followed = None
        await _record(workspace, {"token": "renewed"}, by)
        return await self.facts()

    def stop(self) -> None:
        """Let nobody in any more: the daemon is about to end."""
        self._ended = True
        if self._server is not None:
            self._server.stop()

    async def close(self) -> None:
        """Shut it and send away who is in."""
        self._ended = True
        if self._turning is not None:
            await asyncio.wait({self._turning}, timeout=CLOSE_SECONDS)
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()

    async def _settled(self) -> Workspace:
        """The open workspace, once the door is as its settings want it."""
        workspace = await self._host.workspace()
        try:
            async with asyncio.timeout(TURN_SECONDS):
                while self._followed != workspace.settings.mcp or (
                    self._turning and not self._turning.done()
                ):
                    self.follow(workspace)
                    await (asyncio.wait({self._turning}) if self._turning else asyncio.sleep(0))
        except TimeoutError as error:
            raise Unavailable(
                f"The HTTP door did not open or close within {TURN_SECONDS:g} s.", hint="Ask again."
            ) from error
        return workspace

    async def _turn(self, workspace: Workspace, wanted: McpSettings) -> None:
        self._error = None
        if self._server is not None:
            server, self._server = self._server, None
            await server.close()
            del workspace.health_parts[HEALTH]
            await _record(workspace, {"open": False})
        if not wanted.http:
            return
        try:
            self._server = await self._open(workspace, wanted)
        except Exception as error:
            known = error if isinstance(error, CodeForgeError) else None
            self._error = known or Unavailable(f"MCP over HTTP cannot be served: {error}")
            log.warning("the HTTP door stays shut: %s", self._error.text, exc_info=known is None)
            return
        workspace.health_parts[HEALTH] = self._server.report
        await _record(workspace, {"open": True, "port": self._server.port})

    async def _open(self, workspace: Workspace, wanted: McpSettings) -> HttpServer:
        await imported("mcp_server.http_server", "codeforge_ls.daemon.tcp_peer")
        from mcp_server.http_server import HttpServer

        token = await asyncio.to_thread(self._tokens(workspace).read_or_make)
        sock = _bind(wanted.port, workspace.root)
        try:
            server = await HttpServer.open(sock, self._host, token, self._admit, wanted.session_seconds)
        except BaseException:
            sock.close()
            raise
        if self._ended:  # meanwhile the daemon began to leave
            server.stop()
        return server

    async def _admit(self, ours: Address, theirs: Address) -> Peer:
        """Who connects. Raises ``Denied`` for a command of an agent, another user and who cannot be seen."""
        from codeforge_ls.daemon.tcp_peer import find
        from mcp_server.http_clients import Peer

        found = await asyncio.to_thread(find, ours, theirs, tuple(self._known))
        return Peer(found.key, found.name, found.is_alive, functools.partial(self._attached, found))

    def _attached(self, peer: TcpPeer) -> None:
        self._agents.attached("mcp", peer.lineage)
        self._known = [process.pid for process in peer.lineage[:1]] + self._known[:7]

    @staticmethod
    def _tokens(workspace: Workspace) -> TokenFile:
        return TokenFile(workspace.state / TOKEN_FILE)


def _bind(port: int, root: Path) -> socket.socket:
    """A socket on the loopback address. Port 0: the one that belongs to the root, so that what agents were told
    stays true; any other when that is taken. Raises ``Unavailable`` when the wanted port is taken."""
    from codeforge_ls.config import workspace_id

    own = PORTS[int(workspace_id(root), 16) % len(PORTS)]
    for number in (port,) if port else (own, 0):
        # Named TCP, asyncio sends small pieces at once; else an answer waits 40 ms for the client's acknowledgement.
        sock = socket.socket(socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP)
        sock.setblocking(False)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            sock.bind((LOOPBACK, number))
            sock.listen(64)
        except OSError as error:
            sock.close()
            if port or number == 0:
                raise Unavailable(
                    f"Port {number} of {LOOPBACK} cannot be used: {error.strerror}.",
                    hint="Choose another mcp.port, or 0.",
                ) from error
        else:
            return sock
    raise AssertionError("the last port was tried")


async def _record(workspace: Workspace, payload: JsonObject, by: str = SYSTEM.label) -> None:
    kind = EventType.HTTP_DOOR_CHANGED
    await workspace.store.append(EventDraft(stream="workspace", type=kind, payload=payload, actor=by))
