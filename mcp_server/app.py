"""The MCP server object: one for a process, the same for every client and every workspace."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import AsyncIterator, Iterable
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import anyio
from mcp.server import MCPServer
from mcp.server.context import ServerRequestContext
from mcp.server.lowlevel.helper_types import ReadResourceContents
from mcp.server.mcpserver import server as sdk
from mcp.server.request_state import RequestStateSecurity
from mcp.types import CallToolResult, InputRequiredResult
from pydantic import AnyUrl

from codeforge_ls import __version__
from codeforge_ls.model.base import new_id
from codeforge_ls.model.errors import InvalidInput
from mcp_server.calls import PIPE, Connection, ToolCallContext, error_result
from mcp_server.handshake import INSTRUCTIONS, NAME, TITLE
from mcp_server.resources import add_resources, reading
from mcp_server.tools import build_tools

if TYPE_CHECKING:
    from codeforge_ls.operations.host import WorkspaceHost

LEAVE_SECONDS = 0.3  # to record that the client has left

# The SDK would set up the root logger, which belongs to `codeforge_ls.logs`, and import a library of colours for it.
vars(sdk)["configure_logging"] = lambda _level: None


class CodeForgeServer(MCPServer[Any]):
    """The SDK's server, with our words for an unknown tool, and the request's context for every resource."""

    async def call_tool(
        self, name: str, arguments: dict[str, Any], context: ToolCallContext | None = None
    ) -> CallToolResult | InputRequiredResult:
        """Call a tool by name; an unknown name is an error that the model reads."""
        names = [tool.name for tool in await self.list_tools()]
        if name not in names:
            wrong = InvalidInput(f"There is no tool {name[:80]!r}.", hint=f"There are: {', '.join(names)}.")
            return error_result(wrong)
        return await super().call_tool(name, arguments, context)

    async def read_resource(
        self, uri: AnyUrl | str, context: ToolCallContext | None = None
    ) -> Iterable[ReadResourceContents] | InputRequiredResult:
        """Read a resource; the context of the request is left where ours find it."""
        reading.set(context)
        return await super().read_resource(uri, context)


def _connected(context: ServerRequestContext[Any, Any]) -> str | None:
    """Whose state the SDK seals: it opens in the connection that it was given to, and in no other one."""
    connection = context.lifespan_context
    return connection.session if isinstance(connection, Connection) else None


def build(host: WorkspaceHost | None = None, front_end: str = PIPE) -> MCPServer[Any]:
    """The server with all tools and resources.

    On the pipe the daemon gives each connection its own state. With a ``host`` each time the server is run is a
    connection, as over HTTP for each client; without one its tools answer ``unavailable`` then.
    """

    @asynccontextmanager
    async def lifespan(_server: MCPServer[Any]) -> AsyncIterator[Connection | None]:
        if host is None:
            yield None
            return
        connection = Connection(host, new_id(front_end), front_end)
        try:
            yield connection
        finally:
            with anyio.move_on_after(LEAVE_SECONDS, shield=True), contextlib.suppress(Exception):
                await connection.end()

    server = CodeForgeServer(
        NAME,
        title=TITLE,
        version=__version__,
        instructions=INSTRUCTIONS,
        tools=build_tools(),
        lifespan=lifespan,
        request_state_security=RequestStateSecurity(
            keys=[secrets.token_bytes(32)], bind_principal=_connected
        ),
    )
    add_resources(server)
    return server
