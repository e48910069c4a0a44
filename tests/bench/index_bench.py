"""Figures of the index on real code: ``python tests/bench/index_bench.py [FOLDER ...]``. Prints, asserts nothing.

Without arguments it copies the installed networkx and litellm packages into temporary git repositories.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import importlib.util
import os
import shutil
import statistics
import subprocess
import tempfile
import time
from pathlib import Path

from codeforge_ls.index import Index
from codeforge_ls.index.limits import Limits

QUERIES = [
    "shortest path", "read configuration from environment", "retry with backoff", "parse arguments", "HttpClient",
    "draw graph", "token count", "cache", "weighted edges", "stream response", "add_node", "exception handling",
]  # fmt: skip


SETTLED_SECONDS = 12.0  # idle parsers have ended by then


def package(name: str) -> Path:
    """Where an installed package lies."""
    spec = importlib.util.find_spec(name)
    if spec is None or spec.origin is None:
        raise SystemExit(f"{name} is not installed")
    return Path(spec.origin).parent


def tree_of(pid: int) -> list[int]:
    """A process and its children."""
    listed = subprocess.run(
        ["ps", "-o", "pid=", "--ppid", str(pid)], capture_output=True, text=True, check=False
    )
    return [pid, *(int(one) for one in listed.stdout.split())]


def cpu_seconds(pids: list[int]) -> float:
    """CPU seconds of these processes and their children, the ones that have ended included."""
    total = 0.0
    for pid in (one for top in pids for one in tree_of(top)):
        with contextlib.suppress(OSError):
            fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
            # Its own time and that of children that have ended, such as the writer of segments.
            total += sum(map(int, fields[11:15])) / os.sysconf("SC_CLK_TCK")
    return total


def memory(pids: list[int]) -> dict[str, float]:
    """Proportional set size in MB of these processes and their children, by what they are."""
    sizes: dict[str, float] = {}
    for pid in (one for top in pids for one in tree_of(top)):
        with contextlib.suppress(OSError, ValueError):
            words = Path(f"/proc/{pid}/cmdline").read_bytes().split(b"\0")
            name = next(
                (w.decode().rpartition(".")[2] for w in words if b"codeforge_ls.index." in w), "asking"
            )
            lines = Path(f"/proc/{pid}/smaps_rollup").read_text().splitlines()
            pss = next(int(line.split()[1]) for line in lines if line.startswith("Pss:"))
            sizes[name] = sizes.get(name, 0.0) + pss / 1e3
    return sizes


async def highest_memory(index: Index, stop: asyncio.Event) -> dict[str, float]:
    """The sizes at the moment when their sum was highest."""
    worst: dict[str, float] = {}
    while not stop.is_set():
        now = await asyncio.to_thread(memory, list(index.worker_pids().values()))
        worst = max(worst, now, key=lambda sizes: sum(sizes.values()))
        await asyncio.sleep(0.3)
    return worst


def shown(sizes: dict[str, float]) -> str:
    """One line of memory."""
    parts = ", ".join(f"{name} {size:.0f}" for name, size in sorted(sizes.items()))
    return f"{sum(sizes.values()):.0f} MB ({parts})"


async def longest_stall(stop: asyncio.Event) -> float:
    """The longest time, in ms, that this loop did not run while the index was built."""
    worst = 0.0
    while not stop.is_set():
        before = time.perf_counter()
        await asyncio.sleep(0.005)
        worst = max(worst, (time.perf_counter() - before) * 1000 - 5)
    return worst


async def timed(label: str, calls: int, call: object) -> None:
    """Print p50 and p95 of a call, in ms."""
    taken = []
    for at in range(calls):
        started = time.perf_counter()
        await call(at)  # type: ignore[operator]
        taken.append((time.perf_counter() - started) * 1000)
    taken.sort()
    print(
        f"  {label:34} p50 {statistics.median(taken):7.1f} ms   p95 {taken[int(len(taken) * 0.95) - 1]:7.1f} ms"
    )


async def measure(source: Path) -> None:
    """Build, ask, change and restart on a copy of ``source``."""
    with tempfile.TemporaryDirectory(prefix="index-bench-") as folder:
        root, state = Path(folder) / "repo", Path(folder) / "state"
        shutil.copytree(source, root, symlinks=True, ignore=shutil.ignore_patterns("__pycache__", ".git"))
        subprocess.run(["git", "init", "-q", str(root)], check=True)
        index = Index(root, state, Limits())
        stop = asyncio.Event()
        stall = asyncio.create_task(longest_stall(stop))
        peak = asyncio.create_task(highest_memory(index, stop))
        started = time.perf_counter()
        await index.start()
        answer = await index.search(QUERIES[0])
        print(f"{source.name}: first answer after {time.perf_counter() - started:.2f} s by {answer.legs}")
        status = await index.build()
        wall = time.perf_counter() - started
        stop.set()
        writer, reader = (index.worker_pids()[name] for name in ("index", "query"))
        cpu = cpu_seconds([writer])
        raw = await index._writer.call("status", {})
        stages = {name: float(str(raw[name])) for name in ("tag_seconds", "word_seconds", "segment_seconds")}  # type: ignore[index]
        words, segments = stages["word_seconds"], stages["segment_seconds"]
        print(
            f"  cold: {status.files} files, {status.chunks} chunks, {status.symbols} symbols, {status.skipped} skipped;"
            f" {wall:.2f} s wall, {cpu:.2f} CPU s, {status.files / cpu:.0f} files a CPU s"
        )
        print(
            f"  CPU s by stage: symbols and references persisted {cpu - words - segments:.2f} (parsers"
            f" {stages['tag_seconds']:.2f}), keyword index {words + segments:.2f} (parsers {words:.2f}, segments"
            f" {segments:.2f})"
        )
        print(f"  memory at the peak (PSS)           {shown(await peak)}")
        print(f"  longest stall of the asking loop   {await stall:.1f} ms")
        await timed("search", 60, lambda at: index.search(QUERIES[at % len(QUERIES)]))
        await timed(
            "search, by file, with glob", 30, lambda at: index.search(QUERIES[at % 12], 10, "*.py", "file")
        )
        await timed("symbol prefix", 30, lambda at: index.symbols("get_"[: 1 + at % 4], prefix=True))
        await timed("repo map, 1024 tokens", 10, lambda at: index.repo_map(1024, query=QUERIES[at % 12]))

        async def seen(word: str) -> None:
            while not any(word in hit.text for hit in (await index.search(word)).hits):
                await asyncio.sleep(0.002)

        async def save(at: int) -> None:
            (root / "bench_new.py").write_text(f"def bench_word_{at}():\n    return {at}\n")
            await index.files_changed(["bench_new.py"])
            await seen(f"bench_word_{at}")

        async def type_text(at: int) -> None:
            await index.document_changed("bench_new.py", f"def typed_word_{at}():\n    return {at}\n")
            await seen(f"typed_word_{at}")

        await timed("saved file -> visible in search", 20, save)
        await timed("key stroke -> visible in search", 20, type_text)
        await asyncio.sleep(SETTLED_SECONDS)
        disk = sum(file.stat().st_size for file in state.rglob("*") if file.is_file()) / 1e6
        print(f"  memory settled (PSS)               {shown(memory([writer, reader]))}; disk {disk:.0f} MB")
        await index.stop()
        again = Index(root, state, Limits())
        started = time.perf_counter()
        await again.start()
        await again.search(QUERIES[0])
        first = time.perf_counter() - started
        await again.build()
        print(f"  warm start: first answer {first:.2f} s, verified {time.perf_counter() - started:.2f} s")
        await again.stop()


def main() -> None:
    """Measure each folder in turn."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("folders", nargs="*", type=Path)
    for folder in parser.parse_args().folders or [package("networkx"), package("litellm")]:
        asyncio.run(measure(folder))


if __name__ == "__main__":
    main()
