"""Reading index.db: what contents use, import and are cut into. The one place besides the writer that knows the tables.

A content is counted whether or not a file has it now: callers keep to the ones in ``present``.
"""

from __future__ import annotations

import json
import re
import sqlite3
import zlib
from array import array
from collections.abc import Iterable, Iterator

from codeforge_ls.index.extract import (
    ChunkRow,
    SymbolRow,
    unpack_chunks,
    unpack_imports,
    unpack_places,
    unpack_symbols,
)

Place = tuple[str, int, int]
MAX_CHUNK_TEXT = 6_000  # characters of a chunk that an embedding model is shown


def names(db: sqlite3.Connection) -> dict[int, str]:
    """Every name that is used somewhere, by its id."""
    return dict(db.execute("SELECT id, text FROM name").fetchall())


def definitions(db: sqlite3.Connection, content: int) -> list[SymbolRow]:
    """What a content defines, in the order of an outline."""
    row = db.execute("SELECT symbols FROM use WHERE content = ?", (content,)).fetchone()
    return unpack_symbols(row[0]) if row else []


def definitions_like(
    db: sqlite3.Connection, name: str, *, prefix: bool
) -> Iterator[tuple[int, list[SymbolRow]]]:
    """What those contents define that may define ``name``, or names that begin so, whatever their case."""
    text = re.sub(r"([%_!])", r"!\1", json.dumps(name, ensure_ascii=False)[:-1]) + ("" if prefix else '"')
    sql = "SELECT content, symbols FROM use WHERE symbols LIKE ? ESCAPE '!'"
    for content, packed in db.execute(sql, (f"%[{text}%",)):
        yield content, unpack_symbols(packed)


def packed_uses(db: sqlite3.Connection) -> Iterator[tuple[int, array[int], array[int]]]:
    """For each content: the ids of the names it uses and how many places each has, fit for ``np.frombuffer``."""
    for content, ids, counts in db.execute("SELECT content, names, counts FROM use"):
        yield content, array("I", ids), array("I", counts)


def uses(db: sqlite3.Connection) -> Iterator[tuple[int, str, int]]:
    """``(content, name, number of places)`` of every name in every content."""
    known = names(db)
    for content, ids, counts in packed_uses(db):
        for name, number in zip(ids, counts, strict=True):
            yield content, known[name], number


def places(db: sqlite3.Connection, name: str) -> Iterator[tuple[int, list[Place]]]:
    """The uses of one name: ``(content, [(kind, line, column), ...])``; lines 1-based, columns in UTF-16 units."""
    row = db.execute("SELECT id FROM name WHERE text = ?", (name,)).fetchone()
    if row is None:
        return
    # SQLite looks for the four bytes of the id; they may also lie across two others.
    sql = "SELECT content, names, counts, places FROM use WHERE instr(names, ?)"
    for content, ids, counts, packed in db.execute(sql, (array("I", row).tobytes(),)):
        every, numbers = array("I", ids), array("I", counts)
        if row[0] in every:
            at = every.index(row[0])
            yield content, unpack_places(packed, sum(numbers[:at]), numbers[at])


def imports(db: sqlite3.Connection) -> Iterator[tuple[int, str, int]]:
    """``(content, module, line)`` of every import."""
    for content, packed in db.execute("SELECT content, imports FROM use WHERE imports != x''"):
        for module, line in unpack_imports(packed):
            yield content, module, line


def chunks(db: sqlite3.Connection, content: int) -> list[ChunkRow]:
    """The chunks of a content in order: ``(start_line, end_line, symbol, kind, defined names)``."""
    sql = "SELECT bag.chunks, content.chunks FROM bag JOIN content ON id = content WHERE content = ?"
    row = db.execute(sql, (content,)).fetchone()
    return unpack_chunks(*row) if row else []


def keys_of(db: sqlite3.Connection, contents: Iterable[int]) -> dict[int, str]:
    """For each content what names it whatever index.db it is in: digest, language and version of the queries."""
    sql = "SELECT digest || ' ' || language || ' ' || version FROM content WHERE id = ?"
    rows = ((content, db.execute(sql, (content,)).fetchone()) for content in set(contents))
    return {content: row[0] for content, row in rows if row}


def keys_of_files(db: sqlite3.Connection) -> dict[int, str]:
    """The same for the contents of all files on disk, unsaved texts left out; by the first path of each."""
    sql = "SELECT content FROM file WHERE content IS NOT NULL GROUP BY content ORDER BY min(path)"
    return keys_of(db, [row[0] for row in db.execute(sql)])


def paths_of(db: sqlite3.Connection, content: int) -> list[str]:
    """The files on disk that have a content."""
    return [row[0] for row in db.execute("SELECT path FROM file WHERE content = ? ORDER BY path", (content,))]


def chunk_texts(db: sqlite3.Connection, content: int) -> list[str]:
    """The text of each chunk of a content, after the kind and the name of what it defines."""
    row = db.execute("SELECT text FROM source WHERE content = ?", (content,)).fetchone()
    lines = zlib.decompress(row[0]).decode().split("\n") if row else []
    return [
        f"{kind} {symbol}\n".lstrip() + "\n".join(lines[start - 1 : end])[:MAX_CHUNK_TEXT]
        for start, end, symbol, kind, _ in chunks(db, content)
    ]


def bags(
    db: sqlite3.Connection, present: Iterable[tuple[str, int]]
) -> Iterator[tuple[str, int, list[ChunkRow], bytes]]:
    """For each ``(path, content)`` that has any: its chunks and their packed words."""
    sql = "SELECT bag.chunks, content.chunks, words FROM bag JOIN content ON id = content WHERE content = ?"
    for path, content in present:
        row = db.execute(sql, (content,)).fetchone()
        if row and row[1]:
            yield path, content, unpack_chunks(row[0], row[1]), row[2]
