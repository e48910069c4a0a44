"""Definitions, references and imports of one source, by a tree-sitter query. Runs in parser processes only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import TYPE_CHECKING

from codeforge_ls.index.grammars import Grammar
from codeforge_ls.index.lines import Lines

if TYPE_CHECKING:
    from tree_sitter import Node

# A hostile or generated file may hold millions; beyond these the rest is not looked at.
MAX_SYMBOLS, MAX_REFERENCES, MAX_NAME, MAX_SIGNATURE = 20_000, 100_000, 200, 200

SEPARATOR = re.compile(r"\.|::")
QUALIFIED = re.compile(r"[^\W\d]\w*(?:(?:\.|::)[^\W\d]\w*)+")
CONTAINERS = {"class", "interface", "struct", "enum", "scope"}
# Languages that write one function as several equations or clauses in a row.
CLAUSED = {"haskell", "elixir"}


@dataclass(slots=True)
class Definition:
    """One definition; the fields are those of ``model.index.Symbol`` without the path."""

    name: str
    kind: str
    start_line: int
    end_line: int
    name_line: int
    name_column: int
    scope: str = ""
    signature: str = ""

    def row(self) -> tuple[str, str, int, int, int, int, str, str]:
        """The fields in order, for the wire and the database."""
        return (
            self.name, self.kind, self.start_line, self.end_line,
            self.name_line, self.name_column, self.scope, self.signature,
        )  # fmt: skip


# How a use is stored: its place in this list. Only ever append.
USE_KINDS = ("call", "type", "import", "inherit", "other")
_INHERIT = USE_KINDS.index("inherit")  # says more than the "type" that the same place may be, too


@dataclass(slots=True)
class Tags:
    """What one source defines and uses. ``uses`` maps a name to its places ``(code, line, column)`` in order.

    A code is a position in ``USE_KINDS``; lines are 1-based, columns 0-based UTF-16 units.
    """

    definitions: list[Definition] = field(default_factory=list)
    uses: dict[str, list[tuple[int, int, int]]] = field(default_factory=dict)
    imports: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    pattern: int
    kind: str
    name: str
    name_start: int
    start: int
    end: int
    receiver: str


def read_tags(text: Lines, language: str, known: Grammar) -> Tags:
    """Parse a source (UTF-8) and collect its tags. May never return: the caller holds the deadline."""
    from tree_sitter import Parser, QueryCursor

    root = Parser(known.language).parse(text.source).root_node
    tags = Tags()
    found: dict[int, _Found] = {}
    for pattern, captures in QueryCursor(known.definitions).matches(root):
        _note_definition(pattern, captures, found, text)
    tags.definitions = _nest(found.values(), text, language)
    captured = QueryCursor(known.uses).captures(root)
    for node in sorted(captured.get("import", ()), key=attrgetter("start_byte")):  # they come in any order
        tags.imports.append((_module(_text(text, node)), text.row(node.start_byte) + 1))
    tags.uses = _uses(_places(captured, found), text)
    return tags


def _uses(places: Mapping[int, tuple[int, int]], text: Lines) -> dict[str, list[tuple[int, int, int]]]:
    """The uses by name. There are far more than definitions: nothing here is a call that need not be."""
    uses: defaultdict[str, list[tuple[int, int, int]]] = defaultdict(list)
    source, starts, plain = text.source, text.starts, text.is_ascii
    line, next_line = 0, 0
    for start in sorted(places)[:MAX_REFERENCES]:
        code, end = places[start]
        raw = source[start:end]
        if len(raw) > MAX_NAME or b"." in raw or b":" in raw:
            name = _cut(text, start, end)
            if QUALIFIED.fullmatch(name):
                last = SEPARATOR.split(name)[-1]
                start += len(name.encode()) - len(last.encode())  # noqa: PLW2901 - where the name itself begins
                name = last
            uses[name].append((code, *text.place(start)))
            continue
        while next_line <= start:
            line += 1
            next_line = starts[line]
        uses[raw.decode("utf-8", "replace")].append(
            (code, line, start - starts[line - 1]) if plain else (code, *text.place(start))
        )
    return uses


def _places(captured: Mapping[str, Sequence[Node]], found: Iterable[int]) -> dict[int, tuple[int, int]]:
    """The code and the end of each use by its start; a defined name is none."""
    places: dict[int, tuple[int, int]] = {}
    # Of two kinds at one place the first of USE_KINDS counts, but inheritance says more than any.
    for code in sorted(range(len(USE_KINDS)), key=lambda code: (code == _INHERIT, -code)):
        for node in captured.get(f"reference.{USE_KINDS[code]}", ()):
            places[node.start_byte] = code, node.end_byte
    for start in found:
        places.pop(start, None)
    return places


def _note_definition(
    pattern: int, captures: Mapping[str, Sequence[Node]], found: dict[int, _Found], text: Lines
) -> None:
    if "name" not in captures:
        return
    name = captures["name"][0]
    start = name.start_byte
    earlier = found.get(start)
    if earlier.pattern <= pattern if earlier else len(found) >= MAX_SYMBOLS:
        return
    for capture, nodes in captures.items():
        if capture.startswith("definition."):
            receiver = captures.get("receiver")
            outer = _text(text, receiver[0]) if receiver else ""
            kind, whole = capture[11:], nodes[0]
            found[start] = _Found(
                pattern, kind, _text(text, name), start, whole.start_byte, whole.end_byte, outer
            )


def _nest(found: Iterable[_Found], text: Lines, language: str) -> list[Definition]:
    """Order the definitions, give each its scope, and turn functions inside types into methods."""
    ordered = sorted(found, key=lambda one: (one.start, -one.end, one.name_start))
    open_scopes: list[tuple[int, str, str]] = []
    result: list[Definition] = []
    for one in ordered:
        while open_scopes and open_scopes[-1][0] <= one.start:
            open_scopes.pop()
        outer = [scope for _, scope, _ in open_scopes]
        whole = one.name
        if QUALIFIED.fullmatch(whole):
            one.name = _last(one, outer)
        name, kind = one.name, one.kind
        if one.receiver:
            outer.append(one.receiver)
        if kind == "function" and (one.receiver or (open_scopes and open_scopes[-1][2] in CONTAINERS)):
            kind = "method"
        if kind == "variable" and name.isupper() and len(name) > 1:
            kind = "constant"
        open_scopes.append((one.end, SEPARATOR.sub(".", whole), one.kind))
        if kind == "scope":
            continue
        definition = _definition(one, kind, ".".join(outer), text)
        if language in CLAUSED and result and _same(result[-1], definition):
            result[-1].end_line = max(result[-1].end_line, definition.end_line)
        else:
            result.append(definition)
    return result


def _last(one: _Found, outer: list[str]) -> str:
    """The last part of a qualified name, such as ``Phoenix.Channel``; the others go to the scope."""
    *before, last = SEPARATOR.split(one.name)
    outer += before
    one.name_start += len(one.name.removesuffix(last).encode())
    return last


def _same(one: Definition, other: Definition) -> bool:
    return (one.name, one.kind, one.scope) == (other.name, other.kind, other.scope)


def _definition(one: _Found, kind: str, scope: str, text: Lines) -> Definition:
    line, column = text.place(one.name_start)
    signature = text.line(line - 1)[: 4 * MAX_SIGNATURE].decode("utf-8", "replace").strip()
    return Definition(
        name=one.name,
        kind=kind,
        start_line=text.row(one.start) + 1,
        # A node that ends at column 0 ends with the line before.
        end_line=max(text.row(max(one.start, one.end - 1)) + 1, line),
        name_line=line,
        name_column=column,
        scope=scope,
        signature=signature[:MAX_SIGNATURE],
    )


def _text(text: Lines, node: Node) -> str:
    return _cut(text, node.start_byte, node.end_byte)


def _cut(text: Lines, start: int, end: int) -> str:
    """What stands between two offsets, cut to ``MAX_NAME`` characters."""
    if end - start <= MAX_NAME:
        return text.source[start:end].decode("utf-8", "replace")
    return text.source[start : min(end, start + 4 * MAX_NAME)].decode("utf-8", "replace")[:MAX_NAME]


def _module(text: str) -> str:
    return text.removeprefix("import ").strip().strip("\"'<>; \t\n")
