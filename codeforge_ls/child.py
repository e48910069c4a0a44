"""What a process of ours does first. Standard library only: short-lived children start in a fraction of the time."""

from __future__ import annotations

import atexit
import contextlib
import gc
import os
import signal
import sys
from collections.abc import Iterator


def die_with_parent() -> None:
    """Ask Linux to kill this process when the one that started it is gone; elsewhere end of input must do."""
    if sys.platform == "linux":
        import ctypes

        ctypes.CDLL(None).prctl(1, signal.SIGKILL)  # PR_SET_PDEATHSIG


def give_way(niceness: int) -> None:
    """Let other processes go first, as ``nice`` says. Where Linux shares the processors between sessions (autogroup),
    niceness counts inside a session only, so the session of this process is told the same: it must be its own."""
    os.nice(niceness)
    with contextlib.suppress(OSError), open("/proc/self/autogroup", "w", encoding="ascii") as autogroup:  # noqa: PTH123
        autogroup.write(str(niceness))


@contextlib.contextmanager
def importing() -> Iterator[None]:
    """While large modules are imported: nothing they make is garbage, and looking for it costs a tenth of the time."""
    gc.disable()
    try:
        yield
    finally:
        gc.freeze()  # nor is it looked through later
        gc.enable()


def end_quickly() -> None:
    """At the end, do not look through all that was ever loaded for garbage: it takes seconds and frees nothing."""
    atexit.register(gc.freeze)


def give_back_memory() -> None:
    """After large work is done: have the C library return what was freed to the system, where it can (glibc)."""
    if sys.platform == "linux":
        import ctypes

        with contextlib.suppress(AttributeError):  # another C library
            ctypes.CDLL(None).malloc_trim(0)


def take_stdio() -> tuple[int, int]:
    """Take the wire away from ``print`` and from children: returns descriptors of the real stdin and stdout."""
    wire_in, wire_out = os.dup(0), os.dup(1)
    null = os.open(os.devnull, os.O_RDONLY)
    os.dup2(null, 0)
    os.dup2(2, 1)
    os.close(null)
    return wire_in, wire_out
