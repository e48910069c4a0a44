"""Supervised child processes: one request pipe each, restarted when they die, given up when they keep dying.

Wire, one JSON object a line. To the worker: ``{"id", "method", "params", "request_id"?}`` or ``{"cancel": id}``.
Back: ``{"id", "event": {...}}`` any number of times, then ``{"id", "result"}`` or ``{"id", "error": {...}}``;
a line with neither id is a notice to whoever supervises. ``ProcessPoolExecutor`` is not used: one killed
worker breaks it for good.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import logging
import os
import signal
import time
from collections import deque
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from enum import StrEnum
from pathlib import Path

from codeforge_ls import standby
from codeforge_ls.child import die_with_parent, end_quickly, take_stdio
from codeforge_ls.logs import request_id, start_logging
from codeforge_ls.model.base import JsonObject, JsonValue
from codeforge_ls.model.errors import CodeForgeError, Unavailable, error_from_json

log = logging.getLogger(__name__)

BACK_OFF = (1.0, 2.0, 4.0, 8.0)  # seconds before the 1st, 2nd, ... restart in a row
CRASHES, CRASH_WINDOW = 4, 180.0  # give up after so many crashes in so many seconds
# Where a worker finds the state folder, and with it the place of its log; without it the log goes to stderr.
STATE_DIR = "CODEFORGE_STATE_DIR"
LOG_LEVEL = "CODEFORGE_LOG_LEVEL"


class WorkerState(StrEnum):
    """The life of a worker as its supervisor sees it."""

    STOPPED = "stopped"
    RUNNING = "running"
    RESTARTING = "restarting"
    GAVE_UP = "gave_up"


class WorkerDied(Unavailable):
    """The worker ended while this call was in flight; a call without side effects may be repeated."""

    code = "worker_died"


class Worker:
    """One supervised worker. Started by the first call, restarted after 1-2-4-8 s, given up after 4 crashes in 3 min.

    With ``arguments`` the program stands by (``standby``) until it is given them; ``early`` is one that does so now.
    ``on_notice`` gets lines that answer no call. ``on_start`` runs after every (re)start, before waiting calls.
    ``on_crash`` is told the exit code after an end that nobody asked for.
    """

    def __init__(
        self,
        name: str,
        argv: Sequence[str],
        *,
        env: Mapping[str, str] | None = None,
        arguments: Sequence[str] | None = None,
        early: asyncio.subprocess.Process | None = None,
        on_notice: Callable[[JsonObject], None] | None = None,
        on_start: Callable[[], Awaitable[None]] | None = None,
        on_crash: Callable[[str, int], None] | None = None,
    ) -> None:
        self.name = name
        self.state = WorkerState.STOPPED
        self.restarts = 0
        self._argv = [*argv]
        self._env = dict(env) if env is not None else None
        self._arguments, self._early = arguments, early
        self._on_notice, self._on_start, self._on_crash = on_notice, on_start, on_crash
        self._process: asyncio.subprocess.Process | None = None
        self._reader: asyncio.Task[None] | None = None
        self._ids = itertools.count(1)
        self._calls: dict[int, asyncio.Queue[JsonObject | None]] = {}
        self._crashes: deque[float] = deque(maxlen=CRASHES)
        self._starting = asyncio.Lock()
        self._not_before = 0.0

    @property
    def pid(self) -> int | None:
        """The process id while it lives."""
        return self._process.pid if self._process and self._process.returncode is None else None

    async def start(self) -> None:
        """Start it if it is not running; waits out the back-off. Raises ``Unavailable`` once given up."""
        async with self._starting:
            if self.pid is not None:
                return
            if self.state is WorkerState.GAVE_UP:
                raise Unavailable(
                    f"The {self.name} worker crashed {CRASHES} times in {CRASH_WINDOW:.0f} s and was given up.",
                    hint="See `codeforge logs errors`; restart with `codeforge daemon restart`.",
                )
            await asyncio.sleep(max(0.0, self._not_before - time.monotonic()))
            early, self._early = self._early, None
            self._process = early or await standby.spawn(self._argv, self._env)
            self.state = WorkerState.RUNNING
            self._reader = asyncio.create_task(self._read(self._process), name=f"worker-{self.name}")
            if self._arguments is not None:
                await self._write(
                    standby.order(self._arguments, os.environ if self._env is None else self._env)
                )
            if self._on_start:
                await self._on_start()

    async def call(self, method: str, params: JsonObject, *, repeat: bool = False) -> JsonValue:
        """Send one request and wait for its result. ``repeat`` sends it once more if the worker dies over it."""
        try:
            return await self._only_result(method, params)
        except WorkerDied:
            if not repeat:
                raise
            return await self._only_result(method, params)

    async def _only_result(self, method: str, params: JsonObject) -> JsonValue:
        result: JsonValue = None
        async for line in self.stream(method, params):
            result = line.get("result", result)
        return result

    async def stream(self, method: str, params: JsonObject) -> AsyncGenerator[JsonObject, None]:
        """Send one request and yield its ``{"event"}`` lines and at last its ``{"result"}`` line.

        Leaving the iteration early, or being cancelled, tells the worker to cancel the call.
        """
        await self.start()
        call_id, lines = next(self._ids), asyncio.Queue[JsonObject | None]()
        self._calls[call_id] = lines
        finished = False
        try:
            asked: JsonObject = {"id": call_id, "method": method, "params": params}
            if cause := request_id.get():
                asked["request_id"] = cause
            await self._send(asked)
            while True:
                line = await lines.get()
                if line is None:
                    finished = True
                    raise WorkerDied(f"The {self.name} worker ended during {method!r}.", hint="Try again.")
                error = line.get("error")
                finished = error is not None or "result" in line
                if isinstance(error, dict):
                    raise error_from_json(error)
                yield line
                if finished:
                    return
        finally:
            self._calls.pop(call_id, None)
            if not finished and self.pid is not None:
                with contextlib.suppress(OSError, WorkerDied):
                    await self._send({"cancel": call_id})

    async def notify(self, method: str, params: JsonObject) -> None:
        """Send something that has no answer. Starts the worker if needed."""
        await self.start()
        await self._send({"method": method, "params": params})

    async def _send(self, message: JsonObject) -> None:
        await self._write(json.dumps(message, separators=(",", ":")).encode() + b"\n")

    async def _write(self, line: bytes) -> None:
        process = self._process
        if process is None or process.stdin is None:
            raise WorkerDied(f"The {self.name} worker is not running.")
        try:
            process.stdin.write(line)
            await process.stdin.drain()
        except (BrokenPipeError, ConnectionResetError) as end:
            await self._see_it_end(process)  # so that whoever repeats the call meets a new one
            raise WorkerDied(f"The {self.name} worker ended.", hint="Try again.") from end

    async def _see_it_end(self, process: asyncio.subprocess.Process) -> None:
        with contextlib.suppress(ProcessLookupError):
            process.kill()
        if self._reader:
            await asyncio.wait({self._reader}, timeout=5)

    async def _read(self, process: asyncio.subprocess.Process) -> None:
        assert process.stdout is not None  # noqa: S101 - opened as a pipe above
        try:
            while line := await process.stdout.readline():
                self._dispatch(line)
        except ValueError:
            log.exception("worker %s: line over %d bytes", self.name, standby.LINE_LIMIT)
        finally:
            if process.returncode is None:
                with contextlib.suppress(ProcessLookupError):
                    process.kill()
            code = await process.wait()
            for lines in list(self._calls.values()):
                lines.put_nowait(None)
            if self.state is WorkerState.RUNNING:
                self._note_crash(code)

    def _dispatch(self, line: bytes) -> None:
        try:
            message = json.loads(line)
        except ValueError:
            log.warning("worker %s wrote something that is not JSON: %.200r", self.name, line)
            return
        call_id = message.get("id")
        if call_id in self._calls:
            self._calls[call_id].put_nowait(message)
        elif call_id is None and self._on_notice:
            self._on_notice(message)

    def _note_crash(self, code: int) -> None:
        now = time.monotonic()
        self._crashes.append(now)
        recent = [moment for moment in self._crashes if now - moment < CRASH_WINDOW]
        self.restarts += 1
        self._not_before = now + BACK_OFF[min(len(recent), len(BACK_OFF)) - 1]
        self.state = WorkerState.GAVE_UP if len(recent) >= CRASHES else WorkerState.RESTARTING
        log.error("worker %s ended with code %s; %s", self.name, code, self.state.value)
        if self._on_crash:
            self._on_crash(self.name, code)

    async def kill(self) -> None:
        """Kill it at once and let the supervisor restart it: for a worker that hangs."""
        if self._process and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGKILL)
            await self._process.wait()

    async def stop(self, grace: float = 2.0) -> None:
        """End it: close its input, wait ``grace`` seconds, then kill its whole process group."""
        self.state = WorkerState.STOPPED
        process, self._early = self._process or self._early, None
        if process is None:
            return
        if process.returncode is None and process.stdin is not None:
            process.stdin.close()
            with contextlib.suppress(asyncio.TimeoutError):
                await asyncio.wait_for(process.wait(), grace)
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.killpg(process.pid, signal.SIGKILL)
        if self._reader:
            with contextlib.suppress(asyncio.CancelledError):
                await self._reader


# -- the other side ------------------------------------------------------------------------------------

Emit = Callable[[JsonObject], None]
Handler = Callable[[JsonObject, Emit], Awaitable[JsonValue]]


async def serve(
    service: str,
    handlers: Mapping[str, Handler],
    background: Callable[[Emit], Awaitable[None]] | None = None,
) -> None:
    """Answer requests on the real stdin and stdout until end of input. Each request is its own task.

    What is logged goes to the log of ``service``, such as ``index-worker``, with the id of the request that caused it.
    A handler gets ``(params, emit)``; ``emit`` sends an event of that call. Handlers that raise
    ``CodeForgeError`` pass it on as it is; anything else becomes an internal error without a traceback.
    ``background`` runs beside them and is given a function that sends notices (lines without an id).
    """
    die_with_parent()
    end_quickly()
    wire_in, wire_out = take_stdio()
    state = os.environ.get(STATE_DIR)
    start_logging(service, Path(state) if state else None, os.environ.get(LOG_LEVEL, "info"))
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=standby.LINE_LIMIT, loop=loop)
    await loop.connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(reader, loop=loop), os.fdopen(wire_in, "rb", 0)
    )
    output = os.fdopen(wire_out, "wb", 0)
    running: dict[JsonValue, asyncio.Task[None]] = {}

    def send(message: JsonObject) -> None:
        data = memoryview(json.dumps(message, separators=(",", ":")).encode() + b"\n")
        while data:
            data = data[output.write(data) :]

    async def answer(message: JsonObject) -> None:
        call_id, params = message.get("id"), message.get("params")
        request_id.set(str(message.get("request_id") or ""))
        log.debug("call %s", message.get("method"))
        try:
            handler = handlers.get(str(message.get("method")))
            if handler is None:
                raise CodeForgeError(f"unknown worker method {message.get('method')!r}")
            result = await handler(
                params if isinstance(params, dict) else {},
                lambda event: send({"id": call_id, "event": event}),
            )
            reply: JsonObject = {"id": call_id, "result": result}
        except CodeForgeError as error:
            reply = {"id": call_id, "error": error.as_json()}
        except Exception as error:
            log.exception("worker call %s failed", message.get("method"))
            reply = {
                "id": call_id,
                "error": {"code": "internal", "message": f"{type(error).__name__}: {error}"},
            }
        finally:
            running.pop(call_id, None)
        if call_id is not None:
            send(reply)

    beside = asyncio.ensure_future(background(send)) if background else None
    while line := await reader.readline():
        message = json.loads(line)
        if "cancel" in message:
            if task := running.get(message["cancel"]):
                task.cancel()
            continue
        running[message.get("id")] = asyncio.create_task(answer(message))
    for task in [*running.values(), *([beside] if beside else [])]:
        task.cancel()
