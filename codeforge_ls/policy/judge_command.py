"""One layer's word on a command line: every part must be allowed with proof, one denied part denies all."""

from __future__ import annotations

import os
import re

from codeforge_ls.model.policy import Decision, PermissionRule, PolicyProfile
from codeforge_ls.policy.commands import CommandLine, Doubt
from codeforge_ls.policy.options import doubtful_argument
from codeforge_ls.policy.rulebook import Numbered, rulebook
from codeforge_ls.policy.rules import (
    Place,
    Verdict,
    command_applies,
    covered,
    fallback,
    listed,
    path_applies,
    said,
    speaks_of_commands,
    spelled_out,
)

_OUTSIDE = re.compile(r"(?:^|[=:,])(?:/(?!dev/null\b)[^=:,]*|~|(?:[^=:,]*/)?\.\.(?:/|$))")
_Rules = list[Numbered]


def judge_command(profile: PolicyProfile, tool: str, line: CommandLine, place: Place | None) -> Verdict:
    """The strictest over the parts. An empty command is never allowed; one that cannot be read is asked for."""
    of_tool = rulebook(profile).of(tool)
    if line.empty or not line.commands:
        why = "the command is empty" if line.empty else line.why or "it has no command that can be judged"
        rules = [one for one in of_tool.all if path_applies(one[1], place)]
        return _mentioned(rules, line) or _without_parts(profile, rules, why)
    rules, speaking = of_tool.for_line(line.text, place)
    blanket_limit = Doubt.OPAQUE if speaking else Doubt.UNREADABLE
    worst: Verdict | None = None
    needed = Doubt.UNREADABLE
    for argv in dict.fromkeys(line.commands):
        verdict, need = _judge_part(profile, rules, argv, line, blanket_limit)
        needed = min(needed, need)
        if worst is None or verdict.decision.strictness > worst.decision.strictness:
            worst = verdict
        if worst.decision is Decision.DENY:
            return worst
    if mentioned := _mentioned(rules, line):
        return mentioned
    if worst is None or worst.decision is not Decision.ALLOW:
        return worst or fallback(profile)
    if line.doubt >= needed and line.doubt is not Doubt.NONE:
        return Verdict(Decision.ASK, worst.index, worst.rule, f"it cannot be proven harmless: {line.why}")
    return worst


def _judge_part(
    profile: PolicyProfile, rules: _Rules, argv: tuple[str, ...], line: CommandLine, blanket_limit: Doubt
) -> tuple[Verdict, Doubt]:
    """The verdict on one part, and the doubt from which on an allow no longer holds (``blanket_limit`` for one that
    names no commands)."""
    for index, rule in rules:
        if not command_applies(rule, argv, line.text):
            continue
        verdict = said(index, rule, _quoted(argv))
        if rule.decision is not Decision.ALLOW:
            return verdict, Doubt.UNREADABLE
        if spelled_out(rule, line.text):
            return verdict, Doubt.UNREADABLE
        if not speaks_of_commands(rule):
            return verdict, blanket_limit
        if why := _unproven(rule, argv):
            return Verdict(Decision.ASK, index, rule, why), Doubt.LOOSE
        # a rule that only excludes commands is as good as a blanket allow with a list of denied ones
        listed_only = bool(rule.command_allow or rule.specifier.sub_pattern is not None)
        return verdict, Doubt.LOOSE if listed_only else Doubt.OPAQUE
    return fallback(profile), blanket_limit


def _unproven(rule: PermissionRule, argv: tuple[str, ...]) -> str | None:
    """Why the arguments go beyond what a rule for this program promises."""
    words = covered(rule, argv)
    if option := doubtful_argument(argv, words):
        return f"the argument {option[:80]!r} does more than {' '.join(argv[:2])!r} promises"
    for word in argv[max(words, 1) :]:
        if (found := _OUTSIDE.search(word)) and _leads_outside(found.group().lstrip("=:,")):
            return f"the argument {word[:80]!r} leads outside the workspace"
    return None


def _leads_outside(path: str) -> bool:
    """An absolute path counts only if its first folder exists: ``/api`` in a search pattern is no path."""
    if not path.startswith("/"):
        return True
    first = path.lstrip("/").split("/", 1)[0]
    return not first or any(c in first for c in "*?[") or os.path.lexists("/" + first)


def _mentioned(rules: _Rules, line: CommandLine) -> Verdict | None:
    """A command that might be run at any depth is denied if a rule denies it by name."""
    for argv in dict.fromkeys(line.mentions):
        for index, rule in rules:
            if rule.decision is Decision.DENY and listed(rule, argv):
                return said(index, rule, f"{_quoted(argv)}, which it may run")
    return None


def _without_parts(profile: PolicyProfile, rules: _Rules, why: str) -> Verdict:
    """Nothing to compare with lists: an unconditional refusal still refuses, everything else is asked for."""
    for index, rule in rules:
        if rule.decision is Decision.ALLOW and speaks_of_commands(rule):
            break  # it might have been this one
        if rule.decision is not Decision.ALLOW and not speaks_of_commands(rule):
            return said(index, rule)
    verdict = fallback(profile)
    if verdict.decision is Decision.DENY:
        return verdict
    return Verdict(Decision.ASK, verdict.index, None, why)


def _quoted(argv: tuple[str, ...]) -> str:
    return repr(" ".join(argv)[:80])
