"""A bare MCP client for tests: JSON lines over any pair of asyncio streams, in either protocol era."""

from __future__ import annotations

import asyncio
import itertools
import json
from collections.abc import Callable
from typing import Any

NEW = "2026-07-28"
OLD = "2025-11-25"
ERAS = (NEW, OLD)
Json = dict[str, Any]


class Wire:
    """One connection. ``notices`` collects what came without an id; ``nameless`` errors without one.

    ``person`` answers what the server asks through the client (2025); with one the client says that it has one.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        *,
        era: str = NEW,
        name: str = "test-client",
        person: Callable[[Json], Json] | None = None,
    ):
        self.person = person
        self.capabilities: Json = {"elicitation": {}} if person else {}
        self.reader, self.writer, self.era, self.name = reader, writer, era, name
        self.notices: list[Json] = []
        self.nameless: list[Json] = []
        self.answers: dict[Any, Json] = {}
        self._ids = itertools.count(1)
        self._came = asyncio.Condition()
        self._listening = asyncio.create_task(self._listen())
        self.ended = False

    async def start(self) -> Json:
        """The handshake of the era; returns what the server says of itself."""
        if self.era == NEW:
            return await self.request("server/discover")
        info = {"name": self.name, "version": "1"}
        wanted = {"protocolVersion": self.era, "capabilities": self.capabilities, "clientInfo": info}
        told = await self.request("initialize", wanted)
        self.send({"jsonrpc": "2.0", "method": "notifications/initialized"})
        return told

    def send(self, message: Json) -> None:
        self.writer.write(json.dumps(message).encode() + b"\n")

    def post(self, method: str, params: Json | None = None, token: str | None = None) -> int:
        """Send a request without waiting; returns its id."""
        number = next(self._ids)
        params = dict(params or {})
        meta: Json = {"progressToken": token} if token else {}
        if self.era == NEW:
            meta["io.modelcontextprotocol/protocolVersion"] = self.era
            meta["io.modelcontextprotocol/clientCapabilities"] = self.capabilities
            meta["io.modelcontextprotocol/clientInfo"] = {"name": self.name, "version": "1"}
        if meta:
            params["_meta"] = meta
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    async def answer(self, number: Any, timeout: float = 20) -> Json:
        """The whole answer to a request."""
        async with asyncio.timeout(timeout), self._came:
            await self._came.wait_for(lambda: number in self.answers or self.ended)
        return self.answers.pop(number)

    async def request(self, method: str, params: Json | None = None, timeout: float = 20) -> Json:
        """The result of a request that must succeed."""
        answer = await self.answer(self.post(method, params), timeout)
        assert "result" in answer, answer
        return answer["result"]

    async def tool(self, tool: str, /, timeout: float = 20, **arguments: Any) -> Json:
        """The result of a tool call, error results included."""
        return await self.request("tools/call", {"name": tool, "arguments": arguments}, timeout)

    async def until(self, what: Any, timeout: float = 20) -> None:
        """Wait until something is true of what has come."""
        async with asyncio.timeout(timeout), self._came:
            await self._came.wait_for(what)

    async def close(self) -> None:
        self.writer.close()
        await self._listening

    async def _listen(self) -> None:
        try:
            while line := await self.reader.readline():
                message = json.loads(line)
                if message.get("method") == "elicitation/create" and self.person is not None:
                    self.send(
                        {"jsonrpc": "2.0", "id": message["id"], "result": self.person(message["params"])}
                    )
                    continue
                async with self._came:
                    if message.get("id") is not None and "method" not in message:
                        assert message["id"] not in self.answers, "answered twice"
                        self.answers[message["id"]] = message
                    else:
                        (self.nameless if "error" in message else self.notices).append(message)
                    self._came.notify_all()
        except ConnectionError:
            pass
        finally:
            async with self._came:
                self.ended = True
                self._came.notify_all()


def text(result: Json) -> str:
    """The text channel of a tool result."""
    return "\n".join(block["text"] for block in result["content"])
