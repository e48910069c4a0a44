"""Symbol lookups over index.db: definitions by name, prefix or letters, outlines, references and callers."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence

from codeforge_ls.index import records
from codeforge_ls.index.snapshot import Snapshot
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import NotFound

COLUMNS = "content, name, kind, start_line, end_line, name_line, name_column, scope, signature"
CALLABLE = ("function", "method", "class", "macro")
IDENTIFIER = re.compile(r"[^\W\d]\w*")
Row = tuple[int, str, str, int, int, int, int, str, str]


def find(snapshot: Snapshot, name: str, limit: int, *, prefix: bool) -> list[JsonObject]:
    """Definitions of ``name``; with ``prefix`` also names that start with it, contain it or have its letters in order.

    A qualified name (``Class.method``, ``a::b``) must also match the end of the scope.
    """
    *outer, last = [part for part in re.split(r"::|->|[.#/\\]", name.strip()) if part] or [""]
    if not last:
        return []
    if not prefix:
        rows = _rows(snapshot, "name = ? COLLATE NOCASE ORDER BY name = ? DESC", (last, last), limit * 4)
        exact = [row for row in rows if row[1] == last] or rows
        return _present(snapshot, _scoped(exact, outer), limit)
    found: dict[tuple[int, int, int], Row] = {}
    escaped = re.sub(r"([%_!])", r"!\1", last)
    letters = "%".join(re.sub(r"([%_!])", r"!\1", letter) for letter in last)
    for pattern in (escaped, f"{escaped}%", f"%{escaped}%", f"%{letters}%"):
        order = "name LIKE ? ESCAPE '!' ORDER BY length(name), name"
        for row in _rows(snapshot, order, (pattern,), limit * 4):
            found.setdefault((row[0], row[5], row[6]), row)
        if len(found) >= limit:
            break
    return _present(snapshot, _scoped(list(found.values()), outer), limit)


def outline(snapshot: Snapshot, path: str, limit: int) -> list[JsonObject]:
    """The definitions of one file in order. Raises ``NotFound`` for a file that is not in the index."""
    content = snapshot.present.get(path)
    if content is None:
        raise NotFound(f"{path} is not in the index.", hint="It may be ignored, skipped or not yet read.")
    rows = _rows(snapshot, "content = ? ORDER BY start_line, end_line DESC, name_column", (content,), limit)
    return [_symbol(row, path) for row in rows]


def name_at(snapshot: Snapshot, path: str, line: int, column: int) -> str:
    """The identifier at a position (line 1-based, column 0-based in UTF-16 units). Raises ``NotFound``."""
    content = snapshot.present.get(path)
    if content is None:
        raise NotFound(f"{path} is not in the index.", hint="It may be ignored, skipped or not yet read.")
    lines = snapshot.lines(content)
    if not 1 <= line <= len(lines):
        raise NotFound(f"{path} has no line {line}.")
    text = lines[line - 1]
    before = text.encode("utf-16-le")[: 2 * column].decode("utf-16-le", "ignore")
    for match in IDENTIFIER.finditer(text):
        if match.start() <= len(before) <= match.end():
            return match.group()
    raise NotFound(f"There is no name at {path}:{line}:{column}.")


def references(snapshot: Snapshot, name: str, limit: int, kinds: Sequence[str] = ()) -> list[JsonObject]:
    """Uses of a name in all files, by path and line. Names are compared, not bindings."""
    found: list[JsonObject] = []
    for content, places in records.places(snapshot.db, name):
        for path in snapshot.paths.get(content, ()):
            found.extend(
                {"name": name, "path": path, "line": line, "column": column, "kind": kind}
                for kind, line, column in places
                if not kinds or kind in kinds
            )
    found.sort(key=lambda one: (str(one["path"]), int(str(one["line"])), int(str(one["column"]))))
    return found[:limit]


def callers(snapshot: Snapshot, uses: Iterable[JsonObject], limit: int) -> list[JsonObject]:
    """The innermost function, method or class around each use, each once."""
    found: dict[tuple[object, object], JsonObject] = {}
    for use in uses:
        path, line = str(use["path"]), int(str(use["line"]))
        content = snapshot.present.get(path)
        marks = ",".join("?" * len(CALLABLE))
        rows = _rows(
            snapshot,
            f"content = ? AND start_line <= ? AND end_line >= ? AND kind IN ({marks})"
            " ORDER BY start_line DESC, end_line",
            (content, line, line, *CALLABLE),
            1,
        )
        for row in rows:
            found.setdefault((path, row[5]), _symbol(row, path))
    return list(found.values())[:limit]


def near_first(definitions: list[JsonObject], path: str | None) -> list[JsonObject]:
    """The same, those in ``path`` or near it first."""
    if path is None:
        return definitions
    folder = path.rpartition("/")[0]
    return sorted(
        definitions,
        key=lambda one: (one["path"] != path, str(one["path"]).rpartition("/")[0] != folder),
    )


def _scoped(rows: list[Row], outer: Sequence[str]) -> list[Row]:
    if not outer:
        return rows
    inside = [row for row in rows if row[7].split(".")[-1:] == [outer[-1]]]
    return inside or rows


def _rows(snapshot: Snapshot, where: str, values: Sequence[object], limit: int) -> list[Row]:
    # Contents that no file has any more are kept too, so ask for more than needed.
    sql = f"SELECT {COLUMNS} FROM symbol WHERE content IN (SELECT content FROM present) AND {where} LIMIT ?"  # noqa: S608 - conditions of this file
    return snapshot.db.execute(sql, (*values, limit)).fetchall()


def _present(snapshot: Snapshot, rows: Iterable[Row], limit: int) -> list[JsonObject]:
    found = [_symbol(row, path) for row in rows for path in snapshot.paths.get(row[0], ())]
    return found[:limit]


def _symbol(row: Row, path: str) -> JsonObject:
    return {
        "name": row[1],
        "kind": row[2],
        "path": path,
        "start_line": row[3],
        "end_line": row[4],
        "name_line": row[5],
        "name_column": row[6],
        "scope": row[7],
        "signature": row[8],
    }
