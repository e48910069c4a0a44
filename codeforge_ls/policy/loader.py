"""Reading one profile from YAML that may be hostile: bounded, no tags, no aliases, every complaint with its line."""

from __future__ import annotations

import stat
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import ValidationError

from codeforge_ls.model.base import JsonValue
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.model.policy import (
    Decision,
    PermissionRule,
    PolicyLayer,
    PolicyMode,
    PolicyProfile,
    PolicyScope,
)
from codeforge_ls.policy.commands import read_line
from codeforge_ls.policy.judge_command import judge_command
from codeforge_ls.policy.rules import Place, judges_commands, path_applies

if TYPE_CHECKING:
    from ruamel.yaml.composer import Composer
    from ruamel.yaml.nodes import Node

MAX_BYTES = 64 << 10  # the parser needs about a second for that much
MAX_DEPTH = 12
MAX_RULES = 500
MAX_ENTRIES = 500
MAX_TEXT = 1024  # characters of one glob, command or example

_Lines = dict[tuple[str | int, ...], int]


class Broken(Exception):
    """The file cannot be used. ``line`` counts from 1, 0 where no line is to blame; ``name`` if it could be read."""

    def __init__(self, message: str, line: int = 0, name: str = "") -> None:
        super().__init__(message)
        self.message, self.line, self.name = message, line, name

    def for_person(self, place: str) -> InvalidInput:
        """The same for whoever gave that file or text."""
        where = f"{place}:{self.line}" if self.line else place
        return InvalidInput(
            f"{where}: {self.message}.",
            hint="Correct the policy file.",
            data={"file": place, "line": self.line},
        )


def load_layer(path: Path, scope: PolicyScope) -> PolicyLayer:
    """The profile of a YAML file with its lines. Raises ``Broken``; blocking (call it in a thread)."""
    return parse_layer(read_text(path), scope, str(path))


def parse_layer(text: str, scope: PolicyScope, source: str) -> PolicyLayer:
    """The profile that a text describes, its examples tested. Raises ``Broken``."""
    node = _compose(text)
    lines: _Lines = {}
    raw = _construct(node, (), lines)
    if not isinstance(raw, dict):
        raise Broken("the file must be a mapping with a name", 1)
    name = raw.get("name")
    named = name if isinstance(name, str) else ""
    try:
        profile = PolicyProfile.model_validate(raw)
    except ValidationError as error:
        first = error.errors(include_url=False, include_input=False)[0]
        where = ".".join(str(part) for part in first["loc"])
        raise Broken(f"{where}: {first['msg']}", _line_of(first["loc"], lines), named) from error
    for message, loc in (*_too_much(profile), *_failed_examples(profile)):
        raise Broken(message, _line_of(loc, lines), profile.name)
    return PolicyLayer(
        profile=profile,
        scope=scope,
        source=source,
        rule_lines=tuple(_line_of(("rules", index), lines) for index in range(len(profile.rules))),
        mode_line=_line_of(("mode",), lines) if "mode" in raw else _line_of(("name",), lines),
    )


def load_file(path: Path) -> PolicyLayer:
    """Like ``load_layer``, for a person who named the file. Raises ``InvalidInput`` with the line."""
    try:
        return load_layer(path, PolicyScope.RUN)
    except Broken as error:
        raise error.for_person(str(path)) from error


def _too_much(profile: PolicyProfile) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    if len(profile.rules) > MAX_RULES:
        yield f"more than {MAX_RULES} rules", ("rules", MAX_RULES)
    if len(profile.protected_paths) > MAX_ENTRIES:
        yield f"more than {MAX_ENTRIES} protected paths", ("protected_paths",)
    for index, rule in enumerate(profile.rules):
        for name in (
            "path_allow",
            "path_deny",
            "command_allow",
            "command_deny",
            "command_exact",
            "match",
            "not_match",
        ):
            entries: tuple[str, ...] = getattr(rule, name)
            if len(entries) > MAX_ENTRIES or any(len(entry) > MAX_TEXT for entry in entries):
                yield f"{name} is too long", ("rules", index, name)
            if name.startswith(("path_", "command_")) and any(not entry.strip() for entry in entries):
                yield f"{name} holds an empty entry, which would mean nothing", ("rules", index, name)
        if len(rule.specifier.sub_pattern or "") > MAX_TEXT:
            yield "sub_pattern is too long", ("rules", index, "specifier")


def _failed_examples(profile: PolicyProfile) -> Iterator[tuple[str, tuple[str | int, ...]]]:
    for index, rule in enumerate(profile.rules):
        for wanted, examples in ((True, rule.match), (False, rule.not_match)):
            for example in examples:
                if _applies(rule, example) is not wanted:
                    key = "match" if wanted else "not_match"
                    must = "must match, but does not" if wanted else "must not match, but does"
                    yield f"the example {example!r} {must}", ("rules", index, key)


def _applies(rule: PermissionRule, example: str) -> bool:
    """Whether this rule alone decides the example."""
    if not judges_commands(rule):
        return path_applies(rule, Place(example, example))
    # the other parts of an example for a refusal are not what it is about
    others = PolicyMode.PLAN if rule.decision is Decision.ALLOW else PolicyMode.ACCEPT_EDITS
    alone = PolicyProfile(name="example", mode=others, rules=(rule,))
    place = Place(".", ".")
    verdict = judge_command(alone, rule.specifier.tool, read_line(example), place)
    return verdict.index == 0 and verdict.decision is rule.decision


def read_text(path: Path) -> str:
    """The text of a policy file. Raises ``Broken`` for one that cannot be read or is too large; blocking."""
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            raise Broken("it is not a regular file")
        with path.open("rb") as file:
            data = file.read(MAX_BYTES + 1)
    except OSError as error:
        raise Broken(f"it cannot be read: {error.strerror or error}") from error
    except ValueError as error:
        raise Broken("its name cannot be the name of a file") from error
    if len(data) > MAX_BYTES:
        raise Broken(f"it is larger than {MAX_BYTES:,} bytes")
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise Broken("it is not UTF-8 text", data.count(b"\n", 0, error.start) + 1) from error


def _compose(text: str) -> Node:
    from ruamel.yaml import YAML
    from ruamel.yaml.error import MarkedYAMLError, YAMLError

    yaml = YAML(typ="safe", pure=True)
    yaml.Composer = _strict_composer()
    try:
        node: Node | None = yaml.compose(text)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        raise Broken(f"it is not valid YAML: {error.problem}", mark.line + 1 if mark else 0) from error
    except (YAMLError, ValueError, RecursionError) as error:
        raise Broken(f"it is not valid YAML: {str(error)[:200] or type(error).__name__}") from error
    if node is None:
        raise Broken("the file is empty", 1)
    return node


@cache
def _strict_composer() -> type[Composer]:
    """A composer that refuses as it reads: aliases multiply, tags construct, depth recurses; a policy needs none."""
    from ruamel.yaml import events
    from ruamel.yaml.composer import Composer

    class StrictComposer(Composer):
        nesting = 0

        def compose_node(self, parent: Node | None, index: object) -> Node:
            event = self.parser.peek_event()
            line = event.start_mark.line + 1
            if isinstance(event, events.AliasEvent) or getattr(event, "anchor", None):
                raise Broken("anchors and aliases are not supported", line)
            if getattr(event, "tag", None):
                raise Broken("tags are not supported", line)
            nested = isinstance(event, events.CollectionStartEvent)
            self.nesting += nested
            if self.nesting > MAX_DEPTH:
                raise Broken("it is nested too deeply", line)
            node: Node = super().compose_node(parent, index)
            self.nesting -= nested
            return node

    return StrictComposer


def _construct(node: Node, at: tuple[str | int, ...], lines: _Lines) -> JsonValue:
    from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

    lines[at] = int(node.start_mark.line) + 1
    if isinstance(node, MappingNode):
        whole: dict[str, JsonValue] = {}
        for key, value in node.value:
            line = int(key.start_mark.line) + 1
            if not isinstance(key, ScalarNode):
                raise Broken("a name must be plain text", line)
            if key.value in whole:
                raise Broken(f"{key.value[:80]!r} stands there twice", line)
            whole[str(key.value)] = _construct(value, (*at, str(key.value)), lines)
            lines[(*at, str(key.value))] = line
        return whole
    if isinstance(node, SequenceNode):
        return [_construct(child, (*at, index), lines) for index, child in enumerate(node.value)]
    # All but null stays text: pydantic makes of it what the field wants.
    return None if str(node.ctag).endswith(":null") else str(node.value)


def _line_of(loc: tuple[str | int, ...], lines: _Lines) -> int:
    for length in range(len(loc), -1, -1):
        if (line := lines.get(tuple(loc[:length]))) is not None:
            return line
    return 0
