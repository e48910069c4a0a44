"""Fuzz of the two wires: broken LSP frames and MCP lines over real sessions of a real daemon.

Never deaf and never looping: a sound request is answered, exactly once, or its session has ended.
"""

from __future__ import annotations

import asyncio
import json
from typing import Any

from codeforge_ls.operations import Operations
from tests.soak.ground import Ground
from tests.soak.hostile import Hostile
from tests.soak.peers import AgentPeer, EditorPeer, Gone, Peer, agent, connect, editor, frame
from tests.soak.report import Part

SESSION = 40  # cases of one connection
ANSWER_SECONDS = 20.0
EATEN_SECONDS = 4.0
AVOIDED = {"workspace.stop", "index.build", "events.drop"}  # ends the daemon; slow; takes others' streams
METHODS = (
    "textDocument/didOpen", "textDocument/didChange", "textDocument/didClose", "textDocument/didSave",
    "workspace/didChangeWatchedFiles", "workspace/didChangeConfiguration", "workspace/symbol",
    "textDocument/documentSymbol", "$/cancelRequest", "$/setTrace", "window/workDoneProgress/cancel",
    "codeforge/run/events", "initialize", "initialized", "no/such", "$/nothing", "", "workspace/executeCommand",
    "workspace/didChangeWorkspaceFolders",
)  # fmt: skip
MCP_METHODS = (
    "tools/list", "tools/call", "resources/list", "resources/read", "prompts/list", "ping", "initialize",
    "notifications/cancelled", "notifications/initialized", "server/discover", "logging/setLevel", "no/such", "",
    "completion/complete",
)  # fmt: skip
TOOLS = (
    "search_code", "repo_map", "read_code", "symbol_info", "apply_edits", "start_run", "get_run", "cancel_run",
    "list_checkpoints", "audit_list", "restore_checkpoint", "no_tool",
)  # fmt: skip
FIELDS = (
    "query", "limit", "path", "path_glob", "edits", "task", "run_id", "checkpoint_id", "budget_tokens", "name",
    "position", "start_line", "dry_run",
)  # fmt: skip


async def prove(part: Part, *, lsp: int, mcp: int) -> None:
    """So many cases on each wire."""
    ground = Ground("wire")
    (ground.root / "work").mkdir()
    (ground.root / "work/a.py").write_text("def main():\n    return 1\n")
    with part.timed():
        try:
            before = ground.picture()
            # Editors first: once it has spoken as an agent, this process cannot pose as an editor.
            for kind, cases in (("lsp", lsp), ("mcp", mcp)):
                holder = await (editor if kind == "lsp" else agent)(
                    ground
                )  # keeps the daemon there between sessions
                await _search(holder)
                for number in range(0, cases, SESSION):
                    await _session(ground, part, kind, number, min(SESSION, cases - number))
                await _still_well(holder, part)
                await holder.close()
            if ground.picture() != before:
                part.fail(f"files changed: {set(ground.picture().items()) ^ set(before.items())}")
        finally:
            await asyncio.to_thread(ground.close)


async def _search(holder: Peer) -> None:
    if isinstance(holder, EditorPeer):
        await holder.command("search", 30, query="main")
    elif isinstance(holder, AgentPeer):
        await holder.tool("search_code", 30, query="main")


async def _still_well(holder: Peer, part: Part) -> None:
    try:
        await _search(holder)
    except (Gone, TimeoutError) as error:
        part.fail(f"the session that stood beside all this: {type(error).__name__}")


async def _session(ground: Ground, part: Part, kind: str, number: int, cases: int) -> None:
    """One connection: hostile messages with sound requests between them."""
    seed = part.seed * 1_000_003 + number
    hostile, where = Hostile(seed), f"{kind} session {number} (seed {part.seed})"
    try:
        reader, writer = await asyncio.wait_for(connect(ground, kind), 30)
    except (OSError, AssertionError, TimeoutError, StopIteration, ValueError) as error:
        part.fail(f"{where}: no connection: {error!r}")
        return
    peer: Peer = EditorPeer(reader, writer) if kind == "lsp" else AgentPeer(reader, writer)
    peer.verdict = None
    sent: list[str] = []
    try:
        await (peer.start(ground.root) if isinstance(peer, EditorPeer) else peer.start())  # type: ignore[attr-defined]
        for case in range(cases):
            part.count(kind)
            peer.send(_lsp_case(hostile) if kind == "lsp" else _mcp_case(hostile))
            if case % 5 == 4 and not await _is_answered(part, peer, f"probe{number}-{case}", kind, sent):
                part.count(f"{kind} sessions ended")
                break
    except Gone:
        part.count(f"{kind} sessions ended")
    except TimeoutError:
        part.fail(f"{where}: deaf: a sound request was not answered within {ANSWER_SECONDS:g} s")
    finally:
        await asyncio.sleep(0)
        for name in sent:
            if peer.times[name] > 1:
                part.fail(f"{where}: {name} was answered {peer.times[name]} times")
        await peer.close()


async def _is_answered(part: Part, peer: Peer, name: str, kind: str, sent: list[str]) -> bool:
    """Whether a sound request got its answer; False when the session has ended. Raises ``TimeoutError``.

    A broken frame may claim more bytes than it has and so eat what follows it: then the request after that counts.
    """
    for turn, seconds in enumerate((EATEN_SECONDS, ANSWER_SECONDS)):
        probe = {"method": "no/probe"} if kind == "lsp" else {"method": "ping"}
        data = peer.pack({"jsonrpc": "2.0", "id": f"{name}-{turn}", "params": {}, **probe})
        sent.append(f"{name}-{turn}")
        try:
            await peer.answer(f"{name}-{turn}", data, seconds)
        except Gone:
            return False
        except TimeoutError:
            if turn:
                raise
            part.count(f"{kind} requests eaten by the broken one before them")
        else:
            return True
    return True


def _lsp_case(hostile: Hostile) -> bytes:
    rng = hostile.rng
    message: Any = {"jsonrpc": "2.0", "method": rng.choice(METHODS), "params": _lsp_params(hostile)}
    if rng.random() < 0.6:
        message["id"] = rng.choice(
            (rng.randrange(10**6), f"x{rng.randrange(10**6)}", rng.choice((None, [], 1.5, True)))
        )
    if rng.random() < 0.1:
        message = hostile.json()
    if rng.random() < 0.05:
        message = {"jsonrpc": "2.0", "id": hostile.json(1), "result": hostile.json()}
    if isinstance(message, dict) and message.get("method") == "workspace/executeCommand":
        names = [name for name in Operations.names() if name not in AVOIDED]
        name = rng.choice(names)
        arguments = [hostile.fitting(Operations.schema(name))] if rng.random() < 0.8 else hostile.json(2)
        message["params"] = {"command": f"codeforge.{name}", "arguments": arguments}
        if name in ("edits.apply", "checkpoint.restore"):  # these may rightly change files for a person
            message["params"]["arguments"] = [{**_object(arguments), "dry_run": True}]
    body = _dump(message)
    if rng.random() < 0.25:
        body = hostile.broken(body)
    data = frame(body)
    return hostile.broken(data) if rng.random() < 0.2 else data


def _object(arguments: Any) -> dict[str, Any]:
    first = arguments[0] if isinstance(arguments, list) and arguments else None
    return first if isinstance(first, dict) else {}


def _lsp_params(hostile: Hostile) -> Any:
    rng = hostile.rng
    if rng.random() < 0.15:
        return hostile.json()
    uri = rng.choice(("file:///tmp/x.py", "file:///tmp/y.py", hostile.text()))

    def place() -> dict[str, Any]:
        return {"line": rng.choice((0, 1, 2, -1, 2**31, 5)), "character": rng.choice((0, 1, 3, -5, 2**32))}

    change: dict[str, Any] = {"text": hostile.text()}
    if rng.random() < 0.8:
        change["range"] = {"start": place(), "end": place()}
    return {
        "textDocument": {
            "uri": uri,
            "version": rng.choice((1, 2, 3, -1)),
            "languageId": "python",
            "text": hostile.text(),
        },
        "contentChanges": [change for _ in range(rng.randint(0, 3))],
        "position": place(),
        "query": hostile.text(),
        "id": rng.randrange(100),
        "changes": [{"uri": uri, "type": rng.randint(0, 4)}],
        "event": {"added": [], "removed": []},
        "settings": hostile.json(2),
        "value": hostile.text(),
    }


def _mcp_case(hostile: Hostile) -> bytes:
    rng = hostile.rng
    message: Any = {"jsonrpc": "2.0", "method": rng.choice(MCP_METHODS), "params": hostile.json(2)}
    if message["method"] == "tools/call" or rng.random() < 0.5:
        arguments = {rng.choice(FIELDS): hostile.json(3) for _ in range(rng.randint(0, 4))}
        given: Any = arguments if rng.random() < 0.95 else hostile.json(2)
        message |= {"method": "tools/call", "params": {"name": rng.choice(TOOLS), "arguments": given}}
    if rng.random() < 0.8:
        message["id"] = rng.choice(
            (rng.randrange(10**6), f"x{rng.randrange(10**6)}", rng.choice((None, [], 1.5, True)))
        )
    if rng.random() < 0.1:
        message = hostile.json()
    body = _dump(message)
    return (hostile.broken(body) if rng.random() < 0.3 else body) + b"\n"


def _dump(message: Any) -> bytes:
    return json.dumps(message, ensure_ascii=False).encode("utf-8", "surrogatepass")
