"""The LSP wire: round trips and typing, beside a server of plain pygls on the same machine at the same time."""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

from tests.bench.table import Row, ms, ratio, timed
from tests.soak.ground import Ground
from tests.soak.peers import LIMIT, EditorPeer, Refused, editor

CALLS = 300
KEYS = 2000
LINES = 5000
REPOSITORY = Path(__file__).resolve().parents[2]


def rows() -> Iterator[Row]:
    """The figures."""
    ground = Ground("bench")
    try:
        (ground.root / "a.py").write_text("x = 1\n" * LINES)
        yield from asyncio.run(_measure(ground))
    finally:
        ground.close()


async def _measure(ground: Ground) -> list[Row]:
    ours, plain = await editor(ground), await _plain(ground)
    await ours.command("index.build")

    async def ask_plain() -> None:
        await plain.request("workspace/executeCommand", {"command": "echo", "arguments": [{}]})

    async def ask_nothing() -> None:
        try:
            await ours.request("no/such")
        except Refused:
            return

    echo_plain = await timed(CALLS, ask_plain)
    bare = await timed(CALLS, ask_nothing)
    command = await timed(CALLS, lambda: ours.command("index.status"))
    type_ours, type_plain = await _type(ours, ground), await _type(plain, ground)
    await ours.close()
    await plain.close()
    echo = f"pygls echo, no daemon {ms(echo_plain)}"
    typing = f"pygls {KEYS / type_plain:.0f}/s; ours is {type_plain / type_ours:.2f} x as fast"
    both = f"typing {KEYS} characters into {LINES} lines"
    return [
        Row("lsp: bare round trip through pipe and daemon", ms(bare), "", f"{echo}; {ratio(bare, echo_plain)}"),
        Row("lsp: round trip of a command (index.status)", ms(command), "", ratio(command, echo_plain)),
        Row(f"lsp: {both}", f"{KEYS / type_ours:.0f} didChange/s", "", typing),
    ]  # fmt: skip


async def _type(peer: EditorPeer, ground: Ground) -> float:
    """Seconds until a request is answered that comes after so many changes."""
    uri, text = (ground.root / "a.py").as_uri(), (ground.root / "a.py").read_text()
    document = {"uri": uri, "languageId": "python", "version": 1, "text": text}
    peer.notify("textDocument/didOpen", {"textDocument": document})
    began = time.perf_counter()
    for key in range(KEYS):
        place = {"line": LINES // 2, "character": key % 80}
        change = {"range": {"start": place, "end": place}, "text": "x"}
        changed = {"textDocument": {"uri": uri, "version": key + 2}, "contentChanges": [change]}
        peer.notify("textDocument/didChange", changed)
    try:
        await peer.request("no/such", timeout=120)
    except Refused:
        return time.perf_counter() - began
    return time.perf_counter() - began


async def _plain(ground: Ground) -> EditorPeer:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "tests.bench.pygls_echo",
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, cwd=REPOSITORY, limit=LIMIT,
    )  # fmt: skip
    assert process.stdin
    assert process.stdout
    peer = EditorPeer(process.stdout, process.stdin, process)
    folder = ground.root.as_uri()
    await peer.request("initialize", {"processId": None, "rootUri": folder, "capabilities": {}})
    peer.notify("initialized", {})
    return peer
