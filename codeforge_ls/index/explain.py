"""Why a file is, or is not, in the index: the record first, then the rules that keep files out, in their order."""

from __future__ import annotations

import os
import sqlite3
from pathlib import Path

from codeforge_ls.index.files import ALWAYS_SKIPPED, IGNORE_FILE, IgnoreFiles, ignored_paths
from codeforge_ls.index.grammars import language_of
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.reading import Refusal, read_source
from codeforge_ls.model.base import JsonObject


def explain(root: Path, limits: Limits, database: Path, path: str) -> JsonObject:
    """The fields of ``IndexExplanation`` but the state of the index. Reads the file; blocking."""
    db = sqlite3.connect(f"file:{database}?mode=ro", uri=True, timeout=5, isolation_level=None)
    try:
        return _explain(root, limits, db, path)
    finally:
        db.close()


def _explain(root: Path, limits: Limits, db: sqlite3.Connection, path: str) -> JsonObject:
    unsaved = db.execute("SELECT content FROM overlay WHERE path = ?", (path,)).fetchone()
    file = db.execute("SELECT content, mtime_ns, size FROM file WHERE path = ?", (path,)).fetchone()
    skip = db.execute("SELECT reason, size FROM skipped WHERE path = ?", (path,)).fetchone()
    content = unsaved[0] if unsaved else file[0] if file else None
    facts: JsonObject = {"path": path, "language": language_of(path), "size": _size(root, path)}
    if content is not None:
        sql = "SELECT language, lines, chunks, symbols FROM content WHERE id = ?"
        language, lines, chunks, symbols = db.execute(sql, (content,)).fetchone()
        facts |= {"language": language, "lines": lines, "chunks": chunks, "symbols": symbols}
        note = f" {skip[0].capitalize()}." if skip else ""
        return facts | {
            "indexed": True,
            "reason": f"{_taken(language, bool(unsaved))}{note}",
            "unsaved": bool(unsaved),
            "stale": not unsaved and _differs(root, path, file),
        }
    reason, rule = _refusal(root, limits, path, skip[0] if skip else "")
    return facts | {"indexed": False, "reason": reason, "rule": rule}


def _taken(language: str, unsaved: bool) -> str:
    text = f"In the index as {language}."
    return f"{text[:-1]}, with an editor's unsaved text." if unsaved else text


def _size(root: Path, path: str) -> int:
    try:
        return (root / path).lstat().st_size
    except (OSError, ValueError):
        return 0


def _differs(root: Path, path: str, file: tuple[int | None, int, int]) -> bool:
    try:
        now = (root / path).lstat()
    except (OSError, ValueError):
        return True
    return (now.st_mtime_ns, now.st_size) != file[1:] and file[1] != 0


def _refusal(root: Path, limits: Limits, path: str, recorded: str) -> tuple[str, str]:
    """The sentence and the rule for a file that is not in the index."""
    target = root / path
    if not os.path.lexists(target):
        return "There is no such file.", ""
    if target.is_dir() and not target.is_symlink():
        return "This is a folder; only files are indexed.", ""
    parts = path.split("/")
    if always := ALWAYS_SKIPPED.intersection(parts[:-1]):
        return "It lies in a folder that is never indexed.", min(always)
    if IgnoreFiles(root).matches(path):
        return "It is ignored.", _which(root, path) or IGNORE_FILE
    if path in ignored_paths(root, [path]):
        return "It is ignored.", ".gitignore"
    if recorded:
        return _sentence(recorded, limits), _setting(recorded)
    source = read_source(root, path, limits)
    if isinstance(source, Refusal):
        return _sentence(source.reason, limits), _setting(source.reason)
    return "Nothing keeps it out; it has not been read yet.", ""


def _which(root: Path, path: str) -> str:
    """The .codeforgeignore file that excludes a path."""
    parts = path.split("/")
    for depth in range(len(parts)):
        folder = "/".join(parts[:depth])
        if (root / folder / IGNORE_FILE).is_file():
            return f"{folder}/{IGNORE_FILE}".lstrip("/")
    return ""


def _sentence(reason: str, limits: Limits) -> str:
    known = {
        "size": f"It is larger than {limits.max_file_bytes} bytes, or than what data files may have.",
        "line": f"It has a line of more than {limits.max_line} bytes: minified or generated.",
        "binary": "It is binary.",
        "generated": "Its name says that a program wrote it.",
        "symlink": "It is a symbolic link, or lies behind one.",
    }
    return known.get(reason) or f"{reason[:1].upper()}{reason[1:]}."


def _setting(reason: str) -> str:
    if reason.startswith("over the limit of"):
        return "index.max_files"
    if reason.startswith("quarantined"):
        return "index.parse_timeout_seconds"
    return {"size": "index.max_file_bytes", "line": "index.max_line"}.get(reason, "")
