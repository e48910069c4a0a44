"""Settings over real pipes and a real daemon: what an editor may decide and how long, and who hears of problems."""

from __future__ import annotations

import asyncio
import os
import subprocess
import sys
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any

import pytest

from tests.lsp.conftest import RawEditor
from tests.mcp.leftovers import clear
from tests.mcp.wire import Wire

LOOSE = {"policy": {"default": "trusted-mount-autonomous"}, "sandbox": {"backend": "none"}}
EDIT = {"path": "a.py", "old_text": "one", "new_text": "two"}
TEXT = "def one():\n    return 1\n"


class Scene:
    """A workspace with its own home, and the editors and agents that come to it."""

    def __init__(self, base: Path, stack: AsyncExitStack) -> None:
        self.root, self.stack = base / "ws", stack
        self.user = base / "config" / "codeforge" / "config.yaml"
        self.own = self.root / ".codeforge" / "config.yaml"
        self.env = {k: v for k, v in os.environ.items() if not k.startswith(("CODEFORGE", "XDG_", "PYTHON"))}
        for name in ("home", "run", "state", "config"):
            (base / name).mkdir(mode=0o700)
        self.env |= {"HOME": str(base / "home"), "XDG_RUNTIME_DIR": str(base / "run")}
        self.env |= {"XDG_STATE_HOME": str(base / "state"), "XDG_CONFIG_HOME": str(base / "config")}
        for file in (self.user, self.own):
            file.parent.mkdir(parents=True)
        (self.root / "a.py").write_text(TEXT)
        subprocess.run(["git", "init", "-q", str(self.root)], check=True, timeout=20)

    async def _program(self, name: str) -> asyncio.subprocess.Process:
        process = await asyncio.create_subprocess_exec(
            Path(sys.executable).parent / name, "--root", str(self.root), "--set", "daemon.idle_seconds=1",
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
            env=self.env, cwd=self.root, limit=1 << 23,
        )  # fmt: skip
        self.stack.push_async_callback(_end, process)
        return process

    async def editor(self, options: Any = None, capabilities: Any = None) -> RawEditor:
        process = await self._program("codeforge-ls")
        assert process.stdin is not None
        assert process.stdout is not None
        editor = RawEditor(process.stdout, process.stdin)
        editor.answers["window/showMessageRequest"] = lambda _: {"title": "Deny"}
        self.stack.callback(editor.listening.cancel)
        more = {"initializationOptions": options, "capabilities": capabilities or {}}
        params = {"processId": None, "rootUri": self.root.as_uri(), **more}
        editor.offered = (await editor.request("initialize", params, 40))["result"]["capabilities"]  # type: ignore[attr-defined]
        editor.notify("initialized", {})
        await self.ask(editor, "health")
        return editor

    async def agent(self) -> Wire:
        process = await self._program("codeforge-mcp")
        assert process.stdin is not None
        assert process.stdout is not None
        wire = Wire(process.stdout, process.stdin)
        await wire.start()
        return wire

    async def ask(self, editor: RawEditor, operation: str) -> Any:
        answer = await editor.command(f"codeforge.{operation}", {})
        if "result" not in answer:
            raise AssertionError(answer)
        return answer["result"]

    async def quits(self, editor: RawEditor) -> None:
        await editor.request("shutdown")
        editor.notify("exit")
        await asyncio.wait_for(editor.listening, 5)


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.stdin is not None:
        process.stdin.close()
    try:
        await asyncio.wait_for(process.wait(), 5)
    except TimeoutError:
        process.kill()
        raise


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    base = Path(tempfile.mkdtemp(prefix="cf", dir="/tmp"))  # a socket's name has 107 bytes
    try:
        async with AsyncExitStack() as stack:
            yield Scene(base, stack)
    finally:
        await asyncio.to_thread(clear, base)


async def until(true: Callable[[], Any], seconds: float = 10) -> None:
    async with asyncio.timeout(seconds):
        while not true():
            await asyncio.sleep(0.05)


async def test_an_editors_options_are_nobody_elses_policy_and_leave_with_it(scene: Scene) -> None:
    keeper = await scene.editor()
    before = (await scene.ask(keeper, "config.get"))["settings"]
    options = {**LOOSE, "llm": {"model": "openai/mine"}, "approvals": {"timeout_seconds": 7}}
    visitor = await scene.editor({"codeforge": options})
    during = (await scene.ask(keeper, "config.get"))["settings"]  # the visitor's first command was answered
    assert during["llm"]["model"] == "openai/mine"
    assert during["approvals"]["timeout_seconds"] == 7
    assert (during["policy"], during["sandbox"]) == (before["policy"], before["sandbox"])
    told = (await visitor.called("window/showMessage"))["params"]
    assert told["type"] == 2
    assert "policy.default: ignored" in told["message"]
    assert "sandbox.backend: ignored" in told["message"]
    assert keeper.all("window/showMessage") == []

    agent = await scene.agent()
    for left in (False, True):
        answer = (await agent.tool("apply_edits", edits=[EDIT]))["structuredContent"]
        assert answer["status"] == "denied", answer
        assert (scene.root / "a.py").read_text() == TEXT
        if not left:
            assert keeper.all("window/showMessageRequest")  # a person was asked
            await scene.quits(visitor)
            async with asyncio.timeout(5):
                while (await scene.ask(keeper, "config.get"))["settings"] != before:
                    await asyncio.sleep(0.05)
    assert (await scene.ask(keeper, "health"))["config_problems"] == []

    # The person's own file is trusted: what it says holds for agents too, and an editor cannot take it back.
    scene.user.write_text("policy:\n  default: trusted-mount-autonomous\n")
    async with asyncio.timeout(10):
        while not (await scene.ask(keeper, "config.get"))["settings"]["policy"]["default"]:
            await asyncio.sleep(0.1)
    answer = (await agent.tool("apply_edits", edits=[EDIT]))["structuredContent"]
    assert answer["status"] == "applied", answer


async def test_a_bad_configuration_is_told_to_every_editor_and_on_the_file(scene: Scene) -> None:
    scene.user.write_text("approvals:\n  timeout_seconds: soon\n")  # wrong from the start
    policy = scene.root / ".codeforge" / "policies" / "mine.yaml"
    policy.parent.mkdir()
    policy.write_text("name: mine\nmode: nonsense\n")
    first = await scene.editor()
    second = await scene.editor()

    def marks(editor: RawEditor, file: Path) -> Any:
        found = [p for p in editor.all("textDocument/publishDiagnostics") if p["uri"] == file.as_uri()]
        return found[-1]["diagnostics"] if found else None

    for editor in (first, second):
        await until(lambda editor=editor: marks(editor, scene.user) and marks(editor, policy))  # type: ignore[misc]
        (mark,) = marks(editor, scene.user)
        assert (mark["range"]["start"]["line"], mark["severity"], mark["source"]) == (1, 1, "codeforge")
        assert "approvals.timeout_seconds" in mark["message"]
        assert marks(editor, policy)[0]["range"]["start"]["line"] == 1
        (message,) = editor.all("window/showMessage")
        assert f"{scene.user}:2" in message["message"]
        assert str(policy) in message["message"]

    scene.own.write_text("runs:\n  max_concurrent: 2\n  max_result_bytes: x\n")
    await until(lambda: marks(second, scene.own))
    (mark,) = marks(second, scene.own)
    assert mark["range"]["start"]["line"] == 2
    problems = (await scene.ask(first, "health"))["config_problems"]
    assert {(p["file"], p["line"]) for p in problems} == {(str(scene.user), 2), (str(scene.own), 3)}
    assert (await scene.ask(first, "config.get"))["settings"]["runs"][
        "max_concurrent"
    ] == 4  # the one in force
    await until(lambda: len(second.all("window/showMessage")) == 2)
    assert str(scene.user) not in second.all("window/showMessage")[1]["message"]  # that one was told already
    scene.own.write_text("\nruns:\n  max_concurrent: 2\n  max_result_bytes: x\n")
    await until(lambda: marks(second, scene.own)[0]["range"]["start"]["line"] == 3)

    for file in (scene.user, scene.own, policy):
        file.unlink()
    for editor in (first, second):
        for file in (scene.user, scene.own, policy):
            await until(lambda editor=editor, file=file: marks(editor, file) == [])  # type: ignore[misc]
        assert len(editor.all("window/showMessage")) == 2
    health = await scene.ask(first, "health")
    assert (health["config_problems"], health["policy_problems"]) == ([], [])


async def test_the_outline_is_there_whoever_says_on(scene: Scene) -> None:
    scene.own.write_text("lsp:\n  symbols: on\n")
    asks = {"textDocument": {"uri": (scene.root / "a.py").as_uri()}}
    outline = "textDocument/documentSymbol"
    plain = await scene.editor()  # can be told nothing after initialize
    assert "documentSymbolProvider" not in plain.offered  # type: ignore[attr-defined]
    late = ("documentSymbol", "definition", "references", "callHierarchy")
    dynamic = await scene.editor(
        capabilities={"textDocument": {name: {"dynamicRegistration": True} for name in late}}
    )
    for method in (
        outline,
        *(f"textDocument/{name}" for name in ("definition", "references", "prepareCallHierarchy")),
    ):
        registered = await dynamic.heard(
            lambda m, method=method: (
                m.get("method") == "client/registerCapability"
                and m["params"]["registrations"][0]["method"] == method
            )
        )
        assert registered
    option = await scene.editor({"lsp": {"symbols": "on"}})
    assert option.offered["documentSymbolProvider"]  # type: ignore[attr-defined]
    unwilling = await scene.editor({"lsp": {"symbols": "off"}})
    assert "workspaceSymbolProvider" not in unwilling.offered  # type: ignore[attr-defined]
    await plain.command("codeforge.index.build", {}, timeout=40)
    for editor, names in ((plain, ["one"]), (dynamic, ["one"]), (option, ["one"]), (unwilling, [])):
        answer = await editor.request(outline, asks)
        assert [symbol["name"] for symbol in answer["result"]] == names


async def test_navigation_is_served_where_it_is_wanted_and_steps_back_elsewhere(scene: Scene) -> None:
    """``auto`` offers none of it; ``on`` serves definition, references, the call hierarchy and a nested outline."""
    text = "from a import one\n\n\nclass Uses:\n    def it(self):\n        return 'é𝄞', one()\n"
    (scene.root / "b.py").write_text(text)
    providers = (
        "definitionProvider",
        "referencesProvider",
        "callHierarchyProvider",
        "documentSymbolProvider",
    )
    plain = await scene.editor()
    assert not [name for name in providers if name in plain.offered]  # type: ignore[attr-defined]
    nested = {
        "textDocument": {"documentSymbol": {"hierarchicalDocumentSymbolSupport": True}},
        "general": {"positionEncodings": ["utf-8", "utf-16"]},
    }
    wanted = await scene.editor({"lsp": {"symbols": "on"}}, nested)
    assert all(wanted.offered[name] for name in providers)  # type: ignore[attr-defined]
    assert wanted.offered["positionEncoding"] == "utf-16"  # type: ignore[attr-defined]
    await wanted.command("codeforge.index.build", {}, timeout=40)
    a, b = (scene.root / "a.py").as_uri(), (scene.root / "b.py").as_uri()
    call = {"textDocument": {"uri": b}, "position": {"line": 5, "character": 23}}

    async def ask(method: str, params: Any) -> Any:
        answer = await wanted.request(method, params)
        assert "result" in answer, answer
        return answer["result"]

    (definition,) = await ask("textDocument/definition", call)
    name = {"start": {"line": 0, "character": 4}, "end": {"line": 0, "character": 7}}
    assert definition == {"uri": a, "range": name}
    found = await ask("textDocument/references", {**call, "context": {"includeDeclaration": True}})
    assert [(one["uri"], one["range"]["start"]["line"]) for one in found] == [(a, 0), (b, 0), (b, 5)]
    (item,) = await ask("textDocument/prepareCallHierarchy", call)
    assert (item["name"], item["uri"], item["selectionRange"]) == ("one", a, name)
    (incoming,) = await ask("callHierarchy/incomingCalls", {"item": item})
    assert incoming["from"]["name"] == "it"
    assert incoming["fromRanges"][0]["start"] == {"line": 5, "character": 22}
    (outgoing,) = await ask("callHierarchy/outgoingCalls", {"item": incoming["from"]})
    assert outgoing["to"] == item
    (outer,) = await ask("textDocument/documentSymbol", {"textDocument": {"uri": b}})
    assert (outer["name"], [one["name"] for one in outer["children"]]) == ("Uses", ["it"])
    nowhere = {"textDocument": {"uri": b}, "position": {"line": 1, "character": 0}}
    assert await ask("textDocument/definition", nowhere) == []
    elsewhere = {"textDocument": {"uri": "file:///etc/hosts"}, "position": {"line": 0, "character": 0}}
    assert await ask("textDocument/definition", elsewhere) == []
    unwilling = await scene.editor({"lsp": {"symbols": "off"}})
    assert (await unwilling.request("textDocument/definition", call))["result"] == []
