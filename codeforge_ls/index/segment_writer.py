"""Writes one round of segments and ends: a process of its own, so that its memory goes back and nothing waits for it.

Arguments: index.db, the folder of segments, the start of the new names, and what to write as JSON: ``{"since": g}`` for
the files that changed after a generation, with ``"merge": [names]`` also those of other segments, ``{"all": true}`` for
every file. Prints JSON: the new segments, the generation that is in them, and the CPU seconds it took.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from codeforge_ls.child import die_with_parent
from codeforge_ls.index import records
from codeforge_ls.index.extract import ChunkRow
from codeforge_ls.index.lexical import BadSegment, invert, open_segment, save_segment

MAX_CHUNKS = 120_000  # in one segment: bounds the memory of this process to some 300 MB

File = tuple[str, int, list[ChunkRow], bytes]


def main() -> None:
    """Read one state of the database, write beside the final place, then rename: no reader sees half of one."""
    die_with_parent()
    database, folder, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    wanted: dict[str, Any] = json.loads(sys.argv[4])
    folder.mkdir(parents=True, exist_ok=True)
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10, isolation_level=None)
    db.execute("BEGIN")
    row = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
    present = dict(db.execute("SELECT path, content FROM present ORDER BY path").fetchall())
    if not wanted.get("all"):
        present = _chosen(db, folder, present, wanted)
    written: list[dict[str, object]] = []
    files = _Batches(records.bags(db, present.items()))
    while not files.done or not written:
        postings = invert(files.batch())
        target = f"{name}-{len(written)}"
        save_segment(folder / f".{target}", postings)
        (folder / f".{target}").rename(folder / target)
        written.append({"name": target, "chunks": len(postings)})
        del postings
    answer = {
        "generation": int(row[0]) if row else 0,
        "segments": written,
        "seconds": time.process_time(),
    }
    os.write(1, json.dumps(answer).encode())


def _chosen(
    db: sqlite3.Connection, folder: Path, present: Mapping[str, int], wanted: Mapping[str, Any]
) -> dict[str, int]:
    """The files that changed since, and those of the segments to be merged."""
    sql = "SELECT DISTINCT path FROM change WHERE generation > ?"
    paths = {path for (path,) in db.execute(sql, (wanted["since"],))}
    for other in wanted.get("merge", ()):
        try:
            paths.update(open_segment(folder / other).paths)
        except BadSegment as problem:
            raise SystemExit(str(problem)) from problem
    return {path: present[path] for path in sorted(paths) if path in present}


class _Batches:
    """Files in groups of about ``MAX_CHUNKS`` chunks, one file in memory at a time."""

    def __init__(self, files: Iterator[File]) -> None:
        self._files = files
        self._next = next(files, None)

    @property
    def done(self) -> bool:
        """Whether no file is left."""
        return self._next is None

    def batch(self) -> Iterator[File]:
        """The files of the next group."""
        size = 0
        while self._next is not None and size < MAX_CHUNKS:
            file, self._next = self._next, None
            size += len(file[2])
            self._next = next(self._files, None)
            yield file


if __name__ == "__main__":
    main()
