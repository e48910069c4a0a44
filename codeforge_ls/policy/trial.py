"""Trying one rule of a policy file out: its own examples, or what a person types, through the one evaluator."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import NotFound
from codeforge_ls.model.policy import ANY_TOOL, Decision, PolicyDecision, PolicyLayer, ToolCall
from codeforge_ls.policy.evaluate import Evaluator
from codeforge_ls.policy.rules import judges_commands

_WORDS = {Decision.ALLOW: "allowed", Decision.ASK: "asks", Decision.DENY: "denied"}


class Tried(Frozen):
    """One command or path, and what the file's whole profile says of it. ``wanted``: whether this rule should decide it
    (None: nobody said)."""

    call: ToolCall
    decision: PolicyDecision
    wanted: bool | None
    decides: bool

    @property
    def text(self) -> str:
        """One line for people."""
        said = f"{self.call.command or self.call.path}: {_WORDS[self.decision.decision]}"
        where = f" ({self.decision.place})" if self.decision.place else ""
        odd = "" if self.wanted in (None, self.decides) else f"; {_odd(wanted=bool(self.wanted))}"
        return f"{said}, {self.decision.reason}{where}{odd}"


class Trial(Frozen):
    """All that was tried with one rule."""

    rule: int
    tool: str
    tried: tuple[Tried, ...]

    @property
    def text(self) -> str:
        """For people: the rule, then a line for each thing tried."""
        head = f"Rule {self.rule + 1} ({self.tool})"
        if not self.tried:
            return (
                f"{head} has no examples. Add match and not_match to it, or name a command or a path to try."
            )
        return "\n".join((f"{head}:", *(one.text for one in self.tried)))


def try_rule(layer: PolicyLayer, index: int, given: str | None, root: Path) -> Trial:
    """What the profile says of ``given`` (a command or a path, whichever the rule is about), else of the examples of
    the rule with that index.

    The built-in guard and the rules before it have their say, as for a real call; other layers have none. Raises
    ``NotFound`` for an index that the profile does not have.
    """
    if not 0 <= index < len(layer.profile.rules):
        raise NotFound(
            f"The profile {layer.profile.name} has no rule {index + 1}.", hint="Open the file again."
        )
    rule = layer.profile.rules[index]
    tool = rule.specifier.tool
    commands = judges_commands(rule)
    called = tool if tool != ANY_TOOL else "Bash" if commands else "Read"
    evaluator = Evaluator([layer], root)

    def tried() -> Iterator[Tried]:
        examples = [(text, True) for text in rule.match] + [(text, False) for text in rule.not_match]
        for text, wanted in [(given, None)] if given is not None else examples:
            call = ToolCall(tool=called, **{"command" if commands else "path": text})
            decision = evaluator.evaluate(call)
            yield Tried(call=call, decision=decision, wanted=wanted, decides=decision.rule_index == index)

    return Trial(rule=index, tool=tool, tried=tuple(tried()))


def _odd(*, wanted: bool) -> str:
    return "another rule decides this example" if wanted else "this rule decides what it should not match"
