"""Rules against one subject: first match wins inside a layer. Allowing needs every condition, denying any sign."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from dataclasses import dataclass
from functools import cache

from codeforge_ls.model.policy import Decision, PermissionRule, PolicyMode, PolicyProfile
from codeforge_ls.policy.globs import matches_any, matches_any_folded
from codeforge_ls.policy.nested import program

_FALLBACK = {
    PolicyMode.PLAN: Decision.DENY,
    PolicyMode.DEFAULT: Decision.ASK,
    PolicyMode.ACCEPT_EDITS: Decision.ALLOW,
    PolicyMode.DELEGATE: Decision.ALLOW,
}


@dataclass(frozen=True)
class Place:
    """A path in both readings, workspace-relative (``real`` stays absolute when it leads outside)."""

    lexical: str
    real: str

    @property
    def readings(self) -> tuple[str, ...]:
        """The different ways to see it."""
        return (self.lexical,) if self.lexical == self.real else (self.lexical, self.real)


@dataclass(frozen=True)
class Verdict:
    """What one layer says, and through which rule (-1: the mode's fallback, -2: the built-in guard)."""

    decision: Decision
    index: int
    rule: PermissionRule | None
    reason: str


def fallback(profile: PolicyProfile) -> Verdict:
    """What the mode says where no rule matched."""
    return _of_mode(profile.mode)


@cache
def _of_mode(mode: PolicyMode) -> Verdict:
    decision = _FALLBACK.get(mode, Decision.ASK)
    return Verdict(decision, -1, None, f"no rule matched; mode {mode.value} means {decision.value}")


def said(index: int, rule: PermissionRule, about: str = "") -> Verdict:
    """The verdict of a rule that matched."""
    reason = f"rule {index + 1} ({rule.specifier.tool}: {rule.decision.value})"
    if about:
        reason += f" for {about}"
    return Verdict(rule.decision, index, rule, f"{reason}: {rule.reason}" if rule.reason else reason)


def speaks_of_commands(rule: PermissionRule) -> bool:
    """Whether the rule is about particular commands."""
    return bool(
        rule.command_allow
        or rule.command_deny
        or rule.command_exact
        or rule.specifier.sub_pattern is not None
    )


def judges_commands(rule: PermissionRule) -> bool:
    """Whether what the rule is about, and its examples name, is a command; else it is a path."""
    return rule.specifier.tool == "Bash" or speaks_of_commands(rule)


def only_spelled_out(rule: PermissionRule) -> bool:
    """Whether the rule is about whole command lines and about no other command."""
    return bool(rule.command_exact) and not (rule.command_allow or rule.specifier.sub_pattern is not None)


def path_applies(rule: PermissionRule, place: Place | None) -> bool:
    """Whether the path lists let the rule apply. ``path_deny`` hit: no; ``path_allow`` set and no hit: no."""
    if not rule.path_allow and not rule.path_deny:
        return True
    if place is None:
        # nothing to compare: a rule that allows cannot be proven, one that refuses is not about this
        return False
    readings = place.readings
    if rule.decision is Decision.ALLOW:
        excluded = any(matches_any_folded(rule.path_deny, reading) for reading in readings)
        included = all(matches_any(rule.path_allow, reading) for reading in readings)
    else:
        excluded = bool(rule.path_deny) and all(matches_any(rule.path_deny, reading) for reading in readings)
        included = any(matches_any_folded(rule.path_allow, reading) for reading in readings)
    return not excluded and (not rule.path_allow or included)


def command_applies(rule: PermissionRule, argv: tuple[str, ...], text: str) -> bool:
    """Whether the command lists and the ``sub_pattern`` let the rule apply to one simple command of ``text``."""
    if spelled_out(rule, text):
        return True
    if only_spelled_out(rule):
        return False
    if rule.decision is not Decision.ALLOW:
        return _might_apply(rule, argv, text)
    if any(_suspected(entry, argv) for entry in rule.command_deny):
        return False
    pattern = rule.specifier.sub_pattern
    if pattern is not None and not fnmatch.fnmatchcase(" ".join(argv), pattern):
        return False
    return not rule.command_allow or covered(rule, argv) > 0


def spelled_out(rule: PermissionRule, text: str) -> bool:
    """Whether the rule holds this whole command line, word for word."""
    return bool(rule.command_exact) and text.strip() in rule.command_exact


def _might_apply(rule: PermissionRule, argv: tuple[str, ...], text: str) -> bool:
    pattern = rule.specifier.sub_pattern
    if pattern is not None:
        named = " ".join((program(argv), *argv[1:]))
        if not any(fnmatch.fnmatchcase(form, pattern) for form in (named, " ".join(argv), text)):
            return False
    if any(_is_prefix(entry.split(), argv) for entry in rule.command_deny):
        return False
    return not rule.command_allow or any(_suspected(entry, argv) for entry in rule.command_allow)


def covered(rule: PermissionRule, argv: tuple[str, ...]) -> int:
    """How many words of the command the best entry of ``command_allow`` spells out; 0 if none matches."""
    return max((len(e) for e in map(str.split, rule.command_allow) if _is_prefix(e, argv)), default=0)


def listed(rule: PermissionRule, argv: tuple[str, ...]) -> bool:
    """Whether a rule that refuses names this command by a list (a mention is only judged by lists)."""
    return bool(rule.command_allow) and _might_apply(rule, argv, " ".join(argv))


def _is_prefix(entry: Sequence[str], argv: tuple[str, ...]) -> bool:
    return bool(entry) and tuple(entry) == argv[: len(entry)]


def _suspected(entry: str, argv: tuple[str, ...]) -> bool:
    """The same, blind to folder and case, with options between the words: ``git -C x push`` is ``git push``."""
    words = [word.casefold() for word in entry.split()]
    if not words or not argv:
        return False
    if words[0] not in (program(argv), argv[0].casefold()):
        return False
    rest = iter(word.casefold() for word in argv[1:])
    return all(word in rest for word in words[1:])
