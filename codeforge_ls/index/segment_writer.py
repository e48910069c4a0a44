"""Writes one base segment and ends: a process of its own, so that its memory goes back and nothing waits for it.

Arguments: index.db, the folder of segments, the name of the new one. Prints the generation that is in it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from codeforge_ls.index.database import chunk_rows
from codeforge_ls.index.lexical import write_segment
from codeforge_ls.workers import die_with_parent


def main() -> None:
    """Read one state of the database, write beside the final place, then rename: no reader sees half of one."""
    die_with_parent()
    database, folder, name = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    folder.mkdir(parents=True, exist_ok=True)
    partial = folder / f".{name}"
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10, isolation_level=None)
    db.execute("BEGIN")
    row = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
    present = db.execute("SELECT path, content FROM present ORDER BY path").fetchall()
    write_segment(partial, chunk_rows(db, present))
    db.close()
    partial.rename(folder / name)
    os.write(1, str(row[0] if row else 0).encode())


if __name__ == "__main__":
    main()
