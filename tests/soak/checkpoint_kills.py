"""SIGKILL at a random moment of a snapshot, a restore and a cleanup, and what must hold afterwards.

The user's ``.git`` is byte-identical, every file is either the old or the new one, earlier checkpoints can be read, and
the next call works without anybody's help.
"""

from __future__ import annotations

import asyncio
import random
import shutil
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

from codeforge_ls.checkpoints import Checkpoints
from codeforge_ls.model.checkpoints import Checkpoint, CheckpointKind
from tests.checkpoints.scene import dot_git, repository, take, tree, write
from tests.soak.report import Part

KINDS = ("first snapshot", "snapshot", "restore", "cleanup")
REPOSITORY = Path(__file__).resolve().parents[2]
FILES, OLD_STREAMS = 60, 3
OUTLASTS = 1.15  # the last moment of a kill, in durations of the undisturbed work: some come too late


async def prove(part: Part, *, kills: int, seconds: float) -> None:
    """``kills`` of each kind at work, fewer when the time is up; what did not hold is noted in the part."""
    rng, ends = random.Random(part.seed), time.monotonic() + seconds
    with part.timed():
        for kind in KINDS:
            with tempfile.TemporaryDirectory(prefix="cfkills") as folder:
                ground = (_New if kind == "first snapshot" else _Ground)(Path(folder).resolve(), kind, part)
                await ground.begin()
                number = hit = 0
                while hit < kills and time.monotonic() < ends:
                    number += 1
                    hit += await ground.one(number, rng.random())
                await ground.end()
            part.progress(f"{kind}: {len(part.failures)} failures")


class _Ground:
    """A workspace whose checkpoints are killed at, again and again."""

    def __init__(self, base: Path, kind: str, part: Part) -> None:
        self.kind, self.part = kind, part
        self.ws, self.state = repository(base / "ws"), base / "state"
        self.checkpoints = Checkpoints(self.ws, self.state)
        self.first: Checkpoint
        self.wanted: dict[bytes, tuple[Any, ...]] = {}
        self.git = dot_git(self.ws / ".git")
        self.usual = 0.3  # seconds that the work takes when nobody kills it
        self.where = ""

    async def begin(self) -> None:
        """The state that everything goes back to."""
        self._change(0)
        self.first = await take(self.checkpoints, "run:first")
        self.wanted = tree(self.ws)
        self._change(-1)
        if self.kind == "cleanup":
            await self._old_streams(0)
        if took := self._kill_after(None):
            self.usual = took
        await self._restored()

    async def one(self, number: int, moment: float) -> bool:
        """One kill and all its questions; whether it was at work."""
        self._change(number)
        kept = await self._old_streams(number) if self.kind == "cleanup" else self.first
        changed = tree(self.ws)
        at_work = self._killed(number, moment)
        for path, content in tree(self.ws).items():
            leftover = path.rpartition(b"/")[2].startswith(b".codeforge-")
            whole = content in (self.wanted.get(path), changed.get(path), ("empty folder",))
            self._expect(leftover or whole, f"{path!r} is torn")
        try:
            await self._next_calls(changed, kept)
        except Exception as error:
            self.part.fail(f"{self.where}: the next call failed: {error!r}")
        return at_work

    def _killed(self, number: int, moment: float) -> bool:
        """Whether the kill met it at work."""
        self.where = f"kill {number} of a {self.kind}, at {moment * OUTLASTS:.0%} of its {self.usual:.2f} s"
        took = self._kill_after(moment * OUTLASTS * self.usual)
        self.usual = took or self.usual  # the machine is not equally busy all the time
        self.part.count(f"kills of a {self.kind} {'that was over' if took else 'at work'}")
        self._expect(dot_git(self.ws / ".git") == self.git, "the user's .git changed")
        return took is None

    async def _next_calls(self, changed: dict[bytes, tuple[Any, ...]], kept: Checkpoint) -> None:
        finished = await self.checkpoints.recover()
        if finished is not None:
            found = (finished.checkpoint_id, finished.conflicts)
            self._expect(found == (self.first.id, ()), f"the restore was completed as {found}")
        else:
            self._expect(tree(self.ws) in (changed, self.wanted), "neither the old nor the new state")
        for checkpoint in await self.checkpoints.known():
            await self.checkpoints.diff(checkpoint, kept)
            self.part.count("checkpoints read")
        self._expect(
            await self.checkpoints.read(kept, "src/m3.py") == b"value = 3\n", "a checkpoint is damaged"
        )
        taken = await take(self.checkpoints, "run:after")
        self._expect(not await self.checkpoints.diff(taken), "the next checkpoint is not what is there")
        if self.kind != "cleanup":
            await self._restored()
        self._expect(await self.checkpoints.recover() is None, "a restore is still unfinished")
        own = {path.name.partition("-")[0] for path in (self.state / "shadow.git/codeforge").iterdir()}
        self._expect(own <= {"lock", "newest", "stamps", "user"}, f"left behind: {own}")
        left = list((self.state / "shadow.git").rglob("tmp_*"))
        self._expect(not left, f"left behind: {left}")

    async def _restored(self) -> None:
        if self.kind == "cleanup":
            return
        restored = await self.checkpoints.restore(self.first, "run:first")
        self._expect(not restored.conflicts, f"conflicts: {restored.conflicts}")
        self._expect(tree(self.ws) == self.wanted, "the restored state is another one")
        self._expect(self.first in await self.checkpoints.known(), "the first checkpoint is gone")

    async def end(self) -> None:
        """git itself finds nothing to complain about."""
        done = subprocess.run(
            ["git", "fsck", "--strict", "--full"], cwd=self.state / "shadow.git", capture_output=True, timeout=120,
            check=False,
        )  # fmt: skip
        self._expect(done.returncode == 0, f"git fsck: {done.stderr[-500:]!r}")

    async def _old_streams(self, number: int) -> Checkpoint:
        """Some streams that a cleanup drops, and the newest, which it keeps."""
        for old in range(OLD_STREAMS):
            write(self.ws / "old.txt", f"stream {number} {old}\n" * 200)
            await take(self.checkpoints, f"run:old-{number}-{old}")
        await asyncio.sleep(1.1)  # git's times are whole seconds, and the newest stream is kept
        return await self.checkpoints.create(f"run:kept-{number}", label="", kind=CheckpointKind.MANUAL)

    def _kill_after(self, delay: float | None) -> float | None:
        """Let a process do it and kill it; how many seconds it took, if it was over by then."""
        argv = [
            sys.executable,
            "-m",
            "tests.soak.checkpoint_victim",
            self.kind,
            str(self.ws),
            str(self.state),
        ]
        pipe = subprocess.PIPE
        with subprocess.Popen(argv, cwd=REPOSITORY, stdin=pipe, stdout=pipe, text=True) as child:
            assert child.stdout
            assert child.stdin
            assert child.stdout.readline() == "ready\n"
            child.stdin.write("go\n")
            child.stdin.flush()
            if delay is not None:
                time.sleep(delay)
                child.kill()
            said = child.stdout.read().split()
        return float(said[1]) if said else None

    def _change(self, generation: int) -> None:
        for number in range(FILES):
            content = f"generation {generation} file {number}\n" * 400
            write(self.ws / f"data/d{number % 7}/f{number}.txt", content)
        write(self.ws / f"made/by/{generation}.txt", "new\n")
        (self.ws / "README").unlink(missing_ok=True)
        if generation == 0:
            write(self.ws / "README", "back\n")

    def _expect(self, holds: bool, text: str) -> None:
        if not holds:
            self.part.fail(f"{self.where}: {text}")


class _New(_Ground):
    """A workspace without checkpoints: the first snapshot makes its pack without git."""

    async def begin(self) -> None:
        """How long it takes."""
        self._change(0)
        self.usual = self._kill_after(None) or self.usual

    async def one(self, number: int, moment: float) -> bool:
        """One kill; the next process takes a checkpoint to which everything comes back."""
        shutil.rmtree(self.state, ignore_errors=True)
        self._change(number)
        before = tree(self.ws)
        at_work = self._killed(number, moment)
        self._expect(tree(self.ws) == before, "the workspace changed")
        self.checkpoints = Checkpoints(self.ws, self.state)
        try:
            taken = await take(self.checkpoints, "run:after")
            self._change(-number)
            restored = await self.checkpoints.restore(taken, "run:after")
            self._expect(not restored.conflicts and tree(self.ws) == before, "it did not come back")
        except Exception as error:
            self.part.fail(f"{self.where}: the next call failed: {error!r}")
        left = list((self.state / "shadow.git").rglob("tmp_*"))
        self._expect(not left, f"left behind: {left}")
        await self.end()
        return at_work
