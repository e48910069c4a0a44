"""What one content gives the code graph, read from the tables here and nowhere else."""

from __future__ import annotations

import sqlite3
from collections.abc import Container, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

from codeforge_ls.index import records
from codeforge_ls.index.extract import SymbolRow, unpack_imports, unpack_places, unpack_symbols
from codeforge_ls.index.tags import USE_KINDS

CALLABLE = ("function", "method", "class", "macro")
TYPES = ("class", "interface", "struct", "enum", "type")
_CALLABLE, _TYPES = frozenset(CALLABLE), frozenset(TYPES)
USE = "names, counts, imports, places, symbols"
HEAD_LINES = 3  # what a type extends stands on the line of its name or at most so many below


CALL, TYPE, INHERIT = (USE_KINDS.index(kind) for kind in ("call", "type", "inherit"))

Ints = npt.NDArray[np.int32]
NONE = np.zeros(0, np.int32)


@dataclass(frozen=True, slots=True)
class Facts:
    """Definitions in order, and what is used where.

    ``uses`` are the used names and ``counts`` how often each is. ``calls`` and ``bases`` are pairs of the ordinal of
    a definition (-1: outside of all) and the place in ``uses`` of a name that it calls, or that it extends; each pair
    once.
    """

    symbols: tuple[SymbolRow, ...] = ()
    uses: tuple[str, ...] = ()
    counts: Ints = field(default_factory=lambda: NONE)
    calls: tuple[Ints, Ints] = (NONE, NONE)
    bases: tuple[Ints, Ints] = (NONE, NONE)
    imports: tuple[str, ...] = ()


def read_facts(db: sqlite3.Connection, content: int) -> Facts:
    """The facts of one content; empty for one that is not there."""
    row = db.execute(f"SELECT {USE} FROM use WHERE content = ?", (content,)).fetchone()  # noqa: S608 - columns of this file
    if row is None:
        return Facts()
    marks = ",".join(map(str, np.frombuffer(row[0], np.uint32).tolist()))
    names = dict(db.execute(f"SELECT id, text FROM name WHERE id IN ({marks})"))  # noqa: S608 - integers
    return _facts(row, names)


def read_all(db: sqlite3.Connection, wanted: Container[int]) -> Iterator[tuple[int, Facts]]:
    """The facts of many contents, each with its content, in the order of their ids: one pass over the table."""
    names = records.names(db)
    for content, *row in db.execute(f"SELECT content, {USE} FROM use ORDER BY content"):  # noqa: S608 - as above
        if content in wanted:
            yield content, _facts(row, names)


def _facts(row: Sequence[Any], names: Mapping[int, str]) -> Facts:
    symbols = tuple(unpack_symbols(row[4]))
    ids, counts = np.frombuffer(row[0], np.uint32).tolist(), np.frombuffer(row[1], np.uint32).astype(np.int32)
    modules = tuple(sorted({module for module, _ in unpack_imports(row[2])})) if row[2] else ()
    if not ids:
        return Facts(symbols, imports=modules)
    calls, bases = _inside(symbols, counts, *_places(row[3]))
    return Facts(symbols, tuple(map(names.__getitem__, ids)), counts, calls, bases, modules)


def _places(packed: bytes) -> tuple[npt.NDArray[np.uint8], Ints, Ints]:
    """Kinds, lines and columns of places as ``extract.pack_places`` wrote them."""
    every = len(packed) // 9
    kinds = np.frombuffer(packed, np.uint8, every)
    numbers = np.frombuffer(packed[every:], np.uint32).astype(np.int32)
    return kinds, numbers[:every], numbers[every:]


def places_of(
    db: sqlite3.Connection, contents: Iterable[int], name: str, kinds: Sequence[str] = ()
) -> Iterator[tuple[int, list[tuple[str, int, int]]]]:
    """Where some contents use a name: ``(kind, line, column)``, lines 1-based and columns 0-based UTF-16."""
    known = db.execute("SELECT id FROM name WHERE text = ?", (name,)).fetchone()
    for content in contents if known else ():
        sql = "SELECT names, counts, places FROM use WHERE content = ?"
        row = db.execute(sql, (content,)).fetchone()
        at = np.flatnonzero(np.frombuffer(row[0], np.uint32) == known[0]) if row else NONE
        if len(at):
            counts = np.frombuffer(row[1], np.uint32)
            every = unpack_places(row[2], int(counts[: at[0]].sum()), int(counts[at[0]]))
            yield content, [place for place in every if not kinds or place[0] in kinds]


def _inside(
    symbols: Sequence[SymbolRow], counts: Ints, kind: npt.NDArray[np.uint8], line: Ints, column: Ints
) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """The innermost callable around each call, and the type whose head names each base."""
    last = max(int(line.max()), max((row[3] for row in symbols), default=0))
    # Each line's innermost callable and type, the type whose head it belongs to, and where that begins on it.
    owner, around, head, head_column = np.full((4, last + 2), -1, np.int32)
    for at, row in enumerate(symbols):
        if row[1] in _CALLABLE:
            owner[row[2] : row[3] + 1] = at
        if row[1] in _TYPES:
            around[row[2] : row[3] + 1] = at
            _paint_head(head, head_column, at, symbols)
    name = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    called = kind == CALL
    calls = _distinct(owner[line[called]], name[called], len(counts))
    inherits = (kind == INHERIT) & (around[line] >= 0)
    if not inherits.any():  # a language whose queries do not tell inheritance from other uses of types
        inherits, around = (kind == TYPE) & (head[line] >= 0) & (column > head_column[line]), head
    return calls, _distinct(around[line[inherits]], name[inherits], len(counts))


def _distinct(sources: Ints, names: Ints, count: int) -> tuple[Ints, Ints]:
    keys = np.sort((sources.astype(np.int64) + 1) * count + names)
    if len(keys):
        keys = keys[np.concatenate([[True], keys[1:] != keys[:-1]])]
    return (keys // count - 1).astype(np.int32), (keys % count).astype(np.int32)


def _paint_head(head: Ints, head_column: Ints, at: int, symbols: Sequence[SymbolRow]) -> None:
    """The lines of a type before its first member belong to its head, the first from the type's name on."""
    row = symbols[at]
    first_inside = symbols[at + 1][2] if at + 1 < len(symbols) else row[3] + 1
    end = min(row[3], row[4] + HEAD_LINES, max(row[4], first_inside - 1))
    head[row[4] : end + 1] = at
    head_column[row[4]] = row[5]
