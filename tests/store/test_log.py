"""The log is append-only, its chains show tampering, its old versions stay readable, and a kill tears nothing."""

from __future__ import annotations

import json
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path

import pytest

from codeforge_ls.model.approvals import ApprovalState
from codeforge_ls.model.errors import Conflict, InvalidInput, Unavailable
from codeforge_ls.model.events import Event, EventType
from codeforge_ls.model.runs import PlanStatus, RunStatus
from codeforge_ls.store import Store, migrate, rollback, version
from codeforge_ls.store.chain import COLUMNS, canonical
from codeforge_ls.store.migrate import migrations
from codeforge_ls.store.projections import STATE_TABLES
from codeforge_ls.store.upcasters import upcast
from tests.store import history as h

FIXTURES = Path(__file__).parent / "fixtures"


@contextmanager
def raw(path: Path) -> Iterator[sqlite3.Connection]:
    with closing(sqlite3.connect(path, isolation_level=None, timeout=5)) as connection:
        yield connection


def schema(path: Path) -> list[tuple[str, str]]:
    with raw(path) as connection:
        return connection.execute(
            "SELECT name, sql FROM sqlite_master WHERE name NOT LIKE 'sqlite_%' ORDER BY name"
        ).fetchall()


async def filled(path: Path) -> None:
    store = await Store.open(path)
    for draft in (*h.whole_run("r1"), *h.plan("p1"), h.draft("workspace", EventType.CONFIG_CHANGED)):
        await store.append(draft)
    await store.close()


async def test_events_are_never_changed_or_deleted(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    insert = f"INTO events ({COLUMNS}) SELECT {COLUMNS} FROM events WHERE position = 1"
    fork = insert.replace("SELECT position,stream,seq,id", "SELECT 999,stream,seq,'other'")
    with raw(path) as connection:
        for statement in (
            "UPDATE events SET actor = 'me'",
            "UPDATE events SET payload = '{}' WHERE position = 3",
            "DELETE FROM events",
            "DELETE FROM events WHERE stream = 'run:r1' AND seq > 20",
            f"INSERT OR REPLACE {insert}",
            f"REPLACE {fork}",
            f"INSERT OR REPLACE {fork.replace('999,stream,seq', '999,stream,seq+500')}",
        ):
            with pytest.raises(sqlite3.IntegrityError, match=r"append-only|in the log already"):
                connection.execute(statement)
    store = await Store.open(path)
    assert await store.verify() == []
    await store.close()


@pytest.mark.parametrize(
    ("tampering", "found"),
    [
        (
            "UPDATE events SET payload = '{\"step\":7}' WHERE stream = 'run:r1' AND seq = 15",
            "run:r1 #15: its content",
        ),
        (
            "UPDATE events SET payload = 'no json' WHERE stream = 'run:r1' AND seq = 15",
            "run:r1 #15: its content",
        ),
        (
            "UPDATE events SET time = time - 60 WHERE stream = 'plan:p1' AND seq = 1",
            "plan:p1 #1: its content",
        ),
        ("DELETE FROM events WHERE stream = 'run:r1' AND seq = 4", "run:r1 #5: events between #3"),
        (
            "DELETE FROM events WHERE stream = 'plan:p1' AND seq = 6",
            "plan:p1: must end at #6, but ends at #5",
        ),
        ("DELETE FROM events WHERE stream = 'workspace'", "workspace: must end at #1, but ends at #0"),
        ("DELETE FROM streams WHERE stream = 'workspace'", "workspace: is not in the list"),
    ],
)
async def test_tampering_is_found(tmp_path: Path, tampering: str, found: str) -> None:
    path = tmp_path / "state.db"
    await filled(path)
    with raw(path) as connection:
        connection.execute("DROP TRIGGER events_are_never_changed")
        connection.execute("DROP TRIGGER events_are_never_deleted")
        connection.execute(tampering)
    store = await Store.open(path)
    broken = await store.verify()
    assert len(broken) == 1
    assert broken[0].startswith(found)
    assert await store.verify("session:none") == []
    assert await store.refold() != {}
    await store.close()


async def test_a_log_of_version_1_is_read_verified_and_folded(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    lines = (FIXTURES / "events_v1.jsonl").read_text().splitlines()
    migrate(path, to=1)
    with raw(path) as connection:
        for event in map(Event.model_validate_json, lines):
            values = event.model_dump() | {"payload": canonical(event.payload)}
            marks = ", ".join(f":{name}" for name in COLUMNS.split(","))
            connection.execute(f"INSERT INTO events ({COLUMNS}) VALUES ({marks})", values)
            connection.execute(
                "INSERT OR REPLACE INTO streams VALUES (:stream, :seq, :hash,"
                " coalesce((SELECT first_time FROM streams WHERE stream = :stream), :time), :time)",
                values,
            )
    store = await Store.open(path)  # the state tables are made and folded from the log
    assert await store.verify() == []
    assert await store.refold() == {}
    assert (await store.run("r1")).status is RunStatus.COMPLETED
    assert (await store.plan("p1")).status is PlanStatus.COMPLETED
    assert [a.id for a in await store.approvals(ApprovalState.PENDING)] == ["ap-r2-c9"]
    assert [event.model_dump(mode="json") for event in await store.all_events()] == [
        json.loads(x) for x in lines
    ]
    await store.close()


def test_upcasters_lead_from_any_version_to_the_newest() -> None:
    registry = {
        ("run.completed", 1): lambda payload: payload | {"reason": payload.get("why", "")},
        ("run.completed", 3): lambda payload: {k: v for k, v in payload.items() if k != "why"},
    }
    old = {"status": "failed", "why": "no"}
    new = {"status": "failed", "reason": "no"}
    assert upcast("run.completed", 1, old, registry, current=4) == new
    assert upcast("run.completed", 2, new, registry, current=4) == new
    assert upcast("run.created", 1, old, registry, current=4) == old
    assert upcast("run.completed", 9, old, registry, current=4) == old


async def test_migrations_go_up_down_and_up_again(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    names = [step.name for step in migrations()]
    assert version(path).pending == tuple(names)
    assert not path.exists()
    assert migrate(path) == names
    made = schema(path)
    assert migrate(path) == []
    assert rollback(path, len(names)) == names[::-1]
    assert [name for name, _sql in schema(path)] == ["schema_migrations"]
    assert version(path).current == 0
    for step in migrations():
        assert migrate(path, to=step.number) == [step.name]
    assert schema(path) == made
    assert version(path).current == version(path).latest == migrations()[-1].number

    await filled(path)
    assert rollback(path, 2) == ["0003_reservations", "0002_state"]
    with pytest.raises(Conflict, match="lose the event log"):
        rollback(path)
    store = await Store.open(path)
    assert (await store.run("r1")).version == 9
    assert await store.refold() == {}
    await store.close()
    for bad in (lambda: migrate(path, to=77), lambda: rollback(path, 0)):
        with pytest.raises(InvalidInput):
            bad()
    assert rollback(path, len(names), lose_events=True) == names[::-1]


def test_every_table_is_log_state_or_said_to_be_neither(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    log, passing = {"events", "streams", "drop_grants"}, {"reservations"}
    with raw(path) as connection:
        tables = {row[0] for row in connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'")}
    assert tables - {"schema_migrations", "sqlite_sequence"} == {*STATE_TABLES, *log, *passing}


async def test_newer_and_foreign_databases_are_not_opened(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    migrate(path)
    with raw(path) as connection:
        connection.execute("INSERT INTO schema_migrations VALUES (99, '0099_future', 'x', 0)")
    with pytest.raises(Unavailable, match="newer CodeForge") as newer:
        await Store.open(path)
    assert "Update" in newer.value.hint
    with raw(path) as connection:
        connection.execute("DELETE FROM schema_migrations WHERE number = 99")
        connection.execute("UPDATE schema_migrations SET checksum = 'x' WHERE number = 1")
    with pytest.raises(Unavailable, match="is not the one that made"):
        migrate(path)


WRITER = """
import asyncio, sys
from pathlib import Path
from codeforge_ls.model.events import EventType
from codeforge_ls.store import Store
from tests.store import history as h

async def main():
    store = await Store.open(Path(sys.argv[1]))
    run = sys.argv[2]
    await store.append(h.run_created(run), h.draft(f"run:{run}", EventType.RUN_STARTED))
    print("ready", flush=True)
    while True:
        await store.append(h.model_called(run), h.draft(f"run:{run}", EventType.AGENT_STEP_DONE, {}))

asyncio.run(main())
"""


async def test_ten_kills_in_the_middle_of_appends_tear_nothing(tmp_path: Path) -> None:
    path = tmp_path / "state.db"
    root = Path(__file__).parents[2]
    for number in range(10):
        writer = subprocess.Popen(
            [sys.executable, "-c", WRITER, str(path), f"r{number}"], cwd=root, stdout=subprocess.PIPE
        )
        try:
            assert writer.stdout is not None
            assert writer.stdout.readline() == b"ready\n"
            time.sleep(0.02 + 0.013 * number)
        finally:
            writer.send_signal(signal.SIGKILL)
            writer.communicate(timeout=10)
    store = await Store.open(path)
    assert await store.verify() == []
    assert await store.refold() == {}
    runs = await store.runs()
    assert len(runs) == 10
    for run in runs:
        events = await store.events(run.stream, limit=5000)
        assert [event.seq for event in events] == list(range(1, len(events) + 1))
        assert run.step_count * 700 == run.cost_nano_usd  # both events of an append, or none
    await store.close()
