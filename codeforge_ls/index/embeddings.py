"""Search by the vectors of an embedding model, which lie beside index.db by content."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.dense import best_chunks
from codeforge_ls.index.embedding_cache import FILE
from codeforge_ls.index.lexical import ChunkPlace, Postings
from codeforge_ls.index.wordvectors import Floats

BLOCK = 4_096  # chunks at once: float32 of all would cost more than all the rest
Bytes = npt.NDArray[np.int8]


@dataclass
class _Part:
    """The vectors of one part of the index; ``covered`` says of each chunk whether it has one, ``withheld`` whether it
    is not to have one."""

    postings: Postings
    alive: npt.NDArray[np.bool_]
    firsts: npt.NDArray[np.int64]  # by file, where its chunks begin
    missing: set[int]  # files without vectors
    scales: Floats
    packed: Bytes
    covered: npt.NDArray[np.bool_]
    withheld: npt.NDArray[np.bool_]


class EmbeddingLeg:
    """The reader's side: finds chunks by what an embedding model says of them and of the query."""

    def __init__(self, state: Path) -> None:
        self._path = state / FILE
        self._db: sqlite3.Connection | None = None
        self._space, self._version, self._dimensions = "", -1, 0
        self._parts: dict[int, _Part] = {}

    def follow(
        self,
        space: str,
        dimensions: int,
        parts: Sequence[tuple[Postings, npt.NDArray[np.bool_]]],
        keys: Callable[[Iterable[int]], dict[int, str]],
    ) -> float:
        """Take the parts of the index as they are now and what vectors there are; ``keys`` names contents as the
        cache does. Returns the share of living chunks that have a vector, of those that are to have one."""
        if (space, dimensions) != (self._space, self._dimensions):
            self._parts.clear()
            self._space, self._dimensions = space, dimensions
        version = self._data_version()
        fresh, self._version = version != self._version, version
        kept: dict[int, _Part] = {}
        for postings, alive in parts:
            part = self._parts.get(id(postings))
            new = part is None or part.postings is not postings
            if part is None or new:
                part = self._empty(postings, alive)
            part.alive = alive
            if part.missing and (new or fresh) and version >= 0:
                self._fill(part, keys)
            kept[id(postings)] = part
        self._parts = kept
        living = covered = 0
        for part in kept.values():
            chunks = part.alive[part.postings.places[:, 0]] & ~part.withheld
            living += int(chunks.sum())
            covered += int((chunks & part.covered).sum())
        return covered / living if living else 0.0

    def search(
        self, query: Floats, count: int, wanted: Callable[[str], bool] | None = None
    ) -> list[tuple[float, ChunkPlace]]:
        """The chunks nearest to a vector of length 1, ``(cosine, place)``, best first."""
        found: list[tuple[float, ChunkPlace]] = []
        for part in self._parts.values():
            scores = np.full(len(part.postings), -np.inf, np.float32)
            for start in range(0, len(scores), BLOCK):
                block = part.packed[start : start + BLOCK].astype(np.float32)
                scores[start : start + BLOCK] = (block @ query) * part.scales[start : start + BLOCK]
            scores[~(part.covered & part.alive[part.postings.places[:, 0]])] = -np.inf
            chosen = best_chunks(scores, part.postings, 10 * count, count, wanted)
            found += [
                (round(float(scores[at]), 5), part.postings.place(int(at)))
                for at in chosen[np.lexsort((chosen, -scores[chosen]))][:count]
                if scores[at] > 0
            ]
        found.sort(key=lambda one: (-one[0], one[1].path, one[1].start_line))
        return found[:count]

    def _empty(self, postings: Postings, alive: npt.NDArray[np.bool_]) -> _Part:
        files = len(postings.contents)
        return _Part(
            postings,
            alive,
            np.searchsorted(postings.places[:, 0], np.arange(files + 1)),
            set(range(files)),
            np.zeros(len(postings), np.float32),
            np.zeros((len(postings), self._dimensions), np.int8),
            np.zeros(len(postings), bool),
            np.zeros(len(postings), bool),
        )

    def _fill(self, part: _Part, keys: Callable[[Iterable[int]], dict[int, str]]) -> None:
        contents = {at: int(part.postings.contents[at]) for at in part.missing}
        named = keys(contents.values())
        assert self._db is not None  # noqa: S101 - there is a version, so there is a file
        sql = "SELECT dimensions, scales, packed FROM vectors WHERE space = ? AND content = ?"
        for at, content in contents.items():
            row = self._db.execute(sql, (self._space, named.get(content, ""))).fetchone()
            if row is None:
                continue
            part.missing.discard(at)
            chunks = slice(int(part.firsts[at]), int(part.firsts[at + 1]))
            part.withheld[chunks] = not row[0]
            scales = np.frombuffer(row[1], np.float32)
            if row[0] == self._dimensions and len(scales) == chunks.stop - chunks.start:
                part.scales[chunks] = scales
                part.packed[chunks] = np.frombuffer(row[2], np.int8).reshape(-1, self._dimensions)
                part.covered[chunks] = True

    def _data_version(self) -> int:
        try:
            if self._db is None:
                self._db = sqlite3.connect(
                    f"file:{self._path}?mode=ro", uri=True, isolation_level=None, timeout=5
                )
            return int(self._db.execute("PRAGMA data_version").fetchone()[0])
        except sqlite3.DatabaseError:
            self._db = None
            return -1
