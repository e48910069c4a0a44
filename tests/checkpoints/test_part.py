"""Checkpoints that look at a part: known paths before an edit, and named files in a folder that is no project."""

from __future__ import annotations

import asyncio
import os
import stat
import time
from pathlib import Path

import pytest

from codeforge_ls.checkpoints import Checkpoints, capture
from codeforge_ls.model.errors import LimitReached
from tests.checkpoints.scene import dot_git, repository, take, tree, write

CLOCK_TICK = 0.03  # seconds; time stamps of files lag behind the clock by one tick


async def test_known_paths_and_what_the_watch_tells_of(tmp_path: Path) -> None:
    """Every edit can be taken back, one by one, though only the first checkpoint looked at everything."""
    ws = repository(tmp_path / "ws")
    repository(ws / "vendor/inner")
    write(ws / ".gitignore", "*.log\n")
    write(ws / "named.log", "ignored until it is named\n", 0o600)
    git_before = dot_git(ws / ".git")
    checkpoints = Checkpoints(ws, tmp_path / "state")
    checkpoints.note([])
    pictures, made = [tree(ws)], [await take(checkpoints)]
    steps: list[tuple[str, str | None]] = [
        ("src/m0.py", "agent 0\n"),
        ("named.log", "agent 1\n"),
        ("vendor/inner/README", "agent 2\n"),
        ("new/deep/file.txt", "agent 3\n"),
        ("src/m1.py", None),
        ("src/m0.py", "agent 5\n"),
    ]
    for path, content in steps:
        made.append(await take(checkpoints, force=[path], nothing_else=True))
        pictures.append(tree(ws))
        (ws / path).unlink() if content is None else write(ws / path, content)
    for picture, checkpoint in reversed(list(zip(pictures, made, strict=True))):
        restored = await checkpoints.restore(checkpoint, "run:1")
        assert not restored.conflicts
        assert tree(ws) == picture
    assert dot_git(ws / ".git") == git_before

    whole = await take(checkpoints, force=["src/m2.py"], nothing_else=True)  # after a restore: everything
    write(ws / "src/m2.py", "agent\n")
    write(ws / "src/m3.py", "a person\n")
    checkpoints.note(["src/m3.py"])
    told = await take(checkpoints, force=["src/m2.py"], nothing_else=True)
    assert await checkpoints.read(told, "src/m3.py") == b"a person\n"
    write(ws / "src/m4.py", "somebody who was not noticed\n")
    checkpoints.note([""])
    told = await take(checkpoints, force=["src/m2.py"], nothing_else=True)
    assert await checkpoints.read(told, "src/m4.py") == b"somebody who was not noticed\n"
    await checkpoints.restore(whole, "run:1")
    assert tree(ws) == pictures[0]


async def test_what_no_one_told_of_is_left_alone_when_it_was_so_then(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    checkpoints = Checkpoints(ws, tmp_path / "state")
    checkpoints.note([])
    await take(checkpoints)
    write(ws / "src/m3.py", "a person, before\n")
    (ws / "src/m4.py").unlink()
    await asyncio.sleep(CLOCK_TICK)
    checkpoint = await take(checkpoints, force=["README"], nothing_else=True)
    await asyncio.sleep(CLOCK_TICK)
    before = tree(ws)
    write(ws / "README", "agent\n")
    restored = await checkpoints.restore(checkpoint, "run:1")
    assert restored.changed == ("README",)
    assert tree(ws) == before
    write(ws / "src/m5.py", "changed after, and not told of\n")
    assert (await checkpoints.restore(checkpoint, "run:1")).changed == ("src/m5.py",)
    assert tree(ws) == before


async def test_a_folder_that_is_no_project(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[F11] The files that edits name come back, no other is touched, and everybody is told why."""
    monkeypatch.setattr(capture, "MAX_NEW_FILES", 50)
    ws, state = tmp_path / "ws", tmp_path / "state"
    for number in range(60):
        write(ws / f"data/{number}.csv", f"{number}\n")
    write(ws / "notes.md", "first\n")
    write(ws / "run.sh", "#!/bin/sh\n", 0o750)
    checkpoints = Checkpoints(ws, state)
    assert checkpoints.report() == {"hold": "everything"}
    first = await take(checkpoints, force=["notes.md"])
    assert first.only_named == "62 files that are not ignored"
    assert checkpoints.report() == {"hold": "only files that edits named", "reason": first.only_named}
    write(ws / "notes.md", "agent\n")
    second = await take(checkpoints, force=["run.sh", "made.md"])
    write(ws / "run.sh", "agent\n", 0o640)
    write(ws / "made.md", "agent\n")
    write(ws / "data/7.csv", "somebody else\n")
    assert {change.path for change in await checkpoints.changed(second)} == {"run.sh", "made.md"}
    assert "somebody else" not in await checkpoints.diff(first)
    assert (await checkpoints.restore(second, "run:1")).changed == ("made.md", "run.sh")
    restored = await checkpoints.restore(first, "run:1")
    assert restored.changed == ("notes.md",)
    assert (ws / "notes.md").read_text() == "first\n"
    assert (ws / "run.sh").read_text() == "#!/bin/sh\n"
    assert stat.S_IMODE((ws / "run.sh").stat().st_mode) == 0o750
    assert not (ws / "made.md").exists()
    assert (ws / "data/7.csv").read_text() == "somebody else\n"
    await checkpoints.restore(restored.safety, "run:1")
    assert (ws / "notes.md").read_text() == "agent\n"
    size = sum(file.stat().st_size for file in (state / "shadow.git/objects").rglob("*") if file.is_file())
    assert size < 50_000

    monkeypatch.setattr(
        capture, "MAX_NEW_FILES", 1000
    )  # the data are ignored now, and the daemon begins anew
    again = Checkpoints(ws, state)
    whole = await take(again)
    assert whole.only_named == ""
    write(ws / "data/8.csv", "agent\n")
    write(ws / "notes.md", "agent again\n")
    assert (await again.restore(first, "run:1")).changed == ("notes.md",)
    assert (ws / "data/8.csv").read_text() == "agent\n"
    assert (await again.restore(whole, "run:1")).changed == ("data/8.csv", "notes.md")
    monkeypatch.setattr(capture, "MAX_NEW_FILES", 50)
    for number in range(60):
        write(ws / f"more/{number}.csv", f"{number}\n")
    shrunk = Checkpoints(ws, state)
    write(ws / "data/8.csv", "agent\n")
    write(ws / "notes.md", "agent again\n")
    assert (await shrunk.restore(whole, "run:1")).changed == ("notes.md",)
    assert (ws / "data/8.csv").read_text() == "agent\n"
    with pytest.raises(LimitReached, match="compared as a whole"):
        await shrunk.diff(whole)


async def test_ready_before_somebody_waits_and_progress_for_those_who_do(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    for number in range(600):
        write(ws / f"data/f{number}.bin", os.urandom(100_000))
    checkpoints = Checkpoints(ws, tmp_path / "state")
    checkpoints.note([])
    told: list[tuple[float | None, str]] = []
    with checkpoints.telling(lambda percent, message: told.append((percent, message))):
        checkpoints.prepare()
        checkpoints.prepare()  # once is enough
        while not (tmp_path / "state" / "shadow.git").exists():  # before that nobody waits for anything
            await asyncio.sleep(0.001)
        await checkpoints.recover()  # waits for it
    if told:  # it took longer than nobody notices
        assert all(message.startswith("checkpoint: ") and " of 60" in message for _, message in told)
        assert [percent for percent, _ in told] == sorted(percent or 0 for percent, _ in told)
    assert await checkpoints.known() == []
    began = time.process_time()
    checkpoint = await take(checkpoints, force=["README"], nothing_else=True)
    assert time.process_time() - began < 0.1
    assert await checkpoints.read(checkpoint, "data/f599.bin") == (ws / "data/f599.bin").read_bytes()
    checkpoints.prepare()
    await checkpoints.close()
    checkpoints.prepare()  # after the end: nothing
