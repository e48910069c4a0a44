"""When something fails: a full disk, missing rights, no git, a clock set back, another process at the same time.

Numbers in brackets are those of the fault classes that checkpoints are held to.
"""

from __future__ import annotations

import os
import shutil
import stat
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from codeforge_ls.checkpoints import Checkpoints
from tests.checkpoints.remote import Remote
from tests.checkpoints.scene import dot_git, git, repository, take, tree, write

# Root without the rights that make permissions void; anybody else has none of them.
POWERLESS = (
    ("setpriv", "--bounding-set=-dac_override,-dac_read_search,-fowner,-linux_immutable")
    if os.geteuid() == 0
    else ()
)
MEGABYTE = 1 << 20


def small_disk(folder: Path, size: int) -> tuple[str, ...]:
    """Run something with a file system of so many bytes at ``folder``."""
    return ("bwrap", "--dev-bind", "/", "/", "--size", str(size), "--perms", "0700", "--tmpfs", str(folder))


def left_behind(state: Path) -> list[Path]:
    return [path for path in (state / "shadow.git").rglob("*") if path.name.startswith("tmp_")]


def test_a_full_disk_under_the_shadow_repository(tmp_path: Path) -> None:
    """[5] The action is refused, nothing is left that keeps the disk full, and the next checkpoint works."""
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    state.mkdir()
    git_before = dot_git(ws / ".git")
    with Remote(ws, state, under=small_disk(state, 6 * MEGABYTE)) as small:
        first = small("take", "run:1")
        assert "commit" in first, first
        write(ws / "large.bin", os.urandom(9 * MEGABYTE))
        refused = small("take", "run:1")
        assert refused["error"] in {"git_failed", "unavailable"}, refused
        assert refused["says"]
        assert small("restore", first)["error"] in {
            "git_failed",
            "unavailable",
        }  # no safety checkpoint, no restore
        assert (ws / "large.bin").stat().st_size == 9 * MEGABYTE
        write(ws / "large.bin", os.urandom(4 * MEGABYTE))  # fits only if the first try left nothing
        again = small("take", "run:1")
        assert "commit" in again, again
        (ws / "large.bin").unlink()
        write(ws / "README", "agent\n")
        assert small("known") == [first["id"], again["id"]]
        assert small("restore", first)["changed"] == ["README"]
    assert dot_git(ws / ".git") == git_before


def test_a_full_disk_under_the_workspace(tmp_path: Path) -> None:
    """[5] What cannot be written stays what it is, whole, and is said; with space again the rest comes back."""
    outside, ws, state = tmp_path / "outside", tmp_path / "ws", tmp_path / "state"
    ws.mkdir()
    repository(outside / "ws")
    write(outside / "ws/one.bin", os.urandom(2 * MEGABYTE))
    write(outside / "ws/two.bin", os.urandom(2 * MEGABYTE))
    script = f"""
import shutil, sys
from pathlib import Path
from tests.checkpoints.scene import tree
ws = Path({str(ws)!r})
shutil.copytree({str(outside / "ws")!r}, ws, dirs_exist_ok=True, symlinks=True)
before = tree(ws)
import asyncio, os
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import CheckpointKind
async def main():
    checkpoints = Checkpoints(ws, Path({str(state)!r}))
    first = await checkpoints.create("run:1", label="", kind=CheckpointKind.ACTION)
    for name in ("one.bin", "two.bin", "README"):
        (ws / name).unlink()
    (ws / ".gitignore").write_text("filler\\n")
    with (ws / "filler").open("wb") as filler:
        try:
            while True:
                filler.write(os.urandom(1 << 16))
                filler.flush()
        except OSError:
            pass
    with (ws / "filler").open("r+b") as filler:
        filler.truncate(filler.seek(0, 2) - (3 << 20))  # room for one of the two
    some = await checkpoints.restore(first, "run:1")
    assert some.conflicts == ("two.bin",), some
    assert not (ws / "two.bin").exists()
    assert (ws / "one.bin").read_bytes() == before[b"one.bin"][2]
    assert not [path for path in ws.iterdir() if path.name.startswith(".codeforge-")]
    (ws / "filler").unlink()
    rest = await checkpoints.restore(first, "run:1")
    assert (rest.changed, rest.conflicts) == (("two.bin",), ()), rest
    assert tree(ws) == before
asyncio.run(main())
print("held")
"""
    done = subprocess.run(
        [*small_disk(ws, 9 * MEGABYTE), sys.executable, "-c", script],
        cwd=Path(__file__).parents[2],
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert done.stdout.endswith("held\n"), done.stderr[-3000:]


def test_a_full_disk_under_the_journal(tmp_path: Path) -> None:
    """[5] A restore that cannot write down what it is about to do does nothing."""
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    first_tree = tree(ws)
    with Remote(ws, state) as whole:
        first = whole("take", "run:1")
        write(ws / "README", "agent\n")
        whole("take", "run:1")
    own, kept = state / "shadow.git/codeforge", tmp_path / "kept"
    shutil.move(own, kept)
    own.mkdir()
    fill = f'cp {kept}/* {own}; dd if=/dev/zero of={own}/filler bs=4096 2>/dev/null; exec "$@"'
    with Remote(ws, state, under=(*small_disk(own, 96 << 10), "sh", "-c", fill, "sh")) as full:
        changed = tree(ws)
        assert full("restore", first)["error"] == "unavailable"
        assert tree(ws) == changed
    shutil.rmtree(own)
    shutil.move(kept, own)
    with Remote(ws, state) as whole:
        assert whole("restore", first)["changed"] == ["README"]
    assert tree(ws) == first_tree


def test_what_may_not_be_read_or_written(tmp_path: Path) -> None:
    """[6] Read-only files come back, read-only folders and foreign files are said, and .git may be read-only."""
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    write(ws / "read-only.txt", "mine\n", 0o444)
    write(ws / "locked/inside.txt", "mine\n")
    write(ws / "secret.txt", "not for this process\n", 0o000)
    write(ws / "fixed.txt", "mounted\n")
    for folder, _, _ in os.walk(ws / ".git"):
        os.chmod(folder, 0o555)
    git_before = dot_git(ws / ".git")
    # A file that is mounted can be neither replaced nor removed, like an immutable one.
    fixed = ("bwrap", "--dev-bind", "/", "/", "--ro-bind", str(ws / "fixed.txt"), str(ws / "fixed.txt"))
    with Remote(ws, state, under=(*fixed, *POWERLESS)) as powerless:
        first = powerless("take", "run:1")
        assert [(entry["path"], entry["reason"]) for entry in first["skipped"]] == [
            ("secret.txt", "unreadable")
        ]
        (ws / "read-only.txt").chmod(0o644)
        write(ws / "read-only.txt", "agent\n", 0o444)
        write(ws / "locked/inside.txt", "agent\n")
        write(ws / "fixed.txt", "agent\n")
        (ws / "locked").chmod(0o555)
        restored = powerless("restore", first)
        assert restored["changed"] == ["read-only.txt"]
        assert restored["conflicts"] == ["fixed.txt", "locked/inside.txt"]
        assert (ws / "read-only.txt").read_text() == "mine\n"
        assert stat.S_IMODE((ws / "read-only.txt").stat().st_mode) == 0o444
        assert (ws / "locked/inside.txt").read_text() == "agent\n"
        (ws / "locked").chmod(0o755)
        assert powerless("restore", first)["changed"] == ["locked/inside.txt"]
        for place in ("codeforge", "objects/pack"):
            folder = state / "shadow.git" / place
            folder.chmod(0o555)
            refused = powerless("take", "run:1")
            assert refused["error"] in {"git_failed", "unavailable"}, refused
            folder.chmod(0o700)
        assert "commit" in powerless("take", "run:1")
    assert (ws / "secret.txt").stat().st_size == 21
    assert dot_git(ws / ".git") == git_before
    for folder, _, _ in os.walk(ws / ".git"):
        os.chmod(folder, 0o755)


def test_without_git(tmp_path: Path) -> None:
    """[8] One sentence that says what to install; what was there stays."""
    ws = repository(tmp_path / "ws")
    before = tree(ws)
    environment = {key: value for key, value in os.environ.items() if not key.startswith("GIT_")}
    with Remote(ws, tmp_path / "state", env=environment | {"PATH": str(tmp_path)}) as lonely:
        refused = lonely("take", "run:1")
    assert refused["error"] == "git_failed"
    assert "Install git" in refused["says"]
    assert tree(ws) == before


def test_two_processes_on_one_workspace(tmp_path: Path) -> None:
    """[2] Both take, restore and clean up at once: each waits for the other, and nothing is lost."""
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    with Remote(ws, state) as one, Remote(ws, state) as two:
        first, before = one("take", "run:0"), tree(ws)
        taken: list[Any] = []
        for number in range(6):
            write(ws / f"src/m{number}.py", f"agent {number}\n")
            for which in (one, two):
                which.send("take", f"run:{number % 2}")
                which.send("cleanup")
            for which in (one, two):
                taken.append(which.receive())
                assert which.receive() is None
        assert sorted(one("known")) == sorted(made["id"] for made in [first, *taken])
        one.send("restore", first)
        two.send("restore", taken[-1])
        first_done, second_done = one.receive(), two.receive()
        assert (first_done["conflicts"], second_done["conflicts"]) == ([], [])
        two("restore", first)
    assert tree(ws) == before


async def test_a_clock_that_is_set_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """[17] Checkpoints keep their order, and no edit is taken for an old one."""
    ws = repository(tmp_path / "ws")
    write(ws / ".gitignore", "*.log\n")
    write(ws / "named.log", "before anybody named it\n")
    checkpoints = Checkpoints(ws, tmp_path / "state")
    first = await take(checkpoints)
    before = tree(ws)
    real, real_ns = time.time, time.time_ns
    monkeypatch.setattr(time, "time", lambda: real() - 3600)
    monkeypatch.setattr(time, "time_ns", lambda: real_ns() - 3600 * 10**9)
    checkpoints.note([])
    second = await take(checkpoints, force=["named.log"], nothing_else=True)
    status = (ws / "src/m4.py").stat()
    write(ws / "src/m4.py", "value = 9\n")
    os.utime(ws / "src/m4.py", ns=(status.st_atime_ns, status.st_mtime_ns))
    write(ws / "named.log", "agent\n")
    third = await take(checkpoints)
    assert [made.id for made in await checkpoints.known()] == [first.id, second.id, third.id]
    restored = await checkpoints.restore(first, "run:1")
    assert restored.changed == ("named.log", "src/m4.py")
    assert tree(ws) == before


def test_names_of_leftovers_are_those_of_git(tmp_path: Path) -> None:
    """[5] What git leaves when it dies is swept by the next who comes."""
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    with Remote(ws, state) as one:
        one("take", "run:1")
        for name in (
            "objects/pack/tmp_pack_x",
            "objects/pack/tmp_idx_x",
            "objects/17/tmp_obj_x",
            "objects/tmp_obj_x",
        ):
            write(state / "shadow.git" / name, b"x" * 100)
        for lock in ("refs/codeforge/x.lock", "packed-refs.lock", "HEAD.lock", "codeforge/busy"):
            write(state / "shadow.git" / lock, "")
        git_before = git(ws, "status", "--porcelain")
        write(ws / "README", "agent\n")
        assert "commit" in one("take", "run:1")
        assert not left_behind(state)
        assert not list((state / "shadow.git").rglob("*.lock"))
    assert git(ws, "status", "--porcelain") != git_before
