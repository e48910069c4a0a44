"""A raw editor over a real socket pair, and a small workspace for tests of the transport."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import socket
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from codeforge_ls.actions.documents import DocumentHub
from codeforge_ls.config import ConfigStore, EditorOptions
from codeforge_ls.lsp.session import serve_lsp
from codeforge_ls.model.errors import InvalidInput, NotFound
from codeforge_ls.model.events import Delta, Event
from codeforge_ls.model.index import IndexState, IndexStatus

FULL = {
    "workspace": {
        "applyEdit": True,
        "workspaceEdit": {"documentChanges": True, "changeAnnotationSupport": {"groupsOnLabel": True}},
        "didChangeWatchedFiles": {"dynamicRegistration": True, "relativePatternSupport": True},
        "configuration": True,
    },
    "window": {"workDoneProgress": True},
}


class RawEditor:
    """Frames its own bytes, so that it can send broken ones. ``answers`` answers the server's requests."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer
        self.inbox: list[dict[str, Any]] = []
        self.answers: dict[str, Callable[[Any], Any]] = {
            "client/registerCapability": lambda _: None,
            "window/workDoneProgress/create": lambda _: None,
        }
        self._news = asyncio.Event()
        self._ids = itertools.count(1)
        self.serving: asyncio.Task[int] = None  # type: ignore[assignment]
        self.listening = asyncio.create_task(self._listen())

    async def _listen(self) -> None:
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                head = await self.reader.readuntil(b"\r\n\r\n")
                message = json.loads(await self.reader.readexactly(int(head.split(b":")[1])))
                self.inbox.append(message)
                if "id" in message and message.get("method") in self.answers:
                    answer = self.answers[message["method"]](message.get("params"))
                    self.send({"jsonrpc": "2.0", "id": message["id"], "result": answer})
                self._news.set()

    def raw(self, data: bytes) -> None:
        self.writer.write(data)

    def send(self, message: Any) -> None:
        body = json.dumps(message).encode()
        self.raw(b"Content-Length: %d\r\n\r\n%b" % (len(body), body))

    def notify(self, method: str, params: Any = None) -> None:
        self.send({"jsonrpc": "2.0", "method": method, "params": params})

    def post(self, method: str, params: Any = None) -> int:
        number = next(self._ids)
        self.send({"jsonrpc": "2.0", "id": number, "method": method, "params": params})
        return number

    async def heard(self, wanted: Callable[[dict[str, Any]], bool], timeout: float = 5) -> dict[str, Any]:
        async with asyncio.timeout(timeout):
            seen = 0
            while True:
                self._news.clear()
                for message in self.inbox[seen:]:
                    if wanted(message):
                        return message
                seen = len(self.inbox)
                await self._news.wait()

    async def answer(self, number: Any, timeout: float = 5) -> dict[str, Any]:
        return await self.heard(lambda m: "method" not in m and m.get("id") == number, timeout)

    async def request(self, method: str, params: Any = None, timeout: float = 5) -> dict[str, Any]:
        return await self.answer(self.post(method, params), timeout)

    async def command(
        self, name: str, *arguments: Any, token: Any = None, timeout: float = 5
    ) -> dict[str, Any]:
        return await self.request("workspace/executeCommand", command(name, *arguments, token=token), timeout)

    async def called(self, method: str, timeout: float = 5) -> dict[str, Any]:
        return await self.heard(lambda m: m.get("method") == method, timeout)

    def all(self, method: str) -> list[Any]:
        return [m.get("params") for m in self.inbox if m.get("method") == method]

    async def initialize(self, root: Path | str | None = None, **more: Any) -> dict[str, Any]:
        params = {
            "processId": None,
            "rootUri": f"file://{root}" if root else None,
            "capabilities": FULL,
            **more,
        }
        answer = await self.request("initialize", params)
        self.notify("initialized", {})
        return answer

    async def is_alive(self) -> bool:
        """Whether the session still serves: a command that answers with its argument."""
        return (await self.command("codeforge.health", {"n": 1})).get("result") == {"echo": {"n": 1}}

    async def code(self, timeout: float = 2) -> int:
        return await asyncio.wait_for(asyncio.shield(self.serving), timeout)


def command(name: str, *arguments: Any, token: Any = None) -> dict[str, Any]:
    params: dict[str, Any] = {"command": name, "arguments": list(arguments)}
    return params if token is None else {**params, "workDoneToken": token}


class FakeStore:
    """Only the live part of a store: subscribers."""

    def __init__(self) -> None:
        self.subscribers: list[Callable[[Event], None]] = []
        self.delta_subscribers: list[Callable[[Delta], None]] = []
        self.appended: list[Any] = []

    def subscribe(self, callback: Callable[[Event], None]) -> Callable[[], None]:
        self.subscribers.append(callback)
        return lambda: self.subscribers.remove(callback)

    def subscribe_deltas(self, callback: Callable[[Delta], None]) -> Callable[[], None]:
        self.delta_subscribers.append(callback)
        return lambda: self.delta_subscribers.remove(callback)

    async def append(self, *drafts: Any) -> None:
        self.appended += drafts

    async def runs(self, limit: int) -> list[Any]:
        return []

    plans = runs

    def tell(self, stream: str, kind: str, payload: dict[str, Any], seq: int = 1) -> None:
        event = Event(
            position=seq, stream=stream, seq=seq, id=f"e{seq}", parent=None, type=kind, payload=payload,
            actor="agent:x", request_id=None, time=0.0, schema_version=1, prev_hash="", hash="",
        )  # fmt: skip
        for callback in list(self.subscribers):
            callback(event)


class FakeApprovals:
    """Channels that can be asked by a test."""

    def __init__(self) -> None:
        self.channels: list[Any] = []

    def attach(self, channel: Any) -> Callable[[], None]:
        self.channels.append(channel)
        return lambda: self.channels.remove(channel)

    def open(self) -> list[Any]:
        return []


class FakeIndex:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, Any]] = []

    def status(self) -> IndexStatus:
        return IndexStatus(state=IndexState.READY, percent=100)

    async def document_changed(self, path: str, text: str) -> None:
        self.told.append((path, text))

    async def document_closed(self, path: str) -> None:
        self.told.append((path, None))

    async def files_changed(self, paths: list[str]) -> None:
        self.told.append(("files", sorted(paths)))


class FakeHost:
    """A workspace host whose operations sleep, fail or echo as a test needs it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.gate = asyncio.Event()
        self.gate.set()
        self.cancelled: list[str] = []
        self.calls: list[tuple[str, Any]] = []
        self.place = SimpleNamespace(
            root=root,
            store=FakeStore(),
            approvals=FakeApprovals(),
            documents=DocumentHub(),
            index=FakeIndex(),
            on_index_status=[],
            on_config_problems=[],
            policies=SimpleNamespace(problems=[]),
            config=ConfigStore(root, environ={"XDG_CONFIG_HOME": str(root / "nobody")}),
            reload_settings=self.reload,
            plans=SimpleNamespace(active=list),
            runs=SimpleNamespace(active=list),
            settings=SimpleNamespace(
                lsp=SimpleNamespace(
                    watch=SimpleNamespace(value="auto"), symbols=SimpleNamespace(value="auto")
                )
            ),
        )

    async def reload(self, options: EditorOptions) -> None:
        self.place.config.take_options(options)

    async def workspace(self) -> Any:
        await self.gate.wait()
        return self.place

    async def operations(self) -> Any:
        await self.gate.wait()
        return self

    def close_soon(self, reason: str) -> None:
        pass

    async def call(
        self, name: str, arguments: Any, actor: Any, progress: Any = None, *, counted: bool = True
    ) -> dict[str, Any]:
        self.calls.append((name, arguments))
        if name == "search":
            try:
                await asyncio.sleep(arguments.get("sleep", 0))
            except asyncio.CancelledError:
                self.cancelled.append(name)
                if arguments.get("stubborn"):
                    await asyncio.sleep(arguments["stubborn"])
                raise
        elif name == "policy.get":
            raise NotFound("No such profile.", hint="List them.", data={"name": "x"})
        elif name == "policy.list":
            raise RuntimeError(f"secret {self.root}")
        elif name == "repomap":
            return {"text": "x" * arguments["size"]}
        elif name == "index.build":
            for percent in range(100):
                progress(percent, f"file {percent}")
                await asyncio.sleep(0.005)
        elif name == "run.start":
            run_id = arguments["task"]
            run = {"id": run_id, "task": "fix the bug\nnow", "profile": "p", "created_at": 1.0}
            self.place.store.tell(f"run:{run_id}", "run.created", {"run": run})
            return {"run_id": run_id}
        elif name == "run.get":
            raise InvalidInput("bad", data={"field": "run_id"})
        return {"echo": arguments}


@pytest.fixture
async def host(tmp_path: Path) -> FakeHost:
    return FakeHost(tmp_path.resolve())


@pytest.fixture
async def connect(host: FakeHost) -> AsyncIterator[Callable[..., Any]]:
    """A function that connects one more editor to the host."""
    open_now: list[RawEditor] = []

    async def make(*, buffer: int | None = None) -> RawEditor:
        ours, theirs = socket.socketpair()
        if buffer:
            for end in (ours, theirs):
                end.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, buffer)
                end.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffer)
        reader, writer = await asyncio.open_connection(sock=ours)
        editor = RawEditor(*await asyncio.open_connection(sock=theirs, limit=256 << 20))
        hello = {"role": "lsp", "session": f"lsp-{len(open_now)}"}
        editor.serving = asyncio.create_task(serve_lsp(reader, writer, host, hello))  # type: ignore[arg-type]
        open_now.append(editor)
        return editor

    yield make
    for editor in open_now:
        editor.writer.close()
        editor.listening.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await asyncio.wait_for(editor.serving, 3)


@pytest.fixture
async def editor(connect: Callable[..., Any], host: FakeHost) -> RawEditor:
    """An initialized editor."""
    made: RawEditor = await connect()
    await made.initialize(host.root)
    assert await made.is_alive()  # it is attached to the workspace
    host.calls.clear()
    return made
