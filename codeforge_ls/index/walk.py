"""A walk over the code graph from a few nodes: along calls, imports, inheritance, tests, pairs and owners."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

from codeforge_ls.index.calls import Node, Relations
from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.model.index import EdgeKind

DECAY = 0.7  # of the score, a hop (row GR-1)
FILE_START = 0.5  # the file around a definition that the walk starts from is a lesser start
MAX_HOPS, MAX_VISITED = 4, 500
FAN = 60  # edges of one kind that are followed from one node
OWNED = 30  # files of one owner that are followed

Edge = tuple[EdgeKind, Node | str, Node | str]  # kind, source, target; a text is an owner


@dataclass(slots=True)
class Reached:
    """How a node was reached: the best score, its distance, and the edge and node it came by."""

    score: float
    hops: int
    parent: Node | str | None = None
    edge: Edge | None = None


@dataclass
class Walk:
    """The nodes of one walk, in the order of their coming. ``capped``: there would have been more."""

    starts: list[Node]
    reached: dict[Node | str, Reached] = field(default_factory=dict)
    capped: bool = False

    def why(self, node: Node | str) -> list[Edge]:
        """The edges from a start to this node."""
        edges: list[Edge] = []
        at: Node | str | None = node
        while at is not None and (found := self.reached[at]).edge is not None:
            edges.append(found.edge)
            at = found.parent
        return edges[::-1]


class Walker:
    """Walks one graph. ``owners`` maps files by number to who owns them, when owners are asked for."""

    def __init__(
        self,
        graph: CodeGraph,
        relations: Relations,
        kinds: frozenset[EdgeKind],
        owners: Mapping[int, Sequence[str]] | None = None,
    ) -> None:
        self._graph, self._relations, self._kinds = graph, relations, kinds
        self._owners = owners or {}
        self._owned: dict[str, list[int]] = {}
        for file in sorted(self._owners):
            for owner in self._owners[file]:
                self._owned.setdefault(owner, []).append(file)

    def walk(self, starts: Sequence[tuple[Node, float]], hops: int, most: int) -> Walk:
        """Breadth first, at most ``hops`` far and ``most`` nodes. A node reached again is worth a little more."""
        walk = Walk([node for node, _ in starts])
        for start, score in starts:
            walk.reached[start] = Reached(score, 0)
        for start, score in starts:
            if start[1] >= 0:
                walk.reached.setdefault((start[0], -1), Reached(score * FILE_START, 0))
        ring: list[Node | str] = list(walk.reached)
        for hop in range(1, hops + 1):
            following: list[Node | str] = []
            for node in ring:
                score = walk.reached[node].score * DECAY
                for edge, other in self._edges(node):
                    known = walk.reached.get(other)
                    if known is None:
                        if len(walk.reached) >= most:
                            walk.capped = True
                            continue
                        walk.reached[other] = Reached(score, hop, node, edge)
                        following.append(other)
                    elif known.hops == hop:
                        known.score += score * (1 - known.score) * 0.1
            ring = sorted(following, key=lambda one: -walk.reached[one].score)
        return walk

    def _edges(self, node: Node | str) -> Iterator[tuple[Edge, Node | str]]:
        if isinstance(node, str):
            for file in self._owned.get(node, [])[:OWNED]:
                yield (EdgeKind.OWNER, node, (file, -1)), (file, -1)
            return
        if EdgeKind.CALL in self._kinds:
            callees = (target for _, targets in self._relations.callees(node) for target in targets)
            for other in _first(callees, node):
                yield (EdgeKind.CALL, node, other), other
            for other in _first(iter(self._relations.callers(node)), node):
                yield (EdgeKind.CALL, other, node), other
        if node[1] >= 0:
            if EdgeKind.INHERIT in self._kinds:
                for other in _first(iter(self._relations.bases(node)), node):
                    yield (EdgeKind.INHERIT, node, other), other
                for other in _first(iter(self._relations.derived(node)), node):
                    yield (EdgeKind.INHERIT, other, node), other
            return
        yield from self._file_edges(node)

    def _file_edges(self, node: Node) -> Iterator[tuple[Edge, Node | str]]:
        file, relations = node[0], self._relations
        ways = (
            (EdgeKind.IMPORT, self._graph.imports.targets(file), True),
            (EdgeKind.IMPORT, self._graph.imports.sources(file), False),
            (EdgeKind.PAIR, relations.pairs(file), True),
            (EdgeKind.TEST, relations.tests(file), True),
            (EdgeKind.TEST, relations.tested_by(file), False),
        )
        for kind, others, outward in ways:
            if kind in self._kinds:
                for other in others[:FAN]:
                    target = (other, -1)
                    yield (kind, node, target) if outward else (kind, target, node), target
        if EdgeKind.OWNER in self._kinds:
            for owner in self._owners.get(file, ()):
                yield (EdgeKind.OWNER, owner, node), owner


def _first(nodes: Iterator[Node], without: Node) -> list[Node]:
    found: dict[Node, None] = {}
    for node in nodes:
        if node != without:
            found.setdefault(node)
        if len(found) == FAN:
            break
    return list(found)
