"""One initialized editor: its parts, what it is offered, and how it is attached to the workspace and let go."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any, TypeVar

from lsprotocol import types
from pygls.capabilities import ServerCapabilitiesBuilder

from codeforge_ls.lsp.client import BESIDE_OTHERS, Client, split_options
from codeforge_ls.lsp.commands import NAMES, Commands, Report
from codeforge_ls.lsp.edits import EditorDocuments
from codeforge_ls.lsp.events import EventFeed
from codeforge_ls.lsp.navigation import Navigation
from codeforge_ls.lsp.overlay import Overlay
from codeforge_ls.lsp.places import Places
from codeforge_ls.lsp.policy_lens import PolicyLens
from codeforge_ls.lsp.problems import ProblemReport
from codeforge_ls.lsp.progress import ProgressBars
from codeforge_ls.lsp.prompts import EditorPrompts
from codeforge_ls.lsp.status import StatusReport
from codeforge_ls.lsp.symbols import SymbolFeatures
from codeforge_ls.lsp.watching import ChangeFeed, register, register_watcher
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, Unavailable
from codeforge_ls.model.events import EventDraft, EventType

if TYPE_CHECKING:
    from codeforge_ls.lsp.session import EditorServer
    from codeforge_ls.operations import Operations
    from codeforge_ls.operations.host import WorkspaceHost
    from codeforge_ls.policy.library import PolicyLibrary
    from codeforge_ls.workspace import Workspace

log = logging.getLogger(__name__)

Listener = TypeVar("Listener")


class Editor:
    """What stands behind one connection after ``initialize``. Nothing here opens the workspace before ``initialized``,
    or before a command that comes earlier."""

    def __init__(
        self, server: EditorServer, host: WorkspaceHost, session: str, params: types.InitializeParams
    ) -> None:
        self._server, self._protocol, self._host = server, server.protocol, host
        self.client = client = Client.of(params)
        self._params = params
        self.actor = Actor(kind=ActorKind.EDITOR, name=client.name, session=session)
        self.overlay = Overlay(
            Places(host.root, _spelling_of_root(client, str(host.root))), client.encoding, self.warn
        )
        self.changes = ChangeFeed(self.overlay)
        self.bars = ProgressBars(self._protocol, client)
        self.status = StatusReport(self._protocol, client, self.bars)
        deltas = client.options.get("deltas") is not False
        self.events = EventFeed(self._protocol, self.bars, self._cancel, deltas=deltas)
        self.problems = ProblemReport(self._protocol, self.overlay.places, self.warn)
        self.symbols = SymbolFeatures(
            self.overlay.places, self._find_symbols, self._symbols_are_on, nested=client.nests_outline
        )
        self.navigation = Navigation(self.overlay.places, self.call, self._symbols_are_on)
        self._attaching: asyncio.Task[Operations] | None = None
        self._workspace: Workspace | None = None
        self._has_options = False
        self._detach: list[Callable[[], None]] = []
        self._background: set[asyncio.Task[Any]] = set()
        self._offer()

    # -- what the editor is offered -------------------------------------------------------------------

    def capabilities(self) -> types.ServerCapabilities:
        """What ``initialize`` answers."""
        features = self._protocol.fm
        offered = set(features.features)
        if self.client.symbols != "on":
            offered -= BESIDE_OTHERS.keys()
        builder = ServerCapabilitiesBuilder(
            self._params.capabilities,
            offered,
            features.feature_options,
            NAMES,
            types.TextDocumentSyncKind.Incremental,
            None,
            self.client.encoding.value,
        )
        built: types.ServerCapabilities = builder.build()  # type: ignore[no-untyped-call]  # pygls does not say
        built.workspace = None  # one root each: a window with several folders starts one server for each
        built.experimental = {"codeforge": {"runEvents": True, "approvals": True, "status": True}}
        return built

    def _offer(self) -> None:
        server = self._server
        lens = PolicyLens(self._protocol, self.overlay, self._policies)
        lens.serve(server)
        Commands(self.call, self.bars, self.events, lens).offer(server)
        self.symbols.serve_outline(server)
        self.navigation.serve(server)
        if self.client.symbols != "off":
            self.symbols.offer_workspace(server)

        @server.feature(types.INITIALIZED)
        def initialized(_params: types.InitializedParams) -> None:
            self._say_where()
            self.attach_soon()

        @server.feature(types.TEXT_DOCUMENT_DID_OPEN)
        def did_open(params: types.DidOpenTextDocumentParams) -> None:
            self.overlay.open(params.text_document)

        @server.feature(types.TEXT_DOCUMENT_DID_CHANGE)
        def did_change(params: JsonObject) -> None:
            self.overlay.change(params)

        @server.feature(types.TEXT_DOCUMENT_DID_CLOSE)
        def did_close(params: types.DidCloseTextDocumentParams) -> None:
            self.overlay.close(params.text_document.uri)

        @server.feature(types.TEXT_DOCUMENT_DID_SAVE, types.SaveOptions(include_text=False))
        def did_save(params: types.DidSaveTextDocumentParams) -> None:
            path = self.overlay.places.relative(params.text_document.uri)
            self.changes.files_changed([path] if path else [])

        @server.feature(types.WORKSPACE_DID_CHANGE_WATCHED_FILES)
        def did_change_watched_files(params: JsonObject) -> None:
            self.changes.watched_files(params)

        @server.feature(types.WORKSPACE_DID_CHANGE_CONFIGURATION)
        def did_change_configuration(params: JsonObject) -> None:
            self._spawn(self._reconfigure(params.get("settings")))

        @server.feature(types.WINDOW_WORK_DONE_PROGRESS_CANCEL)
        def cancel_progress(params: types.WorkDoneProgressCancelParams) -> None:
            self.bars.cancelled(params.token)

        @server.feature(types.SET_TRACE)
        def set_trace(params: types.SetTraceParams) -> None:
            self._protocol.trace = types.TraceValue(params.value)

    def warn(self, message: str) -> None:
        """A line in the editor's log."""
        params: JsonObject = {"type": types.MessageType.Warning.value, "message": message}
        self._protocol.notify(types.WINDOW_LOG_MESSAGE, params)

    def _say_where(self) -> None:
        root = str(self._host.root)
        for folder in self.client.folders:
            real = os.path.realpath(folder)
            if real != root and not real.startswith(root + "/"):
                self.warn(
                    f"{folder} is outside of {root}, the workspace this server serves. Start another server there."
                )

    # -- the workspace --------------------------------------------------------------------------------

    async def call(self, name: str, argument: JsonValue, report: Report | None = None) -> JsonObject:
        """Run an operation for the person at this editor; waits for the workspace if it is not open yet."""
        operations = await asyncio.shield(self.attach_soon())
        return await operations.call(name, argument, self.actor, report)

    def attach_soon(self) -> asyncio.Task[Operations]:
        """Open the workspace and attach to it, once; after a failure the next call tries again."""
        task = self._attaching
        if task is None or (task.done() and (task.cancelled() or task.exception() is not None)):
            task = self._attaching = self._spawn(self._attach())
        return task

    async def _attach(self) -> Operations:
        self.status.opening()
        try:
            workspace, operations = await self._host.workspace(), await self._host.operations()
        except Exception as error:
            text = error.text if isinstance(error, CodeForgeError) else str(error)
            log.exception("the workspace could not be opened")
            self.status.failed(text)
            raise Unavailable(f"The workspace could not be opened: {text}") from error
        self._workspace = workspace
        self._detach += [
            lambda: workspace.config.drop_options(self.actor.session),
            workspace.store.subscribe(self.events.on_event),
            workspace.store.subscribe_deltas(self.events.on_delta),
            workspace.documents.attach(EditorDocuments(self._protocol, self.client, self.overlay)),
            _join(workspace.on_index_status, self.status.on_index),
            _join(workspace.on_config_problems, self._show_problems),
        ]
        await self._take_options(workspace, self.client.settings)
        await self._show_at_work(workspace)
        self._detach.append(workspace.approvals.attach(EditorPrompts(self._protocol, self.client)))
        self.status.on_index(workspace.index.status())
        self._spawn(self.changes.feed(workspace.index))
        self._spawn(self._settle_in(workspace))
        return operations

    async def _show_at_work(self, workspace: Workspace) -> None:
        plans, runs = await workspace.store.plans(limit=50), await workspace.store.runs(limit=50)
        plans_now, runs_now = workspace.plans.active(), workspace.runs.active()
        self.events.show_at_work(
            [plan for plan in plans if plan.id in plans_now],
            [run for run in runs if run.id in runs_now],
            workspace.approvals.open(),
        )

    async def _settle_in(self, workspace: Workspace) -> None:
        """What can wait until the first commands are served."""
        await self._record(workspace, EventType.SESSION_ATTACHED)
        self._show_problems()
        await register_watcher(self._protocol, self.client, workspace)
        await self._offer_late(workspace)

    async def _offer_late(self, workspace: Workspace) -> None:
        """The setting is known only now: ``lsp.symbols: on`` adds what the client can take late."""
        if not self.client.symbols and workspace.settings.lsp.symbols.value == "on":
            for method in sorted(self.client.registers):
                await register(self._protocol, method, {"documentSelector": None})

    async def _record(self, workspace: Workspace, kind: EventType) -> None:
        payload: JsonObject = {"client": self.client.name, "version": self.client.version, "front_end": "lsp"}
        stream = f"session:{self.actor.session}"
        await workspace.store.append(
            EventDraft(stream=stream, type=kind, payload=payload, actor=self.actor.label)
        )

    async def _reconfigure(self, settings: JsonValue) -> None:
        """``workspace/didChangeConfiguration``: with settings, or asking for them where the client gives none."""
        await asyncio.shield(self.attach_soon())
        if settings is None and self.client.gives_configuration:
            params: JsonObject = {"items": [{"section": "codeforge"}]}
            async with asyncio.timeout(10):
                answer = await asyncio.wrap_future(
                    self._protocol.send_request(types.WORKSPACE_CONFIGURATION, params)
                )
            settings = answer[0] if answer else None
        if self._workspace is not None and isinstance(settings, dict):
            await self._take_options(self._workspace, split_options(settings)[1])

    async def _take_options(self, workspace: Workspace, settings: JsonObject) -> None:
        """The editor's settings are in force while this session is attached, and no longer."""
        from codeforge_ls.config import EditorOptions
        from codeforge_ls.config.settings import section_models

        known = {name: value for name, value in settings.items() if name in section_models()}
        if ignored := sorted(settings.keys() - known.keys()):
            log.info("editor options that are no settings: %.300s", ", ".join(ignored))
        if known or self._has_options:
            options = await asyncio.to_thread(EditorOptions.of, self.actor.session, known)
            self._has_options = True
            await workspace.reload_settings(options)

    def _show_problems(self) -> None:
        if self._workspace is not None:
            settings = self._workspace.config.problems_for(self.actor.session)
            self.problems.show(settings, self._workspace.policies.problems)

    async def _policies(self) -> PolicyLibrary:
        await asyncio.shield(self.attach_soon())
        return (await self._host.workspace()).policies

    async def _find_symbols(self, argument: JsonObject) -> JsonObject:
        operations = await asyncio.shield(self.attach_soon())
        return await operations.call("symbol.find", argument, self.actor, counted=False)

    async def _symbols_are_on(self) -> bool:
        await asyncio.shield(self.attach_soon())
        if wanted := self.client.symbols:
            return wanted != "off"
        return self._workspace is None or self._workspace.settings.lsp.symbols.value != "off"

    def _cancel(self, operation: str, argument: JsonObject) -> None:
        """A cancel button. That the run has just ended by itself is no fault."""

        async def cancel() -> None:
            with contextlib.suppress(CodeForgeError):
                await self.call(operation, argument)

        self._spawn(cancel())

    # -- the end --------------------------------------------------------------------------------------

    def let_go(self) -> None:
        """Detach at once: nobody is asked, told or edited through this session any more."""
        for task in self._background:  # first: one of them may be about to attach
            task.cancel()
        while self._detach:
            self._detach.pop()()
        self.status.close()
        self.bars.close()

    async def end(self, seconds: float) -> None:
        """Stop what is under way in the background and record the end."""
        if self._background:
            await asyncio.wait(set(self._background), timeout=seconds)
        if self._workspace is not None:
            with contextlib.suppress(Exception):
                async with asyncio.timeout(seconds):
                    await self._record(self._workspace, EventType.SESSION_DETACHED)

    def _spawn(self, work: Coroutine[Any, Any, Any]) -> asyncio.Task[Any]:
        task = asyncio.create_task(work)
        self._background.add(task)
        task.add_done_callback(self._done)
        return task

    def _done(self, task: asyncio.Task[Any]) -> None:
        self._background.discard(task)
        if not task.cancelled() and (error := task.exception()) and not isinstance(error, CodeForgeError):
            log.error("background work of a session failed", exc_info=error)


def _join(listeners: list[Listener], listener: Listener) -> Callable[[], None]:
    listeners.append(listener)
    return lambda: listeners.remove(listener)


def _spelling_of_root(client: Client, root: str) -> str | None:
    """How the editor spells the root: it may have come through a symlink, and may have opened a folder inside."""
    for folder in client.folders:
        real = os.path.realpath(folder)
        inside = real.removeprefix(root)
        if real.startswith(root) and inside[:1] in ("", "/") and folder.endswith(inside):
            return folder.removesuffix(inside)
    return None
