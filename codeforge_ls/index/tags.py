"""Definitions, references and imports of one source, by a tree-sitter query. Runs in parser processes only."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from codeforge_ls.index.grammars import Grammar

if TYPE_CHECKING:
    from tree_sitter import Node

# A hostile or generated file may hold millions; beyond these the rest is not looked at.
MAX_SYMBOLS, MAX_REFERENCES, MAX_NAME, MAX_SIGNATURE = 20_000, 100_000, 200, 200

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

    def row(self) -> list[str | int]:
        """The fields in order, for the wire and the database."""
        return [
            self.name, self.kind, self.start_line, self.end_line,
            self.name_line, self.name_column, self.scope, self.signature,
        ]  # fmt: skip


@dataclass(slots=True)
class Tags:
    """What one source defines and uses. ``references`` maps a name to its places ``(kind, line, column)``."""

    definitions: list[Definition] = field(default_factory=list)
    references: dict[str, list[tuple[str, int, int]]] = field(default_factory=dict)
    imports: list[tuple[str, int]] = field(default_factory=list)


@dataclass(slots=True)
class _Found:
    pattern: int
    kind: str
    name: Node
    whole: Node
    receiver: str


def read_tags(source: bytes, language: str, known: Grammar) -> Tags:
    """Parse ``source`` (UTF-8) and collect its tags. May never return: the caller holds the deadline."""
    from tree_sitter import Parser, QueryCursor

    tree = Parser(known.language).parse(source)
    found: dict[int, _Found] = {}
    uses: dict[tuple[int, int], tuple[str, Node]] = {}
    tags = Tags()
    for pattern, captures in QueryCursor(known.query).matches(tree.root_node):
        whole = kind = None
        for capture, nodes in captures.items():
            group, _, detail = capture.partition(".")
            if group == "definition":
                whole, kind = nodes[0], detail
            elif group == "reference" and len(uses) < MAX_REFERENCES:
                for node in nodes:
                    uses.setdefault((node.start_byte, node.end_byte), (detail, node))
            elif group == "import":
                tags.imports.extend((_module(node), node.start_point.row + 1) for node in nodes)
        if whole is None or kind is None or "name" not in captures:
            continue
        name = captures["name"][0]
        earlier = found.get(name.start_byte)
        if (earlier is None and len(found) < MAX_SYMBOLS) or (earlier and pattern < earlier.pattern):
            receiver = captures.get("receiver")
            found[name.start_byte] = _Found(
                pattern, kind, name, whole, _text(receiver[0]) if receiver else ""
            )
    tags.definitions = _nest(found.values(), source, language)
    for start, (kind, node) in sorted(uses.items()):
        if start[0] not in found:
            places = tags.references.setdefault(_text(node), [])
            places.append((kind, node.start_point.row + 1, _column(node, source)))
    return tags


def _nest(found: Iterable[_Found], source: bytes, language: str) -> list[Definition]:
    """Order the definitions, give each its scope, and turn functions inside types into methods."""
    ordered = sorted(found, key=lambda one: (one.whole.start_byte, -one.whole.end_byte, one.name.start_byte))
    open_scopes: list[tuple[int, str, str]] = []
    result: list[Definition] = []
    for one in ordered:
        while open_scopes and open_scopes[-1][0] <= one.whole.start_byte:
            open_scopes.pop()
        name, kind = _text(one.name), one.kind
        outer = [scope for _, scope, _ in open_scopes]
        if one.receiver:
            outer.append(one.receiver)
        if kind == "function" and (one.receiver or (open_scopes and open_scopes[-1][2] in CONTAINERS)):
            kind = "method"
        if kind == "variable" and name.isupper() and len(name) > 1:
            kind = "constant"
        open_scopes.append((one.whole.end_byte, name, one.kind))
        if kind == "scope":
            continue
        definition = _definition(one, name, kind, source)
        definition.scope = ".".join(outer)
        if language in CLAUSED and result and _same(result[-1], definition):
            result[-1].end_line = max(result[-1].end_line, definition.end_line)
        else:
            result.append(definition)
    return result


def _same(one: Definition, other: Definition) -> bool:
    return (one.name, one.kind, one.scope) == (other.name, other.kind, other.scope)


def _definition(one: _Found, name: str, kind: str, source: bytes) -> Definition:
    start, end = one.whole.start_point, one.whole.end_point
    # A node that ends at column 0 ends with the line before.
    last = end.row if end.column or end.row == start.row else end.row - 1
    line_start = one.name.start_byte - one.name.start_point.column
    line_end = source.find(b"\n", line_start)
    line = source[line_start : line_end if line_end >= 0 else len(source)][: 4 * MAX_SIGNATURE]
    return Definition(
        name=name,
        kind=kind,
        start_line=start.row + 1,
        end_line=max(last, one.name.start_point.row) + 1,
        name_line=one.name.start_point.row + 1,
        name_column=_column(one.name, source),
        signature=line.decode("utf-8", "replace").strip()[:MAX_SIGNATURE],
    )


def _column(node: Node, source: bytes) -> int:
    """The 0-based UTF-16 column of a node: tree-sitter counts bytes, editors UTF-16 code units."""
    prefix = source[node.start_byte - node.start_point.column : node.start_byte]
    return (
        len(prefix) if prefix.isascii() else len(prefix.decode("utf-8", "replace").encode("utf-16-le")) // 2
    )


def _text(node: Node) -> str:
    return (node.text or b"")[: 4 * MAX_NAME].decode("utf-8", "replace")[:MAX_NAME]


def _module(node: Node) -> str:
    text = _text(node).removeprefix("import ").strip()
    return text.strip("\"'<>; \t\n")
