"""A random workload through the front doors: edits with approval, runs of a scripted model, searches, rewinds.

It remembers every content that was ever meant for a file, so that a torn file shows: its content is none of them.
"""

from __future__ import annotations

import asyncio
import hashlib
import random
from collections.abc import Awaitable, Callable
from typing import Any

from tests.soak.ground import Ground, copy_python_files
from tests.soak.peers import AgentPeer, EditorPeer, Gone, Refused
from tests.soak.report import Part

PATHS = [f"work/{name}" for name in ("a.py", "b.txt", "c/d.md", "c/e.json", "new.py", "large.txt")]
ENDED = {"completed", "failed", "cancelled", "suspended"}
# What a call may honestly answer while a worker or a file changes under it; `internal` is never among them.
HONEST = {"unavailable", "worker_died", "conflict", "denied", "not_found", "limit_reached"}
SCRIPT: list[Any] = [
    {"say": "I look.", "tool": "Search", "arguments": {"query": "{{task|soak-query=(\\S+)}}"}},
    {"tool": "Bash", "arguments": {"command": "sleep {{task|soak-sleep=(\\S+)}}"}},
    {
        "tool": "Write",
        "arguments": {
            "path": "{{task|soak-path=(\\S+)}}",
            "content": "a run wrote {{task|soak-token=(\\S+)}}\n",
        },
    },
    {"say": "Done with {{task|soak-token=(\\S+)}}."},
]


class Workload:
    """What goes on in the workspace. ``editor`` and ``agent`` are replaced when they were killed."""

    def __init__(self, ground: Ground, rng: random.Random, part: Part) -> None:
        self.ground, self.part, self._rng = ground, part, rng
        self.editor: EditorPeer
        self.agent: AgentPeer
        self.known: dict[str, set[str]] = {path: set() for path in PATHS}
        self.history = [0]
        self._stop = False
        self._tasks: list[asyncio.Task[None]] = []
        self.where = ""

    def prepare(self) -> None:
        """A repository with code, and staged, unstaged and untracked changes of the user."""
        root = self.ground.root
        copy_python_files(root / "lib", 40)
        for path in PATHS[:4]:
            self.put(path, self.version(path))
        self.ground.git("add", "-A")
        self.ground.git("commit", "-qm", "start")
        (root / "staged.txt").write_text("staged\n")
        self.ground.git("add", "staged.txt")
        (root / "untracked.txt").write_text("untracked\n")
        for file in (*root.glob("lib/**/*.py"), root / "staged.txt", root / "untracked.txt"):
            if file.is_file():
                self.known[str(file.relative_to(root))] = {_digest(file.read_bytes())}

    def put(self, path: str, content: str) -> None:
        """Write a file as the user would."""
        target = self.ground.root / path
        target.parent.mkdir(parents=True, exist_ok=True)
        target.write_text(content)

    def version(self, path: str) -> str:
        """A new content for a path, remembered before anybody can write it."""
        self.history[0] += 1
        lines = self._rng.choice((1, 20, 3000))
        head = f"# {path} version {self.history[0]}\n"
        content = head + "".join(f"line {n} of version {self.history[0]}\n" for n in range(lines))
        self.known[path].add(_digest(content.encode()))
        return content

    def torn(self) -> list[str]:
        """Files whose content nobody ever wrote, or that nobody ever named."""
        found, root = [], self.ground.root
        for path in sorted(root.rglob("*")):
            name = str(path.relative_to(root))
            if path.is_file() and not name.startswith(".git/"):
                if name not in self.known:
                    found.append(f"{name} is nobody's file")
                elif _digest(path.read_bytes()) not in self.known[name]:
                    found.append(
                        f"{name} holds something that was never written ({path.stat().st_size} bytes)"
                    )
        return found

    def start(self) -> None:
        """Begin; ``stop`` ends it."""
        self._stop = False
        loops: tuple[Callable[[], Awaitable[Any]], ...] = (self.change, self.look, self.run)
        self._tasks = [asyncio.create_task(self._repeat(step)) for step in loops]

    async def stop(self, seconds: float = 60) -> None:
        """End it: calls under way may finish."""
        self._stop = True
        _, late = await asyncio.wait(self._tasks, timeout=seconds)
        for task in late:
            self.part.fail(f"{self.where}: a call did not end within {seconds:g} s: {task.get_coro()}")
            task.cancel()

    async def _repeat(self, step: Callable[[], Awaitable[Any]]) -> None:
        while not self._stop:
            try:
                await step()
            except Gone:
                return
            except TimeoutError:
                self.part.fail(f"{self.where}: {step.__name__} was not answered")
            except Refused as error:
                if error.code not in HONEST:
                    self.part.fail(f"{self.where}: {step.__name__} answered {error.code}: {error}")
                await asyncio.sleep(0.05)

    async def change(self) -> None:
        """The agent edits files, or goes back to a checkpoint."""
        if self._rng.random() < 0.2:
            await self.rewind()
            return
        edits = [
            {"path": path, "content": self.version(path)}
            for path in self._rng.sample(PATHS, self._rng.randint(1, 3))
        ]
        answer = await self.agent.tool("apply_edits", edits=edits)
        self.part.count(f"edits {answer['status']}")

    async def rewind(self) -> None:
        """Go back to one of the newest checkpoints."""
        listed = (await self.agent.tool("list_checkpoints"))["checkpoints"]
        if listed:
            wanted = self._rng.choice(listed[:10])["id"]
            answer = await self.agent.tool("restore_checkpoint", checkpoint_id=wanted)
            self.part.count(f"rewinds {answer['status']}")

    async def look(self) -> None:
        """The person searches and looks around."""
        query = self._rng.choice(("version", "class Parser", "def main", "import json", "line 7"))
        await self.editor.command("search", query=query, limit=5)
        if self._rng.random() < 0.2:
            await self.editor.command("repomap", budget_tokens=256)
        self.part.count("searches")
        await asyncio.sleep(self._rng.random() / 5)

    async def run(self) -> str:
        """A whole run; its last status."""
        run_id = await self.begin_run(self._rng.choice(("0", "0.3", "1")))
        while not self._stop:
            status = await self.status(run_id)
            if status in ENDED:
                self.part.count(f"runs {status}")
                return status
            await asyncio.sleep(0.1)
        try:
            await self.editor.command("run.cancel", run_id=run_id)
        except Refused as error:
            if error.code != "conflict":  # it has ended meanwhile
                raise
        return "cancelled"

    async def begin_run(self, sleep: str) -> str:
        """Start a run whose command sleeps so many seconds; its id."""
        path, token = self._rng.choice(PATHS), f"t{self._rng.getrandbits(48):x}"
        self.known[path].add(_digest(f"a run wrote {token}\n".encode()))
        task = f"soak-path={path} soak-token={token} soak-sleep={sleep} soak-query=version"
        profile = "trusted-mount-autonomous"
        started = await self.editor.command("run.start", task=task, profile=profile)
        return str(started["run_id"])

    async def status(self, run_id: str) -> str:
        """The status of a run."""
        return str((await self.editor.command("run.get", run_id=run_id, limit=1))["run"]["status"])

    async def ended(self, run_id: str, seconds: float = 60) -> str:
        """Wait for the end of a run; its status."""
        async with asyncio.timeout(seconds):
            while (status := await self.status(run_id)) not in ENDED:
                await asyncio.sleep(0.1)
        return status


def _digest(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()
