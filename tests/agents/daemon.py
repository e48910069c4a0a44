"""The real daemon with the suite's fixtures in its MCP server; the suite cannot show a token, so it is added here."""

import sys
from typing import Any

from codeforge_ls.daemon.__main__ import main
from mcp_server import http_server
from tests.agents.fixture import install

build, serve = http_server.build, http_server.HttpServer.__call__


async def with_token(self: http_server.HttpServer, scope: Any, receive: Any, send: Any) -> None:
    shown = [*scope["headers"], (b"authorization", b"Bearer " + self._token)]
    await serve(self, {**scope, "headers": shown}, receive, send)


http_server.build = lambda host, front_end: install(build(host, front_end))
http_server.HttpServer.__call__ = with_token

if __name__ == "__main__":
    sys.exit(main())
