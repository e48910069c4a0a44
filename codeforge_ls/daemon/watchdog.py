"""The watchdog of the event loop: how long it was busy at a time, and where when that was too long."""

from __future__ import annotations

import asyncio
import logging
import os
import selectors
import sys
import threading
import time
from collections.abc import Mapping
from types import FrameType

LOG_SECONDS = 0.05
STALL_SECONDS = 0.1
LOOK_SECONDS = 0.025
QUIET_SECONDS = 2.0  # without work for so long, the looking thread sleeps until there is some
PLACES = 4  # of the loop's stack that are shown
STEP = 1.25  # each bucket of the histogram is a quarter wider than the one before
FLOOR = 0.0005  # seconds; shorter slices share the first bucket

log = logging.getLogger(__name__)


class TimedSelector(selectors.DefaultSelector):
    """The loop's selector: the time between two calls of ``select`` is one slice of work."""

    def __init__(self) -> None:
        super().__init__()
        self.watchdog: Watchdog | None = None

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        if self.watchdog is not None:
            self.watchdog.slice_ended()
        ready = super().select(timeout)
        if self.watchdog is not None:
            self.watchdog.slice_began()
        return ready


def new_loop() -> asyncio.AbstractEventLoop:
    """A loop that is watched: its selector measures."""
    loop = asyncio.SelectorEventLoop(TimedSelector())
    if sys.version_info < (3, 12) and _has_pidfd():
        # As newer Pythons do by themselves: else the loop waits until a thread has started, for each child.
        children = asyncio.PidfdChildWatcher()
        children.attach_loop(loop)
        asyncio.set_child_watcher(children)
    return loop


def _has_pidfd() -> bool:
    try:
        os.close(os.pidfd_open(os.getpid()))
    except (AttributeError, OSError):  # not Linux, an old one, or a container that forbids it
        return False
    return True


class Watchdog:
    """Measures one loop from its own thread and from the loop's selector.

    From ``mark_ready`` on slices over 50 ms are logged with the loop's stack, and those over 100 ms count.
    """

    def __init__(self) -> None:
        self._began: float | None = None
        self._counts: dict[int, int] = {}
        self._total = self._slow = self._stalls = 0
        self._longest = self._longest_cpu = 0.0
        self._longest_where = ""
        self._cpu = 0.0
        self._ready_at: float | None = None
        self._starved = 0.0
        self._wake = threading.Event()
        self._stopped = False
        self._asleep = False
        self._loop_thread = threading.get_ident()
        self._where = ""

    def start(self, loop: asyncio.AbstractEventLoop) -> None:
        """Begin to watch the loop of the calling thread; it must come from ``new_loop``."""
        self._loop_thread = threading.get_ident()
        selector = getattr(loop, "_selector", None)
        if isinstance(selector, TimedSelector):
            selector.watchdog = self
        threading.Thread(target=self._look, name="watchdog", daemon=True).start()

    def stop(self) -> None:
        """End the looking thread."""
        self._stopped = True
        self._wake.set()

    def mark_ready(self) -> None:
        """From here on stalls count: what the sessions need is imported and the workspace is open."""
        if self._ready_at is None:
            self._ready_at = time.monotonic()
            self._counts.clear()
            self._total = self._slow = self._stalls = 0
            self._longest = self._longest_cpu = self._starved = 0.0
            self._longest_where = ""

    @property
    def is_ready(self) -> bool:
        """Whether ``mark_ready`` was called."""
        return self._ready_at is not None

    def slice_began(self) -> None:
        """The loop has something to do."""
        self._cpu = time.thread_time()
        self._began = time.monotonic()
        if self._asleep:
            self._wake.set()

    def slice_ended(self) -> None:
        """The loop is about to wait."""
        if self._began is None:
            return
        took, self._began = time.monotonic() - self._began, None
        bucket, edge = 0, FLOOR
        while took > edge:
            bucket, edge = bucket + 1, edge * STEP
        self._counts[bucket] = self._counts.get(bucket, 0) + 1
        self._total += 1
        if took > LOG_SECONDS:
            self._note_slow(took, time.thread_time() - self._cpu)
        elif took > self._longest:
            self._longest, self._longest_cpu = took, time.thread_time() - self._cpu

    def _note_slow(self, took: float, cpu: float) -> None:
        self._slow += 1
        self._stalls += took > STALL_SECONDS
        where, self._where = self._where, ""
        if took > self._longest:
            self._longest, self._longest_cpu, self._longest_where = took, cpu, where
        if self.is_ready:  # before, it waits for imports, and the first line that is logged brings more
            log.warning(
                "event loop busy for %.0f ms (cpu %.0f ms): %s", took * 1e3, cpu * 1e3, where or "unseen"
            )

    def report(self) -> Mapping[str, float | int | bool | str]:
        """What was measured since ready (or since the start): milliseconds and counts, for ``health``."""
        return {
            "ready": self.is_ready,
            "slices": self._total,
            "over_50_ms": self._slow,
            "over_100_ms": self._stalls,
            "max_ms": round(self._longest * 1e3, 1),
            "max_cpu_ms": round(self._longest_cpu * 1e3, 1),
            "max_where": self._longest_where,
            "p99_9_ms": round(self._quantile(0.999) * 1e3, 1),
            "starved_max_ms": round(self._starved * 1e3, 1),
        }

    def _quantile(self, share: float) -> float:
        """The upper edge of the quantile's bucket: at most 25 % too high, never above the maximum."""
        want, seen = self._total * share, 0
        for bucket in sorted(self._counts):
            seen += self._counts[bucket]
            if seen >= want:
                return min(FLOOR * STEP**bucket, self._longest) if self._longest else 0.0
        return 0.0

    def _look(self) -> None:
        quiet = 0.0
        while not self._stopped:
            before = time.monotonic()
            time.sleep(LOOK_SECONDS)
            now, began = time.monotonic(), self._began
            # We slept longer than asked: somebody held the interpreter, or the machine had no time for us.
            self._starved = max(self._starved, now - before - LOOK_SECONDS)
            if began is not None:
                quiet = 0.0
                if self.is_ready and now - began > LOG_SECONDS / 2:
                    self._where = self._stack() or self._where
                continue
            quiet += LOOK_SECONDS
            if quiet > QUIET_SECONDS:
                self._sleep_until_work()
                quiet = 0.0

    def _sleep_until_work(self) -> None:
        self._wake.clear()
        self._asleep = True
        self._wake.wait()
        self._asleep = False

    def _stack(self) -> str:
        """The innermost places of the loop's thread, innermost last, as ``file:line function``."""
        frame: FrameType | None = sys._current_frames().get(self._loop_thread)  # noqa: SLF001 - the documented way
        places: list[str] = []
        while frame is not None and len(places) < PLACES:  # ``traceback`` would read the source files
            code = frame.f_code
            places.insert(0, f"{code.co_filename.rpartition('/')[2]}:{frame.f_lineno} {code.co_name}")
            frame = frame.f_back
        return " > ".join(places)
