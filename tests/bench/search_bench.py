"""Search over 2,000 files through the front doors, beside ``git grep`` for the same words."""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Iterator

from tests.bench.table import Row, ms, timed
from tests.soak.ground import Ground, ground_with_code
from tests.soak.peers import agent, editor

FILES, CALLS = 2000, 120
QUERIES = (
    "parse configuration", "shortest path with negative weights", "def close", "http request headers",
    "ValidationError",    "retry after rate limit", "token budget", "json schema of a model", "open a socket",
    "read lines of a file",
)  # fmt: skip


def rows() -> Iterator[Row]:
    """The figures."""
    with ground_with_code("bench", FILES) as ground:
        yield from asyncio.run(_measure(ground))


async def _measure(ground: Ground) -> list[Row]:
    window, bot = await editor(ground), await agent(ground)
    await window.command("index.build", 300)
    queries = itertools.cycle(QUERIES)
    await timed(10, lambda: bot.tool("search_code", query=next(queries)))
    by_mcp = await timed(CALLS, lambda: bot.tool("search_code", query=next(queries)))
    by_lsp = await timed(CALLS, lambda: window.command("search", query=next(queries)))
    symbols = await timed(CALLS, lambda: window.request("workspace/symbol", {"query": "close"}))
    maps = await timed(20, lambda: bot.tool("repo_map", budget_tokens=1024))
    await window.close()
    await bot.close()
    greps = [await asyncio.to_thread(_grep, ground, query) for query in QUERIES]
    return [
        Row(
            f"search over {FILES} files, MCP", ms(by_mcp), "", f"git grep of the words {ms(greps)} (unranked)"
        ),
        Row(f"search over {FILES} files, LSP", ms(by_lsp)),
        Row("workspace/symbol", ms(symbols)),
        Row("repo map of 1,024 tokens, MCP", ms(maps)),
    ]


def _grep(ground: Ground, query: str) -> float:
    words = [part for word in query.split() for part in ("-e", word)]
    began = time.perf_counter()
    ground.git("grep", "-n", "-i", "-F", *words)
    return time.perf_counter() - began
