"""Checkpoints of about 2,000 files, warm: create and restore, beside ``git add -A`` and ``git commit``."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Iterator

from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import CheckpointKind
from tests.bench.table import Row, ms, ratio
from tests.soak.ground import Ground, copy_python_files

FILES, TIMES = 2000, 15


def rows() -> Iterator[Row]:
    """The figures."""
    ground = Ground("bench")
    try:
        copy_python_files(ground.root, FILES)
        ground.git("add", "-A")
        ground.git("commit", "-qm", "start")
        yield from asyncio.run(_measure(ground))
    finally:
        ground.close()


async def _measure(ground: Ground) -> list[Row]:
    checkpoints = Checkpoints(ground.root, ground.base / "state")
    paths = sorted(ground.root.rglob("*.py"))
    began = time.perf_counter()
    first = await checkpoints.create("run:bench", label="first", kind=CheckpointKind.ACTION)
    cold = time.perf_counter() - began
    made: dict[int, list[float]] = {0: [], 1: [], 20: []}
    back: list[float] = []
    for number in range(TIMES):
        for changed, seconds in made.items():
            for path in paths[:changed]:
                path.write_text(f"changed = {number}, {changed}\n")
            began = time.perf_counter()
            await checkpoints.create("run:bench", label="bench", kind=CheckpointKind.ACTION)
            seconds.append(time.perf_counter() - began)
        began = time.perf_counter()
        await checkpoints.restore(first, "run:bench")
        back.append(time.perf_counter() - began)
    await checkpoints.close()
    commits = await asyncio.to_thread(_commits, ground)
    beside = f"git add -A + commit {ms(commits)}; {ratio(made[1], commits)}"
    return [
        Row(f"checkpoint of {FILES} files, the first", f"{cold * 1e3:.0f} ms"),
        *(
            Row(f"checkpoint, {changed} changed, warm", ms(seconds), "", beside if changed == 1 else "")
            for changed, seconds in made.items()
        ),
        Row("restore of 20 files, safety checkpoint included", ms(back)),
    ]  # fmt: skip


def _commits(ground: Ground) -> list[float]:
    path, seconds = min(ground.root.rglob("*.py")), []
    for number in range(TIMES):
        path.write_text(f"committed = {number}\n")
        began = time.perf_counter()
        ground.git("add", "-A")
        ground.git("commit", "-qm", "bench")
        seconds.append(time.perf_counter() - began)
    return seconds
