"""Writes the vectors of segments and ends: a process of its own, at low priority, so that nothing waits for it.

Arguments: the folder of segments, then the names of those that lack vectors. Prints a name when it is done with it.
"""

from __future__ import annotations

import contextlib
import os
import sys
from pathlib import Path

from codeforge_ls.child import die_with_parent
from codeforge_ls.index.dense import embed, save_vectors
from codeforge_ls.index.lexical import BadSegment, open_segment
from codeforge_ls.index.wordvectors import shipped

NICE = 5  # on top of the index worker's


def main() -> None:
    """One segment at a time; one that cannot be read is another's to write anew."""
    die_with_parent()
    os.nice(NICE)
    folder, table = Path(sys.argv[1]), shipped()
    for name in sys.argv[2:]:
        with contextlib.suppress(BadSegment, FileNotFoundError):  # the segment may have been merged meanwhile
            save_vectors(folder / name, embed(open_segment(folder / name), table))
            with contextlib.suppress(BrokenPipeError):  # whoever waited has gone
                os.write(1, f"{name}\n".encode())


if __name__ == "__main__":
    main()
