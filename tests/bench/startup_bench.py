"""Start-up: the version, warm and cold front ends, and the loop of the daemon while 2,000 files are indexed."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections.abc import Callable, Iterator
from pathlib import Path

from tests.bench.table import Row, at, ratio
from tests.soak.ground import BIN, Ground, ground_with_code

TICKS = os.sysconf("SC_CLK_TCK")
FILES = 2000
LIBRARIES = {"lsp": "pygls.lsp.server", "mcp": "mcp.server.mcpserver"}
INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {"processId": None, "rootUri": None, "capabilities": {}},
}
MCP_INITIALIZE = {
    "jsonrpc": "2.0",
    "id": 1,
    "method": "initialize",
    "params": {
        "protocolVersion": "2025-06-18",
        "capabilities": {},
        "clientInfo": {"name": "bench", "version": "1"},
    },
}


def rows() -> Iterator[Row]:
    """The figures."""
    versions = [_seconds([BIN / "codeforge", "--version"]) for _ in range(10)]
    yield Row("codeforge --version", f"median {at(0.5, versions) * 1e3:.0f} ms", "150 ms")
    for name, answer in (("lsp", lsp_answer), ("mcp", mcp_answer)):
        yield from _front_end(name, answer)
    yield from _loop_while_indexing()


def lsp_answer(ground: Ground, then: Callable[[], object] = lambda: None) -> float:
    """Seconds from spawning ``codeforge-ls`` to the answer of ``initialize``; ``then`` is called at once."""
    body = json.dumps(INITIALIZE).encode()
    return _first_answer(ground, "codeforge-ls", b"Content-Length: %d\r\n\r\n" % len(body) + body, then)


def mcp_answer(ground: Ground, then: Callable[[], object] = lambda: None) -> float:
    """Seconds from spawning ``codeforge-mcp`` to the answer of ``initialize``; ``then`` is called at once."""
    return _first_answer(ground, "codeforge-mcp", json.dumps(MCP_INITIALIZE).encode() + b"\n", then)


def _front_end(name: str, answer: Callable[..., float]) -> Iterator[Row]:
    wall: list[float] = []
    cpu: list[float] = []
    warm: list[float] = []
    beside: list[float] = []
    for _ in range(3):
        with ground_with_code("bench", 20, committed=False) as ground:
            wall.append(answer(ground, then=lambda: cpu.append(_daemon_cpu(ground))))
            beside.append(_import_cpu(name))
            ground.codeforge("index")
            time.sleep(2)
            warm += [answer(ground) for _ in range(7)]
    yield Row(f"{name}: spawn to first answer, warm daemon", f"median {at(0.5, warm) * 1e3:.0f} ms", "250 ms")
    yield Row(
        f"{name}: spawn to first answer, cold daemon", f"median {at(0.5, wall) * 1e3:.0f} ms", "2,500 ms"
    )
    yield Row(
        f"{name}: CPU of the cold daemon at that answer", f"median {at(0.5, cpu):.2f} s", "1.0 s",
        f"import {LIBRARIES[name]} {at(0.5, beside):.2f} s; {ratio(cpu, beside)}",
    )  # fmt: skip


def _loop_while_indexing() -> Iterator[Row]:
    with ground_with_code("bench", FILES, committed=False) as ground:
        built = json.loads(ground.codeforge("index", "--json").stdout)
        ground.codeforge("search", "parse configuration")
        watchdog = json.loads(ground.codeforge("health", "--json").stdout)["daemon"]["watchdog"]
    yield Row(f"index of {built['files']} files, cold", f"{built['files_per_second']:.0f} files/s")
    stalls = f"{watchdog['over_100_ms']} over 100 ms, longest {watchdog['max_ms']} ms"
    yield Row("the daemon's loop meanwhile", stalls, "none over 100 ms", f"p99.9 {watchdog['p99_9_ms']} ms")


def _daemon_cpu(ground: Ground) -> float:
    """CPU seconds of the daemon so far, without a word to it: a question would be work."""
    (pid,) = ground.pids("codeforge_ls.daemon")
    fields = Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()
    return (int(fields[11]) + int(fields[12])) / TICKS


def _import_cpu(name: str) -> float:
    """CPU seconds of a Python that imports the protocol's library and leaves at once: taking it down again would cost
    as much once more."""
    before = os.times()
    _seconds([BIN / "python", "-c", f"import os, {LIBRARIES[name]}; os._exit(0)"])
    after = os.times()
    return after.children_user + after.children_system - before.children_user - before.children_system


def _first_answer(ground: Ground, program: str, message: bytes, then: Callable[[], object]) -> float:
    start = time.perf_counter()
    with subprocess.Popen(
        [BIN / program], cwd=ground.root, env=ground.env, stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as child:
        assert child.stdin
        assert child.stdout
        child.stdin.write(message)
        child.stdin.flush()
        child.stdout.read(1)
        seconds = time.perf_counter() - start
        then()
    return seconds


def _seconds(argv: list[object]) -> float:
    start = time.perf_counter()
    subprocess.run([str(part) for part in argv], check=True, capture_output=True, timeout=20)
    return time.perf_counter() - start
