"""The repo map: the definitions that matter most, as text that never exceeds a token budget."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from codeforge_ls.index.graph import RANKED_KINDS, WORD_FACTOR, FileGraph, Floats, positions_by_word
from codeforge_ls.index.ranking import NOISE, PROSE

CHARACTERS = 4  # a token is four characters, rounded up (features, CTX-1)
LINE = 160  # a signature line is cut here
OWN = 0.1  # share of a file's own rank that its definitions divide among them, used by others or not
SIDE_WEIGHT = 0.1  # tests, examples and docs
MISSES = 40  # so many definitions in a row that do not fit end the packing


@dataclass(frozen=True)
class Entry:
    """One definition that may go on the map."""

    path: str
    line: int
    depth: int
    text: str
    rank: float


@dataclass(frozen=True)
class Packed:
    """The text and what is on it; ``cut`` definitions did not fit."""

    text: str
    files: int
    symbols: int
    cut: int


def estimate_tokens(text: str) -> int:
    """``len/4`` rounded up; at least 1 for any text, 0 for none."""
    return -(-len(text) // CHARACTERS)


class MapTable:
    """All definitions of a workspace in arrays, so that a map for other words or files costs milliseconds."""

    def __init__(self, db: sqlite3.Connection, present: Mapping[str, int], graph: FileGraph) -> None:
        self._graph = graph
        self._shown: list[tuple[int, str]] = []  # depth and text
        names: list[str] = []
        files: list[int] = []
        lines: list[int] = []
        shares: list[float] = []
        sides = [SIDE_WEIGHT if NOISE.search(path) or PROSE.search(path) else 1.0 for path in graph.paths]
        rows = _definitions(db)
        for file, path in enumerate(graph.paths):
            definitions = rows.get(present[path], ())
            for name, line, scope, signature in definitions:
                self._shown.append((scope.count(".") + 1 if scope else 0, (signature or name)[:LINE]))
                names.append(name)
                files.append(file)
                lines.append(line)
                shares.append(sides[file] / len(definitions))
        self._sides = np.array(sides)
        self._files, self._lines = np.array(files, np.int64), np.array(lines, np.int64)
        self._shares = np.array(shares)
        ids = np.array([graph.name_ids.get(name, -1) for name in names], np.int64)
        self._keys = np.where(ids >= 0, self._files * len(graph.names) + ids, -1)
        self._by_word = positions_by_word(names)

    def __len__(self) -> int:
        return len(self._shown)

    def entries(self, ranks: Floats, words: Sequence[str]) -> Iterator[Entry]:
        """The definitions, best first; equal ones by path and line."""
        if not self._shown:
            return
        own = OWN * ranks[self._files] * self._shares
        own[[at for word in words for at in self._by_word.get(word, ())]] *= WORD_FACTOR
        value = own + self._inflow(ranks, words) * self._sides[self._files]
        for at in np.lexsort((self._lines, self._files, -value)):
            depth, text = self._shown[at]
            path = self._graph.paths[self._files[at]]
            yield Entry(path, int(self._lines[at]), depth, text, float(value[at]))

    def _inflow(self, ranks: Floats, words: Sequence[str]) -> Floats:
        keys, sums = self._graph.flow(ranks, words)
        if not len(keys):
            return np.zeros(len(self._shown))
        at = np.minimum(np.searchsorted(keys, self._keys), len(keys) - 1)
        return np.where(keys[at] == self._keys, sums[at], 0.0)


def _definitions(db: sqlite3.Connection) -> dict[int, list[tuple[str, int, str, str]]]:
    """``(name, line, scope, signature)`` of what may go on a map, by content."""
    marks = ",".join("?" * len(RANKED_KINDS))
    sql = (
        f"SELECT content, name, name_line, scope, signature FROM symbol WHERE kind IN ({marks})"  # noqa: S608 - marks only
        " AND length(scope) - length(replace(scope, '.', '')) < 3"
    )
    found: dict[int, list[tuple[str, int, str, str]]] = {}
    for content, name, line, scope, signature in db.execute(sql, RANKED_KINDS):
        found.setdefault(content, []).append((name, line, scope, signature))
    return found


def pack(entries: Iterable[Entry], total: int, budget_tokens: int) -> Packed:
    """Take entries, ``total`` in all, in their order while they fit; files with the best of them come first.

    The text is at most ``budget_tokens`` long. If not even the first file's first entry fits, it is cut inside.
    """
    room = budget_tokens * CHARACTERS
    taken: dict[str, list[Entry]] = {}
    seen: set[tuple[str, int]] = set()
    count = missed = 0
    first: Entry | None = None
    for entry in entries:
        first = first or entry
        if (entry.path, entry.line) in seen:
            continue
        cost = len(_line(entry)) + (0 if entry.path in taken else len(_head(entry.path)))
        if cost > room:
            missed += 1
            if missed > MISSES:
                break
            continue
        missed = 0
        room -= cost
        seen.add((entry.path, entry.line))
        taken.setdefault(entry.path, []).append(entry)
        count += 1
    if not taken and first:
        text = (_head(first.path) + _line(first))[: budget_tokens * CHARACTERS]
        return Packed(text, 1, 0, total)
    order = sorted(taken, key=lambda path: (-sum(one.rank for one in taken[path]), path))
    parts: list[str] = []
    for path in order:
        parts.append(_head(path))
        parts.extend(_line(one) for one in sorted(taken[path], key=lambda one: one.line))
    return Packed("".join(parts), len(taken), count, total - count)


def _head(path: str) -> str:
    return f"{path}:\n"


def _line(entry: Entry) -> str:
    return f"{'  ' * (entry.depth + 1)}{entry.text}\n"
