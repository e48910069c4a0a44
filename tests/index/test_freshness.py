"""What changes is seen: saves, new and deleted files, folders, branches, unsaved texts, restarts, damage."""

from __future__ import annotations

import asyncio
import os
import re
import shutil
import subprocess
import time
from pathlib import Path

from codeforge_ls.index import Index
from codeforge_ls.index.asking import SETTLE_SECONDS
from codeforge_ls.index.watch import Watcher
from codeforge_ls.model.base import JsonObject
from tests.index.conftest import MakeIndex, make_repository, write_tree

WORDS = {("bm25",), ("bm25", "vectors")}  # the vectors may be there already
FILES = {f"pkg/mod{at}.py": f"def function_{at}(value):\n    return helper_{at}(value)\n" for at in range(40)}


async def names(index: Index, query: str) -> set[str]:
    """The files found in which one of the words really occurs: parts of identifiers find others too."""
    await index.settled()
    hits = (await index.search(query, limit=200)).hits
    return {hit.path for hit in hits if any(re.search(rf"\b{word}\b", hit.text) for word in query.split())}


async def waited_for(index: Index, word: str) -> set[str]:
    """The files found by a question that is put at once: it knows what is under way, or has waited a quarter second."""
    began = time.perf_counter()
    hits = (await index.search(word)).hits
    found = {hit.path for hit in hits if word in hit.text}
    return found if found or time.perf_counter() - began < SETTLE_SECONDS else await names(index, word)


async def parses(index: Index) -> int:
    """How many files the present index worker has had parsed."""
    raw = await index._writer.call("status", {})
    assert isinstance(raw, dict)
    return int(str(raw["parses"]))


async def test_changes_on_disk_and_restart_without_parsing(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root)
    assert await parses(index) == len(FILES)

    started = time.perf_counter()
    write_tree(root, {"pkg/fresh.py": "def brand_new():\n    pass\n"})
    await index.files_changed(["pkg/fresh.py"])
    assert await waited_for(index, "brand_new") == {"pkg/fresh.py"}
    assert time.perf_counter() - started < 5
    assert (await index.search("brand_new")).hits[0].path == "pkg/fresh.py"
    assert (await index.symbols("brand_new")).definitions[0].path == "pkg/fresh.py"

    write_tree(root, {"pkg/fresh.py": "def renamed_now():\n    pass\n"})
    await index.files_changed([str(root / "pkg/fresh.py")])
    assert await names(index, "renamed_now") == {"pkg/fresh.py"}
    assert not (await index.symbols("brand_new")).definitions

    os.utime(root / "pkg/mod1.py", ns=(time.time_ns(), time.time_ns()))
    shutil.copy(root / "pkg/mod2.py", root / "pkg/copy.py")
    before = await parses(index)
    await index.files_changed(["pkg/mod1.py", "pkg/copy.py", "pkg/mod1.py", ".git/index", "../elsewhere.py"])
    assert await names(index, "function_2") == {"pkg/mod2.py", "pkg/copy.py"}
    assert await parses(index) == before, "known contents were parsed again"

    (root / "pkg/fresh.py").unlink()
    await index.files_changed(["pkg/fresh.py"])
    assert await names(index, "renamed_now") == set()
    assert "pkg/fresh.py" not in (await index.repo_map(2000)).text

    (root / "pkg").rename(root / "moved")
    await index.files_changed(["pkg", "moved"])
    await index.build()
    assert await names(index, "function_7") == {"moved/mod7.py"}
    await index.stop()

    again = await make_index(root)
    assert await names(again, "function_7") == {"moved/mod7.py"}
    assert await parses(again) == 0, "a warm start parsed"
    assert again.status().files == len(FILES) + 1
    await again.build(force=True)
    assert await parses(again) > 0
    assert await names(again, "function_7") == {"moved/mod7.py"}


async def test_branch_switch_costs_no_parse_the_second_time(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)

    def git(*arguments: str) -> None:
        identity = ["-c", "user.name=t", "-c", "user.email=t@example.org"]
        subprocess.run(["git", "-C", str(root), *identity, *arguments], check=True, capture_output=True)

    git("add", "-A")
    git("commit", "-qm", "one")
    git("checkout", "-qb", "other")
    write_tree(root, {path: text.replace("helper", "other_helper") for path, text in FILES.items()})
    git("commit", "-qam", "two")
    index = await make_index(root)
    git("checkout", "-q", "-")
    await index.build()
    assert await names(index, "other_helper_3") == set() or "pkg/mod3.py" not in {
        use.path for use in (await index.symbol_info("other_helper_3", relation="references")).references
    }
    before = await parses(index)
    git("checkout", "-q", "other")
    await index.build()
    assert (await index.symbol_info("other_helper_3", relation="references")).references[
        0
    ].path == "pkg/mod3.py"
    assert await parses(index) == before


async def test_unsaved_text_counts_until_the_document_is_closed(
    tmp_path: Path, make_index: MakeIndex
) -> None:
    root = make_repository(tmp_path / "repo", FILES | {".gitignore": "hidden.py\n"})
    index = await make_index(root)
    for at in range(20):
        await index.document_changed("pkg/mod5.py", f"def typing_{at}():\n    pass\n")
    assert await waited_for(index, "typing_19") == {"pkg/mod5.py"}
    assert [one.name for one in (await index.symbols(path="pkg/mod5.py")).definitions] == ["typing_19"]
    assert not (await index.symbols("function_5")).definitions

    write_tree(root, {"pkg/mod5.py": "def on_disk():\n    pass\n"})
    await index.files_changed(["pkg/mod5.py"])
    assert await names(index, "on_disk") == set(), "the file won over the open document"
    await index.document_changed("unsaved/new file.py", "def never_saved(): pass\n")
    await index.document_changed("hidden.py", "def ignored_document(): pass\n")
    await index.document_changed("/elsewhere/x.py", "def outside_document(): pass\n")
    await index.document_changed("pkg/mod6.py", "lone \ud800 surrogate \0 and NUL\n")
    assert await names(index, "never_saved") == {"unsaved/new file.py"}
    assert await names(index, "ignored_document outside_document") == set()

    await index.document_closed("pkg/mod5.py")
    await index.document_closed("unsaved/new file.py")
    await index.document_closed("pkg/mod6.py")
    await index.document_closed("never/opened.py")
    assert await names(index, "on_disk") == {"pkg/mod5.py"}
    assert await names(index, "never_saved typing_19") == set()
    assert await names(index, "function_6") == {"pkg/mod6.py"}

    await index.document_changed("pkg/mod5.py", "def left_open(): pass\n")
    await index.settled()
    await index.stop()
    again = await make_index(root)
    assert await names(again, "left_open") == set(), "an unsaved text outlived its editor"
    assert await names(again, "on_disk") == {"pkg/mod5.py"}


async def test_ignore_rules_apply_when_they_change(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root)
    write_tree(root, {".codeforgeignore": "mod1*.py\n"})
    await index.files_changed([".codeforgeignore"])
    await index.settled()
    await index.build()
    assert await names(index, "function_11") == set()
    assert await names(index, "function_21") == {"pkg/mod21.py"}


async def test_answers_while_building_and_a_burst_is_one_batch(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root, build=False)
    first = await index.search("function_7")
    assert first.hits[0].path == "pkg/mod7.py"
    assert first.legs in {("scan",), ("bm25",)}
    seen: list[float] = []
    await index.build(on_progress=lambda status: seen.append(status.percent))
    assert seen[-1] == 100
    many = {f"gen/g{at}.py": f"def burst_{at}(): pass\n" for at in range(300)}
    write_tree(root, many)
    sent: list[JsonObject] = []
    call = index._writer.call

    async def counted(method: str, params: JsonObject, *, repeat: bool = False) -> object:
        sent.append({"method": method})
        return await call(method, params, repeat=repeat)

    index._writer.call = counted  # type: ignore[method-assign]
    started = time.perf_counter()
    await index.files_changed([*many, *(f"gone/{at}.py" for at in range(10_000))])
    assert time.perf_counter() - started < 1.0
    assert await index.settled(30)
    assert len(sent) == 1
    await index.build()
    assert await names(index, "burst_299") == {"gen/g299.py"}
    assert index.status().files == len(FILES) + len(many)


async def test_a_damaged_database_and_segment_are_replaced(tmp_path: Path, make_index: MakeIndex) -> None:
    root, state = make_repository(tmp_path / "repo", FILES), tmp_path / "state"
    index = await make_index(root)
    segment = next((state / "segments").iterdir())
    await index.stop()

    (segment / "segment.arrays").write_bytes(b"nonsense")
    index = await make_index(root)
    async with asyncio.timeout(30):  # nobody has to ask for it
        while segment.exists():
            await asyncio.sleep(0.05)
    assert await names(index, "function_3") == {"pkg/mod3.py"}
    for _ in range(50):
        answer = await index.search("function_3")
        if answer.legs in WORDS:
            break
        await asyncio.sleep(0.1)
    assert answer.legs in WORDS, "the base segment was not written anew"
    await index.stop()

    data = bytearray((state / "index.db").read_bytes())
    data[100:5000] = os.urandom(4900)
    (state / "index.db").write_bytes(data)
    index = await make_index(root)
    assert await names(index, "function_3") == {"pkg/mod3.py"}
    assert list(state.glob("index.db.damaged-*"))
    await index.stop()

    (state / "index.db").write_bytes(b"")
    index = await make_index(root)
    assert await names(index, "function_3") == {"pkg/mod3.py"}


async def test_the_watcher_feeds_the_index(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES | {".gitignore": "ignored/\n", "ignored/x.py": "a = 1\n"})
    index = await make_index(root)
    batches: list[list[str]] = []

    async def changed(paths: object) -> None:
        batches.append(list(paths))  # type: ignore[call-overload]
        await index.files_changed(batches[-1])

    watcher = Watcher(root, changed)
    await watcher.start()
    await asyncio.sleep(1.0)

    async def until(query: str, wanted: set[str]) -> bool:
        for _ in range(100):
            if await names(index, query) == wanted:
                return True
            await asyncio.sleep(0.1)
        return False

    write_tree(
        root, {"pkg/watched.py": "def seen_by_watcher(): pass\n", "ignored/y.py": "def not_seen(): pass\n"}
    )
    assert await until("seen_by_watcher", {"pkg/watched.py"})
    write_tree(root, {"new/deep/folder.py": "def in_new_folder(): pass\n"})
    assert await until("in_new_folder", {"new/deep/folder.py"})
    write_tree(root, {"new/deep/later.py": "def made_later(): pass\n"})
    assert await until("made_later", {"new/deep/later.py"})
    (root / "pkg/watched.py").unlink()
    assert await until("seen_by_watcher", set())
    shutil.rmtree(root)
    assert await until("function_3", set()), "a deleted workspace is still searched"
    await watcher.stop()
    assert not any("ignored/" in path or ".git/" in path for batch in batches for path in batch)


async def test_what_changes_before_the_watches_are_set_is_found(
    tmp_path: Path, make_index: MakeIndex
) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    await asyncio.sleep(0.1)
    index = await make_index(root)
    batches: list[list[str]] = []

    async def changed(paths: object) -> None:
        batches.append(list(paths))  # type: ignore[call-overload]
        await index.files_changed(batches[-1])

    async def found(name: str, path: str) -> bool:
        watcher = Watcher(root, changed, since=index.started_at)
        await watcher.start()
        for _ in range(100):
            if await names(index, name) == {path}:
                break
            await asyncio.sleep(0.1)
        await watcher.stop()
        return await names(index, name) == {path}

    (root / "pkg/mod3.py").write_text("def came_early(): pass\n")
    os.utime(root / "pkg/mod3.py", (1, 1))  # as a copy that keeps the times of its original
    assert await found("came_early", "pkg/mod3.py")
    assert batches == [["pkg/mod3.py"]]
    write_tree(root, {"pkg/early.py": "def made_early(): pass\n"})
    assert await found("made_early", "pkg/early.py")


async def test_the_first_map_of_a_small_repository_waits_until_it_is_whole(
    tmp_path: Path, make_index: MakeIndex
) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root, build=False)
    drawn, told = await asyncio.gather(index.repo_map(8000), index.symbols("function_7"))
    assert (drawn.symbols, drawn.files) == (len(FILES), len(FILES))
    assert [one.path for one in told.definitions] == ["pkg/mod7.py"]
