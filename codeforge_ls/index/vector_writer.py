"""Writes the vectors of segments and ends: a process of its own, at low priority, so that nothing waits for it.

Arguments: the folder of segments, then the names of those that lack vectors. Prints a name when it is done with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

import numpy as np

from codeforge_ls.child import die_with_parent
from codeforge_ls.index.database import VECTORS
from codeforge_ls.index.dense import IDF_FILE, embed, save_vectors
from codeforge_ls.index.lexical import BadSegment, open_segment
from codeforge_ls.index.wordvectors import Floats, shipped

NICE = 5  # on top of the index worker's
FEW = 0.25  # a segment this much smaller than the largest takes the largest one's word frequencies


def main() -> None:
    """The largest first: the words of the small ones are weighted as in it."""
    die_with_parent()
    os.nice(NICE)
    folder, table = Path(sys.argv[1]), shipped()
    opened = []
    for name in sys.argv[2:]:
        with contextlib.suppress(BadSegment):
            opened.append((name, open_segment(folder / name)))
    for name, postings in sorted(opened, key=lambda one: (-len(one[1]), one[0])):
        largest, idf = _largest(folder, len(table))
        vectors, used = embed(
            postings, table, idf if len(postings) * table.dimensions < FEW * largest else None
        )
        with contextlib.suppress(FileNotFoundError):  # the segment was merged meanwhile
            save_vectors(folder / name, vectors, used)
            os.write(1, f"{name}\n".encode())


def _largest(folder: Path, words: int) -> tuple[int, Floats | None]:
    """The size of the largest segment with vectors, in bytes of them, and its idf."""
    best: tuple[int, Floats | None] = 0, None
    for file in sorted(folder.glob(f"*/{VECTORS}")):
        with contextlib.suppress(OSError, ValueError, EOFError):
            size, idf = file.stat().st_size, np.load(file.with_name(IDF_FILE), allow_pickle=False)
            if size > best[0] and len(idf) == words:
                best = size, idf
    return best


if __name__ == "__main__":
    main()
