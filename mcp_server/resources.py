"""Resources: the repo map, and the events of a run. Views of the same operations as the tools."""

from __future__ import annotations

import json
from contextvars import ContextVar
from typing import TYPE_CHECKING

from mcp.server.mcpserver.exceptions import ResourceError
from mcp.types import InputRequiredResult

from codeforge_ls import redaction
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import CodeForgeError, Unavailable
from mcp_server.calls import ToolCallContext, connection_of, unexpected
from mcp_server.looking import show_map

if TYPE_CHECKING:
    from mcp.server import MCPServer

MAP_TOKENS = 4096
PAGE = 500  # events of a run in one read, the newest left to get_run

# The SDK gives a resource without a template no context; the server leaves that of the request here.
reading: ContextVar[ToolCallContext | None] = ContextVar("reading", default=None)


async def repo_map() -> str:
    """The most important files and definitions of the repository; or why there is no map now."""
    try:
        return show_map(await _call("repomap", {"budget_tokens": MAP_TOKENS}, reading.get())).text
    except ResourceError as error:
        if isinstance(error.__cause__, Unavailable):  # a state of the workspace, which clients may show
            return str(error)
        raise


async def run_events(run_id: str, context: ToolCallContext) -> str:
    """The events of a run from the start, one JSON object a line."""
    answer = await _call("run.events", {"run_id": run_id, "limit": PAGE}, context)
    events = answer.get("events")
    return "\n".join(json.dumps(event) for event in events) if isinstance(events, list) else ""


async def _call(operation: str, arguments: JsonObject, context: ToolCallContext | None) -> JsonObject:
    if context is None:
        raise ResourceError("unavailable: There is no request.")
    try:
        answer = await connection_of(context).call(operation, arguments, context)
    except CodeForgeError as error:
        raise ResourceError(f"{error.code}: {error.text}") from error
    except Exception as error:
        raise ResourceError(unexpected(error).text) from error
    if isinstance(answer, InputRequiredResult):
        raise ResourceError("denied: A resource asks nobody.")
    return redaction.hide_all(answer)


def add_resources(server: MCPServer) -> None:
    """Offer them."""
    server.resource("codeforge://map", title="Repository map", mime_type="text/plain")(repo_map)
    server.resource(
        "codeforge://runs/{run_id}/events", title="Events of a run", mime_type="application/x-ndjson"
    )(run_events)
