"""The repo map: the definitions that matter most, as text that never exceeds a token budget."""

from __future__ import annotations

import sqlite3
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from codeforge_ls.index.graph import RANKED_KINDS, FileGraph, Floats, word_factor
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


def map_entries(
    db: sqlite3.Connection,
    present: Mapping[str, int],
    graph: FileGraph,
    ranks: Floats,
    words: Sequence[str],
) -> list[Entry]:
    """All definitions of the workspace with their ranks, best first; equal ones by path and line."""
    flow = graph.rank_definitions(ranks, words)
    file_rank = dict(zip(graph.paths, ranks.tolist(), strict=True))
    by_content: dict[int, list[tuple[str, int, str, str]]] = {}
    marks = ",".join("?" * len(RANKED_KINDS))
    sql = (
        f"SELECT content, name, name_line, scope, signature FROM symbol WHERE kind IN ({marks})"  # noqa: S608 - marks only
        " AND length(scope) - length(replace(scope, '.', '')) < 3"
    )
    for content, *row in db.execute(sql, RANKED_KINDS):
        by_content.setdefault(content, []).append((row[0], row[1], row[2], row[3]))
    entries: list[Entry] = []
    for path, content in present.items():
        side = SIDE_WEIGHT if NOISE.search(path) or PROSE.search(path) else 1.0
        definitions = by_content.get(content, ())
        own = OWN * file_rank.get(path, 0.0) / max(1, len(definitions))
        for name, line, scope, signature in definitions:
            rank = flow.get((path, name), 0.0) + own * word_factor(name, words)
            depth = scope.count(".") + 1 if scope else 0
            entries.append(Entry(path, line, depth, (signature or name)[:LINE], rank * side))
    entries.sort(key=lambda one: (-one.rank, one.path, one.line))
    return entries


def pack(entries: Sequence[Entry], budget_tokens: int) -> Packed:
    """Take entries by rank while they fit; files are shown by the rank of what is taken of them.

    The text is at most ``budget_tokens`` long. If not even the first file's first entry fits, it is cut inside.
    """
    room = budget_tokens * CHARACTERS
    taken: dict[str, list[Entry]] = {}
    seen: set[tuple[str, int]] = set()
    count = missed = 0
    for entry in entries:
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
    if not taken and entries:
        first = entries[0]
        text = (_head(first.path) + _line(first))[: budget_tokens * CHARACTERS]
        return Packed(text, 1, 0, len(entries))
    order = sorted(taken, key=lambda path: (-sum(one.rank for one in taken[path]), path))
    parts: list[str] = []
    for path in order:
        parts.append(_head(path))
        parts.extend(_line(one) for one in sorted(taken[path], key=lambda one: one.line))
    return Packed("".join(parts), len(taken), count, len(entries) - count)


def _head(path: str) -> str:
    return f"{path}:\n"


def _line(entry: Entry) -> str:
    return f"{'  ' * (entry.depth + 1)}{entry.text}\n"
