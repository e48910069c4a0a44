"""Defined names by their beginning, a part, or their letters in order: one buffer, shortest names first."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import cached_property
from itertools import islice

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.graph import CodeGraph
from codeforge_ls.index.graph_base import Ints

ABBREVIATION = 8  # letters; longer texts are no abbreviations when a name has them side by side


class NameSearch:
    """Over the names of one graph. The buffer of the base is made once, that of changed files once a change."""

    def __init__(self, graph: CodeGraph) -> None:
        self._graph, base = graph, graph.base
        self._base = _Lines(islice(base.names.every(), base.defined), range(base.defined))
        self._changed, self._version = _Lines((), ()), graph.version

    def find(self, text: str, limit: int) -> list[int]:
        """Numbers of defined names: equal to ``text`` but for case, then that start with it, contain it, or have its
        letters in order; each kind by length, then by name.

        At least ``limit`` if there are so many, but for the last kind: see ``ABBREVIATION``.
        """
        found: dict[int, None] = {}
        wanted = _folded(text)
        if not wanted:
            return []
        for needle in (b"\n" + wanted + b"\n", b"\n" + wanted, wanted):
            self._add(found, self._having(needle, limit))
            if len(found) >= limit:
                return list(found)
        # Who types so much means what is there.
        if not found or len(wanted) <= ABBREVIATION:
            spread = [*self._base.spread(wanted, limit), *self._recent().spread(wanted, None)]
            self._add(found, spread)
        return list(found)

    def exact(self, text: str) -> list[int]:
        """Numbers of defined names that equal ``text`` but for case."""
        return sorted({*self._having(b"\n" + _folded(text) + b"\n", 1000)})

    def _having(self, needle: bytes, limit: int) -> list[int]:
        return [*self._base.having(needle, limit), *self._recent().having(needle, None)]

    def _add(self, found: dict[int, None], numbers: Iterable[int]) -> None:
        names = {at: self._graph.name(at) for at in numbers}
        for at in sorted(names, key=lambda at: (len(names[at]), names[at])):
            found.setdefault(at)

    def _recent(self) -> _Lines:
        """The names that changed files define."""
        if self._version != self._graph.version:
            numbers = {at for changed in self._graph.changed.values() for at in changed.symbol_names}
            texts = (_folded(self._graph.name(at)) for at in numbers)
            self._changed, self._version = _Lines(texts, [*numbers]), self._graph.version
        return self._changed


class _Lines:
    """Names in lower case, a line each, shortest first, and their numbers."""

    def __init__(self, texts: Iterable[bytes], numbers: Sequence[int]) -> None:
        every = list(texts)
        lengths = np.fromiter(map(len, every), np.int64, len(every))
        order = np.argsort(lengths, kind="stable")
        self._numbers: Ints = np.array(numbers, np.int32)[order]
        self._buffer = b"\n".join([b"", *(every[at] for at in order.tolist()), b""]).lower()
        self._starts = np.concatenate([[1], 1 + np.cumsum(lengths[order] + 1)]).astype(np.int32)

    def having(self, needle: bytes, limit: int | None) -> list[int]:
        """The first ``limit`` that have ``needle`` in them, whose line ends are those around a name."""
        ends: list[int] = []
        at = 0
        while (limit is None or len(ends) < limit) and (at := self._buffer.find(needle, at)) >= 0:
            at = self._buffer.index(b"\n", at + 1)
            ends.append(at)
        lines = np.searchsorted(self._starts, np.array(ends, np.int32), side="right") - 1
        numbers: list[int] = self._numbers[lines].tolist()
        return numbers

    def spread(self, wanted: bytes, limit: int | None) -> list[int]:
        """The first ``limit`` that have these letters in their order."""
        letters = [re.escape(bytes([byte])) for byte in wanted]
        # Everything up to the next letter excludes that letter: no way to match is tried twice.
        pattern = re.compile(b"".join(b"[^" + letter + b"\n]*" + letter for letter in letters))
        least = int(np.bitwise_or.reduce(_bits(wanted)))
        likely = np.flatnonzero((self._letters & least) == least)
        starts = self._starts[likely].tolist()
        matching = (
            at
            for at, start in zip(likely.tolist(), starts, strict=True)
            if pattern.match(self._buffer, start)
        )
        numbers: list[int] = self._numbers[[*islice(matching, limit)]].tolist()
        return numbers

    @cached_property
    def _letters(self) -> npt.NDArray[np.uint32]:
        """The letters of each name, a bit each, some sharing one."""
        bits = _bits(self._buffer)
        bits[self._starts[1:] - 1] = 0
        if not len(self._numbers):
            return bits[:0]
        masks: npt.NDArray[np.uint32] = np.bitwise_or.reduceat(bits, self._starts[:-1])
        return masks


def _folded(text: str) -> bytes:
    return text.lower().encode("utf-8", "surrogatepass").replace(b"\n", b"")


def _bits(text: bytes) -> npt.NDArray[np.uint32]:
    bits: npt.NDArray[np.uint32] = np.left_shift(
        np.uint32(1), np.frombuffer(text, np.uint8) & 31, dtype=np.uint32
    )
    return bits
