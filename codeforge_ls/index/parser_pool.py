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

from codeforge_ls.index.database import Parsed
from codeforge_ls.index.limits import Limits
from codeforge_ls.index.reading import Refusal

log = logging.getLogger(__name__)

AHEAD = 3  # tasks a parser holds at once: enough to keep it busy, few enough that an urgent one is soon on
START_SECONDS = 60.0
# The deadline is CPU time of the parser. One that neither ends nor burns CPU gets so many times the deadline.
WALL_FACTOR = 5.0
MAX_ANSWER = 256 << 20
URGENT, NORMAL = 0, 1


class ParseHung(Exception):
    """The parser was killed over this file, or died of it. ``args[0]`` says which."""


@dataclass(order=True)
class _Job:
    priority: int
    number: int
    task: dict[str, Any] = field(compare=False)
    done: asyncio.Future[Parsed | Refusal] = field(compare=False)
    deaths: int = field(default=0, compare=False)


class ParserPool:
    """Runs parse jobs in ``limits.parsers`` child processes; they start with the first job."""

    def __init__(self, root: Path, limits: Limits) -> None:
        self._command = [sys.executable, "-P", "-m", "codeforge_ls.index.parser", str(root), limits.to_json()]
        self._deadline = limits.parse_timeout_seconds
        self._queue: asyncio.PriorityQueue[_Job] = asyncio.PriorityQueue()
        self._numbers = count()
        self._lanes = [asyncio.create_task(self._lane(), name=f"parser-{at}") for at in range(limits.parsers)]
        self.parses = 0
        self.killed = 0

    async def parse(
        self, path: str, *, text: str | None = None, parse: bool = True, urgent: bool = False
    ) -> Parsed | Refusal:
        """Read and parse one file, or the given text in its place.

        ``parse=False`` only cuts and tokenises. Raises ``ParseHung`` when the deadline passed or the parser died.
        """
        number = next(self._numbers)
        task: dict[str, Any] = {"id": number, "path": path, "parse": parse}
        if text is not None:
            task["text"] = text
        done: asyncio.Future[Parsed | Refusal] = asyncio.get_running_loop().create_future()
        self._queue.put_nowait(_Job(URGENT if urgent else NORMAL, number, task, done))
        return await done

    async def close(self) -> None:
        """Kill the parsers and drop what is queued."""
        for lane in self._lanes:
            lane.cancel()
        await asyncio.gather(*self._lanes, return_exceptions=True)

    async def _lane(self) -> None:
        """One parser after the other, for ever."""
        held: deque[_Job] = deque()
        while True:
            held.append(await self._queue.get())
            process = await asyncio.create_subprocess_exec(
                *self._command,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                limit=MAX_ANSWER,
            )
            try:
                await self._feed(process, held)
            except (EOFError, OSError, ValueError, TimeoutError) as end:
                self._blame(held, end)
            finally:
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

    async def _feed(self, process: asyncio.subprocess.Process, held: deque[_Job]) -> None:
        assert process.stdin is not None  # noqa: S101 - opened as pipes by the caller
        assert process.stdout is not None  # noqa: S101
        await asyncio.wait_for(process.stdout.readline(), START_SECONDS)
        sent = 0
        while True:
            if not held:
                held.append(await self._queue.get())
                sent = 0
            while len(held) < AHEAD and not self._queue.empty():
                held.append(self._queue.get_nowait())
            for job in list(held)[sent:]:
                process.stdin.write(json.dumps(job.task).encode() + b"\n")
            sent = len(held)
            result = await self._answer(process, process.stdout, int(held[0].task["id"]))
            job = held.popleft()
            sent -= 1
            self.parses += isinstance(result, Parsed)
            if not job.done.done():
                job.done.set_result(result)

    async def _answer(
        self, process: asyncio.subprocess.Process, stream: asyncio.StreamReader, number: int
    ) -> Parsed | Refusal:
        """The next answer; raises ``TimeoutError`` once the parser has used up its deadline on it."""
        reading = asyncio.ensure_future(_read_answer(stream, number))
        start, spent = time.monotonic(), cpu_seconds(process.pid)
        try:
            while not (await asyncio.wait({reading}, timeout=self._deadline))[0]:
                used = cpu_seconds(process.pid) - spent
                if used >= self._deadline or time.monotonic() - start >= WALL_FACTOR * self._deadline:
                    raise TimeoutError
        finally:
            if not reading.done():
                reading.cancel()
        return reading.result()


async def _read_answer(stream: asyncio.StreamReader, number: int) -> Parsed | Refusal:
    line = await stream.readline()
    if not line:
        raise EOFError("no answer")
    header = json.loads(line)
    if header.get("id") != number:
        raise ValueError(f"answer to {header.get('id')}, not {number}")
    if "refused" in header:
        return Refusal(header["refused"], header["size"], header["mtime_ns"], header["gone"])
    text = await stream.readexactly(header["text_bytes"])
    return Parsed(header, text, await stream.readexactly(header["token_bytes"]))


def cpu_seconds(pid: int) -> float:
    """CPU seconds a process has used, by /proc; where there is none, wall time stands in."""
    try:
        fields = (
            Path(f"/proc/{pid}/stat").read_text(encoding="ascii", errors="replace").rpartition(")")[2].split()
        )
    except OSError:
        return time.monotonic()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")
