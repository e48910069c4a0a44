"""The gate: the one way through which anything in the workspace is changed, run or restored.

``effects -> policy -> approval -> checkpoint -> re-check -> apply -> record``. Whoever asks (the built-in agent,
an MCP client, an editor command, the terminal) comes through ``Gate.perform``; there is no second way.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

from codeforge_ls.actions.apply import Applier
from codeforge_ls.actions.consent import Consent, refusal
from codeforge_ls.actions.judge import judge
from codeforge_ls.actions.preview import describe
from codeforge_ls.actions.tool import Answer, CommandLine, Prepared, Rewind, ToolContext, ToolKind, clip
from codeforge_ls.model.actions import Action, Applied, Effects, Outcome
from codeforge_ls.model.approvals import Approval, Verdict
from codeforge_ls.model.base import Frozen, JsonObject
from codeforge_ls.model.errors import CodeForgeError, Conflict, Denied
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.model.policy import Decision, PolicyDecision, PolicyLayer, PolicyScope
from codeforge_ls.store import Store

log = logging.getLogger(__name__)


@dataclass
class _Passage:
    """One action on its way through the gate, and what is known of it so far."""

    action: Action
    kind: ToolKind[Frozen]
    layers: tuple[PolicyLayer, ...]
    on_output: Callable[[str], None] | None
    started: float = field(default_factory=time.monotonic)
    waited: float = 0.0  # for a person, which is no time of the action's own
    decision: PolicyDecision | None = None
    approval: Approval | None = None
    verdict: Verdict | None = None

    def draft(self, event: EventType, payload: JsonObject) -> EventDraft:
        """An event of this action, in its stream."""
        return EventDraft(
            stream=self.action.stream,
            type=event,
            payload={"call_id": self.action.call_id or self.action.id, **payload},
            actor=self.action.actor.label,
        )


class Gate:
    """Passes actions of one workspace. ``context`` is given the layers so that reads obey the same policy."""

    def __init__(
        self,
        store: Store,
        consent: Consent,
        applier: Applier,
        tools: Sequence[ToolKind[Frozen]],
        context: Callable[[Sequence[PolicyLayer]], ToolContext],
    ) -> None:
        self._store = store
        self._consent = consent
        self._applier = applier
        self._tools = {kind.tool: kind for kind in tools}
        self._context = context

    async def perform(
        self,
        action: Action,
        layers: Sequence[PolicyLayer],
        *,
        dry_run: bool = False,
        on_output: Callable[[str], None] | None = None,
    ) -> Applied:
        """Take the action through every stage and return what came of it; it raises only when cancelled.

        ``dry_run`` stops before the approval and returns the diff. ``on_output`` gets live command output.
        """
        kind = self._tools.get(action.tool)
        if kind is None:
            return Applied(outcome=Outcome.FAILED, output=f"There is no tool {action.tool.value}.")
        passage = _Passage(self._applier.executing(action, layers), kind, tuple(layers), on_output)
        await self._store.append(
            passage.draft(
                EventType.TOOLCALL_REQUESTED,
                {"tool": action.tool.value, "arguments": action.arguments, "action_id": action.id},
            )
        )
        applied = Applied(outcome=Outcome.FAILED, output="The action was cancelled.")
        try:
            applied = await self._pass(passage, dry_run=dry_run)
        except CodeForgeError as error:
            applied = self._refusal(passage, error)
        except Exception as error:
            log.exception("action %s failed", action.id)
            applied = Applied(
                outcome=Outcome.FAILED, output=f"Internal error: {type(error).__name__}. See the log."
            )
        finally:
            await asyncio.shield(asyncio.ensure_future(self._record(passage, applied)))
        return applied

    async def _pass(self, passage: _Passage, *, dry_run: bool) -> Applied:
        arguments = passage.kind.parse(passage.action.arguments)
        context = self._context(passage.layers)
        effects = passage.kind.effects(arguments, context.files)
        decision = await self._decide(passage, effects)
        if decision.decision is Decision.DENY:
            raise Denied(decision.reason)
        prepared = await passage.kind.prepare(arguments, context)
        if passage.kind.effects(arguments, context.files) != effects:
            raise Conflict("A path led elsewhere while it was read.", hint="Try again.")
        if isinstance(prepared, Answer):
            if decision.decision is Decision.ASK:
                await self._ask(passage, effects, prepared)
            note = await self._use(passage, effects)
            return Applied(
                outcome=Outcome.APPLIED,
                output=clip(note + prepared.output),
                data=prepared.data,
                decision=decision,
                approval_id=passage.approval.id if passage.approval else None,
            )
        effects = self._applier.with_base_hashes(effects, prepared)
        if dry_run:
            return Applied(
                outcome=Outcome.APPLIED, decision=decision, output=describe(passage.action, prepared).preview,
                data={"dry_run": True},
            )  # fmt: skip
        if decision.decision is Decision.ASK:
            prepared = self._applier.prepare(prepared)
            await self._ask(passage, effects, prepared)
        return await self._apply(passage, effects, prepared)

    async def _decide(self, passage: _Passage, effects: Effects) -> PolicyDecision:
        """The strictest answer of the policy on every path and the command, and who has answered an ``ask`` already."""
        action = passage.action
        decision = judge(self._applier.root, action.tool, effects, passage.layers, self._applier.sandbox)
        if decision.decision is Decision.ASK and action.actor.is_person:
            # A person who gives the order is the person who would be asked.
            decision = _answered(
                decision, PolicyScope.PERSON, f"asked for by {action.actor.label}; {decision.reason}"
            )
        elif decision.decision is Decision.ASK and (grant := await self._consent.granted(action, effects)):
            reason = f"allowed for all of {action.stream} by {grant.answered_by} ({grant.id})"
            decision = _answered(decision, PolicyScope.RUN, reason)
        passage.decision = decision
        return decision

    async def _ask(self, passage: _Passage, effects: Effects, prepared: Prepared) -> None:
        """Put the question to a person; raises ``Denied`` unless they allow it. The answer is used by ``_use``."""
        action, decision = passage.action, passage.decision
        assert decision is not None  # noqa: S101 - _decide ran before
        asked = time.monotonic()
        passage.approval, passage.verdict = await self._consent.ask(
            action, decision, passage.layers, effects, prepared
        )
        passage.waited = time.monotonic() - asked
        if denied := refusal(passage.approval):
            raise denied

    async def _use(self, passage: _Passage, effects: Effects) -> str:
        """Use the approval, if there is one, for what would be done now. Returns a note for the output, or nothing."""
        if passage.approval is None or passage.verdict is None:
            return ""
        note = await self._consent.use(passage.approval, passage.verdict, passage.action, effects)
        return f"{note}\n" if note else ""

    async def _recheck(self, passage: _Passage, effects: Effects, prepared: Prepared) -> Effects:
        """Waiting for a person takes a while: the paths must lead to the same files, these hold what they held, and
        the policy still agree. Returns the effects as they are now."""
        arguments = passage.kind.parse(passage.action.arguments)
        now = passage.kind.effects(arguments, self._context(passage.layers).files)
        if [(e.path, e.real) for e in now.paths] != [(e.path, e.real) for e in effects.paths]:
            raise Conflict(
                "A path leads elsewhere since this was proposed; nothing was done.", hint="Propose it again."
            )
        if judge(
            self._applier.root, passage.action.tool, now, passage.layers, self._applier.sandbox
        ).decision is Decision.DENY:  # fmt: skip
            raise Denied("The policy forbids this now.", hint="`codeforge policy explain` says why.")
        return await self._applier.with_present_hashes(now, prepared)

    async def _apply(self, passage: _Passage, effects: Effects, prepared: Prepared) -> Applied:
        async with self._applier.exclusive():
            now = await self._recheck(passage, effects, prepared)
            note = await self._use(passage, now)
            await self._store.append(
                passage.draft(
                    EventType.TOOLCALL_APPROVED,
                    {
                        "decision": passage.decision.model_dump(mode="json") if passage.decision else None,
                        "approval_id": passage.approval.id if passage.approval else None,
                    },
                )
            )
            if isinstance(prepared, CommandLine):
                applied = await self._applier.run(passage.action, prepared, passage.layers, passage.on_output)
            elif isinstance(prepared, Rewind):
                applied = await self._applier.rewind(passage.action, prepared)
            elif isinstance(prepared, Answer):
                raise Conflict("An answer has nothing to apply.")
            else:
                applied = await self._applier.change(passage.action, prepared)
        return applied.model_copy(
            update={
                "output": note + applied.output,
                "decision": passage.decision,
                "approval_id": passage.approval.id if passage.approval else None,
            }
        )

    def _refusal(self, passage: _Passage, error: CodeForgeError) -> Applied:
        outcome = {Denied.code: Outcome.DENIED, Conflict.code: Outcome.CONFLICT}.get(
            error.code, Outcome.FAILED
        )
        return Applied(
            outcome=outcome,
            output=error.text,
            data={"error": error.as_json()},
            decision=passage.decision,
            approval_id=passage.approval.id if passage.approval else None,
        )

    async def _record(self, passage: _Passage, applied: Applied) -> None:
        """Write down the end, and the decision with it however it ended. A refusal is its own event before that."""
        applied = applied.model_copy(update={"decision": passage.decision})
        drafts = []
        if applied.outcome is Outcome.DENIED:
            decision = applied.decision.model_dump(mode="json") if applied.decision else None
            drafts.append(
                passage.draft(EventType.TOOLCALL_DENIED, {"decision": decision, "reason": applied.output})
            )
        duration = round(time.monotonic() - passage.started - passage.waited, 4)
        drafts.append(
            passage.draft(
                EventType.TOOLCALL_RESULT, {"applied": applied.model_dump(mode="json"), "duration": duration}
            )
        )
        await self._store.append(*drafts)


def _answered(decision: PolicyDecision, scope: PolicyScope, reason: str) -> PolicyDecision:
    """An ``ask`` that needs no question any more."""
    return decision.model_copy(update={"decision": Decision.ALLOW, "scope": scope, "reason": reason})
