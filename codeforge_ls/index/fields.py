"""What a chunk is found by: its own words, those of its path, and the names it defines, each with a weight."""

from __future__ import annotations

from pathlib import PurePosixPath

from codeforge_ls.index.tokens import raw_words

# How often a word of a field counts against one in the chunk's own text; below 32, in steps of WEIGHT_UNIT.
WEIGHT_UNIT = 0.125
TEXT = 1.0
PATH = 1.0  # every folder and the file name
STEM = 2.0  # on top of PATH, for the file name without its suffix
DEFINED = 2.0

Weighted = list[tuple[bytes, float]]


def path_words(path: str) -> Weighted:
    """What a path adds to each of its chunks."""
    every, stem = raw_words(path.encode()), raw_words(PurePosixPath(path).stem.encode())
    return [(word, PATH) for word in every] + [(word, STEM) for word in stem]


def defined_words(defines: str) -> Weighted:
    """What the names that a chunk defines, blanks between, add to it."""
    return [(word, DEFINED) for word in raw_words(defines.encode())]
