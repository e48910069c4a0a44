"""What one content gives the code graph, read from the tables here and nowhere else."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from codeforge_ls.index.extract import unpack_imports, unpack_places
from codeforge_ls.index.tags import USE_KINDS

# name, kind, start_line, end_line, name_line, name_column, scope, signature
SymbolRow = tuple[str, str, int, int, int, int, str, str]

CALLABLE = ("function", "method", "class", "macro")
TYPES = ("class", "interface", "struct", "enum", "type")
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


def read_facts(db: sqlite3.Connection, content: int, names: Mapping[int, str] | None = None) -> Facts:
    """The facts of one content; empty for one that is not there. ``names`` are all names by id, if at hand."""
    sql = (
        "SELECT name, kind, start_line, end_line, name_line, name_column, scope, signature FROM symbol"
        " WHERE content = ? ORDER BY start_line, end_line DESC, name_column"
    )
    symbols = tuple(db.execute(sql, (content,)).fetchall())
    row = db.execute(
        "SELECT names, counts, imports, places FROM use WHERE content = ?", (content,)
    ).fetchone()
    if row is None:
        return Facts(symbols)
    ids, counts = np.frombuffer(row[0], np.uint32).tolist(), np.frombuffer(row[1], np.uint32).astype(np.int32)
    modules = tuple(sorted({module for module, _ in unpack_imports(row[2])}))
    if not ids:
        return Facts(symbols, imports=modules)
    if names is None:
        marks = ",".join(map(str, ids))
        names = dict(db.execute(f"SELECT id, text FROM name WHERE id IN ({marks})"))  # noqa: S608 - integers
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
    owner = np.full(last + 2, -1, np.int32)
    head, head_column = np.full(last + 2, -1, np.int32), np.full(last + 2, -1, np.int32)
    around = np.full(last + 2, -1, np.int32)
    for at, row in enumerate(symbols):
        if row[1] in CALLABLE:
            owner[row[2] : row[3] + 1] = at
        if row[1] in TYPES:
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
    keys = np.unique((sources.astype(np.int64) + 1) * count + names)
    return (keys // count - 1).astype(np.int32), (keys % count).astype(np.int32)


def _paint_head(head: Ints, head_column: Ints, at: int, symbols: Sequence[SymbolRow]) -> None:
    """The lines of a type before its first member belong to its head, the first from the type's name on."""
    row = symbols[at]
    first_inside = symbols[at + 1][2] if at + 1 < len(symbols) else row[3] + 1
    end = min(row[3], row[4] + HEAD_LINES, max(row[4], first_inside - 1))
    head[row[4] : end + 1] = at
    head_column[row[4]] = row[5]
