"""The parser processes of the index worker: killed and replaced when a parse passes its deadline."""

from __future__ import annotations

import asyncio
import contextlib
import json
import logging
import os
import sys
import time
from collections import deque
from dataclasses import dataclass, field
from itertools import count
from pathlib import Path
from typing import Any

from codeforge_ls.index.extract import Extract
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.reading import Refusal

log = logging.getLogger(__name__)

AHEAD = 12  # tasks a parser holds at once: enough to keep it busy, few enough that an urgent one is soon on
START_SECONDS = 60.0
# The deadline is CPU time of the parser. One that neither ends nor burns CPU gets so many times the deadline.
WALL_FACTOR = 5.0
BUFFER = 4 << 20  # bytes of answers that may lie in the pipe's reader
# Parsers end after so long without work, the first one later: each holds some 40 MB, and takes 0.2 s to start.
FIRST_IDLE_SECONDS, IDLE_SECONDS = 60.0, 10.0
WATCH_SHARE = 0.25  # of the deadline: how often a parser at work is looked at
URGENT, NORMAL = 0, 1


class ParseHung(Exception):
    """The parser was killed over this file, or died of it. ``args[0]`` says which."""


@dataclass(order=True)
class _Job:
    priority: int
    number: int
    task: dict[str, Any] = field(compare=False)
    done: asyncio.Future[Extract | Refusal] = field(compare=False)
    deaths: int = field(default=0, compare=False)


class ParserPool:
    """Runs parse jobs in ``limits.parsers`` child processes; they start with the first job."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._command = [sys.executable, "-P", "-m", "codeforge_ls.index.parser", str(root), limits.to_json()]
        self._deadline = limits.parse_timeout_seconds
        self._queue: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._numbers = count()
        self._lanes = [
            asyncio.create_task(self._lane(at), name=f"parser-{at}") for at in range(limits.parsers)
        ]
        self._first: deque[_Job] = deque()  # what the first parser holds
        self._crowded = asyncio.Event()  # more work than the first parser alone should do
        self._late: set[int] = set()
        self.parses = 0
        self.killed = 0
        self.tag_seconds = self.word_seconds = 0.0  # CPU of the parsers

    async def parse(
        self, path: str, *, text: str | None = None, parse: bool = True, urgent: bool = False
    ) -> Extract | Refusal:
        """Read and parse one file, or the given text in its place.

        ``parse=False`` only cuts and tokenises. Raises ``ParseHung`` when the deadline passed or the parser died.
        """
        number = next(self._numbers)
        task: dict[str, Any] = {"id": number, "path": path, "parse": parse}
        if text is not None:
            task["text"] = text
        done: asyncio.Future[Extract | Refusal] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Job(URGENT if urgent else NORMAL, number, task, done))
        if self._first or self._queue.qsize() > 1:
            self._crowded.set()
        return await done

    async def close(self) -> None:
        """Kill the parsers and drop what is queued."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self, number: int) -> None:
        """One parser after the other, for ever. The first takes what comes; the others start when it has enough, and
        take nothing before they can work on it: a change must not wait for a process to start."""
        held: deque[_Job] = self._first if number == 0 else deque()
        while True:
            if number == 0:
                held.append(await self._queue.get())
            else:
                await self._crowded.wait()
                self._crowded.clear()
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=BUFFER,
            )
            watch = asyncio.create_task(self._watch(process, held))
            try:
                await self._feed(process, held, IDLE_SECONDS if number else FIRST_IDLE_SECONDS)
            except (EOFError, OSError, ValueError, TypeError, TimeoutError) as end:
                self._blame(held, TimeoutError() if process.pid in self._late else end)
            finally:
                watch.cancel()
                self._late.discard(process.pid)
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
                await process.wait()

    def _blame(self, held: deque[_Job], end: Exception) -> None:
        """The oldest task was at work when the parser ended; the others are innocent and wait again.

        Somebody else may have killed the parser, so one death without a passed deadline is forgiven.
        """
        self.killed += 1
        guilty = held.popleft()
        guilty.deaths += 1
        log.warning("parser ended over %s: %r", guilty.task["path"], end)
        if guilty.deaths == 1 and not isinstance(end, TimeoutError):
            self._queue.put_nowait(guilty)
        elif not guilty.done.done():
            reason = "parsing took too long" if isinstance(end, TimeoutError) else "the parser crashed on it"
            guilty.done.set_exception(ParseHung(reason))
        while held:
            self._queue.put_nowait(held.popleft())

    async def _feed(self, process: asyncio.subprocess.Process, held: deque[_Job], patience: float) -> None:
        """Hand out jobs and settle them; returns after ``patience`` seconds without any."""
        assert process.stdin is not None  # noqa: S101 - opened as pipes by the caller
        assert process.stdout is not None  # noqa: S101
        await asyncio.wait_for(_message(process.stdout), START_SECONDS)
        sent = 0
        while True:
            if not held:
                try:
                    held.append(await asyncio.wait_for(self._queue.get(), patience))
                except TimeoutError:
                    return
                sent = 0
            while len(held) < AHEAD and not self._queue.empty():
                held.append(self._queue.get_nowait())
            for job in list(held)[sent:]:
                task = json.dumps(job.task).encode()
                process.stdin.write(len(task).to_bytes(4, "little") + task)
            sent = len(held)
            result = _answer(await _message(process.stdout), int(held[0].task["id"]))
            job = held.popleft()
            sent -= 1
            if isinstance(result, Extract):
                self.parses += 1
                self.tag_seconds += result.tag_seconds
                self.word_seconds += result.word_seconds
            if not job.done.done():
                job.done.set_result(result)

    async def _watch(self, process: asyncio.subprocess.Process, held: deque[_Job]) -> None:
        """Kill the parser once one job has used up its deadline."""
        job: _Job | None = None
        start = spent = 0.0
        while True:
            await asyncio.sleep(self._deadline * WATCH_SHARE)
            if not held:
                job = None
                continue
            now, used = time.monotonic(), cpu_seconds(process.pid)
            if held[0] is not job:
                job, start, spent = held[0], now, used
            elif used - spent >= self._deadline or now - start >= WALL_FACTOR * self._deadline:
                self._late.add(process.pid)
                process.kill()
                return


async def _message(stream: asyncio.StreamReader) -> bytes:
    """The next message; raises ``EOFError`` when the parser has ended."""
    length = int.from_bytes(await stream.readexactly(4), "little")
    return await stream.readexactly(length)


def _answer(message: bytes, number: int) -> Extract | Refusal:
    """What a parser says about task ``number``; raises ``ValueError``, ``TypeError`` or ``EOFError`` on nonsense."""
    if int.from_bytes(message[:8], "little") != number:
        raise ValueError(f"not the answer to task {number}")
    if message[8:9] == b"R":
        return Refusal(**json.loads(message[9:]))
    return Extract.from_bytes(message[9:])


def cpu_seconds(pid: int) -> float:
    """CPU seconds a process has used, by /proc; where there is none, wall time stands in."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
