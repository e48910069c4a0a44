"""Logs for whoever looks for a fault: JSON lines from a bounded queue, without secrets, and their readers."""

from __future__ import annotations

import atexit
import heapq
import itertools
import json
import logging
import logging.handlers
import os
import queue
import re
import sys
import threading
from collections.abc import Callable, Iterator, MutableMapping
from contextvars import ContextVar
from datetime import UTC, datetime
from io import TextIOWrapper
from pathlib import Path

from codeforge_ls import redaction
from codeforge_ls.model.base import JsonObject
from codeforge_ls.model.errors import InvalidInput, NotFound

request_id: ContextVar[str] = ContextVar("request_id", default="")
task_id: ContextVar[str] = ContextVar("task_id", default="")

QUEUE_SIZE = 10_000  # records; more are dropped and counted (row LOG-5)
FILE_BYTES, FILES = 10_000_000, 3
MAX_TEXT = 32 << 10  # characters of one message
MARGIN = 1 << 10  # longer than any secret: what a cut could have split is thrown away
DRAIN_SECONDS, DRAIN_ROUNDS = 2.0, 10  # without a single line written, looked at so many times
NOISY = ("httpx", "httpcore", "asyncio", "mcp", "pygls", "LiteLLM", "git", "watchfiles", "urllib3")
SERVICE_NAME = re.compile(r"[a-z][a-z0-9_-]{0,31}")


def redact(text: str) -> str:
    """The text, cut to 32 Ki characters, without what looks like a secret or is known to be one."""
    cut = len(text) > MAX_TEXT + MARGIN
    text = redaction.scrub(text[: MAX_TEXT + MARGIN] if cut else text)
    return text[:-MARGIN] + " [cut]" if cut else text


class _Dropping(logging.handlers.QueueHandler):
    """Queues records with the ids of the caller's context; never waits, counts what does not fit."""

    queue: queue.Queue[logging.LogRecord | None]

    def prepare(self, record: logging.LogRecord) -> logging.LogRecord:
        try:
            record.msg = record.getMessage()
        except Exception:  # noqa: BLE001 - a log call with wrong arguments must not disturb what it reports on
            record.msg = f"{record.msg!r} (logged with wrong arguments)"
        record.args = None
        record.request_id, record.task_id = request_id.get(), task_id.get()
        return record

    def enqueue(self, record: logging.LogRecord) -> None:
        try:
            self.queue.put_nowait(record)
        except queue.Full:
            _logging.count_drop()


class _Listener(logging.handlers.QueueListener):
    """The one thread that writes; its end is bounded, for a disk or a pipe that hangs must not hold up an exit."""

    queue: queue.Queue[logging.LogRecord | None]

    def enqueue_sentinel(self) -> None:
        _put(self.queue, None)

    def drain(self) -> bool:
        """Ask for the end and wait as long as lines are written; whether the thread has ended."""
        thread = self._thread
        if thread is None:
            return True
        self.enqueue_sentinel()
        waits, left = DRAIN_ROUNDS, self.queue.qsize()
        while thread.is_alive() and waits:
            thread.join(DRAIN_SECONDS / DRAIN_ROUNDS)
            waits = DRAIN_ROUNDS if self.queue.qsize() < left else waits - 1
            left = self.queue.qsize()
        return not thread.is_alive()


class _Target(logging.Handler):
    """Where the one writing thread puts lines; what cannot be written is counted and costs nothing else."""

    def createLock(self) -> None:  # noqa: N802 - logging's name
        # One thread writes, and a lock it holds while the disk or a pipe hangs would hang the exit too.
        self.lock = None

    def handleError(self, record: logging.LogRecord) -> None:  # noqa: ARG002, N802 - logging's signature
        _logging.count_drop()


class _Stderr(_Target):
    """Unbuffered, so that a pipe nobody reads holds up no flush at exit."""

    def emit(self, record: logging.LogRecord) -> None:
        try:
            line = (self.format(record) + "\n").encode("utf-8", "backslashreplace")
            while line:
                line = line[os.write(2, line) :]
        except Exception:  # noqa: BLE001 - logging must not raise
            self.handleError(record)


class _RotatingFile(_Target, logging.handlers.RotatingFileHandler):
    """A private file that rotates."""

    def _open(self) -> TextIOWrapper:
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC
        descriptor = os.open(self.baseFilename, flags, 0o600)
        return TextIOWrapper(os.fdopen(descriptor, "ab"), encoding="utf-8", errors="backslashreplace")


class _JsonLines(logging.Formatter):
    """structlog's formatter, imported with the first line: it costs 50 ms that a start does not have."""

    def __init__(self, service: str) -> None:
        super().__init__()
        self._service = service
        self._inner: logging.Formatter | None = None

    def format(self, record: logging.LogRecord) -> str:
        if self._inner is None:
            import structlog

            self._inner = structlog.stdlib.ProcessorFormatter(
                processors=[
                    structlog.processors.format_exc_info,
                    self._shape,
                    structlog.processors.JSONRenderer(),
                ]
            )
        return self._inner.format(record)

    def _shape(self, _logger: object, _name: str, event: MutableMapping[str, object]) -> JsonObject:
        record = event["_record"]
        assert isinstance(record, logging.LogRecord)  # noqa: S101 - structlog puts it there
        time = datetime.fromtimestamp(record.created, UTC)
        line: JsonObject = {
            "time": time.isoformat(timespec="microseconds").replace("+00:00", "Z"),
            "level": record.levelname.lower(),
            "service": self._service,
            "msg": redact(str(event["event"])),
            "request_id": getattr(record, "request_id", ""),
            "task_id": getattr(record, "task_id", ""),
            "logger": record.name,
        }
        if event.get("exception"):
            line["exception"] = redact(str(event["exception"]))
        return line


class _Logging:
    """What one process has running: the queue's handler, the listener that writes, the count of drops."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._dropped = 0
        self._handler: _Dropping | None = None
        self._target: logging.Handler | None = None
        self._listener: _Listener | None = None

    def count_drop(self) -> None:
        with self._lock:
            self._dropped += 1

    @property
    def dropped(self) -> int:
        return self._dropped

    def start(self, service: str, state: Path | None, level: str) -> None:
        self.stop()
        redaction.know_environment(os.environ)
        self._dropped = 0
        target = _target(service, state)
        waiting: queue.Queue[logging.LogRecord | None] = queue.Queue(QUEUE_SIZE)
        self._listener = _Listener(waiting, target)
        self._listener.start()
        self._handler, self._target = _Dropping(waiting), target
        root = logging.getLogger()
        for handler in list(root.handlers):
            root.removeHandler(handler)
        root.addHandler(self._handler)
        logging.captureWarnings(capture=True)
        set_level(level)

    def stop(self) -> None:
        handler, target, listener = self._handler, self._target, self._listener
        if handler is None or target is None or listener is None:
            return
        logging.getLogger().removeHandler(handler)
        logging.captureWarnings(capture=False)
        self._handler = self._target = self._listener = None
        if self._dropped:
            note = logging.makeLogRecord(
                {"name": __name__, "levelno": logging.WARNING, "levelname": "WARNING"}
                | {"msg": f"{self._dropped} log records were dropped"}
            )
            _put(handler.queue, note)
        if listener.drain():
            target.close()


def _put(waiting: queue.Queue[logging.LogRecord | None], record: logging.LogRecord | None) -> None:
    try:
        waiting.put(record, timeout=DRAIN_SECONDS)
    except queue.Full:  # the disk or the reader of stderr hangs: leaving matters more than the last lines
        return


def _target(service: str, state: Path | None) -> logging.Handler:
    target: logging.Handler
    if state is None:
        target = _Stderr()
    else:
        try:
            folder = state / "logs"
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            target = _RotatingFile(folder / f"{service}.jsonl", maxBytes=FILE_BYTES, backupCount=FILES - 1)
        except OSError as error:
            target = _Stderr()
            sys.stderr.write(f"codeforge: logs go to stderr, {state / 'logs'} cannot be written: {error}\n")
    target.setFormatter(_JsonLines(service))
    return target


_logging = _Logging()


def start_logging(service: str, state: Path | None, level: str = "info") -> None:
    """Sends all logging of this process to ``<state>/logs/<service>.jsonl``, without ``state`` to stderr.

    ``service`` is the role of the process, such as ``daemon`` or ``index-worker``. A second call starts anew.
    stdout is never written: it is the wire. What waits is written at exit, or by ``stop_logging``.
    """
    if not SERVICE_NAME.fullmatch(service):
        raise InvalidInput(f"{service!r} is not the name of a service.", data={"field": "service"})
    _logging.start(service, state, level)


def stop_logging() -> None:
    """Writes what waits as long as writing moves on, reports drops, closes the file."""
    _logging.stop()


atexit.register(stop_logging)


def set_level(level: str) -> None:
    """The least severe record that is written, for all of this process; libraries speak from warnings on."""
    number = logging.getLevelNamesMapping().get(level.upper(), logging.INFO)
    logging.getLogger().setLevel(number)
    for name in NOISY:
        logging.getLogger(name).setLevel(max(number, logging.WARNING))


def dropped() -> int:
    """How many records did not fit into the queue or onto the disk since ``start_logging``."""
    return _logging.dropped


def tail(state: Path, n: int = 50) -> list[JsonObject]:
    """The last ``n`` lines of all services of a workspace, oldest first."""
    return _newest(_services(state), n, lambda _line: True)


def errors(state: Path, n: int = 50) -> list[JsonObject]:
    """The last ``n`` errors of all services, oldest first."""
    return _newest(_services(state), n, lambda line: line.get("level") in ("error", "critical"))


def service(state: Path, name: str, n: int = 50) -> list[JsonObject]:
    """The last ``n`` lines of one service. NotFound names those that there are."""
    known = _services(state)
    if name not in known:
        raise NotFound(
            f"There is no log of {name!r}.", hint=f"There are: {', '.join(sorted(known)) or 'none'}."
        )
    return _newest({name: known[name]}, n, lambda _line: True)


def request(state: Path, wanted: str, n: int = 1000) -> list[JsonObject]:
    """The last ``n`` lines that carry this request id, through all processes, oldest first."""
    return _newest(_services(state), n, lambda line: line.get("request_id") == wanted)


def _services(state: Path) -> dict[str, list[Path]]:
    """The files of each service, newest first."""
    return {
        path.stem: [path, *(path.with_name(f"{path.name}.{number}") for number in range(1, FILES))]
        for path in sorted((state / "logs").glob("*.jsonl"))
    }


def _newest(services: dict[str, list[Path]], n: int, keep: Callable[[JsonObject], bool]) -> list[JsonObject]:
    feeds = [
        filter(keep, itertools.chain.from_iterable(map(_backwards, files))) for files in services.values()
    ]
    merged = heapq.merge(*feeds, key=lambda line: str(line.get("time", "")), reverse=True)
    return list(itertools.islice(merged, max(n, 0)))[::-1]


def _backwards(path: Path, block: int = 1 << 16) -> Iterator[JsonObject]:
    """The lines of a file from the last to the first; what is torn or no object is passed over."""
    try:
        with path.open("rb") as file:
            at, rest = file.seek(0, os.SEEK_END), b""
            while at > 0:
                step = min(block, at)
                at = file.seek(at - step)
                first, *lines = (file.read(step) + rest).split(b"\n")
                yield from _parsed(reversed(lines))
                rest = first
            yield from _parsed(iter([rest]))
    except FileNotFoundError:
        return


def _parsed(lines: Iterator[bytes]) -> Iterator[JsonObject]:
    for line in lines:
        try:
            value = json.loads(line)
        except ValueError:
            continue
        if isinstance(value, dict):
            yield value
