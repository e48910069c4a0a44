"""``codeforge/status``: is the service well, is it done with what it does in the background, and how is the index."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.index import IndexState, IndexStatus

if TYPE_CHECKING:
    from codeforge_ls.lsp.client import Client
    from codeforge_ls.lsp.progress import Bar, ProgressBars
    from codeforge_ls.lsp.protocol import SessionProtocol

STATUS = "codeforge/status"
SERVER_STATUS = "experimental/serverStatus"  # rust-analyzer's form, which some editors show by themselves
INTERVAL = 0.2  # seconds between two notifications


class StatusReport:
    """Tells one editor how the service is, when that changes."""

    def __init__(self, protocol: SessionProtocol, client: Client, bars: ProgressBars) -> None:
        self._protocol, self._client, self._bars = protocol, client, bars
        self._sent: JsonObject = {}
        self._next: JsonObject | None = None
        self._timer: asyncio.TimerHandle | None = None
        self._bar: Bar | None = None

    def opening(self) -> None:
        """The workspace is being opened."""
        self._tell({"health": "ok", "quiescent": False, "message": "opening the workspace", "index": None})

    def failed(self, message: str) -> None:
        """The workspace could not be opened; commands say why, and the next one tries again."""
        self._tell({"health": "error", "quiescent": True, "message": message, "index": None})

    def on_index(self, status: IndexStatus) -> None:
        """The index has changed."""
        building = status.state in (IndexState.BUILDING, IndexState.EMPTY)
        health = "warning" if status.state is IndexState.ERROR else "ok"
        message = status.message or (f"indexing: {status.percent:.0f} %" if building else "ready")
        index = status.model_dump(mode="json")
        self._tell({"health": health, "quiescent": not building, "message": message, "index": index})
        self._show(status)

    def close(self) -> None:
        """Nothing is told any more."""
        if self._timer is not None:
            self._timer.cancel()

    def _show(self, status: IndexStatus) -> None:
        if status.state is IndexState.BUILDING:
            if self._bar is None:
                self._bar = self._bars.start("CodeForge: indexing")
            self._bar.report(status.percent, f"{status.files} files")
        elif self._bar is not None:
            self._bar.end(f"{status.files} files")
            self._bar = None

    def _tell(self, status: JsonObject) -> None:
        self._next = status
        if self._timer is None:
            self._send()

    def _send(self) -> None:
        self._timer = None
        status, self._next = self._next, None
        if status is None or status == self._sent:
            return
        self._sent = status
        self._protocol.notify(STATUS, status)
        if self._client.wants_server_status:
            short = {name: status[name] for name in ("health", "quiescent", "message")}
            self._protocol.notify(SERVER_STATUS, short)
        self._timer = asyncio.get_running_loop().call_later(INTERVAL, self._send)
