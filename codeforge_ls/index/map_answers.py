"""What the query worker answers from the ranks of the code graph: the repo map, and the picture of its top."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np

from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_base import Floats
from codeforge_ls.index.graph_edges import between
from codeforge_ls.index.path_rules import path_weight
from codeforge_ls.index.present_graph import PresentGraph
from codeforge_ls.index.ranking import named_symbols
from codeforge_ls.index.repomap import estimate_tokens, pack
from codeforge_ls.index.tokens import query_tokens
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.workers import Emit

FOCUS_WEIGHT, OPEN_WEIGHT, LEXICAL_WEIGHT, NAMED_WEIGHT = 1.0, 0.5, 0.3, 0.5
EVERYWHERE = 0.1  # of the restart weight goes to all files alike
MANY_NAMED = 8  # a mentioned identifier that more files define steers nothing
PICTURE_NAMES, PICTURE_NAME = 3, 28


class MapAnswers:
    """The handlers. ``lexical`` gives the paths that some words find, best first."""

    def __init__(self, present: PresentGraph, lexical: Callable[[Sequence[str], int], list[str]]) -> None:
        self._present, self._lexical = present, lexical

    async def repo_map(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The map for a budget, drawn to focus files, open files, and to what a query names and finds."""
        budget, query = int(str(params["budget_tokens"])), str(params.get("query") or "")
        if not self._present.refresh():
            return {"text": "", "tokens": 0, "files": 0, "cut": 0, "entries": [], **self._present.condition()}
        graph, table = self._present.now(), self._present.table
        words = query_tokens(query, keep_stop_words=False) if query.strip() else []
        names = [graph.name_id(name) for name in named_symbols(query)] if words else []
        names = [name for name in names if name >= 0 and len(graph.definitions(name)) <= MANY_NAMED]
        excluded = set(_texts(params, "exclude"))
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
            **self._present.condition(),
        }

    def _personal(
        self, graph: CodeGraph, params: JsonObject, words: Sequence[str], names: Sequence[int]
    ) -> Floats | None:
        """Restart weights: files in focus, open files, files that define what is named, files that a query finds."""
        weights: Floats = np.zeros(len(graph.paths))

        def add(path: str, weight: float) -> None:
            if path in graph.ids and graph.is_present(graph.ids[path]):
                weights[graph.ids[path]] += weight

        for path in _texts(params, "focus"):
            add(path, FOCUS_WEIGHT)
        for path in _texts(params, "open"):
            add(path, OPEN_WEIGHT)
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
        graph, table = self._present.now(), self._present.table
        excluded = set(_texts(params, "exclude"))
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
            **self._present.condition(),
        }


def _texts(params: JsonObject, name: str) -> list[str]:
    value = params.get(name)
    return [str(one) for one in value] if isinstance(value, list) else []
