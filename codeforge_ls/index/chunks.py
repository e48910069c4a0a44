"""Cut a file into chunks of about 800 characters, at the starts of definitions where that is near."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from codeforge_ls.index.tags import Definition

# 800 characters keep NDCG and raise recall within 2,000 tokens over 1,500 (facts/retrieval.md, section 4).
SIZE = 800
EARLY = 400  # a definition may start a new chunk once the present one is at least this long
BORDERS = {"function", "method", "class", "interface", "struct", "enum", "type", "module", "macro"}
LEADS = (
    "#",
    "//",
    "/*",
    "*",
    "@",
    "--",
    "%",
    "[",
    '"""',
)  # comments, attributes and decorators above a definition
MAX_LEAD = 30


@dataclass(slots=True)
class Chunk:
    """Lines ``start_line`` to ``end_line``, both included; ``symbol`` is what it starts or lies in."""

    start_line: int
    end_line: int
    symbol: str = ""
    kind: str = ""


def cut_chunks(lines: Sequence[str], definitions: Sequence[Definition]) -> list[Chunk]:
    """All lines of the file in order, none twice; chunks of blank lines are dropped."""
    borders = {_lead(lines, one.start_line) for one in definitions if one.kind in BORDERS}
    spans: list[tuple[int, int]] = []
    start, size = 1, 0
    for number, line in enumerate(lines, 1):
        full = size + len(line) > SIZE
        if size and (full or (size >= EARLY and number in borders)):
            spans.append((start, number - 1))
            start, size = number, 0
        size += len(line) + 1
    if size:
        spans.append((start, len(lines)))
    namer = _Namer(definitions)
    kept = [span for span in spans if any(line.strip() for line in lines[span[0] - 1 : span[1]])]
    return [Chunk(first, last, *namer.name(first, last)) for first, last in kept]


def _lead(lines: Sequence[str], line: int) -> int:
    """The first line of the comments and decorators directly above ``line``."""
    first = line
    while first > max(1, line - MAX_LEAD) and lines[first - 2].lstrip().startswith(LEADS):
        first -= 1
    return first


class _Namer:
    """Finds the definition that names a chunk."""

    def __init__(self, definitions: Sequence[Definition]) -> None:
        self._named = sorted(
            (one for one in definitions if one.kind in BORDERS), key=lambda one: one.start_line
        )
        self._starts = [one.start_line for one in self._named]

    def name(self, first: int, last: int) -> tuple[str, str]:
        """The longest definition that starts inside, else the innermost one around the first line."""
        at = bisect_right(self._starts, first - 1)
        inside = self._named[at : bisect_right(self._starts, last)]
        if inside:
            longest = max(inside, key=lambda one: one.end_line - one.start_line)
            return longest.name, longest.kind
        for one in reversed(self._named[max(0, at - 200) : at]):
            if one.end_line >= first:
                return one.name, one.kind
        return "", ""
