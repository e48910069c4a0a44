"""The query worker: answers searches, lookups and maps from index.db and the base segment. It never writes."""

from __future__ import annotations

import asyncio
import logging
import sqlite3
import sys
from collections.abc import Callable, Iterable, Sequence
from functools import lru_cache
from pathlib import Path

from pathspec import PathSpec

from codeforge_ls.index import records
from codeforge_ls.index.bm25 import load_bm25s
from codeforge_ls.index.dense import DenseLeg
from codeforge_ls.index.embedding_cache import floats
from codeforge_ls.index.embeddings import EmbeddingLeg
from codeforge_ls.index.file_ranking import rank_files
from codeforge_ls.index.grammars import language_of
from codeforge_ls.index.graph_answers import GraphAnswers
from codeforge_ls.index.lexical import ChunkPlace
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.map_answers import MapAnswers
from codeforge_ls.index.present_graph import PresentGraph
from codeforge_ls.index.ranking import Definition, Leg, Ranked, is_symbol, rank
from codeforge_ls.index.scan import Scanner
from codeforge_ls.index.snapshot import Snapshot, resident_bytes
from codeforge_ls.index.tokens import query_tokens
from codeforge_ls.index.wordvectors import shipped
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import InvalidInput
from codeforge_ls.workers import Emit, Handler, serve

MIN_POOL, POOL_FACTOR = 50, 5  # chunks that enter the ranking: five for each hit wanted
MAX_TEXT = 2_000  # characters of a hit's text
MAX_DEFINITIONS = 100
WORDS, VECTORS, EMBEDDING = "bm25", "vectors", "embedding"
LOAD_SECONDS = 3.0
COVERED = 0.95  # share of the chunks with a vector of the embedding model from which on it answers

Wanted = Callable[[str], bool]


class QueryWorker:
    """One workspace's reader."""

    def __init__(self, root: Path, state: Path, limits: Limits) -> None:
        self._snapshot = Snapshot(state)
        self._dense = DenseLeg(state / "segments", shipped)
        self._embedded = EmbeddingLeg(state)
        self._scanner = Scanner(root, limits)
        self._graph = PresentGraph(state, self._snapshot, self._refresh, self._condition)
        self.answers = GraphAnswers(self._graph, self._found_paths)
        self.maps = MapAnswers(self._graph, self._found_paths)

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
        count = max(MIN_POOL, POOL_FACTOR * limit)
        near = self._near(params, words, wanted, count)
        named: dict[ChunkPlace, JsonObject] = {}
        if by_file and not is_symbol(query):
            every = rank_files(query, self._snapshot.lexical, near)
            ranked: Iterable[Ranked] = (one for one in every if wanted(one.place.path))
        else:
            by_words = self._lexical(words, wanted, count)
            legs = [Leg(WORDS, 1.0 - near.weight, by_words), near] if near else [Leg(WORDS, 1.0, by_words)]
            ranked = self._ranked(query, words, wanted, limit, legs, named, int(str(params["rrf_k"])))
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
        return {"hits": hits, "legs": [WORDS, *([near.name] if near else [])], **self._condition()}

    def _near(self, params: JsonObject, words: Sequence[str], wanted: Wanted, count: int) -> Leg | None:
        """What is found by meaning, if that is ready."""
        chosen = None if wanted is _every_path else wanted
        symbol = is_symbol(str(params["query"]))
        weight = float(str(params["symbol_vector_weight" if symbol else "vector_weight"]))
        near = self._by_embedding(params.get("embedding"), count, chosen)
        if near is not None:
            return Leg(EMBEDDING, weight, near)
        parts = self._snapshot.parts
        self._dense.follow([(part.name, part.postings, part.alive) for part in parts])
        if not self._dense.ready:
            return None
        rare = {word: self._snapshot.lexical.rarity(word) for word in words}
        return Leg(VECTORS, weight, self._dense.search(rare, count, chosen))

    def _by_embedding(
        self, query: JsonValue, count: int, wanted: Wanted | None
    ) -> list[tuple[float, ChunkPlace]] | None:
        """What the embedding model finds; None without a vector of the query, or while too few chunks have one."""
        if not isinstance(query, dict):
            return None
        dimensions, snapshot = int(str(query["dimensions"])), self._snapshot
        covered = self._embedded.follow(
            str(query["space"]),
            dimensions,
            [(part.postings, part.alive) for part in snapshot.parts],
            lambda contents: records.keys_of(snapshot.db, contents),
        )
        if covered < COVERED:
            return None
        return self._embedded.search(floats(str(query["vector"]), dimensions)[0], count, wanted)

    def _ranked(
        self,
        query: str,
        words: Sequence[str],
        wanted: Wanted,
        limit: int,
        legs: Sequence[Leg],
        named: dict[ChunkPlace, JsonObject],
        rrf_k: int,
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

        return rank(query, words, legs, definitions, self.answers.imported, limit, rrf_k)

    def _lexical(self, words: Sequence[str], wanted: Wanted, count: int) -> list[tuple[float, ChunkPlace]]:
        """The best chunks by BM25, best first; never one with score zero."""
        return self._snapshot.lexical.search(words, count, None if wanted is _every_path else wanted)

    def _defining(self, name: str) -> list[tuple[ChunkPlace, str]]:
        """The chunks in which a name is defined, with the kinds of the definitions."""
        places: list[tuple[ChunkPlace, str]] = []
        for symbol in self.answers.defining(name, MAX_DEFINITIONS):
            path, line = str(symbol["path"]), int(str(symbol["name_line"]))
            content = self._snapshot.present[path]
            for start, end, inside, kind in self._snapshot.chunks(content):
                if start <= line <= end:
                    places.append((ChunkPlace(path, content, start, end, inside, kind), str(symbol["kind"])))
        return places

    def _hit(self, score: float, place: ChunkPlace) -> JsonObject:
        return _hit(score, place, self._snapshot.passage(place.content, place.start_line, place.end_line))

    async def _scan(self, words: Sequence[str], wanted: Wanted, limit: int) -> JsonObject:
        unsaved = self._snapshot.overlay_texts() if self._snapshot.generation >= 0 else {}
        found, complete = await self._scanner.search(words, unsaved, wanted, limit)
        hits: list[JsonValue] = [_hit(score, place, text) for score, place, text in found]
        return {"hits": hits, "legs": ["scan"], "complete": complete, **self._condition()}

    def _found_paths(self, words: Sequence[str], count: int) -> list[str]:
        """The files of the best chunks for some words, each once, best first."""
        if not words or not self._snapshot.searchable:
            return []
        found = self._lexical(words, _every_path, MIN_POOL)
        return list(dict.fromkeys(place.path for _, place in found))[:count]

    # -- state

    async def warm(self, _params: JsonObject, _emit: Emit) -> JsonValue:
        """Load what the first question would have to wait for, and say what of it is of no use.

        While there is nothing to search yet, the first question is put to the files themselves: all but their list
        waits for it.
        """
        ready = self._refresh()
        if ready and self._snapshot.searchable:
            self._graph.warm()
            await asyncio.to_thread(load_bm25s)
            return self._graph.condition()
        await self._scanner.list_files()
        self._loading = asyncio.create_task(_load_later())
        return self._condition() if ready else {}

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

    def _condition(self) -> JsonObject:
        return {
            "unread": self._snapshot.unread,
            "bad_segment": self._snapshot.segment_problem,
            "bad_vectors": [*self._dense.bad],
        }


async def _load_later() -> None:
    await asyncio.sleep(LOAD_SECONDS)
    await asyncio.to_thread(load_bm25s)


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
    pattern = glob.strip() if isinstance(glob, str) else ""
    named = language if isinstance(language, str) else ""
    return _filter(pattern, named) if pattern or named else _every_path


@lru_cache(8)
def _filter(glob: str, language: str) -> Wanted:
    spec = None
    if glob:
        try:
            spec = PathSpec.from_lines("gitignore", [glob])
        except ValueError as error:
            raise InvalidInput(f"Not a usable path pattern: {glob!r}", data={"field": "path_glob"}) from error
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
        "symbols": worker.answers.symbols,
        "symbol_info": worker.answers.symbol_info,
        "calls": worker.answers.calls,
        "owners": worker.answers.owners,
        "walk": worker.answers.walk,
        "repo_map": worker.maps.repo_map,
        "picture": worker.maps.picture,
        "warm": worker.warm,
        "memory": worker.memory,
    }
    await serve("query-worker", handlers)


if __name__ == "__main__":
    asyncio.run(main())
