"""A small editor for tests: LSP over the real ``codeforge-ls``; it opens documents and answers prompts."""

from __future__ import annotations

import asyncio
import itertools
import json
from pathlib import Path
from typing import Any

Json = dict[str, Any]


class Editor:
    """One editor window. ``verdict`` answers prompts: ``Allow once``, ``Deny`` or None for dismissed."""

    def __init__(self, process: asyncio.subprocess.Process, root: Path) -> None:
        self._process, self._root = process, root
        self._ids, self._answers = itertools.count(1), dict[int, asyncio.Future[Json]]()
        self.verdict: str | None = "Allow once"
        self.prompts: list[str] = []
        self.texts: dict[str, str] = {}
        self._reading = asyncio.create_task(self._read())

    async def start(self) -> None:
        edit = {"documentChanges": True, "changeAnnotationSupport": {"groupsOnLabel": True}}
        folder = {"uri": self._root.as_uri(), "name": "ws"}
        capabilities = {"workspace": {"applyEdit": True, "workspaceEdit": edit}}
        info = {"name": "test-editor", "version": "1"}
        wanted = {
            "processId": None,
            "rootUri": folder["uri"],
            "workspaceFolders": [folder],
            "clientInfo": info,
        }
        await self.request("initialize", {**wanted, "capabilities": capabilities})
        self._send({"method": "initialized", "params": {}})
        await self.command("codeforge.index.status")  # from here on the editor is attached

    async def command(self, name: str, **argument: Any) -> Json:
        return await self.request("workspace/executeCommand", {"command": name, "arguments": [argument]})

    async def request(self, method: str, params: Json, timeout: float = 40) -> Json:
        number = next(self._ids)
        came = self._answers[number] = asyncio.get_running_loop().create_future()
        self._send({"id": number, "method": method, "params": params})
        answer = await asyncio.wait_for(came, timeout)
        assert "error" not in answer, answer
        return answer["result"]

    def open(self, path: str, text: str) -> None:
        """Open a document whose text may differ from the disk."""
        uri = (self._root / path).as_uri()
        self.texts[uri] = text
        document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
        self._send({"method": "textDocument/didOpen", "params": {"textDocument": document}})

    async def close(self) -> None:
        await self.request("shutdown", {})
        self._send({"method": "exit", "params": {}})
        await asyncio.wait_for(self._process.wait(), 10)
        await self._reading

    def _send(self, message: Json) -> None:
        assert self._process.stdin is not None
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        self._process.stdin.write(b"Content-Length: %d\r\n\r\n" % len(body) + body)

    async def _read(self) -> None:
        assert self._process.stdout is not None
        while head := await self._process.stdout.readline():
            size = int(head.split(b":")[1])
            while (await self._process.stdout.readline()).strip():
                pass
            message = json.loads(await self._process.stdout.readexactly(size))
            if "method" in message and "id" in message:
                self._send({"id": message["id"], "result": self._reply(message["method"], message["params"])})
            elif "id" in message and message["id"] in self._answers:
                self._answers[message["id"]].set_result(message)

    def _reply(self, method: str, params: Json) -> Any:
        if method == "window/showMessageRequest":
            self.prompts.append(params["message"])
            return {"title": self.verdict} if self.verdict else None
        return [None for _ in params["items"]] if method == "workspace/configuration" else None
