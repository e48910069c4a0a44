"""Proof 5: bad input to every operation, tool and verb: a clear error with a stable code, and nothing changed."""

from __future__ import annotations

import concurrent.futures
import json
import os
from collections.abc import Iterator
from typing import Any

import pytest

from codeforge_ls.operations import Operations
from tests.e2e.conftest import ground_of
from tests.e2e.editor import Editor, Refused
from tests.e2e.ground import Ground
from tests.e2e.hostile import EDITS, GOOD, OUTSIDE, hostile

Json = dict[str, Any]
CODES = {"invalid_input", "not_found", "conflict", "denied", "unavailable", "limit_reached"}
TRACES = ("Traceback", 'File "', "codeforge_ls.", "pydantic", "sqlite3.")


@pytest.fixture(scope="module")
def target() -> Iterator[Ground]:
    """A workspace with a way out of it, a pipe, and a file beside it that nobody may touch."""
    with ground_of(approvals_timeout_seconds=4) as ground:
        (ground.base / "outside.txt").write_text("untouched\n")
        (ground.root / "link").symlink_to(ground.base)
        os.mkfifo(ground.root / "fifo")
        ground.ask("index")
        yield ground


@pytest.fixture
def unchanged(target: Ground) -> Iterator[Ground]:
    """Whatever the test does, every file of the workspace and beside it stays as it is."""
    before = target.everything()
    yield target
    assert target.everything() == before
    assert (target.base / "outside.txt").read_text() == "untouched\n"
    assert sorted(path.name for path in target.base.iterdir()) == [
        "config", "home", "outside.txt", "run", "state", "ws",
    ]  # fmt: skip


def check(said: str, code: object, about: object) -> None:
    """An error is one of ours, says something, is short, and shows nothing of our inside."""
    assert code in CODES, (about, code, said[:500])
    assert 10 < len(said) < 4000, (about, len(said))
    assert not [trace for trace in TRACES if trace in said], (about, said)


def refused(editor: Editor, name: Any, arguments: Any) -> bool:
    """Whether the command was refused; a refusal must be a good one."""
    about = f"{name} {json.dumps(arguments)[:300]}"
    try:
        answer = editor.execute(name, arguments)
    except Refused as refusal:
        error = refusal.error
        assert isinstance(error["code"], int), error
        check(error["message"], (error.get("data") or {}).get("code"), about)
        return True
    if answer.get("status") in ("failed", "denied", "conflict"):
        check(answer["message"], answer["error"]["code"], about)
        return True
    return False


@pytest.mark.parametrize("name", Operations.names())
def test_every_command(unchanged: Ground, name: str) -> None:
    editor, command = unchanged.editor(), f"codeforge.{name}"
    schema = Operations.schema(name)
    for arguments, must_refuse in hostile(schema):
        assert refused(editor, command, [arguments]) or not must_refuse, (name, str(arguments)[:300])
    for arguments in ("text", 7, [1], ["text"], [{}, {}], {"query": "x"}, [[{}]]):
        assert refused(editor, command, arguments), (name, arguments)
    if name == "edits.apply":
        for edit in EDITS:
            assert refused(editor, command, [{"edits": [edit]}]), edit
            both = [{"path": "made.txt", "content": "x"}, edit]
            assert refused(editor, command, [{"edits": both}]), edit
    if name in ("code.read", "symbol.find"):
        for path in OUTSIDE:
            assert refused(editor, command, [{"path": path}]) or name != "code.read", path
    assert editor.command("health")["status"] == "ok"
    assert editor.process.poll() is None
    editor.close()


def test_commands_that_are_none(unchanged: Ground) -> None:
    editor = unchanged.editor()
    for name in (
        "codeforge.none",
        "search",
        "",
        "codeforge.__init__",
        "x" * 100_000,
        7,
        None,
        ["a"],
        "\ud800",
    ):
        assert refused(editor, name, []), name
    for params in ({}, {"run_id": 7}, {"run_id": "run-none", "after": -1}, {"run_id": "run-none"}, {"a": 1}):
        with pytest.raises(Refused) as refusal:
            editor.request("codeforge/run/events", params)
        error = refusal.value.error
        check(error["message"], (error.get("data") or {}).get("code"), params)
    assert editor.command("health")["status"] == "ok"
    editor.close()


def test_every_tool(unchanged: Ground) -> None:
    agent = unchanged.agent()

    def refused_tool(name: str, arguments: Any) -> bool:
        about = f"{name} {json.dumps(arguments)[:300]}"
        result = agent.call(name, arguments)
        if "rpc_error" in result:
            assert result["rpc_error"]["code"] in (-32602, -32600), (about, result)
            assert not [trace for trace in TRACES if trace in result["rpc_error"]["message"]], result
            return True
        said = "\n".join(block["text"] for block in result["content"])
        if result.get("isError"):
            check(said, result["_meta"]["codeforge/error"]["code"], about)
            return True
        return result.get("structuredContent", {}).get("status") in ("denied", "conflict")

    tools = agent.tools()
    for tool in tools:
        for arguments, must_refuse in hostile(tool["inputSchema"]):
            assert refused_tool(tool["name"], arguments) or not must_refuse, (tool["name"], arguments)
        for arguments in ("text", 7, [1]):
            assert refused_tool(tool["name"], arguments), (tool["name"], arguments)
        assert agent.facts("search_code", query="total")["hits"]
    for edit in EDITS:
        assert refused_tool("apply_edits", {"edits": [edit]}), edit
    for path in (*OUTSIDE, "nul\0", "\ud800", ".env", "fifo", "shop", "none.py"):
        assert refused_tool("read_code", {"path": path}), path
    for name in ("none", "", "search_code\0", "x" * 10_000, "../search_code"):
        assert refused_tool(name, {}), name
    agent.close()


WRONG: dict[int, tuple[tuple[str, ...], ...]] = {
    2: (
        (),
        ("nonsense",),
        ("search",),
        ("search", ""),
        ("search", "x", "--limit", "-5"),
        ("search", "x", "--limit", "many"),
        ("search", "x", "--limit", "9" * 30),
        ("search", "x", "--group", "galaxy"),
        ("search", "x" * 100_000),
        ("map", "--budget", "0"),
        ("map", "--budget", "1" * 400),
        ("run",),
        ("run", ""),
        ("run", "x", "--resume", "y"),
        ("run", "x", "--mode", "no-such-mode"),
        ("run", "x", "--detach", "--yes"),
        ("plan", "start"),
        ("plan", "start", ""),
        ("plan", "get"),
        ("plan", "dance"),
        ("runs", "cancel"),
        ("runs", "--limit", "0"),
        ("checkpoints", "--limit", "-1"),
        ("rewind",),
        ("policy", "explain", "--tool", "Read", "--profile", "/etc/passwd"),
        ("health", "--set", "nonsense"),
        ("health", "--root", "/"),
        ("health", "--root", "/none/such"),
        ("logs", "--limit", "0"),
        ("logs", "service"),
        ("events", "drop", "--older-than", "-1"),
        ("daemon", "dance"),
    ),
    1: (
        ("run", "--resume", "run-none"),
        ("run", "x", "--profile", "../../etc/passwd"),
        ("plan", "get", "plan-none"),
        ("plan", "cancel", "plan-none"),
        ("runs", "cancel", "run-none"),
        ("show", "run-none"),
        ("show", "plan-none"),
        ("show", "'; DROP TABLE runs; --"),
        ("approve", "approval-none"),
        ("deny", "../state.db"),
        ("checkpoints", "--run", "run-none"),
        ("checkpoints", "--diff", "checkpoint-none"),
        ("rewind", "run-none"),
        ("rewind", "checkpoint-none", "--all"),
        ("policy", "get", "none"),
        ("db", "rollback", "--steps", "1"),
    ),
}


def test_every_verb(unchanged: Ground) -> None:
    calls = [(words, code) for code, table in WRONG.items() for words in table]

    def call(words: tuple[str, ...]) -> Any:
        return unchanged.cli(*words, "--json")

    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        finished = list(pool.map(call, [words for words, _ in calls]))
    for (words, code), done in zip(calls, finished, strict=True):
        about = (words and [word[:60] for word in words], done)
        said = (done.stdout + done.stderr).decode()
        assert done.returncode == code, about
        assert not [trace for trace in TRACES if trace in said], about
        usage = "usage: codeforge" in said
        if not usage:
            error = json.loads(done.stdout.splitlines()[-1])["error"]
            check(error["message"] + " " * 10, error["code"], about)
    assert unchanged.ask("health")["status"] == "ok"


def test_good_values_stay_good() -> None:
    """The table above is worth something only as long as every needed field has a value in it."""
    for name in Operations.names():
        assert set(Operations.schema(name).get("required", [])) <= GOOD.keys(), name
