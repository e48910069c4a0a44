"""What the daemon leaves behind: nothing. Orphans of tools are adopted, reaped and ended with it."""

from __future__ import annotations

import contextlib
import logging
import os
import signal
import sys
import threading
import time
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)
LAST_WORDS = 0.3  # seconds for the log to take the line that says why

log = logging.getLogger(__name__)


def adopt_orphans() -> None:
    """Become the parent of descendants whose own parent ends: none escapes by a double fork (Linux)."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(SUBREAPER, 1)


class Reaper:
    """Collects adopted children that ended. Those that asyncio started are left to asyncio."""

    def __init__(self) -> None:
        self._seen: int | None = None

    def tick(self) -> None:
        """Called every second or so: a child that is still uncollected at the second look was adopted."""
        if not hasattr(os, "waitid"):
            return
        try:
            ended = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
        except ChildProcessError:
            ended = None
        if ended is None:
            self._seen = None
        elif ended.si_pid == self._seen:
            with contextlib.suppress(ChildProcessError):
                os.waitpid(ended.si_pid, os.WNOHANG)
            self._seen = None
        else:
            self._seen = ended.si_pid


def descendants(pid: int) -> list[int]:
    """Every living process below ``pid``, parents first; empty where there is no ``/proc``."""
    children: dict[int, list[int]] = {}
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError, ValueError, IndexError):
            state, parent = (folder / "stat").read_bytes().rpartition(b")")[2].split()[:2]
            if state != b"Z":
                children.setdefault(int(parent), []).append(int(folder.name))
    found, look = [], [pid]
    while look:
        below = children.get(look.pop(), [])
        found += below
        look += below
    return found


def kill_descendants() -> int:
    """Kill all that is left below this process; returns how many there were."""
    count = 0
    for _ in range(5):  # what forks while we look is met by the next look
        left = descendants(os.getpid())
        if not left:
            break
        count += len(left)
        for pid in left:
            with contextlib.suppress(ProcessLookupError, PermissionError):
                if os.getpgid(pid) == pid:
                    os.killpg(pid, signal.SIGKILL)
                os.kill(pid, signal.SIGKILL)
    return count


def leave_within(seconds: float, reason: str) -> None:
    """From now on this process has so long to end in order; then it is ended, and all that is below it.

    Watched by a thread, because it is the loop, or another thread, that may hang.
    """
    threading.Thread(target=_end_after, args=(seconds, reason), name="last-resort", daemon=True).start()


def _end_after(seconds: float, reason: str) -> None:
    time.sleep(seconds)
    line = f"not closed {seconds:g} s after the end began ({reason}): leaving without order"
    with contextlib.suppress(Exception):
        kill_descendants()
    with contextlib.suppress(OSError):
        os.write(2, f"codeforge: {line}\n".encode(errors="replace"))
    if log.hasHandlers():  # the log may be what hangs: it is told, but not waited for
        threading.Thread(target=log.critical, args=("%s", line), daemon=True).start()
        time.sleep(LAST_WORDS)
    os._exit(1)
