"""Checkpoints are listed, read and compared from the shadow repository alone; they are cheap, and old ones go."""

from __future__ import annotations

import asyncio
import shutil
import subprocess
import time
from pathlib import Path

import pytest

from codeforge_ls.checkpoints import Checkpoints, retention
from codeforge_ls.checkpoints.shadow import Shadow
from codeforge_ls.git import Cancellation
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from codeforge_ls.model.errors import NotFound, Unavailable
from tests.checkpoints.scene import repository, take, tree, write


async def test_thirty_checkpoints_are_quick_and_known_without_a_database(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    checkpoints = Checkpoints(ws, tmp_path / "state")
    made, pictures = [], []
    started = time.monotonic()
    for number in range(30):
        write(ws / "src/m3.py", f"step = {number}\n")
        made.append(await take(checkpoints, f"run:{number % 3}", call_id=f"call-{number}"))
        pictures.append(tree(ws))
    elapsed = time.monotonic() - started
    print(f"30 checkpoints: {elapsed:.2f} s")
    assert elapsed < 20
    await checkpoints.close()
    with pytest.raises(Unavailable):
        await take(checkpoints)

    reopened = Checkpoints(ws, tmp_path / "state")
    assert await reopened.known() == made
    assert await reopened.read(made[7], "src/m3.py") == b"step = 7\n"
    assert await reopened.read(made[7], str(ws / "src/m3.py")) == b"step = 7\n"
    for missing in ("src", "nothing.py", "../ws2/x"):
        with pytest.raises(NotFound):
            await reopened.read(made[7], missing)
    text = await reopened.diff(made[7], made[9])
    assert text.startswith("diff --git a/src/m3.py b/src/m3.py")
    assert "-step = 7\n+step = 9\n" in text
    assert "+step = 29\n" in await reopened.diff(made[0])
    for number in (12, 0, 29):
        await reopened.restore(made[number], "run:0")
        assert tree(ws) == pictures[number]
    with pytest.raises(NotFound):
        await reopened.restore(made[0].model_copy(update={"commit": "0" * 40}), "run:0")
    with pytest.raises(NotFound):
        await reopened.read(made[0].model_copy(update={"commit": "--upload-pack=x"}), "a")


async def test_a_cancelled_snapshot_leaves_nothing_broken(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    for number in range(400):
        write(ws / f"data/f{number}.bin", bytes([number % 251]) * 20_000 + str(number).encode())
    checkpoints = Checkpoints(ws, tmp_path / "state")
    longest = 0.0
    for delay in (0.0, 0.02, 0.06, 0.12, 0.2, 0.3):
        task = asyncio.create_task(take(checkpoints))
        await asyncio.sleep(delay)
        task.cancel()
        before = time.monotonic()
        await asyncio.gather(task, return_exceptions=True)
        longest = max(longest, time.monotonic() - before)
    assert longest < 3
    assert not list((tmp_path / "state/shadow.git/codeforge").glob("*.lock"))
    assert not (tmp_path / "state/shadow.git/codeforge/busy").exists()
    before_tree = tree(ws)
    first, second = await asyncio.gather(take(checkpoints, "run:1"), take(checkpoints, "run:1"))
    shutil.rmtree(ws / "data")
    await checkpoints.restore(first, "run:1")
    assert tree(ws) == before_tree
    assert await checkpoints.diff(first, second) == ""
    subprocess.run(
        ["git", "fsck", "--strict"],
        cwd=tmp_path / "state/shadow.git",
        check=True,
        capture_output=True,
        timeout=60,
    )


async def test_two_openers_share_one_state_and_a_damaged_cache_is_rebuilt(tmp_path: Path) -> None:
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    one, two = Checkpoints(ws, state), Checkpoints(ws, state)
    made = await asyncio.gather(
        *(take(which, f"run:{number}") for number, which in enumerate([one, two] * 4))
    )
    assert {checkpoint.id for checkpoint in await one.known()} == {checkpoint.id for checkpoint in made}
    own = state / "shadow.git/codeforge"
    before = tree(ws)
    for damage in ("stamps-root", "index-root"):
        write(own / damage, b"garbage" * 50)
        write(ws / "README", "agent\n")
        await two.restore(made[0], "run:0")
        assert tree(ws) == before


async def test_a_state_folder_that_cannot_be_written_is_a_clear_error(tmp_path: Path) -> None:
    ws = repository(tmp_path / "ws")
    write(tmp_path / "state", "a file where the folder should be\n")
    with pytest.raises(Unavailable, match="cannot be used"):
        await take(Checkpoints(ws, tmp_path / "state"))


async def test_cleanup_drops_old_and_oversized_streams_and_keeps_the_rest_whole(tmp_path: Path) -> None:
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    checkpoints = Checkpoints(ws, state)
    kept: list[Checkpoint] = []
    for number in range(8):
        write(ws / "src/m3.py", f"step = {number}\n")
        kept.append(await checkpoints.create(f"run:{number}", label="", kind=CheckpointKind.MANUAL))
    picture = tree(ws)
    await checkpoints.cleanup(30, 1)  # all are younger than an hour: the quota waits
    assert len(await checkpoints.known()) == 8
    shadow = Shadow(state / "shadow.git", Cancellation())
    soon = time.time() + 7200
    with shadow.locked():
        assert len(retention.cleanup(shadow, 30, shadow.size() - 1, soon)) == 1  # one is enough
        assert retention.cleanup(shadow, 30, 1 << 30, soon) == []
    assert [checkpoint.id for checkpoint in await checkpoints.known()] == [entry.id for entry in kept[1:]]
    with shadow.locked():
        assert len(retention.cleanup(shadow, 30, 1, soon)) == 6  # the newest stays whatever the quota
    await checkpoints.cleanup(0, 1 << 30)
    assert await checkpoints.known() == []
    with pytest.raises(NotFound):
        await checkpoints.restore(kept[0], "run:0")
    fresh = await take(checkpoints)  # the index outlived the prune
    write(ws / "README", "agent\n")
    (ws / "notes.txt").unlink()
    await checkpoints.restore(fresh, "run:1")
    assert tree(ws) == picture
    done = subprocess.run(
        ["git", "fsck", "--strict", "--full"],
        check=False,
        cwd=state / "shadow.git",
        capture_output=True,
        timeout=60,
    )
    assert done.returncode == 0, done.stderr
