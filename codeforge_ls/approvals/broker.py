"""The approvals broker: every question is put to all attached people at once, answered once, used once.

No channel, a dismissed prompt, an error or the time-out mean deny. An approval is bound to the hash of exactly
one action and is consumed before that action is applied.
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
from codeforge_ls.model.errors import Conflict, Denied
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.store import Store

log = logging.getLogger(__name__)


class ApprovalChannel(Protocol):
    """A way to reach a person: an editor's prompt or a terminal.

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

    async def ask(self, approval: Approval) -> Verdict:
        """Put the question and wait for the answer."""
        ...


@dataclass
class _Open:
    """A question that waits: its future gets the verdict and who gave it."""

    approval: Approval
    answer: asyncio.Future[tuple[Verdict, str]]
    asking: dict[ApprovalChannel, asyncio.Task[None]] = field(default_factory=dict)
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
            self._put(question, channel)

        def detach() -> None:
            with contextlib.suppress(ValueError):
                self._channels.remove(channel)
            for question in self._open.values():
                if task := question.asking.pop(channel, None):
                    task.cancel()
                self._settle_if_nobody_is_left(question)

        return detach

    def reaches(self, kind: ActorKind) -> bool:
        """Whether a person is attached through such a door."""
        return any(channel.kind is kind for channel in self._channels)

    async def request(self, approval: Approval) -> Approval:
        """Ask, wait, and return the approval as answered: ``allowed`` or ``denied`` with the reason."""
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
        for channel in self._channels:
            self._put(question, channel)
        self._settle_if_nobody_is_left(question)
        verdict, by = Verdict.DENY, "withdrawn: the request was cancelled"
        try:
            async with asyncio.timeout(max(0.0, approval.expires_at - time.time())):
                verdict, by = await asyncio.shield(question.answer)
        except TimeoutError:
            verdict, by = Verdict.DENY, f"timeout: nobody answered within {self._timeout():g} s"
        finally:
            self._open.pop(approval.id, None)
            for task in question.asking.values():
                task.cancel()
            answered = asyncio.ensure_future(self._record(approval, verdict, by))
            answered.add_done_callback(lambda _: question.recorded.set())
            await asyncio.shield(answered)
        return answered.result()

    async def answer(self, approval_id: str, verdict: Verdict, by: str) -> Approval:
        """Answer a question from anywhere. Raises ``NotFound``, or ``Conflict`` when it is answered already."""
        question = self._open.get(approval_id)
        if question is None or question.answer.done():
            known = await self._store.approval(approval_id)
            raise Conflict(
                f"Approval {approval_id} is {known.state.value} already (by {known.answered_by or 'nobody'}).",
                hint="`codeforge approvals` lists the open ones.",
            )
        question.answer.set_result((verdict, by))
        await question.recorded.wait()
        return await self._store.approval(approval_id)

    async def consume(self, approval: Approval, action_hash: str) -> None:
        """Use it up. Raises ``Denied`` unless it is allowed, unused and made for exactly this action."""
        if approval.action_hash != action_hash:
            raise Denied("The action changed after it was approved.", hint="Propose it again.")
        current = await self._store.approval(approval.id)
        if current.state is not ApprovalState.ALLOWED:
            raise Denied(f"Approval {approval.id} is {current.state.value}; an approval is used once.")
        await self._store.append(
            EventDraft(
                stream=approval.stream,
                type=EventType.APPROVAL_CONSUMED,
                payload={"approval_id": approval.id},
                actor=approval.actor,
            )
        )

    def open(self) -> list[Approval]:
        """The questions that wait now, oldest first."""
        return [question.approval for question in self._open.values()]

    def _put(self, question: _Open, channel: ApprovalChannel) -> None:
        question.asking[channel] = asyncio.create_task(self._ask(question, channel))

    async def _ask(self, question: _Open, channel: ApprovalChannel) -> None:
        verdict = Verdict.DISMISSED
        try:
            verdict = await channel.ask(question.approval)
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("approval channel %s failed", channel.name)
        if verdict is Verdict.DISMISSED:
            question.asking.pop(channel, None)
            self._settle_if_nobody_is_left(question, f"dismissed: {channel.name}")
        elif not question.answer.done():
            question.answer.set_result((verdict, channel.name))

    def _settle_if_nobody_is_left(
        self, question: _Open, by: str = "no client: nobody is there to ask"
    ) -> None:
        if not question.asking and not question.answer.done():
            question.answer.set_result((Verdict.DENY, by))

    async def _record(self, approval: Approval, verdict: Verdict, by: str) -> Approval:
        state = ApprovalState.ALLOWED if verdict is Verdict.ALLOW_ONCE else ApprovalState.DENIED
        await self._store.append(
            EventDraft(
                stream=approval.stream,
                type=EventType.APPROVAL_ANSWERED,
                payload={"approval_id": approval.id, "state": state.value, "answered_by": by},
                actor=by,
            )
        )
        return approval.model_copy(update={"state": state, "answered_by": by, "answered_at": time.time()})
