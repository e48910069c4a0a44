"""The dense leg through the index: found by meaning, written in the background, rebuilt when it is damaged."""

from __future__ import annotations

import asyncio
import os
import signal
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from codeforge_ls.index import Index
from codeforge_ls.index.database import VECTORS
from tests.index.conftest import MakeIndex, make_repository

FILES = {
    "app/credentials.py": "def authenticate(user, password):\n    return verify_password(user, password)\n",
    "app/paint.py": "def draw_circle(canvas, radius):\n    canvas.stroke(radius)\n",
    "app/totals.py": "def sum_prices(cart):\n    return sum(line.price for line in cart)\n",
    "app/delete_rows.sql": "DELETE FROM orders;\n",
    "web/shapes.ts": "export class CircleShape {\n  paint(canvas: Canvas) {}\n}\n",
}
QUERY = "login"  # a word that occurs in none of them


async def until(what: Callable[[], bool], seconds: float = 60) -> None:
    """Wait until something is true."""
    async with asyncio.timeout(seconds):
        while not what():
            await asyncio.sleep(0.01)


def vectors_ready(index: Index) -> bool:
    """Whether the status says that every chunk has its vector."""
    return any(leg.name == "vectors" and leg.state == "ready" for leg in index.status().legs)


def writers() -> list[int]:
    """The processes that write vectors below this one."""
    found = subprocess.run(
        ["pgrep", "-f", "codeforge_ls.index.vector_writer"], capture_output=True, text=True, check=False
    )
    return [int(pid) for pid in found.stdout.split() if _is_below(int(pid))]


def _is_below(pid: int) -> bool:
    while pid > 1:
        if pid == os.getpid():
            return True
        try:
            pid = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
        except OSError:
            return False
    return False


async def test_what_is_meant_is_found_without_a_word_in_common(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root)
    await until(lambda: vectors_ready(index))
    found = await index.search(QUERY, explain=True)
    assert found.legs == ("bm25", "vectors")
    assert found.hits[0].path == "app/credentials.py"
    why = found.hits[0].explain
    assert why is not None
    assert why["legs"] == {"vectors": {"rank": 1, "score": pytest.approx(0.6, abs=0.4)}}
    by_file = await index.search(QUERY, group_by="file", explain=True)
    assert by_file.hits[0].path == "app/credentials.py"

    first = found.model_dump_json(exclude={"index"})
    for _ in range(20):
        assert (await index.search(QUERY, explain=True)).model_dump_json(exclude={"index"}) == first
    await index.stop()
    again = await make_index(root)
    await until(lambda: vectors_ready(again))
    assert (await again.search(QUERY, explain=True)).model_dump_json(exclude={"index"}) == first

    # What was saved or typed a moment ago has no segment yet, and is found all the same.
    (root / "app/session.py").write_text("def sign_in(account):\n    start_session(account)\n")
    await again.files_changed(["app/session.py"])
    await again.document_changed("app/unsaved.py", "def authorize(token):\n    check_token(token)\n")
    assert await again.settled(30)
    paths = {hit.path for hit in (await again.search(QUERY)).hits}
    assert paths >= {"app/credentials.py", "app/session.py", "app/unsaved.py"}

    every = await again.search("circle canvas")
    assert {hit.path for hit in every.hits} >= {"app/paint.py", "web/shapes.ts"}
    typed = await again.search("circle canvas", language="typescript")
    assert {hit.path for hit in typed.hits} == {"web/shapes.ts"}
    functions = await again.search("circle canvas", kind="function")
    assert functions.hits
    assert {hit.kind for hit in functions.hits} == {"function"}
    assert "web/shapes.ts" not in {hit.path for hit in functions.hits}


async def test_a_dead_writer_and_damaged_vectors_harm_nothing(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root, build=False)
    killed = 0

    async def kill_one() -> None:
        nonlocal killed
        while not killed:
            for pid in writers():
                os.kill(pid, signal.SIGKILL)
                killed += 1
            await asyncio.sleep(0.005)

    hunt = asyncio.create_task(kill_one())
    await index.build()
    await asyncio.wait_for(hunt, 60)
    assert (await index.search("draw circle")).hits[0].path == "app/paint.py"
    await until(lambda: vectors_ready(index))  # another writer did it
    assert (await index.search(QUERY)).hits[0].path == "app/credentials.py"

    await index.stop()
    files = list((tmp_path / "state/segments").glob(f"*/{VECTORS}"))
    assert files
    for file in files:
        file.write_bytes(file.read_bytes()[:200])
    again = await make_index(root)
    answer = await again.search("draw circle")
    assert answer.hits[0].path == "app/paint.py"
    await until(lambda: files[0].stat().st_size > 200 if files[0].exists() else False)
    await until(lambda: vectors_ready(again))
    found = await again.search(QUERY)
    assert found.legs == ("bm25", "vectors")
    assert found.hits[0].path == "app/credentials.py"
