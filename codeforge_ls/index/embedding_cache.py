"""Vectors from an embedding model, kept beside index.db by content, so that a branch switch or a clone costs none.

The index worker writes them and ``embeddings`` reads them. numpy is imported when there are some: it costs the worker
that writes index.db a quarter of a second and 20 MB.
"""

from __future__ import annotations

import asyncio
import base64
import contextlib
import sqlite3
from pathlib import Path
from typing import TYPE_CHECKING

from codeforge_ls.index import records
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.workers import Emit

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt

    from codeforge_ls.index.wordvectors import Floats

FILE = "embeddings.db"
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
    import numpy as np

    rows = np.frombuffer(base64.b64decode(text), "<f4").reshape(-1, dimensions).astype(np.float32)
    unit: Floats = rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)
    return unit


def _pack(text: str, dimensions: int) -> tuple[Floats, npt.NDArray[np.int8]]:
    import numpy as np

    if not dimensions:
        return np.zeros(0, np.float32), np.zeros((0, 0), np.int8)
    rows = floats(text, dimensions)
    scales = (np.maximum(np.abs(rows).max(axis=1), 1e-9) / 127).astype(np.float32)
    return scales, np.rint(rows / scales[:, None]).astype(np.int8)
