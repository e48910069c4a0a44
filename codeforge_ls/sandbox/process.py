"""One process group at a time: started in its own session, read while it runs, killed as a group at the end."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.model.limits import ResourceLimits
from codeforge_ls.sandbox.command import CommandResult, Transcript
from codeforge_ls.sandbox.enforcement import Enforcement
from codeforge_ls.sandbox.restricted import start_restricted

CHUNK = 1 << 14
DRAIN_SECONDS = 0.3  # how long output of a finished command may still be on its way
REAP_SECONDS = 5.0
_PROC = Path("/proc")


class Process(Protocol):
    """What is needed of a started process."""

    pid: int

    @property
    def returncode(self) -> int | None:
        """Its exit code, negative for a signal; None while it lives."""
        ...

    async def wait(self) -> int:
        """Wait for its end."""
        ...


class ProcessGroups:
    """Starts commands and knows which groups are alive."""

    def __init__(self) -> None:
        self._live: set[int] = set()

    @property
    def live(self) -> set[int]:
        """Process group ids of the commands that run now."""
        return set(self._live)

    async def run(
        self,
        argv: Sequence[str],
        *,
        cwd: Path,
        env: Mapping[str, str],
        timeout: float,  # noqa: ASYNC109 - the result says that it timed out, an exception would lose the output
        on_output: Callable[[str], None] | None = None,
        token: str = "",
        enforcement: Enforcement | None = None,
        restrict: Callable[[], None] | None = None,
    ) -> CommandResult:
        """Run to the end, a limit, the time-out (seconds) or until cancelled; the group is dead when this returns.

        ``restrict`` is called in a thread of its own, which then starts the process: what the thread may not do, the
        process may not either. Raises ``InvalidInput`` when the program or the folder does not exist, ``Unavailable``
        when it cannot start.
        """
        begin, limits = time.monotonic(), enforcement or Enforcement(ResourceLimits())
        starting = asyncio.ensure_future(_start(limits.argv(list(argv)), cwd, env, restrict))
        try:
            started = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await self._abandon(starting, token)
            raise
        process = started.process
        self._live.add(process.pid)
        transcript, reason, timed_out = Transcript(), "", False
        flood: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        most = limits.limits.output_mb << 20
        reader = asyncio.ensure_future(_read(started.output, transcript, on_output, most, flood))
        watch = asyncio.ensure_future(limits.watch(process.pid))
        ended = asyncio.ensure_future(process.wait())
        try:
            try:
                await asyncio.to_thread(limits.place, process.pid)
            except OSError as error:
                raise Unavailable(f"The limits of the command cannot be set: {error.strerror}.") from error
            started.let_go()
            ends: list[asyncio.Future[Any]] = [ended, flood, watch]
            await asyncio.wait(ends, timeout=timeout, return_when=asyncio.FIRST_COMPLETED)
            if broken := [one.result() for one in (flood, watch) if one.done()]:
                reason = broken[0]
            elif ended.done():
                await asyncio.wait([reader], timeout=DRAIN_SECONDS)
            else:
                timed_out = True
        finally:
            started.close()
            for task in (watch, ended):
                task.cancel()
            flood.cancel()
            await asyncio.shield(self._end(process, reader, token))
        code = process.returncode if process.returncode is not None else -signal.SIGKILL
        if code and not (reason or timed_out):
            reason = limits.broken()
        taken = time.monotonic() - begin
        return CommandResult(code, transcript.text, transcript.truncated, timed_out, taken, reason)

    async def _abandon(self, starting: asyncio.Future[_Started], token: str) -> None:
        """Cancelled while it was being started: let it come to life, then end it, or nobody would know of it."""
        started = await starting
        started.close()
        os.close(started.output)
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        await self._end(started.process, nothing, token)

    async def _end(self, process: Process, reader: asyncio.Future[None], token: str) -> None:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if token:
            await asyncio.to_thread(kill_strays, token)
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(REAP_SECONDS):
                await process.wait()
                await asyncio.wait([reader], timeout=DRAIN_SECONDS)
        reader.cancel()
        await asyncio.gather(reader, return_exceptions=True)
        self._live.discard(process.pid)


@dataclass
class _Started:
    """A process, the reading end of its output, and the writing end of what it waits for."""

    process: Process
    output: int
    gate: int

    def let_go(self) -> None:
        """Say the line that the shell in front of the command waits for."""
        with contextlib.suppress(BrokenPipeError):
            os.write(self.gate, b"\n")
        self.close()

    def close(self) -> None:
        """Close the writing end."""
        if self.gate >= 0:
            os.close(self.gate)
            self.gate = -1


async def _start(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str], restrict: Callable[[], None] | None
) -> _Started:
    """Start it. The pipes are ours and not asyncio's, whose ``wait`` would wait for strays that hold the other end."""
    reading, writing = os.pipe()
    waiting, gate = os.pipe()
    try:
        if restrict is None:
            process: Process = await asyncio.create_subprocess_exec(
                *argv, cwd=cwd, env=dict(env), stdin=waiting, stdout=writing,
                stderr=asyncio.subprocess.STDOUT, start_new_session=True,
            )  # fmt: skip
        else:
            process = await start_restricted(argv, cwd, env, (waiting, writing), restrict)
    except BaseException as error:
        os.close(reading)
        os.close(gate)
        if isinstance(error, FileNotFoundError):
            raise InvalidInput(
                f"There is no program {argv[0]!r}, or no folder {cwd}.", hint="Check it."
            ) from error
        if isinstance(error, OSError | ValueError):
            raise Unavailable(f"{argv[0]!r} cannot be started: {error}.") from error
        raise
    finally:
        os.close(writing)
        os.close(waiting)
    return _Started(process, reading, gate)


async def _read(
    descriptor: int,
    transcript: Transcript,
    on_output: Callable[[str], None] | None,
    most: int,
    flood: asyncio.Future[str],
) -> None:
    """Take in the output to its end; more than ``most`` bytes (0: any number) are told to ``flood`` and not read."""
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=CHUNK)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    left = most
    try:
        while chunk := await stream.read(CHUNK):
            _deliver(decoder.decode(chunk), transcript, on_output)
            left -= len(chunk)
            if most and left < 0:
                if not flood.done():
                    flood.set_result(f"more than {most >> 20:,} MiB of output")
                return
        _deliver(decoder.decode(b"", final=True), transcript, on_output)
    finally:
        transport.close()


def _deliver(text: str, transcript: Transcript, on_output: Callable[[str], None] | None) -> None:
    if not text:
        return
    transcript.add(text)
    if on_output is not None:
        on_output(text)


def kill_strays(token: str) -> int:
    """Kill what left the group but still carries the mark of its command in its environment; returns how many."""
    mark, killed = f"CODEFORGE_TOOL_ID={token}".encode(), 0
    if not _PROC.is_dir():
        return 0
    for entry in _PROC.iterdir():
        if not entry.name.isdigit():
            continue
        with contextlib.suppress(OSError):
            if mark in (entry / "environ").read_bytes().split(b"\0"):
                os.kill(int(entry.name), signal.SIGKILL)
                killed += 1
    return killed
