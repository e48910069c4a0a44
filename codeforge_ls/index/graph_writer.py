"""Writes the code graph with its ranks and ends: a process of its own, as for base segments.

Arguments: index.db and the file to write. Prints the generation that is in it.
"""

from __future__ import annotations

import os
import sqlite3
import sys
from pathlib import Path

from codeforge_ls.child import die_with_parent
from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_base import GraphBase, with_ranks


def main() -> None:
    """Read one state of the database, build, rank, write beside the final place and rename."""
    die_with_parent()
    database, target = Path(sys.argv[1]), Path(sys.argv[2])
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=10, isolation_level=None)
    db.execute("BEGIN")
    row = db.execute("SELECT value FROM meta WHERE key = 'generation'").fetchone()
    present = db.execute("SELECT path, content FROM present ORDER BY path").fetchall()
    base = GraphBase.read(db, present, int(row[0]) if row else 0)
    db.close()
    with_ranks(base, CodeGraph(base).ranks()).write(target)
    os.write(1, str(base.generation).encode())


if __name__ == "__main__":
    main()
