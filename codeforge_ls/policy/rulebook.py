"""The rules of one profile, made ready for many questions: by tool, and those that can match found without a try.

A profile may hold hundreds of rules, most of them about one file or one command line (what was allowed always). What
is found here is exactly what ``path_applies`` and ``command_applies`` would let through, in the order of the file.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache

from codeforge_ls.model.policy import ANY_TOOL, PermissionRule, PolicyProfile
from codeforge_ls.policy.globs import fold, needle, plain_path
from codeforge_ls.policy.rules import (
    Place,
    only_spelled_out,
    path_applies,
    speaks_of_commands,
)

Numbered = tuple[int, PermissionRule]
"""A rule with its index in the profile."""


class ToolRules:
    """The rules of a profile that speak of one tool."""

    def __init__(self, rules: Sequence[Numbered]) -> None:
        self.all = tuple(rules)
        self._anywhere: list[Numbered] = []
        self._by_text: dict[str, list[Numbered]] = {}
        self._by_path: dict[str, list[Numbered]] = {}
        self._by_needle: list[tuple[str, Numbered]] = []
        for one in self.all:
            self._sort_in(one)

    @property
    def tells_paths_apart(self) -> bool:
        """Whether the answer may depend on the path, and not only on there being one."""
        return bool(self._by_path or self._by_needle)

    def for_line(self, text: str, place: Place | None) -> tuple[list[Numbered], bool]:
        """The rules that may apply to a part of a command line in that folder, and whether any at all speaks of
        commands: those that hold other lines word for word are left out, but count for the second."""
        found = self._applying(place)
        speaking = bool(self._by_text) or any(speaks_of_commands(rule) for _, rule in found)
        if exact := self._by_text.get(text.strip()):
            found = sorted((*found, *exact), key=_index)
        return found, speaking

    def for_path(self, place: Place | None) -> Numbered | None:
        """The first rule that is about the path and not about particular commands; None if there is none."""
        return next((one for one in self._applying(place) if not speaks_of_commands(one[1])), None)

    def _applying(self, place: Place | None) -> list[Numbered]:
        """The rules whose path lists let them apply, but for those that only hold whole command lines."""
        if place is None or not self.tells_paths_apart:
            return self._anywhere
        tried: dict[int, Numbered] = {}
        for reading in place.readings:
            low, folded = reading.casefold(), fold(reading)
            for key in {plain_path(low), plain_path(folded)}:
                tried.update((one[0], one) for one in self._by_path.get(key, ()))
            text = low if low == folded else f"{low}\0{folded}"
            tried.update((one[0], one) for word, one in self._by_needle if word in text)
        found = [one for one in tried.values() if path_applies(one[1], place)]
        return sorted((*self._anywhere, *found), key=_index) if found else self._anywhere

    def _sort_in(self, one: Numbered) -> None:
        rule = one[1]
        if not rule.path_allow and not rule.path_deny:
            if only_spelled_out(rule):
                for text in dict.fromkeys(rule.command_exact):
                    self._by_text.setdefault(text, []).append(one)
            else:
                self._anywhere.append(one)
            return
        for glob in rule.path_allow or ("**",):
            low = glob.casefold()
            if any(character in low for character in "*?["):
                self._by_needle.append((needle(low), one))
            else:
                self._by_path.setdefault(plain_path(low.removeprefix("./")), []).append(one)


class Rulebook:
    """The rules of one profile, by tool."""

    def __init__(self, profile: PolicyProfile) -> None:
        self._rules = tuple(enumerate(profile.rules))
        self._tools: dict[str, ToolRules] = {}

    def of(self, tool: str) -> ToolRules:
        """The rules that name the tool, or all tools."""
        known = self._tools.get(tool)
        if known is None:
            known = ToolRules([one for one in self._rules if one[1].specifier.tool in (tool, ANY_TOOL)])
            if len(self._tools) < _MAX_TOOLS:
                self._tools[tool] = known
        return known


_MAX_TOOLS = 64  # a caller may ask about tools of any name


def rulebook(profile: PolicyProfile) -> Rulebook:
    """The rulebook of a profile, made once for each that is loaded."""
    return _made(_Same(profile))


class _Same:
    """A profile as a key by identity: it is frozen, and comparing hundreds of rules takes longer than using them."""

    __slots__ = ("profile",)

    def __init__(self, profile: PolicyProfile) -> None:
        self.profile = profile

    def __hash__(self) -> int:
        return id(self.profile)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, _Same) and other.profile is self.profile


@lru_cache(maxsize=256)
def _made(key: _Same) -> Rulebook:
    return Rulebook(key.profile)


def _index(one: Numbered) -> int:
    return one[0]
