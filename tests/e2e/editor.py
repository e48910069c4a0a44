"""An editor for end-to-end tests: LSP over a real ``codeforge-ls``, with documents and a person at the prompts."""

from __future__ import annotations

import contextlib
import itertools
import json
import queue
import subprocess
import threading
from pathlib import Path
from typing import Any

Json = dict[str, Any]
PROMPT = "window/showMessageRequest"


class Refused(Exception):
    """The server answered with an error, which is ``error``."""

    def __init__(self, error: Json) -> None:
        super().__init__(str(error))
        self.error = error


class Editor:
    """One window. ``person`` is how prompts are answered: allow, run, always, deny, null, nonsense, error or never.

    ``texts`` holds the open documents by path, ``versions`` their versions, ``edits`` what was applied to them.
    """

    def __init__(self, process: subprocess.Popen[bytes], root: Path, *, person: str = "allow") -> None:
        self.process, self.root, self.person = process, root, person
        self.prompts: list[str] = []
        self.offered: list[list[str]] = []
        self.withdrawn: list[Json] = []
        self.notices: list[Json] = []
        self.texts: dict[str, str] = {}
        self.versions: dict[str, int] = {}
        self.edits: list[Json] = []
        self._ids = itertools.count(1)
        self._waiting: dict[int, queue.Queue[Json]] = {}
        self._sending = threading.Lock()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def start(self) -> None:
        """``initialize``, and wait until the workspace is attached."""
        edit = {"documentChanges": True}
        self.request(
            "initialize",
            {
                "processId": None,
                "rootUri": self.root.as_uri(),
                "workspaceFolders": [{"uri": self.root.as_uri(), "name": "ws"}],
                "clientInfo": {"name": "test-editor", "version": "1"},
                "capabilities": {"workspace": {"applyEdit": True, "workspaceEdit": edit}},
            },
        )
        self.notify("initialized", {})
        self.command("index.status")

    def command(self, name: str, /, timeout: float = 40, **argument: Any) -> Json:
        """A command that must succeed."""
        return self.execute(f"codeforge.{name}", [argument], timeout)

    def execute(self, name: Any, arguments: Any, timeout: float = 40) -> Json:
        """``workspace/executeCommand`` as it is given; raises ``Refused``."""
        result: Json = self.request(
            "workspace/executeCommand", {"command": name, "arguments": arguments}, timeout
        )
        return result

    def request(self, method: str, params: Json, timeout: float = 40) -> Any:
        """The result of a request; raises ``Refused``."""
        number = next(self._ids)
        answers = self._waiting[number] = queue.Queue()
        self._send({"id": number, "method": method, "params": params})
        try:
            answer = answers.get(timeout=timeout)
        except queue.Empty:
            raise TimeoutError(f"no answer to {method} within {timeout} s") from None
        finally:
            self._waiting.pop(number, None)
        if "error" in answer:
            raise Refused(answer["error"])
        return answer["result"]

    def notify(self, method: str, params: Json) -> None:
        """A notification."""
        self._send({"method": method, "params": params})

    def open(self, path: str, text: str) -> None:
        """Open a document whose text may differ from the disk; the server knows it when this returns."""
        self.texts[path], self.versions[path] = text, 1
        document = {"uri": self._uri(path), "languageId": "plaintext", "version": 1, "text": text}
        self.notify("textDocument/didOpen", {"textDocument": document})
        self.command("health")  # what another client asks now comes after the document

    def shut(self, path: str) -> None:
        """Close a document without saving it."""
        del self.texts[path]
        self.notify("textDocument/didClose", {"textDocument": {"uri": self._uri(path)}})

    def type(self, path: str, text: str) -> None:
        """The person changes the whole text, unsaved."""
        self.texts[path] = text
        self.versions[path] += 1
        document = {"uri": self._uri(path), "version": self.versions[path]}
        change = {"textDocument": document, "contentChanges": [{"text": text}]}
        self.notify("textDocument/didChange", change)

    def events(self, run_id: str) -> list[Json]:
        """The ``codeforge/run/event`` notifications of a run, in the order of arrival."""
        mine = [n["params"] for n in list(self.notices) if n["method"] == "codeforge/run/event"]
        return [params["event"] for params in mine if params["run_id"] == run_id]

    def hears(self, run_id: str) -> bool:
        """Whether live text of that run has come."""
        mine = [n["params"]["run_id"] for n in list(self.notices) if n["method"] == "codeforge/run/delta"]
        return run_id in mine

    def close(self) -> None:
        """Leave properly, if the process still lives."""
        if self.process.poll() is None:
            with contextlib.suppress(OSError, TimeoutError, Refused):
                self.request("shutdown", {}, 10)
                self.notify("exit", {})
        self.end()

    def end(self) -> None:
        """The window is gone: its pipes close."""
        for pipe in (self.process.stdin,):
            with contextlib.suppress(OSError):
                pipe.close() if pipe else None
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(10)
        self._reader.join(5)

    def _uri(self, path: str) -> str:
        return (self.root / path).as_uri()

    def _send(self, message: Json) -> None:
        body = json.dumps({"jsonrpc": "2.0", **message}).encode()
        data = memoryview(b"Content-Length: %d\r\n\r\n" % len(body) + body)
        assert self.process.stdin
        with self._sending:
            while data:
                data = data[self.process.stdin.write(data) :]

    def _read(self) -> None:
        assert self.process.stdout
        with open(self.process.stdout.fileno(), "rb", closefd=False) as stream:
            while head := stream.readline():
                size = 0
                while head.strip():
                    if head.lower().startswith(b"content-length:"):
                        size = int(head.split(b":")[1])
                    head = stream.readline()
                with contextlib.suppress(OSError, ValueError):
                    self._take(json.loads(stream.read(size)))

    def _take(self, message: Json) -> None:
        if "method" in message and "id" in message:
            self._reply(message)
        elif "method" in message:
            (self.withdrawn if message["method"] == "$/cancelRequest" else self.notices).append(message)
        elif waiting := self._waiting.get(message["id"]):
            waiting.put(message)

    def _reply(self, message: Json) -> None:
        method, params = message["method"], message.get("params") or {}
        if method == PROMPT:
            self.prompts.append(params["message"])
            self.offered.append([action["title"] for action in params["actions"]])
            if self.person == "error":
                self._send({"id": message["id"], "error": {"code": -32603, "message": "the window broke"}})
            elif self.person != "never":
                answer: Any = {
                    "allow": {"title": "Allow once"},
                    "run": {"title": "Allow for this run"},
                    "always": {"title": "Always allow"},
                    "deny": {"title": "Deny"},
                    "null": None,
                }.get(self.person, {"title": "whatever"})
                self._send({"id": message["id"], "result": answer})
        elif method == "workspace/applyEdit":
            self._send({"id": message["id"], "result": {"applied": self._apply(params["edit"])}})
        elif method == "workspace/configuration":
            self._send({"id": message["id"], "result": [None for _ in params["items"]]})
        else:
            self._send({"id": message["id"], "result": None})

    def _apply(self, edit: Json) -> bool:
        """Apply a versioned edit, or refuse it whole; then tell of the change as an editor does."""
        for change in edit.get("documentChanges", []):
            uri, version = change["textDocument"]["uri"], change["textDocument"]["version"]
            path = next((path for path in self.texts if self._uri(path) == uri), None)
            if path is None or version != self.versions[path]:
                return False
            self.edits.append(change)
            text = self.texts[path]
            for one in sorted(change["edits"], key=lambda e: _key(e["range"]["start"]), reverse=True):
                begin, end = (_offset(text, one["range"][side]) for side in ("start", "end"))
                text = text[:begin] + one["newText"] + text[end:]
            self.type(path, text)
        return bool(edit.get("documentChanges"))


def _key(position: Json) -> tuple[int, int]:
    return position["line"], position["character"]


def _offset(text: str, position: Json) -> int:
    """The index of an LSP position that counts UTF-16 units."""
    start = 0
    for _ in range(position["line"]):
        start = text.index("\n", start) + 1
    units, index = position["character"], start
    while units > 0 and index < len(text) and text[index] != "\n":
        units -= 2 if ord(text[index]) > 0xFFFF else 1
        index += 1
    return index
