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
from codeforge_ls.actions.judge import judge
from codeforge_ls.actions.preview import describe
from codeforge_ls.actions.tool import Answer, CommandLine, Prepared, Rewind, ToolContext, ToolKind, clip
from codeforge_ls.approvals.broker import Broker
from codeforge_ls.model.actions import Action, Applied, Effects, Outcome, action_hash
from codeforge_ls.model.approvals import Approval, ApprovalState
from codeforge_ls.model.base import Frozen, JsonObject, new_id
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
    decision: PolicyDecision | None = None
    approval: Approval | None = None

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
        broker: Broker,
        applier: Applier,
        tools: Sequence[ToolKind[Frozen]],
        context: Callable[[Sequence[PolicyLayer]], ToolContext],
        approval_seconds: Callable[[], float],
    ) -> None:
        self._store = store
        self._broker = broker
        self._applier = applier
        self._tools = {kind.tool: kind for kind in tools}
        self._context = context
        self._approval_seconds = approval_seconds

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
        passage = _Passage(action, kind, tuple(layers), on_output)
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
        decision = self._decide(passage, effects)
        if decision.decision is Decision.DENY:
            raise Denied(decision.reason)
        prepared = await passage.kind.prepare(arguments, context)
        if passage.kind.effects(arguments, context.files) != effects:
            raise Conflict("A path led elsewhere while it was read.", hint="Try again.")
        if isinstance(prepared, Answer):
            if decision.decision is Decision.ASK:
                await self._ask(passage, effects, prepared)
            return Applied(
                outcome=Outcome.APPLIED, output=clip(prepared.output), data=prepared.data, decision=decision
            )
        effects = self._applier.with_base_hashes(effects, prepared)
        if dry_run:
            return Applied(
                outcome=Outcome.APPLIED, decision=decision, output=describe(passage.action, prepared).preview,
                data={"dry_run": True},
            )  # fmt: skip
        if decision.decision is Decision.ASK:
            self._applier.prepare()  # while a person thinks
            passage.approval = await self._ask(passage, effects, prepared)
        return await self._apply(passage, effects, prepared)

    def _decide(self, passage: _Passage, effects: Effects) -> PolicyDecision:
        """The strictest answer of the policy on every path and the command."""
        action = passage.action
        decision = judge(self._applier.root, action.tool, effects, passage.layers, self._applier.sandbox)
        if decision.decision is Decision.ASK and action.actor.is_person:
            # A person who gives the order is the person who would be asked.
            decision = decision.model_copy(
                update={
                    "decision": Decision.ALLOW,
                    "scope": PolicyScope.PERSON,
                    "reason": f"asked for by {action.actor.label}; {decision.reason}",
                }
            )
        passage.decision = decision
        return decision

    async def _ask(self, passage: _Passage, effects: Effects, prepared: Prepared) -> Approval:
        """Put the question to a person. Returns the allowed, consumed approval; raises ``Denied`` otherwise."""
        action, decision = passage.action, passage.decision
        assert decision is not None  # noqa: S101 - _decide ran before
        shown = describe(action, prepared)
        digest, now = action_hash(action.actor, action.tool, action.arguments, effects), time.time()
        approval = await self._broker.request(
            Approval(
                id=new_id("approval"),
                action_hash=digest,
                tool=action.tool.value,
                title=shown.title,
                preview=shown.preview,
                paths=tuple(effect.path for effect in effects.paths),
                command=effects.command,
                actor=action.actor.label,
                stream=action.stream,
                decision=decision,
                created_at=now,
                expires_at=now + self._approval_seconds(),
            )
        )
        passage.approval = approval
        if approval.state is not ApprovalState.ALLOWED:
            raise Denied(
                f"Not approved ({approval.answered_by}).",
                hint="Attach an editor, or pick a policy profile that allows it."
                if approval.answered_by.startswith("no client")
                else "Do not retry the same action; ask the person what they want instead.",
            )
        await self._broker.consume(approval, digest)
        return approval

    def _recheck(self, passage: _Passage, effects: Effects) -> None:
        """Waiting for a person takes a while: the paths must lead to the same files, and the policy still agree."""
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

    async def _apply(self, passage: _Passage, effects: Effects, prepared: Prepared) -> Applied:
        async with self._applier.exclusive():
            self._recheck(passage, effects)
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
        """Write down the end. A refusal is its own event before the result."""
        drafts = []
        if applied.outcome is Outcome.DENIED:
            decision = applied.decision.model_dump(mode="json") if applied.decision else None
            drafts.append(
                passage.draft(EventType.TOOLCALL_DENIED, {"decision": decision, "reason": applied.output})
            )
        duration = round(time.monotonic() - passage.started, 4)
        drafts.append(
            passage.draft(
                EventType.TOOLCALL_RESULT, {"applied": applied.model_dump(mode="json"), "duration": duration}
            )
        )
        await self._store.append(*drafts)
