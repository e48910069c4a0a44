"""The HTTP door of one workspace: what a request must show before any of it reaches the protocol."""

from __future__ import annotations

import asyncio
import contextlib
import hmac
import json
import logging
import socket
from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

from mcp.types import INVALID_REQUEST
from starlette.responses import Response
from starlette.types import Message, Receive, Scope, Send

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import CodeForgeError, LimitReached
from mcp_server.app import build
from mcp_server.http_clients import MAX_BODY, Client, Clients, Peer
from mcp_server.http_wire import MAX_HEAD, Admit, HttpListener

if TYPE_CHECKING:
    from mcp.server.lowlevel import Server

    from codeforge_ls.operations.host import WorkspaceHost

ORIGIN = "mcp-http"  # of sessions in the log
PATH = b"/mcp"
METHODS = ("GET", "POST", "DELETE")
MAX_HEADERS = 64
ADMIT_SECONDS = 5.0  # to find out which program connects
# Twice, these could be read in two ways.
ONCE = frozenset(
    {
        b"authorization", b"content-length", b"content-type", b"host", b"mcp-session-id", b"mcp-protocol-version",
        b"origin", b"transfer-encoding",
    }
)  # fmt: skip
HANG_UP = {"Connection": "close"}  # where the end of the body is in doubt, nothing behind it is looked at

Headers = Mapping[bytes, bytes]

log = logging.getLogger(__name__)


class Refusal(Exception):
    """A request that goes no further."""

    def __init__(self, status: int, message: str, **headers: str) -> None:
        super().__init__(message)
        self.status, self.headers = status, headers

    def response(self) -> Response:
        """The answer, shaped as the protocol's errors are, so that clients can show it."""
        error = {"code": INVALID_REQUEST, "message": str(self)}
        body = json.dumps({"jsonrpc": "2.0", "id": None, "error": error})
        return Response(body, self.status, self.headers, media_type="application/json")


class HttpServer:
    """The open door. Whoever comes in is an agent like one on the pipe: same tools, same gate, same limits."""

    def __init__(
        self, server: Server[Any], token: bytes, port: int, admit: Admit, session_seconds: float
    ) -> None:
        self.port = port
        self._hosts = {f"127.0.0.1:{port}".encode(), f"localhost:{port}".encode()}
        self._token = token
        self._server, self._session_seconds = server, session_seconds
        self._clients = Clients(server, session_seconds)
        self._listener = HttpListener(self, admit)
        self._refused = 0

    @classmethod
    async def open(
        cls, sock: socket.socket, host: WorkspaceHost, token: bytes, admit: Admit, session_seconds: float
    ) -> HttpServer:
        """Serve on a socket that is bound to a loopback address."""
        # The SDK's manager takes the low-level server, which MCPServer has no public name for.
        server = (await asyncio.to_thread(build, host, ORIGIN))._lowlevel_server  # noqa: SLF001 - as above
        door = await asyncio.to_thread(cls, server, token, sock.getsockname()[1], admit, session_seconds)
        await door._listener.listen(sock)  # noqa: SLF001 - our own
        return door

    def report(self) -> JsonObject:
        """Counts for ``health``."""
        open_ones = self._listener.connections
        return {
            "port": self.port,
            "clients": len(self._clients),
            "connections": open_ones,
            "refused": self._refused,
        }

    def in_use(self) -> bool:
        """Whether a client is there. One whose program has ended, or that has been silent too long, is let go."""
        self._clients.sweep()
        return bool(len(self._clients))

    async def retoken(self, token: bytes) -> None:
        """From now on only this token counts; who came in with the old one has to come again."""
        self._token = token
        old, self._clients = self._clients, Clients(self._server, self._session_seconds)
        await self._listener.cut()
        await old.close()

    def stop(self) -> None:
        """Let nobody in any more; who is in stays until ``close``."""
        self._listener.stop()

    async def close(self) -> None:
        """Let nobody in any more and send away who is in."""
        await self._listener.close()
        await self._clients.close()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """One request: who, then what it says of itself, then its body, whole; only then the protocol."""
        try:
            peer = await self._peer(scope)
            self._check(scope)
            body = await _body(receive)
            if body is None:  # it hung up in the middle
                return
            client = self._client(peer)
        except Refusal as no:
            self._refused += 1
            log.info("refused %s over HTTP: %d %s", scope["client"], no.status, no)
            with contextlib.suppress(ConnectionError):
                await no.response()(scope, receive, send)
            return
        # Nothing behind this line sees the token, not even where it keeps the request.
        kept = [(name, value) for name, value in scope["headers"] if name != b"authorization"]
        await client.serve({**scope, "headers": kept, "state": {}}, _replayed(body, receive), send)

    async def _peer(self, scope: Scope) -> Peer:
        try:
            asking: asyncio.Future[Peer] = scope["state"]["peer"]
            return await asyncio.wait_for(asyncio.shield(asking), ADMIT_SECONDS)
        except CodeForgeError as error:
            raise Refusal(403, error.text) from error
        except TimeoutError as error:
            raise Refusal(503, "It takes too long to find out who connects. Try again.") from error

    def _client(self, peer: Peer) -> Client:
        try:
            return self._clients.of(peer)
        except LimitReached as error:
            raise Refusal(503, error.text) from error

    def _check(self, scope: Scope) -> None:
        pairs: list[tuple[bytes, bytes]] = scope["headers"]
        headers: Headers = dict(pairs)
        if scope["http_version"] != "1.1":
            raise Refusal(505, "This server speaks HTTP/1.1.", **HANG_UP)
        _check_form(pairs)
        if headers.get(b"host") not in self._hosts:
            raise Refusal(421, f"The address of this server is 127.0.0.1:{self.port}.")
        if b"origin" in headers:
            raise Refusal(403, "Web pages may not call this server.")
        scheme, _, given = headers.get(b"authorization", b"").partition(b" ")
        if scheme.lower() != b"bearer" or not hmac.compare_digest(given, self._token):
            hint = "Send the token: `codeforge mcp http` says where it is."
            raise Refusal(401, hint, **{"WWW-Authenticate": 'Bearer realm="codeforge"'})
        if scope["raw_path"] != PATH or scope["query_string"]:
            raise Refusal(404, "There is nothing here but /mcp.")
        if scope["method"] not in METHODS:
            raise Refusal(405, f"This server takes {', '.join(METHODS)}.", Allow=", ".join(METHODS))
        if scope["method"] == "POST":
            _check_content(headers)


def _check_form(pairs: list[tuple[bytes, bytes]]) -> None:
    """Whether the headers are few and can be read in one way only."""
    names = [name for name, _ in pairs]
    if len(pairs) > MAX_HEADERS or sum(len(name) + len(value) for name, value in pairs) > MAX_HEAD:
        raise Refusal(431, f"A request has at most {MAX_HEADERS} headers and {MAX_HEAD >> 10} KiB of them.")
    if twice := [name for name in ONCE if names.count(name) > 1]:
        raise Refusal(400, f"There is more than one {twice[0].decode()} header.", **HANG_UP)
    if b"content-length" in names and b"transfer-encoding" in names:
        raise Refusal(400, "A body has a length or is sent in chunks, not both.", **HANG_UP)


def _check_content(headers: Headers) -> None:
    media, _, parameters = headers.get(b"content-type", b"").decode("latin-1").lower().partition(";")
    charset = parameters.strip().replace('"', "")
    if media.strip() != "application/json" or charset not in ("", "charset=utf-8"):
        raise Refusal(415, "A message is application/json in UTF-8.")
    if headers.get(b"content-encoding", b"identity").lower() != b"identity":
        raise Refusal(415, "A message is sent as it is, not compressed.")
    length = headers.get(b"content-length", b"0")
    if not length.isdigit() or int(length[:20]) > MAX_BODY:
        raise _too_large()


def _too_large() -> Refusal:
    return Refusal(413, f"A message has at most {MAX_BODY >> 20} MiB; send smaller edits.")


async def _body(receive: Receive) -> bytes | None:
    """The whole body; None when it was cut off. Raises ``Refusal`` when it is too large."""
    kept = bytearray()
    while True:
        message = await receive()
        if message["type"] != "http.request":
            return None
        kept += message.get("body", b"")
        if len(kept) > MAX_BODY:
            raise _too_large()
        if not message.get("more_body", False):
            return bytes(kept)


def _replayed(body: bytes, receive: Receive) -> Receive:
    """What gives the body once, and then what else comes: the end of the connection."""
    waiting: list[Message] = [{"type": "http.request", "body": body, "more_body": False}]

    async def take() -> Message:
        return waiting.pop() if waiting else await receive()

    return take
