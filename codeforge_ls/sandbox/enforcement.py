"""The limits of one command: held by a control group where one can be made, else by rlimits and a watchdog.

A command waits in a small shell until it has been put into its group; nothing of it runs before.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import time
from dataclasses import dataclass
from pathlib import Path

from codeforge_ls.model.limits import ResourceLimits
from codeforge_ls.sandbox.cgroup import SLACK, ControlGroup

WATCH_SECONDS = 0.05
BURST = 0.1  # seconds of processor time beyond its share before a command is paused
_PROC = Path("/proc")
_TICKS = os.sysconf("SC_CLK_TCK")


@dataclass(frozen=True)
class Enforcement:
    """Limits and what holds them. ``group`` None: rlimits, and a watchdog over the processes."""

    limits: ResourceLimits
    group: ControlGroup | None = None

    def argv(self, command: list[str]) -> list[str]:
        """The command, behind a shell that sets rlimits, waits for a line of input, and becomes it.

        RLIMIT_DATA and not RLIMIT_AS: programs reserve much more address space than they use (Go, JVM, node).
        """
        lines = ["ulimit -c 0"]
        if self.limits.storage_gb:
            lines.append(f"ulimit -f {self.limits.storage_gb << 21}")  # of 512 bytes
        if self.limits.memory_mb and self.group is None:
            lines.append(f"ulimit -d {self.limits.memory_mb << 10}")
        lines.append("read -r _ || exit 125")
        return ["/bin/sh", "-c", f'{"; ".join(lines)}; exec "$@" </dev/null', "limited", *command]

    def place(self, pid: int) -> None:
        """Put the waiting shell where its limits hold. Raises ``OSError``."""
        if self.group is not None:
            self.group.place(pid)

    async def watch(self, pid: int) -> str:
        """Watch the processes of ``pid``; returns which limit was broken, in words. Ends only then.

        Processor time is not broken but shared out: who has used more than its share is paused.
        """
        began, limits = time.monotonic(), self.limits
        while self.group is None and limits.said():
            await asyncio.sleep(WATCH_SECONDS)
            seen = await asyncio.to_thread(_look, pid)
            if limits.memory_mb and seen.memory > limits.memory_mb << 20:
                return f"more than {limits.memory_mb:,} MiB of memory"
            if limits.pids_limit and seen.tasks > limits.pids_limit + SLACK:
                return f"more than {limits.pids_limit:,} processes"
            if share := limits.cpu_quota / 1000:
                ahead = seen.seconds - share * (time.monotonic() - began)
                if ahead > BURST:
                    await _pause(seen.pids, min(ahead / share, 1.0))
        never: asyncio.Future[str] = asyncio.get_running_loop().create_future()
        return await never

    def broken(self) -> str:
        """Which limit the kernel enforced, in words; empty for none."""
        return self.group.broken(self.limits) if self.group else ""

    @property
    def holds(self) -> bool:
        """Whether there is still a group of its own."""
        return self.group is not None and any(folder.is_dir() for folder in self.group.folders)

    def remove(self) -> None:
        """End all that is left in the group, and the group."""
        if self.group is not None:
            self.group.remove()


@dataclass(frozen=True)
class _Seen:
    """The processes of a command: bytes of memory that are theirs alone, threads, seconds of processor time."""

    pids: tuple[int, ...]
    memory: int
    tasks: int
    seconds: float


def _look(root: int) -> _Seen:
    parents: dict[int, int] = {}
    facts: dict[int, tuple[int, int, float]] = {}
    for entry in os.scandir(_PROC):
        if entry.name.isdigit():
            with contextlib.suppress(OSError, ValueError, IndexError):
                fields = Path(entry.path, "stat").read_bytes().rpartition(b")")[2].split()
                pid = int(entry.name)
                parents[pid] = int(fields[1])
                ticks = sum(map(int, fields[11:15]))  # its own and those of its children that have ended
                facts[pid] = (int(fields[3]), int(fields[17]), ticks / _TICKS)
    mine = {pid for pid, (session, _, _) in facts.items() if root in (session, pid)}
    grown = True
    while grown:
        more = {pid for pid, parent in parents.items() if parent in mine and pid not in mine}
        mine |= more
        grown = bool(more)
    memory = sum(map(_own_memory, mine))
    return _Seen(tuple(mine), memory, sum(facts[pid][1] for pid in mine), sum(facts[pid][2] for pid in mine))


def _own_memory(pid: int) -> int:
    found = 0
    with contextlib.suppress(OSError, ValueError):
        for line in (_PROC / str(pid) / "status").read_text(errors="replace").splitlines():
            if line.startswith(("RssAnon:", "RssShmem:")):
                found += int(line.split()[1]) << 10
    return found


async def _pause(pids: tuple[int, ...], seconds: float) -> None:
    try:
        _signal(pids, signal.SIGSTOP)
        await asyncio.sleep(seconds)
    finally:
        _signal(pids, signal.SIGCONT)


def _signal(pids: tuple[int, ...], number: signal.Signals) -> None:
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, PermissionError):
            os.kill(pid, number)
