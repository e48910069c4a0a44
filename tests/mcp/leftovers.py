"""The end of a test: what it started has to leave by itself; what does not is killed, and the test fails."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import time
from pathlib import Path

SECONDS = 15.0


def processes(home: Path) -> list[int]:
    """The living processes that carry this home in their environment, other than our own."""
    mark = f"HOME={home}".encode()
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == os.getpid():
            continue
        with contextlib.suppress(OSError):
            is_dead = b") Z " in Path(f"/proc/{name}/stat").read_bytes()
            if not is_dead and mark in Path(f"/proc/{name}/environ").read_bytes().split(b"\0"):
                found.append(int(name))
    return found


def clear(base: Path) -> None:
    """Wait until every process of a test is gone, then remove its folder."""
    end = time.monotonic() + SECONDS
    while (left := processes(base / "home")) and time.monotonic() < end:
        time.sleep(0.05)
    for pid in left:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
    shutil.rmtree(base, ignore_errors=True)
    assert not left, f"processes {left} did not end by themselves"
