"""Definitions, references and imports of one source, by a tree-sitter query. Runs in parser processes only."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter, itemgetter
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
    kind: str
    name: str
    name_start: int
    start: int
    end: int
    receiver: str


Captures = Mapping[str, Sequence["Node"]]


def read_tags(text: Lines, language: str, known: Grammar) -> Tags:
    """Parse a source (UTF-8) and collect its tags. May never return: the caller holds the deadline."""
    from tree_sitter import Parser, QueryCursor

    captured = QueryCursor(known.tags).captures(Parser(known.language).parse(text.source).root_node)
    found = _definitions(captured, known, text)
    tags = Tags(_nest(found.values(), text, language))
    for node in sorted(captured.get("import", ()), key=_START):  # they come in any order
        tags.imports.append((_module(_text(text, node)), text.row(node.start_byte) + 1))
    tags.uses = _uses(_places(captured, found), text)
    return tags


def _definitions(captured: Captures, known: Grammar, text: Lines) -> dict[int, _Found]:
    """The definitions by the starts of their names; of two for one name that of the earlier pattern."""
    found: dict[int, _Found] = {}
    for pattern, kinds in known.kinds:
        names = captured.get(f"name.{pattern}")
        if not names:
            continue
        wholes = [
            (node.start_byte, -node.end_byte, kind)
            for kind in kinds
            for node in captured.get(f"definition.{kind}.{pattern}", ())
        ]
        wholes.sort()
        receivers = {
            whole: _text(text, node)
            for node, whole in _inside(captured.get(f"receiver.{pattern}", ()), wholes)
        }
        for node, whole in _inside(names, wholes):
            start = node.start_byte
            if start not in found and len(found) < MAX_SYMBOLS:
                found[start] = _Found(
                    whole[2], _text(text, node), start, whole[0], -whole[1], receivers.get(whole, "")
                )
    return found


_Whole = tuple[
    int, int, str
]  # start, end below zero, kind: in this order an outer one comes before those inside
_START = attrgetter("start_byte")


def _inside(nodes: Iterable[Node], wholes: Sequence[_Whole]) -> Iterator[tuple[Node, _Whole]]:
    """Each node with the innermost of the ordered ``wholes`` around it."""
    around: list[_Whole] = []
    at = 0
    for node in sorted(nodes, key=_START):
        start = node.start_byte
        while at < len(wholes) and wholes[at][0] <= start:
            around.append(wholes[at])
            at += 1
        while around and -around[-1][1] <= start:
            around.pop()
        if around:
            yield node, around[-1]


def _uses(places: Mapping[int, tuple[int, int]], text: Lines) -> dict[str, list[tuple[int, int, int]]]:
    """The uses by name. There are far more than definitions: nothing in the loop is a call that need not be."""
    written: defaultdict[bytes, list[tuple[int, int, int]]] = defaultdict(list)
    source, starts, plain = text.source, text.starts, text.is_ascii
    line, line_start, next_line = 0, 0, 0
    for start in sorted(places)[:MAX_REFERENCES]:
        code, end = places[start]
        while next_line <= start:
            line, line_start = line + 1, next_line
            next_line = starts[line]
        written[source[start:end]].append(
            (code, line, start - line_start) if plain else (code, *text.place(start))
        )
    uses: dict[str, list[tuple[int, int, int]]] = {}
    for raw, found in written.items():
        name, before = _last_part(raw) if len(raw) > MAX_NAME or b"." in raw or b":" in raw else (raw, b"")
        if before:  # the name itself begins behind it
            units = len(before.decode().encode("utf-16-le")) // 2
            found[:] = [(code, line, column + units) for code, line, column in found]
        known = uses.setdefault(name.decode("utf-8", "replace"), found)
        if known is not found:
            known += found
            known.sort(key=itemgetter(1, 2))
    return uses


def _last_part(raw: bytes) -> tuple[bytes, bytes]:
    """The name itself, ``Channel`` of ``Phoenix.Channel``, and what stands before it; too long a name is cut."""
    name = _shortened(raw)
    last = SEPARATOR.split(name)[-1] if QUALIFIED.fullmatch(name) else name
    return last.encode(), name.removesuffix(last).encode()


def _places(captured: Captures, found: Iterable[int]) -> dict[int, tuple[int, int]]:
    """The code and the end of each use by its start; a defined name is none."""
    places: dict[int, tuple[int, int]] = {}
    # Of two kinds at one place the first of USE_KINDS counts, but inheritance says more than any.
    for code in sorted(range(len(USE_KINDS)), key=lambda code: (code == _INHERIT, -code)):
        for node in captured.get(f"reference.{USE_KINDS[code]}", ()):
            places[node.start_byte] = code, node.end_byte
    for start in found:
        places.pop(start, None)
    return places


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
        if "." in whole or ":" in whole:
            if QUALIFIED.fullmatch(whole):
                one.name = _last(one, outer)
            whole = SEPARATOR.sub(".", whole)
        name, kind = one.name, one.kind
        if one.receiver:
            outer.append(one.receiver)
        if kind == "function" and (one.receiver or (open_scopes and open_scopes[-1][2] in CONTAINERS)):
            kind = "method"
        if kind == "variable" and name.isupper() and len(name) > 1:
            kind = "constant"
        open_scopes.append((one.end, whole, one.kind))
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
    return _shortened(text.source[start : min(end, start + 4 * MAX_NAME)])


def _shortened(raw: bytes) -> str:
    """As text, cut to ``MAX_NAME`` characters."""
    return raw[: 4 * MAX_NAME].decode("utf-8", "replace")[:MAX_NAME]


def _module(text: str) -> str:
    return text.removeprefix("import ").strip().strip("\"'<>; \t\n")
