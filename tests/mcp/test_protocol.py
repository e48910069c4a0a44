"""The MCP session on a real socket: both eras, the tools' words, limits of the wire, progress, cancel, cross-talk.

The operations behind it are canned here: what is tested is the door. ``test_mcp_e2e.py`` goes through to the rooms.
"""

from __future__ import annotations

import asyncio
import json
import resource
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest

from codeforge_ls.model.actions import Actor
from codeforge_ls.model.errors import NotFound
from codeforge_ls.model.events import EventDraft
from mcp_server import calls
from mcp_server.app import INSTRUCTIONS
from mcp_server.frames import MAX_LINE
from mcp_server.session import serve_mcp
from tests.mcp.wire import ERAS, NEW, OLD, Wire, text

INDEX = {"state": "building", "percent": 41.7, "stale_files": 3}
TOOLS = [
    "search_code", "repo_map", "read_code", "symbol_info", "apply_edits",
    "start_run", "get_run", "cancel_run", "list_checkpoints", "audit_list", "restore_checkpoint",
]  # fmt: skip


class CannedOperations:
    """Operations that answer from a table, or hang, and remember who asked."""

    def __init__(self) -> None:
        self.calls: list[tuple[str, Any, Actor]] = []
        self.cancelled: list[str] = []

    async def call(
        self, name: str, arguments: Any, actor: Actor, progress: Callable[..., None], **_wishes: Any
    ) -> Any:
        self.calls.append((name, arguments, actor))
        query = arguments.get("query", "")
        if query.startswith("hang"):
            progress(12.0, "thinking")
            try:
                await asyncio.Event().wait()
            finally:
                self.cancelled.append(query)
        if name == "search":
            await asyncio.sleep(0.02 if query.startswith("slow") else 0)
            body = "\n".join(f"    line {i} of {query}" for i in range(400 if query == "long" else 3))
            hit = {"start_line": 3, "end_line": 9, "symbol": "A.b", "kind": "method", "score": 1.23456}
            hits = [{**hit, "path": f"src/{query}{i}.py", "text": body} for i in range(arguments["limit"])]
            return {"hits": hits, "index": INDEX, "legs": ["bm25"]}
        if name == "repomap":
            facts = {"tokens": 9, "budget": arguments["budget_tokens"], "files": 1, "symbols": 2, "cut": 0}
            return {"text": "a.py\n  f()" * (9000 if query == "long" else 1), "index": INDEX, **facts}
        if name == "run.get":
            raise NotFound(
                f"There is no run {arguments['run_id']!r}.", hint="List runs with `codeforge runs`."
            )
        if name == "code.read":
            if arguments["path"] == "surrogate":
                return {
                    "path": "bad\udc80name",
                    "text": "x",
                    "start_line": 1,
                    "end_line": 1,
                    "total_lines": 1,
                }
            raise RuntimeError("a secret path in an unexpected error")
        if name == "run.start":
            given = {"run_id": "run-1", "profile": arguments["profile"], "mode": "coder", "model": "m"}
            return {**given, "profiles": [arguments["profile"], "editor-interactive"]}
        return {
            "status": "pending",
            "approval_id": "ap-1",
            "checkpoint_id": None,
            "files": [],
            "message": "wait",
        }


class CannedHost:
    """A host whose workspace opens when the test lets it."""

    def __init__(self) -> None:
        self.root = Path("/nowhere")
        self.canned = CannedOperations()
        self.opened = asyncio.Event()
        self.opened.set()
        self.events: list[tuple[str, str, str]] = []

    async def operations(self) -> Any:
        await self.opened.wait()
        return self.canned

    async def workspace(self) -> Any:
        return self

    @property
    def store(self) -> Any:
        return self

    async def append(self, draft: EventDraft) -> None:
        self.events.append((draft.type.value, draft.stream, draft.actor))

    def close_soon(self, reason: str) -> None:
        raise AssertionError(reason)


class Door:
    """A socket that serves MCP sessions over one host."""

    def __init__(self, path: Path, host: CannedHost) -> None:
        self.path, self.host, self.codes = str(path), host, asyncio.Queue[int]()
        self._names = iter(range(1000))

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        code = await serve_mcp(reader, writer, self.host, {"session": f"mcp-{next(self._names)}"})
        writer.close()
        await self.codes.put(code)

    async def connect(self, era: str = NEW, name: str = "test-client") -> Wire:
        reader, writer = await asyncio.open_unix_connection(self.path, limit=1 << 23)
        return Wire(reader, writer, era=era, name=name)


@pytest.fixture
async def door() -> AsyncIterator[Door]:
    with tempfile.TemporaryDirectory(prefix="cf", dir="/tmp") as folder:  # a socket's name has 107 bytes
        made = Door(Path(folder) / "d.sock", CannedHost())
        async with await asyncio.start_unix_server(made.serve, made.path):
            yield made


@asynccontextmanager
async def client(door: Door, era: str = NEW, name: str = "test-client") -> AsyncIterator[Wire]:
    wire = await door.connect(era, name)
    try:
        await wire.start()
        yield wire
    finally:
        await wire.close()


@pytest.mark.parametrize("era", ERAS)
async def test_the_tools_are_eleven_in_few_words_and_the_same_for_everyone(door: Door, era: str) -> None:
    door.host.opened.clear()  # nobody waits for the workspace to learn what there is
    async with client(door, era) as one, client(door, era, "other") as two:
        lists = [await one.request("tools/list"), await two.request("tools/list")]
        door.host.opened.set()
        await one.tool("search_code", query="x")
        lists.append(await one.request("tools/list"))
        told = await one.request("resources/list")
    assert len({json.dumps(found) for found in lists}) == 1
    tools = lists[0]["tools"]
    assert [tool["name"] for tool in tools] == TOOLS
    seen_by_models = [{key: tool[key] for key in ("name", "description", "inputSchema")} for tool in tools]
    assert len(json.dumps(tools)) / 4 < 2900
    assert len(json.dumps(seen_by_models)) / 4 < 1300
    for tool in tools:
        schema = tool["inputSchema"]
        assert schema["additionalProperties"] is False
        assert tool["title"]
        assert "$ref" not in json.dumps(tool)
        assert all(len(field["description"].split()) <= 12 for field in schema["properties"].values()), tool
        hints = tool["annotations"]
        assert len(hints) == 4
        looks = tool["name"] not in ("apply_edits", "start_run", "cancel_run", "restore_checkpoint")
        assert hints["readOnlyHint"] is looks
        assert hints["destructiveHint"] is (
            tool["name"] in ("apply_edits", "start_run", "restore_checkpoint")
        )
        assert hints["openWorldHint"] is (tool["name"] == "start_run")
    assert [found["uri"] for found in told["resources"]] == ["codeforge://map"]
    assert len(INSTRUCTIONS) <= 1500
    assert "apply_edits" in INSTRUCTIONS[:300]


@pytest.mark.parametrize("era", ERAS)
async def test_an_answer_says_the_same_in_both_channels(door: Door, era: str) -> None:
    async with client(door, era, "Claude\u202e Code\n") as wire:
        found = await wire.tool("search_code", query="needle", limit=2, path_glob=None)
        facts = found["structuredContent"]
        assert facts["index"] == INDEX | {"legs": []}
        assert facts["hits"][0] == {
            "path": "src/needle0.py", "start_line": 3, "end_line": 9, "symbol": "A.b", "kind": "method",
            "score": 1.2346, "text": "    line 0 of needle\n    line 1 of needle\n    line 2 of needle",
        }  # fmt: skip
        shown = text(found)
        assert "src/needle1.py:3-9 method A.b (1.2346)\n    line 0 of needle" in shown
        assert shown.endswith("index: building, 42 %, 3 stale files")
        edits = json.dumps([{"path": "a.py", "content": "x"}])  # some clients send lists as text
        pending = await wire.tool("apply_edits", edits=edits)
        assert pending["structuredContent"]["status"] == "pending"
        assert text(pending) == "pending, approval_id ap-1\nwait"
        long = await wire.tool("search_code", query="long", limit=50)
        assert len(text(long)) < 40_000
        assert "more lines" in text(long)
        drawn = await wire.tool("repo_map", query="long", budget_tokens=16000)
        assert len(text(drawn)) < 40_000
        assert "use a smaller budget_tokens" in text(drawn)
        started = await wire.tool("start_run", task="x", profile="trusted-mount-autonomous")
        assert "(profile trusted-mount-autonomous, tightened by editor-interactive, mode" in text(started)
        assert started["structuredContent"]["profiles"] == ["trusted-mount-autonomous", "editor-interactive"]
        read = await wire.request("resources/read", {"uri": "codeforge://map"})
        assert read["contents"][0]["text"].startswith("a.py\n  f()")
    names = {(actor.kind, actor.name, actor.session) for _, _, actor in door.host.canned.calls}
    assert names == {("mcp", "Claude Code/1", "mcp-0")}
    assert await asyncio.wait_for(door.codes.get(), 5) == 0
    here = ("session:mcp-0", "mcp:Claude Code/1")
    assert door.host.events == [("session.attached", *here), ("session.detached", *here)]
    assert ("edits.apply", {"edits": [{"path": "a.py", "content": "x"}], "dry_run": False}) in [
        (name, arguments) for name, arguments, _ in door.host.canned.calls
    ]


@pytest.mark.parametrize("era", ERAS)
async def test_bad_calls_get_a_code_and_what_to_do(door: Door, era: str) -> None:
    cases: list[tuple[str, Any, str]] = [
        (
            "search_code",
            {},
            "invalid_input: Invalid arguments for search_code: query: Field required. It takes: ",
        ),
        ("search_code", {"query": ["x"]}, "invalid_input: "),
        ("search_code", {"query": "x", "surprise": 1}, "invalid_input: "),
        ("search_code", {"query": "x", "group_by": "planet"}, "invalid_input: "),
        ("apply_edits", {"edits": [{"path": "a", "content": "x", "mode": "777"}]}, "invalid_input: "),
        ("apply_edits", {"edits": "[" * 100_000}, "invalid_input: "),
        ("symbol_info", {"position": {"path": "a", "line": "no"}}, "invalid_input: "),
        ("read_code", {"path": "a", "start_line": 10**400}, "invalid_input: "),
        ("no_such_tool", {}, "invalid_input: There is no tool 'no_such_tool'. There are: search_code, "),
        (
            "get_run",
            {"run_id": "nope"},
            "not_found: There is no run 'nope'. List runs with `codeforge runs`.",
        ),
        ("read_code", {"path": "a"}, "internal: The call failed unexpectedly. The daemon's log says why"),
    ]
    async with client(door, era) as wire:
        for name, arguments, expected in cases:
            result = await wire.tool(name, **arguments)
            assert result["isError"] is True, (name, arguments)
            assert text(result).startswith(expected), text(result)
            assert result["_meta"]["codeforge/error"]["code"] == expected.partition(":")[0]
            assert len(text(result)) < 2000
            assert "secret" not in json.dumps(result)
        assert "bad?name" in text(await wire.tool("read_code", path="surrogate"))
        gone = await wire.answer(wire.post("resources/read", {"uri": "codeforge://runs/x%00y/events"}))
        assert "error" in gone
    assert {name for name, _, _ in door.host.canned.calls} <= {"run.get", "code.read", "run.events"}


@pytest.mark.parametrize("era", ERAS)
async def test_progress_comes_and_cancel_stops_the_work(door: Door, era: str) -> None:
    async with client(door, era) as wire:
        call = {"name": "search_code", "arguments": {"query": "hang on"}}
        number = wire.post("tools/call", call, token="t1")
        signs = 2 if era == NEW else 1  # the second one comes although the operation says nothing more
        await wire.until(lambda: len(wire.notices) >= signs, timeout=8)
        told = [notice["params"] for notice in wire.notices]
        assert told[0]["message"] == "thinking"
        assert told[0]["progress"] < told[-1]["progress"] + (era == OLD)
        wire.send({"jsonrpc": "2.0", "method": "notifications/cancelled", "params": {"requestId": number}})
        async with asyncio.timeout(1):
            while not door.host.canned.cancelled:
                await asyncio.sleep(0.01)
        assert number not in wire.answers
        for _ in range(calls.MAX_CALLS):
            wire.post("tools/call", {"name": "search_code", "arguments": {"query": "hang too"}})
        refused = await wire.tool("search_code", query="hang more")
        assert text(refused).startswith("limit_reached: ")
    async with asyncio.timeout(2):  # a client that goes away takes its calls with it
        while len(door.host.canned.cancelled) < calls.MAX_CALLS + 1:
            await asyncio.sleep(0.05)


async def test_what_is_no_message_is_answered_and_the_connection_lives(door: Door) -> None:
    async with client(door, OLD) as wire:
        for line, code in [
            (b"{nonsense", -32700),
            (b"\xff\xfe\x00", -32700),
            (b"[" * 200_000, -32700),
            (b'[{"jsonrpc":"2.0","id":1,"method":"ping"}]', -32600),
            (b'"hello"', -32600),
            (b'{"jsonrpc":"1.0","method":"x"}', -32600),
        ]:
            wire.writer.write(line + b"\r\n\n")
            await wire.until(lambda: wire.nameless)
            assert wire.nameless.pop()["error"]["code"] == code, line[:40]
        wire.writer.write(b'{"jsonrpc":"2.0","id":"s1","method":"tools/call","params":{"name":"\\ud800"}}\n')
        assert (await wire.answer("s1"))["error"]["code"] == -32600
        wire.writer.write(b'{"jsonrpc":"2.0","id":{"a":1},"method":"ping"}\n')
        await wire.until(lambda: wire.nameless)
        assert (await wire.tool("search_code", query="still here"))["structuredContent"]["hits"]


async def test_a_message_that_is_too_long_is_skipped_without_eating_memory(door: Door) -> None:
    async with client(door) as bystander, client(door, OLD) as wire:
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        piece = b"a" * (1 << 20)
        heads: tuple[tuple[bytes, int | str | None], ...] = (
            (b'{"jsonrpc":"2.0","id":77,"method":"tools/call","params":{"name":"', 77),
            (b'{"jsonrpc":"2.0","method":"tools/call","params":{"name":"', None),  # its id would come last
            (b"", None),
        )
        for head, number in heads:
            wire.writer.write(head)
            for _ in range(12):
                wire.writer.write(piece)
                await wire.writer.drain()
            wire.writer.write(b'"},"id":"last"}\n')
            if number is None:
                await wire.until(lambda: wire.nameless)
                refused = wire.nameless.pop()["error"]
            else:
                refused = (await wire.answer(number))["error"]
            assert refused["code"] == -32600
            assert "skipped" in refused["message"]
            assert (await wire.tool("search_code", query="still here"))["structuredContent"]["hits"]
        # One byte over is skipped; what just fits is read, in one piece with what follows it.
        fits = b'{"jsonrpc":"2.0","id":"fits","method":"ping","params":{"_meta":{"x":""}}}'
        fits = fits.replace(b'""', b'"' + b"x" * (MAX_LINE - len(fits)) + b'"')
        wire.writer.write(fits.replace(b'"fits"', b'"over1"') + b"\n" + fits + b"\n")
        assert (await wire.answer("over1"))["error"]["code"] == -32600
        assert (await wire.answer("fits"))["result"] == {}
        assert resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before < 64_000  # kB
        assert (await bystander.tool("search_code", query="x"))["structuredContent"]["hits"]
        wire.writer.write(piece * 5)  # and one that never ends
        await wire.until(lambda: wire.nameless)
    assert not wire.nameless[1:]
    assert {await asyncio.wait_for(door.codes.get(), 5) for _ in range(2)} == {0}


async def test_answers_never_cross_between_connections(door: Door) -> None:
    async with client(door, NEW, "a") as a, client(door, OLD, "b") as b, client(door, NEW, "c") as c:

        async def ask(wire: Wire, number: int) -> None:
            query = f"{'slow' if number % 3 else 'fast'}-{wire.name}-{number}"
            facts = (await wire.tool("search_code", query=query, limit=1))["structuredContent"]
            assert facts["hits"][0]["path"] == f"src/{query}0.py"

        for start in range(0, 60, 20):
            await asyncio.gather(*(ask(wire, start + n) for wire in (a, b, c) for n in range(20)))
    sessions = {(actor.name, actor.session) for _, _, actor in door.host.canned.calls}
    assert sessions == {("a/1", "mcp-0"), ("b/1", "mcp-1"), ("c/1", "mcp-2")}


async def test_answers_under_way_still_arrive_after_the_client_closed_its_side(door: Door) -> None:
    wire = await door.connect(OLD)
    await wire.start()
    number = wire.post("tools/call", {"name": "search_code", "arguments": {"query": "slow"}})
    wire.writer.write_eof()
    assert "result" in await wire.answer(number)
    assert await asyncio.wait_for(door.codes.get(), 5) == 0
