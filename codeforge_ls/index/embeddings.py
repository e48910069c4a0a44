"""Vectors from an embedding model: kept beside index.db by content, so that a branch switch or a clone costs none."""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codeforge_ls.index import records
from codeforge_ls.index.dense import best_chunks
from codeforge_ls.index.lexical import ChunkPlace, Postings
from codeforge_ls.index.wordvectors import Floats
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.workers import Emit

FILE = "embeddings.db"
BLOCK = 4_096  # chunks at once: float32 of all would cost more than all the rest
SCHEMA = """
CREATE TABLE IF NOT EXISTS vectors (
    space TEXT NOT NULL,      -- the model and its address
    content TEXT NOT NULL,    -- digest, language and version of what was cut into chunks
    dimensions INTEGER NOT NULL,
    scales BLOB NOT NULL,     -- float32, one a chunk: what 127 stands for
    packed BLOB NOT NULL,     -- int8 (chunks, dimensions); empty for a content that is not sent anywhere
    PRIMARY KEY (space, content)
);
"""

Bytes = npt.NDArray[np.int8]


class EmbeddingCache:
    """The writer's side. A file that cannot be used is removed: what it held can be asked for again."""

    def __init__(self, state: Path) -> None:
        self._path, self._index = state / FILE, state / "index.db"
        self._db: sqlite3.Connection | None = None
        self._known: dict[str, set[str]] = {}

    async def next(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Contents of files that lack vectors of an embedding model, with their chunks as texts; how many have some.

        The first content may be larger than ``chunks``.
        """
        return await asyncio.to_thread(self._next, str(params["space"]), int(str(params["chunks"])))

    async def take(self, params: JsonObject, _emit: Emit) -> JsonValue:
        """Keep the vectors of a content's chunks."""
        size = int(str(params["dimensions"]))
        await asyncio.to_thread(
            self.put, str(params["space"]), str(params["content"]), size, str(params["vectors"])
        )
        return None

    def _next(self, space: str, most: int) -> JsonObject:
        with contextlib.closing(sqlite3.connect(f"file:{self._index}?mode=ro", uri=True, timeout=5)) as db:
            contents = records.keys_of_files(db)
            known = self.known(space)
            lacking = {content: key for content, key in contents.items() if key not in known}
            items: list[JsonValue] = []
            for content, key in lacking.items():
                texts = records.chunk_texts(db, content)
                most -= len(texts)
                if items and most < 0:
                    break
                items.append({"content": key, "paths": [*records.paths_of(db, content)], "texts": [*texts]})
        if not lacking:
            self.keep_only(space, set(contents.values()))
        return {"have": len(contents) - len(lacking), "of": len(contents), "items": items}

    def known(self, space: str) -> set[str]:
        """The contents that have vectors."""
        if space not in self._known:
            rows = self._opened().execute("SELECT content FROM vectors WHERE space = ?", (space,))
            self._known = {space: {row[0] for row in rows}}
        return self._known[space]

    def put(self, space: str, content: str, dimensions: int, vectors: str) -> None:
        """Keep the vectors of a content's chunks, base64 of float32; no dimensions: it is not sent anywhere."""
        scales, packed = _pack(vectors, dimensions)
        row = (space, content, dimensions, scales.tobytes(), packed.tobytes())
        with self._opened() as db:
            db.execute("INSERT OR REPLACE INTO vectors VALUES (?, ?, ?, ?, ?)", row)
        self.known(space).add(content)

    def keep_only(self, space: str, contents: set[str]) -> None:
        """Forget other models' vectors, and those of contents that the index has forgotten."""
        gone = self.known(space) - contents
        with self._opened() as db:
            db.execute("DELETE FROM vectors WHERE space != ?", (space,))
            db.executemany(
                "DELETE FROM vectors WHERE space = ? AND content = ?", [(space, one) for one in gone]
            )
        self.known(space).difference_update(gone)

    def close(self) -> None:
        """Let go of the file."""
        if self._db is not None:
            self._db.close()
            self._db = None

    def _opened(self) -> sqlite3.Connection:
        if self._db is None:
            try:
                self._db = _open(self._path)
            except sqlite3.DatabaseError:
                for file in (self._path, *(self._path.with_name(f"{FILE}-{end}") for end in ("wal", "shm"))):
                    file.unlink(missing_ok=True)
                self._db = _open(self._path)
        return self._db


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, timeout=5, check_same_thread=False)  # one call at a time, in any thread
    try:
        db.execute("PRAGMA journal_mode = WAL")
        db.execute("PRAGMA synchronous = NORMAL")
        db.executescript(SCHEMA)
    except sqlite3.DatabaseError:
        db.close()
        raise
    return db


def floats(text: str, dimensions: int) -> Floats:
    """Rows of vectors out of base64, each of length 1."""
    rows = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, dimensions).astype(np.float32)
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _pack(text: str, dimensions: int) -> tuple[Floats, Bytes]:
    if not dimensions:
        return np.zeros(0, np.float32), np.zeros((0, 0), np.int8)
    rows = floats(text, dimensions)
    scales = (np.maximum(np.abs(rows).max(axis=1), 1e-9) / 127).astype(np.float32)
    return scales, np.rint(rows / scales[:, None]).astype(np.int8)


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
