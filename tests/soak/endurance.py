"""Endurance: typing, searching and changing files for minutes; memory, descriptors and the loop stay as they are."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import statistics
import time
from collections import defaultdict
from pathlib import Path

from tests.soak.ground import Ground, copy_python_files
from tests.soak.peers import EditorPeer, Refused, agent, editor
from tests.soak.report import Part

FILES = 2000
GROWTH = 0.05  # of the memory after warm-up, in the long proof
SPARE_FILES = 8  # descriptors that may come and go: a git child's pipes, a database's side files
SAMPLE_SECONDS = 1.0
NAMES = {
    "daemon": "codeforge_ls.daemon",
    "index worker": "codeforge_ls.index.worker",
    "query worker": "codeforge_ls.index.query_worker",
}
QUERIES = (
    "parse configuration",
    "class Client",
    "def close",
    "http request headers",
    "raise ValueError",
    "json decode",
)
PAGE = os.sysconf("SC_PAGE_SIZE")


async def prove(part: Part, *, seconds: float, long: bool, files: int = FILES) -> None:
    """Work for so many seconds; in the long proof growth and stalls are failures, else they are only reported."""
    ground = Ground("soak")
    with part.timed():
        try:
            await asyncio.to_thread(copy_python_files, ground.root, files)
            proof = Endurance(ground, random.Random(part.seed), part)
            await proof.begin()
            await proof.work(seconds)
            await proof.judge(seconds, long=long)
            await proof.end()
        finally:
            await asyncio.to_thread(ground.close)


class Endurance:
    """The daemon of one workspace, one busy editor and one busy agent."""

    def __init__(self, ground: Ground, rng: random.Random, part: Part) -> None:
        self.ground, self.rng, self.part = ground, rng, part
        self.editor: EditorPeer
        self.paths: list[Path] = []
        # By process: seconds since the begin, MiB of its own, MiB of mapped files, descriptors.
        self.samples: dict[str, list[tuple[float, float, float, int]]] = defaultdict(list)
        self.waits: list[float] = []
        self._ends = self._began = 0.0
        self._watched: dict[str, int] = {}

    async def begin(self) -> None:
        """Open the workspace and wait until it is indexed and a few files are open in the editor."""
        self.editor, self.agent = await editor(self.ground), await agent(self.ground)
        began = time.monotonic()
        await self.editor.command("index.build", 300)
        self.part.facts["indexed"] = (
            f"{len(list(self.ground.root.rglob('*.py')))} files in {time.monotonic() - began:.0f} s"
        )
        self.paths = sorted(path for path in self.ground.root.rglob("*.py") if path.stat().st_size < 60_000)
        self.open = self.rng.sample(self.paths, 5)
        for path in self.open:
            text = path.read_text(encoding="utf-8", errors="replace")
            document = {"uri": path.as_uri(), "languageId": "python", "version": 1, "text": text}
            self.editor.notify("textDocument/didOpen", {"textDocument": document})

    async def work(self, seconds: float) -> None:
        """Everything at once until the time is up."""
        self._began = time.monotonic()
        self._ends = self._began + seconds
        self._watched = {name: pids[0] for name, word in NAMES.items() if (pids := self.ground.pids(word))}
        await asyncio.gather(self._type(), self._search(), self._change(), self._sample())

    async def _type(self) -> None:
        version = 1
        while time.monotonic() < self._ends:
            version += 1
            uri = self.rng.choice(self.open).as_uri()
            place = {"line": self.rng.randint(0, 20), "character": 0}
            typed = self.rng.choice(("x", "def soak():\n", "    pass\n", "y = 1\n"))
            there = {"start": place, "end": {"line": place["line"], "character": 0}}
            undo = {
                "start": place,
                "end": {
                    "line": place["line"] + typed.count("\n"),
                    "character": len(typed.rpartition("\n")[2]),
                },
            }
            for change in ({"range": there, "text": typed}, {"range": undo, "text": ""}):
                document = {"uri": uri, "version": version}
                self.editor.notify(
                    "textDocument/didChange", {"textDocument": document, "contentChanges": [change]}
                )
                version += 1
            self.part.count("keystrokes", 2)
            await asyncio.sleep(0.05)

    async def _search(self) -> None:
        while time.monotonic() < self._ends:
            query, began = self.rng.choice(QUERIES), time.monotonic()
            try:
                if self.rng.random() < 0.5:
                    await self.editor.command("search", query=query, limit=10)
                else:
                    await self.agent.tool("search_code", query=query)
                if self.rng.random() < 0.05:
                    await self.agent.tool("repo_map", budget_tokens=512)
                self.waits.append(time.monotonic() - began)
                self.part.count("searches")
            except (Refused, TimeoutError) as error:
                self.part.fail(f"a search (seed {self.part.seed}): {type(error).__name__} {error}")
            await asyncio.sleep(0.3)

    async def _change(self) -> None:
        """Files change on the disk and are saved; the tree is about the same size in the end."""
        while time.monotonic() < self._ends:
            path = self.rng.choice(self.paths)
            with contextlib.suppress(OSError):
                old = path.read_bytes()
                path.write_bytes(old + b"\n\ndef soak_%d():\n    return 1\n" % self.rng.getrandbits(24))
                self._saved(path)
                await asyncio.sleep(0.5)
                path.write_bytes(old)
                self._saved(path)
            self.part.count("changed files", 2)
            await asyncio.sleep(0.5)

    def _saved(self, path: Path) -> None:
        changes = [{"uri": path.as_uri(), "type": 2}]
        self.editor.notify("workspace/didChangeWatchedFiles", {"changes": changes})

    async def _sample(self) -> None:
        while time.monotonic() < self._ends:
            for name, pid in self._watched.items():
                with contextlib.suppress(OSError, IndexError):
                    pages = Path(f"/proc/{pid}/statm").read_text().split()
                    resident, mapped = (int(count) * PAGE / 2**20 for count in pages[1:3])
                    opened = len(os.listdir(f"/proc/{pid}/fd"))
                    sample = (time.monotonic() - self._began, resident - mapped, mapped, opened)
                    self.samples[name].append(sample)
            await asyncio.sleep(SAMPLE_SECONDS)

    async def judge(self, seconds: float, *, long: bool) -> None:
        """Compare the time after warm-up with the end, and ask the watchdog."""
        warm = seconds * 0.25
        for name, samples in self.samples.items():
            after = [sample for sample in samples if sample[0] >= warm]
            fifth = max(1, len(after) // 5)
            first = statistics.median(sample[1] for sample in after[:fifth])
            last = statistics.median(sample[1] for sample in after[-fifth:])
            mapped = [
                statistics.median(sample[2] for sample in some) for some in (after[:fifth], after[-fifth:])
            ]
            files = [sample[3] for sample in after]
            growth = last / first - 1
            low = min(files[:fifth])
            self.part.facts[name] = (
                f"{first:.0f} -> {last:.0f} MiB of its own ({growth:+.1%}), "
                f"{mapped[0]:.0f} -> {mapped[1]:.0f} MiB of mapped files; "
                f"descriptors {low} -> {min(files[-fifth:])}, most {max(files)}"
            )
            if long and growth > GROWTH:
                self.part.fail(f"{name} grew by {growth:.1%}: {first:.0f} -> {last:.0f} MiB")
            if min(files[-fifth:]) > low + SPARE_FILES:
                self.part.fail(f"{name} keeps descriptors: {low} -> {min(files[-fifth:])}")
            if not Path(f"/proc/{self._watched[name]}").exists():
                self.part.fail(f"{name} did not live to the end")
        for name in set(NAMES) - set(self.samples):
            self.part.fail(f"{name} was not there to be measured")
        health = await self.editor.command("health")
        watchdog = health["daemon"]["watchdog"]
        self.part.facts["watchdog"] = ", ".join(f"{key} {value}" for key, value in watchdog.items())
        # On a busy machine the loop also waits for the processor; its own work is what the short proof judges.
        if watchdog["over_100_ms"] and (long or watchdog["max_cpu_ms"] > 100):
            self.part.fail(
                f"the loop was busy over 100 ms {watchdog['over_100_ms']} times: {watchdog['max_where']}"
            )
        self.waits.sort()
        if self.waits:
            middle, late = self.waits[len(self.waits) // 2], self.waits[int(len(self.waits) * 0.95)]
            self.part.facts["search while all this"] = f"p50 {middle * 1000:.0f} ms, p95 {late * 1000:.0f} ms"

    async def end(self) -> None:
        """Leave."""
        await self.editor.close()
        await self.agent.close()
