"""Damage and odd places: a full disk, files cut short, ignored floods, a root that goes. No crash, no hole."""

from __future__ import annotations

import asyncio
import os
import random
import resource
import shutil
import signal
import time
from pathlib import Path

import pytest

from codeforge_ls.index import Index
from codeforge_ls.index.explain import explain
from codeforge_ls.index.files import list_files
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.watch import watched_folders
from tests.index.conftest import MakeIndex, make_repository, write_tree

FILES = {f"pkg/mod{at}.py": f"def function_{at}(value):\n    return helper_{at}(value)\n" for at in range(40)}


async def finds(index: Index, name: str, path: str, by: str = "bm25") -> bool:
    """Whether a search by this leg finds a name in a file within a few seconds."""
    for _ in range(150):
        answer = await index.search(name)
        if by in answer.legs and path in {hit.path for hit in answer.hits if name in hit.text}:
            return True
        await asyncio.sleep(0.1)
    return False


async def test_every_file_of_a_segment_may_be_cut_short_or_go(tmp_path: Path, make_index: MakeIndex) -> None:
    root, state = make_repository(tmp_path / "repo", FILES), tmp_path / "state"
    index = await make_index(root)
    await index.stop()
    (segment,) = (state / "segments").iterdir()
    for name in sorted(file.name for file in segment.iterdir()):
        for share in (0.0, 0.1, 0.5, 0.99):
            (segment,) = (state / "segments").iterdir()
            file = segment / name
            if share and file.exists():
                file.write_bytes(file.read_bytes()[: int(share * file.stat().st_size)])
            else:
                file.unlink(missing_ok=True)
            index = await make_index(root)
            assert await finds(index, "function_3", "pkg/mod3.py"), (name, share)
            await index.stop()
    (state / "index.db").write_bytes((state / "index.db").read_bytes()[:5000])
    index = await make_index(root)
    assert await finds(index, "function_3", "pkg/mod3.py")
    assert index.status().files == len(FILES)


async def test_a_full_disk_is_survived(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    try:  # the workers inherit it: no file may grow beyond 60 kB, as on a full disk
        resource.setrlimit(resource.RLIMIT_FSIZE, (60_000, before[1]))
        index = await make_index(root, build=False)
        answer = await index.search("function_3")
        assert "pkg/mod3.py" in {hit.path for hit in answer.hits}, "no answer without room on the disk"
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)
    await index.stop()
    again = await make_index(root)
    assert again.status().files == len(FILES)
    assert await finds(again, "function_3", "pkg/mod3.py")


def test_an_ignored_flood_costs_no_walk(tmp_path: Path) -> None:
    root = make_repository(tmp_path / "repo", {"a.py": "x = 1\n", ".gitignore": "out/\n"})
    plain = tmp_path / "plain"
    write_tree(plain, {"a.py": "x = 1\n", ".codeforgeignore": "out/\n"})
    try:
        for top in (root, plain):
            for folder in range(100):
                (top / f"out/{folder}").mkdir(parents=True)
                first = f"{top}/out/{folder}/first.py"
                Path(first).touch()
                for at in range(999):  # links, as they take a tenth of the time
                    os.link(first, f"{top}/out/{folder}/{at}.py")
            (top / "cached/deep").mkdir(parents=True)
            (top / "cached/deep/b.py").touch()
            (top / "src/sub").mkdir(parents=True)
            started = time.process_time()
            listing = list_files(top, Limits(exclude=("cached/",)))
            folders = watched_folders(top, ("cached/",))
            assert time.process_time() - started < 0.25, "ignored folders were walked"
            assert {path for path in listing.files if path.endswith(".py")} == {"a.py"}
            assert listing.skipped == {}
            assert sorted(folders) == [str(top), str(top / "src"), str(top / "src/sub")]
    finally:  # pytest keeps its folders for a while
        shutil.rmtree(root)
        shutil.rmtree(plain)


async def test_exclude_and_its_explanation(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(
        tmp_path / "repo", FILES | {".gitignore": "# ours\n*.tmp.py\n", "a.tmp.py": "x = 1\n"}
    )
    index = Index(root, tmp_path / "state", Limits(parsers=1, exclude=("mod1*.py", "/pkg/mod2.py")))
    await index.start()
    await index.build()
    assert index.status().files == len(FILES) + 1 - 12
    await index.files_changed(["pkg/mod2.py"])
    await index.document_changed("pkg/mod11.py", "def unsaved_but_excluded(): pass\n")
    await index.settled()
    assert not (await index.symbols("unsaved_but_excluded")).definitions
    why = await index.explain("pkg/mod2.py")
    assert (why.indexed, why.rule) == (False, "index.exclude")
    why = await index.explain("a.tmp.py")
    assert (why.indexed, why.rule) == (False, ".gitignore:2: *.tmp.py")
    await index.stop()


async def test_the_root_goes_and_comes_back(tmp_path: Path, make_index: MakeIndex) -> None:
    root = make_repository(tmp_path / "repo", FILES)
    index = await make_index(root)
    root.rename(tmp_path / "away")
    status = await index.build()
    assert (status.files, (await index.search("function_3")).hits) == (0, ())
    (tmp_path / "away").rename(root)
    assert (await index.build()).files == len(FILES)
    assert await finds(index, "function_3", "pkg/mod3.py")
    # A clock set back: older time stamps are differences like any other.
    write_tree(root, {"pkg/mod3.py": "def written_in_the_past(): pass\n"})
    os.utime(root / "pkg/mod3.py", (1, 1))
    await index.build()
    assert await finds(index, "written_in_the_past", "pkg/mod3.py")
    shutil.rmtree(root)


@pytest.mark.parametrize("seed", range(2))
async def test_workers_killed_at_any_moment_leave_no_hole(
    seed: int, tmp_path: Path, make_index: MakeIndex
) -> None:
    many = {f"m{at}.py": f"def big_{at}(): pass\n" * 20 for at in range(300)}
    root = make_repository(tmp_path / "repo", many)
    index = await make_index(root, build=False)
    chance = random.Random(seed)
    for _ in range(2):
        while "index" not in index.worker_pids():
            await asyncio.sleep(0.02)
        await asyncio.sleep(chance.uniform(0.0, 1.5))
        for pid in index.worker_pids().values():
            os.kill(pid, signal.SIGKILL)
    status = await index.build()
    assert status.files == len(many)
    assert await finds(index, "big_299", "m299.py")
    assert explain(root, Limits(), tmp_path / "state/index.db", "m7.py")["indexed"] is True
