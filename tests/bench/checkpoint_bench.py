"""Checkpoints of 13,500 files, in seconds of the processor, beside plain ``git add -A``; and a thousand in a row."""

from __future__ import annotations

import asyncio
import resource
import shutil
import subprocess
import sysconfig
import time
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import TypeVar

from codeforge_ls import git
from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from tests.bench.table import Row, at
from tests.soak.ground import Ground

FILES, TIMES, MANY = 13_500, 11, 1000
MAX_BYTES = 24_000  # of one file: about 60 MB together, like a large JavaScript or Python project
COMPILED = {".pyc", ".so"}
T = TypeVar("T")


def rows() -> Iterator[Row]:
    """The figures."""
    ground = Ground("bench")
    try:
        copied = copy_files(ground.root, FILES)
        ground.git("add", "-A")
        ground.git("commit", "-qm", "start")
        yield Row(f"checkpoints: {FILES} files, {copied / 1e6:.0f} MB", "CPU seconds from here on")
        yield from asyncio.run(_measure(ground))
    finally:
        ground.close()


def copy_files(root: Path, count: int) -> int:
    """Fill a folder with so many files of the installed packages, from the beginning again where there are too few.
    Returns their bytes."""
    packages, taken, copied, copy = Path(sysconfig.get_paths()["purelib"]), 0, 0, 0
    while taken < count:
        for source in sorted(packages.rglob("*")):
            if taken == count:
                break
            if source.suffix in COMPILED or not source.is_file() or source.stat().st_size > MAX_BYTES:
                continue
            target = root / f"copy{copy}" / source.relative_to(packages)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(source, target)
            taken, copied = taken + 1, copied + source.stat().st_size
        copy += 1
    return copied


def cpu() -> float:
    """Seconds of the processor that this process and its ended children have used."""
    used = (resource.getrusage(who) for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return sum(one.ru_utime + one.ru_stime for one in used)


class Anchor:
    """The same files in a repository of plain git: ``git add -A`` of everything, then of one changed file."""

    def __init__(self, ground: Ground) -> None:
        self._ground = ground
        self._env = {
            **ground.env,
            "GIT_DIR": str(ground.base / "plain.git"),
            "GIT_WORK_TREE": str(ground.root),
        }
        subprocess.run(["git", "init", "-q", "--bare", self._env["GIT_DIR"]], check=True, timeout=60)
        self._git("config", "core.bare", "false")

    def add(self) -> float:
        """CPU seconds of one ``git add -A``."""
        began = cpu()
        self._git("add", "-A")
        return cpu() - began

    def _git(self, *arguments: str) -> None:
        subprocess.run(["git", *arguments], cwd=self._ground.root, env=self._env, check=True, timeout=300)


async def _measure(ground: Ground) -> list[Row]:
    await asyncio.to_thread(git.call, ground.root, "version")  # the import of GitPython is no checkpoint's
    anchor, state = Anchor(ground), ground.base / "state"
    checkpoints = Checkpoints(ground.root, state)
    checkpoints.note([])  # as the daemon's watch does
    paths = sorted(path for path in ground.root.rglob("*.py") if path.is_file())
    plain_cold = anchor.add()
    cold, first = await _timed(lambda: _create(checkpoints))
    packs = len(list(state.glob("shadow.git/objects/pack/*.pack")))
    loose = len(list(state.glob("shadow.git/objects/??/*")))

    async def warm(changed: int, *, known: bool = False) -> tuple[list[float], list[float]]:
        ours, plain = [], []
        for number in range(TIMES):
            _edit(paths[:changed], number)
            names = [str(path.relative_to(ground.root)) for path in paths[:changed]] if known else []
            seconds, _ = await _timed(lambda names=names: _create(checkpoints, names))
            ours.append(seconds)
            plain.append(anchor.add())
        return ours, plain

    one, plain_one = await warm(1)
    twenty, _ = await warm(20)
    known_one, _ = await warm(1, known=True)
    known_twenty, _ = await warm(20, known=True)
    back = []
    for number in range(TIMES):
        _edit(paths[:20], -number)
        seconds, _ = await _timed(lambda: checkpoints.restore(first, "run:bench"))
        back.append(seconds)
    rows = [
        Row("checkpoint, the first", f"{cold:.2f} s, {packs} pack, {loose} loose", "1.5 s, one pack",
            f"git add -A {plain_cold:.2f} s; ours is {cold / plain_cold:.2f} x"),
        Row("checkpoint, all looked at, 1 changed", _ms(one), "220 ms (aim: 150)",
            f"git add -A {_ms(plain_one)}; ours is {at(0.5, one) / at(0.5, plain_one):.2f} x"),
        Row("checkpoint, all looked at, 20 changed", _ms(twenty)),
        Row("checkpoint of 1 known path", _ms(known_one), "60 ms"),
        Row("checkpoint of 20 known paths", _ms(known_twenty), "60 ms"),
        Row("restore of 20 files, safety checkpoint included", _ms(back), "300 ms"),
    ]  # fmt: skip
    rows += await _a_thousand(checkpoints, state, paths, ground.root)
    await checkpoints.close()
    return rows


async def _a_thousand(checkpoints: Checkpoints, state: Path, paths: list[Path], root: Path) -> list[Row]:
    """Each changes another file; small packs are joined by the way."""

    async def warm() -> float:
        found = []
        for number in range(TIMES):
            _edit(paths[-1:], number)
            found.append((await _timed(lambda: _create(checkpoints)))[0])
        return at(0.5, found)

    before, disk, changed = await warm(), _disk(state), 0
    began = cpu()
    for number in range(MANY):
        path = paths[number % len(paths)]
        _edit([path], number)
        changed += path.stat().st_size
        await _create(checkpoints, [str(path.relative_to(root))])
    each = (cpu() - began) / MANY
    after, grown = await warm(), _disk(state) - disk
    slower, wider, was = after / before - 1, grown / changed - 1, f"before: {before * 1e3:.0f} ms"
    return [
        Row(f"warm, after {MANY} more", f"{after * 1e3:.0f} ms, {slower:+.0%}", "+10 %", was),
        Row("disk for them", f"{grown / 1e6:.1f} MB, {wider:+.0%}", "+20 %", f"changed: {changed / 1e6:.1f} MB"),
        Row("each of them, joining packs included", f"{each * 1e3:.0f} ms"),
    ]  # fmt: skip


async def _create(checkpoints: Checkpoints, names: list[str] | None = None) -> Checkpoint:
    return await checkpoints.create(
        "run:bench", label="bench", kind=CheckpointKind.ACTION, force=names or (), nothing_else=bool(names)
    )


async def _timed(call: Callable[[], Awaitable[T]]) -> tuple[float, T]:
    began = cpu()
    made = await call()
    return cpu() - began, made


def _edit(paths: list[Path], number: int) -> None:
    for path in paths:
        with path.open("a") as handle:
            handle.write(f"# edit {number} at {time.time_ns()}\n")


def _disk(state: Path) -> int:
    """Bytes that the file system has given to the shadow repository."""
    return sum(entry.stat().st_blocks * 512 for entry in state.rglob("*") if entry.is_file())


def _ms(seconds: list[float]) -> str:
    return f"p50 {at(0.5, seconds) * 1e3:.0f} ms, least {min(seconds) * 1e3:.0f} ms"
