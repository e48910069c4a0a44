"""The git wrapper: reads that execute nothing of the repository, bounded, and dead when nobody waits any more."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from codeforge_ls import git
from codeforge_ls.model.errors import NotFound
from tests.checkpoints.scene import dot_git, repository, write
from tests.checkpoints.scene import git as real_git


async def test_reads_of_a_hostile_repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ws = repository(tmp_path / "ws")
    marker = tmp_path / "executed"
    script = write(tmp_path / "evil", f"#!/bin/sh\necho x >> {marker}\ncat\n", 0o755)
    write(ws / ".gitattributes", "* filter=a=b diff=evil\n")
    for key in (
        "core.fsmonitor",
        "filter.a=b.clean",
        "filter.a=b.process",
        "diff.evil.textconv",
        "core.pager",
    ):
        real_git(ws, "config", key, str(script))
    with (ws / ".git/config").open("a") as config:  # `git config` cannot write such a name, git reads it
        config.write(f'[filter "a=b"]\n clean = {script}\n required = true\n[diff]\n external = {script}\n')
    shutil.copy(script, ws / ".git/hooks/post-index-change")
    monkeypatch.setenv("GIT_EXTERNAL_DIFF", str(script))
    os.utime(ws / "src/m4.py", (1_000_000_000, 1_000_000_000))  # looks changed to the index, is not
    before = dot_git(ws / ".git")
    reader = git.Git(ws)
    assert len(await reader.head()) == 40
    assert await reader.branch() == "main"
    codes = {entry.path: entry.code for entry in await reader.status()}
    assert codes["src/m0.py"] == "MM"
    assert codes["notes.txt"] == "??"
    assert "src/m4.py" not in codes
    assert b"+unstaged = 3" in await reader.run("diff")
    assert dot_git(ws / ".git") == before
    assert not marker.exists()
    with contextlib.suppress(subprocess.CalledProcessError):
        real_git(ws, "status")
    assert marker.exists()  # the trap was armed

    real_git(tmp_path, "init", "-q", "-b", "fresh", "unborn")
    unborn = git.Git(tmp_path / "unborn")
    assert (await unborn.head(), await unborn.branch(), await unborn.status()) == ("", "fresh", [])
    with pytest.raises(git.GitFailed, match="not a git repository"):
        await git.Git(tmp_path).head()
    with pytest.raises(NotFound):
        await git.Git(tmp_path / "missing").head()


def test_worktree_root(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    real_git(ws, "worktree", "add", "-q", "-b", "side", str(tmp_path / "side"))
    real_git(ws, "config", "core.worktree", str(tmp_path / "elsewhere"))
    assert git.worktree_root(ws / "src") == ws
    assert git.worktree_root(tmp_path / "side/src") == tmp_path / "side"
    assert git.worktree_root(tmp_path) is None
    (tmp_path / "planted/.git").mkdir(parents=True)
    assert git.worktree_root(tmp_path / "planted") is None


async def test_hanging_calls_are_bounded_cancelled_and_timed_out(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    (ws / "src/.gitignore").unlink(missing_ok=True)
    os.mkfifo(ws / "src/.gitignore")  # git waits for a writer for ever
    reader = git.Git(ws)
    asked = ("ls-files", "--others", "--exclude-standard")
    with pytest.raises(git.GitFailed, match=r"did not end within 0.3 s"):
        await reader.run(*asked, timeout=0.3)
    tasks = [asyncio.create_task(reader.run(*asked)) for _ in range(9)]
    await asyncio.sleep(0.5)
    assert len(_children()) == 5
    for task in tasks:
        task.cancel()
    started = time.monotonic()
    outcomes = await asyncio.gather(*tasks, return_exceptions=True)
    assert all(isinstance(outcome, asyncio.CancelledError) for outcome in outcomes)
    assert time.monotonic() - started < 1
    assert await asyncio.wait_for(reader.head(), 5)  # the slots are free again
    assert _children() == []


def _children() -> list[str]:
    listed = subprocess.run(
        ["ps", "-o", "pid=,args=", "--ppid", str(os.getpid())],
        check=False,
        capture_output=True,
        text=True,
        timeout=10,
    )
    return [line for line in listed.stdout.splitlines() if "ls-files" in line]
