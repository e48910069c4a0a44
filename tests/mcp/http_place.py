"""A workspace whose daemon serves MCP over HTTP, and what tests need to knock at its door."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.mcp.shop import BIN, Shop, end
from tests.mcp.wire import NEW, OLD

AGENT = Path(__file__).with_name("http_agent.py")
ACCEPT = "application/json, text/event-stream"
META = {
    "io.modelcontextprotocol/protocolVersion": NEW,
    "io.modelcontextprotocol/clientCapabilities": {},
    "io.modelcontextprotocol/clientInfo": {"name": "raw", "version": "1"},
}
Json = dict[str, Any]


@dataclass
class Answer:
    """A response as it came over the wire."""

    status: int
    headers: dict[str, str] = field(default_factory=dict)
    body: str = ""

    @property
    def message(self) -> Json:
        """The JSON-RPC message in it, also from a stream of events."""
        lines = [line[6:] for line in self.body.splitlines() if line.startswith("data: ")]
        whole: Json = json.loads(lines[-1] if lines else self.body)
        return whole


class Door:
    """The address and the token, and requests that are right in all that a test does not change."""

    def __init__(self, shop: Shop, url: str, token: str) -> None:
        self.shop, self.url, self.token = shop, url, token
        self.port = int(url.removesuffix("/mcp").rpartition(":")[2])
        self.daemon = 0  # its process id

    def headers(self, **changed: str | None) -> list[tuple[str, str]]:
        """The headers of a good request of the new era without a body; None leaves one out."""
        given = {
            "Host": f"127.0.0.1:{self.port}",
            "Authorization": f"Bearer {self.token}",
            "Accept": ACCEPT,
            "Content-Type": "application/json",
        } | {name.replace("_", "-"): value for name, value in changed.items()}
        return [(name, value) for name, value in given.items() if value is not None]

    def request(
        self,
        body: bytes,
        *,
        method: str = "POST",
        target: str = "/mcp",
        more: list[tuple[str, str]] | None = None,
        length: bool = True,
        **changed: str | None,
    ) -> bytes:
        """The bytes of a request."""
        lines = [f"{method} {target} HTTP/1.1", *(f"{n}: {v}" for n, v in self.headers(**changed))]
        lines += [f"{name}: {value}" for name, value in more or []]
        lines += [f"Content-Length: {len(body)}"] if length else []
        return "\r\n".join([*lines, "", ""]).encode("latin-1") + body

    async def exchange(self, data: bytes, timeout: float = 30, *, half_close: bool = False) -> Answer | None:
        """Write bytes to a new connection and read one response; None: it was closed without one."""
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port, limit=1 << 24)
        try:
            async with asyncio.timeout(timeout):
                try:
                    writer.write(data)
                    if half_close:
                        writer.write_eof()
                    await writer.drain()
                except ConnectionError:
                    pass  # it was refused before all of it came; the answer may be there
                return await read_answer(reader, bodiless=data.startswith(b"HEAD "))
        finally:
            writer.close()

    async def call(self, tool: str, /, era: str = NEW, **arguments: Any) -> Json:
        """The result of a tool call on a connection of its own."""
        assert era == NEW
        answer = await self.exchange(self.request(call(tool, **arguments), **routed(tool)), timeout=60)
        assert answer is not None
        assert answer.status == 200, answer
        result: Json = answer.message["result"]
        return result


def call(tool: str, /, number: int = 1, **arguments: Any) -> bytes:
    """The body of a tool call of the new era."""
    params = {"name": tool, "arguments": arguments, "_meta": META}
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": "tools/call", "params": params}).encode()


def routed(tool: str) -> dict[str, str]:
    """The headers that say what is in such a body."""
    return {"MCP_Protocol_Version": NEW, "Mcp_Method": "tools/call", "Mcp_Name": tool}


def old(method: str, number: int | None = 1, **params: Any) -> bytes:
    """The body of a request of the old era; without a number a notification."""
    message: Json = {"jsonrpc": "2.0", "method": method, "params": params}
    return json.dumps(message if number is None else {**message, "id": number}).encode()


def hello(name: str) -> bytes:
    """The handshake of the old era."""
    return old("initialize", protocolVersion=OLD, capabilities={}, clientInfo={"name": name, "version": "1"})


async def read_answer(reader: asyncio.StreamReader, *, bodiless: bool = False) -> Answer | None:
    """One response; None at the end of the connection."""
    try:
        head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    except (asyncio.IncompleteReadError, ConnectionError):
        return None
    status = int(head[0].split()[1])
    headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in head[1:])}
    body = b""
    if headers.get("transfer-encoding") == "chunked":
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    elif "content-length" in headers and not bodiless:
        body = await reader.readexactly(int(headers["content-length"]))
    return Answer(status, headers, body.decode())


class Program:
    """``http_agent.py``, started by a shell that is gone: nobody but init is above it, as with a person's programs."""

    def __init__(self, process: asyncio.subprocess.Process, door: Door, pid: int) -> None:
        self._process, self._door, self.pid = process, door, pid

    @classmethod
    async def start(cls, door: Door, **env: str) -> Program:
        process = await asyncio.create_subprocess_exec(
            "sh", "-c", f"exec 3<&0; '{sys.executable}' '{AGENT}' <&3 & exec 3<&-",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=door.shop.env | env, limit=1 << 23,
        )  # fmt: skip
        program = cls(process, door, 0)
        program.pid = (await program._tell(port=door.port))["pid"]
        return program

    async def send(self, body: bytes | None, *, method: str = "POST", **changed: str | None) -> Answer:
        """One request; the connection is kept."""
        order = {"method": method, "headers": dict(self._door.headers(**changed))}
        told = await self._tell(send={**order, "body": None if body is None else body.decode()})
        assert "error" not in told, told
        return Answer(**told)

    async def try_raw(self, data: bytes) -> Json:
        """What comes back for some bytes."""
        return await self._tell(raw=data.hex())

    async def end(self) -> None:
        """End of input: it leaves."""
        assert self._process.stdin is not None
        self._process.stdin.close()
        assert self._process.stdout is not None
        assert await asyncio.wait_for(self._process.stdout.read(), 10) == b""

    async def _tell(self, **order: Any) -> Json:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(json.dumps(order).encode() + b"\n")
        line = await asyncio.wait_for(self._process.stdout.readline(), 60)
        told: Json = json.loads(line)
        return told


@asynccontextmanager
async def open_door(base: Path, **env: str) -> AsyncIterator[Door]:
    """A shop with its HTTP door open. Its daemon is told to end, whoever is connected, and has to."""
    shop = Shop(base)
    shop.env |= {"CODEFORGE_MCP_HTTP": "true", "CODEFORGE_DAEMON_IDLE_SECONDS": "1"} | env
    async with shop.stack:
        _, door = await knock(shop)
        door.daemon = json.loads((await codeforge(shop, "daemon", "status", "--json"))[1])["pid"]
        try:
            yield door
        finally:
            os.kill(door.daemon, signal.SIGTERM)


async def knock(shop: Shop) -> tuple[asyncio.subprocess.Process, Door]:
    """Start ``codeforge mcp http --stay``; the process, and the door that it shows."""
    process = await asyncio.create_subprocess_exec(
        BIN / "codeforge", "mcp", "http", "--stay", "--json",
        stdout=subprocess.PIPE, cwd=shop.root, env=shop.env,
    )  # fmt: skip
    shop.stack.push_async_callback(leave, process)
    assert process.stdout is not None
    facts = json.loads(await asyncio.wait_for(process.stdout.readline(), 60))
    assert facts.get("open"), facts
    return process, Door(shop, facts["url"], Path(facts["token_file"]).read_text().strip())


async def leave(process: asyncio.subprocess.Process) -> None:
    """End a ``--stay``."""
    if process.returncode is None:
        process.terminate()
    await end(process)


async def codeforge(shop: Shop, *words: str) -> tuple[int, str]:
    """Run a verb; its exit code and what it printed."""
    process = await asyncio.create_subprocess_exec(
        BIN / "codeforge", *words,
        stdout=subprocess.PIPE, stderr=subprocess.STDOUT, cwd=shop.root, env=shop.env,
    )  # fmt: skip
    said, _ = await asyncio.wait_for(process.communicate(), 60)
    return process.returncode or 0, said.decode()


def events(shop: Shop) -> list[tuple[str, str, Json]]:
    """Stream, type and payload of the whole log."""
    (database,) = Path(shop.env["XDG_STATE_HOME"]).glob("codeforge/*/state.db")
    with sqlite3.connect(f"file:{database}?mode=ro", uri=True) as log:
        rows = log.execute("SELECT stream, type, payload FROM events ORDER BY position").fetchall()
    return [(stream, kind, json.loads(payload)) for stream, kind, payload in rows]
