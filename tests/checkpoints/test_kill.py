"""``kill -9`` at any moment: no torn file, nothing lost, the next call works without anybody's help."""

from __future__ import annotations

import os
import random
import subprocess
import sys
import time
from pathlib import Path

import pytest

from codeforge_ls.checkpoints import Checkpoints
from tests.checkpoints.scene import dot_git, repository, take, tree, write

ROOT = Path(__file__).parents[2]
KILLS = int(os.environ.get("CODEFORGE_TEST_KILLS", "5"))


def _kill_during(what: str, ws: Path, state: Path, delay: float) -> bool:
    """Start the process, let it begin, kill it after ``delay`` s; whether it was still at work."""
    argv = [sys.executable, "-m", "tests.checkpoints.killed", what, str(ws), str(state)]
    with subprocess.Popen(argv, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        time.sleep(delay)
        child.kill()
        return "done" not in child.stdout.read()


def _change(ws: Path, generation: int) -> None:
    for number in range(60):
        write(ws / f"data/d{number % 7}/f{number}.txt", f"generation {generation} file {number}\n" * 400)
    write(ws / f"made/by/{generation}.txt", "new\n")
    (ws / "README").unlink(missing_ok=True)


@pytest.mark.timeout(300)
@pytest.mark.parametrize("what", ["create", "restore"])
async def test_killed_and_used_again(tmp_path: Path, what: str) -> None:
    seed = random.randrange(1 << 32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    _change(ws, 0)
    write(ws / "README", "back\n")
    checkpoints = Checkpoints(ws, state)
    first = await take(checkpoints, "run:1")
    wanted, git_before = tree(ws), dot_git(ws / ".git")
    at_work = 0
    for kill in range(1, KILLS + 1):
        _change(ws, kill)
        changed = tree(ws)
        at_work += _kill_during(what, ws, state, chance.uniform(0.0, 0.1 if what == "create" else 0.2))
        assert dot_git(ws / ".git") == git_before
        for path, content in tree(ws).items():
            leftover = path.rpartition(b"/")[2].startswith(b".codeforge-")
            assert leftover or content in (wanted.get(path), changed.get(path), ("empty folder",)), path
        finished = await checkpoints.recover()
        if finished is not None:
            assert (finished.checkpoint_id, finished.conflicts) == (first.id, ())
        else:
            assert tree(ws) in (changed, wanted)
        restored = await checkpoints.restore(first, "run:1")
        assert not restored.conflicts
        assert tree(ws) == wanted
        assert first in await checkpoints.known()
        assert await checkpoints.recover() is None
    print(f"{at_work} of {KILLS} were at work")
    done = subprocess.run(
        ["git", "fsck", "--strict"], check=False, cwd=state / "shadow.git", capture_output=True, timeout=60
    )
    assert done.returncode == 0, done.stderr
    own = {path.name for path in (state / "shadow.git/codeforge").iterdir()}
    assert own == {"lock", "stamps-root", "user-root"}
