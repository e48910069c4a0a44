"""The one evaluator: a tool call against layers of policy, strictest answer of all, always with the reason.

Total: whatever the call holds, there is an answer. Before all layers stands the built-in guard (rule index -2).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.policy import (
    Decision,
    PolicyDecision,
    PolicyLayer,
    PolicyProfile,
    PolicyScope,
    ToolCall,
)
from codeforge_ls.policy.commands import CommandLine, read_line
from codeforge_ls.policy.guard import Access, command_problem, protected
from codeforge_ls.policy.judge_command import judge_command
from codeforge_ls.policy.paths import KnownFolders, ResolvedPath, resolve_path
from codeforge_ls.policy.rulebook import rulebook
from codeforge_ls.policy.rules import (
    Place,
    Verdict,
    fallback,
    said,
    spelled_out,
)

__all__ = ["evaluate"]

# Which rules judge a tool: each chain is tried for an explicit match, the strictest match counts.
_CHAINS: dict[str, tuple[str, ...]] = {
    "MultiEdit": ("MultiEdit", "Edit"),
    "Write": ("Write", "Edit"),
}
# Whose questions a person's standing answer settles; the administrator and whoever tightened one run still ask.
_ANSWERABLE = frozenset({PolicyScope.USER, PolicyScope.PROJECT, PolicyScope.PRESET})
_AS_READ = frozenset({"Search", "RepoMap"})
_READING = frozenset({"Read", "Glob", "Grep", "Search", "RepoMap"})
_WRITING = frozenset({"Edit", "MultiEdit", "Write", "Delete", "Move"})
_MAX_REASON = 400
_MAX_TARGETS = 100
_NOWHERE = frozenset({"/dev/null", "/dev/stdout", "/dev/stderr"})


@dataclass(frozen=True)
class _Subject:
    """The call, taken apart once for all layers. ``refused`` is the guard's word."""

    tool: str
    place: Place | None
    line: CommandLine | None
    refused: str | None
    targets: tuple[tuple[str, Place], ...] = ()


def evaluate(layers: Sequence[PolicyLayer], call: ToolCall, root: Path) -> PolicyDecision:
    """The decision of all layers on one call: the strictest, and the first of equals (of two that ask, one that asks
    each time). No layer means deny.

    ``path`` is workspace-relative, absolute or a ``file:`` URI (for a command: its working folder). Reads the file
    system only to follow links. Takes under 1 ms once the shell parser is loaded (``syntax.warm``). Never raises.
    """
    return Evaluator(layers, root).evaluate(call)


class Evaluator:
    """Layers of policy over one root, for as many calls as one piece of work has and for no longer: what it found out
    about a folder is not looked at again."""

    def __init__(self, layers: Sequence[PolicyLayer], root: Path) -> None:
        self._layers, self._root = layers, root
        self._extra = tuple(dict.fromkeys(glob for layer in layers for glob in layer.profile.protected_paths))
        self._known: KnownFolders | None = None
        self._same_for_all: dict[str, Decision | None] = {}

    def evaluate(self, call: ToolCall) -> PolicyDecision:
        """The decision, with its reason; as the function ``evaluate`` says."""
        if self._closed:
            return PolicyDecision(
                decision=Decision.DENY,
                profile="",
                scope=PolicyScope.PROTECTED,
                rule_index=-2,
                reason="no policy is in force",
            )
        subject = self._take_apart(call.tool, call.path, call.command)
        if subject.refused is not None:
            return PolicyDecision(
                decision=Decision.DENY,
                profile=self._layers[0].profile.name,
                scope=PolicyScope.PROTECTED,
                rule_index=-2,
                reason=_shown(subject.refused),
            )
        verdict, owner = _strictest(self._layers, subject)
        return PolicyDecision(
            decision=verdict.decision,
            profile=owner.profile.name,
            scope=owner.scope,
            rule_index=verdict.index,
            matched_rule=verdict.rule,
            file=owner.source,
            line=owner.line_of(verdict.index),
            reason=_shown(verdict.reason),
        )

    def of_path(self, tool: str, path: str) -> Decision:
        """The decision on one path, as ``evaluate`` has it, for whoever asks about many and shows no reason.

        Where no rule of that tool tells paths apart, only the guard looks at each."""
        if self._closed:
            return Decision.DENY
        subject = self._take_apart(tool, path, None)
        if subject.refused is not None:
            return Decision.DENY
        if tool not in self._same_for_all:
            tools = (tool, *_CHAINS.get(tool, ()), "Read")
            books = [rulebook(layer.profile) for layer in self._layers]
            apart = any(book.of(name).tells_paths_apart for book in books for name in tools)
            self._same_for_all[tool] = None if apart else _strictest(self._layers, subject)[0].decision
        return self._same_for_all[tool] or _strictest(self._layers, subject)[0].decision

    @property
    def _closed(self) -> bool:
        """Whether no policy is in force: what a person allowed for good is none by itself."""
        return all(layer.scope is PolicyScope.ALWAYS for layer in self._layers)

    def _take_apart(self, tool: str, path: str | None, command: str | None) -> _Subject:
        try:
            known = self._known = self._known or KnownFolders(self._root)
            resolved = resolve_path(self._root, path, known) if path is not None else None
        except (InvalidInput, OSError, ValueError) as error:
            text = error.message if isinstance(error, InvalidInput) else "The path cannot be resolved."
            return _Subject(tool, None, None, text)
        place = _place(resolved, known.real_root) if resolved else None
        line = read_line(command or "") if tool == "Bash" or command is not None else None
        subject = _Subject(tool, place, line, None)
        if resolved and place:
            if not resolved.inside:
                return _refuse(subject, f"{path} is outside the workspace")
            if why := self._path_problem(tool, place):
                return _refuse(subject, f"{place.lexical} is protected: {why}")
        if line is None:
            return subject
        cwd = place.lexical if place else "."
        if why := command_problem(line, known.real_root, cwd, self._extra):
            return _refuse(subject, why)
        return self._with_targets(subject, line, known, cwd)

    def _path_problem(self, tool: str, place: Place) -> str | None:
        if tool == "Restore":
            return None  # it gives back what was there before and shows nothing
        access = Access.READ if tool in _READING else Access.WRITE
        if tool == "Bash":
            access = Access.NAME  # the folder it runs in
        for reading in place.readings:
            why = protected(reading, access, self._extra)
            if why and not _lifted(tool, reading, place, self._layers):
                return why
        return None

    def _with_targets(self, subject: _Subject, line: CommandLine, known: KnownFolders, cwd: str) -> _Subject:
        targets: list[tuple[str, Place]] = []
        if len(line.writes) > _MAX_TARGETS:
            return _refuse(subject, f"it writes more than {_MAX_TARGETS} files")
        for tool, paths in (("Write", line.writes), ("Read", line.reads)):
            for path in paths[:_MAX_TARGETS]:
                try:
                    whole = path if path.startswith("/") else f"{cwd}/{path}"
                    resolved = resolve_path(self._root, whole, known)
                except InvalidInput as error:
                    return _refuse(subject, f"a redirection cannot be judged: {error.message}")
                if tool == "Write" and path not in _NOWHERE and (path.startswith("~") or not resolved.inside):
                    return _refuse(subject, f"it would write {path}, which is outside the workspace")
                place = _place(resolved, known.real_root)
                access = Access.WRITE if tool == "Write" else Access.READ
                for reading in place.readings:
                    if why := protected(reading, access, self._extra):
                        return _refuse(subject, f"{path} is protected: {why}")
                if resolved.inside:
                    targets.append((tool, place))
        return _Subject(subject.tool, subject.place, line, None, tuple(targets))


def _strictest(layers: Sequence[PolicyLayer], subject: _Subject) -> tuple[Verdict, PolicyLayer]:
    """The strictest verdict and whose it is; what a person allowed for good answers the questions that it may."""
    standing = [(layer, said) for layer in layers if (said := _explicit(layer, subject)) is not None]
    allowed = next((one for one in standing if one[1].decision is Decision.ALLOW), None)
    best: tuple[Verdict, PolicyLayer] | None = None
    for layer in layers:
        if layer.scope is PolicyScope.ALWAYS:
            continue
        found = (_judge(layer.profile, subject), layer)
        if found[0].decision is Decision.ASK and allowed and layer.scope in _ANSWERABLE:
            found = (allowed[1], allowed[0])
        if best is None or _weight(*found) > _weight(*best):
            best = found
    assert best is not None  # noqa: S101 - evaluate has looked
    for layer, said in standing:
        if said.decision.strictness > best[0].decision.strictness:
            best = (said, layer)
    return best


def _weight(verdict: Verdict, layer: PolicyLayer) -> tuple[int, bool]:
    """Strictest last; of two that ask the one whose question no standing answer settles."""
    for_good = layer.scope in _ANSWERABLE or verdict.decision is not Decision.ASK
    return verdict.decision.strictness, not for_good


def _explicit(layer: PolicyLayer, subject: _Subject) -> Verdict | None:
    """What a rule of a person's own layer for this workspace says; None if none matches."""
    if layer.scope is not PolicyScope.ALWAYS:
        return None
    verdict = _judge(layer.profile, subject)
    # an allow that cannot be proven for this call is no word on it
    return verdict if verdict.rule and verdict.rule.decision is verdict.decision else None


def _lifted(tool: str, path: str, place: Place, layers: Sequence[PolicyLayer]) -> bool:
    """Only the user's own profile lifts the guard, and only from a secret that a rule names without wildcards."""
    if place.lexical != place.real or not protected(path, Access.NAME):
        return False
    return any(
        layer.scope is PolicyScope.USER
        and rule.specifier.tool == tool
        and rule.decision is Decision.ALLOW
        and path in rule.path_allow
        for layer in layers
        for rule in layer.profile.rules
    )


def _place(resolved: ResolvedPath, real_root: str) -> Place:
    return Place(resolved.lexical, resolved.real_relative(real_root))


def _refuse(subject: _Subject, why: str) -> _Subject:
    return _Subject(subject.tool, subject.place, subject.line, why)


def _judge(profile: PolicyProfile, subject: _Subject) -> Verdict:
    if subject.line is None:
        return _judge_path(profile, subject.tool, subject.place)
    verdict = judge_command(profile, subject.tool, subject.line, subject.place)
    whole = verdict.rule is not None and spelled_out(verdict.rule, subject.line.text)
    for tool, place in subject.targets:
        target = _judge_path(profile, tool, place)
        if whole and target.decision is Decision.ASK:
            continue  # the rule holds the line to its end, and with it where it writes
        if target.decision.strictness > verdict.decision.strictness:
            reason = f"it would {tool.lower()} {place.lexical}: {target.reason}"
            verdict = Verdict(target.decision, target.index, target.rule, reason)
    return verdict


def _judge_path(profile: PolicyProfile, tool: str, place: Place | None) -> Verdict:
    book = rulebook(profile)
    found = [said(*one) for name in _CHAINS.get(tool, (tool,)) if (one := book.of(name).for_path(place))]
    if not found:
        if tool in _AS_READ:
            return _judge_path(profile, "Read", place)
        verdict = fallback(profile)
    else:
        verdict = max(found, key=lambda one: one.decision.strictness)
    if place is None and tool in _WRITING and verdict.decision is Decision.ALLOW:
        return Verdict(Decision.ASK, verdict.index, verdict.rule, f"{tool} names no path")
    return verdict


def _shown(reason: str) -> str:
    """Safe to print: control characters and odd text escaped, at most 400 characters."""
    plain = reason if reason.isprintable() and reason.isascii() else _escaped(reason)
    return plain if len(plain) <= _MAX_REASON else plain[: _MAX_REASON - 1] + "…"


def _escaped(text: str) -> str:
    return "".join(
        character
        if character.isprintable() and not 0xD800 <= ord(character) <= 0xDFFF
        else ascii(character)[1:-1]
        for character in text[:_MAX_REASON]
    )
