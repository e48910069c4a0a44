"""Kills: SIGKILL of every kind of process at a random moment of a random workload, and what must hold afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import random
import time
from collections.abc import Awaitable, Callable

from codeforge_ls.llm.scripted import ScriptedServer
from codeforge_ls.store import Store
from tests.soak.ground import Ground, kill
from tests.soak.peers import Gone, Peer, Refused, agent, editor
from tests.soak.report import Part
from tests.soak.workload import SCRIPT, Workload

WORKERS = {
    "index worker": "codeforge_ls.index.worker",
    "query worker": "codeforge_ls.index.query_worker",
    "model worker": "codeforge_ls.llm.worker",
}
FRONT_ENDS = ("editor pipe", "agent pipe")
KINDS = (*WORKERS, "tool", *FRONT_ENDS, "daemon")  # each round ends with the daemon, so no worker is given up
ROUNDS_OF_A_WORKSPACE = 10
PIPE_SECONDS = 2.0  # the promise is 1 s; the rest is for a busy machine
LEFT_SECONDS = 5.0  # for what the daemon had started to be gone


async def prove(part: Part, *, rounds: int, seconds: float) -> None:
    """``rounds`` kills of each kind, fewer when the time is up; what did not hold is noted in the part."""
    rng, ends = random.Random(part.seed), time.monotonic() + seconds
    slowest, slowest_pipe = (0.0, ""), 0.0
    with part.timed():
        for first in range(0, rounds, ROUNDS_OF_A_WORKSPACE):
            numbers = range(first, min(first + ROUNDS_OF_A_WORKSPACE, rounds))
            proof = await _one_workspace(part, rng, numbers, ends)
            slowest, slowest_pipe = max(slowest, proof.slowest), max(slowest_pipe, proof.slowest_pipe)
    part.facts["slowest call after a kill"] = f"{slowest[0]:.1f} s: {slowest[1]}"
    part.facts["slowest end of a pipe after the daemon's death"] = f"{slowest_pipe:.2f} s"


async def _one_workspace(part: Part, rng: random.Random, numbers: range, ends: float) -> Killing:
    """Some rounds in a workspace of their own: each kill is followed by a check of its whole history."""
    ground = Ground("kill")
    with ScriptedServer(SCRIPT) as model:
        ground.env |= {"CODEFORGE_LLM_MODEL": "openai/scripted", "CODEFORGE_LLM_API_BASE": model.base_url}
        proof = Killing(ground, rng, part)
        try:
            await proof.begin()
            for number in numbers:
                for kind in [*rng.sample(KINDS[:-1], len(KINDS) - 1), "daemon"]:
                    if time.monotonic() < ends:
                        await proof.one(kind, number)
                part.progress(f"round {number} of {numbers.stop}, {len(part.failures)} failures")
            await proof.end()
        finally:
            await asyncio.to_thread(ground.close)
    return proof


class Killing:
    """One workspace that is killed at again and again."""

    def __init__(self, ground: Ground, rng: random.Random, part: Part) -> None:
        self.ground, self.rng, self.part = ground, rng, part
        self.work = Workload(ground, rng, part)
        self.slowest, self.slowest_pipe = (0.0, ""), 0.0
        self._git: dict[str, str] = {}

    async def begin(self) -> None:
        """Make the repository and attach both front ends."""
        await asyncio.to_thread(self.work.prepare)
        self._git = self.ground.git_picture()
        await self._attach()
        await self.work.editor.command("index.build", 120)

    async def end(self) -> None:
        """Leave in order: nothing may be left."""
        for peer in (self.work.editor, self.work.agent):
            await peer.close()
        if not await asyncio.to_thread(self.ground.stop):
            self.part.fail("the daemon did not end within 20 s of SIGTERM")
        await self._nobody_left("after a clean stop")

    async def one(self, kind: str, number: int) -> None:
        """One kill and all its questions."""
        where = self.work.where = f"round {number}, kill of the {kind}"
        self.work.start()
        await asyncio.sleep(self.rng.uniform(0.05, 1.2))
        try:
            run_id = await self.work.begin_run("8") if kind == "tool" else ""
            hit = await self._kill(kind)
            if kind == "daemon":
                await self._pipes_end(where)
            await self.work.stop()
            if run_id and (status := await self.work.ended(run_id)) != "completed":
                self.part.fail(f"{where}: its run is {status}")
            if hit:
                self.part.count(f"kills: {kind}")
            if kind == "daemon" and hit:
                await self._after_the_daemon(where)
            elif kind in FRONT_ENDS:
                await self._attach_again(kind)
            await self._at_rest()
            await self._next_call(kind, where)
            await self._sound(where)
        except Gone:
            self.part.fail(f"{where}: a connection ended that should not have")
            await self._attach()
        except (Refused, TimeoutError) as error:
            self.part.fail(f"{where}: afterwards {type(error).__name__} {error}")

    async def _kill(self, kind: str) -> bool:
        if kind in FRONT_ENDS:
            peer: Peer = self.work.editor if kind == "editor pipe" else self.work.agent
            return peer.process is not None and kill(peer.process.pid)
        pids: list[int] = []
        for _ in range(100):  # a tool, or a worker that was killed before, may only be there in a moment
            pids = self._victims(kind)
            if pids:
                return kill(self.rng.choice(pids))
            await asyncio.sleep(0.05)
        self.part.count(f"not there to be killed: {kind}")
        return False

    def _victims(self, kind: str) -> list[int]:
        if kind == "tool":
            return self.ground.tools()
        return self.ground.pids(WORKERS.get(kind, "codeforge_ls.daemon"))

    async def _after_the_daemon(self, where: str) -> None:
        """Whatever the daemon had started is gone before the next one comes."""
        for peer in (self.work.editor, self.work.agent):
            await peer.close()
        await self._nobody_left(where)
        await self._attach()

    async def _pipes_end(self, where: str) -> None:
        """Both pipes end by themselves, with code 1."""
        began = time.monotonic()
        for peer in (self.work.editor, self.work.agent):
            assert peer.process is not None
            try:
                code = await asyncio.wait_for(peer.process.wait(), PIPE_SECONDS)
                if code != 1:
                    self.part.fail(f"{where}: a pipe ended with code {code}")
            except TimeoutError:
                self.part.fail(f"{where}: a pipe lived on for {PIPE_SECONDS} s")
        self.slowest_pipe = max(self.slowest_pipe, time.monotonic() - began)

    async def _nobody_left(self, where: str) -> None:
        end, left = time.monotonic() + LEFT_SECONDS, {0: ""}
        while left and time.monotonic() < end:
            left = self.ground.processes()
            await asyncio.sleep(0.05)
        for pid, name in left.items():
            self.part.fail(f"{where}: left over: {pid} {name[:200]}")
            kill(pid)

    async def _attach(self) -> None:
        self.work.editor, self.work.agent = await editor(self.ground), await agent(self.ground)

    async def _attach_again(self, kind: str) -> None:
        if kind == "editor pipe":
            await self.work.editor.close()
            self.work.editor = await editor(self.ground)
        else:
            await self.work.agent.close()
            self.work.agent = await agent(self.ground)

    async def _at_rest(self) -> None:
        """Wait until no run is at work: one whose editor was killed goes on, and may rightly change files."""
        async with asyncio.timeout(60):
            while (health := await self.work.editor.command("health"))["runs"] or health["approvals"]:
                await asyncio.sleep(0.1)

    async def _next_call(self, kind: str, where: str) -> None:
        """The first call of each sort after the kill works, without anybody's help."""
        calls: list[tuple[str, Callable[[], Awaitable[object]]]] = [
            ("search", lambda: self.work.agent.tool("search_code", query="version")),
            ("edit", self._edit),
        ]
        if kind == "index worker":
            calls.append(("index.build", lambda: self.work.editor.command("index.build")))
        if kind in ("model worker", "tool", "daemon"):
            calls.append(("run", self._run))
        for name, call in calls:
            began = time.monotonic()
            try:
                await call()
            except (Refused, AssertionError) as error:
                self.part.fail(f"{where}: the next {name} failed: {error}")
            self.slowest = max(self.slowest, (time.monotonic() - began, f"{name}, {where}"))

    async def _edit(self) -> None:
        content = self.work.version("work/a.py")
        answer = await self.work.agent.tool("apply_edits", edits=[{"path": "work/a.py", "content": content}])
        assert answer["status"] == "applied", answer
        assert (self.ground.root / "work/a.py").read_text() == content, "not what was applied"

    async def _run(self) -> None:
        status = await self.work.ended(await self.work.begin_run("0"))
        assert status == "completed", f"the run is {status}"

    async def _sound(self, where: str) -> None:
        """Files, the user's git, the log and the checkpoints are as they must be."""
        for text in await asyncio.to_thread(self.work.torn):
            self.part.fail(f"{where}: {text}")
            (self.ground.root / text.split(" ", 1)[0]).unlink(missing_ok=True)
        if await asyncio.to_thread(self.ground.git_picture) != self._git:
            self.part.fail(f"{where}: the user's .git changed")
            self._git = self.ground.git_picture()
        verified = await self.work.editor.command("events.verify")
        if not verified["sound"]:
            self.part.fail(f"{where}: events.verify: {verified['broken'][:3]}")
        store = await Store.open(self.ground.state / "state.db")
        try:
            differences = await store.refold()
        finally:
            await store.close()
        if differences:
            self.part.fail(f"{where}: the state tables differ from the log: {str(differences)[:500]}")
        listed = (await self.work.editor.command("checkpoint.list", limit=1000))["checkpoints"]
        some = [listed[0], listed[-1], self.rng.choice(listed)] if listed else []
        for checkpoint in some:
            with contextlib.suppress(Gone):
                await self.work.editor.command("checkpoint.diff", checkpoint_id=checkpoint["id"])
                self.part.count("checkpoints read")
