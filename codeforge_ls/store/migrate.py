"""Numbered migrations up and down, one transaction each, with checksums; usable without a daemon."""

from __future__ import annotations

import hashlib
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.model.base import Frozen
from codeforge_ls.model.errors import CodeForgeError, Conflict, InvalidInput, Unavailable
from codeforge_ls.store.database import connect, damaged
from codeforge_ls.store.fold import fold_into

FOLDER = Path(__file__).parent / "migrations"
LEDGER = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number INTEGER PRIMARY KEY, name TEXT NOT NULL, checksum TEXT NOT NULL, applied_at REAL NOT NULL
)
"""


@dataclass(frozen=True)
class Migration:
    """One step: ``NNNN_name.sql`` with a part ``-- up`` and a part ``-- down``; ``-- refold`` above them
    says that its tables are filled from the log afterwards, ``-- passing`` that they hold nothing for long."""

    number: int
    name: str
    up: tuple[str, ...]
    down: tuple[str, ...]
    refold: bool
    passing: bool
    checksum: str


class DatabaseVersion(Frozen):
    """Where a database stands: ``current`` 0 is an empty one; ``latest`` is what this program knows."""

    path: str
    current: int
    latest: int
    applied: tuple[str, ...] = ()
    pending: tuple[str, ...] = ()


def migrations() -> list[Migration]:
    """All steps this program knows, in order."""
    return [_parse(path) for path in sorted(FOLDER.glob("[0-9][0-9][0-9][0-9]_*.sql"))]


def migrate(path: Path, to: int | None = None) -> list[str]:
    """Applies steps up to number ``to`` (default: all) and returns their names; steps done before are left alone.

    Unavailable where the database is newer than the program, was made by changed steps, or is damaged.
    """
    done: list[str] = []
    with connect(path) as connection:
        steps = _checked(connection, path)
        _known(to, steps)
        for step in steps:
            if to is None or step.number <= to:
                done += [step.name] if _apply(connection, step) else []
    return done


def rollback(path: Path, steps: int = 1, *, lose_events: bool = False) -> list[str]:
    """Takes the last ``steps`` steps back and returns their names.

    State tables come back from the log with the next ``migrate``. Conflict where the log itself would be lost,
    unless ``lose_events``.
    """
    if steps < 1:
        raise InvalidInput("At least one step must be taken back.", data={"field": "steps"})
    undone: list[str] = []
    if not path.exists():
        return undone
    with connect(path) as connection:
        known = {step.number: step for step in _checked(connection, path)}
        for number in sorted(_applied(connection), reverse=True)[:steps]:
            _undo(connection, known[number], lose_events=lose_events)
            undone.append(known[number].name)
    return undone


def version(path: Path) -> DatabaseVersion:
    """Where the database stands. It is only read; one that is missing stands at 0."""
    steps = migrations()
    applied: dict[int, str] = {}
    if path.exists() and path.stat().st_size:
        with connect(path, read_only=True) as connection:
            applied = _applied(connection)
    return DatabaseVersion(
        path=str(path),
        current=max(applied, default=0),
        latest=max(step.number for step in steps),
        applied=tuple(step.name for step in steps if step.number in applied),
        pending=tuple(step.name for step in steps if step.number not in applied),
    )


def create_schema(connection: sqlite3.Connection) -> None:
    """All tables in an empty database, without the ledger: for folding into memory."""
    for step in migrations():
        for statement in step.up:
            connection.execute(statement)


def _checked(connection: sqlite3.Connection, path: Path) -> list[Migration]:
    connection.execute(LEDGER)
    steps = migrations()
    known = {step.number: step for step in steps}
    applied = _applied(connection)
    if newer := [number for number in applied if number not in known]:
        raise Unavailable(
            f"The database {path} is of a newer CodeForge (version {max(newer)}, this one knows {max(known)}).",
            hint="Update codeforge-ls; the database was not touched.",
        )
    for number, checksum in applied.items():
        if known[number].checksum != checksum:
            raise Unavailable(
                f"Migration {known[number].name} is not the one that made the database {path}.",
                hint="Reinstall the codeforge-ls that made it; the database was not touched.",
            )
    if sorted(applied) != [step.number for step in steps[: len(applied)]]:
        raise damaged(path, "its list of migrations has gaps")
    return steps


def _applied(connection: sqlite3.Connection) -> dict[int, str]:
    ledger = "SELECT 1 FROM sqlite_master WHERE type = 'table' AND name = 'schema_migrations'"
    if connection.execute(ledger).fetchone() is None:
        return {}
    return dict(connection.execute("SELECT number, checksum FROM schema_migrations ORDER BY number"))


def _known(to: int | None, steps: list[Migration]) -> None:
    if to is not None and to not in (0, *(step.number for step in steps)):
        raise InvalidInput(f"There is no migration {to}.", data={"field": "to"})


def _apply(connection: sqlite3.Connection, step: Migration) -> bool:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Asked inside the transaction: another process may have been faster.
        if step.number in _applied(connection):
            connection.execute("ROLLBACK")
            return False
        for statement in step.up:
            connection.execute(statement)
        if step.refold:
            _refold(connection, step)
        connection.execute(
            "INSERT INTO schema_migrations VALUES (?, ?, ?, ?)",
            (step.number, step.name, step.checksum, time.time()),
        )
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise
    return True


def _refold(connection: sqlite3.Connection, step: Migration) -> None:
    try:
        fold_into(connection, connection)
    except (CodeForgeError, sqlite3.IntegrityError) as error:
        raise Unavailable(
            f"{step.name} cannot fill its tables from the event log: {error}",
            hint="Nothing was changed. The log was tampered with, or this is a fault of CodeForge: report it.",
        ) from error


def _undo(connection: sqlite3.Connection, step: Migration, *, lose_events: bool) -> None:
    connection.execute("BEGIN IMMEDIATE")
    try:
        # Refolding steps hold nothing of their own, passing ones nothing for long; any other may hold the log.
        if not (step.refold or step.passing or lose_events) and _has_events(connection):
            raise Conflict(
                f"Taking back {step.name} would lose the event log.",
                hint="Move the database away instead, or export and drop its streams first.",
            )
        for statement in step.down:
            connection.execute(statement)
        connection.execute("DELETE FROM schema_migrations WHERE number = ?", (step.number,))
        connection.execute("COMMIT")
    except BaseException:
        if connection.in_transaction:
            connection.execute("ROLLBACK")
        raise


def _has_events(connection: sqlite3.Connection) -> bool:
    return connection.execute("SELECT 1 FROM events LIMIT 1").fetchone() is not None


def _parse(path: Path) -> Migration:
    text = path.read_text(encoding="utf-8")
    head, _, rest = text.partition("\n-- up\n")
    up, _, down = rest.partition("\n-- down\n")
    return Migration(
        number=int(path.name[:4]),
        name=path.stem,
        up=_statements(up),
        down=_statements(down),
        refold="-- refold" in head.splitlines(),
        passing="-- passing" in head.splitlines(),
        checksum=hashlib.sha256(text.encode()).hexdigest(),
    )


def _statements(script: str) -> tuple[str, ...]:
    """The single statements of a script: ``executescript`` would commit before it begins."""
    found: list[str] = []
    waiting = ""
    for line in script.splitlines(keepends=True):
        waiting += line
        if sqlite3.complete_statement(waiting):
            found.append(waiting.strip())
            waiting = ""
    return tuple(found)
