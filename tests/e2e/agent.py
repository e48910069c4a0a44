"""A foreign agent for end-to-end tests: MCP as JSON lines over a real ``codeforge-mcp``."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import subprocess
import threading
from typing import Any

Json = dict[str, Any]
PROTOCOL = "2025-11-25"


class Agent:
    """One client on a pipe of its own."""

    def __init__(self, process: subprocess.Popen[bytes], name: str) -> None:
        self.process, self.name = process, name
        self.notices: list[Json] = []
        self._ids = itertools.count(1)
        self._waiting: dict[int, queue.Queue[Json]] = {}
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self) -> None:
        """The handshake."""
        info = {"name": self.name, "version": "1"}
        self.request("initialize", {"protocolVersion": PROTOCOL, "capabilities": {}, "clientInfo": info})
        self._send({"method": "notifications/initialized"})

    def tools(self) -> list[Json]:
        """The tools as the server lists them."""
        listed: list[Json] = self.request("tools/list", {})["result"]["tools"]
        return listed

    def call(self, tool: str, arguments: Any, timeout: float = 40, *, key: str | None = None) -> Json:
        """The result of a tool call, error results included; a protocol error comes as ``{"rpc_error": ...}``.
        ``key`` is its idempotency key."""
        meta = {"_meta": {"codeforge/idempotencyKey": key}} if key is not None else {}
        answer = self.request("tools/call", {"name": tool, "arguments": arguments, **meta}, timeout)
        result: Json = answer["result"] if "result" in answer else {"rpc_error": answer["error"]}
        return result

    def facts(self, tool: str, /, **arguments: Any) -> Json:
        """The structured answer of a call that must not be an error."""
        result = self.call(tool, arguments)
        assert not result.get("isError"), result
        facts: Json = result["structuredContent"]
        return facts

    def request(self, method: str, params: Json, timeout: float = 40) -> Json:
        """The whole answer to a request."""
        number = next(self._ids)
        answers = self._waiting[number] = queue.Queue()
        self._send({"id": number, "method": method, "params": params})
        try:
            return answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer to {method} within {timeout} s") from None
        finally:
            self._waiting.pop(number, None)

    def close(self) -> None:
        """Hang up."""
        with contextlib.suppress(OSError):
            self.process.stdin.close() if self.process.stdin else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self._reader.join(5)

    def _send(self, message: Json) -> None:
        data = memoryview(json.dumps({"jsonrpc": "2.0", **message}).encode() + b"\n")
        assert self.process.stdin
        while data:
            data = data[self.process.stdin.write(data) :]

    def _read(self) -> None:
        assert self.process.stdout
        with open(self.process.stdout.fileno(), "rb", closefd=False) as stream:
            for line in stream:
                message = json.loads(line)
                if "method" in message and "id" not in message:
                    self.notices.append(message)
                elif "method" not in message and (waiting := self._waiting.get(message.get("id"))):
                    waiting.put(message)
        for waiting in list(self._waiting.values()):
            waiting.put({"error": {"code": 0, "message": "the connection ended"}})


def code_of(result: Json) -> str:
    """The stable code of an error result."""
    return str(result["_meta"]["codeforge/error"]["code"])


def error_of(result: Json) -> Json:
    """An error result as programs see it."""
    error: Json = result["_meta"]["codeforge/error"]
    return error


def text_of(result: Json) -> str:
    """What a model reads."""
    return "\n".join(block["text"] for block in result["content"])
