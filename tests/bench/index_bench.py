"""The index through the front doors: cold, warm, memory, freshness, search and map, beside what others need.

``CODEFORGE_BENCH_CORPUS`` names folders of source code (``:`` between); without it the installed networkx is taken.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import os
import random
import re
import shutil
import string
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.index import Index
from codeforge_ls.index.grammars import PLAIN, language_of
from codeforge_ls.index.limits import Limits
from tests.bench.anchors import anchors
from tests.bench.processes import cpu_seconds, highest_memory, memory, shown
from tests.bench.retrieval_bench import package
from tests.bench.table import Row, ms, timed
from tests.soak.ground import Ground
from tests.soak.peers import AgentPeer, EditorPeer, Json, agent, editor

QUERIES = (
    "shortest path", "read configuration from environment", "retry with backoff", "parse arguments", "HttpClient",
    "draw graph", "token count", "cache", "weighted edges", "stream response", "add_node", "exception handling",
    "where are offsets committed", "close the connection when the peer is idle", "serialize a record batch",
)  # fmt: skip
STAGES = re.compile(r"(symbols|words|segments) ([0-9.]+)")
SETTLED_SECONDS = 65.0  # idle parsers have ended by then


@dataclass(frozen=True)
class Cold:
    """The cold build: wall seconds; CPU seconds of the index worker and its children; the same for the vectors."""

    wall: float
    cpu: float
    vectors: float
    status: Json


def rows() -> Iterator[Row]:
    """The figures of each corpus."""
    given = os.environ.get("CODEFORGE_BENCH_CORPUS", "")
    for folder in map(Path, given.split(":")) if given else [package("networkx")]:
        ground = Ground("bench")
        try:
            ignore = shutil.ignore_patterns("__pycache__", ".git")
            shutil.copytree(folder, ground.root, symlinks=True, ignore=ignore, dirs_exist_ok=True)
            ground.git("add", "-A")
            ground.git("commit", "-qm", "start")
            found: list[Row] = []
            try:
                asyncio.run(_measure(ground, found))
            except Exception as error:
                found.append(Row("broke", repr(error)[:200]))
            for row in found:
                yield Row(f"{folder.name}: {row.name}", row.figure, row.bar, row.beside)
        finally:
            ground.close()


async def _measure(ground: Ground, found: list[Row]) -> None:
    queries = itertools.cycle(QUERIES)
    with highest_memory(ground) as peak:
        began = time.perf_counter()
        bot = await agent(ground)
        first = await _first_hit(bot, began)
        window = await editor(ground)
        cold = await _build(ground, window, began)
    found.append(Row("first keyword answer, opened cold", f"{first:.2f} s", "2 s"))
    found += await asyncio.to_thread(lambda: list(_cold_rows(ground, cold)))
    rate = cold.status["files"] / max(cold.vectors, 0.01)
    found.append(
        Row("vectors follow", f"{cold.vectors:.1f} CPU s, {rate:.0f} files/CPU s", "150 files/CPU s")
    )
    found.append(Row("memory at the peak (PSS)", shown(peak), "600 MB"))
    by_mcp = await timed(120, lambda: bot.tool("search_code", query=next(queries)))
    found.append(Row("search through MCP", ms(by_mcp), "p95 60 ms"))
    by_file = await timed(60, lambda: bot.tool("search_code", query=next(queries), group_by="file"))
    found.append(Row("search for files through MCP", ms(by_file), "p95 60 ms"))
    focus = [str((await bot.tool("search_code", query=QUERIES[0]))["hits"][0]["path"])]
    maps = await timed(40, lambda: bot.tool("repo_map", budget_tokens=2000, focus=focus, query=next(queries)))
    found.append(Row("personalised map of 2,000 tokens, MCP", ms(maps), "30 ms"))
    found += await _freshness(ground, window)
    await asyncio.sleep(SETTLED_SECONDS)
    found.append(Row("memory settled (PSS)", shown(memory(ground)), "350 MB"))
    watchdog = json.loads(ground.codeforge("health", "--json").stdout)["daemon"]["watchdog"]
    stalls = f"{watchdog['over_50_ms']} over 50 ms, longest {watchdog['max_ms']} ms"
    found.append(Row("the daemon's loop meanwhile", stalls, "none over 50 ms"))
    disk = sum(file.stat().st_size for file in ground.state.rglob("*") if file.is_file()) / 1e6
    found.append(Row("state on disk", f"{disk:.0f} MB"))
    await window.close()
    await bot.close()
    state = ground.state
    ground.stop()
    found.append(Row("warm start to the first map", f"{await _warm(ground):.2f} s", "2.0 s"))
    ground.stop()
    found.append(
        Row("search, worker and its pipe alone", ms(await _worker_alone(ground, state)), "10 / 30 ms")
    )


async def _first_hit(bot: AgentPeer, began: float) -> float:
    while not (await bot.tool("search_code", query=QUERIES[0]))["hits"]:
        await asyncio.sleep(0.02)
    return time.perf_counter() - began


async def _build(ground: Ground, window: EditorPeer, began: float) -> Cold:
    """Wait until everything is there; the vectors come last."""
    while not (workers := ground.pids("codeforge_ls.index.worker")):
        await asyncio.sleep(0.01)
    status = await window.command("index.status")
    while status["state"] != "ready" or status["legs"][0]["state"] != "ready":
        await asyncio.sleep(0.1)
        status = await window.command("index.status")
    wall, cpu = time.perf_counter() - began, cpu_seconds(workers[0])
    while any(leg["state"] not in {"ready", "off"} for leg in status["legs"]):
        await asyncio.sleep(0.1)
        status = await window.command("index.status")
    return Cold(wall, cpu, cpu_seconds(workers[0]) - cpu, status)


def _cold_rows(ground: Ground, cold: Cold) -> Iterator[Row]:
    line = ground.codeforge("logs", "service", "index-worker", "-n", "1000").stdout
    stages = {name: float(figure) for name, figure in STAGES.findall(line)}
    words = stages["words"] + stages["segments"]
    files = int(cold.status["files"])
    yield Row("files, chunks, symbols", f"{files}, {cold.status['chunks']}, {cold.status['symbols']}")
    split = f"parsers {stages['symbols']:.1f}; words {stages['words']:.1f}, segments {stages['segments']:.1f}"
    yield Row("cold, to symbols, graph and ranks on disk", f"{cold.cpu - words:.1f} CPU s", "16", split)
    yield Row(
        "cold, with the keyword index", f"{cold.cpu:.1f} CPU s, {cold.wall:.1f} s wall", "28; 18 s wall"
    )
    listed = ground.git("ls-files", "-z").split("\0")
    sources = [str(ground.root / path) for path in listed if path and language_of(path) not in PLAIN]
    for name, seconds in anchors(ground.root, sources):
        yield Row(f"beside it: {name}", f"{seconds:.1f} CPU s", "", f"ours is {cold.cpu / seconds:.2f} x")


async def _freshness(ground: Ground, window: EditorPeer) -> list[Row]:
    """From the news of a change to the answer that has it, p50 and p95."""
    path = ground.root / "bench_new.py"
    uri = path.as_uri()
    versions = itertools.count(2)

    async def seen(word: str) -> None:
        while not any(
            hit["path"] == path.name for hit in (await window.command("search", query=word))["hits"]
        ):
            await asyncio.sleep(0.001)

    async def save() -> None:
        word = _new_word()
        path.write_text(f"def {word}():\n    return 1\n")
        window.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": uri, "type": 2}]})
        await seen(word)

    async def symbol() -> None:
        word = _new_word().title()
        path.write_text(f"class {word}:\n    pass\n")
        window.notify("workspace/didChangeWatchedFiles", {"changes": [{"uri": uri, "type": 2}]})
        while not await window.request("workspace/symbol", {"query": word}):
            await asyncio.sleep(0.001)

    async def typed() -> None:
        word = _new_word()
        change = {
            "textDocument": {"uri": uri, "version": next(versions)},
            "contentChanges": [{"text": f"def {word}():\n    return 2\n"}],
        }
        window.notify("textDocument/didChange", change)
        await seen(word)

    saved = await timed(40, save)
    symbols = await timed(40, symbol)
    opened = {"uri": uri, "languageId": "python", "version": 1, "text": path.read_text()}
    window.notify("textDocument/didOpen", {"textDocument": opened})
    keys = await timed(40, typed)
    window.notify("textDocument/didClose", {"textDocument": {"uri": uri}})
    return [
        Row("save to visible in search", ms(saved), "p95 50 ms"),
        Row("save to visible in symbols", ms(symbols), "p95 50 ms"),
        Row("key stroke to visible in search", ms(keys), "p95 50 ms"),
    ]


def _new_word() -> str:
    """One that no part of was there before: a search for two words would find the old text by one of them."""
    return "".join(random.choices(string.ascii_lowercase, k=14))


async def _warm(ground: Ground) -> float:
    began = time.perf_counter()
    bot = await agent(ground)
    await bot.tool("repo_map", budget_tokens=1024)
    while "index: ready" not in (await bot.text("repo_map", budget_tokens=1024)):
        await asyncio.sleep(0.01)
    seconds = time.perf_counter() - began
    await bot.close()
    return seconds


async def _worker_alone(ground: Ground, state: Path) -> list[float]:
    """The same questions put to the query worker by its owner, without the daemon and its doors."""
    queries = itertools.cycle(QUERIES)
    index = Index(ground.root, state, Limits())
    await index.start()
    await index.build()
    await timed(10, lambda: index.search(next(queries)))
    seconds = await timed(120, lambda: index.search(next(queries)))
    await index.stop()
    return seconds
