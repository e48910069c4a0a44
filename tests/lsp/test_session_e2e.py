"""The language server as editors start it: real pipe, real daemon, real index, a scripted model over HTTP."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from lsprotocol import types
from pytest_lsp import LanguageClient, client_capabilities
from pytest_lsp.client import make_test_lsp_client

from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.lsp.commands import OPERATIONS
from codeforge_ls.operations import Operations

OPEN, CLOSED = "open.py", "closed.py"
SAVED = {OPEN: "def one():\n    return 1\n", CLOSED: "def two():\n    return 2\n"}
UNSAVED = "# typed, not saved\n" + SAVED[OPEN]

EDIT_BOTH = [
    {"tool": "Edit", "arguments": {"path": OPEN, "old_text": "return 1", "new_text": "return 11"}},
    {"tool": "Edit", "arguments": {"path": CLOSED, "old_text": "return 2", "new_text": "return 22"}},
    {"say": "Both are changed."},
]
EDIT_CLOSED = [EDIT_BOTH[1], {"say": "Done."}]
SCRIPT = [{"task": "both", "turns": EDIT_BOTH}, {"task": "closed", "turns": EDIT_CLOSED}]


class Person:
    """Someone at an editor. ``decide`` answers prompts; buffers are edited as an editor does it."""

    def __init__(self, client: LanguageClient, root: Path, process: int) -> None:
        self.client, self.root, self.process = client, root, process
        self.prompts: list[str] = []
        self.decide: Callable[[str], Awaitable[str | None]] = self.allow
        self.events: list[Any] = []
        self.status: list[Any] = []
        self.registered: list[types.RegistrationParams] = []
        self.told: list[Any] = []
        self.buffers: dict[str, list[Any]] = {}

    @classmethod
    async def start(
        cls, root: Path, env: dict[str, str], capabilities: types.ClientCapabilities, *options: str
    ) -> Person:
        client = make_test_lsp_client()
        await client.start_io(
            sys.executable,
            "-P",
            "-m",
            "codeforge_ls.shim",
            "lsp",
            "--root",
            str(root),
            *options,
            env=env,
            cwd=str(root),
        )
        person = cls(client, root, client._server.pid)
        person._listen()
        folder = types.WorkspaceFolder(uri=root.as_uri(), name="ws")
        await client.initialize_session(
            types.InitializeParams(
                capabilities=capabilities,
                root_uri=root.as_uri(),
                workspace_folders=[folder],
                client_info=types.ClientInfo(name="Test Editor", version="1"),
            )
        )
        return person

    def _listen(self) -> None:
        @self.client.feature(types.WINDOW_SHOW_MESSAGE_REQUEST)
        async def ask(params: types.ShowMessageRequestParams) -> types.MessageActionItem | None:
            self.prompts.append(params.message)
            title = await self.decide(params.message)
            return types.MessageActionItem(title) if title else None

        @self.client.feature(types.WORKSPACE_APPLY_EDIT)
        def apply(params: types.ApplyWorkspaceEditParams) -> types.ApplyWorkspaceEditResult:
            for change in params.edit.document_changes or ():
                self.type(change.text_document.uri, change.edits[0].range, change.edits[0].new_text)
            return types.ApplyWorkspaceEditResult(applied=True)

        @self.client.feature(types.CLIENT_REGISTER_CAPABILITY)
        def register(params: types.RegistrationParams) -> None:
            self.registered.append(params)

        for method, kept in (
            ("codeforge/run/event", self.events),
            ("codeforge/status", self.status),
            ("codeforge/approval", self.told),
        ):
            self.client.feature(method)(lambda params, kept=kept: kept.append(params))

    @staticmethod
    async def allow(_message: str) -> str:
        return "Allow once"

    def open(self, name: str, text: str) -> None:
        uri = (self.root / name).as_uri()
        self.buffers[uri] = [1, text]
        item = types.TextDocumentItem(uri=uri, language_id="python", version=1, text=text)
        self.client.text_document_did_open(types.DidOpenTextDocumentParams(text_document=item))

    def type(self, uri: str, place: types.Range, text: str) -> None:
        """Change a buffer (ASCII, so that columns are characters) and tell the server."""
        buffer = self.buffers[uri]
        lines = buffer[1].splitlines(keepends=True)
        begin, end = (
            sum(map(len, lines[: where.line])) + where.character for where in (place.start, place.end)
        )
        buffer[1] = buffer[1][:begin] + text + buffer[1][end:]
        buffer[0] += 1
        change = types.TextDocumentContentChangePartial(range=place, text=text)
        self.client.text_document_did_change(
            types.DidChangeTextDocumentParams(
                text_document=types.VersionedTextDocumentIdentifier(uri=uri, version=buffer[0]),
                content_changes=[change],
            )
        )

    def text(self, name: str) -> str:
        return self.buffers[(self.root / name).as_uri()][1]

    async def do(self, operation: str, **arguments: Any) -> Any:
        params = types.ExecuteCommandParams(command=f"codeforge.{operation}", arguments=[arguments])
        return await asyncio.wait_for(self.client.workspace_execute_command_async(params), 20)

    async def run(self, task: str) -> str:
        begun = time.monotonic()
        started = await self.do("run.start", task=task)
        assert time.monotonic() - begun < 1  # 50 ms promised for the daemon's part, and the machine is shared
        return started["run_id"]

    async def ended(self, run_id: str) -> Any:
        async with asyncio.timeout(30):
            while True:
                run = (await self.do("run.get", run_id=run_id))["run"]
                if run["status"] not in ("pending", "running"):
                    return run
                await asyncio.sleep(0.05)

    async def until(self, true: Callable[[], Any], seconds: float = 20) -> None:
        async with asyncio.timeout(seconds):
            while not true():
                await asyncio.sleep(0.02)

    async def leave(self) -> int:
        server = self.client._server
        await asyncio.wait_for(self.client.shutdown_session(), 5)
        code = await asyncio.wait_for(server.wait(), 5)
        with contextlib.suppress(
            RuntimeError
        ):  # pygls' client trips over a prompt of its own that is still open
            await self.client.stop()
        return code


class Scene:
    """A workspace, a scripted model, and the people who came."""

    def __init__(self, base: Path, model: ScriptedServer) -> None:
        self.root = (base / "ws").resolve()
        self.people: list[Person] = []
        for name in ("home", "run", "state", "config", "ws"):
            (base / name).mkdir(mode=0o700)
        inherited = {
            name: value for name, value in os.environ.items() if not name.startswith(("CODEFORGE", "XDG_"))
        }
        self.env = inherited | {
            "HOME": str(base / "home"),
            "XDG_RUNTIME_DIR": str(base / "run"),
            "XDG_STATE_HOME": str(base / "state"),
            "XDG_CONFIG_HOME": str(base / "config"),
            "PYTHONPATH": str(Path(__file__).resolve().parents[2]),
            "CODEFORGE_LLM_MODEL": "openai/scripted",
            "CODEFORGE_LLM_API_BASE": model.base_url,
            "OPENAI_API_KEY": "not-needed",
        }
        self.write()
        subprocess.run(["git", "init", "-q", str(self.root)], check=True, timeout=20)

    async def person(self, profile: str = "visual-studio-code", *options: str) -> Person:
        person = await Person.start(self.root, self.env, client_capabilities(profile), *options)
        self.people.append(person)
        return person

    def saved(self, name: str) -> str:
        return (self.root / name).read_text()

    async def leave(self) -> None:
        """Everybody goes, and the files are again what they were."""
        for person in self.people:
            with contextlib.suppress(Exception):
                await person.leave()
        self.people.clear()
        self.write()

    def write(self) -> None:
        for name, text in SAVED.items():
            (self.root / name).write_text(text)

    def close(self) -> None:
        """End the daemon that our front end started, and whatever else carries our home in its environment."""
        for number, seconds in ((signal.SIGTERM, 10), (signal.SIGKILL, 2)):
            end = time.monotonic() + seconds
            for pid in self.processes():
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, number)
            while self.processes() and time.monotonic() < end:
                time.sleep(0.05)

    def processes(self) -> list[int]:
        mark, found = f"HOME={self.env['HOME']}".encode(), []
        for folder in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                if mark in (folder / "environ").read_bytes().split(b"\0"):
                    found.append(int(folder.name))
        return found


@pytest.fixture(scope="module")
def model() -> Iterator[ScriptedServer]:
    with ScriptedServer(SCRIPT) as server:
        yield server


@pytest.fixture(scope="module")
def shared(model: ScriptedServer, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Scene]:
    """One daemon for all tests: its model worker takes seconds to start."""
    made = Scene(tmp_path_factory.mktemp("lsp"), model)
    yield made
    made.close()


@pytest.fixture
async def scene(shared: Scene) -> AsyncIterator[Scene]:
    yield shared
    await shared.leave()


@pytest.fixture
async def embedded(model: ScriptedServer, tmp_path: Path) -> AsyncIterator[Scene]:
    made = Scene(tmp_path, model)
    yield made
    await made.leave()
    left = made.processes()
    made.close()
    assert left == []


def test_the_commands_are_the_catalogue():
    assert sorted(OPERATIONS) == Operations.names()


@pytest.mark.parametrize("profile", ["visual-studio-code", "neovim"])
async def test_a_run_edits_the_open_buffer_and_the_closed_file_and_both_are_rewound(scene, profile):
    person = await scene.person(profile)
    person.open(OPEN, UNSAVED)
    found = await person.do("search", query="two")
    assert found["hits"][0]["path"] == CLOSED
    run_id = await person.run("change both")
    run = await person.ended(run_id)
    assert (run["status"], run["output"]) == ("completed", "Both are changed.")
    assert len(person.prompts) == 2
    assert "-    return 1\n+    return 11" in person.prompts[0]
    assert person.text(OPEN) == UNSAVED.replace("return 1", "return 11")  # what was typed is still there
    assert scene.saved(OPEN) == SAVED[OPEN]  # saving is the person's
    assert scene.saved(CLOSED) == SAVED[CLOSED].replace("return 2", "return 22")

    page = await asyncio.wait_for(
        person.client.protocol.send_request_async(
            "codeforge/run/events", {"run_id": run_id, "after": 0, "limit": 500}
        ),
        10,
    )
    seqs = [event.seq for event in page.events]
    await person.until(lambda: len(person.events) == len(seqs))
    assert [event.seq for event in person.events] == seqs == list(range(1, len(seqs) + 1))
    assert {event.state for event in person.told} == {"pending", "answered"}

    restored = await person.do("checkpoint.restore", run_id=run_id, to="first")
    assert restored["conflicts"] == []
    assert scene.saved(CLOSED) == SAVED[CLOSED]
    assert "return 11" not in person.text(OPEN)
    assert await person.leave() == 0


async def test_deny_and_dismissal_change_nothing_and_a_waiting_run_can_be_cancelled(scene):
    person = await scene.person("neovim")
    answers = iter(["Deny", None])

    async def next_answer(_message: str) -> str | None:
        return next(answers)

    person.decide = next_answer
    for _ in range(2):
        await person.ended(await person.run("change closed"))
        assert scene.saved(CLOSED) == SAVED[CLOSED]
    approvals = [event for event in person.told if event.state == "answered"]
    assert [event.outcome for event in approvals] == ["denied", "denied"]

    never = asyncio.Event()

    async def no_answer(_message: str) -> str | None:
        await never.wait()
        return "Allow once"

    person.decide = no_answer
    run_id = await person.run("change closed")
    await person.until(lambda: len(person.prompts) == 3)
    begun = time.monotonic()
    cancelled = await person.do("run.cancel", run_id=run_id)
    assert cancelled["run"]["status"] == "cancelled"
    assert time.monotonic() - begun < 2
    never.set()  # a late yes counts for nothing
    assert (await person.do("approval.list"))["approvals"] == []
    assert scene.saved(CLOSED) == SAVED[CLOSED]


async def test_two_editors_see_one_run_the_first_answer_wins_and_a_closed_editor_stops_nothing(scene):
    first, second = await scene.person("visual-studio-code"), await scene.person("neovim")
    never = asyncio.Event()

    async def no_answer(_message: str) -> str | None:
        await never.wait()
        return None

    first.decide = second.decide = no_answer
    run_id = await first.run("change closed")
    await first.until(lambda: first.prompts and second.prompts)
    assert await first.leave() == 0
    (waiting,) = (await second.do("approval.list"))["approvals"]
    await second.do("approval.answer", approval_id=waiting["id"], verdict="allow_once")
    run = await second.ended(run_id)
    assert run["status"] == "completed"
    assert scene.saved(CLOSED) == SAVED[CLOSED].replace("return 2", "return 22")
    await second.until(lambda: second.events and second.events[-1].event.type == "run.completed")
    assert [event.seq for event in second.events] == list(range(1, len(second.events) + 1))
    third = await scene.person()
    page = await third.do("run.events", run_id=run_id)
    assert len(page["events"]) == len(second.events)
    assert [event["type"] for event in page["events"]][:2] == ["run.created", "run.started"]


async def test_bad_arguments_of_every_command_and_the_embedded_form(embedded):
    person = await embedded.person("visual-studio-code", "--embedded")
    for name in OPERATIONS:
        if name == "workspace.stop":
            continue
        with pytest.raises(Exception, match=r".") as caught:
            await person.do(name, **{"no such field": 1})
        assert caught.value.code == -32602, (name, caught.value)
    for argument in (
        {"query": "\ud800"},
        {"query": "x" * 3000},
        {"query": 5},
        {"query": "x", "limit": 10**30},
    ):
        with pytest.raises(Exception, match=r".") as caught:
            await person.do("search", **argument)
        assert caught.value.code == -32602
    with pytest.raises(Exception, match="There is no command"):
        await person.do("no.such.command")
    assert (await person.do("health"))["status"] == "ok"
    for seconds, kept in ((7, 7), (-7, 7), (8, 8)):  # a bad configuration keeps the one in force
        given = {"codeforge": {"approvals": {"timeout_seconds": seconds}, "no such section": {}}}
        person.client.workspace_did_change_configuration(types.DidChangeConfigurationParams(settings=given))
        async with asyncio.timeout(10):
            while (await person.do("config.get"))["settings"]["approvals"]["timeout_seconds"] != kept:
                await asyncio.sleep(0.05)
    await person.until(lambda: any("timeout_seconds" in line.message for line in person.client.log_messages))
    await person.until(lambda: person.status[-1].quiescent)
    symbols = await person.client.workspace_symbol_async(types.WorkspaceSymbolParams(query="two"))
    assert [symbol.name for symbol in symbols][:1] == ["two"]
    assert embedded.saved(CLOSED) == SAVED[CLOSED]
    assert await person.leave() == 0
