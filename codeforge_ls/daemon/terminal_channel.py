"""The terminal as a way to reach a person: puts questions there, takes them back when they are settled."""

from __future__ import annotations

import asyncio
import contextlib
import logging
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING

from codeforge_ls.model.actions import ActorKind
from codeforge_ls.model.approvals import Approval, Verdict
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import NotFound

if TYPE_CHECKING:
    from codeforge_ls.store import Store

log = logging.getLogger(__name__)


class TerminalChannel:
    """An ``ApprovalChannel`` over a terminal's session.

    With ``mine_only`` it answers for runs and plans that its own session started and dismisses all others: a
    terminal that watches one run, maybe with ``--yes``, must not speak for another. ``agent`` names the agent
    that the terminal turns out to belong to, if any: then nobody is there who could be asked.
    """

    kind = ActorKind.CLI

    def __init__(
        self,
        name: str,
        store: Store,
        send: Callable[[JsonObject], Awaitable[None]],
        agent: Callable[[], str],
        *,
        mine_only: bool,
    ) -> None:
        self.name = name
        self.starting = asyncio.Lock()
        self._store, self._send, self._agent, self._mine_only = store, send, agent, mine_only
        self._runs: set[str] = set()
        self._plans: set[str] = set()
        self._open: dict[str, asyncio.Future[Verdict]] = {}

    def adopt(self, started: JsonObject) -> None:
        """Remember what an operation of this session started."""
        for key, known in (("run_id", self._runs), ("plan_id", self._plans)):
            if isinstance(started.get(key), str):
                known.add(str(started[key]))

    def may_ask(self, approval: Approval) -> bool:  # noqa: ARG002 - the protocol's signature
        """Whose question it is, is looked up by ``ask``."""
        return True

    async def ask(self, approval: Approval) -> Verdict:
        """Put the question to the terminal and wait; the broker cancels this when it is settled elsewhere."""
        async with self.starting:
            mine = not self._mine_only or await self._is_mine(approval)
        if not mine or self._agent():
            return Verdict.DISMISSED
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._open[approval.id] = answer
        try:
            await self._send({"ask": approval.model_dump(mode="json")})
            return await answer
        except asyncio.CancelledError:
            with contextlib.suppress(ConnectionError):
                await self._send({"withdraw": approval.id})
            raise
        finally:
            del self._open[approval.id]

    def answered(self, answer: dict[str, JsonValue]) -> None:
        """The person said something. What is no known verdict counts as dismissed."""
        waiting = self._open.get(str(answer.get("approval_id")))
        if waiting is None or waiting.done():
            return
        if agent := self._agent():
            log.warning("%s answered an approval, but it belongs to %s: dismissed", self.name, agent)
            waiting.set_result(Verdict.DISMISSED)
            return
        try:
            waiting.set_result(Verdict(str(answer.get("verdict"))))
        except ValueError:
            waiting.set_result(Verdict.DISMISSED)

    async def _is_mine(self, approval: Approval) -> bool:
        kind, _, name = approval.stream.partition(":")
        if kind != "run":
            return False
        if name in self._runs:
            return True
        try:
            run = await self._store.run(name)
        except NotFound:
            return False
        return run.plan_id is not None and run.plan_id in self._plans
