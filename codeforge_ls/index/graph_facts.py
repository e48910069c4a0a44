"""What one content gives the code graph, read from the tables here and nowhere else."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

# name, kind, start_line, end_line, name_line, name_column, scope, signature
SymbolRow = tuple[str, str, int, int, int, int, str, str]

CALLABLE = ("function", "method", "class", "macro")
TYPES = ("class", "interface", "struct", "enum", "type")
HEAD_LINES = 3  # what a type extends stands on the line of its name or at most so many below


KIND_NUMBERS = (('"call"', "0"), ('"type"', "1"), ('"import"', "2"))
CALL, TYPE = 0, 1

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
    sql = (
        "SELECT name, kind, start_line, end_line, name_line, name_column, scope, signature FROM symbol"
        " WHERE content = ? ORDER BY start_line, end_line DESC, name_column"
    )
    symbols = tuple(db.execute(sql, (content,)).fetchall())
    rows = db.execute(
        "SELECT name, count, places FROM reference WHERE content = ? ORDER BY name", (content,)
    ).fetchall()
    imports = db.execute("SELECT DISTINCT module FROM import WHERE content = ? ORDER BY module", (content,))
    modules = tuple(row[0] for row in imports)
    if not rows:
        return Facts(symbols, imports=modules)
    uses, counts, packed = zip(*rows, strict=True)
    sizes = np.array(counts, np.int32)
    calls, bases = _inside(symbols, sizes, _places(packed))
    return Facts(symbols, uses, sizes, calls, bases, modules)


def _places(packed: Sequence[str]) -> Ints:
    """JSON lists of ``[kind, line, column]`` as rows of numbers, ten times faster than by the JSON reader."""
    text = ",".join(packed)
    for kind, number in KIND_NUMBERS:
        text = text.replace(kind, number)
    if '"' in text:  # a kind of reference that nothing here asks for
        text = re.sub('"[a-z_.]*"', "3", text)
    numbers = np.fromstring(text.translate(BRACKETS), np.int32, sep=",")
    return numbers.reshape(-1, 3)


BRACKETS = str.maketrans("", "", "[] ")


def places_of(
    db: sqlite3.Connection, content: int, name: str, kinds: Sequence[str] = ()
) -> list[tuple[str, int, int]]:
    """Where a content uses a name: ``(kind, line, column)``, lines 1-based and columns 0-based UTF-16."""
    rows = db.execute("SELECT places FROM reference WHERE content = ? AND name = ?", (content, name))
    every = [tuple(place) for (places,) in rows for place in json.loads(places)]
    return [(kind, line, column) for kind, line, column in every if not kinds or kind in kinds]


def places_by_content(
    db: sqlite3.Connection, name: str, wanted: Mapping[int, object]
) -> Iterator[tuple[int, list[tuple[str, int, int]]]]:
    """Where the ``wanted`` contents use a name, as ``places_of`` gives it."""
    for content, places in db.execute("SELECT content, places FROM reference WHERE name = ?", (name,)):
        if content in wanted:
            yield content, [(kind, line, column) for kind, line, column in json.loads(places)]


def _inside(
    symbols: Sequence[SymbolRow], counts: Ints, places: Ints
) -> tuple[tuple[Ints, Ints], tuple[Ints, Ints]]:
    """The innermost callable around each call, and the type whose head names each base."""
    last = max(int(places[:, 1].max()), max((row[3] for row in symbols), default=0))
    owner = np.full(last + 2, -1, np.int32)
    head, head_column = np.full(last + 2, -1, np.int32), np.full(last + 2, -1, np.int32)
    for at, row in enumerate(symbols):
        if row[1] in CALLABLE:
            owner[row[2] : row[3] + 1] = at
        if row[1] in TYPES:
            _paint_head(head, head_column, at, symbols)
    name = np.repeat(np.arange(len(counts), dtype=np.int32), counts)
    kind, line, column = places.T
    called = kind == CALL
    calls = _distinct(owner[line[called]], name[called], len(counts))
    based = (kind == TYPE) & (head[line] >= 0) & (column > head_column[line])
    return calls, _distinct(head[line[based]], name[based], len(counts))


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
