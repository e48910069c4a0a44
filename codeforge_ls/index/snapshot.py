"""What the query worker sees: index.db read only, the mapped base segment, and the delta since."""

from __future__ import annotations

import logging
import os
import sqlite3
import zlib
from collections import OrderedDict, defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from codeforge_ls.index.lexical import BadSegment, Delta, Segment

log = logging.getLogger(__name__)

MAX_DELTA = 400  # files read into the delta; more than these wait for the next base segment
TEXTS = 64  # unpacked texts kept


class Snapshot:
    """A view of the index that ``refresh`` brings up to the latest committed generation."""

    def __init__(self, state: Path) -> None:
        self._state = state
        self._db: sqlite3.Connection | None = None
        self._inode: tuple[int, int] | None = None
        self._data_version = -1
        self._texts: OrderedDict[int, list[str]] = OrderedDict()
        self._reset()

    def _reset(self) -> None:
        self.generation = -1
        self.segment: Segment | None = None
        self.segment_problem = ""
        self._segment_name = ""
        self.graph_name = ""
        self.delta = Delta()
        self.present: dict[str, int] = {}
        self.paths: dict[int, list[str]] = defaultdict(list)
        self.alive: list[bool] = []
        self._base_index: dict[str, int] = {}
        self.unread = 0
        self._texts.clear()

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

    def close(self) -> None:
        """Let go of the database and forget all."""
        if self._db is not None:
            self._db.close()
        self._db = None
        self._reset()

    def _catch_up(self) -> None:
        meta = dict(self.db.execute("SELECT key, value FROM meta").fetchall())
        generation = int(meta.get("generation", 0))
        name = meta.get("segment", "")
        graph_name = meta.get("graph", "")
        if name != self._segment_name or self.generation < 0 or generation < self.generation:
            self._load(name)
        elif generation != self.generation:
            sql = "SELECT DISTINCT path FROM change WHERE generation > ?"
            self._follow([row[0] for row in self.db.execute(sql, (self.generation,))])
        self.generation = generation
        self.graph_name = graph_name

    def _load(self, name: str) -> None:
        self._reset()
        self._segment_name = name
        if name:
            try:
                self.segment = Segment(self._state / "segments" / name)
            except BadSegment as problem:
                self.segment_problem = str(problem)
                log.warning("base segment: %s", problem)
        rows = self.db.execute("SELECT path, content FROM present ORDER BY path").fetchall()
        self.present = dict(rows)
        for path, content in rows:
            self.paths[content].append(path)
        if self.segment is not None:
            self._base_index = {path: at for at, (path, _) in enumerate(self.segment.files)}
            self.alive = [self.present.get(path) == content for path, content in self.segment.files]
            based = {path for at, (path, _) in enumerate(self.segment.files) if self.alive[at]}
            self._fill([(path, content) for path, content in rows if path not in based])

    def _follow(self, changed: Sequence[str]) -> None:
        newer: list[tuple[str, int]] = []
        for path in changed:
            row = self.db.execute("SELECT content FROM present WHERE path = ?", (path,)).fetchone()
            before, now = self.present.pop(path, None), row[0] if row else None
            if before is not None and path in self.paths[before]:
                self.paths[before].remove(path)
            self.delta.drop(path)
            at = self._base_index.get(path)
            based = at is not None and self.segment is not None and self.segment.files[at][1] == now
            if at is not None:
                self.alive[at] = based
            if now is not None:
                self.present[path] = now
                self.paths[now].append(path)
                if not based:
                    newer.append((path, now))
        if self.segment is not None:
            self._fill(newer)

    def _fill(self, newer: Sequence[tuple[str, int]]) -> None:
        room = max(0, MAX_DELTA - len(self.delta))
        self.unread = max(0, len(newer) - room)
        for path, content in newer[:room]:
            row = self.db.execute("SELECT tokens, chunks FROM content WHERE id = ?", (content,)).fetchone()
            if row and row[1]:
                self.delta.put(path, content, self.chunks(content), row[0])

    # -- reading

    def chunks(self, content: int) -> list[Any]:
        """The chunks of a content: ``(start_line, end_line, symbol, kind)``."""
        sql = "SELECT start_line, end_line, symbol, kind FROM chunk WHERE content = ? ORDER BY ordinal"
        return self.db.execute(sql, (content,)).fetchall()

    def lines(self, content: int) -> list[str]:
        """The text of a content, as lines without their ends."""
        lines = self._texts.get(content)
        if lines is None:
            row = self.db.execute("SELECT text FROM content WHERE id = ?", (content,)).fetchone()
            lines = zlib.decompress(row[0]).decode().split("\n") if row else []
            self._texts[content] = lines
            if len(self._texts) > TEXTS:
                self._texts.popitem(last=False)
        self._texts.move_to_end(content)
        return lines

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
