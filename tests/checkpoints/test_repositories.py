"""Whatever state the user's repository is in, a checkpoint comes back exactly and the repository is as it was.

Letters in brackets: E, the 27 edge classes that checkpoints are held to, F, the 19 classes of faults.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import subprocess
import threading
from collections.abc import Callable
from pathlib import Path

import pytest

from codeforge_ls.checkpoints import Checkpoints
from tests.checkpoints.scene import dot_git, git, repository, take, tree, write


def _plain(ws: Path) -> Path:
    return ws


def _detached(ws: Path) -> Path:
    git(ws, "checkout", "-q", "--detach", "HEAD")
    return ws


def _unborn(ws: Path) -> Path:
    git(ws, "checkout", "-q", "--orphan", "nothing")
    return ws


def _no_git(ws: Path) -> Path:
    shutil.rmtree(ws / ".git")
    return ws


def _linked_worktree(ws: Path) -> Path:
    side = ws.parent / "side"
    git(ws, "worktree", "add", "-q", "-b", "side", str(side))
    write(ws / ".git/info/exclude", "private.txt\n")
    write(side / "private.txt", "excluded by the main repository\n")
    return side


def _locked(*names: str) -> Callable[[Path], Path]:
    def prepare(ws: Path) -> Path:
        for name in names:
            write(ws / ".git" / name, "")
        return ws

    return prepare


def _in_progress(*command: str) -> Callable[[Path], Path]:
    """A merge, rebase or cherry-pick that stopped at a conflict."""

    def prepare(ws: Path) -> Path:
        git(ws, "stash", "-q", "--include-untracked")
        git(ws, "checkout", "-q", "-b", "other", "HEAD~1")
        write(ws / "README", "of the other branch\n")
        git(ws, "commit", "-q", "-am", "other")
        with contextlib.suppress(subprocess.CalledProcessError):
            git(ws, *command)
        assert "<<<<<<<" in (ws / "README").read_text()
        return ws

    return prepare


def _sparse_and_intent_to_add(ws: Path) -> Path:
    git(ws, "add", "--intent-to-add", "notes.txt")
    write(ws / "away/far.txt", "not checked out\n")
    git(ws, "add", "away")
    git(ws, "commit", "-q", "-m", "far", "away")
    git(ws, "sparse-checkout", "set", "--no-cone", "/*", "!away/")
    assert not (ws / "away").exists()
    return ws


def _split_index(ws: Path) -> Path:
    git(ws, "update-index", "--split-index")
    write(ws / "src/m3.py", "staged = 3\n")
    git(ws, "add", "src/m3.py")
    assert list((ws / ".git").glob("sharedindex.*"))
    return ws


def _sha256(ws: Path) -> Path:
    shutil.rmtree(ws / ".git")
    git(ws, "init", "-q", "-b", "main", "--object-format=sha256")
    git(ws, "add", "README", "src")
    git(ws, "commit", "-q", "-m", "first")
    return ws


def _unknown_format(ws: Path) -> Path:
    with (ws / ".git/config").open("a") as config:  # as a newer git writes it for references of another kind
        config.write("[core]\n\trepositoryformatversion = 1\n[extensions]\n\trefstorage = reftable\n")
    return ws


def _large_file_storage(ws: Path) -> Path:
    write(ws / ".gitattributes", "*.bin filter=lfs diff=lfs merge=lfs -text\n")
    pointer = f"version https://git-lfs.github.com/spec/v1\noid sha256:{'0' * 64}\nsize 5\n"
    write(ws / "asset.bin", pointer)
    for setting in ("clean", "smudge", "process"):
        git(ws, "config", f"filter.lfs.{setting}", f"git-lfs-that-is-absent {setting}")
    git(ws, "config", "filter.lfs.required", "true")
    return ws


def _partial_clone(ws: Path) -> Path:
    git(ws, "config", "uploadpack.allowFilter", "true")
    clone = ws.parent / "clone"
    git(ws, "clone", "-q", "--filter=blob:none", f"file://{ws}", str(clone))
    ws.rename(ws.parent / "gone")  # nobody is there to fetch from
    write(clone / "notes.txt", "untracked\n")
    return clone


def _watched_by_git(ws: Path) -> Path:
    script = write(ws.parent / "monitor", '#!/bin/sh\ntouch "$0.ran"\n', 0o755)
    git(ws, "config", "core.fsmonitor", str(script))
    git(ws, "config", "core.untrackedCache", "true")
    return ws


def _foreign_owner(ws: Path) -> Path:
    if os.geteuid() == 0:
        for path in (ws, *ws.rglob("*")):
            os.chown(path, 65534, 65534, follow_symlinks=False)
    return ws


def _bare_inside(ws: Path) -> Path:
    git(ws, "clone", "-q", "--bare", ".", "inside.git")
    return ws


SHAPES: dict[str, Callable[[Path], Path]] = {
    "staged, unstaged and untracked work [E1]": _plain,
    "unborn branch [E2, F8]": _unborn,
    "detached HEAD [E3, F8]": _detached,
    "no git folder [E4, F8]": _no_git,
    "linked worktree [E10, F8]": _linked_worktree,
    "locks held by somebody [E14, F7]": _locked("index.lock", "shallow.lock", "packed-refs.lock", "HEAD.lock"),
    "merge with a conflict [E15, F9]": _in_progress("merge", "main"),
    "rebase with a conflict [E15, F9]": _in_progress("rebase", "main"),
    "cherry-pick with a conflict [E15, F9]": _in_progress("cherry-pick", "main"),
    "sparse checkout and intent to add [E16, F10]": _sparse_and_intent_to_add,
    "split index [F10]": _split_index,
    "sha256 objects [F10]": _sha256,
    "a format that our git does not know [F10]": _unknown_format,
    "large file storage that is not installed [F10]": _large_file_storage,
    "partial clone without its origin [F10]": _partial_clone,
    "a file system monitor [F10]": _watched_by_git,
    "another owner [F8]": _foreign_owner,
    "a bare repository inside [F8]": _bare_inside,
}  # fmt: skip


def looked_at_by_the_user(ws: Path) -> dict[str, str]:
    """What the user's git says [F15]; where it can say anything."""
    said = {}
    for question in (
        "status --porcelain",
        "stash list",
        "log --all --oneline",
        "for-each-ref",
        "fsck --no-dangling",
    ):
        with contextlib.suppress(subprocess.CalledProcessError):
            said[question] = git(ws, "-c", "core.fsmonitor=false", *question.split())
    return said


@pytest.mark.parametrize("shape", SHAPES)
async def test_every_shape_of_repository(tmp_path: Path, shape: str) -> None:
    ws = SHAPES[shape](repository(tmp_path / "ws"))
    gits = [folder for folder in (ws / ".git", tmp_path / "ws/.git") if folder.is_dir()]
    said = looked_at_by_the_user(ws)
    before, git_before = tree(ws), [dot_git(folder) for folder in gits]
    (ws / "README").stat()
    checkpoints = Checkpoints(ws, tmp_path / "state")
    checkpoint = await take(checkpoints)
    whole = {path: os.lstat(os.fsencode(ws) + b"/" + path) for path in before}
    (ws / "README").unlink()
    write(ws / "src/m3.py", "agent\n")
    write(ws / "added.py", "agent\n")
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert restored.changed == ("README", "added.py", "src/m3.py")
    assert tree(ws) == before
    assert [dot_git(folder) for folder in gits] == git_before
    for path in before.keys() - {b"README", b"src/m3.py"}:  # [F14]
        now = os.lstat(os.fsencode(ws) + b"/" + path)
        assert (now.st_mtime_ns, now.st_ino) == (whole[path].st_mtime_ns, whole[path].st_ino)
    assert looked_at_by_the_user(ws) == said
    assert [dot_git(folder) for folder in gits] == git_before
    assert not (tmp_path / "monitor.ran").exists()
    if ws.name == "side":
        with pytest.raises(Exception, match="holds no such file"):
            await checkpoints.read(checkpoint, "private.txt")


async def test_rules_of_what_is_ignored_change_between(tmp_path: Path) -> None:
    """[E13] What was in the picture stays in it, what was not is not ours to delete."""
    ws = repository(tmp_path / "ws")
    write(ws / ".gitignore", "*.log\n")
    write(ws / "kept.txt", "in the picture\n")
    write(ws / "private.log", "not in the picture\n")
    before = tree(ws)
    checkpoints = Checkpoints(ws, tmp_path / "state")
    first = await take(checkpoints)
    write(ws / ".gitignore", "*.txt\n")
    write(ws / "kept.txt", "agent\n")
    write(ws / "private.log", "seen now\n")
    await take(checkpoints)
    restored = await checkpoints.restore(first, "run:1")
    assert restored.changed == (".gitignore", "kept.txt")
    before[b"private.log"] = ("file", 0o644, b"seen now\n")
    assert tree(ws) == before
    again = await checkpoints.restore(restored.safety, "run:1")
    assert again.changed == (".gitignore", "kept.txt")
    assert (ws / ".gitignore").read_text() == "*.txt\n"


async def test_the_users_repository_is_pruned_and_deleted(tmp_path: Path) -> None:
    """[E17, F3] Checkpoints hold their own bytes: nothing in them is borrowed from the user's objects."""
    ws = repository(tmp_path / "ws")
    before = tree(ws)
    checkpoints = Checkpoints(ws, tmp_path / "state")
    checkpoint = await take(checkpoints)
    git(ws, "reset", "-q", "--hard")
    git(ws, "reflog", "expire", "--expire=now", "--all")
    git(ws, "gc", "-q", "--prune=now")
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert not restored.conflicts
    assert tree(ws) == before
    shutil.rmtree(ws / ".git")
    write(ws / "src/m0.py", "agent\n")
    await checkpoints.restore(checkpoint, "run:1")
    assert tree(ws) == before


async def test_the_user_works_with_git_meanwhile(tmp_path: Path) -> None:
    """[E26, F3] Commits, branches, stashes, rebases and prunes during snapshots: neither disturbs the other."""
    ws = repository(tmp_path / "ws")
    git(ws, "add", "-A")
    git(ws, "commit", "-q", "-m", "all")
    git(ws, "branch", "side", "HEAD~1")
    stop, worked = threading.Event(), []

    def user() -> None:
        number = 0
        while not stop.is_set():
            number += 1
            write(ws / "user.txt", f"user {number}\n")
            git(ws, "add", "user.txt")
            git(ws, "commit", "-q", "-m", f"user {number}")
            write(ws / "user.txt", "stashed\n")
            git(ws, "stash", "-q")
            git(ws, "stash", "pop", "-q")
            git(ws, "checkout", "-q", "--", "user.txt")
            git(ws, "checkout", "-q", "side")
            git(ws, "checkout", "-q", "main")
            git(ws, "rebase", "-q", "side")
            git(ws, "gc", "-q", "--prune=now")
            worked.append(number)

    thread = threading.Thread(target=user)
    thread.start()
    checkpoints = Checkpoints(ws, tmp_path / "state")
    taken = []
    try:
        while len(taken) < 12 or (len(worked) < 2 and thread.is_alive()):
            taken.append(await take(checkpoints, f"run:{len(taken)}"))
            await asyncio.sleep(0.02)
    finally:
        stop.set()
        await asyncio.to_thread(thread.join)
    assert len(worked) >= 2, "the user's git failed"
    assert "dangling" not in git(ws, "fsck", "--strict", "--no-dangling")
    assert git(ws, "status", "--porcelain") == ""
    before = tree(ws)
    last = await take(checkpoints)
    for checkpoint in taken:
        await checkpoints.diff(checkpoint, last)
        assert await checkpoints.read(checkpoint, "src/m3.py") == b"value = 3\n"
    write(ws / "README", "agent\n")
    await checkpoints.restore(last, "run:1")
    assert tree(ws) == before
