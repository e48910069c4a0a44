"""Hostile input through a real socket: every request is answered once or the session ends cleanly, never deaf."""

from __future__ import annotations

import asyncio
import contextlib
import gc
import json
import sys
import time
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from codeforge_ls.lsp.frames import Body, Broken, FrameReader, encode_frame
from codeforge_ls.lsp.protocol import SessionProtocol

HEALTH = {"command": "codeforge.health", "arguments": [{"n": 2}]}


def frame(body: bytes, header: bytes = b"Content-Length: %d\r\n\r\n") -> bytes:
    return header % len(body) + body


def request(number: object, method: str = "workspace/executeCommand", params: object = HEALTH) -> bytes:
    return json.dumps({"jsonrpc": "2.0", "id": number, "method": method, "params": params}).encode()


@pytest.mark.parametrize(
    "header",
    [
        b"content-length:%d\r\n\r\n",
        b"CONTENT-LENGTH : %d \r\n\r\n",
        b"Content-Length: %d\n\n",
        b"Content-Type: application/vscode-jsonrpc; charset=utf8\r\nContent-Length: %d\r\n\r\n",
        b"\r\n\r\nContent-Length: %d\r\nX-Odd: \xff\r\n\r\n",
    ],
)
async def test_headers_in_any_spelling(editor, header):
    editor.raw(frame(request(900), header))
    assert (await editor.answer(900))["result"] == {"echo": {"n": 2}}


@pytest.mark.parametrize(
    ("data", "code"),
    [
        (frame(b"{"), -32700),
        (frame(b'{"jsonrpc": "2.0", "method": "\xff\xfe"}'), -32700),
        (frame(b"[" * 100_000), -32700),
        (frame(b""), -32700),
        (frame(b'{"jsonrpc":"2.0","id":1e999999999,"method":' + b"1" * 5000 + b"}"), -32700),
        (frame(b"[1,2]"), -32600),
        (frame(b"5"), -32600),
        (frame(b"null"), -32600),
        (frame(b'"text"'), -32600),
        (frame(b'{"id": 7, "method": "shutdown"}'), -32600),
        (frame(b'{"jsonrpc": "1.0", "id": 7, "method": "shutdown"}'), -32600),
        (frame(b'{"jsonrpc": "2.0", "id": 7, "method": 5}'), -32600),
        (frame(b'{"jsonrpc": "2.0", "id": [7], "method": "shutdown"}'), -32600),
        (frame(b'{"jsonrpc": "2.0", "id": true, "method": "shutdown"}'), -32600),
        (frame(b'{"jsonrpc": "2.0", "id": null, "method": "shutdown"}'), -32600),
        # the length is too small, too large, or a frame was cut: the next message is read all the same
        (b"Content-Length: 20\r\n\r\n" + request(1), -32700),
        (b"Content-Length: 2000\r\n\r\n" + request(1), -32700),
        (b'Content-Length: 60\r\n\r\n{"jsonrpc": "2.0", "id": 3', -32700),
    ],
)
async def test_broken_messages_get_an_error_and_the_next_one_is_served(editor, data, code):
    before = len(editor.inbox)
    editor.raw(data)
    editor.raw(frame(request(901)))
    assert (await editor.answer(901))["result"] == {"echo": {"n": 2}}
    errors = [m["error"] for m in editor.inbox[before:] if "error" in m]
    assert [error["code"] for error in errors] == [code]
    assert not editor.all("window/showMessage")


@pytest.mark.parametrize("length", [b"x", b"-5", b"", b"12abc"])
async def test_lengths_that_are_no_number_are_passed_over(editor, length):
    editor.raw(b"Content-Length: " + length + b"\r\n\r\n" + frame(request(902)))
    assert "result" in await editor.answer(902)


@pytest.mark.parametrize(
    "data",
    [
        b"Content-Length: 1000000000000\r\n\r\n",
        b"Content-Length: 100000000000000000000\r\n\r\n",
        b"Content-Length: " + b"9" * 6000 + b"\r\n\r\n",
        b"X" * (9 << 10),
        b"X-A: b\r\n" * 2000,
    ],
)
async def test_past_a_cap_the_session_ends_with_one(editor, data):
    editor.raw(data)
    assert await editor.code() == 1
    assert editor.inbox[-1]["error"]["code"] == -32600


async def test_wrong_params_unknown_methods_and_mangled_arguments(editor, host):
    async def code(method: str, params: object = None) -> int:
        return (await editor.request(method, params))["error"]["code"]

    assert await code("workspace/symbol", {}) == -32602
    assert await code("workspace/symbol", [1]) == -32602
    assert await code("workspace/executeCommand", "x") == -32602
    assert await code("nope/nope") == -32601
    assert await code("$/nope") == -32601
    unknown = (await editor.command("codeforge.nope"))["error"]
    assert unknown["code"] == -32602
    assert "codeforge.search" in unknown["data"]["commands"]
    for arguments in ([1], ["x"], [{}, {}], [[]], "x", 5, {"a": 1}):
        params = {"command": "codeforge.health", "arguments": arguments}
        assert await code("workspace/executeCommand", params) == -32602
    # no object hook looks inside: an argument that looks like a message stays what it is
    nested = {"jsonrpc": "2.0", "id": 1, "method": "initialize", "params": [{"jsonrpc": "2.0"}]}
    assert (await editor.command("codeforge.health", nested))["result"] == {"echo": nested}
    assert (await editor.command("codeforge.health"))["result"] == {"echo": {}}
    assert (await editor.command("codeforge.health", None))["result"] == {"echo": {}}
    # errors of operations keep their code; others say nothing of paths or tracebacks
    missing = (await editor.command("codeforge.policy.get"))["error"]
    assert (missing["code"], missing["data"]["code"]) == (-32004, "not_found")
    crash = (await editor.command("codeforge.policy.list"))["error"]
    assert crash["code"] == -32603
    assert str(host.root) not in json.dumps(crash)
    assert "Traceback" not in json.dumps(crash)
    assert not editor.all("window/showMessage")


async def test_strange_notifications_and_answers_are_ignored(editor):
    for method, params in [
        (
            "textDocument/didChange",
            {"textDocument": {"uri": "file:///never", "version": 1}, "contentChanges": []},
        ),
        ("textDocument/didChange", {"textDocument": 5}),
        ("textDocument/didChange", [1]),
        ("textDocument/didClose", {"textDocument": {"uri": "file:///never"}}),
        ("textDocument/didSave", {"textDocument": {"uri": "http://x/y"}}),
        ("textDocument/didOpen", {"textDocument": {"uri": 5}}),
        (
            "workspace/didChangeWatchedFiles",
            {"changes": [1, {"uri": 5}, {"uri": "file:///etc/passwd", "type": 9}]},
        ),
        ("window/workDoneProgress/cancel", {"token": "unknown"}),
        ("$/setTrace", {"value": "purple"}),
        ("$/cancelRequest", {"id": 12345}),
        ("$/cancelRequest", {"id": [1]}),
        ("$/unknown", None),
        ("initialized", {}),
    ]:
        editor.notify(method, params)
    editor.send({"jsonrpc": "2.0", "id": "cf-999", "result": 1})
    editor.send({"jsonrpc": "2.0", "id": [1], "error": {"code": 1, "message": "x"}})
    editor.send({"jsonrpc": "2.0"})
    for uri in (
        "untitled:1",
        "git:/x",
        "",
        "%2e%2e/x",
        "file:///a\0b",
        "not a uri",
        "file://host/x",
        "http://[bad",
    ):
        item = {"uri": uri, "languageId": "x", "version": 1, "text": "\ud800 \0"}
        editor.notify("textDocument/didOpen", {"textDocument": item})
    assert await editor.is_alive()
    assert not editor.all("window/showMessage")


async def test_lifecycle_states_and_exit_codes(connect, host):
    editor = await connect()
    assert (await editor.command("codeforge.health"))["error"]["code"] == -32002
    assert (await editor.request("initialize", {"capabilities": 5}))["error"]["code"] == -32602
    assert "result" in await editor.initialize(host.root)
    assert (await editor.request("initialize", {"capabilities": {}}))["error"]["code"] == -32600
    assert await editor.is_alive()
    assert (await editor.request("shutdown"))["result"] is None
    assert (await editor.command("codeforge.health"))["error"]["code"] == -32600
    editor.notify("exit")
    assert await editor.code() == 0

    editor = await connect()
    await editor.initialize(host.root)
    editor.notify("exit")
    assert await editor.code() == 1

    editor = await connect()
    assert (await editor.request("shutdown"))["result"] is None
    editor.writer.write_eof()
    assert await editor.code() == 0

    editor = await connect()
    await editor.initialize(host.root)
    begun = time.monotonic()
    editor.writer.write_eof()
    assert await editor.code() == 1
    assert time.monotonic() - begun < 1
    assert not host.place.approvals.channels
    assert not host.place.store.subscribers

    editor = await connect()
    await editor.initialize(host.root)
    for body in (request(950, "shutdown", None), b'{"jsonrpc":"2.0","method":"exit"}'):  # both in one breath
        editor.raw(frame(body))
    assert await editor.code() == 0
    assert (await editor.answer(950))["result"] is None


async def test_a_killed_client_whose_pipe_is_held_open_ends_the_session(connect, host):
    process = await asyncio.create_subprocess_exec("sleep", "60")
    editor, other = await connect(), await connect()
    await editor.initialize(host.root, processId=process.pid)
    await other.initialize(host.root, processId=2**31 - 1)  # of another container: never seen, so not watched
    assert await editor.is_alive()
    process.kill()
    await process.wait()
    assert await editor.code(4) == 1
    assert await other.is_alive()


async def test_cancel_reaches_the_work_and_is_answered_once(editor, host):
    for sleeping in ({"sleep": 30}, {"sleep": 30, "stubborn": 0.5}):
        number = editor.post(
            "workspace/executeCommand", {"command": "codeforge.search", "arguments": [sleeping]}
        )
        await _until(lambda wanted=sleeping: ("search", wanted) in host.calls)
        begun = time.monotonic()
        editor.notify("$/cancelRequest", {"id": number})
        assert (await editor.answer(number))["error"]["code"] == -32800
        assert time.monotonic() - begun < 0.2  # 0.1 promised, and the machine is shared
    assert host.cancelled == ["search", "search"]
    await asyncio.sleep(0.6)
    answers = [m["id"] for m in editor.inbox if "method" not in m]
    assert len(answers) == len(set(answers))
    assert await editor.is_alive()


async def test_shutdown_answers_everything_that_is_under_way(editor, host):
    numbers = [
        editor.post("workspace/executeCommand", {"command": "codeforge.search", "arguments": [{"sleep": 30}]})
        for _ in range(5)
    ]
    await _until(lambda: len(host.calls) == 5)
    assert (await editor.request("shutdown"))["result"] is None
    for number in numbers:
        assert (await editor.answer(number))["error"]["code"] == -32800
    editor.notify("exit")
    assert await editor.code() == 0


async def test_same_id_twice_and_ids_of_both_types(editor):
    for number in (77, "77", 77):
        editor.raw(frame(request(number)))
    await _until(lambda: len([m for m in editor.inbox if str(m.get("id")) == "77"]) == 3)


async def test_initialize_is_answered_before_the_workspace_opens_and_early_commands_wait(connect, host):
    host.gate.clear()
    editor = await connect()
    answer = await editor.initialize(host.root, capabilities={})
    assert answer["result"]["serverInfo"]["name"] == "codeforge-ls"
    number = editor.post("workspace/executeCommand", HEALTH)
    status = await editor.called("codeforge/status")
    assert status["params"]["quiescent"] is False
    assert not host.calls
    host.gate.set()
    assert (await editor.answer(number))["result"] == {"echo": {"n": 2}}
    outside = await connect()
    await outside.initialize("/somewhere/else")
    assert "/somewhere/else" in (await outside.called("window/logMessage"))["params"]["message"]


async def test_a_client_that_does_not_read_stops_nobody(connect, host):
    slow, other = await connect(buffer=4096), await connect()
    await slow.initialize(host.root)
    await other.initialize(host.root)
    await asyncio.sleep(0.1)
    slow.listening.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await slow.listening
    slow.reader._transport.pause_reading()
    for _ in range(40):
        slow.post(
            "workspace/executeCommand", {"command": "codeforge.repomap", "arguments": [{"size": 1 << 20}]}
        )
    for number in range(2000):
        host.place.store.tell("run:r", "run.message", {"text": "x" * 10_000}, number + 1)
    begun = time.monotonic()
    for _ in range(20):
        assert await other.is_alive()
    assert time.monotonic() - begun < 3
    assert len(other.all("codeforge/run/event")) > 100
    for _ in range(40):  # past the hard limit it is let go
        slow.post(
            "workspace/executeCommand", {"command": "codeforge.repomap", "arguments": [{"size": 1 << 20}]}
        )
    assert await slow.code(10) == 1
    assert await other.is_alive()


async def test_nothing_is_kept_of_changes_and_requests(editor, host):
    uri = f"file://{host.root}/a.py"
    item = {"uri": uri, "languageId": "python", "version": 0, "text": "x = 1\n"}
    editor.notify("textDocument/didOpen", {"textDocument": item})

    async def burst(first: int, count: int) -> None:
        for start in range(first, first + count, 1000):
            bodies = [
                b'{"jsonrpc":"2.0","method":"textDocument/didChange","params":{"textDocument":{"uri":"%b","version":%d},'
                b'"contentChanges":[{"range":{"start":{"line":0,"character":4},"end":{"line":0,"character":5}},"text":"%d"}]}}'
                % (uri.encode(), start + i + 1, i % 10)
                for i in range(1000)
            ]
            editor.raw(b"".join(map(frame, bodies)))
            await editor.writer.drain()
            assert await editor.is_alive()
            editor.inbox.clear()
            host.calls.clear()
            host.place.index.told.clear()

    await burst(0, 2000)
    gc.collect()
    before = sys.getallocatedblocks()
    await burst(2000, 100_000)
    gc.collect()
    # A block is 16 to 512 bytes, 64 on average: a single small object kept for each change would be seen.
    assert (sys.getallocatedblocks() - before) * 64 / 100_000 <= 50
    assert host.place.documents.find("a.py")[1].text == "x = 9\n"


async def test_nothing_is_kept_of_sessions_that_ended(connect, host):
    def sessions() -> int:
        gc.collect()
        return sum(isinstance(thing, SessionProtocol) for thing in gc.get_objects())

    before = sessions()
    for _ in range(5):
        editor = await connect()
        await editor.initialize(host.root)
        assert await editor.is_alive()
        editor.post("workspace/executeCommand", {"command": "codeforge.search", "arguments": [{"sleep": 30}]})
        editor.writer.write_eof()
        assert await editor.code() == 1
        editor.serving = asyncio.create_task(asyncio.sleep(0, 1))
    await asyncio.sleep(0.3)  # timers of the last seconds
    assert sessions() == before
    assert not host.place.on_index_status
    assert host.place.documents.texts() == {}


@settings(max_examples=150, deadline=None)
@given(
    st.lists(
        st.one_of(st.integers(), st.text(), st.dictionaries(st.text(max_size=5), st.integers())), max_size=6
    ),
    st.integers(min_value=1, max_value=40),
    st.booleans(),
)
def test_frames_come_out_as_they_went_in_however_they_are_cut(values, step, bare):
    data = b"".join(encode_frame(json.dumps(value)) for value in values)
    data = data.replace(b"\r\n\r\n", b"\n\n") if bare else data
    reader, found = FrameReader(), []
    for start in range(0, len(data), step):
        reader.feed(data[start : start + step])
        while (message := reader.next()) is not None:
            assert isinstance(message, Body)
            found.append(message.value)
    assert found == values


def test_a_frame_after_garbage_is_found():
    reader = FrameReader()
    reader.feed(b'Content-Length: 5\r\n\r\n{"a": 1}\r\nzzz' + encode_frame("[1]") + encode_frame("[2]"))
    found = []
    while (message := reader.next()) is not None:
        found.append(message)
    assert isinstance(found[0], Broken)
    assert [body.value for body in found[1:]] == [[1], [2]]


async def _until(true: Callable[[], bool], seconds: float = 5) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.01)
