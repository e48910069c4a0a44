"""Feeds the index worker: builds, unsaved texts and changed paths, sent again whenever the worker died over them."""

from __future__ import annotations

import asyncio
import logging
from asyncio.subprocess import Process
from collections.abc import Awaitable, Callable, Coroutine, Iterable, Mapping, Sequence

from codeforge_ls import standby
from codeforge_ls.index.changes import Changes
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.workers import Worker, WorkerDied, WorkerState

log = logging.getLogger(__name__)

RETRY_SECONDS = 0.2


class Feed:
    """The index worker and what it is to know. ``open`` has the documents with unsaved text, by path.

    ``on_notice`` gets what the worker tells, ``on_gave_up`` why there will be no worker any more.
    """

    def __init__(
        self,
        arguments: Sequence[str],
        env: Mapping[str, str],
        early: Process | None,
        on_notice: Callable[[JsonObject], None],
        on_gave_up: Callable[[str], None],
    ) -> None:
        self.worker = Worker(
            "index",
            standby.command(standby.INDEX_WORKER),
            env=env,
            arguments=arguments,
            early=early,
            on_notice=on_notice,
            on_start=self._started,
            on_crash=lambda _name, _code: self.build(),
        )
        self.open: dict[str, str] = {}
        self._on_gave_up = on_gave_up
        self._waiting, self._sent = Changes(), Changes()
        self._wake, self._settled = asyncio.Event(), asyncio.Event()
        self._settled.set()
        self._build_wanted, self._force = asyncio.Event(), False
        self._waiting_for_build: list[asyncio.Future[JsonValue]] = []

    def loops(self) -> tuple[Coroutine[None, None, None], ...]:
        """What has to run beside: the building, and the sending of changes."""
        return self._build_loop(), self._change_loop()

    def build(self) -> None:
        """Have the index brought up to date with the disk, soon."""
        self._build_wanted.set()

    async def built(self, *, force: bool) -> JsonValue:
        """The same, with the status when it is; wishes that come before a build begins are met by that one.

        Whoever is cancelled stops waiting; the build goes on, for half an index helps nobody.
        """
        done: asyncio.Future[JsonValue] = asyncio.get_running_loop().create_future()
        self._waiting_for_build.append(done)
        self._force |= force
        self.build()
        return await done

    def write(self, path: str, text: str) -> None:
        """A document has unsaved text."""
        self.open[path] = text
        self._waiting.write(path, text)
        self._note()

    def close(self, path: str) -> None:
        """A document is closed; nothing if it was not open."""
        if self.open.pop(path, None) is not None:
            self._waiting.close(path)
            self._note()

    def touch(self, paths: Iterable[str]) -> None:
        """Files or folders were made, saved, renamed or deleted."""
        self._waiting.touch(paths)
        if self._waiting:
            self._note()

    @property
    def pending(self) -> int:
        """How many paths the worker does not know of yet, or has not answered for."""
        return len(self._waiting) + len(self._sent)

    @property
    def is_settled(self) -> bool:
        """Whether the worker has taken in all that is known."""
        return self._settled.is_set()

    async def settled(self, within: float) -> bool:
        """Wait until it has; False when ``within`` seconds did not suffice."""
        try:
            await asyncio.wait_for(self._settled.wait(), within)
        except TimeoutError:
            return False
        return True

    async def tried(self, call: Awaitable[JsonValue]) -> bool:
        """Whether a call is done with. False only when the worker died over it and it should be sent again."""
        try:
            await call
        except WorkerDied:
            return False
        except CodeForgeError as error:
            log.warning("index worker: %s", error.text)
            if self.worker.state is WorkerState.GAVE_UP:
                self._on_gave_up(error.text)
        return True

    def _note(self) -> None:
        self._settled.clear()
        self._wake.set()

    async def _change_loop(self) -> None:
        while True:
            await self._wake.wait()
            self._wake.clear()
            while self._waiting:
                self._sent, self._waiting = self._waiting, Changes()
                if not await self.tried(self.worker.call("change", self._sent.message())):
                    self._waiting.add_older(self._sent)
                    await asyncio.sleep(RETRY_SECONDS)
                self._sent = Changes()
            self._settled.set()

    async def _build_loop(self) -> None:
        try:
            while True:
                await self._build_wanted.wait()
                self._build_wanted.clear()
                await self._build_once()
        finally:
            for done in self._waiting_for_build:
                done.cancel()

    async def _build_once(self) -> None:
        force, self._force = self._force, False
        building = asyncio.ensure_future(self.worker.call("build", {"force": force}))
        waiting = len(self._waiting_for_build)
        if await self.tried(building):
            served, self._waiting_for_build = (
                self._waiting_for_build[:waiting],
                self._waiting_for_build[waiting:],
            )
            for done in served:
                _pass_on(building, done)
        else:
            self._force |= force
            await asyncio.sleep(RETRY_SECONDS)
            self.build()

    async def _started(self) -> None:
        """After each start what was open is sent again."""
        for path, text in self.open.items():
            self._waiting.write(path, text)
        if self.open:
            self._note()


def _pass_on(result: asyncio.Future[JsonValue], done: asyncio.Future[JsonValue]) -> None:
    if done.done():
        return
    if error := result.exception():
        done.set_exception(error)
    else:
        done.set_result(result.result())
