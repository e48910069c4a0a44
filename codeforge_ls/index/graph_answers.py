"""What the query worker answers from the code graph about definitions: where they are, who calls whom, walks."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from codeforge_ls.index import symbols
from codeforge_ls.index.calls import Node
from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_facts import places_of
from codeforge_ls.index.present_graph import PresentGraph
from codeforge_ls.index.ranking import named_symbols
from codeforge_ls.index.tokens import query_tokens
from codeforge_ls.index.walk import Edge, Walk, Walker
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, NotFound
from codeforge_ls.model.index import EdgeKind
from codeforge_ls.workers import Emit

Paths = Callable[[Sequence[str], int], list[str]]


class GraphAnswers:
    """The handlers. ``lexical`` gives the paths that some words find, best first."""

    def __init__(self, present: PresentGraph, lexical: Paths) -> None:
        self._present, self._lexical = present, lexical
        self._owners: dict[str, tuple[str, ...]] = {}
        self._owners_key = ""

    # -- symbols

    async def symbols(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Definitions by name or prefix, or the outline of a path."""
        graph = self._present.now()
        limit, path, name = int(str(params["limit"])), params.get("path"), str(params.get("name") or "")
        if isinstance(path, str):
            found = symbols.outline(self._present.snapshot, path, limit)
            found = [one for one in found if not name or one["name"] == name]
        else:
            prefix = bool(params.get("prefix"))
            found = symbols.find(
                self._present.snapshot, graph, self._present.search, name, limit, prefix=prefix
            )
        return {"definitions": [*found], **self._present.condition()}

    def defining(self, name: str, limit: int) -> list[JsonObject]:
        """The definitions of a name, as ``Symbol`` has them, in the state that the snapshot is at."""
        return symbols.find(
            self._present.snapshot, self._present.as_is(), self._present.search, name, limit, prefix=False
        )

    def imported(self, path: str) -> list[str]:
        """The files that a file imports, in the state that the snapshot is at; none before there is a graph, which a
        search does not wait for."""
        if not self._present.snapshot.graph_name:
            return []
        graph = self._present.as_is()
        at = graph.ids.get(path)
        return [graph.paths[file] for file in graph.imports.targets(at)] if at is not None else []

    async def symbol_info(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """What a name, or what stands at a position, is and what it has to do with others."""
        graph = self._present.now()
        path = str(params["path"]) if params.get("path") else None
        name = str(params.get("name") or "")
        if not name and path is not None:
            position = int(str(params["line"])), int(str(params["column"]))
            name = symbols.name_at(self._present.snapshot, path, *position)
        limit, relation = int(str(params["limit"])), str(params["relation"])
        last = symbols.split_name(name)[-1]
        definitions = symbols.find(
            self._present.snapshot, graph, self._present.search, name, limit, prefix=False
        )
        definitions = symbols.near_first(definitions, path)
        uses: list[JsonObject] = []
        if relation == "references":
            uses = symbols.references(self._present.snapshot, graph, last, limit)
        elif relation == "callers":
            uses = symbols.references(self._present.snapshot, graph, last, limit, kinds=("call",))
            definitions = symbols.enclosing(graph, uses, limit)
        elif relation != "definition":
            nodes = self._related(graph, symbols.nodes_named(graph, name), relation)
            definitions = [symbols.node_json(graph, node) for node in nodes[:limit]]
        return {
            "name": name,
            "definitions": [*definitions],
            "references": [*uses],
            **self._present.condition(),
        }

    def _related(self, graph: CodeGraph, nodes: Sequence[Node], relation: str) -> list[Node]:
        found: dict[Node, None] = {}
        if relation == "neighbours":
            kinds = frozenset({EdgeKind.CALL, EdgeKind.INHERIT})
            walk = Walker(graph, self._present.relations, kinds).walk([(node, 1.0) for node in nodes], 1, 200)
            reached = [node for node in walk.reached if isinstance(node, tuple) and node[1] >= 0]
            return [node for node in reached if node not in walk.starts]
        for node in nodes:
            if relation == "callees":
                for _, targets in self._present.relations.callees(node):
                    found.update(dict.fromkeys(targets))
            else:
                found.update(dict.fromkeys(self._present.relations.derived(node)))
        return list(found)

    # -- the call hierarchy

    async def calls(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The definition at a position, or that the name there means; and who calls it or whom it calls."""
        graph = self._present.now()
        path, line, column = str(params["path"]), int(str(params["line"])), int(str(params["column"]))
        node = self._node_at(graph, path, line, column)
        sites: list[JsonValue] = []
        if node is not None and params["direction"] == "incoming":
            name = graph.symbol(*node)[0]
            sites = [self._site(graph, one, one, [name]) for one in self._present.relations.callers(node)]
        elif node is not None and params["direction"] == "outgoing":
            for called, targets in self._present.relations.callees(node):
                sites.extend(self._site(graph, one, node, [graph.name(called)]) for one in targets)
        symbol = symbols.node_json(graph, node) if node is not None else None
        limit = int(str(params["limit"]))
        return {"symbol": symbol, "calls": sites[:limit], **self._present.condition()}

    def _node_at(self, graph: CodeGraph, path: str, line: int, column: int) -> Node | None:
        name = symbols.name_at(self._present.snapshot, path, line, column)
        file = graph.ids.get(path, -1)
        if file < 0:
            return None
        for at in range(graph.symbol_count(file)):
            row = graph.symbol(file, at)
            if row[0] == name and row[4] == line:
                return file, at
        near = self._present.relations.nearest(graph.name_id(name), file)
        near = near or self._present.relations.nearest(graph.name_id(name), file, types=True)
        return near[0] if near else None

    def _site(self, graph: CodeGraph, shown: Node, caller: Node, names: Sequence[str]) -> JsonObject:
        """One call: the definition on the other side, and where ``caller`` names it."""
        path = graph.paths[caller[0]]
        row = graph.symbol(*caller) if caller[1] >= 0 else None
        first, last = (row[2], row[3]) if row else (1, 1 << 31)
        places: list[JsonValue] = [
            {"name": name, "path": path, "line": line, "column": column, "kind": kind}
            for name in names
            for _, found in places_of(self._present.snapshot.db, [graph.contents[caller[0]]], name, ("call",))
            for kind, line, column in found
            if first <= line <= last
        ]
        symbol = _file_symbol(graph.paths[shown[0]]) if shown[1] < 0 else symbols.node_json(graph, shown)
        return {"symbol": symbol, "places": places}

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
        graph = self._present.now()
        kinds = frozenset(EdgeKind(str(kind)) for kind in _items(params["edges"]))
        if EdgeKind.OWNER in kinds and params.get("owners_key") != self._owners_key:
            return {"needs_owners": True, **self._present.condition()}
        starts = self._starts(graph, params)
        owners = {graph.ids[path]: who for path, who in self._owners.items() if path in graph.ids}
        walker = Walker(graph, self._present.relations, kinds, owners if EdgeKind.OWNER in kinds else None)
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
            **self._present.condition(),
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
            symbols.content_of(self._present.snapshot, path)
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


def _file_symbol(path: str) -> JsonObject:
    """A file as the caller of what it calls outside of all definitions."""
    return symbols.symbol_json((path.rpartition("/")[2], "module", 1, 1, 1, 0, "", ""), path)


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
