"""Looking after the log in a thread: is each chain sound, are the state tables folds, exporting a stream."""

from __future__ import annotations

import hashlib
import os
import re
import sqlite3
import time
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import CodeForgeError
from codeforge_ls.store.chain import COLUMNS, Head, StoredEvent, broken_links, canonical
from codeforge_ls.store.database import connect
from codeforge_ls.store.fold import differences, fold_into, told
from codeforge_ls.store.migrate import create_schema

# Never the workspace; never what belongs to a run or a plan that has not ended.
DROPPABLE = """
SELECT stream FROM streams
WHERE last_time < ? AND stream <> 'workspace'
    AND NOT EXISTS (SELECT 1 FROM runs WHERE runs.stream = streams.stream
        AND status NOT IN ('completed', 'failed', 'cancelled', 'timeout'))
    AND NOT EXISTS (SELECT 1 FROM plans WHERE plans.stream = streams.stream
        AND status NOT IN ('completed', 'failed', 'cancelled'))
ORDER BY last_time
"""
# plan_steps go with their plan (ON DELETE CASCADE).
OWNED_TABLES = ("events", "runs", "plans", "approvals", "checkpoints", "tool_calls", "streams")


@dataclass(frozen=True)
class Export:
    """A stream written out: where, its end, and the SHA-256 of the file."""

    stream: str
    path: Path
    head: Head
    sha256: str

    def payload(self, actor: str) -> JsonObject:
        """What ``stream.dropped`` says."""
        return {
            "stream": self.stream,
            "events": self.head.seq,
            "last_hash": self.head.hash,
            "file": str(self.path),
            "sha256": self.sha256,
            "asked_by": actor,
        }


def verify(path: Path, stream: str | None) -> list[str]:
    """Sentences that name the broken places of one chain, or of all; empty when sound. Unavailable: cannot be read."""
    with connect(path, read_only=True) as connection:
        connection.execute("BEGIN")  # one snapshot for events and heads
        where, values = ("WHERE stream = ?", (stream,)) if stream is not None else ("", ())
        heads = {
            name: Head(seq, digest)
            for name, seq, digest in connection.execute(
                f"SELECT stream, seq, hash FROM streams {where}",  # noqa: S608 - our own words
                values,
            )
        }
        query = f"SELECT {COLUMNS} FROM events {where} ORDER BY stream, seq"  # noqa: S608 - our own words
        rows = (StoredEvent(*row) for row in connection.execute(query, values))
        return list(broken_links(rows, heads))


def refold(path: Path) -> JsonObject:
    """Folds the log in memory and returns how the state tables differ from that; empty when they are equal.

    A log that cannot be folded is the difference ``{"log": [reason]}``.
    """
    with connect(path, read_only=True) as connection:
        connection.execute("BEGIN")
        folded = sqlite3.connect(":memory:", isolation_level=None)
        try:
            create_schema(folded)
            fold_into(connection, folded)
            return differences(connection, folded)
        except (CodeForgeError, sqlite3.IntegrityError) as error:
            return {"log": [str(error)]}
        finally:
            folded.close()


def droppable(path: Path, older_than: float) -> list[str]:
    """Streams whose last event is older than that moment (seconds since the epoch) and that may go, oldest first."""
    with connect(path, read_only=True) as connection:
        return [row[0] for row in connection.execute(DROPPABLE, (older_than,))]


def export(path: Path, stream: str, folder: Path) -> Export:
    """Writes a stream as JSON lines, one event each, into a new private file that is on the disk when this returns."""
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    label = re.sub(r"[^A-Za-z0-9._-]+", "-", stream)[:60]
    digest = hashlib.sha256(stream.encode()).hexdigest()[:8]
    target = folder / f"{time.strftime('%Y%m%dT%H%M%S', time.gmtime())}-{label}-{digest}.jsonl"
    waiting = target.with_suffix(".part")
    head, checksum = Head(), hashlib.sha256()
    with connect(path, read_only=True) as connection, _private(waiting) as file:
        query = f"SELECT {COLUMNS} FROM events WHERE stream = ? ORDER BY seq"  # noqa: S608 - our own words
        for row in connection.execute(query, (stream,)):
            event = StoredEvent(*row)
            line = (canonical(told(event).model_dump(mode="json")) + "\n").encode()
            file.write(line)
            checksum.update(line)
            head = Head(event.seq, event.hash)
        file.flush()
        os.fsync(file.fileno())
    waiting.replace(target)
    _sync_folder(folder)
    return Export(stream, target, head, checksum.hexdigest())


def _private(path: Path) -> BinaryIO:
    return os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_NOFOLLOW, 0o600), "wb")


def _sync_folder(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
