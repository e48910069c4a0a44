"""``$/progress``: one bar for each run, plan, index build and long command, at most ten reports a second each."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Callable
from dataclasses import dataclass
from typing import TYPE_CHECKING

from lsprotocol import types

from codeforge_ls.model.base import JsonObject, new_id

if TYPE_CHECKING:
    from codeforge_ls.lsp.client import Client
    from codeforge_ls.lsp.protocol import SessionProtocol

INTERVAL = 0.1  # seconds between two reports of one token
SHOW_AFTER = 0.3  # seconds until a bar of our own appears: work that is over by then needs none
CREATE_SECONDS = 3.0  # some clients never answer workDoneProgress/create; then the bar starts all the same

Token = int | str
log = logging.getLogger(__name__)


@dataclass(eq=False)
class Bar:
    """One progress bar. Nothing is sent before ``token`` is known to the client, or after the end."""

    progress: ProgressBars
    title: str
    on_cancel: Callable[[], None] | None
    token: Token | None = None
    message: str = ""
    percent: float | None = None
    shown: bool = False
    ended: bool = False
    timer: asyncio.TimerHandle | None = None
    last: float = 0.0

    def report(self, percent: float | None, message: str) -> None:
        """Say how far it is; the newest report of each interval is sent."""
        self.percent, self.message = percent, message
        if self.shown and not self.ended and self.timer is None:
            loop = asyncio.get_running_loop()
            wait = max(0.0, self.last + INTERVAL - loop.time())
            if wait:
                self.timer = loop.call_later(wait, self._send)
            else:
                self._send()

    def begin(self, token: Token) -> None:
        """Show it under a token that the client knows."""
        if self.shown or self.ended:
            return
        self.token, self.shown = token, True
        self.last = asyncio.get_running_loop().time()
        value: JsonObject = {"kind": "begin", "title": self.title, "cancellable": self.on_cancel is not None}
        self.progress.send(self, value)

    def end(self, message: str) -> None:
        """Take it away with a last word."""
        if self.ended:
            return
        if self.timer is not None:
            self.timer.cancel()
        if self.shown:
            self.progress.send(self, {"kind": "end"}, message)
        self.ended = True
        self.progress.forget(self)

    def _send(self) -> None:
        self.timer, self.last = None, asyncio.get_running_loop().time()
        self.progress.send(self, {"kind": "report"}, self.message)


class ProgressBars:
    """All progress bars of one session."""

    def __init__(self, protocol: SessionProtocol, client: Client) -> None:
        self._protocol, self._client = protocol, client
        self._bars: dict[Token, Bar] = {}
        self._creating: set[asyncio.Task[None]] = set()

    def start(
        self, title: str, *, token: Token | None = None, on_cancel: Callable[[], None] | None = None
    ) -> Bar:
        """A new bar: under the token of the client's request, else under one of our own, if the client shows any."""
        bar = Bar(self, title, on_cancel)
        if token is not None:
            self._show(bar, token)
        elif self._client.shows_progress:
            task = asyncio.create_task(self._create(bar), name="progress")
            self._creating.add(task)
            task.add_done_callback(self._creating.discard)
        return bar

    def adopt(self, bar: Bar, token: Token) -> None:
        """Show a bar under the client's token, if it is not shown yet."""
        if not bar.shown:
            self._show(bar, token)

    def cancelled(self, token: Token) -> None:
        """``window/workDoneProgress/cancel``. An unknown token is one that has ended."""
        bar = self._bars.get(token)
        if bar is not None and bar.on_cancel is not None:
            bar.on_cancel()

    def send(self, bar: Bar, value: JsonObject, message: str = "") -> None:
        """Put a bar's value on the wire; reports can be missed, begin and end cannot."""
        if message:
            value["message"] = message
        if value["kind"] != "end" and bar.percent is not None:
            value["percentage"] = min(100, max(0, round(bar.percent)))
        params: JsonObject = {"token": bar.token, "value": value}
        self._protocol.notify(types.PROGRESS, params, droppable=value["kind"] == "report")

    def forget(self, bar: Bar) -> None:
        """A bar has ended: its token is not ours any more."""
        if bar.token is not None and self._bars.get(bar.token) is bar:
            del self._bars[bar.token]

    def close(self) -> None:
        """Stop the bars that are about to appear."""
        for task in self._creating:
            task.cancel()

    def _show(self, bar: Bar, token: Token) -> None:
        bar.begin(token)
        if bar.token is not None and not bar.ended:
            self._bars[bar.token] = bar

    async def _create(self, bar: Bar) -> None:
        await asyncio.sleep(SHOW_AFTER)
        if bar.shown or bar.ended:
            return
        token = new_id("progress")
        params = types.WorkDoneProgressCreateParams(token=token)
        try:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(CREATE_SECONDS):
                    await asyncio.wrap_future(
                        self._protocol.send_request(types.WINDOW_WORK_DONE_PROGRESS_CREATE, params)
                    )
        except Exception as error:  # noqa: BLE001 - a client that refuses has no bar
            log.info("the client creates no progress: %s", error)
            return
        self._show(bar, token)
        if bar.shown and bar.message:
            bar.report(bar.percent, bar.message)
