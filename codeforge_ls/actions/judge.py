"""What the policy says of an action: the strictest answer over all it would touch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from codeforge_ls.model.actions import Effects, Tool
from codeforge_ls.model.policy import (
    Decision,
    NetworkMode,
    PolicyDecision,
    PolicyLayer,
    PolicyScope,
    ToolCall,
)
from codeforge_ls.policy.evaluate import Evaluator
from codeforge_ls.policy.library import effective_limits
from codeforge_ls.sandbox import Sandbox

NOBODY = PolicyDecision(
    decision=Decision.DENY,
    profile="",
    scope=PolicyScope.PROTECTED,
    rule_index=-2,
    reason="No policy is in force.",
)


def judge(
    root: Path, tool: Tool, effects: Effects, layers: Sequence[PolicyLayer], sandbox: Sandbox
) -> PolicyDecision:
    """One decision for the whole action. No layer means deny; where no sandbox works a command asks."""
    if not layers:
        return NOBODY
    calls = [ToolCall(tool=tool.value, path=effect.path) for effect in effects.paths]
    if effects.command is not None:
        calls.append(ToolCall(tool=tool.value, command=effects.command))
    evaluator = Evaluator(layers, root)
    decisions = [evaluator.evaluate(call) for call in calls or [ToolCall(tool=tool.value)]]
    worst = max(decisions, key=lambda decision: decision.decision.strictness)
    if effects.command is not None and worst.decision is Decision.ALLOW and not _can_confine(layers, sandbox):
        return worst.model_copy(
            update={
                "decision": Decision.ASK,
                "reason": "nothing can isolate a command here "
                f"({sandbox.why}); if allowed, it runs on your files as they are, with the network open",
            }
        )
    return worst


class Readable:
    """Whether the content of a path may be shown under some layers; an ``ask`` is not a yes.

    For one call about many paths: what was found out about a path, or a folder, is not looked at again.
    """

    def __init__(self, root: Path, layers: Sequence[PolicyLayer]) -> None:
        self._evaluator = Evaluator(layers, root)
        self._known: dict[str, bool] = {}

    def __call__(self, path: str) -> bool:
        if path not in self._known:
            self._known[path] = self._evaluator.of_path(Tool.READ.value, path) is Decision.ALLOW
        return self._known[path]


class Writable:
    """Whether what a command wrote to a layer may go to that path: unless the policy denies writing it."""

    def __init__(self, root: Path, layers: Sequence[PolicyLayer]) -> None:
        self._evaluator = Evaluator(layers, root)

    def __call__(self, path: str) -> bool:
        return self._evaluator.of_path(Tool.WRITE.value, path) is not Decision.DENY


def _can_confine(layers: Sequence[PolicyLayer], sandbox: Sandbox) -> bool:
    """Isolation, or a person's own setting that there is none and a profile that does not insist."""
    if sandbox.can_cut_network:
        return True
    return sandbox.deliberate and effective_limits(layers)[2].network_mode is not NetworkMode.NONE
