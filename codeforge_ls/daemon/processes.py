"""What the daemon leaves behind: nothing. Orphans of tools are adopted, reaped and ended with it."""

from __future__ import annotations

import contextlib
import os
import signal
import sys
from pathlib import Path

SUBREAPER = 36  # PR_SET_CHILD_SUBREAPER of prctl(2)


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
                os.kill(pid, signal.SIGKILL)
    return count
