"""Workers that hang or are killed, bad input, and what the daemon's process may not import."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from codeforge_ls.index import Index
from codeforge_ls.index.grammars import TEST_LANGUAGES
from codeforge_ls.model.errors import InvalidInput, NotFound
from codeforge_ls.model.index import IndexState
from tests.index.conftest import MakeIndex, make_repository, write_tree

FILES = {f"pkg/mod{at}.py": f"def function_{at}(value):\n    return helper_{at}(value)\n" for at in range(30)}


async def test_a_parse_that_never_ends_is_quarantined(
    tmp_path: Path, make_index: MakeIndex, monkeypatch: pytest.MonkeyPatch
) -> None:
    # The cobol grammar really never returns on a quote that is not closed; the product does not use it.
    monkeypatch.setenv(TEST_LANGUAGES, ".cob=cobol")
    hanging = "treasure_word\n" + "x = '''\n\"abc\n" * 3
    root = make_repository(tmp_path / "repo", FILES | {"bad.cob": hanging})
    index = await make_index(root, parse_timeout_seconds=0.5)
    assert index.status().state is IndexState.READY
    assert index.status().files == len(FILES) + 1
    assert "quarantined" in index.status().message
    assert [(one.path, one.reason) for one in await index.skipped()] == [
        ("bad.cob", "quarantined: only searched as text")
    ]
    assert (await index.search("treasure_word")).hits[0].path == "bad.cob"
    raw = await index._writer.call("status", {})
    assert isinstance(raw, dict)
    assert raw["killed"] == 1

    write_tree(root, {"copy.cob": hanging})
    await index.files_changed(["copy.cob"])
    await index.document_changed("open.cob", hanging)
    assert await index.settled(20)
    raw = await index._writer.call("status", {})
    assert isinstance(raw, dict)
    assert raw["killed"] == 1, "the same content was parsed a second time"
    await index.stop()

    again = await make_index(root, parse_timeout_seconds=0.5)
    raw = await again._writer.call("status", {})
    assert isinstance(raw, dict)
    assert (raw["killed"], raw["parses"]) == (0, 0), "the quarantine was forgotten"


def children(pid: int) -> list[int]:
    """The child processes of a process."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [int(one) for one in listed.stdout.split()]


def alive(pid: int) -> bool:
    """Whether a process runs; one that nobody has reaped yet does not."""
    stat = Path(f"/proc/{pid}/stat")
    return stat.exists() and stat.read_text().rpartition(")")[2].split()[0] != "Z"


async def test_kill_nine_of_every_worker(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root)
    await index.document_changed("pkg/mod1.py", "def unsaved_thing(): pass\n")
    await index.search("unsaved_thing")

    os.kill(index.worker_pids()["query"], signal.SIGKILL)
    assert (await index.search("function_3")).hits[0].path == "pkg/mod3.py"

    async def asks() -> str:
        return (await index.search("function_4")).hits[0].path

    asking = [asyncio.create_task(asks()) for _ in range(20)]
    await asyncio.sleep(0)
    os.kill(index.worker_pids()["query"], signal.SIGKILL)
    assert set(await asyncio.gather(*asking)) == {"pkg/mod4.py"}

    writer = index.worker_pids()["index"]
    for parser in children(writer):
        os.kill(parser, signal.SIGKILL)
    write_tree(root, {"pkg/one.py": "def after_parser_kill(): pass\n"})
    await index.files_changed(["pkg/one.py"])
    await index.settled()
    assert (await index.symbols("after_parser_kill")).definitions

    parsers = children(writer)
    os.kill(writer, signal.SIGKILL)
    write_tree(root, {"pkg/two.py": "def after_writer_kill(): pass\n"})
    await index.files_changed(["pkg/two.py"])
    assert (await index.search("function_5")).hits[0].path == "pkg/mod5.py"
    assert await index.settled(20)
    assert (await index.symbols("after_writer_kill")).definitions
    for _ in range(50):
        if (await index.symbols("unsaved_thing")).definitions:
            break
        await asyncio.sleep(0.1)
    assert (await index.symbols("unsaved_thing")).definitions, "the open document was not sent again"
    assert not [pid for pid in parsers if alive(pid)], "parsers outlived their worker"
    await index.stop()
    assert index.worker_pids() == {}


async def test_kill_nine_while_building(tmp_path: Path, make_index: MakeIndex) -> None:
    many = {f"m{at}.py": f"def big_{at}(): pass\n" * 50 for at in range(400)}
    root = make_repository(tmp_path / "repo", many)
    index = await make_index(root, build=False)
    while "index" not in index.worker_pids():
        await asyncio.sleep(0.02)
    await asyncio.sleep(0.6)
    os.kill(index.worker_pids()["index"], signal.SIGKILL)
    status = await index.build()
    assert (status.state, status.files, status.percent) == (IndexState.READY, len(many), 100.0)
    assert (await index.search("big_399")).hits[0].path == "m399.py"


async def _refused(index: Index) -> None:
    for query in ("", "   ", "x" * 10_001, None, 5):
        with pytest.raises(InvalidInput):
            await index.search(query)  # type: ignore[arg-type]
    for limit in (0, -1, 10**9, True, "5"):
        with pytest.raises(InvalidInput):
            await index.search("x", limit=limit)  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            await index.repo_map(limit if limit != "5" else 2.5)  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        await index.search("x", group_by="line")  # type: ignore[arg-type]
    with pytest.raises(InvalidInput):
        await index.symbols()
    with pytest.raises(InvalidInput):
        await index.symbols(path="/etc/passwd")
    with pytest.raises(InvalidInput):
        await index.symbol_info(path="pkg/mod1.py", line=1)
    with pytest.raises(InvalidInput):
        await index.symbol_info("x", relation="friends")  # type: ignore[arg-type]
    for path in ("a\0b", "lone\ud800", 7, None):
        with pytest.raises(InvalidInput):
            await index.document_changed(path, "text")  # type: ignore[arg-type]
        with pytest.raises(InvalidInput):
            await index.files_changed([path])  # type: ignore[list-item]
    for missing in ("nowhere.py", "../../etc/passwd.py"):
        with pytest.raises((NotFound, InvalidInput)):
            await index.symbols(path=missing)
    for line, column in ((1, 10_000), (99, 0), (2, 0)):
        with pytest.raises(NotFound):
            await index.symbol_info(path="pkg/mod1.py", line=line, column=column)


async def test_bad_input_is_refused_and_hurts_nothing(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root)
    await _refused(index)
    for query in ("\ud800", "😀", "(((", "%_!", "'; DROP TABLE file; --", "\0", "a" * 10_000, "* " * 1000):
        with contextlib.suppress(InvalidInput):
            assert isinstance((await index.search(query, path_glob="[z-a")).hits, tuple)
            assert isinstance((await index.symbols(query[:400], prefix=True)).definitions, tuple)
            assert isinstance((await index.symbol_info(query[:400], relation="callers")).references, tuple)
            assert (await index.repo_map(64, focus=["/", "..", "a/b"], query=query)).tokens <= 64
    await index.document_changed("pkg/mod2.py", "x" * (2 << 20))
    await index.settled()
    assert any(one.path == "pkg/mod2.py" and "size" in one.reason for one in await index.skipped())
    await index.document_closed("pkg/mod2.py")
    await index.settled()
    assert not await index.skipped()
    assert (await index.search("function_9")).hits[0].path == "pkg/mod9.py"
    assert index.status().state is IndexState.READY


def test_the_daemon_side_imports_nothing_heavy() -> None:
    heavy = {"tree_sitter", "numpy", "scipy", "networkx", "bm25s", "litellm", "pathspec", "watchfiles"}
    program = "import sys, codeforge_ls.index, codeforge_ls.index.watch; print(*sys.modules)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert not heavy & {name.split(".")[0] for name in done.stdout.split()}
