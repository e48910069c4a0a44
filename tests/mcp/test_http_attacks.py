"""Attacks on the HTTP door in raw bytes: each carries an edit that would be made, were it let in."""

from __future__ import annotations

import asyncio
import base64
import resource
import socket
import struct
from collections.abc import Callable
from pathlib import Path

from tests.mcp.http_place import Door, Program, call, events, hello, old, open_door, read_answer, routed
from tests.mcp.wire import NEW, OLD

BODY = call("apply_edits", edits=[{"path": "pwned.txt", "content": "x"}])
# Whoever is let in may write without being asked, so that what is not written was not let in.
ENV = {"CODEFORGE_POLICY_DEFAULT": "trusted-mount-autonomous"}
MIB = 1 << 20
Attack = tuple[str, bytes, set[int] | None]  # None: hung up on without an answer; 0 in the set: that, too


def good(door: Door, body: bytes = BODY, **changed: object) -> bytes:
    """The request that would write the file, with something changed."""
    return door.request(body, **{**routed("apply_edits"), **changed})  # type: ignore[arg-type] # names of headers


def chunked(body: bytes, size: str | None = None, end: bytes = b"\r\n") -> bytes:
    """A body as one chunk."""
    return (size or f"{len(body):x}").encode() + b"\r\n" + body + end + b"0\r\n\r\n"


def in_chunks(door: Door, body: bytes, coding: str = "chunked") -> bytes:
    """The request with a body that says no length."""
    return good(door, body, length=False, Transfer_Encoding=coding)


def attacks_on_the_address(door: Door) -> list[Attack]:
    """Host, Origin, target."""
    port, cases = door.port, list[Attack]()
    hosts = [
        "evil.example", f"evil.example:{port}", "127.0.0.1", "127.0.0.1:1", f"127.0.0.1:{port}@evil.example",
        f"127.0.0.1:{port}, evil.example", f"127.0.0.1:{port}.evil.example", f"localhost.:{port}",
        f"[::1]:{port}", f"0.0.0.0:{port}", f"127.1:{port}", f"2130706433:{port}", f"127.0.0.1:0{port}",
        f"user@127.0.0.1:{port}", "",
    ]  # fmt: skip
    cases += [(f"Host {host!r}", good(door, Host=host), {400, 421}) for host in hosts]
    cases.append(("no Host", good(door, Host=None), {400}))
    cases.append(("two Hosts", good(door, more=[("Host", "evil.example")]), {400}))
    forwarded = [("X-Forwarded-Host", f"127.0.0.1:{port}"), ("Forwarded", f"host=127.0.0.1:{port}")]
    cases.append(("a forwarded Host", good(door, Host="evil.example", more=forwarded), {421}))
    cases.append(("HTTP/1.0 without Host", good(door, Host=None).replace(b"HTTP/1.1", b"HTTP/1.0", 1), {505}))
    origins = [
        "http://evil.example", "https://evil.example", "null", "", f"http://127.0.0.1:{port}",
        f"http://localhost:{port}", "file://", "chrome-extension://abc",
    ]  # fmt: skip
    cases += [(f"Origin {origin!r}", good(door, Origin=origin), {403}) for origin in origins]
    preflight = [
        ("Access-Control-Request-Method", "POST"),
        ("Access-Control-Request-Headers", "authorization"),
    ]
    asked = door.request(
        b"", method="OPTIONS", Origin="http://evil.example", Authorization=None, more=preflight
    )
    cases.append(("a preflight", asked, {403}))
    targets = [
        "/", "/mcp/", "//mcp", "/mcp/../mcp", "/%6dcp", "/MCP", "/mcp?x=1", "/mcp;x", "/sse", "/messages",
        f"http://127.0.0.1:{port}/mcp", "http://evil.example/mcp", "/.well-known/oauth-protected-resource",
    ]  # fmt: skip
    cases += [(f"target {target}", good(door, target=target), {404}) for target in targets]
    cases.append(("CONNECT", good(door, method="CONNECT", target="evil.example:443"), {404}))
    cases += [
        (f"method {method}", good(door, method=method), {405})
        for method in ("PUT", "PATCH", "HEAD", "OPTIONS", "TRACE", "post", "APPLY")
    ]
    return cases


def attacks_on_the_token(door: Door) -> list[Attack]:
    """Everything but the token in its place."""
    token = door.token
    basic = base64.b64encode(f"x:{token}".encode()).decode()
    cases: list[Attack] = [
        (f"Authorization {name}", good(door, Authorization=value), {401})
        for name, value in {
            "none": None, "empty": "", "scheme only": "Bearer", "no value": "Bearer ", "no scheme": token,
            "other scheme": f"Token {token}", "Basic": f"Basic {basic}", "wrong": f"Bearer {'A' * 43}",
            "short": f"Bearer {token[:-1]}", "long": f"Bearer {token}A", "folded": f"Bearer {token.swapcase()}",
            "two spaces": f"Bearer  {token}", "quoted": f'Bearer "{token}"', "a list": f"Bearer {token}, Bearer x",
            "huge": f"Bearer {'A' * 8000}", "not ASCII": "Bearer \u00ff\u00fe",
        }.items()
    ]  # fmt: skip
    more = [("Authorization", "Bearer wrong")]
    cases.append(("two tokens", good(door, more=more), {400}))
    elsewhere = {"Cookie": token, "Proxy-Authorization": f"Bearer {token}", "X-API-Key": token}
    cases += [
        (f"a token in {name}", good(door, Authorization=None, more=[(name, value)]), {401})
        for name, value in elsewhere.items()
    ]
    cases.append(
        ("a token in the target", good(door, Authorization=None, target=f"/mcp?token={token}"), {401})
    )
    cases += [
        (f"{method} without token", good(door, method=method, Authorization=None), {401})
        for method in ("GET", "DELETE")
    ]
    return cases


def attacks_on_sizes_and_types(door: Door) -> list[Attack]:
    """Too much, and what is no message."""
    large = call("apply_edits", edits=[{"path": "pwned.txt", "content": "x" * 2 * MIB}])
    many = [(f"X-{number}", "x") for number in range(200)]
    cases: list[Attack] = [
        ("a huge header", good(door, more=[("X-Big", "x" * 20_000)]), {400, 431}),
        ("huge headers in all", good(door, more=[(f"X-{n}", "x" * 1000) for n in range(30)]), {400, 431}),
        ("many headers", good(door, more=many), {431}),
        ("a huge target", good(door, target="/mcp?" + "x" * 40_000), {400, 404, 431}),
        ("a large body", good(door, large), {413}),
        ("a large body in chunks", in_chunks(door, chunked(large)), {413}),
        ("an endless chunk", in_chunks(door, b"ffffffff\r\n" + b"x" * 3 * MIB), {413}),
    ]  # fmt: skip
    for length in ("99999999999999999999999999", "-1", "+5", "5, 6", "0x10", "1e3", " ", "\u00b2"):
        said = good(door, length=False, Content_Length=length)
        cases.append((f"Content-Length {length!r}", said, {400, 413}))
    medias = [
        None, "", "text/plain", "application/x-www-form-urlencoded", "multipart/form-data; boundary=x",
        "application/jsonp", "application/json-rpc", "text/json", "application/json; charset=utf-16",
        "application/json, text/plain", "*/*",
    ]  # fmt: skip
    cases += [(f"Content-Type {media!r}", good(door, Content_Type=media), {415}) for media in medias]
    cases += [
        (f"Content-Encoding {packed}", good(door, Content_Encoding=packed), {415})
        for packed in ("gzip", "br", "deflate", "identity, gzip")
    ]
    cases += [(f"Accept {accept!r}", good(door, Accept=accept), {406}) for accept in (None, "text/html")]
    deep = (
        b'{"jsonrpc":"2.0","id":1,"method":"tools/call","params":' + b'{"a":' * 90_000 + b"1" + b"}" * 90_001
    )
    for name, body in {
        "no JSON": b"pwned", "an empty body": b"", "a batch": b"[" + BODY + b"]", "a number": b"7", "null": b"null",
        "cut JSON": BODY[:-3], "two messages": BODY + BODY, "not UTF-8": BODY.replace(b"pwned", b"\xff\xfe"),
        "deep": deep, "a huge number": b'{"jsonrpc":"2.0","id":' + b"9" * 10_000 + b',"method":"tools/list"}',
        "an id that is none": BODY.replace(b'"id": 1', b'"id": {"a": 1}'), "version 1": BODY.replace(b"2.0", b"1.0"),
        "a method that is none": b'{"jsonrpc":"2.0","id":1,"method":["tools/call"]}',
    }.items():  # fmt: skip
        cases.append((f"body: {name}", good(door, body), {400}))
    return cases


def attacks_on_the_framing(door: Door) -> list[Attack]:
    """Requests that two readers would read in two ways, and what is no HTTP/1.1 at all."""
    hidden, octal, vast = good(door), chunked(BODY, "0x10"), chunked(BODY, "1" + "0" * 20)
    length_and, behind = {"Transfer_Encoding": "chunked"}, b"0\r\n\r\n" + hidden
    twice = [("Transfer-Encoding", "chunked")] * 2
    cases: list[Attack] = [
        ("a length and chunks", good(door, chunked(BODY), **length_and), {400}),
        ("a length and chunks, with a request behind", good(door, behind, **length_and), {400}),
        ("two lengths", good(door, more=[("Content-Length", "3")]), {400}),
        ("chunks twice", good(door, chunked(BODY), length=False, more=twice), {400, 501}),
        ("an unknown coding", in_chunks(door, chunked(BODY), "xchunked"), {400, 501}),
        ("chunks and identity", in_chunks(door, chunked(BODY), "chunked, identity"), {400, 501}),
        ("a folded coding", in_chunks(door, chunked(BODY), "\tchunked\x0b"), {400, 501}),
        ("a chunk of minus one", in_chunks(door, chunked(BODY, "-1")), {400}),
        ("a chunk in octal", in_chunks(door, octal), {400}),
        ("a chunk of 2^80", in_chunks(door, vast), {400, 413}),
        ("chunks without an end of line", in_chunks(door, chunked(BODY, end=b"xx")), {400}),
        ("a space before the colon", hidden.replace(b"Content-Length:", b"Content-Length :"), {400}),
        ("a header without a name", hidden.replace(b"Accept:", b": x\r\nAccept:"), {400}),
        ("NUL in a header", hidden.replace(b"Accept: ", b"Accept: \0"), {400}),
        ("a bare CR in a header", hidden.replace(b"Accept: ", b"X: a\rHost: evil.example\r\nAccept: "), {400}),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", {400, 505}),
        ("HTTP/0.9", b"GET /mcp\r\n\r\n", {400}),
        ("HTTP/9.9", hidden.replace(b"HTTP/1.1", b"HTTP/9.9", 1), {400, 505}),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 100, {400}),
        ("an MCP line of the pipe", BODY + b"\n\n", {400}),
        ("binary", bytes(range(256)) * 20, {400}),
    ]  # fmt: skip
    return cases


def attacks_on_the_protocol(door: Door) -> list[Attack]:
    """With the token: headers that say something else than the body, sessions that are none."""
    list_of_the_old = old("tools/list")
    call_of_the_old = old(
        "tools/call", name="apply_edits", arguments={"edits": [{"path": "pwned.txt", "content": "x"}]}
    )
    cases: list[Attack] = [
        ("another method in the header", good(door, Mcp_Method="tools/list"), {400}),
        ("another tool in the header", good(door, Mcp_Name="search_code"), {400}),
        ("no method in the header", good(door, Mcp_Method=None), {400}),
        ("two methods in the headers", good(door, more=[("Mcp-Method", "tools/list")]), {400}),
        ("two versions", good(door, more=[("MCP-Protocol-Version", OLD)]), {400}),
        ("an unknown version", good(door, MCP_Protocol_Version="2099-01-01"), {400}),
        ("another version in the header", good(door, BODY.replace(NEW.encode(), b"2099-01-01")), {400}),
        ("a call without a session", door.request(call_of_the_old), {400}),
        ("a call before the handshake", door.request(call_of_the_old, MCP_Protocol_Version=OLD), {400}),
        ("a notification without a session", door.request(old("notifications/initialized", None)), {400}),
        ("an answer without a session", door.request(b'{"jsonrpc":"2.0","id":1,"result":{}}'), {400}),
        ("the session of nobody", door.request(list_of_the_old, Mcp_Session_Id="0" * 32), {404}),
        ("a session with strange letters", door.request(list_of_the_old, Mcp_Session_Id="../../\u00ff"), {404}),
        ("a huge session", door.request(list_of_the_old, Mcp_Session_Id="a" * 8000), {404}),
        ("two sessions", door.request(list_of_the_old, Mcp_Session_Id="a", more=[("Mcp-Session-Id", "b")]), {400}),
        ("a stream without a session", door.request(b"", method="GET"), {400}),
        ("a stream of the new era", door.request(b"", method="GET", MCP_Protocol_Version=NEW), {405}),
        ("a stream of nobody's session", door.request(b"", method="GET", Mcp_Session_Id="0" * 32), {404}),
        ("the end of no session", door.request(b"", method="DELETE"), {400}),
        ("the end of nobody's session", door.request(b"", method="DELETE", Mcp_Session_Id="0" * 32), {404}),
        ("the end of the new era", door.request(b"", method="DELETE", MCP_Protocol_Version=NEW), {405}),
        ("events of another day", door.request(b"", method="GET", more=[("Last-Event-ID", "1")]), {400}),
    ]  # fmt: skip
    return cases


GROUPS: tuple[Callable[[Door], list[Attack]], ...] = (
    attacks_on_the_address,
    attacks_on_the_token,
    attacks_on_sizes_and_types,
    attacks_on_the_framing,
    attacks_on_the_protocol,
)


async def test_every_attack_is_refused_and_nothing_happens(base: Path) -> None:
    async with open_door(base, **ENV) as door:
        calls = count_calls(door)
        before, wrong = door.shop.picture(), []
        cases = [case for group in GROUPS for case in group(door)]
        for number, (name, data, statuses) in enumerate(cases):
            answer = await door.exchange(data)
            got = answer.status if answer else None
            if got not in (statuses or {None}):
                wrong.append((name, got, answer.body[:200] if answer else ""))
            if number % 20 == 0:  # in between the door serves who is in order
                assert (await door.call("read_code", path="README.md"))["content"]
                calls += 1
        assert not wrong
        assert len(cases) >= 46
        assert door.shop.picture() == before
        assert count_calls(door) == calls
        # The same request in order is done: it was the door that held.
        done = await door.exchange(good(door), timeout=60)
        assert done is not None
        assert done.message["result"]["structuredContent"]["status"] == "applied", done
        assert (door.shop.root / "pwned.txt").read_text() == "x"


async def test_a_request_that_is_not_whole_is_never_made(base: Path) -> None:
    async with open_door(base, **ENV) as door:
        before, calls = door.shop.picture(), count_calls(door)
        whole = good(door)
        head = whole.index(b"\r\n\r\n") + 4
        pieces = in_chunks(door, chunked(BODY))
        for cut in (10, head - 4, head, head + 1, len(whole) - 1):
            assert await door.exchange(whole[:cut], half_close=True) is None
            await reset(door, whole[:cut])
        for cut in (head + 10, len(pieces) - 7, len(pieces) - 1):
            await door.exchange(pieces[:cut], half_close=True)
            await reset(door, pieces[:cut])
        # Who is slow is hung up on: before the head, in it, in the body, and a byte at a time.
        loop = asyncio.get_running_loop()
        began = loop.time()
        ended = await asyncio.gather(
            *(
                drip(door, *parts)
                for parts in ((b"", b""), (whole[:40], b""), (whole[:-1], b""), (b"", whole))
            )
        )
        assert ended == [b""] * 4
        assert 5 < loop.time() - began < 25
        assert (await door.call("read_code", path="README.md"))["content"]
        assert door.shop.picture() == before
        assert count_calls(door) == calls + 1


async def test_one_request_is_one_answer_and_a_refused_one_ends_nothing_else(base: Path) -> None:
    async with open_door(base, **ENV) as door:
        # Refused ones between good ones on one connection: each has its own answer, in order.
        read = door.request(call("read_code", path="README.md"), **routed("read_code"))
        refused = good(door, Authorization="Bearer wrong")
        reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
        writer.write(read + refused + read + refused)
        seen = [await next_status(reader) for _ in range(4)]
        assert seen == [200, 401, 200, 401]
        # A body that is a request stays a body.
        writer.write(good(door, good(door), Authorization=None) + read)
        assert [await next_status(reader) for _ in range(2)] == [401, 200]
        writer.close()
        # An upgrade and a wish to be told to go on are not followed blindly.
        wishes = [("Connection", "Upgrade"), ("Upgrade", "websocket"), ("Expect", "100-continue")]
        answer = await door.exchange(good(door, Authorization=None, more=wishes))
        assert answer is not None
        assert answer.status == 401
        assert not (door.shop.root / "pwned.txt").exists()


async def test_a_flood_of_connections_and_sessions_is_held_off(base: Path) -> None:
    async with open_door(base, **ENV) as door:
        program = await Program.start(door)
        assert (await program.send(call("repo_map"), **routed("repo_map"))).status == 200
        silent = [await asyncio.open_connection("127.0.0.1", door.port) for _ in range(200)]
        crowded = await door.exchange(door.request(call("repo_map"), **routed("repo_map")))
        assert crowded is None or crowded.status == 503
        for _, writer in silent:
            writer.close()
        await asyncio.sleep(1)
        opened = [await program.send(hello("many")) for _ in range(20)]
        assert {answer.status for answer in opened} == {200, 503}
        assert (await program.send(call("repo_map"), **routed("repo_map"))).status == 200
        # What an attacker sends is not kept.
        before = memory(door.daemon)
        for _ in range(8):
            await door.exchange(good(door, b"x" * 8 * MIB))
        assert memory(door.daemon) - before < 32 * MIB
        await program.end()


def count_calls(door: Door) -> int:
    """How many calls the log knows; one that was asked for is there, whatever came of it."""
    return sum(kind == "run.toolcall.requested" for _, kind, _ in events(door.shop))


def memory(pid: int) -> int:
    """Resident bytes of a process."""
    return int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * resource.getpagesize()


async def next_status(reader: asyncio.StreamReader) -> int:
    answer = await read_answer(reader)
    assert answer is not None
    return answer.status


async def reset(door: Door, data: bytes) -> None:
    """Write something and hang up at once, without a farewell."""
    _, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(data)
    await writer.drain()
    sock: socket.socket = writer.get_extra_info("socket")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    writer.close()


async def drip(door: Door, first: bytes, rest: bytes) -> bytes:
    """Write, then a byte now and then; what came back when the other side hung up."""
    reader, writer = await asyncio.open_connection("127.0.0.1", door.port)
    writer.write(first)
    reading = asyncio.create_task(reader.read())
    for at in range(len(rest)):
        await asyncio.sleep(0.5)
        if reading.done():
            break
        writer.write(rest[at : at + 1])
    try:
        return await asyncio.wait_for(reading, 30)
    except ConnectionError:
        return b""
    finally:
        writer.close()
