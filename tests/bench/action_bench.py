"""What we add to an action: the answer of ``run.start``, the way of an approval, an edit, and an appended event."""

from __future__ import annotations

import asyncio
import itertools
import sqlite3
import time
from collections.abc import Iterator
from pathlib import Path

from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.model.events import EventDraft, EventType
from codeforge_ls.store import Store
from tests.bench.table import Row, ms, ratio, timed
from tests.soak.ground import Ground
from tests.soak.peers import AgentPeer, EditorPeer, agent, editor

STARTS, EDITS, EVENTS = 20, 25, 500


def rows() -> Iterator[Row]:
    """The figures."""
    ground = Ground("bench")
    (ground.root / "a.py").write_text("x = 1\n")
    try:
        with ScriptedServer([{"say": "Done."}]) as model:
            ground.env |= {"CODEFORGE_LLM_MODEL": "openai/scripted", "CODEFORGE_LLM_API_BASE": model.base_url}
            yield from asyncio.run(_doors(ground))
        yield from asyncio.run(_events(ground.base))
    finally:
        ground.close()


async def _doors(ground: Ground) -> list[Row]:
    window, bot = await editor(ground), await agent(ground)
    await window.command("index.build", 120)
    starts = []
    for _ in range(STARTS):
        starts += await timed(1, lambda: window.command("run.start", task="nothing", profile="plan-readonly"))
        await asyncio.sleep(0.1)
    versions = itertools.count()

    def edit() -> list[dict[str, str]]:
        return [{"path": "a.py", "content": f"x = {next(versions)}\n"}]

    await timed(3, lambda: bot.tool("apply_edits", edits=edit()))
    asked = await timed(EDITS, lambda: bot.tool("apply_edits", edits=edit()))
    dry = await timed(EDITS, lambda: bot.tool("apply_edits", edits=edit(), dry_run=True))
    prompts = await _prompts(window, bot, edit)
    await window.close()
    await bot.close()
    return [
        Row("run.start: request to id, LSP", ms(starts), "50 ms"),
        Row("an edit from proposal to prompt on the editor's wire", ms(prompts)),
        Row("an edit whole: policy, prompt, checkpoint, write, log", ms(asked)),
        Row("the same as a dry run: policy, diff, log", ms(dry)),
    ]


async def _prompts(window: EditorPeer, bot: AgentPeer, edit: object) -> list[float]:
    """Seconds from an agent's call to the prompt at the editor."""
    came: list[float] = []
    answer = window.reply

    def noting(method: str, params: dict[str, object]) -> object:
        if method == "window/showMessageRequest":
            came.append(time.perf_counter())
        return answer(method, params)

    window.reply = noting  # type: ignore[method-assign]  # only to look at the clock
    seconds = []
    for _ in range(EDITS):
        began = time.perf_counter()
        await bot.tool("apply_edits", edits=edit())  # type: ignore[operator]
        seconds.append(came[-1] - began)
    return seconds


async def _events(base: Path) -> list[Row]:
    store = await Store.open(base / "bench.db")
    draft = EventDraft(stream="session:bench", type=EventType.WORKSPACE_OPENED, payload={"text": "x" * 400})
    try:
        one = await timed(EVENTS, lambda: store.append(draft))
        ten = await timed(EVENTS // 10, lambda: store.append(*[draft] * 10))
    finally:
        await store.close()
    plain = await asyncio.to_thread(_inserts, base / "plain.db")
    beside = f"sqlite3 insert {ms(plain)}; {ratio(one, plain)}"
    return [
        Row("append of one event, hash chain and state in one transaction", ms(one), "", beside),
        Row("append of ten events together", ms(ten)),
    ]  # fmt: skip


def _inserts(path: Path) -> list[float]:
    """Plain inserts, one transaction each, with the same durability."""
    connection = sqlite3.connect(path, isolation_level=None)
    for pragma in ("journal_mode = WAL", "synchronous = NORMAL"):
        connection.execute(f"PRAGMA {pragma}")
    connection.execute("CREATE TABLE events (position INTEGER PRIMARY KEY, payload TEXT)")
    seconds = []
    for _ in range(EVENTS):
        began = time.perf_counter()
        connection.execute("INSERT INTO events (payload) VALUES (?)", ("x" * 400,))
        seconds.append(time.perf_counter() - began)
    connection.close()
    return seconds
