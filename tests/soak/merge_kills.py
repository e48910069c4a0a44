"""Kills of the merge of hybrid mode: SIGKILL at a random moment, and what must hold afterwards.

A file holds what it held or what it shall hold; the next daemon finishes what was begun, and then all of the layer is
in the workspace or nothing; the user's repository is byte-identical and nothing is left over.
"""

from __future__ import annotations

import asyncio
import os
import random
import subprocess
import sys
import time
from pathlib import Path

from codeforge_ls.model.checkpoints import CheckpointKind
from codeforge_ls.sandbox.layer import Layer
from tests.soak.ground import Ground
from tests.soak.merge_child import merger
from tests.soak.report import Part

FILES = 120
REPOSITORY = Path(__file__).resolve().parents[2]


async def prove(part: Part, *, rounds: int, seconds: float) -> None:
    """So many kills, fewer when the time is up; what did not hold is noted in the part."""
    chance, ends = random.Random(part.seed), time.monotonic() + seconds
    ground = Ground("merge")
    took = 0.25  # seconds of a whole merge, corrected by each round so that most kills hit the writing
    reached = {"before it began": 0, "while it was written": 0, "after it was done": 0}
    try:
        with part.timed():
            _fill(ground.root)
            ground.git("add", "-A")
            ground.git("commit", "-qm", "first")
            for number in range(rounds):
                if time.monotonic() > ends:
                    break
                when = await _one(part, ground, chance.uniform(0.0, 1.2 * took), number)
                reached[when] += 1
                took *= {"before it began": 1.1, "after it was done": 0.8}.get(when, 1.0)
        part.facts["kills of the merge"] = ", ".join(f"{count} {when}" for when, count in reached.items())
    finally:
        ground.close()


async def _one(part: Part, ground: Ground, delay: float, number: int) -> str:
    """One merge that is killed after ``delay`` seconds; when that was."""
    state = ground.base / "merge-state"
    layer = Layer.make(state / "layers")
    _write_layer(ground.root, layer, number)
    old, git_before = _picture(ground.root), ground.git_picture()
    new = _wanted(ground.root, layer, old)
    await asyncio.to_thread(_killed, ground.root, state, layer, delay)
    where = f"merge, round {number}, killed after {delay * 1e3:.0f} ms"
    for path, held in _picture(ground.root).items():
        if ".codeforge-merge-" not in path and held not in (old.get(path), new.get(path)):
            part.fail(f"{where}: {path} is torn")
    begun = (state / "merging").exists()
    ours, checkpoints = merger(ground.root, state)
    finished = await ours.recover()
    now = _picture(ground.root)
    when = "while it was written" if begun else "after it was done" if now == new else "before it began"
    part.count("kills: merge")
    if begun and (finished is None or now != new or finished[1].conflicts):
        part.fail(f"{where}: it was not finished: {sorted(set(now.items()) ^ set(new.items()))[:3]}")
    if now not in (old, new):
        part.fail(f"{where}: neither all nor nothing: {sorted(set(now.items()) ^ set(new.items()))[:3]}")
    if ground.git_picture() != git_before:
        part.fail(f"{where}: the user's .git changed")
    known = await checkpoints.known()
    if not known or not await checkpoints.read(known[-1], "data/f0.txt"):
        part.fail(f"{where}: no checkpoint can be read")
    await checkpoints.create("run:merge", label="next", kind=CheckpointKind.ACTION)  # the next call works
    await checkpoints.close()
    layer.remove()
    return when


def _killed(root: Path, state: Path, layer: Layer, delay: float) -> None:
    argv = [sys.executable, "-m", "tests.soak.merge_child", str(root), str(state), str(layer.folder)]
    with subprocess.Popen(
        argv, cwd=REPOSITORY, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        assert child.stdout.readline() == "ready\n"
        child.stdin.write("go\n")
        child.stdin.flush()
        try:
            child.wait(delay)
        except subprocess.TimeoutExpired:
            child.kill()


def _fill(root: Path) -> None:
    (root / "data").mkdir()
    for number in range(FILES):
        (root / f"data/f{number}.txt").write_text(f"{number}\n" * 50)


def _write_layer(root: Path, layer: Layer, generation: int) -> None:
    """Changed files, new ones in a new folder, a link, and where we may make them deletions."""
    folder = layer.upper / "data"
    folder.mkdir()
    for number in range(0, FILES, 2):
        (folder / f"f{number}.txt").write_text(f"generation {generation}, {number}\n" * 200)
    (folder / f"made-{generation}").mkdir()
    for number in range(20):
        (folder / f"made-{generation}/n{number}").write_text("new\n")
    (folder / f"link-{generation}").symlink_to("f0.txt")
    gone = f"made-{generation - 1}"
    if os.getuid() == 0 and (root / "data" / gone).exists():
        os.mknod(folder / gone, 0o020000, 0)


def _picture(root: Path) -> dict[str, bytes]:
    return {
        str(path.relative_to(root)): os.fsencode(path.readlink()) if path.is_symlink() else path.read_bytes()
        for path in root.rglob("*")
        if ".git" not in path.parts and (path.is_symlink() or path.is_file())
    }


def _wanted(root: Path, layer: Layer, old: dict[str, bytes]) -> dict[str, bytes]:
    new = dict(old)
    for change in layer.changes(root):
        source = layer.upper / change.path
        if change.kind == "delete":
            new.pop(change.path)
        elif change.kind == "file":
            new[change.path] = source.read_bytes()
        elif change.kind == "link":
            new[change.path] = os.fsencode(source.readlink())
    return new
