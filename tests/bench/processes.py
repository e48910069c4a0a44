"""CPU and memory of CodeForge's processes, read from ``/proc`` without a word to them."""

from __future__ import annotations

import contextlib
import os
import threading
from collections.abc import Iterator
from pathlib import Path

from tests.soak.ground import Ground

TICKS = os.sysconf("SC_CLK_TCK")
SAMPLE_SECONDS = 0.3
PARTS = {
    "codeforge_ls.daemon": "daemon",
    "codeforge_ls.index.worker": "index",
    "codeforge_ls.index.query_worker": "query",
    "codeforge_ls.index.parser": "parsers",
    "codeforge_ls.index.segment_writer": "writers",
    "codeforge_ls.index.vector_writer": "writers",
    "codeforge_ls.index.graph_writer": "writers",
}


def cpu_seconds(pid: int) -> float:
    """CPU of a process, its ended children and its living children."""
    total = 0.0
    for one in (pid, *children(pid)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{one}/stat").read_text().rpartition(")")[2].split()
            total += sum(map(int, fields[11:15])) / TICKS
    return total


def children(pid: int) -> list[int]:
    """The living children of a process."""
    found: list[int] = []
    with contextlib.suppress(OSError):
        for task in Path(f"/proc/{pid}/task").iterdir():
            found += map(int, (task / "children").read_text().split())
    return found


def memory(ground: Ground) -> dict[str, float]:
    """Proportional set size in MB of the daemon, its workers and their children, by part."""
    sizes: dict[str, float] = {}
    for pid, command in ground.processes().items():
        words = command.split()
        part = next((PARTS[word] for word in words if word in PARTS), "")
        if not part:
            continue
        with contextlib.suppress(OSError, StopIteration):
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            sizes[part] = sizes.get(part, 0.0) + pss / 1e3
    return sizes


def shown(sizes: dict[str, float]) -> str:
    """The sum, and what it is made of."""
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items()))
    return f"{sum(sizes.values()):.0f} MB ({parts})"


@contextlib.contextmanager
def highest_memory(ground: Ground) -> Iterator[dict[str, float]]:
    """While the block runs, the sizes at the moment when their sum was highest."""
    worst: dict[str, float] = {}
    ended = threading.Event()

    def look() -> None:
        while not ended.wait(SAMPLE_SECONDS):
            now = memory(ground)
            if sum(now.values()) > sum(worst.values()):
                worst.clear()
                worst.update(now)

    watching = threading.Thread(target=look)
    watching.start()
    try:
        yield worst
    finally:
        ended.set()
        watching.join()
