"""One process group at a time: started in its own session, read while it runs, killed as a group at the end."""

from __future__ import annotations

import asyncio
import codecs
import contextlib
import os
import signal
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from codeforge_ls.model.errors import InvalidInput, Unavailable
from codeforge_ls.sandbox.command import CommandResult, Transcript

CHUNK = 1 << 14
DRAIN_SECONDS = 0.3  # how long output of a finished command may still be on its way
REAP_SECONDS = 5.0
_PROC = Path("/proc")


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
    ) -> CommandResult:
        """Run to the end, to the time-out (seconds) or until cancelled; the group is dead when this returns.

        Raises ``InvalidInput`` when the program or the folder does not exist, ``Unavailable`` when it cannot start.
        """
        begin = time.monotonic()
        starting = asyncio.ensure_future(_start(argv, cwd, env))
        try:
            process, output = await asyncio.shield(starting)
        except asyncio.CancelledError:
            await self._abandon(starting, token)
            raise
        self._live.add(process.pid)
        transcript, timed_out = Transcript(), False
        reader = asyncio.ensure_future(_read(output, transcript, on_output))
        try:
            try:
                async with asyncio.timeout(timeout):
                    await process.wait()
            except TimeoutError:
                timed_out = True
            else:
                await asyncio.wait([reader], timeout=DRAIN_SECONDS)
        finally:
            await asyncio.shield(self._end(process, reader, token))
        code = process.returncode if process.returncode is not None else -signal.SIGKILL
        return CommandResult(code, transcript.text, transcript.truncated, timed_out, time.monotonic() - begin)

    async def _abandon(
        self, starting: asyncio.Future[tuple[asyncio.subprocess.Process, int]], token: str
    ) -> None:
        """Cancelled while it was being started: let it come to life, then end it, or nobody would know of it."""
        process, output = await starting
        os.close(output)
        nothing: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        nothing.set_result(None)
        await self._end(process, nothing, token)

    async def _end(
        self, process: asyncio.subprocess.Process, reader: asyncio.Future[None], token: str
    ) -> None:
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


async def _start(
    argv: Sequence[str], cwd: Path, env: Mapping[str, str]
) -> tuple[asyncio.subprocess.Process, int]:
    """The process and the reading end of its output.

    The pipe is ours and not asyncio's, whose ``wait`` would wait for strays that hold the other end.
    """
    reading, writing = os.pipe()
    try:
        process = await asyncio.create_subprocess_exec(
            *argv,
            cwd=cwd,
            env=dict(env),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=writing,
            stderr=asyncio.subprocess.STDOUT,
            start_new_session=True,
        )
    except BaseException as error:
        os.close(reading)
        if isinstance(error, FileNotFoundError):
            raise InvalidInput(
                f"There is no program {argv[0]!r}, or no folder {cwd}.", hint="Check it."
            ) from error
        if isinstance(error, OSError | ValueError):
            raise Unavailable(f"{argv[0]!r} cannot be started: {error}.") from error
        raise
    finally:
        os.close(writing)
    return process, reading


async def _read(descriptor: int, transcript: Transcript, on_output: Callable[[str], None] | None) -> None:
    loop = asyncio.get_running_loop()
    stream = asyncio.StreamReader(limit=CHUNK)
    pipe = os.fdopen(descriptor, "rb", buffering=0)
    transport, _ = await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(stream), pipe)
    decoder = codecs.getincrementaldecoder("utf-8")("replace")
    try:
        while chunk := await stream.read(CHUNK):
            _deliver(decoder.decode(chunk), transcript, on_output)
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
