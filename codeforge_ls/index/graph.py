"""The file graph: who uses what whom defines, and who imports whom; PageRank over it in scipy."""

from __future__ import annotations

import math
import sqlite3
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt
from scipy.sparse import csr_array

from codeforge_ls.index import records
from codeforge_ls.index.imports import ImportResolver
from codeforge_ls.index.tokens import split_word

if TYPE_CHECKING:
    import networkx

Floats = npt.NDArray[np.float64]

DAMPING, ROUNDS, TOLERANCE = 0.85, 100, 1e-6
MANY_DEFINERS = 20  # a name defined in more files than this says nothing about who is meant
LONG_NAME, LONG_FACTOR, PRIVATE_FACTOR = 8, 10.0, 0.1
IMPORT_WEIGHT = 3.0
WORD_FACTOR = 10.0  # names that share a word with the task are wanted more
RANKED_KINDS = (
    "function",
    "method",
    "class",
    "interface",
    "struct",
    "enum",
    "type",
    "module",
    "macro",
    "constant",
)


def page_rank(
    matrix: csr_array,
    personal: Floats | None = None,
    *,
    damping: float = DAMPING,
    rounds: int = ROUNDS,
    tolerance: float = TOLERANCE,
) -> Floats:
    """PageRank of a weighted adjacency matrix (row -> column), as ``networkx.pagerank`` defines it; sums to 1.

    ``personal`` gives the restart weights and those of nodes without out-edges. Power iteration until the change
    of all ranks together is under ``count * tolerance``, at most ``rounds`` times.
    """
    count = matrix.shape[0]
    if not count:
        return np.zeros(0)
    restart = (
        np.full(count, 1 / count) if personal is None or personal.sum() <= 0 else personal / personal.sum()
    )
    out = np.asarray(matrix.sum(axis=1)).ravel()
    scale = np.divide(1.0, out, out=np.zeros(count), where=out > 0)
    flow = matrix.T.tocsr()
    dangling = out == 0
    ranks: Floats = np.full(count, 1 / count)
    for _ in range(rounds):
        before = ranks
        ranks = (
            damping * (flow @ (before * scale) + before[dangling].sum() * restart) + (1 - damping) * restart
        )
        if np.abs(ranks - before).sum() < count * tolerance:
            break
    return ranks


@dataclass
class FileGraph:
    """Files as nodes, and one edge for each (user, definer, name): arrays of equal length.

    ``names[edge_names[i]]`` is the name of edge ``i``; imports have the name ``""``.
    """

    paths: list[str]
    names: list[str]
    sources: npt.NDArray[np.int64]
    targets: npt.NDArray[np.int64]
    edge_names: npt.NDArray[np.int64]
    weights: Floats

    @classmethod
    def read(cls, db: sqlite3.Connection, present: Mapping[str, int]) -> FileGraph:
        """Build it from the tables for the files that are present."""
        paths = sorted(present)
        nodes: dict[int, list[int]] = defaultdict(list)
        for at, path in enumerate(paths):
            nodes[present[path]].append(at)
        names: dict[str, int] = {"": 0}
        definers = _definers(db, nodes)
        edges: list[tuple[int, int, int, float]] = []
        for content, name, uses in records.uses(db):
            targets = definers.get(name)
            users = nodes.get(content)
            if not targets or not users or len(targets) > MANY_DEFINERS:
                continue
            key = names.setdefault(name, len(names))
            weight = math.sqrt(uses) * name_factor(name) / len(targets)
            edges.extend(
                (user, target, key, weight) for user in users for target in targets if user != target
            )
        resolver = ImportResolver(paths)
        for content, module in {(content, module) for content, module, _ in records.imports(db)}:
            for user in nodes.get(content, ()):
                found = [target for target in resolver.resolve(paths[user], module) if target != user]
                edges.extend((user, target, 0, IMPORT_WEIGHT / len(found)) for target in found)
        edges.sort()
        columns = list(zip(*edges, strict=True)) or [(), (), (), ()]
        return cls(
            paths,
            list(names),
            np.array(columns[0], np.int64),
            np.array(columns[1], np.int64),
            np.array(columns[2], np.int64),
            np.array(columns[3], np.float64),
        )

    def matrix(self) -> csr_array:
        """The weights between files as one adjacency matrix."""
        size = len(self.paths)
        return csr_array((self.weights, (self.sources, self.targets)), shape=(size, size))

    def rank_files(self, personal: Mapping[str, float]) -> Floats:
        """PageRank of each file, drawn towards the files of ``personal``."""
        restart = None
        if personal:
            restart = np.array([personal.get(path, 0.0) for path in self.paths])
            restart += 0.1 * max(restart.sum(), 1e-9) / max(1, len(self.paths))
        return page_rank(self.matrix(), restart)

    def flow(self, ranks: Floats, words: Sequence[str] = ()) -> tuple[npt.NDArray[np.int64], Floats]:
        """How much rank flows into each defined name; names that have one of ``words`` draw more.

        Returns ascending keys, ``file * len(names) + name``, and the rank of each.
        """
        if not len(self.sources):
            return np.zeros(0, np.int64), np.zeros(0)
        factor = np.ones(len(self.names))
        factor[self.named_with(words)] = WORD_FACTOR
        weights = self.weights * factor[self.edge_names]
        out = np.bincount(self.sources, weights, minlength=len(self.paths))
        flow = ranks[self.sources] * weights / out[self.sources]
        unique, inverse = np.unique(self._keys, return_inverse=True)
        return unique, np.bincount(inverse, flow).astype(np.float64)

    @cached_property
    def _keys(self) -> npt.NDArray[np.int64]:
        return self.targets * len(self.names) + self.edge_names

    @cached_property
    def name_ids(self) -> dict[str, int]:
        """The position of each name in ``names``."""
        return {name: at for at, name in enumerate(self.names)}

    @cached_property
    def _by_word(self) -> dict[str, list[int]]:
        return positions_by_word(self.names)

    def named_with(self, words: Sequence[str]) -> list[int]:
        """The positions of the names that have one of these words in them."""
        return [at for word in words for at in self._by_word.get(word, ())]

    def to_networkx(self) -> networkx.DiGraph[str]:
        """The same graph for networkx: the reference in tests, and for export. Weights of parallel edges add up."""
        import networkx

        graph: networkx.DiGraph[str] = networkx.DiGraph()
        graph.add_nodes_from(self.paths)
        for source, target, weight in zip(self.sources, self.targets, self.weights, strict=True):
            one, other = self.paths[source], self.paths[target]
            earlier = graph.get_edge_data(one, other, {"weight": 0.0})["weight"]
            graph.add_edge(one, other, weight=earlier + float(weight))
        return graph


def name_factor(name: str) -> float:
    """Long names are telling, private ones are not meant for other files."""
    return (LONG_FACTOR if len(name) >= LONG_NAME else 1.0) * (
        PRIVATE_FACTOR if name.startswith("_") else 1.0
    )


def positions_by_word(names: Iterable[str]) -> dict[str, list[int]]:
    """For each word, the positions of the names that have it as a part or are it."""
    positions: dict[str, list[int]] = defaultdict(list)
    for at, name in enumerate(names):
        for word in set(split_word(name)):
            positions[word].append(at)
    return positions


def _definers(db: sqlite3.Connection, nodes: Mapping[int, list[int]]) -> dict[str, list[int]]:
    marks = ",".join("?" * len(RANKED_KINDS))
    sql = f"SELECT DISTINCT name, content FROM symbol WHERE kind IN ({marks})"  # noqa: S608 - marks only
    definers: dict[str, list[int]] = defaultdict(list)
    for name, content in db.execute(sql, RANKED_KINDS):
        definers[name].extend(nodes.get(content, ()))
    return definers
