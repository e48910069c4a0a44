"""Consent to one action: what the question says and offers, whether an earlier answer covers it, and its single use."""

from __future__ import annotations

import contextlib
import logging
import time
from collections.abc import Callable, Sequence

from codeforge_ls.actions.preview import describe
from codeforge_ls.actions.tool import Prepared
from codeforge_ls.approvals.broker import NO_CLIENT, TIMEOUT, Broker
from codeforge_ls.approvals.grants import Grants, covers
from codeforge_ls.logs import request_id
from codeforge_ls.model.actions import Action, Effects, Tool, action_hash
from codeforge_ls.model.approvals import Approval, ApprovalState, Verdict
from codeforge_ls.model.base import new_id
from codeforge_ls.model.errors import CodeForgeError, Conflict, Denied
from codeforge_ls.model.policy import ActionClass, PolicyDecision, PolicyLayer, PolicyScope
from codeforge_ls.policy.writer import PolicyWriter
from codeforge_ls.store import Store

log = logging.getLogger(__name__)

UNANSWERED = "unanswered"  # in the ``data`` of the error: nobody answered in time
NOT_FOR_GOOD = (PolicyScope.MANAGED, PolicyScope.RUN)  # whose questions no standing answer settles
CLASSES = {
    Tool.EDIT: ActionClass.EDIT,
    Tool.MULTI_EDIT: ActionClass.EDIT,
    Tool.WRITE: ActionClass.EDIT,
    Tool.BASH: ActionClass.COMMAND,
    Tool.RESTORE: ActionClass.RESTORE,
}


class Consent:
    """Asks people on behalf of the gate. ``revision`` is the digest of all policies, ``seconds`` the time to answer."""

    def __init__(
        self,
        store: Store,
        broker: Broker,
        standing: PolicyWriter,
        revision: Callable[[], str],
        seconds: Callable[[], float],
    ) -> None:
        self._broker, self._standing, self._revision, self._seconds = broker, standing, revision, seconds
        self._grants = Grants(store)

    async def granted(self, action: Action, effects: Effects) -> Approval | None:
        """The answer for the rest of this run or session that covers this action, if there is one."""
        paths = [effect.path for effect in effects.paths]
        return await self._grants.covering(action.stream, action.tool.value, paths, effects.command)

    async def ask(
        self,
        action: Action,
        decision: PolicyDecision,
        layers: Sequence[PolicyLayer],
        effects: Effects,
        prepared: Prepared,
    ) -> tuple[Approval, Verdict]:
        """Put the question and wait. The approval is denied or allowed, and then still to be used."""
        shown, now = describe(action, prepared), time.time()
        paths = tuple(effect.path for effect in effects.paths)
        return await self._broker.request(
            Approval(
                id=new_id("approval"),
                action_hash=action_hash(action.actor, action.tool, action.arguments, effects),
                tool=action.tool.value,
                title=shown.title,
                preview=shown.preview,
                paths=paths,
                base_hashes={effect.path: effect.base_hash for effect in effects.paths},
                policy_revision=self._revision(),
                command=effects.command,
                offers=self._offers(action, decision, paths, effects.command),
                elicitable=elicitable(layers, action.tool),
                actor=action.actor.label,
                stream=action.stream,
                decision=decision,
                request_id=request_id.get(),
                created_at=now,
                expires_at=now + self._seconds(),
            )
        )

    async def use(self, approval: Approval, verdict: Verdict, action: Action, effects: Effects) -> str:
        """Use the approval for the action as it would be carried out now, and remember what is to be remembered.

        Returns what could not be remembered, in words. Raises ``Denied`` for another action, policy or a second use.
        """
        digest = action_hash(action.actor, action.tool, action.arguments, effects)
        await self._broker.consume(approval, digest, self._revision())
        if verdict in (Verdict.ALLOW_RUN, Verdict.ALLOW_ALWAYS):
            self._grants.add(approval)
        if verdict is not Verdict.ALLOW_ALWAYS:
            return ""
        try:
            await self._standing.allow_always(approval, approval.answered_by)
        except CodeForgeError as error:
            log.warning("%s was allowed always, but that could not be kept: %s", approval.id, error.text)
            return f"Allowed, but not kept for later: {error.text}"
        await self._answer_alike(approval)
        return ""

    async def _answer_alike(self, always: Approval) -> None:
        """Other open questions about just that are answered by the same word, where it could have been said to them."""
        for other in self._broker.open():
            if other.decision.scope in NOT_FOR_GOOD or Verdict.ALLOW_ALWAYS not in other.offers:
                continue
            if covers(always, other.tool, other.paths, other.command):
                by = f"{always.answered_by} (always: {always.id})"
                with contextlib.suppress(Conflict):  # somebody was faster
                    await self._broker.answer(other.id, Verdict.ALLOW_ONCE, by)

    def _offers(
        self, action: Action, decision: PolicyDecision, paths: Sequence[str], command: str | None
    ) -> tuple[Verdict, ...]:
        """What may be answered. What the machine's administrator wants asked is asked each time."""
        offers = [Verdict.ALLOW_ONCE]
        names_it = bool(paths) or command is not None
        if names_it and action.tool is not Tool.RESTORE and decision.scope is not PolicyScope.MANAGED:
            offers.append(Verdict.ALLOW_RUN)
            narrow = self._standing.can_allow_always(action.tool.value, paths, command)
            if narrow and decision.scope not in NOT_FOR_GOOD:
                offers.append(Verdict.ALLOW_ALWAYS)
        return (*offers, Verdict.DENY)


def elicitable(layers: Sequence[PolicyLayer], tool: Tool) -> bool:
    """Whether every layer that speaks of it lets a foreign agent's own client answer for this class of actions, and
    one of them is not the project's, which may only tighten."""
    stated = [
        (layer.scope, layer.profile.elicitation_may_approve)
        for layer in layers
        if layer.profile.elicitation_may_approve is not None
    ]
    return any(scope is not PolicyScope.PROJECT for scope, _ in stated) and all(
        CLASSES.get(tool) in (classes or ()) for _, classes in stated
    )


def refusal(approval: Approval) -> Denied | None:
    """Why the action may not go on, in words for whoever wanted it; None when it was allowed."""
    if approval.state is ApprovalState.ALLOWED:
        return None
    if approval.answered_by.startswith(TIMEOUT):
        return Denied(
            f"Nobody answered in time, so it counts as denied ({approval.answered_by}).",
            hint="Go on with what needs no approval, or finish and say what is left.",
            data={UNANSWERED: True},
        )
    if approval.answered_by.startswith(NO_CLIENT):
        return Denied(
            f"Not approved ({approval.answered_by}).",
            hint="Attach an editor, or pick a policy profile that allows it.",
        )
    return Denied(
        f"Not approved ({approval.answered_by}).",
        hint="Do not retry the same action; ask the person what they want instead.",
    )
