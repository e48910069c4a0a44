"""index.db as its one writer sees it: contents by hash, files, overlays, skips, generations."""

from __future__ import annotations

import contextlib
import json
import sqlite3
import time
from array import array
from collections.abc import Iterable, Sequence
from itertools import count
from pathlib import Path
from typing import NamedTuple

from codeforge_ls.index.extract import Extract

SCHEMA_VERSION = "4"
SCHEMA = Path(__file__).with_name("schema.sql")
# Contents that no file has any more are kept for the way back to another branch, up to so many.
KEPT_CONTENTS = 5_000
CONTENT_TABLES = ("use", "bag", "source", "content")


Counts = tuple[int, int, int, dict[str, int], int]  # files, symbols, chunks, files by language, skipped files


# The files of a segment's folder; named here so that who looks for them need not import numpy.
SEGMENT, VECTORS = "segment.arrays", "dense.npy"


class SegmentRow(NamedTuple):
    """A saved segment and its size in chunks."""

    name: str
    chunks: int


def put_aside(path: Path) -> Path:
    """Move a damaged database out of the way, with its journal; returns its new name."""
    target = path.with_name(f"{path.name}.damaged-{time.time_ns()}")
    for suffix in ("-wal", "-shm"):
        with contextlib.suppress(FileNotFoundError):
            Path(f"{path}{suffix}").unlink()
    with contextlib.suppress(FileNotFoundError):
        path.rename(target)
    return target


class IndexDatabase:
    """The writing side. Every method is one transaction or part of the open one; call ``commit``."""

    def __init__(self, path: Path) -> None:
        """Open or make it. Raises ``sqlite3.DatabaseError`` when the file is damaged or of another version."""
        path.parent.mkdir(parents=True, exist_ok=True)
        self._db = sqlite3.connect(path, isolation_level=None, timeout=10)
        self._names: dict[str, int] = {}
        try:
            self._db.execute("PRAGMA journal_mode = WAL")
            self._db.execute("PRAGMA synchronous = NORMAL")
            self._db.execute("PRAGMA cache_size = -16000")
            self._prepare()
        except BaseException:
            self._db.close()
            raise
        self.generation = int(self.meta("generation") or 0)

    def _prepare(self) -> None:
        if self._db.execute("SELECT count(*) FROM sqlite_schema").fetchone()[0] == 0:
            self._db.executescript(f"BEGIN; {SCHEMA.read_text(encoding='utf-8')} COMMIT;")
            self.set_meta("schema", SCHEMA_VERSION)
        if self.meta("schema") != SCHEMA_VERSION:
            raise sqlite3.DatabaseError(f"index.db has schema {self.meta('schema')}, not {SCHEMA_VERSION}")
        problem = self._db.execute("PRAGMA quick_check(1)").fetchone()[0]
        if problem != "ok":
            raise sqlite3.DatabaseError(f"index.db is damaged: {problem}")

    def close(self) -> None:
        """Write the journal back and close; an open transaction is rolled back."""
        self.rollback()
        self.write_back()
        self._db.close()

    def write_back(self) -> None:
        """Fold the journal into the file as far as readers allow, and free the cache: a first build fills both."""
        with contextlib.suppress(sqlite3.OperationalError):
            self._db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchall()
        self._db.execute("PRAGMA shrink_memory")

    def begin(self) -> None:
        """Open a transaction unless one is open."""
        if not self._db.in_transaction:
            self._db.execute("BEGIN IMMEDIATE")

    def commit(self, changed: Iterable[str] = ()) -> None:
        """Commit; when paths changed, under the next generation."""
        paths = list(changed)
        self.begin()
        if paths:
            self.generation += 1
            self.set_meta("generation", str(self.generation))
            self._db.executemany(
                "INSERT INTO change VALUES (?, ?)", ((self.generation, path) for path in paths)
            )
        self._db.execute("COMMIT")

    def rollback(self) -> None:
        """Take back what was not committed."""
        self._names.clear()
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def meta(self, key: str) -> str | None:
        """A single remembered value."""
        row = self._db.execute("SELECT value FROM meta WHERE key = ?", (key,)).fetchone()
        return row[0] if row else None

    def set_meta(self, key: str, value: str) -> None:
        """Remember a value."""
        self._db.execute(
            "INSERT INTO meta VALUES (?, ?) ON CONFLICT DO UPDATE SET value = excluded.value", (key, value)
        )

    # -- contents

    def content(self, digest: str, language: str, version: str) -> int | None:
        """The id of a content that is already known."""
        sql = "SELECT id FROM content WHERE digest = ? AND language = ? AND version = ?"
        row = self._db.execute(sql, (digest, language, version)).fetchone()
        return row[0] if row else None

    def has_contents(self) -> bool:
        """Whether anything was ever parsed into this database."""
        return self._db.execute("SELECT 1 FROM content LIMIT 1").fetchone() is not None

    def add_content(self, found: Extract) -> int:
        """Store what a parser found, unless it is there already; returns the content's id."""
        known = self.content(found.digest, found.language, found.version)
        if known is not None:
            return known
        execute = self._db.execute
        row = (
            found.digest, found.language, found.version, found.lines, found.symbol_count, found.chunk_count,
        )  # fmt: skip
        key = execute("INSERT INTO content VALUES (NULL, ?, ?, ?, ?, ?, ?)", row).lastrowid
        assert key is not None  # noqa: S101 - an INSERT has just succeeded
        names = self._name_ids(found.names.decode().split("\n")) if found.names else b""
        uses = (key, names, found.use_counts, found.imports, found.places, found.symbols)
        execute("INSERT INTO use VALUES (?, ?, ?, ?, ?, ?)", uses)
        execute("INSERT INTO bag VALUES (?, ?, ?)", (key, found.chunks, found.bags))
        execute("INSERT INTO source VALUES (?, ?)", (key, found.text))
        return key

    def _name_ids(self, names: Sequence[str]) -> bytes:
        known = self._names
        if unknown := [name for name in names if name not in known]:
            sql = "SELECT text, id FROM name WHERE text IN (SELECT value FROM json_each(?))"
            known.update(self._db.execute(sql, (json.dumps(unknown),)))
            last = self._db.execute("SELECT coalesce(max(id), 0) FROM name").fetchone()[0]
            new = dict(zip((name for name in unknown if name not in known), count(last + 1)))
            self._db.executemany("INSERT INTO name VALUES (?, ?)", ((key, name) for name, key in new.items()))
            known.update(new)
        return array("I", map(known.__getitem__, names)).tobytes()

    def forget_names(self) -> None:
        """Let go of the names remembered for speed; they are looked up again when needed."""
        self._names.clear()

    def drop_content(self, keys: Iterable[int]) -> None:
        """Delete contents that nothing uses; the ones in use are left alone."""
        unused = [key for key in keys if not self._used(key)]
        for table in CONTENT_TABLES:
            column = "id" if table == "content" else "content"
            self._db.executemany(f"DELETE FROM {table} WHERE {column} = ?", ((key,) for key in unused))  # noqa: S608 - fixed names

    def _used(self, key: int) -> bool:
        sql = (
            "SELECT EXISTS (SELECT 1 FROM file WHERE content = ?)"
            " OR EXISTS (SELECT 1 FROM overlay WHERE content = ?)"
        )
        return bool(self._db.execute(sql, (key, key)).fetchone()[0])

    def drop_old_contents(self) -> None:
        """Forget the oldest unused contents beyond ``KEPT_CONTENTS``."""
        sql = (
            "SELECT id FROM content WHERE id NOT IN (SELECT content FROM present) AND id NOT IN"
            " (SELECT content FROM file WHERE content IS NOT NULL) ORDER BY id DESC LIMIT -1 OFFSET ?"
        )
        self.drop_content([row[0] for row in self._db.execute(sql, (KEPT_CONTENTS,)).fetchall()])

    def forget_contents(self) -> None:
        """Drop everything that was parsed: the next build parses all files again."""
        self._names.clear()
        for table in (*CONTENT_TABLES, "name", "file", "overlay", "skipped", "quarantine"):
            self._db.execute(f"DELETE FROM {table}")  # noqa: S608 - fixed names

    # -- files and overlays

    def files(self) -> dict[str, tuple[int | None, int, int]]:
        """Every file on record: ``path -> (content, mtime_ns, size)``."""
        rows = self._db.execute("SELECT path, content, mtime_ns, size FROM file")
        return {path: (content, mtime, size) for path, content, mtime, size in rows}

    def overlays(self) -> dict[str, int]:
        """Unsaved documents on record: ``path -> content``."""
        return dict(self._db.execute("SELECT path, content FROM overlay").fetchall())

    def set_file(self, path: str, content: int | None, mtime_ns: int, size: int) -> None:
        """Record what a file on disk holds now."""
        self._db.execute("INSERT OR REPLACE INTO file VALUES (?, ?, ?, ?)", (path, content, mtime_ns, size))

    def remove_files(self, paths: Iterable[str]) -> None:
        """Forget files that are gone."""
        gone = [(path,) for path in paths]
        self._db.executemany("DELETE FROM file WHERE path = ?", gone)
        self._db.executemany("DELETE FROM skipped WHERE path = ?", gone)

    def set_overlay(self, path: str, content: int | None) -> int | None:
        """Set or remove the unsaved text of a path; returns the content it had before."""
        row = self._db.execute("SELECT content FROM overlay WHERE path = ?", (path,)).fetchone()
        if content is None:
            self._db.execute("DELETE FROM overlay WHERE path = ?", (path,))
        else:
            self._db.execute("INSERT OR REPLACE INTO overlay VALUES (?, ?)", (path, content))
        return row[0] if row else None

    # -- what is left out

    def set_skips(self, skips: dict[str, tuple[str, int]]) -> None:
        """Replace the list of files that are left out."""
        self._db.execute("DELETE FROM skipped")
        self._db.executemany(
            "INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", ((p, *why) for p, why in skips.items())
        )

    def set_skip(self, path: str, reason: str | None, size: int = 0) -> None:
        """Note why a file is left out; None when it is not any more."""
        if reason is None:
            self._db.execute("DELETE FROM skipped WHERE path = ?", (path,))
        else:
            self._db.execute("INSERT OR REPLACE INTO skipped VALUES (?, ?, ?)", (path, reason, size))

    def skips(self, limit: int) -> list[tuple[str, str, int]]:
        """The files left out, by path, with reason and size in bytes."""
        return self._db.execute(
            "SELECT path, reason, size FROM skipped ORDER BY path LIMIT ?", (limit,)
        ).fetchall()

    def all_skips(self) -> dict[str, tuple[str, int]]:
        """The same as a mapping, whole."""
        return {path: (reason, size) for path, reason, size in self.skips(-1)}

    def quarantine(self, digest: str, path: str, reason: str) -> None:
        """Never parse this content again."""
        self._db.execute("INSERT OR REPLACE INTO quarantine VALUES (?, ?, ?)", (digest, path, reason))

    def quarantined(self) -> set[str]:
        """The hashes of contents that are not to be parsed."""
        return {row[0] for row in self._db.execute("SELECT digest FROM quarantine")}

    # -- for the status and the base segment

    def counts(self) -> Counts:
        """Files, symbols, chunks, files for each language, and skipped files."""
        sql = (
            "SELECT language, count(*), sum(symbols), sum(chunks) FROM present JOIN content ON content.id = content"
            " GROUP BY language ORDER BY 2 DESC"
        )
        rows = self._db.execute(sql).fetchall()
        skipped = self._db.execute("SELECT count(*) FROM skipped").fetchone()[0]
        return (
            sum(row[1] for row in rows), sum(row[2] for row in rows), sum(row[3] for row in rows),
            {row[0]: row[1] for row in rows}, skipped,
        )  # fmt: skip

    def changes_since(self, generation: int) -> int:
        """How many paths changed after a generation."""
        sql = "SELECT count(DISTINCT path) FROM change WHERE generation > ?"
        return int(self._db.execute(sql, (generation,)).fetchone()[0])

    def segments(self) -> list[SegmentRow]:
        """The segments that readers use, newest first."""
        return [SegmentRow(*row) for row in json.loads(self.meta("segment_sizes") or "[]")]

    def switch_segments(self, segments: Sequence[SegmentRow], generation: int) -> None:
        """Make these segments, newest first, the current ones and forget the changes they contain."""
        self.begin()
        self.set_meta("segments", json.dumps([one.name for one in segments]))
        self.set_meta("segment_sizes", json.dumps(segments))
        self.set_meta("segment_generation", str(generation))
        self._db.execute("DELETE FROM change WHERE generation <= ?", (generation,))
        self.commit()
