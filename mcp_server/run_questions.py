"""Questions of the runs that a client has started, put through that client for as long as it is connected.

Until 2025 the client is asked by a request beside its calls, at once. From 2026 on a server cannot begin: the question
is the answer to the client's next ``get_run`` of that run, which it repeats with what its person said.
"""

from __future__ import annotations

import asyncio
from collections.abc import Mapping

from mcp.server.session import ServerSession
from mcp.types import InputRequiredResult

from codeforge_ls.model.actions import ActorKind
from codeforge_ls.model.approvals import Approval, Verdict
from mcp_server.elicitation import (
    FIRST_WITH_RETRIES,
    asks,
    put_form,
    refuse_answer,
    verdict_for,
)


class RunQuestions:
    """The person behind one connection (``approvals.broker.ApprovalChannel``)."""

    kind = ActorKind.MCP

    def __init__(self, session: ServerSession, client: str) -> None:
        self.name = f"elicitation:{client}"
        self._session = session
        self._starts: set[str] = set()
        self._waiting: dict[str, tuple[Approval, asyncio.Future[Verdict]]] = {}

    def started_by(self, request: str) -> None:
        """What a run wants that this request starts is asked here. To be said before the run can want anything."""
        self._starts.add(request)

    def may_ask(self, approval: Approval) -> bool:
        """Only what those runs want, until somebody else resumes them."""
        return approval.request_id in self._starts

    async def ask(self, approval: Approval) -> Verdict:
        """Put the question and wait. Anything but one of the words on offer counts as dismissed."""
        if self._session.protocol_version < FIRST_WITH_RETRIES:
            return await put_form(self._session, approval)
        answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
        self._waiting[approval.id] = (approval, answer)
        try:
            return await answer
        finally:
            del self._waiting[approval.id]

    def asked_by(self, run_id: str) -> InputRequiredResult | None:
        """The question of this run that waits for the client's next call, as the answer to it."""
        for approval, answer in self._waiting.values():
            if approval.stream == f"run:{run_id}" and not answer.done():
                return asks(approval)
        return None

    def answered(self, run_id: str, state: str, responses: Mapping[str, object] | None) -> None:
        """The client called again. Raises ``Conflict`` for an answer that came before, came too late, or belongs to
        another run."""
        approval, answer = self._waiting.get(state, (None, None))
        if approval is None or answer is None or answer.done() or approval.stream != f"run:{run_id}":
            raise refuse_answer()
        answer.set_result(verdict_for(approval.id, responses))
