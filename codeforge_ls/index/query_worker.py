"""The query worker: answers searches, lookups and maps from index.db and the base segment. It never writes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import Callable, Sequence
from pathlib import Path

from pathspec import PathSpec

from codeforge_ls.index import symbols
from codeforge_ls.index.dense import DenseLeg
from codeforge_ls.index.file_ranking import rank_files
from codeforge_ls.index.grammars import language_of
from codeforge_ls.index.graph import FileGraph
from codeforge_ls.index.lexical import ChunkPlace
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.ranking import Definition, Leg, Ranked, is_symbol, path_weight, rank
from codeforge_ls.index.repomap import MapTable, estimate_tokens, pack
from codeforge_ls.index.scan import Scanner
from codeforge_ls.index.snapshot import Snapshot, resident_bytes
from codeforge_ls.index.tokens import query_tokens
from codeforge_ls.index.wordvectors import shipped
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.workers import Emit, Handler, serve

MIN_POOL, POOL_FACTOR = 50, 5  # chunks that enter the ranking: five for each hit wanted
MAX_TEXT = 2_000  # characters of a hit's text
MAX_DEFINITIONS = 100
FOCUS_WEIGHT, LEXICAL_WEIGHT = 1.0, 0.3
VECTORS = "vectors"
SYMBOL_DENSE, DENSE = 0.3, 0.5  # weight of the vectors: a name is better found as it is written

Wanted = Callable[[str], bool]


class QueryWorker:
    """One workspace's reader."""

    def __init__(self, root: Path, state: Path, limits: Limits) -> None:
        self._snapshot = Snapshot(state)
        self._dense = DenseLeg(state / "segments", shipped)
        self._dense_weight = DENSE
        self._scanner = Scanner(root, limits)
        self._map: tuple[FileGraph, MapTable] | None = None
        self._map_generation = -1

    # -- search

    async def search(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Hits for ``query``: by BM25 and ranking rules, or by reading the files while there is no base segment."""
        query, limit = str(params["query"]), int(str(params["limit"]))
        by_file = params.get("group_by") == "file"
        wanted = _path_filter(params.get("path_glob"), params.get("language"))
        words = query_tokens(query, keep_stop_words=is_symbol(query))
        ready = self._refresh()
        if not words:
            return {"hits": [], "legs": [], "unread": 0}
        if not ready or not self._snapshot.searchable:
            return await self._scan(words, wanted, limit)
        legs = self._legs(query, words, wanted, max(MIN_POOL, POOL_FACTOR * limit))
        named: dict[ChunkPlace, JsonObject] = {}
        if by_file and not is_symbol(query):
            near = [hit for leg in legs if leg.name == VECTORS for hit in leg.hits]
            ranked = [
                one for one in rank_files(query, self._snapshot.lexical, near) if wanted(one.place.path)
            ]
        else:
            ranked = self._ranked(query, words, wanted, limit, legs, named)
        hits: list[JsonValue] = []
        files: set[str] = set()
        for one in ranked:
            if by_file and one.place.path in files:
                continue
            hit = self._hit(one.score, one.place) | named.get(one.place, {})
            if params.get("kind") and hit["kind"] != params["kind"]:
                continue
            files.add(one.place.path)
            hits.append(hit | {"explain": one.explanation()} if params.get("explain") else hit)
            if len(hits) == limit:
                break
        return {"hits": hits, "legs": [leg.name for leg in legs], **self._condition()}

    def _legs(self, query: str, words: Sequence[str], wanted: Wanted, count: int) -> list[Leg]:
        """What each leg that is ready finds: by words, and by meaning."""
        lexical = self._lexical(words, wanted, count)
        snapshot = self._snapshot
        self._dense.follow([(part.name, part.postings, part.alive) for part in snapshot.parts])
        if not self._dense.ready:
            return [Leg("bm25", 1.0, lexical)]
        weight = SYMBOL_DENSE if is_symbol(query) else self._dense_weight
        near = self._dense.search(words, count, None if wanted is _every_path else wanted)
        return [Leg("bm25", 1.0 - weight, lexical), Leg(VECTORS, weight, near)]

    def _ranked(
        self,
        query: str,
        words: Sequence[str],
        wanted: Wanted,
        limit: int,
        legs: Sequence[Leg],
        named: dict[ChunkPlace, JsonObject],
    ) -> list[Ranked]:
        """Chunks in their order; ``named`` gets the definitions of the symbols that the query names."""

        def definitions(names: Sequence[str]) -> list[Definition]:
            found: list[Definition] = []
            for name in names:
                for place, kind in self._defining(name):
                    if wanted(place.path):
                        found.append(Definition(name, kind, place))
                        named.setdefault(place, {"symbol": name, "kind": kind})
            return found

        return rank(query, words, legs, definitions, limit)

    def _lexical(self, words: Sequence[str], wanted: Wanted, count: int) -> list[tuple[float, ChunkPlace]]:
        """The best chunks by BM25, best first; never one with score zero."""
        return self._snapshot.lexical.search(words, count, None if wanted is _every_path else wanted)

    def _defining(self, name: str) -> list[tuple[ChunkPlace, str]]:
        """The chunks in which a name is defined, with the kinds of the definitions."""
        places: list[tuple[ChunkPlace, str]] = []
        for symbol in symbols.find(self._snapshot, name, MAX_DEFINITIONS, prefix=False):
            path, line = str(symbol["path"]), int(str(symbol["name_line"]))
            content = self._snapshot.present[path]
            for start, end, inside, kind in self._snapshot.chunks(content):
                if start <= line <= end:
                    places.append((ChunkPlace(path, content, start, end, inside, kind), str(symbol["kind"])))
        return places

    def _hit(self, score: float, place: ChunkPlace) -> JsonObject:
        lines = self._snapshot.lines(place.content)
        text = "\n".join(lines[place.start_line - 1 : place.end_line])
        return _hit(score, place, text)

    async def _scan(self, words: Sequence[str], wanted: Wanted, limit: int) -> JsonObject:
        unsaved = self._snapshot.overlay_texts() if self._snapshot.generation >= 0 else {}
        found, complete = await self._scanner.search(words, unsaved, wanted, limit)
        hits: list[JsonValue] = [_hit(score, place, text) for score, place, text in found]
        return {"hits": hits, "legs": ["scan"], "complete": complete, **self._condition()}

    # -- symbols

    async def symbols(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Definitions by name or prefix, or the outline of a path."""
        self._must_be_there()
        limit, path = int(str(params["limit"])), params.get("path")
        if isinstance(path, str):
            found = symbols.outline(self._snapshot, path, limit)
            name = params.get("name")
            kept = [one for one in found if not name or one["name"] == name]
            return {"definitions": [*kept], **self._condition()}
        name = str(params.get("name") or "")
        found = symbols.find(self._snapshot, name, limit, prefix=bool(params.get("prefix")))
        return {"definitions": [*found], **self._condition()}

    async def symbol_info(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Definition, references or callers of a name or of what stands at a position."""
        self._must_be_there()
        path = str(params["path"]) if params.get("path") else None
        name = str(params.get("name") or "")
        if not name and path is not None:
            position = int(str(params["line"])), int(str(params["column"]))
            name = symbols.name_at(self._snapshot, path, *position)
        limit, relation = int(str(params["limit"])), params["relation"]
        last = name.replace("::", ".").split(".")[-1]
        definitions = symbols.find(self._snapshot, name, limit, prefix=False)
        definitions = symbols.near_first(definitions, path)
        uses: list[JsonObject] = []
        if relation == "references":
            uses = symbols.references(self._snapshot, last, limit)
        elif relation == "callers":
            uses = symbols.references(self._snapshot, last, limit, kinds=("call",))
            definitions = symbols.callers(self._snapshot, uses, limit)
        return {"name": name, "definitions": [*definitions], "references": [*uses], **self._condition()}

    # -- map

    async def repo_map(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """The map for a budget, drawn to focus files and to what a query finds."""
        budget, query = int(str(params["budget_tokens"])), str(params.get("query") or "")
        if not self._refresh():
            return {"text": "", "tokens": 0, "files": 0, "symbols": 0, "cut": 0, **self._condition()}
        if self._map is None or self._map_generation != self._snapshot.generation:
            graph = FileGraph.read(self._snapshot.db, self._snapshot.present)
            self._map = graph, MapTable(self._snapshot.db, self._snapshot.present, graph)
            self._map_generation = self._snapshot.generation
        graph, table = self._map
        words = query_tokens(query, keep_stop_words=False) if query.strip() else []
        ranks = graph.rank_files(self._personal(params.get("focus"), words))
        hidden = params.get("exclude")
        excluded = {str(path) for path in hidden} if isinstance(hidden, list) else set[str]()
        entries = (entry for entry in table.entries(ranks, words) if entry.path not in excluded)
        packed = pack(entries, len(table), budget)
        return {
            "text": packed.text,
            "tokens": estimate_tokens(packed.text),
            "files": packed.files,
            "symbols": packed.symbols,
            "cut": packed.cut,
            **self._condition(),
        }

    def _personal(self, focus: JsonValue, words: Sequence[str]) -> dict[str, float]:
        """Restart weights: the files in focus, and the files a query finds, best first."""
        weights: dict[str, float] = {}
        if isinstance(focus, list):
            for path in focus:
                weights[str(path)] = FOCUS_WEIGHT
        if words and self._snapshot.searchable:
            for at, (_, place) in enumerate(self._lexical(words, _every_path, MIN_POOL)):
                weight = LEXICAL_WEIGHT * path_weight(place.path) / (at + 1)
                weights[place.path] = weights.get(place.path, 0.0) + weight
        return weights

    # -- state

    async def memory(self, _params: JsonObject, _emit: Emit) -> JsonValue:
        """Resident bytes of this process."""
        return {"resident_bytes": resident_bytes()}

    def _refresh(self) -> bool:
        """Catch up; a database that cannot be read counts as none, and the daemon is told."""
        try:
            return self._snapshot.refresh()
        except sqlite3.DatabaseError as error:
            logging.getLogger(__name__).warning("index.db cannot be read: %s", error)
            self._snapshot.close()
            return False

    def _must_be_there(self) -> None:
        if not self._refresh():
            raise Unavailable("The index is not there yet.", hint="It is being built; try again in a moment.")

    def _condition(self) -> JsonObject:
        return {
            "unread": self._snapshot.unread,
            "bad_segment": self._snapshot.segment_problem,
            "bad_vectors": [*self._dense.bad],
        }


def _hit(score: float, place: ChunkPlace, text: str) -> JsonObject:
    return {
        "path": place.path,
        "start_line": place.start_line,
        "end_line": place.end_line,
        "symbol": place.symbol,
        "kind": place.kind,
        "score": round(score, 6),
        "text": text[:MAX_TEXT],
    }


def _every_path(_path: str) -> bool:
    return True


def _path_filter(glob: JsonValue, language: JsonValue) -> Wanted:
    """Paths of a language that match a glob as in .gitignore: ``*.py`` anywhere, ``src/**`` below the root."""
    spec = None
    if isinstance(glob, str) and glob.strip():
        try:
            spec = PathSpec.from_lines("gitignore", [glob.strip()])
        except ValueError as error:
            raise InvalidInput(f"Not a usable path pattern: {glob!r}", data={"field": "path_glob"}) from error
    if spec is None and not language:
        return _every_path
    known: dict[str, bool] = {}

    def wanted(path: str) -> bool:
        if path not in known:
            known[path] = (not language or language_of(path) == language) and (
                spec is None or spec.match_file(path)
            )
        return known[path]

    return wanted


async def main() -> None:
    """Arguments: workspace root, state folder, limits as JSON."""
    worker = QueryWorker(Path(sys.argv[1]), Path(sys.argv[2]), Limits.from_json(sys.argv[3]))
    handlers: dict[str, Handler] = {
        "search": worker.search,
        "symbols": worker.symbols,
        "symbol_info": worker.symbol_info,
        "repo_map": worker.repo_map,
        "memory": worker.memory,
    }
    await serve(handlers)


if __name__ == "__main__":
    logging.basicConfig(stream=sys.stderr, level=logging.WARNING)
    asyncio.run(main())
