"""Clients for the proofs: an editor over LSP and an agent over MCP, which know when their connection has ended."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
from collections import Counter
from pathlib import Path
from typing import Any

from tests.soak.ground import BIN, Ground

Json = dict[str, Any]
LIMIT = 64 << 20  # bytes of one message


class Gone(Exception):
    """The connection ended before the answer came."""


class Refused(Exception):
    """The server answered with an error; ``code`` is CodeForge's where there is one."""

    def __init__(self, error: Json) -> None:
        super().__init__(json.dumps(error)[:600])
        data = error.get("data")
        self.code = str(data["code"] if isinstance(data, dict) and "code" in data else error.get("code"))


class Peer:
    """One connection. ``times`` counts the answers to each id; ``process`` is the pipe, if there is one."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        process: asyncio.subprocess.Process | None = None,
    ) -> None:
        self.reader, self.writer, self.process = reader, writer, process
        self.times: Counter[str] = Counter()
        self.ended = asyncio.Event()
        self.verdict: str | None = "Allow once"
        self._ids, self._waiting = itertools.count(1), dict[str, asyncio.Future[Json]]()
        self._listening = asyncio.create_task(self._listen())

    async def request(self, method: str, params: Json | None = None, timeout: float = 60) -> Any:
        """The result. Raises ``Refused``, ``Gone`` or ``TimeoutError``."""
        name = f"r{next(self._ids)}"
        message = {"jsonrpc": "2.0", "id": name, "method": method, "params": params or {}}
        answer = await self.answer(name, self.pack(message), timeout)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    async def answer(self, name: str, data: bytes, timeout: float) -> Json:
        """Send bytes and wait for the answer to the id in them."""
        if self.ended.is_set():
            raise Gone
        self._waiting[name] = asyncio.get_running_loop().create_future()
        try:
            self.send(data)
            return await asyncio.wait_for(self._waiting[name], timeout)
        finally:
            self._waiting.pop(name, None)

    def send(self, data: bytes) -> None:
        """Write bytes as they are."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.writer.write(data)

    def notify(self, method: str, params: Json) -> None:
        """A message without an answer."""
        self.send(self.pack({"jsonrpc": "2.0", "method": method, "params": params}))

    def pack(self, message: Json) -> bytes:
        """A message as the wire wants it."""
        raise NotImplementedError

    async def receive(self) -> bytes:
        """The next message; empty at the end."""
        raise NotImplementedError

    def reply(self, method: str, params: Json) -> Any:
        """The answer to a request of the server."""
        raise NotImplementedError

    async def close(self) -> int | None:
        """End the connection; the exit code of the pipe, or None when it did not leave by itself."""
        with contextlib.suppress(ConnectionError, RuntimeError):
            self.writer.close()
        code: int | None = 0
        if self.process is not None:
            try:
                code = await asyncio.wait_for(self.process.wait(), 10)
            except TimeoutError:
                self.process.kill()
                code = None
        self._listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await self._listening
        return code

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while body := await self.receive():
                message = json.loads(body)
                if "method" in message and "id" in message:
                    result = self.reply(message["method"], message.get("params") or {})
                    self.send(self.pack({"jsonrpc": "2.0", "id": message["id"], "result": result}))
                elif "method" not in message:
                    name = str(message.get("id"))
                    self.times[name] += 1
                    waiting = self._waiting.get(name)
                    if waiting is not None and not waiting.done():
                        waiting.set_result(message)
        self.ended.set()
        for waiting in self._waiting.values():
            if not waiting.done():
                waiting.set_exception(Gone())


class EditorPeer(Peer):
    """An editor that answers prompts by ``verdict``."""

    async def start(self, root: Path) -> None:
        """The handshake; afterwards the editor is attached to the workspace."""
        folder = {"uri": root.as_uri(), "name": "ws"}
        workspace = {"applyEdit": True, "workspaceEdit": {"documentChanges": True}}
        await self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": folder["uri"],
                "workspaceFolders": [folder],
                "clientInfo": {"name": "soak-editor", "version": "1"},
                "capabilities": {"workspace": workspace},
            },
        )
        self.notify("initialized", {})
        await self.command("index.status")

    async def command(self, operation: str, timeout: float = 60, **arguments: Any) -> Json:
        """Run an operation as the person at this editor."""
        params = {"command": f"codeforge.{operation}", "arguments": [arguments]}
        answer: Json = await self.request("workspace/executeCommand", params, timeout)
        return answer

    def pack(self, message: Json) -> bytes:
        """A frame."""
        return frame(json.dumps(message).encode())

    async def receive(self) -> bytes:
        """The body of the next frame."""
        head = await self.reader.readuntil(b"\r\n\r\n")
        size = next(int(line[15:]) for line in head.split(b"\r\n") if line[:15].lower() == b"content-length:")
        return await self.reader.readexactly(size)

    def reply(self, method: str, params: Json) -> Any:
        """Prompts get the verdict; everything else nothing."""
        if method == "window/showMessageRequest":
            return {"title": self.verdict} if self.verdict else None
        return [None for _ in params.get("items", ())] if method == "workspace/configuration" else None


class AgentPeer(Peer):
    """An MCP client of the handshake era."""

    async def start(self) -> None:
        """The handshake."""
        info = {"name": "soak-agent", "version": "1"}
        await self.request(
            "initialize", {"protocolVersion": "2025-11-25", "capabilities": {}, "clientInfo": info}
        )
        self.notify("notifications/initialized", {})

    async def text(self, tool: str, **arguments: Any) -> str:
        """What a model reads of a tool's result."""
        result = await self.request("tools/call", {"name": tool, "arguments": arguments})
        return "\n".join(block.get("text", "") for block in result["content"])

    async def tool(self, tool: str, timeout: float = 60, /, **arguments: Any) -> Json:
        """The structured result of a tool. Raises ``Refused`` for an error result."""
        result = await self.request("tools/call", {"name": tool, "arguments": arguments}, timeout)
        if result.get("isError"):
            error = dict(result.get("_meta", {}).get("codeforge/error", {}))
            text = "\n".join(block.get("text", "") for block in result["content"])
            raise Refused({"message": text, "data": error or {"code": "unnamed"}})
        answer: Json = result.get("structuredContent") or {}
        return answer

    def pack(self, message: Json) -> bytes:
        """A line."""
        return json.dumps(message).encode() + b"\n"

    async def receive(self) -> bytes:
        """The next line."""
        return await self.reader.readline()

    def reply(self, method: str, params: Json) -> Any:
        """An agent answers nothing."""
        return {}


def frame(body: bytes) -> bytes:
    """An LSP frame around bytes."""
    return b"Content-Length: %d\r\n\r\n%b" % (len(body), body)


async def editor(ground: Ground, *options: str) -> EditorPeer:
    """An editor over the real ``codeforge-ls``."""
    process = await _spawn(ground, "codeforge-ls", options)
    assert process.stdin
    assert process.stdout
    peer = EditorPeer(process.stdout, process.stdin, process)
    await peer.start(ground.root)
    return peer


async def agent(ground: Ground, *options: str) -> AgentPeer:
    """An agent over the real ``codeforge-mcp``."""
    process = await _spawn(ground, "codeforge-mcp", options)
    assert process.stdin
    assert process.stdout
    peer = AgentPeer(process.stdout, process.stdin, process)
    await peer.start()
    return peer


async def _spawn(ground: Ground, program: str, options: tuple[str, ...]) -> asyncio.subprocess.Process:
    pipe = asyncio.subprocess.PIPE
    return await asyncio.create_subprocess_exec(
        BIN / program, "--root", str(ground.root), *options,
        stdin=pipe, stdout=pipe, stderr=asyncio.subprocess.DEVNULL,
        env=ground.env, cwd=ground.root, limit=LIMIT,
    )  # fmt: skip


async def connect(ground: Ground, role: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """A connection to the running daemon's own socket, hello included, without a pipe between."""
    path = next((ground.base / "run" / "codeforge").glob("*.sock"))
    reader, writer = await asyncio.open_unix_connection(path, limit=LIMIT)
    hello = {"role": role, "protocol": 1, "cwd": str(ground.root), "pid": 1, "version": "0.0.1"}
    writer.write(json.dumps(hello).encode() + b"\n")
    answer = json.loads(await asyncio.wait_for(reader.readline(), 20))
    assert answer.get("ok"), answer
    return reader, writer
