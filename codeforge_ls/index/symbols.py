"""Symbol lookups: definitions by name, prefix or letters, outlines, references and callers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from operator import itemgetter

from codeforge_ls.index import records
from codeforge_ls.index.calls import Node
from codeforge_ls.index.extract import SymbolRow
from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_facts import CALLABLE, places_of
from codeforge_ls.index.name_search import NameSearch
from codeforge_ls.index.snapshot import Snapshot
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import NotFound

IDENTIFIER = re.compile(r"[^\W\d]\w*")


def find(
    snapshot: Snapshot, graph: CodeGraph, search: NameSearch, name: str, limit: int, *, prefix: bool
) -> list[JsonObject]:
    """Definitions of ``name``; with ``prefix`` also names that start with it, contain it or have its letters in order.

    A qualified name (``Class.method``, ``a::b``) must also match the end of the scope.
    """
    *outer, last = split_name(name)
    if not last:
        return []
    if prefix:
        wanted = search.find(last, limit)
    else:
        exact = graph.name_id(last)
        wanted = [exact] if exact >= 0 and graph.definitions(exact) else search.exact(last)
    found: list[tuple[SymbolRow, str]] = []
    for one in wanted:
        found.extend((graph.symbol(*node), graph.paths[node[0]]) for node in graph.definitions(one))
        if len(found) >= limit and not outer:
            break
    if graph.unread:
        found.extend(_unread(snapshot, graph, last, limit, prefix=prefix))
    return [symbol_json(*one) for one in _scoped(found, outer)[:limit]]


def split_name(name: str) -> list[str]:
    """The parts of a qualified name, the last one empty when there is none."""
    return [part for part in re.split(r"::|->|[.#/\\]", name.strip()) if part] or [""]


def nodes_named(graph: CodeGraph, name: str) -> list[Node]:
    """The definitions of a name, qualified or not, as nodes of the graph."""
    *outer, last = split_name(name)
    nodes = graph.definitions(graph.name_id(last))
    if not outer:
        return nodes
    inside = [node for node in nodes if graph.symbol(*node)[6].split(".")[-1] == outer[-1]]
    return inside or nodes


def outline(snapshot: Snapshot, path: str, limit: int) -> list[JsonObject]:
    """The definitions of one file in order. Raises ``NotFound`` for a file that is not in the index."""
    rows = records.definitions(snapshot.db, content_of(snapshot, path))
    return [symbol_json(row, path) for row in rows[:limit]]


def content_of(snapshot: Snapshot, path: str) -> int:
    """The content of a path. Raises ``NotFound``."""
    content = snapshot.present.get(path)
    if content is None:
        raise NotFound(f"{path} is not in the index.", hint=f"`codeforge index explain {path}` says why.")
    return content


def name_at(snapshot: Snapshot, path: str, line: int, column: int) -> str:
    """The identifier at a position (line 1-based, column 0-based in UTF-16 units). Raises ``NotFound``."""
    lines = snapshot.lines(content_of(snapshot, path))
    if not 1 <= line <= len(lines):
        raise NotFound(f"{path} has no line {line}.")
    text = lines[line - 1]
    before = text.encode("utf-16-le")[: 2 * column].decode("utf-16-le", "ignore")
    for match in IDENTIFIER.finditer(text):
        if match.start() <= len(before) <= match.end():
            return match.group()
    raise NotFound(f"There is no name at {path}:{line}:{column}.")


def references(
    snapshot: Snapshot, graph: CodeGraph, name: str, limit: int, kinds: Sequence[str] = ()
) -> list[JsonObject]:
    """Uses of a name in all files, by path and line. Names are compared, not bindings."""
    found: list[JsonObject] = []
    for path, places in _places_by_path(snapshot, graph, name):
        ordered = sorted((line, column, kind) for kind, line, column in places if not kinds or kind in kinds)
        found.extend(
            {"name": name, "path": path, "line": line, "column": column, "kind": kind}
            for line, column, kind in ordered
        )
        if len(found) >= limit:
            break
    return found[:limit]


def _places_by_path(
    snapshot: Snapshot, graph: CodeGraph, name: str
) -> Iterator[tuple[str, list[records.Place]]]:
    """The uses of a name, by path; a file is read when its turn comes."""
    if graph.unread:
        every = records.places(snapshot.db, name)
        named = [(path, places) for content, places in every for path in snapshot.paths.get(content, ())]
        yield from sorted(named, key=itemgetter(0))
        return
    for file in sorted(graph.users(graph.name_id(name)), key=graph.paths.__getitem__):
        for _, places in places_of(snapshot.db, [graph.contents[file]], name):
            yield graph.paths[file], places


def enclosing(graph: CodeGraph, uses: Iterable[JsonObject], limit: int) -> list[JsonObject]:
    """The innermost function, method or class around each use, each once."""
    found: dict[Node, None] = {}
    for use in uses:
        file = graph.ids.get(str(use["path"]), -1)
        if file < 0 or len(found) >= limit:
            continue
        at = graph.innermost(file, int(str(use["line"])), CALLABLE)
        if at >= 0:
            found.setdefault((file, at))
    return [node_json(graph, node) for node in found]


def near_first(definitions: list[JsonObject], path: str | None) -> list[JsonObject]:
    """The same, those in ``path`` or near it first."""
    if path is None:
        return definitions
    folder = path.rpartition("/")[0]
    return sorted(
        definitions,
        key=lambda one: (one["path"] != path, str(one["path"]).rpartition("/")[0] != folder),
    )


def node_json(graph: CodeGraph, node: Node) -> JsonObject:
    """A definition of the graph as the model ``Symbol`` has it."""
    return symbol_json(graph.symbol(*node), graph.paths[node[0]])


def symbol_json(row: SymbolRow, path: str) -> JsonObject:
    """A definition as the model ``Symbol`` has it."""
    return {
        "name": row[0],
        "kind": row[1],
        "path": path,
        "start_line": row[2],
        "end_line": row[3],
        "name_line": row[4],
        "name_column": row[5],
        "scope": row[6],
        "signature": row[7],
    }


def _scoped(rows: list[tuple[SymbolRow, str]], outer: Sequence[str]) -> list[tuple[SymbolRow, str]]:
    if not outer:
        return rows
    inside = [one for one in rows if one[0][6].split(".")[-1:] == [outer[-1]]]
    return inside or rows


def _unread(
    snapshot: Snapshot, graph: CodeGraph, last: str, limit: int, *, prefix: bool
) -> list[tuple[SymbolRow, str]]:
    """Definitions in files that the graph has not taken in: while the first one is being built those are most."""
    wanted = last.lower()
    found: list[tuple[SymbolRow, str]] = []
    for content, rows in records.definitions_like(snapshot.db, last, prefix=prefix):
        paths = [path for path in snapshot.paths.get(content, ()) if not _is_read(graph, path, content)]
        for row in rows if paths else ():
            name = row[0].lower()
            if name.startswith(wanted) if prefix else name == wanted:
                found.extend((row, path) for path in paths)
        if len(found) >= 4 * limit:
            break
    exact = [one for one in found if one[0][0] == last]
    return found if prefix else exact or found


def _is_read(graph: CodeGraph, path: str, content: int) -> bool:
    at = graph.ids.get(path, -1)
    return at >= 0 and graph.contents[at] == content
