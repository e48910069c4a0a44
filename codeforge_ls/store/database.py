"""The SQLite file: how it is opened, and what its errors mean to a person."""

from __future__ import annotations

import contextlib
import os
import sqlite3
from collections.abc import Iterator
from pathlib import Path

from codeforge_ls.model.errors import CodeForgeError, Conflict, InvalidInput, Unavailable

BUSY_SECONDS = 5.0
# NORMAL under WAL: a killed process loses nothing; a power cut may lose the last moments, never the file.
PRAGMAS = ("journal_mode = WAL", "synchronous = NORMAL", "foreign_keys = ON", "journal_size_limit = 67108864")
READER_PRAGMAS = ("foreign_keys = ON", "query_only = ON")


def create_private(path: Path) -> None:
    """Makes the file with mode 0600 where it is missing. Unavailable where that cannot be done."""
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        os.close(os.open(path, os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o600))
    except OSError as error:
        raise Unavailable(
            f"The database {path} cannot be opened: {error.strerror or error}.",
            hint="Check the folder's owner and permissions, or set XDG_STATE_HOME.",
        ) from error


@contextlib.contextmanager
def connect(path: Path, *, read_only: bool = False) -> Iterator[sqlite3.Connection]:
    """A plain connection for work in a thread or without a daemon; errors are translated."""
    if not read_only:
        create_private(path)
    connection: sqlite3.Connection | None = None
    try:
        connection = sqlite3.connect(path, timeout=BUSY_SECONDS, isolation_level=None)
        for pragma in READER_PRAGMAS if read_only else PRAGMAS:
            connection.execute(f"PRAGMA {pragma}")
        yield connection
    except sqlite3.Error as error:
        raise translated(error, path) from error
    finally:
        if connection is not None:
            connection.close()


def translated(error: sqlite3.Error, path: Path) -> CodeForgeError:
    """The error as one of ours: what happened, and what to do."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    if code in (sqlite3.SQLITE_CORRUPT, sqlite3.SQLITE_NOTADB):
        return damaged(path, str(error))
    if code == sqlite3.SQLITE_CONSTRAINT:
        return Conflict(_sentence(str(error)))
    if code in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED):
        return Unavailable(
            f"The database {path} is locked by another process.",
            hint="Nothing was written. Try again; `codeforge doctor` shows who holds it.",
        )
    if code in (sqlite3.SQLITE_FULL, sqlite3.SQLITE_IOERR, sqlite3.SQLITE_READONLY, sqlite3.SQLITE_CANTOPEN):
        return Unavailable(
            f"The database {path} cannot be written: {error}.",
            hint="Nothing was written. Make room on the disk and check the folder's permissions.",
        )
    if code in (sqlite3.SQLITE_TOOBIG, sqlite3.SQLITE_MISMATCH, sqlite3.SQLITE_RANGE):
        return InvalidInput(f"The database refuses a value: {error}.")
    return Unavailable(f"The database {path} failed: {error}.", hint="`codeforge db version` may tell more.")


def damaged(path: Path, why: str) -> Unavailable:
    """The file is there and cannot be understood. It is never deleted by us."""
    return Unavailable(
        f"The database {path} is damaged: {why}.",
        hint=(
            f"Stop the daemon, keep a copy, then recover with `sqlite3 {path} .recover | sqlite3 new.db` or move the"
            " file away to begin anew. Checkpoints are in shadow.git and are not lost; no file of yours is here."
        ),
    )


def _sentence(text: str) -> str:
    if text.startswith("UNIQUE constraint failed: "):
        return f"It exists already ({text.removeprefix('UNIQUE constraint failed: ')})."
    return text
