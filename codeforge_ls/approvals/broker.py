"""The approvals broker: every question is put to all attached people at once, answered once, used once.

An editor comes before the client of a foreign agent: that one is asked only while no editor is attached, and only
what the policy lets it answer. No channel, a dismissed prompt, an error or the time-out mean deny. An approval is
bound to the hash of exactly one action and is consumed before that action is applied.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

from codeforge_ls.model.actions import ActorKind
from codeforge_ls.model.approvals import Approval, ApprovalState, Verdict
from codeforge_ls.model.errors import Conflict, Denied, InvalidInput
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.store import Store

USE_SECONDS = 600.0  # that an answered question may wait to be used: commands before it, a tree at work
NO_CLIENT, TIMEOUT = "no client", "timeout"  # how ``answered_by`` begins when nobody did
AGAIN = "Propose it again."
ENDED = "no client: the daemon ended before somebody answered"

log = logging.getLogger(__name__)


class ApprovalChannel(Protocol):
    """A way to reach a person: an editor's prompt, a terminal, or the client of a foreign agent.

    ``ask`` is cancelled when the question was answered elsewhere, timed out or was withdrawn.
    An exception counts as dismissed.
    """

    @property
    def name(self) -> str:
        """What is recorded as ``answered_by``, such as ``editor:Neovim``."""
        ...

    @property
    def kind(self) -> ActorKind:
        """Through which door this person is reached."""
        ...

    def may_ask(self, approval: Approval) -> bool:
        """Whether this question can be put there at all."""
        ...

    async def ask(self, approval: Approval) -> Verdict:
        """Put the question and wait for the answer."""
        ...


@dataclass
class _Open:
    """A question that waits: its future gets the verdict and who gave it."""

    approval: Approval
    answer: asyncio.Future[tuple[Verdict, str]]
    asking: dict[ApprovalChannel, asyncio.Task[None]] = field(default_factory=dict)
    asked: set[ApprovalChannel] = field(default_factory=set)
    recorded: asyncio.Event = field(default_factory=asyncio.Event)


class Broker:
    """Holds the open questions of one workspace. ``timeout`` gives the seconds a question waits."""

    def __init__(self, store: Store, timeout: Callable[[], float]) -> None:
        self._store = store
        self._timeout = timeout
        self._channels: list[ApprovalChannel] = []
        self._open: dict[str, _Open] = {}

    def attach(self, channel: ApprovalChannel) -> Callable[[], None]:
        """Add a channel; questions that are open now are put to it too. Returns a function that detaches it."""
        self._channels.append(channel)
        for question in self._open.values():
            self._put(question)

        def detach() -> None:
            with contextlib.suppress(ValueError):
                self._channels.remove(channel)
            for question in self._open.values():
                if task := question.asking.pop(channel, None):
                    task.cancel()
                    self._put(question)  # without the last editor, the next in order
                self._settle_if_nobody_is_left(question)

        return detach

    def reaches(self, kind: ActorKind) -> bool:
        """Whether a person is attached through such a door."""
        return any(channel.kind is kind for channel in self._channels)

    async def reconcile(self) -> None:
        """At start-up: what a dead daemon left unanswered counts as denied."""
        for approval in await self._store.approvals(ApprovalState.PENDING, limit=5000):
            await self._record(approval, Verdict.DENY, ENDED)

    async def request(self, approval: Approval) -> tuple[Approval, Verdict]:
        """Ask, wait, and return the approval as answered, ``allowed`` or ``denied`` with the reason, and the words."""
        await self._store.append(
            EventDraft(
                stream=approval.stream,
                type=EventType.APPROVAL_REQUESTED,
                payload={"approval": approval.model_dump(mode="json")},
                actor=approval.actor,
            )
        )
        question = _Open(approval, asyncio.get_running_loop().create_future())
        self._open[approval.id] = question
        self._put(question)
        self._settle_if_nobody_is_left(question)
        verdict, by = Verdict.DENY, "withdrawn: the request was cancelled"
        try:
            async with asyncio.timeout(max(0.0, approval.expires_at - time.time())):
                verdict, by = await asyncio.shield(question.answer)
        except TimeoutError:
            verdict, by = Verdict.DENY, f"{TIMEOUT}: nobody answered within {self._timeout():g} s"
        finally:
            self._open.pop(approval.id, None)
            for task in question.asking.values():
                task.cancel()
            answered = asyncio.ensure_future(self._record(approval, verdict, by))
            answered.add_done_callback(lambda _: question.recorded.set())
            await asyncio.shield(answered)
        return answered.result(), verdict

    async def answer(self, approval_id: str, verdict: Verdict, by: str) -> Approval:
        """Answer a question from anywhere. Raises ``NotFound``, ``Conflict`` when it is answered already, or
        ``InvalidInput`` for what it does not offer."""
        question = self._open.get(approval_id)
        if question is None or question.answer.done():
            known = await self._store.approval(approval_id)
            raise Conflict(
                f"Approval {approval_id} is {known.state.value} already (by {known.answered_by or 'nobody'}).",
                hint="`codeforge approvals` lists the open ones.",
            )
        if verdict not in question.approval.offers:
            raise InvalidInput(
                f"This question cannot be answered with {verdict.value}.",
                hint=f"It takes: {', '.join(question.approval.offers)}.",
                data={"field": "verdict"},
            )
        question.answer.set_result((verdict, by))
        await question.recorded.wait()
        return await self._store.approval(approval_id)

    async def consume(self, approval: Approval, action_hash: str, policy_revision: str) -> None:
        """Use it up. Raises ``Denied`` unless it is allowed, unused, fresh, and made for exactly this action under
        exactly these policies. The store changes ``allowed`` to ``consumed`` or refuses: two cannot both succeed."""
        if approval.action_hash != action_hash:
            raise Denied("The action changed after it was approved; nothing was done.", hint=AGAIN)
        if approval.policy_revision != policy_revision:
            raise Denied("The policy changed after this was approved; nothing was done.", hint=AGAIN)
        if time.time() > approval.expires_at + USE_SECONDS:
            raise Denied("The approval is too old to be used; nothing was done.", hint=AGAIN)
        try:
            await self._store.append(
                EventDraft(
                    stream=approval.stream,
                    type=EventType.APPROVAL_CONSUMED,
                    payload={"approval_id": approval.id},
                    actor=approval.actor,
                )
            )
        except Conflict as used:
            raise Denied(f"Approval {approval.id} was not given, or was used already.", hint=AGAIN) from used

    def open(self) -> list[Approval]:
        """The questions that wait now, oldest first."""
        return [question.approval for question in self._open.values()]

    def _put(self, question: _Open) -> None:
        """Ask whoever is in turn and not asked yet."""
        beside_editor = self.reaches(ActorKind.EDITOR)
        for channel in self._channels:
            foreign = channel.kind is ActorKind.MCP
            if channel in question.asked or not channel.may_ask(question.approval):
                continue
            if foreign and (beside_editor or not question.approval.elicitable):
                continue
            question.asked.add(channel)
            question.asking[channel] = asyncio.create_task(self._ask(question, channel))

    async def _ask(self, question: _Open, channel: ApprovalChannel) -> None:
        verdict = Verdict.DISMISSED
        try:
            verdict = await channel.ask(question.approval)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("approval channel %s failed", channel.name)
        if not self._counts(question, channel, verdict):
            question.asking.pop(channel, None)
            self._settle_if_nobody_is_left(question, f"dismissed: {channel.name}")
        elif not question.answer.done():
            question.answer.set_result((verdict, channel.name))

    def _counts(self, question: _Open, channel: ApprovalChannel, verdict: Verdict) -> bool:
        """Whether that is an answer. A foreign agent's client cannot say more than once or no, nor anything while an
        editor is attached."""
        if channel.kind is ActorKind.MCP and (
            verdict not in (Verdict.ALLOW_ONCE, Verdict.DENY) or self.reaches(ActorKind.EDITOR)
        ):
            return False
        return verdict in question.approval.offers

    def _settle_if_nobody_is_left(
        self, question: _Open, by: str = f"{NO_CLIENT}: nobody is there to ask"
    ) -> None:
        if not question.asking and not question.answer.done():
            question.answer.set_result((Verdict.DENY, by))

    async def _record(self, approval: Approval, verdict: Verdict, by: str) -> Approval:
        state = ApprovalState.ALLOWED if verdict.allows else ApprovalState.DENIED
        await self._store.append(
            EventDraft(
                stream=approval.stream,
                type=EventType.APPROVAL_ANSWERED,
                payload={
                    "approval_id": approval.id,
                    "state": state.value,
                    "answered_by": by,
                    "verdict": verdict.value,
                },
                actor=by,
            )
        )
        return approval.model_copy(update={"state": state, "answered_by": by, "answered_at": time.time()})
