"""Defined names by their beginning, a part, or their letters in order: one buffer, shortest names first."""

from __future__ import annotations

import re
from collections.abc import Iterator
from itertools import islice

import numpy as np

from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_base import Ints

ABBREVIATION = 8  # letters; longer texts are no abbreviations when a name has them side by side


class NameSearch:
    """Over the names of one graph. The buffer of the base is made once; names of changed files are looked at beside."""

    def __init__(self, graph: CodeGraph) -> None:
        self._graph, base = graph, graph.base
        lengths = np.diff(base["name_at"][: base.defined + 1])
        self._order: Ints = np.argsort(lengths, kind="stable").astype(np.int32)
        texts = [text.lower() for text in islice(base.names.every(), base.defined)]
        self._buffer = b"\n".join([b"", *(texts[at] for at in self._order.tolist()), b""])
        self._starts = np.concatenate([[1], 1 + np.cumsum(lengths[self._order] + 1)]).astype(np.int64)

    def find(self, text: str, limit: int) -> list[int]:
        """Numbers of defined names: equal to ``text`` but for case, then that start with it, contain it, or have its
        letters in order; each kind by length, then by name.

        At least ``limit`` if there are so many, but for the last kind: see ``ABBREVIATION``.
        """
        found: dict[int, None] = {}
        wanted = text.lower().encode("utf-8", "surrogatepass").replace(b"\n", b"")
        if not wanted:
            return []
        for spread, pattern in _patterns(wanted):
            if spread and found and len(wanted) > ABBREVIATION:
                break  # who types so much means what is there; looking for spread letters is slow
            batch = {at: self._graph.name(at) for at in self._matches(pattern, limit)}
            batch |= self._changed(pattern)
            for at in sorted(batch, key=lambda at: (len(batch[at]), batch[at])):
                found.setdefault(at)
            if len(found) >= limit:
                break
        return list(found)

    def exact(self, text: str) -> list[int]:
        """Numbers of defined names that equal ``text`` but for case."""
        wanted = text.lower().encode("utf-8", "surrogatepass").replace(b"\n", b"")
        pattern = re.compile(b"\n" + re.escape(wanted) + b"(?=\n)")
        return sorted({*self._matches(pattern, 1000), *self._changed(pattern)})

    def _matches(self, pattern: re.Pattern[bytes], limit: int) -> Iterator[int]:
        at = 0
        for _ in range(limit):
            match = pattern.search(self._buffer, at)
            if match is None:
                return
            line = int(np.searchsorted(self._starts, match.end() - 1, side="right")) - 1
            yield int(self._order[line])
            at = int(self._starts[line + 1]) - 1

    def _changed(self, pattern: re.Pattern[bytes]) -> dict[int, str]:
        """The same among the definitions of changed files."""
        found: dict[int, str] = {}
        for changed in self._graph.changed.values():
            for at, row in zip(changed.symbol_names, changed.facts.symbols, strict=True):
                raw = row[0].lower().encode("utf-8", "surrogatepass")
                if at not in found and pattern.search(b"\n" + raw + b"\n"):
                    found[at] = row[0]
        return found


def _patterns(wanted: bytes) -> Iterator[tuple[bool, re.Pattern[bytes]]]:
    """The patterns in their order, and whether its letters may be spread."""
    text = re.escape(wanted)
    yield False, re.compile(b"\n" + text + b"(?=\n)")
    yield False, re.compile(b"\n" + text)
    yield False, re.compile(text)
    letters = [re.escape(bytes([byte])) for byte in wanted]
    # Everything up to the next letter excludes that letter: no way to match is tried twice.
    yield True, re.compile(b"\n" + b"".join(b"[^" + letter + b"\n]*" + letter for letter in letters))
