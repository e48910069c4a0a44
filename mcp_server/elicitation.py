"""Questions put through the client of a foreign agent (MCP elicitation), in either protocol era.

Until 2025 the server asks in the middle of the call. From 2026 on it answers the call with ``input_required``: the
client asks its person and calls again with the answer; meanwhile the operation is parked here. Which questions may
be put this way, and what an answer is worth, decides the broker: the answer proves no person.
"""

from __future__ import annotations

import asyncio
import hashlib
import json
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from mcp.types import (
    ElicitRequest,
    ElicitRequestFormParams,
    ElicitResult,
    InputRequiredResult,
    RequestId,
)

from codeforge_ls import redaction
from codeforge_ls.model.actions import Actor, ActorKind
from codeforge_ls.model.approvals import Approval, Verdict
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import Conflict

if TYPE_CHECKING:
    from mcp.server.session import ServerSession

    from mcp_server.calls import ToolCallContext

FIRST_WITH_RETRIES = "2026-07-28"  # the protocol version from which on a question is a result
MAX_PARKED = 32
MESSAGE_CHARS = 4000
ANSWERS = {"allow once": Verdict.ALLOW_ONCE, "deny": Verdict.DENY}
# No default, so that an answer nobody chose is none.
FORM: dict[str, Any] = {
    "type": "object",
    "properties": {
        "decision": {
            "type": "string",
            "title": "Decision",
            "description": "May this be done, once?",
            "enum": list(ANSWERS),
        }
    },
    "required": ["decision"],
}

log = logging.getLogger(__name__)


class CallQuestions:
    """The person behind one call of a client (``approvals.broker.ApprovalChannel``).

    ``asked`` is set when a question waits that the client must be given as the result of its call.
    """

    kind = ActorKind.MCP

    def __init__(self, context: ToolCallContext, request: str, client: str) -> None:
        self.name = f"elicitation:{client}"
        self.asked = asyncio.Event()
        self.context, self._request = context, request
        self._asking = 0
        self._on_settled: list[Callable[[], None]] = []
        self._waiting: tuple[Approval, asyncio.Future[Verdict]] | None = None

    def may_ask(self, approval: Approval) -> bool:
        """Only what this very call has raised."""
        return bool(approval.request_id) and approval.request_id == self._request

    @property
    def question(self) -> Approval | None:
        """What waits for the client's next call."""
        return self._waiting[0] if self._waiting and not self._waiting[1].done() else None

    async def ask(self, approval: Approval) -> Verdict:
        """Put the question and wait. Anything but one of the words on offer counts as dismissed."""
        self._asking += 1
        try:
            return await self._ask(approval)
        finally:
            self._asking -= 1
            if not self._asking:  # soon: whoever asked is to see the answer first
                while self._on_settled:
                    asyncio.get_running_loop().call_soon(self._on_settled.pop())

    def when_settled(self, callback: Callable[[], None]) -> None:
        """Call back once no question waits any more; now, if none does."""
        if self._asking:
            self._on_settled.append(callback)
        else:
            callback()

    async def _ask(self, approval: Approval) -> Verdict:
        if self.context.session.protocol_version >= FIRST_WITH_RETRIES:
            answer: asyncio.Future[Verdict] = asyncio.get_running_loop().create_future()
            self._waiting = (approval, answer)
            self.asked.set()
            return await answer
        return await put_form(self.context.session, approval, self.context.request_id)

    def answered(self, approval_id: str, responses: Mapping[str, object] | None) -> None:
        """The client called again. What it says of another question, or not at all, counts as dismissed."""
        if self._waiting is None or self._waiting[1].done():
            return
        mine = self._waiting[0].id == approval_id
        self._waiting[1].set_result(verdict_for(approval_id, responses) if mine else Verdict.DISMISSED)


@dataclass
class Parked:
    """An operation whose client may be sent away to ask its person, and come back with the answer."""

    call: str
    actor: Actor
    questions: CallQuestions
    task: asyncio.Task[JsonObject] | None = None
    detach: Callable[[], None] | None = None

    @property
    def is_over(self) -> bool:
        """Whether the operation is to be called: not yet, or again because it only said that it waits."""
        return self.task is None or self.task.done()

    @property
    def is_attached(self) -> bool:
        """Whether its questions reach the client's person."""
        return self.detach is not None

    def give_up(self) -> None:
        """Nobody comes back."""
        if self.task is not None:
            self.task.cancel()
        if self.detach is not None:
            self.detach()


class ParkedCalls:
    """Those of one connection, by the question that each waits for. Each is resumed once."""

    def __init__(self) -> None:
        self._parked: dict[str, Parked] = {}

    def park(self, parked: Parked) -> InputRequiredResult:
        """Keep the operation, and the result that makes the client ask. Without room the oldest is given up."""
        question = parked.questions.question
        assert question is not None  # noqa: S101 - the caller has just seen it
        while len(self._parked) >= MAX_PARKED:
            self._parked.pop(next(iter(self._parked))).give_up()
        self._parked[question.id] = parked
        parked.questions.when_settled(lambda: self._forget(question.id))
        return asks(question)

    def asked_already(self, call: str) -> InputRequiredResult | None:
        """The question that the same call raised before and that still waits: it is not asked a second time."""
        for parked in self._parked.values():
            if parked.call == call and (question := parked.questions.question) is not None:
                return asks(question)
        return None

    def resume(self, state: str, call: str, responses: Mapping[str, object] | None) -> Parked:
        """The operation that waits for this answer, which it has been given. Raises ``Conflict`` for an answer that
        came before, came too late, or belongs to another call; then nothing is done."""
        parked = self._parked.get(state)
        if parked is None or parked.call != call:
            raise refuse_answer()
        del self._parked[state]
        parked.questions.answered(state, responses)
        return parked

    def _forget(self, question: str) -> None:
        self._parked.pop(question, None)

    def end(self) -> None:
        """The client has left: what waits for it is over."""
        for parked in list(self._parked.values()):
            parked.give_up()


def fingerprint(operation: str, arguments: JsonObject) -> str:
    """What is called: an answer belongs to exactly this."""
    text = json.dumps([operation, arguments], sort_keys=True)
    return hashlib.blake2b(text.encode(errors="surrogatepass"), digest_size=16).hexdigest()


def can_ask_its_person(context: ToolCallContext) -> bool:
    """Whether the client says that it can put a form to its person."""
    capabilities = context.client_capabilities
    elicitation = capabilities.elicitation if capabilities else None
    return elicitation is not None and (elicitation.form is not None or elicitation.url is None)


def refuse_answer() -> Conflict:
    """What a client is told whose answer belongs to no question that waits for this call."""
    return Conflict(
        "This question was answered already, was withdrawn, or belongs to another call.",
        hint="Call again without the answer to be asked anew.",
    )


async def put_form(session: ServerSession, approval: Approval, call: RequestId | None = None) -> Verdict:
    """Ask in the protocol until 2025, in the middle of a call or beside all of them."""
    return _verdict(await session.elicit_form(_message(approval), FORM, related_request_id=call))


def asks(question: Approval) -> InputRequiredResult:
    """The result that makes a client ask and call again, from 2026 on."""
    form = ElicitRequestFormParams(message=_message(question), requested_schema=FORM)
    return InputRequiredResult(
        input_requests={question.id: ElicitRequest(params=form)}, request_state=question.id
    )


def verdict_for(approval_id: str, responses: Mapping[str, object] | None) -> Verdict:
    """What a repeated call says to this question; of another one, or nothing, counts as dismissed."""
    return _verdict((responses or {}).get(approval_id))


def _verdict(said: object) -> Verdict:
    if not isinstance(said, ElicitResult):
        return Verdict.DISMISSED
    if said.action == "decline":
        return Verdict.DENY
    decision = (said.content or {}).get("decision") if said.action == "accept" else None
    return ANSWERS.get(decision, Verdict.DISMISSED) if isinstance(decision, str) else Verdict.DISMISSED


def _message(approval: Approval) -> str:
    shown = approval.command if approval.command is not None else approval.preview
    parts = [
        f"CodeForge: {approval.title}",
        f"Asked because: {approval.why}",
        shown.rstrip("\n"),
        f"[{approval.id}]",
    ]
    text = redaction.hide("\n".join(part for part in parts if part))
    cut = (
        text
        if len(text) <= MESSAGE_CHARS
        else f"{text[:MESSAGE_CHARS]}\n… cut; `codeforge approvals` shows all"
    )
    return "".join(c if c.isprintable() or c in "\n\t" else f"\\u{ord(c):04x}" for c in cut)
