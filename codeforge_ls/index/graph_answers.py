"""What the query worker answers from the code graph: symbols, calls, walks, the repo map and its picture."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np

from codeforge_ls.index import symbols
from codeforge_ls.index.arrays_file import BadArrays
from codeforge_ls.index.calls import Node, Relations
from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_base import Floats, GraphBase
from codeforge_ls.index.graph_edges import between
from codeforge_ls.index.graph_facts import places_of
from codeforge_ls.index.name_search import NameSearch
from codeforge_ls.index.path_rules import path_weight
from codeforge_ls.index.ranking import named_symbols
from codeforge_ls.index.repomap import MapTable, estimate_tokens, pack
from codeforge_ls.index.snapshot import Snapshot
from codeforge_ls.index.tokens import query_tokens
from codeforge_ls.index.walk import Edge, Walk, Walker
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, NotFound, Unavailable
from codeforge_ls.model.index import EdgeKind
from codeforge_ls.workers import Emit

log = logging.getLogger(__name__)

FOCUS_WEIGHT, OPEN_WEIGHT, LEXICAL_WEIGHT, NAMED_WEIGHT = 1.0, 0.5, 0.3, 0.5
EVERYWHERE = 0.1  # of the restart weight goes to all files alike
MANY_NAMED = 8  # a mentioned identifier that more files define steers nothing
# A new graph is asked for once this many files, or this share of all, are not as in the present one.
CHANGED_FILES, CHANGED_SHARE = 100, 0.02
NEW_NAMES = 20_000  # or once it holds so many names beside those of its base
PICTURE_NAMES, PICTURE_NAME = 3, 28

Paths = Callable[[Sequence[str], int], list[str]]


class GraphAnswers:
    """The handlers. ``refresh`` brings the snapshot to the present and says whether there is one; ``condition`` is
    added to each answer; ``lexical`` gives the paths that some words find, best first."""

    def __init__(
        self,
        state: Path,
        snapshot: Snapshot,
        refresh: Callable[[], bool],
        condition: Callable[[], JsonObject],
        lexical: Paths,
    ) -> None:
        self._state, self._snapshot = state, snapshot
        self._refresh, self._more, self._lexical = refresh, condition, lexical
        self._name: str | None = None
        self._usable = False
        self._owners: dict[str, tuple[str, ...]] = {}
        self._owners_key = ""
        self._take(GraphBase.empty())

    def _take(self, base: GraphBase) -> None:
        self._graph = CodeGraph(base)
        self._followed = -2  # the generation that the graph is at
        self._relations = Relations(self._graph)
        self._search = NameSearch(self._graph)
        self._table = MapTable(self._graph)

    def graph(self) -> CodeGraph:
        """The graph of the present state. Raises ``Unavailable`` before the index exists."""
        if not self._refresh():
            raise Unavailable("The index is not there yet.", hint="It is being built; try again in a moment.")
        return self._present()

    def _present(self) -> CodeGraph:
        """The graph of the state that the snapshot is at."""
        name = self._snapshot.graph_name
        if name != self._name:
            base, self._usable = GraphBase.empty(), False
            if name:
                try:
                    base, self._usable = GraphBase.map(self._state / "graph" / name), True
                except BadArrays as problem:
                    log.warning("the code graph: %s", problem)
            self._take(base)
            self._name = name
        if self._followed != self._snapshot.generation:
            changed = self._snapshot.changed_after(self._followed)
            self._graph.follow(self._snapshot.db, self._snapshot.present, changed)
            self._followed = self._snapshot.generation
        return self._graph

    def _condition(self) -> JsonObject:
        """Files that the graph lacks count as unread; ``graph_stale`` asks for a new base."""
        known = self._more()
        unread = max(int(str(known.get("unread") or 0)), self._graph.unread)
        many = max(CHANGED_FILES, CHANGED_SHARE * len(self._snapshot.present))
        full = len(self._graph.changed) > many or self._graph.new_name_count > NEW_NAMES
        old = full or self._graph.unread > 0 or not self._name
        stale = "damaged" if self._name and not self._usable else "old" if old else ""
        return {**known, "unread": unread, "graph_stale": stale}

    async def warm(self, _params: JsonObject, _emit: Emit) -> JsonValue:
        """Load what the first question would have to wait for, and say what of it is of no use."""
        if not self._refresh():
            return {}
        self.graph().warm()
        len(self._table)
        return self._condition()

    # -- symbols

    async def symbols(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Definitions by name or prefix, or the outline of a path."""
        graph = self.graph()
        limit, path, name = int(str(params["limit"])), params.get("path"), str(params.get("name") or "")
        if isinstance(path, str):
            found = symbols.outline(self._snapshot, path, limit)
            found = [one for one in found if not name or one["name"] == name]
        else:
            prefix = bool(params.get("prefix"))
            found = symbols.find(self._snapshot, graph, self._search, name, limit, prefix=prefix)
        return {"definitions": [*found], **self._condition()}

    def defining(self, name: str, limit: int) -> list[JsonObject]:
        """The definitions of a name, as ``Symbol`` has them, in the state that the snapshot is at."""
        return symbols.find(self._snapshot, self._present(), self._search, name, limit, prefix=False)

    def imported(self, path: str) -> list[str]:
        """The files that a file imports, in the state that the snapshot is at; none before there is a graph, which a
        search does not wait for."""
        if not self._snapshot.graph_name:
            return []
        graph = self._present()
        at = graph.ids.get(path)
        return [graph.paths[file] for file in graph.imports.targets(at)] if at is not None else []

    async def symbol_info(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """What a name, or what stands at a position, is and what it has to do with others."""
        graph = self.graph()
        path = str(params["path"]) if params.get("path") else None
        name = str(params.get("name") or "")
        if not name and path is not None:
            position = int(str(params["line"])), int(str(params["column"]))
            name = symbols.name_at(self._snapshot, path, *position)
        limit, relation = int(str(params["limit"])), str(params["relation"])
        last = symbols.split_name(name)[-1]
        definitions = symbols.find(self._snapshot, graph, self._search, name, limit, prefix=False)
        definitions = symbols.near_first(definitions, path)
        uses: list[JsonObject] = []
        if relation == "references":
            uses = symbols.references(self._snapshot, graph, last, limit)
        elif relation == "callers":
            uses = symbols.references(self._snapshot, graph, last, limit, kinds=("call",))
            definitions = symbols.enclosing(graph, uses, limit)
        elif relation != "definition":
            nodes = self._related(graph, symbols.nodes_named(graph, name), relation)
            definitions = [symbols.node_json(graph, node) for node in nodes[:limit]]
        return {"name": name, "definitions": [*definitions], "references": [*uses], **self._condition()}

    def _related(self, graph: CodeGraph, nodes: Sequence[Node], relation: str) -> list[Node]:
        found: dict[Node, None] = {}
        if relation == "neighbours":
            kinds = frozenset({EdgeKind.CALL, EdgeKind.INHERIT})
            walk = Walker(graph, self._relations, kinds).walk([(node, 1.0) for node in nodes], 1, 200)
            reached = [node for node in walk.reached if isinstance(node, tuple) and node[1] >= 0]
            return [node for node in reached if node not in walk.starts]
        for node in nodes:
            if relation == "callees":
                for _, targets in self._relations.callees(node):
                    found.update(dict.fromkeys(targets))
            else:
                found.update(dict.fromkeys(self._relations.derived(node)))
        return list(found)

    # -- the call hierarchy

    async def calls(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The definition at a position, or that the name there means; and who calls it or whom it calls."""
        graph = self.graph()
        path, line, column = str(params["path"]), int(str(params["line"])), int(str(params["column"]))
        node = self._node_at(graph, path, line, column)
        sites: list[JsonValue] = []
        if node is not None and params["direction"] == "incoming":
            name = graph.symbol(*node)[0]
            sites = [self._site(graph, one, one, [name]) for one in self._relations.callers(node)]
        elif node is not None and params["direction"] == "outgoing":
            for called, targets in self._relations.callees(node):
                sites.extend(self._site(graph, one, node, [graph.name(called)]) for one in targets)
        symbol = symbols.node_json(graph, node) if node is not None else None
        limit = int(str(params["limit"]))
        return {"symbol": symbol, "calls": sites[:limit], **self._condition()}

    def _node_at(self, graph: CodeGraph, path: str, line: int, column: int) -> Node | None:
        name = symbols.name_at(self._snapshot, path, line, column)
        file = graph.ids.get(path, -1)
        if file < 0:
            return None
        for at in range(graph.symbol_count(file)):
            row = graph.symbol(file, at)
            if row[0] == name and row[4] == line:
                return file, at
        near = self._relations.nearest(graph.name_id(name), file)
        near = near or self._relations.nearest(graph.name_id(name), file, types=True)
        return near[0] if near else None

    def _site(self, graph: CodeGraph, shown: Node, caller: Node, names: Sequence[str]) -> JsonObject:
        """One call: the definition on the other side, and where ``caller`` names it."""
        path = graph.paths[caller[0]]
        row = graph.symbol(*caller) if caller[1] >= 0 else None
        first, last = (row[2], row[3]) if row else (1, 1 << 31)
        places: list[JsonValue] = [
            {"name": name, "path": path, "line": line, "column": column, "kind": kind}
            for name in names
            for _, found in places_of(self._snapshot.db, [graph.contents[caller[0]]], name, ("call",))
            for kind, line, column in found
            if first <= line <= last
        ]
        symbol = self._file_symbol(shown[0]) if shown[1] < 0 else symbols.node_json(graph, shown)
        return {"symbol": symbol, "places": places}

    def _file_symbol(self, file: int) -> JsonObject:
        """A file as the caller of what it calls outside of all definitions."""
        path = self._graph.paths[file]
        return symbols.symbol_json((path.rpartition("/")[2], "module", 1, 1, 1, 0, "", ""), path)

    # -- walks

    async def owners(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Remember who owns what, under a key."""
        table = params["owners"]
        rows = table.items() if isinstance(table, dict) else ()
        self._owners = {path: tuple(str(who) for who in _items(owners)) for path, owners in rows}
        self._owners_key = str(params["key"])
        return None

    async def walk(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Nodes reached from what a query finds, from a symbol or from a path, with the way to each."""
        graph = self.graph()
        kinds = frozenset(EdgeKind(str(kind)) for kind in _items(params["edges"]))
        if EdgeKind.OWNER in kinds and params.get("owners_key") != self._owners_key:
            return {"needs_owners": True, **self._condition()}
        starts = self._starts(graph, params)
        owners = {graph.ids[path]: who for path, who in self._owners.items() if path in graph.ids}
        walker = Walker(graph, self._relations, kinds, owners if EdgeKind.OWNER in kinds else None)
        walk = walker.walk(starts, int(str(params["hops"])), int(str(params["most"])))
        ranks = graph.ranks()
        around = {(node[0], -1) for node in walk.starts}
        found = [
            node
            for node in walk.reached
            if isinstance(node, tuple) and node not in walk.starts and node not in around
        ]
        found.sort(
            key=lambda node: (-round(walk.reached[node].score, 9), -ranks[node[0]], _label(graph, node))
        )
        nodes = [self._reached(graph, walk, node) for node in found[: int(str(params["limit"]))]]
        return {
            "start": [_label(graph, node) for node in walk.starts],
            "nodes": [*nodes],
            "visited": len(walk.reached),
            "capped": walk.capped,
            **self._condition(),
        }

    def _starts(self, graph: CodeGraph, params: JsonObject) -> list[tuple[Node, float]]:
        name, path = str(params.get("symbol") or ""), str(params.get("path") or "")
        if name:
            nodes = symbols.nodes_named(graph, name)
            if path:
                nodes = [node for node in nodes if graph.paths[node[0]] == path]
            if not nodes:
                raise NotFound(
                    f"There is no definition of {name}.", hint="`codeforge search` finds by words."
                )
            return [(node, 1.0) for node in nodes[:20]]
        if path:
            symbols.content_of(self._snapshot, path)
            return [((graph.ids[path], -1), 1.0)]
        query = str(params.get("query") or "")
        if not query:
            raise InvalidInput("A query, a symbol or a path is needed.", data={"field": "query"})
        names = named_symbols(query) or ([query] if len(query.split()) == 1 else [])
        named = [node for one in names for node in symbols.nodes_named(graph, one)]
        starts: dict[Node, float] = dict.fromkeys(named[:5], 1.0)
        words = query_tokens(query, keep_stop_words=False)
        for at, found in enumerate(self._lexical(words, 5)):
            if found in graph.ids:
                starts.setdefault((graph.ids[found], -1), 1.0 / (1 + 0.2 * at))
        return list(starts.items())

    def _reached(self, graph: CodeGraph, walk: Walk, node: Node) -> JsonObject:
        reached = walk.reached[node]
        row = graph.symbol(*node) if node[1] >= 0 else None
        return {
            "name": _label(graph, node),
            "path": graph.paths[node[0]],
            "kind": row[1] if row else "file",
            "line": row[4] if row else 1,
            "signature": row[7] if row else "",
            "score": round(reached.score, 6),
            "hops": reached.hops,
            "why": [_step(graph, edge) for edge in walk.why(node)],
        }

    # -- the map

    async def repo_map(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The map for a budget, drawn to focus files, open files, and to what a query names and finds."""
        budget, query = int(str(params["budget_tokens"])), str(params.get("query") or "")
        if not self._refresh():
            return {"text": "", "tokens": 0, "files": 0, "cut": 0, "entries": [], **self._more()}
        graph, table = self.graph(), self._table
        words = query_tokens(query, keep_stop_words=False) if query.strip() else []
        names = [graph.name_id(name) for name in named_symbols(query)] if words else []
        names = [name for name in names if name >= 0 and len(graph.definitions(name)) <= MANY_NAMED]
        excluded = {str(path) for path in _items(params.get("exclude"))}
        entries = table.entries(self._personal(graph, params, words, names), words, names)
        shown = (entry for entry in entries if entry.path not in excluded)
        packed = pack(shown, len(table), budget)
        lines: list[JsonValue] = []
        for entry in packed.entries:
            row = graph.symbol(*entry.node)
            name = f"{row[6]}.{row[0]}".lstrip(".")
            lines.append([entry.path, name, row[1], entry.line, entry.text, float(f"{entry.rank:.6g}")])
        return {
            "text": packed.text,
            "tokens": estimate_tokens(packed.text),
            "files": packed.files,
            "symbols": packed.symbols,
            "cut": packed.cut,
            "cut_files": max(0, table.files() - packed.files),
            "entries": lines,
            **self._condition(),
        }

    def _personal(
        self, graph: CodeGraph, params: JsonObject, words: Sequence[str], names: Sequence[int]
    ) -> Floats | None:
        """Restart weights: files in focus, open files, files that define what is named, files that a query finds."""
        weights: Floats = np.zeros(len(graph.paths))

        def add(path: str, weight: float) -> None:
            if path in graph.ids and graph.is_present(graph.ids[path]):
                weights[graph.ids[path]] += weight

        for path in _items(params.get("focus")):
            add(str(path), FOCUS_WEIGHT)
        for path in _items(params.get("open")):
            add(str(path), OPEN_WEIGHT)
        for name in names:
            for file in {file for file, _ in graph.definitions(name)}:
                add(graph.paths[file], NAMED_WEIGHT)
        for at, path in enumerate(self._lexical(words, 50) if words else ()):
            add(path, LEXICAL_WEIGHT * path_weight(path) / (at + 1))
        if not weights.any():
            return None
        present = graph.flow().present
        personal: Floats = weights + EVERYWHERE * weights.sum() / max(1, present.sum()) * present
        return personal

    async def picture(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The top of the file graph: the best files and the strongest edges between them."""
        graph, table = self.graph(), self._table
        excluded = {str(path) for path in _items(params.get("exclude"))}
        count, query = int(str(params["files"])), str(params.get("query") or "")
        words = query_tokens(query, keep_stop_words=False) if query.strip() else []
        best: dict[int, list[str]] = {}
        values: dict[int, float] = {}
        for seen, entry in enumerate(table.entries(self._personal(graph, params, words, []), words)):
            file = entry.node[0]
            if entry.path in excluded:
                continue
            values[file] = values.get(file, 0.0) + entry.rank
            best.setdefault(file, []).append(graph.symbol(*entry.node)[0][:PICTURE_NAME])
            if seen > 2_000 and len(best) >= count:
                break
        top = sorted(best, key=lambda file: (-values[file], graph.paths[file]))[:count]
        nodes: list[JsonValue] = [
            {
                "path": graph.paths[file],
                "rank": values[file],
                "symbols": [*[*dict.fromkeys(best[file])][:PICTURE_NAMES]],
            }
            for file in top
        ]
        edges: list[JsonValue] = [
            {"source": graph.paths[one], "target": graph.paths[other], "weight": round(weight, 4)}
            for one, other, weight in between(graph, top)
        ]
        return {
            "nodes": nodes,
            "edges": edges,
            "cut_files": max(0, table.files() - len(nodes)),
            **self._condition(),
        }


def _items(value: JsonValue) -> list[JsonValue]:
    return value if isinstance(value, list) else []


def _label(graph: CodeGraph, node: Node | str) -> str:
    if isinstance(node, str):
        return node
    path = graph.paths[node[0]]
    if node[1] < 0:
        return path
    row = graph.symbol(*node)
    return f"{path}::{row[6]}.{row[0]}".replace("::.", "::")


def _step(graph: CodeGraph, edge: Edge) -> JsonObject:
    return {"kind": edge[0].value, "source": _label(graph, edge[1]), "target": _label(graph, edge[2])}
