"""What the query worker sees: index.db read only, the mapped segments, and the files that are newer, in memory."""

from __future__ import annotations

import json
import logging
import os
import sqlite3
import zlib
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from codeforge_ls.index import records
from codeforge_ls.index.bm25 import Collection
from codeforge_ls.index.lexical import BadSegment, Postings, invert, open_segment

log = logging.getLogger(__name__)

MAX_DELTA = 400  # files read into memory; more than these wait for the next segment
MAX_PARTS = 32  # parts in memory before they are made one
PIECE = 8_192  # bytes of a text unpacked at once


@dataclass
class Part:
    """Postings of a segment on disk (``name``), or of newer files in memory (no name), and which files count."""

    name: str
    postings: Postings
    alive: npt.NDArray[np.bool_]


class Snapshot:
    """A view of the index that ``refresh`` brings up to the latest committed generation."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._data_version = -1
        self._reset()

    def _reset(self) -> None:
        self.generation = -1
        self.parts: list[Part] = []
        self.lexical = Collection()
        self.segment_problem = ""
        self.graph_name = ""
        self._segment_names: list[str] = []
        self._where: dict[str, list[tuple[Part, int]]] = defaultdict(list)
        self._newer: dict[str, int] = {}
        self.present: dict[str, int] = {}
        self.paths: dict[int, list[str]] = defaultdict(list)
        self.unread = 0
        self._changed: dict[str, int] = {}  # the latest generation of each path that changed since
        self._changed_from = -1

    @property
    def searchable(self) -> bool:
        """Whether there are segments to search, if only empty ones."""
        return any(part.name for part in self.parts)

    @property
    def db(self) -> sqlite3.Connection:
        """The connection; only after a ``refresh`` that returned True."""
        assert self._db is not None  # noqa: S101 - the docstring says when
        return self._db

    def refresh(self) -> bool:
        """Catch up with the writer. False when there is no index yet. Raises ``sqlite3.DatabaseError``."""
        path = self._state / "index.db"
        try:
            facts = path.stat()
        except OSError:
            return False
        if self._db is None or self._inode != (facts.st_dev, facts.st_ino):
            self.close()
            self._db = sqlite3.connect(f"file:{path}?mode=ro", uri=True, isolation_level=None, timeout=5)
            self._inode = (facts.st_dev, facts.st_ino)
            self._data_version = -1
        version = self._db.execute("PRAGMA data_version").fetchone()[0]
        if version == self._data_version:
            return True
        if not self._db.execute("SELECT count(*) FROM sqlite_schema WHERE name = 'change'").fetchone()[0]:
            return False
        self._db.execute("BEGIN")  # one state of the database for all reads below
        try:
            self._catch_up()
        finally:
            self._db.execute("COMMIT")
        self._data_version = version
        return True

    def changed_after(self, generation: int) -> list[str] | None:
        """The paths that changed after a generation; None when that is not known any more."""
        if generation < self._changed_from:
            return None
        return [path for path, at in self._changed.items() if at > generation]

    def close(self) -> None:
        """Let go of the database and forget all."""
        if self._db is not None:
            self._db.close()
        self._db = None
        self._reset()

    def _catch_up(self) -> None:
        meta = dict(self.db.execute("SELECT key, value FROM meta").fetchall())
        generation = int(meta.get("generation", 0))
        graph_name = meta.get("graph", "")
        names = json.loads(meta.get("segments") or "[]")
        if names != self._segment_names or self.generation < 0 or generation < self.generation:
            self._load(names)
            self._changed_from = generation
        elif generation != self.generation:
            sql = "SELECT DISTINCT path FROM change WHERE generation > ?"
            paths = [row[0] for row in self.db.execute(sql, (self.generation,))]
            self._follow(paths)
            self._changed.update(dict.fromkeys(paths, generation))
        self.generation = generation
        self.graph_name = graph_name

    def _load(self, names: list[str]) -> None:
        """Map the segments, newest first; what they do not have as it is now is read into memory."""
        self._reset()
        self._segment_names = names
        rows = self.db.execute("SELECT path, content FROM present ORDER BY path").fetchall()
        self.present = dict(rows)
        for path, content in rows:
            self.paths[content].append(path)
        claimed: set[str] = set()
        for name in names:
            try:
                postings = open_segment(self._state / "segments" / name)
            except BadSegment as problem:
                self.segment_problem = str(problem)
                log.warning("segment: %s", problem)
                self.parts.clear()
                return
            part = Part(name, postings, np.zeros(len(postings.contents), bool))
            self.parts.append(part)
            for at, (path, content) in enumerate(
                zip(postings.paths, postings.contents.tolist(), strict=True)
            ):
                self._where[path].append((part, at))
                if path not in claimed and self.present.get(path) == content:
                    part.alive[at] = True
                    claimed.add(path)
        if self.parts:
            self._newer = {path: content for path, content in rows if path not in claimed}
            self._read_newer(list(self._newer))

    def _follow(self, changed: Sequence[str]) -> None:
        for path in changed:
            row = self.db.execute("SELECT content FROM present WHERE path = ?", (path,)).fetchone()
            before, now = self.present.pop(path, None), row[0] if row else None
            if before is not None:
                self._no_longer(path, before)
            if now is not None:
                self.present[path] = now
                self.paths[now].append(path)
            self._newer.pop(path, None)
            known = self._where[path]
            for part, at in known:
                part.alive[at] = False
            same = [(part, at) for part, at in known if int(part.postings.contents[at]) == now]
            if same:
                part, at = same[0]
                part.alive[at] = True
            if now is not None and not (same and part.name):
                self._newer[path] = now
        if self.parts:
            self._read_newer([path for path in changed if path in self._newer])

    def _no_longer(self, path: str, content: int) -> None:
        paths = self.paths[content]
        if path in paths:
            paths.remove(path)
        if not paths:
            del self.paths[content]

    def _read_newer(self, paths: Sequence[str]) -> None:
        """Put newer files into memory, and many small parts of them together; parts that nothing is left of go."""
        self._forget([part for part in self.parts if not part.name and not part.alive.any()])
        in_memory = [part for part in self.parts if not part.name]
        if len(in_memory) >= MAX_PARTS:
            self._forget(in_memory)
            paths = list(self._newer)
        room = max(0, MAX_DELTA - (len(self._newer) - len(paths)))
        self.unread = max(0, len(paths) - room)
        wanted = [(path, self._newer[path]) for path in paths[:room]]
        absent = [(path, content) for path, content in wanted if not self._is_alive(path, content)]
        if absent:
            postings = invert(records.bags(self.db, absent))
            part = Part("", postings, np.ones(len(postings.contents), bool))
            self.parts.append(part)
            for at, path in enumerate(postings.paths):
                self._where[path].insert(0, (part, at))
        self.lexical.set([part.postings for part in self.parts], [part.alive for part in self.parts])

    def _is_alive(self, path: str, content: int) -> bool:
        return any(
            part.alive[at] and int(part.postings.contents[at]) == content for part, at in self._where[path]
        )

    def _forget(self, parts: Sequence[Part]) -> None:
        gone = {id(part) for part in parts}
        self.parts = [part for part in self.parts if id(part) not in gone]
        for path in {path for part in parts for path in part.postings.paths}:
            self._where[path] = [(part, at) for part, at in self._where[path] if id(part) not in gone]

    # -- reading

    def chunks(self, content: int) -> list[tuple[int, int, str, str]]:
        """The chunks of a content: ``(start_line, end_line, symbol, kind)``."""
        return [row[:4] for row in records.chunks(self.db, content)]

    def lines(self, content: int) -> list[str]:
        """The text of a content, as lines without their ends."""
        packed = self._packed(content)
        return zlib.decompress(packed).decode().split("\n") if packed else []

    def passage(self, content: int, start_line: int, end_line: int) -> str:
        """Some lines of a content; no more of it is unpacked than that takes."""
        packed, unpacker = self._packed(content), zlib.decompressobj()
        text, ends = bytearray(), 0
        while ends < end_line and (piece := unpacker.decompress(packed, PIECE)):
            packed = unpacker.unconsumed_tail
            text += piece
            ends += piece.count(b"\n")
        return b"\n".join(text.split(b"\n", end_line)[start_line - 1 : end_line]).decode()

    def _packed(self, content: int) -> bytes:
        row = self.db.execute("SELECT text FROM source WHERE content = ?", (content,)).fetchone()
        packed: bytes = row[0] if row else b""
        return packed

    def overlay_texts(self) -> dict[str, str]:
        """The unsaved documents."""
        rows = self.db.execute("SELECT path, content FROM overlay").fetchall()
        return {path: "\n".join(self.lines(content)) for path, content in rows}


def resident_bytes() -> int:
    """Resident memory of this process in bytes; 0 where /proc does not tell."""
    try:
        pages = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[1])
    except (OSError, IndexError, ValueError):
        return 0
    return pages * os.sysconf("SC_PAGE_SIZE")
