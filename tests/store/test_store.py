"""Given a workspace's store, when events are appended, then log and state agree and nothing is half written."""

from __future__ import annotations

import asyncio
import sqlite3
import stat
import time
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from codeforge_ls import logs
from codeforge_ls.model.approvals import ApprovalState
from codeforge_ls.model.errors import (
    CodeForgeError,
    Conflict,
    InvalidInput,
    LimitReached,
    NotFound,
    Unavailable,
)
from codeforge_ls.model.events import Delta, Event, EventDraft, EventType
from codeforge_ls.model.runs import PlanStatus, RunStatus, StepStatus
from codeforge_ls.store import Store
from codeforge_ls.store.reservations import MAX_ANSWER, Reservation, Scope
from tests.store import history as h


@pytest.fixture
async def store(tmp_path: Path) -> AsyncIterator[Store]:
    opened = await Store.open(tmp_path / "state" / "state.db")
    yield opened
    await opened.close()


async def test_a_run_is_what_its_events_say(store: Store) -> None:
    await store.append(*h.whole_run("r1"))
    run = await store.run("r1")
    assert (run.status, run.output, run.version) == (RunStatus.COMPLETED, "done", 9)
    assert (run.tokens_in, run.tokens_out, run.cost_nano_usd, run.unpriced_calls) == (20, 6, 700, 1)
    assert (run.step_count, run.task, run.created_at) == (2, "task of r1", 1000.5)
    assert run.started_at is not None
    assert run.ended_at is not None
    assert [m.role for m in await store.messages("r1")] == ["user", "assistant"]
    assert {a.state for a in await store.approvals()} == {ApprovalState.CONSUMED, ApprovalState.DENIED}
    assert [c.id for c in await store.checkpoints("run:r1")] == ["safety-cp-r1-c1", "cp-r1-c1"]
    assert await store.open_tool_calls("r1") == []

    await store.append(h.run_created("r2"), *h.tool_call("r2", "c1", answer="open"))
    (waiting,) = await store.open_tool_calls("r2")
    assert (waiting.call_id, waiting.tool, waiting.arguments) == ("c1", "Edit", {"path": "a.py"})
    (question,) = await store.approvals(ApprovalState.PENDING)
    assert question == await store.approval("ap-r2-c1")
    assert [run.id for run in await store.runs(statuses=[RunStatus.PENDING])] == ["r2"]

    await store.append(*h.plan("p1", EventType.PLAN_FAILED))
    plan = await store.plan("p1")
    assert plan.status is PlanStatus.FAILED
    assert [step.status for step in plan.steps] == [StepStatus.COMPLETED, StepStatus.FAILED]
    assert await store.plans() == [plan]
    assert await store.refold() == {}
    assert await store.verify() == []


@pytest.mark.parametrize("seed", [1, 2, 3])
async def test_tables_are_folds_of_a_long_random_history(store: Store, seed: int) -> None:
    drafts = h.random_history(seed, runs=14)
    told: list[Event] = []
    store.subscribe(told.append)
    for start in range(0, len(drafts), 5):
        await store.append(*drafts[start : start + 5])
    assert await store.refold() == {}
    assert await store.verify() == []
    assert [event.position for event in told] == list(range(1, len(drafts) + 1))
    assert told == await store.all_events(limit=5000)
    assert await store.events("run:r0", after=2, limit=3) == [e for e in told if e.stream == "run:r0"][2:5]

    with sqlite3.connect(store.path) as raw:  # a table that lies is found
        raw.execute("UPDATE runs SET tokens_in = tokens_in + 1, version = version + 1 WHERE id = 'r0'")
    raw.close()
    assert list(await store.refold()) == ["runs"]


async def test_concurrent_appends_keep_order_and_subscribers_hear_only_what_is_committed(
    store: Store,
) -> None:
    heard: list[int] = []
    seen_by_reader: list[bool] = []

    def broken(_event: Event) -> None:
        raise RuntimeError("a broken view")

    def committed(event: Event) -> None:
        with sqlite3.connect(store.path) as raw:
            seen_by_reader.append(
                raw.execute("SELECT 1 FROM events WHERE id = ?", (event.id,)).fetchone() is not None
            )
        raw.close()

    store.subscribe(broken)
    leave = store.subscribe(lambda event: heard.append(event.position))
    store.subscribe(committed)
    logs.request_id.set("req-1")
    drafts = [h.draft("session:s", EventType.SESSION_ATTACHED, {"n": n}) for n in range(40)]
    await asyncio.gather(*(store.append(one) for one in drafts))
    events = await store.events("session:s")
    assert [event.seq for event in events] == list(range(1, 41)) == heard
    assert {event.request_id for event in events} == {"req-1"}
    assert all(seen_by_reader)
    leave()
    await store.append(drafts[0])
    assert len(heard) == 40

    deltas: list[Delta] = []
    leave_deltas = store.subscribe_deltas(deltas.append)
    delta = Delta(stream="run:r", event_id="ev-1", channel="text", offset=0, text="hel")
    store.publish_delta(delta)
    leave_deltas()
    store.publish_delta(delta)
    assert deltas == [delta]


async def test_a_cancelled_append_is_written_wholly_or_not_at_all(store: Store) -> None:
    for number in range(25):
        batch = [h.draft(f"session:{number}", EventType.SESSION_ATTACHED, {"n": n}) for n in range(4)]
        task = asyncio.create_task(store.append(*batch))
        await asyncio.sleep(number * 0.0003)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
    await store.append(h.run_created("after"))
    counts = [len(await store.events(f"session:{number}")) for number in range(25)]
    assert set(counts) <= {0, 4}
    assert counts.count(4) > 0
    assert await store.verify() == []


@pytest.mark.parametrize(
    ("drafts", "error"),
    [
        ([h.draft("run:nobody", EventType.RUN_STARTED)], NotFound),
        ([h.draft("run:r1", EventType.APPROVAL_CONSUMED, {"approval_id": "nobody"})], NotFound),
        ([h.draft("run:r1", EventType.TOOLCALL_RESULT, {"call_id": "none", "applied": {}})], NotFound),
        ([h.draft("plan:p1", EventType.PLAN_STARTED)], NotFound),
        ([h.run_created("r1")], Conflict),
        ([h.draft("workspace", EventType.RUN_STARTED)], InvalidInput),
        ([h.draft("run:r2", EventType.RUN_CREATED, {"run": {"id": 5}})], InvalidInput),
        ([h.draft("run:r2", EventType.RUN_CREATED, h.run_created("r3").payload)], InvalidInput),
        ([h.draft("run:r1", EventType.RUN_COMPLETED, {"status": "running"})], InvalidInput),
        ([h.draft("run:r1", EventType.RUN_COMPLETED, {})], InvalidInput),
        ([h.draft("run:r1", EventType.AGENT_STEP_DONE, {"step": 10**30})], InvalidInput),
        (
            [h.draft("workspace", EventType.CONFIG_CHANGED, {str(n): "x" * (1 << 20) for n in range(17)})],
            LimitReached,
        ),
        (
            [
                EventDraft(stream="workspace", type=EventType.CONFIG_CHANGED, id="same"),
                EventDraft(stream="session:x", type=EventType.CONFIG_CHANGED, id="same"),
            ],
            Conflict,
        ),
    ],
)
async def test_what_does_not_fit_is_refused_and_leaves_nothing(
    store: Store, drafts: list[EventDraft], error: type[CodeForgeError]
) -> None:
    told: list[Event] = []
    await store.append(h.run_created("r1"))
    store.subscribe(told.append)
    with pytest.raises(error):
        await store.append(h.draft("session:ok", EventType.SESSION_ATTACHED), *drafts)
    assert len(await store.all_events()) == 1
    assert told == []
    await store.append(h.draft("run:r1", EventType.RUN_STARTED))
    assert (await store.run("r1")).version == 2


async def test_terminal_states_are_never_left_and_versions_are_checked(store: Store) -> None:
    await store.append(h.run_created("r1"), expect={})
    await store.append(h.draft("run:r1", EventType.RUN_STARTED), expect={"run": ("r1", 1)})
    with pytest.raises(Conflict) as stale:
        await store.append(run := h.run_completed("r1"), expect={"run": ("r1", 1)})
    assert stale.value.data == {"kind": "run", "id": "r1", "expected": 1, "actual": 2}
    with pytest.raises(NotFound):
        await store.append(run, expect={"plan": ("nope", 1)})
    with pytest.raises(InvalidInput):
        await store.append(run, expect={"sheep": ("nope", 1)})
    await store.append(h.run_completed("r1", "cancelled"), expect={"run": ("r1", 2)})
    for late in (
        h.run_completed("r1"),
        h.draft("run:r1", EventType.RUN_STARTED),
        h.run_completed("r1", "cancelled"),
    ):
        with pytest.raises(Conflict, match="ended"):
            await store.append(late)
    await store.append(h.model_called("r1"))  # money that was spent is counted, also after the end
    assert (await store.run("r1")).cost_nano_usd == 700

    await store.append(*h.plan("p1", EventType.PLAN_CANCELLED))
    with pytest.raises(Conflict, match="ended"):
        await store.append(h.draft("plan:p1", EventType.PLAN_STARTED))

    await store.append(h.run_created("r2"), *h.tool_call("r2", "c"))
    used = {"approval_id": "ap-r2-c"}
    with pytest.raises(Conflict, match="used already"):
        await store.append(h.draft("run:r2", EventType.APPROVAL_CONSUMED, used))
    with pytest.raises(Conflict, match="ended already"):
        await store.append(h.draft("run:r2", EventType.TOOLCALL_RESULT, {"call_id": "c", "applied": {}}))
    assert await store.refold() == {}


async def test_hostile_payloads_are_stored_or_cut_never_lost(store: Store) -> None:
    payload = {
        "lone": "a\ud800b",
        "pair": "\ud83d\ude00",
        "nul": "a\0b",
        "long": "x" * ((1 << 20) + 7),
        "nan": float("nan"),
        "key\udfff": {"deep": [1, None, True, 2**80]},
    }
    (told,) = await store.append(
        EventDraft(stream="session:s", type=EventType.CONFIG_CHANGED, payload=payload)
    )
    (read,) = await store.events("session:s")
    assert read == told
    assert read.payload["lone"] == "a\ufffdb"
    assert read.payload["pair"] == "\U0001f600"
    assert read.payload["nul"] == "a\0b"
    assert str(read.payload["long"]).endswith(" [cut: 7 more characters]")
    assert read.payload["nan"] == "nan"
    assert read.payload["key\ufffd"] == {"deep": [1, None, True, 2**80]}
    with pytest.raises(InvalidInput):
        await store.events("\ud800")
    with pytest.raises(NotFound):
        await store.run("x" * 100_000)
    assert await store.verify() == []


async def test_full_locked_closed_and_damaged_say_what_to_do(store: Store, tmp_path: Path) -> None:
    assert stat.S_IMODE(store.path.stat().st_mode) == 0o600
    await store.append(h.run_created("r1"))
    pages = (await store._writer.execute_fetchall("PRAGMA page_count"))[0][0]
    await store._writer.execute(f"PRAGMA max_page_count = {pages}")
    with pytest.raises(Unavailable) as full:
        await store.append(
            *(h.draft("session:s", EventType.CONFIG_CHANGED, {"t": "x" * 50_000}) for _ in range(9))
        )
    assert "room" in full.value.hint
    await store._writer.execute("PRAGMA max_page_count = 1000000")

    await store._writer.execute("PRAGMA busy_timeout = 100")
    rival = sqlite3.connect(store.path, isolation_level=None)
    rival.execute("BEGIN IMMEDIATE")
    with pytest.raises(Unavailable, match="locked"):
        await store.append(h.draft("run:r1", EventType.RUN_STARTED))
    assert (await store.run("r1")).version == 1  # readers do not wait
    rival.execute("ROLLBACK")
    rival.close()
    await store.append(h.draft("run:r1", EventType.RUN_STARTED))
    assert [e.seq for e in await store.all_events()] == [1, 2]
    assert (await store.stats())["runs"] == {"running": 1}

    await store.close()
    await store.close()
    for call in (store.append(h.run_created("r2")), store.run("r1")):
        with pytest.raises(Unavailable, match="closed"):
            await call

    content = bytearray(store.path.read_bytes())
    content[0:4000] = b"rubbish!" * 500
    store.path.write_bytes(content)
    with pytest.raises(Unavailable) as broken:
        await Store.open(store.path)
    assert str(store.path) in broken.value.message
    assert ".recover" in broken.value.hint
    assert store.path.read_bytes() == content
    (tmp_path / "folder").mkdir()
    with pytest.raises(Unavailable):
        await Store.open(tmp_path / "folder")


async def test_old_streams_are_exported_and_dropped_whole(store: Store, tmp_path: Path) -> None:
    exports = tmp_path / "exports"
    await store.append(h.draft("workspace", EventType.WORKSPACE_OPENED))
    await store.append(*h.whole_run("old"), *h.plan("old"), h.run_created("busy"), *h.plan("open")[:2])
    await store.append(h.draft("session:../../x", EventType.SESSION_ATTACHED))
    gone = await store.events("run:old")
    border = time.time() + 0.001
    await asyncio.sleep(0.01)
    await store.append(*h.whole_run("new"))

    dropped = await store.drop_streams(border, exports, "cli:ada")
    assert set(dropped) == {"run:old", "plan:old", "session:../../x"}
    assert {run.id for run in await store.runs()} == {"busy", "new"}
    assert [plan.id for plan in await store.plans()] == ["open"]
    assert {c.stream for c in await store.checkpoints()} == {"run:new"}
    assert await store.verify() == []
    assert await store.refold() == {}
    audit = [event for event in await store.events("workspace") if event.type == "stream.dropped"]
    entry = next(event for event in audit if event.payload["stream"] == "run:old")
    assert (entry.actor, entry.payload["events"], entry.payload["last_hash"]) == (
        "cli:ada",
        len(gone),
        gone[-1].hash,
    )
    exported = Path(str(entry.payload["file"]))
    assert exported.parent == exports
    assert stat.S_IMODE(exported.stat().st_mode) == 0o600
    assert [Event.model_validate_json(line) for line in exported.read_text().splitlines()] == gone
    assert len(list(exports.iterdir())) == 3

    assert await store.drop_streams(border, exports, "cli:ada") == []
    with sqlite3.connect(store.path) as raw, pytest.raises(sqlite3.IntegrityError, match="never dropped"):
        raw.execute("INSERT INTO drop_grants VALUES ('workspace')")
    raw.close()
    blocked = tmp_path / "file"
    blocked.write_text("")
    with pytest.raises(Unavailable, match="cannot be exported"):
        await store.drop_streams(time.time() + 1, blocked, "cli:ada")
    assert await store.events("run:new")


async def test_a_key_is_reserved_once_and_forgotten_after_a_day(store: Store) -> None:
    table, scope = store.reservations, Scope("run.start", "mcp:a", "k")
    await store.append(*h.whole_run("r1"))
    got = await asyncio.gather(
        *(
            table.reserve(
                scope,
                "hash",
            )
            for _ in range(20)
        )
    )
    assert got.count(None) == 1
    assert {found for found in got if found} == {Reservation("hash", False, None, 0)}
    assert await table.reserve(Scope("run.start", "mcp:b", "k"), "hash") is None
    await table.finish(scope, {"run_id": "r1"})
    assert await table.reserve(scope, "hash") == Reservation("hash", True, {"run_id": "r1"}, 15)
    await table.release(scope)
    assert await table.reserve(scope, "other") is None
    await table.finish(scope, {"text": "x" * MAX_ANSWER})
    assert await table.reserve(scope, "other") == Reservation("other", True, None, MAX_ANSWER + 11)
    await store._writer.execute(
        "UPDATE reservations SET created_at = created_at - 86401 WHERE caller = 'mcp:a'"
    )
    await table.purge()
    left = await store._writer.execute_fetchall("SELECT caller FROM reservations")
    assert [row[0] for row in left] == ["mcp:b"]
    assert await store.refold() == {}
