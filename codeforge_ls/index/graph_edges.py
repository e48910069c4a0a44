"""The edges of the file graph one by one: for pictures, for export, and for the test against networkx."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

import numpy as np

from codeforge_ls.index.graph import CodeGraph

if TYPE_CHECKING:
    import networkx


def between(graph: CodeGraph, files: Sequence[int]) -> list[tuple[int, int, float]]:
    """The edges between a few files, those of equal ends added up, heaviest first."""
    wanted = {file: at for at, file in enumerate(files)}
    weights: dict[tuple[int, int], float] = {}
    for source, target, weight in zip(*graph.imports.arrays(), strict=True):
        if int(source) in wanted and int(target) in wanted:
            key = int(source), int(target)
            weights[key] = weights.get(key, 0.0) + float(weight)
    flow = graph.flow()
    names = {name for file in files for name in graph.defined_names(file) if flow.counts[name]}
    for name in names:
        targets = {file for file, at in graph.definitions(name) if graph.is_ranked(file, at)}
        for user, weight in flow.users(name):
            if user in wanted:
                for target in targets & wanted.keys() - {user}:
                    key = user, target
                    weights[key] = weights.get(key, 0.0) + weight / len(targets)
    found = [(*key, weight) for key, weight in weights.items()]
    return sorted(found, key=lambda one: (-one[2], graph.paths[one[0]], graph.paths[one[1]]))


def edges(graph: CodeGraph) -> Iterator[tuple[int, int, float]]:
    """Every edge between files with its weight, imports and names; parallel ones are not added up."""
    yield from zip(*(column.tolist() for column in graph.imports.arrays()), strict=True)
    flow = graph.flow()
    for name in np.flatnonzero((graph.definers() > 0) & flow.counts).tolist():
        targets = sorted({file for file, at in graph.definitions(name) if graph.is_ranked(file, at)})
        for user, weight in flow.users(name):
            yield from ((user, target, weight / len(targets)) for target in targets if target != user)


def to_networkx(graph: CodeGraph) -> networkx.DiGraph[str]:
    """The file graph for networkx: the reference in tests, and for export. Weights of parallel edges add up."""
    import networkx

    made: networkx.DiGraph[str] = networkx.DiGraph()
    made.add_nodes_from(path for at, path in enumerate(graph.paths) if graph.contents[at] >= 0)
    for source, target, weight in edges(graph):
        one, other = graph.paths[source], graph.paths[target]
        earlier = made.get_edge_data(one, other, {"weight": 0.0})["weight"]
        made.add_edge(one, other, weight=earlier + weight)
    return made
