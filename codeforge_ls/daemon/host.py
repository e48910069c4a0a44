"""The host of one workspace: opens it when a session first needs it, closes it once, knows if it is busy."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls import __version__
from codeforge_ls.daemon.processes import adopt_orphans
from codeforge_ls.daemon.watchdog import Watchdog
from codeforge_ls.opening import imported, no_imports, open_workspace
from codeforge_ls.standby import Standby

if TYPE_CHECKING:
    from codeforge_ls.daemon.http_door import HttpDoor
    from codeforge_ls.model.base import JsonValue
    from codeforge_ls.operations import Operations
    from codeforge_ls.workspace import Workspace

IDLE_SECONDS = 600.0  # until the workspace is open and its settings are known
ROOTLESS_SECONDS = 5.0  # without a client, once the root is gone; a checkout that replaces it takes less
GET_READY_SECONDS = 5.0
SESSIONS = {
    "lsp": "codeforge_ls.lsp.session",
    "mcp": "mcp_server.handshake",
    "cli": "codeforge_ls.daemon.control",
}
# The first answer of an MCP session needs little; this is what the rest does.
WHOLE_SESSIONS = (*SESSIONS.values(), "mcp_server.models", "mcp_server.session")

log = logging.getLogger(__name__)


class Host:
    """What sessions get: the root at once, the workspace and its operations when they are asked for.

    Nothing heavy is imported before the first session asks for the workspace, which it does after its first
    answer; the workers of the index import meanwhile, and wait. Once what that session needs is imported, the watchdog
    is told that stalls count from now on, and later, when no build keeps the processors busy, the code of the other
    kinds of session is imported, beside the loop.
    """

    def __init__(
        self,
        root: Path,
        *,
        watchdog: Watchdog,
        close_soon: Callable[[str], None],
        config: Path | None = None,
        overrides: Mapping[str, str] | None = None,
    ) -> None:
        self.root = root
        self._config, self._overrides = config, dict(overrides or {})
        self._watchdog, self._close_soon = watchdog, close_soon
        self._opening: asyncio.Task[Workspace] | None = None
        self._operations: Operations | None = None
        self._closed = ""
        self._started = time.monotonic()
        self._standby = Standby()
        self._imported = asyncio.Event()
        self.http_door: Callable[[], HttpDoor] | None = None  # a daemon has one, an embedded session none

    async def prepare(self) -> None:
        """Start what is to import its code while this process imports that of the first session."""
        await self._standby.start()

    async def workspace(self) -> Workspace:
        """The open workspace. Raises ``Unavailable`` while the daemon leaves, and what opening it raises."""
        if self._closed:
            from codeforge_ls.model.errors import Unavailable

            raise Unavailable(f"The workspace is closing: {self._closed}.", hint="Connect again.")
        if self._opening is None or (self._opening.done() and self._failed(self._opening)):
            self._opening = asyncio.create_task(self._open(), name="open-workspace")
            self._opening.add_done_callback(lambda _opening: self._imported.set())  # however it went
        return await asyncio.shield(self._opening)

    async def operations(self) -> Operations:
        """The one catalogue of operations over the open workspace."""
        workspace = await self.workspace()
        if self._operations is None:
            from codeforge_ls.operations import Operations

            self._operations = Operations(workspace, self.close_soon)
        return self._operations

    async def imported(self) -> None:
        """Wait, while the workspace is opened, for the imports to be through: more of them need not compete."""
        await self._imported.wait()

    def close_soon(self, reason: str) -> None:
        """End the daemon in order, soon: whoever asked still gets an answer."""
        asyncio.get_running_loop().call_later(0.05, self._close_soon, reason)

    def report(self) -> JsonValue:
        """Facts about this process for ``health``: pid, readiness, the watchdog's numbers."""
        return {
            "pid": os.getpid(),
            "version": __version__,
            "root": str(self.root),
            "uptime_seconds": round(time.monotonic() - self._started, 1),
            "workspace_open": self.opened() is not None,
            "idle_seconds": self.idle_seconds(),
            "watchdog": dict(self._watchdog.report()),
        }

    def is_busy(self) -> bool:
        """Whether a run, or something else that must not be cut off, is under way."""
        workspace = self.opened()
        if workspace is None:
            return self._opening is not None and not self._opening.done()
        return workspace.busy()

    def lost(self) -> str:
        """Why the daemon cannot go on: its state folder is gone, and with it the log. Empty while it can."""
        workspace = self.opened()
        # The database, not the folder: a writer of the index that just began may make the folder again.
        there = workspace is None or (workspace.state / "state.db").is_file()
        return "" if there else f"its state folder {workspace.state if workspace else ''} was removed"

    def idle_seconds(self) -> float:
        """How long the daemon stays without a client and without a run: not for long once the root is gone."""
        return self._wanted_idle() if self.root.is_dir() else min(ROOTLESS_SECONDS, self._wanted_idle())

    def _wanted_idle(self) -> float:
        workspace = self.opened()
        if workspace is not None:
            return float(workspace.settings.daemon.idle_seconds)
        given = self._overrides.get("daemon.idle_seconds") or os.environ.get(
            "CODEFORGE_DAEMON_IDLE_SECONDS", ""
        )
        try:
            return max(1.0, float(given))
        except ValueError:
            return IDLE_SECONDS

    async def reload(self) -> None:
        """Read the settings again (SIGHUP). What is wrong with them is logged; the old ones stay."""
        workspace = self.opened()
        if workspace is None:
            return
        outcome = await workspace.reload_settings(None)
        for problem in outcome.problems:
            log.warning("settings: %s", problem.text)

    async def close(self, reason: str) -> None:
        """Close the workspace if it was opened: suspend runs, stop workers, close the database."""
        self._closed = reason
        self._imported.set()
        self._standby.end()
        if self._opening is None:
            return
        try:
            workspace = await self._opening
        except Exception:
            log.exception("the workspace never opened")
        else:
            try:
                await workspace.close(reason)
            except Exception:
                log.exception("the workspace did not close in order")
        from codeforge_ls.logs import stop_logging

        await asyncio.to_thread(stop_logging)

    def opened(self) -> Workspace | None:
        """The workspace, if it is open."""
        done = self._opening is not None and self._opening.done() and not self._failed(self._opening)
        return self._opening.result() if done and self._opening is not None else None

    @staticmethod
    def _failed(opening: asyncio.Task[Workspace]) -> bool:
        return opening.cancelled() or opening.exception() is not None

    async def _open(self) -> Workspace:
        await imported("codeforge_ls.config", "codeforge_ls.logs")
        from codeforge_ls.config import ConfigStore, state_dir
        from codeforge_ls.logs import start_logging

        await asyncio.to_thread(adopt_orphans)
        config = await asyncio.to_thread(
            ConfigStore, self.root, overrides=self._overrides, config_path=self._config
        )
        start_logging("daemon", state_dir(self.root), config.current.log.level)
        for problem in config.loaded.problems:
            log.warning("settings: %s", problem.text)
        workspace = await open_workspace(self.root, config, self._standby, self._imported.set)
        workspace.health_parts["daemon"] = self.report
        workspace.health_parts["checkpoints"] = workspace.checkpoints.report
        if workspace.watcher is not None:
            workspace.health_parts["watching"] = workspace.watcher.report
        self._importing = asyncio.create_task(self._get_ready(workspace), name="get-ready")
        return workspace

    async def _get_ready(self, workspace: Workspace) -> None:
        """Once the first client has what it needs, stalls count. Then import what the other kinds of session need, so
        that their first client finds it there; not at once: the first client still waits for its first answers, and
        where a build keeps the processors busy, a thread that imports is made to wait while it holds the interpreter,
        and the loop with it."""
        await no_imports()
        gc.freeze()  # what is loaded now stays: later collections need not walk through it
        await asyncio.sleep(0)  # so that this very slice does not count
        self._watchdog.mark_ready()
        await asyncio.sleep(GET_READY_SECONDS)
        from codeforge_ls.model.index import IndexState

        while workspace.index.status().state is IndexState.BUILDING:  # noqa: ASYNC110 - a look now and then will do
            await asyncio.sleep(GET_READY_SECONDS)
        for module in WHOLE_SESSIONS:
            try:
                await imported(module)
            except Exception:
                log.exception("sessions of kind %s cannot be served", module)
