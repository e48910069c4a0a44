"""Writes one round of segments and ends: a process of its own, so that its memory goes back and nothing waits for it.

Arguments: index.db, the folder of segments, the start of the new names, and what to write as JSON: ``{"since": g}`` for
the files that changed after a generation, with ``"merge": [names]`` also those of other segments, ``{"all": true}`` for
every file. Prints JSON: the new names, newest first, the generation that is in them, and the sizes of all of them.
"""

from __future__ import annotations

import json
import os
import sqlite3
import sys
from collections.abc import Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

from codeforge_ls.index import records
from codeforge_ls.index.extract import ChunkRow
from codeforge_ls.index.lexical import BadSegment, invert, open_segment, save_segment
from codeforge_ls.workers import die_with_parent

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
    for number, files in enumerate(_batches(records.bags(db, present.items()))):
        postings = invert(files)
        target = f"{name}-{number}"
        save_segment(folder / f".{target}", postings)
        (folder / f".{target}").rename(folder / target)
        written.append({"name": target, "chunks": len(postings)})
    os.write(1, json.dumps({"generation": int(row[0]) if row else 0, "segments": written}).encode())


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


def _batches(files: Iterable[File]) -> Iterator[list[File]]:
    """Groups of at most ``MAX_CHUNKS`` chunks; at least one group, if an empty one."""
    batch: list[File] = []
    size, some = 0, False
    for file in files:
        if batch and size + len(file[2]) > MAX_CHUNKS:
            yield batch
            batch, size, some = [], 0, True
        batch.append(file)
        size += len(file[2])
    if batch or not some:
        yield batch


if __name__ == "__main__":
    main()
