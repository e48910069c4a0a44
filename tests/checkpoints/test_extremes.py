"""Very large, very deep, very many, very old: what no usual project has, and a checkpoint holds all the same."""

from __future__ import annotations

import os
import shutil
import socket
import stat
import subprocess
import time
from pathlib import Path

import pytest

from codeforge_ls import git
from codeforge_ls.checkpoints import Checkpoints, packing, retention
from codeforge_ls.checkpoints.shadow import Shadow
from tests.checkpoints.scene import repository, take, tree, write

GIGABYTE = 1 << 30


async def test_large_deep_and_special_files(tmp_path: Path) -> None:
    """[F11] What can be held is held, what cannot is said and left alone."""
    ws = repository(tmp_path / "ws")
    write(ws / ".gitignore", "ignored/\n")
    for number in range(20_000):
        path = ws / f"ignored/{number % 100}/{number}"
        if number < 100:
            path.parent.mkdir(parents=True)
        os.close(os.open(path, os.O_CREAT | os.O_WRONLY))
    with (ws / "huge.bin").open("wb") as handle:
        handle.truncate(GIGABYTE)
    os.mkfifo(ws / "pipe")
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(os.path.relpath(ws / "socket"))
    if os.geteuid() == 0:
        os.mknod(ws / "device", stat.S_IFCHR | 0o600, os.makedev(1, 3))
    deep = Path("d") / Path(*["d" * 9] * 350)
    (ws / deep).mkdir(parents=True)
    write(ws / deep / "file.txt", "deep\n")
    beyond = _beyond_the_longest_path(ws / "beyond")
    checkpoints = Checkpoints(ws, tmp_path / "state")
    began = time.process_time()
    first = await take(checkpoints)
    assert time.process_time() - began < 5
    assert [(entry.path, entry.reason) for entry in first.skipped] == [("huge.bin", "size")]
    write(ws / deep / "file.txt", "agent\n")
    shutil.rmtree(ws / "d" / ("d" * 9) / ("d" * 9))
    (ws / "ignored/0/0").write_text("agent\n")
    (ws / "pipe").unlink()
    restored = await checkpoints.restore(first, "run:1")
    assert restored.changed == (str(deep / "file.txt"),)
    assert (ws / deep / "file.txt").read_text() == "deep\n"
    assert (ws / "huge.bin").stat().st_size == GIGABYTE
    assert (ws / "ignored/0/0").read_text() == "agent\n"
    assert stat.S_ISSOCK((ws / "socket").stat().st_mode)
    listening.close()
    subprocess.run(["rm", "-r", "--", str(ws / "beyond")], check=True, timeout=60)
    assert beyond > 4096


def _beyond_the_longest_path(top: Path) -> int:
    """A file below 5,000 folders: no program can name it in one piece. Returns the length of its path."""
    top.mkdir()
    folder = os.open(top, os.O_RDONLY)
    for _ in range(5000):
        os.mkdir("n", dir_fd=folder)
        inner = os.open("n", os.O_RDONLY, dir_fd=folder)
        os.close(folder)
        folder = inner
    os.close(os.open("file.txt", os.O_CREAT | os.O_WRONLY, dir_fd=folder))
    os.close(folder)
    return len(str(top)) + 2 * 5000 + len("/file.txt")


@pytest.mark.parametrize("most", [packing.MOST, 500])
async def test_the_first_pack_is_as_git_would_make_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """[F11] It is made without git: git names every tree and file alike, finds nothing wrong, and goes on from it.

    With ``most`` bytes a pack is full and the next one begins.
    """
    monkeypatch.setattr(packing, "MOST", most)
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    odd = [b"a", b"a.b", b"a-b", b"a0", b"new\nline", b'quo"te', b"back\\slash", b"\xff\xfe", "ü".encode()]
    for number, name in enumerate(odd):
        write(ws / os.fsdecode(name), b"%d\n" % number)
        write(ws / os.fsdecode(name + b".d/" + name), b"same\n")
    write(ws / "empty", b"")
    write(ws / "run.sh", "true\n", 0o755)
    (ws / "link").symlink_to("a/b/c")
    for size in (15, 16, 2047, 2048, 300_000):  # where the head of an entry becomes a byte longer
        write(ws / f"size{size}", os.urandom(size // 2).hex().encode() + b"x" * (size % 2))
    before = tree(ws)
    checkpoints = Checkpoints(ws, state)
    first = await take(checkpoints)

    shadow = Shadow(state / "shadow.git", git.Cancellation())
    packs = list(shadow.folder.glob("objects/pack/*.pack"))
    assert len(packs) > 3 if most == 500 else len(packs) == 1
    assert not list(shadow.folder.glob("objects/??"))
    index = {"GIT_INDEX_FILE": str(tmp_path / "index"), "GIT_WORK_TREE": str(ws)}
    shadow.git("add", "--all", folder=ws, environment=index)
    assert shadow.git("rev-parse", f"{first.commit}:u0") == shadow.git("write-tree", environment=index)
    said = shadow.git("fsck", "--full", "--strict", "--no-dangling")
    assert not said, said
    shadow.git("verify-pack", *map(str, packs))

    write(ws / "a", "agent\n")
    (ws / "link").unlink()
    await take(checkpoints)
    assert not (await checkpoints.restore(first, "run:1")).conflicts
    assert tree(ws) == before


async def test_links_of_both_kinds(tmp_path: Path) -> None:
    """[F12, F13] A restore replaces a name and never writes through it."""
    ws, outside = repository(tmp_path / "ws"), write(tmp_path / "outside.txt", "not ours\n")
    write(ws / "one.txt", "shared\n")
    os.link(ws / "one.txt", ws / "two.txt")
    os.link(ws / "one.txt", tmp_path / "three.txt")
    for name in ("Case.txt", "case.txt"):
        write(ws / name, f"{name}\n")
    before = tree(ws)
    checkpoints = Checkpoints(ws, tmp_path / "state")
    first = await take(checkpoints)
    write(ws / "one.txt", "agent, through all three names\n")
    (ws / "Case.txt").unlink()
    (ws / "README").unlink()
    (ws / "README").symlink_to(outside)
    (ws / "src").rename(tmp_path / "moved")
    (ws / "src").symlink_to(tmp_path / "moved")
    restored = await checkpoints.restore(first, "run:1")
    assert not restored.conflicts
    assert tree(ws) == before
    assert outside.read_text() == "not ours\n"
    assert (tmp_path / "three.txt").read_text() == "agent, through all three names\n"
    assert sorted(path.name for path in (tmp_path / "moved").iterdir()) == [f"m{n}.py" for n in range(6)]


async def test_a_checkpoint_of_the_first_format(tmp_path: Path) -> None:
    """[F18] Written as the first version did it: loose objects, a private index, a record with fewer fields."""
    ws, folder = repository(tmp_path / "ws"), tmp_path / "state/shadow.git"
    before = tree(ws)
    folder.mkdir(parents=True)
    subprocess.run(["git", "init", "-q", "--bare", str(folder)], check=True, timeout=60)
    write(folder / "codeforge/stamps-root", b"CFSTAMP1 of then")
    plain = Shadow(folder, git.Cancellation())
    index = {"GIT_INDEX_FILE": str(folder / "codeforge/index-root"), "GIT_WORK_TREE": str(ws)}
    plain.git("add", "--all", "--force", folder=ws, environment=index)
    unit = plain.git("write-tree", environment=index).decode().strip()
    plain.git("update-ref", "refs/codeforge-index/index-root", unit)
    meta = (
        '{"version":1,"id":"checkpoint-old","stream":"run:old","label":"old","kind":"action","call_id":null,'
        '"created_at":1700000000.0,"head":"","branch":"main","units":[""],"skipped":[]}'
    )
    blobs = [
        plain.git("hash-object", "-w", "--stdin", stdin=text).decode().strip()
        for text in (meta.encode(), b"600 notes.txt\0")
    ]
    entries = f"100644 blob {blobs[0]}\tmeta.json\n100644 blob {blobs[1]}\tmodes\n040000 tree {unit}\tu0\n"
    root = plain.git("mktree", stdin=entries.encode()).decode().strip()
    then = {"GIT_COMMITTER_DATE": "1700000000 +0000"}
    commit = plain.git("commit-tree", root, "-m", "old", environment=then).decode().strip()
    plain.git("update-ref", "refs/codeforge/run-old-123456789abc", commit)

    checkpoints = Checkpoints(ws, tmp_path / "state")
    old = (await checkpoints.known())[0]
    assert (old.id, old.commit) == ("checkpoint-old", commit)
    write(ws / "README", "agent\n")
    write(ws / "added.txt", "agent\n")
    restored = await checkpoints.restore(old, "run:1")
    assert set(restored.changed) == {"README", "added.txt", "notes.txt"}
    assert stat.S_IMODE((ws / "notes.txt").stat().st_mode) == 0o600
    (ws / "notes.txt").chmod(0o644)
    assert tree(ws) == before
    await checkpoints.cleanup(1, 1 << 30)
    assert not (folder / "codeforge/index-root").exists()
    assert old not in await checkpoints.known()
    await checkpoints.restore(restored.safety, "run:1")
    assert (ws / "README").read_text() == "agent\n"


async def test_many_checkpoints_stay_small(tmp_path: Path) -> None:
    """[F19] Each adds one pack; they are joined by the way, and what they take is less than what has changed."""
    ws, state = repository(tmp_path / "ws"), tmp_path / "state"
    checkpoints = Checkpoints(ws, state)
    checkpoints.note([])
    first, changed = await take(checkpoints), 0
    before = _disk(state)
    for number in range(150):
        content = "".join(f"line {line} of {number}\n" for line in range(1000))
        write(ws / f"src/m{number % 6}.py", content)
        changed += len(content)
        await take(checkpoints, force=[f"src/m{number % 6}.py"], nothing_else=True)
    await checkpoints.cleanup(30, 1 << 30)
    packs = list((state / "shadow.git/objects/pack").glob("*.pack"))
    assert len(packs) <= retention.MAX_PACKS
    assert not list((state / "shadow.git/objects").glob("??/*"))
    assert _disk(state) - before < changed * 1.2
    assert len(await checkpoints.known()) == 151
    await checkpoints.restore(first, "run:1")
    assert (ws / "src/m3.py").read_text() == "value = 3\n"


def _disk(state: Path) -> int:
    return sum(path.stat().st_blocks * 512 for path in state.rglob("*") if path.is_file())
